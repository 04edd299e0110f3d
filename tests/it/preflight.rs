//! Preflight checks: topics that do not fit together are refused with a remedy, and missing outputs are created to fit.

use std::ops::ControlFlow;
use std::time::Duration;

use rdkafka::consumer::DefaultConsumerContext;
use steward::config::{Config, Unchecked};
use steward::kafka::admin::new_topic::{NewTopicSettings, dlq_settings, state_settings};
use steward::kafka::admin::preflight::{StartRefusal, StartWarning, check};
use steward::kafka::admin::topic_facts::{CleanupPolicy, Demands, TopicFacts, TopicSettings};
use steward::kafka::admin::topics::{TopicInspector, Topics, WaitingForTopic};
use steward::observability::log_events::PreflightCheck;

use crate::support::clock::SystemClock;
use crate::support::kafka::Kafka;
use crate::support::names;

// ----------------------------------------------------------------------------------------------------------- pure
// checks

#[apply(offline_test)]
fn each_preflight_check_refuses_its_case() {
    type Spoil = fn(&mut Three);
    let table: [(&str, Spoil); 9] = [
        ("partition_counts", |three| three.state.partitions = 5),
        ("partition_counts", |three| three.state.partitions = 7),
        ("partition_counts", |three| three.dlq.partitions = 5),
        ("input_not_compacted", |three| cleanup(&mut three.input).compacts = true),
        ("state_compacted", |three| cleanup(&mut three.state).compacts = false),
        ("state_compacted", |three| cleanup(&mut three.state).deletes = true),
        ("tombstone_retention", |three| of(&mut three.state).delete_retention_ms = Some(1_099)),
        ("dlq_not_compacted", |three| cleanup(&mut three.dlq).compacts = true),
        ("record_size", |three| of(&mut three.dlq).max_message_bytes = Some(1_065_535)),
    ];
    assert_eq!(Three::fitting().check(Unchecked::Refuse), Ok(vec![]));
    for (check, spoil) in table {
        let mut three = Three::fitting();
        spoil(&mut three);
        let refusal = three.check(Unchecked::Refuse).expect_err(check);
        assert_eq!(refusal.check().map(PreflightCheck::code), Some(check));
    }
    let mut three = Three::fitting();
    of(&mut three.state).max_message_bytes = Some(999_999);
    assert_eq!(three.check(Unchecked::Refuse).expect_err("too small").check(), Some(PreflightCheck::RecordSize));
}

#[apply(offline_test)]
fn every_refusal_has_a_remedy() {
    let mut three = Three::fitting();
    of(&mut three.state).delete_retention_ms = Some(1);
    let message = three.check(Unchecked::Refuse).expect_err("too short").to_string();
    let command = "kafka-configs.sh --bootstrap-server b:1 --alter --entity-type topics --entity-name s --add-config \
                   delete.retention.ms=1100";
    assert!(message.contains(command), "{message}");
    let mut three = Three::fitting();
    three.state.partitions = 5;
    let message = three.check(Unchecked::Refuse).expect_err("too few").to_string();
    assert!(message.contains("create new topics with 6 partitions and replay"), "{message}");
}

#[apply(offline_test)]
fn an_unreadable_configuration_is_refused_unless_allowed() {
    type Spoil = fn(&mut Three);
    let spoils: [Spoil; 2] = [|three| three.input.settings = None, |three| three.state.settings = None];
    for spoil in spoils {
        let mut three = Three::fitting();
        spoil(&mut three);
        let refusal = three.check(Unchecked::Refuse).expect_err("unreadable");
        assert_eq!(refusal.check(), Some(PreflightCheck::ConfigurationReadable));
        assert!(refusal.to_string().contains("--operation DescribeConfigs"), "{refusal}");
        let warnings = three.check(Unchecked::Allow).expect("allowed");
        assert!(matches!(&warnings[..], [StartWarning::Unchecked { .. }]), "{warnings:?}");
    }
}

#[apply(offline_test)]
fn tombstones_outlive_the_events_they_cover() {
    // With the maximum the broker's sum overflows. A retention of more than a thousand years is none.
    for (retention_ms, needed) in [(1_000, 1_100), (0, 100), (-1, 86_400_000), (i64::MAX, 86_400_000)] {
        let mut three = Three::fitting();
        of(&mut three.input).retention_ms = Some(retention_ms);
        of(&mut three.state).delete_retention_ms = Some(needed - 1);
        let refusal = three.check(Unchecked::Refuse).expect_err("a millisecond is missing");
        assert!(
            matches!(refusal, StartRefusal::TombstonesTooShort { needed: demanded, .. } if demanded == needed),
            "{refusal}"
        );
        of(&mut three.state).delete_retention_ms = Some(needed);
        assert_eq!(three.check(Unchecked::Refuse), Ok(vec![]));
        let created = state_settings(&three.input, &demands(Unchecked::Refuse));
        assert!(created.required.contains(&("delete.retention.ms", needed.to_string())), "{created:?}");
    }
}

