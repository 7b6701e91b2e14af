//! Publishing: what is accepted, what arrives, and what is refused.

use serde_json::{Value, json};

use super::{
    ENDPOINTS, EVENTS, endpoint, event,
    support::{Server, eventually, receiver::Receiver},
};

#[test]
fn an_event_arrives_as_it_was_published() {
    let server = Server::start();
    let (admin, publisher) = (server.with_role("admin"), server.with_role("publisher"));
    let receiver = Receiver::start();
    admin.post(ENDPOINTS, endpoint(receiver.url(), &["post.created"])).id(201);
    admin.post(ENDPOINTS, endpoint(receiver.url(), &["post.updated"])).id(201);
    let data = r#"{ "a":1.0, "a":1e2,"nul":"\u0000","lone":"\ud800","slash":"\/","é":[ ] }"#;
    let body = format!(r#"{{"data":{data},"type":"post.created","created":"1625471209.139224"}}"#);
    let accepted = publisher.post(EVENTS, body);
    let id = accepted.json(201)["event_id"].as_i64().unwrap();
    accepted.is(
        201,
        &format!(r#"{{"event_id":{id},"type":"post.created","created":1625471209.139224,"endpoint_count":1}}"#),
    );
    let arrived = receiver.next();
    assert_eq!(
        arrived.body,
        format!(
            r#"{{"event_id":{id},"type":"post.created","created":1625471209.139224,"data":{data}}}"#
        )
    );
    assert_eq!(arrived.header("content-type"), Some("application/json"));
    assert_eq!(arrived.header("webhook-id"), Some(format!("evt_{id}").as_str()));
    assert!(arrived.header("webhook-signature").unwrap().starts_with("v1,"));
    assert!(arrived.header("postrider-signature").unwrap().starts_with("t="));
}

#[test]
fn created_is_the_time_of_acceptance_unless_the_publisher_knows_better() {
    let server = Server::start();
    let publisher = server.with_role("publisher");
    let now = publisher.post(EVENTS, event("post.created")).json(201);
    assert!(now["created"].as_f64().unwrap() > 1.6e9);
    let created = |value: &str| {
        publisher
            .post(EVENTS, format!(r#"{{"type":"post.created","data":{{}},"created":{value}}}"#))
    };
    for (written, shown) in [("0", "0.0"), ("253402300799", "253402300799.0"), ("1e3", "1000.0")] {
        assert!(created(written).body.contains(&format!("\"created\":{shown},")), "{written}");
    }
    created("-1").blames("created", "Ensure this value is greater than or equal to 0.");
    for late in ["253402300799.5", "1e400"] {
        created(late).blames("created", "Ensure this value is less than or equal to 253402300799.");
    }
    created("null").blames("created", "This field may not be null.");
    for odd in ["true", "\"x\"", "[]", "\"NaN\""] {
        created(odd).blames("created", "A valid number is required.");
    }
}

#[test]
fn what_can_not_be_published_is_refused() {
    let server = Server::start();
    let publisher = server.with_role("publisher");
    let required = r#"{"type":["This field is required."],"data":["This field is required."]}"#;
    publisher.post(EVENTS, "").is(400, required);
    publisher.post(EVENTS, "{}").is(400, required);
    let of_type =
        |value: &str| publisher.post(EVENTS, format!(r#"{{"type":{value},"data":{{}}}}"#));
    of_type("\"nope\"").blames("type", "\"nope\" is not a valid choice.");
    of_type("\"\"").blames("type", "\"\" is not a valid choice.");
    of_type("7").blames("type", "\"7\" is not a valid choice.");
    of_type("true").blames("type", "\"True\" is not a valid choice.");
    of_type("null").blames("type", "This field may not be null.");
    of_type("\"\\udc00\"").blames("type", "Not a valid string.");
    for reserved in ["\"endpoint.created\"", "\"delivery.failed\""] {
        assert!(of_type(reserved).json(400)["type"][0].as_str().unwrap().contains("service's own"));
    }
    let with_data = |value: &str| {
        publisher.post(EVENTS, format!(r#"{{"type":"post.created","data":{value}}}"#))
    };
    with_data("null").blames("data", "This field may not be null.");
    for (value, name) in
        [("[]", "list"), ("\"{}\"", "str"), ("1", "int"), ("1.5", "float"), ("false", "bool")]
    {
        with_data(value)
            .blames("data", &format!("Invalid data. Expected a dictionary, but got {name}."));
    }
    let nested =
        |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    with_data(&nested(128)).json(201);
    for too_deep in [129, 400_000] {
        assert!(
            with_data(&nested(too_deep)).json(400)["data"][0].as_str().unwrap().contains("128")
        );
    }
}

#[test]
fn an_idempotency_key_makes_a_repeat_harmless() {
    let server = Server::start();
    let publisher = server.with_role("publisher");
    let with_key = |key: &str| publisher.with_header(&format!("Idempotency-Key: {key}"));
    let first = with_key("order 7").post(EVENTS, event("post.created"));
    first.json(201);
    with_key("order 7").post(EVENTS, event("post.created")).is(201, &first.body);
    assert_ne!(with_key("order 8").post(EVENTS, event("post.created")).body, first.body);
    with_key("order 7")
        .post(EVENTS, event("post.updated"))
        .says(422, "This Idempotency-Key was used with a different request.");
    // What was refused is not remembered.
    assert_eq!(with_key("x").post(EVENTS, event("nope")).status, 400);
    with_key("x").post(EVENTS, event("post.created")).json(201);
    with_key(&"k".repeat(255)).post(EVENTS, event("post.created")).json(201);
    for bad in ["", &"k".repeat(256), "a\tb"] {
        let refused = with_key(bad).post(EVENTS, event("post.created")).json(400);
        assert!(refused["detail"].as_str().unwrap().starts_with("Idempotency-Key"));
    }
    let doubled = with_key("a").with_header("Idempotency-Key: a");
    assert_eq!(doubled.post(EVENTS, event("post.created")).status, 400);
}

#[test]
fn an_event_shows_its_payload_and_where_its_deliveries_stand() {
    let server = Server::start_with(&["--retry-schedule", "3600"]);
    let admin = server.with_role("admin");
    let (quick, failing) = (Receiver::start(), Receiver::start());
    failing.answers("500 No", "");
    let quick_id = admin.post(ENDPOINTS, endpoint(quick.url(), &["post.created"])).id(201);
    let failing_id = admin.post(ENDPOINTS, endpoint(failing.url(), &["post.created"])).id(201);
    let id = admin.post(EVENTS, event("post.created")).json(201)["event_id"].as_i64().unwrap();
    let path = format!("{EVENTS}{id}/");
    let viewer = server.with_role("viewer");
    let mut shown = Value::Null;
    eventually("both were tried", || {
        shown = viewer.get(&path).json(200);
        let deliveries = shown["deliveries"].as_array().unwrap();
        deliveries.iter().all(|delivery| delivery["attempts_made"] == 1)
    });
    assert_eq!((&shown["id"], &shown["type"]), (&json!(id), &json!("post.created")));
    assert_eq!(shown["payload"], quick.next().body);
    assert_eq!(shown["delivery_count"], 2);
    let of = |endpoint: i64| {
        let deliveries = shown["deliveries"].as_array().unwrap();
        deliveries.iter().find(|delivery| delivery["endpoint"] == endpoint).unwrap().clone()
    };
    let (delivered, pending) = (of(quick_id), of(failing_id));
    assert_eq!((&delivered["status"], &delivered["due_at"]), (&json!("delivered"), &Value::Null));
    assert!(delivered["finished_at"].as_str() >= shown["added_at"].as_str());
    assert_eq!((&pending["status"], &pending["finished_at"]), (&json!("pending"), &Value::Null));
    assert!(pending["due_at"].as_str() > shown["added_at"].as_str());

    server
        .with_role("publisher")
        .get(&path)
        .says(403, "You do not have permission to perform this action.");
    for nowhere in ["0", "99999999", "99999999999999999999", "nope"] {
        viewer.get(&format!("{EVENTS}{nowhere}/")).says(404, "Not found.");
    }
}
