//! Torn transactions: a delayed EndTxn of one transaction ends the next transaction under the same producer epoch.
//!
//! The client library repeats an EndTxn request if its connection breaks, and the broker may receive the first copy
//! later. The tests run on a real broker, through a proxy that delays the first copy. First, a plain loop around the
//! library shows that the danger is real. Then steward runs the same schedules.

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
    let plain = PlainLoop::over(&broker);

    plain.begin();
    plain.write(0, "first");
    let delayed = broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    plain.abort();
    assert!(delayed.has_come(), "the abort was sent twice, and its first copy is late");

    plain.begin();
    plain.write(0, "second");
    assert_eq!(delayed.release(), DONE, "the late abort ends the second transaction");
    plain.send_offsets(2);
    plain.commit();

    assert_eq!(plain.read(), [""; 0], "the committed write is lost");
    let committed = plain.direct.committed(&plain.names.group, &plain.names.input);
    assert_eq!(committed, [Some(2)], "the input is committed, so it is not processed again");
}

#[apply(own_broker_test)]
fn a_plain_loop_doubles_a_write_by_a_delayed_commit() {
    let broker = ProxiedBroker::start();
    let plain = PlainLoop::over(&broker);

    plain.begin();
    plain.write(0, "first");
    plain.send_offsets(1);
    let delayed = broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    plain.commit();
    assert!(delayed.has_come(), "the commit was sent twice, and its first copy is late");

    plain.begin();
    plain.write(0, "one half");
    assert_eq!(delayed.release(), DONE, "the late commit ends the second transaction");
    plain.write(1, "other half");
    plain.abort();
    plain.begin();
    plain.write(0, "one half");
    plain.write(1, "other half");
    plain.send_offsets(2);
    plain.commit();

    assert_eq!(
        plain.read(),
        ["first", "one half", "one half", "other half"],
        "a record of the aborted transaction is visible"
    );
}

#[apply(own_broker_test)]
fn a_plain_loop_commits_older_offsets_that_arrive_late() {
    let broker = ProxiedBroker::start();
    let plain = PlainLoop::over(&broker);

    plain.begin();
    plain.write(0, "first");
    let delayed = broker.proxy.hold(Api::TXN_OFFSET_COMMIT, ClientSees::Close);
    plain.send_offsets(1);
    plain.commit();
    assert!(delayed.has_come(), "the offsets were sent twice, and their first copy is late");

    plain.begin();
    plain.write(0, "second");
    plain.send_offsets(2);
    assert_eq!(delayed.release(), DONE, "the late offsets become part of the second transaction");
    plain.commit();

    assert_eq!(plain.read(), ["first", "second"]);
    let committed = plain.direct.committed(&plain.names.group, &plain.names.input);
    assert_eq!(committed, [Some(1)], "the input is not committed, so it is processed again");
}

/// A plain loop: one producer with the library's defaults, used again after each successful call.
struct PlainLoop {
    direct: Kafka,
    names: Names,
    member: Member,
    producer: Producer,
}

impl PlainLoop {
    fn over(broker: &ProxiedBroker) -> PlainLoop {
        let (direct, through, names) = (broker.direct(), broker.through(), Names::new());
        direct.create_topic(&names.input, 1, &[]);
        direct.create_topic(&names.state, 2, &[]);
        direct.produce(&names.input, &[record("1", "first"), record("2", "second")]);
        let member = Member::joins(&direct, &names.group, &names.input);
        let producer = through.transactional_producer(&names.group);
        PlainLoop { direct, names, member, producer }
    }

    fn begin(&self) {
        self.producer.begin_transaction().expect("no transaction is open");
    }

    /// Returns after the broker acknowledged the record.
    fn write(&self, partition: i32, value: &str) {
        let record = Outgoing { value: Some(value.as_bytes().to_vec()), ..record("key", "") }.to(partition);
        send(&self.producer, &self.names.state, &record, 0, Deadline::after(PATIENCE));
        self.producer.flush(PATIENCE).expect("the broker accepts the record");
    }

    fn send_offsets(&self, position: i64) {
        let mut offsets = TopicPartitionList::new();
        let offset = rdkafka::Offset::Offset(position);
        offsets.add_partition_offset(&self.names.input, 0, offset).expect("a valid offset");
        let group = self.member.consumer.group_metadata().expect("the member has joined");
        self.producer.send_offsets_to_transaction(&offsets, &group, PATIENCE).expect("the broker accepts the offsets");
    }

    fn commit(&self) {
        self.producer.commit_transaction(PATIENCE).expect("the library calls it a success");
    }

    fn abort(&self) {
        self.producer.abort_transaction(PATIENCE).expect("the library calls it a success");
    }

    /// The values that a `read_committed` reader sees.
    fn read(&self) -> Vec<String> {
        let records = self.direct.read_committed(&self.names.state);
        records.iter().filter_map(crate::support::kafka::Stored::value_text).collect()
    }
}
