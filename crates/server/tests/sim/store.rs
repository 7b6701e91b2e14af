//! The store: the model, which takes its time, stalls, and fails, before a commit or after it. What the model holds is
//! what is durable; it survives a kill, and nothing else does. Where several nodes share it, `nodes.rs` has what they do.
//!
//! It is as unruly as a database at the other end of a connection may be: verbs that are under way at once are committed
//! in any order, a caller that stops waiting doesn't stop its verb, nor does one that is frozen; the answer to a commit may
//! be lost, and a record of a process that is dead may arrive while the next one works. An attempt that is recorded once
//! more is known by its id.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::FutureExt;
use postrider_kernel::{
    DeliveryId, EndpointId, EventId, EventType, SecretId, TenantId, Timestamp, TokenId, UserId,
    delivery::Status,
};
use postrider_store::*;

use crate::{
    plan::SpellKind,
    world::{World, lock},
};

/// The store as one process sees it.
#[derive(Clone)]
pub struct SimStore {
    world: Arc<World>,
    node: usize,
    process: u64,
}

/// How a call fares.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// How long it takes until its commit.
    pub before: Duration,
    /// Whether it fails.
    pub fails: Option<Moment>,
    /// How long its answer takes.
    pub after: Duration,
}

/// When a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it is kept.
    BeforeCommit,
    /// It is kept; the answer is lost.
    AfterCommit,
}

/// What a call may do besides failing before its commit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It changes nothing, so that a lost answer is like no call.
    Reads,
    /// It commits, and the answer may get lost.
    Writes,
    /// It commits, the answer may get lost, and it may arrive after its process has died.
    Lingers,
}

/// How long after its time a call of a dead process may arrive: while the next one works already.
const LATE_MAX_MILLIS: u64 = 5_000;

/// No call arrives in the moment in which it is made.
const SOON: Duration = Duration::from_micros(1);

/// A verb of the model, which never waits.
macro_rules! model {
    ($store:ident.$verb:ident($($argument:expr),*)) => {
        Store::$verb(&$store.world.store, $($argument),*)
            .now_or_never()
            .expect("the model never waits")
    };
}

impl SimStore {
    /// The store, for a process that begins on a node.
    pub fn new(world: Arc<World>, node: usize, process: u64) -> Self {
        Self { world, node, process }
    }

    fn fate(&self, verb: &str, manner: Manner) -> Fate {
        if let Some(scripted) = self.world.take_scripted(verb) {
            return scripted;
        }
        let (now, plan) = (self.world.elapsed(), &self.world.plan);
        let mut chance = self.world.store_chance();
        let (mut before, after) = (chance.millis(0, 3), chance.millis(0, 3));
        let mut fails = None;
        for spell in plan.weather.iter().filter(|spell| spell.is_felt(self.node, now)) {
            match spell.kind {
                SpellKind::Stall => before = before.max(spell.until - now),
                SpellKind::Outage => fails = Some(Moment::BeforeCommit),
                SpellKind::Flaky(percent) if chance.percent(percent) => {
                    let is_lost = manner != Manner::Reads && chance.percent(50);
                    fails = Some(if is_lost { Moment::AfterCommit } else { Moment::BeforeCommit });
                }
                SpellKind::Flaky(_) => {}
            }
        }
        Fate { before, fails, after }
    }

