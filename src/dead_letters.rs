//! Dead letters as a reader finds them: what their headers say, which of them are wanted, and what becomes of one that is
//! replayed. For `steward dlq`; `run` writes them, and has no need of this.
//!
//! * [`Letter`]: one record of the dead letter topic, borrowed, with its own headers told from steward's.
//! * [`Filter`]: which letters are wanted.
//! * [`Mark`] and [`Replayed`]: what was replayed before, as it stands in the topic of marks.
//! * [`Fate`] and [`Outlook`]: whether a letter can be replayed, and whether the same refusal awaits it; [`Plan`]
//!   counts both.
//!
//! Architecture invariant: whatever stands in a topic is read without a panic: these records may be anybody's.
//! Architecture invariant: no Kafka client, no clock.

mod filter;
mod letter;
mod mark;
mod plan;

pub use filter::Filter;
pub use letter::{Letter, Place, Replay, Source};
pub use mark::{Mark, NotAMark, Replayed};
pub use plan::{Fate, Input, NAMED_LETTERS, Obstacle, Outlook, Overtaken, Plan, fate, outlook};