#[apply(offline_test)]
fn a_configured_bound_of_tombstones_replaces_the_derived_one() {
    let capped = Demands { tombstone_retention_ms: Some(60), ..demands(Unchecked::Refuse) };
    let mut three = Three::fitting();
    // It does not rest on what the input reports.
    of(&mut three.input).retention_ms = None;
    of(&mut three.state).delete_retention_ms = Some(60);
    assert_eq!(three.check_with(&capped), Ok(vec![]));
    assert!(state_settings(&three.input, &capped).required.contains(&("delete.retention.ms", "60".to_owned())));
    of(&mut three.state).delete_retention_ms = Some(59);
    let refusal = three.check_with(&capped).expect_err("below the configured bound");
    assert!(matches!(refusal, StartRefusal::TombstonesTooShort { needed: 60, .. }), "{refusal}");
}

#[apply(offline_test)]
fn settings_that_only_cost_time_or_reject_large_events_are_advised_with_a_command() {
    type Spoil = fn(&mut TopicSettings);
    let table: [(&str, i64, &str, Spoil); 3] = [
        ("delete.retention.ms", i64::MAX, "delete.retention.ms=1100", |state| {
            state.delete_retention_ms = Some(i64::MAX)
        }),
        ("max.message.bytes", 65_635, "max.message.bytes=65636", |state| state.max_message_bytes = Some(65_635)),
        (
            "segment.bytes",
            1_073_741_824,
            "segment.bytes=8388608,segment.ms=3600000,min.cleanable.dirty.ratio=0.3,max.compaction.lag.ms=21600000",
            |state| state.segment_bytes = Some(1_073_741_824),
        ),
    ];
    for (expected, value, change, spoil) in table {
        let mut three = Three::fitting();
        of(&mut three.input).max_message_bytes = Some(1_000);
        spoil(of(&mut three.state));
        let warnings = three.check(Unchecked::Refuse).expect("the start is not refused");
        let [StartWarning::Advised { topic, setting, found, command, .. }] = &warnings[..] else {
            panic!("{expected}: {warnings:?}")
        };
        assert_eq!((&**topic, *setting, *found), ("s", expected, value));
        assert!(command.ends_with(&format!("--entity-name s --add-config {change}")), "{command}");
    }
}

/// The broker refuses a record that is larger than a segment.
#[apply(offline_test)]
fn a_segment_of_the_state_topic_takes_the_largest_record() {
    const LARGEST: i64 = 20 << 20;
    let mut three = Three::fitting();
    of(&mut three.input).max_message_bytes = Some(LARGEST);
    let settings = state_settings(&three.input, &demands(Unchecked::Refuse));
    let bytes = |wanted: &str| {
        let value = settings.all().find(|(name, _)| *name == wanted).map(|(_, value)| value.parse::<i64>());
        value.expect("it is set").expect("a number")
    };
    assert!(bytes("max.message.bytes") > LARGEST);
    assert_eq!(bytes("segment.bytes"), bytes("max.message.bytes"));

    for topic in [&mut three.state, &mut three.dlq] {
        of(topic).max_message_bytes = Some(2 * LARGEST);
    }
    of(&mut three.state).segment_bytes = Some(2 * LARGEST);
    assert_eq!(three.check(Unchecked::Refuse), Ok(vec![]), "its segments are no larger than they have to be");
}

