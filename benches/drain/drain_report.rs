//! The figures of the drain: by shape, by contender, and as a table.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::contender::{Contender, Run};
use crate::numbers::{Spread, mib, thousands};
use crate::options::Shape;

#[derive(Debug, Serialize)]
pub struct DrainReport {
    pub events: u64,
    pub keys: u32,
    pub partitions: i32,
    pub rounds: usize,
    pub shapes: Vec<ShapeReport>,
}

/// The drains of one backlog.
#[derive(Debug, Serialize)]
pub struct ShapeReport {
    pub shape: Shape,
    pub contenders: Vec<ContenderReport>,
}

#[derive(Debug, Serialize)]
pub struct ContenderReport {
    pub contender: Contender,
    pub summary: Summary,
    runs: Vec<Run>,
}

/// Medians and spreads over the runs of one contender.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Summary {
    pub events_per_s: Spread,
    /// Each round divided by the hand loop of the same round; `None` if the hand loop did not run.
    pub ratio: Option<Spread>,
    pub client_us_per_event: Spread,
    pub client_ratio: Option<Spread>,
    pub broker_us_per_event: Option<Spread>,
    pub peak_bytes: Spread,
    pub transactions: Spread,
    pub transaction_p50_ms: Spread,
    pub transaction_p99_ms: Spread,
    pub seconds_before_first: Spread,
}

impl ContenderReport {
    /// Summarises the runs. `base` has the runs of the hand loop, in the same order of rounds.
    pub fn of(contender: Contender, runs: Vec<Run>, base: Option<&[Run]>) -> ContenderReport {
        ContenderReport { contender, summary: Summary::of(&runs, base), runs }
    }
}

impl Summary {
    fn of(runs: &[Run], base: Option<&[Run]>) -> Summary {
        let all = |figure: fn(&Run) -> f64| Spread::of(runs.iter().map(figure));
        let against = |figure: fn(&Run) -> f64| {
            base.map(|base| Spread::of(runs.iter().zip(base).map(|(run, base)| figure(run) / figure(base))))
        };
        let broker: Option<Vec<f64>> = runs.iter().map(|run| run.broker_us_per_event).collect();
        Summary {
            events_per_s: all(|run| run.events_per_s),
            ratio: against(|run| run.events_per_s),
            client_us_per_event: all(|run| run.client_us_per_event),
            client_ratio: against(|run| run.client_us_per_event),
            broker_us_per_event: broker.map(Spread::of),
            peak_bytes: all(|run| run.peak_bytes as f64),
            transactions: all(|run| run.reported.transactions as f64),
            transaction_p50_ms: all(|run| run.reported.transaction_p50_ms),
            transaction_p99_ms: all(|run| run.reported.transaction_p99_ms),
            seconds_before_first: all(|run| run.seconds_before_first),
        }
    }
}

impl DrainReport {
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header([
            "backlog",
            "contender",
            "events/s",
            "to hand loop",
            "client us/event",
            "to hand loop",
            "broker us/event",
            "peak memory",
            "commits",
            "transaction p50, p99",
            "before first event",
        ]);
        for shape in &self.shapes {
            for ContenderReport { contender, summary, .. } in &shape.contenders {
                let ratio =
                    |ratio: Option<Spread>| ratio.map_or("-".to_owned(), |ratio| format!("{:.2}", ratio.median));
                let commits = summary.transactions.median > 0.0;
                table.add_row([
                    shape.shape.name().to_owned(),
                    contender.name().to_owned(),
                    summary.events_per_s.with_spread(thousands),
                    ratio(summary.ratio),
                    summary.client_us_per_event.with_spread(|us| format!("{us:.2}")),
                    ratio(summary.client_ratio),
                    summary.broker_us_per_event.map_or("-".to_owned(), |us| format!("{:.2}", us.median)),
                    mib(summary.peak_bytes.median),
                    if commits { thousands(summary.transactions.median) } else { "-".to_owned() },
                    if commits {
                        format!("{:.0}, {:.0} ms", summary.transaction_p50_ms.median, summary.transaction_p99_ms.median)
                    } else {
                        "-".to_owned()
                    },
                    format!("{:.0} ms", summary.seconds_before_first.median * 1_000.0),
                ]);
            }
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}
