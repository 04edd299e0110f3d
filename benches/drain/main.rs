//! The measuring stick: how fast steward drains a backlog, beside what any client could do and beside the tightest loop
//! that a good engineer would write for the same work.
//!
//! `cargo bench --bench drain -- --help` tells the options, `docs/performance.md` what the numbers mean. Every contender
//! is a process of its own, so that its memory and its processor time are its own; all of them drain the same topics, one
//! after the other, several times in turn, so that whatever else the machine does hits all alike.

#[allow(dead_code, reason = "the kit of the tests, of which this needs the broker and the process")]
#[path = "../../tests/it/support/mod.rs"]
mod support;

mod backlog;
mod broker;
mod chart;
mod contender;
mod digest;
mod drain;
mod latency;
mod loops;
mod machine;
mod numbers;
mod options;
mod restore;
mod slow_key;
mod start;

use broker::Ground;
use machine::Machine;
use options::{Measure, Options};

/// The same as the program's, so that no contender has a better one.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let options = Options::parse();
    if let Some(child) = &options.child {
        return contender::play(child);
    }
    // Before the broker has its share in it.
    let machine = serde_json::to_value(Machine::here());
    let ground = Ground::of(&options);
    let mut figures = serde_json::Map::new();
    figures.insert("machine".to_owned(), machine.expect("strings and numbers can be written"));
    for measure in options.measures() {
        let (name, measured) = match measure {
            Measure::Drain => ("drain", serde_json::to_value(drain::measure(&options, &ground))),
            Measure::Latency => ("latency", serde_json::to_value(latency::measure(&options, &ground))),
            Measure::Restore => ("restore", serde_json::to_value(restore::measure(&options, &ground))),
            Measure::SlowKey => ("slow_key", serde_json::to_value(slow_key::measure(&options, &ground))),
            Measure::Start => ("start", serde_json::to_value(start::measure(&options, &ground))),
            Measure::All => unreachable!("it stands for the others"),
        };
        figures.insert(name.to_owned(), measured.expect("strings and numbers can be written"));
    }
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&figures).expect("strings and numbers can be written");
        std::fs::write(path, json).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
