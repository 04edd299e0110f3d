//! Transactions in doubt: the producer is reset, and the committed positions decide.

use std::time::Duration;

use steward::engine::commit::FENCINGS_PER_MINUTE;
use steward::engine::commit::transaction::{CommitOutcome, CommittedOffset, ResetOutcome};
use steward::engine::dead_owners::FencedBy;
use steward::record::{Epoch, Partition, Position};

use super::group_commit::{Committer, aborted, committed, doubtful};
use super::{P0, P1};

const T1: Epoch = Epoch(1);

#[apply(offline_test)]
fn the_committed_position_and_its_metadata_decide_the_verdict() {
    let committed = ["log reset 2: Committed", "committed 2 batches [2]"];
    let not_committed = ["log reset 2: NotCommitted", "commit 3 0:0..2 0.a@1"];
    let unknown = ["log reset 2: Unknown", "dropped 2 of 0", "invalidate 0 epoch 1"];
    let table: [(Found<'_>, &[&str]); 9] = [
        (Some((2, "run/2 state=1")), &committed),
        (Some((0, "run/1")), &not_committed),
        (Some((0, "")), &not_committed),
        (Some((2, "run/1")), &unknown),
        (Some((2, "run/2")), &unknown),
        (Some((2, "run/2 state=0")), &unknown),
        (Some((2, "another/2")), &unknown),
        (Some((1, "run/2")), &unknown),
        (None, &unknown),
    ];
    for (found, expected) in table {
        let mut committer = in_doubt();
        assert_eq!(committer.resets(ResetOutcome::Ready(vec![at(P0, found)])), expected, "{found:?}");
    }
    // The first transaction of a group: before it nothing was committed.
    for (found, verdict) in [(None, "NotCommitted"), (Some((0, "run/1")), "Committed"), (Some((0, "")), "Unknown")] {
        let mut committer = Committer::new();
        committer.joins(P0, T1, None, 0);
        committer.ends(doubtful());
        let commands = committer.resets(ResetOutcome::Ready(vec![at(P0, found)]));
        assert_eq!(commands[0], format!("log reset 1: {verdict}"), "{found:?}");
    }
    // A position that does not move: only the metadata shows it.
    for (metadata, verdict) in [("run/1", "Committed"), ("earlier/9", "NotCommitted")] {
        let mut committer = Committer::new();
        committer.joins(P0, T1, Some(7), 7);
        committer.ends(doubtful());
        let commands = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((7, metadata)))]));
        assert_eq!(commands[0], format!("log reset 1: {verdict}"), "{metadata}");
    }
}

#[apply(offline_test)]
fn exactly_the_partitions_in_doubt_are_fetched() {
    let two = Partition(2);
    let mut committer = Committer::serving(&[P0, P1, two]);
    let busy = committer.opens(P0, T1, &[0]);
    committer.completes(&busy, &[], &[]);
    for partition in [P1, two] {
        let read = committer.opens(partition, T1, &[0]);
        committer.completes(&read, &["a"], &[]);
    }
    assert_eq!(committer.ends(committed())[1], "commit 5 1:0..1 2:0..1 1.a@0 2.a@0");
    let waiting = committer.opens(P0, T1, &[1]);
    committer.completes(&waiting, &["b"], &[]);
    assert_eq!(committer.ends(doubtful()), ["log in doubt 5", "reset [1, 2]"]);
    assert_eq!(committer.next_deadline(), None, "it waits for the outcome");
}

#[apply(offline_test)]
fn partitions_that_disagree_are_recovered_again() {
    let mut committer = two_in_doubt();
    let commands =
        committer.resets(ResetOutcome::Ready(vec![at(P0, Some((1, "run/4 state=0"))), at(P1, Some((0, "run/2")))]));
    let invalidates = ["dropped 1 of 0", "invalidate 0 epoch 1", "dropped 1 of 1", "invalidate 1 epoch 1"];
    assert_eq!(commands[0], "log reset 4: Unknown");
    let mut rest = commands[1..].to_vec();
    rest.sort_unstable();
    let mut expected = invalidates.map(str::to_owned);
    expected.sort_unstable();
    assert_eq!(rest, expected);
    assert_eq!(committer.joins(P0, Epoch(9), Some(1), 1), ["commit 5 0:1..1"], "the producer is as good as new");
}

