//! From the start of the process to the first event whose transaction has taken effect, on an empty state.

use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;

use crate::backlog::Backlog;
use crate::broker::Ground;
use crate::contender::Asker;
use crate::numbers::Middle;
use crate::options::{Options, Shape};
use crate::support::kafka::Kafka;
use crate::support::names::{Names, unique};
use crate::support::process::Setup;
use crate::support::wait::now;

/// What any step may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Events that wait: enough for every partition to have some.
const EVENTS: u64 = 1_000;

/// One start, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Run {
    /// From the process to checked topics.
    topics: f64,
    /// From there to the assignment: the group's part.
    join: f64,
    /// From there to the first partition that serves.
    recovery: f64,
    /// From there to the first committed event.
    first_commit: f64,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    runs: Vec<Run>,
    total_ms: Middle,
    /// The total less the group's join.
    own_ms: Middle,
}

/// Measures and tells.
pub fn measure(options: &Options, ground: &Ground) -> Report {
    let options = options.with(EVENTS, 100);
    let backlog = Backlog::prepare(&ground.kafka, &options, Shape::Uniform);
    let runs: Vec<Run> = (0..options.rounds).map(|_| start(&ground.kafka, &backlog)).collect();
    ground.kafka.delete_topic(&backlog.topic);
    let own = |run: &Run| run.topics + run.recovery + run.first_commit;
    let report = Report {
        total_ms: Middle::of(runs.iter().map(|run| own(run) + run.join)),
        own_ms: Middle::of(runs.iter().map(own)),
        runs,
    };
    let middle = |figure: fn(&Run) -> f64| {
        let middle = Middle::of(report.runs.iter().map(figure));
        format!("{:.0} ms", middle.median)
    };
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
        middle(|run| run.topics),
        middle(|run| run.join),
        middle(|run| run.recovery),
        middle(|run| run.first_commit),
        report.total_ms.with_spread(|ms| format!("{ms:.0} ms")),
        report.own_ms.with_spread(|ms| format!("{ms:.0} ms")),
    ]);
    println!("start\n{table}");
    report
}

fn start(kafka: &Kafka, backlog: &Backlog) -> Run {
    let names = Names { input: backlog.topic.clone(), ..Names::new() };
    // The topics are there, as at every start but the first. Another group's process has made them.
    let maker = Names { group: unique("bench-maker"), ..names.clone() };
    Setup::new(kafka, &maker).start().wait_for_event("topics_checked", LIMIT);
    // The first question of a group makes the broker load its coordinator; that is not what is measured.
    let asker = Asker::of(kafka, &names.group, backlog);
    asker.committed();
    let began = now();
    let mut steward = Setup::new(kafka, &names).start();
    let mut at = |event: &str| {
        steward.wait_for_event(event, LIMIT);
        now()
    };
    let (checked, assigned, serving) = (at("topics_checked"), at("partitions_assigned"), at("recovery_finished"));
    while asker.committed().iter().sum::<i64>() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let committed = now();
    steward.stop();
    kafka.delete_topic(&names.state);
    kafka.delete_topic(&names.dlq);
    let between = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1_000.0;
    Run {
        topics: between(began, checked),
        join: between(checked, assigned),
        recovery: between(assigned, serving),
        first_commit: between(serving, committed),
    }
}
