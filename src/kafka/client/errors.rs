//! Owns the decision what to do about an error of the client library: [`classify`].
//!
//! The variants of [`KafkaFailure`] are actions, not descriptions. The table test below holds every code we know.
//! Codes are looked at before the library's flags, because the library flags some of them too mildly (PRODUCER_FENCED
//! while offsets are added is "abortable") and others too harshly (INVALID_TXN_STATE is "fatal", and yet a new
//! producer goes on).
//!
//! Architecture invariant: there is no `From<KafkaError>`; a `?` would skip the decision.

use std::fmt;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What was being done when the error came: the same code can ask for something else elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCall {
    /// A new producer registers its transactional id.
    Init,
    /// A transaction is opened, which is local.
    Begin,
    /// A record is put into the client's queue, which is local.
    Produce,
    /// A record's delivery report.
    Delivery,
    /// The input offsets are added to the transaction.
    SendOffsets,
    /// The transaction is committed.
    Commit,
    /// The transaction is aborted.
    Abort,
}

impl ClientCall {
    /// Every step, in the order of a transaction's life.
    pub const ALL: [ClientCall; 7] = [
        ClientCall::Init,
        ClientCall::Begin,
        ClientCall::Produce,
        ClientCall::Delivery,
        ClientCall::SendOffsets,
        ClientCall::Commit,
        ClientCall::Abort,
    ];
}

/// What to do about a failure of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KafkaFailure {
    /// Nothing happened; the same call may be made again.
    Retry(Cause),
    /// The transaction has no effect once it is aborted; then the same content may be sent in a new one.
    AbortAndResend(Cause),
    /// The broker knows a newer producer of this transactional id, or has timed this one out.
    Fenced(Cause),
    /// Nobody knows whether it took effect, or the client's state is in doubt: build a new producer, and ask.
    InDoubt(Cause),
    /// Content or permission is at fault: sending it again as it is leads to the same refusal.
    Refused(BrokerRefusal, Cause),
    /// The process cannot go on.
    Fatal(Cause),
}

impl KafkaFailure {
    /// What the client said.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        match self {
            KafkaFailure::Retry(cause)
            | KafkaFailure::AbortAndResend(cause)
            | KafkaFailure::Fenced(cause)
            | KafkaFailure::InDoubt(cause)
            | KafkaFailure::Refused(_, cause)
            | KafkaFailure::Fatal(cause) => cause,
        }
    }

    /// Of several failures at once, that with the highest number decides what follows.
    #[must_use]
    pub fn gravity(&self) -> u8 {
        match self {
            KafkaFailure::Fenced(_) => 5,
            KafkaFailure::Fatal(_) => 4,
            KafkaFailure::InDoubt(_) => 3,
            KafkaFailure::Refused(..) => 2,
            KafkaFailure::AbortAndResend(_) => 1,
            KafkaFailure::Retry(_) => 0,
        }
    }
}

/// What the broker holds against the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerRefusal {
    /// A record exceeds the topic's `max.message.bytes`.
    TooLarge,
    /// A record that the broker finds invalid, or that has no partition to go to.
    Invalid,
    /// An ACL is missing.
    Permission,
}

/// What the client said, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The code, where there is one.
    pub code: Option<Code>,
    /// The client's own words.
    pub text: String,
    /// Whether time ran out.
    pub timed_out: bool,
}

impl Cause {
    /// A cause that steward itself found.
    #[must_use]
    pub fn of_ours(text: impl Into<String>) -> Cause {
        Cause { code: None, text: text.into(), timed_out: false }
    }

    /// A limit of steward's that passed.
    #[must_use]
    pub fn timeout(text: impl Into<String>) -> Cause {
        Cause { code: None, text: text.into(), timed_out: true }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} ({code:?})", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// How grave the client library finds an error; only transactional calls carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The client is of no use any more.
    Fatal,
    /// The transaction has to be aborted.
    RequiresAbort,
    /// The call may be repeated.
    Retriable,
    /// The library does not say.
    Unmarked,
}

/// A newer producer exists, or the coordinator has bumped the epoch of one that it timed out.
const FENCED: &[Code] =
    &[Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch, Code::TransactionCoordinatorFenced];

/// An ACL is missing.
const FORBIDDEN: &[Code] = &[
    Code::TopicAuthorizationFailed,
    Code::GroupAuthorizationFailed,
    Code::ClusterAuthorizationFailed,
    Code::TransactionalIdAuthorizationFailed,
];

