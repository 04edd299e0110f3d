//! Median and spread of a few figures, and how they are written.

use serde::Serialize;

/// The middle one of several figures, and how far they lie apart.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Middle {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Middle {
    /// Of these figures.
    ///
    /// # Panics
    /// When there are none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Middle {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (low, high) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
        Middle { median: f64::midpoint(low, high), least: figures[0], most: figures[figures.len() - 1] }
    }

    /// The median with one sign for the spread: half of what lies between the extremes, in per cent.
    pub fn with_spread(&self, written: impl Fn(f64) -> String) -> String {
        let spread = if self.median == 0.0 { 0.0 } else { 50.0 * (self.most - self.least) / self.median };
        format!("{} ±{spread:.0} %", written(self.median))
    }
}

/// `1,234,567`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut written = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// Bytes as MiB.
pub fn mib(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / 1_048_576.0)
}
