//! The only rooms that know rdkafka.
//!
//! Architecture invariant: no actix here, ever; what the actors need stands in `ports`.

pub mod commit_thread;
pub mod committed;
pub mod error;
pub mod guards;
pub mod headers;
pub mod membership;
pub mod out_record;
pub mod partition_reader;
pub mod topics;
pub mod transaction;
