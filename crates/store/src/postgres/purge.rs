//! What is no longer kept, dropped in small transactions, by several nodes at once if need be: what one has locked, the
//! others pass by.
//!
//! The order is that of references: attempts before the deliveries and events that they show; what is left of deleted
//! endpoints; then deliveries that ended, with the events that nobody is owed any more; last, keys and secrets.

use std::sync::{Mutex, PoisonError};

use deadpool_postgres::{Client, GenericClient, Transaction};
use postrider_kernel::Timestamp;

use super::{
    audit,
    query::{Parameters, all, execute, first, get, number, one, sql, wide},
    record,
    writer::WRITERS,
};
use crate::{Lease, Purge, Result};

/// How many events the walk reads at a time. It leaves a tenant where so many in a row are younger than what is purged:
/// one alone may owe its place to a clock that was wrong for a moment, or to another node's block of identifiers.
const WALK_STEP: i64 = 1000;

/// Where the walk over events goes on next time: after this event of this tenant. Zeros are the beginning.
type Place = (i64, i64);

/// How far a purge has walked, so that events which are old but still owed are passed once per round, not once per call.
#[derive(Default)]
pub(super) struct Walk(Mutex<Place>);

impl Walk {
    fn place(&self) -> Place {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn go_on_at(&self, place: Place) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }
}

/// Drops up to about `limit` rows; answers how many went.
pub(super) async fn purge(
    client: &mut Client,
    purge: &Purge,
    limit: u32,
    walk: &Walk,
) -> Result<u64> {
    // Whichever node purges: one at a time is enough.
    let slot = record::slot(WRITERS, Lease(0));
    let limit = i64::from(limit.max(1));
    let old: Parameters<'_> = &[&purge.attempts_before.as_micros(), &limit, &slot];
    let mut dropped = one(client, sql!("delete_old_attempts"), old, number).await?;
    if dropped < limit {
        dropped += drop_deleted_endpoints(client, purge, limit - dropped).await?;
    }
    if dropped < limit {
        dropped += drop_events(client, purge.attempts_before, limit - dropped, walk).await?;
    }
    for (statement, before) in [
        (sql!("delete_idempotency_keys"), purge.idempotency_before),
        (sql!("wipe_secrets_after_grace"), purge.grace_before),
    ] {
        if dropped < limit {
            let parameters: Parameters<'_> = &[&before.as_micros(), &(limit - dropped)];
            dropped += as_number(execute(client, statement, parameters).await?);
        }
    }
    if dropped < limit {
        let lines = audit::purge(client, purge.audit_before, limit - dropped).await?;
        dropped += as_number(lines);
    }
    Ok(u64::try_from(dropped).unwrap_or(0))
}

async fn drop_deleted_endpoints(client: &mut Client, purge: &Purge, limit: i64) -> Result<i64> {
    let mut dropped = 0;
    let parameters: Parameters<'_> = &[&purge.deleted_before.as_micros(), &limit];
    let deleted = all(client, sql!("find_deleted_endpoints"), parameters, |row| {
        Ok((get(row, "tenant_id")?, get(row, "id")?))
    });
    for (tenant, endpoint) in deleted.await? {
        if dropped >= limit {
            break;
        }
        let transaction = client.transaction().await?;
        dropped += drop_remains(&transaction, (tenant, endpoint), limit - dropped).await?;
        transaction.commit().await?;
    }
    Ok(dropped)
}

