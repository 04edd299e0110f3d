//! The permissions that a replay needs: those in the list suffice, and without any one of them it ends and names it.

use libtest_mimic::Trial;

use super::replay::letters;
use super::scene::Scene;
use crate::security::jaas;
use crate::support::broker::{Broker, Tool};

pub fn trials() -> Vec<Trial> {
    broker_trials![Own:
        the_listed_permissions_suffice_for_a_replay_and_without_any_of_them_it_ends_and_names_it,
    ]
}

/// One permission, and what is said without it.
struct Needed {
    operation: &'static str,
    on: On,
    says: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum On {
    Input,
    Dlq,
    Marks,
    TransactionalId,
}

/// What a replay needs whose topics are there.
const NEEDED: &[Needed] = &[
    Needed { operation: "Write", on: On::Input, says: "{input}" },
    Needed { operation: "Read", on: On::Dlq, says: "{dlq}" },
    Needed { operation: "Read", on: On::Marks, says: "{marks}" },
    Needed { operation: "Write", on: On::Marks, says: "{marks}" },
    Needed { operation: "DescribeConfigs", on: On::Marks, says: "DescribeConfigs --topic {marks}" },
    Needed { operation: "Write", on: On::TransactionalId, says: "transactional id {dlq}:replay" },
];

fn the_listed_permissions_suffice_for_a_replay_and_without_any_of_them_it_ends_and_names_it() {
    let lacking: Vec<String> = (0..NEEDED.len()).map(|index| format!("lacking{index}")).collect();
    let users: Vec<&str> = std::iter::once("all").chain(lacking.iter().map(String::as_str)).collect();
    let broker = broker(&users);
    let scene = Scene::on(broker.kafka(), 1, &[]);
    let through = crate::support::kafka::Kafka::at(&broker.further_address(0));
    let scene = scene.through(&through);
    for (index, needed) in NEEDED.iter().enumerate() {
        let holders: Vec<&str> = users.iter().copied().filter(|user| *user != lacking[index]).collect();
        grant(&broker, &scene, needed.operation, needed.on, &holders);
    }
    // For whoever creates the topic of marks.
    grant(&broker, &scene, "Create", On::Marks, &["all"]);
    grant(&broker, &scene, "DescribeConfigs", On::Dlq, &["all"]);

    scene.kafka.produce(&scene.names.dlq, &letters(&scene, 1));
    let ran = replay_as(&scene, "all");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    scene.assert_each_once(1);

    scene.kafka.produce(&scene.names.dlq, &letters(&scene, 2));
    for (needed, user) in NEEDED.iter().zip(&lacking) {
        let ran = replay_as(&scene, user);
        let what = format!("{} on {:?}: exit code {}: {}", needed.operation, needed.on, ran.code, ran.stderr);
        assert!([4, 5, 10].contains(&ran.code), "{what}");
        let says = needed.says.replace("{input}", &scene.names.input).replace("{marks}", &scene.marks());
        let says = says.replace("{dlq}", &scene.names.dlq);
        assert!(ran.stderr.lines().any(|line| line.starts_with("error") && line.contains(&says)), "{says}: {what}");
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

fn broker(users: &[&str]) -> Broker {
    let passwords: Vec<(&str, &str)> = users.iter().map(|user| (*user, *user)).collect();
    let jaas = jaas(&passwords);
    Broker::with_listeners(
        &[("SASL", "SASL_PLAINTEXT")],
        &[
            ("listener.name.sasl.sasl.enabled.mechanisms", "PLAIN"),
            ("listener.name.sasl.plain.sasl.jaas.config", &jaas),
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            // The test itself, and the broker to itself, on the plain listeners.
            ("super.users", "User:ANONYMOUS"),
        ],
    )
}

fn grant(broker: &Broker, scene: &Scene, operation: &str, on: On, users: &[&str]) {
    let (marks, id) = (scene.marks(), format!("{}:replay", scene.names.dlq));
    let resource: [&str; 2] = match on {
        On::Input => ["--topic", &scene.names.input],
        On::Dlq => ["--topic", &scene.names.dlq],
        On::Marks => ["--topic", &marks],
        On::TransactionalId => ["--transactional-id", &id],
    };
    let principals: Vec<String> = users.iter().map(|user| format!("User:{user}")).collect();
    let principals = principals.iter().flat_map(|principal| ["--allow-principal", principal.as_str()]);
    let arguments: Vec<&str> =
        ["--add", "--operation", operation].into_iter().chain(resource).chain(principals).collect();
    broker.tool(Tool::Acls, &arguments);
}
