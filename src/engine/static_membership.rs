//! Decides what follows when the group has given the static membership of this process to another member.
//!
//! The group knows a static member by its instance name. A member that joins under that name without a member id replaces
//! the one before it, which the group then refuses (FENCED_INSTANCE_ID). Two kinds of member join like that:
//!
//! * a) Another process with the same name. If this process joins again, it replaces that one, which does the same.
//! * b) An earlier request of this process. A client without a session joins without a member id. If its connection breaks
//!   before the response, it repeats the request, and the coordinator executes both, in any order: a coordinator that was
//!   suspended finds both when it resumes. If it executes the repeated one first, the other one replaces the member that
//!   the client knows. No process uses the new member.
//!
//! The group shows the same in both cases: one member with the name. So this process joins again at first. The delayed
//! requests of b) arrive within moments. A process that is replaced again and again is in case a), and ends; the other one
//! stays.
//!
//! Source: KIP-345 (static membership).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often a process joins again within a minute. The last one of several delayed requests may arrive after it has
/// joined again.
pub const REJOINS: usize = 2;
const WINDOW: Duration = Duration::from_secs(60);

/// What to do after the membership was given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// Drop all partitions, and join with a new client.
    JoinAgain,
    /// End: there is another process with this name.
    ByAnotherProcess,
}

#[derive(Debug, Default)]
pub struct StaticMembership {
    rejoined: VecDeque<Instant>,
}

impl StaticMembership {
    /// The group has given the membership away.
    pub fn replaced(&mut self, now: Instant) -> Replaced {
        self.rejoined.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        if self.rejoined.len() >= REJOINS {
            return Replaced::ByAnotherProcess;
        }
        self.rejoined.push_back(now);
        Replaced::JoinAgain
    }
}
