//! Resends: one event (row 12), or many, all or none (row 13).

use std::borrow::Cow;

use futures_util::FutureExt;
use postrider_kernel::{EventId, id::ID_MAX};
use postrider_store::{Endpoint, Resent};
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    endpoints,
    error::{ApiError, Problem},
    form::Form,
    input::{EMPTY_LIST, Json, Kind, too_many},
    openapi::Operation,
};

/// The paths of this resource.
pub const ROUTES: &[Route] = &[
    Route::new("/api/v2/webhook/endpoint/{id}/event/resend", &["POST"], Access::Resource, |call| {
        resend(call).boxed()
    })
    .documented(&[Operation::post("resendEvent", "Resend an event").takes::<One>()]),
    Route::new(
        "/api/v2/webhook/endpoint/{id}/event/resend/bulk",
        &["POST"],
        Access::Resource,
        |call| resend_bulk(call).boxed(),
    )
    .documented(&[
        Operation::post("resendEvents", "Resend up to 1,000 events, all or none").takes::<Many>()
    ]),
];

/// What a client writes, as the document shows it.
#[derive(ToSchema)]
#[schema(as = ResendInput)]
#[expect(dead_code, reason = "bodies are read as forms, which report every wrong field")]
struct One {
    #[schema(minimum = 1)]
    event: i64,
}

#[derive(ToSchema)]
#[schema(as = ResendBulkInput)]
#[expect(dead_code, reason = "as above")]
struct Many {
    #[schema(min_items = 1, max_items = 1_000)]
    event: Vec<i64>,
}

/// How many events a bulk takes.
const BULK_MAX: usize = 1_000;

/// What a client wrote as the key of an event.
#[derive(Debug)]
struct Key<'a> {
    written: Cow<'a, str>,
    /// `None` when no event can have it.
    id: Option<EventId>,
}

/// The keys up to the first one that can't be a key, and the text for that one.
#[derive(Debug)]
struct Keys<'a> {
    sound: Vec<Key<'a>>,
    unsound: Option<String>,
}

async fn resend(call: &mut Call) -> Answer {
    let endpoint = endpoints::look_up(call).await?;
    let body = call.read_body().await?;
    let mut form = Form::parse(&body, ["event"])?;
    let keys = form.required("event", |value| Ok(keys(vec![value])));
    form.finish()?;
    send(call, &endpoint, keys).await
}

async fn resend_bulk(call: &mut Call) -> Answer {
    let endpoint = endpoints::look_up(call).await?;
    let body = call.read_body().await?;
    let mut form = Form::parse(&body, ["event"])?;
    let keys = form.required("event", many);
    form.finish()?;
    send(call, &endpoint, keys).await
}

async fn send(call: &Call, endpoint: &Endpoint, keys: Option<Keys<'_>>) -> Answer {
    // `finish` has refused a form without keys.
    let keys = keys.ok_or(ApiError::Internal("a required field got lost".into()))?;
    let impossible = keys.sound.iter().position(|key| key.id.is_none());
    let ids = distinct(&keys.sound[..impossible.unwrap_or(keys.sound.len())]);
    // The first wrong key is the one to report, so those before it are looked up even when one is known to be wrong.
    if let Some(text) = impossible.map(|at| unknown(&keys.sound[at].written)).or(keys.unsound) {
        let known = call.api.app.store.known_events(endpoint.tenant, ids.clone()).await?;
        let missing = ids.into_iter().find(|id| !known.contains(id));
        let text = missing.map_or(text, |id| unknown(written(&keys.sound, id)));
        return Err(ApiError::of_field("event", text));
    }
    let admin = &call.api.app.admin;
    match admin.resend(endpoint.tenant, endpoint.id, ids, call.by()?).await? {
        Resent::Done => Ok(answer::no_content()),
        Resent::NoEndpoint => Err(ApiError::NotFound),
        Resent::Inactive => Err(ApiError::of_body(
            "This endpoint is inactive, so nothing can be sent to it again. Activate it first.",
        )),
        Resent::UnknownEvent(id) => {
            Err(ApiError::of_field("event", unknown(written(&keys.sound, id))))
        }
    }
}

