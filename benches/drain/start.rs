//! Time from the start of the process to the first committed event, on an empty state.

use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;

use crate::backlog::Backlog;
use crate::broker::BenchBroker;
use crate::committed::CommittedOffsets;
use crate::numbers::Spread;
use crate::options::{Options, Shape};
use crate::support::kafka::Kafka;
use crate::support::names::{Names, unique};
use crate::support::process::Setup;
use crate::support::wait::now;

/// Longest wait for one step.
const LIMIT: Duration = Duration::from_secs(60);
/// Events of the backlog: enough for every partition to have some.
const EVENTS: u64 = 1_000;

/// One start, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct StartRun {
    /// From the start of the process to checked topics.
    topics: f64,
    /// From there to the assignment: the group's share.
    join: f64,
    /// From there to the first partition that serves.
    recovery: f64,
    /// From there to the first committed event.
    first_commit: f64,
}

#[derive(Debug, Serialize)]
pub struct StartReport {
    runs: Vec<StartRun>,
    total_ms: Spread,
    /// The total without the group's join.
    own_ms: Spread,
}

/// Measures, and prints the table.
pub fn measure(options: &Options, broker: &BenchBroker) -> StartReport {
    let options = options.with(EVENTS, 100);
    let backlog = Backlog::prepare(&broker.kafka, &options, Shape::Uniform);
    let runs: Vec<StartRun> = (0..options.rounds).map(|_| start(&broker.kafka, &backlog)).collect();
    broker.kafka.delete_topic(&backlog.topic);
    let own = |run: &StartRun| run.topics + run.recovery + run.first_commit;
    let report = StartReport {
        total_ms: Spread::of(runs.iter().map(|run| own(run) + run.join)),
        own_ms: Spread::of(runs.iter().map(own)),
        runs,
    };
    let median = |figure: fn(&StartRun) -> f64| format!("{:.0} ms", Spread::of(report.runs.iter().map(figure)).median);
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "topics checked",
        "group joined",
        "first partition serves",
        "first event committed",
        "all",
        "all but the join",
    ]);
    table.add_row([
        median(|run| run.topics),
        median(|run| run.join),
        median(|run| run.recovery),
        median(|run| run.first_commit),
        report.total_ms.with_spread(|ms| format!("{ms:.0} ms")),
        report.own_ms.with_spread(|ms| format!("{ms:.0} ms")),
    ]);
    println!("start\n{table}");
    report
}

fn start(kafka: &Kafka, backlog: &Backlog) -> StartRun {
    let names = Names { input: backlog.topic.clone(), ..Names::new() };
    // The topics exist, as at every start but the first: a process of another group creates them.
    let maker = Names { group: unique("bench-maker"), ..names.clone() };
    Setup::new(kafka, &maker).start().wait_for_event("topics_checked", LIMIT);
    // The first request of a group makes the broker load its coordinator, which is not to be measured.
    let committed = CommittedOffsets::of(kafka, &names.group, backlog);
    committed.fetch();
    let began = now();
    let mut steward = Setup::new(kafka, &names).start();
    let mut at = |event: &str| {
        steward.wait_for_event(event, LIMIT);
        now()
    };
    let (checked, assigned, serving) = (at("topics_checked"), at("partitions_assigned"), at("recovery_finished"));
    while committed.fetch().iter().sum::<i64>() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let first_committed = now();
    steward.stop();
    kafka.delete_topic(&names.state);
    kafka.delete_topic(&names.dlq);
    let between = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1_000.0;
    StartRun {
        topics: between(began, checked),
        join: between(checked, assigned),
        recovery: between(assigned, serving),
        first_commit: between(serving, first_committed),
    }
}
