//! The kit: a real Kafka, topics with names drawn anew, the real binary as a process, and waits that have a limit.
//!
//! `broker` finds or starts Kafka; `kafka` speaks to it in sentences; `names` draws names; `process` runs steward;
//! `wait` is the only place where a test waits; `leash` and `signal` keep processes from outliving the tests; `world`
//! puts it all together and judges a service by its topics.
//!
//! Helpers panic when they fail, and say what they were about: a test has nothing to do about it.

pub mod broker;
pub mod capture;
pub mod kafka;
mod leash;
pub mod ledger;
pub mod names;
pub mod paused;
pub mod process;
mod signal;
pub mod wait;
pub mod world;
