//! Publishing many events at once: all or none, with errors by place.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{
    BULK, ENDPOINTS, EVENTS, endpoint, event,
    support::{Server, receiver::Receiver},
};

/// A list of these texts.
fn list(items: &[&str]) -> String {
    format!("[{}]", items.join(","))
}

/// What is said of an item as a whole.
fn whole(text: &str) -> String {
    json!({ "non_field_errors": [text] }).to_string()
}

/// An event whose text has that many bytes.
fn of_length(length: usize) -> String {
    let frame = r#"{"type":"post.created","data":{"a":""}}"#;
    frame.replace("\"\"", &format!("\"{}\"", "x".repeat(length - frame.len())))
}

#[test]
fn a_bulk_arrives_as_it_was_published() {
    let server = Server::start();
    let (admin, publisher) = (server.with_role("admin"), server.with_role("publisher"));
    let receiver = Receiver::start();
    admin.post(ENDPOINTS, endpoint(receiver.url(), &["post.created"])).id(201);
    let data = r#"{ "a":1.0, "a":1e2,"nul":"\u0000","lone":"\ud800","slash":"\/","é":[ ] }"#;
    let bulk = list(&[
        &format!(r#" {{"data":{data},"type":"post.created","created":"1e3"}} "#),
        &event("post.updated"),
        &event("post.created"),
    ]);
    let accepted = publisher.post(BULK, format!(" \n{bulk}\n"));
    let first = accepted.json(201)[0]["event_id"].as_i64().unwrap();
    let (second, third) = (first + 1, first + 2);
    accepted.is(
        201,
        &format!(
            r#"[{{"event_id":{first},"endpoint_count":1}},{{"event_id":{second},"endpoint_count":0}},{{"event_id":{third},"endpoint_count":1}}]"#
        ),
    );
    let arrived = [receiver.next(), receiver.next()];
    let expected =
        format!(r#"{{"event_id":{first},"type":"post.created","created":1000.0,"data":{data}}}"#);
    assert!(arrived.iter().any(|webhook| webhook.body == expected), "{arrived:?}");
    let ids: HashSet<_> =
        arrived.iter().map(|webhook| webhook.header("webhook-id").unwrap().to_owned()).collect();
    assert_eq!(ids, [first, third].map(|id| format!("evt_{id}")).into());
}

#[test]
fn a_thousand_events_are_delivered_to_all_who_want_them() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let receivers = [Receiver::start(), Receiver::start()];
    for receiver in &receivers {
        admin.post(ENDPOINTS, endpoint(receiver.url(), &["post.created"])).id(201);
    }
    let mut wanted = HashSet::new();
    // The second bulk finds less room in the lanes than it has events, so that some of it waits in the store.
    for _ in 0..2 {
        let events: Vec<Value> =
            (0..1_000).map(|n| json!({"type": "post.created", "data": {"n": n}})).collect();
        let accepted = admin.post(BULK, Value::from(events).to_string()).json(201);
        let accepted = accepted.as_array().unwrap();
        assert!(accepted.iter().all(|event| event["endpoint_count"] == 2));
        wanted.extend(accepted.iter().map(|event| format!("evt_{}", event["event_id"])));
    }
    assert_eq!(wanted.len(), 2_000);
    for receiver in &receivers {
        let mut missing = wanted.clone();
        while !missing.is_empty() {
            missing.remove(receiver.next().header("webhook-id").unwrap());
        }
    }
}

#[test]
fn one_wrong_event_keeps_all_of_them_out() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let receiver = Receiver::start();
    admin.post(ENDPOINTS, endpoint(receiver.url(), &["post.created"])).id(201);
    let (good, unknown) = (event("post.created"), event("nope"));
    let refused = r#"[{},{"type":["\"nope\" is not a valid choice."]},{}]"#;
    admin.post(BULK, list(&[&good, &unknown, &good])).is(400, refused);
    let alone = admin.post(EVENTS, &good).json(201)["event_id"].as_i64().unwrap();
    let together = admin.post(BULK, list(&[&good])).json(201)[0]["event_id"].as_i64().unwrap();
    for _ in [alone, together] {
        let arrived = receiver.next();
        let id: i64 = arrived.header("webhook-id").unwrap()[4..].parse().unwrap();
        assert!([alone, together].contains(&id), "event {id} was refused, and yet it arrived");
    }
}

