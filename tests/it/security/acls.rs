//! The permissions that a process needs: the listed ones suffice, and a process that lacks one of them ends and names
//! it.

use std::time::Duration;

use super::{error_of, jaas};
use crate::support::acls::{
    Allow, Operation, Pattern, Resource, {self},
};
use crate::support::broker::Broker;
use crate::support::kafka::{Kafka, record};
use crate::support::ledger::{assert_exact, wait_until_committed};
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::wait::PATIENCE;

/// One permission, and how a process that lacks it ends: its exit code and parts of its error.
struct Needed {
    operation: Operation,
    on: On,
    exit: i32,
    error_parts: &'static [&'static str],
}

#[derive(Debug, Clone, Copy)]
enum On {
    Input,
    State,
    Dlq,
    Group,
    /// The transactional ids are `{group}-{instance}`.
    TransactionalId,
}

/// The permissions of a process whose topics exist. Read and Write include Describe.
const NEEDED: &[Needed] = &[
    Needed { operation: READ, on: On::Input, exit: 5, error_parts: &["{input}", "TopicAuthorizationFailed", "ACL"] },
    Needed { operation: CONFIGS, on: On::Input, exit: 4, error_parts: DESCRIBE_CONFIGS },
    Needed { operation: READ, on: On::State, exit: 5, error_parts: &["allow Read on topic {state}"] },
    Needed {
        operation: WRITE,
        on: On::State,
        exit: 10,
        error_parts: &["TopicAuthorizationFailed", "allow Write on topic", "{state}"],
    },
    Needed { operation: CONFIGS, on: On::State, exit: 4, error_parts: DESCRIBE_CONFIGS },
    Needed { operation: READ, on: On::Dlq, exit: 5, error_parts: &["allow Read on topic {dlq}"] },
    Needed {
        operation: WRITE,
        on: On::Dlq,
        exit: 10,
        error_parts: &["TopicAuthorizationFailed", "allow Write on topic", "{dlq}"],
    },
    Needed { operation: CONFIGS, on: On::Dlq, exit: 4, error_parts: DESCRIBE_CONFIGS },
    Needed {
        operation: READ,
        on: On::Group,
        exit: 5,
        error_parts: &["GroupAuthorizationFailed", "allow READ on the group"],
    },
    Needed {
        operation: WRITE,
        on: On::TransactionalId,
        exit: 5,
        error_parts: &["allow Write on the transactional id"],
    },
];

const DESCRIBE_CONFIGS: &[&str] = &["--add --allow-principal User:<user> --operation DescribeConfigs --topic"];

/// The time until a refused process reports the refusal: at most three attempts with pauses. Below the watchdog's limit.
const REFUSAL_LIMIT: Duration = Duration::from_secs(28);

/// A process that creates its topics also needs this on both of them.
const CREATE: Operation = Operation::RD_KAFKA_ACL_OPERATION_CREATE;
const READ: Operation = Operation::RD_KAFKA_ACL_OPERATION_READ;
const WRITE: Operation = Operation::RD_KAFKA_ACL_OPERATION_WRITE;
const CONFIGS: Operation = Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS;
const LITERAL: Pattern = Pattern::RD_KAFKA_RESOURCE_PATTERN_LITERAL;
const PREFIXED: Pattern = Pattern::RD_KAFKA_RESOURCE_PATTERN_PREFIXED;

