use proptest::prelude::*;

use super::*;

fn shown<T: fmt::Debug>(result: Result<T, Problem>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(problem) => serde_json::to_string(&problem).unwrap(),
    }
}

fn json(text: &str) -> Json<'_> {
    Json(serde_json::from_str(text).unwrap())
}

#[test]
fn texts_are_trimmed_and_bounded() {
    let check = |value: &str, expected: &str| {
        let rule = TextRule { length_max: 5, may_be_blank: false, trims: true };
        assert_eq!(shown(text(json(value), rule)), expected, "{value}");
    };
    check("\"abc\"", "\"abc\"");
    check("\" \\u00a0abcde\\u001c\\t\"", "\"abcde\"");
    check("\"\\\"é\\\"\"", r#""\"é\"""#);
    check("\"\\ud83d\\ude00\"", "\"😀\"");
    check("12", "\"12\"");
    check("1.5", "\"1.5\"");
    check("\"  \"", r#"["This field may not be blank."]"#);
    check("\"abcdéf\"", r#"["Ensure this field has no more than 5 characters."]"#);
    check("\"a\\u0000\"", r#"["Null characters are not allowed."]"#);
    for odd in ["true", "[]", "{}", "\"\\ud800\"", "\"\\udc00\\ud800\""] {
        check(odd, r#"["Not a valid string."]"#);
    }
    let password = TextRule { length_max: 5, may_be_blank: true, trims: false };
    assert_eq!(shown(text(json("\" a \""), password)), "\" a \"");
    assert_eq!(shown(text(json("\"\""), password)), "\"\"");
}

#[test]
fn booleans_have_many_spellings() {
    for yes in ["true", "1", "1.0", "\"t\"", "\"Yes\"", "\"Y\"", "\"ON\"", "\"TRUE\"", "\"1\""] {
        assert_eq!(shown(boolean(json(yes))), "true", "{yes}");
    }
    for no in ["false", "0", "0.0", "\"F\"", "\"no\"", "\"n\"", "\"Off\"", "\"False\"", "\"0\""] {
        assert_eq!(shown(boolean(json(no))), "false", "{no}");
    }
    for odd in ["2", "-1", "\"\"", "\" true\"", "\"null\"", "\"1.0\"", "[]", "{}", "\"\\ud800\""] {
        assert_eq!(shown(boolean(json(odd))), r#"["Must be a valid boolean."]"#, "{odd}");
    }
}

#[test]
fn integers_may_be_written_as_text() {
    let check = |value: &str, expected: &str| {
        assert_eq!(shown(integer(json(value), 0..=100)), expected, "{value}");
    };
    for five in ["5", "\"5\"", "\" 5 \"", "5.0", "\"5.00\"", "\"5.\"", "\"+5\"", "\"05\"", "5e0"] {
        check(five, "5");
    }
    check("-0", "0");
    check("1e2", "100");
    check("-1", r#"["Ensure this value is greater than or equal to 0."]"#);
    check("101", r#"["Ensure this value is less than or equal to 100."]"#);
    check(&"9".repeat(500), r#"["Ensure this value is less than or equal to 100."]"#);
    check(
        &format!("-{}", "9".repeat(500)),
        r#"["Ensure this value is greater than or equal to 0."]"#,
    );
    for odd in [
        "1.5",
        "1e400",
        "true",
        "[]",
        "{}",
        "\"\"",
        "\"-\"",
        "\"x\"",
        "\"1e2\"",
        "\"1_0\"",
        "\"\\ud800\"",
    ] {
        check(odd, r#"["A valid integer is required."]"#);
    }
    check(&"9".repeat(1001), r#"["A valid integer is required."]"#);
}

#[test]
fn wrong_values_are_shown_as_python_would() {
    let check = |value: &str, expected: &str| assert_eq!(json(value).shown(), expected);
    check("\"a\\u0041\"", "aA");
    check("1", "1");
    check("true", "True");
    check("false", "False");
    check("[1]", "[1]");
    check(&format!("\"{}\"", "é".repeat(1001)), &format!("{}…", "é".repeat(1000)));
}

proptest! {
    #[test]
    fn no_value_panics(value in "(\"\\PC{0,10}\"|-?[0-9]{1,3}(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,4})?|\\[\\]|\\{\\}|true)") {
        if let Ok(raw) = serde_json::from_str(&value) {
            let value = Json(raw);
            let rule = TextRule { length_max: 5, may_be_blank: false, trims: true };
            let _ = (text(value, rule), boolean(value), integer(value, -5..=5), number(value, 0.0..=9.0));
            let _ = (value.items(), value.shown());
        }
    }
}
