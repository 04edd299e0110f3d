//! The attributes that turn a function into a test, and the list of all tests.
//!
//! `#[apply(offline_test)]` directly above `fn a_sentence()` registers the function under its path. So a test's name is
//! written once, and a function without an attribute is dead code, which the compiler reports.
//!
//! The harness is `libtest-mimic`, not the standard one, because only a running test finds out whether a broker is
//! available. Without a broker, a test that needs one is reported as ignored, with its name and the reason, and never as
//! passed.

#![allow(unused_macros, unused_imports, reason = "not every binary that includes this folder uses each of them")]

use libtest_mimic::Trial;

use super::broker::{Need, trial};
use super::times::measured;

/// How many tests run at the same time. Tests that need a broker mostly wait, so the number of cores does not limit
/// them. Memory does, because each of these tests may have a broker of its own.
pub const PARALLEL_TESTS: usize = 4;

/// A test that needs no broker.
macro_rules! offline_test {
    ($($function:tt)*) => { $crate::support::registry::register! { None, $($function)* } };
}
/// A test that needs the shared broker, and may run beside other tests.
macro_rules! broker_test {
    ($($function:tt)*) => {
        $crate::support::registry::register! { Some($crate::support::broker::Need::Shared), $($function)* }
    };
}
/// A test that needs the shared broker, and runs while no other broker test does.
macro_rules! lone_broker_test {
    ($($function:tt)*) => {
        $crate::support::registry::register! { Some($crate::support::broker::Need::SharedAlone), $($function)* }
    };
}
/// A test that needs brokers of its own.
macro_rules! own_broker_test {
    ($($function:tt)*) => {
        $crate::support::registry::register! { Some($crate::support::broker::Need::Own), $($function)* }
    };
}
/// A test that needs three brokers of its own.
macro_rules! cluster_test {
    ($($function:tt)*) => {
        $crate::support::registry::register! { Some($crate::support::broker::Need::Cluster), $($function)* }
    };
}
macro_rules! register {
    ($need:expr, $(#[$attribute:meta])* fn $name:ident() $body:block) => {
        $(#[$attribute])*
        fn $name() $body

        inventory::submit! {
            $crate::support::registry::RegisteredTest {
                path: concat!(module_path!(), "::", stringify!($name)),
                need: $need,
                function: $name,
            }
        }
    };
}
pub(crate) use register;

/// A function with one of the attributes.
pub struct RegisteredTest {
    pub path: &'static str,
    pub need: Option<Need>,
    pub function: fn(),
}

inventory::collect!(RegisteredTest);

/// Returns all tests of this binary, in the order in which they run.
///
/// Tests that wait for brokers come first, so that tests that compute run beside them. Tests that run alone come last,
/// so that no other test waits for them.
pub fn tests() -> Vec<Trial> {
    let mut tests: Vec<&RegisteredTest> = inventory::iter::<RegisteredTest>.into_iter().collect();
    tests.sort_by_key(|test| {
        let turn = match test.need {
            Some(Need::Shared | Need::Own | Need::Cluster) => 0,
            None => 1,
            Some(Need::SharedAlone) => 2,
        };
        (turn, test.path)
    });
    let trials = tests.into_iter().map(|&RegisteredTest { path, need, function }| match need {
        Some(need) => trial(path, need, function),
        None => Trial::test(path, move || {
            measured(path, function);
            Ok(())
        }),
    });
    trials.collect()
}
