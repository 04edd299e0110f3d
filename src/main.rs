//! The process. What it does stands in [`steward::cli`].

/// Of librdkafka and the other C libraries as well: records are allocated by one thread and freed by another, and what a
/// burst took goes back to the system afterwards.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the allocator reads as the process starts; the variable `MALLOC_CONF` overrides it. The number of arenas does not
/// follow that of the machine's processors, which in a container are not ours; and memory that is free goes back to the
/// system after a second.
// SAFETY: the allocator's own name for it, and of its type: a thin pointer to text that ends with a zero.
#[unsafe(export_name = "malloc_conf")]
static ALLOCATOR_OPTIONS: &[u8; 47] = b"narenas:8,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

fn main() -> std::process::ExitCode {
    steward::cli::main()
}
