//! Recovers partitions on a few threads, each with readers of its own: partitions that are ready serve while others
//! are still being read.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::engine::budget::Budget;
use crate::engine::commit::transaction::Committed;
use crate::engine::ownership::Ownership;
use crate::engine::recovery::driver::{PartitionReader, ReadFailure, RecoveryFailure, recover};
use crate::engine::recovery::{LogBounds, Recovered, Recovery, RecoverySettings, Topic};
use crate::entity::Entity;
use crate::kafka::client::context::ReportingContext;
use crate::kafka::client::settings::ReaderClientSettings;
use crate::kafka::reader::partition_reader::{
    KafkaPartitionReader, ReadProgress, ReaderClients, ReaderSettings, ReportedEnd,
};
use crate::observability::log_events::{LogEvent, RecoveryBlocked, RecoveryPhase, RecoveryProgress, millis};
use crate::observability::status::{RecoveryAt, Status};
use crate::ports::{Clock, Recoveries, RecoveryReply};
use crate::record::{Epoch, Partition, Position, Record};

/// A read that stands still for longer is reported as blocked.
const BLOCKED_AFTER: Duration = Duration::from_secs(2);
/// How often a read that goes on, or one that is blocked, is reported.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How often clients may call back while there is nothing to recover: errors, and the refresh of access tokens.
const IDLE_POLL: Duration = Duration::from_secs(1);
/// Threads whose clients look for the group's coordinator before there is a partition. The others are for many at a time.
const READY_THREADS: usize = 4;

/// What the threads share.
pub(super) struct RecoveryParts<E: Entity> {
    pub(super) entity: Arc<E>,
    pub(super) settings: RecoverySettings,
    pub(super) readers: ReaderClientSettings,
    pub(super) reader_settings: ReaderSettings,
    pub(super) context: ReportingContext,
    pub(super) budget: Arc<Budget>,
    pub(super) ownership: Arc<Ownership>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) status: Arc<Status>,
}

struct RecoveryRequest {
    partition: Partition,
    epoch: Epoch,
    reply: RecoveryReply,
}

/// The threads, as the ingest actor commands them. Dropped, it lets them end.
pub(super) struct RecoveryThreads {
    // Bounded by the partitions that are owned: one request for each at a time.
    requests: Sender<RecoveryRequest>,
}

impl RecoveryThreads {
    /// Starts `count` threads. The first few build their clients at once, the others when a partition comes to them.
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
        // The threads end only with this sender.
        let _ = self.requests.send(RecoveryRequest { partition, epoch, reply });
    }
}

fn work<E: Entity>(parts: &RecoveryParts<E>, inbox: &Receiver<RecoveryRequest>, index: usize) {
    let mut clients = None;
    if index < READY_THREADS {
        // Whatever is wrong is told with the first partition.
        clients = ReaderClients::new(&parts.readers, &parts.context).ok();
    }
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
            // Whatever was wrong with it, the next partition starts with fresh clients.
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
    let reports = RefCell::new(Reports::new(parts, partition));
    let mut tell = |told: ReportedEnd| reports.borrow_mut().hear(&told);
    let reader = KafkaPartitionReader::new(
        clients,
        &parts.reader_settings,
        (partition, epoch),
        Arc::clone(&parts.ownership),
        Arc::clone(&parts.clock),
        &mut tell,
    );
    let recovery = Recovery::new(Arc::clone(&parts.entity), partition, epoch, parts.settings.clone(), &parts.budget);
    recover(recovery, &mut CountingReader { reader, reports: &reports })
}

/// Counts the steps of a recovery: questions answered, and records passed. The reader itself reports only reads that last,
/// and a recovery can be made of many short ones.
struct CountingReader<'a, R> {
    reader: R,
    reports: &'a RefCell<Reports<'a>>,
}

impl<R: PartitionReader> PartitionReader for CountingReader<'_, R> {
    fn committed(&mut self) -> Result<Option<Committed>, ReadFailure> {
        let answer = self.reader.committed()?;
        self.reports.borrow_mut().answered();
        Ok(answer)
    }

    fn bounds(&mut self, topic: Topic) -> Result<LogBounds, ReadFailure> {
        let answer = self.reader.bounds(topic)?;
        self.reports.borrow_mut().answered();
        Ok(answer)
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

/// Tells of one attempt at a recovery: the board at once, the log not too often.
struct Reports<'a> {
    partition: Partition,
    /// What was answered and passed, without the read under way.
    steps: u64,
    /// Where the read under way began.
    from: Position,
    at: RecoveryAt,
    clock: &'a dyn Clock,
    status: &'a Status,
    settings: &'a ReaderSettings,
    began: Instant,
    told: Instant,
}

