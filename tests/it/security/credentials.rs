//! Certificates and passwords that change while the process runs, and certificates that expire.

use std::collections::BTreeMap;

use steward::app::credentials::{CertificateExpiry, CredentialWatch, ExpiryWatch, FileState, WatchStep, expiry_of};
use steward::exit_code::ExitCode;

use super::certificates::{EXPIRED, KEY, LATE};
use super::{PASSWORD, USER, assert_hidden};
use crate::cli::folder;
use crate::support::kafka::Kafka;
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::wait::PATIENCE;

const CERTIFICATE: &str = "kafka.security.certificate_file";
const CA: &str = "kafka.security.ca_file";
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const JANUARY_2020_MS: i64 = 1_577_836_800_000;
const FEBRUARY_2020_MS: i64 = JANUARY_2020_MS + 31 * DAY_MS;
const YEAR_2060_MS: i64 = 2_840_140_800_000;

/// The process waits for a broker, so the test needs none. With a broker: `security::every_client_connects_...`.
#[apply(offline_test)]
fn a_changed_password_ends_the_process_cleanly_and_an_unusable_one_does_not() {
    let folder = folder();
    let password_file = folder.write("password", PASSWORD);
    let mut security = toml::Table::new();
    for (key, value) in [
        ("protocol", "sasl_plaintext".into()),
        ("sasl_mechanism", "plain".into()),
        ("username", USER.into()),
        ("password_file", password_file.as_str().into()),
        ("reload_spread_ms", toml::Value::Integer(0)),
    ] {
        security.insert(key.to_owned(), value);
    }
    let mut steward = Setup::new(&Kafka::at("127.0.0.1:1"), &Names::new()).set("kafka.security", security).start();
    steward.wait_for_event("topic_awaited", PATIENCE);

    folder.write("password", "zw3i\nz3ilen\n");
    let refused = steward.wait_for_event("credentials_refused", PATIENCE);
    assert_eq!(refused["files"], "kafka.security.password_file");
    assert!(refused["problem"].as_str().is_some_and(|problem| problem.contains("more than one line")), "{refused}");
    assert!(steward.is_running());

    folder.write("password", "another geh3im");
    assert_eq!(steward.wait_exit(PATIENCE), i32::from(ExitCode::CredentialsChanged.code()), "{}", steward.tail());
    let changed = steward.wait_for_event("credentials_changed", PATIENCE);
    assert_eq!((&changed["files"], &changed["leaves_in_ms"]), (&"kafka.security.password_file".into(), &0.into()));
    assert_eq!(steward.wait_for_event("process_stopping", PATIENCE)["cause"], "credentials_changed");
    assert_eq!(steward.wait_for_event("process_stopped", PATIENCE)["exit_code"], 16);
    assert_eq!(steward.events("credentials_refused").len(), 1, "each content is reported once");
    steward.assert_no_errors_but(&[]);
    for secret in [PASSWORD, "zw3i", "z3ilen", "geh3im"] {
        assert_hidden(&steward.output(), secret);
    }
}

#[apply(offline_test)]
fn a_change_counts_when_it_reads_the_same_twice_and_once_for_each_content() {
    let files = |certificate: u64, key: Option<u64>| {
        let key = key.map_or(FileState::Unreadable, FileState::Content);
        BTreeMap::from([("certificate", FileState::Content(certificate)), ("key", key)])
    };
    let mut watch = CredentialWatch::new(files(1, Some(1)));
    let mut check = |seen, step| assert_eq!(watch.observe(seen), step);
    check(files(1, Some(1)), WatchStep::Unchanged);
    // The certificate is replaced before its key.
    check(files(2, Some(1)), WatchStep::Unconfirmed);
    check(files(2, None), WatchStep::Unconfirmed);
    check(files(2, Some(2)), WatchStep::Unconfirmed);
    check(files(2, Some(2)), WatchStep::Changed(vec!["certificate", "key"]));
    check(files(2, Some(2)), WatchStep::Unchanged);
    check(files(1, Some(2)), WatchStep::Unconfirmed);
    check(files(1, Some(2)), WatchStep::Changed(vec!["key"]));
    // Back to what the process has read.
    check(files(1, Some(1)), WatchStep::Unconfirmed);
    check(files(1, Some(1)), WatchStep::Unchanged);
    // A glitch of one read.
    check(files(1, None), WatchStep::Unconfirmed);
    check(files(1, Some(1)), WatchStep::Unchanged);
    check(files(1, None), WatchStep::Unconfirmed);
    check(files(1, None), WatchStep::Changed(vec!["key"]));
}

#[apply(offline_test)]
fn the_certificate_that_decides_is_the_first_to_expire_or_the_last_authority() {
    let expired = CertificateExpiry { not_before_ms: JANUARY_2020_MS, not_after_ms: FEBRUARY_2020_MS };
    let late = CertificateExpiry { not_before_ms: JANUARY_2020_MS, not_after_ms: YEAR_2060_MS };
    let both = format!("a comment\n{EXPIRED}{KEY}{LATE}");
    let with_returns = EXPIRED.replace('\n', "\r\n");
    for (key, pem, expected) in [
        (CERTIFICATE, EXPIRED, Some(&expired)),
        (CERTIFICATE, with_returns.as_str(), Some(&expired)),
        (CERTIFICATE, both.as_str(), Some(&expired)),
        (CA, both.as_str(), Some(&late)),
        (CERTIFICATE, KEY, None),
        (CERTIFICATE, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None),
        (CERTIFICATE, &EXPIRED[..200], None),
    ] {
        assert_eq!(expiry_of(key, pem.as_bytes()).as_ref(), expected, "{pem}");
    }
    assert_eq!(expired.not_after_text(), "2020-02-01T00:00:00Z");
    assert_eq!(late.not_after_text(), "2060-01-01T00:00:00Z");
}

#[apply(offline_test)]
fn an_expiry_is_reported_early_enough_and_once_a_day() {
    let lasting = |days: i64| CertificateExpiry { not_before_ms: 0, not_after_ms: days * DAY_MS };
    let is_due = |expiry: &CertificateExpiry, now_ms: i64| ExpiryWatch::default().is_due(CA, expiry, now_ms);
    // Two weeks before the end of a year, a fifth of a short life before its end, and afterwards.
    for (days, first_day) in [(365, 351), (30, 24), (5, 4)] {
        assert!(!is_due(&lasting(days), first_day * DAY_MS - 1), "{days}");
        assert!(is_due(&lasting(days), first_day * DAY_MS), "{days}");
        assert!(is_due(&lasting(days), 1_000 * DAY_MS), "{days}");
    }
    let mut watch = ExpiryWatch::default();
    let mut is_due = |key: &str, now_ms: i64| watch.is_due(key, &lasting(10), now_ms);
    assert!(is_due(CA, 9 * DAY_MS));
    assert!(!is_due(CA, 10 * DAY_MS - 1));
    assert!(is_due(CERTIFICATE, 10 * DAY_MS - 1), "each file has its own report");
    assert!(is_due(CA, 10 * DAY_MS));
}