#[apply(offline_test)]
fn settings_that_the_broker_does_not_report_are_refused_unless_allowed() {
    type Spoil = fn(&mut Three);
    let table: [(&str, &str, Spoil); 4] = [
        ("i", "retention.ms, segment.ms", |three| {
            let input = of(&mut three.input);
            (input.retention_ms, input.segment_ms) = (None, None);
        }),
        ("s", "delete.retention.ms", |three| of(&mut three.state).delete_retention_ms = None),
        ("s", "cleanup.policy", |three| of(&mut three.state).cleanup = None),
        ("d", "max.message.bytes", |three| of(&mut three.dlq).max_message_bytes = None),
    ];
    for (topic, names, spoil) in table {
        let mut three = Three::fitting();
        spoil(&mut three);
        let refusal = three.check(Unchecked::Refuse).expect_err(names);
        assert_eq!(refusal.check(), Some(PreflightCheck::ConfigurationReadable));
        let text = refusal.to_string();
        assert!(text.contains(names) && text.contains("guards.unchecked = \"allow\""), "{text}");
        let warning = StartWarning::NotReported { topic: topic.to_owned(), names: names.to_owned() };
        assert_eq!(three.check(Unchecked::Allow), Ok(vec![warning]));
        // The other checks still run.
        three.state.partitions = 5;
        assert!(three.check(Unchecked::Allow).is_err());
    }
    let mut three = Three::fitting();
    of(&mut three.input).segment_bytes = None;
    of(&mut three.state).segment_bytes = None;
    assert_eq!(three.check(Unchecked::Refuse), Ok(vec![]), "nothing is demanded of it");
}

#[apply(offline_test)]
fn a_new_topic_leaves_out_what_the_broker_sets_as_well_by_default() {
    let names = |settings: &NewTopicSettings| settings.optional_names();
    let segments = "segment.bytes, segment.ms, min.cleanable.dirty.ratio, max.compaction.lag.ms";
    // Three replicas: two must be in sync.
    let table = [
        (Some(1), Some(true), "min.insync.replicas, unclean.leader.election.enable"),
        (None, None, "min.insync.replicas, unclean.leader.election.enable"),
        (Some(2), Some(true), "unclean.leader.election.enable"),
        (Some(1), Some(false), "min.insync.replicas"),
        (Some(3), Some(false), ""),
    ];
    for (in_sync, unclean, expected) in table {
        let mut three = Three::fitting();
        let settings = of(&mut three.input);
        (settings.broker_min_in_sync, settings.broker_allows_unclean_election) = (in_sync, unclean);
        assert_eq!(names(&dlq_settings(&three.input)), expected);
        let state = state_settings(&three.input, &demands(Unchecked::Refuse));
        let both = [expected, segments].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        assert_eq!(names(&state), both);
        assert_eq!(names(&state.required_only()), "");
    }
    let mut single = Three::fitting().input;
    single.replication = 1;
    of(&mut single).broker_allows_unclean_election = Some(false);
    assert_eq!(names(&dlq_settings(&single)), "", "one replica needs one in sync, which is every broker's minimum");
}

#[apply(offline_test)]
fn a_dlq_topic_may_have_more_partitions_than_the_input() {
    let mut three = Three::fitting();
    three.dlq.partitions = 60;
    assert_eq!(three.check(Unchecked::Refuse), Ok(vec![]));
}

// -------------------------------------------------------------------------------------------------- on a real broker

#[apply(broker_test)]
fn created_outputs_pass_every_preflight_check() {
    let names = Names::new();
    names.kafka.create_topic(
        &names.config.kafka.topic,
        3,
        &[("retention.ms", "86400000"), ("max.message.bytes", "2000000")],
    );
    let topics = names.inspect().expect("everything fits");
    assert_eq!(topics.partitions, 3);
    let created: Vec<_> = topics.created.iter().map(|topic| (&*topic.name, topic.left_out.is_some())).collect();
    assert_eq!(created, [(&*names.config.kafka.state_topic, false), (&*names.config.kafka.dlq_topic, false)]);
    assert_eq!(topics.max_batch_bytes, Some(2_065_536));
    assert_eq!(topics.warnings, []);
    let again = names.inspect().expect("everything still fits");
    assert_eq!(again.created, []);
}

#[apply(broker_test)]
fn an_input_that_is_kept_indefinitely_needs_tombstones_for_a_day() {
    let names = Names::new();
    names.kafka.create_topic(&names.config.kafka.topic, 1, &[("retention.ms", "-1")]);
    names.inspect().expect("created to fit");
    let short = Names::new();
    short.kafka.create_topic(&short.config.kafka.topic, 1, &[("retention.ms", "-1")]);
    let settings = [("cleanup.policy", "compact"), ("delete.retention.ms", "86399999")];
    short.kafka.create_topic(&short.config.kafka.state_topic, 1, &settings);
    let refusal = short.inspect().expect_err("a millisecond is missing");
    assert_eq!(refusal.check(), Some(PreflightCheck::TombstoneRetention));
}

