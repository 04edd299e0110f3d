//! `steward state`: prints services from the state topic, which it reads as any consumer does.
//!
//! An entity is a key in a partition. Producers with different hash functions can write the same key to two partitions.
//! Then both entities are shown.

mod show;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::app::SystemClock;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::kafka::reader::topic_reader::{ReadRecord, ReadScope, TopicReader};
use crate::record::{Offset, Partition, header};
use crate::tools::failure::CommandFailure;
use crate::tools::options::{ConfigFile, Override};
use crate::tools::output::{OutputFormat, OutputFormatFlag};
use crate::tools::{note, output};

/// The greatest id of the contract, 2^53 - 1.
const MAX_ID: u64 = 9_007_199_254_740_991;
/// Rows of a table, unless `--limit` says otherwise.
const TABLE_ROWS: usize = 100;
/// Memory of an entry besides its key and value, in bytes.
const ENTRY_BYTES: usize = 128;

/// Print one service, or all of them
///
/// Reads all committed records of the state topic, and joins no group, so it does not affect a running service. The time
/// grows with the size of the topic. A compacted topic is not much larger than its services.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward state get 42 --config config.toml
  steward state list --bootstrap-servers localhost:9092 --state-topic services.state --json

Next: if a service is not as expected, one of its events may have been rejected. The DLQ topic has the event and the \
reason.")]
pub(crate) struct StateArguments {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    Get(GetArguments),
    List(ListArguments),
}

const JSON_HELP: &str = "\
With --json each service is one line: partition and offset (of the record in the state topic), source_partition, \
source_offset (of the newest event that the value contains), group (that wrote it), value (byte for byte as in the \
topic). Fields that a record does not have are null.";

/// Print one service
///
/// Prints the current service and its newest event. Exits with 15 if the service does not exist, or if it was deleted.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  steward state get 42 --config config.toml
  steward state get 42 --partition 3 --json

{JSON_HELP}

Next: the event itself is in the input topic, at the source partition and offset."))]
struct GetArguments {
    /// The service's id: digits only, 0 to 9007199254740991
    #[arg(value_name = "ID", value_parser = parse_id)]
    id: u64,
    #[command(flatten)]
    source: StateSourceOptions,
}

/// Print all services, sorted by id
///
/// Deleted services are left out. The services have to fit into limits.max_state_bytes while they are sorted.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  steward state list --config config.toml
  steward state list --config config.toml --json | jq .value.name

{JSON_HELP}

Next: `steward state get ID` prints all fields of one service."))]
struct ListArguments {
    #[command(flatten)]
    source: StateSourceOptions,
    /// Number of services to print, at most: without it, 100 in a table, all with --json
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

#[derive(Debug, Args)]
struct StateSourceOptions {
    #[command(flatten)]
    config: ConfigFile,
    /// Kafka brokers as host:port, separated by commas; wins over the configuration
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_servers: Option<String>,
    /// The topic to read; wins over the configuration's kafka.state_topic
    #[arg(long, value_name = "TOPIC")]
    state_topic: Option<String>,
    /// Read only this partition: without it, all of them
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Longest wait for a broker that does not respond, or for an open transaction, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    timeout_ms: u64,
    #[command(flatten)]
    form: OutputFormatFlag,
}

/// Parses an id in the form that the contract requires: the shortest decimal, so that the text equals the key.
fn parse_id(text: &str) -> Result<u64, String> {
    let problem = || format!("an id is digits only, 0 to {MAX_ID}, without leading zeros");
    let is_shortest = text == "0" || !text.starts_with('0');
    if !is_shortest || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(problem());
    }
    text.parse().ok().filter(|id| *id <= MAX_ID).ok_or_else(problem)
}

struct StateEntry {
    partition: Partition,
    offset: Offset,
    source_partition: Option<i32>,
    source_offset: Option<i64>,
    group: Option<Arc<str>>,
    value: Box<[u8]>,
}

pub(crate) fn run(arguments: &StateArguments) -> Result<ExitCode, CommandFailure> {
    match &arguments.command {
        StateCommand::Get(arguments) => get(arguments),
        StateCommand::List(arguments) => list(arguments),
    }
}

fn get(arguments: &GetArguments) -> Result<ExitCode, CommandFailure> {
    let config = arguments.source.config()?;
    let key = arguments.id.to_string();
    // The newest record of each partition; a tombstone is an error with its offset.
    let mut found: BTreeMap<Partition, Result<StateEntry, Offset>> = BTreeMap::new();
    arguments.source.read(&config, |record| {
        if record.key() == Some(key.as_bytes()) {
            let entry = record.value().map(|value| entry(&record, value, None)).ok_or(record.offset());
            found.insert(record.partition(), entry);
        }
        ControlFlow::Continue(())
    })?;

    let live: Vec<&StateEntry> = found.values().filter_map(|entry| entry.as_ref().ok()).collect();
    if live.is_empty() {
        return Err(CommandFailure::NotFound(missing(arguments, &config, &found)));
    }
    let form = arguments.source.form.form();
    let mut out = output::CommandOutput::new();
    for entry in live {
        match form {
            OutputFormat::Json => out.line(&show::json(entry))?,
            OutputFormat::Table => out.line(&show::details(entry))?,
        }
    }
    out.end()?;
    Ok(ExitCode::Done)
}

