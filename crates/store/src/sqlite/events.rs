//! Events, and the deliveries by which they are owed: once when they are published, once more for each resend.

use bytes::Bytes;
use postrider_kernel::{
    Created, DeliveryId, EndpointId, EventId, TenantId, Timestamp, Trigger, delivery::Status,
};
use rusqlite::{Connection, Row, named_params, params};

use super::{
    audit, catalogue,
    deliveries::{self, status_code, trigger_code},
    endpoints,
    query::{any, corrupt, execute, first, narrow, sql, time},
};
use crate::{
    Action, By, IdempotencyKey, Lease, Publication, PublishAnswer, Published, Resend, Resent,
    Result, StoreError, StoredEvent,
};

pub(super) fn publish(connection: &Connection, publication: &Publication) -> Result<Published> {
    if let Some(key) = &publication.idempotency {
        if let Some(earlier) = earlier_answer(connection, publication.tenant, key)? {
            return Ok(earlier);
        }
        keep_key(connection, publication, key)?;
    }
    insert(connection, publication)?;
    Ok(Published::Fresh)
}

/// One job, and so one transaction or none: what fails half-way is rolled back.
pub(super) fn publish_all(
    connection: &Connection,
    publications: &[Publication],
) -> Result<Published> {
    if publications.iter().any(|publication| publication.idempotency.is_some()) {
        return Err(StoreError::Inconsistent("one of many events has an idempotency key".into()));
    }
    publications.iter().try_for_each(|publication| insert(connection, publication))?;
    Ok(Published::Fresh)
}

pub(super) fn resend(connection: &Connection, resend: &Resend, by: &By) -> Result<Resent> {
    let Some(endpoint) = endpoints::find(connection, resend.tenant, resend.endpoint)? else {
        return Ok(Resent::NoEndpoint);
    };
    if !endpoint.is_active {
        return Ok(Resent::Inactive);
    }
    for &(event, _) in &resend.events {
        if !is_known(connection, resend.tenant, event)? {
            return Ok(Resent::UnknownEvent(event));
        }
    }
    for &(event, id) in &resend.events {
        let owed = Owed {
            id,
            tenant: resend.tenant,
            endpoint: resend.endpoint,
            event,
            trigger: Trigger::Resend,
            at: by.at,
            lease: None,
        };
        owed.insert(connection)?;
    }
    let subject = endpoints::subject(resend.endpoint);
    audit::write(connection, resend.tenant, by, Action::Resent, subject)?;
    Ok(Resent::Done)
}

/// One event, with up to `limit` of its deliveries.
pub(super) fn find(
    connection: &Connection,
    tenant: TenantId,
    id: EventId,
    limit: u32,
) -> Result<Option<StoredEvent>> {
    let parameters = named_params! { ":id": id.get(), ":tenant_id": tenant.get() };
    first(connection, sql!("select_event"), parameters, |row| {
        Ok(StoredEvent {
            id,
            event_type: catalogue::read_event_type(row, "event_type")?,
            accepted_at: time(row, "accepted_at")?,
            payload: read_payload(row)?,
            deliveries: deliveries::of_event(connection, id, limit)?,
        })
    })
}

/// Those of `events` that a tenant has, in the order asked.
pub(super) fn known(
    connection: &Connection,
    tenant: TenantId,
    events: &[EventId],
) -> Result<Vec<EventId>> {
    let mut known = Vec::new();
    for &event in events {
        if is_known(connection, tenant, event)? {
            known.push(event);
        }
    }
    Ok(known)
}

/// A payload, read back.
pub(super) fn read_payload(row: &Row<'_>) -> Result<Bytes> {
    let payload = row.get_ref("payload")?.as_blob().map_err(|error| corrupt("payload", error))?;
    Ok(Bytes::copy_from_slice(payload))
}

fn is_known(connection: &Connection, tenant: TenantId, event: EventId) -> Result<bool> {
    let select = "SELECT 1 FROM event WHERE id = ?1 AND tenant_id = ?2";
    any(connection, select, [event.get(), tenant.get()])
}

/// What an earlier request with this key came to, if there was one that still counts.
fn earlier_answer(
    connection: &Connection,
    tenant: TenantId,
    key: &IdempotencyKey,
) -> Result<Option<Published>> {
    let parameters = named_params! {
        ":tenant_id": tenant.get(),
        ":key": key.key,
        ":not_before": key.not_before.as_micros(),
    };
    first(connection, sql!("select_idempotency"), parameters, |row| {
        if row.get::<_, [u8; 32]>("request_hash")? != key.request_hash {
            return Ok(Published::KeyReused);
        }
        let created: f64 = row.get("created")?;
        Ok(Published::Repeat(PublishAnswer {
            event: EventId::new(row.get("event_id")?),
            event_type: catalogue::read_event_type(row, "event_type")?,
            created: Created::from_seconds(created).ok_or_else(|| corrupt("created", created))?,
            endpoint_count: narrow(row, "endpoint_count")?,
        }))
    })
}

fn keep_key(
    connection: &Connection,
    publication: &Publication,
    key: &IdempotencyKey,
) -> Result<()> {
    let endpoint_count = i64::try_from(publication.deliveries.len())
        .map_err(|_| StoreError::Inconsistent("more deliveries than an integer counts".into()))?;
    let parameters = named_params! {
        ":tenant_id": publication.tenant.get(),
        ":key": key.key,
        ":request_hash": key.request_hash,
        ":event_id": publication.event.get(),
        ":event_type": publication.event_type.as_str(),
        ":created": publication.created.as_seconds(),
        ":endpoint_count": endpoint_count,
        ":at": publication.accepted_at.as_micros(),
    };
    execute(connection, sql!("keep_idempotency"), parameters)?;
    Ok(())
}

/// An event, and all that it is owed to.
fn insert(connection: &Connection, publication: &Publication) -> Result<()> {
    insert_event(connection, publication)?;
    for delivery in &publication.deliveries {
        let owed = Owed {
            id: delivery.id,
            tenant: publication.tenant,
            endpoint: delivery.endpoint,
            event: publication.event,
            trigger: Trigger::Schedule,
            at: publication.accepted_at,
            lease: delivery.leased.then_some(publication.lease),
        };
        owed.insert(connection)?;
    }
    Ok(())
}

fn insert_event(connection: &Connection, publication: &Publication) -> Result<()> {
    let parameters = params![
        publication.event.get(),
        publication.tenant.get(),
        publication.event_type.as_str(),
        publication.created.as_seconds(),
        publication.accepted_at.as_micros(),
        &publication.payload[..],
    ];
    execute(connection, sql!("insert_event"), parameters)?;
    Ok(())
}

/// A delivery that comes into being, due at once.
struct Owed {
    id: DeliveryId,
    tenant: TenantId,
    endpoint: EndpointId,
    event: EventId,
    trigger: Trigger,
    at: Timestamp,
    lease: Option<Lease>,
}

impl Owed {
    fn insert(&self, connection: &Connection) -> Result<()> {
        let status = if self.lease.is_some() { Status::Leased } else { Status::Pending };
        let parameters = params![
            self.id.get(),
            self.tenant.get(),
            self.endpoint.get(),
            self.event.get(),
            trigger_code(self.trigger),
            status_code(status),
            self.at.as_micros(),
            self.lease.map(|lease| lease.0),
        ];
        execute(connection, sql!("insert_delivery"), parameters)?;
        Ok(())
    }
}
