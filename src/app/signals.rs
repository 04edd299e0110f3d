//! Turns signals of the operating system into events of the control loop.

use std::{io, thread};

use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::app::ProcessEvent;
use crate::observability::log_events::StopSignal;
use crate::observability::logging::Destination;

/// Starts the thread that waits for signals. SIGTERM and SIGINT end the process. SIGHUP goes to `hangups`, which reload
/// the log level. With a terminal, SIGHUP means that the terminal is gone, and a process that went on would be invisible:
/// there it ends the process as SIGTERM does.
pub(super) fn watch(events: Sender<ProcessEvent>, hangups: Sender<()>) -> io::Result<()> {
    let on_terminal = Destination::of_stdout().is_terminal;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            // Two signals are enough to end the process, so those that do not fit into the channel are dropped.
            if signal == SIGHUP && !on_terminal {
                let _ = hangups.try_send(());
            } else {
                let _ = events.try_send(ProcessEvent::Signal(stop_signal(signal)));
            }
        }
    })?;
    Ok(())
}

fn stop_signal(signal: i32) -> StopSignal {
    match signal {
        SIGINT => StopSignal::Sigint,
        SIGHUP => StopSignal::Sighup,
        _ => StopSignal::Sigterm,
    }
}
