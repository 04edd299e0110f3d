//! `steward top`: what the pods do, from their log lines on standard input.
//!
//! A thread reads and parses, so that a slow terminal holds up the reading and a quick log does not hold up the keys.
//! Keys come from the terminal itself, not from standard input, which is the log.

mod columns;
mod draw;
mod plain;
mod view;

use std::io::{
    IsTerminal as _, Read as _, {self},
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, bounded};
use crossterm::event::{
    Event, {self},
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::app::SystemClock;
use crate::exit_code::ExitCode;
use crate::ports::Clock as _;
use crate::tools::failure::CommandFailure;
use crate::tools::log_reader::{LineReading, LineSplitter, MAX_LINE_BYTES, Piece, UnixMs, read};
use crate::tools::output;

pub use crate::tools::top::draw::draw;
pub use crate::tools::top::plain::plain;
pub use crate::tools::top::view::{Colours, Sort, Then, View, ViewInput};

/// What the process is called whose lines carry no name.
const UNNAMED: &str = "(no name)";
/// How often the picture is drawn while nothing else happens.
const FRAME: Duration = Duration::from_millis(250);
/// Longest time for which lines are taken without a look at the keys.
const LONGEST_MEAL: Duration = Duration::from_millis(100);
/// Chunks that wait to be told; beyond that, reading waits.
const WAITING_CHUNKS: usize = 32;

/// Watch the pods live, from their log lines on standard input
///
/// Reads the log of one process or of many, and draws for each and for all together: rates, lag, age of the oldest
/// event, latencies, what was rejected and why, phases, restarts, memory, the busiest keys, the last warnings and errors.
/// It asks nobody and opens no port: all of it stands in the lines of the log (docs/log-events.md). Lines of other
/// programs may stand in between.
///
/// Lines are told apart by what stands before them: `kubectl logs --prefix`, `docker compose logs`, stern, journald. A
/// pod that is silent for three of its intervals counts as silent, and no longer in the total. Percentiles cannot be
/// added: the total shows the worst pod's.
///
/// Keys: arrows or Tab select a pod, s sorts, p pauses, ? explains, q quits (the program before the pipe ends with the
/// next line that it writes), Ctrl-C ends both. Where standard output is no terminal, a plain table is printed when the
/// input ends.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl logs -f -l app.kubernetes.io/name=steward --prefix --tail=100 --max-log-requests=50 | steward top
  docker compose logs -f steward | steward top
  steward run --config config.toml | steward top
  kubectl logs -l app.kubernetes.io/name=steward --prefix --tail=-1 | steward top --once

Next: `steward report` makes a page with charts of logs that were kept; docs/log-events.md says what each warning asks for.")]
pub struct TopArguments {
    /// Print a plain table when the input has ended, also on a terminal
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(arguments: &TopArguments) -> Result<ExitCode, CommandFailure> {
    if io::stdin().is_terminal() {
        return Err(CommandFailure::NoLog);
    }
    let signalled = listen()?;
    let chunks = read_in_the_background();
    if arguments.once || !io::stdout().is_terminal() {
        return once(&chunks, &signalled);
    }
    let ended_by = live(&chunks, &signalled)?;
    if ended_by == Then::Interrupt {
        // The terminal is in raw mode, where Ctrl-C is a key. What it would have done is made up for: the signal goes to
        // all of the pipeline, this process included, which has finished and only notes it.
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::INT);
    }
    Ok(ExitCode::Done)
}

/// A signal is noted, and ends the command cleanly.
fn listen() -> Result<Arc<AtomicBool>, CommandFailure> {
    let signalled = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&signalled)).map_err(CommandFailure::Signals)?;
    }
    Ok(signalled)
}

// ------------------------------------------------------------------------------------------------------------- input

/// What came with one read. A line that was too long is somebody else's.
type Chunk = Vec<LineReading>;

fn read_in_the_background() -> Receiver<Chunk> {
    let (sender, chunks) = bounded(WAITING_CHUNKS);
    // Nobody waits for it: at the end of the command it may still hang in a read.
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
                // What cannot be read has ended.
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
        Piece::TooLong => LineReading::NotOurs,
    }
}

// -------------------------------------------------------------------------------------------------------------- once

fn once(chunks: &Receiver<Chunk>, signalled: &AtomicBool) -> Result<ExitCode, CommandFailure> {
    let mut view = View::new(UNNAMED, Colours::None);
    // The log may be an old one: its own time is the clock, and pods are silent where the log says so.
    let mut now = UnixMs(i64::MIN);
    loop {
        match chunks.recv_timeout(FRAME) {
            Ok(chunk) => {
                for reading in &chunk {
                    if let LineReading::Ours(line) = reading {
                        now = now.max(line.written);
                        view.tell(reading, line.written);
                    } else {
                        view.tell(reading, now);
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

// -------------------------------------------------------------------------------------------------------------- live

fn live(chunks: &Receiver<Chunk>, signalled: &AtomicBool) -> Result<Then, CommandFailure> {
    let colours = if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        Colours::None
    } else {
        Colours::Sixteen
    };
    let mut view = View::new(UNNAMED, colours);
    // It also sees to it that a panic gives the terminal back before its message is written.
    let mut terminal = ratatui::try_init().map_err(CommandFailure::Terminal)?;
    let ended = look(&mut terminal, &mut view, chunks, signalled);
    let restored = ratatui::try_restore().map_err(CommandFailure::Terminal);
    let then = ended.map_err(CommandFailure::Terminal)?;
    restored?;
    Ok(then)
}

fn look(
    terminal: &mut ratatui::DefaultTerminal,
    view: &mut View,
    chunks: &Receiver<Chunk>,
    signalled: &AtomicBool,
) -> io::Result<Then> {
    loop {
        take_lines(view, chunks);
        if signalled.load(Ordering::Relaxed) {
            return Ok(Then::Quit);
        }
        let now = UnixMs(SystemClock.unix_ms());
        view.tick(now);
        terminal.draw(|frame| draw(frame, view, now))?;
        if !event::poll(FRAME)? {
            continue;
        }
        // All keys that were pressed meanwhile, then the picture.
        while event::poll(Duration::ZERO)? {
            // A new size is seen by the next picture.
            if let Event::Key(key) = event::read()? {
                match view.press(key, now) {
                    Then::GoOn => {}
                    then @ (Then::Quit | Then::Interrupt) => return Ok(then),
                }
            }
        }
    }
}

fn take_lines(view: &mut View, chunks: &Receiver<Chunk>) {
    let begun = SystemClock.now();
    let now = UnixMs(SystemClock.unix_ms());
    while SystemClock.now().saturating_duration_since(begun) < LONGEST_MEAL {
        match chunks.try_recv() {
            Ok(chunk) => chunk.iter().for_each(|reading| view.tell(reading, now)),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => return view.end_input(now),
        }
    }
}
