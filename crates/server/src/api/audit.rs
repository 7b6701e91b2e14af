//! The audit log: who did what to what, when, and from where. Nobody changes it; it is only read here.

use std::net::IpAddr;

use futures_util::FutureExt;
use http::StatusCode;
use postrider_kernel::Timestamp;
use postrider_store::{AuditEntry, AuditQuery, OrderBy};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    error::ApiError,
    openapi::{self, Operation, Parameter},
    page::{PageRequest, Query},
};

/// The path of this resource. What admins did is for admins.
pub const ROUTES: &[Route] =
    &[Route::new("/api/v2/audit", &["GET"], Access::Secret, |call| list(call).boxed()).documented(
        &[Operation::get("listAudit", "List who did what to what, when, and from where")
            .with(&PARAMETERS)
            .answers_page::<Shown<'static>>()],
    )];

/// What may be given with the list.
const PARAMETERS: [Parameter; 7] = [
    openapi::PAGE[0],
    openapi::PAGE[1],
    Parameter::query("action", "Only lines of this action."),
    Parameter::query("actor", "Only lines of this actor."),
    Parameter::query("since", "Only lines from this time on, in ISO 8601 with its offset."),
    Parameter::query("until", "Only lines before this time, in ISO 8601 with its offset."),
    Parameter::query("ordering", "`created_at`, also with `-`, which it is unless given."),
];

/// A line as the API shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct Shown<'a> {
    id: i64,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    actor: &'a str,
    #[schema(required)]
    address: Option<&'a str>,
    action: &'a str,
    subject: &'a str,
}

impl<'a> From<&'a AuditEntry> for Shown<'a> {
    fn from(line: &'a AuditEntry) -> Self {
        Self {
            id: line.id.get(),
            created_at: line.at,
            actor: &line.actor,
            address: line.address.as_deref().filter(|text| text.parse::<IpAddr>().is_ok()),
            action: &line.action,
            subject: &line.subject,
        }
    }
}

async fn list(call: &mut Call) -> Answer {
    let query = call.query();
    let newest_first = OrderBy { field: (), descending: true };
    let ordering = query.ordering(|name| (name == "created_at").then_some(()), newest_first);
    let text = |name| query.last(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let asked = AuditQuery {
        action: text("action"),
        actor: text("actor"),
        since: moment(&query, "since")?,
        until: moment(&query, "until")?,
        descending: ordering.first().is_none_or(|by| by.descending),
        limit: 0,
        offset: 0,
    };
    let page = PageRequest::new(query);
    let asked = AuditQuery { limit: page.limit(), offset: page.offset(), ..asked };
    let tenant = call.credential()?.tenant.id;
    let found = call.api.app.store.audit_page(tenant, asked).await?;
    let results = found.items.iter().map(Shown::from).collect();
    Ok(answer::json(StatusCode::OK, &page.page(&call.url(), found.count, results)))
}

/// A time in the query. One that can't be read is refused: without it, the answer would be another one than was asked for.
fn moment(query: &Query, name: &'static str) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = query.last(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    // A plus that nobody encoded has become a space.
    let time = Timestamp::parse(text).or_else(|| Timestamp::parse(&text.replace(' ', "+")));
    let refused = "Enter a time in ISO 8601 with its offset, such as 2021-03-25T15:21:46Z.";
    time.map(Some).ok_or_else(|| ApiError::of_field(name, refused))
}
