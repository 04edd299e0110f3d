//! The state of `steward top`: the pods, and what keys change.

use std::collections::VecDeque;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::tools::log_reader::{Fleet, LineReading, Pod, UnixMs, WhenFull};

/// Values of the total's history, one a second.
const HISTORY: usize = 120;
/// How long a pod that has ended or is silent is shown. After a rollout the pods have other names.
const DROP_AFTER_MS: u64 = 15 * 60 * 1_000;
/// Interval of the total's history.
const HISTORY_INTERVAL_MS: u64 = 1_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Colours {
    /// Only bold, dim and reversed.
    #[default]
    None,
    /// The terminal's own sixteen, so that they fit its theme.
    Sixteen,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Name,
    /// Descending, as are the following ones.
    Lag,
    Rate,
    Oldest,
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

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ViewInput {
    #[default]
    Open,
    /// It has ended at this time; ages are counted up to then.
    Ended(UnixMs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAction {
    Continue,
    Quit,
    /// The command ends, and interrupts the program before the pipe.
    Interrupt,
}

/// Everything that is drawn.
#[derive(Debug, Default)]
pub struct View {
    fleet: Fleet,
    /// What is shown while the display is paused.
    pub(super) paused: Option<(Fleet, UnixMs)>,
    selected: Option<String>,
    sort: Sort,
    shows_help: bool,
    pub(super) input: ViewInput,
    pub(super) colours: Colours,
    /// Events per second and lag of all pods, one value a second, the newest last.
    pub(super) history: VecDeque<(u64, u64)>,
    last_tick: Option<UnixMs>,
}

impl View {
    pub fn new(unnamed: &str, colours: Colours) -> View {
        View { fleet: Fleet::new(unnamed, WhenFull::DropSilent), colours, ..View::default() }
    }

    pub fn add(&mut self, reading: &LineReading, read_at: UnixMs) {
        self.fleet.add(reading, read_at);
    }

    pub fn end_input(&mut self, now: UnixMs) {
        if self.input == ViewInput::Open {
            self.input = ViewInput::Ended(now);
        }
    }

    /// Adds the total to its history, once a second.
    pub fn tick(&mut self, now: UnixMs) {
        let is_due =
            self.last_tick.is_none_or(|last_tick| now.since(last_tick) >= HISTORY_INTERVAL_MS || now < last_tick);
        if !is_due || self.input != ViewInput::Open {
            return;
        }
        self.last_tick = Some(now);
        self.fleet.drop_silent(now, DROP_AFTER_MS);
        let sum = self.fleet.now(now);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((sum.events_per_s as u64, sum.lag));
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys of a keyboard do nothing here, new ones too")]
    pub fn press(&mut self, key: KeyEvent, now: UnixMs) -> KeyAction {
        if key.kind == KeyEventKind::Release {
            return KeyAction::Continue;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return KeyAction::Interrupt,
            KeyCode::Char('q') => return KeyAction::Quit,
            KeyCode::Esc if self.shows_help => self.shows_help = false,
            KeyCode::Esc => self.selected = None,
            KeyCode::Char('?' | 'h') => self.shows_help = !self.shows_help,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('p' | ' ') => {
                self.paused = match self.paused.take() {
                    None => Some((self.fleet.clone(), self.clock(now))),
                    Some(_) => None,
                };
            }
            KeyCode::Down | KeyCode::Tab | KeyCode::Char('j') => self.move_selection(1),
            KeyCode::Up | KeyCode::BackTab | KeyCode::Char('k') => self.move_selection(-1),
            _ => {}
        }
        KeyAction::Continue
    }

    fn move_selection(&mut self, by: i64) {
        // The total comes before the first pod.
        let names: Vec<Option<String>> =
            std::iter::once(None).chain(self.pods().map(|pod| Some(pod.name.clone()))).collect();
        let at = names.iter().position(|name| *name == self.selected).unwrap_or(0);
        let to = (at as i64 + by).rem_euclid(names.len() as i64);
        self.selected = names[to as usize].clone();
    }

    pub fn fleet(&self) -> &Fleet {
        self.paused.as_ref().map_or(&self.fleet, |(fleet, _)| fleet)
    }

    /// Returns the time that is shown. It stops while the display is paused, and at the end of the input.
    pub fn clock(&self, now: UnixMs) -> UnixMs {
        match (&self.paused, self.input) {
            (Some((_, paused_at)), _) => *paused_at,
            (None, ViewInput::Ended(ended_at)) => ended_at,
            (None, ViewInput::Open) => now,
        }
    }

    /// Returns the pods in the selected order.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        let mut pods: Vec<&Pod> = self.fleet().pods.values().collect();
        // The map is sorted by name, and this sort is stable.
        pods.sort_by_key(|pod| std::cmp::Reverse(self.sort.of(pod)));
        pods.into_iter()
    }

    /// Returns the selected pod; `None` if the total is selected.
    pub fn selected(&self) -> Option<&Pod> {
        self.fleet().pods.get(self.selected.as_deref()?)
    }

    pub fn sort(&self) -> Sort {
        self.sort
    }

    pub fn shows_help(&self) -> bool {
        self.shows_help
    }
}
