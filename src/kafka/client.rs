//! What all Kafka clients share.
//!
//! * [`settings`]: one function per role, and the only place of librdkafka's property names.
//! * [`errors`]: the one table from error codes to classes, and the decision about failed transactional calls.
//! * [`context`]: reports errors, log lines and statistics of a client as [`context::ClientEvents`].
//! * [`forwarded_queue`]: takes records in bulk.
//! * `ffi`: unsafe code; `admin_request`, `describe_topics` and `describe_group` are the rest of it.
//! * `oauth`: reads the OAUTHBEARER token from its file.
//!
//! Absent on purpose: clients. Their owners build them from the settings and a context.

mod admin_request;
pub mod context;
pub(crate) mod describe_group;
pub(crate) mod describe_topics;
pub mod errors;
pub(crate) mod ffi;
pub mod forwarded_queue;
pub(crate) mod oauth;
pub mod settings;
pub mod unsubscribed;
