//! The only room that knows rdkafka, and the only one with unsafe code.
//!
//! * [`client`]: settings of every client; [`client_context`] is where a client's own words go, `token` what it shows
//!   to brokers that want OAUTHBEARER.
//! * [`event_source`]: the consumer as the actors command it; `poll_thread` is the thread behind it, [`rebalance`]
//!   what the group says and how a revocation ends, [`batch_queue`] how records come out of librdkafka.
//! * [`commit_thread`]: runs one [`transaction`] at a time, fenced by the group's [`membership`], and answers as
//!   [`error`] says; [`committed`] asks what the group has committed.
//! * [`partition_reader`]: reads a partition to its true end.
//! * [`topics`]: looks at the three topics at the start; [`guards`] judges them.
//!
//! * [`plain_producer`] and [`topic_reader`] are for the commands of people, [`access`] is what can go wrong there;
//!   [`embedded`] is the try-out's cluster.
//!
//! Architecture invariant: no actix here, and no rdkafka type in a port's signature.

pub mod admin;
pub mod client;
pub mod consumer;
pub mod embedded;
pub mod plain_producer;
pub mod reader;
pub mod transactions;
