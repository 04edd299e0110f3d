//! Owns the one table from the client library's error codes to classes, [`class_of`], and the decision about a failed
//! call of a transactional producer, [`classify`].
//!
//! Every caller maps the class to its own action: the poll thread, the readers, the preflight checks, the plain
//! producer. For transactional calls the action is a [`KafkaFailure`]; its variants are actions, not descriptions. The
//! code decides before the library's own flags, because the library flags some codes too mildly (PRODUCER_FENCED is
//! "abortable" while offsets are added) and others too harshly (INVALID_TXN_STATE is "fatal", and yet a new producer
//! succeeds).
//!
//! Architecture invariant: no other file of the crate maps a set of codes. `kafka_errors::every_code_has_its_class`
//! holds the table. Architecture invariant: there is no `From<KafkaError>`; a `?` would skip the decision.

use std::fmt;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

// ------------------------------------------------------------------------------------------------------------- classes

/// The meaning of an error code. Codes share a class if every caller treats them alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// A newer producer exists, or the coordinator has raised the epoch of a producer that it timed out.
    Fenced,
    /// The producer's identity, or the client's state of the transaction, is lost. A new producer has a new one.
    ProducerStateLost,
    /// The call does not fit the client's state.
    WrongState,
    /// A record of the transaction was not delivered.
    Inconsistent,
    /// The client dropped the record because the transaction failed. The cause is elsewhere.
    Purged,
    QueueFull,
    /// The client has failed permanently. `fatal_error` has the cause.
    ClientFailed,

    /// The group has moved past this member's generation. With the metadata of the next generation, and epochs that are
    /// still current, the content passes.
    GroupMovedOn,
    /// Another consumer has this static membership.
    InstanceFenced,
    GroupRefused(GroupRefusal),

    /// An ACL is missing.
    Forbidden(Resource),
    /// The broker refuses the credentials.
    LoginRefused,
    MechanismUnsupported,
    /// The client could not log in; a new token may change that.
    LoginFailed,

    RecordTooLarge,
    BatchTooLarge,
    InvalidSize,
    /// The broker never takes this record.
    InvalidRecord,
    /// The record's timestamp is too far from the broker's clock.
    TimestampRefused,
    /// A policy or a limit of the broker refuses the content.
    PolicyViolated,
    /// A checksum failed: on the way to the broker, or on its disk.
    CorruptRecord,

    UnknownTopic,
    UnknownPartition,
    InvalidTopic,
    TopicExists,

    OffsetOutOfRange,
    EndOfPartition,
    LogTruncated,

    /// No connection to a broker.
    Unreachable,
    /// The client's summary of several connection failures.
    AllBrokersDown,
    TimedOut,
    DeliveryTimedOut,
    NoLeader,
    LeaderMoved,
    CoordinatorAway,
    /// The broker is loading, short of replicas, or throttling.
    BrokerBusy,

    /// Any other code, and an error without a code.
    Other,
}

/// What an ACL is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    Topic,
    Group,
    Cluster,
    TransactionalId,
}

/// Why a group does not take this member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupRefusal {
    Protocol,
    SessionTimeout,
    Name,
    Size,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "librdkafka's list of codes is open")]
