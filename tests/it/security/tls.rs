//! TLS, SCRAM and OAUTHBEARER, which need a build with the feature `tls`: `cargo test --features tls --test it`.

use std::io::{Read, Write, copy};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::certificates::{EXPIRED, KEY, LATE};
use super::{PASSWORD, USER, assert_hidden, error_of};
use crate::cli::{Folder, folder};
use crate::support::broker::Broker;
use crate::support::kafka::Kafka;
use crate::support::ledger::{assert_exact, wait_until_committed};
use crate::support::load::events;
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::wait::{PATIENCE, unix_ms, wait_until};

const SSL: usize = 0;
const SASL_SSL: usize = 1;
const SASL_PLAINTEXT: usize = 2;

#[apply(own_broker_test)]
fn tls_scram_and_tokens_serve_events_end_to_end_and_nothing_shows_a_secret() {
    let folder = folder();
    let authority = Authority::new(&folder, "authority");
    let broker = tls_broker(&authority);
    let (kafka, names) = (broker.kafka(), Names::new());
    kafka.create_input(&names, 2);
    let scram = format!("SCRAM-SHA-512=[password={PASSWORD}]");
    broker.configs_tool(&["--alter", "--add-config", &scram, "--entity-type", "users", "--entity-name", USER]);
    let password_file = folder.write("password", &format!("{PASSWORD}\n"));
    let token = token();
    let token_file = folder.write("token", &token);
    let setup = |listener: usize, security: &[(&str, &str)]| {
        let mut security: toml::Table =
            security.iter().map(|(key, value)| ((*key).to_owned(), toml::Value::from(*value))).collect();
        security.insert("reload_spread_ms".to_owned(), 0.into());
        Setup::new(&kafka, &names)
            .set("kafka.bootstrap_servers", broker.further_address(listener))
            .set("kafka.security", security)
            .set("kafka.topic_wait_ms", 3_000)
            .set("log.level", "debug")
            .set("kafka.properties", toml::toml! { debug = "security,broker,conf" })
    };
    let scram = [("sasl_mechanism", "scram-sha-512"), ("username", USER), ("password_file", password_file.as_str())];
    let oauth = [("sasl_mechanism", "oauthbearer"), ("oauth_token_file", token_file.as_str())];
    let sasl = [("protocol", "sasl_ssl"), ("ca_file", authority.certificate.as_str())];

    serves(&kafka, &names, 1, &setup(SSL, &[("protocol", "ssl"), ("ca_file", &authority.certificate)]), PASSWORD);
    serves(&kafka, &names, 2, &setup(SASL_SSL, &[&sasl[..], &scram[..]].concat()), PASSWORD);
    serves(&kafka, &names, 3, &setup(SASL_SSL, &[&sasl[..], &oauth[..]].concat()), &token);
    let relay = Relay::to(broker.further_address(SASL_PLAINTEXT));
    let mut extended: toml::Table = toml::toml! {
        protocol = "sasl_plaintext"
        oauth_token_lifetime_ms = 10_000
        oauth_extensions = { logicalCluster = "lkc-1", identityPoolId = "pool 2" }
    };
    extended.extend(oauth.map(|(key, value)| (key.to_owned(), toml::Value::from(value))));
    extended.insert("oauth_principal".to_owned(), "renewed".into());
    // The lifetime counts from here.
    folder.write("token", &token);
    let extended = setup(SASL_PLAINTEXT, &[])
        .set("kafka.security", extended)
        .set("kafka.bootstrap_servers", relay.address.as_str());
    kafka.produce(&names.input, &events(4, 300, 40).collect::<Vec<_>>());
    let mut process = extended.start();
    wait_until_committed(&kafka, &names, PATIENCE);
    for sent in ["auth=Bearer ", &token, "\u{1}logicalCluster=lkc-1\u{1}", "\u{1}identityPoolId=pool 2\u{1}"] {
        assert!(relay.was_sent(sent), "{sent:?}");
    }
    let given = |process: &Steward| process.output().matches("setting OAUTHBEARER token").count();
    let at_start = given(&process);
    assert!(at_start > 0);
    folder.write("token", &token);
    wait_until("a token is renewed", PATIENCE, || given(&process) > at_start);
    process.stop();
    process.assert_no_errors_but(&[]);
    assert_hidden(&process.output(), &token);
    assert_exact(&kafka, &names);

    // A certificate that the broker does not ask for.
    let certificate = folder.write("client.pem", EXPIRED);
    let key = folder.write("client.key", KEY);
    let client = [("protocol", "ssl"), ("ca_file", authority.certificate.as_str())];
    let client = [&client[..], &[("certificate_file", certificate.as_str()), ("key_file", key.as_str())]].concat();
    let mut process = setup(SSL, &client).start();
    let expires = process.wait_for_event("certificate_expires", PATIENCE);
    assert_eq!((&expires["file"], &expires["left_ms"]), (&"kafka.security.certificate_file".into(), &0.into()));
    assert_eq!(expires["expires"], "2020-02-01T00:00:00Z");
    // All clients are built by now.
    process.wait_for_event("recovery_finished", PATIENCE);
    folder.write("client.key", &authority.server().0);
    let unusable = process.wait_for_event("credentials_refused", PATIENCE);
    assert_eq!(unusable["files"], "kafka.security.key_file", "the key does not fit the certificate");
    folder.write("client.pem", LATE);
    folder.write("client.key", KEY);
    assert_eq!(process.wait_exit(PATIENCE), 16, "{}", process.tail());

    let stranger = Authority::new(&folder, "stranger");
    refused(&setup(SSL, &[("protocol", "ssl"), ("ca_file", &stranger.certificate)]), 5, "certificate verify failed");
    let wrong = folder.write("wrong", "f4lsch");
    let wrong = [("sasl_mechanism", "scram-sha-512"), ("username", USER), ("password_file", wrong.as_str())];
    refused(&setup(SASL_SSL, &[&sasl[..], &wrong[..]].concat()), 5, "Authentication failed");
    refused(&setup(SSL, &[("protocol", "ssl"), ("ca_file", &wrong_file(&folder))]), 3, "ca_file");
}

