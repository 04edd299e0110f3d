//! Logs what a recovery found.

use std::time::Duration;

use crate::engine::recovery::{Recovered, RecoveryFinding};
use crate::observability::log_events::{
    CommittedOffsetBeyondEnd, CommittedOffsetMissing, DlqRecordUnreadable, DlqRecordsOfOtherGroups, EventsExpired,
    EventsPassedOver, EventsSkipped, GroupAdopted, LogEvent, RecoveryFinished, VerificationSkipCause,
    VerificationSkipped, millis,
};

/// Logs the findings, then that the partition serves.
pub(super) fn recovered(recovered: &Recovered, took: Duration) {
    let partition = recovered.partition.0;
    for finding in &recovered.findings {
        log_finding(partition, finding);
    }
    RecoveryFinished {
        partition,
        epoch: recovered.epoch.0,
        took_ms: millis(took),
        entities: recovered.entities.len() as u64,
        state_bytes: recovered.lease.bytes(),
        committed: recovered.committed.map(|position| position.0),
        start: recovered.start.0,
        verified: recovered.verified,
        skipped: recovered.skipped,
    }
    .emit();
}

fn log_finding(partition: i32, finding: &RecoveryFinding) {
    match finding {
        RecoveryFinding::CommittedMissing { position } => {
            CommittedOffsetMissing { partition, assumed: position.0 }.emit()
        }
        RecoveryFinding::CommittedBeyondEnd { committed, end } => {
            CommittedOffsetBeyondEnd { partition, committed: committed.0, end: end.0 }.emit();
        }
        RecoveryFinding::Expired { first, until } => {
            let count = until.distance_from(*first);
            EventsExpired { partition, first: first.0, last: until.0 - 1, count }.emit();
        }
        RecoveryFinding::NotVerified { from, until } => {
            let (cause, records) = (VerificationSkipCause::TooLong, until.distance_from(*from));
            VerificationSkipped { partition, cause, from: from.0, until: until.0, records }.emit();
        }
        RecoveryFinding::PassedOver { from, until } => {
            EventsPassedOver { partition, from: from.0, until: until.0 }.emit()
        }
        RecoveryFinding::Skipped { events } => EventsSkipped { partition, count: *events }.emit(),
        RecoveryFinding::UnreadableDlqRecords { records, offset } => {
            DlqRecordUnreadable { partition, offset: offset.0, count: *records }.emit();
        }
        RecoveryFinding::OtherGroupsDlqRecords { records, group } => {
            DlqRecordsOfOtherGroups { partition, other_group: group, count: *records }.emit();
        }
        RecoveryFinding::Adopted { group } => GroupAdopted { partition, from_group: group }.emit(),
    }
}
