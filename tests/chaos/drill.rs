//! Carries a schedule out, waits until everything has settled, and judges.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use steward::exit_code::ExitCode;
use steward::testing::workload::Workload;

use crate::schedule::{Action, Delayed, FIRST, LONGEST_DELAY, Name, SESSION, SLOTS, Slot, Step, draw};
use crate::support::kafka::Kafka;
use crate::support::ledger::Ledger;
use crate::support::load::{Load, events_of};
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::proxy::{Caught, ProxiedBroker};
use crate::support::wait::{Deadline, now, wait_until};

const KEYS: u32 = 2_000;
/// Events at a time.
const CHUNK: usize = 200;
/// Less than a process is frozen for, some of the time.
const TRANSACTION_TIMEOUT_MS: u64 = 8_000;
/// The default of `health.stall_timeout_ms`: a broker that is away for longer ends a process.
const STALL: Duration = Duration::from_secs(30);
/// Of the default of `shutdown.drain_timeout_ms`, 25 s: what is left is not sure to suffice for what a broker that is
/// back asks for, a group that finds together and a producer that registers.
const MOST_OF_A_DRAIN: Duration = Duration::from_secs(15);
/// What a process that was told to stop may take: its drain, and a machine that is busy.
const LEAVE: Duration = Duration::from_secs(40);
/// Everything restores and catches up within that.
const SETTLE: Duration = Duration::from_secs(90);
/// Events below that would show nothing.
const MIN_EVENTS: usize = 2_000;

/// Plays the seed, for so long, and fails on anything that is not as promised.
pub fn run(seed: u64, length: Duration) {
    let mut drill = Drill::new(seed, length);
    for slot in 0..FIRST {
        drill.act(Action::Start(slot, Name::Fresh));
    }
    let load = drill.load();
    drill.play();
    let sent = load.stop();
    drill.note(format!("{sent} events went in"));
    drill.settle();
    drill.end_all();
    drill.judge();
}

/// Bounds that are met all the time: small transactions and batches, entities that rest and wake, one recovery at once.
fn tight(setup: Setup) -> Setup {
    setup
        .set("limits.max_transaction_bytes", 400_000)
        .set("limits.max_batch_records", 64)
        .set("limits.max_active_entities", 50)
        .set("limits.entity_idle_ms", 300)
        .set("recovery.max_parallel_partitions", 1)
}

/// One process that was started.
struct Member {
    steward: Steward,
    instance: String,
    course: Course,
}

/// What was done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Running,
    Frozen,
    /// Told to stop, not yet seen to have stopped.
    Leaving,
    /// Killed, or stopped with the code it should have.
    Over,
    /// Ended by its watchdog for a reason that is not its own, and replaced, as an orchestrator would.
    Excused,
}

struct Drill {
    seed: u64,
    schedule: Vec<Step>,
    journal: Vec<String>,
    began: Instant,
    broker: ProxiedBroker,
    /// What is held back, or is to be.
    delayed: BTreeMap<Delayed, Caught>,
    /// What is thrown away, or is to be.
    lost: Vec<Caught>,
    broker_away_since: Option<Instant>,
    longest_outage: Duration,
    kafka: Kafka,
    names: Names,
    setup: Setup,
    /// All that ever were, in the order of their start.
    members: Vec<Member>,
    /// Which of them has the slot.
    slots: [Option<usize>; SLOTS],
    failed_by_now: Failing,
}

/// Whether the drill ended well, for whoever drops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failing {
    Undecided,
    Passed,
}

impl Drill {
    fn new(seed: u64, length: Duration) -> Drill {
        let broker = ProxiedBroker::start();
        let (kafka, names) = (broker.direct(), Names::new());
        let partitions = 6 + i32::try_from(seed % 7).expect("below 7");
        kafka.create_input(&names, partitions);
        let setup = Setup::new(&broker.through(), &names)
            .set("kafka.session_timeout_ms", i64::try_from(SESSION.as_millis()).expect("seconds"))
            .set("kafka.transaction_timeout_ms", i64::try_from(TRANSACTION_TIMEOUT_MS).expect("seconds"))
            .set("recovery.look_back_records", 2_000)
            .set("health.ready_settle_ms", 1_000)
            .set("log.level", "info,steward::commit=debug")
            .set("log.stats_interval_ms", 1_000);
        let setup = if seed % 2 == 1 { tight(setup) } else { setup };
        Drill {
            seed,
            schedule: draw(seed, length),
            journal: vec![format!("{partitions} partitions")],
            began: now(),
            broker,
            delayed: BTreeMap::new(),
            lost: Vec::new(),
            broker_away_since: None,
            longest_outage: Duration::ZERO,
            kafka,
            names,
            setup,
            members: Vec::new(),
            slots: [None; SLOTS],
            failed_by_now: Failing::Undecided,
        }
    }

