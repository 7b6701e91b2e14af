//! The tenant's catalogue: the event types that endpoints may enable (row 7), and how admins add and retire them.

use futures_util::FutureExt;
use http::{Method, StatusCode};
use postrider_kernel::{
    EventType, Timestamp,
    event_type::{EVENT_TYPE_LENGTH_MAX, InvalidEventType},
};
use postrider_store::CatalogueEntry;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    error::{ApiError, Problem},
    form::Form,
    input::{self, Json, TextRule},
    openapi::{self, Operation},
    page::PageRequest,
};

/// The paths of this resource.
pub const ROUTES: &[Route] = &[
    Route::new("/api/v2/webhook/endpoint/event", &["GET"], Access::Catalogue, |call| {
        names(call).boxed()
    })
    .documented(&[Operation::get(
        "listEventTypeNames",
        "The event types that endpoints may enable",
    )
    .answers_many::<String>(200)]),
    Route::new("/api/v2/webhook/event_type", &["GET", "POST"], Access::Catalogue, |call| {
        collection(call).boxed()
    })
    .documented(&[
        Operation::get("listEventTypes", "List the tenant's event types")
            .with(&openapi::PAGE)
            .answers_page::<Shown<'static>>(),
        Operation::post("addEventType", "Add an event type, or offer a retired one again")
            .takes::<Body>()
            .answers::<Shown<'static>>(201),
    ]),
    Route::new("/api/v2/webhook/event_type/{type}", &["DELETE"], Access::Catalogue, |call| {
        retire(call).boxed()
    })
    .documented(&[Operation::delete("retireEventType", "Retire an event type")]),
];

/// What a client writes, as the document shows it.
#[derive(ToSchema)]
#[schema(as = EventTypeInput)]
#[expect(dead_code, reason = "bodies are read as forms, which report every wrong field")]
struct Body {
    #[schema(max_length = 128, example = "post.created")]
    r#type: String,
    #[schema(max_length = 1_000, default = "")]
    description: Option<String>,
}

/// The longest description of an event type, in characters.
const DESCRIPTION_LENGTH_MAX: usize = 1_000;

/// The text for a type of the service's own.
pub const RESERVED: &str =
    "Types that begin with \"endpoint.\" or \"delivery.\" are the service's own.";

/// An event type as the API shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = EventType)]
struct Shown<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    description: &'a str,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl<'a> From<&'a CatalogueEntry> for Shown<'a> {
    fn from(entry: &'a CatalogueEntry) -> Self {
        Self {
            event_type: entry.event_type.as_str(),
            description: &entry.description,
            created_at: entry.created_at,
        }
    }
}

/// Row 7: a bare list of names.
async fn names(call: &mut Call) -> Answer {
    let tenant = &call.credential()?.tenant;
    let names: Vec<&str> = tenant.offered().map(|entry| entry.event_type.as_str()).collect();
    Ok(answer::json(StatusCode::OK, &names))
}

async fn collection(call: &mut Call) -> Answer {
    if call.method == Method::POST { add(call).await } else { list(call).await }
}

async fn list(call: &Call) -> Answer {
    let tenant = &call.credential()?.tenant;
    let asked = PageRequest::new(call.query());
    let count = tenant.offered().count() as u64;
    let skipped = usize::try_from(asked.offset()).unwrap_or(usize::MAX);
    let part = tenant.offered().skip(skipped).take(asked.limit() as usize);
    let results = part.map(Shown::from).collect();
    Ok(answer::json(StatusCode::OK, &asked.page(&call.url(), count, results)))
}

async fn add(call: &mut Call) -> Answer {
    let body = call.read_body().await?;
    let mut form = Form::parse(&body, ["type", "description"])?;
    let rule = TextRule { length_max: DESCRIPTION_LENGTH_MAX, may_be_blank: true, trims: true };
    let event_type = form.required("type", new_type);
    let description = form.optional("description", |value| input::text(value, rule));
    form.finish()?;
    // `finish` has refused a form without a type.
    let event_type = event_type.ok_or(ApiError::Internal("a required field got lost".into()))?;
    let description = description.unwrap_or_default().into_owned();
    let tenant = call.credential()?.tenant.id;
    let admin = &call.api.app.admin;
    let added = admin.add_event_type(tenant, event_type, description, call.by()?).await?;
    let taken = || ApiError::of_field("type", "event type with this type already exists.");
    Ok(answer::json(StatusCode::CREATED, &Shown::from(&added.ok_or_else(taken)?)))
}

fn new_type(value: Json<'_>) -> Result<EventType, Problem> {
    let rule = TextRule { length_max: EVENT_TYPE_LENGTH_MAX, may_be_blank: false, trims: true };
    let text = input::text(value, rule)?;
    let event_type = EventType::parse(&text).map_err(|invalid| match invalid {
        InvalidEventType::TooLong => Problem::text(input::too_long(EVENT_TYPE_LENGTH_MAX)),
        InvalidEventType::Malformed => Problem::text(
            "Enter a dotted name of letters, digits, \"_\" and \"-\", such as \"post.created\".",
        ),
    })?;
    if event_type.is_reserved() { Err(Problem::text(RESERVED)) } else { Ok(event_type) }
}

async fn retire(call: &mut Call) -> Answer {
    let name = call.param("type").unwrap_or_default();
    let event_type = EventType::parse(name).map_err(|_| ApiError::NotFound)?;
    let tenant = call.credential()?.tenant.id;
    let admin = &call.api.app.admin;
    let was_offered = admin.retire_event_type(tenant, event_type, call.by()?).await?;
    if was_offered { Ok(answer::no_content()) } else { Err(ApiError::NotFound) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_types_are_checked() {
        let check = |body: &str, expected: &str| {
            let raw = serde_json::from_str(body).unwrap();
            let shown = match new_type(Json(raw)) {
                Ok(event_type) => event_type.to_string(),
                Err(problem) => serde_json::to_string(&problem).unwrap(),
            };
            assert_eq!(shown, expected, "{body}");
        };
        check("\" post.created \"", "post.created");
        check("\"\"", r#"["This field may not be blank."]"#);
        check("true", r#"["Not a valid string."]"#);
        check(
            &format!("\"{}\"", "x".repeat(129)),
            r#"["Ensure this field has no more than 128 characters."]"#,
        );
        check(
            "\"a..b\"",
            r#"["Enter a dotted name of letters, digits, \"_\" and \"-\", such as \"post.created\"."]"#,
        );
        check(
            "\"endpoint.disabled\"",
            r#"["Types that begin with \"endpoint.\" or \"delivery.\" are the service's own."]"#,
        );
    }
}
