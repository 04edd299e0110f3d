//! What is looked at, and how: the part of `steward top` that keys change.

use std::collections::VecDeque;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::tools::log_reader::{Fleet, LineReading, Pod, UnixMs, WhenFull};

/// Seconds of history of the total.
const HISTORY: usize = 120;
/// A pod that has ended or gone silent is shown for so long: a rollout gives the next one another name.
const FORGET_AFTER_MS: u64 = 15 * 60 * 1_000;
/// How often the total is noted for its picture.
const NOTE_EVERY_MS: u64 = 1_000;

/// Which colours may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// None: bold, dim and reversed only.
    None,
    /// The terminal's own sixteen, so that they fit its theme.
    Sixteen,
}

/// What the pods are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The name.
    Name,
    /// The greatest lag first.
    Lag,
    /// The highest rate first.
    Rate,
    /// The oldest event first.
    Oldest,
    /// The most rejected first.
    Rejected,
}

impl Sort {
    fn next(self) -> Sort {
        match self {
            Sort::Name => Sort::Lag,
            Sort::Lag => Sort::Rate,
            Sort::Rate => Sort::Oldest,
            Sort::Oldest => Sort::Rejected,
            Sort::Rejected => Sort::Name,
        }
    }

    /// As the picture names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::Lag => "lag",
            Sort::Rate => "events/s",
            Sort::Oldest => "oldest",
            Sort::Rejected => "rejected",
        }
    }

    fn of(self, pod: &Pod) -> u64 {
        let Some(stats) = &pod.stats else { return 0 };
        match self {
            Sort::Name => 0,
            Sort::Lag => stats.lag_total,
            Sort::Rate => stats.events_per_s as u64,
            Sort::Oldest => stats.oldest_age_ms,
            Sort::Rejected => pod.totals.rejected,
        }
    }
}

/// Where the lines come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewInput {
    /// More may come.
    Open,
    /// It has ended, at that moment; ages are counted to there.
    Ended(UnixMs),
}

/// What happens after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The picture stays.
    GoOn,
    /// The command ends.
    Quit,
    /// The command ends, and takes along what writes into the pipe.
    Interrupt,
}

/// All that a picture is drawn from.
#[derive(Debug)]
pub struct View {
    fleet: Fleet,
    /// The picture stands still, and shows this.
    frozen: Option<(Fleet, UnixMs)>,
    selected: Option<String>,
    sort: Sort,
    shows_help: bool,
    input: ViewInput,
    colours: Colours,
    /// Events per second and lag of all together, a second each.
    history: VecDeque<(u64, u64)>,
    noted: Option<UnixMs>,
}

impl View {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(unnamed: &str, colours: Colours) -> View {
        View {
            fleet: Fleet::new(unnamed, WhenFull::ForgetTheSilent),
            frozen: None,
            selected: None,
            sort: Sort::Name,
            shows_help: false,
            input: ViewInput::Open,
            colours,
            history: VecDeque::new(),
            noted: None,
        }
    }

    /// Takes a line, at a moment of the clock by which pods go silent.
    pub fn tell(&mut self, reading: &LineReading, now: UnixMs) {
        self.fleet.tell(reading, now);
    }

    /// No line follows.
    pub fn end_input(&mut self, now: UnixMs) {
        if self.input == ViewInput::Open {
            self.input = ViewInput::Ended(now);
        }
    }

    /// Notes the total for its picture, once a second.
    pub fn tick(&mut self, now: UnixMs) {
        let is_due = self.noted.is_none_or(|noted| now.since(noted) >= NOTE_EVERY_MS || now < noted);
        if !is_due || self.input != ViewInput::Open {
            return;
        }
        self.noted = Some(now);
        self.fleet.forget_silent(now, FORGET_AFTER_MS);
        let sum = self.fleet.now(now);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((sum.events_per_s as u64, sum.lag));
    }

    /// Does what a key asks for.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys of a keyboard do nothing here, new ones too")]
    pub fn press(&mut self, key: KeyEvent, now: UnixMs) -> Then {
        if key.kind == KeyEventKind::Release {
            return Then::GoOn;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Then::Interrupt,
            KeyCode::Char('q') => return Then::Quit,
            KeyCode::Esc if self.shows_help => self.shows_help = false,
            KeyCode::Esc => self.selected = None,
            KeyCode::Char('?' | 'h') => self.shows_help = !self.shows_help,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('p' | ' ') => {
                self.frozen = match self.frozen.take() {
                    None => Some((self.fleet.clone(), self.clock(now))),
                    Some(_) => None,
                };
            }
            KeyCode::Down | KeyCode::Tab | KeyCode::Char('j') => self.step(SelectionStep::Next),
            KeyCode::Up | KeyCode::BackTab | KeyCode::Char('k') => self.step(SelectionStep::Previous),
            _ => {}
        }
        Then::GoOn
    }

    fn step(&mut self, step: SelectionStep) {
        // Before the first pod stands the total.
        let names: Vec<Option<String>> =
            std::iter::once(None).chain(self.pods().map(|pod| Some(pod.name.clone()))).collect();
        let at = names.iter().position(|name| *name == self.selected).unwrap_or(0);
        let to = match step {
            SelectionStep::Next => (at + 1) % names.len(),
            SelectionStep::Previous => (at + names.len() - 1) % names.len(),
        };
        self.selected = names.into_iter().nth(to).flatten();
    }

    /// What is shown.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        self.frozen.as_ref().map_or(&self.fleet, |(fleet, _)| fleet)
    }

    /// The moment that is shown: it stands still with the picture, and with the input.
    #[must_use]
    pub fn clock(&self, now: UnixMs) -> UnixMs {
        match (&self.frozen, self.input) {
            (Some((_, frozen_at)), _) => *frozen_at,
            (None, ViewInput::Ended(ended_at)) => ended_at,
            (None, ViewInput::Open) => now,
        }
    }

    /// The pods in the order that was asked for.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        let mut pods: Vec<&Pod> = self.fleet().pods.values().collect();
        // By name already, and the sort is stable.
        pods.sort_by_key(|pod| std::cmp::Reverse(self.sort.of(pod)));
        pods.into_iter()
    }

    /// The pod that is selected, unless all together are.
    #[must_use]
    pub fn selected(&self) -> Option<&Pod> {
        self.fleet().pods.get(self.selected.as_deref()?)
    }

    /// What the pods are sorted by.
    #[must_use]
    pub fn sort(&self) -> Sort {
        self.sort
    }

    /// Whether the picture stands still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// Whether the keys are explained.
    #[must_use]
    pub fn shows_help(&self) -> bool {
        self.shows_help
    }

    /// Where the lines come from.
    #[must_use]
    pub fn input(&self) -> ViewInput {
        self.input
    }

    /// Which colours may be used.
    #[must_use]
    pub fn colours(&self) -> Colours {
        self.colours
    }

    /// Events per second and lag of all together, a second each, the newest at the end.
    pub fn history(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + '_ {
        self.history.iter().copied()
    }
}

#[derive(Debug, Clone, Copy)]
enum SelectionStep {
    Next,
    Previous,
}
