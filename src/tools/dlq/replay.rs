//! `steward dlq replay`: reports what would be sent, and sends it with `--execute`.

pub(super) mod decision;
mod plan;
mod replayer;
mod summary;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;

use crate::app::SystemClock;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::ports::Clock as _;
use crate::tools::dlq::replay::replayer::{BATCH_BYTES, BATCH_EVENTS, Replayer};
use crate::tools::dlq::{
    DlqFilter, DlqLocation, DlqRecord, DlqSourceOptions, InputLog, ReplayDecision, ReplayEvent, ReplayPlan, Wanted,
    decide, read_dlq_records,
};
use crate::tools::failure::CommandFailure;
use crate::tools::produce::{due, handle_signals};
use crate::tools::{note, output};

/// Transactions per second while a rate is kept, so that the rate is smooth.
const BATCHES_PER_SECOND: u64 = 4;
/// How often callbacks are served, and an interruption is checked, while a rate is kept.
const POLL: Duration = Duration::from_millis(100);
/// How many refused DLQ records are named.
const NAMED: usize = 20;

/// Send refused events to the input topic again
///
/// Says what it would do, and does it only with --execute. Each event goes back as it was (key, value, its own headers,
/// the same partition) and is marked as replayed in the same transaction: a second run, or one after a crash, leaves
/// out what was replayed. An event that is refused again makes a new DLQ record, which can be replayed in turn.
///
/// A replayed event is a new one: it takes effect after all that came since. So an old update overwrites newer values.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward dlq replay --config config.toml --reason not_found
  steward dlq replay --config config.toml --reason not_found --execute --rate 200
  steward dlq replay --config config.toml --partition 3 --offset 4711 --execute

With --json the outcome is one object: executed, interrupted, elapsed_ms, planned (what goes back, or would), replayed \
(what went), reasons (by reason: replay, and refused_again: those of them that break a rule whatever their service is), \
overwrites (how many of them are older than the newest event of their service; null if that is not known), \
replayed_before, truncated, from_elsewhere, unreadable (what does not go back), refused_by_broker.

Next: correct the cause first, or they are rejected again; `steward dlq list` shows which were.")]
pub(super) struct DlqReplayArguments {
    #[command(flatten)]
    source: DlqSourceOptions,
    /// The topic to send to; wins over the configuration's kafka.topic
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    #[command(flatten)]
    wanted: Wanted,
    /// Send the events: without it, only report what would be sent
    #[arg(long)]
    execute: bool,
    /// Send at most this many events per second
    #[arg(long, value_name = "EVENTS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Send at most this many events: without it, all that are selected
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Debug, Default)]
struct Done {
    replayed: u64,
    refused: Vec<(DlqLocation, String)>,
    interrupted: bool,
    elapsed: Duration,
}

pub(super) fn run(arguments: &DlqReplayArguments) -> Result<ExitCode, CommandFailure> {
    let source = &arguments.source;
    let config = source.load(arguments.topic.as_deref())?;
    let filter = arguments.wanted.filter();
    let (plan, input) = plan::make(arguments, &config, &filter)?;
    summary::warn(&plan);
    let planned = arguments.limit.unwrap_or(u64::MAX).min(plan.plan.total());
    let form = source.form.form();
    if !arguments.execute || planned == 0 {
        let nothing = Done::default();
        summary::report(&plan, planned, arguments.execute.then_some(&nothing), form)?;
        if !arguments.execute {
            note("nothing was sent: --execute sends them");
        }
        return Ok(ExitCode::Done);
    }

    let interrupted = handle_signals()?;
    let bar = output::bar(0, "offsets of receipts");
    let replayer = output::with_progress(&bar, |progress| {
        Replayer::begin(&config, source.limit(), Arc::new(SystemClock), progress)
    })?;
    let bar = output::bar(planned, "events");
    let mut run = Run {
        replayer,
        interrupted: &interrupted,
        bar: &bar,
        rate: arguments.rate,
        left: planned,
        began: SystemClock.now(),
        sent: 0,
        batch: Vec::new(),
        batch_bytes: 0,
        done: Done::default(),
    };
    let ended = run.all(arguments, &config, &filter, &input, &plan.plan);
    bar.finish_and_clear();
    let mut done = run.done;
    done.interrupted = interrupted.load(Ordering::Relaxed);
    let reported = summary::report(&plan, planned, Some(&done), form);
    if let Err(failure) = ended {
        // The failure decides about the exit code; that the summary could not be written, too, adds nothing.
        if let Err(unwritten) = reported {
            unwritten.report();
        }
        return Err(failure);
    }
    reported?;
    if done.interrupted {
        note("interrupted: the same command sends the rest");
    }
    verdict(&done)
}

