//! Which certificates are trusted, and in what words the others are refused.

use rustls::{
    DEFAULT_VERSIONS, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};

use crate::support::{
    Server, TYPE,
    certificates::{Authority, Identity, Validity},
    client::Client,
    dns::{self, zone},
    receiver::{Receiver, answer},
};

/// An authority that a server is told to trust.
struct Trusted {
    authority: Authority,
    file: tempfile::NamedTempFile,
}

impl Trusted {
    fn new() -> Self {
        let authority = Authority::new("Our CA");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &authority.pem).unwrap();
        Self { authority, file }
    }

    fn path(&self) -> &str {
        self.file.path().to_str().unwrap()
    }
}

/// An endpoint at a receiver that shows this certificate, under the name `receiver.example`.
async fn receiver(
    identity: &Identity,
    versions: &[&'static SupportedProtocolVersion],
) -> (Receiver, String) {
    let receiver = Receiver::tls(identity.acceptor(versions, None), |_, _| answer(200)).await;
    let port = receiver.url.trim_end_matches("/hook").rsplit(':').next().unwrap();
    let target = format!("https://receiver.example:{port}/hook");
    (receiver, target)
}

/// Its first attempt.
async fn attempt(client: &Client, target: &str) -> Value {
    let endpoint = client.create_endpoint(target).await;
    client.publish(json!({})).await;
    let attempt = client.attempts(endpoint, 1).await.remove(0);
    client.delete(&format!("/api/v2/webhook/endpoint/{endpoint}/")).await;
    attempt
}

#[tokio::test]
async fn a_bad_certificate_is_refused_in_plain_words_and_a_good_one_trusted() {
    let trusted = Trusted::new();
    let ours = &trusted.authority;
    let dns = dns::serve(zone(&[("receiver.example", &["127.0.0.1"])])).await.to_string();
    let options = ["--dns-server", &dns, "--ca-file", trusted.path(), "--retry-schedule", "3600"];
    let server = Server::start(&options).await;
    let client = server.client();
    let hosts = &["receiver.example"][..];
    for (identity, words) in [
        (
            ours.certify(hosts, Validity::Past),
            "the certificate has expired: it was valid until 2021-02-03",
        ),
        (
            ours.certify(hosts, Validity::Future),
            "the certificate is not yet valid: it will be from 2119-04-05",
        ),
        (
            ours.certify(&["other.example"], Validity::Now),
            "the certificate is for the wrong host: it names other.example",
        ),
        (Identity::self_signed(hosts), "the certificate is self-signed"),
        (
            Authority::new("Somebody's CA").certify(hosts, Validity::Now),
            "the certificate is of an unknown issuer",
        ),
    ] {
        let (_receiver, target) = receiver(&identity, DEFAULT_VERSIONS).await;
        let attempt = attempt(&client, &target).await;
        assert_eq!(attempt["error"], "tls", "{words}");
        let detail = attempt["error_detail"].as_str().unwrap();
        assert!(detail.starts_with(words), "{detail}");
    }
    for version in [&TLS12, &TLS13] {
        let (received, target) = receiver(&ours.certify(hosts, Validity::Now), &[version]).await;
        assert_eq!(attempt(&client, &target).await["http_response_code"], 200, "{version:?}");
        assert_eq!(
            received.next().await.headers["host"],
            target["https://".len()..].trim_end_matches("/hook")
        );
    }
}

#[tokio::test]
async fn no_connection_outlives_a_change_of_how_certificates_are_checked() {
    let server = Server::start(&["--retry-schedule", "3600", "--endpoint-concurrency", "1"]).await;
    let client = server.client();
    let identity = Identity::self_signed(&["127.0.0.1"]);
    let receiver =
        Receiver::tls(identity.acceptor(DEFAULT_VERSIONS, None), |_, _| answer(200)).await;
    let body =
        json!({"target": receiver.url, "events": [{"type": TYPE}], "ssl_cert_verification": false});
    let endpoint = client.create_endpoint_with(body).await;
    for _ in 0..2 {
        client.publish(json!({})).await;
        receiver.next().await;
    }
    client.attempts(endpoint, 2).await;
    assert_eq!(receiver.connections(), 1, "a connection is kept and used again");
    let path = format!("/api/v2/webhook/endpoint/{endpoint}/");
    let change = client.json("PATCH", &path, &json!({"ssl_cert_verification": true})).await;
    assert_eq!(change.status, 200);
    client.publish(json!({})).await;
    let attempts = client.attempts(endpoint, 3).await;
    assert_eq!(attempts[2]["error"], "tls");
    assert!(receiver.try_next().await.is_none(), "nothing came over the old connection");
}
