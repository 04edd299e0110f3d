//! Runs Kafka in a container, if there is Docker but no Java.
//!
//! The container runs in the foreground of a `docker run`. Its data is in a folder of this machine, so that a restart is
//! a new container with the same data. Signals go through `docker`, because a signal to the client does not reach the
//! container.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::super::cleanup::CleanupGuard;
use super::super::names::unique;
use super::{Ports, last_lines, output_of, properties};

/// Limit for a start, including the download of the image.
const START_LIMIT: Duration = Duration::from_secs(300);

/// Formats the storage if necessary, and runs the broker.
const RUN: &str = "/opt/kafka/bin/kafka-storage.sh format --ignore-formatted \
    --cluster-id c3Rld2FyZC10ZXN0cy0tLQ --config \"$1/server.properties\" \
    && exec /opt/kafka/bin/kafka-server-start.sh \"$1/server.properties\"";

/// Returns the image of the version that `scripts/kafka` runs.
fn image() -> String {
    let fetch = format!("{}/scripts/kafka.d/fetch", env!("CARGO_MANIFEST_DIR"));
    let version = output_of("bash", &[&fetch, "--version"]).expect("the script only reads a file");
    format!("apache/kafka:{}", version.trim())
}

/// Returns whether Docker is available.
pub fn answers() -> bool {
    output_of("docker", &["version", "--format", "{{.Server.Version}}"]).is_some()
}

/// One broker: its folder, its settings, and its container, if it runs.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    ports: Ports,
    name: String,
    process: Option<Child>,
    cleanup: CleanupGuard,
}

impl Server {
    pub fn new(ports: Ports, overrides: &[(&str, &str)]) -> Server {
        let folder =
            tempfile::Builder::new().prefix("steward-kafka-").tempdir().expect("the system's temporary folder");
        // The guard removes the folder, also if this process is killed before it drops a TempDir.
        let folder = folder.keep();
        let cleanup = CleanupGuard::new(&folder);
        let own = [
            (
                "listeners",
                &*format!("PLAINTEXT://0.0.0.0:{},CONTROLLER://127.0.0.1:{}", ports.client, ports.controller),
            ),
            ("advertised.listeners", &format!("PLAINTEXT://127.0.0.1:{}", ports.client)),
            ("controller.quorum.voters", &format!("1@127.0.0.1:{}", ports.controller)),
            ("log.dirs", &folder.join("data").display().to_string()),
        ];
        std::fs::write(folder.join("server.properties"), properties(&own, overrides)).expect("a folder of our own");
        Server { folder, ports, name: unique("steward-kafka"), process: None, cleanup }
    }

    /// Starts the container; returns the limit for its first response.
    pub fn start(&mut self) -> Duration {
        assert!(self.process.is_none(), "the broker runs already");
        let log = File::options().create(true).append(true).open(self.log()).expect("a folder of our own");
        // SAFETY: both take no arguments, touch no memory and cannot fail.
        let (user, group) = unsafe { (libc::getuid(), libc::getgid()) };
        let folder = self.folder.display();
        let published = std::iter::once(self.ports.client).chain(self.ports.further.iter().copied());
        let process = Command::new("docker")
            .args(["run", "--rm", "--name", &self.name, "--user", &format!("{user}:{group}")])
            .args(["--volume", &format!("{folder}:{folder}")])
            .args(published.flat_map(|port| ["--publish".to_owned(), format!("127.0.0.1:{port}:{port}")]))
            .args(["--env", "KAFKA_HEAP_OPTS=-Xms128m -Xmx384m", "--env", &format!("LOG_DIR={folder}/logs")])
            .args(["--entrypoint", "bash", &image(), "-c", RUN, "run"])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("an open file"))
            .stderr(log)
            // Ctrl-C goes to the test run, which ends the broker.
            .process_group(0)
            .spawn()
            .expect("docker exists");
        self.cleanup.set_command(&format!("docker rm --force {}", self.name));
        self.process = Some(process);
        START_LIMIT
    }

    pub fn configs_tool(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["exec", &self.name, "/opt/kafka/bin/kafka-configs.sh"]);
        command
    }

    pub fn has_ended(&mut self) -> bool {
        match &mut self.process {
            Some(process) => process.try_wait().expect("a child of ours").is_some(),
            None => true,
        }
    }

    pub fn pause(&mut self) {
        self.docker(&["pause"]);
    }

    pub fn resume(&mut self) {
        self.docker(&["unpause"]);
    }

    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // This fails if the container has ended by itself, which is fine.
        let _ = output_of("docker", &["rm", "--force", &self.name]);
        process.wait().expect("a child of ours");
        self.cleanup.ended();
    }

    pub fn stop(&mut self, limit: Duration) {
        self.docker(&["stop", "--time", &limit.as_secs().to_string()]);
        self.kill();
    }

    pub fn log_tail(&self) -> String {
        last_lines(&std::fs::read_to_string(self.log()).unwrap_or_default(), 40)
    }

    fn docker(&self, command: &[&str]) {
        let output = output_of("docker", &[command, &[&self.name]].concat());
        assert!(output.is_some(), "docker {command:?} {} failed", self.name);
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
