//! Median and spread of a few figures, and their formats.

use serde::Serialize;

/// The median of several figures, with the least and the greatest.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// # Panics
    /// If there are no figures.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Spread {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (low, high) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
        Spread { median: f64::midpoint(low, high), least: figures[0], most: figures[figures.len() - 1] }
    }

    /// Formats the median and the spread: half of the distance between the extremes, in per cent of the median.
    pub fn with_spread(&self, format: impl Fn(f64) -> String) -> String {
        let spread = if self.median == 0.0 { 0.0 } else { 50.0 * (self.most - self.least) / self.median };
        format!("{} ±{spread:.0} %", format(self.median))
    }
}

/// Formats a number as `1,234,567`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut separated = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            separated.push(',');
        }
        separated.push(digit);
    }
    separated
}

/// Formats bytes as MiB.
pub fn mib(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / 1_048_576.0)
}
