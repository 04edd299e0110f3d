//! Measures single steps: `cargo bench --bench micro`, or `-- NAME` for some of them.
//!
//! `decide` decodes, validates and applies one event, for each kind of event. `actors` measures records from the ingest
//! actor to the content of a transaction, without a Kafka. The client library and the brokers are not part of it.

mod actors;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use steward::entity::{Entity as _, RawEvent};
use steward::record::{Batch, Epoch, Header, Offset, Partition, Position};
use steward::service::{Service, State};

const TIMESTAMP_MS: Option<i64> = Some(1_769_860_800_000);
const KEY: &[u8] = b"4242";
const CREATED: &str = r#"{"eventType":"ServiceCreated","id":4242,"name":"Web development","description":"Full stack, from the first sketch to the last deployment","tags":["web","backend","remote"],"pricePerHour":120.5}"#;
const PRICE_UPDATED: &str = r#"{"eventType":"ServiceUpdated","id":4242,"pricePerHour":200}"#;
const TEXT_UPDATED: &str = r#"{"eventType":"ServiceUpdated","id":4242,"name":"Web design","description":"Full stack, and pictures as well","tags":["web","design"]}"#;
const DELETED: &str = r#"{"eventType":"ServiceDeleted","id":4242}"#;
const INVALID: &str = r#"{"eventType":"ServiceUpdated","id":4242,"name":"","pricePerHour":-1}"#;

fn main() {
    let mut criterion = Criterion::default().measurement_time(Duration::from_secs(3)).configure_from_args();
    decide(&mut criterion);
    snapshots(&mut criterion);
    batches(&mut criterion);
    actors::measure(&mut criterion);
    criterion.final_summary();
}

fn event(value: &str) -> RawEvent<'_> {
    RawEvent { key: KEY, value: value.as_bytes(), timestamp_ms: TIMESTAMP_MS }
}

fn live() -> State {
    Service.apply(&State::Absent, event(CREATED)).expect("a creation of an absent service is accepted")
}

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    let cases = [
        ("created", State::Absent, CREATED),
        ("price_updated", live(), PRICE_UPDATED),
        ("text_updated", live(), TEXT_UPDATED),
        ("deleted", live(), DELETED),
        ("invalid", live(), INVALID),
    ];
    for (name, state, value) in cases {
        group
            .bench_function(name, |bencher| bencher.iter(|| Service.apply(black_box(&state), event(black_box(value)))));
    }
    group.finish();
}

fn snapshots(criterion: &mut Criterion) {
    let state = live();
    let snapshot = Service.encode(&state).expect("a live service has a snapshot");
    let mut group = criterion.benchmark_group("snapshot");
    group.bench_function("encode", |bencher| bencher.iter(|| Service.encode(black_box(&state))));
    group.bench_function("decode", |bencher| bencher.iter(|| Service.decode(black_box(&snapshot))));
    group.finish();
}

/// The copy that the poll thread makes of each record.
fn batches(criterion: &mut Criterion) {
    const RECORDS: i64 = 8_192;
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(RECORDS.unsigned_abs()));
    let traceparent = Header { name: "traceparent", value: Some(&[b'0'; 55]) };
    for (name, headers) in [("copy", &[][..]), ("copy_traced", &[traceparent][..])] {
        group.bench_function(name, |bencher| {
            let fill = || {
                let mut batch = Batch::new(Partition(0), Epoch(1), Position(0));
                for offset in 0..RECORDS {
                    let headers = headers.iter().copied();
                    batch.push(Offset(offset), TIMESTAMP_MS, Some(KEY), Some(TEXT_UPDATED.as_bytes()), headers);
                }
                batch
            };
            bencher.iter_batched(|| (), |()| fill(), BatchSize::PerIteration);
        });
    }
    group.finish();
}
