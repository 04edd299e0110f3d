//! What others do in a loop of one thread: consume, copy, or the whole of steward's work.
//!
//! All three take records by librdkafka's batch call out of one queue, with read-ahead as wide as it helps, and have the
//! consumer's and producer's settings of steward wherever those are quicker than the library's own.

mod hand_loop;
mod member;
mod pass_through;
mod sender;
mod slow_service;

use std::io::Read as _;

use crate::contender::{Contender, Task, Told};

/// Said once the partitions are assigned.
pub const ASSIGNED: &str = "assigned";
/// Said with the first event.
pub const FIRST_EVENT: &str = "first event";
/// Said once all is read.
pub const READ: &str = "read";

/// Plays the part, and says how it went once the parent process closes the standard input.
pub fn run(task: &Task) {
    let told = match task.contender {
        Contender::Raw => raw(task),
        Contender::PassThrough => pass_through::run(task),
        Contender::HandLoop => hand_loop::run(task),
        Contender::SlowService => slow_service::run(task),
        Contender::Steward => unreachable!("steward is its own program"),
    };
    // Whoever looks at this process needs it alive.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    println!("{}", serde_json::to_string(&told).expect("numbers can be written"));
}

fn raw(task: &Task) -> Told {
    let mut member = member::Member::join(task);
    let mut bytes = 0;
    while member.read() < task.events {
        member.take(|_, record| bytes += record.payload_bytes());
    }
    assert!(bytes > 0, "events have bytes");
    println!("{READ}");
    Told::default()
}
