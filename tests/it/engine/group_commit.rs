//! When a transaction is due, what it carries, and how it is sent again.

mod harness;

use std::time::Duration;

use steward::engine::commit::transaction::{CommitOutcome, RefusedRecord, ResetOutcome};
use steward::engine::commit::{GAP_WITHOUT_LINGER, MAX_LINGER, REFUSALS_ALLOWED, STALE_GENERATIONS_ALLOWED};
use steward::engine::outcome::{EntitySnapshot, OutputRecord};
use steward::record::{Epoch, Offset, Partition, TraceContext};

pub(super) use harness::{Committer, aborted, committed, doubtful, stale_generations};

use super::{P0, P1, batch_of, rejected_of, snapshot_of};

const T1: Epoch = Epoch(1);
const T2: Epoch = Epoch(2);

#[apply(offline_test)]
fn the_first_command_builds_a_producer() {
    let mut committer = Committer::without_a_producer(1_000_000);
    assert_eq!(committer.first(), ["reset []"]);
    assert_eq!(committer.joins(P0, T1, None, 0), [""; 0]);
    assert_eq!(committer.next_deadline(), None, "nothing is due before the outcome");
    let commands = committer.resets(ResetOutcome::Ready(vec![]));
    assert_eq!(commands, ["log reset -: NothingInDoubt", "commit 1 0:-..0"]);
}

