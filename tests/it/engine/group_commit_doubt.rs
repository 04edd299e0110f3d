//! Transactions whose end nobody told: a fresh producer, and what the committed positions say.

use std::time::Duration;

use steward::engine::commit::TIMED_OUT_FENCINGS_PER_MINUTE;
use steward::engine::commit::transaction::{CommitOutcome, Committed, ResetOutcome};
use steward::record::{Epoch, Partition, Position};

use super::group_commit::{Committer, aborted, committed, unanswered};
use super::{P0, P1};

const T1: Epoch = Epoch(1);

#[apply(offline_test)]
fn the_committed_position_and_its_mark_tell_what_became_of_it() {
    let took_effect = ["told renewed 2: Committed", "committed 2 batches [2]"];
    let had_none = ["told renewed 2: NotCommitted", "commit 3 0:0..2 0.a@1"];
    let cannot_tell = ["told renewed 2: Unknown", "dropped 2 of 0", "invalidate 0 epoch 1"];
    let table: [(Found<'_>, &[&str]); 7] = [
        (Some((2, "run/2")), &took_effect),
        (Some((0, "run/1")), &had_none),
        (Some((0, "")), &had_none),
        (Some((2, "run/1")), &cannot_tell),
        (Some((2, "another/2")), &cannot_tell),
        (Some((1, "run/2")), &cannot_tell),
        (None, &cannot_tell),
    ];
    for (found, expected) in table {
        let mut committer = in_doubt();
        assert_eq!(committer.resets(ResetOutcome::Ready(vec![at(P0, found)])), expected, "{found:?}");
    }
    // The first transaction of a group: before it nothing was committed.
    for (found, verdict) in [(None, "NotCommitted"), (Some((0, "run/1")), "Committed"), (Some((0, "")), "Unknown")] {
        let mut committer = Committer::new();
        committer.joins(P0, T1, None, 0);
        committer.answers(unanswered());
        let said = committer.resets(ResetOutcome::Ready(vec![at(P0, found)]));
        assert_eq!(said[0], format!("told renewed 1: {verdict}"), "{found:?}");
    }
    // A position that does not move: only the metadata can tell.
    for (metadata, verdict) in [("run/1", "Committed"), ("earlier/9", "NotCommitted")] {
        let mut committer = Committer::new();
        committer.joins(P0, T1, Some(7), 7);
        committer.answers(unanswered());
        let said = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((7, metadata)))]));
        assert_eq!(said[0], format!("told renewed 1: {verdict}"), "{metadata}");
    }
}

#[apply(offline_test)]
fn exactly_the_partitions_in_doubt_are_asked_for() {
    let two = Partition(2);
    let mut committer = Committer::serving(&[P0, P1, two]);
    let busy = committer.opens(P0, T1, &[0]);
    committer.completes(&busy, &[], &[]);
    for partition in [P1, two] {
        let read = committer.opens(partition, T1, &[0]);
        committer.completes(&read, &["a"], &[]);
    }
    assert_eq!(committer.answers(committed())[1], "commit 5 1:0..1 2:0..1 1.a@0 2.a@0");
    let waiting = committer.opens(P0, T1, &[1]);
    committer.completes(&waiting, &["b"], &[]);
    assert_eq!(committer.answers(unanswered()), ["told unanswered 5", "renew [1, 2]"]);
    assert_eq!(committer.next_deadline(), None, "the answer is what it waits for");
}

#[apply(offline_test)]
fn partitions_that_disagree_are_recovered_again() {
    let mut committer = two_in_doubt();
    let said = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((1, "run/4"))), at(P1, Some((0, "run/2")))]));
    let invalidates = ["dropped 1 of 0", "invalidate 0 epoch 1", "dropped 1 of 1", "invalidate 1 epoch 1"];
    assert_eq!(said[0], "told renewed 4: Unknown");
    let mut rest = said[1..].to_vec();
    rest.sort_unstable();
    let mut expected = invalidates.map(str::to_owned);
    expected.sort_unstable();
    assert_eq!(rest, expected);
    assert_eq!(committer.joins(P0, Epoch(9), Some(1), 1), ["commit 5 0:1..1"], "the producer is as good as new");
}

#[apply(offline_test)]
fn one_that_was_lost_meanwhile_has_no_say() {
    for (found, expected) in [
        (Some((1, "run/4")), &["told renewed 4: Committed", "committed 4 batches [4, 5]"][..]),
        (Some((0, "run/1")), &["told renewed 4: NotCommitted", "dropped 1 of 1", "commit 5 0:0..1 0.a@0"]),
        (Some((9, "")), &["told renewed 4: Unknown", "dropped 1 of 1", "dropped 1 of 0", "invalidate 0 epoch 1"]),
    ] {
        let mut committer = two_in_doubt();
        assert_eq!(committer.over(P1, T1), [""; 0]);
        // Its next owner has gone on.
        let mut said = committer.resets(ResetOutcome::Ready(vec![at(P0, found), at(P1, Some((50, "another/7")))]));
        let mut expected = expected.to_vec();
        said.sort_unstable();
        expected.sort_unstable();
        assert_eq!(said, expected, "{found:?}");
    }
}

