//! The table of contents of what steward promises: one test binary, one module per promise.
//!
//! The harness is `libtest-mimic`, because whether a broker can be had is known only when the tests run: tests that
//! need one are then reported as ignored, by name, never as passed. A module lists its tests with [`trials!`]; a
//! function that it forgets is dead code, which clippy refuses.

/// Turns functions into named trials: `trials![a_sentence, another]`.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(libtest_mimic::Trial::test(concat!(module_path!(), "::", stringify!($name)), || { $name(); Ok(()) })),*]
    };
}
pub(crate) use trials;

mod event_source;
mod kafka_client;

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let mut tests = event_source::tests();
    tests.extend(kafka_client::tests());
    libtest_mimic::run(&arguments, tests).exit();
}