#[apply(offline_test)]
fn a_partition_that_was_lost_meanwhile_does_not_count() {
    for (found, expected) in [
        (Some((1, "run/4 state=0")), &["log reset 4: Committed", "committed 4 batches [4, 5]"][..]),
        (Some((0, "run/1")), &["log reset 4: NotCommitted", "dropped 1 of 1", "commit 5 0:0..1 0.a@0"]),
        (Some((9, "")), &["log reset 4: Unknown", "dropped 1 of 1", "dropped 1 of 0", "invalidate 0 epoch 1"]),
    ] {
        let mut committer = two_in_doubt();
        assert_eq!(committer.loses(P1, T1), [""; 0]);
        // Its next owner has gone on.
        let mut commands = committer.resets(ResetOutcome::Ready(vec![at(P0, found), at(P1, Some((50, "another/7")))]));
        let mut expected = expected.to_vec();
        commands.sort_unstable();
        expected.sort_unstable();
        assert_eq!(commands, expected, "{found:?}");
    }
}

#[apply(offline_test)]
fn when_all_were_lost_meanwhile_nothing_is_left_to_do() {
    let mut committer = in_doubt();
    committer.revokes(1, &[(P0, T1)]);
    committer.loses(P0, T1);
    let commands = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((77, "another/1")))]));
    assert!(
        commands.iter().all(|word| !word.starts_with("commit ") && !word.starts_with("invalidate")),
        "{commands:?}"
    );
    assert_eq!(commands[0], "log reset 2: Lost", "whether it took effect does not matter");
    assert!(
        commands.contains(&"dropped 2 of 0".to_owned()) && commands.contains(&"drained 1".to_owned()),
        "{commands:?}"
    );
}

#[apply(offline_test)]
fn a_partition_without_a_fetched_offset_is_recovered_again() {
    let mut committer = in_doubt();
    let commands = committer.resets(ResetOutcome::Ready(vec![]));
    assert_eq!(commands, ["log reset 2: Unknown", "dropped 2 of 0", "invalidate 0 epoch 1"]);
}

#[apply(offline_test)]
fn content_without_effect_is_sent_again_in_halves() {
    let rejected_bytes = super::rejected_of(&std::sync::Arc::new(super::batch_of(P0, T1, &[0])), 0).weight_bytes();
    let mut committer = Committer::with_limit(2 * rejected_bytes);
    committer.joins(P0, T1, None, 0);
    for offset in 0..2 {
        let read = committer.opens(P0, T1, &[offset]);
        committer.completes(&read, &[], &[offset]);
    }
    assert_eq!(committer.ends(committed())[1], "commit 2 0:0..2 !0.0 !0.1");
    committer.ends(doubtful());
    let commands = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((0, "run/1")))]));
    assert_eq!(commands, ["log reset 2: NotCommitted", "commit 3 0:0..1 !0.0"]);
    assert_eq!(committer.ends(committed())[1], "commit 4 0:1..2 !0.1", "the other half follows");
}

#[apply(offline_test)]
fn repeated_doubt_without_effect_waits_longer_each_time() {
    let mut committer = in_doubt();
    let not_committed = || ResetOutcome::Ready(vec![at(P0, Some((0, "run/1")))]);
    assert_eq!(committer.resets(not_committed())[1], "commit 3 0:0..2 0.a@1", "one lost response is no reason to wait");
    for (number, wait) in (3..).zip([50, 100, 200, 400, 800, 1_600, 2_000, 2_000]) {
        assert_eq!(committer.ends(doubtful())[1], "reset [0]");
        assert_eq!(committer.resets(not_committed()), [format!("log reset {number}: NotCommitted")]);
        let wait = Duration::from_millis(wait);
        assert_eq!(committer.wait(), Some(wait), "transaction {number}");
        assert_eq!(committer.ticks(wait), [format!("commit {} 0:0..2 0.a@1", number + 1)]);
    }
    committer.ends(committed());
    let read = committer.opens(P0, T1, &[2]);
    committer.completes(&read, &["b"], &[]);
    committer.ends(doubtful());
    let commands = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((2, "run/11 state=1")))]));
    assert_eq!(commands[1], "commit 13 0:2..3 0.b@2", "the next content starts again");
}

