//! One key among all whose events take 1 ms each: what the others feel.
//!
//! One event in a thousand is of that key. The same program drains the same backlog with the delay and without it, in
//! turn. The delay is a wait, not work: what is measured is whether one entity holds up others, not how many processors
//! there are. It blocks the thread of its arbiter all the same, as slow code would.

use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;

use crate::backlog::{Backlog, EventSink, workload};
use crate::broker::Ground;
use crate::contender::{Contender, drain_slowly};
use crate::drain::{create_outputs, delete_outputs};
use crate::latency::update;
use crate::numbers::{Middle, thousands};
use crate::options::{Options, Shape};
use crate::support::names::{Names, unique};

const DELAY: Duration = Duration::from_millis(1);
const ONE_IN: u64 = 1_000;

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    slow_events: u64,
    without_per_s: Middle,
    with_per_s: Middle,
    ratio: Middle,
}

/// Measures and tells.
pub fn measure(options: &Options, ground: &Ground) -> Report {
    let kafka = &ground.kafka;
    let workload = workload(options, Shape::Uniform);
    // Behind all ids of the workload, the spare ones included.
    let slow_id = workload.first_id + 3 * u64::from(workload.keys);
    let topic = unique("bench-services");
    kafka.create_topic(&topic, options.partitions, &[]);
    let mut sink = EventSink::to(kafka, &topic);
    let mut slow_events = 0;
    for (number, event) in (0..).zip(workload.generate().expect("the workload makes sense")) {
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
        let run = drain_slowly(ground, &backlog, &names, &slow_id.to_string(), delay);
        delete_outputs(kafka, &names, Contender::HandLoop);
        eprintln!("slow key, {delay:?}: {} events/s", thousands(run.events_per_s));
        run.events_per_s
    };
    let rounds: Vec<(f64, f64)> = (0..options.rounds).map(|_| (drain(Duration::ZERO), drain(DELAY))).collect();
    kafka.delete_topic(&backlog.topic);
    let report = Report {
        slow_events,
        without_per_s: Middle::of(rounds.iter().map(|(without, _)| *without)),
        with_per_s: Middle::of(rounds.iter().map(|(_, with)| *with)),
        ratio: Middle::of(rounds.iter().map(|(without, with)| with / without)),
    };
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["events of the slow key", "without delay", "1 ms each", "ratio"]);
    table.add_row([
        thousands(report.slow_events as f64),
        report.without_per_s.with_spread(|rate| format!("{}/s", thousands(rate))),
        report.with_per_s.with_spread(|rate| format!("{}/s", thousands(rate))),
        format!("{:.2}", report.ratio.median),
    ]);
    println!("slow key\n{table}");
    report
}
