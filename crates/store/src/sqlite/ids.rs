//! Identifiers and the instance's own few values.

use std::ops::Range;

use rusqlite::{Connection, named_params};

use super::query::{execute, first, number, sql};
use crate::{IdKind, Result, StoreError};

/// Hands out the next `count` identifiers of a kind.
pub(super) fn reserve(connection: &Connection, kind: IdKind, count: u32) -> Result<Range<i64>> {
    let parameters = named_params! { ":kind": kind.as_str(), ":count": count };
    let start = first(connection, sql!("reserve_ids"), parameters, number)?
        .ok_or_else(|| StoreError::Inconsistent("no identifiers were reserved".into()))?;
    Ok(start..start + i64::from(count))
}

/// Keeps the master key's check value unless one is kept; answers the one that is.
pub(super) fn keep_key_check(connection: &Connection, check: &[u8]) -> Result<Vec<u8>> {
    let insert = "INSERT INTO meta (name, value) VALUES ('key_check', ?1) ON CONFLICT DO NOTHING";
    execute(connection, insert, [check])?;
    let select = "SELECT value FROM meta WHERE name = 'key_check'";
    first(connection, select, [], |row| Ok(row.get(0)?))?
        .ok_or_else(|| StoreError::Inconsistent("the key's check value was not kept".into()))
}
