//! When a transaction is due, what it carries, and how it is sent again.

mod harness;

use std::time::Duration;

use steward::engine::commit::transaction::{CommitOutcome, RefusedRecord, ResetOutcome};
use steward::engine::commit::{GAP_WITHOUT_LINGER, MAX_LINGER, REFUSALS_ALLOWED, STALE_GENERATIONS_ALLOWED};
use steward::engine::outcome::{EntitySnapshot, OutputRecord};
use steward::record::{Epoch, Offset, Partition, TraceContext};

pub(super) use harness::{Committer, aborted, committed, stale_generations, unanswered};

use super::{P0, P1, batch_of, rejected_of, snapshot_of};

const T1: Epoch = Epoch(1);
const T2: Epoch = Epoch(2);

#[apply(offline_test)]
fn the_first_thing_is_a_producer() {
    let mut committer = Committer::without_a_producer(1_000_000);
    assert_eq!(committer.first(), ["renew []"]);
    assert_eq!(committer.joins(P0, T1, None, 0), [""; 0]);
    assert_eq!(committer.next_deadline(), None, "nothing is due before the answer");
    let said = committer.resets(ResetOutcome::Ready(vec![]));
    assert_eq!(said, ["told renewed -: NothingInDoubt", "commit 1 0:-..0"]);
}

#[apply(offline_test)]
fn the_first_transaction_sends_the_start_alone() {
    let mut committer = Committer::new();
    assert_eq!(committer.joins(P0, T1, Some(5), 7), ["commit 1 0:5..7"]);
    assert_eq!(committer.answers(committed()), ["committed 1 batches [1]"]);
    assert_eq!(committer.joins(P1, T2, None, 0), ["commit 2 1:-..0"]);
}

#[apply(offline_test)]
fn nothing_is_sent_before_its_batch_is_done() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1]);
    assert_eq!(committer.last(), [""; 0]);
    assert_eq!(committer.next_deadline(), None, "no transaction is opened for what is not ready");
    assert_eq!(committer.completes(&read, &["a"], &[1]), ["commit 2 0:0..2 0.a@1 !0.1"]);
}

#[apply(offline_test)]
fn one_transaction_is_under_way_and_the_rest_waits_for_the_next() {
    let mut committer = Committer::serving(&[P0, P1]);
    let (first, second) = (committer.opens(P0, T1, &[0]), committer.opens(P0, T1, &[1]));
    let other = committer.opens(P1, T1, &[0, 1]);
    assert_eq!(committer.completes(&first, &["a"], &[]), ["commit 3 0:0..1 0.a@0"]);
    assert_eq!(committer.completes(&other, &[], &[0]), [""; 0]);
    assert_eq!(committer.completes(&second, &["b"], &[]), [""; 0]);
    assert_eq!(committer.ticks(Duration::from_secs(3600)), [""; 0], "time alone sends nothing");
    let said = committer.answers(committed());
    assert_eq!(said, ["committed 3 batches [3]", "commit 4 1:0..2 0:1..2 !1.0 0.b@1"].map(sorted));
}

#[apply(offline_test)]
fn after_a_commit_what_is_done_waits_a_moment_for_more() {
    let ms = Duration::from_millis;
    let mut committer = Committer::lingering(P0, ms(4) + GAP_WITHOUT_LINGER);
    let reads = [committer.opens(P0, T1, &[0]), committer.opens(P0, T1, &[1]), committer.opens(P0, T1, &[2])];
    assert_eq!(committer.completes(&reads[0], &["a"], &[]), [""; 0]);
    assert_eq!((committer.wait(), committer.ticks(ms(3))), (Some(ms(4)), vec![]));
    assert_eq!(committer.completes(&reads[1], &["b"], &[]), [""; 0]);
    assert_eq!(committer.ticks(ms(1)), ["commit 2 0:0..2 0.a@0 0.b@1"], "all that came meanwhile");

    committer.answers(committed());
    assert_eq!((committer.ticks(ms(4)), committer.wait()), (vec![], None), "nothing to wait for");
    assert_eq!(committer.completes(&reads[2], &["c"], &[]), ["commit 3 0:2..3 0.c@2"], "it has rested");
}

