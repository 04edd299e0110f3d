//! Ends processes of the tests when the tests end, even if the tests are killed by SIGKILL.
//!
//! A small shell waits for the end of its standard input, which this process holds open. When this process ends, the
//! kernel closes the pipe, and the shell runs the last command that it received. Linux's PR_SET_PDEATHSIG does not work
//! here: it follows the *thread* that started the child, and the threads of a test run are short-lived.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Reads lines, each a command. At the end of the input it runs the last one, and removes the folder.
const WATCH: &str = r#"
last=:
while IFS= read -r line; do last=$line; done
eval "$last" >/dev/null 2>&1
tries=0
while [ -e "$1" ] && [ "$tries" -lt 20 ]; do
    rm -rf -- "$1" && break
    tries=$((tries + 1))
    sleep 0.1
done
"#;

/// Belongs to the owner of a process. Dropping it runs the last command of [`CleanupGuard::set_command`].
#[derive(Debug)]
pub struct CleanupGuard {
    watcher: Child,
}

impl CleanupGuard {
    /// Makes a guard without a command. The guard also removes `folder`.
    pub fn new(folder: &Path) -> CleanupGuard {
        let watcher = Command::new("sh")
            .args(["-c", WATCH, "cleanup"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the process group of the terminal, and the watcher has to outlive it.
            .process_group(0)
            .spawn()
            .expect("every system has sh");
        CleanupGuard { watcher }
    }

    /// Sets the shell command that ends the process; `:` if it has ended already.
    pub fn set_command(&mut self, command: &str) {
        let stdin = self.watcher.stdin.as_mut().expect("only drop takes it");
        writeln!(stdin, "{command}").expect("the watcher reads until this end is closed");
    }

    /// Removes the command, because the process has ended.
    pub fn ended(&mut self) {
        self.set_command(":");
    }
}

impl Drop for CleanupGuard {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        // This fails only if the watcher was killed. Then there is nothing left to do.
        let _ = self.watcher.wait();
    }
}
