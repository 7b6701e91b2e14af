//! Backups of a file, and the file of a backup.

use std::{fs, io, path::Path};

use rusqlite::{Connection, params_from_iter, types::Value};

use super::{
    connect,
    migrate::{MIGRATIONS, check_history, migrate},
    query::{all, execute},
};
use crate::{
    IdKind, Result, StoreError,
    archive::{Draft, Table, cannot_write},
    history::Standing,
};

/// SQLite finds a subscription's tenant by its endpoint.
const TENANT: &str = "(SELECT endpoint.tenant_id FROM endpoint WHERE endpoint.id = endpoint_id)";

/// Writes a backup of a database that may be in use, consistent as of one moment.
///
/// # Errors
/// When there is no such database, or a file stands at the archive's place, or can't be written.
pub fn back_up(database: &Path, archive: &Path) -> Result<()> {
    let connection = connect::reading(database)?;
    if check_history(&connection, MIGRATIONS)?.missing > 0 {
        let advice =
            "its schema is older than this version's; `postrider migrate` brings it up to date";
        return Err(StoreError::Unavailable(format!("{}: {advice}", database.display())));
    }
    let draft = Draft::begin(archive)?;
    connect::create_private(draft.path())?;
    // It copies in a read transaction, beside which others write.
    connection.pragma_update(None, "query_only", false)?;
    connection.execute("VACUUM INTO ?1", [draft.path().to_string_lossy()])?;
    draft.finish()
}

/// Makes a database of a backup.
///
/// # Errors
/// When a database stands there already, or the archive is none, is damaged, or was made by a newer version.
pub fn restore(archive: &Path, database: &Path) -> Result<()> {
    drop(open(archive)?);
    let draft = Draft::begin(database)?;
    connect::create_private(draft.path())?;
    let copied = fs::File::open(archive).and_then(|mut from| {
        let mut to = fs::OpenOptions::new().write(true).open(draft.path())?;
        io::copy(&mut from, &mut to)
    });
    copied.map_err(|error| cannot_write(draft.path(), &error))?;
    draft.finish()
}

/// The check value of the master key that a backup was made under, if it was made under any.
///
/// # Errors
/// When there is no such backup, or it is none.
pub fn key_check_of(archive: &Path) -> Result<Option<Vec<u8>>> {
    super::sealed::key_check(&open(archive)?)
}

/// Opens an archive to read it, after a look whether it is sound.
pub(crate) fn open(archive: &Path) -> Result<Connection> {
    let path = archive.display();
    if let Err(error) = fs::File::open(archive) {
        return Err(StoreError::Unavailable(format!("{path} can't be read: {error}")));
    }
    open_sound(archive).map_err(|error| {
        StoreError::Unavailable(format!("{path} is no sound backup of Postrider's: {error}"))
    })
}

/// The same, of an archive that has the newest schema.
pub(crate) fn open_current(archive: &Path) -> Result<Connection> {
    let connection = open(archive)?;
    let advice = match check_history(&connection, MIGRATIONS)? {
        Standing { missing: 0, beyond: 0, .. } => return Ok(connection),
        Standing { missing: 0, .. } => "was made by a newer version; restore it with that one",
        _ => {
            "was made by an older version; restore it into a data directory, and back that up with this version"
        }
    };
    Err(StoreError::Unavailable(format!("{} {advice}", archive.display())))
}

fn open_sound(archive: &Path) -> Result<Connection> {
    let connection = connect::reading(archive)?;
    check_history(&connection, MIGRATIONS)?;
    let verdicts = all(&connection, "PRAGMA quick_check", [], |row| Ok(row.get::<_, String>(0)?))?;
    match verdicts.into_iter().next() {
        Some(verdict) if verdict != "ok" => Err(StoreError::Inconsistent(verdict)),
        _ => Ok(connection),
    }
}

/// Reads a table, row by row, until `take` has had enough.
pub(crate) fn read(
    connection: &Connection,
    table: &Table,
    mut take: impl FnMut(Vec<Value>) -> Result<()>,
) -> Result<()> {
    let mut statement = connection.prepare(&table.select(TENANT))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let value = |index: usize| Ok(row.get(index)?);
        take((0..table.columns.len()).map(value).collect::<Result<_>>()?)?;
    }
    Ok(())
}

/// The next identifier of each kind that has had any.
pub(crate) fn next_ids(connection: &Connection) -> Result<Vec<(String, i64)>> {
    all(connection, "SELECT kind, next FROM id_block", [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// An archive that is being made. What is written of it before it is finished is nobody's, and waits for no disk.
pub(crate) struct Making {
    connection: Connection,
    draft: Draft,
}

impl Making {
    /// Begins one.
    pub(crate) fn begin(archive: &Path) -> Result<Self> {
        let draft = Draft::begin(archive)?;
        let mut connection = connect::making(draft.path())?;
        migrate(&mut connection, MIGRATIONS)?;
        connection.execute_batch("BEGIN")?;
        Ok(Self { connection, draft })
    }

    /// Writes a row.
    pub(crate) fn write(&self, table: &Table, values: Vec<Value>) -> Result<()> {
        // The one table here that doesn't name the tenant.
        let skip = usize::from(table.name == "subscription");
        let columns: Vec<_> = table.columns.iter().skip(skip).map(|&(name, _)| name).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let insert =
            format!("INSERT INTO {} ({}) VALUES ({marks})", table.name, columns.join(", "));
        execute(&self.connection, &insert, params_from_iter(values.into_iter().skip(skip)))?;
        Ok(())
    }

    /// Writes which identifier of a kind is the next.
    pub(crate) fn write_next_id(&self, kind: IdKind, next: i64) -> Result<()> {
        if next > 1 {
            let insert = "INSERT INTO id_block (kind, next) VALUES (?1, ?2)";
            execute(&self.connection, insert, (kind.as_str(), next))?;
        }
        Ok(())
    }

    /// Counts what has to be counted, and puts the archive at its place.
    pub(crate) fn finish(self) -> Result<()> {
        let count = "INSERT INTO attempt_count (endpoint_id, node, count)
            SELECT endpoint_id, 0, count(*) FROM attempt GROUP BY endpoint_id";
        self.connection.execute_batch(count)?;
        self.connection.execute_batch("COMMIT")?;
        self.connection.close().map_err(|(_, error)| error)?;
        self.draft.finish()
    }
}
