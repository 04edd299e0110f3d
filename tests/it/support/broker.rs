//! A real Kafka for the tests: found or started, and ended with them.
//!
//! Looked for, in this order: an address in `STEWARD_TEST_KAFKA`; Java 17 or newer with Maven (or with the jars that
//! an earlier run fetched); Docker. One broker serves the whole test run and starts with the first test that needs it;
//! [`Broker::own`] starts another one, for tests that pause, kill and restart it.
//!
//! Looking is cheap and happens when the first broker test runs. A test that finds nothing is reported as ignored,
//! unless `STEWARD_REQUIRE_KAFKA=1` turns that into a failure.

mod docker;
mod java;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use libtest_mimic::{Completion, Failed, Trial};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::kafka::Kafka;
use super::names::random;
use super::times::measured;
use super::wait::Deadline;

/// What a test needs of Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The shared broker, beside other tests.
    Shared,
    /// The shared broker, while no other broker test runs: how long something takes is what it shows.
    SharedAlone,
    /// Brokers of its own that it can stop, beside other tests.
    Own,
}

/// Whoever runs alone takes it whole.
static MACHINE: RwLock<()> = RwLock::new(());

/// Makes a test that runs if its need can be met, and is otherwise reported as ignored, with the reason.
pub fn trial(name: impl Into<String>, need: Need, test: impl FnOnce() + Send + 'static) -> Trial {
    let name = name.into();
    Trial::ignorable_test(name.clone(), move || {
        match (need, found()) {
            (_, Found::Nothing(reason)) if is_required() => {
                return Err(Failed::from(format!("STEWARD_REQUIRE_KAFKA is set: {reason}")));
            }
            (_, Found::Nothing(reason)) => return Ok(Completion::ignored_with(reason)),
            (Need::Own, Found::Address(_)) => {
                let reason = "needs a broker that it may stop, STEWARD_TEST_KAFKA gives only an address";
                return Ok(Completion::ignored_with(reason));
            }
            (Need::Shared | Need::SharedAlone, Found::Address(_)) | (_, Found::Java | Found::Docker) => {}
        }
        // A test that failed leaves nothing half done behind these locks: they guard time, not data.
        match need {
            Need::Shared | Need::Own => {
                let _beside_others = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
                measured(&name, test);
            }
            Need::SharedAlone => {
                let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
                measured(&name, test);
            }
        }
        Ok(Completion::Completed)
    })
}

fn is_required() -> bool {
    std::env::var_os("STEWARD_REQUIRE_KAFKA").is_some_and(|value| value == "1")
}

// --------------------------------------------------------------------------------------------------------- looking

/// Where a Kafka can be had.
#[derive(Debug)]
enum Found {
    /// One runs already.
    Address(String),
    /// Java, and the jars or Maven.
    Java,
    /// Docker answers.
    Docker,
    /// What was looked for.
    Nothing(String),
}

fn found() -> &'static Found {
    static FOUND: OnceLock<Found> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(address) = std::env::var("STEWARD_TEST_KAFKA").ok().filter(|address| !address.is_empty()) {
            return Found::Address(address);
        }
        match java::look() {
            Ok(()) => Found::Java,
            Err(_) if docker::answers() => Found::Docker,
            Err(reason) => Found::Nothing(format!(
                "needs Kafka: no address in STEWARD_TEST_KAFKA, {reason}, and no Docker that answers"
            )),
        }
    })
}

// ---------------------------------------------------------------------------------------------------------- shared

static SHARED: Mutex<Option<Broker>> = Mutex::new(None);

/// The address of the broker of this test run, which the first call starts.
///
/// # Panics
/// When there is none to be had, or when it does not start.
pub fn shared_address() -> String {
    if let Found::Address(address) = found() {
        return address.clone();
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.get_or_insert_with(Broker::own).address()
}

/// Ends the shared broker, if one was started. Called once, behind the last test.
pub fn end_shared() {
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
}

// ------------------------------------------------------------------------------------------------------------- own

/// A broker that this test run started. It ends when this is dropped, and its data goes with it.
#[derive(Debug)]
pub struct Broker {
    engine: Engine,
    ports: Ports,
}

/// What the broker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// A test that lasts seconds.
    SoonThere,
    /// A measurement. In a container the heap stays that of the tests: name a broker of your own there.
    AtFullSpeed,
}

/// How the broker runs.
#[derive(Debug)]
enum Engine {
    Java(java::Server),
    Docker(docker::Server),
}

