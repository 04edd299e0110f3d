//! Reads the OAUTHBEARER token from the file that another process renews.
//!
//! Absent on purpose: fetching tokens, and checking their signature. The broker checks it.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use rdkafka::client::OAuthToken;
use serde::Deserialize;

/// Base64 with the URL alphabet (RFC 4648, section 5). The last character may have bits that encode nothing.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the broker asks for an OAUTHBEARER token; set kafka.security.oauth_token_file")]
    NotConfigured,
    #[error("cannot read the OAUTHBEARER token from {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} does not hold a JWT ({why}); it needs three parts with dots between, the second with `sub` and `exp`",
        path = path.display()
    )]
    NotAToken { path: PathBuf, why: String },
}

pub(crate) fn read_token(path: &Path) -> Result<OAuthToken, TokenError> {
    let held =
        std::fs::read_to_string(path).map_err(|source| TokenError::Unreadable { path: path.to_owned(), source })?;
    parse_token(held.trim()).map_err(|why| TokenError::NotAToken { path: path.to_owned(), why })
}

/// Reads the subject and the expiry of a JWT. An error has no part of the token.
fn parse_token(token: &str) -> Result<OAuthToken, String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
        exp: f64,
    }
    let mut parts = token.split('.');
    let (Some(_header), Some(payload), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("it has not three parts".to_owned());
    };
    let payload = BASE64URL.decode(payload.trim_end_matches('=')).map_err(|_| "its second part is not base64url")?;
    // serde_json's message would quote the token.
    let claims: Claims =
        serde_json::from_slice(&payload).map_err(|_| "`sub` or `exp` is missing or of another type")?;
    // A float is exact to the millisecond until the year 287396, and `as` saturates.
    let lifetime_ms = (claims.exp * 1_000.0) as i64;
    Ok(OAuthToken { token: token.to_owned(), principal_name: claims.sub, lifetime_ms })
}
