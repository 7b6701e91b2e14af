//! The order of checks, and what every answer carries.

use super::{ENDPOINTS, EVENT_TYPES, EVENTS, VERIFY_TOKEN, endpoint, support::Server};

#[test]
fn a_path_that_no_route_has_is_404_for_everyone() {
    let server = Server::start();
    for client in [server.anyone(), server.operator(), server.with_role("viewer")] {
        for path in [
            "/nowhere",
            "/api/v2/webhook/",
            "/api/v2/webhook/endpoint//",
            "/api/v2/webhook/endpoint//attempt/",
            "/api/v2/webhook/event_type//",
            "/api/v2/webhook/endpoint/x/",
            "/api/v2/webhook/endpoint/1x/",
            "/api/v2/webhook/endpoint/-1/",
            "/api/v2/webhook/endpoint/1.0/",
            "/api/v2/webhook/endpoint/event/attempt/",
            "/api/v2/webhook/endpoint/1/secret/nowhere/",
            "/api/v2/webhook/endpoint/1/secret/x/expire/",
            "/api/v2/webhook/endpoint/1/secret/reveal//",
            "/api/v2/webhook/endpoint/1/event/resend/bulk/1/",
        ] {
            let answer = client.with_header("Accept: text/html").send("PATCH", path, b"");
            let answer = answer.says(404, "Not found.");
            assert_eq!(answer.header("allow"), None, "{path}");
        }
    }
}

#[test]
fn checks_come_in_the_promised_order() {
    let server = Server::start();
    let (anyone, operator) = (server.anyone(), server.operator());
    let html = |client: &super::support::client::Client| client.with_header("Accept: text/html");
    let not_acceptable = "Could not satisfy the request Accept header.";
    html(&anyone).delete(ENDPOINTS).says(406, not_acceptable);
    html(&operator).get("/api/v2/webhook/endpoint/999/").says(406, not_acceptable);
    html(&anyone).post(VERIFY_TOKEN, "{}").says(406, not_acceptable);

    let not_provided = "Authentication credentials were not provided.";
    let answer = anyone.delete(ENDPOINTS).says(401, not_provided);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"api\""));
    assert_eq!(answer.header("allow"), Some("GET, POST, HEAD, OPTIONS"));
    anyone.send("OPTIONS", ENDPOINTS, b"").says(401, not_provided);

    let denied = "You do not have permission to perform this action.";
    let viewer = server.with_role("viewer");
    viewer.delete(ENDPOINTS).says(403, denied);
    viewer.delete("/api/v2/webhook/endpoint/999/").says(403, denied);
    viewer.post(ENDPOINTS, "not json").says(403, denied);
    viewer.get("/api/v2/webhook/endpoint/999/secret/reveal/").says(403, denied);

    operator.delete(ENDPOINTS).says(405, "Method \"DELETE\" not allowed.");
    operator
        .delete("/api/v2/webhook/endpoint/999/attempt/")
        .says(405, "Method \"DELETE\" not allowed.");
    operator
        .get("/api/v2/webhook/endpoint/999/secret/reveal/")
        .says(405, "Method \"GET\" not allowed.");
    operator.send("BREW", EVENTS, b"").says(405, "Method \"BREW\" not allowed.");
    anyone.get(VERIFY_TOKEN).says(405, "Method \"GET\" not allowed.");
    viewer.get(EVENTS).says(405, "Method \"GET\" not allowed.");

    for missing in ["999", "0", "99999999999999999999999999"] {
        let path = format!("{ENDPOINTS}{missing}/");
        operator.get(&path).says(404, "Not found.");
        operator.put(&path, "not json").says(404, "Not found.");
        operator.patch(&path, "{}").says(404, "Not found.");
        operator.delete(&path).says(404, "Not found.");
        operator.get(&format!("{path}attempt/")).says(404, "Not found.");
        for action in ["secret/reveal/", "secret/expire/", "event/resend/", "event/resend/bulk/"] {
            operator.post(&format!("{path}{action}"), "not json").says(404, "Not found.");
        }
    }
}

