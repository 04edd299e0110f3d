//! Reads the OAUTHBEARER token from the file that another process renews.
//!
//! A token of another kind than a JWT says neither whose it is nor how long it is valid; the configuration does then.
//!
//! Absent on purpose: fetching tokens, and checking their signature: the broker checks it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use rdkafka::client::OAuthToken;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::SecurityConfig;

/// Base64 with the URL alphabet (RFC 4648, section 5). The last character may have bits that encode nothing.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the broker asks for an OAUTHBEARER token; set kafka.security.oauth_token_file")]
    NotConfigured,
    #[error("cannot read the OAUTHBEARER token from {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} does not hold a JWT ({why}); a JWT has three parts with dots between, the second with `sub` and `exp`: for another token set kafka.security.oauth_principal and kafka.security.oauth_token_lifetime_ms",
        path = path.display()
    )]
    NotAJwt { path: PathBuf, why: &'static str },
    #[error("{path} holds no token: it is empty, or has other characters than visible ASCII", path = path.display())]
    NotAToken { path: PathBuf },
}

/// Where the token is, and what it does not contain.
#[derive(Debug, Clone)]
pub(crate) struct TokenSource {
    file: PathBuf,
    /// Instead of the subject of a JWT.
    principal: Option<String>,
    /// From the time at which the file was written, instead of the expiry of a JWT.
    lifetime: Option<Duration>,
}

impl TokenSource {
    /// `None` if no file is configured.
    pub(crate) fn of(security: &SecurityConfig) -> Option<TokenSource> {
        Some(TokenSource {
            file: security.oauth_token_file.clone()?,
            principal: security.oauth_principal.clone(),
            lifetime: security.oauth_token_lifetime_ms.map(Duration::from_millis),
        })
    }

    pub(crate) fn read(&self) -> Result<OAuthToken, TokenError> {
        let unreadable = |source| TokenError::Unreadable { path: self.file.clone(), source };
        let held = std::fs::read_to_string(&self.file).map_err(unreadable)?;
        let token = held.trim();
        // The client library's own message about such a character would quote the token.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::NotAToken { path: self.file.clone() });
        }
        let not_a_jwt = |why| TokenError::NotAJwt { path: self.file.clone(), why };
        let principal_name = match &self.principal {
            Some(principal) => principal.clone(),
            None => claims::<Subject>(token).map_err(not_a_jwt)?.sub,
        };
        let lifetime_ms = match self.lifetime {
            Some(lifetime) => ms_since_1970(self.written_at().map_err(unreadable)? + lifetime),
            // A float is exact to the millisecond until the year 287396, and `as` saturates.
            None => (claims::<Expiry>(token).map_err(not_a_jwt)?.exp * 1_000.0) as i64,
        };
        Ok(OAuthToken { token: token.to_owned(), principal_name, lifetime_ms })
    }

    fn written_at(&self) -> std::io::Result<SystemTime> {
        std::fs::metadata(&self.file)?.modified()
    }
}

fn ms_since_1970(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[derive(Deserialize)]
struct Subject {
    sub: String,
}

#[derive(Deserialize)]
struct Expiry {
    exp: f64,
}

/// Reads claims of a JWT. An error has no part of the token.
fn claims<C: DeserializeOwned>(token: &str) -> Result<C, &'static str> {
    let mut parts = token.split('.');
    let (Some(_header), Some(payload), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("it has not three parts");
    };
    let payload = BASE64URL.decode(payload.trim_end_matches('=')).map_err(|_| "its second part is not base64url")?;
    // serde_json's message would quote the token.
    serde_json::from_slice(&payload).map_err(|_| "`sub` or `exp` is missing or of another type")
}
