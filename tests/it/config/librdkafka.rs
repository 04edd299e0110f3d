//! The properties that `[kafka.properties]` passes on, and those that it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;

use steward::config::Tls;
use steward::config::properties::{
    PropertyScope, PropertyVerdict, {self},
};

use super::{parse, parse_with};

#[apply(offline_test)]
fn properties_are_passed_on_however_they_are_written() {
    let text = "[kafka.properties]\n'fetch.wait.max.ms' = '10'\nfetch.min.bytes = 2\n'check.crcs' = true\n";
    let variables =
        [("STEWARD__KAFKA__PROPERTIES__FETCH_WAIT_MAX_MS", "20"), ("STEWARD__KAFKA__PROPERTIES__client.rack", "b")];
    let properties = parse_with(text, variables, Tls::Absent).expect("allowed").config.kafka.properties;
    let expected =
        [("check.crcs", "true"), ("client.rack", "b"), ("fetch.min.bytes", "2"), ("fetch.wait.max.ms", "20")];
    assert_eq!(properties, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert!(properties::passed().all(|name| !name.contains('_')), "otherwise a variable would be ambiguous");
}

#[apply(offline_test)]
fn properties_that_would_break_a_guarantee_are_refused_with_the_reason() {
    let dangerous = [
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "delivery.timeout.ms",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "heartbeat.interval.ms",
        "isolation.level",
        "max.in.flight.requests.per.connection",
        "max.poll.interval.ms",
        "message.max.bytes",
        "message.timeout.ms",
        "metadata.broker.list",
        "partition.assignment.strategy",
        "plugin.library.paths",
        "queued.max.messages.kbytes",
        "retry.backoff.max.ms",
        "retry.backoff.ms",
        "sasl.oauthbearer.invented.later",
        "sasl.password",
        "security.protocol",
        "session.timeout.ms",
        "ssl.key.password",
        "statistics.interval.ms",
        "test.mock.num.brokers",
        "dr_msg_cb",
        "transaction.timeout.ms",
        "transactional.id",
    ];
    for name in dangerous {
        let error = parse(&format!("[kafka.properties]\n'{name}' = 'hunter22'\n")).expect_err(name);
        let [mistake] = error.mistakes() else { panic!("{name} is one mistake, not these: {error}") };
        assert_eq!(mistake.key, format!("kafka.properties.{name}"));
        assert!(mistake.problem.starts_with("is not passed on: ") && !mistake.remedy.is_empty(), "{mistake}");
        assert!(!error.to_string().contains("hunter22"), "{error}");
        assert_eq!(properties::scope(name), None);
    }
}

#[apply(offline_test)]
fn each_property_of_librdkafka_has_a_decision_and_reaches_the_right_clients() {
    let documented = librdkafka_properties();
    assert!(documented.len() > 150, "librdkafka documents some 190 properties: {documented:?}");
    for (name, scopes) in &documented {
        match properties::verdict(name) {
            None => panic!("{name}: librdkafka has it, and there is no decision on it"),
            Some(PropertyVerdict::Refused(_)) => {}
            Some(PropertyVerdict::Passed(scope)) => {
                assert_eq!(scopes, &BTreeSet::from([documented_scope(scope)]), "{name}")
            }
        }
    }
    for (name, _) in properties::PASSED.iter().flat_map(|(_, names)| names.iter().map(|name| (*name, ()))) {
        assert!(documented.contains_key(name), "{name}: librdkafka has no such property");
    }
}

fn documented_scope(scope: PropertyScope) -> char {
    match scope {
        PropertyScope::Both => '*',
        PropertyScope::Consumer => 'C',
        PropertyScope::Producer => 'P',
    }
}

/// The library's own list: names, and the clients that they are for (`C`, `P` or `*`).
fn librdkafka_properties() -> BTreeMap<String, BTreeSet<char>> {
    let mut text = vec![0_u8; 1 << 20];
    // SAFETY: `fmemopen` writes at most `len - 1` bytes and a zero into the buffer, which outlives the stream; the
    // stream is closed once, after its only use.
    unsafe {
        let stream = libc::fmemopen(text.as_mut_ptr().cast(), text.len(), c"w".as_ptr());
        assert!(!stream.is_null(), "a stream over memory needs only memory");
        rdkafka_sys::rd_kafka_conf_properties_show(stream.cast());
        libc::fclose(stream);
    }
    let text = CStr::from_bytes_until_nul(&text).expect("the list is shorter than the buffer").to_string_lossy();
    let mut found: BTreeMap<String, BTreeSet<char>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with("Property ")) {
        let mut cells = line.split(" | ");
        let (Some(name), Some(clients)) = (cells.next(), cells.next()) else { continue };
        let (name, clients) = (name.trim(), clients.trim().chars().next());
        if let Some(clients @ ('C' | 'P' | '*')) = clients {
            found.entry(name.to_owned()).or_default().insert(clients);
        }
    }
    found
}