#[apply(offline_test)]
fn that_moment_is_bounded_however_many_partitions_there_are() {
    let committer = Committer::lingering(P0, Duration::from_secs(1));
    assert_eq!(committer.wait(), Some(MAX_LINGER));
}

#[apply(offline_test)]
fn neither_a_revocation_nor_a_stop_sits_out_that_moment() {
    let rests_with_work = || {
        let mut committer = Committer::lingering(P0, GAP_WITHOUT_LINGER * 2);
        let read = committer.opens(P0, T1, &[0]);
        assert_eq!(committer.completes(&read, &["a"], &[]), [""; 0]);
        committer
    };
    assert_eq!(rests_with_work().revokes(1, &[(P0, T1)]), ["commit 2 0:0..1 0.a@0"]);
    assert_eq!(rests_with_work().stops(), ["commit 2 0:0..1 0.a@0"]);
}

#[apply(offline_test)]
fn only_the_newest_snapshot_of_a_key_goes_out() {
    let mut committer = Committer::serving(&[P0, P1]);
    let busy = committer.opens(P0, T1, &[0]);
    committer.completes(&busy, &[], &[]);
    for offset in 1..=3 {
        let read = committer.opens(P0, T1, &[offset]);
        committer.completes(&read, if offset == 2 { &["b"] } else { &["a"] }, &[]);
    }
    let other = committer.opens(P1, T1, &[0]);
    committer.completes(&other, &["a"], &[]);
    let said = committer.answers(committed());
    assert_eq!(said[1], sorted("commit 4 1:0..1 0:1..4 0.a@3 0.b@2 1.a@0"), "an entity is a key in a partition");
}

#[apply(offline_test)]
fn what_is_done_behind_a_gap_waits() {
    let mut committer = Committer::serving(&[P0]);
    let reads = [[0], [1], [2]].map(|offsets| committer.opens(P0, T1, &offsets));
    assert_eq!(committer.completes(&reads[2], &["c"], &[]), [""; 0]);
    assert_eq!(committer.completes(&reads[1], &["b"], &[]), [""; 0]);
    assert_eq!(committer.completes(&reads[0], &["a"], &[]), [sorted("commit 2 0:0..3 0.a@0 0.b@1 0.c@2")]);
}

#[apply(offline_test)]
fn an_abort_sends_the_same_again_less_the_lines_that_ended() {
    let mut committer = Committer::serving(&[P0, P1]);
    let busy = committer.opens(P0, T1, &[0]);
    committer.completes(&busy, &[], &[]);
    let (zero, one) = (committer.opens(P0, T1, &[1]), committer.opens(P1, T1, &[0, 1]));
    committer.completes(&zero, &["a"], &[]);
    committer.completes(&one, &["b"], &[]);
    assert_eq!(committer.answers(committed())[1], sorted("commit 4 1:0..2 0:1..2 0.a@1 1.b@1"));
    assert_eq!(committer.answers(aborted()), ["told aborted 4 attempt 1"]);
    assert_eq!(committer.wait(), Some(Duration::from_millis(50)));
    let late = committer.opens(P0, T1, &[2]);
    assert_eq!(committer.completes(&late, &["late"], &[]), [""; 0], "it waits for the next one");
    assert_eq!(committer.ticks(Duration::from_millis(49)), [""; 0], "it is not due yet");
    assert_eq!(committer.over(P1, T1), [""; 0]);
    let said = committer.ticks(Duration::from_millis(1));
    assert_eq!(said, ["dropped 2 of 1", "commit 5 0:1..2 0.a@1"]);
    assert_eq!(committer.answers(committed())[1], "commit 6 0:2..3 0.late@2");
}

#[apply(offline_test)]
fn each_abort_doubles_the_wait_up_to_two_seconds() {
    let mut committer = Committer::new();
    committer.joins(P0, T1, None, 0);
    for (attempt, wait) in (1..).zip([50, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]) {
        assert_eq!(committer.answers(aborted()), [format!("told aborted {attempt} attempt {attempt}")]);
        let wait = Duration::from_millis(wait);
        assert_eq!(committer.wait(), Some(wait), "attempt {attempt}");
        assert_eq!(committer.ticks(wait), [format!("commit {} 0:-..0", attempt + 1)]);
    }
    committer.answers(committed());
    let read = committer.opens(P0, T1, &[0]);
    committer.completes(&read, &[], &[]);
    committer.answers(aborted());
    assert_eq!(committer.wait(), Some(Duration::from_millis(50)), "the next content begins anew");
}

