//! One partition, from assigned to gone.
//!
//! ```text
//!             assigned              recovered               revoked              gone
//!   (absent) ----------> Recovering ----------> Serving ----------> Revoking ----------> (absent)
//!                         |  ^   ^                 |                   |
//!                         |  |   +---- forfeited --+                   |
//!                         |  +-------- recovery failed                 |
//!                         +--------------- lost, from any stage -------+-----------------> (absent)
//! ```
//! Every pair of stage and happening is written out: rebalances that follow each other quickly, a partition that
//! leaves before it has recovered, one that comes straight back are ordinary cases. What is late is told by its term.

use crate::record::Term;

/// Where a partition stands. A partition without a [`Lifecycle`] is not owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its state is being read and verified.
    Recovering,
    /// Its events are processed.
    Serving,
    /// It is about to go; what is applied is being committed.
    Revoking,
}

/// What can happen to an owned partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// Recovery has ended well.
    Recovered,
    /// Recovery has failed in a way that trying again may mend.
    RecoveryFailed,
    /// Records, or a position, were read.
    BatchRead,
    /// The group takes the partition away in good order.
    Revoked,
    /// The group has taken it away in good order.
    Gone,
    /// Ownership was over before anybody said so.
    Lost,
    /// What was done under the term can no longer be told from what was committed: begin again, under a new term.
    Forfeited,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read the state, then verify it.
    Recover,
    /// Take the entities over and start reading events.
    Serve,
    /// Hand the records to their entities.
    Route,
    /// Commit what is applied, drop what is only read.
    Drain,
    /// Forget the entities and all work of the term.
    Release,
    /// Drop it: it belongs to what is over.
    Ignore,
}

/// One owned partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifecycle {
    stage: Stage,
    term: Term,
}

impl Lifecycle {
    /// The partition was assigned; [`Step::Recover`] is due.
    #[must_use]
    pub fn assigned(term: Term) -> Lifecycle {
        Lifecycle { stage: Stage::Recovering, term }
    }

    /// Where it stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The present ownership.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// What happened under `term`. Of an older term nothing matters any more.
    pub fn handle(&mut self, happening: Happening, term: Term) -> Step {
        if term != self.term {
            return Step::Ignore;
        }
        match (self.stage, happening) {
            (Stage::Recovering, Happening::Recovered) => {
                self.stage = Stage::Serving;
                Step::Serve
            }
            (Stage::Recovering, Happening::RecoveryFailed) => Step::Recover,
            // Nothing is read of a partition before it serves: the source answers to a command of a former term.
            (Stage::Recovering, Happening::BatchRead) => Step::Ignore,
            (Stage::Serving, Happening::BatchRead) => Step::Route,
            (Stage::Recovering | Stage::Serving, Happening::Revoked) => {
                self.stage = Stage::Revoking;
                Step::Drain
            }
            // Its next owner reads it again.
            (Stage::Revoking, Happening::Recovered | Happening::RecoveryFailed | Happening::BatchRead) => Step::Ignore,
            (Stage::Recovering | Stage::Serving | Stage::Revoking, Happening::Gone | Happening::Lost) => Step::Release,
            // The caller minted a new term and tells it by `renew`; a partition that goes anyway need not recover.
            (Stage::Serving | Stage::Recovering, Happening::Forfeited) => {
                self.stage = Stage::Recovering;
                Step::Recover
            }
            (Stage::Revoking, Happening::Forfeited) => Step::Ignore,
            // Said twice, or of a partition that serves: nothing left to do.
            (Stage::Serving, Happening::Recovered | Happening::RecoveryFailed)
            | (Stage::Revoking, Happening::Revoked) => Step::Ignore,
        }
    }

    /// The same ownership under a new term, after [`Happening::Forfeited`].
    pub fn renew(&mut self, term: Term) {
        assert!(term > self.term, "terms only rise: {:?} then {term:?}", self.term);
        self.term = term;
    }
}
