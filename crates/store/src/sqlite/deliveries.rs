//! Deliveries on their way: leased, settled, given back. The state machine is drawn in the kernel's `delivery.rs`.

use std::time::Duration;

use postrider_kernel::{
    DeliveryId, EndpointId, EventId, TenantId, Timestamp, Trigger, delivery::Status,
};
use rusqlite::{Connection, Row, named_params, params};

use super::{
    attempts, endpoints, events, ids,
    query::{
        all, all_while, any, corrupt, execute, first, narrow, number, optional_time, sql, time,
    },
    writer::Totals,
};
use crate::{
    Actor, AttemptRecord, By, Claim, ClaimLimit, ClaimedDelivery, IdKind, Lease, Page, Recorded,
    Result, StoredDelivery,
};

/// The number that stands for a status in `delivery.status`. The statements in `sql/` write 0 and 1 out, since the
/// partial indexes of pending and leased deliveries serve only those that do.
pub(super) const fn status_code(status: Status) -> i64 {
    match status {
        Status::Pending => 0,
        Status::Leased => 1,
        Status::Delivered => 2,
        Status::Failed => 3,
        Status::Cancelled => 4,
    }
}

/// A status, read back.
fn read_status(row: &Row<'_>) -> Result<Status> {
    let code: i64 = row.get("status")?;
    let mut all = Status::ALL.into_iter();
    all.find(|&status| status_code(status) == code).ok_or_else(|| corrupt("status", code))
}

/// The number that stands for a trigger in `delivery.trigger` and `attempt.trigger`.
pub(super) const fn trigger_code(trigger: Trigger) -> i64 {
    match trigger {
        Trigger::Schedule => 0,
        Trigger::Resend => 1,
    }
}

/// A trigger, read back.
pub(super) fn read_trigger(row: &Row<'_>) -> Result<Trigger> {
    let code: i64 = row.get("trigger")?;
    [Trigger::Schedule, Trigger::Resend]
        .into_iter()
        .find(|&trigger| trigger_code(trigger) == code)
        .ok_or_else(|| corrupt("trigger", code))
}

pub(super) fn begin_life(connection: &Connection) -> Result<Lease> {
    execute(connection, sql!("void_leases"), [])?;
    Ok(Lease(ids::reserve(connection, IdKind::Life, 1)?.start))
}

pub(super) fn claim_due(
    connection: &Connection,
    endpoint: EndpointId,
    now: Timestamp,
    limit: ClaimLimit,
    lease: Lease,
) -> Result<Claim> {
    let select = "SELECT 1 FROM endpoint WHERE id = ?1 AND is_active = 1 AND deleted_at IS NULL";
    let mut deliveries = Vec::new();
    if any(connection, select, [endpoint.get()])? {
        deliveries = due(connection, endpoint, now, limit, lease)?;
    }
    for delivery in &deliveries {
        let parameters = named_params! { ":id": delivery.id.get(), ":lease": lease.0 };
        execute(connection, sql!("lease_delivery"), parameters)?;
    }
    Ok(Claim { deliveries, next_due: earliest_due_of(connection, endpoint)? })
}

pub(super) fn earliest_due(
    connection: &Connection,
) -> Result<Vec<(TenantId, EndpointId, Timestamp)>> {
    all(connection, sql!("earliest_due"), [], |row| {
        let (tenant, endpoint, due_at) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((TenantId::new(tenant), EndpointId::new(endpoint), Timestamp::from_micros(due_at)))
    })
}

pub(super) fn earliest_due_of(
    connection: &Connection,
    endpoint: EndpointId,
) -> Result<Option<Timestamp>> {
    let parameters = named_params! { ":endpoint_id": endpoint.get() };
    let due_at = first(connection, sql!("earliest_due_of"), parameters, number)?;
    Ok(due_at.map(Timestamp::from_micros))
}

