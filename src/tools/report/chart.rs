//! One chart as inline SVG: lines over time, each broken where nothing was told.
//!
//! Drawn by hand, because the libraries for it would make the page worse: they write fixed colours into each element,
//! where the page needs classes that follow the reader's light or dark; they have no ticks at whole minutes without a
//! calendar of their own; and what they leave to do (escaping, tooltips, one colour per pod in every chart) is most of
//! it. Text and attributes go through `maud`, which escapes them.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::tools::log_reader::UnixMs;
use crate::tools::units;

/// The inside of the axes, and the room around them, in units of the picture.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;
/// Lines that get a colour of their own; the page has as many.
pub(super) const COLOURS: usize = 10;

/// How the values of a chart are written.
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

/// One line.
pub(super) struct Curve {
    /// Whose it is.
    pub(super) name: String,
    /// Which colour, counted over all charts of the page.
    pub(super) colour: usize,
    /// Its points in the order of time.
    pub(super) points: Vec<(UnixMs, f64)>,
    /// Points that are further apart are not joined.
    pub(super) gap_ms: u64,
}

/// The time that all charts of a page show.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeSpan {
    from: i64,
    until: i64,
}

impl TimeSpan {
    pub(super) fn new((from, until): (UnixMs, UnixMs)) -> TimeSpan {
        // A span of nothing could not be divided by.
        TimeSpan { from: from.0, until: until.0.max(from.0.saturating_add(1_000)) }
    }

    /// Where a moment stands, from 0 to 1.
    pub(super) fn at(self, moment: UnixMs) -> f64 {
        let length = self.until.saturating_sub(self.from).max(1) as f64;
        (moment.0.saturating_sub(self.from) as f64 / length).clamp(0.0, 1.0)
    }

    fn x(self, moment: UnixMs) -> f64 {
        LEFT + self.at(moment) * (WIDTH - LEFT - RIGHT)
    }

    /// Moments at whole seconds, minutes, hours or days, at most eight.
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

/// A tick's words: the day where days are shown, else the time of day.
pub(super) fn tick_words(span: TimeSpan, tick: UnixMs) -> String {
    let moment = units::moment(tick);
    let is_long = span.until.saturating_sub(span.from) > 2 * 86_400_000;
    let part = if is_long { moment.get(5..16) } else { moment.get(11..19) };
    part.unwrap_or_default().to_owned()
}

/// Draws the curves. `None` where there is nothing to draw.
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
                    text class="tick" x=(round(span.x(tick))) y=(HEIGHT - 6.0) text-anchor="middle" { (tick_words(span, tick)) }
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

/// The way of the pen. A point that stands alone becomes a dot, which round ends of a line of no length are.
fn path(curve: &Curve, span: TimeSpan, y: impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut before: Option<UnixMs> = None;
    for (at, value) in curve.points.iter().filter(|(_, value)| value.is_finite()) {
        let is_joined = before.is_some_and(|before| at.since(before) <= curve.gap_ms);
        let (x, y) = (round(span.x(*at)), round(y(*value)));
        if is_joined {
            write!(path, "L{x} {y}").expect("a String takes everything");
        } else {
            write!(path, "M{x} {y}h0").expect("a String takes everything");
        }
        before = Some(*at);
    }
    path
}

/// A tenth of a unit is less than a pixel.
fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// The value at the top, and the ticks, round in the unit's own way.
fn value_ticks(greatest: f64, unit: Unit) -> (f64, Vec<f64>) {
    let step = step(greatest / 3.0, unit);
    let count = (greatest / step).ceil().max(1.0);
    let ticks = (0..=4).map(f64::from).take_while(|n| *n <= count).map(|n| n * step).collect();
    (count * step, ticks)
}

/// The smallest round number that is at least this.
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
