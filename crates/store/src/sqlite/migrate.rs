//! The schema's history. Each step is a file that never changes once it was released; the database keeps which steps it
//! has had, with their checksums, so that a file which did change is noticed before anything is written.

use aws_lc_rs::digest::{SHA256, digest};
use rusqlite::{Connection, params};

use crate::{Result, StoreError};

/// A step of the schema's history; its number is its place.
pub(super) struct Migration {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

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

/// Brings a database to the newest schema, one transaction per step. Two processes may do so at once: who comes second
/// finds the step taken.
pub(super) fn migrate(connection: &mut Connection, migrations: &[Migration]) -> Result<()> {
    while take_next_step(connection, migrations)? {}
    Ok(())
}

/// Refuses a database whose history isn't the beginning of ours; answers how many steps it has had.
pub(super) fn check_history(connection: &Connection, migrations: &[Migration]) -> Result<usize> {
    let select = "SELECT name, checksum FROM schema_migration ORDER BY number";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query([])?;
    let mut taken = 0;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let Some(migration) = migrations.get(taken) else { return Err(too_new(&name)) };
        if migration.name != name || migration.checksum() != row.get::<_, Vec<u8>>(1)? {
            return Err(changed(&name));
        }
        taken += 1;
    }
    Ok(taken)
}

/// Takes the first step that the database hasn't had; `false` when it has had all.
fn take_next_step(connection: &mut Connection, migrations: &[Migration]) -> Result<bool> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(CREATE_HISTORY)?;
    let taken = check_history(&transaction, migrations)?;
    let Some(next) = migrations.get(taken) else { return Ok(false) };
    transaction.execute_batch(next.sql)?;
    let number = i64::try_from(taken + 1)
        .map_err(|_| StoreError::Inconsistent("more migrations than an integer counts".into()))?;
    let insert = "INSERT INTO schema_migration (number, name, checksum) VALUES (?1, ?2, ?3)";
    transaction.execute(insert, params![number, next.name, next.checksum()])?;
    transaction.commit()?;
    Ok(true)
}

impl Migration {
    fn checksum(&self) -> Vec<u8> {
        digest(&SHA256, self.sql.as_bytes()).as_ref().to_vec()
    }
}

fn too_new(name: &str) -> StoreError {
    StoreError::Inconsistent(format!(
        "the database was written by a newer Postrider: it has migration {name}, which this one does not know. \
         Start the newer version, or restore the backup that was made before the upgrade"
    ))
}

fn changed(name: &str) -> StoreError {
    StoreError::Inconsistent(format!(
        "migration {name} in the database is not the one that this Postrider has. Start the version that wrote the \
         database; if it is this one, its build was altered, so install a released build"
    ))
}
