//! Support for tests and for the tools `demo` and `produce`: reference model, workload generator, in-memory fakes.

pub mod memory;
pub mod reference;
pub mod workload;
