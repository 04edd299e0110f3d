//! Who drains the backlog: each a process of its own, watched from outside in the same way.
//!
//! The clock runs from the moment in which the process has its partitions to the moment in which the group has committed
//! the last of them (or, where nothing is committed, has read it). Joining the group is left out, because it is the same
//! for all; what steward does between assignment and the first event, its recovery, is left in.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::backlog::Backlog;
use crate::broker::Ground;
use crate::loops;
use crate::machine::{peak_bytes, processor_seconds};
use crate::support::kafka::Kafka;
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::wait::{Deadline, now};

/// What the drain of a backlog may take at most.
pub const LIMIT: Duration = Duration::from_secs(600);
/// How often the group's committed offsets are asked for.
const LOOK: Duration = Duration::from_millis(20);

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    /// Consumes, and does nothing
    Raw,
    /// Copies each record into a topic, in transactions with the offsets
    PassThrough,
    /// The same work as steward, in one loop
    HandLoop,
    /// `steward run`
    Steward,
    /// Steward's own code in this program, with an entity that is slow for one key
    #[value(skip)]
    SlowService,
}

impl Contender {
    /// Everyone, the one with the least to do first.
    pub const ALL: [Contender; 4] = [Contender::Raw, Contender::PassThrough, Contender::HandLoop, Contender::Steward];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Raw => "raw consume",
            Contender::PassThrough => "pass-through",
            Contender::HandLoop => "hand loop",
            Contender::Steward => "steward",
            Contender::SlowService => "steward with a slow key",
        }
    }
}

/// What a loop is told on its command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    pub contender: Contender,
    pub brokers: String,
    pub input: String,
    pub state: String,
    pub dlq: String,
    pub group: String,
    /// Events in the input.
    pub events: i64,
    /// Partitions of the input.
    pub partitions: i32,
    /// A key, and the microseconds that each of its events takes.
    pub slow: Option<(String, u64)>,
}

/// What a loop or steward tells of itself at its end.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Told {
    pub transactions: u64,
    /// Half of all transactions took less than this, in milliseconds.
    pub transaction_p50_ms: f64,
    pub transaction_p99_ms: f64,
}

/// One drain.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    pub seconds: f64,
    /// When each partition was committed to its end; empty for who commits nothing.
    pub partition_seconds: Vec<f64>,
    /// From the assignment to the first event.
    pub seconds_before_first: f64,
    pub events_per_s: f64,
    pub client_us_per_event: f64,
    /// `None` where the broker's process cannot be looked at.
    pub broker_us_per_event: Option<f64>,
    pub peak_bytes: u64,
    pub told: Told,
}

/// Plays the part that the parent process has given.
pub fn play(task: &str) {
    let task: Task = serde_json::from_str(task).expect("the parent process writes it");
    loops::run(&task);
}

/// Lets it drain the backlog. State and DLQ records are in the topics of `names` then.
pub fn drain(contender: Contender, ground: &Ground, backlog: &Backlog, names: &Names) -> Run {
    let watch = Watch { ground, backlog, group: &names.group };
    match contender {
        Contender::Raw | Contender::PassThrough | Contender::HandLoop => {
            let task = task_of(contender, &watch, names);
            watch.drain_by(Loop::start(&task))
        }
        Contender::SlowService => unreachable!("it has a delay: drain_slowly"),
        Contender::Steward => watch.drain_by(Service::start(ground, names)),
    }
}

/// Lets steward drain the backlog with an entity that takes `delay` for each event of `key`.
pub fn drain_slowly(ground: &Ground, backlog: &Backlog, names: &Names, key: &str, delay: Duration) -> Run {
    let watch = Watch { ground, backlog, group: &names.group };
    let mut task = task_of(Contender::SlowService, &watch, names);
    task.slow = Some((key.to_owned(), u64::try_from(delay.as_micros()).expect("a short delay")));
    watch.drain_by(Loop::start(&task))
}

fn task_of(contender: Contender, watch: &Watch<'_>, names: &Names) -> Task {
    Task {
        contender,
        brokers: watch.ground.kafka.address().to_owned(),
        input: watch.backlog.topic.clone(),
        state: names.state.clone(),
        dlq: names.dlq.clone(),
        group: names.group.clone(),
        events: watch.backlog.events,
        partitions: watch.backlog.partitions,
        slow: None,
    }
}

/// A contender that runs.
trait Runner {
    fn pid(&self) -> u32;
    /// Returns when it has its partitions.
    fn wait_until_assigned(&mut self);
    /// From the assignment to its first event.
    fn before_first_event(&mut self) -> Duration;
    /// Returns when it has read everything.
    fn wait_until_read(&mut self);
    /// Ends it.
    fn end(self) -> Told;
    /// Whether it commits what it has done.
    fn commits(&self) -> bool;
}

struct Watch<'a> {
    ground: &'a Ground,
    backlog: &'a Backlog,
    group: &'a str,
}

impl Watch<'_> {
    fn drain_by(&self, mut runner: impl Runner) -> Run {
        let asker = Asker::of(&self.ground.kafka, self.group, self.backlog);
        runner.wait_until_assigned();
        let began = now();
        let broker_before = self.ground.pid.and_then(processor_seconds);
        let since_began = |then: Instant| then.saturating_duration_since(began).as_secs_f64();
        let mut partition_seconds = Vec::new();
        if runner.commits() {
            partition_seconds = asker.wait_until_committed().into_iter().map(since_began).collect();
        } else {
            runner.wait_until_read();
        }
        let seconds = since_began(now());
        let broker_after = self.ground.pid.and_then(processor_seconds);
        let events = self.backlog.events as f64;
        let client = processor_seconds(runner.pid()).expect("it runs until it is told to end");
        let peak_bytes = peak_bytes(runner.pid()).expect("it runs until it is told to end");
        let seconds_before_first = runner.before_first_event().as_secs_f64();
        let broker = broker_after.zip(broker_before).map(|(after, before)| after - before);
        Run {
            seconds,
            partition_seconds,
            seconds_before_first,
            events_per_s: events / seconds,
            client_us_per_event: client * 1e6 / events,
            broker_us_per_event: broker.map(|seconds| seconds * 1e6 / events),
            peak_bytes,
            told: runner.end(),
        }
    }
}

