//! What one key whose events take 1 ms each costs the other keys.
//!
//! One event in a thousand belongs to that key. The same program drains the same backlog with the delay and without it,
//! in turn. The figures are by partition. In the partition of the slow key, offsets are committed in order, so that all
//! that follows a slow event must wait for it. The delay is a wait, not work: the measurement shows whether one entity
//! delays others, not how many processors there are. Like slow code, the delay blocks the thread of its arbiter.

use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;

use crate::backlog::{Backlog, EventSink, update, workload};
use crate::broker::BenchBroker;
use crate::contender::Contender;
use crate::drain::{create_outputs, delete_outputs};
use crate::numbers::{Spread, thousands};
use crate::options::{Options, Shape};
use crate::processes::drain_slowly;
use crate::support::names::{Names, unique};

const DELAY: Duration = Duration::from_millis(1);
const ONE_IN: u64 = 1_000;

#[derive(Debug, Serialize)]
pub struct SlowKeyReport {
    slow_events: u64,
    /// Partitions without the slow key.
    others: Comparison,
    /// The partition of the slow key, the slow events included.
    neighbours: Comparison,
}

/// Events per second without the delay and with it, and the ratio by round.
#[derive(Debug, Serialize)]
struct Comparison {
    without_per_s: Spread,
    with_per_s: Spread,
    ratio: Spread,
}

impl Comparison {
    fn of(rounds: &[(f64, f64)]) -> Comparison {
        Comparison {
            without_per_s: Spread::of(rounds.iter().map(|(without, _)| *without)),
            with_per_s: Spread::of(rounds.iter().map(|(_, with)| *with)),
            ratio: Spread::of(rounds.iter().map(|(without, with)| with / without)),
        }
    }
}

/// Measures, and prints the table.
pub fn measure(options: &Options, broker: &BenchBroker) -> SlowKeyReport {
    let kafka = &broker.kafka;
    let workload = workload(options, Shape::Uniform);
    // After all ids of the workload, the spare ones included.
    let slow_id = workload.first_id + 3 * u64::from(workload.keys);
    let topic = unique("bench-services");
    kafka.create_topic(&topic, options.partitions, &[]);
    let mut first = EventSink::to(kafka, &topic);
    first.send(&update(slow_id, 0));
    first.finish();
    let is_slow: Vec<bool> = kafka.ends(&topic).iter().map(|ends| ends.high > 0).collect();
    let mut sink = EventSink::to(kafka, &topic);
    let mut slow_events = 1;
    for (number, event) in (0..).zip(workload.generate().expect("the workload is valid")) {
        sink.send(&event);
        if number % ONE_IN == 0 {
            sink.send(&update(slow_id, number));
            slow_events += 1;
        }
    }
    sink.finish();
    let backlog = Backlog::of(kafka, topic, options.partitions);
    let drain = |delay: Duration| {
        let names = Names { input: backlog.topic.clone(), ..Names::new() };
        create_outputs(kafka, options, &names, Contender::HandLoop);
        let run = drain_slowly(broker, &backlog, &names, &slow_id.to_string(), delay);
        delete_outputs(kafka, &names, Contender::HandLoop);
        let rate = |wanted: bool| {
            let partitions = is_slow.iter().zip(&backlog.ends).zip(&run.partition_seconds);
            let wanted = partitions.filter(|((is_slow, _), _)| **is_slow == wanted);
            let (events, seconds) =
                wanted.fold((0, 0_f64), |(events, seconds), ((_, end), done)| (events + end, seconds.max(*done)));
            events as f64 / seconds
        };
        let (others, neighbours) = (rate(false), rate(true));
        eprintln!(
            "slow key, {delay:?}: {} events/s in other partitions, {} in its own",
            thousands(others),
            thousands(neighbours)
        );
        (others, neighbours)
    };
    let rounds: Vec<_> = (0..options.rounds).map(|_| (drain(Duration::ZERO), drain(DELAY))).collect();
    kafka.delete_topic(&backlog.topic);
    let compared = |of: fn((f64, f64)) -> f64| {
        Comparison::of(&rounds.iter().map(|(without, with)| (of(*without), of(*with))).collect::<Vec<_>>())
    };
    let report =
        SlowKeyReport { slow_events, others: compared(|(others, _)| others), neighbours: compared(|(_, own)| own) };
    let mut table = Table::new();
    let header = ["events of the slow key", "partitions", "without delay", "1 ms each", "ratio"];
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    for (name, compared) in [("all others", &report.others), ("its own", &report.neighbours)] {
        table.add_row([
            thousands(report.slow_events as f64),
            name.to_owned(),
            compared.without_per_s.with_spread(|rate| format!("{}/s", thousands(rate))),
            compared.with_per_s.with_spread(|rate| format!("{}/s", thousands(rate))),
            format!("{:.2}", compared.ratio.median),
        ]);
    }
    println!("slow key\n{table}");
    report
}
