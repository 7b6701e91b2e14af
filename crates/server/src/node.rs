//! One node of many that share a store: it renews its lease and its right to sign, takes in what other nodes changed, and
//! looks after what dead ones left behind. A process that holds its store alone has none of this.
//!
//! - A renewal says which version of the directory this node signs by, and by none older: the gates of all endpoints that
//!   were replaced on the way there have been drained. Whoever changed something elsewhere waits for that.
//! - News come by notification, and again with the next renewal: a lost one delays, and no more.
//! - What other nodes owed is found by looking: at leases that nobody holds every second, at everything due now and then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use postrider_kernel::{EndpointId, TenantId};
use postrider_store::{Lease, News, Renewal, Result, Store, StoreError, Version};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::{Clock, SharedClock},
    directory::Directory,
    dispatch::{Note, Notes},
    lanes::Lanes,
    life::Life,
    vault::Vault,
};

/// How often the lease and the right to sign are renewed: three times before the right would run out.
const RENEW_EVERY: Duration = Duration::from_millis(250);

/// How long to wait when that failed.
const RENEW_AGAIN: Duration = Duration::from_millis(100);

/// How often what dead nodes held is taken over.
const TAKE_OVER_EVERY: Duration = Duration::from_secs(1);

/// After so many of these looks everything that is due is looked at, in case that nobody told of it.
const TAKE_OVERS_PER_LOOK: u32 = 5;

/// How long a change waits between two looks whether everybody has taken it in: at first, and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// What a node works on.
pub struct Parts {
    /// What is shared.
    pub store: Arc<dyn Store>,
    /// Opens secrets when the directory is refreshed.
    pub vault: Arc<Vault>,
    /// The picture to keep up to date.
    pub directory: Arc<Directory>,
    /// Where the gates are, and what is dropped with a lost lease.
    pub lanes: Arc<Lanes>,
    /// The store's time.
    pub clock: Arc<SharedClock>,
    /// Tells dispatch what is due.
    pub notes: Notes,
    /// What is renewed.
    pub life: Arc<Life>,
    /// Called when another node may have changed accounts: cached credentials no longer count.
    pub on_change: Box<dyn Fn() + Send + Sync>,
}

/// A node that runs.
pub struct Node {
    parts: Parts,
    /// The version by which this node signs, and by none older.
    applied: AtomicI64,
    /// The renewal is not to wait: there is a version to tell.
    tell: Notify,
    /// The directory was changed elsewhere.
    changed: Notify,
    /// The directory was swapped: gates are to be drained.
    swapped: Notify,
    /// Something is due of an endpoint that this node has yet to hear of.
    is_stranger_due: AtomicBool,
}

/// Begins a life on a store, by a directory that was just read. Where others share the store, it comes with their time.
///
/// # Errors
/// The store's.
pub async fn begin_life(
    store: &dyn Store,
    clock: &Arc<dyn Clock>,
    directory: &Directory,
) -> Result<(Arc<Life>, Option<Arc<SharedClock>>)> {
    let lease = store.begin_life().await?;
    let life = Arc::new(Life::new(lease));
    let asked_at = clock.monotonic();
    match store.renew(lease, directory.snapshot().version).await? {
        Renewal::Held { now: None, .. } => {
            life.may_sign_forever();
            Ok((life, None))
        }
        Renewal::Held { now: Some(now), may_sign, .. } => {
            if may_sign {
                life.may_sign_from(asked_at);
            }
            let shared = SharedClock::new(clock.clone(), asked_at, now);
            Ok((life, Some(Arc::new(shared))))
        }
        Renewal::Lost => {
            Err(StoreError::Unavailable("the lease ran out before it was renewed once".into()))
        }
    }
}

/// Waits until nobody else signs by an older version than this.
///
/// # Errors
/// The store's: then somebody may.
pub async fn applied_elsewhere(
    store: &dyn Store,
    clock: &dyn Clock,
    version: Version,
    except: Lease,
) -> Result<()> {
    let mut pause = ASK_AGAIN.0;
    while !store.is_applied_elsewhere(version, except).await? {
        clock.sleep(pause).await;
        pause = (pause * 2).min(ASK_AGAIN.1);
    }
    Ok(())
}

impl Node {
    /// A node that has applied the directory which it has read.
    pub fn new(parts: Parts) -> Arc<Self> {
        let (Version(applied), _) = parts.directory.take_replaced();
        let (tell, changed, swapped) = (Notify::new(), Notify::new(), Notify::new());
        let (applied, is_stranger_due) = (AtomicI64::new(applied), AtomicBool::new(false));
        Arc::new(Self { parts, applied, tell, changed, swapped, is_stranger_due })
    }

