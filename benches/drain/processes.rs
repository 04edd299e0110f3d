//! Runs a contender as a process of its own and measures it from outside, all contenders in the same way.
//!
//! The clock starts when the process has its partitions. It stops when the group has committed the last event, or, for a
//! contender that commits nothing, when that event was read. Joining the group is left out, because it takes all
//! contenders the same time. What steward does between assignment and the first event, its recovery, is included.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::backlog::Backlog;
use crate::broker::BenchBroker;
use crate::committed::CommittedOffsets;
use crate::contender::{ASSIGNED, Contender, FIRST_EVENT, READ, Reported, Run, Task};
use crate::machine::{peak_bytes, processor_seconds};
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::wait::now;

/// Longest wait for one line or log event of a contender.
const LIMIT: Duration = Duration::from_secs(600);

/// Drains the backlog with one contender. State and DLQ records are then in the topics of `names`.
pub fn drain(contender: Contender, broker: &BenchBroker, backlog: &Backlog, names: &Names) -> Run {
    let measurement = Measurement { broker, backlog, group: &names.group };
    match contender {
        Contender::Raw | Contender::PassThrough | Contender::HandLoop => {
            measurement.run(LoopProcess::start(&measurement.task(contender, names)))
        }
        Contender::SlowService => unreachable!("it needs a delay: drain_slowly"),
        Contender::Steward => measurement.run(StewardProcess::start(broker, names)),
    }
}

/// Drains the backlog with steward and an entity that takes `delay` for each event of `key`.
pub fn drain_slowly(broker: &BenchBroker, backlog: &Backlog, names: &Names, key: &str, delay: Duration) -> Run {
    let measurement = Measurement { broker, backlog, group: &names.group };
    let mut task = measurement.task(Contender::SlowService, names);
    task.slow = Some((key.to_owned(), u64::try_from(delay.as_micros()).expect("a short delay")));
    measurement.run(LoopProcess::start(&task))
}

/// The process of a contender.
trait ContenderProcess {
    fn pid(&self) -> u32;
    fn wait_until_assigned(&mut self);
    /// Returns the time from the assignment to the first event.
    fn before_first_event(&mut self) -> Duration;
    /// Waits until the process has read all events.
    fn wait_until_read(&mut self);
    /// Ends the process.
    fn end(self) -> Reported;
    /// Returns whether the process commits offsets.
    fn commits(&self) -> bool;
}

struct Measurement<'a> {
    broker: &'a BenchBroker,
    backlog: &'a Backlog,
    group: &'a str,
}

impl Measurement<'_> {
    fn task(&self, contender: Contender, names: &Names) -> Task {
        Task {
            contender,
            brokers: self.broker.kafka.address().to_owned(),
            input: self.backlog.topic.clone(),
            state: names.state.clone(),
            dlq: names.dlq.clone(),
            group: names.group.clone(),
            events: self.backlog.events,
            partitions: self.backlog.partitions,
            slow: None,
        }
    }

    fn run(&self, mut process: impl ContenderProcess) -> Run {
        let committed = CommittedOffsets::of(&self.broker.kafka, self.group, self.backlog);
        process.wait_until_assigned();
        let began = now();
        let broker_before = self.broker.pid.and_then(processor_seconds);
        let since_began = |then: Instant| then.saturating_duration_since(began).as_secs_f64();
        let mut partition_seconds = Vec::new();
        if process.commits() {
            partition_seconds = committed.wait_until_complete().into_iter().map(since_began).collect();
        } else {
            process.wait_until_read();
        }
        let seconds = since_began(now());
        let broker_after = self.broker.pid.and_then(processor_seconds);
        let events = self.backlog.events as f64;
        let client = processor_seconds(process.pid()).expect("the process runs until it is ended below");
        let peak_bytes = peak_bytes(process.pid()).expect("the process runs until it is ended below");
        let seconds_before_first = process.before_first_event().as_secs_f64();
        let broker = broker_after.zip(broker_before).map(|(after, before)| after - before);
        Run {
            seconds,
            partition_seconds,
            seconds_before_first,
            events_per_s: events / seconds,
            client_us_per_event: client * 1e6 / events,
            broker_us_per_event: broker.map(|seconds| seconds * 1e6 / events),
            peak_bytes,
            reported: process.end(),
        }
    }
}

