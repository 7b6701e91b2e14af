use super::*;

/// What was read of a body, or the errors.
fn check(body: &str, is_whole: bool, expected: &str) {
    let egress =
        EgressPolicy { allowed: vec!["10.1.0.0/16".parse().unwrap()], ..EgressPolicy::default() };
    let choice = |name: &str| {
        ["post.created", "vote.created"].contains(&name).then(|| EventType::parse(name).unwrap())
    };
    let form = Form::parse(body.as_bytes(), FIELDS).unwrap();
    let manner = if is_whole { Manner::Replaces } else { Manner::Changes };
    let shown = match Written::read_form(form, &egress, choice, manner) {
        Err(errors) => serde_json::to_string(&errors).unwrap(),
        Ok(written) => {
            let types = written.event_types.map(|types| {
                types.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>().join("+")
            });
            format!(
                "{:?} {:?} {:?} {:?} {:?}",
                written.is_active,
                written.target.as_ref().map(Target::as_str),
                written.description,
                types,
                written.ssl_cert_verification
            )
        }
    };
    assert_eq!(shown, expected, "{body}");
}

#[test]
fn a_whole_endpoint_has_its_required_fields() {
    check(
        r#"{"id":9,"target":" https://x.example/ ","events":[{"type":"vote.created","added_at":1},{"type":"post.created"},{"type":"vote.created"}]}"#,
        true,
        r#"None Some("https://x.example/") None Some("vote.created+post.created") None"#,
    );
    check(
        r#"{"ssl_cert_verification":"off","is_active":0,"description":" d ","target":"http://10.1.2.3/","events":[{"type":"post.created"}]}"#,
        true,
        r#"Some(false) Some("http://10.1.2.3/") Some("d") Some("post.created") Some(false)"#,
    );
    check(
        "{}",
        true,
        r#"{"target":["This field is required."],"events":["This field is required."]}"#,
    );
    check("{}", false, "None None None None None");
}

#[test]
fn all_wrong_fields_are_reported_in_the_contracts_order() {
    check(
        r#"{"ssl_cert_verification":"x","events":[{"type":"post.created"},{"type":"nope"},{"type":1},{"type":""},{"type":true}],"description":null,"target":"","is_active":2}"#,
        true,
        r#"{"is_active":["Must be a valid boolean."],"target":["This field may not be blank."],"description":["This field may not be null."],"events":[{},{"type":["\"nope\" is not a valid choice."]},{"type":["\"1\" is not a valid choice."]},{"type":["\"\" is not a valid choice."]},{"type":["\"True\" is not a valid choice."]}],"ssl_cert_verification":["Must be a valid boolean."]}"#,
    );
    check(r#"{"events":null}"#, false, r#"{"events":["This field may not be null."]}"#);
    check(
        r#"{"events":[]}"#,
        false,
        r#"{"events":{"non_field_errors":["This list may not be empty."]}}"#,
    );
    check(
        r#"{"events":"x"}"#,
        false,
        r#"{"events":{"non_field_errors":["Expected a list of items but got type \"str\"."]}}"#,
    );
    check(
        r#"{"events":[{"type":"\ud800"}]}"#,
        false,
        r#"{"events":[{"type":["Not a valid string."]}]}"#,
    );
    check(
        &format!(r#"{{"description":"{}"}}"#, "é".repeat(1001)),
        false,
        r#"{"description":["Ensure this field has no more than 1000 characters."]}"#,
    );
}

#[test]
fn targets_are_urls_that_may_be_called() {
    let refused = |target: &str, text: &str| {
        let expected = serde_json::json!({ "target": [text] }).to_string();
        check(&serde_json::json!({ "target": target }).to_string(), false, &expected);
    };
    refused("nonsense", "Enter a valid URL.");
    refused("ftp://x.example/", "Enter a valid URL.");
    refused(
        &format!("http://x.example/{}", "a".repeat(2000)),
        "Ensure this field has no more than 2000 characters.",
    );
    refused(
        "http://user:pass@x.example/",
        "A target has no user or password: everybody who sees the endpoint would see them.",
    );
    for (host, block) in [
        ("127.0.0.1", "loopback, 127.0.0.0/8"),
        ("10.2.0.1", "private, 10.0.0.0/8"),
        ("169.254.169.254", "link-local, where clouds keep their metadata, 169.254.0.0/16"),
        ("::1", "loopback, ::1/128"),
        ("localhost", "loopback, 127.0.0.0/8"),
        ("a.localhost", "loopback, 127.0.0.0/8"),
        ("localhost.", "loopback, 127.0.0.0/8"),
    ] {
        let written = if host.contains(':') {
            format!("http://[{host}]/")
        } else {
            format!("http://{host}/")
        };
        refused(
            &written,
            &format!(
                "deliveries to {host} are not allowed: its address is not a public one ({block}), and --egress-allow does \
                 not list it"
            ),
        );
    }
}
