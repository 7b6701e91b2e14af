//! The one connection of this process that writes, as the group commit's engine.

use std::{collections::BTreeMap, path::Path};

use postrider_kernel::EndpointId;
use rusqlite::Connection;

use super::{attempts, connect, query::execute};
use crate::{Result, group_commit::Engine};

/// The writing connection.
pub(super) struct Writer {
    pub(super) connection: Connection,
}

/// What a batch adds up before it writes it: a thousand attempts to one endpoint move its counter once.
#[derive(Default)]
pub(super) struct Totals {
    attempts: BTreeMap<EndpointId, i64>,
}

impl Totals {
    /// Counts attempts to an endpoint; fewer than none for those that were purged.
    pub(super) fn count_attempts(&mut self, endpoint: EndpointId, more: i64) {
        *self.attempts.entry(endpoint).or_default() += more;
    }

    /// Forgets an endpoint whose counter is deleted in this batch.
    pub(super) fn forget(&mut self, endpoint: EndpointId) {
        self.attempts.remove(&endpoint);
    }
}

impl Writer {
    pub(super) fn open(path: &Path, durability: connect::Durability) -> Result<Self> {
        Ok(Self { connection: connect::writing(path, durability)? })
    }
}

impl Engine for Writer {
    type Totals = Totals;

    /// Takes the write lock at once: a transaction that first reads and then wants to write could not wait for the
    /// command line, which writes the same file.
    fn begin(&mut self) -> Result<()> {
        self.rollback();
        execute(&self.connection, "BEGIN IMMEDIATE", [])?;
        Ok(())
    }

    fn commit(&mut self, totals: Totals) -> Result<()> {
        for (endpoint, more) in totals.attempts {
            attempts::add_to_count(&self.connection, endpoint, more)?;
        }
        execute(&self.connection, "COMMIT", [])?;
        Ok(())
    }

    /// A full disk may have ended the transaction already. A rollback that fails is tried again before the next one.
    fn rollback(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
    }
}
