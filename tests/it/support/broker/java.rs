//! Runs Kafka as a Java process, from the jars of `scripts/kafka.d/fetch`, which `scripts/kafka` uses too.
//!
//! A test run starts dozens of brokers, so common work is done once. The first broker formats the storage, and the
//! others copy it. An archive of the loaded classes is kept beside the jars; it halves the start time.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::super::cleanup::CleanupGuard;
use super::super::kafka::{Kafka, record};
use super::super::names::random;
use super::super::signal::{
    Signal, {self},
};
use super::super::wait::Deadline;
use super::{NodeId, Ports, Purpose, free_port, last_lines, output_of, properties};

/// Limit for a start. It takes two seconds on an idle machine, and far more while other processes compile.
const START_LIMIT: Duration = Duration::from_secs(180);

/// Options for tests. Such a broker runs for a minute, so a fast start matters more than peak speed.
const TEST_OPTIONS: &[&str] =
    &["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"];
/// Options for measurements, in which the broker must not be the bottleneck. `kafka-server-start.sh` has the same.
const BENCHMARK_OPTIONS: &[&str] = &[
    "-Xms1g",
    "-Xmx1g",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-Djava.awt.headless=true",
];

/// The name of the class that [`compile_policy`] makes.
pub const POLICY: &str = "TestPolicy";
/// A line of the settings that is not Kafka's: a folder with further classes. They are loaded at the start.
pub const CLASSES: &str = "steward.test.classes";

/// Checks that a broker can be started.
///
/// # Errors
/// Names the missing program.
pub fn look() -> Result<(), String> {
    let Some(output) = output_of("java", &["-version"]) else {
        return Err("no java".into());
    };
    let version = output.split('"').nth(1).unwrap_or_default();
    let major = version.split(['.', '-']).next().and_then(|major| major.parse().ok()).unwrap_or(0_u32);
    if major < 17 {
        return Err(format!("Java {version} is older than 17"));
    }
    let has_jars = output_of("bash", &[&script("fetch"), "--cached"]).is_some();
    if has_jars || output_of("mvn", &["--version"]).is_some() { Ok(()) } else { Err("no mvn".into()) }
}

