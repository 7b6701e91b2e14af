//! Attempts: what was sent to an endpoint, and what came back (row 9).

use std::borrow::Cow;

use futures_util::FutureExt;
use http::StatusCode;
use postrider_kernel::Timestamp;
use postrider_store::{Attempt, AttemptField, AttemptQuery, OrderBy};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    endpoints,
    openapi::{self, Operation, Parameter},
    page::PageRequest,
};

/// The path of this resource.
pub const ROUTES: &[Route] =
    &[Route::new("/api/v2/webhook/endpoint/{id}/attempt", &["GET"], Access::Resource, |call| {
        list(call).boxed()
    })
    .documented(&[Operation::get("listAttempts", "List an endpoint's attempts")
        .with(&PARAMETERS)
        .answers_page::<Shown<'static>>()])];

/// What may be given with the list.
const PARAMETERS: [Parameter; 3] = [
    openapi::PAGE[0],
    openapi::PAGE[1],
    Parameter::query("ordering", "`created_at`, `sent_at`, `next_retry`, each also with `-`."),
];

/// An attempt as the API shows it: the contract's fields in the contract's order, and then ours.
#[derive(Serialize, ToSchema)]
#[schema(as = Attempt)]
struct Shown<'a> {
    id: i64,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    event: ShownEvent<'a>,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    sent_at: Timestamp,
    http_request_body: Cow<'a, str>,
    http_request_signature_header: &'a str,
    http_response_code: Option<u16>,
    http_response_body: Cow<'a, str>,
    #[serde(serialize_with = "answer::as_text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    next_retry: Option<Timestamp>,
    error: Option<&'static str>,
    error_detail: Option<&'a str>,
    delivery: i64,
    attempt_number: u32,
    trigger: &'static str,
    duration_ms: u64,
    peer_address: Option<&'a str>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AttemptEvent)]
struct ShownEvent<'a> {
    id: i64,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    added_at: Timestamp,
}

impl<'a> From<&'a Attempt> for Shown<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        let (answered, failure) = match &attempt.response {
            Ok((code, body)) => (Some((*code, body)), None),
            Err(failure) => (None, Some(failure)),
        };
        let event = ShownEvent {
            id: attempt.event.get(),
            event_type: attempt.event_type.as_str(),
            added_at: attempt.accepted_at,
        };
        Self {
            id: attempt.id.get(),
            // An attempt comes to be when it is sent.
            created_at: attempt.sent_at,
            event,
            sent_at: attempt.sent_at,
            http_request_body: String::from_utf8_lossy(&attempt.payload),
            http_request_signature_header: &attempt.signature,
            http_response_code: answered.map(|(code, _)| code),
            http_response_body: answered
                .map_or(Cow::Borrowed(""), |(_, body)| String::from_utf8_lossy(body)),
            next_retry: attempt.next_retry,
            error: failure.map(|failure| failure.cause.as_str()),
            error_detail: failure.map(|failure| failure.detail.as_str()),
            delivery: attempt.delivery.get(),
            attempt_number: attempt.attempt_number,
            trigger: attempt.trigger.as_str(),
            duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
            peer_address: attempt.peer_address.as_deref(),
        }
    }
}

async fn list(call: &mut Call) -> Answer {
    let endpoint = endpoints::look_up(call).await?;
    let query = call.query();
    let newest_first = OrderBy { field: AttemptField::SentAt, descending: true };
    let ordering = query.ordering(ordering_field, newest_first);
    let asked = PageRequest::new(query);
    let query = AttemptQuery { ordering, limit: asked.limit(), offset: asked.offset() };
    let found = call.api.app.store.attempts(endpoint.tenant, endpoint.id, query).await?;
    let results = found.items.iter().map(Shown::from).collect();
    Ok(answer::json(StatusCode::OK, &asked.page(&call.url(), found.count, results)))
}

fn ordering_field(name: &str) -> Option<AttemptField> {
    match name {
        "created_at" | "sent_at" => Some(AttemptField::SentAt),
        "next_retry" => Some(AttemptField::NextRetry),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use postrider_kernel::{
        AttemptId, DeliveryId, EventId, EventType, Failure, Trigger, attempt::Cause,
    };

    fn attempt(response: Result<(u16, Vec<u8>), Failure>, next_retry: Option<i64>) -> Attempt {
        Attempt {
            id: AttemptId::new(1),
            event: EventId::new(41),
            event_type: EventType::parse("vote.created").unwrap(),
            accepted_at: Timestamp::from_micros(1_616_685_706_000_000),
            delivery: DeliveryId::new(7),
            attempt_number: 2,
            trigger: Trigger::Schedule,
            sent_at: Timestamp::from_micros(1_616_685_706_575_398),
            duration: Duration::from_micros(12_999),
            payload: "{\"event_id\":41,\"é\":1}".into(),
            signature: "t=1492774577,v1=5257a869".into(),
            peer_address: Some("127.0.0.1:9000".into()),
            response,
            next_retry: next_retry.map(Timestamp::from_micros),
        }
    }

    #[test]
    fn attempts_are_shown_field_by_field() {
        let shown = |attempt| serde_json::to_string_pretty(&Shown::from(&attempt)).unwrap();
        let answered = attempt(Ok((200, b"ok \xff\0".to_vec())), None);
        let refused = Failure::new(Cause::Connect, "connection refused");
        let unanswered = attempt(Err(refused), Some(1_616_685_711_000_000));
        insta::assert_snapshot!(shown(answered) + "\n" + &shown(unanswered), @r#"
        {
          "id": 1,
          "created_at": "2021-03-25T15:21:46.575398Z",
          "event": {
            "id": 41,
            "type": "vote.created",
            "added_at": "2021-03-25T15:21:46Z"
          },
          "sent_at": "2021-03-25T15:21:46.575398Z",
          "http_request_body": "{\"event_id\":41,\"é\":1}",
          "http_request_signature_header": "t=1492774577,v1=5257a869",
          "http_response_code": 200,
          "http_response_body": "ok �\u0000",
          "next_retry": null,
          "error": null,
          "error_detail": null,
          "delivery": 7,
          "attempt_number": 2,
          "trigger": "schedule",
          "duration_ms": 12,
          "peer_address": "127.0.0.1:9000"
        }
        {
          "id": 1,
          "created_at": "2021-03-25T15:21:46.575398Z",
          "event": {
            "id": 41,
            "type": "vote.created",
            "added_at": "2021-03-25T15:21:46Z"
          },
          "sent_at": "2021-03-25T15:21:46.575398Z",
          "http_request_body": "{\"event_id\":41,\"é\":1}",
          "http_request_signature_header": "t=1492774577,v1=5257a869",
          "http_response_code": null,
          "http_response_body": "",
          "next_retry": "2021-03-25T15:21:51Z",
          "error": "connect",
          "error_detail": "connection refused",
          "delivery": 7,
          "attempt_number": 2,
          "trigger": "schedule",
          "duration_ms": 12,
          "peer_address": "127.0.0.1:9000"
        }
        "#);
    }
}
