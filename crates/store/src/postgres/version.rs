//! The directory's version: one row, locked by whoever changes what a directory or a cache of credentials is made of,
//! from before it looks until its change is committed. So such changes are in one order, which is the order in which
//! others see them; and the others hear of each.

use std::sync::{Mutex, PoisonError};

use deadpool_postgres::{Client, GenericClient, Transaction};

use super::{
    news::{self, Told},
    query::{execute, number, one},
};
use crate::{Endpoint, GraceEnded, Renamed, Result, UserUpdated, Version};

/// The current version.
pub(super) async fn current(client: &impl GenericClient) -> Result<Version> {
    one(client, "SELECT version FROM directory", &[], number).await.map(Version)
}

/// The current version, after the change that is under way, if one is: until this transaction ends there is none.
pub(super) async fn settled(transaction: &Transaction<'_>) -> Result<Version> {
    one(transaction, "SELECT version FROM directory FOR SHARE", &[], number).await.map(Version)
}

/// A change under way. Dropped, it changes nothing.
pub(super) struct Change<'a> {
    pub(super) transaction: Transaction<'a>,
    before: i64,
}

impl<'a> Change<'a> {
    /// Waits for the change that is under way elsewhere, and begins one.
    pub(super) async fn begin(client: &'a mut Client) -> Result<Self> {
        let transaction = client.transaction().await?;
        let lock = "SELECT version FROM directory FOR UPDATE";
        let before = one(&transaction, lock, &[], number).await?;
        Ok(Self { transaction, before })
    }

    /// Commits what turned out to be no change of the directory, though perhaps of something else.
    pub(super) async fn commit_unchanged(self) -> Result<()> {
        Ok(self.transaction.commit().await?)
    }

    /// Commits it, as the next version, and tells the other nodes.
    pub(super) async fn commit(self, sender: &str) -> Result<Version> {
        let version = self.before + 1;
        execute(&self.transaction, "UPDATE directory SET version = $1", &[&version]).await?;
        news::tell(&self.transaction, sender, &Told::Directory).await?;
        self.transaction.commit().await?;
        Ok(Version(version))
    }
}

/// Whether a verb changed anything; one that didn't leaves the version as it was.
pub(super) trait Changes {
    fn has_changed(&self) -> bool;
}

impl Changes for bool {
    fn has_changed(&self) -> bool {
        *self
    }
}

impl Changes for () {
    fn has_changed(&self) -> bool {
        true
    }
}

impl Changes for Endpoint {
    fn has_changed(&self) -> bool {
        true
    }
}

impl Changes for GraceEnded {
    fn has_changed(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

impl Changes for UserUpdated {
    fn has_changed(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

impl Changes for Renamed {
    fn has_changed(&self) -> bool {
        *self == Self::Done
    }
}

impl<T> Changes for Option<T> {
    fn has_changed(&self) -> bool {
        self.is_some()
    }
}

/// Which version this handle has seen, its own changes not counted as anybody else's.
pub(super) struct Seen(Mutex<i64>);

impl Seen {
    pub(super) fn new(version: Version) -> Self {
        Self(Mutex::new(version.0))
    }

    /// A change of our own made this version. Where somebody else's came between, it is not all that there was to see.
    pub(super) fn made(&self, version: Version) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen + 1 == version.0 {
            *seen = version.0;
        }
    }

    /// Sees a version; whether that was news.
    pub(super) fn see(&self, version: Version) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *seen, version.0) != version.0
    }
}
