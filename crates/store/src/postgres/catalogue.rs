//! A tenant's catalogue of event types. An entry is retired, never removed, so it is offered again where it stood.

use deadpool_postgres::{GenericClient, Transaction};
use postrider_kernel::{EventType, TenantId, Timestamp};
use tokio_postgres::Row;

use super::{
    audit,
    query::{all, corrupt, execute, first, get, optional_time, sql, time, words},
};
use crate::{Action, By, CatalogueEntry, Result};

pub(super) async fn add(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    event_type: &EventType,
    description: &str,
    by: &By,
) -> Result<Option<CatalogueEntry>> {
    match find(transaction, tenant, event_type).await? {
        None => insert(transaction, tenant, event_type, description, by.at).await?,
        Some(entry) if entry.retired_at.is_none() => return Ok(None),
        Some(_) => {
            let (name, description) = (event_type.as_str(), description.as_bytes());
            let again = sql!("offer_event_type_again");
            execute(transaction, again, &[&tenant.get(), &name, &description]).await?;
        }
    }
    let subject = format!("event_type:{event_type}");
    audit::write(transaction, tenant, by, Action::EventTypeAdded, subject).await?;
    find(transaction, tenant, event_type).await
}

pub(super) async fn retire(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    event_type: &EventType,
    by: &By,
) -> Result<bool> {
    let (name, at) = (event_type.as_str(), by.at.as_micros());
    let retire = sql!("retire_event_type");
    let retired = execute(transaction, retire, &[&tenant.get(), &name, &at]).await? > 0;
    if retired {
        let subject = format!("event_type:{event_type}");
        audit::write(transaction, tenant, by, Action::EventTypeRetired, subject).await?;
    }
    Ok(retired)
}

pub(super) async fn of_tenant(
    client: &impl GenericClient,
    tenant: TenantId,
) -> Result<Vec<CatalogueEntry>> {
    all(client, sql!("select_event_types"), &[&tenant.get()], read_entry).await
}

/// Adds an entry after the tenant's last one.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    event_type: &EventType,
    description: &str,
    at: Timestamp,
) -> Result<()> {
    let (name, description) = (event_type.as_str(), description.as_bytes());
    let insert = sql!("insert_event_type");
    execute(transaction, insert, &[&tenant.get(), &name, &description, &at.as_micros()]).await?;
    Ok(())
}

/// An event type's name, read back.
pub(super) fn read_event_type(row: &Row, column: &str) -> Result<EventType> {
    let text: String = get(row, column)?;
    EventType::parse(&text).map_err(|_| corrupt(column, text))
}

async fn find(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    event_type: &EventType,
) -> Result<Option<CatalogueEntry>> {
    let name = event_type.as_str();
    first(transaction, sql!("select_event_type"), &[&tenant.get(), &name], read_entry).await
}

fn read_entry(row: &Row) -> Result<CatalogueEntry> {
    Ok(CatalogueEntry {
        event_type: read_event_type(row, "name")?,
        description: words(row, "description")?,
        created_at: time(row, "created_at")?,
        retired_at: optional_time(row, "retired_at")?,
    })
}
