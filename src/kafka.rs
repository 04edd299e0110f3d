//! All use of rdkafka: the implementations of the ports, and the clients of the commands.
//!
//! * [`client`]: settings by role, contexts, OAUTHBEARER tokens, the table of error classes, and all unsafe code.
//! * [`consumer`]: the member of the group, behind the port `InputConsumer`.
//! * [`transactions`]: the transactional producer, behind the port `Transactions`.
//! * [`reader`]: reads partitions to their high watermark, for recovery and for commands.
//! * [`admin`]: preflight checks of the topics, creation of missing topics, access for commands.
//! * [`plain_producer`] is for `steward produce`, [`embedded`] for `steward demo`.
//!
//! Every client lives as long as its owner, and closes when that is dropped. A failure becomes an action of its caller
//! ([`client::errors`]); no `KafkaError` leaves this module.
//!
//! Architecture invariant: no actix here, and no rdkafka type in a port's signature.

pub mod admin;
pub mod client;
pub mod consumer;
pub mod embedded;
pub mod plain_producer;
pub mod reader;
pub mod transactions;
