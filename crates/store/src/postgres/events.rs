//! Events, known and sent again. How they are published is [`super::publish`]'s business, since many are at once.

use std::collections::HashSet;

use bytes::Bytes;
use deadpool_postgres::{GenericClient, Transaction};
use postrider_kernel::{DeliveryId, EventId, TenantId, Trigger};
use tokio_postgres::Row;

use super::{
    audit, catalogue, deliveries, endpoints,
    query::{Parameters, all, corrupt, execute, first, get, number, sql, time},
};
use crate::{Action, By, Resend, Resent, Result, StoredEvent};

/// The number that stands for a trigger in `delivery.trigger` and `attempt.trigger`.
pub(super) const fn trigger_code(trigger: Trigger) -> i16 {
    match trigger {
        Trigger::Schedule => 0,
        Trigger::Resend => 1,
    }
}

/// A trigger, read back.
pub(super) fn read_trigger(row: &Row) -> Result<Trigger> {
    let code: i16 = get(row, "trigger")?;
    [Trigger::Schedule, Trigger::Resend]
        .into_iter()
        .find(|&trigger| trigger_code(trigger) == code)
        .ok_or_else(|| corrupt("trigger", code))
}

/// A payload, read back.
pub(super) fn read_payload(row: &Row) -> Result<Bytes> {
    Ok(Bytes::copy_from_slice(get(row, "payload")?))
}

/// One event, with up to `limit` of its deliveries.
pub(super) async fn find(
    client: &impl GenericClient,
    tenant: TenantId,
    id: EventId,
    limit: u32,
) -> Result<Option<StoredEvent>> {
    let parameters: Parameters<'_> = &[&tenant.get(), &id.get()];
    let read = |row: &Row| {
        let event_type = catalogue::read_event_type(row, "event_type")?;
        Ok((event_type, time(row, "accepted_at")?, read_payload(row)?))
    };
    let found = first(client, sql!("select_event"), parameters, read).await?;
    let Some((event_type, accepted_at, payload)) = found else { return Ok(None) };
    let deliveries = deliveries::of_event(client, tenant, id, limit).await?;
    Ok(Some(StoredEvent { id, event_type, accepted_at, payload, deliveries }))
}

/// Those of `events` that a tenant has, in the order asked.
pub(super) async fn known(
    client: &impl GenericClient,
    tenant: TenantId,
    events: &[EventId],
) -> Result<Vec<EventId>> {
    let ids: Vec<i64> = events.iter().map(|event| event.get()).collect();
    let select = "SELECT id FROM event WHERE tenant_id = $1 AND id = ANY ($2)";
    let known = all(client, select, &[&tenant.get(), &ids], number).await?;
    let known: HashSet<i64> = known.into_iter().collect();
    Ok(events.iter().copied().filter(|event| known.contains(&event.get())).collect())
}

pub(super) async fn resend(
    transaction: &Transaction<'_>,
    resend: &Resend,
    by: &By,
) -> Result<Resent> {
    let endpoint = endpoints::find(transaction, resend.tenant, resend.endpoint).await?;
    match endpoint {
        None => return Ok(Resent::NoEndpoint),
        Some(endpoint) if !endpoint.is_active => return Ok(Resent::Inactive),
        Some(_) => {}
    }
    if let Some(event) = find_unknown(transaction, resend).await? {
        return Ok(Resent::UnknownEvent(event));
    }
    let (events, ids) = columns(&resend.events);
    let (tenant, endpoint) = (resend.tenant.get(), resend.endpoint.get());
    let row: Parameters<'_> = &[&tenant, &endpoint, &ids, &events, &by.at.as_micros()];
    execute(transaction, sql!("insert_resent"), row).await?;
    let subject = endpoints::subject(resend.endpoint);
    audit::write(transaction, resend.tenant, by, Action::Resent, subject).await?;
    Ok(Resent::Done)
}

/// The first of the events that the tenant hasn't. Those that it has are locked until the transaction ends, so that no
/// purge drops them before it sees that they are owed again.
async fn find_unknown(transaction: &Transaction<'_>, resend: &Resend) -> Result<Option<EventId>> {
    let (events, _) = columns(&resend.events);
    let parameters: Parameters<'_> = &[&resend.tenant.get(), &events];
    let known = all(transaction, sql!("lock_events"), parameters, number).await?;
    let known: HashSet<i64> = known.into_iter().collect();
    let mut asked = resend.events.iter().map(|&(event, _)| event);
    Ok(asked.find(|event| !known.contains(&event.get())))
}

fn columns(events: &[(EventId, DeliveryId)]) -> (Vec<i64>, Vec<i64>) {
    events.iter().map(|&(event, id)| (event.get(), id.get())).unzip()
}