pub fn class_of(code: Code) -> ErrorClass {
    match code {
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::TransactionCoordinatorFenced => {
            ErrorClass::Fenced
        }
        Code::InvalidTransactionalState
        | Code::InvalidProducerIdMapping
        | Code::UnknownProducerId
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::GaplessGuarantee
        | Code::Conflict
        | Code::InProgress
        | Code::PreviousInProgress
        | Code::Outdated => ErrorClass::ProducerStateLost,
        Code::State => ErrorClass::WrongState,
        Code::Inconsistent => ErrorClass::Inconsistent,
        Code::PurgeQueue | Code::PurgeInflight => ErrorClass::Purged,
        Code::QueueFull => ErrorClass::QueueFull,
        Code::Fatal => ErrorClass::ClientFailed,

        Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::RebalanceInProgress
        | Code::StaleMemberEpoch
        | Code::FencedMemberEpoch
        | Code::UnreleasedInstanceId => ErrorClass::GroupMovedOn,
        Code::FencedInstanceId => ErrorClass::InstanceFenced,
        Code::InconsistentGroupProtocol => ErrorClass::GroupRefused(GroupRefusal::Protocol),
        Code::InvalidSessionTimeout => ErrorClass::GroupRefused(GroupRefusal::SessionTimeout),
        Code::InvalidGroupId => ErrorClass::GroupRefused(GroupRefusal::Name),
        Code::GroupMaxSizeReached => ErrorClass::GroupRefused(GroupRefusal::Size),

        Code::TopicAuthorizationFailed => ErrorClass::Forbidden(Resource::Topic),
        Code::GroupAuthorizationFailed => ErrorClass::Forbidden(Resource::Group),
        Code::ClusterAuthorizationFailed => ErrorClass::Forbidden(Resource::Cluster),
        Code::TransactionalIdAuthorizationFailed => ErrorClass::Forbidden(Resource::TransactionalId),
        Code::SaslAuthenticationFailed => ErrorClass::LoginRefused,
        Code::UnsupportedSASLMechanism => ErrorClass::MechanismUnsupported,
        Code::Authentication => ErrorClass::LoginFailed,

        Code::MessageSizeTooLarge => ErrorClass::RecordTooLarge,
        Code::MessageBatchTooLarge => ErrorClass::BatchTooLarge,
        Code::InvalidMessageSize => ErrorClass::InvalidSize,
        Code::InvalidRecord => ErrorClass::InvalidRecord,
        Code::InvalidTimestamp => ErrorClass::TimestampRefused,
        Code::PolicyViolation | Code::InvalidConfig | Code::OffsetMetadataTooLarge => ErrorClass::PolicyViolated,
        Code::InvalidMessage => ErrorClass::CorruptRecord,

        Code::UnknownTopicOrPartition | Code::UnknownTopic => ErrorClass::UnknownTopic,
        Code::UnknownPartition => ErrorClass::UnknownPartition,
        Code::InvalidTopic => ErrorClass::InvalidTopic,
        Code::TopicAlreadyExists => ErrorClass::TopicExists,

        Code::OffsetOutOfRange | Code::AutoOffsetReset => ErrorClass::OffsetOutOfRange,
        Code::PartitionEOF => ErrorClass::EndOfPartition,
        Code::LogTruncation => ErrorClass::LogTruncated,

        Code::BrokerTransportFailure | Code::Resolve | Code::NetworkException => ErrorClass::Unreachable,
        Code::AllBrokersDown => ErrorClass::AllBrokersDown,
        Code::OperationTimedOut | Code::RequestTimedOut | Code::TimedOutQueue => ErrorClass::TimedOut,
        Code::MessageTimedOut => ErrorClass::DeliveryTimedOut,
        Code::LeaderNotAvailable => ErrorClass::NoLeader,
        Code::NotLeaderForPartition
        | Code::ReplicaNotAvailable
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch => ErrorClass::LeaderMoved,
        Code::NotCoordinator
        | Code::CoordinatorNotAvailable
        | Code::CoordinatorLoadInProgress
        | Code::WaitingForCoordinator => ErrorClass::CoordinatorAway,
        Code::UnknownBroker
        | Code::ConcurrentTransactions
        | Code::BrokerNotAvailable
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::KafkaStorageError
        | Code::ISRInsufficient
        | Code::ThrottlingQuotaExceeded
        | Code::RebootstrapRequired => ErrorClass::BrokerBusy,

        _ => ErrorClass::Other,
    }
}

impl ErrorClass {
    pub fn of(error: &KafkaError) -> ErrorClass {
        // The library does not return the code of a failed admin request, although its error has one.
        if let KafkaError::AdminOp(code) = error {
            return class_of(*code);
        }
        error.rdkafka_error_code().map_or(ErrorClass::Other, class_of)
    }

    /// Returns whether the broker refuses this user, and would refuse it again.
    pub fn is_access_refusal(self) -> bool {
        matches!(self, ErrorClass::Forbidden(_) | ErrorClass::LoginRefused)
    }

    /// Returns whether no broker answers at present.
    pub fn is_unreachable(self) -> bool {
        matches!(self, ErrorClass::Unreachable | ErrorClass::AllBrokersDown | ErrorClass::TimedOut)
    }

    fn is_timeout(self) -> bool {
        matches!(self, ErrorClass::TimedOut | ErrorClass::DeliveryTimedOut)
    }

    /// Returns whether brokers are away, moving or loading, or did not answer in time.
    fn is_passing(self) -> bool {
        self.is_timeout()
            || matches!(
                self,
                ErrorClass::Unreachable
                    | ErrorClass::AllBrokersDown
                    | ErrorClass::NoLeader
                    | ErrorClass::LeaderMoved
                    | ErrorClass::CoordinatorAway
                    | ErrorClass::BrokerBusy
                    | ErrorClass::CorruptRecord
            )
    }

