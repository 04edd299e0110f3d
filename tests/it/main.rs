//! The tests, in one binary. The list of modules is the table of contents of the guarantees.
//!
//! `support::registry` has the attributes that turn a function into a test.

#![expect(unsafe_code, reason = "signals, ptrace and ACLs have no safe interface")]

#[macro_use(apply)]
extern crate macro_rules_attribute;

#[allow(dead_code, reason = "a helper stays when the last test that used it is deleted")]
#[macro_use]
mod support;

// The contract: which events are accepted, and the state after them.
mod json;
mod reference;
mod service;
mod service_against_model;
mod workload;

// The state machines, and the actors that carry out their commands.
mod engine;
mod simulation;
mod supervision;

// The guarantees on a real Kafka.
mod exactly_once;
mod faults;
mod handover;
mod recovery;
mod shutdown;
mod start;
mod static_member;
mod torn;

// The use of Kafka's client.
mod broker_smoke;
mod input_consumer;
mod kafka_client;
mod kafka_errors;
mod partition_reader;
mod preflight;
mod security;
mod transactions;

// Configuration, log and health.
mod config;
mod log_events;
mod logging;
mod probes;
mod stats;
mod status;
mod telemetry;

// The commands.
mod cli;
mod commands;
mod dlq;
mod log_reader;
mod report;
mod top;

// The rules of this repository.
mod architecture;
mod docs;

fn main() {
    support::panics::install();
    let mut arguments = libtest_mimic::Arguments::from_args();
    arguments.test_threads.get_or_insert(support::registry::PARALLEL_TESTS);
    let conclusion = libtest_mimic::run(&arguments, support::registry::tests());
    support::broker::end_shared();
    conclusion.exit();
}
