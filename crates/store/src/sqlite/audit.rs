//! The audit log: a line is written in the transaction of what it tells of, so neither is ever without the other.

use postrider_kernel::{AuditId, TenantId};
use rusqlite::{Connection, named_params};

use super::{
    ids,
    query::{all, execute, sql, time},
};
use crate::{Action, AuditEntry, By, IdKind, Result};

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
    all(connection, sql!("select_audit"), parameters, |row| {
        Ok(AuditEntry {
            id: AuditId::new(row.get("id")?),
            at: time(row, "at")?,
            actor: row.get("actor")?,
            address: row.get("address")?,
            action: row.get("action")?,
            subject: row.get("subject")?,
        })
    })
}