#[apply(offline_test)]
fn the_first_transaction_sends_the_start_alone() {
    let mut committer = Committer::new();
    assert_eq!(committer.joins(P0, T1, Some(5), 7), ["commit 1 0:5..7"]);
    assert_eq!(committer.ends(committed()), ["committed 1 batches [1]"]);
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
fn one_transaction_is_in_flight_and_the_rest_waits_for_the_next() {
    let mut committer = Committer::serving(&[P0, P1]);
    let (first, second) = (committer.opens(P0, T1, &[0]), committer.opens(P0, T1, &[1]));
    let other = committer.opens(P1, T1, &[0, 1]);
    assert_eq!(committer.completes(&first, &["a"], &[]), ["commit 3 0:0..1 0.a@0"]);
    assert_eq!(committer.completes(&other, &[], &[0]), [""; 0]);
    assert_eq!(committer.completes(&second, &["b"], &[]), [""; 0]);
    assert_eq!(committer.ticks(Duration::from_secs(3600)), [""; 0], "time alone sends nothing");
    let commands = committer.ends(committed());
    assert_eq!(commands, ["committed 3 batches [3]", "commit 4 1:0..2 0:1..2 !1.0 0.b@1"].map(sorted));
}

#[apply(offline_test)]
fn after_a_commit_complete_batches_linger_for_more() {
    let ms = Duration::from_millis;
    let mut committer = Committer::lingering(P0, ms(4) + GAP_WITHOUT_LINGER);
    let reads = [committer.opens(P0, T1, &[0]), committer.opens(P0, T1, &[1]), committer.opens(P0, T1, &[2])];
    assert_eq!(committer.completes(&reads[0], &["a"], &[]), [""; 0]);
    assert_eq!((committer.wait(), committer.ticks(ms(3))), (Some(ms(4)), vec![]));
    assert_eq!(committer.completes(&reads[1], &["b"], &[]), [""; 0]);
    assert_eq!(committer.ticks(ms(1)), ["commit 2 0:0..2 0.a@0 0.b@1"], "all that came meanwhile");

    committer.ends(committed());
    assert_eq!((committer.ticks(ms(4)), committer.wait()), (vec![], None), "nothing to wait for");
    assert_eq!(committer.completes(&reads[2], &["c"], &[]), ["commit 3 0:2..3 0.c@2"], "it has rested");
}

#[apply(offline_test)]
fn the_linger_is_bounded_for_any_number_of_partitions() {
    let committer = Committer::lingering(P0, Duration::from_secs(1));
    assert_eq!(committer.wait(), Some(MAX_LINGER));
}

#[apply(offline_test)]
fn a_revocation_and_a_stop_end_the_linger() {
    let lingers_with_work = || {
        let mut committer = Committer::lingering(P0, GAP_WITHOUT_LINGER * 2);
        let read = committer.opens(P0, T1, &[0]);
        assert_eq!(committer.completes(&read, &["a"], &[]), [""; 0]);
        committer
    };
    assert_eq!(lingers_with_work().revokes(1, &[(P0, T1)]), ["commit 2 0:0..1 0.a@0"]);
    assert_eq!(lingers_with_work().stops(), ["commit 2 0:0..1 0.a@0"]);
}

#[apply(offline_test)]
fn only_the_newest_snapshot_of_a_key_is_sent() {
    let mut committer = Committer::serving(&[P0, P1]);
    let busy = committer.opens(P0, T1, &[0]);
    committer.completes(&busy, &[], &[]);
    for offset in 1..=3 {
        let read = committer.opens(P0, T1, &[offset]);
        committer.completes(&read, if offset == 2 { &["b"] } else { &["a"] }, &[]);
    }
    let other = committer.opens(P1, T1, &[0]);
    committer.completes(&other, &["a"], &[]);
    let commands = committer.ends(committed());
    assert_eq!(commands[1], sorted("commit 4 1:0..1 0:1..4 0.a@3 0.b@2 1.a@0"), "an entity is a key in a partition");
}

#[apply(offline_test)]
fn a_complete_batch_waits_for_the_batches_before_it() {
    let mut committer = Committer::serving(&[P0]);
    let reads = [[0], [1], [2]].map(|offsets| committer.opens(P0, T1, &offsets));
    assert_eq!(committer.completes(&reads[2], &["c"], &[]), [""; 0]);
    assert_eq!(committer.completes(&reads[1], &["b"], &[]), [""; 0]);
    assert_eq!(committer.completes(&reads[0], &["a"], &[]), [sorted("commit 2 0:0..3 0.a@0 0.b@1 0.c@2")]);
}

#[apply(offline_test)]
fn an_abort_sends_the_content_again_without_the_ended_queues() {
    let mut committer = Committer::serving(&[P0, P1]);
    let busy = committer.opens(P0, T1, &[0]);
    committer.completes(&busy, &[], &[]);
    let (zero, one) = (committer.opens(P0, T1, &[1]), committer.opens(P1, T1, &[0, 1]));
    committer.completes(&zero, &["a"], &[]);
    committer.completes(&one, &["b"], &[]);
    assert_eq!(committer.ends(committed())[1], sorted("commit 4 1:0..2 0:1..2 0.a@1 1.b@1"));
    assert_eq!(committer.ends(aborted()), ["log aborted 4 attempt 1"]);
    assert_eq!(committer.wait(), Some(Duration::from_millis(50)));
    let late = committer.opens(P0, T1, &[2]);
    assert_eq!(committer.completes(&late, &["late"], &[]), [""; 0], "it waits for the next one");
    assert_eq!(committer.ticks(Duration::from_millis(49)), [""; 0], "it is not due yet");
    assert_eq!(committer.loses(P1, T1), [""; 0]);
    let commands = committer.ticks(Duration::from_millis(1));
    assert_eq!(commands, ["dropped 2 of 1", "commit 5 0:1..2 0.a@1"]);
    assert_eq!(committer.ends(committed())[1], "commit 6 0:2..3 0.late@2");
}

#[apply(offline_test)]
fn each_abort_doubles_the_wait_up_to_two_seconds() {
    let mut committer = Committer::new();
    committer.joins(P0, T1, None, 0);
    for (attempt, wait) in (1..).zip([50, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]) {
        assert_eq!(committer.ends(aborted()), [format!("log aborted {attempt} attempt {attempt}")]);
        let wait = Duration::from_millis(wait);
        assert_eq!(committer.wait(), Some(wait), "attempt {attempt}");
        assert_eq!(committer.ticks(wait), [format!("commit {} 0:-..0", attempt + 1)]);
    }
    committer.ends(committed());
    let read = committer.opens(P0, T1, &[0]);
    committer.completes(&read, &[], &[]);
    committer.ends(aborted());
    assert_eq!(committer.wait(), Some(Duration::from_millis(50)), "the next content starts again");
}

#[apply(offline_test)]
fn after_a_timeout_the_next_carries_half_and_the_rest_waits_in_order() {
    let mut committer = Committer::with_limit(4 * rejected_weight());
    let reads = busy_with_four(&mut committer);
    assert_eq!(committer.ends(committed())[1], "commit 3 0:1..5 !0.1 !0.2 !0.3 !0.4");
    committer.ends(timed_out());
    let late = committer.opens(P0, T1, &[5]);
    committer.completes(&late, &[], &[5]);
    assert_eq!(committer.ticks(Duration::from_millis(50)), ["commit 4 0:1..3 !0.1 !0.2"]);
    committer.ends(timed_out());
    assert_eq!(committer.ticks(Duration::from_millis(100)), ["commit 5 0:1..2 !0.1"]);
    committer.ends(timed_out());
    assert_eq!(committer.ticks(Duration::from_millis(200)), ["commit 6 0:1..2 !0.1"], "one batch always goes");
    let commands = committer.ends(committed());
    assert_eq!(commands[0], format!("committed 6 batches [{}]", reads[0]));
    assert_eq!(commands[1], "commit 7 0:2..3 !0.2", "the rest, from the queue, in order");
    assert_eq!(committer.ends(committed())[1], "commit 8 0:3..4 !0.3");
    assert_eq!(committer.ends(committed())[1], "commit 9 0:4..5 !0.4");
    assert_eq!(committer.ends(committed())[1], "commit 10 0:5..6 !0.5", "and behind it what came later");
    assert_eq!(committer.ends(committed()), ["committed 10 batches [7]"]);
}

#[apply(offline_test)]
fn the_limit_grows_back() {
    let mut committer = Committer::with_limit(4 * rejected_weight());
    busy_with_four(&mut committer);
    committer.ends(committed());
    committer.ends(timed_out());
    assert_eq!(committer.ticks(Duration::from_secs(1)), ["commit 4 0:1..3 !0.1 !0.2"]);
    for offset in 5..15 {
        let read = committer.opens(P0, T1, &[offset]);
        committer.completes(&read, &[], &[offset]);
    }
    let size = |commands: Vec<String>| commands[1].matches('!').count();
    let sizes: Vec<usize> = (0..4).map(|_| size(committer.ends(committed()))).collect();
    assert_eq!(sizes, [2, 3, 3, 4], "up to what has failed, and by a quarter each time");
}

#[apply(offline_test)]
fn one_batch_always_fits() {
    let mut committer = Committer::with_limit(1);
    committer.joins(P0, T1, None, 0);
    let reads = [[0], [1]].map(|offsets| committer.opens(P0, T1, &offsets));
    for (offset, read) in (0..).zip(&reads) {
        committer.completes(read, &[], &[offset]);
    }
    assert_eq!(committer.ends(committed())[1], "commit 2 0:0..1 !0.0");
    assert_eq!(committer.ends(committed())[1], "commit 3 0:1..2 !0.1");
}

#[apply(offline_test)]
fn repairs_count_towards_the_limit() {
    let mut committer = Committer::without_a_producer(snapshot_of(P0, "a", 9).weight_bytes());
    for partition in [P0, P1] {
        let repairs = [snapshot_of(partition, "a", 9)].into_iter().collect();
        committer.joins_with(partition, T1, None, 10, repairs);
    }
    assert_eq!(committer.resets(ResetOutcome::Ready(vec![]))[1], "commit 1 0:-..10 0.a@9");
    assert_eq!(committer.ends(committed())[1], "commit 2 1:-..10 1.a@9", "both at once are beyond the limit");
}

#[apply(offline_test)]
fn no_partition_starves() {
    let partitions = [P0, P1, Partition(2)];
    let mut committer = Committer::with_limit(1);
    for partition in partitions {
        committer.joins(partition, T1, None, 0);
    }
    committer.ends(committed());
    for partition in partitions {
        for offset in 0..3 {
            let read = committer.opens(partition, T1, &[offset]);
            committer.completes(&read, &[], &[offset]);
        }
    }
    let letter = |commands: Vec<String>| commands[1].split('!').nth(1).map(str::to_owned);
    let served: Vec<String> = (0..9).map_while(|_| letter(committer.ends(committed()))).collect();
    assert_eq!(served, ["0.0", "1.0", "2.0", "0.1", "1.1", "2.1", "0.2", "1.2", "2.2"], "each in its turn");
}

#[apply(offline_test)]
fn a_dlq_record_that_is_too_large_is_sent_without_its_value() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1]);
    assert_eq!(committer.completes(&read, &["a"], &[0, 1]), ["commit 2 0:0..2 0.a@1 !0.0 !0.1"]);
    let commands = committer.ends(refused(Some(RefusedRecord { index: 2, too_large: true })));
    assert_eq!(commands, ["log truncated 0/1 of 10 bytes", "commit 3 0:0..2 0.a@1 !0.0 ~0.1"]);
    let commands = committer.ends(refused(Some(RefusedRecord { index: 1, too_large: true })));
    assert_eq!(commands, ["log truncated 0/0 of 10 bytes", "commit 4 0:0..2 0.a@1 ~0.0 ~0.1"]);
    assert_eq!(committer.ends(aborted()), ["log aborted 4 attempt 1"]);
    assert_eq!(committer.ticks(Duration::from_secs(1)), ["commit 5 0:0..2 0.a@1 ~0.0 ~0.1"]);
    assert_eq!(committer.ends(committed()), ["committed 5 batches [2]"]);
}

