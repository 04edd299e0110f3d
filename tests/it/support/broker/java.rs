//! Kafka as a Java process, from the jars that `scripts/kafka.d/fetch` puts where `scripts/kafka` looks as well.
//!
//! A run starts dozens of brokers, so that what they have in common is done once: the storage is formatted by the first
//! and copied by the others, and an archive of the loaded classes, which halves the start, is kept beside the jars.

use std::ffi::OsString;
use std::fs::File;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::super::kafka::{Kafka, record};
use super::super::leash::Leash;
use super::super::names::random;
use super::super::signal::{
    Signal, {self},
};
use super::super::wait::Deadline;
use super::{Pace, Ports, ask, free_port, last_lines, properties};

/// How long a start may take: two seconds on an idle machine, far more where everything compiles at once.
const START_LIMIT: Duration = Duration::from_secs(180);

/// For a broker that lives a minute, the time to start counts more than the speed after an hour.
const SOON_THERE: &[&str] =
    &["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"];
/// As `kafka-server-start.sh` has them: for measurements, where the broker must not be what is slow.
const AT_FULL_SPEED: &[&str] = &[
    "-Xms1g",
    "-Xmx1g",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-Djava.awt.headless=true",
];

/// Whether a broker could be started.
///
/// # Errors
/// What is missing.
pub fn look() -> Result<(), String> {
    let Some(said) = ask("java", &["-version"]) else {
        return Err("no java".into());
    };
    let version = said.split('"').nth(1).unwrap_or_default();
    let major = version.split(['.', '-']).next().and_then(|major| major.parse().ok()).unwrap_or(0_u32);
    if major < 17 {
        return Err(format!("Java {version} is older than 17"));
    }
    let has_jars = ask("bash", &[&script("fetch"), "--cached"]).is_some();
    if has_jars || ask("mvn", &["--version"]).is_some() { Ok(()) } else { Err("no mvn".into()) }
}

