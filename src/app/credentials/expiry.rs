//! Finds when the certificates of a file expire, and decides when to report it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// A certificate is reported when this much is left, or a fifth of its lifetime if that is less: short-lived ones are
/// replaced late.
const MAX_LEFT_MS: i64 = 14 * DAY_MS;
const SHARE_LEFT: i64 = 5;
/// Time between two reports of one file.
const REPEAT_MS: i64 = DAY_MS;
/// The key of the authorities' file. It may keep old certificates, so the last one to expire counts.
const CA_KEY: &str = "kafka.security.ca_file";

/// The validity of a certificate, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateExpiry {
    pub not_before_ms: i64,
    pub not_after_ms: i64,
}

impl CertificateExpiry {
    /// RFC 3339, in UTC.
    pub fn not_after_text(self) -> String {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.not_after_ms) * 1_000_000);
        let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        time.format(&Rfc3339).unwrap_or_else(|_| "after the year 9999".to_owned())
    }

    fn is_near(self, now_ms: i64) -> bool {
        let lifetime_ms = self.not_after_ms.saturating_sub(self.not_before_ms);
        self.not_after_ms.saturating_sub(now_ms) <= MAX_LEFT_MS.min(lifetime_ms / SHARE_LEFT)
    }
}

/// Returns the certificate that decides when the file has to be replaced; `None` if the file has no certificate that
/// can be parsed. The client library judges such a file.
pub fn expiry_of(key: &str, pem: &[u8]) -> Option<CertificateExpiry> {
    let text = String::from_utf8_lossy(pem);
    let found = certificates(&text).filter_map(|der| validity(&der));
    if key == CA_KEY {
        found.max_by_key(|expiry| expiry.not_after_ms)
    } else {
        found.min_by_key(|expiry| expiry.not_after_ms)
    }
}

/// Returns the certificates of a PEM file in DER. Keys and texts between them are left out.
fn certificates(pem: &str) -> impl Iterator<Item = Vec<u8>> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    pem.split(BEGIN).skip(1).filter_map(|rest| {
        let (body, _) = rest.split_once(END)?;
        let body: String = body.split_whitespace().collect();
        BASE64_STANDARD.decode(body).ok()
    })
}

fn validity(der: &[u8]) -> Option<CertificateExpiry> {
    let certificate = Certificate::from_der(der).ok()?;
    let validity = certificate.tbs_certificate().validity();
    let millis = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_millis()).ok();
    Some(CertificateExpiry { not_before_ms: millis(validity.not_before)?, not_after_ms: millis(validity.not_after)? })
}

/// Limits the reports: one per file and day.
#[derive(Debug, Default)]
pub struct ExpiryWatch {
    reported_ms: BTreeMap<String, i64>,
}

impl ExpiryWatch {
    /// Returns whether to report the certificate, and remembers it.
    pub fn is_due(&mut self, key: &str, expiry: &CertificateExpiry, now_ms: i64) -> bool {
        let is_recent = self.reported_ms.get(key).is_some_and(|last_ms| now_ms.saturating_sub(*last_ms) < REPEAT_MS);
        if !expiry.is_near(now_ms) || is_recent {
            return false;
        }
        self.reported_ms.insert(key.to_owned(), now_ms);
        true
    }
}