#[apply(offline_test)]
fn a_snapshot_that_is_too_large_is_sent_without_its_trace_context() {
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
    let commands = committer.ends(too_large(0));
    assert_eq!(commands, ["log untraced 0/1 of 7 bytes", "commit 2 0:-..3 0.a@1 0.b@2+trace"]);
    let commands = committer.ends(too_large(1));
    assert_eq!(commands, ["log untraced 0/2 of 4 bytes", "commit 3 0:-..3 0.a@1 0.b@2"]);
    committer.ends(aborted());
    assert_eq!(committer.ticks(Duration::from_secs(1)), ["commit 4 0:-..3 0.a@1 0.b@2"]);
    assert_eq!(committer.ends(too_large(1)), ["log refused 0/2 attempt 1"], "there is nothing left to leave out");
}

#[apply(offline_test)]
fn a_truncated_dlq_record_that_is_refused_stops_the_process() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0]);
    committer.completes(&read, &[], &[0]);
    let too_large = || refused(Some(RefusedRecord { index: 0, too_large: true }));
    assert_eq!(committer.ends(too_large())[1], "commit 3 0:0..1 ~0.0");
    for attempt in 1..REFUSALS_ALLOWED {
        assert_eq!(committer.ends(too_large()), [format!("log refused 0/0 attempt {attempt}")]);
        committer.ticks(Duration::from_secs(1));
    }
    assert_eq!(committer.ends(too_large()), ["stop: refused 0/0"]);
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
        assert_eq!(committer.ends(refused(Some(record.clone()))), [format!("log refused {name} attempt 1")]);
        assert_eq!(committer.ticks(Duration::from_millis(50)), ["commit 3 0:0..2 0.a@1 !0.0"]);
        assert_eq!(committer.ends(refused(Some(record.clone()))), [format!("log refused {name} attempt 2")]);
        assert_eq!(committer.ticks(Duration::from_millis(100)), ["commit 4 0:0..2 0.a@1 !0.0"]);
        assert_eq!(committer.ends(refused(Some(record.clone()))), [format!("stop: refused {name}")], "{record:?}");
    }
}

