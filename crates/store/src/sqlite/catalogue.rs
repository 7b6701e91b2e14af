//! A tenant's catalogue of event types. An entry is retired, never removed, so it is offered again where it stood.

use postrider_kernel::{EventType, TenantId, Timestamp};
use rusqlite::{Connection, Row, named_params};

use super::{
    audit,
    query::{all, corrupt, execute, first, optional_time, sql, time},
};
use crate::{Action, By, CatalogueEntry, Result};

pub(super) fn add(
    connection: &Connection,
    tenant: TenantId,
    event_type: &EventType,
    description: &str,
    by: &By,
) -> Result<Option<CatalogueEntry>> {
    match find(connection, tenant, event_type)? {
        None => insert(connection, tenant, event_type, description, by.at)?,
        Some(entry) if entry.retired_at.is_none() => return Ok(None),
        Some(_) => {
            let parameters = named_params! {
                ":tenant_id": tenant.get(),
                ":name": event_type.as_str(),
                ":description": description,
            };
            execute(connection, sql!("offer_event_type_again"), parameters)?;
        }
    }
    let subject = format!("event_type:{event_type}");
    audit::write(connection, tenant, by, Action::EventTypeAdded, subject)?;
    find(connection, tenant, event_type)
}

pub(super) fn retire(
    connection: &Connection,
    tenant: TenantId,
    event_type: &EventType,
    by: &By,
) -> Result<bool> {
    let parameters = named_params! {
        ":tenant_id": tenant.get(),
        ":name": event_type.as_str(),
        ":at": by.at.as_micros(),
    };
    let retired = execute(connection, sql!("retire_event_type"), parameters)? > 0;
    if retired {
        let subject = format!("event_type:{event_type}");
        audit::write(connection, tenant, by, Action::EventTypeRetired, subject)?;
    }
    Ok(retired)
}

pub(super) fn of_tenant(connection: &Connection, tenant: TenantId) -> Result<Vec<CatalogueEntry>> {
    let parameters = named_params! { ":tenant_id": tenant.get() };
    all(connection, sql!("select_event_types"), parameters, read_entry)
}

/// Adds an entry after the tenant's last one.
pub(super) fn insert(
    connection: &Connection,
    tenant: TenantId,
    event_type: &EventType,
    description: &str,
    at: Timestamp,
) -> Result<()> {
    let parameters = named_params! {
        ":tenant_id": tenant.get(),
        ":name": event_type.as_str(),
        ":description": description,
        ":at": at.as_micros(),
    };
    execute(connection, sql!("insert_event_type"), parameters)?;
    Ok(())
}

/// An event type's name, read back.
pub(super) fn read_event_type(row: &Row<'_>, column: &str) -> Result<EventType> {
    let text: String = row.get(column)?;
    EventType::parse(&text).map_err(|_| corrupt(column, text))
}

fn find(
    connection: &Connection,
    tenant: TenantId,
    event_type: &EventType,
) -> Result<Option<CatalogueEntry>> {
    let parameters = named_params! { ":tenant_id": tenant.get(), ":name": event_type.as_str() };
    first(connection, sql!("select_event_type"), parameters, read_entry)
}

fn read_entry(row: &Row<'_>) -> Result<CatalogueEntry> {
    Ok(CatalogueEntry {
        event_type: read_event_type(row, "name")?,
        description: row.get("description")?,
        created_at: time(row, "created_at")?,
        retired_at: optional_time(row, "retired_at")?,
    })
}
