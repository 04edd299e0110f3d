//! The contenders that are a loop of one thread: consume, copy, or all of steward's work.
//!
//! All three take records by librdkafka's batch call out of one queue, with as much read-ahead as helps. They have the
//! consumer and producer settings of steward where those are quicker than the library's own.

mod hand_loop;
mod member;
mod pass_through;
mod sender;
mod slow_service;

use std::io::Read as _;

use crate::contender::{Contender, READ, Reported, Task};

/// Runs the contender of the task, and prints its figures when the parent process closes the standard input.
pub fn run(task: &Task) {
    let reported = match task.contender {
        Contender::Raw => consume(task),
        Contender::PassThrough => pass_through::run(task),
        Contender::HandLoop => hand_loop::run(task),
        Contender::SlowService => slow_service::run(task),
        Contender::Steward => unreachable!("steward is its own program"),
    };
    // The parent process reads the figures of this process from /proc, which needs it alive.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    println!("{}", serde_json::to_string(&reported).expect("numbers can be written"));
}

fn consume(task: &Task) -> Reported {
    let mut member = member::Member::join(task);
    let mut bytes = 0;
    while member.read() < task.events {
        member.take(|_, record| bytes += record.payload_bytes());
    }
    assert!(bytes > 0, "events have bytes");
    println!("{READ}");
    Reported::default()
}