#[test]
fn every_answer_of_a_known_path_carries_allow() {
    let server = Server::start();
    let operator = server.operator();
    let id = operator.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    for (path, allow) in [
        ("", "GET, POST, HEAD, OPTIONS"),
        ("event/", "GET, HEAD, OPTIONS"),
        ("search/", "GET, HEAD, OPTIONS"),
        (&format!("{id}/"), "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
        (&format!("{id}/attempt/"), "GET, HEAD, OPTIONS"),
        (&format!("{id}/secret/reveal/"), "POST, OPTIONS"),
        (&format!("{id}/secret/expire/"), "POST, OPTIONS"),
        (&format!("{id}/event/resend/"), "POST, OPTIONS"),
        (&format!("{id}/event/resend/bulk/"), "POST, OPTIONS"),
        ("../event/", "POST, OPTIONS"),
        ("../event_type/", "GET, POST, HEAD, OPTIONS"),
        ("../event_type/post.created/", "DELETE, OPTIONS"),
        ("../../jwt/verify_token/", "POST, OPTIONS"),
    ] {
        let path = match path.strip_prefix("../../") {
            Some(rest) => format!("/api/v2/{rest}"),
            None => match path.strip_prefix("../") {
                Some(rest) => format!("/api/v2/webhook/{rest}"),
                None => format!("{ENDPOINTS}{path}"),
            },
        };
        let unslashed = path.trim_end_matches('/').to_owned();
        for path in [path, unslashed] {
            let carries = |method: &str, status: u16| {
                let answer = operator.send(method, &path, b"");
                assert_eq!(answer.status, status, "{method} {path}");
                assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
            };
            carries("OPTIONS", 200);
            carries("TRACE", 405);
            carries("HEAD", if allow.contains("HEAD") { 200 } else { 405 });
            if allow.contains("GET") {
                carries("GET", 200);
            }
        }
    }
}

#[test]
fn head_answers_as_get_without_the_body() {
    let server = Server::start();
    let operator = server.operator();
    let get = operator.get(ENDPOINTS);
    let head = operator.send("HEAD", ENDPOINTS, b"");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), get.header("content-length"));
    assert_eq!(head.header("content-type"), Some("application/json"));
    let viewer = server.with_role("viewer");
    assert_eq!(viewer.send("HEAD", ENDPOINTS, b"").status, 200);
    assert_eq!(viewer.send("HEAD", &format!("{ENDPOINTS}7/"), b"").status, 404);
}

#[test]
fn options_is_answered_to_every_role() {
    let server = Server::start();
    for role in ["admin", "publisher", "viewer"] {
        let client = server.with_role(role);
        for path in [ENDPOINTS, EVENTS, EVENT_TYPES, "/api/v2/webhook/endpoint/9/secret/reveal/"] {
            assert_eq!(client.send("OPTIONS", path, b"").status, 200, "{role} {path}");
        }
    }
    assert_eq!(server.anyone().send("OPTIONS", VERIFY_TOKEN, b"").status, 200);
}

#[test]
fn requests_have_ids() {
    let server = Server::start();
    let id = |line: &str| {
        let answer = server.anyone().with_header(line).get(ENDPOINTS);
        answer.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(id("X-Request-Id: Order-7_a.b:c"), "Order-7_a.b:c");
    let made = id("X-Request-Id: not sane");
    assert_eq!(made.len(), 32);
    assert_ne!(id("X-Other: x"), made);
    assert_ne!(id(&format!("X-Request-Id: {}", "x".repeat(129))).len(), 129);
}

#[test]
fn a_server_says_that_it_is_well() {
    let server = Server::start();
    for path in ["/healthz", "/readyz", "/healthz/", "/readyz/"] {
        let answer = server.anyone().with_header("Accept: text/plain").get(path);
        answer.is(200, "{\"status\":\"ok\"}");
        assert_eq!(server.anyone().send("HEAD", path, b"").status, 200);
        server.anyone().delete(path).says(405, "Method \"DELETE\" not allowed.");
    }
}