    /// Runs a verb, which goes on when the caller doesn't.
    async fn call<T: Send + 'static>(
        &self,
        verb: &'static str,
        manner: Manner,
        commit: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (world, fate) = (&self.world, self.fate(verb, manner));
        let before = fate.before.max(SOON);
        world.note(|| format!("store {verb} of node {} {fate:?}", self.node));
        let lingers = manner == Manner::Lingers && world.store_chance().percent(50);
        if verb == "record_all" {
            world.count_record(self.node);
        }
        let answer = Arc::new(Mutex::new(None));
        let (store, answered) = (self.clone(), answer.clone());
        let commit = move |store: &Self| {
            let committed = commit(store);
            store.world.note(|| format!("store {verb} of node {} committed", store.node));
            if manner != Manner::Reads && !store.is_dead() {
                store.world.count_commit(store.node);
            }
            *lock(&answered) = Some(committed);
        };
        world.after(before, move || {
            if store.is_dead() && lingers {
                let late = store.world.store_chance().millis(0, LATE_MAX_MILLIS);
                let world = store.world.clone();
                world.after(late, move || commit(&store));
            } else if !store.is_dead() && fate.fails != Some(Moment::BeforeCommit) {
                commit(&store);
            }
        });
        world.sleep(self.node, before + fate.after).await;
        let answer = lock(&answer).take().filter(|_| fate.fails.is_none());
        answer.unwrap_or_else(|| Err(unavailable()))
    }

    /// Whether the process that called is dead. What arrives of it now is late.
    fn is_dead(&self) -> bool {
        self.world.is_dead(self.node, self.process)
    }

    fn is_shared(&self) -> bool {
        self.world.plan.is_shared()
    }

    /// Does what follows from a change of the directory.
    fn directory_changed(&self) {
        self.world.nodes().change();
        self.tell(&News::Directory);
    }

    /// Tells the other nodes, sooner or later or never.
    fn tell(&self, news: &News) {
        for node in (0..self.world.plan.nodes()).filter(|node| *node != self.node) {
            let mut chance = self.world.store_chance();
            let (wait, is_lost) = (chance.millis(0, 20), chance.percent(10));
            drop(chance);
            if is_lost && !self.world.is_healed() {
                continue;
            }
            let (world, news) = (self.world.clone(), news.clone());
            self.world.after(wait, move || {
                let listener = world.nodes().deliver(node, news);
                if let Some(listener) = listener {
                    world.wake(node, listener);
                }
            });
        }
    }

    /// Tells the others of what these publications left pending.
    fn tell_due(&self, publications: &[Publication]) {
        let pending = |publication: &Publication| {
            let all = publication.deliveries.clone();
            all.into_iter().filter(|new| !new.leased).map(|new| new.endpoint)
        };
        let owed: BTreeSet<_> = publications.iter().flat_map(pending).collect();
        if !owed.is_empty() {
            let owed = owed.into_iter().map(|endpoint| (crate::ledger::TENANT, endpoint));
            self.tell(&News::Due(owed.collect()));
        }
    }

    /// Makes pending what is leased under the leases of the dead; answers whether there was anything.
    fn take_over(&self) -> bool {
        let world = &self.world;
        let buried = world.nodes().bury(world.elapsed());
        for lease in buried {
            world.ledger().lease_ran_out(lease);
        }
        let leases = world.store.deliveries().into_iter().filter_map(|delivery| delivery.lease);
        let dead: BTreeSet<Lease> = leases.filter(|lease| !world.nodes().has_row(*lease)).collect();
        dead.into_iter().fold(false, |has_freed, lease| has_freed | self.free(lease))
    }

    /// Makes pending what is leased under a dead lease, and tells the others.
    fn free(&self, lease: Lease) -> bool {
        let world = &self.world;
        let held =
            world.store.deliveries().into_iter().filter(|delivery| {
                delivery.lease == Some(lease) && delivery.status == Status::Leased
            });
        let held: Vec<_> = held.collect();
        if held.is_empty() {
            return false;
        }
        let ids: Vec<DeliveryId> = held.iter().map(|delivery| delivery.id).collect();
        world.note(|| format!("taken over from {lease:?}: {ids:?}"));
        world.ledger().freed(&ids, lease);
        let given_back = model!(self.give_back(ids, lease));
        given_back.expect("the model never fails");
        let owed: BTreeSet<_> =
            held.iter().map(|delivery| (crate::ledger::TENANT, delivery.endpoint)).collect();
        self.tell(&News::Due(owed.into_iter().collect()));
        true
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("the simulation says so".into())
}

