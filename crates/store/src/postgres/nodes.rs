//! Lives of nodes: who holds a lease, who may sign, and what becomes of what the dead held.
//!
//! A node's row has two times, both set and read by the database's clock alone: until when what it claimed is its own, and
//! until when it may sign. Who changes the directory waits until every node that may sign has applied the change. So that
//! nobody slips through:
//! - a right that has not run out is renewed whatever the node has applied: the change waits for it;
//! - a right that has run out is renewed only for the current version, and only once no change is under way: whoever made
//!   one may have looked already, and not have waited;
//! - whoever looks locks the rows first, so that a renewal which began in time and isn't committed is seen.

use std::{collections::BTreeSet, time::Duration};

use deadpool_postgres::{Client, GenericClient, Transaction};
use postrider_kernel::{EndpointId, TenantId};
use tokio_postgres::Row;

use super::{
    ids,
    migrate::{self, MIGRATIONS},
    news::{self, Told},
    query::{Parameters, all, execute, first, get, number, one, sql, time, wide},
    version,
};
use crate::{IdKind, LEASE, Lease, Renewal, Result, SIGNING, Version};

/// How many deliveries of the dead are freed in one transaction.
const FREED_MAX: i64 = 1000;

pub(super) async fn begin(client: &mut Client, sender: &str) -> Result<Lease> {
    take_over(client, sender).await?;
    let transaction = client.transaction().await?;
    migrate::check_beginning(&transaction, MIGRATIONS).await?;
    let id = ids::reserve(&transaction, IdKind::Life, 1).await?.start;
    let row: Parameters<'_> = &[&id, &seconds(LEASE), &wide(MIGRATIONS.len())];
    execute(&transaction, sql!("insert_node"), row).await?;
    transaction.commit().await?;
    Ok(Lease(id))
}

pub(super) async fn renew(client: &mut Client, lease: Lease, applied: Version) -> Result<Renewal> {
    let transaction = client.transaction().await?;
    let Some(signs) = lock_living(&transaction, lease).await? else { return Ok(Renewal::Lost) };
    let version = match signs {
        true => version::current(&transaction).await?,
        false => version::settled(&transaction).await?,
    };
    let may_sign = signs || applied >= version;
    let row: Parameters<'_> =
        &[&lease.0, &seconds(LEASE), &may_sign, &seconds(SIGNING), &applied.0];
    let now = one(&transaction, sql!("renew_node"), row, |row| time(row, "now")).await?;
    transaction.commit().await?;
    Ok(Renewal::Held { version, now: Some(now), may_sign })
}

/// Locks a living node's row; answers whether its right to sign still runs, and `None` where the lease doesn't. The clock
/// is read once the lock is held, and not when it was asked for.
async fn lock_living(transaction: &Transaction<'_>, lease: Lease) -> Result<Option<bool>> {
    let lock = "SELECT id FROM node WHERE id = $1 FOR UPDATE";
    first(transaction, lock, &[&lease.0], number).await?;
    first(transaction, sql!("select_living_node"), &[&lease.0], |row| get(row, "signs")).await
}

/// Most of the time somebody has yet to apply it, and that is seen without a lock.
pub(super) async fn is_applied_elsewhere(
    client: &mut Client,
    version: Version,
    except: Lease,
) -> Result<bool> {
    if !look_for_applied(client, version, except).await? {
        return Ok(false);
    }
    let transaction = client.transaction().await?;
    // Locks are all that this transaction writes: nobody waits for the disk on its account.
    transaction.batch_execute("SET LOCAL synchronous_commit = off").await?;
    let lock = "SELECT id FROM node WHERE id <> $1 ORDER BY id FOR SHARE";
    all(&transaction, lock, &[&except.0], number).await?;
    let is_applied = look_for_applied(&transaction, version, except).await?;
    transaction.commit().await?;
    Ok(is_applied)
}

async fn look_for_applied(
    client: &impl GenericClient,
    version: Version,
    except: Lease,
) -> Result<bool> {
    let parameters: Parameters<'_> = &[&except.0, &version.0];
    one(client, sql!("is_applied_elsewhere"), parameters, |row| get(row, "is_applied")).await
}

/// Its row goes first: should this be cut short, what is left is found by a lease that nobody has.
pub(super) async fn end(client: &mut Client, lease: Lease, sender: &str) -> Result<()> {
    execute(client, "DELETE FROM node WHERE id = $1", &[&lease.0]).await?;
    free(client, lease, sender).await?;
    Ok(())
}

/// Frees what is leased under leases that no living node has: that of the dead, whose rows go first, and of those that were
/// found dead earlier and whose last commits were still on their way then.
pub(super) async fn take_over(client: &mut Client, sender: &str) -> Result<bool> {
    execute(client, "DELETE FROM node WHERE lease_until < clock_timestamp()", &[]).await?;
    let mut has_freed = false;
    for lease in all(client, sql!("find_dead_leases"), &[], number).await? {
        has_freed |= free(client, Lease(lease), sender).await?;
    }
    Ok(has_freed)
}

/// Makes a dead lease's deliveries pending again, a part at a time, and tells the others.
async fn free(client: &mut Client, lease: Lease, sender: &str) -> Result<bool> {
    let mut has_freed = false;
    loop {
        let transaction = client.transaction().await?;
        let parameters: Parameters<'_> = &[&lease.0, &FREED_MAX];
        let freed = all(&transaction, sql!("free_leased"), parameters, read_owed).await?;
        let freed: BTreeSet<_> = freed.into_iter().collect();
        if freed.is_empty() {
            return Ok(has_freed);
        }
        has_freed = true;
        news::tell(&transaction, sender, &Told::Due(freed)).await?;
        transaction.commit().await?;
    }
}

fn read_owed(row: &Row) -> Result<(TenantId, EndpointId)> {
    Ok((TenantId::new(get(row, "tenant_id")?), EndpointId::new(get(row, "endpoint_id")?)))
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