impl<'a> Reports<'a> {
    fn new<E: Entity>(parts: &'a RecoveryParts<E>, partition: Partition) -> Reports<'a> {
        let now = parts.clock.now();
        parts.status.recovery_started(partition, now);
        Reports {
            partition,
            steps: 0,
            from: Position(0),
            at: RecoveryAt::FetchingOffsets,
            clock: &*parts.clock,
            status: &parts.status,
            settings: &parts.reader_settings,
            began: now,
            told: now,
        }
    }

    fn answered(&mut self) {
        self.steps += 1;
        self.tell_board(self.steps);
    }

    fn begins(&mut self, topic: Topic, from: Position, until: Position) {
        self.from = from;
        self.at = RecoveryAt::Reading { topic, position: from, until };
        self.tell_board(self.steps);
    }

    fn passed(&mut self, from: Position, until: Position) {
        self.steps += until.distance_from(from);
        self.tell_board(self.steps);
    }

    fn tell_board(&self, steps: u64) {
        self.status.recovery_at(self.partition, self.at, steps, self.clock.now());
    }

    fn hear(&mut self, told: &ReportedEnd) {
        match told {
            ReportedEnd::Reading(of) => self.hear_of_read(of),
            ReportedEnd::OffsetHeldBack(waited) => {
                if *waited >= BLOCKED_AFTER && self.is_time_to_tell(ReadState::Blocked) {
                    self.tell_blocked(&self.settings.input, None, *waited);
                }
            }
        }
    }

    fn hear_of_read(&mut self, of: &ReadProgress) {
        let state = if of.stalled >= BLOCKED_AFTER { ReadState::Blocked } else { ReadState::GoesOn };
        self.at = RecoveryAt::Reading { topic: of.topic, position: of.position, until: of.until };
        self.tell_board(self.steps + of.position.distance_from(self.from));
        if !self.is_time_to_tell(state) {
            return;
        }
        let (partition, position, until) = (of.partition.0, of.position.0, of.until.0);
        match state {
            ReadState::Blocked => {
                self.tell_blocked(topic_name(self.settings, of.topic), Some((position, until)), of.stalled);
            }
            ReadState::GoesOn => {
                let elapsed_ms = millis(self.clock.now().saturating_duration_since(self.began));
                let percent = (position.max(0) * 100).checked_div(until).map_or(100, |percent| percent.clamp(0, 100));
                let percent = u64::try_from(percent).unwrap_or(0);
                RecoveryProgress { partition, phase: recovery_phase(of.topic), position, until, percent, elapsed_ms }
                    .emit();
            }
        }
    }

    /// Not too often; but that a recovery is blocked is told as soon as it is.
    fn is_time_to_tell(&mut self, state: ReadState) -> bool {
        let now = self.clock.now();
        let is_first = state == ReadState::Blocked && self.told == self.began;
        let is_due = is_first || now.saturating_duration_since(self.told) >= REPORT_EVERY;
        if is_due {
            self.told = now;
        }
        is_due
    }

    /// `stretch` is where reading stands and has to get; `None` while the committed offset is waited for.
    fn tell_blocked(&self, topic: &str, stretch: Option<(i64, i64)>, waited: Duration) {
        RecoveryBlocked {
            partition: self.partition.0,
            topic,
            position: stretch.map(|(position, _)| position),
            until: stretch.map(|(_, until)| until),
            waited_ms: millis(waited),
            limit_ms: millis(self.settings.stall_limit),
        }
        .emit();
    }
}

/// Whether a recovery moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadState {
    GoesOn,
    Blocked,
}

fn topic_name(settings: &ReaderSettings, topic: Topic) -> &str {
    match topic {
        Topic::Input => &settings.input,
        Topic::State => &settings.state,
        Topic::Dlq => &settings.dlq,
    }
}

fn recovery_phase(topic: Topic) -> RecoveryPhase {
    match topic {
        Topic::Input => RecoveryPhase::Verify,
        Topic::State => RecoveryPhase::State,
        Topic::Dlq => RecoveryPhase::Dlq,
    }
}
