//! Ends processes that the tests started when the tests end, in whatever way, SIGKILL included.
//!
//! A small shell waits for the end of its standard input, which this process holds open: when this process is gone,
//! the kernel closes it, and the shell carries out what it was told last. (Linux's PR_SET_PDEATHSIG would not do: it
//! follows the *thread* that started the child, and the threads of a test run come and go.)

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Takes lines, each a command; at the end runs the last one, and removes the folder.
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

/// Held by whoever started a process. Dropping it carries out what [`Leash::at_the_end`] was told last.
#[derive(Debug)]
pub struct Leash {
    watcher: Child,
}

impl Leash {
    /// Nothing to end yet; `folder` is removed at the end.
    pub fn new(folder: &Path) -> Leash {
        let watcher = Command::new("sh")
            .args(["-c", WATCH, "leash"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the whole group of the terminal; the watcher has to outlive it.
            .process_group(0)
            .spawn()
            .expect("sh is there on every system that the tests run on");
        Leash { watcher }
    }

    /// The shell command that ends what was started; `:` when it has ended already.
    pub fn at_the_end(&mut self, command: &str) {
        let stdin = self.watcher.stdin.as_mut().expect("piped above, taken only by drop");
        writeln!(stdin, "{command}").expect("the watcher reads as long as this end is open");
    }

    /// The process was waited for.
    pub fn ended(&mut self) {
        self.at_the_end(":");
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        // Only a watcher that was killed by hand fails here, and then there is nobody to tell.
        let _ = self.watcher.wait();
    }
}
