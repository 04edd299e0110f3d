//! What is done about each error of the client library.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use steward::kafka::client::errors::{BrokerRefusal, Cause, ClientCall, ErrorClass, KafkaFailure, classify, decide};

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Retry,
    AbortAndResend,
    Fenced,
    Unanswered,
    TooLarge,
    Invalid,
    Permission,
    Fatal,
}

fn action(code: Code, gravity: ErrorClass, step: ClientCall) -> Action {
    match decide(Some(code), gravity, step, Cause::of_ours("")) {
        KafkaFailure::Retry(_) => Action::Retry,
        KafkaFailure::AbortAndResend(_) => Action::AbortAndResend,
        KafkaFailure::Fenced(_) => Action::Fenced,
        KafkaFailure::InDoubt(_) => Action::Unanswered,
        KafkaFailure::Refused(BrokerRefusal::TooLarge, _) => Action::TooLarge,
        KafkaFailure::Refused(BrokerRefusal::Invalid, _) => Action::Invalid,
        KafkaFailure::Refused(BrokerRefusal::Permission, _) => Action::Permission,
        KafkaFailure::Fatal(_) => Action::Fatal,
    }
}

#[apply(offline_test)]
fn every_code_we_know_has_its_action() {
    use Action::*;
    use ErrorClass::{Fatal as Lethal, RequiresAbort as Abortable, Retriable, Unmarked};
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
        (Code::InvalidTransactionalState, Lethal, ClientCall::Begin, Unanswered),
        (Code::InvalidTransactionalState, Lethal, ClientCall::SendOffsets, Unanswered),
        (Code::InvalidTransactionalState, Lethal, ClientCall::Commit, Unanswered),
        (Code::InvalidTransactionalState, Lethal, ClientCall::Abort, Unanswered),
        (Code::InvalidProducerIdMapping, Lethal, ClientCall::SendOffsets, Unanswered),
        (Code::InvalidProducerIdMapping, Abortable, ClientCall::Commit, Unanswered),
        (Code::InvalidProducerIdMapping, Unmarked, ClientCall::Delivery, Unanswered),
        (Code::InvalidProducerIdMapping, Retriable, ClientCall::Init, Retry),
        (Code::UnknownProducerId, Unmarked, ClientCall::Delivery, Unanswered),
        (Code::OutOfOrderSequenceNumber, Unmarked, ClientCall::Delivery, Unanswered),
        // No answer.
        (Code::OperationTimedOut, Retriable, ClientCall::Init, Retry),
        (Code::OperationTimedOut, Retriable, ClientCall::SendOffsets, Unanswered),
        (Code::OperationTimedOut, Abortable, ClientCall::SendOffsets, Unanswered),
        (Code::OperationTimedOut, Retriable, ClientCall::Commit, Unanswered),
        (Code::OperationTimedOut, Retriable, ClientCall::Abort, Unanswered),
        (Code::OperationTimedOut, Unmarked, ClientCall::Commit, Unanswered),
        (Code::MessageTimedOut, Unmarked, ClientCall::Delivery, AbortAndResend),
        (Code::PurgeQueue, Unmarked, ClientCall::Delivery, AbortAndResend),
        (Code::PurgeInflight, Unmarked, ClientCall::Delivery, AbortAndResend),
        // Brokers that are away, moving or loading.
        (Code::BrokerTransportFailure, Retriable, ClientCall::Init, Retry),
        (Code::CoordinatorLoadInProgress, Retriable, ClientCall::Init, Retry),
        (Code::CoordinatorNotAvailable, Retriable, ClientCall::Init, Retry),
        (Code::ConcurrentTransactions, Retriable, ClientCall::Init, Retry),
        (Code::BrokerTransportFailure, Retriable, ClientCall::SendOffsets, Unanswered),
        (Code::NotCoordinator, Abortable, ClientCall::SendOffsets, Unanswered),
        (Code::BrokerTransportFailure, Retriable, ClientCall::Commit, Unanswered),
        (Code::NotEnoughReplicas, Unmarked, ClientCall::Delivery, AbortAndResend),
        (Code::NotEnoughReplicasAfterAppend, Unmarked, ClientCall::Delivery, AbortAndResend),
        (Code::NotLeaderForPartition, Unmarked, ClientCall::Delivery, AbortAndResend),
        (Code::KafkaStorageError, Unmarked, ClientCall::Delivery, AbortAndResend),
        // Local.
        (Code::QueueFull, Unmarked, ClientCall::Produce, Retry),
        (Code::State, Unmarked, ClientCall::Produce, AbortAndResend),
        (Code::State, Retriable, ClientCall::Commit, Unanswered),
        (Code::Inconsistent, Abortable, ClientCall::Commit, AbortAndResend),
        // Content.
        (Code::MessageSizeTooLarge, Unmarked, ClientCall::Produce, TooLarge),
        (Code::MessageSizeTooLarge, Unmarked, ClientCall::Delivery, TooLarge),
        (Code::MessageBatchTooLarge, Unmarked, ClientCall::Delivery, TooLarge),
        (Code::InvalidRecord, Unmarked, ClientCall::Delivery, Invalid),
        (Code::PolicyViolation, Unmarked, ClientCall::Delivery, Invalid),
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
        (Code::Unknown, Abortable, ClientCall::Commit, Unanswered),
    ];
    for (code, gravity, step, expected) in table {
        assert_eq!(action(code, gravity, step), expected, "{code:?}, {gravity:?}, while {step:?}");
    }
}