/// A record, or a batch with one record in it, exceeds a limit of the topic.
const TOO_LARGE: &[Code] = &[Code::MessageSizeTooLarge, Code::MessageBatchTooLarge, Code::InvalidMessageSize];

/// The broker will not take this record, or this metadata, however often it is sent.
const INVALID: &[Code] = &[
    Code::InvalidRecord,
    Code::InvalidTimestamp,
    Code::PolicyViolation,
    Code::OffsetMetadataTooLarge,
    Code::InvalidTopic,
    Code::UnknownTopic,
    Code::UnknownPartition,
    Code::UnknownTopicOrPartition,
];

/// The producer's identity or the client's idea of the transaction is gone; a new producer has a new one.
const STATE_IN_DOUBT: &[Code] = &[
    Code::InvalidTransactionalState,
    Code::InvalidProducerIdMapping,
    Code::UnknownProducerId,
    Code::OutOfOrderSequenceNumber,
    Code::DuplicateSequenceNumber,
    Code::GaplessGuarantee,
    Code::State,
    Code::Conflict,
    Code::InProgress,
    Code::PreviousInProgress,
    Code::Outdated,
];

/// The group has moved on: with the next generation's metadata, and epochs that are still current, the content passes.
const GROUP_MOVED_ON: &[Code] = &[
    Code::IllegalGeneration,
    Code::UnknownMemberId,
    Code::FencedInstanceId,
    Code::RebalanceInProgress,
    Code::StaleMemberEpoch,
    Code::FencedMemberEpoch,
    Code::UnreleasedInstanceId,
];

/// Whether `cause` says that the group has another generation than this member, or does not know it.
#[must_use]
pub fn group_moved_on(cause: &Cause) -> bool {
    cause.code.is_some_and(|code| GROUP_MOVED_ON.contains(&code))
}

/// No answer in time.
const TIMED_OUT: &[Code] =
    &[Code::OperationTimedOut, Code::TimedOutQueue, Code::MessageTimedOut, Code::RequestTimedOut];

/// Records that the client dropped because the transaction failed; the cause is elsewhere.
const PURGED: &[Code] = &[Code::PurgeQueue, Code::PurgeInflight];

/// Brokers that are away, moving or loading.
const TRANSIENT: &[Code] = &[
    Code::BrokerTransportFailure,
    Code::AllBrokersDown,
    Code::Resolve,
    Code::WaitingForCoordinator,
    Code::UnknownBroker,
    Code::NetworkException,
    Code::CoordinatorLoadInProgress,
    Code::CoordinatorNotAvailable,
    Code::NotCoordinator,
    Code::ConcurrentTransactions,
    Code::LeaderNotAvailable,
    Code::NotLeaderForPartition,
    Code::BrokerNotAvailable,
    Code::ReplicaNotAvailable,
    Code::NotEnoughReplicas,
    Code::NotEnoughReplicasAfterAppend,
    Code::KafkaStorageError,
    Code::ISRInsufficient,
    Code::InvalidMessage,
    Code::FencedLeaderEpoch,
    Code::UnknownLeaderEpoch,
    Code::ThrottlingQuotaExceeded,
    Code::RebootstrapRequired,
];

/// Says what to do about `error`, which came while `step` was done.
#[must_use]
pub fn classify(error: &KafkaError, step: ClientCall) -> KafkaFailure {
    let (code, gravity) = if let KafkaError::Transaction(told) = error {
        (Some(told.code()), gravity_of(told))
    } else {
        (error.rdkafka_error_code(), ErrorClass::Unmarked)
    };
    let timed_out = code.is_some_and(|code| TIMED_OUT.contains(&code));
    decide(code, gravity, step, Cause { code, text: error.to_string(), timed_out })
}

/// Says what to do about a producer that has failed for good with `code`: the library then answers every call with
/// a code that hides it.
#[must_use]
pub fn classify_fatal(code: Code, text: String, step: ClientCall) -> KafkaFailure {
    decide(Some(code), ErrorClass::Fatal, step, Cause { code: Some(code), text, timed_out: false })
}

fn gravity_of(error: &rdkafka::error::RDKafkaError) -> ErrorClass {
    if error.is_fatal() {
        ErrorClass::Fatal
    } else if error.txn_requires_abort() {
        ErrorClass::RequiresAbort
    } else if error.is_retriable() {
        ErrorClass::Retriable
    } else {
        ErrorClass::Unmarked
    }
}

