//! What the process is doing, and since when: one small board that actors and threads keep up to date, and that the
//! watchdog, the heartbeat file and the tests read. Whoever waits can say for what.
//!
//! Absent on purpose: a clock. Times are handed in.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::progress::lifecycle::Stage;
use crate::progress::offsets::Head;
use crate::record::Partition;

/// The board.
#[derive(Debug)]
pub struct Vitals {
    inner: Mutex<Board>,
}

#[derive(Debug)]
struct Board {
    /// The last moment at which something was finished: a commit, a recovery, a stretch of a restore.
    progressed: Instant,
    assigned: Option<Instant>,
    partitions: BTreeMap<Partition, Stage>,
    open_records: u64,
    oldest: Option<(Partition, Head)>,
    lag: BTreeMap<Partition, u64>,
}

/// A look at the board.
#[derive(Debug, Clone)]
pub struct Reading {
    /// How long nothing was finished.
    pub since_progress: Duration,
    /// How old the present assignment is; `None` before the group was joined.
    pub since_assigned: Option<Duration>,
    /// Partitions that recover.
    pub recovering: usize,
    /// Partitions that serve.
    pub serving: usize,
    /// Partitions that are about to go.
    pub revoking: usize,
    /// Records read and not committed.
    pub open_records: u64,
    /// The oldest of them.
    pub oldest: Option<(Partition, Head)>,
    /// Records in the topic that are not committed, as far as the brokers told, all partitions together.
    pub lag: u64,
}

impl Reading {
    /// Whether something waits to be done, so that no progress is a fault.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.open_records > 0 || self.recovering > 0 || self.revoking > 0 || (self.lag > 0 && self.serving > 0)
    }

    /// Whether the process is a settled member of the group and all it owns serves.
    #[must_use]
    pub fn is_ready(&self, settle: Duration) -> bool {
        self.since_assigned.is_some_and(|age| age >= settle) && self.recovering == 0 && self.revoking == 0
    }
}

impl Vitals {
    /// Nothing is owned; the clock of progress starts now.
    #[must_use]
    pub fn new(now: Instant) -> Vitals {
        let board = Board {
            progressed: now,
            assigned: None,
            partitions: BTreeMap::new(),
            open_records: 0,
            oldest: None,
            lag: BTreeMap::new(),
        };
        Vitals { inner: Mutex::new(board) }
    }

    /// Something was finished.
    pub fn progressed(&self, now: Instant) {
        self.board().progressed = now;
    }

    /// The group has spoken: an assignment, possibly an empty one.
    pub fn assigned(&self, now: Instant) {
        self.board().assigned = Some(now);
    }

    /// The process is no member of the group any more.
    pub fn left(&self) {
        self.board().assigned = None;
    }

    /// A partition is at this stage; `None` for one that is gone.
    pub fn stage(&self, partition: Partition, stage: Option<Stage>) {
        let mut board = self.board();
        match stage {
            Some(stage) => {
                board.partitions.insert(partition, stage);
            }
            None => {
                board.partitions.remove(&partition);
                board.lag.remove(&partition);
            }
        }
    }

    /// What is read and not committed.
    pub fn open(&self, records: u64, oldest: Option<(Partition, Head)>) {
        let mut board = self.board();
        board.open_records = records;
        board.oldest = oldest;
    }

    /// How many records of the partition are not committed.
    pub fn lag(&self, partition: Partition, records: u64) {
        let mut board = self.board();
        if board.partitions.contains_key(&partition) {
            board.lag.insert(partition, records);
        }
    }

    /// The lag of each partition that is owned, as far as the brokers told.
    #[must_use]
    pub fn lags(&self) -> BTreeMap<Partition, u64> {
        self.board().lag.clone()
    }

    /// A look at the board.
    #[must_use]
    pub fn read(&self, now: Instant) -> Reading {
        let board = self.board();
        let count = |stage: Stage| board.partitions.values().filter(|found| **found == stage).count();
        Reading {
            since_progress: now.saturating_duration_since(board.progressed),
            since_assigned: board.assigned.map(|at| now.saturating_duration_since(at)),
            recovering: count(Stage::Recovering),
            serving: count(Stage::Serving),
            revoking: count(Stage::Revoking),
            open_records: board.open_records,
            oldest: board.oldest,
            lag: board.lag.values().sum(),
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // Every single change leaves the board whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