    fn load(&self) -> Load {
        let workload = Workload {
            seed: self.seed,
            events: 2_000_000,
            keys: KEYS,
            invalid_share: 0.05,
            odd_share: 0.03,
            ..Workload::default()
        };
        Load::of(&self.kafka, &self.names.input, CHUNK, events_of(&workload))
    }

    fn note(&mut self, what: impl Into<String>) {
        self.journal.push(format!("{:7.3} s  {}", self.began.elapsed().as_secs_f64(), what.into()));
    }

    // -------------------------------------------------------------------------------------------------- the schedule

    /// What takes its time, as the start of a broker does, delays the rest of the schedule instead of squeezing it.
    fn play(&mut self) {
        let mut delay = Duration::ZERO;
        let began = now();
        for step in self.schedule.clone() {
            let due = began + step.at + delay;
            while now() < due {
                self.look_after_members();
                let left = due.saturating_duration_since(now());
                std::thread::sleep(left.min(Duration::from_millis(50)));
            }
            let acted = now();
            self.act(step.action);
            delay += acted.elapsed();
        }
    }

    fn act(&mut self, action: Action) {
        self.note(format!("{action:?}"));
        match action {
            Action::Start(slot, name) => self.start(slot, name),
            Action::Kill(slot) => {
                let member = self.member(slot);
                member.steward.kill9();
                member.course = Course::Over;
            }
            Action::Terminate(slot) => {
                let member = self.member(slot);
                member.steward.sigterm();
                member.course = Course::Leaving;
            }
            Action::Freeze(slot) => {
                let member = self.member(slot);
                member.steward.sigstop();
                member.course = Course::Frozen;
            }
            Action::Thaw(slot) => {
                let member = self.member(slot);
                member.steward.sigcont();
                member.course = Course::Running;
            }
            Action::KillBroker => {
                self.broker_away_since = Some(now());
                self.broker.broker.kill();
            }
            Action::StartBroker => {
                self.broker.broker.start();
                self.broker_is_back();
            }
            Action::FreezeBroker => {
                self.broker_away_since = Some(now());
                self.broker.broker.pause();
            }
            Action::ThawBroker => {
                self.broker.broker.resume();
                self.broker_is_back();
            }
            Action::Delay(delayed, api, client) => {
                let earlier = self.delayed.insert(delayed, self.broker.proxy.hold(api, client));
                assert!(earlier.is_none(), "each has a number of its own");
            }
            Action::Release(delayed) => {
                let caught = self.delayed.remove(&delayed).expect("the schedule delays before it releases");
                if !caught.release_or_cancel() {
                    self.note(format!("nothing came to be delay {delayed}"));
                }
            }
            Action::LoseRequest(api) => self.lost.push(self.broker.proxy.drop_request(api)),
            Action::LoseAnswer(api) => self.lost.push(self.broker.proxy.drop_answer(api)),
            Action::CutConnections => self.broker.proxy.cut(),
        }
    }

    /// Two of the same name at the same time would fence each other: one that is still leaving keeps its own.
    fn start(&mut self, slot: Slot, name: Name) {
        let fresh = format!("member-{}", self.members.len());
        let earlier = self.slots[slot].map(|index| &self.members[index]);
        let instance = match (name, earlier) {
            (Name::Same, Some(earlier)) if matches!(earlier.course, Course::Over | Course::Excused) => {
                earlier.instance.clone()
            }
            (Name::Same | Name::Fresh, _) => fresh,
        };
        let steward = self.setup.clone().instance(&instance).start();
        self.note(format!("slot {slot} is member {}, {instance}, pid {}", self.members.len(), steward.pid()));
        self.slots[slot] = Some(self.members.len());
        self.members.push(Member { steward, instance, course: Course::Running });
    }

    fn member(&mut self, slot: Slot) -> &mut Member {
        let index = self.slots[slot].expect("the schedule starts a process before it does anything to it");
        &mut self.members[index]
    }

    fn broker_is_back(&mut self) {
        if let Some(since) = self.broker_away_since.take() {
            let outage = since.elapsed();
            self.longest_outage = self.longest_outage.max(outage);
            self.note(format!("the broker is back after {:.1} s", outage.as_secs_f64()));
        }
    }

