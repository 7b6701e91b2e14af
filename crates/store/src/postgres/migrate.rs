//! How a Postgres database comes to the newest schema. Ten nodes may start at once: one takes a step while the others wait
//! for the lock, and then find it taken. Nodes of an older version may serve meanwhile: what would take something away
//! from them waits until they have ended, for the next start or `postrider migrate`.

use deadpool_postgres::{Client, GenericClient, Transaction};

use super::query::{Parameters, all, first, get, one, sql, wide};
pub(super) use crate::history::Migration;
use crate::{
    Result,
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
        name: "0002_nodes_tell_their_version",
        sql: include_str!("migrations/0002_nodes_tell_their_version.sql"),
        change: Change::Expands,
    },
    Migration {
        name: "0003_ed25519_signs_too",
        sql: include_str!("migrations/0003_ed25519_signs_too.sql"),
        change: Change::Expands,
    },
    Migration {
        name: "0004_the_audit_log_is_append_only",
        sql: include_str!("migrations/0004_the_audit_log_is_append_only.sql"),
        change: Change::Expands,
    },
];

/// Postgres knows its advisory locks by numbers: this one means the schema of a Postrider, whichever. Who takes a step
/// holds it alone; who begins a life shares it, so that no step that ends this version comes between its look at the
/// history and its row.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7238017341)";
const SHARED_LOCK: &str = "SELECT pg_advisory_xact_lock_shared(7238017341)";

const CREATE_HISTORY: &str = "
    CREATE TABLE schema_migration (
        number   BIGINT PRIMARY KEY,
        name     TEXT NOT NULL,
        checksum BYTEA NOT NULL,
        expands  BOOLEAN NOT NULL DEFAULT FALSE
    )";

/// Histories that were begun before steps could expand lack the column.
const ADD_EXPANDS: &str = "
    ALTER TABLE schema_migration ADD COLUMN IF NOT EXISTS expands BOOLEAN NOT NULL DEFAULT FALSE";

/// Reads such a history, too.
const SELECT_HISTORY: &str = "
    SELECT name, checksum, coalesce((to_jsonb(step) ->> 'expands')::boolean, FALSE) AS expands
    FROM schema_migration AS step
    ORDER BY number";

/// What came of a look for the next step.
enum Step {
    Taken(&'static str),
    /// Nodes of an older version live that couldn't go on after it.
    Waits(usize),
    None,
}

/// What a migration did.
#[derive(Debug, Default)]
pub struct Migrated {
    /// The steps that it took.
    pub taken: Vec<&'static str>,
    /// How many wait until the nodes of older versions have ended.
    pub waiting: usize,
}

/// Brings a database to the newest schema that all who live can work with, one transaction per step.
pub(super) async fn migrate(client: &mut Client, migrations: &[Migration]) -> Result<Migrated> {
    let mut migrated = Migrated::default();
    loop {
        match take_next_step(client, migrations).await? {
            Step::Taken(name) => migrated.taken.push(name),
            Step::Waits(waiting) => return Ok(Migrated { waiting, ..migrated }),
            Step::None => return Ok(migrated),
        }
    }
}

/// Refuses a database whose history doesn't fit ours; answers where it stands.
pub(super) async fn check_history(
    client: &impl GenericClient,
    migrations: &[Migration],
) -> Result<Standing> {
    let read = |row: &_| {
        let change = Change::from_expands(get(row, "expands")?);
        Ok(Taken { name: get(row, "name")?, checksum: get(row, "checksum")?, change })
    };
    history::check(migrations, &all(client, SELECT_HISTORY, &[], read).await?)
}

/// Refuses a schema that is not this version's to work with: it is newer, or lacks what this version relies on.
pub(super) async fn check_usable(
    client: &impl GenericClient,
    migrations: &[Migration],
) -> Result<()> {
    let Standing { taken, .. } = check_history(client, migrations).await?;
    history::may_wait(&migrations[taken..])
}

/// The same, for somebody whose life begins: until the transaction's end no step is taken.
pub(super) async fn check_beginning(
    transaction: &Transaction<'_>,
    migrations: &[Migration],
) -> Result<()> {
    transaction.batch_execute(SHARED_LOCK).await?;
    check_usable(transaction, migrations).await
}

/// How many steps a database lacks.
pub(super) async fn count_missing(
    client: &impl GenericClient,
    migrations: &[Migration],
) -> Result<usize> {
    match has_history(client).await? {
        true => Ok(check_history(client, migrations).await?.missing),
        false => Ok(migrations.len()),
    }
}

/// Looked for rather than made IF NOT EXISTS, which needs the right to make tables even where there is nothing to do.
async fn has_history(client: &impl GenericClient) -> Result<bool> {
    let select = "SELECT to_regclass('schema_migration') IS NOT NULL AS is_there";
    Ok(first(client, select, &[], |row| get(row, "is_there")).await? == Some(true))
}

/// Takes the first step that the database hasn't had, unless it has to wait.
async fn take_next_step(client: &mut Client, migrations: &[Migration]) -> Result<Step> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    if !has_history(&transaction).await? {
        transaction.batch_execute(CREATE_HISTORY).await?;
    }
    let Standing { taken, missing, .. } = check_history(&transaction, migrations).await?;
    let Some(next) = migrations.get(taken) else { return Ok(Step::None) };
    let number = wide(taken + 1);
    if next.change == Change::Contracts && has_older_nodes(&transaction, number).await? {
        history::may_wait(&migrations[taken..])?;
        return Ok(Step::Waits(missing));
    }
    transaction.batch_execute(ADD_EXPANDS).await?;
    transaction.batch_execute(next.sql).await?;
    let insert =
        "INSERT INTO schema_migration (number, name, checksum, expands) VALUES ($1, $2, $3, $4)";
    let row: Parameters<'_> = &[&number, &next.name, &next.checksum(), &next.change.expands()];
    transaction.execute(insert, row).await?;
    transaction.commit().await?;
    Ok(Step::Taken(next.name))
}

/// Whether a node lives that doesn't know a step. In an empty database there are none.
async fn has_older_nodes(transaction: &Transaction<'_>, number: i64) -> Result<bool> {
    let has_nodes = "SELECT to_regclass('node') IS NOT NULL AS is_there";
    if !one(transaction, has_nodes, &[], |row| get(row, "is_there")).await? {
        return Ok(false);
    }
    one(transaction, sql!("has_older_nodes"), &[&number], |row| get(row, "has_older")).await
}