/// A verb that the ledger has no interest in.
macro_rules! plain {
    ($self:ident, $manner:ident, $verb:ident($($argument:expr),*)) => {
        $self
            .call(stringify!($verb), Manner::$manner, move |store| model!(store.$verb($($argument),*)))
            .await
    };
}

/// A verb that changes what a directory is made of, unless it answers that there was nothing to change.
macro_rules! change {
    ($self:ident, $verb:ident($($argument:expr),*), $has_changed:expr) => {
        $self
            .call(stringify!($verb), Manner::Writes, move |store| {
                let answer = model!(store.$verb($($argument),*))?;
                if $has_changed(&answer) {
                    store.directory_changed();
                }
                Ok(answer)
            })
            .await
    };
}

#[async_trait]
impl Store for SimStore {
    async fn keep_key_check(&self, check: Vec<u8>) -> Result<Vec<u8>> {
        plain!(self, Writes, keep_key_check(check))
    }

    async fn key_check(&self) -> Result<Option<Vec<u8>>> {
        plain!(self, Reads, key_check())
    }

    async fn replace_key_check(&self, old: Vec<u8>, new: Vec<u8>, by: By) -> Result<bool> {
        plain!(self, Writes, replace_key_check(old, new, by))
    }

    async fn sealed_otherwise(
        &self,
        head: Vec<u8>,
        after: Option<SealedAt>,
        limit: u32,
    ) -> Result<Vec<(SealedAt, Sealed)>> {
        plain!(self, Reads, sealed_otherwise(head.clone(), after, limit))
    }

    async fn reseal(&self, at: SealedAt, old: Sealed, new: Sealed) -> Result<bool> {
        plain!(self, Writes, reseal(at, old.clone(), new.clone()))
    }

    async fn reserve_ids(&self, kind: IdKind, count: u32) -> Result<Range<i64>> {
        plain!(self, Writes, reserve_ids(kind, count))
    }

    async fn changed_elsewhere(&self) -> Result<bool> {
        Ok(false)
    }

    async fn check_health(&self) -> Result<()> {
        plain!(self, Reads, check_health())
    }

    async fn begin_life(&self) -> Result<Lease> {
        self.call("begin_life", Manner::Writes, |store| {
            let world = &store.world;
            let lease = if store.is_shared() {
                store.take_over();
                let lease = Lease(model!(store.reserve_ids(IdKind::Life, 1))?.start);
                world.nodes().begin(lease, world.elapsed());
                lease
            } else {
                world.ledger().all_leases_ended();
                model!(store.begin_life())?
            };
            world.ledger().lease_began(lease);
            Ok(lease)
        })
        .await
    }

    async fn renew(&self, lease: Lease, applied: Version) -> Result<Renewal> {
        if !self.is_shared() {
            return model!(self.renew(lease, applied));
        }
        self.call("renew", Manner::Writes, move |store| {
            let world = &store.world;
            let renewed = world.nodes().renew(lease, applied, world.elapsed());
            world.note(|| format!("{lease:?} of {applied:?} renewed: {renewed:?}"));
            let version = world.nodes().version();
            let now = Some(world.database_clock());
            Ok(renewed.map_or(Renewal::Lost, |may_sign| Renewal::Held { version, now, may_sign }))
        })
        .await
    }

    async fn is_applied_elsewhere(&self, version: Version, except: Lease) -> Result<bool> {
        if !self.is_shared() {
            return Ok(true);
        }
        self.call("is_applied_elsewhere", Manner::Reads, move |store| {
            let now = store.world.elapsed();
            Ok(store.world.nodes().is_applied_elsewhere(version, except, now))
        })
        .await
    }

