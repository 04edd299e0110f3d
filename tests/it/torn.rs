//! Torn transactions: a delayed end of one transaction that hits the next one of the same producer epoch.
//!
//! The client library repeats an EndTxn request whose connection broke, and the first copy may still be under way. The
//! tests run on a real broker, through a proxy that holds that copy back. A plain loop around the library comes first and
//! shows that the danger is real; then steward runs the same schedules.

mod steward;
mod storm;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::producer::Producer as _;

use crate::support::kafka::{Kafka, Outgoing, Producer, record, send};
use crate::support::member::Member;
use crate::support::names::Names;
use crate::support::proxy::{Api, ClientSees, ProxiedBroker};
use crate::support::wait::{Deadline, PATIENCE};

/// The broker's code for success.
const DONE: Option<i16> = Some(0);
/// The broker's code for a producer that a newer one has fenced.
const FENCED: Option<i16> = Some(47);

// ------------------------------------------------------------------------------------------------------- plain loops

#[apply(own_broker_test)]
fn a_plain_loop_loses_a_write_to_a_delayed_abort() {
    let broker = ProxiedBroker::start();
    let plain = Plain::over(&broker);

    plain.begins();
    plain.writes(0, "first");
    let delayed = broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    plain.aborts();
    assert!(delayed.has_come(), "the abort went out twice, its first copy is late");

    plain.begins();
    plain.writes(0, "second");
    assert_eq!(delayed.release(), DONE, "the late abort ends the second transaction");
    plain.sends_offsets(2);
    plain.commits();

    assert_eq!(plain.read(), [""; 0], "what was committed is lost");
    let committed = plain.direct.committed(&plain.names.group, &plain.names.input);
    assert_eq!(committed, [Some(2)], "and the input counts as done, so that nobody does it again");
}

#[apply(own_broker_test)]
fn a_plain_loop_doubles_a_write_by_a_delayed_commit() {
    let broker = ProxiedBroker::start();
    let plain = Plain::over(&broker);

    plain.begins();
    plain.writes(0, "first");
    plain.sends_offsets(1);
    let delayed = broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    plain.commits();
    assert!(delayed.has_come(), "the commit went out twice, its first copy is late");

    plain.begins();
    plain.writes(0, "one half");
    assert_eq!(delayed.release(), DONE, "the late commit ends the second transaction");
    plain.writes(1, "other half");
    plain.aborts();
    plain.begins();
    plain.writes(0, "one half");
    plain.writes(1, "other half");
    plain.sends_offsets(2);
    plain.commits();

    assert_eq!(plain.read(), ["first", "one half", "one half", "other half"], "an aborted half is seen");
}

#[apply(own_broker_test)]
fn a_plain_loop_goes_back_to_older_offsets_that_came_late() {
    let broker = ProxiedBroker::start();
    let plain = Plain::over(&broker);

    plain.begins();
    plain.writes(0, "first");
    let delayed = broker.proxy.hold(Api::TXN_OFFSET_COMMIT, ClientSees::Close);
    plain.sends_offsets(1);
    plain.commits();
    assert!(delayed.has_come(), "the offsets went out twice, their first copy is late");

    plain.begins();
    plain.writes(0, "second");
    plain.sends_offsets(2);
    assert_eq!(delayed.release(), DONE, "the late offsets join the second transaction");
    plain.commits();

    assert_eq!(plain.read(), ["first", "second"]);
    let committed = plain.direct.committed(&plain.names.group, &plain.names.input);
    assert_eq!(committed, [Some(1)], "the input counts as undone, so that somebody does it again");
}

/// A loop as one would write it: one producer with the library's defaults, which goes on when a call returned well.
struct Plain {
    direct: Kafka,
    names: Names,
    member: Member,
    producer: Producer,
}

impl Plain {
    fn over(broker: &ProxiedBroker) -> Plain {
        let (direct, through, names) = (broker.direct(), broker.through(), Names::new());
        direct.create_topic(&names.input, 1, &[]);
        direct.create_topic(&names.state, 2, &[]);
        direct.produce(&names.input, &[record("1", "first"), record("2", "second")]);
        let member = Member::joins(&direct, &names.group, &names.input);
        let producer = through.transactional_producer(&names.group);
        Plain { direct, names, member, producer }
    }

    fn begins(&self) {
        self.producer.begin_transaction().expect("none is open");
    }

    /// Returns when the record is there.
    fn writes(&self, partition: i32, value: &str) {
        let record = Outgoing { value: Some(value.as_bytes().to_vec()), ..record("key", "") }.to(partition);
        send(&self.producer, &self.names.state, &record, 0, Deadline::after(PATIENCE));
        self.producer.flush(PATIENCE).expect("the broker takes it");
    }

    fn sends_offsets(&self, position: i64) {
        let mut offsets = TopicPartitionList::new();
        let offset = rdkafka::Offset::Offset(position);
        offsets.add_partition_offset(&self.names.input, 0, offset).expect("a valid offset");
        let group = self.member.consumer.group_metadata().expect("it has joined");
        self.producer.send_offsets_to_transaction(&offsets, &group, PATIENCE).expect("the broker takes them");
    }

    fn commits(&self) {
        self.producer.commit_transaction(PATIENCE).expect("the library calls it a success");
    }

    fn aborts(&self) {
        self.producer.abort_transaction(PATIENCE).expect("the library calls it a success");
    }

    /// What a `read_committed` reader sees.
    fn read(&self) -> Vec<String> {
        let records = self.direct.read_committed(&self.names.state);
        records.iter().filter_map(crate::support::kafka::Stored::value_text).collect()
    }
}
