//! Checks at the start that the system permits as many threads as the process needs.
//!
//! A thread that cannot be started fails in many ways: libraries panic, or abort the process, or go on without it. None
//! of them names the limit. So the threads are started once, all at the same time, before anything else is.

use std::fs;
use std::io;
use std::thread;

use crossbeam_channel::bounded;
use rustix::process::{Resource, getrlimit};

use crate::config::Config;

/// The main thread does not count. Log writer, log level, signals, topic watch, consumer, commit thread and its worker,
/// actors, and the watch of the credentials.
const THREADS: usize = 9;
/// The allocator's own.
const ALLOCATOR_THREADS: usize = 4;
/// Clients besides those of the recoveries: consumer, producer, its successor, topic watch, the reader of committed
/// offsets.
const CLIENTS: usize = 5;
/// Each recovery reads committed and uncommitted records.
const CLIENTS_PER_RECOVERY: usize = 2;
/// A client has a thread of its own, one for the coordinator, and one for each address and each broker.
const THREADS_PER_CLIENT: usize = 2;
/// The least number of brokers to be prepared for. Only the first contact shows how many there are.
const MIN_BROKERS: usize = 3;
/// The most recoveries at a time to be prepared for. There are no more than partitions, whose number is not known yet.
const MAX_RECOVERIES: usize = 16;
const STACK_BYTES: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
#[error(
    "this process needs about {needed} threads, and the system permits only {permitted} ({limits}): {cause}; raise the limit of processes and threads of the container, the node or the user, see \"Threads\" in docs/operating.md"
)]
pub(super) struct TooFewThreads {
    needed: usize,
    permitted: usize,
    limits: String,
    cause: io::Error,
}

/// Starts as many threads as the process needs, and ends them again.
pub(super) fn check(config: &Config, entity_threads: usize) -> Result<(), TooFewThreads> {
    let needed = needed(config, entity_threads);
    let (release, released) = bounded::<()>(0);
    let mut started = Vec::with_capacity(needed);
    let mut refused = None;
    while started.len() < needed && refused.is_none() {
        let released = released.clone();
        // Waits until the sender is dropped.
        let wait = move || {
            let _ = released.recv();
        };
        match thread::Builder::new().name("probe".to_owned()).stack_size(STACK_BYTES).spawn(wait) {
            Ok(thread) => started.push(thread),
            Err(cause) => refused = Some(cause),
        }
    }
    let permitted = started.len();
    drop(release);
    for thread in started {
        // It cannot panic.
        let _ = thread.join();
    }
    refused.map_or(Ok(()), |cause| Err(TooFewThreads { needed, permitted, limits: limits(), cause }))
}

fn needed(config: &Config, entity_threads: usize) -> usize {
    let recoveries = config.recovery.max_parallel_partitions.min(MAX_RECOVERIES);
    let addresses = config.kafka.bootstrap_servers.split(',').count();
    let clients = CLIENTS + CLIENTS_PER_RECOVERY * recoveries;
    let in_clients = clients * (THREADS_PER_CLIENT + addresses + addresses.max(MIN_BROKERS));
    THREADS + ALLOCATOR_THREADS + entity_threads + recoveries + in_clients
}

/// The limits that can be read from here. A node may have others.
fn limits() -> String {
    let user = getrlimit(Resource::Nproc).current.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let container = fs::read_to_string("/sys/fs/cgroup/pids.max").ok();
    let container = container.as_deref().map_or("unknown", str::trim);
    format!("limit of the user: {user}, of the container: {container}")
}
