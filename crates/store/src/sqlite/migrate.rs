//! How an SQLite file comes to the newest schema.

use rusqlite::{Connection, params};

use super::query::all;
pub(super) use crate::history::Migration;
use crate::{Result, StoreError, history};

/// Every step, oldest first.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_what_is_promised",
    sql: include_str!("migrations/0001_what_is_promised.sql"),
}];

const CREATE_HISTORY: &str = "
    CREATE TABLE IF NOT EXISTS schema_migration (
        number   INTEGER PRIMARY KEY,
        name     TEXT NOT NULL,
        checksum BLOB NOT NULL
    ) STRICT";

/// Brings a database to the newest schema, one transaction per step; answers the steps that it took. Two processes may do
/// so at once: who comes second finds the step taken.
pub(super) fn migrate(
    connection: &mut Connection,
    migrations: &[Migration],
) -> Result<Vec<&'static str>> {
    let mut taken = Vec::new();
    while let Some(step) = take_next_step(connection, migrations)? {
        taken.push(step);
    }
    Ok(taken)
}

/// Refuses a database whose history isn't the beginning of ours; answers how many steps it has had.
pub(super) fn check_history(connection: &Connection, migrations: &[Migration]) -> Result<usize> {
    let select = "SELECT name, checksum FROM schema_migration ORDER BY number";
    let taken = all(connection, select, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    history::check(migrations, &taken)
}

/// Takes the first step that the database hasn't had; `None` when it has had all.
fn take_next_step(
    connection: &mut Connection,
    migrations: &[Migration],
) -> Result<Option<&'static str>> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(CREATE_HISTORY)?;
    let taken = check_history(&transaction, migrations)?;
    let Some(next) = migrations.get(taken) else { return Ok(None) };
    transaction.execute_batch(next.sql)?;
    let number = i64::try_from(taken + 1)
        .map_err(|_| StoreError::Inconsistent("more migrations than an integer counts".into()))?;
    let insert = "INSERT INTO schema_migration (number, name, checksum) VALUES (?1, ?2, ?3)";
    transaction.execute(insert, params![number, next.name, next.checksum()])?;
    transaction.commit()?;
    Ok(Some(next.name))
}
