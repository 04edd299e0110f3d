//! One chart as inline SVG: curves over time, with gaps where there are no values.
//!
//! No chart library is used, because the page would be worse with one: libraries write fixed colours into each element,
//! but the page needs classes for light and dark mode; they have no ticks at whole minutes; and they lack most of the
//! rest (escaping, tooltips, one colour per pod in every chart). `maud` escapes texts and attributes.

use maud::{Markup, html};

use crate::tools::log_reader::UnixMs;
use crate::tools::units;

/// Size of the chart and its margins, in SVG units.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;
/// Number of colours, as in the style sheet.
pub(super) const COLOURS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Number,
    Millis,
    Bytes,
}

impl Unit {
    pub(super) fn write(self, value: f64) -> String {
        match self {
            Unit::Number => units::short(value),
            Unit::Millis => units::millis(value as u64),
            Unit::Bytes => units::bytes(value as u64),
        }
    }
}

pub(super) struct Curve {
    pub(super) name: String,
    /// Index of the colour, the same in all charts.
    pub(super) colour: usize,
    /// In order of time.
    pub(super) points: Vec<(UnixMs, f64)>,
    /// Points that are further apart are not connected.
    pub(super) gap_ms: u64,
}

/// The time range of all charts of a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeSpan {
    from: i64,
    until: i64,
}

impl TimeSpan {
    pub(super) fn new((from, until): (UnixMs, UnixMs)) -> TimeSpan {
        // At least a second, because the length is a divisor.
        TimeSpan { from: from.0, until: until.0.max(from.0.saturating_add(1_000)) }
    }

    /// Returns the place of a time in the range, from 0 to 1.
    pub(super) fn at(self, moment: UnixMs) -> f64 {
        let length = self.until.saturating_sub(self.from).max(1) as f64;
        (moment.0.saturating_sub(self.from) as f64 / length).clamp(0.0, 1.0)
    }

    fn x(self, moment: UnixMs) -> f64 {
        LEFT + self.at(moment) * (WIDTH - LEFT - RIGHT)
    }

    /// Returns at most eight times at whole seconds, minutes, hours or days.
    pub(super) fn ticks(self) -> Vec<UnixMs> {
        const STEPS_S: [i64; 19] =
            [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 604_800];
        let length_ms = self.until.saturating_sub(self.from);
        let few = STEPS_S.into_iter().map(|step| step * 1_000).find(|step| length_ms / step <= 8);
        let step = few.unwrap_or_else(|| (length_ms / 8).max(1));
        let first = self.from.div_euclid(step).saturating_add(1).saturating_mul(step);
        (0..8).map(|n| UnixMs(first.saturating_add(n * step))).take_while(|tick| tick.0 <= self.until).collect()
    }
}

/// Returns the text of a tick: the day if the range is long, else the time of day.
pub(super) fn tick_text(span: TimeSpan, tick: UnixMs) -> String {
    let moment = units::moment(tick);
    let is_long = span.until.saturating_sub(span.from) > 2 * 86_400_000;
    let part = if is_long { moment.get(5..16) } else { moment.get(11..19) };
    part.unwrap_or_default().to_owned()
}

/// Draws the curves; `None` if there are no values.
pub(super) fn chart(title: &str, unit: Unit, span: TimeSpan, curves: &[Curve]) -> Option<Markup> {
    let values = curves.iter().flat_map(|curve| curve.points.iter().map(|(_, value)| *value));
    let greatest = values.filter(|value| value.is_finite()).fold(f64::NAN, f64::max);
    if greatest.is_nan() {
        return None;
    }
    let (top, ticks) = value_ticks(greatest.clamp(0.0, 1e300), unit);
    let y = |value: f64| HEIGHT - BOTTOM - (value / top).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM);
    Some(html! {
        figure class="chart" {
            figcaption { (title) }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(title) {
                @for tick in &ticks {
                    line class="grid" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(round(y(*tick))) y2=(round(y(*tick))) {}
                    text class="tick" x=(LEFT - 6.0) y=(round(y(*tick) + 3.5)) text-anchor="end" { (unit.write(*tick)) }
                }
                @for tick in span.ticks() {
                    line class="grid" x1=(round(span.x(tick))) x2=(round(span.x(tick))) y1=(TOP) y2=(HEIGHT - BOTTOM) {}
                    text class="tick" x=(round(span.x(tick))) y=(HEIGHT - 6.0) text-anchor="middle" { (tick_text(span, tick)) }
                }
                @for curve in curves {
                    path class={ "curve c" (curve.colour % COLOURS) } d=(path(curve, span, y)) {
                        title { (curve.name) ": at most " (unit.write(peak(curve))) }
                    }
                }
            }
        }
    })
}

fn peak(curve: &Curve) -> f64 {
    curve.points.iter().map(|(_, value)| *value).fold(0.0, f64::max)
}

/// Returns the SVG path. A single point becomes a line of no length, whose round ends are a dot.
fn path(curve: &Curve, span: TimeSpan, y: impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut before: Option<UnixMs> = None;
    for (at, value) in curve.points.iter().filter(|(_, value)| value.is_finite()) {
        let is_connected = before.is_some_and(|before| at.since(before) <= curve.gap_ms);
        let (x, y) = (round(span.x(*at)), round(y(*value)));
        path += &if is_connected { format!("L{x} {y}") } else { format!("M{x} {y}h0") };
        before = Some(*at);
    }
    path
}

/// Rounds to a tenth of a unit, which is less than a pixel.
pub(super) fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// Returns the value at the top, and the ticks, as round numbers of the unit.
fn value_ticks(greatest: f64, unit: Unit) -> (f64, Vec<f64>) {
    let step = step(greatest / 3.0, unit);
    let count = (greatest / step).ceil().max(1.0);
    let ticks = (0..=4).map(f64::from).take_while(|n| *n <= count).map(|n| n * step).collect();
    (count * step, ticks)
}

/// Returns the smallest round number that is at least `rough`.
fn step(rough: f64, unit: Unit) -> f64 {
    const WHOLE: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
    /// Seconds, minutes, hours and days, in milliseconds.
    const TIMES: [f64; 19] = [
        1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 900e3, 1800e3, 3600e3, 7200e3, 14_400e3, 21_600e3,
        43_200e3, 86_400e3, 172_800e3,
    ];
    if unit == Unit::Millis
        && rough > 500.0
        && let Some(step) = TIMES.into_iter().find(|step| *step >= rough)
    {
        return step;
    }
    let base = match unit {
        Unit::Bytes => 1024_f64.powf(rough.max(1.0).log(1024.0).floor()),
        Unit::Number | Unit::Millis => 1.0,
    };
    let least = if unit == Unit::Number { 0.1 } else { 1.0 };
    let rough = (rough / base).max(least);
    let power = 10_f64.powf(rough.log10().floor());
    WHOLE.into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(10.0 * power) * base
}
