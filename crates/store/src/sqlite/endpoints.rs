//! Endpoints and their subscriptions. A deleted endpoint is seen by no verb; its rows are `purge.rs`'s business.

use postrider_kernel::{EndpointId, EventType, Target, TenantId};
use rusqlite::{Connection, Row, named_params};

use super::{
    audit, catalogue,
    query::{all, corrupt, execute, first, number, sql, time},
    secrets,
};
use crate::{
    Action, By, DirectoryEntry, Endpoint, EndpointChange, EndpointField, EndpointQuery,
    NewEndpoint, Page, Result, StoreError, Subscription, algorithms_from, algorithms_text,
};

pub(super) fn create(connection: &Connection, new: &NewEndpoint, by: &By) -> Result<Endpoint> {
    let added =
        |event_type: &EventType| Subscription { event_type: event_type.clone(), added_at: by.at };
    let endpoint = Endpoint {
        id: new.id,
        tenant: new.tenant,
        created_at: by.at,
        updated_at: by.at,
        is_active: new.is_active,
        target: new.target.clone(),
        description: new.description.clone(),
        subscriptions: new.event_types.iter().map(added).collect(),
        ssl_cert_verification: new.ssl_cert_verification,
        signature_algorithms: new.signature_algorithms,
    };
    let parameters = named_params! {
        ":id": endpoint.id.get(),
        ":tenant_id": endpoint.tenant.get(),
        ":at": by.at.as_micros(),
        ":is_active": endpoint.is_active,
        ":ssl_cert_verification": endpoint.ssl_cert_verification,
        ":target": endpoint.target.as_str(),
        ":description": endpoint.description,
        ":signature_algorithms": algorithms_text(endpoint.signature_algorithms),
    };
    execute(connection, sql!("insert_endpoint"), parameters)?;
    insert_subscriptions(connection, &endpoint)?;
    secrets::insert(connection, endpoint.tenant, endpoint.id, &new.secret, by.at)?;
    let subject = subject(endpoint.id);
    audit::write(connection, endpoint.tenant, by, Action::EndpointCreated, subject.clone())?;
    if new.secret.is_brought {
        audit::write(connection, endpoint.tenant, by, Action::SecretBrought, subject)?;
    }
    Ok(endpoint)
}

pub(super) fn update(
    connection: &Connection,
    tenant: TenantId,
    id: EndpointId,
    change: &EndpointChange,
    by: &By,
) -> Result<Option<Endpoint>> {
    let Some(before) = find(connection, tenant, id)? else { return Ok(None) };
    let after = before.changed(change, by.at);
    save(connection, &after)?;
    if change.event_types.is_some() {
        let delete = "DELETE FROM subscription WHERE endpoint_id = ?1";
        execute(connection, delete, [id.get()])?;
        insert_subscriptions(connection, &after)?;
    }
    if let Some((secret, key)) = &change.key {
        secrets::give_key(connection, id, *secret, key)?;
    }
    audit::write(connection, tenant, by, Action::EndpointChanged, subject(id))?;
    Ok(Some(after))
}

pub(super) fn delete(
    connection: &Connection,
    tenant: TenantId,
    id: EndpointId,
    by: &By,
) -> Result<bool> {
    let parameters = named_params! {
        ":id": id.get(),
        ":tenant_id": tenant.get(),
        ":at": by.at.as_micros(),
    };
    let deleted = execute(connection, sql!("delete_endpoint"), parameters)? > 0;
    if deleted {
        audit::write(connection, tenant, by, Action::EndpointDeleted, subject(id))?;
    }
    Ok(deleted)
}

/// Deactivates an endpoint as its receiver asked; an inactive one stays as it is.
pub(super) fn deactivate(
    connection: &Connection,
    tenant: TenantId,
    id: EndpointId,
    by: &By,
) -> Result<()> {
    let parameters = named_params! { ":id": id.get(), ":at": by.at.as_micros() };
    if execute(connection, sql!("deactivate_endpoint"), parameters)? > 0 {
        audit::write(connection, tenant, by, Action::EndpointDeactivated, subject(id))?;
    }
    Ok(())
}

pub(super) fn find(
    connection: &Connection,
    tenant: TenantId,
    id: EndpointId,
) -> Result<Option<Endpoint>> {
    let parameters = named_params! { ":id": id.get(), ":tenant_id": tenant.get() };
    let read = |row: &Row<'_>| read_endpoint(connection, row);
    first(connection, sql!("select_endpoint"), parameters, read)
}

