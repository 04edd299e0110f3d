//! The table of contents of what steward guarantees: one test binary, one module per guarantee.
//!
//! `support::registry` has the attributes that turn a function into a test.

#![expect(unsafe_code, reason = "signals, ptrace and ACLs have no safe interface")]

#[macro_use(apply)]
extern crate macro_rules_attribute;

#[allow(dead_code, reason = "a kit: a helper stays when the last test that used it goes")]
#[macro_use]
mod support;

mod architecture;
mod broker_smoke;
mod cli;
mod commands;
mod config;
mod dlq;
mod docs;
mod engine;
mod event_source;
mod exactly_once;
mod faults;
mod handover;
mod json;
mod kafka_client;
mod kafka_errors;
mod log_events;
mod log_reader;
mod logging;
mod partition_reader;
mod preflight;
mod probes;
mod recovery;
mod reference;
mod report;
mod security;
mod service;
mod service_against_model;
mod shutdown;
mod simulation;
mod start;
mod stats;
mod status;
mod supervision;
mod telemetry;
mod top;
mod torn;
mod transactions;
mod workload;

fn main() {
    let mut arguments = libtest_mimic::Arguments::from_args();
    arguments.test_threads.get_or_insert(support::registry::PARALLEL_TESTS);
    let conclusion = libtest_mimic::run(&arguments, support::registry::tests());
    support::broker::end_shared();
    conclusion.exit();
}
