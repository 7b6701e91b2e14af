//! The signing secret: shown by one operation, replaced by another, and nowhere else.

use std::time::Duration;

use postrider_kernel::{
    PublicKey, Timestamp,
    signature::{Tolerance, verify_ed25519},
};
use serde_json::json;

use super::{
    ENDPOINTS, EVENTS, endpoint, event,
    support::{Server, client::Client, receiver::Receiver},
};

fn reveal(client: &Client, endpoint: i64) -> String {
    let path = format!("{ENDPOINTS}{endpoint}/secret/reveal/");
    let shown = client.post(&path, "").json(201);
    assert_eq!(shown.as_object().unwrap().len(), 1);
    shown["signing_secret"].as_str().unwrap().to_owned()
}

#[test]
fn a_secret_is_revealed_and_expired() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let receiver = Receiver::start();
    let created = admin.post(ENDPOINTS, endpoint(receiver.url(), &["post.created"]));
    assert!(!created.body.contains("whsec_"));
    let id = created.id(201);
    let old = reveal(&admin, id);
    assert!(old.starts_with("whsec_"));
    assert_eq!(reveal(&admin, id), old);
    // Clients say that JSON comes, and send nothing.
    let path = format!("{ENDPOINTS}{id}/secret/reveal");
    let empty = "Content-Type: application/json\r\n";
    assert_eq!(admin.send_raw("POST", &path, empty, b"").status, 201);
    let empty = "Content-Type: application/json\r\nContent-Length: 0\r\n";
    assert_eq!(admin.send_raw("POST", &path, empty, b"").status, 201);

    let signatures = || {
        admin.post(EVENTS, event("post.created")).json(201);
        receiver.next().header("webhook-signature").unwrap().split(' ').count()
    };
    assert_eq!(signatures(), 1);
    let expire = format!("{ENDPOINTS}{id}/secret/expire/");
    let expired = admin.post(&expire, r#"{"grace_period":"3600"}"#);
    assert!(!expired.body.contains("whsec_"));
    let expired = expired.json(200);
    assert_eq!(expired["id"], id);
    assert!(expired["updated_at"].as_str() > expired["created_at"].as_str());
    let new = reveal(&admin, id);
    assert_ne!(new, old);
    assert_eq!(signatures(), 2, "the old one signs beside the new one");
    admin.post(&expire, "").json(200);
    assert_ne!(reveal(&admin, id), new);
    assert_eq!(signatures(), 1, "every grace has ended");
    for path in
        [ENDPOINTS.to_owned(), format!("{ENDPOINTS}{id}/"), format!("{ENDPOINTS}{id}/attempt/")]
    {
        assert!(!admin.get(&path).body.contains("whsec_"), "{path}");
    }
}

#[test]
fn a_grace_is_whole_seconds_of_a_week() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let id = admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let expire = |value: &str| {
        let body = format!("{{\"grace_period\":{value}}}");
        admin.post(&format!("{ENDPOINTS}{id}/secret/expire/"), body)
    };
    for good in ["0", "604800", "\"60\"", "60.0"] {
        assert_eq!(expire(good).status, 200, "{good}");
    }
    let range = |bound: &str| format!("Ensure this value is {bound}.");
    expire("-1").blames("grace_period", &range("greater than or equal to 0"));
    for much in ["604801", "99999999999999999999"] {
        expire(much).blames("grace_period", &range("less than or equal to 604800"));
    }
    expire("null").blames("grace_period", "This field may not be null.");
    for odd in ["1.5", "true", "\"x\"", "[]", "{}", "1e400"] {
        expire(odd).blames("grace_period", "A valid integer is required.");
    }
}

