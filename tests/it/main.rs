//! The table of contents of what steward promises: one test binary, one module per promise.
//!
//! The harness is `libtest-mimic`, because whether a broker can be had is known only when the tests run: tests that
//! need one are then reported as ignored, by name and with what was looked for, never as passed. A module lists its
//! tests with [`trials!`] or [`broker_trials!`]; a function that it forgets is dead code, which clippy refuses.

/// Turns functions into named trials: `trials![a_sentence, another]`.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(libtest_mimic::Trial::test(concat!(module_path!(), "::", stringify!($name)), || {
            $crate::support::times::told(concat!(module_path!(), "::", stringify!($name)), $name);
            Ok(())
        })),*]
    };
}
/// The same for tests that need a real Kafka, in one of the ways of [`support::broker::Need`]:
/// `broker_trials![Shared: a_sentence, another]`.
macro_rules! broker_trials {
    ($need:ident: $($name:ident),* $(,)?) => {
        vec![$($crate::support::broker::trial(
            concat!(module_path!(), "::", stringify!($name)),
            $crate::support::broker::Need::$need,
            $name,
        )),*]
    };
}

#[allow(dead_code, reason = "a kit: a helper stays when the last test that used it goes")]
mod support;

mod architecture;
mod broker_smoke;
mod centre;
mod cli;
mod commands;
mod config;
mod dlq;
mod docs;
mod engine;
mod event_source;
mod exactly_once;
mod faults;
mod handover;
mod kafka_client;
mod kafka_errors;
mod log_events;
mod log_reader;
mod logging;
mod partition_reader;
mod preflight;
mod probes;
mod recovery;
mod reference;
mod report;
mod security;
mod service;
mod shutdown;
mod simulation;
mod start;
mod stats;
mod status;
mod supervision;
mod telemetry;
mod top;
mod torn;
mod transactions;
mod workload;

fn main() {
    let mut arguments = libtest_mimic::Arguments::from_args();
    arguments.test_threads.get_or_insert(support::broker::AT_THE_SAME_TIME);
    let tests = [
        service::tests(),
        reference::trials(),
        centre::tests(),
        engine::tests(),
        workload::trials(),
        simulation::tests(),
        config::tests(),
        cli::tests(),
        commands::trials(),
        dlq::trials(),
        log_events::trials(),
        log_reader::trials(),
        top::trials(),
        report::trials(),
        telemetry::trials(),
        logging::tests(),
        stats::trials(),
        status::trials(),
        kafka_errors::trials(),
        preflight::trials(),
        broker_smoke::trials(),
        event_source::tests(),
        kafka_client::tests(),
        exactly_once::tests(),
        security::trials(),
        faults::trials(),
        handover::trials(),
        shutdown::trials(),
        probes::trials(),
        supervision::trials(),
        partition_reader::trials(),
        transactions::trials(),
        torn::trials(),
        recovery::trials(),
        start::trials(),
        docs::trials(),
        architecture::trials(),
    ];
    let tests = support::broker::in_good_order(tests.into_iter().flatten().collect());
    let conclusion = libtest_mimic::run(&arguments, tests);
    support::broker::end_shared();
    conclusion.exit();
}