/// Asks what a group has committed of a backlog, with one client that never joins.
pub struct Asker {
    consumer: BaseConsumer,
    asked: TopicPartitionList,
    ends: Vec<i64>,
}

impl Asker {
    /// About this group.
    pub fn of(kafka: &Kafka, group: &str, backlog: &Backlog) -> Asker {
        let mut settings = kafka.client_config();
        settings.set("group.id", group).set("enable.auto.commit", "false");
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&backlog.topic, 0, backlog.partitions - 1);
        let consumer = settings.create().expect("the settings are constants");
        Asker { consumer, asked, ends: backlog.ends.clone() }
    }

    /// For each partition; 0 as well where there is no answer.
    pub fn committed(&self) -> Vec<i64> {
        let answer = self.consumer.committed_offsets(self.asked.clone(), Duration::from_secs(5));
        let mut offsets = vec![0; self.ends.len()];
        for element in answer.iter().flat_map(TopicPartitionList::elements) {
            let partition = usize::try_from(element.partition()).expect("a partition that was asked for");
            offsets[partition] = element.offset().to_raw().unwrap_or(0).max(0);
        }
        offsets
    }

    /// Returns when all of the backlog is committed, and when each partition was.
    pub fn wait_until_committed(&self) -> Vec<Instant> {
        let deadline = Deadline::after(LIMIT);
        let mut done = vec![None; self.ends.len()];
        loop {
            let committed = self.committed();
            for ((done, end), committed) in done.iter_mut().zip(&self.ends).zip(&committed) {
                if committed >= end {
                    done.get_or_insert_with(now);
                }
            }
            if let Some(done) = done.iter().copied().collect() {
                return done;
            }
            assert!(!deadline.passed(), "{committed:?} of {:?} within {LIMIT:?}", self.ends);
            std::thread::sleep(LOOK);
        }
    }
}

// ------------------------------------------------------------------------------------------------------------- loops

/// One of [`loops`], in a process of this very program.
struct Loop {
    contender: Contender,
    child: Child,
    /// What it says, and when.
    said: Receiver<(Instant, String)>,
    assigned: Option<Instant>,
    first_event: Option<Instant>,
}

impl Loop {
    fn start(task: &Task) -> Loop {
        let contender = task.contender;
        let task = serde_json::to_string(task).expect("strings and numbers can be written");
        let program = std::env::current_exe().expect("this program runs");
        let mut child = Command::new(program)
            .args(["--child", &task])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (tell, said) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Nobody listens any more once the measurement has failed.
                let _ = tell.send((now(), line));
            }
        });
        Loop { contender, child, said, assigned: None, first_event: None }
    }

    fn wait_for(&self, line: &str) -> Instant {
        match self.said.recv_timeout(LIMIT) {
            Ok((at, found)) if found == line => at,
            other => panic!("{} said {other:?} where {line} was expected", self.contender.name()),
        }
    }
}

impl Runner for Loop {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_assigned(&mut self) {
        self.assigned = Some(self.wait_for(loops::ASSIGNED));
    }

    fn before_first_event(&mut self) -> Duration {
        let first_event = self.first_event.unwrap_or_else(|| self.wait_for(loops::FIRST_EVENT));
        self.assigned.map_or(Duration::ZERO, |assigned| first_event.saturating_duration_since(assigned))
    }

    fn wait_until_read(&mut self) {
        self.first_event = Some(self.wait_for(loops::FIRST_EVENT));
        self.wait_for(loops::READ);
    }

    fn end(mut self) -> Told {
        // It waits for the end of its input.
        drop(self.child.stdin.take());
        let (_, told) = self.said.recv_timeout(LIMIT).expect("its last line are its figures");
        let status = self.child.wait().expect("a child of ours");
        assert!(status.success(), "{}: {status}", self.contender.name());
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
    }

    fn commits(&self) -> bool {
        self.contender != Contender::Raw
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Only a measurement that has failed finds it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ----------------------------------------------------------------------------------------------------------- steward

/// `steward run` with default settings.
struct Service {
    steward: Steward,
}

impl Service {
    fn start(ground: &Ground, names: &Names) -> Service {
        Service { steward: Setup::new(&ground.kafka, names).start() }
    }
}

impl Runner for Service {
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

    fn end(mut self) -> Told {
        self.steward.stop();
        self.steward.assert_no_errors_but(&[]);
        let stats = self.steward.events("stats");
        let sum: u64 = stats.iter().map(|stats| stats["transactions"].as_u64().unwrap_or(0)).sum();
        // The interval with the most transactions speaks for all.
        let busiest = stats.iter().max_by_key(|stats| stats["transactions"].as_u64());
        let of = |name: &str| busiest.and_then(|stats: &Value| stats[name].as_f64()).unwrap_or(0.0);
        Told {
            transactions: sum,
            transaction_p50_ms: of("transaction_p50_ms"),
            transaction_p99_ms: of("transaction_p99_ms"),
        }
    }

    fn commits(&self) -> bool {
        true
    }
}