    fn is_state_in_doubt(self) -> bool {
        matches!(self, ErrorClass::ProducerStateLost | ErrorClass::WrongState)
    }

    fn broker_refusal(self) -> Option<BrokerRefusal> {
        let is_too_large =
            matches!(self, ErrorClass::RecordTooLarge | ErrorClass::BatchTooLarge | ErrorClass::InvalidSize);
        let is_invalid = matches!(
            self,
            ErrorClass::InvalidRecord
                | ErrorClass::PolicyViolated
                | ErrorClass::UnknownTopic
                | ErrorClass::UnknownPartition
                | ErrorClass::InvalidTopic
        );
        if matches!(self, ErrorClass::Forbidden(_)) {
            Some(BrokerRefusal::Permission)
        } else if self == ErrorClass::TimestampRefused {
            Some(BrokerRefusal::Clock)
        } else if is_too_large {
            Some(BrokerRefusal::TooLarge)
        } else {
            is_invalid.then_some(BrokerRefusal::Invalid)
        }
    }
}

// ------------------------------------------------------------------------------------------------- transactional calls

/// The transactional call that failed. One code can need different actions after different calls.
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
    Commit,
    Abort,
}

impl ClientCall {
    /// In the order of a transaction's life.
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
    /// It is unknown whether the transaction took effect, or what state the client is in. Build a new producer, then
    /// fetch the committed offsets.
    InDoubt(Cause),
    /// Content or permission is at fault. The same content would be refused again.
    Refused(BrokerRefusal, Cause),
    /// The process cannot go on.
    Fatal(Cause),
}

impl KafkaFailure {
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

    /// Returns the rank. Of several failures at once, the one with the highest rank decides.
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

/// Why the broker refuses the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerRefusal {
    /// A record exceeds the topic's `max.message.bytes`.
    TooLarge,
    /// The broker finds the record invalid, or the record has no partition to go to.
    Invalid,
    /// An ACL is missing.
    Permission,
    /// The clocks of this machine and of the broker differ by more than the topic allows.
    Clock,
}

/// The client's description of an error, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub code: Option<Code>,
    pub text: String,
    pub timed_out: bool,
}

impl Cause {
    /// Returns a cause that steward itself found.
    pub fn of_ours(text: impl Into<String>) -> Cause {
        Cause { code: None, text: text.into(), timed_out: false }
    }

    /// Returns the cause for a limit of steward that was exceeded.
    pub fn timeout(text: impl Into<String>) -> Cause {
        Cause { code: None, text: text.into(), timed_out: true }
    }

    /// Returns whether the group has moved past this member's generation, or does not know the member.
    pub fn is_stale_generation(&self) -> bool {
        self.code.is_some_and(|code| is_stale_generation(class_of(code)))
    }
}

fn is_stale_generation(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::GroupMovedOn | ErrorClass::InstanceFenced)
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} ({code:?})", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// The library's own flag of an error. Only transactional calls carry one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LibraryFlag {
    /// The client is of no use any more.
    Fatal,
    /// The transaction has to be aborted.
    RequiresAbort,
    /// The call may be repeated.
    Retriable,
    None,
}

impl LibraryFlag {
    fn of(error: &rdkafka::error::RDKafkaError) -> LibraryFlag {
        if error.is_fatal() {
            LibraryFlag::Fatal
        } else if error.txn_requires_abort() {
            LibraryFlag::RequiresAbort
        } else if error.is_retriable() {
            LibraryFlag::Retriable
        } else {
            LibraryFlag::None
        }
    }
}

pub fn classify(error: &KafkaError, call: ClientCall) -> KafkaFailure {
    let code = error.rdkafka_error_code();
    let flag = if let KafkaError::Transaction(error) = error { LibraryFlag::of(error) } else { LibraryFlag::None };
    let timed_out = ErrorClass::of(error).is_timeout();
    decide(code, flag, call, Cause { code, text: error.to_string(), timed_out })
}

/// Returns what to do about a producer that has failed permanently with `code`. The library then answers every call with
/// a code that hides it.
pub fn classify_fatal(code: Code, text: String, call: ClientCall) -> KafkaFailure {
    decide(Some(code), LibraryFlag::Fatal, call, Cause { code: Some(code), text, timed_out: false })
}

