//! How many bytes a transaction carries: small at first, as many as the brokers can take in a part of the transaction
//! timeout, and never too few or too many for a commit.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config;
use steward::engine::commit::limit::{FIRST_BYTES, LEAST_READ_AHEAD_BYTES, TransactionLimit};
use steward::engine::commit::transaction::CommitOutcome;
use steward::record::Epoch;

use super::group_commit::{Committer, committed};
use super::{P0, P1, batch_of, rejected_of};

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BYTES: u64 = 32 << 20;

#[apply(offline_test)]
fn quick_transactions_raise_the_limit_to_the_configured_one() {
    let mut limit = TransactionLimit::new(MAX_BYTES, TIMEOUT);
    let mut limits = Vec::new();
    while limit.bytes() < MAX_BYTES {
        limit.committed(limit.bytes(), Duration::from_millis(300));
        limits.push(limit.bytes() / FIRST_BYTES);
    }
    assert_eq!(limits, [4, 16, 32, 64, 128, 256, 512]);
    limit.committed(limit.bytes(), Duration::from_millis(300));
    assert_eq!(limit.bytes(), MAX_BYTES);
}

#[apply(offline_test)]
fn each_row_of_the_table_holds() {
    let after = |carried: u64, took_ms: u64| {
        let mut limit = TransactionLimit::new(MAX_BYTES, TIMEOUT);
        (0..2).for_each(|_| limit.committed(limit.bytes(), Duration::ZERO));
        assert_eq!(limit.bytes(), 16 * FIRST_BYTES);
        limit.committed(carried * FIRST_BYTES, Duration::from_millis(took_ms));
        limit.bytes() * 4 / FIRST_BYTES
    };
    for (carried, took_ms, quarters, why) in [
        (16, 312, 128, "quick"),
        (16, 313, 80, "not as quick"),
        (16, 1_250, 64, "slow enough"),
        (16, 2_500, 32, "too slow"),
        (3, 2_500, 6, "too slow, although it carried less than it may"),
        (1, 2_500, 4, "the time does not depend on the size"),
        (8, 0, 128, "as large as permitted, less a batch"),
        (7, 0, 64, "small, which shows nothing about larger ones"),
        (40, 0, 128, "a batch that is larger than the limit"),
    ] {
        assert_eq!(after(carried, took_ms), quarters, "{carried} in {took_ms} ms: {why}");
    }
}

#[apply(offline_test)]
fn after_a_failure_the_next_carries_half_and_no_more_than_the_first() {
    let mut limit = TransactionLimit::new(MAX_BYTES, TIMEOUT);
    (0..9).for_each(|_| limit.committed(limit.bytes(), Duration::ZERO));
    limit.failed(MAX_BYTES);
    assert_eq!(limit.bytes(), FIRST_BYTES);
    limit.failed(1_000);
    assert_eq!(limit.bytes(), 500, "half of what was sent");
    (0..20).for_each(|_| limit.failed(u64::MAX));
    assert_eq!(limit.bytes(), 1, "one batch of one record");
}

#[apply(offline_test)]
fn a_batch_that_times_out_twice_is_read_again_in_smaller_batches() {
    let mut committer = Committer::with_limit(4 * rejected_weight());
    committer.joins(P0, T1, None, 0);
    committer.joins(P1, T1, None, 0);
    committer.ends(committed());
    committer.ends(committed());
    let large = committer.opens(P0, T1, &[0, 1, 2, 3]);
    let single = committer.opens(P1, T1, &[0]);
    committer.opens(P1, T1, &[1]);
    assert_eq!(committer.completes(&large, &[], &[0, 1, 2, 3]), ["commit 3 0:0..4 !0.0 !0.1 !0.2 !0.3"]);
    committer.completes(&single, &[], &[0]);
    committer.ends(timed_out());
    assert_eq!(committer.ticks(Duration::from_secs(1)), ["commit 4 0:0..4 !0.0 !0.1 !0.2 !0.3"], "never split");
    let commands = committer.ends(timed_out());
    assert_eq!(commands[..3], ["log aborted 4 attempt 2", "dropped 4 of 0", "invalidate 0 epoch 1"]);
    assert_eq!(commands[3..], ["commit 5 1:0..1 !1.0"], "the other partition goes on: its batches are small");
    assert_eq!(committer.machine.limit().bytes(), rejected_weight());
}

