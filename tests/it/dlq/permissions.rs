//! The permissions that a replay needs: the listed ones suffice, and a replay that lacks one of them ends and names it.

use super::replay::dlq_records;
use super::scene::Scene;
use crate::security::acls::broker;
use crate::support::acls::{
    Allow, Operation, Pattern, Resource, {self},
};

/// One permission, and part of the error without it.
struct Needed {
    operation: Operation,
    on: On,
    error: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum On {
    Input,
    Dlq,
    Receipts,
    TransactionalId,
}

/// The permissions of a replay whose topics exist.
const NEEDED: &[Needed] = &[
    Needed { operation: Operation::RD_KAFKA_ACL_OPERATION_WRITE, on: On::Input, error: "{input}" },
    Needed { operation: Operation::RD_KAFKA_ACL_OPERATION_READ, on: On::Dlq, error: "{dlq}" },
    Needed { operation: Operation::RD_KAFKA_ACL_OPERATION_READ, on: On::Receipts, error: "{receipts}" },
    Needed { operation: Operation::RD_KAFKA_ACL_OPERATION_WRITE, on: On::Receipts, error: "{receipts}" },
    Needed {
        operation: Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS,
        on: On::Receipts,
        error: "DescribeConfigs --topic {receipts}",
    },
    Needed {
        operation: Operation::RD_KAFKA_ACL_OPERATION_WRITE,
        on: On::TransactionalId,
        error: "transactional id {dlq}:replay",
    },
];

#[apply(own_broker_test)]
fn the_listed_permissions_suffice_for_a_replay_and_without_any_of_them_it_ends_and_names_it() {
    let lacking: Vec<String> = (0..NEEDED.len()).map(|index| format!("lacking{index}")).collect();
    let users: Vec<&str> = std::iter::once("all").chain(lacking.iter().map(String::as_str)).collect();
    let broker = broker(&users);
    let scene = Scene::on(broker.kafka(), 1, &[]);
    let through = crate::support::kafka::Kafka::at(&broker.further_address(0));
    let scene = scene.through(&through);
    // Only this user may create the receipts topic.
    let creates = [
        allow(&scene, "all", Operation::RD_KAFKA_ACL_OPERATION_CREATE, On::Receipts),
        allow(&scene, "all", Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS, On::Dlq),
    ];
    let needed = NEEDED.iter().zip(&lacking).flat_map(|(needed, lacks)| {
        let holders = users.iter().filter(move |user| **user != lacks.as_str());
        holders.map(|user| allow(&scene, user, needed.operation, needed.on))
    });
    acls::add(&scene.kafka, &needed.chain(creates).collect::<Vec<_>>());

    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 1));
    let ran = replay_as(&scene, "all");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    scene.assert_each_once(1);

    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 2));
    for (needed, user) in NEEDED.iter().zip(&lacking) {
        let ran = replay_as(&scene, user);
        let what = format!("{:?} on {:?}: exit code {}: {}", needed.operation, needed.on, ran.code, ran.stderr);
        assert!([4, 5, 10].contains(&ran.code), "{what}");
        let expected =
            needed.error.replace("{input}", &scene.names.input).replace("{receipts}", &scene.receipts_topic());
        let expected = expected.replace("{dlq}", &scene.names.dlq);
        assert!(
            ran.stderr.lines().any(|line| line.starts_with("error") && line.contains(&expected)),
            "{expected}: {what}"
        );
        scene.assert_each_once(1);
    }
}

fn replay_as(scene: &Scene, user: &str) -> crate::cli::Ran {
    let environment = [
        ("STEWARD__KAFKA__SECURITY__PROTOCOL", "sasl_plaintext"),
        ("STEWARD__KAFKA__SECURITY__SASL_MECHANISM", "plain"),
        ("STEWARD__KAFKA__SECURITY__USERNAME", user),
        ("STEWARD__KAFKA__SECURITY__PASSWORD", user),
    ];
    scene.start_with(&environment, &["replay", "--execute", "--timeout-ms", "8000"]).end()
}

fn allow<'a>(scene: &Scene, user: &'a str, operation: Operation, on: On) -> Allow<'a> {
    let (resource, name) = match on {
        On::Input => (Resource::RD_KAFKA_RESOURCE_TOPIC, scene.names.input.clone()),
        On::Dlq => (Resource::RD_KAFKA_RESOURCE_TOPIC, scene.names.dlq.clone()),
        On::Receipts => (Resource::RD_KAFKA_RESOURCE_TOPIC, scene.receipts_topic()),
        On::TransactionalId => (Resource::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID, format!("{}:replay", scene.names.dlq)),
    };
    Allow { user, operation, resource, name, pattern: Pattern::RD_KAFKA_RESOURCE_PATTERN_LITERAL }
}
