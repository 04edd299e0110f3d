//! The process. [`steward::cli`] has the rest.

/// jemalloc, also for librdkafka and the other C libraries. Records are allocated by one thread and freed by another,
/// and memory that a burst needed goes back to the system afterwards.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The options that the allocator reads when the process starts. The variable `MALLOC_CONF` overrides them. The number
/// of arenas is fixed, because a container does not own all processors of its machine. Free memory goes back to the
/// system after a second.
// SAFETY: the name is the one that the allocator defines, and the type matches: a thin pointer to text that ends with a
// zero byte.
#[expect(unsafe_code, reason = "the allocator reads its options from a symbol of this name")]
#[unsafe(export_name = "malloc_conf")]
static ALLOCATOR_OPTIONS: &[u8; 47] = b"narenas:8,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

fn main() -> std::process::ExitCode {
    steward::cli::main()
}
