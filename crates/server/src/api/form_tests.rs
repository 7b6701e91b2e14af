use proptest::prelude::*;

use super::{
    super::input::{TextRule, boolean, not_a_choice, text},
    *,
};

fn shown<T: fmt::Debug>(result: Result<T, Problem>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(problem) => serde_json::to_string(&problem).unwrap(),
    }
}

fn json(text: &str) -> Json<'_> {
    Json(serde_json::from_str(text).unwrap())
}

/// The values of `a` and `b` in a body, or the error.
fn parsed(body: &[u8]) -> String {
    match Form::parse(body, ["a", "b"]) {
        Ok(form) => format!("{:?}", form.values.map(|value| value.map(RawValue::get))),
        Err(ApiError::BadRequest(text)) => text.into_owned(),
        Err(ApiError::Invalid(errors)) => serde_json::to_string(&errors).unwrap(),
        Err(other) => format!("{other:?}"),
    }
}

#[test]
fn a_body_is_an_object_of_raw_values() {
    let check =
        |body: &str, expected: &str| assert_eq!(parsed(body.as_bytes()), expected, "{body}");
    check("{}", "[None, None]");
    check(" \r\n\t{\"b\" : [1, 2] } ", r#"[None, Some("[1, 2]")]"#);
    check(r#"{"a":1,"c":{},"a":2}"#, r#"[Some("2"), None]"#);
    check(r#"{"\u0061":1}"#, r#"[Some("1"), None]"#);
    check(r#"{"\ud800":1,"c":"\udfff","a":"\ud800"}"#, r#"[Some("\"\\ud800\""), None]"#);
    check(r#"{"c":1e999999,"a":-0}"#, r#"[Some("-0"), None]"#);
    check("", "JSON parse error - EOF while parsing a value at line 1 column 0");
    check("{", "JSON parse error - EOF while parsing an object at line 1 column 1");
    check("{\"a\":1,}", "JSON parse error - trailing comma at line 1 column 8");
    check("{\"a\":1} x", "JSON parse error - trailing characters at line 1 column 9");
    check(
        "{\"a\":\"\n\"}",
        "JSON parse error - control character (\\u0000-\\u001F) found while parsing a string at line 1 column 6",
    );
    check("{\"c\":NaN}", "JSON parse error - expected value at line 1 column 6");
    check("\u{feff}{}", "JSON parse error - expected value at line 1 column 1");
    check("[]", r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}"#);
    check("\"x\"", r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got str."]}"#);
    check("1", r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got int."]}"#);
    check("1.5", r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got float."]}"#);
    check("true", r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got bool."]}"#);
    check("null", r#"{"non_field_errors":["No data provided"]}"#);
    assert_eq!(parsed(b"{\"a\":\"\xff\"}"), "JSON parse error - invalid UTF-8 after byte 6");
}

/// The field `a` of each object in a list of at most three, each of at most 20 bytes, or the error.
fn listed(body: &str) -> String {
    let rule = ListRule { items_max: 3, item_bytes_max: 20 };
    let read = |form: &mut Form<'_, 1>| form.required("a", |value| Ok(value.0.get().to_owned()));
    match list(body.as_bytes(), rule, ["a"], read) {
        Ok(read) => format!("{read:?}"),
        Err(ApiError::BadRequest(text)) => text.into_owned(),
        Err(ApiError::Invalid(errors)) => serde_json::to_string(&errors).unwrap(),
        Err(ApiError::InvalidItems(places)) => serde_json::to_string(&places).unwrap(),
        Err(other) => format!("{other:?}"),
    }
}

#[test]
fn a_body_may_be_a_list_of_objects() {
    let check = |body: &str, expected: &str| assert_eq!(listed(body), expected, "{body}");
    let non_field = |text: &str| format!(r#"{{"non_field_errors":["{text}"]}}"#);
    check(r#" [ {"a": 1e2 }, {"b":0,"a":"\ud800"}]"#, r#"["1e2", "\"\\ud800\""]"#);
    check(r#"[{"a":1},{},{"a":2}]"#, r#"[{},{"a":["This field is required."]},{}]"#);
    let no_object = non_field("Invalid data. Expected a dictionary, but got str.");
    check(r#"["x",{"a":1}]"#, &format!("[{no_object},{{}}]"));
    let no_object = non_field("Invalid data. Expected a dictionary, but got NoneType.");
    check("[null]", &format!("[{no_object}]"));
    check("[]", &non_field("This list may not be empty."));
    check("[0,0,0,0]", &non_field("Ensure this field has no more than 3 elements."));
    check("{}", &non_field(r#"Expected a list of items but got type \"dict\"."#));
    check("1.5", &non_field(r#"Expected a list of items but got type \"float\"."#));
    check("null", &non_field("No data provided"));
    let too_large = non_field("This item is larger than 20 bytes.");
    check(r#"[  {"a":"twenty bytes"}  ,{"a":"twenty bytes!"}]"#, &format!("[{{}},{too_large}]"));
    check("", "JSON parse error - EOF while parsing a value at line 1 column 0");
    check("[", "JSON parse error - EOF while parsing a list at line 1 column 1");
    check("[{},]", "JSON parse error - trailing comma at line 1 column 5");
    check("[0,0,0,0,}", "JSON parse error - expected value at line 1 column 10");
    check("[] x", "JSON parse error - trailing characters at line 1 column 4");
}

#[test]
fn a_million_levels_exhaust_nothing() {
    let (open, close) = ("[".repeat(1_000_000), "]".repeat(1_000_000));
    let list = r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}"#;
    assert_eq!(parsed(format!("{open}{close}").as_bytes()), list);
    assert!(parsed(open.as_bytes()).starts_with("JSON parse error - EOF while parsing a list"));
    assert!(parsed("{\"a\":".repeat(1_000_000).as_bytes()).starts_with("JSON parse error - EOF"));
    assert_eq!(parsed(format!("{{\"c\":{open}{close}}}").as_bytes()), "[None, None]");
    let nested = format!("{open}{close}");
    let rule = TextRule { length_max: 9, may_be_blank: true, trims: true };
    assert_eq!(shown(text(json(&nested), rule)), r#"["Not a valid string."]"#);
    assert_eq!(
        shown(objects(json(&nested), ["type"], |_| Some(()))),
        r#"[{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}]"#
    );
    assert!(not_a_choice(json(&nested)) != Problem::text(""));
}

#[test]
fn lists_of_objects_report_by_place() {
    let check = |value: &str, expected: &str| {
        let found =
            objects(json(value), ["type"], |form| form.required("type", |value| boolean(value)));
        assert_eq!(shown(found), expected, "{value}");
    };
    check(r#"[{"type":true},{"type":"no","x":1}]"#, "[true, false]");
    check(
        r#"[{"type":true},{},{"type":null},7,null,{"type":2}]"#,
        r#"[{},{"type":["This field is required."]},{"type":["This field may not be null."]},{"non_field_errors":["Invalid data. Expected a dictionary, but got int."]},{"non_field_errors":["Invalid data. Expected a dictionary, but got NoneType."]},{"type":["Must be a valid boolean."]}]"#,
    );
    check("[]", r#"{"non_field_errors":["This list may not be empty."]}"#);
    check("\"x\"", r#"{"non_field_errors":["Expected a list of items but got type \"str\"."]}"#);
    check("{}", r#"{"non_field_errors":["Expected a list of items but got type \"dict\"."]}"#);
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..40)) {
        parsed(&body);
    }

    #[test]
    fn no_object_panics(body in "\\{(\"(a|b|\\\\ud800)\":(\\[|\\]|1|null|\"x\"|\\{|\\})?,?){0,6}\\}?") {
        parsed(body.as_bytes());
    }
}