    /// Nobody ends unless told to, and who was told ends well.
    fn look_after_members(&mut self) {
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if matches!(member.course, Course::Over | Course::Excused | Course::Frozen) || member.steward.is_running() {
                continue;
            }
            let code = member.steward.wait_exit(Duration::ZERO);
            let was = std::mem::replace(&mut member.course, Course::Over);
            self.note(format!("member {index}, {was:?}, exited with {code}"));
            if (was, code) == (Course::Leaving, 0) {
                continue;
            }
            assert!(
                self.is_excused(was, code),
                "member {index} ({was:?}) exited with {code}; {}",
                self.members[index].steward.tail()
            );
            self.members[index].course = Course::Excused;
            if was == Course::Leaving {
                continue;
            }
            if let Some(slot) = self.slots.iter().position(|holder| *holder == Some(index)) {
                self.start(slot, Name::Fresh);
            }
        }
    }

    /// The schedule never means it, but a broker may take that long to start; and what the network delays then adds to it
    /// for a drain. Nothing else is excused.
    fn is_excused(&self, was: Course, code: i32) -> bool {
        let (expected, outage) = match was {
            Course::Leaving => (ExitCode::DrainTimedOut, MOST_OF_A_DRAIN.saturating_sub(LONGEST_DELAY)),
            Course::Running | Course::Frozen | Course::Over | Course::Excused => (ExitCode::Stalled, STALL),
        };
        let outage_now = self.broker_away_since.map_or(Duration::ZERO, |since| since.elapsed());
        code == i32::from(expected.code()) && self.longest_outage.max(outage_now) >= outage
    }

    // ------------------------------------------------------------------------------------------------------- the end

    fn settle(&mut self) {
        // From now on the network is in order.
        let lost = self.lost.iter().filter(|caught| caught.release_or_cancel()).count();
        self.note(format!("{lost} of {} requests or answers were lost", self.lost.len()));
        let ends: Vec<i64> = self.kafka.ends(&self.names.input).iter().map(|ends| ends.high).collect();
        let deadline = Deadline::after(SETTLE);
        loop {
            self.look_after_members();
            let committed = self.kafka.committed(&self.names.group, &self.names.input);
            let is_done = |(end, committed): (&i64, &Option<i64>)| *end == 0 || *committed >= Some(*end);
            if ends.iter().zip(&committed).all(is_done) {
                break;
            }
            assert!(!deadline.passed(), "not worked off within {SETTLE:?}: committed {committed:?} of {ends:?}");
        }
        self.note("worked off");
        let running = self.members.iter().filter(|member| member.course == Course::Running);
        for member in running {
            wait_until(&format!("{} is ready", member.instance), SETTLE, || member.steward.is_ready());
        }
        self.note("all ready");
    }

    fn end_all(&mut self) {
        for member in &mut self.members {
            if member.course == Course::Running {
                member.steward.sigterm();
                member.course = Course::Leaving;
            }
        }
        self.note("SIGTERM to all");
        let deadline = Deadline::after(LEAVE);
        while self.members.iter().any(|member| !matches!(member.course, Course::Over | Course::Excused)) {
            assert!(!deadline.passed(), "not everybody has ended within {LEAVE:?}");
            self.look_after_members();
            std::thread::sleep(Duration::from_millis(10));
        }
        self.note("all ended");
    }

    fn judge(&mut self) {
        for member in &self.members {
            let announced: &[&str] = match member.course {
                Course::Excused => &["progress_stalled", "process_failed"],
                Course::Running | Course::Frozen | Course::Leaving | Course::Over => &[],
            };
            member.steward.assert_no_errors_but(announced);
        }
        let excused = self.members.iter().filter(|member| member.course == Course::Excused).count();
        let ledger = Ledger::of(&self.kafka, &self.names).assert_exact();
        let events = ledger.events();
        assert!(events >= MIN_EVENTS, "only {events} events went in");
        let count = |name: &str| self.members.iter().map(|member| member.steward.events(name).len()).sum::<usize>();
        let told =
            ["partitions_lost", "recovery_finished", "producer_abandoned", "drain_cut_short", "transaction_committed"]
                .map(|name| format!("{} {name}", count(name)));
        println!(
            "seed {}: {events} events, {} steps, {} processes ({excused} excused), {} s; {}",
            self.seed,
            self.schedule.len(),
            self.members.len(),
            self.began.elapsed().as_secs(),
            told.join(", ")
        );
        assert!(count("transaction_committed") > 0, "nothing was committed");
        self.failed_by_now = Failing::Passed;
    }

    /// The logs of all processes and what happened, in a folder that stays.
    fn keep_logs(&self, story: &str) -> std::io::Result<PathBuf> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}", self.seed));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("story"), story)?;
        for (index, member) in self.members.iter().enumerate() {
            std::fs::write(folder.join(format!("member-{index}.log")), member.steward.output())?;
        }
        Ok(folder)
    }
}

impl Drop for Drill {
    fn drop(&mut self) {
        if self.failed_by_now == Failing::Passed && std::env::var_os("STEWARD_CHAOS_KEEP").is_none() {
            return;
        }
        let mut story = format!("seed {}; the schedule:\n", self.seed);
        for step in &self.schedule {
            let _ = writeln!(story, "  {step}");
        }
        let _ = writeln!(story, "what happened:\n  {}", self.journal.join("\n  "));
        let kept = self.keep_logs(&story);
        // Each of them shows the end of its log when it goes; what matters most comes last.
        self.members.clear();
        eprintln!("{story}logs: {kept:?}\nagain: STEWARD_CHAOS_SEED={} cargo test --test chaos", self.seed);
    }
}
