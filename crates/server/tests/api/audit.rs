//! The audit log, and how often anybody may ask.

use serde_json::{Value, json};

use super::{
    ENDPOINTS, EVENTS, endpoint, event,
    support::{Server, client::Client, eventually},
};

const AUDIT: &str = "/api/v2/audit/";

/// The actions and subjects of a page, in its order.
fn lines(client: &Client, query: &str) -> Vec<(String, String)> {
    let page = client.get(&format!("{AUDIT}{query}")).json(200);
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let lines = page["results"].as_array().unwrap().iter();
    lines.map(|line| (text(line, "action"), text(line, "subject"))).collect()
}

#[test]
fn the_audit_log_tells_who_did_what_when_and_from_where() {
    let server = Server::start();
    let user = server.user("jane", "admin", "correct horse");
    let jane = server.with_token_of(&["--role", "admin", "--user", "jane"]);
    let id = jane.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let path = format!("{ENDPOINTS}{id}/");
    jane.patch(&path, r#"{"description":"x"}"#).json(200);
    jane.post(&format!("{path}secret/reveal/"), "").json(201);
    jane.post(&format!("{path}secret/reveal/"), r#"{"password":"wrong"}"#)
        .blames("password", "Incorrect password.");
    jane.post(&format!("{path}secret/expire/"), r#"{"grace_period":60}"#).json(200);
    let secrets = jane.get(&format!("{path}secret/")).json(200);
    jane.post(&format!("{path}secret/{}/expire/", secrets[1]["id"]), "").json(200);
    let secret = json!({ "signing_secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" });
    jane.post(&format!("{path}secret/"), secret.to_string()).json(201);
    let published = jane.post(EVENTS, event("post.created")).json(201);
    let resend = json!({ "event": published["event_id"] }).to_string();
    assert_eq!(jane.post(&format!("{path}event/resend/"), resend).status, 204);
    assert_eq!(jane.delete(&path).status, 204);
    let subject = format!("endpoint:{id}");
    let done = lines(&jane, "?ordering=created_at&limit=100");
    let of_endpoint: Vec<&str> =
        done.iter().filter(|(_, of)| *of == subject).map(|(action, _)| action.as_str()).collect();
    assert_eq!(
        of_endpoint,
        [
            "endpoint_created",
            "endpoint_changed",
            "secret_revealed",
            "secret_expired",
            "grace_ended",
            "secret_brought",
            "resent",
            "endpoint_deleted"
        ]
    );
    for line in ["user_created", "token_created", "login_failed"] {
        assert!(done.iter().any(|(action, _)| action == line), "{line}");
    }
    // The same, newest first, is what comes unasked.
    let newest = lines(&jane, "?limit=100");
    assert_eq!(newest, done.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(lines(&jane, "?limit=2&offset=1"), newest[1..3]);
    assert_eq!(
        lines(&jane, "?action=login_failed"),
        [("login_failed".into(), format!("user:{user}"))]
    );

    let line = jane.get(&format!("{AUDIT}?action=secret_revealed")).json(200)["results"][0].clone();
    assert_eq!(line["address"], "127.0.0.1");
    let (actor, at) = (line["actor"].as_str().unwrap(), line["created_at"].as_str().unwrap());
    assert!(actor.starts_with("token:"));
    assert_eq!(lines(&jane, &format!("?actor={actor}&limit=100")).len(), 9);
    assert_eq!(lines(&jane, "?actor=command-line")[0].0, "token_created");
    let since = lines(&jane, &format!("?since={at}&ordering=created_at"));
    assert_eq!(since[0].0, "secret_revealed");
    let until = lines(&jane, &format!("?until={at}"));
    assert_eq!(until[0].0, "endpoint_changed");
    let refused = "Enter a time in ISO 8601 with its offset, such as 2021-03-25T15:21:46Z.";
    jane.get(&format!("{AUDIT}?since=yesterday")).blames("since", refused);
}

#[test]
fn the_audit_log_is_for_admins_of_its_tenant_and_nobody_changes_it() {
    let server = Server::start();
    for role in ["viewer", "publisher"] {
        assert_eq!(server.with_role(role).get(AUDIT).status, 403, "{role}");
    }
    assert_eq!(server.anyone().get(AUDIT).status, 401);
    server.cli(&["tenant", "create", "other"]);
    let other = server.operator().with_header("Postrider-Tenant: other");
    eventually("the server hears of the tenant", || other.get(AUDIT).status == 200);
    assert_eq!(
        lines(&other, "").iter().map(|line| &*line.0).collect::<Vec<_>>(),
        ["tenant_created"]
    );
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let text = format!("Method \"{method}\" not allowed.");
        let refused = server.operator().send(method, AUDIT, b"").says(405, &text);
        assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
    }
}

#[test]
fn a_credential_that_asks_too_often_is_throttled_and_others_are_not() {
    let server = Server::start_with(&["--throttle-credential", "2"]);
    let (one, other) = (server.with_role("admin"), server.with_role("admin"));
    let mut throttled = None;
    eventually("it is throttled", || {
        let answer = one.get(ENDPOINTS);
        (answer.status == 429).then(|| throttled = Some(answer)).is_some()
    });
    let throttled = throttled.unwrap();
    assert_eq!(throttled.header("retry-after"), Some("1"));
    throttled.says(429, "Request was throttled. Expected available in 1 second.");
    other.get(ENDPOINTS).json(200);
    // Probes are not counted, and the role is checked before.
    for _ in 0..9 {
        assert_eq!(one.get("/healthz").status, 200);
    }
    let viewer = server.with_role("viewer");
    for _ in 0..9 {
        assert_eq!(viewer.delete(&format!("{ENDPOINTS}1/")).status, 403);
    }
    // And the throttle before the method.
    eventually("it is throttled again", || one.delete(ENDPOINTS).status == 429);
}

#[test]
fn an_address_that_asks_too_often_is_throttled_and_a_trusted_proxy_names_the_client() {
    let options = ["--throttle-address", "2", "--trusted-proxy", "127.0.0.1/32"];
    let server = Server::start_with(&options);
    let admin = server.with_role("admin");
    let from = |address: &str| admin.with_header(&format!("X-Forwarded-For: {address}"));
    eventually("it is throttled", || from("192.0.2.1").get(ENDPOINTS).status == 429);
    from("192.0.2.2").get(ENDPOINTS).json(200);
}

#[test]
fn an_address_that_guesses_tokens_is_locked_and_its_neighbours_go_on() {
    let server = Server::start_with(&["--trusted-proxy", "127.0.0.1/32"]);
    let (admin, fresh) = (server.with_role("admin"), server.with_role("viewer"));
    let neighbour = admin.with_header("X-Forwarded-For: 192.0.2.1");
    neighbour.get(ENDPOINTS).json(200);
    let guess = |number: u32| {
        let client = server.anyone().with_header("X-Forwarded-For: 192.0.2.1");
        client.with_token(&format!("prt_{number:043}")).get(ENDPOINTS)
    };
    for number in 0..20 {
        assert_eq!(guess(number).status, 401);
    }
    let (mut number, mut wait) = (20, None);
    eventually("it is locked", || {
        number += 1;
        let answer = guess(number);
        wait = answer.header("retry-after").map(|seconds| seconds.parse::<u32>().unwrap());
        answer.status == 429
    });
    assert!(wait.is_some_and(|wait| (1..=3).contains(&wait)), "{wait:?}");
    // What is known to hold is served meanwhile, and who comes from elsewhere, too.
    neighbour.get(ENDPOINTS).json(200);
    fresh.with_header("X-Forwarded-For: 192.0.2.2").get(ENDPOINTS).json(200);
}
