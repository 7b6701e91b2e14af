//! Endpoints: what is shown, what is refused, and with which words.

use serde_json::{Value, json};

use super::{
    ENDPOINTS, endpoint,
    support::{Server, eventually},
};

/// The names of an object's fields, in their order on the wire.
fn fields(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut rest) = (0, text);
    while let Some(at) = rest.find(['{', '}', '[', ']', '"']) {
        match &rest[at..=at] {
            "{" | "[" => depth += 1,
            "}" | "]" => depth -= 1,
            _ => {
                let end = at + 1 + rest[at + 1..].find('"').unwrap();
                if depth == 1 && rest[end + 1..].starts_with(':') {
                    names.push(rest[at + 1..end].to_owned());
                }
                rest = &rest[end + 1..];
                continue;
            }
        }
        rest = &rest[at + 1..];
    }
    names
}

#[test]
fn an_endpoint_lives_from_post_to_delete() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let body = r#"{"id":99,"created_at":"x","unknown":[],"target":" http://127.0.0.1:1/é?q=1 ","events":[{"type":"vote.created","added_at":null},{"type":"post.created"},{"type":"vote.created"}]}"#;
    let created = admin.post(ENDPOINTS, body);
    let shown = created.json(201);
    let id = shown["id"].as_i64().unwrap();
    assert_eq!(
        fields(&created.body),
        [
            "id",
            "created_at",
            "updated_at",
            "is_active",
            "target",
            "description",
            "events",
            "ssl_cert_verification",
            "signature_algorithms"
        ]
    );
    assert!(created.body.contains("\"target\":\"http://127.0.0.1:1/é?q=1\""), "{}", created.body);
    let at = &shown["created_at"];
    assert!(at.as_str().unwrap().ends_with('Z'));
    assert_eq!(
        shown,
        json!({
            "id": id, "created_at": at, "updated_at": at, "is_active": true,
            "target": "http://127.0.0.1:1/é?q=1", "description": "",
            "events": [{"type": "vote.created", "added_at": at}, {"type": "post.created", "added_at": at}],
            "ssl_cert_verification": true,
            "signature_algorithms": ["hmac-sha256"]
        })
    );
    let path = format!("{ENDPOINTS}{id}/");
    admin.get(&path).is(200, &created.body);
    admin.get(&format!("{ENDPOINTS}00{id}")).is(200, &created.body);

    let gone = admin.delete(&path).is(204, "");
    assert_eq!(gone.header("content-type"), None);
    admin.get(&path).says(404, "Not found.");
    admin.delete(&path).says(404, "Not found.");
    admin.get(&format!("{path}attempt/")).says(404, "Not found.");
    assert_eq!(admin.get(ENDPOINTS).json(200)["count"], 0);
}

#[test]
fn put_replaces_and_patch_changes() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let first = json!({
        "is_active": "off", "target": "http://127.0.0.1:1/", "description": " words ",
        "events": [{"type": "vote.created"}, {"type": "post.created"}], "ssl_cert_verification": 0
    });
    let first = admin.post(ENDPOINTS, first.to_string()).json(201);
    let path = format!("{ENDPOINTS}{}/", first["id"]);
    assert_eq!(
        (&first["is_active"], &first["description"], &first["ssl_cert_verification"]),
        (&json!(false), &json!("words"), &json!(false))
    );

    // What PUT omits keeps its value; a type that stays keeps its `added_at`.
    let put = admin.put(&path, endpoint("http://127.0.0.1:2/", &["post.created", "post.updated"]));
    let put = put.json(200);
    assert_eq!(put["target"], "http://127.0.0.1:2/");
    assert_eq!(
        (&put["is_active"], &put["description"]),
        (&first["is_active"], &first["description"])
    );
    assert_eq!(put["created_at"], first["created_at"]);
    assert!(put["updated_at"].as_str() > first["updated_at"].as_str());
    assert_eq!(put["events"][0], first["events"][1]);
    assert!(put["events"][1]["added_at"].as_str() > first["created_at"].as_str());
    assert_eq!(put["events"].as_array().unwrap().len(), 2);

    let patched = admin.patch(&path, r#"{"is_active":"YES"}"#).json(200);
    assert_eq!(patched["is_active"], true);
    assert_eq!(patched["events"], put["events"]);
    // Nothing to change is a change all the same.
    for nothing in ["{}", "", r#"{"id":5,"nope":1}"#] {
        let before = admin.get(&path).json(200);
        let after = admin.patch(&path, nothing).json(200);
        assert!(after["updated_at"].as_str() > before["updated_at"].as_str());
        assert_eq!(after["target"], before["target"]);
    }
    let required = r#"{"target":["This field is required."],"events":["This field is required."]}"#;
    admin.put(&path, "{}").is(400, required);
    admin.post(ENDPOINTS, "").is(400, required);
}