/// The table behind [`classify`], apart from it because the library's own error values cannot be built outside of it.
#[must_use]
pub fn decide(code: Option<Code>, gravity: ErrorClass, step: ClientCall, cause: Cause) -> KafkaFailure {
    let is = |family: &[Code]| code.is_some_and(|code| family.contains(&code));
    if is(FENCED) {
        return KafkaFailure::Fenced(cause);
    }
    match step {
        ClientCall::Init => {
            if is(FORBIDDEN) {
                KafkaFailure::Refused(BrokerRefusal::Permission, cause)
            } else if is(TIMED_OUT) || is(TRANSIENT) || is(STATE_IN_DOUBT) || gravity == ErrorClass::Retriable {
                KafkaFailure::Retry(cause)
            } else {
                KafkaFailure::Fatal(cause)
            }
        }
        ClientCall::Begin => {
            if is(STATE_IN_DOUBT) || is(TIMED_OUT) || is(TRANSIENT) || gravity == ErrorClass::Retriable {
                // Nothing of the new transaction went out, but why a local call should fail is not known.
                KafkaFailure::InDoubt(cause)
            } else if gravity == ErrorClass::RequiresAbort {
                KafkaFailure::AbortAndResend(cause)
            } else {
                KafkaFailure::Fatal(cause)
            }
        }
        ClientCall::Produce | ClientCall::Delivery => {
            if is(&[Code::QueueFull]) {
                KafkaFailure::Retry(cause)
            } else if is(&[Code::State]) {
                // The client refuses records once a delivery has failed; that delivery's report tells the cause.
                KafkaFailure::AbortAndResend(cause)
            } else {
                content_refusal(code, cause).unwrap_or_else(|cause| {
                    if is(STATE_IN_DOUBT) {
                        KafkaFailure::InDoubt(cause)
                    } else if is(TIMED_OUT) || is(TRANSIENT) || is(PURGED) {
                        KafkaFailure::AbortAndResend(cause)
                    } else if gravity == ErrorClass::Fatal || is(&[Code::Fatal]) {
                        KafkaFailure::Fatal(cause)
                    } else {
                        // An unknown refusal of a record must not be repeated indefinitely.
                        KafkaFailure::Refused(BrokerRefusal::Invalid, cause)
                    }
                })
            }
        }
        ClientCall::SendOffsets => {
            if is(TIMED_OUT) || is(TRANSIENT) || is(STATE_IN_DOUBT) || gravity == ErrorClass::Retriable {
                KafkaFailure::InDoubt(cause)
            } else if is(GROUP_MOVED_ON) {
                KafkaFailure::AbortAndResend(cause)
            } else {
                content_refusal(code, cause).unwrap_or_else(|cause| match gravity {
                    ErrorClass::RequiresAbort => KafkaFailure::AbortAndResend(cause),
                    ErrorClass::Fatal | ErrorClass::Unmarked => KafkaFailure::Fatal(cause),
                    ErrorClass::Retriable => KafkaFailure::InDoubt(cause),
                })
            }
        }
        ClientCall::Commit => {
            if is(&[Code::Inconsistent]) && gravity == ErrorClass::RequiresAbort {
                // Said before anything is sent: a record was not delivered.
                KafkaFailure::AbortAndResend(cause)
            } else if is(FORBIDDEN) {
                KafkaFailure::Refused(BrokerRefusal::Permission, cause)
            } else if is(TIMED_OUT) || is(TRANSIENT) || is(STATE_IN_DOUBT) {
                KafkaFailure::InDoubt(cause)
            } else {
                match gravity {
                    // The library may say "abort" of a transaction whose commit has already gone out.
                    ErrorClass::RequiresAbort | ErrorClass::Retriable => KafkaFailure::InDoubt(cause),
                    ErrorClass::Fatal | ErrorClass::Unmarked => KafkaFailure::Fatal(cause),
                }
            }
        }
        // Whatever an abort says: only a new producer is sure to be rid of the transaction. What even that one cannot
        // cure shows when it registers.
        ClientCall::Abort => KafkaFailure::InDoubt(cause),
    }
}

/// A refusal by content or permission, or the cause back.
fn content_refusal(code: Option<Code>, cause: Cause) -> Result<KafkaFailure, Cause> {
    let Some(code) = code else { return Err(cause) };
    if TOO_LARGE.contains(&code) {
        Ok(KafkaFailure::Refused(BrokerRefusal::TooLarge, cause))
    } else if INVALID.contains(&code) {
        Ok(KafkaFailure::Refused(BrokerRefusal::Invalid, cause))
    } else if FORBIDDEN.contains(&code) {
        Ok(KafkaFailure::Refused(BrokerRefusal::Permission, cause))
    } else {
        Err(cause)
    }
}