#[apply(offline_test)]
fn after_a_timeout_the_next_carries_half_and_the_rest_waits_in_order() {
    let mut committer = Committer::with_limit(4 * rejected_weight());
    let reads = busy_with_four(&mut committer);
    assert_eq!(committer.answers(committed())[1], "commit 3 0:1..5 !0.1 !0.2 !0.3 !0.4");
    committer.answers(timed_out());
    let late = committer.opens(P0, T1, &[5]);
    committer.completes(&late, &[], &[5]);
    assert_eq!(committer.ticks(Duration::from_millis(50)), ["commit 4 0:1..3 !0.1 !0.2"]);
    committer.answers(timed_out());
    assert_eq!(committer.ticks(Duration::from_millis(100)), ["commit 5 0:1..2 !0.1"]);
    committer.answers(timed_out());
    assert_eq!(committer.ticks(Duration::from_millis(200)), ["commit 6 0:1..2 !0.1"], "one batch always goes");
    let said = committer.answers(committed());
    assert_eq!(said[0], format!("committed 6 batches [{}]", reads[0]));
    assert_eq!(said[1], "commit 7 0:2..3 !0.2", "the rest, from the queue, in order");
    assert_eq!(committer.answers(committed())[1], "commit 8 0:3..5 !0.3 !0.4");
    assert_eq!(committer.answers(committed())[1], "commit 9 0:5..6 !0.5", "and behind it what came later");
    assert_eq!(committer.answers(committed()), ["committed 9 batches [7]"]);
}

#[apply(offline_test)]
fn the_limit_grows_back() {
    let mut committer = Committer::with_limit(4 * rejected_weight());
    busy_with_four(&mut committer);
    committer.answers(committed());
    committer.answers(timed_out());
    assert_eq!(committer.ticks(Duration::from_secs(1)), ["commit 4 0:1..3 !0.1 !0.2"]);
    for offset in 5..9 {
        let read = committer.opens(P0, T1, &[offset]);
        committer.completes(&read, &[], &[offset]);
    }
    assert_eq!(committer.answers(committed())[1], "commit 5 0:3..7 !0.3 !0.4 !0.5 !0.6", "four fit again");
}

#[apply(offline_test)]
fn one_batch_always_fits() {
    let mut committer = Committer::with_limit(1);
    committer.joins(P0, T1, None, 0);
    let reads = [[0], [1]].map(|offsets| committer.opens(P0, T1, &offsets));
    for (offset, read) in (0..).zip(&reads) {
        committer.completes(read, &[], &[offset]);
    }
    assert_eq!(committer.answers(committed())[1], "commit 2 0:0..1 !0.0");
    assert_eq!(committer.answers(committed())[1], "commit 3 0:1..2 !0.1");
}

#[apply(offline_test)]
fn what_recovery_publishes_counts_for_the_limit() {
    let mut committer = Committer::without_a_producer(snapshot_of(P0, "a", 9).weight_bytes());
    for partition in [P0, P1] {
        let repairs = [snapshot_of(partition, "a", 9)].into_iter().collect();
        committer.joins_with(partition, T1, None, 10, repairs);
    }
    assert_eq!(committer.resets(ResetOutcome::Ready(vec![]))[1], "commit 1 0:-..10 0.a@9");
    assert_eq!(committer.answers(committed())[1], "commit 2 1:-..10 1.a@9", "both at once are beyond the limit");
}

#[apply(offline_test)]
fn no_partition_is_starved() {
    let partitions = [P0, P1, Partition(2)];
    let mut committer = Committer::with_limit(1);
    for partition in partitions {
        committer.joins(partition, T1, None, 0);
    }
    committer.answers(committed());
    for partition in partitions {
        for offset in 0..3 {
            let read = committer.opens(partition, T1, &[offset]);
            committer.completes(&read, &[], &[offset]);
        }
    }
    let letter = |said: Vec<String>| said[1].split('!').nth(1).map(str::to_owned);
    let served: Vec<String> = (0..9).map_while(|_| letter(committer.answers(committed()))).collect();
    assert_eq!(served, ["0.0", "1.0", "2.0", "0.1", "1.1", "2.1", "0.2", "1.2", "2.2"], "each in its turn");
}

