//! Attempts, and events that are sent once more.

use serde_json::{Value, json};

use super::{
    ENDPOINTS, EVENTS, endpoint, event,
    support::{Server, client::Client, eventually, receiver::Receiver},
};

/// Waits until an endpoint has so many attempts; the page that lists them, oldest first.
fn attempts(client: &Client, endpoint: i64, count: u64) -> Vec<Value> {
    let path = format!("{ENDPOINTS}{endpoint}/attempt/?ordering=created_at");
    let mut page = Value::Null;
    eventually("the attempts are listed", || {
        page = client.get(&path).json(200);
        page["count"].as_u64().unwrap() >= count
    });
    page["results"].as_array().unwrap().clone()
}

#[test]
fn an_attempt_shows_what_was_sent_and_what_came_back() {
    let server = Server::start_with(&["--retry-schedule", "0.05,3600"]);
    let admin = server.with_role("admin");
    let receiver = Receiver::start();
    receiver.answers("503 Service Unavailable", "try é later");
    let id = admin.post(ENDPOINTS, endpoint(receiver.url(), &["post.created"])).id(201);
    let event_id = admin.post(EVENTS, event("post.created")).json(201)["event_id"].clone();
    let (first, second) = (receiver.next(), receiver.next());
    assert_eq!(first.body, second.body);
    let listed = attempts(&admin, id, 2);
    for (attempt, received) in listed.iter().zip([&first, &second]) {
        assert_eq!(attempt["http_request_body"], received.body);
        assert_eq!(
            attempt["http_request_signature_header"],
            received.header("postrider-signature").unwrap()
        );
        assert_eq!(attempt["http_response_code"], 503);
        assert_eq!(attempt["http_response_body"], "try é later");
        assert_eq!(attempt["event"]["id"], event_id);
        assert_eq!(attempt["event"]["type"], "post.created");
        assert_eq!(attempt["created_at"], attempt["sent_at"]);
        assert!(attempt["event"]["added_at"].as_str() <= attempt["sent_at"].as_str());
        assert!(attempt["next_retry"].as_str() > attempt["sent_at"].as_str());
        assert_eq!(attempt["error"], Value::Null);
    }
    assert_eq!(
        (&listed[0]["attempt_number"], &listed[1]["attempt_number"]),
        (&json!(1), &json!(2))
    );
    let text = admin.get(&format!("{ENDPOINTS}{id}/attempt/")).body;
    let order = [
        "\"id\":",
        "\"created_at\":",
        "\"event\":",
        "\"sent_at\":",
        "\"http_request_body\":",
        "\"http_request_signature_header\":",
        "\"http_response_code\":",
        "\"http_response_body\":",
        "\"next_retry\":",
    ];
    let places: Vec<_> = order.iter().map(|field| text.find(field).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert!(!text.contains("whsec_"));
}

#[test]
fn an_attempt_without_an_answer_names_the_cause() {
    let server = Server::start_with(&["--retry-schedule", "3600"]);
    let admin = server.with_role("admin");
    // Nobody listens on the port that this listener had.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let target = format!("http://127.0.0.1:{port}/");
    let id = admin.post(ENDPOINTS, endpoint(&target, &["post.created"])).id(201);
    admin.post(EVENTS, event("post.created")).json(201);
    let attempt = &attempts(&admin, id, 1)[0];
    assert_eq!(attempt["http_response_code"], Value::Null);
    assert_eq!(attempt["http_response_body"], "");
    assert_eq!(attempt["error"], "connect");
    assert!(attempt["next_retry"].is_string());
}

#[test]
fn attempts_are_ordered_and_paged() {
    let server = Server::start_with(&["--retry-schedule", "3600"]);
    let admin = server.with_role("admin");
    let receiver = Receiver::start();
    let id = admin.post(ENDPOINTS, endpoint(receiver.url(), &["post.created"])).id(201);
    let publish = || {
        admin.post(EVENTS, event("post.created")).json(201);
        receiver.next();
    };
    publish();
    attempts(&admin, id, 1);
    receiver.answers("500 No", "");
    publish();
    let made: Vec<_> =
        attempts(&admin, id, 2).iter().map(|attempt| attempt["id"].clone()).collect();
    let order = |query: &str| -> Vec<Value> {
        let page = admin.get(&format!("{ENDPOINTS}{id}/attempt/{query}")).json(200);
        page["results"].as_array().unwrap().iter().map(|attempt| attempt["id"].clone()).collect()
    };
    let (ok, failed) = (made[0].clone(), made[1].clone());
    assert_eq!(order("?ordering=sent_at"), [ok.clone(), failed.clone()]);
    assert_eq!(order("?ordering=-sent_at"), [failed.clone(), ok.clone()]);
    assert_eq!(order(""), [failed.clone(), ok.clone()]);
    assert_eq!(order("?ordering=nope"), [failed.clone(), ok.clone()]);
    assert_eq!(order("?ordering=next_retry"), [failed.clone(), ok.clone()], "null is last");
    assert_eq!(order("?ordering=-next_retry"), [ok.clone(), failed.clone()], "null is first");
    let page = admin.get(&format!("{ENDPOINTS}{id}/attempt/?limit=1")).json(200);
    let next = format!("http://{}{ENDPOINTS}{id}/attempt/?limit=1&offset=1", admin.address());
    assert_eq!((&page["count"], &page["next"]), (&json!(2), &json!(next)));
}

#[test]
fn events_are_sent_once_more() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let receiver = Receiver::start();
    // The endpoint has not enabled the events' type, and gets them all the same.
    let id = admin.post(ENDPOINTS, endpoint(receiver.url(), &["vote.created"])).id(201);
    let publish =
        || admin.post(EVENTS, event("post.created")).json(201)["event_id"].as_i64().unwrap();
    let (one, two) = (publish(), publish());
    let path = format!("{ENDPOINTS}{id}/event/resend/");
    admin.post(&path, json!({ "event": one }).to_string()).is(204, "");
    assert!(receiver.next().body.starts_with(&format!("{{\"event_id\":{one},")));
    admin.post(&path, json!({ "event": two.to_string() }).to_string()).is(204, "");
    assert_eq!(receiver.next().header("webhook-id"), Some(format!("evt_{two}").as_str()));
    let bulk = format!("{path}bulk/");
    admin.post(&bulk, json!({ "event": [two, one, two, one.to_string()] }).to_string()).is(204, "");
    let mut ids = [receiver.next(), receiver.next()]
        .map(|hook| hook.header("webhook-id").unwrap().to_owned());
    ids.sort();
    assert_eq!(ids, [format!("evt_{one}"), format!("evt_{two}")]);
    let listed = attempts(&admin, id, 4);
    assert!(listed.iter().all(|attempt| attempt["trigger"] == "resend"));
    assert_eq!(listed.len(), 4);
}