#[apply(broker_test)]
fn the_settings_of_a_printed_command_create_a_topic_that_passes() {
    let mut names = Names::new();
    names.config.kafka.create_topics = false;
    names.kafka.create_topic(&names.config.kafka.topic, 2, &[("retention.ms", "-1")]);
    let refusal = names.inspect().expect_err("steward may not create them");
    let StartRefusal::OutputMissing { command, also: Some(also), .. } = &refusal else { panic!("{refusal}") };
    let StartRefusal::OutputMissing { command: of_dlq, .. } = &**also else { panic!("{also}") };
    for (topic, command) in [(&names.config.kafka.state_topic, command), (&names.config.kafka.dlq_topic, of_dlq)] {
        let settings: Vec<_> = command.split(" --config ").skip(1).filter_map(|of| of.split_once('=')).collect();
        assert!(settings.len() > 2, "{command}");
        names.kafka.create_topic(topic, 2, &settings);
    }
    let topics = names.inspect().expect("what the commands create passes");
    assert_eq!((topics.created, topics.warnings), (vec![], vec![]));
}

#[apply(broker_test)]
fn missing_outputs_that_are_not_to_be_created_are_refused_with_the_command() {
    let mut names = Names::new();
    names.config.kafka.create_topics = false;
    names.kafka.create_topic(&names.config.kafka.topic, 2, &[]);
    let refusal = names.inspect().expect_err("steward may not create it");
    let StartRefusal::OutputMissing { command, .. } = &refusal else { panic!("{refusal}") };
    let expected = format!(
        "kafka-topics.sh --bootstrap-server {} --create --topic {} --partitions 2 --replication-factor 1 \
         --config cleanup.policy=compact --config delete.retention.ms=1209600000 --config max.message.bytes=1114124 \
         --config segment.bytes=8388608 --config segment.ms=3600000 --config min.cleanable.dirty.ratio=0.3 \
         --config max.compaction.lag.ms=21600000",
        names.kafka.address(),
        names.config.kafka.state_topic
    );
    assert_eq!(*command, expected);
}

#[apply(broker_test)]
fn two_instances_that_create_at_once_both_start() {
    let names = Names::new();
    names.kafka.create_topic(&names.config.kafka.topic, 2, &[]);
    std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| names.inspect())).collect();
        for start in starts {
            let topics = start.join().expect("no panic").expect("the topic of another instance fits as well");
            assert_eq!(topics.partitions, 2);
        }
    });
}

#[apply(broker_test)]
fn a_missing_input_is_waited_for_and_then_refused_but_never_created() {
    let mut names = Names::new();
    names.config.kafka.topic_wait_ms = 600;
    let mut waits = 0;
    let refusal = names
        .inspect_while(&mut |waiting| {
            assert_eq!(
                (waiting.topic.as_str(), waiting.limit),
                (names.config.kafka.topic.as_str(), Duration::from_millis(600))
            );
            waits += 1;
            ControlFlow::Continue(())
        })
        .expect_err("the input does not exist");
    assert!(matches!(refusal, StartRefusal::InputMissing { waited_ms: 600.., .. }), "{refusal}");
    assert!(waits >= 2, "{waits}");
    assert_eq!(names.kafka.partition_count(&names.config.kafka.topic), None, "steward does not create the input");
}

#[apply(broker_test)]
fn an_input_that_appears_ends_the_wait() {
    let names = Names::new();
    let mut created = false;
    let topics = names.inspect_while(&mut |_| {
        if !created {
            names.kafka.create_topic(&names.config.kafka.topic, 4, &[]);
            created = true;
        }
        ControlFlow::Continue(())
    });
    assert_eq!(topics.expect("the input exists now").partitions, 4);
    assert!(created, "steward did not wait for the input");
}

#[apply(broker_test)]
fn the_wait_for_the_input_can_be_interrupted() {
    let refusal = Names::new().inspect_while(&mut |_| ControlFlow::Break(())).expect_err("interrupted");
    assert!(matches!(refusal, StartRefusal::Interrupted { .. }), "{refusal}");
}

#[apply(broker_test)]
fn a_state_topic_of_another_size_is_refused() {
    let names = Names::new();
    names.kafka.create_topic(&names.config.kafka.topic, 3, &[]);
    names.kafka.create_topic(&names.config.kafka.state_topic, 2, &[("cleanup.policy", "compact")]);
    assert_eq!(names.inspect().expect_err("2 is not 3").check(), Some(PreflightCheck::PartitionCounts));
}

#[apply(broker_test)]
fn a_compacted_input_is_refused() {
    let names = Names::new();
    names.kafka.create_topic(&names.config.kafka.topic, 1, &[("cleanup.policy", "compact,delete")]);
    assert_eq!(names.inspect().expect_err("compacted").check(), Some(PreflightCheck::InputNotCompacted));
}

