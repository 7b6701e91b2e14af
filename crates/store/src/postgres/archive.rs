//! Backups of a database, and the database of a backup.
//!
//! Rows pass from one to the other a few at a time; SQLite's side runs where it may block.

use std::path::Path;

use deadpool_postgres::{Client, Transaction};
use futures_util::{TryStreamExt, pin_mut};
use rusqlite::types::Value;
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_postgres::{
    Row,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};

use super::query::{corrupt, execute, number, one};
use crate::{
    IdKind, Result, StoreError,
    archive::{Kind, TABLES, Table},
    sqlite::archive::{self, Making},
};

/// How many rows pass at once, and how many such packets wait.
const PACKET: usize = 256;
const PACKETS: usize = 4;

/// Some rows of a table.
type Packet = (&'static Table, Vec<Vec<Value>>);

/// Writes a backup, consistent as of one moment, while others write.
pub(super) async fn back_up(client: &mut Client, file: &Path) -> Result<()> {
    let snapshot = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let next_ids = next_ids(&snapshot).await?;
    let (packets, arrivals) = mpsc::channel(PACKETS);
    let file = file.to_owned();
    let writing = spawn_blocking(move || write_archive(&file, next_ids, arrivals));
    let read = read_tables(&snapshot, &packets).await;
    let is_heard = !packets.is_closed();
    drop(packets);
    let written = writing.await.map_err(broke_off)?;
    // Whoever fails first knows why.
    if is_heard { read.and(written) } else { written.and(read) }
}

/// Fills an empty database from a backup: all of it or nothing.
pub(super) async fn restore(client: &mut Client, file: &Path) -> Result<()> {
    let transaction = client.transaction().await?;
    // No node begins an instance here meanwhile.
    execute(&transaction, "LOCK TABLE tenant, meta IN EXCLUSIVE MODE", &[]).await?;
    if one(&transaction, "SELECT count(*) FROM tenant", &[], number).await? > 0 {
        let refused = "the database is not empty, and is not overwritten; restore into a new one";
        return Err(StoreError::Unavailable(refused.into()));
    }
    execute(&transaction, "DELETE FROM meta", &[]).await?;
    let (packets, mut arrivals) = mpsc::channel(PACKETS);
    let file = file.to_owned();
    let reading = spawn_blocking(move || read_archive(&file, &packets));
    let mut waiting = arrivals.recv().await;
    while let Some((table, _)) = waiting {
        waiting = write_table(&transaction, table, waiting, &mut arrivals).await?;
    }
    for (kind, next) in reading.await.map_err(broke_off)?? {
        let sequence = format!("{kind}_ids");
        execute(&transaction, "SELECT setval($1::text::regclass, $2)", &[&sequence, &(next - 1)])
            .await?;
    }
    let count = "INSERT INTO attempt_count (tenant_id, endpoint_id, slot, count)
        SELECT tenant_id, endpoint_id, 0, count(*) FROM attempt GROUP BY tenant_id, endpoint_id";
    execute(&transaction, count, &[]).await?;
    execute(&transaction, "UPDATE directory SET version = version + 1", &[]).await?;
    Ok(transaction.commit().await?)
}

fn broke_off(error: tokio::task::JoinError) -> StoreError {
    StoreError::Inconsistent(format!("the archive's side broke off: {error}"))
}

/// The other side has ended, and says itself why.
fn ended<T>(_: mpsc::error::SendError<T>) -> StoreError {
    StoreError::Unavailable("the archive can't be written".into())
}

async fn next_ids(snapshot: &Transaction<'_>) -> Result<Vec<(IdKind, i64)>> {
    let mut next = Vec::new();
    for kind in IdKind::ALL {
        let select = format!("SELECT last_value + is_called::integer FROM {}_ids", kind.as_str());
        next.push((kind, one(snapshot, &select, &[], number).await?));
    }
    Ok(next)
}

async fn read_tables(snapshot: &Transaction<'_>, packets: &mpsc::Sender<Packet>) -> Result<()> {
    for table in TABLES {
        read_table(snapshot, table, packets).await?;
    }
    Ok(())
}

/// Sends a table's rows.
async fn read_table(
    snapshot: &Transaction<'_>,
    table: &'static Table,
    packets: &mpsc::Sender<Packet>,
) -> Result<()> {
    let statement = snapshot.prepare(&table.select("tenant_id")).await?;
    let none: [i64; 0] = [];
    let rows = snapshot.query_raw(&statement, none).await?;
    pin_mut!(rows);
    let mut packet = Vec::new();
    while let Some(row) = rows.try_next().await? {
        packet.push(values(table, &row)?);
        if packet.len() == PACKET {
            packets.send((table, std::mem::take(&mut packet))).await.map_err(ended)?;
        }
    }
    packets.send((table, packet)).await.map_err(ended)
}

fn write_archive(
    file: &Path,
    next_ids: Vec<(IdKind, i64)>,
    mut arrivals: mpsc::Receiver<Packet>,
) -> Result<()> {
    let archive = Making::begin(file)?;
    for (kind, next) in next_ids {
        archive.write_next_id(kind, next)?;
    }
    let mut tables = 0;
    while let Some((table, rows)) = arrivals.blocking_recv() {
        tables += usize::from(rows.len() < PACKET);
        rows.into_iter().try_for_each(|row| archive.write(table, row))?;
    }
    // Whoever sends may have failed half-way.
    if tables < TABLES.len() {
        return Err(StoreError::Unavailable("the database could not be read to its end".into()));
    }
    archive.finish()
}

/// Sends every row, and answers the next identifiers.
fn read_archive(file: &Path, packets: &mpsc::Sender<Packet>) -> Result<Vec<(String, i64)>> {
    let connection = archive::open_current(file)?;
    // One moment of a file that somebody may be writing.
    connection.execute_batch("BEGIN")?;
    for table in TABLES {
        let mut packet = Vec::new();
        archive::read(&connection, table, |row| {
            packet.push(row);
            if packet.len() == PACKET {
                packets.blocking_send((table, std::mem::take(&mut packet))).map_err(ended)?;
            }
            Ok(())
        })?;
        packets.blocking_send((table, packet)).map_err(ended)?;
    }
    archive::next_ids(&connection)
}

/// Writes a table's rows as they arrive; answers the first ones of the next table.
async fn write_table(
    transaction: &Transaction<'_>,
    table: &'static Table,
    mut waiting: Option<Packet>,
    arrivals: &mut mpsc::Receiver<Packet>,
) -> Result<Option<Packet>> {
    let copy = format!("COPY {} ({}) FROM STDIN BINARY", table.name, table.list());
    let types: Vec<_> = table.columns.iter().map(|&(_, kind)| type_of(kind)).collect();
    let writer = BinaryCopyInWriter::new(transaction.copy_in(&copy).await?, &types);
    pin_mut!(writer);
    while let Some((of, rows)) = waiting.take_if(|(of, _)| std::ptr::eq(*of, table)) {
        for row in rows {
            let fields = fields(of, row)?;
            let fields: Vec<&(dyn ToSql + Sync)> =
                fields.iter().map(|field| &**field as _).collect();
            writer.as_mut().write(&fields).await?;
        }
        waiting = arrivals.recv().await;
    }
    writer.finish().await?;
    Ok(waiting)
}

fn type_of(kind: Kind) -> Type {
    match kind {
        Kind::Long => Type::INT8,
        Kind::Int => Type::INT4,
        Kind::Short => Type::INT2,
        Kind::Bool => Type::BOOL,
        Kind::Double => Type::FLOAT8,
        Kind::Text => Type::TEXT,
        Kind::Bytes | Kind::Words => Type::BYTEA,
    }
}

/// A row, as SQLite has it.
fn values(table: &Table, row: &Row) -> Result<Vec<Value>> {
    let value = |(index, &(column, kind)): (usize, &(&str, Kind))| {
        Ok(match kind {
            Kind::Long => row.try_get::<_, Option<i64>>(index)?.into(),
            Kind::Int => row.try_get::<_, Option<i32>>(index)?.into(),
            Kind::Short => row.try_get::<_, Option<i16>>(index)?.into(),
            Kind::Bool => row.try_get::<_, Option<bool>>(index)?.into(),
            Kind::Double => row.try_get::<_, Option<f64>>(index)?.into(),
            Kind::Text => row.try_get::<_, Option<String>>(index)?.into(),
            Kind::Bytes => row.try_get::<_, Option<Vec<u8>>>(index)?.into(),
            Kind::Words => {
                let words = row.try_get::<_, Option<Vec<u8>>>(index)?.map(String::from_utf8);
                words.transpose().map_err(|_| corrupt(column, "no UTF-8"))?.into()
            }
        })
    };
    table.columns.iter().enumerate().map(value).collect()
}

type Field = Box<dyn ToSql + Sync + Send>;

/// A row, as Postgres has it.
fn fields(table: &Table, row: Vec<Value>) -> Result<Vec<Field>> {
    let field = |(value, &(column, kind)): (Value, &(&str, Kind))| -> Result<Field> {
        let strange = || corrupt(column, "a value of another type");
        Ok(match (kind, value) {
            (Kind::Long, Value::Null) => Box::new(None::<i64>),
            (Kind::Int, Value::Null) => Box::new(None::<i32>),
            (Kind::Text, Value::Null) => Box::new(None::<String>),
            (Kind::Bytes | Kind::Words, Value::Null) => Box::new(None::<Vec<u8>>),
            (Kind::Long, Value::Integer(number)) => Box::new(number),
            (Kind::Int, Value::Integer(number)) => {
                Box::new(i32::try_from(number).map_err(|_| strange())?)
            }
            (Kind::Short, Value::Integer(number)) => {
                Box::new(i16::try_from(number).map_err(|_| strange())?)
            }
            (Kind::Bool, Value::Integer(number)) => Box::new(number != 0),
            (Kind::Double, Value::Real(number)) => Box::new(number),
            // Names, too, are the admins' own words, and Postgres refuses one character.
            (Kind::Text, Value::Text(text)) => Box::new(super::query::text(&text).into_owned()),
            (Kind::Words, Value::Text(text)) => Box::new(text.into_bytes()),
            (Kind::Bytes, Value::Blob(bytes)) => Box::new(bytes),
            _ => return Err(strange()),
        })
    };
    row.into_iter().zip(table.columns).map(field).collect()
}