#[apply(offline_test)]
fn a_dlq_record_that_is_too_large_goes_without_its_value() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1]);
    assert_eq!(committer.completes(&read, &["a"], &[0, 1]), ["commit 2 0:0..2 0.a@1 !0.0 !0.1"]);
    let said = committer.answers(refused(Some(RefusedRecord { index: 2, too_large: true })));
    assert_eq!(said, ["told truncated 0/1 of 10 bytes", "commit 3 0:0..2 0.a@1 !0.0 ~0.1"]);
    let said = committer.answers(refused(Some(RefusedRecord { index: 1, too_large: true })));
    assert_eq!(said, ["told truncated 0/0 of 10 bytes", "commit 4 0:0..2 0.a@1 ~0.0 ~0.1"]);
    assert_eq!(committer.answers(aborted()), ["told aborted 4 attempt 1"]);
    assert_eq!(committer.ticks(Duration::from_secs(1)), ["commit 5 0:0..2 0.a@1 ~0.0 ~0.1"]);
    assert_eq!(committer.answers(committed()), ["committed 5 batches [2]"]);
}

#[apply(offline_test)]
fn a_snapshot_that_is_too_large_goes_without_its_trace_context() {
    let mut committer = Committer::new();
    let trace = |traceparent: &str, tracestate: &str| {
        let value = |text: &str| (!text.is_empty()).then(|| Box::from(text.as_bytes()));
        Some(Box::new(TraceContext { traceparent: value(traceparent), tracestate: value(tracestate) }))
    };
    let traced = |key: &str, newest, trace| {
        let (key, value) = (key.as_bytes().into(), Some(format!("{key} after {newest}").as_bytes().into()));
        OutputRecord::snapshot(P0, Offset(newest), EntitySnapshot { key, value, trace })
    };
    let repairs = [traced("a", 1, trace("1234", "567")), traced("b", 2, trace("1234", ""))].into_iter().collect();
    assert_eq!(committer.joins_with(P0, T1, None, 3, repairs), ["commit 1 0:-..3 0.a@1+trace 0.b@2+trace"]);
    let too_large = |index| refused(Some(RefusedRecord { index, too_large: true }));
    let said = committer.answers(too_large(0));
    assert_eq!(said, ["told untraced 0/1 of 7 bytes", "commit 2 0:-..3 0.a@1 0.b@2+trace"]);
    let said = committer.answers(too_large(1));
    assert_eq!(said, ["told untraced 0/2 of 4 bytes", "commit 3 0:-..3 0.a@1 0.b@2"]);
    committer.answers(aborted());
    assert_eq!(committer.ticks(Duration::from_secs(1)), ["commit 4 0:-..3 0.a@1 0.b@2"]);
    assert_eq!(committer.answers(too_large(1)), ["told refused 0/2 attempt 1"], "there is nothing left to leave out");
}

#[apply(offline_test)]
fn a_truncated_letter_that_is_refused_still_stops_the_process() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0]);
    committer.completes(&read, &[], &[0]);
    let too_large = || refused(Some(RefusedRecord { index: 0, too_large: true }));
    assert_eq!(committer.answers(too_large())[1], "commit 3 0:0..1 ~0.0");
    for attempt in 1..REFUSALS_ALLOWED {
        assert_eq!(committer.answers(too_large()), [format!("told refused 0/0 attempt {attempt}")]);
        committer.ticks(Duration::from_secs(1));
    }
    assert_eq!(committer.answers(too_large()), ["stop: refused 0/0"]);
}

