//! Attempts: written once, listed in pages. A page is found in the index alone, and only its own rows are read, so that
//! the millionth attempt is as near as the first.

use std::time::Duration;

use postrider_kernel::{
    AttemptId, DeliveryId, EndpointId, EventId, Failure, TenantId, attempt::Cause,
};
use rusqlite::{Connection, Row, named_params, params};

use super::{
    catalogue,
    deliveries::{read_trigger, trigger_code},
    endpoints, events,
    query::{all, corrupt, execute, first, narrow, number, optional_time, sql, time},
};
use crate::{Attempt, AttemptField, AttemptQuery, AttemptRecord, Page, Result};

pub(super) fn insert(connection: &Connection, attempt: &AttemptRecord) -> Result<()> {
    let answer = attempt.response.as_ref().ok();
    let failure = attempt.response.as_ref().err();
    let parameters = params![
        attempt.id.get(),
        attempt.tenant.get(),
        attempt.endpoint.get(),
        attempt.event.get(),
        attempt.delivery.get(),
        attempt.attempt_number,
        trigger_code(attempt.trigger),
        attempt.sent_at.as_micros(),
        i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX),
        attempt.next.retry_at().map(|at| at.as_micros()),
        attempt.peer_address,
        attempt.signature,
        answer.map(|(status, _)| *status),
        failure.map(|failure| failure.cause.as_str()),
        failure.map(|failure| &failure.detail),
        answer.map(|(_, body)| body),
    ];
    execute(connection, sql!("insert_attempt"), parameters)?;
    Ok(())
}

/// Adds to an endpoint's number of attempts; less than nothing takes away.
pub(super) fn add_to_count(connection: &Connection, endpoint: EndpointId, more: i64) -> Result<()> {
    let parameters = named_params! { ":endpoint_id": endpoint.get(), ":more": more };
    execute(connection, sql!("add_to_attempt_count"), parameters)?;
    Ok(())
}

pub(super) fn page(
    connection: &Connection,
    tenant: TenantId,
    endpoint: EndpointId,
    query: &AttemptQuery,
) -> Result<Page<Attempt>> {
    if endpoints::find(connection, tenant, endpoint)?.is_none() {
        return Ok(Page { count: 0, items: Vec::new() });
    }
    let parameters = named_params! { ":endpoint_id": endpoint.get() };
    let count = first(connection, sql!("count_attempts"), parameters, number)?.unwrap_or(0);
    let parameters = named_params! {
        ":endpoint_id": endpoint.get(),
        ":limit": query.limit,
        ":offset": i64::try_from(query.offset).unwrap_or(i64::MAX),
    };
    let ids = all(connection, &select_ids(query), parameters, number)?;
    let items = ids.into_iter().filter_map(|id| find(connection, id).transpose());
    let items = items.collect::<Result<_>>()?;
    Ok(Page { count: u64::try_from(count).unwrap_or(0), items })
}

/// The statement that finds a page's ids in the order asked.
pub(super) fn select_ids(query: &AttemptQuery) -> String {
    let mut select = format!("{}ORDER BY ", sql!("select_attempt_ids"));
    for by in &query.ordering {
        select.push_str(match (by.field, by.descending) {
            (AttemptField::SentAt, false) => "sent_at ASC, ",
            (AttemptField::SentAt, true) => "sent_at DESC, ",
            (AttemptField::NextRetry, false) => "next_retry ASC NULLS LAST, ",
            (AttemptField::NextRetry, true) => "next_retry DESC NULLS FIRST, ",
        });
    }
    select + "id ASC LIMIT :limit OFFSET :offset"
}

/// One attempt of a page; `None` when its event is gone. Only a clock that was set back between two tries of a delivery
/// lets an event go first, and its attempts follow soon: no reason to refuse the page until then.
fn find(connection: &Connection, id: i64) -> Result<Option<Attempt>> {
    first(connection, sql!("select_attempt"), named_params! { ":id": id }, read_attempt)
}

fn read_attempt(row: &Row<'_>) -> Result<Attempt> {
    Ok(Attempt {
        id: AttemptId::new(row.get("id")?),
        event: EventId::new(row.get("event_id")?),
        event_type: catalogue::read_event_type(row, "event_type")?,
        accepted_at: time(row, "accepted_at")?,
        delivery: DeliveryId::new(row.get("delivery_id")?),
        attempt_number: narrow(row, "attempt_number")?,
        trigger: read_trigger(row)?,
        sent_at: time(row, "sent_at")?,
        duration: Duration::from_micros(narrow(row, "duration_us")?),
        payload: events::read_payload(row)?,
        signature: row.get("signature")?,
        peer_address: row.get("peer_address")?,
        response: read_response(row)?,
        next_retry: optional_time(row, "next_retry")?,
    })
}

/// What came back, or why nothing did; a constraint says that it is one of the two.
fn read_response(row: &Row<'_>) -> Result<std::result::Result<(u16, Vec<u8>), Failure>> {
    let Some(cause) = row.get::<_, Option<String>>("error_cause")? else {
        return Ok(Ok((narrow(row, "response_status")?, row.get("response_body")?)));
    };
    let detail: String = row.get("error_detail")?;
    match Cause::parse(&cause) {
        Some(cause) => Ok(Err(Failure { cause, detail })),
        None => Err(corrupt("error_cause", cause)),
    }
}
