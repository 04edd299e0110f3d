//! Kafka as a Java process, from the jars that `scripts/kafka.d/fetch` puts where `scripts/kafka` looks as well.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::super::leash::Leash;
use super::super::signal::{self, Signal};
use super::super::wait::Deadline;
use super::{Pace, Ports, Tool, ask, last_lines, properties};

/// How long a start may take: two seconds on an idle machine, far more where everything compiles at once.
const START_LIMIT: Duration = Duration::from_secs(90);

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
        server.format();
        server
    }

    fn format(&self) {
        let mut format = self.java("kafka.tools.StorageTool");
        format.args(["format", "--cluster-id", "c3Rld2FyZC10ZXN0cy0tLQ", "--config"]).arg(self.settings());
        let output = format.output().expect("java was there a moment ago");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the storage of Kafka could not be formatted:\n{errors}");
    }

    /// Starts the process; returns how long to wait for its first answer.
    pub fn start(&mut self) -> Duration {
        assert!(self.process.is_none(), "the broker runs already");
        let log = File::options().create(true).append(true).open(self.log()).expect("a folder of our own");
        let mut java = self.java("kafka.Kafka");
        // Ctrl-C is for the test run; the broker ends behind it.
        java.arg(self.settings()).stdout(log.try_clone().expect("an open file")).stderr(log).process_group(0);
        let process = java.spawn().expect("java was there a moment ago");
        self.leash.at_the_end(&format!("kill -9 {}", process.id()));
        self.process = Some(process);
        START_LIMIT
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

    pub fn tool(&self, tool: Tool) -> Command {
        self.java(match tool {
            Tool::Acls => "org.apache.kafka.tools.AclCommand",
            Tool::Configs => "kafka.admin.ConfigCommand",
        })
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.running().id()
    }

    fn running(&self) -> &Child {
        self.process.as_ref().expect("the broker was started, and not killed")
    }

    fn java(&self, class: &str) -> Command {
        let mut java = Command::new("java");
        java.args(match self.pace {
            Pace::SoonThere => SOON_THERE,
            Pace::AtFullSpeed => AT_FULL_SPEED,
        })
        .arg(format!("-Dlog4j2.configurationFile={}", script("log4j2.properties")))
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
