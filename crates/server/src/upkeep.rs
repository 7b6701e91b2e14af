//! What has to be done from time to time: dropping what is no longer kept, and noticing what others changed.

use std::{sync::Arc, time::Duration};

use postrider_store::{Purge, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    directory::Directory,
    disk::Reserve,
    dispatch::{Note, Notes},
    vault::Vault,
};

/// How often the store is asked whether another process, the command line, changed it. What it changed is to be honoured
/// within a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often what is no longer kept is dropped.
const PURGE_EVERY: Duration = Duration::from_secs(60);

/// Rows per transaction, and the pause between two: small enough that no commit of a delivery waits noticeably.
const PURGE_ROWS: u32 = 500;
const PURGE_PAUSE: Duration = Duration::from_millis(10);

/// How long what a deleted endpoint leaves behind is kept, so that a publish which raced with the delete is purged too.
const DELETED_KEPT: Duration = Duration::from_secs(60);

/// What upkeep works on.
pub struct Upkeep {
    /// What to look after.
    pub store: Arc<dyn Store>,
    /// Opens secrets when the directory is refreshed.
    pub vault: Arc<Vault>,
    /// The picture to keep up to date.
    pub directory: Arc<Directory>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Tells dispatch what can go on.
    pub notes: Notes,
    /// What must be left of the disk.
    pub reserve: Arc<Reserve>,
    /// How long events and attempts are kept.
    pub retention: Duration,
    /// How long lines of the audit log are kept.
    pub audit_retention: Duration,
    /// How long an idempotency key counts.
    pub idempotency_window: Duration,
    /// Called after another process changed accounts: cached credentials no longer count. None where a node follows what
    /// others change.
    pub on_change: Option<Box<dyn Fn() + Send + Sync>>,
    /// Ends the loops.
    pub stopping: CancellationToken,
}

impl Upkeep {
    /// Runs until the service stops.
    pub async fn run(self) {
        let stopping = self.stopping.clone();
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            () = self.look_around(), if self.on_change.is_some() => {}
            () = self.purge() => {}
        }
    }

    fn forget_credentials(&self) {
        if let Some(on_change) = &self.on_change {
            on_change();
        }
    }

    /// Takes in what the command line changed, and what an earlier refresh could not take in.
    async fn look_around(&self) {
        loop {
            self.reserve.look();
            self.clock.sleep(LOOK_EVERY).await;
            let is_changed = match self.store.changed_elsewhere().await {
                Ok(is_changed) => is_changed,
                Err(error) => {
                    tracing::warn!("the store could not be asked for changes: {error}");
                    continue;
                }
            };
            if is_changed || self.directory.is_stale() {
                // Before, so that a revoked token does not count for as long as a refresh takes; after, because what was
                // checked meanwhile was checked against the old directory.
                self.forget_credentials();
                let was_stale = self.directory.is_stale();
                match self.directory.refresh_all(&*self.store, &self.vault).await {
                    // An activation may have been among what could not be taken in.
                    Ok(()) if was_stale => self.notes.send(Note::LookAgain),
                    Ok(()) => {}
                    Err(error) => {
                        tracing::error!(
                            "the directory could not be refreshed, and will be: {error}"
                        );
                    }
                }
                self.forget_credentials();
            }
        }
    }

    async fn purge(&self) {
        loop {
            match self.purge_batch().await {
                Ok(0) => self.clock.sleep(PURGE_EVERY).await,
                Ok(_) => self.clock.sleep(PURGE_PAUSE).await,
                Err(error) => {
                    tracing::warn!(
                        "what is no longer kept could not be dropped, and will be: {error}"
                    );
                    self.clock.sleep(PURGE_EVERY).await;
                }
            }
        }
    }

    async fn purge_batch(&self) -> postrider_store::Result<u64> {
        let now = self.clock.now();
        let purge = Purge {
            attempts_before: now.minus(self.retention),
            idempotency_before: now.minus(self.idempotency_window),
            deleted_before: now.minus(DELETED_KEPT),
            grace_before: now,
            audit_before: now.minus(self.audit_retention),
        };
        self.store.purge(purge, PURGE_ROWS).await
    }
}