#[apply(offline_test)]
fn a_refusal_without_a_record_stops_without_a_name() {
    let mut committer = Committer::new();
    committer.joins(P0, T1, None, 0);
    committer.ends(refused(None));
    committer.ticks(Duration::from_secs(1));
    committer.ends(refused(None));
    committer.ticks(Duration::from_secs(1));
    assert_eq!(committer.ends(refused(None)), ["stop: refused -"]);
}

#[apply(offline_test)]
fn a_stale_epoch_ends_its_queue_and_the_others_are_sent_at_once() {
    let mut committer = Committer::serving(&[P0, P1]);
    let busy = committer.opens(P0, T1, &[0]);
    committer.completes(&busy, &[], &[]);
    let (zero, one) = (committer.opens(P0, T1, &[1]), committer.opens(P1, T1, &[0]));
    let waiting = committer.opens(P1, T1, &[1, 2, 3]);
    committer.completes(&zero, &["a"], &[]);
    committer.completes(&one, &["b"], &[]);
    committer.ends(committed());
    let commands = committer.ends(CommitOutcome::Stale(vec![P1]));
    assert_eq!(commands, ["dropped 3 of 1", "dropped 1 of 1", "commit 5 0:1..2 0.a@1"]);
    assert_eq!(committer.completes(&waiting, &["b"], &[]), [""; 0], "it was reported when its queue ended");
    assert_eq!(committer.loses(P1, T1), [""; 0]);
    assert_eq!(committer.ends(CommitOutcome::Stale(vec![P0])), ["dropped 1 of 0"]);
    assert_eq!(committer.next_deadline(), None);
}

