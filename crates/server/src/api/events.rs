//! Publishing an event (row 15), or many at once, all or none: the hot path. The body is read once, `data` is never taken
//! apart, and the fan-out reads the directory as it is once the body is there.

use std::{borrow::Cow, fmt::Write};

use aws_lc_rs::digest;
use futures_util::FutureExt;
use http::{HeaderMap, StatusCode};
use postrider_kernel::{
    Created, EventData, EventType,
    event::{CREATED_MAX, DATA_DEPTH_MAX, InvalidEventData},
};
use postrider_store::{IdempotencyKey, PublishAnswer};
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    error::{ApiError, Problem},
    event_types::RESERVED,
    form::{self, Form, ListRule},
    input::{self, Json, Kind},
    openapi::{Operation, Parameter},
};
use crate::{
    directory::TenantView,
    publish::{Acceptance, NewEvent},
};

/// The paths of this resource.
pub const ROUTES: &[Route] = &[
    Route::new("/api/v2/webhook/event", &["POST"], Access::Publishing, |call| {
        publish(call).boxed()
    })
    .documented(&[Operation::post("publishEvent", "Publish an event")
        .with(&[Parameter::header(
            "Idempotency-Key",
            "1 to 255 characters: a repeat within a day is answered with the first result.",
        )])
        .takes::<Body>()
        .answers::<Published>(201)
        .fails(&[422])]),
    Route::new("/api/v2/webhook/event/bulk", &["POST"], Access::Publishing, |call| {
        publish_bulk(call).boxed()
    })
    .documented(&[Operation::post(
        "publishEvents",
        "Publish up to 1,000 events, all or none",
    )
    .takes_many::<Body>()
    .answers_many::<PublishedOfMany>(201)]),
];

/// What a publisher writes, as the document shows it.
#[derive(ToSchema)]
#[schema(as = EventInput)]
#[expect(
    dead_code,
    reason = "bodies are read as forms, and answers are written as text: this is the hot path"
)]
struct Body {
    /// One of the tenant's event types.
    #[schema(example = "comment.created")]
    r#type: String,
    /// Passed through byte for byte; at most 128 levels deep.
    #[schema(value_type = Object)]
    data: (),
    /// When it happened, in seconds since 1970-01-01T00:00:00Z; the time of acceptance unless given.
    #[schema(minimum = 0, maximum = 253402300799.0)]
    created: Option<f64>,
}

#[derive(ToSchema)]
#[schema(as = PublishedEvent)]
#[expect(dead_code, reason = "as above")]
struct Published {
    event_id: i64,
    r#type: String,
    created: f64,
    /// To how many endpoints it is owed.
    endpoint_count: u32,
}

#[derive(ToSchema)]
#[schema(as = PublishedEventOfMany)]
#[expect(dead_code, reason = "as above")]
struct PublishedOfMany {
    event_id: i64,
    endpoint_count: u32,
}

/// The fields of an event.
const FIELDS: [&str; 3] = ["type", "data", "created"];

/// How many events a bulk takes.
const BULK_MAX: usize = 1_000;

/// How large a bulk may be, in bytes; or as large as any other body, where the operator allows that to be larger.
const BULK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The header by which a publisher makes a repeat harmless.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What a bulk with such a header is told.
const NO_BULK_KEYS: &str =
    "A bulk takes no Idempotency-Key. Publish one by one what has to be safe to repeat.";

/// The longest key, in characters.
const KEY_LENGTH_MAX: usize = 255;

async fn publish(call: &mut Call) -> Answer {
    let body = call.read_body().await?;
    let tenant = call.tenant()?;
    let mut form = Form::parse(&body, FIELDS)?;
    let event = read_event(&mut form, &tenant);
    form.finish()?;
    // `finish` has refused a form without the required fields.
    let lost = || ApiError::Internal("a required field got lost".into());
    let event = event.ok_or_else(lost)?;
    let now = call.now();
    let idempotency = match idempotency_key(call.headers())? {
        Some(key) => Some(IdempotencyKey {
            key: key.to_owned(),
            request_hash: sha256(&body),
            not_before: now.minus(call.api.app.options.idempotency_window),
        }),
        None => None,
    };
    match call.api.app.publisher.publish(&tenant, event, idempotency, now).await? {
        Acceptance::Accepted(accepted) => {
            Ok(answer::raw_json(StatusCode::CREATED, shown(&accepted)))
        }
        Acceptance::KeyReused => Err(ApiError::KeyReused),
    }
}