fn unknown(written: &str) -> String {
    format!("Invalid pk \"{written}\" - object does not exist.")
}

/// An event's key as the client wrote it.
fn written<'k>(keys: &'k [Key<'_>], id: EventId) -> &'k str {
    keys.iter().find(|key| key.id == Some(id)).map_or("", |key| &key.written)
}

/// Each event once, in the order in which they were first named.
fn distinct(keys: &[Key<'_>]) -> Vec<EventId> {
    let mut seen = std::collections::HashSet::new();
    keys.iter().filter_map(|key| key.id).filter(|id| seen.insert(*id)).collect()
}

/// Converts the list of a bulk.
fn many(value: Json<'_>) -> Result<Keys<'_>, Problem> {
    let items = value.items().map_err(Problem::text)?;
    if items.is_empty() {
        return Err(Problem::of_list(EMPTY_LIST));
    }
    if items.len() > BULK_MAX {
        return Err(Problem::text(too_many(BULK_MAX)));
    }
    Ok(keys(items))
}

fn keys(items: Vec<Json<'_>>) -> Keys<'_> {
    let mut sound = Vec::with_capacity(items.len());
    for item in items {
        match key(item) {
            Ok(key) => sound.push(key),
            Err(text) => return Keys { sound, unsound: Some(text) },
        }
    }
    Keys { sound, unsound: None }
}

/// Reads a key: an integer, or a string of digits.
fn key(value: Json<'_>) -> Result<Key<'_>, String> {
    let kind = value.kind();
    let written = value.text().filter(|text| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        matches!(kind, Kind::Int | Kind::Str)
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    let wrong_type = || format!("Incorrect type. Expected pk value, received {}.", kind.name());
    let written = written.ok_or_else(wrong_type)?;
    let id = written.parse().ok().filter(|id| (1..=ID_MAX).contains(id)).map(EventId::new);
    Ok(Key { written, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_integers_or_digits() {
        let check = |text: &str, expected: Result<Option<i64>, &str>| {
            let found = key(Json(serde_json::from_str(text).unwrap()));
            let found = found.map(|key| key.id.map(EventId::get));
            let wrong = |kind| format!("Incorrect type. Expected pk value, received {kind}.");
            assert_eq!(found, expected.map_err(wrong), "{text}");
        };
        check("41", Ok(Some(41)));
        check("\"41\"", Ok(Some(41)));
        check("\"041\"", Ok(Some(41)));
        check("0", Ok(None));
        check("-1", Ok(None));
        check("9007199254740991", Ok(Some(ID_MAX)));
        check("9007199254740992", Ok(None));
        check("99999999999999999999999", Ok(None));
        check("1.0", Err("float"));
        check("true", Err("bool"));
        check("null", Err("NoneType"));
        check("\"\"", Err("str"));
        check("\"x\"", Err("str"));
        check("\"\\ud800\"", Err("str"));
        check("[]", Err("list"));
        check("{}", Err("dict"));
    }

    #[test]
    fn bulks_are_lists_of_one_to_a_thousand() {
        let check = |text: &str, expected: &str| {
            let shown = match many(Json(serde_json::from_str(text).unwrap())) {
                Ok(keys) => format!("{:?} {:?}", distinct(&keys.sound), keys.unsound),
                Err(problem) => serde_json::to_string(&problem).unwrap(),
            };
            assert_eq!(shown, expected);
        };
        check("[2,1,\"2\"]", "[EventId(2), EventId(1)] None");
        check(
            "[2,true,1]",
            "[EventId(2)] Some(\"Incorrect type. Expected pk value, received bool.\")",
        );
        check("[]", r#"{"non_field_errors":["This list may not be empty."]}"#);
        check("7", r#"["Expected a list of items but got type \"int\"."]"#);
        let of_length = |n: usize| format!("[{}1]", "1,".repeat(n - 1));
        check(&of_length(1000), "[EventId(1)] None");
        check(&of_length(1001), r#"["Ensure this field has no more than 1000 elements."]"#);
    }
}