#[apply(offline_test)]
fn a_refusal_is_repeated_three_times_and_then_names_the_record() {
    for (record, name) in [
        (RefusedRecord { index: 0, too_large: false }, "0/1"),
        // Without a trace context there is nothing to leave out.
        (RefusedRecord { index: 0, too_large: true }, "0/1"),
        (RefusedRecord { index: 1, too_large: false }, "0/0"),
        (RefusedRecord { index: 99, too_large: true }, "-"),
    ] {
        let mut committer = Committer::serving(&[P0]);
        let read = committer.opens(P0, T1, &[0, 1]);
        committer.completes(&read, &["a"], &[0]);
        assert_eq!(committer.answers(refused(Some(record.clone()))), [format!("told refused {name} attempt 1")]);
        assert_eq!(committer.ticks(Duration::from_millis(50)), ["commit 3 0:0..2 0.a@1 !0.0"]);
        assert_eq!(committer.answers(refused(Some(record.clone()))), [format!("told refused {name} attempt 2")]);
        assert_eq!(committer.ticks(Duration::from_millis(100)), ["commit 4 0:0..2 0.a@1 !0.0"]);
        assert_eq!(committer.answers(refused(Some(record.clone()))), [format!("stop: refused {name}")], "{record:?}");
    }
}

#[apply(offline_test)]
fn a_refused_record_that_nobody_named_stops_without_a_name() {
    let mut committer = Committer::new();
    committer.joins(P0, T1, None, 0);
    committer.answers(refused(None));
    committer.ticks(Duration::from_secs(1));
    committer.answers(refused(None));
    committer.ticks(Duration::from_secs(1));
    assert_eq!(committer.answers(refused(None)), ["stop: refused -"]);
}

#[apply(offline_test)]
fn a_stale_answer_ends_the_line_and_the_others_go_at_once() {
    let mut committer = Committer::serving(&[P0, P1]);
    let busy = committer.opens(P0, T1, &[0]);
    committer.completes(&busy, &[], &[]);
    let (zero, one) = (committer.opens(P0, T1, &[1]), committer.opens(P1, T1, &[0]));
    let waiting = committer.opens(P1, T1, &[1, 2, 3]);
    committer.completes(&zero, &["a"], &[]);
    committer.completes(&one, &["b"], &[]);
    committer.answers(committed());
    let said = committer.answers(CommitOutcome::Stale(vec![P1]));
    assert_eq!(said, ["dropped 3 of 1", "dropped 1 of 1", "commit 5 0:1..2 0.a@1"]);
    assert_eq!(committer.completes(&waiting, &["b"], &[]), [""; 0], "it was reported when its queue ended");
    assert_eq!(committer.over(P1, T1), [""; 0]);
    assert_eq!(committer.answers(CommitOutcome::Stale(vec![P0])), ["dropped 1 of 0"]);
    assert_eq!(committer.next_deadline(), None);
}

#[apply(offline_test)]
fn a_revocation_commits_what_is_done_and_drops_the_rest() {
    let mut committer = Committer::serving(&[P0]);
    let reads = [[0], [1], [2]].map(|offsets| committer.opens(P0, T1, &offsets));
    assert_eq!(committer.completes(&reads[0], &["a"], &[]), ["commit 2 0:0..1 0.a@0"]);
    committer.completes(&reads[2], &["c"], &[]);
    assert_eq!(committer.revokes(1, &[(P0, T1)]), ["dropped 2 of 0"]);
    let late = committer.opens(P0, T1, &[3]);
    assert_eq!(committer.last(), ["dropped 1 of 0"], "what is only read now is its next owner's");
    assert_eq!(committer.completes(&reads[1], &["b"], &[]), [""; 0]);
    assert_eq!(committer.completes(&late, &["d"], &[]), [""; 0]);
    assert_eq!(committer.answers(committed()), ["committed 2 batches [2]", "drained 1"]);
    assert_eq!(committer.over(P0, T1), [""; 0], "it is said once");
}

#[apply(offline_test)]
fn a_revocation_of_nothing_is_drained_at_once() {
    let mut committer = Committer::serving(&[P0]);
    assert_eq!(committer.revokes(1, &[]), ["drained 1"]);
    assert_eq!(committer.revokes(2, &[(P1, T1)]), ["drained 2"], "a partition that still recovers");
    assert_eq!(committer.revokes(3, &[(P0, T2)]), ["drained 3"], "a epoch that nobody knows");
    let read = committer.opens(P0, T1, &[0]);
    assert_eq!(committer.last(), [""; 0], "the queue of the older epoch was closed");
    assert_eq!(committer.completes(&read, &[], &[]), ["commit 2 0:0..1"]);
    committer.answers(committed());
    assert_eq!(committer.revokes(4, &[(P0, T1)]), ["drained 4"]);
    assert_eq!(committer.revokes(5, &[(P0, T1)]), ["drained 5"], "each is answered, also for the same partition");
}

