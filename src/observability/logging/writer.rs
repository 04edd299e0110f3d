//! Owns the way of a line to standard output: a bounded queue, and the thread that writes it.
//!
//! The reader of standard output may stop: a log driver hangs, a terminal is paused, an attached client is suspended.
//! Then only the writer thread waits. A thread that logs adds its line to the queue and goes on. If the queue is full,
//! its oldest lines are dropped and counted, because the newest lines have the cause of an end. A line with the count
//! is written at the place of the gap.
//!
//! A write that takes only a part of the bytes, or fails, continues later at the same byte, so no line is cut. This
//! covers non-blocking pipes and full disks.
//!
//! Architecture invariant: nothing waits for standard output except the writer thread and, for a limited time, the end
//! of the process. The lock of the queue is never held during a write. Deliberately absent: the format of a line, and
//! its level.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::observability::logging::LogSink;

/// How long the end of the process waits until the lines are written.
pub const FINISH_LIMIT: Duration = Duration::from_secs(1);

/// Lines that are taken from the queue at once, in bytes; a longer line is taken alone. A pipe takes that much whole or
/// not at all, so that the end of the process cuts no line.
const CHUNK_BYTES: usize = 4 * 1024;
/// Wait before the next write if a non-blocking output is full.
const RETRY_FULL: Duration = Duration::from_millis(5);
/// Wait before the next write if the output failed, for example because the disk is full.
const RETRY_FAILED: Duration = Duration::from_secs(1);

/// Formats the line that replaces this number of dropped lines; `None` if the log level hides it.
pub type GapLine = Box<dyn Fn(u64) -> Option<String> + Send>;

/// Accepts lines without waiting. When it is dropped, it waits for at most [`FINISH_LIMIT`] until they are written.
pub struct LogWriter {
    queue: Arc<LineQueue>,
}

impl LogWriter {
    /// Starts the writer thread. At most `max_queued_bytes` wait, besides the 4 KiB that are being written.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(out: impl Write + Send + 'static, max_queued_bytes: usize, gap: GapLine) -> io::Result<LogWriter> {
        let queue = Arc::new(LineQueue { max_queued_bytes, ..LineQueue::default() });
        let writing = Arc::clone(&queue);
        thread::Builder::new().name("log-writer".to_owned()).spawn(move || write_lines(&writing, out, &gap))?;
        Ok(LogWriter { queue })
    }

    /// Returns a function that adds a line and never waits.
    pub fn sink(&self) -> LogSink {
        let queue = Arc::clone(&self.queue);
        Arc::new(move |line| queue.push(line))
    }

    /// Waits until all lines are written, or their output has failed, for at most `limit`. Returns whether all are
    /// written.
    pub fn finish(&self, limit: Duration) -> bool {
        self.queue.finish(limit)
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // Lines that are not read within the limit are lost with the process.
        let _ = self.queue.finish(FINISH_LIMIT);
    }
}

/// Shared by the threads that log and the writer thread.
#[derive(Default)]
struct LineQueue {
    max_queued_bytes: usize,
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// Whole lines, the oldest first.
    lines: VecDeque<Box<str>>,
    /// Bytes of `lines`.
    queued_bytes: usize,
    /// Lines dropped since the last gap was taken.
    dropped_lines: u64,
    writer: WriterState,
    /// The process ends: the writer stops at the first failure, or when no line is left.
    is_finishing: bool,
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum WriterState {
    #[default]
    Idle,
    Writing,
    /// It has given up, because the process ends and the output fails.
    Stopped,
}

impl LineQueue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &str) {
        let line: Box<str> = line.into();
        let mut state = self.lock();
        while state.queued_bytes + line.len() > self.max_queued_bytes {
            let Some(oldest) = state.lines.pop_front() else { break };
            state.queued_bytes -= oldest.len();
            state.dropped_lines += 1;
        }
        state.queued_bytes += line.len();
        state.lines.push_back(line);
        drop(state);
        self.changed.notify_all();
    }

    fn finish(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        state.is_finishing = true;
        self.changed.notify_all();
        let is_unwritten = |state: &mut QueueState| match state.writer {
            WriterState::Idle => !state.lines.is_empty(),
            WriterState::Writing => true,
            WriterState::Stopped => false,
        };
        let waited = self.changed.wait_timeout_while(state, limit, is_unwritten);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.writer == WriterState::Idle && state.lines.is_empty()
    }

    /// Waits for lines and moves some of them into `chunk`. Returns the number of lines dropped before them; `None` if
    /// the process ends and no line is left.
    fn take(&self, chunk: &mut Vec<u8>) -> Option<u64> {
        let mut state = self.lock();
        state.writer = WriterState::Idle;
        self.changed.notify_all();
        let is_waiting = |state: &mut QueueState| state.lines.is_empty() && !state.is_finishing;
        let mut state = self.changed.wait_while(state, is_waiting).unwrap_or_else(PoisonError::into_inner);
        if state.lines.is_empty() {
            return None;
        }
        state.writer = WriterState::Writing;
        chunk.clear();
        while let Some(line) = state.lines.front()
            && (chunk.is_empty() || chunk.len() + line.len() <= CHUNK_BYTES)
        {
            let line = state.lines.pop_front().expect("there is a first line");
            state.queued_bytes -= line.len();
            chunk.extend_from_slice(line.as_bytes());
        }
        Some(std::mem::take(&mut state.dropped_lines))
    }

    /// Waits before a failed output is tried again. Returns whether to try: not if the process ends.
    fn retries_after_failure(&self) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, RETRY_FAILED, |state| !state.is_finishing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.is_finishing {
            state.writer = WriterState::Stopped;
            self.changed.notify_all();
        }
        !state.is_finishing
    }
}

fn write_lines(queue: &LineQueue, mut out: impl Write, gap: &GapLine) {
    let mut chunk = Vec::new();
    while let Some(dropped_lines) = queue.take(&mut chunk) {
        let gap_line = (dropped_lines > 0).then(|| gap(dropped_lines)).flatten().unwrap_or_default();
        for bytes in [gap_line.as_bytes(), &chunk] {
            if !write_all(queue, &mut out, bytes) {
                return;
            }
        }
    }
}

/// Writes the bytes, however often the output takes only a part. Returns false if the process ends and the output fails.
fn write_all(queue: &LineQueue, out: &mut impl Write, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(written) if written > 0 => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_FULL),
            Ok(_) | Err(_) => {
                if !queue.retries_after_failure() {
                    return false;
                }
            }
        }
    }
    true
}