#[apply(offline_test)]
fn when_all_were_lost_meanwhile_nothing_is_left_to_do() {
    let mut committer = in_doubt();
    committer.revokes(1, &[(P0, T1)]);
    committer.over(P0, T1);
    let said = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((77, "another/1")))]));
    assert!(said.iter().all(|word| !word.starts_with("commit ") && !word.starts_with("invalidate")), "{said:?}");
    assert_eq!(said[0], "told renewed 2: Lost", "whether it took effect does not matter to it, and was not found out");
    assert!(said.contains(&"dropped 2 of 0".to_owned()) && said.contains(&"drained 1".to_owned()), "{said:?}");
}

#[apply(offline_test)]
fn a_partition_that_the_answer_leaves_out_is_recovered_again() {
    let mut committer = in_doubt();
    let said = committer.resets(ResetOutcome::Ready(vec![]));
    assert_eq!(said, ["told renewed 2: Unknown", "dropped 2 of 0", "invalidate 0 epoch 1"]);
}

#[apply(offline_test)]
fn what_had_no_effect_goes_again_with_half() {
    let letters = super::rejected_of(&std::sync::Arc::new(super::batch_of(P0, T1, &[0])), 0).weight_bytes();
    let mut committer = Committer::with_limit(2 * letters);
    committer.joins(P0, T1, None, 0);
    for offset in 0..2 {
        let read = committer.opens(P0, T1, &[offset]);
        committer.completes(&read, &[], &[offset]);
    }
    assert_eq!(committer.answers(committed())[1], "commit 2 0:0..2 !0.0 !0.1");
    committer.answers(unanswered());
    let said = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((0, "run/1")))]));
    assert_eq!(said, ["told renewed 2: NotCommitted", "commit 3 0:0..1 !0.0"]);
    assert_eq!(committer.answers(committed())[1], "commit 4 0:1..2 !0.1", "the other half follows");
}

#[apply(offline_test)]
fn what_had_no_effect_again_and_again_waits_longer_each_time() {
    let mut committer = in_doubt();
    let had_none = || ResetOutcome::Ready(vec![at(P0, Some((0, "run/1")))]);
    assert_eq!(committer.resets(had_none())[1], "commit 3 0:0..2 0.a@1", "one lost answer is no reason to wait");
    for (number, wait) in (3..).zip([50, 100, 200, 400, 800, 1_600, 2_000, 2_000]) {
        assert_eq!(committer.answers(unanswered())[1], "renew [0]");
        assert_eq!(committer.resets(had_none()), [format!("told renewed {number}: NotCommitted")]);
        let wait = Duration::from_millis(wait);
        assert_eq!(committer.wait(), Some(wait), "transaction {number}");
        assert_eq!(committer.ticks(wait), [format!("commit {} 0:0..2 0.a@1", number + 1)]);
    }
    committer.answers(committed());
    let read = committer.opens(P0, T1, &[2]);
    committer.completes(&read, &["b"], &[]);
    committer.answers(unanswered());
    let said = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((2, "run/11")))]));
    assert_eq!(said[1], "commit 13 0:2..3 0.b@2", "the next content begins anew");
}

#[apply(offline_test)]
fn what_waited_meanwhile_goes_behind_it() {
    let mut committer = in_doubt();
    let read = committer.opens(P0, T1, &[2]);
    assert_eq!(committer.completes(&read, &["b"], &[]), [""; 0], "nothing is sent while a producer is being built");
    let said = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((2, "run/2")))]));
    assert_eq!(said, ["told renewed 2: Committed", "committed 2 batches [2]", "commit 3 0:2..3 0.b@2"]);
}

#[apply(offline_test)]
fn a_partition_that_goes_anyway_is_drained_when_it_is_invalidated() {
    let mut committer = in_doubt();
    assert_eq!(committer.revokes(1, &[(P0, T1)]), [""; 0]);
    let said = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((9, "")))]));
    assert_eq!(said, ["told renewed 2: Unknown", "dropped 2 of 0", "invalidate 0 epoch 1", "drained 1"]);
}

#[apply(offline_test)]
fn a_revocation_is_drained_once_the_doubt_is_settled() {
    let mut committer = in_doubt();
    assert_eq!(committer.revokes(1, &[(P0, T1)]), [""; 0]);
    assert_eq!(committer.resets(ResetOutcome::Ready(vec![at(P0, Some((0, "")))]))[1], "commit 3 0:0..2 0.a@1");
    assert_eq!(committer.answers(committed()), ["committed 3 batches [2]", "drained 1"]);
}

