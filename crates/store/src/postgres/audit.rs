//! The audit log: a line is written in the transaction of what it tells of, so neither is ever without the other. It is
//! the last thing that a transaction does, since the log's order is kept by a lock.

use deadpool_postgres::{Client, GenericClient, Transaction};
use postrider_kernel::{AuditId, TenantId, Timestamp};
use tokio_postgres::Row;

use super::{
    ids,
    query::{Parameters, all, execute, get, number, one, sql, text, time},
};
use crate::{Action, AuditEntry, AuditQuery, By, IdKind, Page, Result};

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
    all(client, sql!("select_audit"), &[&tenant.get()], read).await
}

pub(super) async fn page(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &AuditQuery,
) -> Result<Page<AuditEntry>> {
    let tenant = tenant.get();
    let (action, actor) = (query.action.as_deref().map(text), query.actor.as_deref().map(text));
    let (since, until) =
        (query.since.map(Timestamp::as_micros), query.until.map(Timestamp::as_micros));
    let filter: Parameters<'_> = &[&tenant, &action, &actor, &since, &until];
    let count = one(client, sql!("count_audit"), filter, number).await?;
    let order = if query.descending { "at DESC, id DESC" } else { "at, id" };
    let select = sql!("select_audit_page");
    let select = format!("{select}ORDER BY {order} LIMIT $6 OFFSET $7");
    let (limit, offset) = (i64::from(query.limit), i64::try_from(query.offset).unwrap_or(i64::MAX));
    let parameters: Parameters<'_> = &[&tenant, &action, &actor, &since, &until, &limit, &offset];
    let items = all(client, &select, parameters, read).await?;
    Ok(Page { count: u64::try_from(count).unwrap_or(0), items })
}

/// Drops lines from before a moment, which it names to the trigger that keeps everybody else from it.
pub(super) async fn purge(client: &mut Client, before: Timestamp, limit: i64) -> Result<u64> {
    let transaction = client.transaction().await?;
    let name = "SELECT set_config('postrider.audit_before', $1, true)";
    execute(&transaction, name, &[&before.as_micros().to_string()]).await?;
    let parameters: Parameters<'_> = &[&before.as_micros(), &limit];
    let dropped = execute(&transaction, sql!("delete_audit"), parameters).await?;
    transaction.commit().await?;
    Ok(dropped)
}

fn read(row: &Row) -> Result<AuditEntry> {
    Ok(AuditEntry {
        id: AuditId::new(get(row, "id")?),
        at: time(row, "at")?,
        actor: get(row, "actor")?,
        address: get(row, "address")?,
        action: get(row, "action")?,
        subject: get(row, "subject")?,
    })
}