#[apply(offline_test)]
fn a_revocation_waits_for_the_transaction_under_way() {
    let mut committer = Committer::serving(&[P0, P1]);
    let (zero, one) = (committer.opens(P0, T1, &[0]), committer.opens(P1, T1, &[0]));
    committer.completes(&zero, &["a"], &[]);
    committer.completes(&one, &["b"], &[]);
    assert_eq!(committer.revokes(1, &[(P0, T1), (P1, T1)]), [""; 0]);
    assert_eq!(committer.answers(committed()), ["committed 3 batches [3]", "commit 4 1:0..1 1.b@0"]);
    assert_eq!(committer.answers(aborted()), ["told aborted 4 attempt 1"], "an abort drains nothing");
    assert_eq!(committer.ticks(Duration::from_millis(50)), ["commit 5 1:0..1 1.b@0"]);
    assert_eq!(committer.answers(committed()), ["committed 5 batches [4]", "drained 1"]);
}

#[apply(offline_test)]
fn a_revocation_does_not_sit_out_the_wait_after_an_abort() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0]);
    committer.completes(&read, &["a"], &[]);
    committer.answers(aborted());
    assert_eq!(committer.revokes(1, &[(P0, T1)]), ["commit 3 0:0..1 0.a@0"], "the consumer waits for it");
    committer.answers(aborted());
    assert_eq!(committer.wait(), Some(Duration::from_millis(100)), "once; then the waits grow as ever");
    committer.ticks(Duration::from_millis(100));
    assert_eq!(committer.answers(committed()), ["committed 4 batches [2]", "drained 1"]);
}

#[apply(offline_test)]
fn while_it_runs_what_the_group_refuses_is_sent_again_and_again() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1]);
    committer.completes(&read, &["a"], &[]);
    for attempt in 1..=4 * STALE_GENERATIONS_ALLOWED {
        assert_eq!(committer.answers(stale_generations()), [format!("told aborted {} attempt {attempt}", attempt + 1)]);
        assert_eq!(committer.ticks(Duration::from_secs(2)), [format!("commit {} 0:0..2 0.a@1", attempt + 2)]);
    }
}

#[apply(offline_test)]
fn a_process_that_stops_drops_what_the_group_keeps_refusing() {
    let mut committer = Committer::serving(&[P0, P1]);
    let sent = committer.opens(P0, T1, &[0, 1]);
    let (done, open) = (committer.opens(P0, T1, &[2]), committer.opens(P1, T1, &[0, 1, 2]));
    committer.completes(&sent, &["a"], &[]);
    committer.completes(&done, &["a"], &[]);
    assert_eq!(committer.stops(), [""; 0]);
    for attempt in 1..STALE_GENERATIONS_ALLOWED {
        assert_eq!(committer.answers(stale_generations()), [format!("told aborted {} attempt {attempt}", attempt + 2)]);
        let wait = committer.wait().expect("it is sent again");
        assert_eq!(committer.ticks(wait), [format!("commit {} 0:0..2 0.a@1", attempt + 3)]);
    }
    let said = committer.answers(stale_generations());
    let told = ["told aborted 7 attempt 5", "dropped 2 of 0", "dropped 1 of 0", "dropped 3 of 1"];
    assert_eq!(said[..4], told);
    assert_eq!(said[4..], ["told cut short after 5: 6 records"]);
    assert!(committer.machine.open_work().is_empty(), "nothing is left to wait for");
    assert_eq!(committer.next_deadline(), None);
    assert_eq!(committer.completes(&open, &["b"], &[]), [""; 0]);
    assert_eq!(committer.revokes(1, &[(P0, T1), (P1, T1)]), ["drained 1"], "the group can be left at once");
}

