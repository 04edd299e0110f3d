//! Finds or starts a real Kafka for the tests, and ends it with them.
//!
//! The search order: an address in `STEWARD_TEST_KAFKA`; Java 17 or newer with Maven (or with the jars that
//! an earlier run fetched); Docker. One broker serves the whole test run and starts with the first test that needs it;
//! [`Broker::own`] starts another one, for tests that pause, kill and restart it; [`Cluster::own`] starts three.
//!
//! `STEWARD_TEST_KAFKA_VERSION=3.9.2` runs that version of Kafka; `docs/compatibility.md` has the tested ones.
//!
//! The search is cheap and happens when the first broker test runs. Without a broker, a test is reported as ignored.
//! With `STEWARD_REQUIRE_KAFKA=1` it fails instead.

mod cluster;
mod docker;
mod java;

#[allow(unused_imports, reason = "not every binary that includes this folder uses each of them")]
pub use cluster::{Cluster, NODES, NodeId};

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

/// The Kafka that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The shared broker, while other tests may run.
    Shared,
    /// The shared broker, while no other broker test runs, because the test measures time.
    SharedAlone,
    /// Brokers of its own that it can stop, while other tests may run.
    Own,
    /// A [`Cluster`], while other tests may run.
    Cluster,
}

/// Held for writing by a test that runs alone, and for reading by the others.
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
            (Need::Cluster, Found::Docker) => {
                let reason = "needs three brokers, which run only with Java and Maven";
                return Ok(Completion::ignored_with(reason));
            }
            (Need::Own | Need::Cluster, Found::Address(_)) => {
                let reason = "needs a broker that it may stop, STEWARD_TEST_KAFKA gives only an address";
                return Ok(Completion::ignored_with(reason));
            }
            (Need::Shared | Need::SharedAlone, Found::Address(_)) | (_, Found::Java | Found::Docker) => {}
        }
        // A poisoned lock is valid, because it guards time, not data.
        match need {
            Need::Shared | Need::Own | Need::Cluster => {
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

// ---------------------------------------------------------------------------------------------------------- search

/// The result of the search for a Kafka.
#[derive(Debug)]
enum Found {
    /// The address of a running broker.
    Address(String),
    /// Java, and the jars or Maven.
    Java,
    Docker,
    /// Why none of the above is available.
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
                "needs Kafka: no address in STEWARD_TEST_KAFKA, {reason}, and no running Docker"
            )),
        }
    })
}

// ---------------------------------------------------------------------------------------------------------- shared

static SHARED: Mutex<Option<Broker>> = Mutex::new(None);

/// Returns the address of the shared broker, which the first call starts.
///
/// # Panics
/// If no broker is available, or if it does not start.
pub fn shared_address() -> String {
    if let Found::Address(address) = found() {
        return address.clone();
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.get_or_insert_with(Broker::own).address()
}

/// Ends the shared broker, if one was started. Called once, after the last test.
pub fn end_shared() {
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
}

// ------------------------------------------------------------------------------------------------------------- own

/// A broker of this test run. Dropping it ends the broker and deletes its data.
#[derive(Debug)]
pub struct Broker {
    engine: Engine,
    ports: Ports,
}

/// The purpose of the broker, which determines the options of its JVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A test that lasts seconds: a fast start.
    Test,
    /// A measurement: full speed. In a container the heap is the one for tests, so measure against a broker of your own.
    Benchmark,
}

#[derive(Debug)]
enum Engine {
    Java(java::Server),
    Docker(docker::Server),
}

/// The ports of the broker on 127.0.0.1, which stay the same after a restart.
#[derive(Debug, Clone)]
struct Ports {
    client: u16,
    controller: u16,
    /// Ports of further listeners, in order.
    further: Vec<u16>,
}

/// Name and security protocol of a listener besides the plain one that the tests use.
pub type FurtherListener<'a> = (&'a str, &'a str);

/// The last lines of the log of a broker that did not start.
#[derive(Debug)]
struct StartFailure(String);

impl Broker {
    /// Starts a broker with the settings of `scripts/kafka.d/server.properties`.
    pub fn own() -> Broker {
        Broker::with(&[])
    }

    /// Starts a broker with additional lines in its server.properties. They override all others, including `listeners`
    /// and `advertised.listeners`, so that the advertised address can differ from the bound one.
    pub fn with(properties: &[(&str, &str)]) -> Broker {
        Broker::with_listeners(&[], properties)
    }

    /// Starts a broker that creates a topic only if the statements `validate` let the request `topic` pass. They are Java,
    /// and a policy of the broker's. `None` if the broker is no child process, or if there is no compiler.
    pub fn with_topic_policy(validate: &str) -> Option<Broker> {
        let folder = tempfile::tempdir().expect("the system's temporary folder");
        matches!(found(), Found::Java).then(|| java::compile_policy(folder.path(), validate)).flatten()?;
        let classes = folder.path().display().to_string();
        Some(Broker::with(&[("create.topic.policy.class.name", java::POLICY), (java::CLASSES, &classes)]))
    }