#[apply(offline_test)]
fn a_revocation_commits_complete_batches_and_drops_the_rest() {
    let mut committer = Committer::serving(&[P0]);
    let reads = [[0], [1], [2]].map(|offsets| committer.opens(P0, T1, &offsets));
    assert_eq!(committer.completes(&reads[0], &["a"], &[]), ["commit 2 0:0..1 0.a@0"]);
    committer.completes(&reads[2], &["c"], &[]);
    assert_eq!(committer.revokes(1, &[(P0, T1)]), ["dropped 2 of 0"]);
    let late = committer.opens(P0, T1, &[3]);
    assert_eq!(committer.last(), ["dropped 1 of 0"], "what is only read now is its next owner's");
    assert_eq!(committer.completes(&reads[1], &["b"], &[]), [""; 0]);
    assert_eq!(committer.completes(&late, &["d"], &[]), [""; 0]);
    assert_eq!(committer.ends(committed()), ["committed 2 batches [2]", "drained 1"]);
    assert_eq!(committer.loses(P0, T1), [""; 0], "it is reported once");
}

#[apply(offline_test)]
fn a_revocation_of_nothing_is_drained_at_once() {
    let mut committer = Committer::serving(&[P0]);
    assert_eq!(committer.revokes(1, &[]), ["drained 1"]);
    assert_eq!(committer.revokes(2, &[(P1, T1)]), ["drained 2"], "a partition that still recovers");
    assert_eq!(committer.revokes(3, &[(P0, T2)]), ["drained 3"], "an unknown epoch");
    let read = committer.opens(P0, T1, &[0]);
    assert_eq!(committer.last(), [""; 0], "the queue of the older epoch was closed");
    assert_eq!(committer.completes(&read, &[], &[]), ["commit 2 0:0..1"]);
    committer.ends(committed());
    assert_eq!(committer.revokes(4, &[(P0, T1)]), ["drained 4"]);
    assert_eq!(committer.revokes(5, &[(P0, T1)]), ["drained 5"], "each is answered, also for the same partition");
}

#[apply(offline_test)]
fn a_revocation_waits_for_the_transaction_in_flight() {
    let mut committer = Committer::serving(&[P0, P1]);
    let (zero, one) = (committer.opens(P0, T1, &[0]), committer.opens(P1, T1, &[0]));
    committer.completes(&zero, &["a"], &[]);
    committer.completes(&one, &["b"], &[]);
    assert_eq!(committer.revokes(1, &[(P0, T1), (P1, T1)]), [""; 0]);
    assert_eq!(committer.ends(committed()), ["committed 3 batches [3]", "commit 4 1:0..1 1.b@0"]);
    assert_eq!(committer.ends(aborted()), ["log aborted 4 attempt 1"], "an abort drains nothing");
    assert_eq!(committer.ticks(Duration::from_millis(50)), ["commit 5 1:0..1 1.b@0"]);
    assert_eq!(committer.ends(committed()), ["committed 5 batches [4]", "drained 1"]);
}

#[apply(offline_test)]
fn a_revocation_ends_the_wait_after_an_abort() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0]);
    committer.completes(&read, &["a"], &[]);
    committer.ends(aborted());
    assert_eq!(committer.revokes(1, &[(P0, T1)]), ["commit 3 0:0..1 0.a@0"], "the consumer waits for it");
    committer.ends(aborted());
    assert_eq!(committer.wait(), Some(Duration::from_millis(100)), "once; then the waits grow as ever");
    committer.ticks(Duration::from_millis(100));
    assert_eq!(committer.ends(committed()), ["committed 4 batches [2]", "drained 1"]);
}

