//! What the JSON toolkit guarantees to the author of an entity other than the one that ships. Its grammar and its types
//! are tested through that one, in `service`.

use std::borrow::Cow;

use steward::entity::{Reason, Rejection};
use steward::json::{Field, FieldReader, FieldTable, JsonDocument, RecordTime, Subject};
use validator::Validate;

const FIELDS: FieldTable<3> = FieldTable::new(["kind", "city", "degrees"]);
const CITY: Field = FIELDS.field("city");
const DEGREES: Field = FIELDS.field("degrees");

const MEMBERS: &[(&str, Subject)] =
    &[("town", Subject::Field(CITY)), ("degrees", Subject::Field(DEGREES)), ("timestamp", Subject::Timestamp)];

#[derive(Validate)]
struct RawMeasurement<'a> {
    #[validate(required(message = "send a city"), length(min = 1, message = "send a name"))]
    town: Option<Cow<'a, str>>,
    #[validate(range(min = -273.15, message = "send a temperature that exists"))]
    degrees: Option<f64>,
    #[validate(required(code = "timestamp", message = "give the record a timestamp"))]
    timestamp: Option<i64>,
}

fn measured(value: &str, timestamp: Option<i64>) -> Result<(), Rejection> {
    let document = JsonDocument::read(value.as_bytes(), &FIELDS)?;
    let mut reader = FieldReader::new(&document, MEMBERS);
    let raw = RawMeasurement { degrees: reader.number(DEGREES)?, town: reader.text(CITY)?, timestamp };
    reader.into_violations().settle(raw.validate())
}

#[apply(offline_test)]
fn a_field_outside_of_the_table_may_hold_anything_and_one_inside_may_not() {
    assert_eq!(measured(r#"{"city":"Oslo","id":1,"id":{"a":1,"a":2},"x":1e999}"#, Some(0)), Ok(()));
    let rejection = measured(r#"{"city":"Oslo","city":"Bergen"}"#, Some(0)).expect_err("the city is there twice");
    assert_eq!((rejection.reason, rejection.detail.contains("city")), (Reason::MalformedJson, true));
}

#[apply(offline_test)]
fn a_known_field_that_is_not_read_is_not_checked() {
    assert_eq!(measured(r#"{"kind":1e999,"kind":"\ud800","city":"Oslo"}"#, Some(0)), Ok(()));
}

#[apply(offline_test)]
fn violations_come_in_the_order_of_the_table_and_the_timestamp_last() {
    let rejection = measured(r#"{"degrees":-300,"city":7}"#, None).expect_err("three rules are broken");
    assert_eq!(rejection.reason, Reason::InvalidEvent);
    assert_eq!(
        rejection.detail,
        r#"[{"field":"city","code":"type","message":"send a string"},{"field":"degrees","code":"range","message":"send a temperature that exists"},{"field":"timestamp","code":"timestamp","message":"give the record a timestamp"}]"#
    );
}

#[apply(offline_test)]
fn a_value_that_is_no_object_is_rejected_with_a_field_of_the_table_as_the_example() {
    let rejection = measured("[]", Some(0)).expect_err("it is an array");
    assert_eq!(rejection.detail, r#"the value is not a JSON object; send one, such as {"kind":...}"#);
}

#[apply(offline_test)]
fn a_time_is_read_only_in_the_form_in_which_it_is_written() {
    for ms in [RecordTime::MIN_MS, -1, 0, 1_769_860_800_000, RecordTime::MAX_MS] {
        let time = RecordTime::from_ms(ms).expect("it is in range");
        let written = time.write();
        let text = std::str::from_utf8(&written).expect("it is ASCII");
        assert_eq!(RecordTime::parse(text), Some(time), "{text}");
    }
    for other in ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000+00:00", "2026-02-30T12:00:00.000Z", ""] {
        assert_eq!(RecordTime::parse(other), None, "{other}");
    }
    assert_eq!(RecordTime::from_ms(RecordTime::MAX_MS + 1), None);
}
