//! What an answer means for the cargo that it is about. The letters are those of the parent.

use std::time::{Duration, Instant};

use crate::engine::commit::transaction::{CommitOutcome, Committed, RefusedRecord};
use crate::engine::commit::{
    CommitCommand, CommitNotice, DoubtVerdict, GroupCommit, InFlight, InFlightPart, LONGEST_REST, MINUTE,
    OUT_OF_GROUP_ALLOWED, PASSES_ANYWAY, ProducerState, REFUSALS_ALLOWED, Receipt, StopReason,
    TIMED_OUT_FENCINGS_PER_MINUTE, records_of, wait_after,
};
use crate::record::{Epoch, Partition};

impl GroupCommit {
    pub(super) fn ended(&mut self, answer: CommitOutcome, now: Instant, commands: &mut Vec<CommitCommand>) {
        match std::mem::replace(&mut self.flight, ProducerState::Idle) {
            ProducerState::Sending(cargo) => self.sent(cargo, answer, now, commands),
            ProducerState::Renewing(cargo) => self.renewed(cargo, answer, now, commands),
            other @ (ProducerState::Idle
            | ProducerState::Resting(_)
            | ProducerState::Waiting(..)
            | ProducerState::RenewWaiting(..)
            | ProducerState::Stopped) => {
                unreachable!("a) an answer came while nothing was under way: {answer:?} in {other:?}")
            }
        }
    }

    fn sent(&mut self, mut cargo: InFlight, answer: CommitOutcome, now: Instant, commands: &mut Vec<CommitCommand>) {
        let number = cargo.content.number;
        if !matches!(answer, CommitOutcome::OutOfGroup { .. }) {
            cargo.out_of_group = 0;
        }
        match answer {
            CommitOutcome::Committed { took } => {
                self.limit_bytes = (self.limit_bytes * 2).min(self.settings.max_transaction_bytes);
                let partitions = u32::try_from(cargo.parts.len()).unwrap_or(u32::MAX);
                self.took_effect(cargo, took, commands);
                let rest = self.settings.rest_per_partition.saturating_mul(partitions).saturating_sub(PASSES_ANYWAY);
                self.flight = ProducerState::Resting(now + rest.min(LONGEST_REST));
            }
            CommitOutcome::Aborted { cause, timed_out } => {
                cargo.aborts += 1;
                commands.push(CommitCommand::Tell(CommitNotice::Aborted { number, cause, attempt: cargo.aborts }));
                if timed_out {
                    self.carry_less();
                }
                let again = now + wait_after(cargo.aborts);
                self.flight = ProducerState::Waiting(cargo, again);
            }
            CommitOutcome::OutOfGroup { cause } => self.out_of_group(cargo, cause, now, commands),
            CommitOutcome::Stale(partitions) => {
                let is_stale = |part: &InFlightPart| partitions.contains(&part.partition);
                let over: Vec<(Partition, Epoch)> =
                    cargo.parts.iter().filter(|part| is_stale(part)).map(|part| (part.partition, part.term)).collect();
                self.over(&over, commands);
                self.send_again(cargo, now, commands);
            }
            CommitOutcome::Unanswered { cause } => {
                let took = cargo.age(now);
                commands.push(CommitCommand::Tell(CommitNotice::Unanswered { number, cause, took }));
                self.renew(Some(cargo), commands);
            }
            CommitOutcome::Fenced { cause, within_timeout: true } => {
                self.stop(StopReason::DuplicateInstance(cause), commands);
            }
            CommitOutcome::Fenced { cause, within_timeout: false } => self.timed_out(cargo, cause, now, commands),
            CommitOutcome::Refused { cause, record } => self.refused(cargo, cause, record, now, commands),
            CommitOutcome::Fatal { cause } | CommitOutcome::RenewFailed { cause } => {
                self.stop(StopReason::ProducerFatal(cause), commands);
            }
            CommitOutcome::Renewed(_) => unreachable!("a) a transaction was under way, not a new producer"),
        }
    }