#[apply(offline_test)]
fn a_running_process_sends_again_what_the_group_refuses() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1]);
    committer.completes(&read, &["a"], &[]);
    for attempt in 1..=4 * STALE_GENERATIONS_ALLOWED {
        assert_eq!(committer.ends(stale_generations()), [format!("log aborted {} attempt {attempt}", attempt + 1)]);
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
        assert_eq!(committer.ends(stale_generations()), [format!("log aborted {} attempt {attempt}", attempt + 2)]);
        let wait = committer.wait().expect("it is sent again");
        assert_eq!(committer.ticks(wait), [format!("commit {} 0:0..2 0.a@1", attempt + 3)]);
    }
    let commands = committer.ends(stale_generations());
    let expected = ["log aborted 7 attempt 5", "dropped 2 of 0", "dropped 1 of 0", "dropped 3 of 1"];
    assert_eq!(commands[..4], expected);
    assert_eq!(commands[4..], ["log cut short after 5: 6 records"]);
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
        committer.ends(stale_generations());
        committer.ticks(Duration::from_secs(2));
        committer.ends(aborted());
        let commands = committer.ticks(Duration::from_secs(2));
        assert!(commands.len() == 1 && commands[0].starts_with("commit"), "{commands:?}");
    }
    assert_eq!(committer.ends(committed()).len(), 1);
}

#[apply(offline_test)]
fn queues_that_close_are_sent_first() {
    let mut committer = Committer::with_limit(rejected_weight());
    committer.joins(P0, T1, None, 0);
    committer.joins(P1, T1, None, 0);
    committer.ends(committed());
    for (partition, offset) in [(P0, 0), (P1, 0)] {
        let read = committer.opens(partition, T1, &[offset]);
        committer.completes(&read, &[], &[offset]);
    }
    committer.revokes(1, &[(P1, T1)]);
    assert_eq!(committer.ends(committed())[1], "commit 3 1:0..1 !1.0", "it is awaited");
    let commands = committer.ends(committed());
    assert_eq!(commands, ["committed 3 batches [4]", "commit 4 0:0..1 !0.0", "drained 1"]);
}

#[apply(offline_test)]
fn an_epoch_that_ends_in_flight_is_not_sent_again() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1]);
    committer.completes(&read, &["a"], &[]);
    assert_eq!(committer.revokes(1, &[(P0, T1)]), [""; 0]);
    assert_eq!(committer.loses(P0, T1), [""; 0], "its end is still open");
    assert_eq!(committer.ends(aborted()), ["log aborted 2 attempt 1"]);
    assert_eq!(committer.ticks(Duration::from_millis(50)), ["dropped 2 of 0", "drained 1"]);
    assert_eq!(committer.next_deadline(), None);

    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1]);
    committer.completes(&read, &["a"], &[]);
    committer.loses(P0, T1);
    assert_eq!(committer.ends(committed()), ["committed 2 batches [2]"], "it took effect before the loss");
}

#[apply(offline_test)]
fn repairs_are_sent_with_the_start_position_also_after_an_abort() {
    let mut committer = Committer::new();
    let lost = std::sync::Arc::new(batch_of(P0, T1, &[3]));
    let repairs = [snapshot_of(P0, "repaired", 4), rejected_of(&lost, 0)].into_iter().collect();
    assert_eq!(committer.joins_with(P0, T1, Some(5), 5, repairs), ["commit 1 0:5..5 0.repaired@4 !0.3"]);
    let read = committer.opens(P0, T1, &[5]);
    committer.completes(&read, &["repaired"], &[]);
    committer.ends(timed_out());
    assert_eq!(committer.ticks(Duration::from_millis(50)), ["commit 2 0:5..5 0.repaired@4 !0.3"]);
    assert_eq!(committer.ends(committed())[1], "commit 3 0:5..6 0.repaired@5", "they go out once");
}

#[apply(offline_test)]
fn a_partition_that_comes_back_begins_a_new_queue() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0]);
    committer.completes(&read, &["old"], &[]);
    let waiting = committer.opens(P0, T1, &[1]);
    assert_eq!(committer.joins(P0, T2, None, 0), ["dropped 1 of 0"], "the end of the old one was never reported");
    assert_eq!(committer.completes(&waiting, &["old"], &[]), [""; 0]);
    committer.ends(aborted());
    let commands = committer.ticks(Duration::from_millis(50));
    assert_eq!(commands, ["dropped 1 of 0", "commit 3 0:-..0"], "of the old queue nothing is sent");
}

