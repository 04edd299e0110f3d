//! Turns signals of the operating system into events of the control loop.

use std::fs::File;
use std::{fs, io, thread};

use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::app::ProcessEvent;
use crate::observability::log_events::StopSignal;

/// Starts the thread that waits for signals. SIGTERM and SIGINT end the process. SIGHUP depends on [`HangupMeaning`]; to
/// reload the log level, it goes to `hangups`.
pub(super) fn watch(events: Sender<ProcessEvent>, hangups: Sender<()>) -> io::Result<()> {
    // Before the handlers are installed: they replace what the process inherited.
    let hangup = HangupMeaning::find();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            // Two signals are enough to end the process, so those that do not fit into the channel are dropped.
            if signal == SIGHUP && hangup == HangupMeaning::Reload {
                let _ = hangups.try_send(());
            } else {
                let _ = events.try_send(ProcessEvent::Signal(stop_signal(signal)));
            }
        }
    })?;
    Ok(())
}

/// What SIGHUP means to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HangupMeaning {
    /// The controlling terminal has closed. A process that went on would be invisible, even if its output is a pipe.
    Stop,
    /// Read the log level again: there is no controlling terminal, or `nohup` lets the process outlive it.
    Reload,
}

impl HangupMeaning {
    /// Finds the meaning at the start, because a terminal that has closed is no longer the controlling terminal.
    fn find() -> HangupMeaning {
        // The name stands for the controlling terminal, and cannot be opened without one.
        let has_terminal = File::open("/dev/tty").is_ok();
        if has_terminal && !ignores_sighup() { HangupMeaning::Stop } else { HangupMeaning::Reload }
    }
}

/// Returns whether the process was started with SIGHUP ignored, as by `nohup`.
fn ignores_sighup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

fn stop_signal(signal: i32) -> StopSignal {
    match signal {
        SIGINT => StopSignal::Sigint,
        SIGHUP => StopSignal::Sighup,
        _ => StopSignal::Sigterm,
    }
}
