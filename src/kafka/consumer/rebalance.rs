//! What the group says, and how a revocation ends.
//!
//! librdkafka calls back on the thread that polls the consumer's queue. The callback only writes down what was said; the
//! poll thread acts on it as soon as the poll has returned, and goes on polling while a revocation is drained: librdkafka
//! waits for the answer (an assign or an unassign) however long it takes, and pauses the whole assignment meanwhile.
//!
//! A revocation that is never answered would hang the client's destruction. So once the poll thread has left, the
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

/// The consumer behind an event source. Shared with the commit thread, which asks it for the group's metadata.
pub type SourceConsumer = BaseConsumer<SourceContext>;

/// What the group said and nobody has answered yet.
#[derive(Debug)]
pub(super) enum GroupNotice {
    /// These partitions come in addition; perhaps none.
    Assign(TopicPartitionList),
    /// These partitions go.
    Revoke(TopicPartitionList),
}

/// The context of the source's consumer.
pub struct SourceContext {
    talking: ReportingContext,
    ownership: Arc<Ownership>,
    notices: Mutex<VecDeque<GroupNotice>>,
    attended: AtomicBool,
}

impl SourceContext {
    pub(super) fn new(talking: ReportingContext, ownership: Arc<Ownership>) -> SourceContext {
        SourceContext { talking, ownership, notices: Mutex::default(), attended: AtomicBool::new(true) }
    }

    /// The oldest notice that nobody has answered.
    pub(super) fn next_notice(&self) -> Option<GroupNotice> {
        self.lock().pop_front()
    }

    /// From now on nobody looks at the notices: the callback answers by itself.
    pub(super) fn leave_unattended(&self) {
        self.attended.store(false, Ordering::SeqCst);
    }

    /// Gives the group its answer when nobody reads any more. An assignment is accepted, because only what is assigned
    /// can be given back.
    pub(super) fn answer_unattended(&self, consumer: &SourceConsumer, notice: GroupNotice) {
        let answer = match notice {
            GroupNotice::Assign(mut list) => {
                list.set_all_offsets(rdkafka::Offset::Offset(0)).and_then(|()| consumer.incremental_assign(&list))
            }
            GroupNotice::Revoke(list) => {
                end_epochs(&self.ownership, &partitions_of(&list));
                consumer.incremental_unassign(&list)
            }
        };
        if let Err(error) = answer {
            self.error(error, "answering the group while the consumer goes down");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<GroupNotice>> {
        // A queue is whole after every single operation.
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for SourceContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = ReportingContext::ENABLE_REFRESH_OAUTH_TOKEN;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.talking.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.talking.error(error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.talking.stats_raw(statistics);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.talking.generate_oauth_token(config)
    }
}

impl ConsumerContext for SourceContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigns = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        // The list belongs to the event, which ends with this call.
        let notice = if assigns { GroupNotice::Assign(list.clone()) } else { GroupNotice::Revoke(list.clone()) };
        if self.attended.load(Ordering::SeqCst) {
            self.lock().push_back(notice);
            return;
        }
        self.answer_unattended(consumer, notice);
    }
}

/// The partitions of a list, which are all of the one topic that was subscribed.
pub(super) fn partitions_of(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|element| Partition(element.partition())).collect()
}

/// Partitions that are about to go, until what is applied of them is committed or time is up.
pub(super) struct Revocation {
    /// As the group named them; the answer has to name the same.
    pub(super) list: TopicPartitionList,
    /// Where the wait ends.
    pub(super) deadline: Instant,
    /// Shared with the `Drained` that the sink holds.
    pub(super) drain: Arc<Drain>,
}

/// Whether somebody still commits work of the partitions that are about to go.
#[derive(Debug, Default)]
pub(super) struct Drain(AtomicBool);

impl Drain {
    /// Nothing is left to wait for.
    pub(super) fn finish(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// How an ownership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// In good order, at the end of a revocation.
    Revoked,
    /// Before anybody said so.
    Lost,
}

impl Revocation {
    /// How the revocation ends at this moment, `None` while there is something to wait for. A loss overtakes all else.
    pub(super) fn ending(&self, now: Instant, ownership: OwnershipChange) -> Option<Ending> {
        match ownership {
            OwnershipChange::Lost => Some(Ending::Lost),
            OwnershipChange::Kept => (self.drain.is_finished() || now >= self.deadline).then_some(Ending::Revoked),
        }
    }
}

/// Whether the group still counts this process as the owner of what it has not given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnershipChange {
    /// It does.
    Kept,
    /// Others may own it already.
    Lost,
}

impl OwnershipChange {
    pub(super) fn of(consumer: &SourceConsumer) -> OwnershipChange {
        if consumer.assignment_lost() { OwnershipChange::Lost } else { OwnershipChange::Kept }
    }
}

/// Ends the epochs of these partitions and names those that there were.
pub(super) fn end_epochs(ownership: &Ownership, partitions: &[Partition]) -> Vec<(Partition, Epoch)> {
    partitions.iter().filter_map(|&partition| Some((partition, ownership.end(partition)?))).collect()
}