    fn renewed(
        &mut self,
        cargo: Option<InFlight>,
        answer: CommitOutcome,
        now: Instant,
        commands: &mut Vec<CommitCommand>,
    ) {
        match answer {
            CommitOutcome::Renewed(committed) => {
                self.renewals_failed = 0;
                self.judge_doubt(cargo, &committed, now, commands);
            }
            CommitOutcome::RenewFailed { cause }
            | CommitOutcome::Unanswered { cause }
            | CommitOutcome::OutOfGroup { cause }
            | CommitOutcome::Aborted { cause, .. } => {
                self.renewals_failed += 1;
                let attempt = self.renewals_failed;
                commands.push(CommitCommand::Tell(CommitNotice::RenewFailed { cause, attempt }));
                self.flight = ProducerState::RenewWaiting(cargo, now + wait_after(attempt));
            }
            CommitOutcome::Fenced { cause, .. } => self.stop(StopReason::DuplicateInstance(cause), commands),
            CommitOutcome::Refused { cause, .. } => self.stop(StopReason::Refused { cause, record: None }, commands),
            CommitOutcome::Fatal { cause } => self.stop(StopReason::ProducerFatal(cause), commands),
            CommitOutcome::Committed { .. } | CommitOutcome::Stale(_) => {
                unreachable!("a) a new producer was under way, not a transaction")
            }
        }
    }

    /// Whether the cargo in doubt took effect, by what the group has committed now that nothing is under way.
    fn judge_doubt(
        &mut self,
        cargo: Option<InFlight>,
        committed: &[(Partition, Option<Committed>)],
        now: Instant,
        commands: &mut Vec<CommitCommand>,
    ) {
        let Some(mut cargo) = cargo else {
            let (verdict, took) = (DoubtVerdict::NothingInDoubt, Duration::ZERO);
            commands.push(CommitCommand::Tell(CommitNotice::Renewed { number: None, verdict, took }));
            return;
        };
        let number = cargo.content.number;
        let mark = self.settings.mark.of(number);
        let held = |part: &&InFlightPart| self.lines.get(&part.partition).is_some_and(|line| line.term == part.term);
        let mut verdicts: Vec<DoubtVerdict> = cargo
            .parts
            .iter()
            .filter(held)
            .map(|part| verdict_of(part, committed.iter().find(|(of, _)| *of == part.partition), &mark))
            .collect();
        verdicts.sort_unstable_by_key(|verdict| *verdict as u8);
        verdicts.dedup();
        let verdict = match verdicts.as_slice() {
            [] => DoubtVerdict::Lost,
            [agreed] => *agreed,
            [..] => DoubtVerdict::CannotTell,
        };
        let took = cargo.age(now);
        commands.push(CommitCommand::Tell(CommitNotice::Renewed { number: Some(number), verdict, took }));
        match verdict {
            DoubtVerdict::TookEffect => {
                self.took_effect(cargo, took, commands);
            }
            DoubtVerdict::HadNone | DoubtVerdict::NothingInDoubt => {
                self.carry_less();
                cargo.doubts += 1;
                match cargo.doubts {
                    // One answer that got lost is no reason to wait.
                    1 => self.send_again(cargo, now, commands),
                    doubts => self.flight = ProducerState::Waiting(cargo, now + wait_after(doubts - 1)),
                }
            }
            DoubtVerdict::Lost => self.send_again(cargo, now, commands),
            DoubtVerdict::CannotTell => {
                for part in cargo.parts {
                    commands.push(CommitCommand::Dropped { partition: part.partition, records: records_of(&part) });
                    let is_held = self.lines.get(&part.partition).is_some_and(|line| line.term == part.term);
                    if is_held {
                        self.over(&[(part.partition, part.term)], commands);
                        commands.push(CommitCommand::Forfeit(part.partition, part.term));
                    }
                }
            }
        }
    }

    fn took_effect(&mut self, cargo: InFlight, took: Duration, commands: &mut Vec<CommitCommand>) {
        let content = &cargo.content;
        for stretch in &content.stretches {
            if let Some(line) = self.lines.get_mut(&stretch.partition).filter(|line| line.term == stretch.term) {
                line.committed = Some(stretch.end);
            }
        }
        for letter in content.dead_letters.iter().filter(|letter| letter.truncated) {
            self.truncated.remove(&(letter.batch.partition(), letter.record().offset));
        }
        if !self.untraced.is_empty() {
            for snapshot in &content.snapshots {
                self.untraced.remove(&(snapshot.partition, snapshot.newest));
            }
        }
        commands.push(CommitCommand::Committed(Receipt {
            number: content.number,
            took,
            stretches: content.stretches.clone(),
            snapshots: content.snapshots.len(),
            dead_letters: content.dead_letters.len(),
            batches: cargo.parts.into_iter().flat_map(|part| part.done).collect(),
        }));
    }