#[apply(own_broker_test)]
fn the_listed_permissions_suffice_and_without_any_of_them_the_process_ends_and_names_it() {
    let lacking: Vec<String> = (0..NEEDED.len()).map(|index| format!("lacking{index}")).collect();
    let users: Vec<&str> = ["all", "nocreate"].into_iter().chain(lacking.iter().map(String::as_str)).collect();
    let broker = broker(&users);
    let (kafka, names) = (broker.kafka(), Names::new());
    kafka.create_input(&names, 1);
    let mut acls = Vec::new();
    for (needed, lacks_it) in NEEDED.iter().zip(&lacking) {
        let holders: Vec<&str> = users.iter().copied().filter(|user| user != lacks_it).collect();
        acls.extend(grant(&names, needed.operation, needed.on, &holders));
    }
    for on in [On::State, On::Dlq] {
        acls.extend(grant(&names, CREATE, on, &["all"]));
    }
    acls::add(&kafka, &acls);

    let mut process = as_user(&broker, &names, "nocreate").start();
    assert_eq!(process.wait_exit(PATIENCE), 4, "{}", process.tail());
    assert!(error_of(&process).contains("kafka-topics.sh"), "{}", error_of(&process));

    let mut ids = 0..;
    produce_two(&kafka, &names, &mut ids);
    let mut process = as_user(&broker, &names, "all").start();
    wait_until_committed(&kafka, &names, PATIENCE);
    process.stop();
    process.assert_no_errors_but(&[]);

    for (needed, user) in NEEDED.iter().zip(&lacking) {
        produce_two(&kafka, &names, &mut ids);
        let mut process = as_user(&broker, &names, user).start();
        let code = process.wait_exit(REFUSAL_LIMIT);
        let what = format!("{:?} on {:?}", needed.operation, needed.on);
        let error = error_of(&process);
        assert_eq!(code, needed.exit, "{what}: {error}; {}", process.tail());
        for part in needed.error_parts {
            let part = part.replace("{input}", &names.input).replace("{state}", &names.state);
            let part = part.replace("{dlq}", &names.dlq);
            assert!(error.contains(&part), "{what}: no {part:?} in {error}");
        }
    }

    // `guards.unchecked` permits a start without the configuration of a topic.
    let unchecked = NEEDED.iter().position(|needed| needed.error_parts == DESCRIBE_CONFIGS).expect("there are three");
    let mut process = as_user(&broker, &names, &lacking[unchecked]).set("guards.unchecked", "allow").start();
    let warning = process.wait_for_event("preflight_unchecked", PATIENCE);
    assert!(warning["acl"].as_str().is_some_and(|acl| acl.contains(DESCRIBE_CONFIGS[0])), "{warning}");
    wait_until_committed(&kafka, &names, PATIENCE);
    process.stop();
    process.assert_no_errors_but(&[]);
    assert_exact(&kafka, &names);
}

/// Sends one event that is applied and one that is rejected.
fn produce_two(kafka: &Kafka, names: &Names, ids: &mut impl Iterator<Item = u32>) {
    let id = ids.next().expect("the ids are unlimited");
    let created = format!(
        r#"{{"eventType":"ServiceCreated","id":{id},"name":"n","description":"d","tags":[],"pricePerHour":1}}"#
    );
    kafka.produce(&names.input, &[record(id.to_string(), created), record("x", "no json")]);
}

/// A broker with authentication and permissions for these users. The password of each user is its name.
pub fn broker(users: &[&str]) -> Broker {
    let passwords: Vec<(&str, &str)> = users.iter().map(|user| (*user, *user)).collect();
    let jaas = jaas(&passwords);
    Broker::with_listeners(
        &[("SASL", "SASL_PLAINTEXT")],
        &[
            ("listener.name.sasl.sasl.enabled.mechanisms", "PLAIN"),
            ("listener.name.sasl.plain.sasl.jaas.config", &jaas),
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            // The test and the broker itself connect through listeners without authentication.
            ("super.users", "User:ANONYMOUS"),
        ],
    )
}

/// Grants one permission to each of these users.
fn grant<'a>(names: &Names, operation: Operation, on: On, users: &[&'a str]) -> Vec<Allow<'a>> {
    let (resource, name, pattern) = match on {
        On::Input => (Resource::RD_KAFKA_RESOURCE_TOPIC, names.input.clone(), LITERAL),
        On::State => (Resource::RD_KAFKA_RESOURCE_TOPIC, names.state.clone(), LITERAL),
        On::Dlq => (Resource::RD_KAFKA_RESOURCE_TOPIC, names.dlq.clone(), LITERAL),
        On::Group => (Resource::RD_KAFKA_RESOURCE_GROUP, names.group.clone(), LITERAL),
        On::TransactionalId => (Resource::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID, format!("{}-", names.group), PREFIXED),
    };
    users.iter().map(|user| Allow { user, operation, resource, name: name.clone(), pattern }).collect()
}

fn as_user(broker: &Broker, names: &Names, user: &str) -> Setup {
    let security: toml::Table =
        [("protocol", "sasl_plaintext"), ("sasl_mechanism", "plain"), ("username", user), ("password", user)]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), toml::Value::from(value)))
            .collect();
    Setup::new(&broker.kafka(), names)
        .set("kafka.bootstrap_servers", broker.further_address(0))
        .set("kafka.security", security)
        .set("kafka.session_timeout_ms", 6_000)
        .set("kafka.topic_wait_ms", 3_000)
}
