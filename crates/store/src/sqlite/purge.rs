//! What is no longer kept, dropped in small transactions.
//!
//! Looking takes long and dropping doesn't, so each call looks on a reading connection, where it makes nobody wait, and
//! then drops what it found on the writing one, by key, each row only if it still may go. The order is that of
//! references: attempts before the deliveries and events that they show; what is left of deleted endpoints; then
//! deliveries that ended, with the events that nobody is owed any more; last, keys and secrets.

use postrider_kernel::{EndpointId, Timestamp};
use rusqlite::{Connection, named_params};

use super::{
    audit,
    query::{all, execute, first, number, sql},
    writer::Totals,
};
use crate::{Purge, Result, StoreError};

/// How many events the walk reads at a time. It ends where so many in a row are younger than what is purged: one alone
/// may owe its place to a clock that was wrong for a moment.
const WALK_STEP: i64 = 1000;

/// What a look found, at most about as much as was asked for.
#[derive(Debug, Default)]
pub(super) struct Found {
    attempts: Vec<i64>,
    remains: Vec<Remains>,
    events: Vec<i64>,
    /// Room for rows that are dropped without a look: keys and secrets.
    room: i64,
    /// Where the walk over events goes on next time; 0 for the beginning.
    pub(super) walked_to: i64,
}

/// What is left of a deleted endpoint.
#[derive(Debug)]
struct Remains {
    endpoint: i64,
    attempts: Vec<i64>,
    deliveries: Vec<i64>,
}

impl Found {
    fn take_room(&mut self, rows: usize) {
        self.room -= i64::try_from(rows).unwrap_or(i64::MAX);
    }
}

/// Looks for up to `limit` rows. The walk over events goes on after `walked_to`, so that events which are old but still
/// owed are passed once per round and not once per call.
pub(super) fn look(
    connection: &Connection,
    purge: &Purge,
    limit: u32,
    walked_to: i64,
) -> Result<Found> {
    let mut found = Found { room: limit.max(1).into(), walked_to, ..Found::default() };
    let parameters =
        named_params! { ":before": purge.attempts_before.as_micros(), ":limit": found.room };
    found.attempts = all(connection, sql!("find_old_attempts"), parameters, number)?;
    found.take_room(found.attempts.len());
    look_at_deleted_endpoints(connection, purge, &mut found)?;
    if found.room > 0 {
        walk_events(connection, purge.attempts_before, &mut found)?;
        // Nothing from there on is not nothing at all.
        if found.events.is_empty() && walked_to > 0 {
            walk_events(connection, purge.attempts_before, &mut found)?;
        }
    }
    Ok(found)
}

/// Drops what was found; answers how many rows went.
pub(super) fn drop_found(
    connection: &Connection,
    totals: &mut Totals,
    purge: &Purge,
    found: &Found,
) -> Result<u64> {
    let mut dropped = 0;
    for &attempt in &found.attempts {
        dropped += usize::from(drop_attempt(connection, totals, attempt)?.is_some());
    }
    for remains in &found.remains {
        dropped += drop_remains(connection, totals, remains)?;
    }
    for &event in &found.events {
        dropped += drop_event(connection, purge.attempts_before, event)?;
    }
    if found.room > 0 {
        for (statement, before) in [
            (sql!("delete_idempotency_keys"), purge.idempotency_before),
            (sql!("wipe_secrets_after_grace"), purge.grace_before),
        ] {
            let parameters = named_params! { ":before": before.as_micros(), ":limit": found.room };
            dropped += execute(connection, statement, parameters)?;
        }
        dropped += audit::purge(connection, purge.audit_before, found.room)?;
    }
    Ok(u64::try_from(dropped).unwrap_or(u64::MAX))
}

