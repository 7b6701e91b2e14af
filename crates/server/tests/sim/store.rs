//! The store: the model, which takes its time, stalls, and fails, before a commit or after it. What the model holds is
//! what is durable; it survives a kill, and nothing else does.
//!
//! It is as unruly as a database at the other end of a connection may be: verbs that are under way at once are committed
//! in any order, a caller that stops waiting doesn't stop its verb, the answer to a commit may be lost, and a record of a
//! process that is dead may arrive while the next one works. An attempt that is recorded once more is known by its id.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt;
use postrider_kernel::{
    DeliveryId, EndpointId, EventId, EventType, SecretId, TenantId, Timestamp, TokenId, UserId,
};
use postrider_store::*;

use crate::{plan::SpellKind, world::World};

/// The store as one process sees it.
pub struct SimStore {
    world: Arc<World>,
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

impl SimStore {
    /// The store, for a process that begins.
    pub fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    fn fate(&self, verb: &str, manner: Manner) -> Fate {
        if let Some(scripted) = self.world.take_scripted(verb) {
            return scripted;
        }
        let (now, plan) = (self.world.elapsed(), &self.world.plan);
        let mut chance = self.world.store_chance();
        let (mut before, after) = (chance.millis(0, 3), chance.millis(0, 3));
        let mut fails = None;
        for spell in plan.weather.iter().filter(|spell| (spell.from..spell.until).contains(&now)) {
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

    /// Runs a verb as a task of its own, so that it goes on when the caller doesn't.
    async fn call<T: Send + 'static>(
        &self,
        verb: &'static str,
        manner: Manner,
        commit: impl FnOnce(&World) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (world, fate) = (self.world.clone(), self.fate(verb, manner));
        world.note(|| format!("store {verb} {fate:?}"));
        // Drawn now: in which order a runtime drops its tasks is none of ours.
        let lingers = manner == Manner::Lingers && world.store_chance().percent(50);
        let number = world.count_call(verb);
        let job = async move {
            let mut pending = Pending { commit: Some(commit), verb, number, lingers, world };
            pause(fate.before).await;
            let (world, Some(commit)) = (pending.world.clone(), pending.commit.take()) else {
                return Err(unavailable());
            };
            if fate.fails == Some(Moment::BeforeCommit) {
                return Err(unavailable());
            }
            let answer = commit(&world);
            world.note(|| format!("store {verb} committed"));
            if manner != Manner::Reads {
                world.count_commit();
            }
            pause(fate.after).await;
            if world.is_killed() {
                std::future::pending::<()>().await;
            }
            if fate.fails == Some(Moment::AfterCommit) { Err(unavailable()) } else { answer }
        };
        tokio::spawn(job).await.expect("a verb of the model does not panic")
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("the simulation says so".into())
}

async fn pause(duration: Duration) {
    if duration.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(duration).await;
    }
}

/// A verb that is not committed yet. When its process dies, it may arrive all the same.
struct Pending<T, C: FnOnce(&World) -> Result<T> + Send + 'static> {
    commit: Option<C>,
    verb: &'static str,
    number: u64,
    lingers: bool,
    world: Arc<World>,
}

impl<T, C: FnOnce(&World) -> Result<T> + Send + 'static> Drop for Pending<T, C> {
    fn drop(&mut self) {
        if let Some(commit) = self.commit.take()
            && self.lingers
            && self.world.is_killed()
        {
            let (world, verb) = (self.world.clone(), self.verb);
            let arrives = move || {
                world.note(|| format!("store {verb} of a dead process arrives"));
                drop(commit(&world));
            };
            self.world.delay(self.number, Box::new(arrives));
        }
    }
}

/// A verb of the model, which never waits.
macro_rules! model {
    ($world:ident.$verb:ident($($argument:expr),*)) => {
        Store::$verb(&$world.store, $($argument),*).now_or_never().expect("the model never waits")
    };
}

