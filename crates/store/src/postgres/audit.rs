//! The audit log: a line is written in the transaction of what it tells of, so neither is ever without the other. It is
//! the last thing that a transaction does, since the log's order is kept by a lock.

use deadpool_postgres::{GenericClient, Transaction};
use postrider_kernel::{AuditId, TenantId};

use super::{
    ids,
    query::{all, execute, get, sql, time},
};
use crate::{Action, AuditEntry, By, IdKind, Result};

/// Writes a line.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    by: &By,
    action: Action,
    subject: String,
) -> Result<()> {
    let id = ids::reserve(transaction, IdKind::Audit, 1).await?.start;
    let (actor, address) = (by.actor.to_string(), by.address.map(|address| address.to_string()));
    let (tenant, at, action) = (tenant.get(), by.at.as_micros(), action.as_str());
    let line: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&tenant, &id, &at, &actor, &address, &action, &subject];
    execute(transaction, sql!("insert_audit"), &line).await?;
    Ok(())
}

/// A tenant's lines. Identifiers are reserved inside the transactions that write them, so their order is the log's.
pub(super) async fn of_tenant(
    client: &impl GenericClient,
    tenant: TenantId,
) -> Result<Vec<AuditEntry>> {
    all(client, sql!("select_audit"), &[&tenant.get()], |row| {
        Ok(AuditEntry {
            id: AuditId::new(get(row, "id")?),
            at: time(row, "at")?,
            actor: get(row, "actor")?,
            address: get(row, "address")?,
            action: get(row, "action")?,
            subject: get(row, "subject")?,
        })
    })
    .await
}
