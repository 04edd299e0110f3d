//! The drain: all contenders in turn over the same backlog, for several rounds.

use std::collections::BTreeMap;

use crate::backlog::Backlog;
use crate::broker::BenchBroker;
use crate::chart;
use crate::contender::{Contender, Run};
use crate::digest::Outcome;
use crate::drain_report::{ContenderReport, DrainReport, ShapeReport};
use crate::numbers::{mib, thousands};
use crate::options::{Options, Shape};
use crate::processes::drain;
use crate::support::kafka::{ANY_TIMESTAMP, Kafka};
use crate::support::names::Names;

/// Measures, prints the table, and draws the chart if the options name a file.
pub fn measure(options: &Options, broker: &BenchBroker) -> DrainReport {
    let shapes = options.shapes().into_iter().map(|shape| measure_shape(options, broker, shape)).collect();
    let Options { events, keys, partitions, rounds, .. } = *options;
    let report = DrainReport { events, keys, partitions, rounds, shapes };
    println!("drain\n{}", report.table());
    if let Some(path) = &options.svg {
        chart::draw(path, &report.shapes);
    }
    report
}

fn measure_shape(options: &Options, broker: &BenchBroker, shape: Shape) -> ShapeReport {
    let backlog = Backlog::prepare(&broker.kafka, options, shape);
    let contenders = options.contenders();
    let mut runs: BTreeMap<Contender, Vec<Run>> = BTreeMap::new();
    let mut outcome: Option<(Contender, Outcome)> = None;
    for round in 0..options.rounds {
        // Each round begins with another contender, so that none always follows the same one.
        for index in 0..contenders.len() {
            let contender = contenders[(index + round) % contenders.len()];
            let names = Names { input: backlog.topic.clone(), ..Names::new() };
            create_outputs(&broker.kafka, options, &names, contender);
            let run = drain(contender, broker, &backlog, &names);
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
                assert_same_outcome(&mut outcome, contender, Outcome::read(&broker.kafka, &names));
            }
            runs.entry(contender).or_default().push(run);
            delete_outputs(&broker.kafka, &names, contender);
        }
    }
    broker.kafka.delete_topic(&backlog.topic);
    let base = runs.get(&Contender::HandLoop).cloned();
    let reports = runs.into_iter().map(|(contender, runs)| ContenderReport::of(contender, runs, base.as_deref()));
    ShapeReport { shape, contenders: reports.collect() }
}

/// Creates the output topics of a loop. Steward creates its own.
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

/// Contenders that do the same work must have the same outcome, in every round.
fn assert_same_outcome(first: &mut Option<(Contender, Outcome)>, contender: Contender, outcome: Outcome) {
    let (first, expected) = *first.get_or_insert((contender, outcome));
    assert_eq!(
        outcome,
        expected,
        "{} has another state or other DLQ records than {} (left and right)",
        contender.name(),
        first.name()
    );
}
