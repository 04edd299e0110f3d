//! The class of each error code of the client library, and the action after a failed transactional call.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use steward::kafka::client::errors::{
    BrokerRefusal, Cause, ClientCall, ErrorClass, GroupRefusal, KafkaFailure, LibraryFlag, Resource, class_of,
    classify, decide,
};

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Retry,
    AbortAndResend,
    Fenced,
    InDoubt,
    TooLarge,
    Invalid,
    Permission,
    Clock,
    Fatal,
}

fn action(code: Code, flag: LibraryFlag, call: ClientCall) -> Action {
    match decide(Some(code), flag, call, Cause::of_ours("")) {
        KafkaFailure::Retry(_) => Action::Retry,
        KafkaFailure::AbortAndResend(_) => Action::AbortAndResend,
        KafkaFailure::Fenced(_) => Action::Fenced,
        KafkaFailure::InDoubt(_) => Action::InDoubt,
        KafkaFailure::Refused(BrokerRefusal::TooLarge, _) => Action::TooLarge,
        KafkaFailure::Refused(BrokerRefusal::Invalid, _) => Action::Invalid,
        KafkaFailure::Refused(BrokerRefusal::Permission, _) => Action::Permission,
        KafkaFailure::Refused(BrokerRefusal::Clock, _) => Action::Clock,
        KafkaFailure::Fatal(_) => Action::Fatal,
    }
}

/// The codes of each class. All other codes of the library are `Other`.
const CLASSES: &[(ErrorClass, &[Code])] = &[
    (
        ErrorClass::Fenced,
        &[Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch, Code::TransactionCoordinatorFenced],
    ),
    (
        ErrorClass::ProducerStateLost,
        &[
            Code::InvalidTransactionalState,
            Code::InvalidProducerIdMapping,
            Code::UnknownProducerId,
            Code::OutOfOrderSequenceNumber,
            Code::DuplicateSequenceNumber,
            Code::GaplessGuarantee,
            Code::Conflict,
            Code::InProgress,
            Code::PreviousInProgress,
            Code::Outdated,
        ],
    ),
    (ErrorClass::WrongState, &[Code::State]),
    (ErrorClass::Inconsistent, &[Code::Inconsistent]),
    (ErrorClass::Purged, &[Code::PurgeQueue, Code::PurgeInflight]),
    (ErrorClass::QueueFull, &[Code::QueueFull]),
    (ErrorClass::ClientFailed, &[Code::Fatal]),
    (
        ErrorClass::GroupMovedOn,
        &[
            Code::IllegalGeneration,
            Code::UnknownMemberId,
            Code::RebalanceInProgress,
            Code::StaleMemberEpoch,
            Code::FencedMemberEpoch,
            Code::UnreleasedInstanceId,
        ],
    ),
    (ErrorClass::InstanceFenced, &[Code::FencedInstanceId]),
    (ErrorClass::GroupRefused(GroupRefusal::Protocol), &[Code::InconsistentGroupProtocol]),
    (ErrorClass::GroupRefused(GroupRefusal::SessionTimeout), &[Code::InvalidSessionTimeout]),
    (ErrorClass::GroupRefused(GroupRefusal::Name), &[Code::InvalidGroupId]),
    (ErrorClass::GroupRefused(GroupRefusal::Size), &[Code::GroupMaxSizeReached]),
    (ErrorClass::Forbidden(Resource::Topic), &[Code::TopicAuthorizationFailed]),
    (ErrorClass::Forbidden(Resource::Group), &[Code::GroupAuthorizationFailed]),
    (ErrorClass::Forbidden(Resource::Cluster), &[Code::ClusterAuthorizationFailed]),
    (ErrorClass::Forbidden(Resource::TransactionalId), &[Code::TransactionalIdAuthorizationFailed]),
    (ErrorClass::LoginRefused, &[Code::SaslAuthenticationFailed]),
    (ErrorClass::MechanismUnsupported, &[Code::UnsupportedSASLMechanism]),
    (ErrorClass::LoginFailed, &[Code::Authentication]),
    (ErrorClass::RecordTooLarge, &[Code::MessageSizeTooLarge]),
    (ErrorClass::BatchTooLarge, &[Code::MessageBatchTooLarge]),
    (ErrorClass::InvalidSize, &[Code::InvalidMessageSize]),
    (ErrorClass::InvalidRecord, &[Code::InvalidRecord]),
    (ErrorClass::TimestampRefused, &[Code::InvalidTimestamp]),
    (ErrorClass::PolicyViolated, &[Code::PolicyViolation, Code::InvalidConfig, Code::OffsetMetadataTooLarge]),
    (ErrorClass::CorruptRecord, &[Code::InvalidMessage]),
    (ErrorClass::UnknownTopic, &[Code::UnknownTopicOrPartition, Code::UnknownTopic]),
    (ErrorClass::UnknownPartition, &[Code::UnknownPartition]),
    (ErrorClass::InvalidTopic, &[Code::InvalidTopic]),
    (ErrorClass::TopicExists, &[Code::TopicAlreadyExists]),
    (ErrorClass::OffsetOutOfRange, &[Code::OffsetOutOfRange, Code::AutoOffsetReset]),
    (ErrorClass::EndOfPartition, &[Code::PartitionEOF]),
    (ErrorClass::LogTruncated, &[Code::LogTruncation]),
    (ErrorClass::Unreachable, &[Code::BrokerTransportFailure, Code::Resolve, Code::NetworkException]),
    (ErrorClass::AllBrokersDown, &[Code::AllBrokersDown]),
    (ErrorClass::TimedOut, &[Code::OperationTimedOut, Code::RequestTimedOut, Code::TimedOutQueue]),
    (ErrorClass::DeliveryTimedOut, &[Code::MessageTimedOut]),
    (ErrorClass::NoLeader, &[Code::LeaderNotAvailable]),
    (
        ErrorClass::LeaderMoved,
        &[Code::NotLeaderForPartition, Code::ReplicaNotAvailable, Code::FencedLeaderEpoch, Code::UnknownLeaderEpoch],
    ),
    (
        ErrorClass::CoordinatorAway,
        &[
            Code::NotCoordinator,
            Code::CoordinatorNotAvailable,
            Code::CoordinatorLoadInProgress,
            Code::WaitingForCoordinator,
        ],
    ),
    (
        ErrorClass::BrokerBusy,
        &[
            Code::UnknownBroker,
            Code::ConcurrentTransactions,
            Code::BrokerNotAvailable,
            Code::NotEnoughReplicas,
            Code::NotEnoughReplicasAfterAppend,
            Code::KafkaStorageError,
            Code::ISRInsufficient,
            Code::ThrottlingQuotaExceeded,
            Code::RebootstrapRequired,
        ],
    ),
];

