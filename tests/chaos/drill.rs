//! Executes a schedule, waits until everything has settled, and checks the outcome.

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
/// Events per chunk of the load.
const CHUNK: usize = 200;
/// Shorter than some freezes of a process.
const TRANSACTION_TIMEOUT_MS: u64 = 8_000;
/// The default of `health.stall_timeout_ms`: if the broker is unreachable for longer, a process ends.
const STALL: Duration = Duration::from_secs(30);
/// The part of the default `shutdown.drain_timeout_ms`, 25 s, that an outage may use up. The rest may not suffice to
/// rejoin the group of a restarted broker and to register a producer.
const MAX_DRAIN_OUTAGE: Duration = Duration::from_secs(15);
/// Limit for the stop of a process: its drain, on a busy machine.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// Limit for recovery and the rest of the input.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);
/// With fewer events, the test would prove nothing.
const MIN_EVENTS: usize = 2_000;

/// Runs the schedule of the seed, and fails if a guarantee is broken.
pub fn run(seed: u64, length: Duration) {
    let mut drill = Drill::new(seed, length);
    for slot in 0..FIRST {
        drill.act(Action::Start(slot, Name::Fresh));
    }
    let load = drill.load();
    drill.run_schedule();
    let sent = load.stop();
    drill.note(format!("{sent} events were produced"));
    drill.settle();
    drill.end_all();
    drill.check();
}

/// Sets limits that are reached all the time: small transactions and batches, entities that are passivated and spawned
/// again, one recovery at a time.
fn with_tight_limits(setup: Setup) -> Setup {
    setup
        .set("limits.max_transaction_bytes", 400_000)
        .set("limits.max_batch_records", 64)
        .set("limits.max_active_entities", 50)
        .set("limits.entity_idle_ms", 300)
        .set("recovery.max_parallel_partitions", 1)
}

/// A process that was started.
struct Member {
    steward: Steward,
    instance: String,
    state: MemberState,
}

/// What the schedule has done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberState {
    Running,
    Frozen,
    /// Received SIGTERM, and has not ended yet.
    Leaving,
    /// Killed, or ended with the expected exit code.
    Ended,
    /// Ended because of an outage of the broker, and replaced, as an orchestrator would.
    Excused,
}

struct Drill {
    seed: u64,
    schedule: Vec<Step>,
    journal: Vec<String>,
    began: Instant,
    broker: ProxiedBroker,
    /// Requests that are held, or will be.
    delayed: BTreeMap<Delayed, Caught>,
    /// Requests and responses that are dropped, or will be.
    lost: Vec<Caught>,
    broker_away_since: Option<Instant>,
    longest_outage: Duration,
    kafka: Kafka,
    names: Names,
    setup: Setup,
    /// All processes, in the order of their start.
    members: Vec<Member>,
    /// The index of the process in each slot.
    slots: [Option<usize>; SLOTS],
    result: DrillResult,
}

