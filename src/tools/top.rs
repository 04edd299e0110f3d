//! `steward top`: a live view of the pods, from their log lines on standard input.
//!
//! A thread reads and parses the lines into a bounded channel, so that a fast log does not delay the keys. The keys come
//! from the terminal itself, because standard input is the log.

mod columns;
mod draw;
mod plain;
mod view;

use std::io::{self, IsTerminal as _, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, bounded};
use crossterm::event::{self, Event};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::app::SystemClock;
use crate::exit_code::ExitCode;
use crate::ports::Clock as _;
use crate::tools::failure::CommandFailure;
use crate::tools::log_reader::{LineReading, LineSplitter, MAX_LINE_BYTES, Piece, UnixMs, read};
use crate::tools::output;

pub use crate::tools::top::draw::draw;
pub use crate::tools::top::plain::plain;
pub use crate::tools::top::view::{Colours, KeyAction, Sort, View, ViewInput};

/// Name of the process of lines without a name.
const UNNAMED: &str = "(no name)";
/// Maximum time between two drawings.
const FRAME: Duration = Duration::from_millis(250);
/// Maximum time for which lines are read before the keys are checked.
const MAX_READ_TIME: Duration = Duration::from_millis(100);
/// Chunks that wait to be added; then reading waits.
const WAITING_CHUNKS: usize = 32;

/// Watch the pods live, from their log lines on standard input
///
/// Reads the log of one or more processes, and shows for each and for all together: rates, lag, age of the oldest event,
/// latencies, rejections by reason, phases, restarts, memory, the most frequent keys, the last warnings and errors. It
/// needs no port and no connection, only the lines of the log (docs/log-events.md). Lines of other programs may be in
/// between.
///
/// The prefix of a line names its pod: `kubectl logs --prefix`, `docker compose logs`, stern, journald. A pod that
/// writes no line for three of its intervals counts as silent, and is left out of the total. Percentiles cannot be
/// added: the total shows the highest one.
///
/// Keys: arrows or Tab select a pod, s sorts, p pauses, ? shows help, q quits (the program before the pipe ends with
/// the next line that it writes), Ctrl-C ends both. If standard output is no terminal, a plain table is printed when
/// the input ends.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl logs -f -l app.kubernetes.io/name=steward --prefix --tail=100 --max-log-requests=50 | steward top
  docker compose logs -f steward | steward top
  steward run --config config.toml | steward top
  kubectl logs -l app.kubernetes.io/name=steward --prefix --tail=-1 | steward top --once

Next: `steward report` writes a page with charts of stored logs; docs/log-events.md explains each warning.")]
pub struct TopArguments {
    /// Print a plain table when the input has ended, also on a terminal
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(arguments: &TopArguments) -> Result<ExitCode, CommandFailure> {
    if io::stdin().is_terminal() {
        return Err(CommandFailure::NoLog);
    }
    let signalled = register_signals()?;
    let chunks = spawn_reader();
    if arguments.once || !io::stdout().is_terminal() {
        return once(&chunks, &signalled);
    }
    let ended_by = live(&chunks, &signalled)?;
    if ended_by == KeyAction::Interrupt {
        // In raw mode Ctrl-C is a key and sends no signal. So send it to the whole pipeline, which includes this
        // process; this process has finished and only records it.
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::INT);
    }
    Ok(ExitCode::Done)
}

/// Registers the signals that end the command cleanly.
fn register_signals() -> Result<Arc<AtomicBool>, CommandFailure> {
    let signalled = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&signalled)).map_err(CommandFailure::Signals)?;
    }
    Ok(signalled)
}

/// The lines of one read. A line that is too long counts as another program's.
type Chunk = Vec<LineReading>;

fn spawn_reader() -> Receiver<Chunk> {
    let (sender, chunks) = bounded(WAITING_CHUNKS);
    // Not joined: at the end of the command the thread may still be blocked in a read.
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut lines = LineSplitter::default();
        let mut bytes = vec![0; MAX_LINE_BYTES];
        loop {
            let mut chunk = Chunk::new();
            let mut take = |piece: Piece<'_>| chunk.push(reading(piece));
            match stdin.read(&mut bytes) {
                Ok(0) => {
                    lines.finish(&mut take);
                    let _ = sender.send(chunk);
                    return;
                }
                Ok(count) => lines.push(&bytes[..count], &mut take),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // An error ends the input.
                Err(_) => return,
            }
            if sender.send(chunk).is_err() {
                return;
            }
        }
    });
    chunks
}

fn reading(piece: Piece<'_>) -> LineReading {
    match piece {
        Piece::Line(line) => read(line),
        Piece::TooLong => LineReading::Other,
    }
}

fn once(chunks: &Receiver<Chunk>, signalled: &AtomicBool) -> Result<ExitCode, CommandFailure> {
    let mut view = View::new(UNNAMED, Colours::None);
    // The log may be old, so its own time is the clock.
    let mut now = UnixMs(i64::MIN);
    loop {
        match chunks.recv_timeout(FRAME) {
            Ok(chunk) => {
                for reading in &chunk {
                    if let LineReading::Steward(line) = reading {
                        now = now.max(line.written);
                        view.add(reading, line.written);
                    } else {
                        view.add(reading, now);
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if signalled.load(Ordering::Relaxed) {
            break;
        }
    }
    output::print(plain(&view, now).trim_end())?;
    Ok(ExitCode::Done)
}

fn live(chunks: &Receiver<Chunk>, signalled: &AtomicBool) -> Result<KeyAction, CommandFailure> {
    let colours = if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        Colours::None
    } else {
        Colours::Sixteen
    };
    let mut view = View::new(UNNAMED, colours);
    // Also installs a panic hook that restores the terminal before the message is written.
    let mut terminal = ratatui::try_init().map_err(CommandFailure::Terminal)?;
    let ended = run_loop(&mut terminal, &mut view, chunks, signalled);
    let restored = ratatui::try_restore().map_err(CommandFailure::Terminal);
    let then = ended.map_err(CommandFailure::Terminal)?;
    restored?;
    Ok(then)
}

fn run_loop(
    terminal: &mut ratatui::DefaultTerminal,
    view: &mut View,
    chunks: &Receiver<Chunk>,
    signalled: &AtomicBool,
) -> io::Result<KeyAction> {
    loop {
        take_lines(view, chunks);
        if signalled.load(Ordering::Relaxed) {
            return Ok(KeyAction::Quit);
        }
        let now = UnixMs(SystemClock.unix_ms());
        view.tick(now);
        terminal.draw(|frame| draw(frame, view, now))?;
        if !event::poll(FRAME)? {
            continue;
        }
        // Handle all pending keys before the next drawing.
        while event::poll(Duration::ZERO)? {
            // The next drawing uses a new terminal size.
            if let Event::Key(key) = event::read()? {
                match view.press(key, now) {
                    KeyAction::Continue => {}
                    then @ (KeyAction::Quit | KeyAction::Interrupt) => return Ok(then),
                }
            }
        }
    }
}

fn take_lines(view: &mut View, chunks: &Receiver<Chunk>) {
    let started = SystemClock.now();
    let now = UnixMs(SystemClock.unix_ms());
    while SystemClock.now().saturating_duration_since(started) < MAX_READ_TIME {
        match chunks.try_recv() {
            Ok(chunk) => chunk.iter().for_each(|reading| view.add(reading, now)),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => return view.end_input(now),
        }
    }
}
