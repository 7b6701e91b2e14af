//! The catalogue: listed in order, added to, and retired from.

use serde_json::{Value, json};

use super::{ENDPOINTS, EVENT_TYPES, EVENTS, endpoint, event, support::Server};

#[test]
fn names_are_a_bare_list_in_catalogue_order() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let names = admin.get(&format!("{ENDPOINTS}event/")).json(200);
    let names = names.as_array().unwrap();
    assert!(names.contains(&json!("post.created")));
    let page = admin.get(&format!("{EVENT_TYPES}?limit=3")).json(200);
    assert_eq!(page["count"], names.len());
    let listed: Vec<Value> =
        page["results"].as_array().unwrap().iter().map(|entry| entry["type"].clone()).collect();
    assert_eq!(listed, names[..3]);
}

#[test]
fn a_type_is_added_retired_and_offered_again() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let names = || admin.get(&format!("{ENDPOINTS}event")).json(200).as_array().unwrap().clone();
    let before = names();
    let added = admin.post(EVENT_TYPES, r#"{"type":" order.paid ","description":" é "}"#);
    let shown = added.json(201);
    let created_at = shown["created_at"].as_str().unwrap();
    let text = format!(r#"{{"type":"order.paid","description":"é","created_at":"{created_at}"}}"#);
    assert_eq!(added.body, text);
    assert_eq!(names().last().unwrap(), "order.paid");
    let taken = "event type with this type already exists.";
    admin.post(EVENT_TYPES, r#"{"type":"order.paid"}"#).is_field("type", taken);
    admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["order.paid"])).id(201);

    let path = format!("{EVENT_TYPES}order.paid");
    admin.delete(&path).is(204, "");
    admin.delete(&format!("{path}/")).is_detail(404, "Not found.");
    admin.delete(&format!("{EVENT_TYPES}a%20b/")).is_detail(404, "Not found.");
    assert_eq!(names(), before);
    // Retired is not unknown: it can still be published.
    admin.post(EVENTS, event("order.paid")).json(201);
    let again = admin.post(EVENT_TYPES, r#"{"type":"order.paid"}"#).json(201);
    assert_eq!(again["description"], "");
    assert_eq!(names().last().unwrap(), "order.paid");
}

#[test]
fn wrong_types_are_told_what_is_wrong() {
    let server = Server::start();
    let admin = server.with_role("admin");
    admin.post(EVENT_TYPES, "").is_field("type", "This field is required.");
    let type_of = |value: &str| admin.post(EVENT_TYPES, format!("{{\"type\":{value}}}"));
    type_of("null").is_field("type", "This field may not be null.");
    type_of("\"\"").is_field("type", "This field may not be blank.");
    type_of("[]").is_field("type", "Not a valid string.");
    type_of("\"a\\u0000\"").is_field("type", "Null characters are not allowed.");
    let long = format!("\"{}\"", "x".repeat(129));
    type_of(&long).is_field("type", "Ensure this field has no more than 128 characters.");
    for malformed in ["\"a b\"", "\"a..b\"", "\".a\"", "\"é\"", "\"a/b\"", "1.5e3.x"] {
        assert_eq!(type_of(malformed).status, 400, "{malformed}");
    }
    for reserved in ["\"endpoint.created\"", "\"delivery.failed\""] {
        assert!(type_of(reserved).json(400)["type"][0].as_str().unwrap().contains("service's own"));
    }
    let body = format!(r#"{{"type":"ok","description":"{}"}}"#, "x".repeat(1001));
    admin
        .post(EVENT_TYPES, body)
        .is_field("description", "Ensure this field has no more than 1000 characters.");
    admin.post(EVENT_TYPES, r#"{"type":true,"description":null}"#).is(
        400,
        r#"{"type":["Not a valid string."],"description":["This field may not be null."]}"#,
    );
}