/// Whether the drill passed. `Drop` keeps the logs otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DrillResult {
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
        let setup = if seed % 2 == 1 { with_tight_limits(setup) } else { setup };
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
            result: DrillResult::Undecided,
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

    /// Executes all steps. A step that takes time, such as the start of a broker, delays the later steps.
    fn run_schedule(&mut self) {
        let mut delay = Duration::ZERO;
        let began = now();
        for step in self.schedule.clone() {
            let due = began + step.at + delay;
            while now() < due {
                self.check_for_exits();
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
                member.state = MemberState::Ended;
            }
            Action::Terminate(slot) => {
                let member = self.member(slot);
                member.steward.sigterm();
                member.state = MemberState::Leaving;
            }
            Action::Freeze(slot) => {
                let member = self.member(slot);
                member.steward.sigstop();
                member.state = MemberState::Frozen;
            }
            Action::Thaw(slot) => {
                let member = self.member(slot);
                member.steward.sigcont();
                member.state = MemberState::Running;
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
                assert!(earlier.is_none(), "each delay has its own number");
            }
            Action::Release(delayed) => {
                let caught = self.delayed.remove(&delayed).expect("the schedule releases only delayed requests");
                if !caught.release_or_cancel() {
                    self.note(format!("no request arrived for delay {delayed}"));
                }
            }
            Action::LoseRequest(api) => self.lost.push(self.broker.proxy.drop_request(api)),
            Action::LoseAnswer(api) => self.lost.push(self.broker.proxy.drop_answer(api)),
            Action::CutConnections => self.broker.proxy.cut(),
        }
    }

    /// Starts a process in a slot. Two processes with one name would fence each other, so the name of a process that is
    /// still stopping is not used again.
    fn start(&mut self, slot: Slot, name: Name) {
        let fresh = format!("member-{}", self.members.len());
        let earlier = self.slots[slot].map(|index| &self.members[index]);
        let instance = match (name, earlier) {
            (Name::Same, Some(earlier)) if matches!(earlier.state, MemberState::Ended | MemberState::Excused) => {
                earlier.instance.clone()
            }
            (Name::Same | Name::Fresh, _) => fresh,
        };
        let steward = self.setup.clone().instance(&instance).start();
        self.note(format!("slot {slot} is member {}, {instance}, pid {}", self.members.len(), steward.pid()));
        self.slots[slot] = Some(self.members.len());
        self.members.push(Member { steward, instance, state: MemberState::Running });
    }

    fn member(&mut self, slot: Slot) -> &mut Member {
        let index = self.slots[slot].expect("the schedule acts only on started processes");
        &mut self.members[index]
    }

    fn broker_is_back(&mut self) {
        if let Some(since) = self.broker_away_since.take() {
            let outage = since.elapsed();
            self.longest_outage = self.longest_outage.max(outage);
            self.note(format!("the broker is back after {:.1} s", outage.as_secs_f64()));
        }
    }

    /// Fails if a process has ended without SIGTERM, or with an unexpected exit code.
    fn check_for_exits(&mut self) {
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if matches!(member.state, MemberState::Ended | MemberState::Excused | MemberState::Frozen)
                || member.steward.is_running()
            {
                continue;
            }
            let code = member.steward.wait_exit(Duration::ZERO);
            let was = std::mem::replace(&mut member.state, MemberState::Ended);
            self.note(format!("member {index}, {was:?}, exited with {code}"));
            if (was, code) == (MemberState::Leaving, 0) {
                continue;
            }
            assert!(
                self.is_excused(was, code),
                "member {index} ({was:?}) exited with {code}; {}",
                self.members[index].steward.tail()
            );
            self.members[index].state = MemberState::Excused;
            if was == MemberState::Leaving {
                continue;
            }
            if let Some(slot) = self.slots.iter().position(|holder| *holder == Some(index)) {
                self.start(slot, Name::Fresh);
            }
        }
    }

    /// Returns whether an outage of the broker explains the exit. The schedule does not intend such long outages, but
    /// the start of a broker may take that long. For a drain, delayed requests add to the outage. Nothing else is
    /// excused.
    fn is_excused(&self, was: MemberState, code: i32) -> bool {
        let (expected, outage) = match was {
            MemberState::Leaving => (ExitCode::DrainTimedOut, MAX_DRAIN_OUTAGE.saturating_sub(LONGEST_DELAY)),
            MemberState::Running | MemberState::Frozen | MemberState::Ended | MemberState::Excused => {
                (ExitCode::Stalled, STALL)
            }
        };
        let outage_now = self.broker_away_since.map_or(Duration::ZERO, |since| since.elapsed());
        code == i32::from(expected.code()) && self.longest_outage.max(outage_now) >= outage
    }

    // ------------------------------------------------------------------------------------------------------- the end

    fn settle(&mut self) {
        // From here on, there are no network faults.
        let lost = self.lost.iter().filter(|caught| caught.release_or_cancel()).count();
        self.note(format!("{lost} of {} requests or responses were lost", self.lost.len()));
        let ends: Vec<i64> = self.kafka.ends(&self.names.input).iter().map(|ends| ends.high).collect();
        let deadline = Deadline::after(SETTLE_LIMIT);
        loop {
            self.check_for_exits();
            let committed = self.kafka.committed(&self.names.group, &self.names.input);
            let is_done = |(end, committed): (&i64, &Option<i64>)| *end == 0 || *committed >= Some(*end);
            if ends.iter().zip(&committed).all(is_done) {
                break;
            }
            assert!(
                !deadline.passed(),
                "the input is not committed within {SETTLE_LIMIT:?}: {committed:?} of {ends:?}"
            );
        }
        self.note("the input is committed");
        let running = self.members.iter().filter(|member| member.state == MemberState::Running);
        for member in running {
            wait_until(&format!("{} is ready", member.instance), SETTLE_LIMIT, || member.steward.is_ready());
        }
        self.note("all ready");
    }

    fn end_all(&mut self) {
        for member in &mut self.members {
            if member.state == MemberState::Running {
                member.steward.sigterm();
                member.state = MemberState::Leaving;
            }
        }
        self.note("SIGTERM to all");
        let deadline = Deadline::after(STOP_LIMIT);
        while self.members.iter().any(|member| !matches!(member.state, MemberState::Ended | MemberState::Excused)) {
            assert!(!deadline.passed(), "some processes have not ended within {STOP_LIMIT:?}");
            self.check_for_exits();
            std::thread::sleep(Duration::from_millis(10));
        }
        self.note("all ended");
    }

    fn check(&mut self) {
        for member in &self.members {
            let announced: &[&str] = match member.state {
                MemberState::Excused => &["progress_stalled", "process_failed"],
                MemberState::Running | MemberState::Frozen | MemberState::Leaving | MemberState::Ended => &[],
            };
            member.steward.assert_no_errors_but(announced);
        }
        let excused = self.members.iter().filter(|member| member.state == MemberState::Excused).count();
        let ledger = Ledger::of(&self.kafka, &self.names).assert_exact();
        let events = ledger.events();
        assert!(events >= MIN_EVENTS, "only {events} events were produced");
        let count = |name: &str| self.members.iter().map(|member| member.steward.events(name).len()).sum::<usize>();
        let counts =
            ["partitions_lost", "recovery_finished", "producer_abandoned", "drain_cut_short", "transaction_committed"]
                .map(|name| format!("{} {name}", count(name)));
        println!(
            "seed {}: {events} events, {} steps, {} processes ({excused} excused), {} s; {}",
            self.seed,
            self.schedule.len(),
            self.members.len(),
            self.began.elapsed().as_secs(),
            counts.join(", ")
        );
        assert!(count("transaction_committed") > 0, "nothing was committed");
        self.result = DrillResult::Passed;
    }

    /// Writes the report and the logs of all processes to a folder that is not deleted.
    fn keep_logs(&self, report: &str) -> std::io::Result<PathBuf> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}", self.seed));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("report"), report)?;
        for (index, member) in self.members.iter().enumerate() {
            std::fs::write(folder.join(format!("member-{index}.log")), member.steward.output())?;
        }
        Ok(folder)
    }
}

impl Drop for Drill {
    fn drop(&mut self) {
        if self.result == DrillResult::Passed && std::env::var_os("STEWARD_CHAOS_KEEP").is_none() {
            return;
        }
        let mut report = format!("seed {}; the schedule:\n", self.seed);
        for step in &self.schedule {
            let _ = writeln!(report, "  {step}");
        }
        let _ = writeln!(report, "journal:\n  {}", self.journal.join("\n  "));
        let kept = self.keep_logs(&report);
        // Each process prints the end of its log when it is dropped. The most important text comes last.
        self.members.clear();
        eprintln!("{report}logs: {kept:?}\nagain: STEWARD_CHAOS_SEED={} cargo test --test chaos", self.seed);
    }
}
