//! Identifiers and the instance's own few values.

use std::ops::Range;

use deadpool_postgres::GenericClient;

use super::query::{execute, get, number, one, sql};
use crate::{IdKind, Result};

/// Hands out the next `count` identifiers of a kind: those that end with the number which its sequence then has.
pub(super) async fn reserve(
    client: &impl GenericClient,
    kind: IdKind,
    count: u32,
) -> Result<Range<i64>> {
    let sequence = format!("{}_ids", kind.as_str());
    let count = i64::from(count);
    let last = one(client, sql!("reserve_ids"), &[&sequence, &count], number).await?;
    Ok(last + 1 - count..last + 1)
}

/// Keeps the master key's check value unless one is kept; answers the one that is.
pub(super) async fn keep_key_check(client: &impl GenericClient, check: &[u8]) -> Result<Vec<u8>> {
    let insert = "INSERT INTO meta (name, value) VALUES ('key_check', $1) ON CONFLICT DO NOTHING";
    execute(client, insert, &[&check]).await?;
    let select = "SELECT value FROM meta WHERE name = 'key_check'";
    one(client, select, &[], |row| get(row, "value")).await
}
