//! What is done about each error of the client library.

use libtest_mimic::Trial;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use steward::kafka::error::{Cause, Gravity, KafkaFailure, Refusal, Step, classify, decide};

pub fn trials() -> Vec<Trial> {
    trials![
        every_code_we_know_has_its_action,
        nothing_is_retried_once_offsets_may_be_on_their_way,
        an_error_without_a_flag_is_fatal_when_a_transaction_opens,
        an_abort_either_succeeds_or_costs_the_producer,
        an_error_without_a_code_is_fatal,
        a_timeout_is_told_from_other_causes,
    ]
}

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

fn action(code: Code, gravity: Gravity, step: Step) -> Action {
    match decide(Some(code), gravity, step, Cause::of_ours("")) {
        KafkaFailure::Retry(_) => Action::Retry,
        KafkaFailure::AbortAndResend(_) => Action::AbortAndResend,
        KafkaFailure::Fenced(_) => Action::Fenced,
        KafkaFailure::Unanswered(_) => Action::Unanswered,
        KafkaFailure::Refused(Refusal::TooLarge, _) => Action::TooLarge,
        KafkaFailure::Refused(Refusal::Invalid, _) => Action::Invalid,
        KafkaFailure::Refused(Refusal::Permission, _) => Action::Permission,
        KafkaFailure::Fatal(_) => Action::Fatal,
    }
}

fn every_code_we_know_has_its_action() {
    use Action::*;
    use Gravity::{Fatal as Lethal, RequiresAbort as Abortable, Retriable, Unmarked};
    let table = [
        // A newer producer, whatever the library makes of it.
        (Code::Fenced, Lethal, Step::Init, Fenced),
        (Code::Fenced, Lethal, Step::Begin, Fenced),
        (Code::Fenced, Lethal, Step::Commit, Fenced),
        (Code::Fenced, Abortable, Step::SendOffsets, Fenced),
        (Code::ProducerFenced, Abortable, Step::SendOffsets, Fenced),
        (Code::InvalidProducerEpoch, Lethal, Step::Commit, Fenced),
        (Code::InvalidProducerEpoch, Unmarked, Step::Delivery, Fenced),
        (Code::Fenced, Lethal, Step::Abort, Fenced),
        // The group has moved on.
        (Code::IllegalGeneration, Abortable, Step::SendOffsets, AbortAndResend),
        (Code::UnknownMemberId, Abortable, Step::SendOffsets, AbortAndResend),
        (Code::FencedInstanceId, Abortable, Step::SendOffsets, AbortAndResend),
        (Code::RebalanceInProgress, Abortable, Step::SendOffsets, AbortAndResend),
        (Code::StaleMemberEpoch, Abortable, Step::SendOffsets, AbortAndResend),
        (Code::FencedMemberEpoch, Abortable, Step::SendOffsets, AbortAndResend),
        // An abort overtook AddPartitions; idle for a week: the library calls it fatal, a new producer goes on.
        (Code::InvalidTransactionalState, Lethal, Step::Begin, Unanswered),
        (Code::InvalidTransactionalState, Lethal, Step::SendOffsets, Unanswered),
        (Code::InvalidTransactionalState, Lethal, Step::Commit, Unanswered),
        (Code::InvalidTransactionalState, Lethal, Step::Abort, Unanswered),
        (Code::InvalidProducerIdMapping, Lethal, Step::SendOffsets, Unanswered),
        (Code::InvalidProducerIdMapping, Abortable, Step::Commit, Unanswered),
        (Code::InvalidProducerIdMapping, Unmarked, Step::Delivery, Unanswered),
        (Code::InvalidProducerIdMapping, Retriable, Step::Init, Retry),
        (Code::UnknownProducerId, Unmarked, Step::Delivery, Unanswered),
        (Code::OutOfOrderSequenceNumber, Unmarked, Step::Delivery, Unanswered),
        // No answer.
        (Code::OperationTimedOut, Retriable, Step::Init, Retry),
        (Code::OperationTimedOut, Retriable, Step::SendOffsets, Unanswered),
        (Code::OperationTimedOut, Abortable, Step::SendOffsets, Unanswered),
        (Code::OperationTimedOut, Retriable, Step::Commit, Unanswered),
        (Code::OperationTimedOut, Retriable, Step::Abort, Unanswered),
        (Code::OperationTimedOut, Unmarked, Step::Commit, Unanswered),
        (Code::MessageTimedOut, Unmarked, Step::Delivery, AbortAndResend),
        (Code::PurgeQueue, Unmarked, Step::Delivery, AbortAndResend),
        (Code::PurgeInflight, Unmarked, Step::Delivery, AbortAndResend),
        // Brokers that are away, moving or loading.
        (Code::BrokerTransportFailure, Retriable, Step::Init, Retry),
        (Code::CoordinatorLoadInProgress, Retriable, Step::Init, Retry),
        (Code::CoordinatorNotAvailable, Retriable, Step::Init, Retry),
        (Code::ConcurrentTransactions, Retriable, Step::Init, Retry),
        (Code::BrokerTransportFailure, Retriable, Step::SendOffsets, Unanswered),
        (Code::NotCoordinator, Abortable, Step::SendOffsets, Unanswered),
        (Code::BrokerTransportFailure, Retriable, Step::Commit, Unanswered),
        (Code::NotEnoughReplicas, Unmarked, Step::Delivery, AbortAndResend),
        (Code::NotEnoughReplicasAfterAppend, Unmarked, Step::Delivery, AbortAndResend),
        (Code::NotLeaderForPartition, Unmarked, Step::Delivery, AbortAndResend),
        (Code::KafkaStorageError, Unmarked, Step::Delivery, AbortAndResend),
        // Local.
        (Code::QueueFull, Unmarked, Step::Produce, Retry),
        (Code::State, Unmarked, Step::Produce, AbortAndResend),
        (Code::State, Retriable, Step::Commit, Unanswered),
        (Code::Inconsistent, Abortable, Step::Commit, AbortAndResend),
        // Content.
        (Code::MessageSizeTooLarge, Unmarked, Step::Produce, TooLarge),
        (Code::MessageSizeTooLarge, Unmarked, Step::Delivery, TooLarge),
        (Code::MessageBatchTooLarge, Unmarked, Step::Delivery, TooLarge),
        (Code::InvalidRecord, Unmarked, Step::Delivery, Invalid),
        (Code::PolicyViolation, Unmarked, Step::Delivery, Invalid),
        (Code::UnknownTopicOrPartition, Unmarked, Step::Delivery, Invalid),
        (Code::UnknownPartition, Unmarked, Step::Produce, Invalid),
        (Code::OffsetMetadataTooLarge, Abortable, Step::SendOffsets, Invalid),
        (Code::Unknown, Unmarked, Step::Delivery, Invalid),
        // Permission.
        (Code::TopicAuthorizationFailed, Unmarked, Step::Delivery, Permission),
        (Code::TopicAuthorizationFailed, Abortable, Step::SendOffsets, Permission),
        (Code::GroupAuthorizationFailed, Abortable, Step::SendOffsets, Permission),
        (Code::TransactionalIdAuthorizationFailed, Lethal, Step::Init, Permission),
        (Code::ClusterAuthorizationFailed, Lethal, Step::Init, Permission),
        (Code::TransactionalIdAuthorizationFailed, Lethal, Step::Commit, Permission),
        // Beyond help.
        (Code::InvalidTransactionTimeout, Lethal, Step::Init, Fatal),
        (Code::UnsupportedFeature, Lethal, Step::Init, Fatal),
        (Code::UnsupportedForMessageFormat, Lethal, Step::SendOffsets, Fatal),
        (Code::Unknown, Lethal, Step::Commit, Fatal),
        (Code::Unknown, Abortable, Step::SendOffsets, AbortAndResend),
        (Code::Unknown, Abortable, Step::Commit, Unanswered),
    ];
    for (code, gravity, step, expected) in table {
        assert_eq!(action(code, gravity, step), expected, "{code:?}, {gravity:?}, while {step:?}");
    }
}

