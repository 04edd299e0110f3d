//! The faults of a cluster drill: their names, and how long a partition may be silent.

use std::time::Duration;

use super::stewards::{Membership, Moment};
use crate::support::broker::NodeId;

/// The session timeout of the processes, if processes fail. Shorter than the default, so that a run takes less time.
pub const SHORT_SESSION: Duration = Duration::from_secs(6);
/// The default of `kafka.session_timeout_ms`.
const DEFAULT_SESSION: Duration = Duration::from_secs(10);

/// Additional time for a busy machine with two cores.
const BUSY_MACHINE: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Broker(BrokerFault),
    Steward(StewardFault),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerFault {
    /// Stops each broker cleanly and starts it again, one after the other.
    Rolling,
    Kill(Victim),
    Freeze,
    /// Stops [`TopicFault::NODE`].
    Topic(TopicFault),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// Each broker in turn.
    Any,
    GroupCoordinator,
    TransactionCoordinator,
}

/// A broker is away whose topics have too few replicas for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicFault {
    /// An input partition has a single replica.
    InputWithoutLeader,
    /// A state partition has a single replica.
    StateWithoutLeader,
    /// The state topic has two replicas, and `min.insync.replicas` is 2.
    StateNotInSync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StewardFault {
    /// Kills a process. Another one starts at once, with another name.
    Kill(Moment),
    /// Kills a process, and starts it again at once, with its name.
    Restart(Membership),
}

/// All faults, with the values of `STEWARD_CHAOS_FAULT`.
const NAMES: [(&str, Fault); 12] = [
    ("rolling", Fault::Broker(BrokerFault::Rolling)),
    ("kill-broker", Fault::Broker(BrokerFault::Kill(Victim::Any))),
    ("kill-group-coordinator", Fault::Broker(BrokerFault::Kill(Victim::GroupCoordinator))),
    ("kill-transaction-coordinator", Fault::Broker(BrokerFault::Kill(Victim::TransactionCoordinator))),
    ("freeze-broker", Fault::Broker(BrokerFault::Freeze)),
    ("input-without-leader", Fault::Broker(BrokerFault::Topic(TopicFault::InputWithoutLeader))),
    ("state-without-leader", Fault::Broker(BrokerFault::Topic(TopicFault::StateWithoutLeader))),
    ("state-not-in-sync", Fault::Broker(BrokerFault::Topic(TopicFault::StateNotInSync))),
    ("kill-steward", Fault::Steward(StewardFault::Kill(Moment::Any))),
    ("kill-steward-in-transaction", Fault::Steward(StewardFault::Kill(Moment::InTransaction))),
    ("restart-steward", Fault::Steward(StewardFault::Restart(Membership::Dynamic))),
    ("restart-static-steward", Fault::Steward(StewardFault::Restart(Membership::Static))),
];

impl Fault {
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, fault)| *fault == self).map(|(name, _)| *name).expect("each fault has a name")
    }

    /// # Panics
    /// If there is no such fault.
    pub fn named(name: &str) -> Fault {
        let found = NAMES.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault);
        found.unwrap_or_else(|| panic!("no fault {name}; there are {:?}", NAMES.map(|(name, _)| name)))
    }

    /// Returns how the processes of a drill with this fault join their group.
    pub fn membership(self) -> Membership {
        match self {
            Fault::Steward(StewardFault::Restart(membership)) => membership,
            Fault::Steward(StewardFault::Kill(_)) | Fault::Broker(_) => Membership::Dynamic,
        }
    }

    /// Returns the session timeout of the processes, unless the environment has one.
    pub fn session(self) -> Duration {
        match self {
            Fault::Broker(_) => DEFAULT_SESSION,
            Fault::Steward(_) => SHORT_SESSION,
        }
    }

    /// Returns the topics that a drill with this fault needs.
    pub fn topics(self) -> Option<TopicFault> {
        match self {
            Fault::Broker(BrokerFault::Topic(fault)) => Some(fault),
            Fault::Broker(BrokerFault::Rolling | BrokerFault::Kill(_) | BrokerFault::Freeze) | Fault::Steward(_) => {
                None
            }
        }
    }

    /// Returns the greatest silence that the guarantees allow, and time for a busy machine.
    pub fn limit(self, yardstick: Duration, session: Duration, slowest_restore: Duration) -> Duration {
        let guaranteed = match self {
            Fault::Broker(BrokerFault::Rolling) => yardstick + Duration::from_secs(2),
            Fault::Broker(BrokerFault::Kill(_) | BrokerFault::Freeze) => yardstick + Duration::from_secs(3),
            Fault::Broker(BrokerFault::Topic(fault)) => yardstick + fault.outage() + Duration::from_secs(3),
            Fault::Steward(StewardFault::Kill(_) | StewardFault::Restart(Membership::Dynamic)) => {
                session + Duration::from_secs(2) + slowest_restore
            }
            Fault::Steward(StewardFault::Restart(Membership::Static)) => Duration::from_secs(2) + slowest_restore,
        };
        guaranteed + BUSY_MACHINE
    }
}

impl TopicFault {
    /// The broker that stops.
    pub const NODE: NodeId = 3;

    pub fn outage(self) -> Duration {
        match self {
            TopicFault::InputWithoutLeader | TopicFault::StateWithoutLeader => Duration::from_secs(20),
            TopicFault::StateNotInSync => Duration::from_secs(60),
        }
    }
}
