//! How an SQLite file comes to the newest schema.

use rusqlite::{Connection, OptionalExtension, params};

use super::query::all;
pub(super) use crate::history::Migration;
use crate::{
    Result, StoreError,
    history::{self, Change, Standing, Taken},
};

/// Every step, oldest first.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_what_is_promised",
        sql: include_str!("migrations/0001_what_is_promised.sql"),
        change: Change::Contracts,
    },
    Migration {
        name: "0002_ed25519_signs_too",
        sql: include_str!("migrations/0002_ed25519_signs_too.sql"),
        change: Change::Expands,
    },
    Migration {
        name: "0003_the_audit_log_is_append_only",
        sql: include_str!("migrations/0003_the_audit_log_is_append_only.sql"),
        change: Change::Expands,
    },
];

const CREATE_HISTORY: &str = "
    CREATE TABLE IF NOT EXISTS schema_migration (
        number   INTEGER PRIMARY KEY,
        name     TEXT NOT NULL,
        checksum BLOB NOT NULL,
        expands  INTEGER NOT NULL DEFAULT 0 CONSTRAINT it_expands_or_not CHECK (expands IN (0, 1))
    ) STRICT";

/// Histories that were begun before steps could expand lack the column.
const HAS_EXPANDS: &str =
    "SELECT 1 FROM pragma_table_info('schema_migration') WHERE name = 'expands'";
const ADD_EXPANDS: &str = "
    ALTER TABLE schema_migration ADD COLUMN
        expands INTEGER NOT NULL DEFAULT 0 CONSTRAINT it_expands_or_not CHECK (expands IN (0, 1))";

/// Brings a database to the newest schema, one transaction per step; answers the steps that it took. Two processes may do
/// so at once: who comes second finds the step taken. Nothing waits, as nodes of several versions can't share a file.
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

/// Refuses a database whose history doesn't fit ours; answers where it stands.
pub(super) fn check_history(connection: &Connection, migrations: &[Migration]) -> Result<Standing> {
    let select = match has_expands(connection)? {
        true => "SELECT name, checksum, expands FROM schema_migration ORDER BY number",
        false => "SELECT name, checksum, FALSE FROM schema_migration ORDER BY number",
    };
    let taken = all(connection, select, [], |row| {
        let change = Change::from_expands(row.get(2)?);
        Ok(Taken { name: row.get(0)?, checksum: row.get(1)?, change })
    })?;
    history::check(migrations, &taken)
}

fn has_expands(connection: &Connection) -> Result<bool> {
    Ok(connection.query_row(HAS_EXPANDS, [], |_| Ok(())).optional()?.is_some())
}

/// Takes the first step that the database hasn't had; `None` when it has had all.
fn take_next_step(
    connection: &mut Connection,
    migrations: &[Migration],
) -> Result<Option<&'static str>> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(CREATE_HISTORY)?;
    let Standing { taken, .. } = check_history(&transaction, migrations)?;
    let Some(next) = migrations.get(taken) else { return Ok(None) };
    if !has_expands(&transaction)? {
        transaction.execute_batch(ADD_EXPANDS)?;
    }
    transaction.execute_batch(next.sql)?;
    let number = i64::try_from(taken + 1)
        .map_err(|_| StoreError::Inconsistent("more migrations than an integer counts".into()))?;
    let insert =
        "INSERT INTO schema_migration (number, name, checksum, expands) VALUES (?1, ?2, ?3, ?4)";
    let row = params![number, next.name, next.checksum(), next.change.expands()];
    transaction.execute(insert, row)?;
    transaction.commit()?;
    Ok(Some(next.name))
}
