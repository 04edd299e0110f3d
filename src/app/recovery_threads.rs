//! Recovers partitions on a few threads, each with readers of its own. A recovered partition serves while others are
//! still being read.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::app::transaction_ender::TransactionEnder;
use crate::engine::budget::Budget;
use crate::engine::commit::transaction::CommittedOffset;
use crate::engine::offset_metadata::instance_of;
use crate::engine::ownership::Ownership;
use crate::engine::recovery::driver::{PartitionReader, ReadFailure, RecoveryFailure, recover};
use crate::engine::recovery::{LogBounds, Recovered, Recovery, RecoverySettings};
use crate::entity::Entity;
use crate::kafka::client::context::ReportingContext;
use crate::kafka::client::settings::ReaderClientSettings;
use crate::kafka::reader::partition_reader::{KafkaPartitionReader, ReadProgress, ReaderReport, ReaderSettings};
use crate::kafka::reader::watermark_read::ReaderClients;
use crate::observability::log_events::{
    LogEvent, RecoveryBlocked, RecoveryPhase, RecoveryProgress, RecoverySlow, millis,
};
use crate::observability::status::{RecoveryAt, Status};
use crate::ports::{Clock, Recoveries, RecoveryReply};
use crate::record::{Epoch, Partition, Position, Record, Topic};

/// A read that an open transaction holds back for longer is reported as blocked.
const BLOCKED_AFTER: Duration = Duration::from_secs(2);
/// A read without a record for longer, and without an open transaction, is reported as slow.
const SLOW_AFTER: Duration = Duration::from_secs(5);
const SLOW_REPORT_EVERY: Duration = Duration::from_secs(30);
/// How often the progress of a read, or that it is blocked, is reported.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How often the clients are polled while there is nothing to recover, for errors and the refresh of access tokens.
const IDLE_POLL: Duration = Duration::from_secs(1);
/// Threads that build their clients at once, so that these find the group's coordinator before the first partition.
/// Further threads are needed only for many partitions at a time.
const READY_THREADS: usize = 4;

/// What the recovery threads share.
pub(super) struct RecoveryParts<E: Entity> {
    pub(super) entity: Arc<E>,
    pub(super) settings: RecoverySettings,
    pub(super) readers: ReaderClientSettings,
    pub(super) reader_settings: ReaderSettings,
    pub(super) context: ReportingContext,
    pub(super) state_memory: Arc<Budget>,
    pub(super) ownership: Arc<Ownership>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) status: Arc<Status>,
    pub(super) ender: TransactionEnder,
}

struct RecoveryRequest {
    partition: Partition,
    epoch: Epoch,
    reply: RecoveryReply,
}

/// The recovery threads, as the ingest actor commands them. They end when this is dropped.
pub(super) struct RecoveryThreads {
    // Bounded by the owned partitions: each has at most one request at a time.
    requests: Sender<RecoveryRequest>,
}

impl RecoveryThreads {
    /// Starts `count` threads. The first [`READY_THREADS`] build their clients at once, the others with their first
    /// partition.
    pub(super) fn start<E: Entity>(parts: RecoveryParts<E>, count: usize) -> io::Result<RecoveryThreads> {
        let (requests, inbox) = unbounded();
        let parts = Arc::new(parts);
        for index in 0..count {
            let (parts, inbox) = (Arc::clone(&parts), inbox.clone());
            thread::Builder::new().name(format!("recovery-{index}")).spawn(move || work(&parts, &inbox, index))?;
        }
        Ok(RecoveryThreads { requests })
    }
}

impl Recoveries for RecoveryThreads {
    fn begin(&self, partition: Partition, epoch: Epoch, reply: RecoveryReply) {
        // The receivers exist as long as this sender.
        let _ = self.requests.send(RecoveryRequest { partition, epoch, reply });
    }
}

