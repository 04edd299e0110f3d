//! The processes of a cluster drill, and their failures.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::load::PARTITIONS;
use crate::support::kafka::Kafka;
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::wait::{PATIENCE, wait_until};
use crate::takeover::{Transaction, freeze};

const PROCESSES: usize = 2;

/// Whether a restarted process waits for the session of the killed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    Static,
    Dynamic,
}

/// When a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Any,
    InTransaction,
}

/// The instance name of the process that replaces a killed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Successor {
    /// The same name, as in a StatefulSet.
    Same,
    /// A new name, as in a Deployment.
    Fresh,
}

/// Two processes in one group, and those that they replaced.
pub struct Stewards {
    setup: Setup,
    kafka: Kafka,
    state_topic: String,
    running: Vec<Member>,
    killed: Vec<Member>,
}

struct Member {
    steward: Steward,
    instance: String,
}

impl Stewards {
    /// Starts the processes, and waits until they share the partitions.
    pub fn start(kafka: Kafka, names: &Names, membership: Membership, session: Duration) -> Stewards {
        let setup = Setup::new(&kafka, names)
            .set("kafka.session_timeout_ms", i64::try_from(session.as_millis()).expect("seconds"))
            .set("kafka.static_membership", membership == Membership::Static)
            .set("log.level", "info,steward::commit=debug")
            .set("log.stats_interval_ms", 500);
        let mut stewards =
            Stewards { setup, kafka, state_topic: names.state.clone(), running: Vec::new(), killed: Vec::new() };
        for number in 0..PROCESSES {
            stewards.add(instance_name(number));
        }
        stewards.wait_until_all_serve();
        stewards
    }

    fn add(&mut self, instance: String) {
        let steward = self.setup.clone().instance(&instance).start();
        self.running.push(Member { steward, instance });
    }

    /// Kills the process that has run longest, and starts another one at once.
    pub fn kill_and_replace(&mut self, moment: Moment, successor: Successor) {
        let mut member = self.running.remove(0);
        if moment == Moment::InTransaction {
            freeze(&member.steward, &self.kafka, &self.state_topic, Transaction::Open);
        }
        member.steward.kill9();
        let instance = match successor {
            Successor::Same => member.instance.clone(),
            Successor::Fresh => instance_name(self.killed.len() + PROCESSES),
        };
        self.killed.push(member);
        self.add(instance);
    }

    /// Waits until each partition is served, and no process is without one.
    pub fn wait_until_all_serve(&mut self) {
        wait_until("the processes share the partitions", PATIENCE, || {
            self.assert_running();
            let serving: Vec<BTreeSet<i32>> = self.running.iter().map(|member| member.steward.serving()).collect();
            let distinct: BTreeSet<i32> = serving.iter().flatten().copied().collect();
            let total: usize = serving.iter().map(BTreeSet::len).sum();
            distinct.len() == usize::try_from(PARTITIONS).expect("the number is small")
                && total == distinct.len()
                && !serving.iter().any(BTreeSet::is_empty)
        });
    }

    /// Fails if a process has ended by itself.
    pub fn assert_running(&mut self) {
        for member in &mut self.running {
            assert!(member.steward.is_running(), "{} ended by itself; {}", member.instance, member.steward.tail());
        }
    }

    pub fn stop(&mut self) {
        self.assert_running();
        for member in &mut self.running {
            member.steward.stop();
        }
    }

    /// Fails on a line of level ERROR, or a repair.
    pub fn assert_clean(&self) {
        for member in self.all() {
            member.steward.assert_no_errors_but(&[]);
        }
        assert_eq!(self.count("lost_write_repaired"), 0, "a transaction was torn");
    }

    /// Returns how often the processes have logged an event.
    pub fn count(&self, event: &str) -> usize {
        self.events(event).len()
    }

    /// Returns all events of this name.
    pub fn events(&self, event: &str) -> Vec<Value> {
        self.all().flat_map(|member| member.steward.events(event)).collect()
    }

    /// Returns the durations of all finished recoveries of a partition.
    pub fn recoveries(&self) -> Vec<Duration> {
        let recoveries = self.events("recovery_finished");
        recoveries.iter().map(|event| Duration::from_millis(event["took_ms"].as_u64().expect("a number"))).collect()
    }

    /// Writes the log of each process to a file.
    pub fn keep_logs(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        for (index, member) in self.all().enumerate() {
            std::fs::write(folder.join(format!("{index}-{}.log", member.instance)), member.steward.output())?;
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &Member> {
        self.killed.iter().chain(&self.running)
    }
}

/// Returns the instance name of the process with this number.
pub fn instance_name(number: usize) -> String {
    format!("member-{number}")
}
