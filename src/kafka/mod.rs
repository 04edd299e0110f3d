//! The only room that knows rdkafka, and the only one with unsafe code (in [`batch_queue`]).
//!
//! * [`client`]: settings of every client, and where a client's own words go.
//! * [`event_source`]: the consumer as the actors command it; `poll_thread` is the thread behind it, [`rebalance`]
//!   what the group says and how a revocation ends, [`batch_queue`] how records come out of librdkafka, `intake` how
//!   they wait for the sink.
//!
//! Architecture invariant: no actix here, and no rdkafka type in a port's signature.

pub mod batch_queue;
pub mod client;
pub mod event_source;
mod intake;
mod poll_thread;
pub mod rebalance;
