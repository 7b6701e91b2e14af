//! Publishing: what is accepted, what arrives, and what is refused.

use super::{
    ENDPOINTS, EVENTS, endpoint, event,
    support::{Server, receiver::Receiver},
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
    created("-1").is_field("created", "Ensure this value is greater than or equal to 0.");
    for late in ["253402300799.5", "1e400"] {
        created(late)
            .is_field("created", "Ensure this value is less than or equal to 253402300799.");
    }
    created("null").is_field("created", "This field may not be null.");
    for odd in ["true", "\"x\"", "[]", "\"NaN\""] {
        created(odd).is_field("created", "A valid number is required.");
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
    of_type("\"nope\"").is_field("type", "\"nope\" is not a valid choice.");
    of_type("\"\"").is_field("type", "\"\" is not a valid choice.");
    of_type("7").is_field("type", "\"7\" is not a valid choice.");
    of_type("true").is_field("type", "\"True\" is not a valid choice.");
    of_type("null").is_field("type", "This field may not be null.");
    of_type("\"\\udc00\"").is_field("type", "Not a valid string.");
    for reserved in ["\"endpoint.created\"", "\"delivery.failed\""] {
        assert!(of_type(reserved).json(400)["type"][0].as_str().unwrap().contains("service's own"));
    }
    let with_data = |value: &str| {
        publisher.post(EVENTS, format!(r#"{{"type":"post.created","data":{value}}}"#))
    };
    with_data("null").is_field("data", "This field may not be null.");
    for (value, name) in
        [("[]", "list"), ("\"{}\"", "str"), ("1", "int"), ("1.5", "float"), ("false", "bool")]
    {
        with_data(value)
            .is_field("data", &format!("Invalid data. Expected a dictionary, but got {name}."));
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
        .is_detail(422, "This Idempotency-Key was used with a different request.");
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
