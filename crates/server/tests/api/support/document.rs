//! Every answer that the tests get is held against the OpenAPI document: its status has to be documented, and its body has
//! to have the documented shape.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use jsonschema::Validator;
use postrider::api::openapi;
use serde_json::{Value, json};

use super::client::Answer;

static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi::document);

/// Validators that were made already, by method, path and status.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Validator>>> = LazyLock::new(Mutex::default);

/// Holds an answer against the document. What is asked of paths and methods that there aren't is none of its business.
pub fn check(request: &[u8], answer: &Answer) {
    let head = String::from_utf8_lossy(request);
    let mut words = head.split([' ', '\r']);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
    let path = target.split('?').next().unwrap_or_default();
    let Some((template, operation)) = operation(method, path) else { return };
    let status = answer.status.to_string();
    let asked = format!("{method} {template} {status}");
    // What no HTTP server would let in never reached an operation.
    let documented = &operation["responses"][&status];
    assert!(documented.is_object(), "{asked} is not documented: {}", answer.body);
    let Some(content) = documented["content"].get("application/json") else {
        let is_text = documented["content"].get("text/plain").is_some();
        assert!(is_text || answer.body.is_empty(), "{asked} has no body");
        return;
    };
    let mut validators = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    let validator = validators.entry(asked.clone()).or_insert_with(|| {
        let components = DOCUMENT["components"].clone();
        let schema = json!({"components": components, "allOf": [content["schema"]]});
        jsonschema::validator_for(&schema).unwrap()
    });
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let problems: Vec<_> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{asked}: {problems:?} in {body}");
}

/// The operation of a path, and the path as the document writes it. A part in digits goes before one in words.
fn operation(method: &str, path: &str) -> Option<(&'static str, &'static Value)> {
    let parts: Vec<_> = path.trim_end_matches('/').split('/').collect();
    let fits = |template: &str| {
        let template: Vec<_> = template.trim_end_matches('/').split('/').collect();
        template.len() == parts.len()
            && template.iter().zip(&parts).all(|(template, part)| {
                match template.strip_prefix('{') {
                    Some(name) if name.ends_with("id}") => {
                        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
                    }
                    Some(_) => !part.is_empty(),
                    None => template == part,
                }
            })
    };
    let paths = DOCUMENT["paths"].as_object()?;
    let (template, item) = paths.iter().find(|(template, _)| fits(template))?;
    Some((template, item.get(method.to_ascii_lowercase())?))
}

fn answer(status: u16, body: &str) -> Answer {
    let head = "content-type: application/json\r\nx-request-id: 1";
    let length = body.len();
    let text = format!("HTTP/1.1 {status} X\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}");
    Answer::parse(text.as_bytes(), false)
}

#[test]
#[should_panic(expected = "GET /healthz 418 is not documented")]
fn a_status_that_is_not_documented_is_noticed() {
    check(b"GET /healthz HTTP/1.1\r\n", &answer(418, "{}"));
}

#[test]
#[should_panic(expected = "is a required property")]
fn a_field_that_is_missing_is_noticed() {
    check(b"GET /healthz HTTP/1.1\r\n", &answer(200, "{}"));
}