    /// It may pass once the consumer has learned of the group's new generation, or has lost the partitions, which ends
    /// their terms. A process that stops does not wait for that as long as it is allowed to: it leaves the group anyway,
    /// and the next owner does the work again.
    fn out_of_group(&mut self, mut cargo: InFlight, cause: String, now: Instant, commands: &mut Vec<CommitCommand>) {
        cargo.aborts += 1;
        cargo.out_of_group += 1;
        let (number, attempt) = (cargo.content.number, cargo.aborts);
        commands.push(CommitCommand::Tell(CommitNotice::Aborted { number, cause: cause.clone(), attempt }));
        if !self.is_stopping || cargo.out_of_group < OUT_OF_GROUP_ALLOWED {
            let again = now + wait_after(attempt);
            self.flight = ProducerState::Waiting(cargo, again);
            return;
        }
        let (attempts, mut records) = (cargo.out_of_group, 0);
        for part in &cargo.parts {
            records += records_of(part);
            commands.push(CommitCommand::Dropped { partition: part.partition, records: records_of(part) });
        }
        records += self.lines.values().map(|line| line.open.records()).sum::<u64>();
        let lines: Vec<(Partition, Epoch)> =
            self.lines.iter().map(|(partition, line)| (*partition, line.term)).collect();
        self.over(&lines, commands);
        commands.push(CommitCommand::Tell(CommitNotice::CutShort { cause, attempts, records }));
    }

    fn timed_out(&mut self, mut cargo: InFlight, cause: String, now: Instant, commands: &mut Vec<CommitCommand>) {
        self.timed_out_at.retain(|at| now.saturating_duration_since(*at) < MINUTE);
        self.timed_out_at.push_back(now);
        if self.timed_out_at.len() > TIMED_OUT_FENCINGS_PER_MINUTE {
            return self.stop(StopReason::TimedOutTooOften(cause), commands);
        }
        cargo.aborts += 1;
        commands.push(CommitCommand::Tell(CommitNotice::TimedOut { number: cargo.content.number, cause }));
        self.renew(Some(cargo), commands);
    }

    fn refused(
        &mut self,
        mut cargo: InFlight,
        cause: String,
        record: Option<RefusedRecord>,
        now: Instant,
        commands: &mut Vec<CommitCommand>,
    ) {
        let letter_at = |index: usize| cargo.content.dead_letters.get(index);
        if let Some(RefusedRecord::DeadLetter { index, too_large: true }) = &record
            && let Some(letter) = letter_at(*index).filter(|letter| !letter.truncated)
        {
            let (partition, offset) = (letter.batch.partition(), letter.record().offset);
            let bytes = letter.record().value.map_or(0, <[u8]>::len) as u64;
            self.truncated.insert((partition, offset));
            commands.push(CommitCommand::Tell(CommitNotice::Truncated { partition, offset, bytes }));
            return self.send_again(cargo, now, commands);
        }
        if let Some(RefusedRecord::Snapshot { index, too_large: true }) = &record
            && let Some(snapshot) = cargo.content.snapshots.get(*index)
            && let Some(trace) = &snapshot.trace
        {
            let (partition, offset) = (snapshot.partition, snapshot.newest);
            let bytes = trace.traceparent.iter().chain(&trace.tracestate).map(|value| value.len() as u64).sum();
            self.untraced.insert((partition, offset));
            commands.push(CommitCommand::Tell(CommitNotice::Untraced { partition, offset, bytes }));
            return self.send_again(cargo, now, commands);
        }
        let named = match &record {
            Some(RefusedRecord::Snapshot { index, .. }) => {
                cargo.content.snapshots.get(*index).map(|snapshot| (snapshot.partition, snapshot.newest))
            }
            Some(RefusedRecord::DeadLetter { index, .. }) => {
                letter_at(*index).map(|letter| (letter.batch.partition(), letter.record().offset))
            }
            None => None,
        };
        cargo.refusals += 1;
        if cargo.refusals >= REFUSALS_ALLOWED {
            return self.stop(StopReason::Refused { cause, record: named }, commands);
        }
        commands.push(CommitCommand::Tell(CommitNotice::Refused {
            cause,
            partition: named.map(|(partition, _)| partition),
            offset: named.map(|(_, offset)| offset),
            attempt: cargo.refusals,
        }));
        let again = now + wait_after(cargo.refusals);
        self.flight = ProducerState::Waiting(cargo, again);
    }
}

fn verdict_of(part: &InFlightPart, found: Option<&(Partition, Option<Committed>)>, mark: &str) -> DoubtVerdict {
    let committed = found.and_then(|(_, committed)| committed.as_ref());
    match committed {
        Some(committed) if committed.mark == mark && committed.position == part.end => DoubtVerdict::TookEffect,
        Some(committed) if Some(committed.position) == part.start => DoubtVerdict::HadNone,
        None if part.start.is_none() => DoubtVerdict::HadNone,
        Some(_) | None => DoubtVerdict::CannotTell,
    }
}
