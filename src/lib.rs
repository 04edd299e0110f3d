//! steward: owns the current state of every entity that a Kafka topic describes.
//!
//! ```text
//!         poll thread       actors thread     entity threads         actors thread     commit thread
//! Kafka -> BaseConsumer ---> IngestActor ---> EntityActor per key --> CommitActor ---> TransactionDriver -> one
//! transaction:
//!             ^   batches    (one message      (decode, validate,      (what goes into                       snapshots
//!             |               per key)          apply)   outcomes       the next one)                        DLQ records
//!             |                  |                                                                           input offsets
//!             +-- start, hold ---+
//! ```
//!
//! The modules below are in reading order. First what is pure: records, entities, and the state machines of `engine`.
//! Then the traits that connect them to the outside, the actors, and Kafka. `app` assembles them; the rest serves
//! people. `docs/architecture.md` has the module map, the invariants, and the reasons.

// Ids of partitions, offsets and epochs; header names; batches. Pure.
pub mod record;

// The contract for entity authors: state, events, rejections. Pure.
pub mod entity;

// The toolkit for entities whose events are JSON: fields, violations, times. Pure.
pub mod json;

// The entity that ships: rules, state, snapshot. Pure.
pub mod service;

// The state machines: partition, batches, commit, recovery. Pure.
pub mod engine;

// What the actors need from outside, as traits.
pub mod ports;

// The actors: ingest, entities, committer.
pub mod runtime;

// The ports on Kafka: consumer, transactions, readers, preflight checks.
pub mod kafka;

// `steward run`: assembles all of the above, and starts and stops it.
pub mod app;

// Every configuration key.
pub mod config;

// The log, `stats`, status, watchdog and heartbeat.
pub mod observability;

// The commands for people and probes.
pub mod tools;

// Reference model, workload generator and fakes.
pub mod testing;

// Arguments and dispatch.
pub mod cli;

// Every way in which the process can end.
pub mod exit_code;