#[apply(offline_test)]
fn nothing_is_retried_once_offsets_may_be_on_their_way() {
    for code in (-200..=130).filter_map(known_code) {
        for gravity in [ErrorClass::Fatal, ErrorClass::RequiresAbort, ErrorClass::Retriable, ErrorClass::Unmarked] {
            for step in [ClientCall::SendOffsets, ClientCall::Commit, ClientCall::Abort] {
                assert_ne!(action(code, gravity, step), Action::Retry, "{code:?}, {gravity:?}, while {step:?}");
            }
        }
    }
}

#[apply(offline_test)]
fn an_error_without_a_flag_is_fatal_when_a_transaction_opens() {
    assert_eq!(action(Code::NotConfigured, ErrorClass::Unmarked, ClientCall::Begin), Action::Fatal);
}

#[apply(offline_test)]
fn an_abort_either_succeeds_or_costs_the_producer() {
    for code in (-200..=130).filter_map(known_code) {
        let action = action(code, ErrorClass::RequiresAbort, ClientCall::Abort);
        assert!(matches!(action, Action::Unanswered | Action::Fenced), "{code:?}: {action:?}");
    }
}

#[apply(offline_test)]
fn an_error_without_a_code_is_fatal() {
    for step in [ClientCall::Init, ClientCall::Begin, ClientCall::SendOffsets, ClientCall::Commit] {
        let failure = classify(&KafkaError::Canceled, step);
        assert!(matches!(failure, KafkaFailure::Fatal(_)), "{step:?}: {failure:?}");
    }
}

#[apply(offline_test)]
fn a_timeout_is_told_from_other_causes() {
    let late = classify(&KafkaError::MessageProduction(Code::MessageTimedOut), ClientCall::Delivery);
    assert!(late.cause().timed_out, "{late:?}");
    let away = classify(&KafkaError::MessageProduction(Code::NotEnoughReplicas), ClientCall::Delivery);
    assert!(!away.cause().timed_out, "{away:?}");
}

/// The code with this number, where the library has one.
fn known_code(number: i32) -> Option<Code> {
    use rdkafka::types::RDKafkaRespErr;
    let all = ClientCall::ALL.len();
    assert!(all == 7, "the table above knows every step");
    RDKafkaRespErr::try_from(number).ok().map(Code::from)
}