    /// Kills the broker, deletes what it has stored of a partition, and starts it again: the partition is empty then.
    /// Returns `false` without doing so if the broker is no child process.
    pub fn lose_partition(&mut self, topic: &str, partition: i32) -> bool {
        let Engine::Java(server) = &mut self.engine else { return false };
        server.kill();
        server.delete_log(topic, partition);
        self.start();
        true
    }

    /// Starts a broker with further listeners. The properties `listener.name.{name}.` configure their security.
    pub fn with_listeners(further: &[FurtherListener<'_>], properties: &[(&str, &str)]) -> Broker {
        Broker::new(further, None, Purpose::Test, properties)
    }

    /// Starts a broker for measurements, with the memory and the compiler of a production broker.
    pub fn at_full_speed() -> Broker {
        Broker::new(&[], None, Purpose::Benchmark, &[])
    }

    /// Starts a broker with a second listener, at [`Broker::address_behind`]. That listener advertises the port
    /// `advertised` of 127.0.0.1, on which a proxy listens. Clients of [`Broker::address`] connect directly.
    pub fn advertised_at(advertised: u16, properties: &[(&str, &str)]) -> Broker {
        Broker::new(&[("BEHIND", "PLAINTEXT")], Some(advertised), Purpose::Test, properties)
    }

    /// `advertised` is the advertised port of the further listeners, if it differs from their own ports.
    fn new(
        further: &[FurtherListener<'_>],
        advertised: Option<u16>,
        purpose: Purpose,
        properties: &[(&str, &str)],
    ) -> Broker {
        with_free_ports(|| {
            let further_ports = further.iter().map(|_| free_port()).collect();
            let ports = Ports { client: free_port(), controller: free_port(), further: further_ports };
            let listeners = listeners(&ports, further, advertised);
            let listeners = listeners.iter().map(|(name, value)| (*name, value.as_str()));
            let properties: Vec<(&str, &str)> = listeners.chain(properties.iter().copied()).collect();
            let mut broker = Broker::stopped(ports, purpose, &properties);
            broker.try_start()?;
            Ok(broker)
        })
    }

    /// Creates the folder of a broker, and does not start it.
    fn stopped(ports: Ports, purpose: Purpose, properties: &[(&str, &str)]) -> Broker {
        let engine = match found() {
            Found::Java => Engine::Java(java::Server::new(&ports, purpose, properties)),
            Found::Docker => Engine::Docker(docker::Server::new(ports.clone(), properties)),
            Found::Address(_) => {
                panic!("STEWARD_TEST_KAFKA gives only an address, not a broker that can be stopped")
            }
            Found::Nothing(reason) => panic!("{reason}"),
        };
        Broker { engine, ports }
    }

    /// Returns the process id, if the broker is a child process.
    pub fn pid(&self) -> Option<u32> {
        match &self.engine {
            Engine::Java(server) => Some(server.pid()),
            Engine::Docker(_) => None,
        }
    }

    /// Returns `host:port` for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.client)
    }

    /// Returns `host:port` of a further listener, by its index in [`Broker::with_listeners`].
    pub fn further_address(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.ports.further[index])
    }

    /// Returns `host:port` of the second listener of [`Broker::advertised_at`], for the proxy.
    pub fn address_behind(&self) -> String {
        self.further_address(0)
    }