fn look_at_deleted_endpoints(
    connection: &Connection,
    purge: &Purge,
    found: &mut Found,
) -> Result<()> {
    if found.room <= 0 {
        return Ok(());
    }
    let parameters =
        named_params! { ":before": purge.deleted_before.as_micros(), ":limit": found.room };
    for endpoint in all(connection, sql!("find_deleted_endpoints"), parameters, number)? {
        if found.room <= 0 {
            break;
        }
        let mut look = |statement| {
            let parameters =
                named_params! { ":endpoint_id": endpoint, ":limit": found.room.max(0) };
            let ids = all(connection, statement, parameters, number)?;
            found.take_room(ids.len());
            Ok::<_, StoreError>(ids)
        };
        let attempts = look(sql!("find_attempts_of_endpoint"))?;
        let mut deliveries = look(sql!("find_pending_of_endpoint"))?;
        deliveries.extend(look(sql!("find_leased_of_endpoint"))?);
        found.take_room(1);
        found.remains.push(Remains { endpoint, attempts, deliveries });
    }
    Ok(())
}

fn walk_events(connection: &Connection, before: Timestamp, found: &mut Found) -> Result<()> {
    loop {
        let parameters = named_params! {
            ":after": found.walked_to,
            ":before": before.as_micros(),
            ":limit": WALK_STEP,
        };
        let step = all(connection, sql!("walk_events"), parameters, |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, bool>(2)?))
        })?;
        let mut any_is_old = false;
        for (event, accepted_at, has_work) in step {
            let is_old = accepted_at < before.as_micros();
            any_is_old |= is_old;
            found.walked_to = event;
            if is_old && has_work {
                found.events.push(event);
                found.take_room(1);
            }
            if found.room <= 0 {
                return Ok(());
            }
        }
        if !any_is_old {
            found.walked_to = 0;
            return Ok(());
        }
    }
}

/// Drops an attempt and counts it off; answers its delivery.
fn drop_attempt(connection: &Connection, totals: &mut Totals, attempt: i64) -> Result<Option<i64>> {
    let parameters = named_params! { ":id": attempt };
    let gone = first(connection, sql!("delete_attempt"), parameters, |row| {
        Ok((EndpointId::new(row.get(0)?), row.get::<_, i64>(1)?))
    })?;
    Ok(gone.map(|(endpoint, delivery)| {
        totals.count_attempts(endpoint, -1);
        delivery
    }))
}

/// Drops what was found of a deleted endpoint, and the endpoint itself once that was all. Its deliveries that ended are
/// found by their attempts; those whose attempts are gone already have no index by endpoint, and are left to the walk
/// over events.
fn drop_remains(connection: &Connection, totals: &mut Totals, remains: &Remains) -> Result<usize> {
    let mut deliveries = remains.deliveries.clone();
    let mut dropped = 0;
    for &attempt in &remains.attempts {
        if let Some(delivery) = drop_attempt(connection, totals, attempt)? {
            deliveries.push(delivery);
            dropped += 1;
        }
    }
    for delivery in deliveries {
        dropped += execute(connection, "DELETE FROM delivery WHERE id = ?1", [delivery])?;
    }
    Ok(dropped + drop_endpoint(connection, totals, remains.endpoint)?)
}

/// Drops a deleted endpoint with its subscriptions, secrets and counter, unless something still refers to it.
fn drop_endpoint(connection: &Connection, totals: &mut Totals, endpoint: i64) -> Result<usize> {
    let parameters = named_params! { ":endpoint_id": endpoint };
    if first(connection, sql!("endpoint_is_bare"), parameters, number)?.is_none() {
        return Ok(0);
    }
    totals.forget(EndpointId::new(endpoint));
    let mut dropped = 0;
    for delete in [
        "DELETE FROM subscription WHERE endpoint_id = ?1",
        "DELETE FROM secret WHERE endpoint_id = ?1",
        "DELETE FROM attempt_count WHERE endpoint_id = ?1",
        "DELETE FROM endpoint WHERE id = ?1",
    ] {
        dropped += execute(connection, delete, [endpoint])?;
    }
    Ok(dropped)
}

fn drop_event(connection: &Connection, before: Timestamp, event: i64) -> Result<usize> {
    let parameters = named_params! { ":event_id": event, ":before": before.as_micros() };
    let deliveries = execute(connection, sql!("delete_finished_deliveries"), parameters)?;
    Ok(deliveries + execute(connection, sql!("delete_event"), parameters)?)
}