#[apply(offline_test)]
fn offsets_that_fall_stop_the_process() {
    let mut committer = Committer::serving(&[P0]);
    committer.opens(P0, T1, &[0, 5]);
    committer.opens(P0, T1, &[5]);
    assert_eq!(committer.last(), ["stop: offsets of partition 0 fell from position 6 to 5 within one assignment"]);
}

#[apply(offline_test)]
fn after_a_stop_a_revocation_is_drained_at_once() {
    let mut committer = Committer::serving(&[P0, P1]);
    let read = committer.opens(P0, T1, &[0]);
    committer.completes(&read, &["a"], &[]);
    assert_eq!(committer.revokes(1, &[(P0, T1)]), [""; 0], "it waits for the transaction in flight");
    let commands = committer.ends(CommitOutcome::Fatal { cause: "over".into() });
    assert_eq!(commands.len(), 2, "{commands:?}");
    assert!(commands[0].starts_with("stop") && commands[1].starts_with("drained 1"), "{commands:?}");
    let later = committer.revokes(2, &[(P1, T1)]);
    assert!(later.len() == 1 && later[0].starts_with("drained 2"), "{later:?}");
}

#[apply(offline_test)]
fn after_a_stop_there_are_no_more_commands() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0]);
    committer.opens(P0, T1, &[0]);
    assert_eq!(committer.completes(&read, &["a"], &[]), [""; 0]);
    assert_eq!(committer.ends(committed()), [""; 0], "a late outcome is expected");
    assert_eq!(committer.next_deadline(), None);
}

#[apply(offline_test)]
fn records_of_an_ended_queue_are_reported_once() {
    let mut committer = Committer::serving(&[P0]);
    let read = committer.opens(P0, T1, &[0, 1, 2]);
    assert_eq!(committer.loses(P0, T1), ["dropped 3 of 0"]);
    assert_eq!(committer.completes(&read, &["a"], &[0, 1]), [""; 0]);
    assert_eq!(committer.loses(P0, T1), [""; 0]);
    let late = committer.opens(P0, T1, &[3]);
    assert_eq!(committer.last(), ["dropped 1 of 0"]);
    assert_eq!(committer.completes(&late, &["a"], &[]), [""; 0]);
}

#[apply(offline_test)]
fn the_oldest_record_is_found_in_queues_and_in_flight() {
    let mut committer = Committer::serving(&[P0, P1]);
    let oldest = |committer: &Committer| {
        let work = committer.machine.open_work();
        let heads = work.iter().filter_map(|(partition, work)| Some((*partition, work.head?)));
        let oldest = heads.min_by_key(|(_, head)| head.timestamp_ms);
        let records: u64 = work.values().map(|work| work.records).sum();
        (records, oldest.map(|(partition, head)| (partition, head.offset.0, head.is_complete)))
    };
    assert_eq!(oldest(&committer), (0, None));
    let one = committer.opens(P1, T1, &[4, 5]);
    assert_eq!(oldest(&committer), (2, Some((P1, 4, false))));
    let zero = committer.opens(P0, T1, &[3]);
    assert_eq!(oldest(&committer), (3, Some((P0, 3, false))));
    committer.completes(&zero, &[], &[]);
    assert_eq!(oldest(&committer), (3, Some((P0, 3, true))), "it is in a transaction");
    committer.completes(&one, &[], &[]);
    committer.ends(aborted());
    assert_eq!(oldest(&committer), (3, Some((P0, 3, true))), "an abort commits nothing");
    committer.ticks(Duration::from_secs(1));
    committer.ends(committed());
    assert_eq!(oldest(&committer), (2, Some((P1, 4, true))));
    committer.ends(committed());
    assert_eq!(oldest(&committer), (0, None));
}

/// One transaction is in flight, and four DLQ records wait behind it, which together have the weight of the limit.
fn busy_with_four(committer: &mut Committer) -> Vec<u64> {
    committer.joins(P0, T1, None, 0);
    committer.ends(committed());
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

/// The words of a commit in the order of the harness.
fn sorted(commands: impl Into<String>) -> String {
    harness::in_order(&commands.into())
}