#[apply(offline_test)]
fn a_renewal_that_fails_is_tried_again_with_growing_waits() {
    let mut committer = in_doubt();
    for (attempt, wait) in (1..).zip([50, 100, 200, 400, 800, 1_600, 2_000, 2_000]) {
        let said = committer.resets(ResetOutcome::Failed { cause: "away".into() });
        assert_eq!(said, [format!("told renew failed attempt {attempt}")]);
        let wait = Duration::from_millis(wait);
        assert_eq!(committer.wait(), Some(wait), "attempt {attempt}");
        assert_eq!(committer.ticks(wait - Duration::from_millis(1)), [""; 0]);
        assert_eq!(committer.ticks(Duration::from_millis(1)), ["renew [0]"], "the same are asked for");
    }
    committer.resets(ResetOutcome::Ready(vec![at(P0, Some((0, "")))]));
    committer.answers(unanswered());
    let said = committer.resets(ResetOutcome::Failed { cause: "away".into() });
    assert_eq!(said, ["told renew failed attempt 1"], "a success ends the count");
    assert_eq!(committer.wait(), Some(Duration::from_millis(50)));
}

#[apply(offline_test)]
fn another_process_with_the_same_id_stops_this_one() {
    let fenced = || CommitOutcome::Fenced { cause: "newer epoch".into(), within_timeout: true };
    let mut sending = Committer::new();
    sending.joins(P0, T1, None, 0);
    assert_eq!(sending.answers(fenced()), ["stop: duplicate instance, newer epoch"]);
    let fenced = ResetOutcome::Fenced { cause: "newer epoch".into() };
    assert_eq!(in_doubt().resets(fenced), ["stop: duplicate instance, newer epoch"]);
}

#[apply(offline_test)]
fn three_transactions_a_minute_may_be_timed_out() {
    let fenced = || CommitOutcome::Fenced { cause: "old".into(), within_timeout: false };
    let mut committer = Committer::new();
    committer.joins(P0, T1, None, 0);
    let mut number = 1;
    let mut times_out = |committer: &mut Committer| {
        assert_eq!(committer.answers(fenced()), [format!("told timed out {number}"), "renew [0]".into()]);
        let mut said = committer.resets(ResetOutcome::Ready(vec![at(P0, None)]));
        said.extend(committer.wait().map(|wait| committer.ticks(wait)).unwrap_or_default());
        assert_eq!(said[1], format!("commit {} 0:-..0", number + 1));
        number += 1;
    };
    for _ in 0..TIMED_OUT_FENCINGS_PER_MINUTE {
        times_out(&mut committer);
        committer.ticks(Duration::from_secs(15));
    }
    // The first is a minute old now, and counts no more.
    committer.ticks(Duration::from_secs(15));
    times_out(&mut committer);
    committer.ticks(Duration::from_secs(14));
    assert_eq!(committer.answers(fenced()), ["stop: timed out too often, old"]);
}

#[apply(offline_test)]
fn a_producer_beyond_help_stops_the_process() {
    let fatal = || CommitOutcome::Fatal { cause: "gone".into() };
    let mut sending = Committer::new();
    sending.joins(P0, T1, None, 0);
    assert_eq!(sending.answers(fatal()), ["stop: producer fatal, gone"]);
    let fatal = ResetOutcome::Fatal { cause: "gone".into() };
    assert_eq!(in_doubt().resets(fatal), ["stop: producer fatal, gone"]);
    assert_eq!(aborted_then_stopped().next_deadline(), None, "a stop ends every wait");
}

fn aborted_then_stopped() -> Committer {
    let mut committer = Committer::new();
    committer.joins(P0, T1, None, 5);
    committer.answers(aborted());
    committer.opens(P0, T1, &[1]);
    assert!(committer.last()[0].starts_with("stop: offsets"), "{:?}", committer.last());
    committer
}

/// Batch 2, two records of partition 0, is in transaction 2, whose end nobody told.
fn in_doubt() -> Committer {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1]);
    assert_eq!(committer.completes(&read, &["a"], &[]), ["commit 2 0:0..2 0.a@1"]);
    assert_eq!(committer.answers(unanswered()), ["told unanswered 2", "renew [0]"]);
    committer
}

/// One record each of partitions 0 and 1 is in transaction 4, whose end nobody told.
fn two_in_doubt() -> Committer {
    let two = Partition(2);
    let mut committer = Committer::serving(&[P0, P1]);
    committer.joins(two, T1, None, 0);
    for partition in [P0, P1] {
        let read = committer.opens(partition, T1, &[0]);
        committer.completes(&read, &["a"], &[]);
    }
    assert_eq!(committer.answers(committed())[1], "commit 4 0:0..1 1:0..1 0.a@0 1.a@0");
    assert_eq!(committer.answers(unanswered())[0], "told unanswered 4");
    committer
}

/// What the group has committed: position and metadata.
type Found<'a> = Option<(i64, &'a str)>;

fn at(partition: Partition, found: Found<'_>) -> (Partition, Option<Committed>) {
    let committed =
        found.map(|(position, metadata)| Committed { position: Position(position), metadata: metadata.to_owned() });
    (partition, committed)
}
