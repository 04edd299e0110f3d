//! Checks a log line against the event specifications: name, level, fields and their kinds, and the length.

use serde_json::Value;
use steward::observability::log_events::{EventSpec, FieldKind, FieldSpec, all_events};
use steward::observability::logging::{LIBRARY_LOG, MAX_LINE_BYTES};

/// The fields of every line.
const COMMON_FIELDS: [&str; 5] = ["timestamp", "level", "event", "message", "target"];

/// Returns what is wrong with a JSON line of `steward run`; `None` if it is correct.
pub fn violation(text: &str, line: &Value) -> Option<String> {
    let problem = problem(text, line)?;
    Some(format!("{problem}: {text}"))
}

fn problem(text: &str, line: &Value) -> Option<String> {
    if text.len() >= MAX_LINE_BYTES {
        return Some(format!("{} bytes", text.len()));
    }
    if let Some(missing) = COMMON_FIELDS.iter().find(|name| !line[**name].is_string()) {
        return Some(format!("no {missing}"));
    }
    let name = line["event"].as_str().unwrap_or_default();
    if name == LIBRARY_LOG {
        return None;
    }
    let Some(spec) = all_events().find(|spec| spec.name == name) else {
        return Some("an event without a specification".to_owned());
    };
    if line["level"] != spec.level.as_str() || line["message"] != spec.message {
        return Some(format!("level and message are {} and {}", spec.level, spec.message));
    }
    unexpected_field(line, spec).or_else(|| spec.fields.iter().find_map(|field| field_problem(line, field)))
}

fn unexpected_field(line: &Value, spec: &EventSpec) -> Option<String> {
    let is_known = |name: &str| COMMON_FIELDS.contains(&name) || spec.fields.iter().any(|field| field.name == name);
    let unknown = line.as_object()?.keys().find(|name| !is_known(name))?;
    Some(format!("the field {unknown} is not in the specification"))
}

fn field_problem(line: &Value, field: &FieldSpec) -> Option<String> {
    let value = &line[field.name];
    let is_right = match field.kind {
        FieldKind::Text => value.is_string(),
        FieldKind::Integer => value.is_i64() || value.is_u64(),
        FieldKind::Number => value.is_number(),
        FieldKind::OptionalText => value.is_string() || line.get(field.name).is_none(),
        FieldKind::OptionalInteger => value.is_i64() || value.is_u64() || line.get(field.name).is_none(),
    };
    if !is_right {
        return Some(format!("{} is not {:?}", field.name, field.kind));
    }
    let is_listed = field.values.is_empty() || field.values.iter().any(|listed| value == listed.code);
    (!is_listed).then(|| format!("{} has the value {value}, which is not in the catalogue", field.name))
}