    async fn end_life(&self, lease: Lease) -> Result<()> {
        if !self.is_shared() {
            return Ok(());
        }
        self.call("end_life", Manner::Writes, move |store| {
            store.world.nodes().end(lease);
            store.world.ledger().lease_ended(lease);
            store.free(lease);
            Ok(())
        })
        .await
    }

    async fn take_over(&self) -> Result<bool> {
        self.call("take_over", Manner::Writes, |store| Ok(store.take_over())).await
    }

    async fn next_news(&self) -> News {
        poll_fn(|context| self.world.nodes().poll_news(self.node, context.waker())).await
    }

    async fn directory_version(&self) -> Result<Version> {
        if !self.is_shared() {
            return Ok(Version(0));
        }
        self.call("directory_version", Manner::Reads, |store| Ok(store.world.nodes().version()))
            .await
    }

    async fn create_tenant(&self, tenant: NewTenant, by: By) -> Result<bool> {
        plain!(self, Writes, create_tenant(tenant, by))
    }

    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>> {
        plain!(self, Reads, tenant(id))
    }

    async fn tenants(&self) -> Result<Vec<Tenant>> {
        plain!(self, Reads, tenants())
    }

    async fn set_jwt_secret(&self, tenant: TenantId, secret: Sealed, by: By) -> Result<bool> {
        plain!(self, Writes, set_jwt_secret(tenant, secret, by))
    }

    async fn rename_tenant(&self, tenant: TenantId, name: &str, by: By) -> Result<Renamed> {
        let name = name.to_owned();
        plain!(self, Writes, rename_tenant(tenant, &name, by))
    }

    async fn create_user(&self, user: NewUser, by: By) -> Result<bool> {
        plain!(self, Writes, create_user(user, by))
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        plain!(self, Reads, user(id))
    }

    async fn users(&self, tenant: TenantId) -> Result<Vec<User>> {
        plain!(self, Reads, users(tenant))
    }

    async fn disable_user(&self, tenant: TenantId, name: &str, by: By) -> Result<bool> {
        let name = name.to_owned();
        plain!(self, Writes, disable_user(tenant, &name, by))
    }

    async fn update_user(
        &self,
        tenant: TenantId,
        id: UserId,
        change: UserChange,
        by: By,
    ) -> Result<UserUpdated> {
        plain!(self, Writes, update_user(tenant, id, change, by))
    }

    async fn create_token(&self, token: NewToken, by: By) -> Result<()> {
        plain!(self, Writes, create_token(token, by))
    }

    async fn token_by_hash(&self, hash: [u8; 32]) -> Result<Option<Token>> {
        plain!(self, Reads, token_by_hash(hash))
    }

    async fn tokens(&self, tenant: TenantId) -> Result<Vec<Token>> {
        plain!(self, Reads, tokens(tenant))
    }

    async fn revoke_token(&self, tenant: TenantId, id: TokenId, by: By) -> Result<bool> {
        plain!(self, Writes, revoke_token(tenant, id, by))
    }