#[apply(offline_test)]
fn batches_that_waited_meanwhile_follow() {
    let mut committer = in_doubt();
    let read = committer.opens(P0, T1, &[2]);
    assert_eq!(committer.completes(&read, &["b"], &[]), [""; 0], "nothing is sent while a producer is being built");
    let commands = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((2, "run/2 state=1")))]));
    assert_eq!(commands, ["log reset 2: Committed", "committed 2 batches [2]", "commit 3 0:2..3 0.b@2"]);
}

#[apply(offline_test)]
fn a_revoking_partition_is_drained_when_it_is_invalidated() {
    let mut committer = in_doubt();
    assert_eq!(committer.revokes(1, &[(P0, T1)]), [""; 0]);
    let commands = committer.resets(ResetOutcome::Ready(vec![at(P0, Some((9, "")))]));
    assert_eq!(commands, ["log reset 2: Unknown", "dropped 2 of 0", "invalidate 0 epoch 1", "drained 1"]);
}

#[apply(offline_test)]
fn a_revocation_is_drained_once_the_doubt_is_settled() {
    let mut committer = in_doubt();
    assert_eq!(committer.revokes(1, &[(P0, T1)]), [""; 0]);
    assert_eq!(committer.resets(ResetOutcome::Ready(vec![at(P0, Some((0, "")))]))[1], "commit 3 0:0..2 0.a@1");
    assert_eq!(committer.ends(committed()), ["committed 3 batches [2]", "drained 1"]);
}

#[apply(offline_test)]
fn a_reset_that_fails_is_tried_again_with_growing_waits() {
    let mut committer = in_doubt();
    for (attempt, wait) in (1..).zip([50, 100, 200, 400, 800, 1_600, 2_000, 2_000]) {
        let commands = committer.resets(ResetOutcome::Failed { cause: "away".into() });
        assert_eq!(commands, [format!("log reset failed attempt {attempt}")]);
        let wait = Duration::from_millis(wait);
        assert_eq!(committer.wait(), Some(wait), "attempt {attempt}");
        assert_eq!(committer.ticks(wait - Duration::from_millis(1)), [""; 0]);
        assert_eq!(committer.ticks(Duration::from_millis(1)), ["reset [0]"], "the same partitions are fetched");
    }
    committer.resets(ResetOutcome::Ready(vec![at(P0, Some((0, "")))]));
    committer.ends(doubtful());
    let commands = committer.resets(ResetOutcome::Failed { cause: "away".into() });
    assert_eq!(commands, ["log reset failed attempt 1"], "a success ends the count");
    assert_eq!(committer.wait(), Some(Duration::from_millis(50)));
}

#[apply(offline_test)]
fn another_process_with_the_same_id_stops_this_one() {
    let fenced = || CommitOutcome::Fenced { cause: "newer epoch".into(), by: FencedBy::AnotherProcess };
    let mut sending = Committer::new();
    sending.joins(P0, T1, None, 0);
    assert_eq!(sending.ends(fenced()), ["stop: duplicate instance, newer epoch"]);
    let fenced = ResetOutcome::Fenced { cause: "newer epoch".into() };
    assert_eq!(in_doubt().resets(fenced), ["stop: duplicate instance, newer epoch"]);
}

#[apply(offline_test)]
fn a_process_that_was_taken_for_dead_goes_on_with_a_new_producer() {
    for by in [FencedBy::Recovery, FencedBy::Unknown] {
        let fenced = CommitOutcome::Fenced { cause: "newer epoch".into(), by };
        let mut committer = Committer::new();
        committer.joins(P0, T1, None, 0);
        assert_eq!(committer.ends(fenced), ["log taken for dead 1", "reset [0]"]);
        let commands = committer.resets(ResetOutcome::Ready(vec![at(P0, None)]));
        assert_eq!(commands[0], "log reset 1: NotCommitted", "{commands:?}");
    }
}

#[apply(offline_test)]
fn a_process_that_is_fenced_again_and_again_by_an_unknown_one_ends_as_a_duplicate() {
    let stop = fences_again_and_again(FencedBy::Unknown, "taken for dead");
    assert_eq!(stop, ["stop: duplicate instance, old"]);
}

/// No member has its name, so none is a duplicate of it.
#[apply(offline_test)]
fn a_process_that_is_no_member_may_be_taken_for_dead_again_and_again() {
    let next = fences_again_and_again(FencedBy::Recovery, "taken for dead");
    assert_eq!(next, ["log taken for dead 5", "reset [0]"]);
}