#[apply(offline_test)]
fn a_process_that_stops_counts_refusals_in_a_row() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0]);
    committer.completes(&read, &["a"], &[]);
    committer.stops();
    for _ in 0..3 * STALE_GENERATIONS_ALLOWED {
        committer.answers(stale_generations());
        committer.ticks(Duration::from_secs(2));
        committer.answers(aborted());
        let said = committer.ticks(Duration::from_secs(2));
        assert!(said.len() == 1 && said[0].starts_with("commit"), "{said:?}");
    }
    assert_eq!(committer.answers(committed()).len(), 1);
}

#[apply(offline_test)]
fn lines_that_close_go_first() {
    let mut committer = Committer::with_limit(rejected_weight());
    committer.joins(P0, T1, None, 0);
    committer.joins(P1, T1, None, 0);
    committer.answers(committed());
    for (partition, offset) in [(P0, 0), (P1, 0)] {
        let read = committer.opens(partition, T1, &[offset]);
        committer.completes(&read, &[], &[offset]);
    }
    committer.revokes(1, &[(P1, T1)]);
    assert_eq!(committer.answers(committed())[1], "commit 3 1:0..1 !1.0", "it is awaited");
    let said = committer.answers(committed());
    assert_eq!(said, ["committed 3 batches [4]", "commit 4 0:0..1 !0.0", "drained 1"]);
}

#[apply(offline_test)]
fn what_ends_in_flight_is_not_sent_again() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1]);
    committer.completes(&read, &["a"], &[]);
    assert_eq!(committer.revokes(1, &[(P0, T1)]), [""; 0]);
    assert_eq!(committer.over(P0, T1), [""; 0], "how it ends is still to be heard");
    assert_eq!(committer.answers(aborted()), ["told aborted 2 attempt 1"]);
    assert_eq!(committer.ticks(Duration::from_millis(50)), ["dropped 2 of 0", "drained 1"]);
    assert_eq!(committer.next_deadline(), None);

    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1]);
    committer.completes(&read, &["a"], &[]);
    committer.over(P0, T1);
    assert_eq!(committer.answers(committed()), ["committed 2 batches [2]"], "it took effect before the loss");
}

#[apply(offline_test)]
fn what_recovery_publishes_goes_out_with_the_start_also_after_an_abort() {
    let mut committer = Committer::new();
    let lost = std::sync::Arc::new(batch_of(P0, T1, &[3]));
    let repairs = [snapshot_of(P0, "repaired", 4), rejected_of(&lost, 0)].into_iter().collect();
    assert_eq!(committer.joins_with(P0, T1, Some(5), 5, repairs), ["commit 1 0:5..5 0.repaired@4 !0.3"]);
    let read = committer.opens(P0, T1, &[5]);
    committer.completes(&read, &["repaired"], &[]);
    committer.answers(timed_out());
    assert_eq!(committer.ticks(Duration::from_millis(50)), ["commit 2 0:5..5 0.repaired@4 !0.3"]);
    assert_eq!(committer.answers(committed())[1], "commit 3 0:5..6 0.repaired@5", "they go out once");
}

#[apply(offline_test)]
fn a_partition_that_comes_back_begins_a_new_line() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0]);
    committer.completes(&read, &["old"], &[]);
    let waiting = committer.opens(P0, T1, &[1]);
    assert_eq!(committer.joins(P0, T2, None, 0), ["dropped 1 of 0"], "nobody said that the old one was over");
    assert_eq!(committer.completes(&waiting, &["old"], &[]), [""; 0]);
    committer.answers(aborted());
    let said = committer.ticks(Duration::from_millis(50));
    assert_eq!(said, ["dropped 1 of 0", "commit 3 0:-..0"], "of the old queue nothing is sent");
}

#[apply(offline_test)]
fn offsets_that_fall_stop_the_process() {
    let mut committer = Committer::serving(&[P0]);
    committer.opens(P0, T1, &[0, 5]);
    committer.opens(P0, T1, &[5]);
    assert_eq!(committer.last(), ["stop: offsets of partition 0 fell from position 6 to 5 within one assignment"]);
}