#[apply(offline_test)]
fn a_record_that_times_out_is_sent_again_and_again() {
    let mut committer = Committer::with_limit(rejected_weight());
    committer.joins(P0, T1, None, 0);
    committer.ends(committed());
    let read = committer.opens(P0, T1, &[0]);
    committer.completes(&read, &[], &[0]);
    for _ in 0..10 {
        committer.ends(timed_out());
        let commands = committer.ticks(Duration::from_secs(2));
        assert!(commands.len() == 1 && commands[0].ends_with("0:0..1 !0.0"), "{commands:?}");
    }
}

#[apply(offline_test)]
fn a_minimum_interval_counts_from_the_begin_of_a_transaction() {
    let ms = Duration::from_millis;
    let mut committer = Committer::with_interval(P0, ms(100));
    let read = committer.opens(P0, T1, &[0]);
    assert_eq!(committer.completes(&read, &["a"], &[]), [""; 0]);
    assert_eq!(committer.wait(), Some(ms(100)));
    assert_eq!(committer.ticks(ms(99)), [""; 0]);
    assert_eq!(committer.ticks(ms(1)), ["commit 2 0:0..1 0.a@0"]);
    let read = committer.opens(P0, T1, &[1]);
    committer.completes(&read, &["a"], &[]);
    committer.ticks(ms(70));
    assert_eq!(committer.ends(committed()), ["committed 2 batches [2]"]);
    assert_eq!(committer.wait(), Some(ms(30)), "the transaction itself took 70 ms");
}

#[apply(offline_test)]
fn a_minimum_interval_ends_with_a_full_transaction_a_revocation_or_a_stop() {
    let interval = Duration::from_secs(1);
    let lingers_with_work = || {
        let mut committer = Committer::with_interval(P0, interval);
        let read = committer.opens(P0, T1, &[0]);
        assert_eq!(committer.completes(&read, &["a"], &[]), [""; 0]);
        committer
    };
    assert_eq!(lingers_with_work().revokes(1, &[(P0, T1)]), ["commit 2 0:0..1 0.a@0"]);
    assert_eq!(lingers_with_work().stops(), ["commit 2 0:0..1 0.a@0"]);

    let mut committer = lingers_with_work();
    let offsets: Vec<i64> = (1..2_000).collect();
    let read = committer.opens(P0, T1, &offsets);
    let commands = committer.completes(&read, &["a"], &[]);
    assert!(commands[0].starts_with("commit 2 0:0.."), "more than the limit waits: {commands:?}");
}

const T1: Epoch = Epoch(1);

fn rejected_weight() -> u64 {
    rejected_of(&std::sync::Arc::new(batch_of(P0, T1, &[0])), 0).weight_bytes()
}

fn timed_out() -> CommitOutcome {
    CommitOutcome::Aborted { cause: "too slow".into(), timed_out: true }
}

#[apply(offline_test)]
fn little_is_read_ahead_at_the_start_and_while_the_brokers_are_slow() {
    let mut limit = TransactionLimit::new(MAX_BYTES, TIMEOUT);
    assert_eq!((limit.batch_bytes(), limit.read_ahead_bytes()), (FIRST_BYTES / 4, LEAST_READ_AHEAD_BYTES));
    (0..3).for_each(|_| limit.committed(limit.bytes(), Duration::ZERO));
    assert_eq!((limit.batch_bytes(), limit.read_ahead_bytes()), (8 * FIRST_BYTES, 128 * FIRST_BYTES));
    let mut limit = TransactionLimit::new(MAX_BYTES, TIMEOUT);
    limit.failed(FIRST_BYTES);
    assert_eq!((limit.batch_bytes(), limit.read_ahead_bytes()), (FIRST_BYTES / 8, 2 * FIRST_BYTES));
    while limit.bytes() < MAX_BYTES {
        limit.committed(limit.bytes(), Duration::ZERO);
    }
    assert_eq!((limit.batch_bytes(), limit.read_ahead_bytes()), (MAX_BYTES / 4, u64::MAX));
}