pub(super) fn page(
    connection: &Connection,
    tenant: TenantId,
    query: &EndpointQuery,
) -> Result<Page<Endpoint>> {
    let filter = named_params! {
        ":tenant_id": tenant.get(),
        ":target_contains": query.target_contains,
    };
    let count = first(connection, sql!("count_endpoints"), filter, number)?.unwrap_or(0);
    let select = sql!("select_endpoints");
    let select = format!("{select}{} LIMIT :limit OFFSET :offset", order_by(query));
    let parameters = named_params! {
        ":tenant_id": tenant.get(),
        ":target_contains": query.target_contains,
        ":limit": query.limit,
        ":offset": i64::try_from(query.offset).unwrap_or(i64::MAX),
    };
    let items = all(connection, &select, parameters, |row| read_endpoint(connection, row))?;
    Ok(Page { count: u64::try_from(count).unwrap_or(0), items })
}

pub(super) fn directory(connection: &Connection, tenant: TenantId) -> Result<Vec<DirectoryEntry>> {
    let select = concat!(sql!("select_endpoints"), "ORDER BY id");
    let parameters =
        named_params! { ":tenant_id": tenant.get(), ":target_contains": None::<String> };
    all(connection, select, parameters, |row| {
        let endpoint = read_endpoint(connection, row)?;
        let secrets = secrets::live(connection, endpoint.id)?;
        Ok(DirectoryEntry { endpoint, secrets })
    })
}

/// Writes back what may change of an endpoint, its subscriptions apart.
pub(super) fn save(connection: &Connection, endpoint: &Endpoint) -> Result<()> {
    let parameters = named_params! {
        ":id": endpoint.id.get(),
        ":at": endpoint.updated_at.as_micros(),
        ":is_active": endpoint.is_active,
        ":ssl_cert_verification": endpoint.ssl_cert_verification,
        ":target": endpoint.target.as_str(),
        ":description": endpoint.description,
        ":signature_algorithms": algorithms_text(endpoint.signature_algorithms),
    };
    match execute(connection, sql!("update_endpoint"), parameters)? {
        1 => Ok(()),
        _ => Err(StoreError::Inconsistent(format!("endpoint {} vanished", endpoint.id))),
    }
}

/// How the audit log names an endpoint.
pub(super) fn subject(id: EndpointId) -> String {
    format!("endpoint:{id}")
}

fn insert_subscriptions(connection: &Connection, endpoint: &Endpoint) -> Result<()> {
    for (position, subscription) in (1_i64..).zip(&endpoint.subscriptions) {
        let parameters = named_params! {
            ":endpoint_id": endpoint.id.get(),
            ":event_type": subscription.event_type.as_str(),
            ":position": position,
            ":at": subscription.added_at.as_micros(),
        };
        execute(connection, sql!("insert_subscription"), parameters)?;
    }
    Ok(())
}

fn order_by(query: &EndpointQuery) -> String {
    let mut order = String::from("ORDER BY ");
    for by in &query.ordering {
        order.push_str(match by.field {
            EndpointField::CreatedAt => "created_at",
            EndpointField::UpdatedAt => "updated_at",
            EndpointField::IsActive => "is_active",
        });
        order.push_str(if by.descending { " DESC, " } else { " ASC, " });
    }
    order + "id ASC"
}

fn read_endpoint(connection: &Connection, row: &Row<'_>) -> Result<Endpoint> {
    let id = EndpointId::new(row.get("id")?);
    let target: String = row.get("target")?;
    Ok(Endpoint {
        id,
        tenant: TenantId::new(row.get("tenant_id")?),
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        is_active: row.get("is_active")?,
        target: Target::parse(&target).map_err(|_| corrupt("target", target))?,
        description: row.get("description")?,
        subscriptions: subscriptions(connection, id)?,
        ssl_cert_verification: row.get("ssl_cert_verification")?,
        signature_algorithms: algorithms_from(&row.get::<_, String>("signature_algorithms")?)?,
    })
}

fn subscriptions(connection: &Connection, endpoint: EndpointId) -> Result<Vec<Subscription>> {
    let parameters = named_params! { ":endpoint_id": endpoint.get() };
    all(connection, sql!("select_subscriptions"), parameters, |row| {
        Ok(Subscription {
            event_type: catalogue::read_event_type(row, "event_type")?,
            added_at: time(row, "added_at")?,
        })
    })
}
