//! Ends the open transaction of an owner that has died, so that a recovery need not wait for its timeout, and recognises
//! on the other side that this was done.
//!
//! A dead owner's open transaction holds back the committed offset and the state of its partitions. To register its
//! transactional id ends the transaction, and fences whatever the owner may still send. [`DeadOwners`] decides when:
//!
//! * a) The owner is the instance that committed the partition's position. An instance that died within its first
//!   transaction is named by no position; its transaction is waited for, unless it also holds a partition that a position
//!   of this instance names.
//! * b) It is no member of the group. That holds only if the group is stable and this process is a member of it. The
//!   owner of a partition that moves while it serves others is a member, so its transaction is waited for.
//! * c) It is done once for each owner and each epoch of the partition. One registration counts for all epochs that exist
//!   by then, because it ends everything that the owner has open.
//!
//! Between the look at the group and the registration, the owner can come back under its name. It registers by itself;
//! the second registration fences the first. So a process that is fenced has to find out by whom, with a [`FencingInquiry`]:
//!
//! * d) If another member of the group has the same instance name, there are two such processes, and this one ends.
//! * e) If no member has it, this process has lost its membership, and its transaction was ended as in b). That can
//!   happen as often as this process is suspended, so it is never a reason to end. If only one has it, that is this
//!   process, unless the other one is still joining. After a while it is taken to be this process. In both cases it
//!   builds a new producer and goes on. If there is another process after all, that one is fenced, and then d) holds for
//!   it.
//!
//! Source: KIP-98 (a registration ends the open transaction of its transactional id).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::foreign_members::{GroupLook, GroupMember, MemberIds};
use crate::record::Epoch;

/// Time between two looks at the group, while a recovery is blocked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Owners that are remembered. If there are more, the one that was ended first is forgotten.
const MAX_REMEMBERED: usize = 1_000;

/// e) How long another process with the same name may take to join the group after it has registered.
pub const NAMESAKE_JOINS_WITHIN: Duration = Duration::from_secs(5);

/// The owners whose transactions this process has ended.
#[derive(Debug)]
pub struct DeadOwners {
    instance: String,
    ids: MemberIds,
    /// c) The newest epoch that existed when the transaction of this instance was ended.
    ended: BTreeMap<String, Epoch>,
    next_look: Option<Instant>,
}

impl DeadOwners {
    /// `instance` is the name of this process.
    pub fn new(instance: &str, ids: MemberIds) -> DeadOwners {
        DeadOwners { instance: instance.to_owned(), ids, ended: BTreeMap::new(), next_look: None }
    }

    /// A transaction blocks the recovery under `epoch` of a partition whose position `owner` has committed. Returns
    /// whether the group should be looked at.
    pub fn is_look_due(&mut self, owner: &str, epoch: Epoch, now: Instant) -> bool {
        let is_ended = self.ended.get(owner).is_some_and(|until| epoch <= *until);
        let can_be_dead = owner != self.instance && self.ids.of(owner).is_some();
        if !can_be_dead || is_ended || self.next_look.is_some_and(|at| now < at) {
            return false;
        }
        self.next_look = Some(now + LOOK_EVERY);
        true
    }

    /// Takes the look, and returns whether to end the owner's transaction. `newest` is the newest epoch of this process.
    pub fn looked(&mut self, owner: &str, look: &GroupLook, newest: Epoch) -> bool {
        let is_dead = match look {
            GroupLook::Members(members) => {
                count(members, &self.ids, &self.instance) == 1 && count(members, &self.ids, owner) == 0
            }
            GroupLook::Rebalancing(_) | GroupLook::NoAnswer => false,
        };
        if is_dead {
            if self.ended.len() >= MAX_REMEMBERED
                && let Some(oldest) = self.ended.iter().min_by_key(|(_, until)| **until).map(|(name, _)| name.clone())
            {
                self.ended.remove(&oldest);
            }
            self.ended.insert(owner.to_owned(), newest);
        }
        is_dead
    }
}

/// Who has fenced the producer of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FencedBy {
    /// Another process with the same instance name.
    AnotherProcess,
    /// The coordinator, because the transaction was open for longer than its timeout.
    Timeout,
    /// The recovery of another process, which took this one for dead: no member of the group has this instance name.
    Recovery,
    /// Presumably a recovery. But this process may be a member, and another one with its name may be joining.
    Unknown,
}

/// Finds out who has registered the transactional id of this process, while its transaction was not timed out.
#[derive(Debug)]
pub struct FencingInquiry {
    instance: String,
    ids: MemberIds,
    began: Instant,
}

impl FencingInquiry {
    pub fn new(instance: &str, ids: MemberIds, now: Instant) -> FencingInquiry {
        FencingInquiry { instance: instance.to_owned(), ids, began: now }
    }

    /// Takes a look at the group. Returns `None` if another one is needed.
    pub fn looked(&self, look: &GroupLook, now: Instant) -> Option<FencedBy> {
        // Processes that cannot be distinguished end no transactions of each other.
        let Some(_) = self.ids.of(&self.instance) else { return Some(FencedBy::AnotherProcess) };
        let namesakes = match look {
            GroupLook::Members(members) | GroupLook::Rebalancing(members) => {
                Some(count(members, &self.ids, &self.instance))
            }
            GroupLook::NoAnswer => None,
        };
        match namesakes {
            Some(0) => Some(FencedBy::Recovery),
            Some(1) | None => {
                (now.saturating_duration_since(self.began) >= NAMESAKE_JOINS_WITHIN).then_some(FencedBy::Unknown)
            }
            Some(_) => Some(FencedBy::AnotherProcess),
        }
    }
}

/// Returns how many members have this instance name.
fn count(members: &[GroupMember], ids: &MemberIds, instance: &str) -> usize {
    let Some(client_id) = ids.of(instance) else { return 0 };
    members.iter().filter(|member| member.client_id == client_id).count()
}