#[apply(offline_test)]
fn after_a_failure_the_limit_doubles_only_to_half_of_what_failed() {
    let mut limit = TransactionLimit::new(MAX_BYTES, TIMEOUT);
    (0..4).for_each(|_| limit.committed(limit.bytes(), Duration::ZERO));
    limit.failed(16 * FIRST_BYTES);
    let limits: Vec<u64> = (0..6)
        .map(|_| {
            limit.committed(limit.bytes(), Duration::ZERO);
            limit.bytes() * 100 / FIRST_BYTES
        })
        .collect();
    assert_eq!(limits, [200, 400, 800, 1_000, 1_250, 1_562]);
    let mut transactions = 0;
    while limit.bytes() < MAX_BYTES {
        limit.committed(limit.bytes(), Duration::ZERO);
        transactions += 1;
    }
    assert_eq!(transactions, 16, "an outage costs some 22 transactions of a few milliseconds");
}

/// A broker that takes `rate` bytes a second, after a burst, with some time for each transaction.
#[derive(Debug, Clone, Copy)]
struct SlowBroker {
    rate: u64,
    burst_s: u64,
    each_ms: u64,
    record_bytes: u64,
}

fn slow_broker() -> impl Strategy<Value = SlowBroker> {
    let rate = prop_oneof![1_000..30_000_u64, 30_000..5_000_000_u64];
    (rate, 0..12_u64, 0..250_u64, 1..1_000_000_u64).prop_map(|(rate, burst_s, each_ms, record_bytes)| {
        // One record fits into the timeout.
        SlowBroker { rate, burst_s, each_ms, record_bytes: 1 + record_bytes % (7 * rate) }
    })
}

#[apply(offline_test)]
fn it_goes_on_at_any_rate_at_which_one_record_fits_into_the_timeout() {
    let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
    let result = crate::support::chance::runner(config).run(&slow_broker(), |broker| {
        let mut limit = TransactionLimit::new(MAX_BYTES, TIMEOUT);
        let (mut now_ms, mut free_at_ms) = (0_u64, 0_u64);
        let (mut committed_bytes, mut committed_at_ms, mut failures) = (0_u64, 0_u64, 0);
        while now_ms < 600_000 {
            // A batch is never split, and has one record at least.
            let records = (limit.bytes() / broker.record_bytes).max(1);
            let carried = records * broker.record_bytes;
            // The broker delays what comes next until the bytes would have been transferred, less the burst.
            free_at_ms = free_at_ms.max(now_ms.saturating_sub(1_000 * broker.burst_s)) + 1_000 * carried / broker.rate;
            let took_ms = free_at_ms.saturating_sub(now_ms) + broker.each_ms;
            let took = Duration::from_millis(took_ms);
            if took < TIMEOUT {
                now_ms += took_ms.max(1);
                limit.committed(carried, took);
                committed_bytes += carried;
                prop_assert!(now_ms - committed_at_ms < 40_000, "nothing for {} ms", now_ms - committed_at_ms);
                committed_at_ms = now_ms;
            } else {
                // Another connection, which the broker does not delay yet.
                now_ms += 10_000;
                free_at_ms = now_ms;
                failures += 1;
                limit.failed(carried);
            }
        }
        let possible = broker.rate * 600;
        prop_assert!(failures < 12, "{} transactions failed", failures);
        prop_assert!(committed_bytes > possible / 4, "{} of {} bytes", committed_bytes, possible);
        Ok(())
    });
    if let Err(broken) = result {
        panic!("{broken}");
    }
}
