//! The text of `steward --version`.

use std::sync::OnceLock;

use crate::config::Tls;
use crate::kafka::client::settings;

/// Returns, for example, `0.1.0 (librdkafka 2.12.1, with TLS)`.
pub(crate) fn line() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let library = settings::library();
        let tls = match library.tls {
            Tls::BuiltIn => "with TLS",
            Tls::Absent => "without TLS: build with the feature `tls` for it",
        };
        format!("{} (librdkafka {}, {tls})", env!("CARGO_PKG_VERSION"), library.version)
    })
}