/// A process with this setup processes all events, and logs neither errors nor the secret.
fn serves(kafka: &Kafka, names: &Names, seed: u64, setup: &Setup, secret: &str) {
    kafka.produce(&names.input, &events(seed, 300, 40).collect::<Vec<_>>());
    let mut process = setup.start();
    wait_until_committed(kafka, names, PATIENCE);
    process.stop();
    process.assert_no_errors_but(&[]);
    assert_hidden(&process.output(), secret);
    assert!(!process.output().contains("CONFWARN"), "{}", super::line_with(&process.output(), "CONFWARN"));
}

fn refused(setup: &Setup, exit: i32, because: &str) {
    let mut process = setup.start();
    let code = process.wait_exit(Duration::from_secs(30));
    let error = error_of(&process);
    assert_eq!(code, exit, "{error}");
    assert!(error.contains(because) && error.contains("kafka.security"), "{error}");
    assert_hidden(&process.output(), "f4lsch");
}

fn wrong_file(folder: &Folder) -> String {
    folder.write("no-authority.pem", "this is no certificate\n")
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// Passes connections on to a broker, and keeps what the clients send.
struct Relay {
    address: String,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    fn to(broker: String) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens").to_string();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&sent);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(broker) = TcpStream::connect(&broker) else { continue };
                let (mut answers, mut client_side) =
                    (broker.try_clone().expect("open"), client.try_clone().expect("open"));
                std::thread::spawn(move || copy(&mut answers, &mut client_side));
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || pass_on(client, broker, &kept));
            }
        });
        Relay { address, sent }
    }

    fn was_sent(&self, text: &str) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

fn pass_on(mut client: TcpStream, mut broker: TcpStream, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4_096];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
        if broker.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// A listener with TLS alone, one with SASL over TLS, and one with SASL alone.
fn tls_broker(authority: &Authority) -> Broker {
    let (key, chain) = authority.server();
    // A properties file needs line ends escaped as two characters.
    let (key, chain) = (key.replace('\n', "\\n"), chain.replace('\n', "\\n"));
    let mut properties = Vec::new();
    for listener in ["ssl", "saslssl"] {
        for (name, value) in [
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.key", key.as_str()),
            ("ssl.keystore.certificate.chain", chain.as_str()),
        ] {
            properties.push((format!("listener.name.{listener}.{name}"), value.to_owned()));
        }
    }
    for listener in ["saslssl", "sasl"] {
        for (name, value) in [
            ("sasl.enabled.mechanisms", "SCRAM-SHA-512,OAUTHBEARER"),
            ("scram-sha-512.sasl.jaas.config", "org.apache.kafka.common.security.scram.ScramLoginModule required;"),
            (
                "oauthbearer.sasl.jaas.config",
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";",
            ),
        ] {
            properties.push((format!("listener.name.{listener}.{name}"), value.to_owned()));
        }
    }
    let properties: Vec<(&str, &str)> =
        properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Broker::with_listeners(&[("SSL", "SSL"), ("SASLSSL", "SASL_SSL"), ("SASL", "SASL_PLAINTEXT")], &properties)
}

/// An unsigned token with the user and the expiry time. Kafka's own validator accepts it.
fn token() -> String {
    let now = unix_ms() / 1_000;
    let claims = format!(r#"{{"sub":"{USER}","iat":{now},"exp":{}}}"#, now + 3_600);
    format!(
        "{}.{}.",
        BASE64_URL_SAFE_NO_PAD.encode(br#"{"alg":"none"}"#),
        BASE64_URL_SAFE_NO_PAD.encode(claims.as_bytes())
    )
}

/// A certificate authority.
struct Authority<'a> {
    folder: &'a Folder,
    name: &'static str,
    /// The path of the authority's certificate.
    certificate: String,
}

impl<'a> Authority<'a> {
    fn new(folder: &'a Folder, name: &'static str) -> Authority<'a> {
        let (key, certificate) = (folder.path(&format!("{name}.key")), folder.path(&format!("{name}.pem")));
        openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {} -out {}",
            key.display(),
            certificate.display()
        ));
        Authority { folder, name, certificate: certificate.display().to_string() }
    }

    /// Key and certificate chain of a server at 127.0.0.1, as PEM.
    fn server(&self) -> (String, String) {
        let path = |name: &str| self.folder.path(name).display().to_string();
        let extensions = self.folder.write("extensions", "subjectAltName=IP:127.0.0.1\n");
        let (key, request, certificate) = (path("server.key"), path("server.csr"), path("server.pem"));
        openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout {key} -out {request}"));
        openssl(&format!(
            "x509 -req -in {request} -CA {} -CAkey {} -CAcreateserial -days 2 -extfile {extensions} -out {certificate}",
            self.certificate,
            path(&format!("{}.key", self.name))
        ));
        let read = |path: &str| std::fs::read_to_string(path).expect("openssl has written it");
        (read(&key), read(&certificate) + &read(&self.certificate))
    }
}

/// Splits the arguments at spaces, because paths of a temporary folder contain none.
fn openssl(arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