fn missing(
    arguments: &GetArguments,
    config: &Config,
    found: &BTreeMap<Partition, Result<StateEntry, Offset>>,
) -> String {
    let (id, topic) = (arguments.id, &config.kafka.state_topic);
    let partition = arguments.source.partition.map_or_else(String::new, |partition| format!(" partition {partition}"));
    match found.iter().next() {
        Some((partition, Err(offset))) => format!(
            "service {id} was deleted: the newest record of its key is the tombstone in {topic} partition {partition} at offset {offset}"
        ),
        Some((_, Ok(_))) | None => format!(
            "there is no service {id} in {topic}{partition}; check whether its events were rejected (the DLQ topic), or are not processed yet (`steward health ready`)"
        ),
    }
}

fn list(arguments: &ListArguments) -> Result<ExitCode, CommandFailure> {
    let config = arguments.source.config()?;
    let limit_bytes = config.limits.max_state_bytes;
    let mut services = Services::default();
    arguments.source.read(&config, |record| {
        services.take(&record);
        if services.held_bytes > limit_bytes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if services.held_bytes > limit_bytes {
        return Err(CommandFailure::StateTooLarge { limit_bytes });
    }

    let total = services.entries.len();
    let form = arguments.source.form.form();
    let default_rows = match form {
        OutputFormat::Json => total,
        OutputFormat::Table => TABLE_ROWS,
    };
    let rows = arguments.limit.unwrap_or(default_rows).min(total);
    let shown = services.entries.iter().take(rows);
    match form {
        OutputFormat::Json => {
            let mut out = output::CommandOutput::new();
            for (_, entry) in shown {
                out.line(&show::json(entry))?;
            }
            out.end()?;
        }
        OutputFormat::Table => output::print(&show::table(shown.map(|((id, _), entry)| (id.to_string(), entry))))?,
    }
    if rows < total {
        note(&format!("{rows} of {total} services; --limit {total} shows all of them"));
    } else if form == OutputFormat::Table {
        note(&format!("{total} services"));
    }
    Ok(ExitCode::Done)
}

/// The services that exist, by id and then by partition.
#[derive(Default)]
struct Services {
    entries: BTreeMap<(Id, Partition), StateEntry>,
    held_bytes: u64,
    group: Option<Arc<str>>,
}

/// A key in sort order: ids by their value, then other keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Number(u64),
    Other(Box<[u8]>),
}

impl Id {
    fn of(key: &[u8]) -> Id {
        let number = std::str::from_utf8(key).ok().and_then(|text| parse_id(text).ok());
        number.map_or_else(|| Id::Other(key.into()), Id::Number)
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Id::Number(number) => number.fmt(f),
            Id::Other(key) => output::harmless(&String::from_utf8_lossy(key)).fmt(f),
        }
    }
}

impl Services {
    fn take(&mut self, record: &ReadRecord<'_>) {
        let id = Id::of(record.key().unwrap_or_default());
        let id_bytes = if let Id::Other(key) = &id { key.len() } else { 0 };
        let weight = |entry: &StateEntry| (entry.value.len() + id_bytes + ENTRY_BYTES) as u64;
        let place = (id, record.partition());
        let replaced = match record.value() {
            Some(value) => {
                let entry = entry(record, value, self.group.as_ref());
                self.group.clone_from(&entry.group);
                self.held_bytes += weight(&entry);
                self.entries.insert(place, entry)
            }
            None => self.entries.remove(&place),
        };
        self.held_bytes -= replaced.as_ref().map_or(0, weight);
    }
}

/// Makes an entry of a record. `group` is the group of an earlier record; an equal name is not allocated again.
fn entry(record: &ReadRecord<'_>, value: &[u8], group: Option<&Arc<str>>) -> StateEntry {
    let text = |name| record.last_header(name).and_then(|value| std::str::from_utf8(value).ok());
    let seen_before = |name: &str| group.filter(|group| &***group == name).cloned();
    StateEntry {
        partition: record.partition(),
        offset: record.offset(),
        source_partition: text(header::STATE_PARTITION).and_then(|digits| digits.parse().ok()),
        source_offset: text(header::STATE_OFFSET).and_then(|digits| digits.parse().ok()),
        group: text(header::GROUP).map(|name| seen_before(name).unwrap_or_else(|| name.into())),
        value: value.into(),
    }
}

impl StateSourceOptions {
    fn config(&self) -> Result<Config, CommandFailure> {
        let servers = Override::servers(self.bootstrap_servers.as_deref());
        let topic = Override { flag: "--state-topic", key: "kafka.state_topic", value: self.state_topic.as_deref() };
        Ok(self.config.load(&[servers, topic])?.config)
    }

    fn read(&self, config: &Config, take: impl FnMut(ReadRecord<'_>) -> ControlFlow<()>) -> Result<(), CommandFailure> {
        let scope = self.partition.map_or(ReadScope::All, |partition| ReadScope::One(Partition(partition)));
        let limit = Duration::from_millis(self.timeout_ms);
        let reader = TopicReader::open(config, &config.kafka.state_topic, scope, limit, &SystemClock)?;
        Ok(output::with_progress(&output::bar(0, "offsets"), |progress| reader.read(take, progress))?)
    }
}
