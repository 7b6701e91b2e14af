//! The audit log: a line is written in the transaction of what it tells of, so neither is ever without the other.

use postrider_kernel::{AuditId, TenantId, Timestamp};
use rusqlite::{Connection, Row, named_params};

use super::{
    ids,
    query::{all, execute, first, number, sql, time},
};
use crate::{Action, AuditEntry, AuditQuery, By, IdKind, Page, Result};

/// Writes a line.
pub(super) fn write(
    connection: &Connection,
    tenant: TenantId,
    by: &By,
    action: Action,
    subject: String,
) -> Result<()> {
    let parameters = named_params! {
        ":id": ids::reserve(connection, IdKind::Audit, 1)?.start,
        ":tenant_id": tenant.get(),
        ":at": by.at.as_micros(),
        ":actor": by.actor.to_string(),
        ":address": by.address.map(|address| address.to_string()),
        ":action": action.as_str(),
        ":subject": subject,
    };
    execute(connection, sql!("insert_audit"), parameters)?;
    Ok(())
}

/// A tenant's lines. Identifiers are reserved inside the transactions that write them, so their order is the log's.
pub(super) fn of_tenant(connection: &Connection, tenant: TenantId) -> Result<Vec<AuditEntry>> {
    let parameters = named_params! { ":tenant_id": tenant.get() };
    all(connection, sql!("select_audit"), parameters, read)
}

pub(super) fn page(
    connection: &Connection,
    tenant: TenantId,
    query: &AuditQuery,
) -> Result<Page<AuditEntry>> {
    let filter = named_params! {
        ":tenant_id": tenant.get(),
        ":action": query.action,
        ":actor": query.actor,
        ":since": query.since.map(Timestamp::as_micros),
        ":until": query.until.map(Timestamp::as_micros),
    };
    let count = first(connection, sql!("count_audit"), filter, number)?.unwrap_or(0);
    let order = if query.descending { "at DESC, id DESC" } else { "at, id" };
    let select = sql!("select_audit_page");
    let select = format!("{select}ORDER BY {order} LIMIT :limit OFFSET :offset");
    let parameters = named_params! {
        ":tenant_id": tenant.get(),
        ":action": query.action,
        ":actor": query.actor,
        ":since": query.since.map(Timestamp::as_micros),
        ":until": query.until.map(Timestamp::as_micros),
        ":limit": query.limit,
        ":offset": i64::try_from(query.offset).unwrap_or(i64::MAX),
    };
    let items = all(connection, &select, parameters, read)?;
    Ok(Page { count: u64::try_from(count).unwrap_or(0), items })
}

/// Drops lines from before a moment, which it names to the triggers that keep everybody else from it.
pub(super) fn purge(connection: &Connection, before: Timestamp, limit: i64) -> Result<usize> {
    let is_old = "SELECT 1 FROM audit WHERE at < ?1 LIMIT 1";
    if first(connection, is_old, [before.as_micros()], number)?.is_none() {
        return Ok(0);
    }
    execute(connection, "INSERT INTO audit_purge (before) VALUES (?1)", [before.as_micros()])?;
    let parameters = named_params! { ":before": before.as_micros(), ":limit": limit };
    let dropped = execute(connection, sql!("delete_audit"), parameters)?;
    execute(connection, "DELETE FROM audit_purge", [])?;
    Ok(dropped)
}

fn read(row: &Row<'_>) -> Result<AuditEntry> {
    Ok(AuditEntry {
        id: AuditId::new(row.get("id")?),
        at: time(row, "at")?,
        actor: row.get("actor")?,
        address: row.get("address")?,
        action: row.get("action")?,
        subject: row.get("subject")?,
    })
}
