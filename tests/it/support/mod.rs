//! Test support: a real Kafka, topics with unique names, the real binary as a process, and waits with a limit.
//!
//! `registry` makes functions tests. `broker` finds or starts Kafka; `proxy` can delay and drop its requests; `kafka`
//! is a client of it; `acls` adds permissions; `names` makes unique names. `panics` has the panic
//! hook. `process` runs steward, and checks each of
//! its log lines against the event specifications (`contract`); `child_io` has its output and its terminal; `frozen`
//! stops one of its threads. `member` joins a group. `load` produces events continuously; `ledger` and `world` compare
//! the outcome with the reference model. `clock` is the real clock, `paused` a paused one; `wait` is the only place
//! that waits; `times` measures each test. `cleanup` and `signal` make sure that no process outlives the tests.
//!
//! Helpers panic on failure with a message, because a test cannot handle a failure of its helpers.

#![allow(
    clippy::mod_module_files,
    reason = "included by path from three binaries, which looks for submodules beside the file"
)]

pub mod acls;
pub mod broker;
pub mod capture;
pub mod chance;
mod child_io;
mod cleanup;
pub mod clock;
pub mod contract;
pub mod frozen;
pub mod kafka;
pub mod ledger;
pub mod load;
pub mod member;
pub mod names;
pub mod panics;
pub mod paused;
pub mod process;
pub mod proxy;
pub mod quota;
#[macro_use]
pub mod registry;
mod signal;
pub mod times;
pub mod wait;
pub mod world;
