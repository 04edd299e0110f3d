//! Measures how fast steward drains a backlog, beside what any client could do and beside the tightest loop that a good
//! engineer would write for the same work.
//!
//! `cargo bench --bench drain -- --help` lists the options; `docs/performance.md` explains the numbers. Every contender
//! is a process of its own, so that its memory and its processor time are its own. All of them drain the same topics,
//! one after the other, several times in turn, so that other load of the machine affects all alike.

#![expect(unsafe_code, reason = "signals, ptrace and ACLs have no safe interface")]

#[allow(dead_code, reason = "the kit of the tests, of which this needs the broker and the process")]
#[path = "../../tests/it/support/mod.rs"]
mod support;

mod backlog;
mod broker;
mod chart;
mod committed;
mod contender;
mod digest;
mod drain;
mod drain_report;
mod latency;
mod loops;
mod machine;
mod numbers;
mod options;
mod processes;
mod restore;
mod slow_key;
mod start;
mod sustained;

use broker::BenchBroker;
use machine::Machine;
use options::{Measure, Options};

/// The program's allocator, so that no contender has a better one.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let options = Options::parse();
    if let Some(task) = &options.child {
        return loops::run(&serde_json::from_str(task).expect("the parent process writes it"));
    }
    // Before the start of a broker adds to the load average.
    let machine = serde_json::to_value(Machine::read());
    let broker = BenchBroker::of(&options);
    let mut figures = serde_json::Map::new();
    figures.insert("machine".to_owned(), machine.expect("strings and numbers can be written"));
    for measure in options.measures() {
        let (name, measured) = match measure {
            Measure::Drain => ("drain", serde_json::to_value(drain::measure(&options, &broker))),
            Measure::Latency => ("latency", serde_json::to_value(latency::measure(&options, &broker))),
            Measure::Restore => ("restore", serde_json::to_value(restore::measure(&options, &broker))),
            Measure::SlowKey => ("slow_key", serde_json::to_value(slow_key::measure(&options, &broker))),
            Measure::Start => ("start", serde_json::to_value(start::measure(&options, &broker))),
            Measure::Sustained => ("sustained", serde_json::to_value(sustained::measure(&options, &broker))),
            Measure::All => unreachable!("`measures` replaces it by the others"),
        };
        figures.insert(name.to_owned(), measured.expect("strings and numbers can be written"));
    }
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&figures).expect("strings and numbers can be written");
        std::fs::write(path, json).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
