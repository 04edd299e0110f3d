//! `steward dlq`: lists and shows rejected events, as any reader of the DLQ topic does, and sends them to the input
//! again.
//!
//! Only `show` prints a value; a list has its length.

mod dlq_record;
mod filter;
mod list;
mod location;
mod receipt;
mod receipts_topic;
mod replay;
pub(in crate::tools) mod replay_failure;
mod row;
mod show;

pub use crate::tools::dlq::dlq_record::{DlqRecord, EventSourceHeaders, ReplayEvent, Truncation};
pub use crate::tools::dlq::filter::DlqFilter;
pub use crate::tools::dlq::location::DlqLocation;
pub use crate::tools::dlq::receipt::{NotAReceipt, ReplayReceipt, ReplayReceipts};
pub use crate::tools::dlq::replay::decision::{
    InputLog, NAMED_RECORDS, Obstacle, Outlook, Overtaken, ReplayDecision, ReplayPlan, decide, outlook,
};

use std::ops::ControlFlow;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::app::SystemClock;
use crate::config::Config;
use crate::entity::Reason;
use crate::exit_code::ExitCode;
use crate::kafka::admin::access::AccessFailure;
use crate::kafka::reader::topic_reader::{ReadRecord, ReadScope, TopicProgress, TopicReader};
use crate::record::{Offset, Partition};
use crate::tools::dlq::replay_failure::ReplayFailure;
use crate::tools::failure::CommandFailure;
use crate::tools::note;
use crate::tools::options::{ConfigFile, Override};
use crate::tools::output::{self, OutputFormatFlag};

/// Look at rejected events: list them, show one, send them to the input again
///
/// Reads the DLQ topic from its start to its end, committed records only, and joins no group, so that it
/// disturbs no process.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward dlq list --config config.toml --reason not_found --since 2026-01-31T12:00:00Z
  steward dlq show 3 4711 --config config.toml
  steward dlq replay --config config.toml --reason not_found

Next: docs/dlq-reasons.md says for each reason what to do.")]
pub(crate) struct DlqArguments {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    List(Box<list::DlqListArguments>),
    Show(Box<show::DlqShowArguments>),
    Replay(Box<replay::DlqReplayArguments>),
}

pub(crate) fn run(arguments: &DlqArguments) -> Result<ExitCode, CommandFailure> {
    match &arguments.command {
        DlqCommand::List(arguments) => list::run(arguments),
        DlqCommand::Show(arguments) => show::run(arguments),
        DlqCommand::Replay(arguments) => replay::run(arguments),
    }
}

#[derive(Debug, Args)]
struct DlqSourceOptions {
    #[command(flatten)]
    config: ConfigFile,
    /// Where to find Kafka: host:port, separated by commas; wins over the configuration
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_servers: Option<String>,
    /// The topic to read; wins over the configuration's kafka.dlq_topic
    #[arg(long, value_name = "TOPIC")]
    dlq_topic: Option<String>,
    /// How long to wait for a broker that does not answer, or an open transaction, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    timeout_ms: u64,
    #[command(flatten)]
    form: OutputFormatFlag,
}

/// Which DLQ records are wanted: those that all flags let through.
#[derive(Debug, Args)]
struct Wanted {
    /// Only those of this reason, can be given several times: without it, of any
    #[arg(long, value_name = "REASON", value_parser = reason_parser())]
    reason: Vec<Reason>,
    /// Only those of this key, can be given several times: without it, of any
    #[arg(long, value_name = "KEY", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key: Vec<String>,
    /// Only those rejected at this time or later, such as 2026-01-31T12:00:00Z: without it, from the first on
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<i64>,
    /// Only those rejected before this time, such as 2026-01-31T13:00:00+01:00: without it, up to the last
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<i64>,
    /// Only those of this partition: without it, of all
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Only the one at this offset of the partition, can be given several times: without it, at any
    #[arg(long, value_name = "OFFSET", requires = "partition", value_parser = clap::value_parser!(i64).range(0..))]
    offset: Vec<i64>,
    /// Only those whose event is at this offset of the input or later: without it, at any
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    source_from: Option<i64>,
    /// Only those whose event is at this offset of the input or earlier: without it, at any
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    source_to: Option<i64>,
}

