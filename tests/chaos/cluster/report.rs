//! The table of a cluster drill: the silence of steward beside that of the yardstick, for each fault.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::silence::Durations;

/// One fault.
#[derive(Debug, Clone)]
pub struct Occurrence {
    pub fault: &'static str,
    /// Milliseconds since 1970, to find it in the logs.
    pub at_ms: i64,
    pub took: Duration,
    /// The partition of steward that was silent longest.
    pub partition: i32,
    pub steward: Duration,
    pub yardstick: Duration,
}

/// All faults of a run. It is printed and written to its folder when it is dropped, also if the run fails.
#[derive(Debug)]
pub struct Report {
    name: String,
    pub occurrences: Vec<Occurrence>,
    notes: Vec<String>,
}

impl Report {
    pub fn new(name: &str) -> Report {
        Report { name: name.to_owned(), occurrences: Vec::new(), notes: Vec::new() }
    }

    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Returns the longest silence of steward.
    pub fn longest(&self) -> Duration {
        self.occurrences.iter().map(|occurrence| occurrence.steward).max().unwrap_or_default()
    }

    /// Returns the folder for the report and the logs, which is not deleted.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-cluster-{}", self.name))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "cluster, {}: longest silence of a partition", self.name)?;
        writeln!(
            formatter,
            "{:12} {:>7}  {:27} {:>9} {:>10} {:>11}",
            "at (UTC)", "took", "fault", "steward", "yardstick", "difference"
        )?;
        for Occurrence { fault, at_ms, took, partition, steward, yardstick } in &self.occurrences {
            let [took, steward, yardstick] = [took, steward, yardstick].map(Duration::as_secs_f64);
            let difference = steward - yardstick;
            writeln!(
                formatter,
                "{} {took:5.1} s  {fault:27} {steward:7.1} s {yardstick:8.1} s {difference:+9.1} s  partition {partition}",
                time_of_day(*at_ms)
            )?;
        }
        let of = |silence: fn(&Occurrence) -> Duration| -> Durations { self.occurrences.iter().map(silence).collect() };
        writeln!(formatter, "steward: {}", of(|occurrence| occurrence.steward))?;
        writeln!(formatter, "yardstick: {}", of(|occurrence| occurrence.yardstick))?;
        write!(formatter, "{}", self.notes.join("; "))
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        println!("{self}");
        let folder = self.folder();
        match std::fs::write(folder.join("report"), self.to_string()) {
            Ok(()) => println!("report and logs: {}", folder.display()),
            Err(error) => eprintln!("{}: {error}", folder.display()),
        }
    }
}

/// Formats milliseconds since 1970 as the time in the logs.
fn time_of_day(ms: i64) -> String {
    let (seconds, ms) = (ms / 1_000 % 86_400, ms % 1_000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
