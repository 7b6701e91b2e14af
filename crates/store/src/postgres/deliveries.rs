//! Deliveries on their way: claimed and given back; settled by [`super::record`]. The state machine is drawn in the
//! kernel's `delivery.rs`.

use std::time::Duration;

use deadpool_postgres::{Client, GenericClient};
use postrider_kernel::{DeliveryId, EndpointId, EventId, TenantId, Timestamp, delivery::Status};
use tokio_postgres::Row;

use super::{
    events::{read_payload, read_trigger},
    query::{
        Parameters, all, corrupt, execute, first, get, narrow, number, one, optional_time, sql,
        time, wide,
    },
};
use crate::{Claim, ClaimLimit, ClaimedDelivery, Lease, Page, Result, StoredDelivery};

/// The number that stands for a status in `delivery.status`. The statements in `sql/` write 0 and 1 out, since the
/// partial indexes of pending and leased deliveries serve only those that do.
pub(super) const fn status_code(status: Status) -> i16 {
    match status {
        Status::Pending => 0,
        Status::Leased => 1,
        Status::Delivered => 2,
        Status::Failed => 3,
        Status::Cancelled => 4,
    }
}

/// A status, read back.
fn read_status(row: &Row) -> Result<Status> {
    let code: i16 = get(row, "status")?;
    let mut all = Status::ALL.into_iter();
    all.find(|&status| status_code(status) == code).ok_or_else(|| corrupt("status", code))
}

/// The first deliveries of an event, by id, to endpoints that aren't deleted.
pub(super) async fn of_event(
    client: &impl GenericClient,
    tenant: TenantId,
    event: EventId,
    limit: u32,
) -> Result<Page<StoredDelivery>> {
    let parameters: Parameters<'_> = &[&tenant.get(), &event.get(), &i64::from(limit)];
    let count = sql!("count_deliveries_of_event");
    let count = one(client, count, &parameters[..2], number).await?;
    let items = all(client, sql!("select_deliveries_of_event"), parameters, read_stored).await?;
    Ok(Page { count: u64::try_from(count).unwrap_or(0), items })
}

fn read_stored(row: &Row) -> Result<StoredDelivery> {
    let status = read_status(row)?;
    let due_at = time(row, "due_at")?;
    Ok(StoredDelivery {
        id: DeliveryId::new(get(row, "id")?),
        endpoint: EndpointId::new(get(row, "endpoint_id")?),
        status,
        trigger: read_trigger(row)?,
        attempts_made: narrow::<i32, _>(row, "attempts_made")?,
        created_at: time(row, "created_at")?,
        due_at: (status == Status::Pending).then_some(due_at),
        finished_at: optional_time(row, "finished_at")?,
    })
}

/// What another node is claiming in this moment, this one passes by; it shows as due until that is committed.
pub(super) async fn claim_due(
    client: &Client,
    endpoint: EndpointId,
    now: Timestamp,
    limit: ClaimLimit,
    lease: Lease,
) -> Result<Claim> {
    let (count, bytes) = (i64::from(limit.count), wide(limit.bytes));
    let parameters: Parameters<'_> = &[&endpoint.get(), &now.as_micros(), &count, &bytes, &lease.0];
    let claim = client.prepare_cached(sql!("claim_due")).await?;
    let look = client.prepare_cached(sql!("earliest_due_of")).await?;
    // One way to the server for both: they are run in this order.
    let (claimed, next_due) = tokio::join!(
        biased;
        client.query(&claim, parameters),
        client.query_opt(&look, &parameters[..1]),
    );
    let claimed = claimed?;
    let deliveries = claimed.iter().map(|row| read_claimed(row, endpoint, lease));
    let next_due = next_due?.map(|row| time(&row, "due_at")).transpose()?;
    Ok(Claim { deliveries: deliveries.collect::<Result<_>>()?, next_due })
}

fn read_claimed(row: &Row, endpoint: EndpointId, lease: Lease) -> Result<ClaimedDelivery> {
    Ok(ClaimedDelivery {
        id: DeliveryId::new(get(row, "id")?),
        tenant: TenantId::new(get(row, "tenant_id")?),
        endpoint,
        event: EventId::new(get(row, "event_id")?),
        payload: read_payload(row)?,
        trigger: read_trigger(row)?,
        attempts_made: narrow::<i32, _>(row, "attempts_made")?,
        lease,
    })
}

pub(super) async fn earliest_due(
    client: &impl GenericClient,
) -> Result<Vec<(TenantId, EndpointId, Timestamp)>> {
    all(client, sql!("earliest_due"), &[], |row| {
        let (tenant, endpoint) = (get(row, "tenant_id")?, get(row, "endpoint_id")?);
        Ok((TenantId::new(tenant), EndpointId::new(endpoint), time(row, "due_at")?))
    })
    .await
}

pub(super) async fn earliest_due_of(
    client: &impl GenericClient,
    endpoint: EndpointId,
) -> Result<Option<Timestamp>> {
    let due_at = first(client, sql!("earliest_due_of"), &[&endpoint.get()], number).await?;
    Ok(due_at.map(Timestamp::from_micros))
}

pub(super) async fn give_back(
    client: &impl GenericClient,
    deliveries: &[DeliveryId],
    lease: Lease,
) -> Result<()> {
    let ids: Vec<i64> = deliveries.iter().map(|delivery| delivery.get()).collect();
    execute(client, sql!("give_back"), &[&lease.0, &ids]).await?;
    Ok(())
}

pub(super) async fn bring_forward(
    client: &impl GenericClient,
    now: Timestamp,
    by: Duration,
) -> Result<()> {
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    execute(client, sql!("bring_forward"), &[&now.as_micros(), &by]).await?;
    Ok(())
}
