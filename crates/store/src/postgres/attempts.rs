//! Attempts: written once (by [`super::record`]), listed in pages. A page is found in the index alone, and only its own
//! rows are read, so that the millionth attempt is as near as the first.

use std::time::Duration;

use deadpool_postgres::GenericClient;
use postrider_kernel::{
    AttemptId, DeliveryId, EndpointId, EventId, Failure, TenantId, attempt::Cause,
};
use tokio_postgres::Row;

use super::{
    catalogue, endpoints,
    events::{read_payload, read_trigger},
    query::{Parameters, all, corrupt, get, narrow, number, one, optional_time, sql, time, words},
};
use crate::{Attempt, AttemptField, AttemptQuery, Page, Result};

pub(super) async fn page(
    client: &impl GenericClient,
    tenant: TenantId,
    endpoint: EndpointId,
    query: &AttemptQuery,
) -> Result<Page<Attempt>> {
    if endpoints::find(client, tenant, endpoint).await?.is_none() {
        return Ok(Page { count: 0, items: Vec::new() });
    }
    let (tenant, endpoint) = (tenant.get(), endpoint.get());
    let count = one(client, sql!("count_attempts"), &[&tenant, &endpoint], number).await?;
    let (limit, offset) = (i64::from(query.limit), i64::try_from(query.offset).unwrap_or(i64::MAX));
    let parameters: Parameters<'_> = &[&tenant, &endpoint, &limit, &offset];
    let ids = all(client, &select_ids(query), parameters, number).await?;
    // An attempt whose event is gone isn't among them. Only a clock that was set back between two tries of a delivery
    // lets an event go first, and its attempts follow soon: no reason to refuse the page until then.
    let items = all(client, sql!("select_attempts"), &[&tenant, &ids], read_attempt).await?;
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
    select + "id ASC LIMIT $3 OFFSET $4"
}

fn read_attempt(row: &Row) -> Result<Attempt> {
    Ok(Attempt {
        id: AttemptId::new(get(row, "id")?),
        event: EventId::new(get(row, "event_id")?),
        event_type: catalogue::read_event_type(row, "event_type")?,
        accepted_at: time(row, "accepted_at")?,
        delivery: DeliveryId::new(get(row, "delivery_id")?),
        attempt_number: narrow::<i32, _>(row, "attempt_number")?,
        trigger: read_trigger(row)?,
        sent_at: time(row, "sent_at")?,
        duration: Duration::from_micros(narrow::<i64, _>(row, "duration_us")?),
        payload: read_payload(row)?,
        signature: get(row, "signature")?,
        peer_address: get(row, "peer_address")?,
        response: read_response(row)?,
        next_retry: optional_time(row, "next_retry")?,
    })
}

/// What came back, or why nothing did; a constraint says that it is one of the two.
fn read_response(row: &Row) -> Result<std::result::Result<(u16, Vec<u8>), Failure>> {
    let Some(cause) = get::<Option<&str>>(row, "error_cause")? else {
        return Ok(Ok((narrow::<i32, _>(row, "response_status")?, get(row, "response_body")?)));
    };
    let detail = words(row, "error_detail")?;
    match Cause::parse(cause) {
        Some(cause) => Ok(Err(Failure { cause, detail })),
        None => Err(corrupt("error_cause", cause)),
    }
}
