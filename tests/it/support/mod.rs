//! The kit: a real Kafka, topics with names drawn anew, the real binary as a process, and waits that have a limit.
//!
//! `broker` finds or starts Kafka; `proxy` stands before one and holds requests back; `kafka` speaks to it in sentences;
//! `acls` gives permissions; `names` draws names; `process` runs steward, and holds each of its lines against the
//! `contract`; `frozen` holds one of its threads still; `member` joins a group; `load` keeps events coming, `ledger` compares
//! what came out with the reference model, `world` does so for a few events and processes; `clock` is the machine's,
//! `paused` one that stands still; `wait` is the only place where a test waits; `times` tells what each took; `leash` and `signal` keep processes from
//! outliving the tests.
//!
//! Helpers panic when they fail, and say what they were about: a test has nothing to do about it.

#![allow(
    clippy::mod_module_files,
    reason = "included by path from three binaries, which looks for submodules beside the file"
)]

pub mod acls;
pub mod broker;
pub mod capture;
pub mod chance;
pub mod clock;
pub mod contract;
pub mod frozen;
pub mod kafka;
mod leash;
pub mod ledger;
pub mod load;
pub mod member;
pub mod names;
pub mod paused;
pub mod process;
pub mod proxy;
#[macro_use]
pub mod registry;
mod signal;
pub mod times;
pub mod wait;
pub mod world;