    /// Runs until `ended`, which is after the last signature.
    pub fn run(self: &Arc<Self>, tasks: &TaskTracker, ended: &CancellationToken) {
        fn spawn<F>(tasks: &TaskTracker, ended: &CancellationToken, task: F)
        where
            F: Future<Output = ()> + Send + 'static,
        {
            let ended = ended.clone();
            tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = ended.cancelled() => {}
                    () = task => {}
                }
            });
        }
        // Each in a task of its own: a renewal waits for nothing.
        spawn(tasks, ended, self.clone().keep_renewing());
        spawn(tasks, ended, self.clone().listen());
        spawn(tasks, ended, self.clone().follow());
        spawn(tasks, ended, self.clone().apply());
        spawn(tasks, ended, self.clone().look_around());
    }

    async fn keep_renewing(self: Arc<Self>) {
        let mut is_failing = false;
        loop {
            let renewed = self.renew().await;
            let pause = match &renewed {
                Ok(()) => RENEW_EVERY,
                Err(error) => {
                    if !is_failing {
                        tracing::error!(
                            "the lease can't be renewed, so nothing is sent until it is: {error}"
                        );
                    }
                    RENEW_AGAIN
                }
            };
            if is_failing && renewed.is_ok() {
                tracing::info!("the lease is renewed again");
            }
            is_failing = renewed.is_err();
            tokio::select! {
                biased;
                () = self.parts.clock.sleep(pause) => {}
                () = self.tell.notified(), if !is_failing => {}
            }
        }
    }

    async fn renew(&self) -> Result<()> {
        let Parts { store, clock, life, directory, .. } = &self.parts;
        let applied = Version(self.applied.load(Ordering::Acquire));
        let asked_at = clock.monotonic();
        match store.renew(life.lease(), applied).await? {
            Renewal::Held { version, now, may_sign } => {
                if let Some(now) = now {
                    clock.heed(asked_at, now);
                }
                if may_sign {
                    life.may_sign_from(asked_at);
                }
                if version > directory.snapshot().version || directory.is_stale() {
                    self.changed.notify_one();
                }
                if life.is_doubted() {
                    return self.begin_again("the answer to a claim was lost").await;
                }
                Ok(())
            }
            Renewal::Lost => self.begin_again("the lease ran out").await,
        }
    }

    /// What this node held may be somebody else's by now. It forgets all of it, and begins anew.
    async fn begin_again(&self, why: &str) -> Result<()> {
        let Parts { store, life, lanes, notes, .. } = &self.parts;
        tracing::warn!(
            "{why}: what this node held is others' to deliver once its lease has run out, and it begins anew"
        );
        life.ends();
        lanes.clear();
        life.begins_again(store.begin_life().await?);
        notes.send(Note::LookAgain);
        self.tell.notify_one();
        Ok(())
    }

    /// Hears what other nodes tell.
    async fn listen(self: Arc<Self>) {
        let Parts { store, clock, notes, directory, on_change, .. } = &self.parts;
        loop {
            match store.next_news().await {
                News::Directory => {
                    on_change();
                    self.changed.notify_one();
                }
                News::Due(endpoints) => {
                    let (now, snapshot) = (clock.now(), directory.snapshot());
                    for (tenant, endpoint) in endpoints {
                        if snapshot.endpoint(tenant, endpoint).is_none() {
                            self.is_stranger_due.store(true, Ordering::Release);
                            self.changed.notify_one();
                        }
                        notes.send(Note::Due(tenant, endpoint, now));
                    }
                }
                News::LookAgain => {
                    on_change();
                    self.changed.notify_one();
                    notes.send(Note::LookAgain);
                }
            }
        }
    }

    /// Reads the directory anew whenever others changed it.
    async fn follow(self: Arc<Self>) {
        let Parts { store, vault, directory, notes, on_change, .. } = &self.parts;
        loop {
            self.changed.notified().await;
            // Before, so that a revoked token does not count for as long as a refresh takes; after, because what was
            // checked meanwhile was checked against the old directory.
            on_change();
            let looks_again =
                self.is_stranger_due.swap(false, Ordering::AcqRel) || directory.is_stale();
            match directory.refresh_all(&**store, vault).await {
                // An activation may have been among what could not be taken in.
                Ok(()) if looks_again => notes.send(Note::LookAgain),
                Ok(()) => {}
                // The next renewal asks for it again.
                Err(error) => {
                    tracing::error!("the directory could not be refreshed, and will be: {error}")
                }
            }
            on_change();
            self.swapped.notify_one();
        }
    }

    /// Drains the gates of what was replaced, and tells that nobody here signs by anything older.
    async fn apply(self: Arc<Self>) {
        loop {
            self.swapped.notified().await;
            let (version, replaced) = self.parts.directory.take_replaced();
            join_all(replaced.into_iter().map(|(tenant, endpoint)| self.drain(tenant, endpoint)))
                .await;
            if self.applied.swap(version.0, Ordering::AcqRel) != version.0 {
                self.tell.notify_one();
            }
        }
    }

    async fn drain(&self, tenant: TenantId, endpoint: EndpointId) {
        let Parts { directory, lanes, clock, notes, .. } = &self.parts;
        // Where there is no lane, nobody has ever signed.
        if let Some(lane) = lanes.find(endpoint) {
            lane.gate.drain(&**clock).await;
        }
        match directory.snapshot().endpoint(tenant, endpoint) {
            None => lanes.forget(endpoint),
            // Perhaps what waited can go on.
            Some(view) if view.is_deliverable() => notes.send(Note::Activated(tenant, endpoint)),
            Some(_) => {}
        }
    }

    /// Finds what nobody told of.
    async fn look_around(self: Arc<Self>) {
        let Parts { store, clock, notes, .. } = &self.parts;
        for look in 1_u32.. {
            clock.sleep(TAKE_OVER_EVERY).await;
            let has_taken_over = store.take_over().await.unwrap_or_else(|error| {
                tracing::debug!("what dead nodes held could not be taken over: {error}");
                false
            });
            if has_taken_over || look % TAKE_OVERS_PER_LOOK == 0 {
                notes.send(Note::LookAgain);
            }
        }
    }
}