    /// Runs Kafka's own `kafka-configs.sh` on the plain listener.
    ///
    /// # Panics
    /// If the tool fails; the message has its output.
    pub fn configs_tool(&self, arguments: &[&str]) {
        let mut command = match &self.engine {
            Engine::Java(server) => server.configs_tool(),
            Engine::Docker(server) => server.configs_tool(),
        };
        let output =
            command.args(["--bootstrap-server", &self.address()]).args(arguments).stdin(Stdio::null()).output();
        let output = output.expect("the same tools started the broker");
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&text));
    }

    /// Returns a client of the broker.
    pub fn kafka(&self) -> Kafka {
        Kafka::at(&self.address())
    }

    /// Freezes the broker: its connections stay open, and it sends no response.
    pub fn pause(&mut self) {
        match &mut self.engine {
            Engine::Java(server) => server.pause(),
            Engine::Docker(server) => server.pause(),
        }
    }

    /// Continues after [`Broker::pause`].
    pub fn resume(&mut self) {
        match &mut self.engine {
            Engine::Java(server) => server.resume(),
            Engine::Docker(server) => server.resume(),
        }
    }

    /// Kills the broker immediately, like a crash. Its data stays on disk for [`Broker::start`].
    pub fn kill(&mut self) {
        match &mut self.engine {
            Engine::Java(server) => server.kill(),
            Engine::Docker(server) => server.kill(),
        }
    }

    /// Stops the broker cleanly, and kills it after `limit`.
    pub fn stop(&mut self, limit: Duration) {
        match &mut self.engine {
            Engine::Java(server) => server.stop(limit),
            Engine::Docker(server) => server.stop(limit),
        }
    }

    /// Starts the broker again with the same data and ports, and returns when it responds.
    pub fn start(&mut self) {
        if let Err(failure) = self.try_start() {
            panic!("Kafka did not start again:\n{}", failure.0);
        }
    }

    /// Kills the broker and starts it again.
    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    fn try_start(&mut self) -> Result<(), StartFailure> {
        let deadline = self.spawn();
        self.wait_for_response(deadline)
    }

    /// Starts the process, and returns the deadline for its first response.
    fn spawn(&mut self) -> Deadline {
        let limit = match &mut self.engine {
            Engine::Java(server) => server.start(),
            Engine::Docker(server) => server.start(),
        };
        Deadline::after(limit)
    }

    fn wait_for_response(&mut self, deadline: Deadline) -> Result<(), StartFailure> {
        let client = probe(&self.address());
        loop {
            let response = client.client().fetch_metadata(None, Duration::from_millis(500));
            if response.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
                return Ok(());
            }
            let (has_ended, log) = match &mut self.engine {
                Engine::Java(server) => (server.has_ended(), server.log_tail()),
                Engine::Docker(server) => (server.has_ended(), server.log_tail()),
            };
            if has_ended || deadline.passed() {
                return Err(StartFailure(log));
            }
        }
    }
}

/// Starts brokers on ports that were free a moment ago. Another process can take a port before the broker listens on it.
fn with_free_ports<T>(start: impl Fn() -> Result<T, StartFailure>) -> T {
    let mut last = StartFailure(String::new());
    for _ in 0..5 {
        match start() {
            Ok(started) => return started,
            Err(failure) if failure.0.contains("Address already in use") => last = failure,
            Err(failure) => panic!("Kafka did not start:\n{}", failure.0),
        }
    }
    panic!("Kafka found no free port in five attempts:\n{}", last.0)
}

/// Returns the properties for further listeners; empty if there are none.
fn listeners(ports: &Ports, further: &[FurtherListener<'_>], advertised: Option<u16>) -> Vec<(&'static str, String)> {
    if further.is_empty() {
        return Vec::new();
    }
    // The port of a container is reached from outside of it.
    let host = if matches!(found(), Found::Docker) { "0.0.0.0" } else { "127.0.0.1" };
    let at = |host: &str, advertised: Option<u16>| -> String {
        let further = further
            .iter()
            .zip(&ports.further)
            .map(|((name, _), port)| format!(",{name}://{host}:{}", advertised.unwrap_or(*port)));
        format!("PLAINTEXT://{host}:{}{}", ports.client, further.collect::<String>())
    };
    let protocols: String = further.iter().map(|(name, protocol)| format!(",{name}:{protocol}")).collect();
    vec![
        ("listeners", format!("{},CONTROLLER://127.0.0.1:{}", at(host, None), ports.controller)),
        ("advertised.listeners", at("127.0.0.1", advertised)),
        ("listener.security.protocol.map", format!("PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}")),
    ]
}

/// Returns a client that retries quickly until the broker listens.
fn probe(address: &str) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "200")
        .set("log_level", "0")
        .create()
        .expect("the settings are constants")
}

/// Ports that are in use. A broker does not listen while it starts, so a bind test alone does not suffice.
static GIVEN_PORTS: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Returns a free port on 127.0.0.1. The port is below the range for outgoing connections, so that it stays free while
/// the broker restarts.
fn free_port() -> u16 {
    let mut given = GIVEN_PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    (0..1000)
        .map(|_| 16_000 + u16::try_from(random() % 16_000).expect("below 16,000"))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok() && given.insert(*port))
        .expect("one of 1,000 ports is free")
}

/// Returns `scripts/kafka.d/server.properties` with the lines that differ from broker to broker.
fn properties(own: &[(&str, &str)], overrides: &[(&str, &str)]) -> String {
    let file = include_str!("../../../scripts/kafka.d/server.properties");
    let mut lines: BTreeMap<&str, &str> = lines_of(file).collect();
    lines.extend(own.iter().copied());
    lines.extend(overrides.iter().copied());
    lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// Returns names and values of a properties file.
fn lines_of(file: &str) -> impl Iterator<Item = (&str, &str)> {
    file.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='))
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Runs a quick program, and returns its output; `None` if the program is missing or fails.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    output.status.success().then(|| String::from_utf8_lossy(&text).into_owned())
}