fn verdict(done: &Done) -> Result<ExitCode, CommandFailure> {
    for (place, cause) in done.refused.iter().take(NAMED) {
        note(&format!("the DLQ record {place} was not sent: {cause}"));
    }
    match done.refused.as_slice() {
        [] => Ok(ExitCode::Done),
        [(_, cause), ..] => {
            Err(CommandFailure::RecordsRefused { refused: done.refused.len() as u64, codes: format!("first: {cause}") })
        }
    }
}

struct Run<'a> {
    replayer: Replayer<'a>,
    interrupted: &'a AtomicBool,
    bar: &'a ProgressBar,
    rate: u64,
    /// How many events may still be taken.
    left: u64,
    began: Instant,
    /// How many events were handed to the brokers.
    sent: u64,
    batch: Vec<ReplayEvent>,
    batch_bytes: usize,
    done: Done,
}

impl Run<'_> {
    fn all(
        &mut self,
        arguments: &DlqReplayArguments,
        config: &Config,
        filter: &DlqFilter,
        input: &InputLog,
        plan: &ReplayPlan,
    ) -> Result<(), CommandFailure> {
        let reader = arguments.source.open(config, arguments.wanted.scope())?;
        let take = |dlq_record: &DlqRecord<'_>| {
            // Events that were rejected after the plan was made are not part of it, such as those of this replay.
            let is_planned =
                plan.newest.get(&dlq_record.location.partition).is_some_and(|newest| dlq_record.location <= *newest);
            let goes = || matches!(decide(dlq_record, input, self.replayer.replayed()), ReplayDecision::Replay(_));
            if is_planned
                && filter.wants(dlq_record)
                && goes()
                && let Some(replay) = dlq_record.replay(&config.kafka.dlq_topic)
            {
                self.add(replay)?;
            }
            let is_over = self.left == 0 || self.is_interrupted();
            Ok(if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let ended = read_dlq_records(reader, take, |_| ()).and_then(|()| self.flush());
        self.done.elapsed = SystemClock.now() - self.began;
        ended
    }

    fn add(&mut self, replay: ReplayEvent) -> Result<(), CommandFailure> {
        self.batch_bytes += replay.weight_bytes();
        self.batch.push(replay);
        self.left -= 1;
        let batch_events = usize::try_from(self.rate / BATCHES_PER_SECOND).unwrap_or(usize::MAX).clamp(1, BATCH_EVENTS);
        if self.batch.len() >= batch_events || self.batch_bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CommandFailure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.wait_until(self.began + due(self.sent, self.rate));
        if self.is_interrupted() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.sent += batch.len() as u64;
        let sent = self.replayer.send(batch)?;
        self.done.replayed += sent.replayed;
        self.done.refused.extend(sent.refused);
        self.bar.set_position(self.sent);
        Ok(())
    }

    fn wait_until(&self, due: Instant) {
        loop {
            let left = due.saturating_duration_since(SystemClock.now());
            if left.is_zero() || self.is_interrupted() {
                return;
            }
            self.replayer.serve();
            std::thread::sleep(left.min(POLL));
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