#[apply(broker_test)]
fn a_state_topic_that_deletes_is_refused() {
    let names = Names::new();
    names.kafka.create_topic(&names.config.kafka.topic, 1, &[]);
    names.kafka.create_topic(&names.config.kafka.state_topic, 1, &[("cleanup.policy", "compact,delete")]);
    assert_eq!(names.inspect().expect_err("it deletes").check(), Some(PreflightCheck::StateCompacted));
}

#[apply(broker_test)]
fn a_compacted_dlq_topic_is_refused() {
    let names = Names::new();
    names.kafka.create_topic(&names.config.kafka.topic, 1, &[]);
    names.kafka.create_topic(&names.config.kafka.dlq_topic, 1, &[("cleanup.policy", "compact")]);
    assert_eq!(names.inspect().expect_err("compacted").check(), Some(PreflightCheck::DlqNotCompacted));
}

#[apply(broker_test)]
fn brokers_that_do_not_answer_are_named() {
    let mut names = Names::new();
    // A port that was free just now, and on which no process listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    names.config.kafka.bootstrap_servers.clone_from(&address);
    names.config.kafka.topic_wait_ms = 100;
    let refusal = names.inspect().expect_err("no broker answers");
    assert!(
        matches!(&refusal, StartRefusal::BrokersUnreachable { bootstrap, .. } if *bootstrap == address),
        "{refusal}"
    );
}

// ------------------------------------------------------------------------------------------------------------ harness

/// The facts of three topics that fit together.
struct Three {
    input: TopicFacts,
    state: TopicFacts,
    dlq: TopicFacts,
}

impl Three {
    fn fitting() -> Three {
        let settings = TopicSettings {
            cleanup: Some(CleanupPolicy { compacts: false, deletes: true }),
            retention_ms: Some(1_000),
            segment_ms: Some(100),
            segment_bytes: Some(8_388_608),
            delete_retention_ms: Some(1_100),
            max_message_bytes: Some(1_000_000),
            min_in_sync: Some(1),
            broker_min_in_sync: Some(1),
            broker_allows_unclean_election: Some(false),
        };
        let compacts = Some(CleanupPolicy { compacts: true, deletes: false });
        let topic = |name: &str, settings| TopicFacts {
            name: name.to_owned(),
            partitions: 6,
            replication: 3,
            settings: Some(settings),
        };
        Three {
            input: topic("i", settings.clone()),
            state: topic("s", TopicSettings { cleanup: compacts, ..settings.clone() }),
            dlq: topic("d", TopicSettings { max_message_bytes: Some(1_065_536), ..settings }),
        }
    }

    fn check(&self, unchecked: Unchecked) -> Result<Vec<StartWarning>, StartRefusal> {
        self.check_with(&demands(unchecked))
    }

    fn check_with(&self, demands: &Demands) -> Result<Vec<StartWarning>, StartRefusal> {
        check("b:1", &self.input, &self.state, &self.dlq, demands)
    }
}

fn demands(unchecked: Unchecked) -> Demands {
    Demands { unchecked, tombstone_retention_ms: None, max_payload_bytes: 100 }
}

fn cleanup(topic: &mut TopicFacts) -> &mut CleanupPolicy {
    of(topic).cleanup.as_mut().expect("the fitting topics have a policy")
}

fn of(topic: &mut TopicFacts) -> &mut TopicSettings {
    topic.settings.as_mut().expect("the fitting topics have settings")
}

/// The names of three topics that do not exist yet.
struct Names {
    kafka: Kafka,
    config: Config,
}

impl Names {
    fn new() -> Names {
        let (kafka, names) = (Kafka::shared(), names::Names::new());
        let mut config = Config::default();
        config.kafka.bootstrap_servers = kafka.address().to_owned();
        config.kafka.state_topic = names.state;
        config.kafka.dlq_topic = names.dlq;
        config.kafka.topic = names.input;
        Names { kafka, config }
    }

    fn inspect(&self) -> Result<Topics, StartRefusal> {
        self.inspect_while(&mut |_| ControlFlow::Continue(()))
    }

    fn inspect_while(
        &self,
        waiting: &mut dyn FnMut(&WaitingForTopic) -> ControlFlow<()>,
    ) -> Result<Topics, StartRefusal> {
        TopicInspector::new(&self.config, &DefaultConsumerContext, &SystemClock)?.inspect(waiting)
    }
}
