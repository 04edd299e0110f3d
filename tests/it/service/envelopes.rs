//! Events in the envelope of another program: they are rejected as any event without an `eventType`, and the detail says
//! what they look like.

use steward::entity::MAX_DETAIL_BYTES;
use steward::record::{Batch, Epoch, Header, Partition, Position};

use super::*;

#[apply(offline_test)]
fn the_prefix_of_a_schema_registry_is_recognised() {
    for rest in
        [&b"\x00\x00\x00\x07\x54\x0eCreated"[..], b"\x00\x00\x00\x07{\"eventType\":\"ServiceDeleted\",\"id\":42}"]
    {
        let detail = detail_of(&[b"\x00", rest].concat(), Reason::MalformedJson);
        assert!(
            detail.contains("schema registry") && detail.ends_with("send plain JSON without this prefix"),
            "{detail}"
        );
    }
    assert!(!detail_of(b"\x00\x00\x00\x07", Reason::MalformedJson).contains("schema registry"), "it is too short");
}

#[apply(offline_test)]
fn the_envelope_of_an_event_without_a_type_is_recognised() {
    let change = r#""before":null,"after":{"id":42},"source":{"db":"x"},"op":"c","ts_ms":1"#;
    for (value, recognised) in [
        (
            r#"{"schema":{"type":"struct"},"payload":{"eventType":"ServiceDeleted","id":42}}"#.to_owned(),
            "Kafka Connect",
        ),
        (r#"{"payload":"text","schema":null}"#.to_owned(), "Kafka Connect"),
        (format!("{{{change}}}"), "Debezium"),
        (format!(r#"{{"schema":{{"type":"struct"}},"payload":{{{change}}}}}"#), "Debezium"),
        (r#"{"specversion":"1.0","type":"ServiceDeleted","source":"/x","data":{"id":42}}"#.to_owned(), "CloudEvent"),
    ] {
        let detail = detail_of(value.as_bytes(), Reason::UnknownEventType);
        assert!(detail.starts_with("eventType is absent or null; the value looks like "), "{detail}");
        assert!(detail.contains(recognised) && detail.contains("; send "), "{value}: {detail}");
    }
}

#[apply(offline_test)]
fn an_event_with_a_type_may_have_members_of_an_envelope() {
    let value = CREATED.replacen('{', r#"{"schema":1,"payload":{"op":1},"specversion":"1.0","before":1,"op":2,"#, 1);
    check(&[&value], &String::from_utf8(Service.encode(&after(&[CREATED])).expect("it exists")).expect("JSON"));
    let other = [r#"{"id":42}"#, r#"{"payload":{}}"#, r#"{"schema":{}}"#, r#"{"op":1}"#, r#"{"after":1}"#, "{}"];
    for value in other {
        let detail = detail_of(value.as_bytes(), Reason::UnknownEventType);
        assert!(detail.starts_with("eventType is absent or null; send ServiceCreated"), "{value}: {detail}");
    }
}

#[apply(offline_test)]
fn a_cloud_event_in_binary_mode_is_recognised_by_its_headers() {
    let detail = |value: &str, headers: &[&str]| {
        let mut batch = Batch::new(Partition(0), Epoch(1), Position(0));
        let headers = headers.iter().map(|name| Header { name, value: Some(b"com.example.created") });
        batch.push(Offset(0), Some(NOON), Some(b"42"), Some(value.as_bytes()), headers);
        let limits = SizeLimits::of_payload(u64::MAX);
        apply_record(&Service, &State::Absent, &batch.record(0), limits).err().map(|rejection| rejection.detail)
    };
    let hint = "; the headers look like those of a CloudEvent in binary mode: send its type in the value";
    let without = detail(r#"{"id":42}"#, &[]).expect("it has no type");
    assert_eq!(detail(r#"{"id":42}"#, &["ce_id", "ce_type"]), Some(format!("{without}{hint}")));
    assert_eq!(detail(CREATED, &["ce_type"]), None, "the value has what it takes");
    assert_eq!(detail(UPDATED, &["ce_type"]), detail(UPDATED, &[]), "a detail of another reason stays as it is");
}

fn detail_of(value: &[u8], reason: Reason) -> String {
    let rejection = decide(&State::Absent, b"42", value, Some(NOON)).expect_err("it has no type");
    assert_eq!(rejection.reason, reason, "{}", rejection.detail);
    assert!(rejection.detail.len() < MAX_DETAIL_BYTES / 8, "{} bytes", rejection.detail.len());
    rejection.detail
}
