//! How a statement is run and its rows are read: the few shapes that every verb here is made of.
//!
//! Each statement is prepared once per connection and kept. What Postgres answers becomes a [`StoreError`] here, and
//! nowhere else.

use std::{borrow::Cow, error::Error as _};

use deadpool_postgres::{GenericClient, PoolError};
use postrider_kernel::Timestamp;
use tokio_postgres::{
    Error, Row,
    error::{DbError, SqlState},
    types::{FromSql, ToSql, WasNull, WrongType},
};

use crate::{Result, StoreError};

/// The text of the statement in `sql/`.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/postgres/sql/", $name, ".sql"))
    };
}
pub(super) use sql;

/// The parameters of a statement, in the order of their numbers.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Runs a statement; answers how many rows it changed.
pub(super) async fn execute(
    client: &impl GenericClient,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<u64> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.execute(&statement, parameters).await?)
}

/// Runs a statement, and reads the first row that it answers, if it does.
pub(super) async fn first<T>(
    client: &impl GenericClient,
    sql: &str,
    parameters: Parameters<'_>,
    read: impl FnOnce(&Row) -> Result<T>,
) -> Result<Option<T>> {
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, parameters).await?;
    rows.first().map(read).transpose()
}

/// Runs a statement that answers a row, whatever it finds.
pub(super) async fn one<T>(
    client: &impl GenericClient,
    sql: &str,
    parameters: Parameters<'_>,
    read: impl FnOnce(&Row) -> Result<T>,
) -> Result<T> {
    let answer = first(client, sql, parameters, read).await?;
    answer.ok_or_else(|| StoreError::Inconsistent(format!("no row answers {sql}")))
}

/// Runs a statement, and reads every row that it answers.
pub(super) async fn all<T>(
    client: &impl GenericClient,
    sql: &str,
    parameters: Parameters<'_>,
    read: impl Fn(&Row) -> Result<T>,
) -> Result<Vec<T>> {
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, parameters).await?;
    rows.iter().map(read).collect()
}

/// What a column holds.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T> {
    Ok(row.try_get(column)?)
}

/// The number in the first column, for [`first`] and [`all`].
pub(super) fn number(row: &Row) -> Result<i64> {
    Ok(row.try_get(0)?)
}

/// The time in a column.
pub(super) fn time(row: &Row, column: &str) -> Result<Timestamp> {
    Ok(Timestamp::from_micros(get(row, column)?))
}

/// The time in a column, if there is one.
pub(super) fn optional_time(row: &Row, column: &str) -> Result<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_micros))
}

/// A number that Postgres keeps as `W` and we as something else.
pub(super) fn narrow<'a, W, T>(row: &'a Row, column: &str) -> Result<T>
where
    W: FromSql<'a> + Copy + std::fmt::Display,
    T: TryFrom<W>,
{
    let wide: W = get(row, column)?;
    T::try_from(wide).map_err(|_| corrupt(column, wide))
}

/// How many, as a number that Postgres keeps.
pub(super) fn wide(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Words that are kept as bytes.
pub(super) fn words(row: &Row, column: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(get(row, column)?).into_owned())
}

/// A name as Postgres takes it: of all characters it refuses one, and whoever wrote that meant nothing by it.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// What stands in a column, no verb could have written.
pub(super) fn corrupt(column: &str, value: impl std::fmt::Display) -> StoreError {
    StoreError::Inconsistent(format!("column {column} holds {value}"))
}

/// Whether the transaction was one too many among those that ran at the same time: run again, it may do.
pub(super) fn is_worth_another_try(error: &Error) -> bool {
    let clashes = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
    error.code().is_some_and(|code| clashes.contains(code))
}

/// Sorts what another try may mend (the connection, the server, its disk) from what it won't.
impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error.as_db_error() {
            Some(said) if is_passing(said) => Self::Unavailable(in_words(said)),
            Some(said) => Self::Inconsistent(in_words(said)),
            None if is_ours(&error) => Self::Inconsistent(with_sources(&error)),
            None => Self::Unavailable(with_sources(&error)),
        }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => cannot_connect(&error),
            other => Self::Unavailable(format!("no connection to Postgres is free: {other}")),
        }
    }
}

/// No connection came about. Whatever Postgres says of that, somebody can mend it there.
pub(super) fn cannot_connect(error: &Error) -> StoreError {
    let said = error.as_db_error().map_or_else(|| with_sources(error), in_words);
    StoreError::Unavailable(format!("no connection to Postgres: {said}"))
}

/// By the class of its code: connections, resources, the operator, the system; locks and clashes; a server that only reads.
fn is_passing(said: &DbError) -> bool {
    let code = said.code();
    let classes = ["08", "40", "53", "55", "57", "58"];
    classes.contains(&&code.code()[..2]) || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

/// A value of another type than the statement has: no server answers that.
fn is_ours(error: &Error) -> bool {
    error.source().is_some_and(|source| source.is::<WrongType>() || source.is::<WasNull>())
}

fn in_words(said: &DbError) -> String {
    let constraint = said.constraint().map(|name| format!(", by {name}")).unwrap_or_default();
    format!("{} ({}{constraint})", said.message(), said.code().code())
}

fn with_sources(error: &Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    said
}
