//! `verify` and `listen`: the receiver's side.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use postrider::clock::{Clock, SystemClock};
use postrider_kernel::{SigningSecret, secret::Standing, signature::Signer};
use serde_json::{Value, json};

use crate::support::{Place, Running};

const OTHER_SECRET: &str = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyISE=";

fn vectors() -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("../../../kernel/tests/data/signing-vectors.json"))
            .unwrap();
    file["cases"].as_array().unwrap().clone()
}

#[test]
fn the_published_vectors_verify() {
    let place = Place::new();
    for vector in vectors() {
        let text = |key: &str| vector[key].as_str().unwrap();
        let now = vector["timestamp"].to_string();
        let list = format!("Postrider-Signature: {}", text("list_header"));
        let standard = [
            format!("webhook-id: {}", text("webhook_id")),
            format!("Webhook-Timestamp: {now}"),
            format!("webhook-signature: {}", text("standard_header")),
        ];
        let secrets = vector["secrets_newest_first"].as_array().unwrap();
        for secret in secrets {
            let mut arguments =
                vec!["verify", "--json", "--now", &now, "--secret", secret.as_str().unwrap()];
            for header in standard.iter().chain([&list]) {
                arguments.extend(["--header", header]);
            }
            let answer = place.run_with(&arguments, text("body")).succeeded().json();
            assert_eq!(answer["valid"], true);
            assert_eq!(answer["verdicts"][0]["valid"], true, "{answer}");
            assert_eq!(answer["verdicts"][1]["valid"], true, "{answer}");
        }
    }
}

#[test]
fn verify_says_which_secret_held_or_why_none_did() {
    let place = Place::new();
    let vector = &vectors()[0];
    let text = |key: &str| vector[key].as_str().unwrap();
    let (now, secret) =
        (vector["timestamp"].to_string(), vector["secrets_newest_first"][0].as_str().unwrap());
    let header = format!("X-Sig: {}", text("list_header"));
    let verify = |secrets: &[&str], options: &[&str], body: &str| {
        let mut arguments = vec!["verify", "--signature-header", "X-Sig", "--header", &header];
        secrets.iter().for_each(|secret| arguments.extend(["--secret", secret]));
        arguments.extend(options);
        place.run_with(&arguments, body)
    };
    let held = verify(&[OTHER_SECRET, secret], &["--now", &now], text("body")).succeeded();
    let ending = &secret.trim_end_matches('=')[secret.trim_end_matches('=').len() - 4..];
    let expected = format!("timestamped list: valid with secret 2 (…{ending})");
    assert!(held.stdout().contains(&expected), "{held:?}");
    assert!(held.stdout().contains("not valid with secret 1"), "{held:?}");
    assert!(held.stdout().contains("there is no header webhook-id"), "{held:?}");
    assert!(!held.stdout().contains(secret), "no secret is shown");

    let changed = verify(&[secret], &["--now", &now], "{}").failed(1, &[]);
    assert!(changed.stdout().contains("the body was changed"), "{changed:?}");
    let old = verify(&[secret], &[], text("body")).failed(1, &[]);
    assert!(old.stdout().contains("300 s are allowed"), "{old:?}");
    verify(&[secret], &["--tolerance", "4000000000"], text("body")).succeeded();
    let bad = verify(&["whsec_short"], &[], "").failed(2, &["--secret"]);
    assert!(bad.stdout().is_empty());
    place.run(&["verify", "--secret", secret, "--header", "nonsense"]).failed(2, &["Name: value"]);
}

/// The specification's own example of Standard Webhooks.
#[test]
fn verify_judges_ed25519_by_a_public_key() {
    let place = Place::new();
    let (key, other) = (
        "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
    );
    let verify = |keys: &[&str], body| {
        let mut arguments = vec!["verify", "--now", "1614265330"];
        for header in [
            "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp: 1614265330",
            "webhook-signature: v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        ] {
            arguments.extend(["--header", header]);
        }
        keys.iter().for_each(|key| arguments.extend(["--public-key", key]));
        place.run_with(&arguments, body)
    };
    let held = verify(&[other, key], r#"{"test": 2432232314}"#).succeeded();
    let text = held.stdout();
    assert!(text.contains("Standard Webhooks: valid with public key 2 (…Oir4)"), "{held:?}");
    assert!(text.contains("Standard Webhooks: not valid with public key 1"), "{held:?}");
    verify(&[key], r#"{"test": 2432232315}"#).failed(1, &[]);
    verify(&["whpk_short"], "").failed(2, &["--public-key"]);
    place.run(&["verify", "--header", "a: b"]).failed(2, &["--secret"]);
}

/// POSTs a signed body; answers with the status line.
fn post(address: &str, secret: &SigningSecret, body: &str) -> String {
    let signer = Signer::new([(secret, Standing::Current)]);
    let signed = signer.sign("evt_7", SystemClock::new().now(), body.as_bytes());
    let request = format!(
        "POST /hooks HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\
         Postrider-Signature: {}\r\nwebhook-id: evt_7\r\nwebhook-timestamp: {}\r\nwebhook-signature: {}\r\n\r\n{body}",
        body.len(),
        signed.list,
        signed.timestamp,
        signed.standard,
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn listen_prints_and_verifies_what_comes() {
    let place = Place::new();
    let secret = SigningSecret::from_entropy(&[1; 32]);
    let listen = ["listen", "--listen", "127.0.0.1:0", "--status", "202", "--secret"];
    let mut running = Running::start(place.command(&[&listen[..], &[secret.reveal()]].concat()));
    let address = running.line().strip_prefix("listening on http://").unwrap().to_owned();
    assert!(post(&address, &secret, r#"{"type":"post.created"}"#).contains("202"));
    let head = running.line();
    for part in ["post.created", "evt_7", "23 bytes", "POST /hooks", "answered 202"] {
        assert!(head.contains(part), "{part} is not in {head}");
    }
    assert!(running.line().contains("timestamped list: valid with secret 1"));
    assert!(running.line().contains("Standard Webhooks: valid with secret 1"));
    assert_eq!(running.line(), "  {");
    assert_eq!(running.line(), r#"    "type": "post.created""#);
}

#[test]
fn listen_fails_when_told_to_and_prints_json_lines() {
    let place = Place::new();
    let secret = SigningSecret::from_entropy(&[1; 32]);
    let mut running = Running::start(place.command(&[
        "listen",
        "--listen",
        "127.0.0.1:0",
        "--fail-percent",
        "100",
        "--json",
        "--secret",
        OTHER_SECRET,
    ]));
    let first: Value = serde_json::from_str(&running.line()).unwrap();
    let address =
        first["listening_on"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    assert!(post(&address, &secret, "not json \u{1b}[2J").contains("500"));
    let line: Value = serde_json::from_str(&running.line()).unwrap();
    assert_eq!(line["answer"], 500);
    assert_eq!(line["webhook_id"], "evt_7");
    assert_eq!(line["type"], json!(null));
    assert_eq!(line["verdicts"][0]["valid"], false);
    assert_eq!(line["body"], "not json \u{1b}[2J");
}

#[test]
fn listen_refuses_wrong_usage() {
    let place = Place::new();
    place.run(&["listen", "--fail-percent", "101"]).failed(2, &["--fail-percent"]);
    place.run(&["listen", "--status", "99"]).failed(2, &["--status"]);
    place.run(&["listen", "--delay", "soon"]).failed(2, &["--delay"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place.run(&["listen", "--listen", &address]).failed(1, &["can't listen on", "--listen"]);
}