fn script(name: &str) -> String {
    format!("{}/scripts/kafka.d/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Returns the folder with the jars, which the first call fetches.
fn jars() -> &'static Path {
    static JARS: OnceLock<PathBuf> = OnceLock::new();
    JARS.get_or_init(|| {
        let fetch = Command::new("bash").arg(script("fetch")).stdin(Stdio::null()).output();
        let output = fetch.expect("bash exists");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the jars of Kafka could not be fetched:\n{errors}");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}

/// Compiles a policy for new topics. Returns `None` if there is no compiler.
///
/// # Panics
/// If the compiler refuses the statements.
pub fn compile_policy(folder: &Path, validate: &str) -> Option<()> {
    output_of("javac", &["-version"])?;
    let source = folder.join(format!("{POLICY}.java"));
    let text = format!(
        "import org.apache.kafka.common.errors.PolicyViolationException;
         public class {POLICY} implements org.apache.kafka.server.policy.CreateTopicPolicy {{
             public void configure(java.util.Map<String, ?> settings) {{ }}
             public void close() {{ }}
             public void validate(RequestMetadata topic) {{ {validate} }}
         }}"
    );
    std::fs::write(&source, text).expect("a folder of our own");
    let compiled = Command::new("javac").arg("-cp").arg(jars().join("*")).arg(&source).output().expect("it was found");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    Some(())
}

/// Returns the version of the JVM. A class archive works with one build of the JVM only.
fn jvm() -> String {
    let output = output_of("java", &["-version"]).unwrap_or_default();
    let runtime = output.lines().nth(1).unwrap_or_default();
    runtime.chars().filter(|c| c.is_ascii_alphanumeric() || ".+-".contains(*c)).collect()
}

/// Returns the class archive, which the first call creates; `None` if the JVM cannot create it.
fn archive() -> Option<&'static Path> {
    static ARCHIVE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let archive = ARCHIVE.get_or_init(|| {
        let archive = jars().with_file_name(format!("classes-{}.jsa", jvm()));
        if !archive.exists() {
            create_archive(&archive);
        }
        archive.exists().then_some(archive)
    });
    archive.as_deref()
}

/// Creates the class archive: runs a broker through typical requests, and stops it cleanly. The JVM writes the archive
/// at its exit.
fn create_archive(archive: &Path) {
    let ports = Ports { client: free_port(), controller: free_port(), further: Vec::new() };
    let mut server = Server::new(&ports, Purpose::Test, &[]);
    let written = archive.with_extension(random().to_string());
    server.spawn(&[&format!("-XX:ArchiveClassesAtExit={}", written.display())]);
    let deadline = Deadline::after(START_LIMIT);
    while TcpStream::connect(("127.0.0.1", ports.client)).is_err() {
        // The JVM does not support this, or the port is taken. The tests run without an archive.
        if server.has_ended() || deadline.passed() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let kafka = Kafka::at(&format!("127.0.0.1:{}", ports.client));
    kafka.create_topic("warm-up", 1, &[]);
    kafka.produce("warm-up", &[record("1", "one")]);
    kafka.commit("warm-up", "warm-up", &[(0, 1)]);
    drop(kafka.transactional_producer("warm-up"));
    server.stop(START_LIMIT);
    // The file is missing if the JVM does not support this. Another process may have written the same archive.
    let _ = std::fs::rename(&written, archive);
}

/// One broker: its folder, its settings, and its process, if it runs.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    purpose: Purpose,
    /// The folder of [`CLASSES`].
    classes: Option<String>,
    process: Option<Child>,
    cleanup: CleanupGuard,
}

impl Server {
    /// Creates the folder, and formats the storage.
    pub fn new(ports: &Ports, purpose: Purpose, overrides: &[(&str, &str)]) -> Server {
        let folder =
            tempfile::Builder::new().prefix("steward-kafka-").tempdir().expect("the system's temporary folder");
        // The guard removes the folder, also if this process is killed before it drops a TempDir.
        let folder = folder.keep();
        let cleanup = CleanupGuard::new(&folder);
        let client = format!("PLAINTEXT://127.0.0.1:{}", ports.client);
        let own = [
            ("listeners", &*format!("{client},CONTROLLER://127.0.0.1:{}", ports.controller)),
            ("advertised.listeners", &client),
            ("controller.quorum.voters", &format!("1@127.0.0.1:{}", ports.controller)),
            ("log.dirs", &folder.join("data").display().to_string()),
        ];
        std::fs::write(folder.join("server.properties"), properties(&own, overrides)).expect("a folder of our own");
        let classes = overrides.iter().find(|(name, _)| *name == CLASSES).map(|(_, folder)| (*folder).to_owned());
        let server = Server { folder, purpose, classes, process: None, cleanup };
        server.copy_storage();
        server
    }

    /// Copies the formatted storage, which does not depend on ports or on the overrides of our tests, except for the id
    /// of the node and of its folder.
    fn copy_storage(&self) {
        static FORMATTED: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
        let formatted = FORMATTED.get_or_init(|| self.format());
        for (path, content) in formatted {
            let path = self.data().join(path);
            std::fs::create_dir_all(path.parent().expect("a file of the data")).expect("a folder of our own");
            std::fs::write(path, content).expect("a folder of our own");
        }
    }

    /// Formats the storage, and returns its files. Kafka 4.4 also creates a folder in it.
    fn format(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut format = self.java(&[], "kafka.tools.StorageTool");
        format.args(["format", "--cluster-id", "c3Rld2FyZC10ZXN0cy0tLQ", "--config"]).arg(self.settings());
        let output = format.output().expect("java exists");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the storage of Kafka could not be formatted:\n{errors}");
        let files = files_in(&self.data()).into_iter().map(|path| {
            let content = std::fs::read(&path).expect("a folder of our own");
            (path.strip_prefix(self.data()).expect("it is in there").to_owned(), content)
        });
        files.collect()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts the process; returns the limit for its first response.
    pub fn start(&mut self) -> Duration {
        let archive = archive().map(|archive| format!("-XX:SharedArchiveFile={}", archive.display()));
        self.spawn(archive.as_deref().as_slice());
        START_LIMIT
    }

    fn spawn(&mut self, options: &[&str]) {
        assert!(self.process.is_none(), "the broker runs already");
        let log = File::options().create(true).append(true).open(self.log()).expect("a folder of our own");
        let mut java = self.java(options, "kafka.Kafka");
        // Ctrl-C goes to the test run, which ends the broker.
        java.arg(self.settings()).stdout(log.try_clone().expect("an open file")).stderr(log).process_group(0);
        let process = java.spawn().expect("java exists");
        self.cleanup.set_command(&format!("kill -9 {}", process.id()));
        self.process = Some(process);
    }

    /// Makes the storage that of this node of a cluster.
    pub fn set_node(&self, node: NodeId) {
        let file = self.data().join("meta.properties");
        let meta = std::fs::read_to_string(&file).expect("the storage is formatted");
        // The directory id is 22 characters of base64, and has to be unique in the cluster.
        let own = meta.lines().map(|line| match line.split_once('=') {
            Some(("node.id", _)) => format!("node.id={node}\n"),
            Some(("directory.id", id)) => format!("directory.id={node}{}\n", &id[1..]),
            _ => format!("{line}\n"),
        });
        std::fs::write(&file, own.collect::<String>()).expect("a folder of our own");
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
        self.cleanup.ended();
    }

    pub fn stop(&mut self, limit: Duration) {
        signal::send(self.running(), Signal::Terminate);
        let deadline = Deadline::after(limit);
        while !self.has_ended() && !deadline.passed() {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    /// Deletes the log of a partition, of a broker that does not run.
    pub fn delete_log(&self, topic: &str, partition: i32) {
        std::fs::remove_dir_all(self.data().join(format!("{topic}-{partition}"))).expect("it is stored here");
    }

    pub fn log_tail(&self) -> String {
        last_lines(&std::fs::read_to_string(self.log()).unwrap_or_default(), 40)
    }

    pub fn configs_tool(&self) -> Command {
        self.tool("kafka.admin.ConfigCommand")
    }

    /// Returns one of Kafka's own tools, by its class.
    pub fn tool(&self, class: &str) -> Command {
        self.java(&[], class)
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.running().id()
    }

    fn running(&self) -> &Child {
        self.process.as_ref().expect("the broker was started, and not killed")
    }

    fn java(&self, options: &[&str], class: &str) -> Command {
        let further = self.classes.as_ref().map(|folder| format!(":{folder}"));
        let mut java = Command::new("java");
        java.args(match self.purpose {
            Purpose::Test => TEST_OPTIONS,
            Purpose::Benchmark => BENCHMARK_OPTIONS,
        })
        .args(options)
        .arg(format!("-Dlog4j2.configurationFile={}", script("log4j2.properties")))
        .arg(format!("-Dlog4j.configuration=file:{}", script("log4j.properties")))
        // A killed broker leaves unpacked native libraries behind, which are deleted with the folder.
        .arg(format!("-Djava.io.tmpdir={}", self.folder.display()))
        .arg("-cp")
        .arg(format!("{}{}", jars().join("*").display(), further.unwrap_or_default()))
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

/// Returns all files below a folder.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of our own");
    let paths = entries.map(|entry| entry.expect("a folder of our own").path());
    paths.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
