//! Formats a service for a terminal, and as JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::tools::output;
use crate::tools::state::StateEntry;

/// The fields of a value that are shown. All are optional, so that values of other writers are shown as far as possible.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ShownFields<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    description: Option<Cow<'a, str>>,
    tags: Option<Vec<String>>,
    // The raw text: a conversion to a float and back could change the number.
    #[serde(borrow)]
    price_per_hour: Option<&'a RawValue>,
    version: Option<u64>,
    #[serde(borrow)]
    created_at: Option<Cow<'a, str>>,
    #[serde(borrow)]
    updated_at: Option<Cow<'a, str>>,
}

impl StateEntry {
    /// Returns `None` if the value does not have the form that steward writes.
    fn fields(&self) -> Option<ShownFields<'_>> {
        serde_json::from_slice(&self.value).ok()
    }
}

fn text(value: Option<impl AsRef<str>>) -> String {
    value.map_or_else(String::new, |value| output::harmless(value.as_ref()))
}

fn number(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

fn price(value: Option<&RawValue>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| output::harmless(value.get()))
}

pub(super) fn details(entry: &StateEntry) -> String {
    let mut table = output::table(["field", "value"]);
    match entry.fields() {
        Some(fields) => {
            table.add_row(["name".to_owned(), text(fields.name)]);
            table.add_row(["description".to_owned(), text(fields.description)]);
            table.add_row(["tags".to_owned(), output::harmless(&fields.tags.unwrap_or_default().join(", "))]);
            table.add_row(["price per hour".to_owned(), price(fields.price_per_hour)]);
            table.add_row(["version".to_owned(), number(fields.version)]);
            table.add_row(["created at".to_owned(), text(fields.created_at)]);
            table.add_row(["updated at".to_owned(), text(fields.updated_at)]);
        }
        None => {
            let value = output::harmless(&String::from_utf8_lossy(&entry.value));
            table.add_row(["not written by steward".to_owned(), value]);
        }
    }
    let state = format!("partition {}, offset {}", entry.partition, entry.offset);
    let source = format!("partition {}, offset {}", number(entry.source_partition), number(entry.source_offset));
    table.add_row(["state record".to_owned(), state]);
    table.add_row(["newest event".to_owned(), source]);
    table.add_row(["group".to_owned(), text(entry.group.as_ref().or(Some(&"unknown".into())))]);
    table.to_string()
}

pub(super) fn table<'a>(services: impl Iterator<Item = (String, &'a StateEntry)>) -> String {
    let mut table = output::table(["id", "name", "price per hour", "tags", "version", "updated at", "partition"]);
    for (id, entry) in services {
        let foreign = || ShownFields { name: Some("(not written by steward)".into()), ..ShownFields::default() };
        let fields = entry.fields().unwrap_or_else(foreign);
        table.add_row([
            id,
            text(fields.name),
            price(fields.price_per_hour),
            output::harmless(&fields.tags.unwrap_or_default().join(", ")),
            fields.version.map_or_else(String::new, |version| version.to_string()),
            text(fields.updated_at),
            entry.partition.to_string(),
        ]);
    }
    table.to_string()
}

#[derive(Serialize)]
struct StateEntryJson<'a> {
    partition: i32,
    offset: i64,
    source_partition: Option<i32>,
    source_offset: Option<i64>,
    group: Option<&'a str>,
    /// Byte for byte; null if it is not JSON.
    value: Option<&'a RawValue>,
}

pub(super) fn json(entry: &StateEntry) -> String {
    output::json(&StateEntryJson {
        partition: entry.partition.0,
        offset: entry.offset.0,
        source_partition: entry.source_partition,
        source_offset: entry.source_offset,
        group: entry.group.as_deref(),
        value: serde_json::from_slice(&entry.value).ok(),
    })
}
