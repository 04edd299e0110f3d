//! What every client of Kafka shares: settings by role, contexts, the OAUTHBEARER token, error classes, and the calls
//! into librdkafka that the rdkafka crate does not wrap.

pub mod batch_queue;
pub mod context;
pub mod errors;
pub(crate) mod ffi;
pub(crate) mod oauth;
pub mod settings;
pub mod unsubscribed;