    async fn add_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        description: String,
        by: By,
    ) -> Result<Option<CatalogueEntry>> {
        plain!(self, Writes, add_event_type(tenant, event_type, description, by))
    }

    async fn retire_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        by: By,
    ) -> Result<bool> {
        plain!(self, Writes, retire_event_type(tenant, event_type, by))
    }

    async fn event_types(&self, tenant: TenantId) -> Result<Vec<CatalogueEntry>> {
        plain!(self, Reads, event_types(tenant))
    }

    async fn create_endpoint(&self, endpoint: NewEndpoint, by: By) -> Result<Endpoint> {
        change!(self, create_endpoint(endpoint, by), |_: &Endpoint| true)
    }

    async fn update_endpoint(
        &self,
        tenant: TenantId,
        id: EndpointId,
        change: EndpointChange,
        by: By,
    ) -> Result<Option<Endpoint>> {
        change!(self, update_endpoint(tenant, id, change, by), Option::is_some)
    }

    async fn delete_endpoint(&self, tenant: TenantId, id: EndpointId, by: By) -> Result<bool> {
        change!(self, delete_endpoint(tenant, id, by), bool::clone)
    }

    async fn endpoint(&self, tenant: TenantId, id: EndpointId) -> Result<Option<Endpoint>> {
        plain!(self, Reads, endpoint(tenant, id))
    }

    async fn endpoints(&self, tenant: TenantId, query: EndpointQuery) -> Result<Page<Endpoint>> {
        plain!(self, Reads, endpoints(tenant, query))
    }

    async fn directory(&self, tenant: TenantId) -> Result<Vec<DirectoryEntry>> {
        plain!(self, Reads, directory(tenant))
    }

    async fn reveal_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        by: By,
    ) -> Result<Option<StoredSecret>> {
        plain!(self, Writes, reveal_secret(tenant, endpoint, by))
    }

    async fn secrets(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
    ) -> Result<Option<Vec<StoredSecret>>> {
        plain!(self, Reads, secrets(tenant, endpoint))
    }

    async fn end_grace(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: SecretId,
        by: By,
    ) -> Result<GraceEnded> {
        change!(self, end_grace(tenant, endpoint, secret, by), |answer: &GraceEnded| {
            matches!(answer, GraceEnded::Done(_))
        })
    }

    async fn expire_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: NewSecret,
        grace: Option<Duration>,
        by: By,
    ) -> Result<Option<Endpoint>> {
        self.call("expire_secret", Manner::Writes, move |store| {
            let grace_until = grace.map(|grace| by.at.plus(grace));
            let expired = model!(store.expire_secret(tenant, endpoint, secret.clone(), grace, by))?;
            if expired.is_some() {
                store.world.ledger().secret_was_made(&store.world, endpoint, &secret, grace_until);
                store.directory_changed();
            }
            Ok(expired)
        })
        .await
    }

    async fn publish(&self, publication: Publication) -> Result<Published> {
        publish(self, vec![publication], |store, mut publications| {
            let publication = publications.pop().expect("there is one");
            model!(store.publish(publication))
        })
        .await
    }

    async fn publish_all(&self, publications: Vec<Publication>) -> Result<Published> {
        publish(self, publications, |store, publications| model!(store.publish_all(publications)))
            .await
    }

    async fn resend(&self, resend: Resend, by: By) -> Result<Resent> {
        plain!(self, Writes, resend(resend, by))
    }

    /// That its answer is lost is simulated where a node then begins another life: on a store that others share. Alone with
    /// its file a call that failed kept nothing.
    async fn claim_due(
        &self,
        endpoint: EndpointId,
        now: Timestamp,
        limit: ClaimLimit,
        lease: Lease,
    ) -> Result<Claim> {
        let manner = if self.is_shared() { Manner::Lingers } else { Manner::Reads };
        self.call("claim_due", manner, move |store| {
            let world = &store.world;
            let claim = model!(store.claim_due(endpoint, now, limit, lease))?;
            let ids: Vec<_> = claim.deliveries.iter().map(|delivery| delivery.id).collect();
            world.note(|| format!("endpoint {endpoint} has {ids:?} claimed under {lease:?}"));
            world.ledger().claimed(&claim, lease, now, world.latest_time(store.node));
            if manner == Manner::Reads && !store.is_dead() {
                world.count_commit(store.node);
            }
            Ok(claim)
        })
        .await
    }

    async fn earliest_due(&self) -> Result<Vec<(TenantId, EndpointId, Timestamp)>> {
        plain!(self, Reads, earliest_due())
    }

    async fn earliest_due_of(&self, endpoint: EndpointId) -> Result<Option<Timestamp>> {
        plain!(self, Reads, earliest_due_of(endpoint))
    }

    async fn record_all(&self, attempts: Arc<[AttemptRecord]>) -> Result<Vec<Recorded>> {
        let answer = self.call("record_all", Manner::Lingers, move |store| {
            let world = &store.world;
            let was_written: Vec<bool> =
                attempts.iter().map(|attempt| world.ledger().is_recorded(attempt)).collect();
            let is_fresh = |(_, was_written): &(_, &bool)| !**was_written;
            let fresh: Arc<[AttemptRecord]> = attempts
                .iter()
                .zip(&was_written)
                .filter(is_fresh)
                .map(|(attempt, _)| attempt.clone())
                .collect();
            let mut recorded = model!(store.record_all(fresh.clone()))?.into_iter();
            let mut has_deactivated = false;
            for (attempt, recorded) in fresh.iter().zip(recorded.clone()) {
                has_deactivated |= attempt.deactivates_endpoint && recorded == Recorded::Done;
                world.ledger().recorded(store.node, store.is_dead(), attempt, recorded);
            }
            if has_deactivated {
                store.directory_changed();
            }
            let answer = |was_written| {
                if was_written { Some(Recorded::Done) } else { recorded.next() }
            };
            Ok(was_written.into_iter().filter_map(answer).collect())
        });
        let answer = answer.await;
        self.world.ledger().heard_of_record(self.node, answer.is_ok());
        answer
    }

    async fn give_back(&self, deliveries: Vec<DeliveryId>, lease: Lease) -> Result<()> {
        self.call("give_back", Manner::Lingers, move |store| {
            store.world.ledger().freed(&deliveries, lease);
            model!(store.give_back(deliveries, lease))
        })
        .await
    }

    async fn bring_forward(&self, now: Timestamp, by: Duration) -> Result<()> {
        self.call("bring_forward", Manner::Writes, move |store| {
            store.world.ledger().brought_forward(now, by);
            model!(store.bring_forward(now, by))
        })
        .await
    }

    async fn attempts(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        query: AttemptQuery,
    ) -> Result<Page<Attempt>> {
        plain!(self, Reads, attempts(tenant, endpoint, query))
    }

    async fn event(
        &self,
        tenant: TenantId,
        id: EventId,
        limit: u32,
    ) -> Result<Option<StoredEvent>> {
        plain!(self, Reads, event(tenant, id, limit))
    }

    async fn known_events(&self, tenant: TenantId, events: Vec<EventId>) -> Result<Vec<EventId>> {
        plain!(self, Reads, known_events(tenant, events))
    }

    async fn purge(&self, purge: Purge, limit: u32) -> Result<u64> {
        plain!(self, Writes, purge(purge, limit))
    }

    async fn audit_page(&self, tenant: TenantId, query: AuditQuery) -> Result<Page<AuditEntry>> {
        plain!(self, Reads, audit_page(tenant, query.clone()))
    }

    async fn write_audit(
        &self,
        tenant: TenantId,
        action: Action,
        subject: String,
        by: By,
    ) -> Result<()> {
        plain!(self, Writes, write_audit(tenant, action, subject.clone(), by.clone()))
    }

    async fn audit(&self, tenant: TenantId) -> Result<Vec<AuditEntry>> {
        plain!(self, Reads, audit(tenant))
    }
}

/// Keeps publications, and notes what was tried and what was kept. Those that were chosen by an old directory are not.
async fn publish(
    store: &SimStore,
    publications: Vec<Publication>,
    keep: impl FnOnce(&SimStore, Vec<Publication>) -> Result<Published> + Send + 'static,
) -> Result<Published> {
    store.world.ledger().tried_to_publish(&publications);
    store
        .call("publish", Manner::Writes, move |store| {
            let world = &store.world;
            let current = world.nodes().version();
            let is_stale = publications.iter().any(|publication| publication.directory < current);
            if store.is_shared() && is_stale {
                return Ok(Published::Stale);
            }
            let published = keep(store, publications.clone())?;
            if published == Published::Fresh {
                world.ledger().published(&publications);
                store.tell_due(&publications);
            }
            Ok(published)
        })
        .await
}