async fn publish_bulk(call: &mut Call) -> Answer {
    if call.headers().contains_key(IDEMPOTENCY_KEY) {
        // Better than to let a publisher believe that its repeat will be harmless.
        return Err(ApiError::BadRequest(NO_BULK_KEYS.into()));
    }
    let limit = BULK_BYTES_MAX.max(call.body_limit());
    let body = call.read_body_within(limit).await?;
    let tenant = call.tenant()?;
    let rule = ListRule { items_max: BULK_MAX, item_bytes_max: call.body_limit() };
    let events = form::list(&body, rule, FIELDS, |form| read_event(form, &tenant))?;
    let accepted = call.api.app.publisher.publish_all(&tenant, events, call.now()).await?;
    Ok(answer::raw_json(StatusCode::CREATED, shown_in_bulk(&accepted)))
}

/// An event's fields; `None` only when one of them is wrong, which the form has noted.
fn read_event<'a>(form: &mut Form<'a, 3>, tenant: &TenantView) -> Option<NewEvent<'a>> {
    let event_type = form.required("type", |value| known_type(value, tenant));
    let data = form.required("data", data);
    let created = form.optional("created", created);
    Some(NewEvent { event_type: event_type?, created, data: data? })
}

/// What the publisher is told. An event type holds nothing that JSON would escape.
fn shown(accepted: &PublishAnswer) -> String {
    let PublishAnswer { event, event_type, created, endpoint_count } = accepted;
    format!(
        r#"{{"event_id":{event},"type":"{event_type}","created":{created},"endpoint_count":{endpoint_count}}}"#
    )
}