#[apply(offline_test)]
fn transactions_that_timed_out_are_no_sign_of_a_duplicate() {
    let mut committer = Committer::new();
    committer.joins(P0, T1, None, 0);
    for by in [FencedBy::Timeout; FENCINGS_PER_MINUTE].into_iter().chain([FencedBy::Unknown]) {
        let commands = committer.ends(CommitOutcome::Fenced { cause: "old".into(), by });
        assert_eq!(commands.last().map(String::as_str), Some("reset [0]"), "{by:?}");
        committer.resets(ResetOutcome::Ready(vec![at(P0, None)]));
        committer.wait().map(|wait| committer.ticks(wait));
    }
}

#[apply(offline_test)]
fn three_transactions_a_minute_may_be_timed_out() {
    assert_eq!(fences_again_and_again(FencedBy::Timeout, "timed out"), ["stop: timed out too often, old"]);
}

/// Fences as often as it may happen, and returns what follows from one more.
fn fences_again_and_again(by: FencedBy, log: &str) -> Vec<String> {
    let fenced = || CommitOutcome::Fenced { cause: "old".into(), by };
    let mut committer = Committer::new();
    committer.joins(P0, T1, None, 0);
    let mut number = 1;
    let mut times_out = |committer: &mut Committer| {
        assert_eq!(committer.ends(fenced()), [format!("log {log} {number}"), "reset [0]".into()]);
        let mut commands = committer.resets(ResetOutcome::Ready(vec![at(P0, None)]));
        commands.extend(committer.wait().map(|wait| committer.ticks(wait)).unwrap_or_default());
        assert_eq!(commands[1], format!("commit {} 0:-..0", number + 1));
        number += 1;
    };
    for _ in 0..FENCINGS_PER_MINUTE {
        times_out(&mut committer);
        committer.ticks(Duration::from_secs(15));
    }
    // The first is a minute old now, and counts no more.
    committer.ticks(Duration::from_secs(15));
    times_out(&mut committer);
    committer.ticks(Duration::from_secs(14));
    committer.ends(fenced()).to_vec()
}

#[apply(offline_test)]
fn a_fatal_outcome_stops_the_process() {
    let fatal = || CommitOutcome::Fatal { cause: "gone".into() };
    let mut sending = Committer::new();
    sending.joins(P0, T1, None, 0);
    assert_eq!(sending.ends(fatal()), ["stop: producer fatal, gone"]);
    let fatal = ResetOutcome::Fatal { cause: "gone".into() };
    assert_eq!(in_doubt().resets(fatal), ["stop: producer fatal, gone"]);
    assert_eq!(aborted_then_stopped().next_deadline(), None, "a stop ends every wait");
}

fn aborted_then_stopped() -> Committer {
    let mut committer = Committer::new();
    committer.joins(P0, T1, None, 5);
    committer.ends(aborted());
    committer.opens(P0, T1, &[1]);
    assert!(committer.last()[0].starts_with("stop: offsets"), "{:?}", committer.last());
    committer
}

/// Batch 2, two records of partition 0, is in transaction 2, which is in doubt.
fn in_doubt() -> Committer {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1]);
    assert_eq!(committer.completes(&read, &["a"], &[]), ["commit 2 0:0..2 0.a@1"]);
    assert_eq!(committer.ends(doubtful()), ["log in doubt 2", "reset [0]"]);
    committer
}

/// One record each of partitions 0 and 1 is in transaction 4, which is in doubt.
fn two_in_doubt() -> Committer {
    let two = Partition(2);
    let mut committer = Committer::serving(&[P0, P1]);
    committer.joins(two, T1, None, 0);
    for partition in [P0, P1] {
        let read = committer.opens(partition, T1, &[0]);
        committer.completes(&read, &["a"], &[]);
    }
    assert_eq!(committer.ends(committed())[1], "commit 4 0:0..1 1:0..1 0.a@0 1.a@0");
    assert_eq!(committer.ends(doubtful())[0], "log in doubt 4");
    committer
}

/// A committed offset: position and metadata.
type Found<'a> = Option<(i64, &'a str)>;

fn at(partition: Partition, found: Found<'_>) -> (Partition, Option<CommittedOffset>) {
    let committed = found
        .map(|(position, metadata)| CommittedOffset { position: Position(position), metadata: metadata.to_owned() });
    (partition, committed)
}