/// Where the broker listens, on 127.0.0.1, the same after each restart.
#[derive(Debug, Clone)]
struct Ports {
    client: u16,
    controller: u16,
    /// Of further listeners, in their order.
    further: Vec<u16>,
}

/// A listener beside the plain one that the tests themselves use: its name, and its protocol as Kafka calls it.
pub type FurtherListener<'a> = (&'a str, &'a str);

/// The broker gave up while starting, and its log's last lines.
#[derive(Debug)]
struct GaveUp(String);

impl Broker {
    /// A broker with the settings of `scripts/kafka.d/server.properties`.
    pub fn own() -> Broker {
        Broker::with(&[])
    }

    /// A broker with further, or other, lines in its server.properties. They win over everything, `listeners` and
    /// `advertised.listeners` included, so that an address can be advertised that is not the one it listens on.
    pub fn with(properties: &[(&str, &str)]) -> Broker {
        Broker::with_listeners(&[], properties)
    }

    /// A broker that also listens in other ways; how each of them is secured stands in the properties, as
    /// `listener.name.{name}.`.
    pub fn with_listeners(further: &[FurtherListener<'_>], properties: &[(&str, &str)]) -> Broker {
        Broker::laid_out(further, None, Pace::SoonThere, properties)
    }

    /// A broker for measurements, with the memory and the compiler that one in production has.
    pub fn at_full_speed() -> Broker {
        Broker::laid_out(&[], None, Pace::AtFullSpeed, &[])
    }

    /// A broker with a second listener, at [`Broker::address_behind`], whose clients are told to go on by way of the
    /// port `advertised` of 127.0.0.1: where a proxy listens. Clients of [`Broker::address`] speak to it directly.
    pub fn advertised_at(advertised: u16, properties: &[(&str, &str)]) -> Broker {
        Broker::laid_out(&[("BEHIND", "PLAINTEXT")], Some(advertised), Pace::SoonThere, properties)
    }

    /// `advertised` is the port that clients of the further listeners are told, where it is not the listener's own.
    fn laid_out(
        further: &[FurtherListener<'_>],
        advertised: Option<u16>,
        pace: Pace,
        properties: &[(&str, &str)],
    ) -> Broker {
        let mut last = GaveUp(String::new());
        // A port can be taken between drawing it and listening on it.
        for _ in 0..5 {
            let further_ports = further.iter().map(|_| free_port()).collect();
            let ports = Ports { client: free_port(), controller: free_port(), further: further_ports };
            let listeners = listeners(&ports, further, advertised);
            let listeners = listeners.iter().map(|(name, value)| (*name, value.as_str()));
            let properties: Vec<(&str, &str)> = listeners.chain(properties.iter().copied()).collect();
            let engine = match found() {
                Found::Java => Engine::Java(java::Server::new(&ports, pace, &properties)),
                Found::Docker => Engine::Docker(docker::Server::new(ports.clone(), &properties)),
                Found::Address(_) => {
                    panic!("STEWARD_TEST_KAFKA gives only an address, not a broker that can be stopped")
                }
                Found::Nothing(reason) => panic!("{reason}"),
            };
            let mut broker = Broker { engine, ports };
            match broker.try_start() {
                Ok(()) => return broker,
                Err(gave_up) if gave_up.0.contains("Address already in use") => last = gave_up,
                Err(gave_up) => panic!("Kafka did not start:\n{}", gave_up.0),
            }
        }
        panic!("Kafka found no free port in five tries:\n{}", last.0)
    }

    /// The number of its process, where it is one of this machine's that this user may look at.
    pub fn pid(&self) -> Option<u32> {
        match &self.engine {
            Engine::Java(server) => Some(server.pid()),
            Engine::Docker(_) => None,
        }
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.client)
    }

    /// `host:port` of a further listener, by its place in [`Broker::with_listeners`].
    pub fn further_address(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.ports.further[index])
    }

    /// `host:port` of the second listener of [`Broker::advertised_at`], for the proxy.
    pub fn address_behind(&self) -> String {
        self.further_address(0)
    }

    /// Runs Kafka's own `kafka-configs.sh` on the plain listener.
    ///
    /// # Panics
    /// With what it says, when it fails.
    pub fn configs_tool(&self, arguments: &[&str]) {
        let mut command = match &self.engine {
            Engine::Java(server) => server.configs_tool(),
            Engine::Docker(server) => server.configs_tool(),
        };
        let output =
            command.args(["--bootstrap-server", &self.address()]).args(arguments).stdin(Stdio::null()).output();
        let output = output.expect("it has started a broker");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }

    /// Speaks to it.
    pub fn kafka(&self) -> Kafka {
        Kafka::at(&self.address())
    }

    /// Freezes it: its connections stay, and nothing answers any more.
    pub fn pause(&mut self) {
        match &mut self.engine {
            Engine::Java(server) => server.pause(),
            Engine::Docker(server) => server.pause(),
        }
    }

    /// Goes on after [`Broker::pause`].
    pub fn resume(&mut self) {
        match &mut self.engine {
            Engine::Java(server) => server.resume(),
            Engine::Docker(server) => server.resume(),
        }
    }

    /// Kills it at once, as a crash would. What it has on disk stays for [`Broker::start`].
    pub fn kill(&mut self) {
        match &mut self.engine {
            Engine::Java(server) => server.kill(),
            Engine::Docker(server) => server.kill(),
        }
    }

    /// Ends it cleanly, at most for `limit`; then kills it.
    pub fn stop(&mut self, limit: Duration) {
        match &mut self.engine {
            Engine::Java(server) => server.stop(limit),
            Engine::Docker(server) => server.stop(limit),
        }
    }

    /// Starts it again on the same data and ports, and returns when it answers.
    pub fn start(&mut self) {
        if let Err(gave_up) = self.try_start() {
            panic!("Kafka did not start again:\n{}", gave_up.0);
        }
    }

    /// Kills it and starts it again.
    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    fn try_start(&mut self) -> Result<(), GaveUp> {
        let limit = match &mut self.engine {
            Engine::Java(server) => server.start(),
            Engine::Docker(server) => server.start(),
        };
        let deadline = Deadline::after(limit);
        let client = probe(&self.address());
        loop {
            let answer = client.client().fetch_metadata(None, Duration::from_millis(500));
            if answer.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
                return Ok(());
            }
            let (has_ended, log) = match &mut self.engine {
                Engine::Java(server) => (server.has_ended(), server.log_tail()),
                Engine::Docker(server) => (server.has_ended(), server.log_tail()),
            };
            if has_ended || deadline.passed() {
                return Err(GaveUp(log));
            }
        }
    }
}

/// What the properties have to say for further listeners; nothing where there are none.
fn listeners(ports: &Ports, further: &[FurtherListener<'_>], advertised: Option<u16>) -> Vec<(&'static str, String)> {
    if further.is_empty() {
        return Vec::new();
    }
    // A port of a container is published from outside of it.
    let host = if matches!(found(), Found::Docker) { "0.0.0.0" } else { "127.0.0.1" };
    let at = |host: &str, told: Option<u16>| -> String {
        let further = further
            .iter()
            .zip(&ports.further)
            .map(|((name, _), port)| format!(",{name}://{host}:{}", told.unwrap_or(*port)));
        format!("PLAINTEXT://{host}:{}{}", ports.client, further.collect::<String>())
    };
    let protocols: String = further.iter().map(|(name, protocol)| format!(",{name}:{protocol}")).collect();
    vec![
        ("listeners", format!("{},CONTROLLER://127.0.0.1:{}", at(host, None), ports.controller)),
        ("advertised.listeners", at("127.0.0.1", advertised)),
        ("listener.security.protocol.map", format!("PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}")),
    ]
}

/// A client that tries again quickly while nobody listens yet.
fn probe(address: &str) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "200")
        .set("log_level", "0")
        .create()
        .expect("the settings are constants")
}

/// Ports that were given away: a broker that starts, or starts again, does not listen for a moment.
static GIVEN_PORTS: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on 127.0.0.1 that was free a moment ago, below those that the system gives to outgoing connections: so that
/// it is still free when the broker starts again.
fn free_port() -> u16 {
    let mut given = GIVEN_PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    (0..1000)
        .map(|_| 16_000 + u16::try_from(random() % 16_000).expect("below 16,000"))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok() && given.insert(*port))
        .expect("one of 1,000 ports is free")
}

/// `scripts/kafka.d/server.properties` with what differs from broker to broker.
fn properties(own: &[(&str, &str)], overrides: &[(&str, &str)]) -> String {
    let file = include_str!("../../../scripts/kafka.d/server.properties");
    let mut lines: BTreeMap<&str, &str> =
        file.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect();
    lines.extend(own.iter().copied());
    lines.extend(overrides.iter().copied());
    lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Runs a program that is expected to be quick, and returns what it said; `None` where it is missing or fails.
fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    output.status.success().then(|| String::from_utf8_lossy(&said).into_owned())
}