/// A verb that the ledger has no interest in.
macro_rules! plain {
    ($self:ident, $manner:ident, $verb:ident($($argument:expr),*)) => {
        $self
            .call(stringify!($verb), Manner::$manner, move |world| model!(world.$verb($($argument),*)))
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
        self.call("begin_life", Manner::Writes, |world| {
            let lease = model!(world.begin_life())?;
            world.ledger().life_began(lease, &world.store.deliveries());
            Ok(lease)
        })
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
        plain!(self, Writes, create_endpoint(endpoint, by))
    }

    async fn update_endpoint(
        &self,
        tenant: TenantId,
        id: EndpointId,
        change: EndpointChange,
        by: By,
    ) -> Result<Option<Endpoint>> {
        plain!(self, Writes, update_endpoint(tenant, id, change, by))
    }

    async fn delete_endpoint(&self, tenant: TenantId, id: EndpointId, by: By) -> Result<bool> {
        plain!(self, Writes, delete_endpoint(tenant, id, by))
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
        plain!(self, Writes, end_grace(tenant, endpoint, secret, by))
    }

    async fn expire_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: NewSecret,
        grace: Option<Duration>,
        by: By,
    ) -> Result<Option<Endpoint>> {
        self.call("expire_secret", Manner::Writes, move |world| {
            let grace_until = grace.map(|grace| by.at.plus(grace));
            let expired = model!(world.expire_secret(tenant, endpoint, secret.clone(), grace, by))?;
            if expired.is_some() {
                world.ledger().secret_was_made(endpoint, &secret, grace_until);
            }
            Ok(expired)
        })
        .await
    }

    async fn publish(&self, publication: Publication) -> Result<Published> {
        world_publish(self, vec![publication], |world, mut publications| {
            let publication = publications.pop().expect("there is one");
            model!(world.publish(publication))
        })
        .await
    }

    async fn publish_all(&self, publications: Vec<Publication>) -> Result<Published> {
        world_publish(self, publications, |world, publications| {
            model!(world.publish_all(publications))
        })
        .await
    }

    async fn resend(&self, resend: Resend, by: By) -> Result<Resent> {
        plain!(self, Writes, resend(resend, by))
    }

    /// A claim whose answer is lost is not simulated: the contract is that a call which failed kept nothing.
    async fn claim_due(
        &self,
        endpoint: EndpointId,
        now: Timestamp,
        limit: ClaimLimit,
        lease: Lease,
    ) -> Result<Claim> {
        self.call("claim_due", Manner::Reads, move |world| {
            let claim = model!(world.claim_due(endpoint, now, limit, lease))?;
            let ids: Vec<_> = claim.deliveries.iter().map(|delivery| delivery.id).collect();
            world.note(|| format!("endpoint {endpoint} has {ids:?} claimed"));
            world.ledger().claimed(&claim, now, world.latest_wall());
            world.count_commit();
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
        self.call("record_all", Manner::Lingers, move |world| {
            let was_written: Vec<bool> =
                attempts.iter().map(|attempt| world.ledger().is_recorded(attempt)).collect();
            let is_fresh = |(_, was_written): &(_, &bool)| !**was_written;
            let fresh: Arc<[AttemptRecord]> = attempts
                .iter()
                .zip(&was_written)
                .filter(is_fresh)
                .map(|(attempt, _)| attempt.clone())
                .collect();
            let mut recorded = model!(world.record_all(fresh.clone()))?.into_iter();
            for (attempt, recorded) in fresh.iter().zip(recorded.clone()) {
                world.ledger().recorded(attempt, recorded);
            }
            let answer = |was_written| {
                if was_written { Some(Recorded::Done) } else { recorded.next() }
            };
            Ok(was_written.into_iter().filter_map(answer).collect())
        })
        .await
    }

    async fn give_back(&self, deliveries: Vec<DeliveryId>, lease: Lease) -> Result<()> {
        plain!(self, Lingers, give_back(deliveries, lease))
    }

    async fn bring_forward(&self, now: Timestamp, by: Duration) -> Result<()> {
        self.call("bring_forward", Manner::Writes, move |world| {
            world.ledger().brought_forward(now, by);
            model!(world.bring_forward(now, by))
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

    async fn known_events(&self, tenant: TenantId, events: Vec<EventId>) -> Result<Vec<EventId>> {
        plain!(self, Reads, known_events(tenant, events))
    }

    async fn purge(&self, purge: Purge, limit: u32) -> Result<u64> {
        plain!(self, Writes, purge(purge, limit))
    }

    async fn audit(&self, tenant: TenantId) -> Result<Vec<AuditEntry>> {
        plain!(self, Reads, audit(tenant))
    }
}

/// Keeps publications, and notes what was tried and what was kept.
async fn world_publish(
    store: &SimStore,
    publications: Vec<Publication>,
    keep: impl FnOnce(&World, Vec<Publication>) -> Result<Published> + Send + 'static,
) -> Result<Published> {
    store.world.ledger().tried_to_publish(&publications);
    store
        .call("publish", Manner::Writes, move |world| {
            let published = keep(world, publications.clone())?;
            if published == Published::Fresh {
                world.ledger().published(&publications);
            }
            Ok(published)
        })
        .await
}
