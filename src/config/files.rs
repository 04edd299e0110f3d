//! The files that a configuration names: secrets are read once, at the start; the others have to be there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::config::load::shown;
use crate::config::{Effective, Mistake, Secret, keys};

/// No password, token or PEM file is larger. Keeps a wrong path, to a device or a log, from filling the memory.
const MAX_FILE_BYTES: u64 = 1_048_576;

/// A shorter secret could be found by trying, and with it the keys behind their hashes.
const MIN_HASH_SECRET_BYTES: usize = 16;

/// Reads the secrets into their fields and looks for the other files; returns the mistakes.
pub(super) fn read(effective: &mut Effective, bad: &BTreeSet<String>) -> Vec<Mistake> {
    let mut files = Files { effective, bad, mistakes: Vec::new() };
    let security = files.effective.config.kafka.security.clone();
    let password = files.look("kafka.security.password_file", security.password_file.as_deref(), secret);
    let key_password = files.look("kafka.security.key_password_file", security.key_password_file.as_deref(), secret);
    // The token is read whenever a new one is due, and PEM files by the client library.
    files.look("kafka.security.oauth_token_file", security.oauth_token_file.as_deref(), secret);
    let key_hash_file = files.effective.config.log.key_hash_secret_file.clone();
    let key_hash_secret = files.look("log.key_hash_secret_file", key_hash_file.as_deref(), long_secret);
    files.look("kafka.security.ca_file", security.ca_file.as_deref(), pem);
    files.look("kafka.security.certificate_file", security.certificate_file.as_deref(), pem);
    files.look("kafka.security.key_file", security.key_file.as_deref(), pem);

    let Files { effective, mistakes, .. } = files;
    let security = &mut effective.config.kafka.security;
    security.password = password.or(security.password.take());
    security.key_password = key_password.or(security.key_password.take());
    effective.config.log.key_hash_secret = key_hash_secret;
    mistakes
}

struct Files<'a> {
    effective: &'a mut Effective,
    bad: &'a BTreeSet<String>,
    mistakes: Vec<Mistake>,
}

impl Files<'_> {
    /// What `take` makes of the file's bytes; a mistake where it takes nothing, or where there is no such file.
    fn look<T>(&mut self, path: &str, file: Option<&Path>, take: fn(Vec<u8>) -> Result<T, String>) -> Option<T> {
        let file = file.filter(|_| !self.bad.contains(path))?;
        match bytes(file).and_then(take) {
            Ok(taken) => Some(taken),
            Err(problem) => {
                let quoted = toml::Value::String(file.display().to_string()).to_string();
                self.mistakes.push(Mistake {
                    key: path.to_owned(),
                    found: keys::find(path).and_then(|key| shown(key, &quoted)),
                    origin: self.effective.origin(path),
                    problem,
                    remedy: "name a file that holds it and that this process may read".to_owned(),
                });
                None
            }
        }
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(read) if read as u64 > MAX_FILE_BYTES => Err(format!("is a file of more than {MAX_FILE_BYTES} bytes")),
        Ok(_) if bytes.trim_ascii().is_empty() => Err("is an empty file".to_owned()),
        Ok(_) => Ok(bytes),
    }
}

/// The text without the line break that editors leave at the end.
fn secret(bytes: Vec<u8>) -> Result<Secret, String> {
    let text = String::from_utf8(bytes).map_err(|_| "is a file that is not UTF-8".to_owned())?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.contains(char::is_control) {
        return Err("is a file with more than one line, or with control characters".to_owned());
    }
    Ok(Secret::new(text))
}

/// A secret that nobody guesses: what it protects can be tried out by anyone who holds a log.
fn long_secret(bytes: Vec<u8>) -> Result<Secret, String> {
    let secret = secret(bytes)?;
    if secret.reveal().len() < MIN_HASH_SECRET_BYTES {
        return Err(format!("is a file with fewer than {MIN_HASH_SECRET_BYTES} bytes"));
    }
    Ok(secret)
}

fn pem(bytes: Vec<u8>) -> Result<(), String> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let found = bytes.windows(BEGIN.len()).any(|window| window == BEGIN);
    if found { Ok(()) } else { Err("is a file that is not PEM: there is no -----BEGIN line".to_owned()) }
}