/// The first deliveries of an event, by id, to endpoints that aren't deleted.
pub(super) fn of_event(
    connection: &Connection,
    event: EventId,
    limit: u32,
) -> Result<Page<StoredDelivery>> {
    let parameters = named_params! { ":event_id": event.get() };
    let count = first(connection, sql!("count_deliveries_of_event"), parameters, number)?;
    let parameters = named_params! { ":event_id": event.get(), ":limit": limit };
    let items = all(connection, sql!("select_deliveries_of_event"), parameters, read_stored)?;
    Ok(Page { count: count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0), items })
}

fn read_stored(row: &Row<'_>) -> Result<StoredDelivery> {
    let status = read_status(row)?;
    let due_at = time(row, "due_at")?;
    Ok(StoredDelivery {
        id: DeliveryId::new(row.get("id")?),
        endpoint: EndpointId::new(row.get("endpoint_id")?),
        status,
        trigger: read_trigger(row)?,
        attempts_made: narrow(row, "attempts_made")?,
        created_at: time(row, "created_at")?,
        due_at: (status == Status::Pending).then_some(due_at),
        finished_at: optional_time(row, "finished_at")?,
    })
}

pub(super) fn record(
    connection: &Connection,
    totals: &mut Totals,
    attempt: &AttemptRecord,
) -> Result<Recorded> {
    if !settle(connection, attempt)? {
        return Ok(Recorded::LeaseLost);
    }
    attempts::insert(connection, attempt)?;
    totals.count_attempts(attempt.endpoint, 1);
    if attempt.deactivates_endpoint {
        let by = By { actor: Actor::Service, address: None, at: attempt.settled_at };
        endpoints::deactivate(connection, attempt.tenant, attempt.endpoint, &by)?;
    }
    Ok(Recorded::Done)
}

pub(super) fn give_back(
    connection: &Connection,
    deliveries: &[DeliveryId],
    lease: Lease,
) -> Result<()> {
    for delivery in deliveries {
        let parameters = named_params! { ":id": delivery.get(), ":lease": lease.0 };
        execute(connection, sql!("give_back"), parameters)?;
    }
    Ok(())
}

pub(super) fn bring_forward(connection: &Connection, now: Timestamp, by: Duration) -> Result<()> {
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    let parameters = named_params! { ":now": now.as_micros(), ":by": by };
    execute(connection, sql!("bring_forward"), parameters)?;
    Ok(())
}

fn due(
    connection: &Connection,
    endpoint: EndpointId,
    now: Timestamp,
    limit: ClaimLimit,
    lease: Lease,
) -> Result<Vec<ClaimedDelivery>> {
    let parameters = named_params! {
        ":endpoint_id": endpoint.get(),
        ":now": now.as_micros(),
        ":limit": limit.count,
    };
    let mut bytes = 0;
    all_while(connection, sql!("select_due"), parameters, |row| {
        let is_first = bytes == 0;
        bytes += row.get_ref("payload")?.as_blob().map_or(0, <[u8]>::len);
        if !is_first && bytes > limit.bytes {
            return Ok(None);
        }
        Ok(Some(ClaimedDelivery {
            id: DeliveryId::new(row.get("id")?),
            tenant: TenantId::new(row.get("tenant_id")?),
            endpoint,
            event: EventId::new(row.get("event_id")?),
            payload: events::read_payload(row)?,
            trigger: read_trigger(row)?,
            attempts_made: narrow(row, "attempts_made")?,
            lease,
        }))
    })
}

/// Moves a delivery on after a try; `false` when the lease was lost.
fn settle(connection: &Connection, attempt: &AttemptRecord) -> Result<bool> {
    let parameters = params![
        attempt.delivery.get(),
        attempt.tenant.get(),
        attempt.endpoint.get(),
        attempt.event.get(),
        attempt.lease.0,
        status_code(attempt.status()),
        attempt.attempt_number,
        attempt.next.retry_at().map(Timestamp::as_micros),
        attempt.finished_at().map(Timestamp::as_micros),
    ];
    Ok(execute(connection, sql!("settle_delivery"), parameters)? > 0)
}