#[apply(offline_test)]
fn every_code_has_its_class() {
    for code in (-200..=130).filter_map(known_code) {
        let listed: Vec<ErrorClass> =
            CLASSES.iter().filter(|(_, codes)| codes.contains(&code)).map(|(class, _)| *class).collect();
        assert!(listed.len() <= 1, "{code:?} is listed twice: {listed:?}");
        assert_eq!(class_of(code), listed.first().copied().unwrap_or(ErrorClass::Other), "{code:?}");
    }
}

#[apply(offline_test)]
fn a_failed_admin_request_has_the_class_of_its_code() {
    for code in (-200..=130).filter_map(known_code) {
        assert_eq!(ErrorClass::of(&KafkaError::AdminOp(code)), class_of(code), "{code:?}");
    }
    assert!(ErrorClass::of(&KafkaError::AdminOp(Code::OperationTimedOut)).is_unreachable(), "the start waits for it");
}

#[apply(offline_test)]
fn every_known_code_has_its_action() {
    use Action::*;
    use LibraryFlag::{Fatal as Lethal, None as Unmarked, RequiresAbort as Abortable, Retriable};
    let table = [
        // A newer producer, whatever the library makes of it.
        (Code::Fenced, Lethal, ClientCall::Init, Fenced),
        (Code::Fenced, Lethal, ClientCall::Begin, Fenced),
        (Code::Fenced, Lethal, ClientCall::Commit, Fenced),
        (Code::Fenced, Abortable, ClientCall::SendOffsets, Fenced),
        (Code::ProducerFenced, Abortable, ClientCall::SendOffsets, Fenced),
        (Code::InvalidProducerEpoch, Lethal, ClientCall::Commit, Fenced),
        (Code::InvalidProducerEpoch, Unmarked, ClientCall::Delivery, Fenced),
        (Code::Fenced, Lethal, ClientCall::Abort, Fenced),
        // The group has moved on.
        (Code::IllegalGeneration, Abortable, ClientCall::SendOffsets, AbortAndResend),
        (Code::UnknownMemberId, Abortable, ClientCall::SendOffsets, AbortAndResend),
        (Code::FencedInstanceId, Abortable, ClientCall::SendOffsets, AbortAndResend),
        (Code::RebalanceInProgress, Abortable, ClientCall::SendOffsets, AbortAndResend),
        (Code::StaleMemberEpoch, Abortable, ClientCall::SendOffsets, AbortAndResend),
        (Code::FencedMemberEpoch, Abortable, ClientCall::SendOffsets, AbortAndResend),
        // An abort overtook AddPartitions; idle for a week: the library calls it fatal, a new producer goes on.
        (Code::InvalidTransactionalState, Lethal, ClientCall::Begin, InDoubt),
        (Code::InvalidTransactionalState, Lethal, ClientCall::SendOffsets, InDoubt),
        (Code::InvalidTransactionalState, Lethal, ClientCall::Commit, InDoubt),
        (Code::InvalidTransactionalState, Lethal, ClientCall::Abort, InDoubt),
        (Code::InvalidProducerIdMapping, Lethal, ClientCall::SendOffsets, InDoubt),
        (Code::InvalidProducerIdMapping, Abortable, ClientCall::Commit, InDoubt),
        (Code::InvalidProducerIdMapping, Unmarked, ClientCall::Delivery, InDoubt),
        (Code::InvalidProducerIdMapping, Retriable, ClientCall::Init, Retry),
        (Code::UnknownProducerId, Unmarked, ClientCall::Delivery, InDoubt),
        (Code::OutOfOrderSequenceNumber, Unmarked, ClientCall::Delivery, InDoubt),
        // No answer.
        (Code::OperationTimedOut, Retriable, ClientCall::Init, Retry),
        (Code::OperationTimedOut, Retriable, ClientCall::SendOffsets, InDoubt),
        (Code::OperationTimedOut, Abortable, ClientCall::SendOffsets, InDoubt),
        (Code::OperationTimedOut, Retriable, ClientCall::Commit, InDoubt),
        (Code::OperationTimedOut, Retriable, ClientCall::Abort, InDoubt),
        (Code::OperationTimedOut, Unmarked, ClientCall::Commit, InDoubt),
        (Code::MessageTimedOut, Unmarked, ClientCall::Delivery, AbortAndResend),
        (Code::PurgeQueue, Unmarked, ClientCall::Delivery, AbortAndResend),
        (Code::PurgeInflight, Unmarked, ClientCall::Delivery, AbortAndResend),
        // Brokers that are away, moving or loading.
        (Code::BrokerTransportFailure, Retriable, ClientCall::Init, Retry),
        (Code::CoordinatorLoadInProgress, Retriable, ClientCall::Init, Retry),
        (Code::CoordinatorNotAvailable, Retriable, ClientCall::Init, Retry),
        (Code::ConcurrentTransactions, Retriable, ClientCall::Init, Retry),
        (Code::BrokerTransportFailure, Retriable, ClientCall::SendOffsets, InDoubt),
        (Code::NotCoordinator, Abortable, ClientCall::SendOffsets, InDoubt),
        (Code::BrokerTransportFailure, Retriable, ClientCall::Commit, InDoubt),
        (Code::NotEnoughReplicas, Unmarked, ClientCall::Delivery, AbortAndResend),
        (Code::NotEnoughReplicasAfterAppend, Unmarked, ClientCall::Delivery, AbortAndResend),
        (Code::NotLeaderForPartition, Unmarked, ClientCall::Delivery, AbortAndResend),
        (Code::KafkaStorageError, Unmarked, ClientCall::Delivery, AbortAndResend),
        // Local.
        (Code::QueueFull, Unmarked, ClientCall::Produce, Retry),
        (Code::State, Unmarked, ClientCall::Produce, AbortAndResend),
        (Code::State, Retriable, ClientCall::Commit, InDoubt),
        (Code::Inconsistent, Abortable, ClientCall::Commit, AbortAndResend),
        // Content.
        (Code::MessageSizeTooLarge, Unmarked, ClientCall::Produce, TooLarge),
        (Code::MessageSizeTooLarge, Unmarked, ClientCall::Delivery, TooLarge),
        (Code::MessageBatchTooLarge, Unmarked, ClientCall::Delivery, TooLarge),
        (Code::InvalidRecord, Unmarked, ClientCall::Delivery, Invalid),
        (Code::PolicyViolation, Unmarked, ClientCall::Delivery, Invalid),
        (Code::InvalidTimestamp, Unmarked, ClientCall::Delivery, Clock),
        (Code::UnknownTopicOrPartition, Unmarked, ClientCall::Delivery, Invalid),
        (Code::UnknownPartition, Unmarked, ClientCall::Produce, Invalid),
        (Code::OffsetMetadataTooLarge, Abortable, ClientCall::SendOffsets, Invalid),
        (Code::Unknown, Unmarked, ClientCall::Delivery, Invalid),
        // Permission.
        (Code::TopicAuthorizationFailed, Unmarked, ClientCall::Delivery, Permission),
        (Code::TopicAuthorizationFailed, Abortable, ClientCall::SendOffsets, Permission),
        (Code::GroupAuthorizationFailed, Abortable, ClientCall::SendOffsets, Permission),
        (Code::TransactionalIdAuthorizationFailed, Lethal, ClientCall::Init, Permission),
        (Code::ClusterAuthorizationFailed, Lethal, ClientCall::Init, Permission),
        (Code::TransactionalIdAuthorizationFailed, Lethal, ClientCall::Commit, Permission),
        // Beyond help.
        (Code::InvalidTransactionTimeout, Lethal, ClientCall::Init, Fatal),
        (Code::UnsupportedFeature, Lethal, ClientCall::Init, Fatal),
        (Code::UnsupportedForMessageFormat, Lethal, ClientCall::SendOffsets, Fatal),
        (Code::Unknown, Lethal, ClientCall::Commit, Fatal),
        (Code::Unknown, Abortable, ClientCall::SendOffsets, AbortAndResend),
        (Code::Unknown, Abortable, ClientCall::Commit, InDoubt),
    ];
    for (code, flag, call, expected) in table {
        assert_eq!(action(code, flag, call), expected, "{code:?}, {flag:?}, {call:?}");
    }
}

