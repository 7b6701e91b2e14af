//! How a Postgres database comes to the newest schema. Ten nodes may start at once: one takes a step while the others wait
//! for the lock, and then find it taken.

use deadpool_postgres::{Client, GenericClient};

use super::query::{all, first, get};
pub(super) use crate::history::Migration;
use crate::{Result, StoreError, history};

/// Every step, oldest first.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_what_is_promised",
    sql: include_str!("migrations/0001_what_is_promised.sql"),
}];

/// Postgres knows its advisory locks by numbers: this one means the schema of a Postrider, whichever.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7238017341)";

const CREATE_HISTORY: &str = "
    CREATE TABLE schema_migration (
        number   BIGINT PRIMARY KEY,
        name     TEXT NOT NULL,
        checksum BYTEA NOT NULL
    )";

/// Brings a database to the newest schema, one transaction per step; answers the steps that it took.
pub(super) async fn migrate(
    client: &mut Client,
    migrations: &[Migration],
) -> Result<Vec<&'static str>> {
    let mut taken = Vec::new();
    while let Some(step) = take_next_step(client, migrations).await? {
        taken.push(step);
    }
    Ok(taken)
}

/// Refuses a database whose history isn't the beginning of ours; answers how many steps it has had.
pub(super) async fn check_history(
    client: &impl GenericClient,
    migrations: &[Migration],
) -> Result<usize> {
    let select = "SELECT name, checksum FROM schema_migration ORDER BY number";
    let read = |row: &_| Ok((get(row, "name")?, get(row, "checksum")?));
    history::check(migrations, &all(client, select, &[], read).await?)
}

/// How many steps a database lacks.
pub(super) async fn count_missing(
    client: &impl GenericClient,
    migrations: &[Migration],
) -> Result<usize> {
    let taken =
        if has_history(client).await? { check_history(client, migrations).await? } else { 0 };
    Ok(migrations.len() - taken)
}

/// Looked for rather than made IF NOT EXISTS, which needs the right to make tables even where there is nothing to do.
async fn has_history(client: &impl GenericClient) -> Result<bool> {
    let select = "SELECT to_regclass('schema_migration') IS NOT NULL AS is_there";
    Ok(first(client, select, &[], |row| get(row, "is_there")).await? == Some(true))
}

/// Takes the first step that the database hasn't had; `None` when it has had all.
async fn take_next_step(
    client: &mut Client,
    migrations: &[Migration],
) -> Result<Option<&'static str>> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    if !has_history(&transaction).await? {
        transaction.batch_execute(CREATE_HISTORY).await?;
    }
    let taken = check_history(&transaction, migrations).await?;
    let Some(next) = migrations.get(taken) else { return Ok(None) };
    transaction.batch_execute(next.sql).await?;
    let number = i64::try_from(taken + 1)
        .map_err(|_| StoreError::Inconsistent("more migrations than an integer counts".into()))?;
    let insert = "INSERT INTO schema_migration (number, name, checksum) VALUES ($1, $2, $3)";
    transaction.execute(insert, &[&number, &next.name, &next.checksum()]).await?;
    transaction.commit().await?;
    Ok(Some(next.name))
}
