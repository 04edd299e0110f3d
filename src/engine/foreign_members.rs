//! Finds members of the consumer group that are not steward: the group gives them partitions, whose events are not
//! applied.
//!
//! A member is known by its client id only. The ids of steward's members begin with a mark, which no other program has
//! by chance. If the configuration sets `client.id`, all members have that one.

use std::collections::BTreeSet;

use crate::record::Partition;

/// Begins the client id of each of steward's members, before the instance name.
pub const MEMBER_MARK: &str = "steward:";

/// Foreign members that are remembered. More are not named.
const MAX_NAMED: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    pub client_id: String,
    pub host: String,
    /// Its partitions of the input.
    pub partitions: Vec<Partition>,
}

/// What the coordinator answers about the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupLook {
    Members(Vec<GroupMember>),
    /// The members as of now; their partitions are changing, and are not known.
    Rebalancing(Vec<GroupMember>),
    NoAnswer,
}

/// How the client id of a steward looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberIds {
    /// [`MEMBER_MARK`] and the instance name.
    Marked,
    /// The configured one.
    Configured(String),
}

impl MemberIds {
    /// Returns the client id of the member with this instance name; `None` if the ids do not distinguish members.
    pub fn of(&self, instance: &str) -> Option<String> {
        match self {
            MemberIds::Marked => Some(format!("{MEMBER_MARK}{instance}")),
            MemberIds::Configured(_) => None,
        }
    }

    fn include(&self, client_id: &str) -> bool {
        match self {
            MemberIds::Marked => client_id.starts_with(MEMBER_MARK),
            MemberIds::Configured(configured) => client_id == configured,
        }
    }
}

#[derive(Debug)]
pub struct ForeignMembers {
    ids: MemberIds,
    /// Client id and host of each one that was named and is still a member.
    named: BTreeSet<(String, String)>,
}

impl ForeignMembers {
    pub fn new(ids: MemberIds) -> ForeignMembers {
        ForeignMembers { ids, named: BTreeSet::new() }
    }

    /// Takes all members of the group, and returns the foreign ones that were not named before. One that has left and
    /// comes back is named again.
    pub fn seen(&mut self, members: Vec<GroupMember>) -> Vec<GroupMember> {
        let foreign: Vec<GroupMember> =
            members.into_iter().filter(|member| !self.ids.include(&member.client_id)).collect();
        let name = |member: &GroupMember| (member.client_id.clone(), member.host.clone());
        let present: BTreeSet<(String, String)> = foreign.iter().map(name).collect();
        self.named.retain(|named| present.contains(named));
        let mut new = Vec::new();
        for member in foreign {
            if self.named.len() < MAX_NAMED && self.named.insert(name(&member)) {
                new.push(member);
            }
        }
        new
    }
}
