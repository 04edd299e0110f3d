//! What tests and the tools `demo` and `produce` need: the reference model, the workload generator, and the fakes.

pub mod memory;
pub mod reference;
pub mod workload;