/// What the publisher of many is told, in their order.
fn shown_in_bulk(accepted: &[PublishAnswer]) -> String {
    let mut text = String::with_capacity(2 + 48 * accepted.len());
    for PublishAnswer { event, endpoint_count, .. } in accepted {
        text.push(if text.is_empty() { '[' } else { ',' });
        // Writing to a string can't fail.
        let _ = write!(text, r#"{{"event_id":{event},"endpoint_count":{endpoint_count}}}"#);
    }
    text.push(']');
    text
}

/// Converts `type`: one of the tenant's catalogue, retired or not.
fn known_type(value: Json<'_>, tenant: &TenantView) -> Result<EventType, Problem> {
    let known = proper_type(value)?;
    known.filter(|known| tenant.knows(known)).ok_or_else(|| input::not_a_choice(value))
}

/// A type that could be somebody's; `None` for what no type can be.
fn proper_type(value: Json<'_>) -> Result<Option<EventType>, Problem> {
    let Some(text) = value.text() else {
        // A lone surrogate can't even be shown.
        let is_string = value.kind() == Kind::Str;
        return if is_string { Err(Problem::text("Not a valid string.")) } else { Ok(None) };
    };
    let event_type = EventType::parse(&text).ok();
    if event_type.as_ref().is_some_and(EventType::is_reserved) {
        return Err(Problem::text(RESERVED));
    }
    Ok(event_type)
}

/// Converts `data`: any object, not too deep.
fn data(value: Json<'_>) -> Result<EventData<'_>, Problem> {
    EventData::parse(value.0).map_err(|invalid| match invalid {
        InvalidEventData::NotAnObject => Problem::text(input::not_an_object(value.kind())),
        InvalidEventData::TooDeep => Problem::text(format!(
            "Ensure this field is nested no deeper than {DATA_DEPTH_MAX} levels."
        )),
    })
}

/// Converts `created`: seconds since the epoch.
fn created(value: Json<'_>) -> Result<Created, Problem> {
    let seconds = input::number(value, 0.0..=CREATED_MAX)?;
    Created::from_seconds(seconds).ok_or_else(|| Problem::text("A valid number is required."))
}

/// The publisher's key, where it gave one.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut lines = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let refused = |text: &'static str| Err(ApiError::BadRequest(Cow::Borrowed(text)));
    if lines.next().is_some() {
        return refused("Idempotency-Key was given more than once.");
    }
    let key = std::str::from_utf8(line.as_bytes()).unwrap_or_default();
    let is_sound =
        (1..=KEY_LENGTH_MAX).contains(&key.chars().count()) && !key.chars().any(char::is_control);
    if is_sound {
        Ok(Some(key))
    } else {
        refused("Idempotency-Key must have 1 to 255 characters of visible text.")
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use postrider_kernel::{EventId, Timestamp};

    fn problem<T: std::fmt::Display>(result: Result<T, Problem>) -> String {
        match result {
            Ok(value) => value.to_string(),
            Err(problem) => serde_json::to_string(&problem).unwrap(),
        }
    }

    fn json(text: &str) -> Json<'_> {
        Json(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn created_is_a_moment_in_the_years_that_can_be_written() {
        let check = |text: &str, expected: &str| {
            assert_eq!(problem(created(json(text))), expected, "{text}");
        };
        check("1625471209.139224", "1625471209.139224");
        check("0", "0.0");
        check("-0.0", "0.0");
        check("\" 1e3 \"", "1000.0");
        check("253402300799", "253402300799.0");
        check("253402300799.5", r#"["Ensure this value is less than or equal to 253402300799."]"#);
        check("1e400", r#"["Ensure this value is less than or equal to 253402300799."]"#);
        check("-1", r#"["Ensure this value is greater than or equal to 0."]"#);
        for odd in ["true", "[]", "{}", "\"\"", "\"x\"", "\"nan\""] {
            check(odd, r#"["A valid number is required."]"#);
        }
    }

    #[test]
    fn data_is_an_object() {
        let check = |text: &str, expected: &str| {
            let found = data(json(text)).map(|data| data.as_str().to_owned());
            assert_eq!(problem(found), expected);
        };
        check(r#"{ "a" : 1e2,"a":"\ud800" }"#, r#"{ "a" : 1e2,"a":"\ud800" }"#);
        check("[]", r#"["Invalid data. Expected a dictionary, but got list."]"#);
        check("\"{}\"", r#"["Invalid data. Expected a dictionary, but got str."]"#);
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        check(&deep, r#"["Ensure this field is nested no deeper than 128 levels."]"#);
    }

    #[test]
    fn the_services_own_types_can_not_be_published() {
        let check = |text: &str, expected: &str| {
            let found =
                proper_type(json(text)).map(|name| format!("{:?}", name.map(|n| n.to_string())));
            assert_eq!(problem(found), expected);
        };
        check("\"post.created\"", r#"Some("post.created")"#);
        check("1", r#"Some("1")"#);
        check("\"a b\"", "None");
        check("[]", "None");
        check("\"\\ud800\"", r#"["Not a valid string."]"#);
        check(
            "\"delivery.failed\"",
            r#"["Types that begin with \"endpoint.\" or \"delivery.\" are the service's own."]"#,
        );
    }

    #[test]
    fn idempotency_keys_are_visible_text() {
        let check = |lines: &[&str], expected: Result<Option<&str>, ()>| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            assert_eq!(idempotency_key(&headers).map_err(|_| ()), expected, "{lines:?}");
        };
        check(&[], Ok(None));
        check(&["k"], Ok(Some("k")));
        check(&["order 7/é"], Ok(Some("order 7/é")));
        check(&["é".repeat(255).as_str()], Ok(Some("é".repeat(255).as_str())));
        check(&[""], Err(()));
        check(&["a\tb"], Err(()));
        check(&["x".repeat(256).as_str()], Err(()));
        check(&["k", "k"], Err(()));
    }

    #[test]
    fn the_answer_is_compact() {
        let accepted = PublishAnswer {
            event: EventId::new(41),
            event_type: EventType::parse("post.created").unwrap(),
            created: Created::at(Timestamp::from_micros(1_625_471_209_139_224)),
            endpoint_count: 2,
        };
        let expected = r#"{"event_id":41,"type":"post.created","created":1625471209.139224,"endpoint_count":2}"#;
        assert_eq!(shown(&accepted), expected);
    }
}