#[test]
fn what_can_not_be_sent_once_more_is_refused() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let receiver = Receiver::start();
    let id = admin.post(ENDPOINTS, endpoint(receiver.url(), &["vote.created"])).id(201);
    let known = admin.post(EVENTS, event("post.created")).json(201)["event_id"].as_i64().unwrap();
    let path = format!("{ENDPOINTS}{id}/event/resend/");
    let one = |value: &str| admin.post(&path, format!("{{\"event\":{value}}}"));
    let bulk = |value: &str| admin.post(&format!("{path}bulk"), format!("{{\"event\":{value}}}"));
    let unknown = |key: &str| format!("Invalid pk \"{key}\" - object does not exist.");
    let wrong = |name: &str| format!("Incorrect type. Expected pk value, received {name}.");

    admin.post(&path, "").is_field("event", "This field is required.");
    admin.post(&format!("{path}bulk/"), "").is_field("event", "This field is required.");
    one("null").is_field("event", "This field may not be null.");
    bulk("null").is_field("event", "This field may not be null.");
    for (value, key) in [
        ("999999", "999999"),
        ("0", "0"),
        ("-1", "-1"),
        ("\"99\"", "99"),
        ("99999999999999999999", "99999999999999999999"),
    ] {
        one(value).is_field("event", &unknown(key));
        bulk(&format!("[{known},{value}]")).is_field("event", &unknown(key));
    }
    for (value, name) in
        [("true", "bool"), ("\"x\"", "str"), ("1.0", "float"), ("[]", "list"), ("{}", "dict")]
    {
        one(value).is_field("event", &wrong(name));
        bulk(&format!("[{known},{value}]")).is_field("event", &wrong(name));
    }
    bulk("[null]").is_field("event", &wrong("NoneType"));
    // The first wrong one is told, of whichever kind.
    bulk(&format!("[{known},77777,true]")).is_field("event", &unknown("77777"));
    bulk(&format!("[{known},true,77777]")).is_field("event", &wrong("bool"));
    bulk("[]").is(400, r#"{"event":{"non_field_errors":["This list may not be empty."]}}"#);
    bulk("7").is_field("event", "Expected a list of items but got type \"int\".");
    bulk("{}").is_field("event", "Expected a list of items but got type \"dict\".");
    let many = format!("[{known}{}]", format!(",{known}").repeat(1000));
    bulk(&many).is_field("event", "Ensure this field has no more than 1000 elements.");

    admin.patch(&format!("{ENDPOINTS}{id}/"), r#"{"is_active":false}"#).json(200);
    for refused in [one(&known.to_string()), bulk(&format!("[{known}]"))] {
        assert!(refused.json(400)["non_field_errors"][0].as_str().unwrap().contains("inactive"));
    }
    // All or none: nothing of all that was sent.
    assert_eq!(admin.get(&format!("{ENDPOINTS}{id}/attempt/")).json(200)["count"], 0);
}