/// Returns the table behind [`classify`]. It is a function of its own because the library's error values cannot be
/// built outside of the library.
pub fn decide(code: Option<Code>, flag: LibraryFlag, call: ClientCall, cause: Cause) -> KafkaFailure {
    let class = code.map_or(ErrorClass::Other, class_of);
    if class == ErrorClass::Fenced {
        return KafkaFailure::Fenced(cause);
    }
    match call {
        ClientCall::Init => init_failure(class, flag, cause),
        ClientCall::Begin => begin_failure(class, flag, cause),
        ClientCall::Produce | ClientCall::Delivery => record_failure(class, flag, cause),
        ClientCall::SendOffsets => offsets_failure(class, flag, cause),
        ClientCall::Commit => commit_failure(class, flag, cause),
        // Whatever the abort's error is: only a new producer is certain to be rid of the transaction. If even a new
        // producer fails, its registration shows that.
        ClientCall::Abort => KafkaFailure::InDoubt(cause),
    }
}

fn init_failure(class: ErrorClass, flag: LibraryFlag, cause: Cause) -> KafkaFailure {
    if matches!(class, ErrorClass::Forbidden(_)) {
        KafkaFailure::Refused(BrokerRefusal::Permission, cause)
    } else if class.is_passing() || class.is_state_in_doubt() || flag == LibraryFlag::Retriable {
        KafkaFailure::Retry(cause)
    } else {
        KafkaFailure::Fatal(cause)
    }
}

fn begin_failure(class: ErrorClass, flag: LibraryFlag, cause: Cause) -> KafkaFailure {
    if class.is_passing() || class.is_state_in_doubt() || flag == LibraryFlag::Retriable {
        // Nothing of the new transaction was sent, but it is unknown why a local call failed.
        KafkaFailure::InDoubt(cause)
    } else if flag == LibraryFlag::RequiresAbort {
        KafkaFailure::AbortAndResend(cause)
    } else {
        KafkaFailure::Fatal(cause)
    }
}

fn record_failure(class: ErrorClass, flag: LibraryFlag, cause: Cause) -> KafkaFailure {
    if let Some(refusal) = class.broker_refusal() {
        return KafkaFailure::Refused(refusal, cause);
    }
    if class == ErrorClass::QueueFull {
        KafkaFailure::Retry(cause)
    } else if class == ErrorClass::WrongState {
        // The client refuses records once a delivery has failed. The report of that delivery has the cause.
        KafkaFailure::AbortAndResend(cause)
    } else if class == ErrorClass::ProducerStateLost {
        KafkaFailure::InDoubt(cause)
    } else if class.is_passing() || class == ErrorClass::Purged {
        KafkaFailure::AbortAndResend(cause)
    } else if flag == LibraryFlag::Fatal || class == ErrorClass::ClientFailed {
        KafkaFailure::Fatal(cause)
    } else {
        // An unknown refusal of a record must not be repeated indefinitely.
        KafkaFailure::Refused(BrokerRefusal::Invalid, cause)
    }
}

fn offsets_failure(class: ErrorClass, flag: LibraryFlag, cause: Cause) -> KafkaFailure {
    if class.is_passing() || class.is_state_in_doubt() || flag == LibraryFlag::Retriable {
        KafkaFailure::InDoubt(cause)
    } else if is_stale_generation(class) {
        KafkaFailure::AbortAndResend(cause)
    } else if let Some(refusal) = class.broker_refusal() {
        KafkaFailure::Refused(refusal, cause)
    } else if flag == LibraryFlag::RequiresAbort {
        KafkaFailure::AbortAndResend(cause)
    } else {
        KafkaFailure::Fatal(cause)
    }
}

fn commit_failure(class: ErrorClass, flag: LibraryFlag, cause: Cause) -> KafkaFailure {
    if class == ErrorClass::Inconsistent && flag == LibraryFlag::RequiresAbort {
        // The client reports it before it sends anything: a record was not delivered.
        KafkaFailure::AbortAndResend(cause)
    } else if matches!(class, ErrorClass::Forbidden(_)) {
        KafkaFailure::Refused(BrokerRefusal::Permission, cause)
    } else if class.is_passing() || class.is_state_in_doubt() {
        KafkaFailure::InDoubt(cause)
    } else if matches!(flag, LibraryFlag::RequiresAbort | LibraryFlag::Retriable) {
        // The library may demand an abort of a transaction whose commit has already been sent.
        KafkaFailure::InDoubt(cause)
    } else {
        KafkaFailure::Fatal(cause)
    }
}