#[test]
fn wrong_fields_are_reported_together() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let wrong = r#"{"is_active":"maybe","target":7,"description":true,"events":[{"type":"post.created"},{"type":"nope"},{}],"ssl_cert_verification":null}"#;
    let told = r#"{"is_active":["Must be a valid boolean."],"target":["Enter a valid URL."],"description":["Not a valid string."],"events":[{},{"type":["\"nope\" is not a valid choice."]},{"type":["This field is required."]}],"ssl_cert_verification":["This field may not be null."]}"#;
    admin.post(ENDPOINTS, wrong).is(400, told);
    let id = admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    admin.put(&format!("{ENDPOINTS}{id}/"), wrong).is(400, told);
    admin.patch(&format!("{ENDPOINTS}{id}/"), wrong).is(400, told);
}

#[test]
fn each_wrong_value_has_its_words() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let id = admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let path = format!("{ENDPOINTS}{id}/");
    let told = |field: &str, value: &str, problem: Value| {
        let answer = admin.patch(&path, format!("{{\"{field}\":{value}}}"));
        answer.is(400, &json!({ field: problem }).to_string());
    };
    for field in ["is_active", "target", "description", "events", "ssl_cert_verification"] {
        told(field, "null", json!(["This field may not be null."]));
    }
    for odd in ["[]", "{}", "2", "\"\"", "\"truth\""] {
        told("is_active", odd, json!(["Must be a valid boolean."]));
    }
    for odd in ["true", "[]", "{}", "\"\\ud800\""] {
        told("description", odd, json!(["Not a valid string."]));
        told("target", odd, json!(["Not a valid string."]));
    }
    told("description", "\"a\\u0000b\"", json!(["Null characters are not allowed."]));
    let long = format!("\"{}\"", "é".repeat(1001));
    told("description", &long, json!(["Ensure this field has no more than 1000 characters."]));
    told("target", "\" \"", json!(["This field may not be blank."]));
    for odd in ["\"x\"", "\"ftp://x.example/\"", "\"http://a b/\"", "\"http:///x\"", "12"] {
        told("target", odd, json!(["Enter a valid URL."]));
    }
    let long = format!("\"http://x.example/{}\"", "a".repeat(2000));
    told("target", &long, json!(["Ensure this field has no more than 2000 characters."]));
    let credentials = admin.patch(&path, r#"{"target":"http://user:secret@x.example/"}"#);
    assert_eq!(credentials.status, 400);
    assert!(!credentials.body.contains("secret"), "{}", credentials.body);
    for host in ["10.0.0.1", "169.254.169.254", "[::1]", "0x0a.1", "192.168.0.1:8080"] {
        let answer = admin.patch(&path, format!("{{\"target\":\"http://{host}/\"}}"));
        assert_eq!(answer.status, 400, "{host}");
        assert!(answer.body.contains("--egress-allow"), "{}", answer.body);
    }

    told("events", "[]", json!({"non_field_errors": ["This list may not be empty."]}));
    for (value, name) in
        [("\"x\"", "str"), ("7", "int"), ("1.5", "float"), ("true", "bool"), ("{}", "dict")]
    {
        let text = format!("Expected a list of items but got type \"{name}\".");
        told("events", value, json!({"non_field_errors": [text]}));
        let text = format!("Invalid data. Expected a dictionary, but got {name}.");
        if name != "dict" {
            told(
                "events",
                &format!("[{{\"type\":\"post.created\"}},{value}]"),
                json!([{}, {"non_field_errors": [text]}]),
            );
        }
    }
    told(
        "events",
        "[null]",
        json!([{"non_field_errors": ["Invalid data. Expected a dictionary, but got NoneType."]}]),
    );
    told(
        "events",
        "[[]]",
        json!([{"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}]),
    );
    for (value, text) in [
        ("null", "This field may not be null."),
        ("\"\"", "\"\" is not a valid choice."),
        ("1", "\"1\" is not a valid choice."),
        ("\" post.created\"", "\" post.created\" is not a valid choice."),
        ("\"\\ud800\"", "Not a valid string."),
    ] {
        told("events", &format!("[{{\"type\":{value}}}]"), json!([{"type": [text]}]));
    }
    // Nothing of all that has changed anything.
    let shown = admin.get(&path).json(200);
    assert_eq!(shown["created_at"], shown["updated_at"]);
}

#[test]
fn booleans_may_be_spelled_in_many_ways() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let id = admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let path = format!("{ENDPOINTS}{id}/");
    let reads = |spelled: &str| {
        admin.patch(&path, format!("{{\"is_active\":{spelled}}}")).json(200)["is_active"].clone()
    };
    for word in ["true", "1", "\"True\"", "\"t\"", "\"YES\"", "\"y\"", "\"On\"", "\"1\""] {
        assert_eq!(reads(word), true, "{word}");
    }
    for word in ["false", "0", "\"False\"", "\"f\"", "\"NO\"", "\"n\"", "\"Off\"", "\"0\""] {
        assert_eq!(reads(word), false, "{word}");
    }
}

#[test]
fn localhost_needs_the_operators_leave() {
    // The server of the tests may deliver to 127.0.0.0/8, so `localhost` is welcome too.
    let server = Server::start();
    let admin = server.with_role("admin");
    admin.post(ENDPOINTS, endpoint("http://localhost:1/", &["post.created"])).id(201);
    admin.post(ENDPOINTS, endpoint("http://a.localhost/", &["post.created"])).id(201);
}

#[test]
fn a_retired_type_may_stay_but_not_come() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let id = admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    admin.delete("/api/v2/webhook/event_type/post.created/").is(204, "");
    let path = format!("{ENDPOINTS}{id}/");
    let both = endpoint("http://127.0.0.1:1/", &["post.created", "post.updated"]);
    assert_eq!(admin.put(&path, &both).json(200)["events"][0]["type"], "post.created");
    let refused = json!({"events": [{"type": ["\"post.created\" is not a valid choice."]}, {}]});
    admin.post(ENDPOINTS, &both).is(400, &refused.to_string());
    admin.patch(&path, r#"{"events":[{"type":"post.updated"}]}"#).json(200);
    admin.put(&path, &both).is(400, &refused.to_string());
}

#[test]
fn tenants_do_not_see_each_other() {
    let server = Server::start();
    server.cli(&["tenant", "create", "acme"]);
    let ours = server.with_role("admin");
    let theirs = server.with_token_of(&["--role", "admin", "--tenant", "acme"]);
    let id = ours.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let path = format!("{ENDPOINTS}{id}/");
    eventually("the new tenant is there", || theirs.get(ENDPOINTS).status == 200);
    theirs.get(&path).says(404, "Not found.");
    theirs.delete(&path).says(404, "Not found.");
    theirs.patch(&path, "{}").says(404, "Not found.");
    theirs.post(&format!("{path}secret/reveal/"), "").says(404, "Not found.");
    assert_eq!(theirs.get(ENDPOINTS).json(200)["count"], 0);
    let operator = server.operator();
    operator.get(&path).json(200);
    operator.with_header("Postrider-Tenant: acme").get(&path).says(404, "Not found.");
    operator.with_header("Postrider-Tenant: default").get(&path).json(200);
    operator.with_header("Postrider-Tenant: nobody").get(ENDPOINTS).says(404, "Not found.");
    let doubled =
        operator.with_header("Postrider-Tenant: acme").with_header("Postrider-Tenant: acme");
    assert_eq!(doubled.get(ENDPOINTS).status, 400);
    // For everybody else the header means nothing.
    ours.with_header("Postrider-Tenant: acme").get(&path).json(200);
}
