//! The consumer when reading is interrupted, against the client's mock broker: a real Kafka cannot return errors on
//! demand.

use std::time::Duration;

use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey;
use steward::kafka::consumer::poll_phase::PollPhase;
use steward::ports::ConsumerFailure;
use steward::record::{Offset, Partition, Position};

use super::member::{Member, Topic, now};

#[apply(offline_test)]
fn a_failed_fetch_moves_no_position() {
    let (cluster, topic) = mock();
    topic.fill(0, 5);
    let member = Member::join(&topic);
    member.start(&member.assigned(), 0);
    member.records(5);

    // The client treats an error as the end of the log.
    cluster.request_errors(RDKafkaApiKey::Fetch, &[Code::RD_KAFKA_RESP_ERR_UNKNOWN; 2]);
    member.wait("the client reports the error", |_| member.has_reported("PartitionRead"));
    let (reported_at, phase) = (now(), member.phase());
    member.wait("idle positions were checked since then", |_| {
        phase.read().last_turn > reported_at + Duration::from_millis(2_200)
    });
    assert!(!member.log().iter().any(|event| event.starts_with("position")), "{:?}", member.log());

    topic.fill(0, 3);
    let records = member.records_of(Partition(0), 8);
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
}

#[apply(offline_test)]
fn a_repeated_record_is_dropped() {
    let (_cluster, topic) = mock();
    let member = member_with_repeated_record(&topic);
    topic.fill(0, 3);

    let records = member.records(8);
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
}

#[apply(offline_test)]
fn a_second_repetition_of_a_record_stops_the_process() {
    let (_cluster, topic) = mock();
    let member = member_with_repeated_record(&topic);
    let (reported_at, phase) = (now(), member.phase());
    member.wait("the thread reads again", |_| {
        let read = phase.read();
        read.last_turn > reported_at && read.phase == PollPhase::Polling
    });

    member.set_client_back(&topic, 2);

    let broken = ConsumerFailure::OrderBroken { partition: Partition(0), offset: Offset(2), next: Position(5) };
    assert_eq!(member.failure(), broken);
}

/// Returns a member that has read five records, whose client has repeated one, and that has reported it.
fn member_with_repeated_record(topic: &Topic) -> Member {
    topic.fill(0, 5);
    let member = Member::join(topic);
    member.start(&member.assigned(), 0);
    member.records(5);
    member.set_client_back(topic, 2);
    member.wait("the repetition is reported", |_| member.has_reported("RecordRepeated"));
    member
}

fn mock() -> (MockCluster<'static, DefaultProducerContext>, Topic) {
    let cluster = MockCluster::new(1).expect("a mock broker");
    let topic = Topic::on_mock(&cluster.bootstrap_servers());
    cluster.create_topic(&topic.name, topic.partitions, 1).expect("the mock accepts it");
    (cluster, topic)
}