// ------------------------------------------------------------------------------------------------------------- loops

/// A loop of [`crate::loops`], in a process of this program.
struct LoopProcess {
    contender: Contender,
    child: Child,
    /// The lines of its standard output, and when each was read.
    lines: Receiver<(Instant, String)>,
    assigned: Option<Instant>,
    first_event: Option<Instant>,
}

impl LoopProcess {
    fn start(task: &Task) -> LoopProcess {
        let contender = task.contender;
        let task = serde_json::to_string(task).expect("strings and numbers can be written");
        let program = std::env::current_exe().expect("this program runs");
        let mut child = Command::new(program)
            .args(["--child", &task])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.map_while(Result::ok) {
                // The receiver is gone if the measurement has failed.
                let _ = sender.send((now(), line));
            }
        });
        LoopProcess { contender, child, lines, assigned: None, first_event: None }
    }

    fn wait_for(&self, line: &str) -> Instant {
        match self.lines.recv_timeout(LIMIT) {
            Ok((at, found)) if found == line => at,
            other => panic!("{} wrote {other:?}; expected {line}", self.contender.name()),
        }
    }
}

impl ContenderProcess for LoopProcess {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_assigned(&mut self) {
        self.assigned = Some(self.wait_for(ASSIGNED));
    }

    fn before_first_event(&mut self) -> Duration {
        let first_event = self.first_event.unwrap_or_else(|| self.wait_for(FIRST_EVENT));
        self.assigned.map_or(Duration::ZERO, |assigned| first_event.saturating_duration_since(assigned))
    }

    fn wait_until_read(&mut self) {
        self.first_event = Some(self.wait_for(FIRST_EVENT));
        self.wait_for(READ);
    }

    fn end(mut self) -> Reported {
        // The process waits for the end of its standard input.
        drop(self.child.stdin.take());
        let (_, reported) = self.lines.recv_timeout(LIMIT).expect("its last line has its figures");
        let status = self.child.wait().expect("the process is a child of this one");
        assert!(status.success(), "{}: {status}", self.contender.name());
        serde_json::from_str(&reported).unwrap_or_else(|error| panic!("{error}: {reported}"))
    }

    fn commits(&self) -> bool {
        self.contender != Contender::Raw
    }
}

impl Drop for LoopProcess {
    fn drop(&mut self) {
        // The process still runs only if the measurement has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ----------------------------------------------------------------------------------------------------------- steward

/// `steward run` with default settings.
struct StewardProcess {
    steward: Steward,
}

impl StewardProcess {
    fn start(broker: &BenchBroker, names: &Names) -> StewardProcess {
        StewardProcess { steward: Setup::new(&broker.kafka, names).start() }
    }
}

impl ContenderProcess for StewardProcess {
    fn pid(&self) -> u32 {
        self.steward.pid()
    }

    fn wait_until_assigned(&mut self) {
        self.steward.wait_for_event("partitions_assigned", LIMIT);
    }

    fn before_first_event(&mut self) -> Duration {
        let logged_at = |name: &str| {
            let event = self.steward.events(name).into_iter().next()?;
            OffsetDateTime::parse(event["timestamp"].as_str()?, &Rfc3339).ok()
        };
        let between = logged_at("partitions_assigned").zip(logged_at("recovery_finished"));
        let between = between.map(|(assigned, finished)| finished - assigned);
        between.and_then(|between| Duration::try_from(between).ok()).unwrap_or_default()
    }

    fn wait_until_read(&mut self) {
        unreachable!("it commits");
    }

    fn end(mut self) -> Reported {
        self.steward.stop();
        self.steward.assert_no_errors_but(&[]);
        let stats = self.steward.events("stats");
        let transactions: u64 = stats.iter().map(|stats| stats["transactions"].as_u64().unwrap_or(0)).sum();
        // The times are those of the interval with the most transactions.
        let busiest = stats.iter().max_by_key(|stats| stats["transactions"].as_u64());
        let of = |name: &str| busiest.and_then(|stats: &Value| stats[name].as_f64()).unwrap_or(0.0);
        Reported {
            transactions,
            transaction_p50_ms: of("transaction_p50_ms"),
            transaction_p99_ms: of("transaction_p99_ms"),
        }
    }

    fn commits(&self) -> bool {
        true
    }
}
