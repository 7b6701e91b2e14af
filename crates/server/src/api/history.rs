//! What happened to an event: as it was accepted, and where each of its deliveries stands. The tries themselves are in
//! `attempts.rs`.

use std::borrow::Cow;

use futures_util::FutureExt;
use http::StatusCode;
use postrider_kernel::{EventId, Timestamp};
use postrider_store::{StoredDelivery, StoredEvent};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    error::ApiError,
    openapi::Operation,
};

/// How many deliveries are shown with their event: an answer's size has a limit, an event's resends have none.
const DELIVERIES_MAX: u32 = 1000;

/// The path of this resource.
pub const ROUTES: &[Route] =
    &[Route::new("/api/v2/webhook/event/{id}", &["GET"], Access::Resource, |call| {
        event(call).boxed()
    })
    .documented(&[Operation::get(
        "getEvent",
        "An event, and where each of its deliveries stands",
    )
    .answers::<Shown<'static>>(200)])];

/// An event as the API shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
struct Shown<'a> {
    id: i64,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    added_at: Timestamp,
    payload: Cow<'a, str>,
    delivery_count: u64,
    deliveries: Vec<ShownDelivery>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
struct ShownDelivery {
    id: i64,
    endpoint: i64,
    status: &'static str,
    trigger: &'static str,
    attempts_made: u32,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(serialize_with = "answer::as_text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    due_at: Option<Timestamp>,
    #[serde(serialize_with = "answer::as_text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    finished_at: Option<Timestamp>,
}

impl<'a> From<&'a StoredEvent> for Shown<'a> {
    fn from(event: &'a StoredEvent) -> Self {
        Self {
            id: event.id.get(),
            event_type: event.event_type.as_str(),
            added_at: event.accepted_at,
            payload: String::from_utf8_lossy(&event.payload),
            delivery_count: event.deliveries.count,
            deliveries: event.deliveries.items.iter().map(ShownDelivery::from).collect(),
        }
    }
}

impl From<&StoredDelivery> for ShownDelivery {
    fn from(delivery: &StoredDelivery) -> Self {
        Self {
            id: delivery.id.get(),
            endpoint: delivery.endpoint.get(),
            status: delivery.status.as_str(),
            trigger: delivery.trigger.as_str(),
            attempts_made: delivery.attempts_made,
            created_at: delivery.created_at,
            due_at: delivery.due_at,
            finished_at: delivery.finished_at,
        }
    }
}

async fn event(call: &mut Call) -> Answer {
    let (tenant, id) = (call.credential()?.tenant.id, EventId::new(call.id()?));
    let found = call.api.app.store.event(tenant, id, DELIVERIES_MAX).await?;
    let event = found.ok_or(ApiError::NotFound)?;
    Ok(answer::json(StatusCode::OK, &Shown::from(&event)))
}