/// Drops what is left of a deleted endpoint, and itself once that was all. Its deliveries that ended are found by their
/// attempts; those whose attempts are gone already have no index by endpoint, and are left to the walk over events.
async fn drop_remains(
    transaction: &Transaction<'_>,
    (tenant, endpoint): (i64, i64),
    limit: i64,
) -> Result<i64> {
    let mut dropped = 0;
    for statement in [
        sql!("delete_attempts_of_endpoint"),
        sql!("delete_pending_of_endpoint"),
        sql!("delete_leased_of_endpoint"),
    ] {
        let parameters: Parameters<'_> = &[&tenant, &endpoint, &limit];
        dropped += one(transaction, statement, parameters, number).await?;
    }
    let parameters: Parameters<'_> = &[&tenant, &endpoint];
    if first(transaction, sql!("lock_bare_endpoint"), parameters, number).await?.is_none() {
        return Ok(dropped);
    }
    for delete in [
        "DELETE FROM subscription WHERE tenant_id = $1 AND endpoint_id = $2",
        "DELETE FROM secret WHERE tenant_id = $1 AND endpoint_id = $2",
        "DELETE FROM attempt_count WHERE tenant_id = $1 AND endpoint_id = $2",
        "DELETE FROM endpoint WHERE tenant_id = $1 AND id = $2",
    ] {
        dropped += as_number(execute(transaction, delete, parameters).await?);
    }
    Ok(dropped)
}

/// Walks over events from where the last walk ended, and drops what it finds. Nothing from there on is not nothing at
/// all: then it walks once more from the beginning.
async fn drop_events(
    client: &mut Client,
    before: Timestamp,
    limit: i64,
    walk: &Walk,
) -> Result<i64> {
    let begun_at = walk.place();
    let (mut found, mut place) = walk_on(client, before, limit, begun_at).await?;
    if found.is_empty() && begun_at != Place::default() {
        (found, place) = walk_on(client, before, limit, Place::default()).await?;
    }
    let mut dropped = 0;
    for of_tenant in found.chunk_by(|a, b| a.0 == b.0) {
        let events: Vec<i64> = of_tenant.iter().map(|&(_, event)| event).collect();
        dropped += drop_found(client, of_tenant[0].0, &events, before).await?;
    }
    walk.go_on_at(place);
    Ok(dropped)
}

/// The events, of one tenant after the other, at which a purge has work, and where the walk ended.
async fn walk_on(
    client: &Client,
    before: Timestamp,
    limit: i64,
    (tenant, mut after): Place,
) -> Result<(Vec<Place>, Place)> {
    let mut found = Vec::new();
    let select = "SELECT id FROM tenant WHERE id >= $1 ORDER BY id";
    for tenant in all(client, select, &[&tenant], number).await? {
        loop {
            let step = walk_a_step(client, (tenant, after), before).await?;
            let mut any_is_old = false;
            for (event, is_old, has_work) in step {
                any_is_old |= is_old;
                after = event;
                if is_old && has_work {
                    found.push((tenant, event));
                }
                if wide(found.len()) >= limit {
                    return Ok((found, (tenant, after)));
                }
            }
            if !any_is_old {
                break;
            }
        }
        after = 0;
    }
    Ok((found, Place::default()))
}

async fn walk_a_step(
    client: &Client,
    (tenant, after): Place,
    before: Timestamp,
) -> Result<Vec<(i64, bool, bool)>> {
    let parameters: Parameters<'_> = &[&tenant, &after, &before.as_micros(), &WALK_STEP];
    all(client, sql!("walk_events"), parameters, |row| {
        Ok((get(row, "id")?, get(row, "is_old")?, get(row, "has_work")?))
    })
    .await
}

/// Drops events of a tenant with what was owed of them, where nobody is owed them any more. The events are locked first,
/// and looked at after: a resend that was quicker has its delivery by then, and one that is slower finds them gone.
async fn drop_found(
    client: &mut Client,
    tenant: i64,
    events: &[i64],
    before: Timestamp,
) -> Result<i64> {
    let transaction = client.transaction().await?;
    let parameters: Parameters<'_> = &[&tenant, &events, &before.as_micros()];
    let locked = all(&transaction, sql!("lock_old_events"), parameters, number).await?;
    let parameters: Parameters<'_> = &[&tenant, &locked, &before.as_micros()];
    let mut dropped =
        one(&transaction, sql!("delete_finished_deliveries"), parameters, number).await?;
    let parameters: Parameters<'_> = &[&tenant, &locked];
    dropped += as_number(execute(&transaction, sql!("delete_events"), parameters).await?);
    transaction.commit().await?;
    Ok(dropped)
}

fn as_number(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
