//! What the operating system reports about processes and about this machine.

use serde::Serialize;

/// The machine that the figures were measured on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub processor: String,
    pub memory_mib: u64,
    pub kernel: String,
    pub java: String,
    /// Load average of the minute before the start: shows whether the machine had other work.
    pub load_before: String,
}

impl Machine {
    /// Describes this machine. What cannot be found out stays empty.
    pub fn read() -> Machine {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = text("/proc/cpuinfo");
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        let java = std::process::Command::new("java").arg("-version").output().map(|output| output.stderr);
        let java = String::from_utf8_lossy(&java.unwrap_or_default()).lines().next().unwrap_or_default().to_owned();
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor.unwrap_or_default().trim().to_owned(),
            memory_mib: kib(&text("/proc/meminfo"), "MemTotal:").unwrap_or(0) / 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            java,
            load_before: text("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// Seconds of processor time that a process has used, kernel time included; `None` if the process has ended. The kernel
/// counts in steps of 10 ms.
pub fn processor_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold spaces; what follows does not.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    // SAFETY: sysconf takes a number and accesses no memory of this program.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some((ticks(11)? + ticks(12)?) / per_second as f64)
}

/// The most memory that a process has had resident, in bytes; `None` if the process has ended.
pub fn peak_bytes(pid: u32) -> Option<u64> {
    status(pid, "VmHWM:")
}

/// The memory that a process has resident, in bytes; `None` if the process has ended.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    status(pid, "VmRSS:")
}

fn status(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kib(&status, name).map(|kib| kib * 1024)
}

fn kib(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok())
}
