//! The group's rebalance events, and the ways in which a revocation ends.
//!
//! librdkafka calls back on the thread that polls the consumer's queue. The callback only stores the event. The poll
//! thread answers it as soon as the poll has returned, and keeps polling while a revocation is drained. librdkafka waits
//! for the answer (an assign or an unassign) without a limit, and pauses the whole assignment meanwhile.
//!
//! A revocation that is never answered would block the client's destruction. So once the poll thread has ended, the
//! callback answers by itself.
//!
//! Architecture invariant: nothing here waits.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::engine::ownership::Ownership;
use crate::kafka::client::context::ReportingContext;
use crate::record::{Epoch, Partition};

/// The member of the consumer group. Shared with the commit thread, which reads the group's metadata from it.
pub type GroupConsumer = BaseConsumer<GroupConsumerContext>;

/// A rebalance event that is not answered yet.
#[derive(Debug)]
pub(super) enum RebalanceEvent {
    /// These partitions, perhaps none, are added.
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

pub struct GroupConsumerContext {
    reporting: ReportingContext,
    ownership: Arc<Ownership>,
    /// Written by the callback, read by the poll thread. librdkafka waits for one answer at a time, which bounds it.
    events: Mutex<VecDeque<RebalanceEvent>>,
    /// Whether the poll thread answers the events.
    is_polled: AtomicBool,
}

impl GroupConsumerContext {
    pub(super) fn new(reporting: ReportingContext, ownership: Arc<Ownership>) -> GroupConsumerContext {
        GroupConsumerContext { reporting, ownership, events: Mutex::default(), is_polled: AtomicBool::new(true) }
    }

    pub(super) fn next_event(&self) -> Option<RebalanceEvent> {
        self.lock().pop_front()
    }

    /// See [`ReportingContext::has_lost_all_brokers`].
    pub(super) fn has_lost_all_brokers(&self) -> bool {
        self.reporting.has_lost_all_brokers()
    }

    /// From now on the callback answers by itself.
    pub(super) fn end_polling(&self) {
        self.is_polled.store(false, Ordering::SeqCst);
    }

    /// Answers an event without the poll thread. An assignment is accepted, because only an assigned partition can be
    /// given back.
    pub(super) fn answer(&self, consumer: &GroupConsumer, event: RebalanceEvent) {
        let answer = match event {
            RebalanceEvent::Assign(mut list) => {
                list.set_all_offsets(rdkafka::Offset::Offset(0)).and_then(|()| consumer.incremental_assign(&list))
            }
            RebalanceEvent::Revoke(list) => {
                end_epochs(&self.ownership, &partitions_of(&list));
                consumer.incremental_unassign(&list)
            }
        };
        if let Err(error) = answer {
            self.error(error, "answering the group while the consumer closes");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<RebalanceEvent>> {
        // A queue is valid after every single operation.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for GroupConsumerContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reporting.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reporting.error(error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.reporting.stats_raw(statistics);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.reporting.generate_oauth_token(config)
    }
}

impl ConsumerContext for GroupConsumerContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigns = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        // The list belongs to librdkafka's event, which ends with this call.
        let event = if assigns { RebalanceEvent::Assign(list.clone()) } else { RebalanceEvent::Revoke(list.clone()) };
        if self.is_polled.load(Ordering::SeqCst) {
            self.lock().push_back(event);
            return;
        }
        self.answer(consumer, event);
    }
}

/// Returns the partitions of a list. All are of the one topic that was subscribed.
pub(super) fn partitions_of(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|element| Partition(element.partition())).collect()
}

/// Partitions that are being revoked, until their applied events are committed or the deadline passes.
pub(super) struct Revocation {
    /// As in the group's event. The answer has to name these partitions.
    pub(super) list: TopicPartitionList,
    pub(super) deadline: Instant,
    /// Shared with the `Drained` that the sink holds.
    pub(super) drain: Arc<Drain>,
}

/// Whether applied events of the partitions that are being revoked still have to be committed.
#[derive(Debug, Default)]
pub(super) struct Drain(AtomicBool);

impl Drain {
    pub(super) fn finish(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RevocationEnd {
    /// Cleanly, at the end of a revocation.
    Revoked,
    /// Without a revocation.
    Lost,
}

/// Whether the group still counts this process as the owner of its assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupClaim {
    Held,
    /// Other members may already own the partitions.
    Lost,
}

impl GroupClaim {
    pub(super) fn of(consumer: &GroupConsumer) -> GroupClaim {
        if consumer.assignment_lost() { GroupClaim::Lost } else { GroupClaim::Held }
    }
}

/// Ends the epochs of these partitions. Returns those that were current.
pub(super) fn end_epochs(ownership: &Ownership, partitions: &[Partition]) -> Vec<(Partition, Epoch)> {
    partitions.iter().filter_map(|&partition| Some((partition, ownership.end(partition)?))).collect()
}