#[test]
fn errors_are_told_by_place() {
    let server = Server::start();
    let publisher = server.with_role("publisher");
    let good = event("post.created");
    let check = |items: &[&str], expected: &[&str]| {
        publisher.post(BULK, list(items)).is(400, &list(expected));
    };
    check(
        &["{}", &good, r#"{"type":7,"data":[],"created":-1}"#],
        &[
            r#"{"type":["This field is required."],"data":["This field is required."]}"#,
            "{}",
            r#"{"type":["\"7\" is not a valid choice."],"data":["Invalid data. Expected a dictionary, but got list."],"created":["Ensure this value is greater than or equal to 0."]}"#,
        ],
    );
    for (item, kind) in [("\"x\"", "str"), ("[]", "list"), ("1", "int"), ("true", "bool")] {
        let text = format!("Invalid data. Expected a dictionary, but got {kind}.");
        check(&[&good, item], &["{}", &whole(&text)]);
    }
    let reserved = r#"Types that begin with "endpoint." or "delivery." are the service's own."#;
    check(&[&event("delivery.failed")], &[&json!({ "type": [reserved] }).to_string()]);
    let surrogate = r#"{"\ud800":"\udfff","type":"\ud800","data":{"a":"\ud800"}}"#;
    check(&[&good, surrogate], &["{}", r#"{"type":["Not a valid string."]}"#]);
}

#[test]
fn a_bulk_is_a_list_of_one_to_a_thousand() {
    let server = Server::start();
    let publisher = server.with_role("publisher");
    for (body, kind) in
        [("", "dict"), ("{}", "dict"), ("\"[]\"", "str"), ("1", "int"), ("1e2", "float")]
    {
        let text = format!("Expected a list of items but got type \"{kind}\".");
        publisher.post(BULK, body).blames("non_field_errors", &text);
    }
    publisher.post(BULK, "null").blames("non_field_errors", "No data provided");
    publisher.post(BULK, "[]").blames("non_field_errors", "This list may not be empty.");
    let good = event("post.created");
    let many = |count: usize| list(&vec![good.as_str(); count]);
    let too_many = "Ensure this field has no more than 1000 elements.";
    publisher.post(BULK, many(1_001)).blames("non_field_errors", too_many);
    assert_eq!(publisher.post(BULK, many(1_000)).json(201).as_array().unwrap().len(), 1_000);
    // What is wrong with the items of a list that is too long, nobody looks at.
    let zeros = format!("[{}0]", "0,".repeat(5_000_000));
    publisher.post(BULK, zeros).blames("non_field_errors", too_many);
    for broken in ["[", "[{}", "[{},]", "[{}]]", "[\"\u{1}\"]", "[nul]", " "] {
        let detail = publisher.post(BULK, broken).json(400)["detail"].to_string();
        assert!(detail.starts_with("\"JSON parse error - "), "{detail}");
    }
    let unfinished = format!("[{}", "0,".repeat(2_000));
    assert!(publisher.post(BULK, unfinished).body.contains("JSON parse error"));
}

#[test]
fn an_event_in_a_bulk_is_as_large_as_a_single_one_at_most() {
    let server = Server::start();
    let publisher = server.with_role("publisher");
    let (largest, larger) = (of_length(1_048_576), of_length(1_048_577));
    // The space between events is nobody's.
    let padded = format!("  {largest}  ");
    publisher.post(BULK, list(&[&padded, &event("post.created")])).json(201);
    let text = whole("This item is larger than 1048576 bytes.");
    publisher.post(BULK, list(&[&largest, &larger])).is(400, &list(&["{}", &text]));

    let bulk = 16 * 1024 * 1024;
    let mut all = list(&vec![largest.as_str(); 15]);
    all += &" ".repeat(bulk - all.len());
    assert_eq!(publisher.post(BULK, &all).json(201).as_array().unwrap().len(), 15);
    all.push(' ');
    publisher.post(BULK, &all).says(413, "Request body is larger than 16777216 bytes.");

    let strict = Server::start_with(&["--body-limit", "2048"]);
    let publisher = strict.with_role("publisher");
    let text = whole("This item is larger than 2048 bytes.");
    let two = [of_length(2_048), of_length(2_049)];
    publisher.post(BULK, list(&[&two[0], &two[1]])).is(400, &list(&["{}", &text]));
    publisher.post(BULK, list(&[&two[0], &two[0]])).json(201);
}

#[test]
fn a_bulk_of_a_million_levels_is_answered_quickly() {
    let server = Server::start_with(&["--body-limit", "20000000"]);
    let publisher = server.with_role("publisher");
    let (open, close) = ("[".repeat(1_000_000), "]".repeat(1_000_000));
    let list_error = whole("Invalid data. Expected a dictionary, but got list.");
    publisher.post(BULK, format!("{open}{close}")).is(400, &list(&[&list_error]));
    assert_eq!(publisher.post(BULK, &open).status, 400);
    assert_eq!(publisher.post(BULK, "[{\"a\":".repeat(1_000_000)).status, 400);
    let deep = format!(r#"{{"type":"post.created","data":{{"a":{open}{close}}}}}"#);
    let text = r#"{"data":["Ensure this field is nested no deeper than 128 levels."]}"#;
    publisher.post(BULK, list(&[&deep])).is(400, &list(&[text]));
}

#[test]
fn who_may_publish_one_event_may_publish_many() {
    let server = Server::start();
    let bulk = list(&[&event("post.created")]);
    for role in ["publisher", "admin", "operator"] {
        server.with_role(role).post(BULK, &bulk).json(201);
    }
    let denied = "You do not have permission to perform this action.";
    server.with_role("viewer").post(BULK, &bulk).says(403, denied);
    server.anyone().post(BULK, &bulk).says(401, "Authentication credentials were not provided.");
    let publisher = server.with_role("publisher");
    publisher.post(BULK.trim_end_matches('/'), &bulk).json(201);
    publisher.send("OPTIONS", BULK, b"").json(200);
    let put = server.operator().put(BULK, &bulk).says(405, "Method \"PUT\" not allowed.");
    assert_eq!(put.header("allow"), Some("POST, OPTIONS"));
}

#[test]
fn a_bulk_with_an_idempotency_key_is_refused_rather_than_repeated() {
    let server = Server::start();
    let publisher = server.with_role("publisher").with_header("Idempotency-Key: order 7");
    publisher.post(BULK, list(&[&event("post.created")])).says(
        400,
        "A bulk takes no Idempotency-Key. Publish one by one what has to be safe to repeat.",
    );
}
