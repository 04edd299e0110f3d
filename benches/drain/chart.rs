//! The drain as a picture: bars for the medians, whiskers from the slowest run to the fastest.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::contender::Contender;
use crate::drain_report::ShapeReport;
use crate::numbers::thousands;

const SIZE: (u32, u32) = (820, 380);
const INK: RGBColor = RGBColor(60, 60, 60);

fn colour(contender: Contender) -> RGBColor {
    match contender {
        Contender::Raw => RGBColor(200, 204, 210),
        Contender::PassThrough => RGBColor(160, 168, 178),
        Contender::HandLoop => RGBColor(94, 129, 172),
        Contender::Steward | Contender::SlowService => RGBColor(46, 125, 80),
    }
}

/// Writes the chart as SVG.
///
/// # Panics
/// If the file cannot be written.
pub fn draw(path: &Path, shapes: &[ShapeReport]) {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    paint(&area, shapes).and_then(|()| area.present().map_err(|error| error.to_string())).unwrap_or_else(|error| {
        panic!("{}: {error}", path.display());
    });
}

fn paint(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, shapes: &[ShapeReport]) -> Result<(), String> {
    let text = |error: DrawingAreaErrorKind<std::io::Error>| error.to_string();
    area.fill(&WHITE).map_err(text)?;
    let highest = shapes.iter().flat_map(|shape| &shape.contenders).map(|one| one.summary.events_per_s.most);
    let highest = highest.fold(1.0, f64::max) * 1.15;
    let bars: usize = shapes.iter().map(|shape| shape.contenders.len() + 1).sum();
    let mut chart = ChartBuilder::on(area)
        .caption("Events per second, more is better", ("sans-serif", 17).into_font().color(&INK))
        .margin(12)
        .x_label_area_size(52)
        .y_label_area_size(74)
        .build_cartesian_2d(0.0..bars as f64, 0.0..highest)
        .map_err(text)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().disable_x_axis().y_labels(6).y_label_formatter(&|events| thousands(*events));
    mesh.light_line_style(TRANSPARENT).draw().map_err(text)?;
    let label = |size: u32| ("sans-serif", size).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Top));
    let mut left = 0.5;
    for shape in shapes {
        let width = shape.contenders.len() as f64;
        for one in &shape.contenders {
            let speed = one.summary.events_per_s;
            let bar = Rectangle::new([(left + 0.1, 0.0), (left + 0.9, speed.median)], colour(one.contender).filled());
            let middle = left + 0.5;
            let whisker = PathElement::new(vec![(middle, speed.least), (middle, speed.most)], INK.stroke_width(1));
            chart.draw_series(std::iter::once(bar)).map_err(text)?;
            chart.draw_series(std::iter::once(whisker)).map_err(text)?;
            let name = EmptyElement::at((middle, 0.0)) + Text::new(one.contender.name(), (0, 6), label(12));
            chart.plotting_area().draw(&name).map_err(text)?;
            let ratio = one.summary.ratio.map(|ratio| format!("{:.2} x", ratio.median)).unwrap_or_default();
            let above = EmptyElement::at((middle, speed.most)) + Text::new(ratio, (0, -16), label(12));
            chart.plotting_area().draw(&above).map_err(text)?;
            left += 1.0;
        }
        let name = EmptyElement::at((left - width / 2.0, 0.0)) + Text::new(shape.shape.name(), (0, 26), label(14));
        chart.plotting_area().draw(&name).map_err(text)?;
        left += 1.0;
    }
    Ok(())
}
