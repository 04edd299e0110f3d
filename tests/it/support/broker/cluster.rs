//! Three brokers of a test, each of which can be stopped, killed and frozen. Topics have three replicas, and
//! `min.insync.replicas` is 2. All timeouts are Kafka's defaults, as with `scripts/kafka up --brokers 3`.

use std::process::Stdio;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, Producer as _};

use super::super::kafka::Kafka;
use super::super::wait::{PATIENCE, wait_for, wait_until};
use super::{Broker, Engine, Ports, Purpose, StartFailure, free_port, lines_of, probe, with_free_ports};

/// The id of a broker in its cluster.
pub type NodeId = i32;

/// All brokers of a cluster.
pub const NODES: [NodeId; 3] = [1, 2, 3];

/// Limit for one request for metadata.
const ONE_ATTEMPT: Duration = Duration::from_secs(2);

/// Three brokers, each of which is a controller too. Dropping it ends them and deletes their data.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Broker>,
}

impl Cluster {
    /// Starts three brokers with the settings of `scripts/kafka.d/cluster.properties`.
    pub fn own() -> Cluster {
        Cluster::with(&[])
    }

    /// Starts three brokers with additional lines in their server.properties.
    pub fn with(properties: &[(&str, &str)]) -> Cluster {
        let cluster = with_free_ports(|| Cluster::try_start(properties));
        cluster.wait_until_in_sync();
        cluster
    }

    fn try_start(properties: &[(&str, &str)]) -> Result<Cluster, StartFailure> {
        let ports = NODES.map(|_| Ports { client: free_port(), controller: free_port(), further: Vec::new() });
        let voter = |(node, ports): (&NodeId, &Ports)| format!("{node}@127.0.0.1:{}", ports.controller);
        let voters = NODES.iter().zip(&ports).map(voter).collect::<Vec<_>>().join(",");
        let mut nodes: Vec<Broker> =
            NODES.iter().zip(ports).map(|(node, ports)| stopped(*node, ports, &voters, properties)).collect();
        // At the same time: a single one has no majority of the controllers, and waits for it.
        let deadlines: Vec<_> = nodes.iter_mut().map(Broker::spawn).collect();
        for (node, deadline) in nodes.iter_mut().zip(deadlines) {
            node.wait_for_response(deadline)?;
        }
        Ok(Cluster { nodes })
    }

    /// Returns `host:port` of all brokers, for `bootstrap.servers`.
    pub fn addresses(&self) -> String {
        self.nodes.iter().map(Broker::address).collect::<Vec<_>>().join(",")
    }

    /// Returns a client of the cluster.
    pub fn kafka(&self) -> Kafka {
        Kafka::at(&self.addresses())
    }

    /// Returns a broker, to pause, kill, stop or start it.
    pub fn node(&mut self, node: NodeId) -> &mut Broker {
        &mut self.nodes[index_of(node)]
    }

    /// Stops a broker cleanly: its leaders and coordinators move first.
    pub fn stop(&mut self, node: NodeId) {
        self.node(node).stop(PATIENCE);
    }

    /// Starts a broker again, and waits until all replicas of all topics are in sync. Only then may another one stop.
    pub fn start(&mut self, node: NodeId) {
        self.node(node).start();
        self.wait_until_in_sync();
    }

    /// Waits until every broker serves, and all replicas of all topics are in sync, as each of them sees it.
    pub fn wait_until_in_sync(&self) {
        for node in &self.nodes {
            let client = probe(&node.address());
            wait_until("all replicas are in sync", PATIENCE, || {
                client.client().fetch_metadata(None, ONE_ATTEMPT).is_ok_and(|metadata| {
                    let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
                    metadata.brokers().len() == NODES.len()
                        && partitions.all(|partition| partition.isr().len() == partition.replicas().len())
                })
            });
        }
    }

    /// Makes the first replica of each partition the leader again, so that the leaders are spread evenly.
    pub fn elect_preferred_leaders(&self) {
        let Engine::Java(server) = &self.nodes[0].engine else { panic!("a cluster runs only with Java") };
        let mut tool = server.tool("org.apache.kafka.tools.LeaderElectionCommand");
        tool.args(["--bootstrap-server", &self.addresses(), "--election-type", "preferred", "--all-topic-partitions"]);
        let output = tool.stdin(Stdio::null()).output().expect("java started the broker");
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "leader election: {}", String::from_utf8_lossy(&text));
    }

    /// Returns the leader of a partition, once there is one.
    pub fn leader_of(&self, topic: &str, partition: i32) -> NodeId {
        let client = probe(&self.addresses());
        wait_for(&format!("{topic}/{partition} has a leader"), PATIENCE, || {
            let leaders = leaders(&client, topic)?;
            leaders.get(usize::try_from(partition).ok()?).copied().filter(|leader| NODES.contains(leader))
        })
    }

    /// Returns the broker that coordinates a group.
    pub fn group_coordinator(&self, group: &str) -> NodeId {
        self.coordinator("__consumer_offsets", group)
    }

    /// Returns the broker that coordinates the transactions of a transactional id.
    pub fn transaction_coordinator(&self, transactional_id: &str) -> NodeId {
        self.coordinator("__transaction_state", transactional_id)
    }

    /// The coordinator is the leader of the partition that the name's hash selects.
    fn coordinator(&self, topic: &str, name: &str) -> NodeId {
        let client = probe(&self.addresses());
        let partitions = wait_for(&format!("{topic} exists"), PATIENCE, || leaders(&client, topic)).len();
        let partitions = i32::try_from(partitions).expect("the number of partitions is small");
        self.leader_of(topic, java_hash(name).checked_abs().unwrap_or(0) % partitions)
    }
}

fn stopped(node: NodeId, ports: Ports, voters: &str, properties: &[(&str, &str)]) -> Broker {
    let id = node.to_string();
    let own = [("node.id", id.as_str()), ("controller.quorum.voters", voters)];
    let cluster = lines_of(include_str!("../../../../scripts/kafka.d/cluster.properties"));
    let properties: Vec<(&str, &str)> = cluster.chain(own).chain(properties.iter().copied()).collect();
    let broker = Broker::stopped(ports, Purpose::Test, &properties);
    match &broker.engine {
        Engine::Java(server) => server.set_node(node),
        Engine::Docker(_) => panic!("a cluster runs only with Java"),
    }
    broker
}

fn index_of(node: NodeId) -> usize {
    NODES.iter().position(|known| *known == node).expect("1, 2 or 3")
}

/// Returns the leader of each partition; `None` if the topic is unknown.
fn leaders(client: &BaseProducer, topic: &str) -> Option<Vec<NodeId>> {
    let metadata = client.client().fetch_metadata(Some(topic), ONE_ATTEMPT).ok()?;
    let topic = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none())?;
    let mut partitions: Vec<_> =
        topic.partitions().iter().map(|partition| (partition.id(), partition.leader())).collect();
    partitions.sort_unstable();
    (!partitions.is_empty()).then(|| partitions.into_iter().map(|(_, leader)| leader).collect())
}

/// Returns what Java's `String.hashCode` does.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}