#[test]
fn a_password_that_is_given_is_checked() {
    let server = Server::start();
    server.user("jane", "admin", "correct horse");
    let jane = server.with_token_of(&["--role", "admin", "--user", "jane"]);
    let id = jane.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let (reveal, expire) =
        (format!("{ENDPOINTS}{id}/secret/reveal/"), format!("{ENDPOINTS}{id}/secret/expire/"));
    let with = |password: &str| json!({ "password": password }).to_string();
    jane.post(&reveal, with("correct horse")).json(201);
    jane.post(&reveal, "{}").json(201);
    jane.post(&expire, with("correct horse")).json(200);
    let before = jane.get(&format!("{ENDPOINTS}{id}/")).body;
    jane.post(&reveal, with("wrong")).blames("password", "Incorrect password.");
    jane.post(&expire, with("correct horse ")).blames("password", "Incorrect password.");
    jane.get(&format!("{ENDPOINTS}{id}/")).is(200, &before);
    jane.post(&reveal, r#"{"password":""}"#).blames("password", "This field may not be blank.");
    jane.post(&reveal, r#"{"password":null}"#).blames("password", "This field may not be null.");
    jane.post(&expire, r#"{"password":true,"grace_period":-1}"#).is(
        400,
        r#"{"password":["Not a valid string."],"grace_period":["Ensure this value is greater than or equal to 0."]}"#,
    );
    // Without a user there is no password that could be wrong.
    server.with_role("admin").post(&reveal, with("whatever")).json(201);
}

#[test]
fn wrong_passwords_are_throttled() {
    let server = Server::start();
    server.user("jane", "admin", "correct horse");
    let jane = server.with_token_of(&["--role", "admin", "--user", "jane"]);
    let id = jane.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let path = format!("{ENDPOINTS}{id}/secret/reveal/");
    for _ in 0..4 {
        assert_eq!(jane.post(&path, r#"{"password":"wrong"}"#).status, 400);
    }
    // A right one begins the count anew.
    jane.post(&path, r#"{"password":"correct horse"}"#).json(201);
    for _ in 0..5 {
        assert_eq!(jane.post(&path, r#"{"password":"wrong"}"#).status, 400);
    }
    let throttled = jane.post(&path, r#"{"password":"correct horse"}"#);
    let wait = throttled.header("retry-after").unwrap().to_owned();
    assert!((1..=30).contains(&wait.parse::<u32>().unwrap()), "{wait}");
    let text = format!("Request was throttled. Expected available in {wait} seconds.");
    throttled.says(429, &text);
    // Who gives none is not throttled.
    jane.post(&path, "").json(201);
}

#[test]
fn the_operator_may_require_a_password() {
    let server = Server::start_with(&["--require-password"]);
    server.user("jane", "admin", "correct horse");
    let jane = server.with_token_of(&["--role", "admin", "--user", "jane"]);
    let id = jane.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    for action in ["reveal", "expire"] {
        let path = format!("{ENDPOINTS}{id}/secret/{action}/");
        jane.post(&path, "").blames("password", "This field is required.");
        assert!(jane.post(&path, r#"{"password":"correct horse"}"#).status < 300);
    }
    server.with_role("admin").post(&format!("{ENDPOINTS}{id}/secret/reveal/"), "").json(201);
}

/// A well-formed secret, of this byte again and again.
fn secret_of(byte: u8, length: usize) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!("whsec_{}", STANDARD.encode(vec![byte; length]))
}

#[test]
fn secrets_that_sign_are_listed_without_their_value() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let id = admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let path = format!("{ENDPOINTS}{id}/secret/");
    let first = reveal(&admin, id);
    admin.post(&format!("{path}expire/"), r#"{"grace_period":3600}"#).json(200);
    let second = reveal(&admin, id);
    let answer = admin.get(&path);
    assert!(!answer.body.contains("whsec_") && !answer.body.contains(&first[6..]));
    let listed = answer.json(200);
    let ending = |secret: &str| {
        let text = secret.trim_end_matches('=');
        text[text.len() - 4..].to_owned()
    };
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[0]["last_four"], ending(&second));
    assert_eq!(listed[0]["expires_at"], json!(null));
    assert_eq!(listed[1]["last_four"], ending(&first));
    assert!(listed[1]["expires_at"].as_str() > listed[1]["created_at"].as_str());
    assert!(listed[0]["id"].as_i64() > listed[1]["id"].as_i64());
    assert_eq!(listed[1].as_object().unwrap().len(), 5);
    for role in ["viewer", "publisher"] {
        assert_eq!(server.with_role(role).get(&path).status, 403, "{role}");
    }
    admin.get(&format!("{ENDPOINTS}99/secret/")).says(404, "Not found.");
}

#[test]
fn a_secret_may_be_brought_along() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let id = admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let path = format!("{ENDPOINTS}{id}/secret/");
    for length in [24, 32, 64] {
        let secret = secret_of(7, length);
        let body = json!({ "signing_secret": format!(" {secret} "), "grace_period": 60 });
        let brought = admin.post(&path, body.to_string());
        assert!(!brought.body.contains("whsec_"));
        let brought = brought.json(201);
        assert_eq!(brought, admin.get(&path).json(200)[0]);
        assert_eq!(reveal(&admin, id), secret);
    }
    assert_eq!(admin.get(&path).json(200).as_array().unwrap().len(), 4);
    // Whatever signs can't be brought again, be it in its grace.
    for length in [24, 64] {
        let body = json!({ "signing_secret": secret_of(7, length) });
        let text = "This secret signs for this endpoint already.";
        admin.post(&path, body.to_string()).blames("signing_secret", text);
    }
    admin.post(&path, json!({ "signing_secret": secret_of(8, 32) }).to_string()).json(201);
    assert_eq!(admin.get(&path).json(200).as_array().unwrap().len(), 1, "without a grace");
}

#[test]
fn a_brought_secret_is_checked_and_not_repeated() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let id = admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let path = format!("{ENDPOINTS}{id}/secret/");
    let before = reveal(&admin, id);
    let form = "Enter whsec_ followed by the standard base64 of 24 to 64 bytes.";
    for bad in [secret_of(7, 23), "whsec_".into(), secret_of(7, 32)[6..].into(), "whsec_%%".into()]
    {
        let body = json!({ "signing_secret": bad }).to_string();
        admin.post(&path, body).blames("signing_secret", form);
    }
    let too_long = json!({ "signing_secret": secret_of(7, 67) }).to_string();
    let text = "Ensure this field has no more than 94 characters.";
    admin.post(&path, too_long).blames("signing_secret", text);
    admin.post(&path, "").blames("signing_secret", "This field is required.");
    admin.post(&path, r#"{"signing_secret":null,"grace_period":-1}"#).is(
        400,
        r#"{"signing_secret":["This field may not be null."],"grace_period":["Ensure this value is greater than or equal to 0."]}"#,
    );
    assert_eq!(reveal(&admin, id), before);
    let body = json!({ "signing_secret": secret_of(9, 32) }).to_string();
    admin.post(&format!("{ENDPOINTS}99/secret/"), body).says(404, "Not found.");
}

#[test]
fn an_endpoint_may_be_made_with_the_secret_that_its_receiver_knows() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let secret = secret_of(5, 24);
    let mut body =
        json!({ "target": "http://127.0.0.1:1/", "events": [{ "type": "post.created" }] });
    body["signing_secret"] = json!(secret);
    let created = admin.post(ENDPOINTS, body.to_string());
    assert!(!created.body.contains("secret"));
    let id = created.id(201);
    assert_eq!(reveal(&admin, id), secret);
    // A change of the endpoint is no change of its secret.
    body["signing_secret"] = json!(secret_of(6, 24));
    admin.put(&format!("{ENDPOINTS}{id}/"), body.to_string()).json(200);
    admin.patch(&format!("{ENDPOINTS}{id}/"), r#"{"signing_secret":"x"}"#).json(200);
    assert_eq!(reveal(&admin, id), secret);
    body["signing_secret"] = json!("whsec_x");
    let form = "Enter whsec_ followed by the standard base64 of 24 to 64 bytes.";
    admin.post(ENDPOINTS, body.to_string()).blames("signing_secret", form);
}

#[test]
fn an_endpoint_may_ask_for_ed25519_beside_hmac_or_instead() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let receiver = Receiver::start();
    let created = admin.post(ENDPOINTS, endpoint(receiver.url(), &["post.created"])).json(201);
    assert_eq!(created["signature_algorithms"], json!(["hmac-sha256"]));
    let path = format!("{ENDPOINTS}{}/", created["id"]);
    let public_key = format!("{path}secret/public_key/");
    admin.get(&public_key).says(404, "Not found.");
    // Which key verifies the next request, and the kinds of signature in it.
    let verify = |key: &str| {
        admin.post(EVENTS, event("post.created")).json(201);
        let request = receiver.next();
        let header = |name| request.header(name).unwrap().to_owned();
        let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
        let signature = header("webhook-signature");
        assert!(header("postrider-signature").contains(",v1="), "the list has no other kind");
        let tolerance = Tolerance { now: Timestamp::from_micros(0), allowed: Duration::MAX };
        let key = PublicKey::parse(key).unwrap();
        let body = request.body.as_bytes();
        let holds = verify_ed25519(&id, &timestamp, &signature, body, &key, tolerance).is_ok();
        let kinds = signature.split(' ').map(|item| item.split(',').next().unwrap().to_owned());
        (holds, kinds.collect::<Vec<_>>().join(" "))
    };
    let ask = |names: &str| {
        let changed = admin.patch(&path, format!(r#"{{"signature_algorithms":{names}}}"#));
        changed.json(200)["signature_algorithms"].to_string()
    };
    assert_eq!(ask(r#"["ed25519","hmac-sha256"]"#), r#"["hmac-sha256","ed25519"]"#);
    let shown = |client: &Client| client.get(&public_key).json(200);
    let old = shown(&admin)["public_key"].as_str().unwrap().to_owned();
    assert_eq!(verify(&old), (true, "v1 v1a".into()));
    assert_eq!(ask(r#"["ed25519"]"#), r#"["ed25519"]"#);
    assert_eq!(verify(&old), (true, "v1a".into()));
    assert_eq!(admin.get(&format!("{path}secret/")).json(200)[0]["public_key"], old);
    // A public key is no secret.
    assert_eq!(shown(&server.with_role("viewer"))["public_key"], old);

    let expire = format!("{path}secret/expire/");
    admin.post(&expire, r#"{"grace_period":3600}"#).json(200);
    let new = shown(&admin)["public_key"].as_str().unwrap().to_owned();
    assert_ne!(new, old);
    assert_eq!(verify(&old), (true, "v1a v1a".into()), "beside the new one, for a grace");
    assert_eq!(verify(&new), (true, "v1a v1a".into()));
    admin.post(&expire, "").json(200);
    assert_eq!(verify(&new), (false, "v1a".into()), "the key ends with its secret");
    let brought = json!({ "signing_secret": secret_of(3, 32) }).to_string();
    let brought = admin.post(&format!("{path}secret/"), brought).json(201);
    assert_eq!(verify(brought["public_key"].as_str().unwrap()), (true, "v1a".into()));
    for path in [path.clone(), format!("{path}secret/"), public_key] {
        assert!(!admin.get(&path).body.contains("whsk_"), "{path}");
    }
    assert_eq!(ask(r#"["hmac-sha256"]"#), r#"["hmac-sha256"]"#);
}

#[test]
fn signature_algorithms_are_checked() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let mut body =
        json!({ "target": "http://127.0.0.1:1/", "events": [{ "type": "post.created" }] });
    body["signature_algorithms"] = json!(["ed25519", "ed25519"]);
    let created = admin.post(ENDPOINTS, body.to_string()).json(201);
    assert_eq!(created["signature_algorithms"], json!(["ed25519"]));
    let path = format!("{ENDPOINTS}{}/", created["id"]);
    let put = |names: &str| {
        body["signature_algorithms"] = serde_json::from_str(names).unwrap();
        admin.put(&path, body.to_string())
    };
    let mut put = put;
    let field = "signature_algorithms";
    put(r#"["ed25519","rsa"]"#).blames(field, "\"rsa\" is not a valid choice.");
    put("[1]").blames(field, "\"1\" is not a valid choice.");
    put("[]").blames(field, "This list may not be empty.");
    put(r#""ed25519""#).blames(field, "Expected a list of items but got type \"str\".");
    put("null").blames(field, "This field may not be null.");
    assert_eq!(admin.get(&path).json(200)["signature_algorithms"], json!(["ed25519"]));
}

#[test]
fn one_grace_is_ended_without_a_new_secret() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let id = admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let path = format!("{ENDPOINTS}{id}/secret/");
    for _ in 0..2 {
        admin.post(&format!("{path}expire/"), r#"{"grace_period":3600}"#).json(200);
    }
    let current = reveal(&admin, id);
    let listed = admin.get(&path).json(200);
    let ids: Vec<_> =
        listed.as_array().unwrap().iter().map(|secret| secret["id"].as_i64()).collect();
    let [newest, middle, oldest] = ids[..] else { panic!("{ids:?}") };
    let end = |secret: Option<i64>| admin.post(&format!("{path}{}/expire/", secret.unwrap()), "");
    let before = admin.get(&format!("{ENDPOINTS}{id}/")).json(200);
    let ended = end(middle).json(200);
    assert!(ended["updated_at"].as_str() > before["updated_at"].as_str());
    let left = admin.get(&path).json(200);
    assert_eq!((left[0]["id"].as_i64(), left[1]["id"].as_i64()), (newest, oldest));
    assert_eq!(reveal(&admin, id), current);
    end(middle).says(404, "Not found.");
    end(Some(999)).says(404, "Not found.");
    end(newest).says(
        400,
        "This is the current secret. Expire it with …/secret/expire/, which makes a new one.",
    );
    admin.post(&format!("{path}x/expire/"), "").says(404, "Not found.");
    assert_eq!(server.with_role("viewer").post(&format!("{path}{}/expire/", 1), "").status, 403);
}