#[apply(offline_test)]
fn after_a_stop_nobody_waits_for_a_revocation() {
    let mut committer = Committer::serving(&[P0, P1]);
    let read = committer.opens(P0, T1, &[0]);
    committer.completes(&read, &["a"], &[]);
    assert_eq!(committer.revokes(1, &[(P0, T1)]), [""; 0], "the transaction under way is waited for");
    let said = committer.answers(CommitOutcome::Fatal { cause: "over".into() });
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("stop") && said[1].starts_with("drained 1"), "{said:?}");
    let later = committer.revokes(2, &[(P1, T1)]);
    assert!(later.len() == 1 && later[0].starts_with("drained 2"), "{later:?}");
}

#[apply(offline_test)]
fn after_a_stop_nothing_is_done_any_more() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0]);
    committer.opens(P0, T1, &[0]);
    assert_eq!(committer.completes(&read, &["a"], &[]), [""; 0]);
    assert_eq!(committer.answers(committed()), [""; 0], "an answer that comes late is no surprise");
    assert_eq!(committer.next_deadline(), None);
}

#[apply(offline_test)]
fn records_of_an_ended_line_are_reported_once() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1, 2]);
    assert_eq!(committer.over(P0, T1), ["dropped 3 of 0"]);
    assert_eq!(committer.completes(&read, &["a"], &[0, 1]), [""; 0]);
    assert_eq!(committer.over(P0, T1), [""; 0]);
    let late = committer.opens(P0, T1, &[3]);
    assert_eq!(committer.last(), ["dropped 1 of 0"]);
    assert_eq!(committer.completes(&late, &["a"], &[]), [""; 0]);
}

#[apply(offline_test)]
fn the_oldest_record_is_found_in_lines_and_in_flight() {
    let mut committer = Committer::serving(&[P0, P1]);
    let oldest = |committer: &Committer| {
        let work = committer.machine.open_work();
        let heads = work.iter().filter_map(|(partition, work)| Some((*partition, work.head?)));
        let oldest = heads.min_by_key(|(_, head)| head.timestamp_ms);
        let records: u64 = work.values().map(|work| work.records).sum();
        (records, oldest.map(|(partition, head)| (partition, head.offset.0, head.decided)))
    };
    assert_eq!(oldest(&committer), (0, None));
    let one = committer.opens(P1, T1, &[4, 5]);
    assert_eq!(oldest(&committer), (2, Some((P1, 4, false))));
    let zero = committer.opens(P0, T1, &[3]);
    assert_eq!(oldest(&committer), (3, Some((P0, 3, false))));
    committer.completes(&zero, &[], &[]);
    assert_eq!(oldest(&committer), (3, Some((P0, 3, true))), "it is in a transaction");
    committer.completes(&one, &[], &[]);
    committer.answers(aborted());
    assert_eq!(oldest(&committer), (3, Some((P0, 3, true))), "an abort commits nothing");
    committer.ticks(Duration::from_secs(1));
    committer.answers(committed());
    assert_eq!(oldest(&committer), (2, Some((P1, 4, true))));
    committer.answers(committed());
    assert_eq!(oldest(&committer), (0, None));
}

/// One transaction is under way, and four letters wait behind it, which weigh the limit together.
fn busy_with_four(committer: &mut Committer) -> Vec<u64> {
    committer.joins(P0, T1, None, 0);
    committer.answers(committed());
    let busy = committer.opens(P0, T1, &[0]);
    committer.completes(&busy, &[], &[0]);
    (1..=4)
        .map(|offset| {
            let read = committer.opens(P0, T1, &[offset]);
            committer.completes(&read, &[], &[offset]);
            read.id.0
        })
        .collect()
}

fn rejected_weight() -> u64 {
    rejected_of(&std::sync::Arc::new(batch_of(P0, T1, &[0])), 0).weight_bytes()
}

fn timed_out() -> CommitOutcome {
    CommitOutcome::Aborted { cause: "too slow".into(), timed_out: true }
}

fn refused(record: Option<RefusedRecord>) -> CommitOutcome {
    CommitOutcome::Refused { cause: "no".into(), record }
}

/// The words of a commit in the order in which the harness says them.
fn sorted(said: impl Into<String>) -> String {
    harness::in_order(&said.into())
}