fn reason_parser() -> impl clap::builder::TypedValueParser<Value = Reason> {
    PossibleValuesParser::new(Reason::ALL.map(Reason::code)).map(|code| {
        let found = Reason::ALL.into_iter().find(|reason| reason.code() == code);
        found.expect("clap lets only the codes through that it was given")
    })
}

/// Milliseconds since 1970.
fn parse_time(text: &str) -> Result<i64, String> {
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| format!("{error}; write date, time and offset, such as 2026-01-31T12:00:00Z"))?;
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).map_err(|_| "it is out of range".to_owned())
}

impl Wanted {
    fn filter(&self) -> DlqFilter {
        DlqFilter {
            reasons: self.reason.clone(),
            keys: self.key.iter().map(|key| key.clone().into_bytes()).collect(),
            offsets: self.offset.iter().map(|offset| Offset(*offset)).collect(),
            since_ms: self.since,
            until_ms: self.until,
            source_from: self.source_from.map(Offset),
            source_to: self.source_to.map(Offset),
        }
    }

    fn scope(&self) -> ReadScope {
        self.partition.map_or(ReadScope::All, |partition| ReadScope::One(Partition(partition)))
    }
}

impl DlqSourceOptions {
    /// `topic` overrides the input topic.
    fn load(&self, topic: Option<&str>) -> Result<Config, CommandFailure> {
        let servers = Override::servers(self.bootstrap_servers.as_deref());
        let dlq_topic = Override { flag: "--dlq-topic", key: "kafka.dlq_topic", value: self.dlq_topic.as_deref() };
        let topic = Override { flag: "--topic", key: "kafka.topic", value: topic };
        Ok(self.config.load(&[servers, dlq_topic, topic])?.config)
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    fn open(&self, config: &Config, scope: ReadScope) -> Result<TopicReader<'static>, AccessFailure> {
        TopicReader::open(config, &config.kafka.dlq_topic, scope, self.limit(), &SystemClock)
    }

    /// Returns the receipts, if they may be read: a command that only prints works without them.
    fn receipts_if_readable(
        &self,
        config: &Config,
        scope: ReadScope,
    ) -> Result<Option<ReplayReceipts>, CommandFailure> {
        // The offset of a DLQ record is not that of its receipt.
        let scope = match scope {
            ReadScope::Record(partition, _) => ReadScope::One(partition),
            ReadScope::All | ReadScope::One(_) => scope,
        };
        match self.receipts(config, scope) {
            Err(CommandFailure::Replay(ReplayFailure::Access(refused @ AccessFailure::Refused { .. }))) => {
                note(&format!("what was replayed is not known: {refused}"));
                Ok(None)
            }
            // The receipts topic was created when the DLQ topic had fewer partitions.
            Err(CommandFailure::Replay(ReplayFailure::Access(AccessFailure::UnknownPartition { .. }))) => {
                Ok(Some(ReplayReceipts::default()))
            }
            read => read.map(Some),
        }
    }

    fn receipts(&self, config: &Config, scope: ReadScope) -> Result<ReplayReceipts, CommandFailure> {
        let bar = output::bar(0, "offsets of receipts");
        Ok(output::with_progress(&bar, |progress| {
            receipts_topic::read(config, scope, self.limit(), &SystemClock, progress)
        })?)
    }
}

/// Reads every DLQ record of the topic, until `take` fails or has enough.
fn read_dlq_records(
    reader: TopicReader<'_>,
    mut take: impl FnMut(&DlqRecord<'_>) -> Result<ControlFlow<()>, CommandFailure>,
    progress: impl FnMut(TopicProgress),
) -> Result<(), CommandFailure> {
    let mut taken = Ok(ControlFlow::Continue(()));
    let read = reader.read(
        |record| {
            taken = take(&dlq_record(&record));
            match &taken {
                Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
                Ok(ControlFlow::Break(())) | Err(_) => ControlFlow::Break(()),
            }
        },
        progress,
    );
    taken.map(drop)?;
    Ok(read?)
}

fn dlq_record<'a>(record: &'a ReadRecord<'_>) -> DlqRecord<'a> {
    let location = DlqLocation { partition: record.partition(), offset: record.offset() };
    DlqRecord::new(location, record.timestamp_ms(), record.key(), record.value(), record.headers().collect())
}
