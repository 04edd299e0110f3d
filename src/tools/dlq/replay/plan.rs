//! What a replay is going to do: reads the DLQ records, what was replayed, and what the services contain.

use std::ops::ControlFlow;

use crate::app::SystemClock;
use crate::config::Config;
use crate::kafka::admin::access::AccessFailure;
use crate::kafka::reader::topic_reader::{ReadScope, TopicProgress, TopicReader};
use crate::ports::Clock as _;
use crate::record::{Offset, header};
use crate::service::Service;
use crate::tools::dlq::replay::DlqReplayArguments;
use crate::tools::dlq::{
    DlqFilter, DlqRecord, InputLog, Outlook, Overtaken, ReplayDecision, ReplayPlan, decide, outlook, read_dlq_records,
};
use crate::tools::failure::CommandFailure;
use crate::tools::{note, output};

pub(super) struct Planned {
    pub(super) plan: ReplayPlan,
    /// How many of the events are older than the newest event of their service; `None` if that is not known.
    pub(super) overwrites: Option<u64>,
}

/// Looks, and writes nothing.
pub(super) fn make(
    arguments: &DlqReplayArguments,
    config: &Config,
    filter: &DlqFilter,
) -> Result<(Planned, InputLog), CommandFailure> {
    let source = &arguments.source;
    let scope = arguments.wanted.scope();
    let input = TopicReader::open(config, &config.kafka.topic, ReadScope::All, source.limit(), &SystemClock)?;
    let partitions = i32::try_from(input.partitions()).unwrap_or(i32::MAX);
    let input = InputLog { topic: config.kafka.topic.clone(), partitions, group: config.kafka.group_id.clone() };
    let reader = source.open(config, scope)?;
    let replayed = source.receipts(config, ReadScope::All)?;

    let (now_ms, max_payload_bytes) = (SystemClock.unix_ms(), config.limits.max_payload_bytes);
    let limit_bytes = config.limits.max_state_bytes;
    let mut plan = ReplayPlan::default();
    let mut overtaken = Some(Overtaken::default());
    let bar = output::bar(0, "offsets of DLQ records");
    let take = |dlq_record: &DlqRecord<'_>| {
        plan.newest.insert(dlq_record.location.partition, dlq_record.location);
        if filter.wants(dlq_record) {
            let decision = decide(dlq_record, &input, &replayed);
            let outlook = outlook(&Service, dlq_record, now_ms, max_payload_bytes);
            plan.count(dlq_record.location, decision, outlook);
            if let (ReplayDecision::Replay(_), Outlook::Open, Some(found)) = (decision, outlook, &mut overtaken) {
                found.add(dlq_record);
                if found.held_bytes() > limit_bytes {
                    overtaken = None;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    };
    output::with_progress(&bar, |progress| read_dlq_records(reader, take, progress))?;
    let overwrites = overtaken.and_then(|overtaken| overwrites(arguments, config, overtaken));
    Ok((Planned { plan, overwrites }, input))
}

/// Compares with the newest event of each service in the state topic; `None` if that topic cannot be read.
fn overwrites(arguments: &DlqReplayArguments, config: &Config, mut overtaken: Overtaken) -> Option<u64> {
    if overtaken.held_bytes() == 0 {
        return Some(0);
    }
    let bar = output::bar(0, "offsets of the state");
    if let Err(failure) = output::with_progress(&bar, |progress| compare(arguments, config, &mut overtaken, progress)) {
        note(&format!("whether newer values are overwritten is not known: {failure}"));
        return None;
    }
    Some(overtaken.count())
}

fn compare(
    arguments: &DlqReplayArguments,
    config: &Config,
    overtaken: &mut Overtaken,
    progress: impl FnMut(TopicProgress),
) -> Result<(), AccessFailure> {
    let (topic, limit) = (&config.kafka.state_topic, arguments.source.limit());
    let reader = TopicReader::open(config, topic, arguments.wanted.scope(), limit, &SystemClock)?;
    reader.read(
        |record| {
            let newest = record.last_header(header::STATE_OFFSET).and_then(|value| std::str::from_utf8(value).ok());
            if let (Some(key), Some(newest)) = (record.key(), newest.and_then(|digits| digits.parse().ok())) {
                overtaken.observe(record.partition(), key, Offset(newest));
            }
            ControlFlow::Continue(())
        },
        progress,
    )
}
