//! The files that a configuration names: secrets are read once, at the start; the others have to exist.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::keys::{FileContent, ValueKind};
use crate::config::properties::REVOKED_CERTIFICATES;
use crate::config::value::shown;
use crate::config::{Effective, Mistake, Secret, keys};

/// No password, token or PEM file is larger. A path that names a device or a log by mistake cannot fill the memory.
const MAX_FILE_BYTES: u64 = 1_048_576;

const TOKEN_KEY: &str = "kafka.security.oauth_token_file";

/// Reads the secrets into their fields and checks the other files; returns the mistakes. Keys in `bad` are left out.
pub(super) fn read(effective: &mut Effective, bad: &BTreeSet<String>) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let values = effective.values();
    for key in keys::all().filter(|key| !bad.contains(key.path)) {
        let (ValueKind::File(content), Some(value)) = (key.kind, values.get(key.path)) else { continue };
        match check(Path::new(value.as_str().unwrap_or_default()), content) {
            Ok(None) => {}
            Ok(Some(secret)) => keep(effective, key.path, secret),
            Err(problem) => mistakes.push(Mistake {
                key: key.path.to_owned(),
                found: shown(key, &value.to_string()),
                origin: effective.origin(key.path),
                problem,
                remedy: "name a file that holds it and that this process may read".to_owned(),
            }),
        }
    }
    mistakes
}

/// The property may name a folder, which is not watched.
const CRL_KEY: &str = "kafka.properties.ssl.crl.location";

/// Lists of revoked certificates are larger than the other files.
const MAX_WATCHED_BYTES: u64 = 16 << 20;

/// A file with certificates, a key or a password, which the clients read when they are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialFile {
    /// The key that names it.
    pub key: &'static str,
    pub path: PathBuf,
}

impl CredentialFile {
    /// Reads the file; an error is why it cannot be used.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        bytes(&self.path, MAX_WATCHED_BYTES)
    }
}

/// Returns the files of `kafka.security`, except the token, which is read whenever a new one is due; and the list of
/// revoked certificates.
pub(super) fn credentials(effective: &Effective) -> Vec<CredentialFile> {
    let values = effective.values();
    let files = keys::all().filter_map(|key| {
        let is_credential =
            matches!(key.kind, ValueKind::File(FileContent::Pem | FileContent::Secret)) && key.path != TOKEN_KEY;
        let path = values.get(key.path).and_then(toml::Value::as_str).filter(|_| is_credential)?;
        Some(CredentialFile { key: key.path, path: path.into() })
    });
    let revoked = effective.config.kafka.properties.get(REVOKED_CERTIFICATES);
    let revoked = revoked.map(|path| CredentialFile { key: CRL_KEY, path: path.into() });
    files.chain(revoked).collect()
}

/// Puts the content of a file into the field of its secret. The token is not kept: it is read whenever a new one is due.
fn keep(effective: &mut Effective, path: &str, secret: Secret) {
    let security = &mut effective.config.kafka.security;
    match path {
        "kafka.security.password_file" => security.password = Some(secret),
        "kafka.security.key_password_file" => security.key_password = Some(secret),
        "log.key_hash_secret_file" => effective.config.log.key_hash_secret = Some(secret),
        _ => {}
    }
}

/// Returns the secret that the file holds, if it has to hold one.
fn check(path: &Path, content: FileContent) -> Result<Option<Secret>, String> {
    match content {
        FileContent::Written => Ok(None),
        FileContent::Secret => secret(bytes(path, MAX_FILE_BYTES)?).map(Some),
        FileContent::LongSecret(min_bytes) => {
            let secret = secret(bytes(path, MAX_FILE_BYTES)?)?;
            if secret.reveal().len() < min_bytes {
                return Err(format!("is a file with fewer than {min_bytes} bytes"));
            }
            Ok(Some(secret))
        }
        // The client library reads PEM files itself.
        FileContent::Pem => pem(&bytes(path, MAX_FILE_BYTES)?).map(|()| None),
    }
}

fn bytes(path: &Path, max_bytes: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(read) if read as u64 > max_bytes => Err(format!("is a file of more than {max_bytes} bytes")),
        Ok(_) if bytes.trim_ascii().is_empty() => Err("is an empty file".to_owned()),
        Ok(_) => Ok(bytes),
    }
}

/// The text without the line break that editors add at the end.
fn secret(bytes: Vec<u8>) -> Result<Secret, String> {
    let text = String::from_utf8(bytes).map_err(|_| "is a file that is not UTF-8".to_owned())?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.contains(char::is_control) {
        return Err("is a file with more than one line, or with control characters".to_owned());
    }
    Ok(Secret::new(text))
}

fn pem(bytes: &[u8]) -> Result<(), String> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let found = bytes.windows(BEGIN.len()).any(|window| window == BEGIN);
    if found { Ok(()) } else { Err("is a file that is not PEM: there is no -----BEGIN line".to_owned()) }
}