fn script(name: &str) -> String {
    format!("{}/scripts/kafka.d/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The folder with the jars, fetched at the first call.
fn jars() -> &'static Path {
    static JARS: OnceLock<PathBuf> = OnceLock::new();
    JARS.get_or_init(|| {
        let fetch = Command::new("bash").arg(script("fetch")).stdin(Stdio::null()).output();
        let output = fetch.expect("bash was there a moment ago");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the jars of Kafka could not be fetched:\n{errors}");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}

/// The JVM's own version, as it tells it: an archive of classes fits one build of it alone.
fn jvm() -> String {
    let said = ask("java", &["-version"]).unwrap_or_default();
    let runtime = said.lines().nth(1).unwrap_or_default();
    runtime.chars().filter(|c| c.is_ascii_alphanumeric() || ".+-".contains(*c)).collect()
}

/// The classes of a broker as the JVM wants them, where they can be had: the first call makes them.
fn archive() -> Option<&'static Path> {
    static ARCHIVE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let archive = ARCHIVE.get_or_init(|| {
        let archive = jars().with_file_name(format!("classes-{}.jsa", jvm()));
        if !archive.exists() {
            learn(&archive);
        }
        archive.exists().then_some(archive)
    });
    archive.as_deref()
}

/// Lets a broker do once what the tests do with theirs, and end cleanly, which is when the JVM writes the archive.
fn learn(archive: &Path) {
    let ports = Ports { client: free_port(), controller: free_port(), further: Vec::new() };
    let mut server = Server::new(&ports, Pace::SoonThere, &[]);
    let written = archive.with_extension(random().to_string());
    server.spawn(&[&format!("-XX:ArchiveClassesAtExit={}", written.display())]);
    let deadline = Deadline::after(START_LIMIT);
    while TcpStream::connect(("127.0.0.1", ports.client)).is_err() {
        // A JVM that cannot do this, or a port that was taken meanwhile: the tests go on without it.
        if server.has_ended() || deadline.passed() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let kafka = Kafka::at(&format!("127.0.0.1:{}", ports.client));
    kafka.create_topic("learn", 1, &[]);
    kafka.produce("learn", &[record("1", "one")]);
    kafka.commit("learn", "learn", &[(0, 1)]);
    drop(kafka.transactional_producer("learn"));
    server.stop(START_LIMIT);
    // Nothing was written where the JVM cannot do this. Whoever else learnt it meanwhile wrote the same.
    let _ = std::fs::rename(&written, archive);
}

/// One broker: its folder, its settings, and its process while it runs.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    pace: Pace,
    process: Option<Child>,
    leash: Leash,
}

impl Server {
    /// Lays out the folder, and formats the storage.
    pub fn new(ports: &Ports, pace: Pace, overrides: &[(&str, &str)]) -> Server {
        let folder =
            tempfile::Builder::new().prefix("steward-kafka-").tempdir().expect("the system's temporary folder");
        // The leash removes it, also when nobody is left to drop a TempDir.
        let folder = folder.keep();
        let leash = Leash::new(&folder);
        let client = format!("PLAINTEXT://127.0.0.1:{}", ports.client);
        let own = [
            ("listeners", &*format!("{client},CONTROLLER://127.0.0.1:{}", ports.controller)),
            ("advertised.listeners", &client),
            ("controller.quorum.voters", &format!("1@127.0.0.1:{}", ports.controller)),
            ("log.dirs", &folder.join("data").display().to_string()),
        ];
        std::fs::write(folder.join("server.properties"), properties(&own, overrides)).expect("a folder of our own");
        let server = Server { folder, pace, process: None, leash };
        server.lay_out_storage();
        server
    }

    /// Nothing in the formatted storage depends on ports or on what our tests override.
    fn lay_out_storage(&self) {
        static FORMATTED: OnceLock<Vec<(OsString, Vec<u8>)>> = OnceLock::new();
        let formatted = FORMATTED.get_or_init(|| self.format());
        std::fs::create_dir_all(self.data()).expect("a folder of our own");
        for (name, content) in formatted {
            std::fs::write(self.data().join(name), content).expect("a folder of our own");
        }
    }

    /// Formats the storage, and returns the files in it.
    fn format(&self) -> Vec<(OsString, Vec<u8>)> {
        let mut format = self.java(&[], "kafka.tools.StorageTool");
        format.args(["format", "--cluster-id", "c3Rld2FyZC10ZXN0cy0tLQ", "--config"]).arg(self.settings());
        let output = format.output().expect("java was there a moment ago");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the storage of Kafka could not be formatted:\n{errors}");
        let files = std::fs::read_dir(self.data()).expect("it was formatted").map(|file| {
            let file = file.expect("a folder of our own");
            (file.file_name(), std::fs::read(file.path()).expect("formatting makes files alone"))
        });
        files.collect()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts the process; returns how long to wait for its first answer.
    pub fn start(&mut self) -> Duration {
        let archive = archive().map(|archive| format!("-XX:SharedArchiveFile={}", archive.display()));
        self.spawn(archive.as_deref().as_slice());
        START_LIMIT
    }

    fn spawn(&mut self, options: &[&str]) {
        assert!(self.process.is_none(), "the broker runs already");
        let log = File::options().create(true).append(true).open(self.log()).expect("a folder of our own");
        let mut java = self.java(options, "kafka.Kafka");
        // Ctrl-C is for the test run; the broker ends behind it.
        java.arg(self.settings()).stdout(log.try_clone().expect("an open file")).stderr(log).process_group(0);
        let process = java.spawn().expect("java was there a moment ago");
        self.leash.at_the_end(&format!("kill -9 {}", process.id()));
        self.process = Some(process);
    }

    pub fn has_ended(&mut self) -> bool {
        match &mut self.process {
            Some(process) => process.try_wait().expect("a child of ours").is_some(),
            None => true,
        }
    }

    pub fn pause(&mut self) {
        signal::send(self.running(), Signal::Stop);
    }

    pub fn resume(&mut self) {
        signal::send(self.running(), Signal::Continue);
    }

    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.kill().expect("a child of ours");
        process.wait().expect("a child of ours");
        self.leash.ended();
    }

    pub fn stop(&mut self, limit: Duration) {
        signal::send(self.running(), Signal::Terminate);
        let deadline = Deadline::after(limit);
        while !self.has_ended() && !deadline.passed() {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    pub fn log_tail(&self) -> String {
        last_lines(&std::fs::read_to_string(self.log()).unwrap_or_default(), 40)
    }

    pub fn configs_tool(&self) -> Command {
        self.java(&[], "kafka.admin.ConfigCommand")
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.running().id()
    }

    fn running(&self) -> &Child {
        self.process.as_ref().expect("the broker was started, and not killed")
    }

    fn java(&self, options: &[&str], class: &str) -> Command {
        let mut java = Command::new("java");
        java.args(match self.pace {
            Pace::SoonThere => SOON_THERE,
            Pace::AtFullSpeed => AT_FULL_SPEED,
        })
        .args(options)
        .arg(format!("-Dlog4j2.configurationFile={}", script("log4j2.properties")))
        // A killed broker leaves what it unpacked of its native libraries behind, which goes with the folder.
        .arg(format!("-Djava.io.tmpdir={}", self.folder.display()))
        .arg("-cp")
        .arg(jars().join("*"))
        .arg(class)
        .current_dir(&self.folder)
        .stdin(Stdio::null());
        java
    }

    fn settings(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
