//! The signing secret: shown by one operation, replaced by another, and nowhere else.

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
    expire("-1").is_field("grace_period", &range("greater than or equal to 0"));
    for much in ["604801", "99999999999999999999"] {
        expire(much).is_field("grace_period", &range("less than or equal to 604800"));
    }
    expire("null").is_field("grace_period", "This field may not be null.");
    for odd in ["1.5", "true", "\"x\"", "[]", "{}", "1e400"] {
        expire(odd).is_field("grace_period", "A valid integer is required.");
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
    jane.post(&reveal, with("wrong")).is_field("password", "Incorrect password.");
    jane.post(&expire, with("correct horse ")).is_field("password", "Incorrect password.");
    jane.get(&format!("{ENDPOINTS}{id}/")).is(200, &before);
    jane.post(&reveal, r#"{"password":""}"#).is_field("password", "This field may not be blank.");
    jane.post(&reveal, r#"{"password":null}"#).is_field("password", "This field may not be null.");
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
    throttled.is_detail(429, &text);
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
        jane.post(&path, "").is_field("password", "This field is required.");
        assert!(jane.post(&path, r#"{"password":"correct horse"}"#).status < 300);
    }
    server.with_role("admin").post(&format!("{ENDPOINTS}{id}/secret/reveal/"), "").json(201);
}