fn nothing_is_retried_once_offsets_may_be_on_their_way() {
    for code in (-200..=130).filter_map(known_code) {
        for gravity in [Gravity::Fatal, Gravity::RequiresAbort, Gravity::Retriable, Gravity::Unmarked] {
            for step in [Step::SendOffsets, Step::Commit, Step::Abort] {
                assert_ne!(action(code, gravity, step), Action::Retry, "{code:?}, {gravity:?}, while {step:?}");
            }
        }
    }
}

fn an_error_without_a_flag_is_fatal_when_a_transaction_opens() {
    assert_eq!(action(Code::NotConfigured, Gravity::Unmarked, Step::Begin), Action::Fatal);
}

fn an_abort_either_succeeds_or_costs_the_producer() {
    for code in (-200..=130).filter_map(known_code) {
        let action = action(code, Gravity::RequiresAbort, Step::Abort);
        assert!(matches!(action, Action::Unanswered | Action::Fenced), "{code:?}: {action:?}");
    }
}

fn an_error_without_a_code_is_fatal() {
    for step in [Step::Init, Step::Begin, Step::SendOffsets, Step::Commit] {
        let failure = classify(&KafkaError::Canceled, step);
        assert!(matches!(failure, KafkaFailure::Fatal(_)), "{step:?}: {failure:?}");
    }
}

fn a_timeout_is_told_from_other_causes() {
    let late = classify(&KafkaError::MessageProduction(Code::MessageTimedOut), Step::Delivery);
    assert!(late.cause().timed_out, "{late:?}");
    let away = classify(&KafkaError::MessageProduction(Code::NotEnoughReplicas), Step::Delivery);
    assert!(!away.cause().timed_out, "{away:?}");
}

/// The code with this number, where the library has one.
fn known_code(number: i32) -> Option<Code> {
    use rdkafka::types::RDKafkaRespErr;
    let all = Step::ALL.len();
    assert!(all == 7, "the table above knows every step");
    RDKafkaRespErr::try_from(number).ok().map(Code::from)
}