fn work<E: Entity>(parts: &RecoveryParts<E>, inbox: &Receiver<RecoveryRequest>, index: usize) {
    // An error is reported by the first recovery, which builds the clients again.
    let build = || ReaderClients::new(&parts.readers, &parts.context).ok();
    let mut clients = if index < READY_THREADS { build() } else { None };
    loop {
        let RecoveryRequest { partition, epoch, reply } = match inbox.recv_timeout(IDLE_POLL) {
            Ok(request) => request,
            Err(RecvTimeoutError::Timeout) => {
                if let Some(clients) = &clients {
                    clients.serve();
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if !parts.ownership.is_current(partition, epoch) {
            reply(Err(RecoveryFailure::Unread(ReadFailure::Cancelled)));
            continue;
        }
        let result = recover_one(parts, &mut clients, partition, epoch);
        if result.is_err() {
            // The clients may be the cause of the failure.
            clients = None;
        }
        reply(result);
    }
}

fn recover_one<E: Entity>(
    parts: &RecoveryParts<E>,
    clients: &mut Option<ReaderClients<ReportingContext>>,
    partition: Partition,
    epoch: Epoch,
) -> Result<Recovered, RecoveryFailure> {
    let clients = match clients {
        Some(clients) => clients,
        None => clients.insert(ReaderClients::new(&parts.readers, &parts.context)?),
    };
    let reports = RefCell::new(Reports::new(parts, partition, epoch));
    let mut report = |progress: ReaderReport| reports.borrow_mut().report(&progress);
    let reader = KafkaPartitionReader::new(
        clients,
        &parts.reader_settings,
        (partition, epoch),
        Arc::clone(&parts.ownership),
        Arc::clone(&parts.clock),
        &mut report,
    );
    let recovery =
        Recovery::new(Arc::clone(&parts.entity), partition, epoch, parts.settings.clone(), &parts.state_memory);
    recover(recovery, &mut CountingReader { reader, reports: &reports })
}

/// Counts the steps of a recovery: requests answered, and offsets passed. The reader itself reports only long reads,
/// and a recovery can consist of many short ones.
struct CountingReader<'a, R> {
    reader: R,
    reports: &'a RefCell<Reports<'a>>,
}

impl<R: PartitionReader> PartitionReader for CountingReader<'_, R> {
    fn committed(&mut self) -> Result<Option<CommittedOffset>, ReadFailure> {
        self.reports.borrow_mut().requests();
        self.reader.committed().inspect(|committed| {
            let mut reports = self.reports.borrow_mut();
            reports.responded();
            reports.committed_by(committed.as_ref());
        })
    }

    fn bounds(&mut self, topic: Topic) -> Result<LogBounds, ReadFailure> {
        self.reports.borrow_mut().requests();
        self.reader.bounds(topic).inspect(|_| self.reports.borrow_mut().responded())
    }

    fn read(
        &mut self,
        topic: Topic,
        from: Position,
        until: Position,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(), ReadFailure> {
        self.reports.borrow_mut().begins(topic, from, until);
        self.reader.read(topic, from, until, take)?;
        self.reports.borrow_mut().passed(from, until);
        Ok(())
    }
}

/// Reports one attempt at a recovery: each step to the status, progress at intervals to the log.
struct Reports<'a> {
    partition: Partition,
    epoch: Epoch,
    /// The instance that committed the position, if it is known.
    owner: Option<String>,
    /// Requests answered and offsets passed, without those of the current read.
    steps: u64,
    /// Start of the current read.
    from: Position,
    at: RecoveryAt,
    clock: &'a dyn Clock,
    status: &'a Status,
    settings: &'a ReaderSettings,
    ender: &'a TransactionEnder,
    began: Instant,
    last_logged: Instant,
    slow_logged: Option<Instant>,
}

impl<'a> Reports<'a> {
    fn new<E: Entity>(parts: &'a RecoveryParts<E>, partition: Partition, epoch: Epoch) -> Reports<'a> {
        let now = parts.clock.now();
        parts.status.recovery_started(partition, now);
        Reports {
            partition,
            epoch,
            owner: None,
            steps: 0,
            from: Position(0),
            at: RecoveryAt::FetchingOffsets,
            clock: &*parts.clock,
            status: &parts.status,
            settings: &parts.reader_settings,
            ender: &parts.ender,
            began: now,
            last_logged: now,
            slow_logged: None,
        }
    }

    fn requests(&mut self) {
        self.at = RecoveryAt::FetchingOffsets;
        self.update_status(self.steps);
    }

    fn responded(&mut self) {
        self.steps += 1;
        self.update_status(self.steps);
    }

    fn committed_by(&mut self, committed: Option<&CommittedOffset>) {
        self.owner = committed.and_then(|committed| instance_of(&committed.metadata)).map(str::to_owned);
    }

    /// Has the transaction ended if it is that of a dead owner.
    fn blocked(&self) {
        if let Some(owner) = &self.owner {
            self.ender.blocked(self.partition, self.epoch, owner);
        }
    }

    fn begins(&mut self, topic: Topic, from: Position, until: Position) {
        self.from = from;
        self.at = RecoveryAt::Reading { topic, position: from, until };
        self.update_status(self.steps);
    }

    fn passed(&mut self, from: Position, until: Position) {
        self.steps += until.distance_from(from);
        self.update_status(self.steps);
    }

    fn update_status(&self, steps: u64) {
        self.status.recovery_at(self.partition, self.at, steps, self.clock.now());
    }

    fn report(&mut self, progress: &ReaderReport) {
        match progress {
            ReaderReport::Reading(of) => self.report_read(of),
            ReaderReport::OffsetHeldBack { waited, committed } => {
                self.committed_by(committed.as_ref());
                self.blocked();
                if *waited >= BLOCKED_AFTER && self.is_log_due(true) {
                    self.log_blocked(&self.settings.input, None, *waited);
                }
            }
        }
    }

    fn report_read(&mut self, of: &ReadProgress) {
        let is_blocked = of.stall.is_held_back && of.stall.stalled >= BLOCKED_AFTER;
        self.at = RecoveryAt::Reading { topic: of.topic, position: of.position, until: of.until };
        self.update_status(self.steps + of.position.distance_from(self.from));
        if !of.stall.is_held_back && !of.stall.is_failing && of.stall.silent < of.stall.stalled {
            // Responses without records: the brokers are slow, not silent.
            self.status.recovery_responded(self.partition, self.clock.now(), of.stall.silent);
        }
        if of.stall.is_held_back {
            // Only steward writes to the outputs; the input has other producers.
            match of.topic {
                Topic::State | Topic::Dlq => self.blocked(),
                Topic::Input => {}
            }
        }
        let is_slow = !of.stall.is_held_back && of.stall.stalled >= SLOW_AFTER;
        if is_slow {
            return self.log_slow(of);
        }
        if !self.is_log_due(is_blocked) {
            return;
        }
        let (partition, position, until) = (of.partition.0, of.position.0, of.until.0);
        if is_blocked {
            return self.log_blocked(self.settings.name(of.topic), Some((position, until)), of.stall.stalled);
        }
        let phase = match of.topic {
            Topic::Input => RecoveryPhase::Verify,
            Topic::State => RecoveryPhase::State,
            Topic::Dlq => RecoveryPhase::Dlq,
        };
        let elapsed_ms = millis(self.clock.now().saturating_duration_since(self.began));
        let (passed, length) = (of.position.distance_from(self.from), of.until.distance_from(self.from));
        let percent = passed.saturating_mul(100).checked_div(length).map_or(100, |percent| percent.min(100));
        RecoveryProgress { partition, phase, position, until, percent, elapsed_ms }.emit();
    }

    /// A block is logged as soon as it is found, everything else at intervals.
    fn is_log_due(&mut self, is_blocked: bool) -> bool {
        let now = self.clock.now();
        let is_first = is_blocked && self.last_logged == self.began;
        let is_due = is_first || now.saturating_duration_since(self.last_logged) >= REPORT_EVERY;
        if is_due {
            self.last_logged = now;
        }
        is_due
    }

    fn log_slow(&mut self, of: &ReadProgress) {
        let now = self.clock.now();
        if self.slow_logged.is_some_and(|at| now.saturating_duration_since(at) < SLOW_REPORT_EVERY) {
            return;
        }
        self.slow_logged = Some(now);
        RecoverySlow {
            partition: self.partition.0,
            topic: self.settings.name(of.topic),
            position: of.position.0,
            until: of.until.0,
            waited_ms: millis(of.stall.stalled),
            silent_ms: millis(of.stall.silent),
            throttled_ms: millis(of.stall.throttled),
        }
        .emit();
    }

    /// `range` is the current and the final position; `None` while the committed offset is awaited.
    fn log_blocked(&self, topic: &str, range: Option<(i64, i64)>, waited: Duration) {
        RecoveryBlocked {
            partition: self.partition.0,
            topic,
            position: range.map(|(position, _)| position),
            until: range.map(|(_, until)| until),
            waited_ms: millis(waited),
            limit_ms: millis(self.settings.stall_limit),
        }
        .emit();
    }
}
