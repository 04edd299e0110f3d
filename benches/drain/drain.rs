//! The drain: every contender in turn, several rounds, and what came of it.

use std::collections::BTreeMap;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::backlog::Backlog;
use crate::broker::Ground;
use crate::chart;
use crate::contender::{Contender, Run, drain};
use crate::digest::Outcome;
use crate::numbers::{Middle, mib, thousands};
use crate::options::{Options, Shape};
use crate::support::kafka::{ANY_TIMESTAMP, Kafka};
use crate::support::names::Names;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    events: u64,
    keys: u32,
    partitions: i32,
    rounds: usize,
    shapes: Vec<ShapeReport>,
}

/// The drains of one backlog.
#[derive(Debug, Serialize)]
pub struct ShapeReport {
    pub shape: Shape,
    pub contenders: Vec<ContenderReport>,
}

/// The drains of one contender.
#[derive(Debug, Serialize)]
pub struct ContenderReport {
    pub contender: Contender,
    pub summary: Summary,
    runs: Vec<Run>,
}

/// What the runs come to.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Summary {
    pub events_per_s: Middle,
    /// By round against the hand loop of the same round; `None` where there is none.
    pub ratio: Option<Middle>,
    pub client_us_per_event: Middle,
    pub client_ratio: Option<Middle>,
    pub broker_us_per_event: Option<Middle>,
    pub peak_bytes: Middle,
    pub transactions: Middle,
    pub transaction_p50_ms: Middle,
    pub transaction_p99_ms: Middle,
    pub seconds_before_first: Middle,
}

/// Measures, tells, and draws it where that was asked for.
pub fn measure(options: &Options, ground: &Ground) -> Report {
    let shapes = options.shapes().into_iter().map(|shape| measure_shape(options, ground, shape)).collect();
    let Options { events, keys, partitions, rounds, .. } = *options;
    let report = Report { events, keys, partitions, rounds, shapes };
    println!("drain\n{}", report.table());
    if let Some(path) = &options.svg {
        chart::draw(path, &report.shapes);
    }
    report
}

fn measure_shape(options: &Options, ground: &Ground, shape: Shape) -> ShapeReport {
    let backlog = Backlog::prepare(&ground.kafka, options, shape);
    let contenders = options.contenders();
    let mut runs: BTreeMap<Contender, Vec<Run>> = BTreeMap::new();
    let mut outcome: Option<(Contender, Outcome)> = None;
    for round in 0..options.rounds {
        // Each round begins with another one, so that nobody always follows the same.
        for index in 0..contenders.len() {
            let contender = contenders[(index + round) % contenders.len()];
            let names = names(&backlog);
            create_outputs(&ground.kafka, options, &names, contender);
            let run = drain(contender, ground, &backlog, &names);
            eprintln!(
                "{} round {}: {:<12} {:>9} events/s, client {:.2} us, broker {:.2} us per event, {}",
                shape.name(),
                round + 1,
                contender.name(),
                thousands(run.events_per_s),
                run.client_us_per_event,
                run.broker_us_per_event.unwrap_or(f64::NAN),
                mib(run.peak_bytes as f64),
            );
            if matches!(contender, Contender::HandLoop | Contender::Steward) {
                compare(&mut outcome, contender, Outcome::read(&ground.kafka, &names));
            }
            runs.entry(contender).or_default().push(run);
            delete_outputs(&ground.kafka, &names, contender);
        }
    }
    ground.kafka.delete_topic(&backlog.topic);
    let base = runs.get(&Contender::HandLoop).cloned();
    let reports = runs.into_iter().map(|(contender, runs)| ContenderReport {
        contender,
        summary: Summary::of(&runs, base.as_deref()),
        runs,
    });
    ShapeReport { shape, contenders: reports.collect() }
}

fn names(backlog: &Backlog) -> Names {
    Names { input: backlog.topic.clone(), ..Names::new() }
}

/// Steward makes its own; the loops find theirs.
pub fn create_outputs(kafka: &Kafka, options: &Options, names: &Names, contender: Contender) {
    match contender {
        Contender::Raw | Contender::Steward | Contender::SlowService => {}
        Contender::PassThrough | Contender::HandLoop => {
            // A compacted topic takes no record without a key, and some of the copied ones have none.
            let policy = if contender == Contender::PassThrough { "delete" } else { "compact" };
            kafka.create_topic(&names.state, options.partitions, &[("cleanup.policy", policy)]);
            kafka.create_topic(&names.dlq, options.partitions, &ANY_TIMESTAMP);
        }
    }
}

pub fn delete_outputs(kafka: &Kafka, names: &Names, contender: Contender) {
    match contender {
        Contender::Raw => {}
        Contender::PassThrough | Contender::HandLoop | Contender::Steward | Contender::SlowService => {
            kafka.delete_topic(&names.state);
            kafka.delete_topic(&names.dlq);
        }
    }
}

/// Whoever does the same work has to come to the same end, in every round.
fn compare(before: &mut Option<(Contender, Outcome)>, contender: Contender, outcome: Outcome) {
    let (first, expected) = *before.get_or_insert((contender, outcome));
    assert_eq!(
        outcome,
        expected,
        "{} has not come to the same state and DLQ records as {} (left and right)",
        contender.name(),
        first.name()
    );
}

impl Summary {
    fn of(runs: &[Run], base: Option<&[Run]>) -> Summary {
        let all = |figure: fn(&Run) -> f64| Middle::of(runs.iter().map(figure));
        let against = |figure: fn(&Run) -> f64| {
            base.map(|base| Middle::of(runs.iter().zip(base).map(|(run, base)| figure(run) / figure(base))))
        };
        let broker: Option<Vec<f64>> = runs.iter().map(|run| run.broker_us_per_event).collect();
        Summary {
            events_per_s: all(|run| run.events_per_s),
            ratio: against(|run| run.events_per_s),
            client_us_per_event: all(|run| run.client_us_per_event),
            client_ratio: against(|run| run.client_us_per_event),
            broker_us_per_event: broker.map(Middle::of),
            peak_bytes: all(|run| run.peak_bytes as f64),
            transactions: all(|run| run.told.transactions as f64),
            transaction_p50_ms: all(|run| run.told.transaction_p50_ms),
            transaction_p99_ms: all(|run| run.told.transaction_p99_ms),
            seconds_before_first: all(|run| run.seconds_before_first),
        }
    }
}

impl Report {
    fn table(&self) -> Table {
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
                    |ratio: Option<Middle>| ratio.map_or("-".to_owned(), |ratio| format!("{:.2}", ratio.median));
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
