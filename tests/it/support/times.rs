//! How long each test takes.
//!
//! `STEWARD_TEST_TIMES=FILE` appends a line for each test that passes: milliseconds, and the name. The time that a test
//! waited for its turn is not included.

use std::fs::File;
use std::io::Write as _;

use super::wait::now;

/// Runs a test, and writes its time to the file, if one is configured.
pub fn measured(name: &str, test: impl FnOnce()) {
    let began = now();
    test();
    let took_ms = began.elapsed().as_millis();
    if let Some(path) = std::env::var_os("STEWARD_TEST_TIMES") {
        let file = File::options().create(true).append(true).open(path);
        // One call, so that the lines of tests that end at the same time do not mix.
        let written = file.and_then(|mut file| file.write_all(format!("{took_ms:>8} {name}\n").as_bytes()));
        written.expect("the file of STEWARD_TEST_TIMES can be written");
    }
}