#[apply(offline_test)]
fn nothing_is_retried_once_offsets_may_have_been_sent() {
    for code in (-200..=130).filter_map(known_code) {
        for flag in [LibraryFlag::Fatal, LibraryFlag::RequiresAbort, LibraryFlag::Retriable, LibraryFlag::None] {
            for call in [ClientCall::SendOffsets, ClientCall::Commit, ClientCall::Abort] {
                assert_ne!(action(code, flag, call), Action::Retry, "{code:?}, {flag:?}, {call:?}");
            }
        }
    }
}

#[apply(offline_test)]
fn an_error_without_a_flag_is_fatal_when_a_transaction_opens() {
    assert_eq!(action(Code::NotConfigured, LibraryFlag::None, ClientCall::Begin), Action::Fatal);
}

#[apply(offline_test)]
fn an_abort_either_succeeds_or_costs_the_producer() {
    for code in (-200..=130).filter_map(known_code) {
        let action = action(code, LibraryFlag::RequiresAbort, ClientCall::Abort);
        assert!(matches!(action, Action::InDoubt | Action::Fenced), "{code:?}: {action:?}");
    }
}

#[apply(offline_test)]
fn an_error_without_a_code_is_fatal() {
    for call in [ClientCall::Init, ClientCall::Begin, ClientCall::SendOffsets, ClientCall::Commit] {
        let failure = classify(&KafkaError::Canceled, call);
        assert!(matches!(failure, KafkaFailure::Fatal(_)), "{call:?}: {failure:?}");
    }
}

#[apply(offline_test)]
fn a_timeout_is_distinguished_from_other_causes() {
    let late = classify(&KafkaError::MessageProduction(Code::MessageTimedOut), ClientCall::Delivery);
    assert!(late.cause().timed_out, "{late:?}");
    let away = classify(&KafkaError::MessageProduction(Code::NotEnoughReplicas), ClientCall::Delivery);
    assert!(!away.cause().timed_out, "{away:?}");
}

/// The code with this number, if the library has one.
fn known_code(number: i32) -> Option<Code> {
    use rdkafka::types::RDKafkaRespErr;
    assert!(ClientCall::ALL.len() == 7, "the table above knows every call");
    RDKafkaRespErr::try_from(number).ok().map(Code::from)
}
