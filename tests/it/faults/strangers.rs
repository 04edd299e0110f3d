//! Another program in the group of steward takes partitions.

use serde_json::Value;

use crate::faults::number;
use crate::support::kafka::Kafka;
use crate::support::member::Member;
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::wait::PATIENCE;

#[apply(broker_test)]
fn a_member_of_the_group_that_is_not_steward_is_named_and_its_partitions_are_missed() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 4);
    let setup = Setup::new(&kafka, &names).set("log.stats_interval_ms", 500);
    let mut both = ["one", "other"].map(|name| setup.clone().instance(name).start());
    for steward in &mut both {
        steward.wait_for_event_where("stats", PATIENCE, |line| number(line, "partitions_serving") == 2);
    }
    let stranger = Member::joins(&kafka, &names.group, &names.input);

    let [one, other] = &mut both;
    let foreign = one.wait_for_event("foreign_member", PATIENCE);
    assert_eq!(
        (&foreign["group"], &foreign["client_id"]),
        (&names.group.as_str().into(), &"rdkafka".into()),
        "{foreign}"
    );
    let has_partitions = |field: &Value| field.as_str().is_some_and(|list| !list.is_empty());
    assert!(has_partitions(&foreign["partitions"]) && has_partitions(&foreign["host"]), "{foreign}");
    other.wait_for_event("foreign_member", PATIENCE);
    let few = |line: &Value| number(line, "partitions_serving") < 2 && number(line, "partitions_total") == 4;
    let served = |line: &Value| line["recovering"] == "" && few(line);
    let one_has_few = one.events("stats").iter().any(served);
    assert!(one_has_few || other.events("stats").iter().any(served), "both serve two; {}", one.tail());
    drop(stranger);

    for mut steward in both {
        assert_eq!(steward.events("foreign_member").len(), 1, "each is named once; {}", steward.tail());
        steward.stop();
        steward.assert_no_errors_but(&[]);
    }
}
