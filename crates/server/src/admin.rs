//! What admins change: commit, swap the directory, drain the gate, wait for the other nodes, and only then answer.

mod accounts;

use std::{sync::Arc, time::Duration};

use postrider_kernel::{
    DeliveryId, EndpointId, EventId, EventType, PublicKey, SecretId, SigningKey, SigningSecret,
    Target, TenantId, Timestamp,
    secret::{SECRET_BYTES, Standing},
    signature::{KeyedSecret, SignatureAlgorithms},
    signing_key::SEED_BYTES,
};
use postrider_store::{
    By, CatalogueEntry, Endpoint, EndpointChange, GraceEnded, IdKind, NewEndpoint, NewSecret,
    Resend, Resent, Sealed, Store, StoreError, StoredSecret, Version,
};
use thiserror::Error;

pub use self::accounts::{TokenDraft, UserDraft};
use crate::{
    api::auth::Credentials,
    clock::{Clock, entropy},
    directory::Directory,
    dispatch::{Note, Notes},
    ids::Ids,
    lanes::Lanes,
    life::Life,
    node,
    vault::{Place, UnusableSecret, Vault},
};

/// Why a change, or its answer, did not come about.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The store could not be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored secret is unusable.
    #[error(transparent)]
    Unusable(#[from] UnusableSecret),
    /// The task that made the change panicked.
    #[error("the change was interrupted")]
    Interrupted,
}

/// What an admin gives of a new endpoint.
#[derive(Clone, Debug)]
pub struct EndpointDraft {
    /// Whether it is owed events.
    pub is_active: bool,
    /// Where its requests go.
    pub target: Target,
    /// The admin's own words.
    pub description: String,
    /// What it enables, in order, without repetitions.
    pub event_types: Vec<EventType>,
    /// Whether its certificate is checked.
    pub ssl_cert_verification: bool,
    /// Which kinds of signature it asks for.
    pub signature_algorithms: SignatureAlgorithms,
    /// The secret that its receiver knows already, from a service before this one; none: a fresh one.
    pub secret: Option<SigningSecret>,
}

/// A secret that signs, without the secret.
#[derive(Clone, Debug)]
pub struct LiveSecret {
    /// Its identifier.
    pub id: SecretId,
    /// When it was made or brought.
    pub created_at: Timestamp,
    /// When its grace ends; none of the current one.
    pub expires_at: Option<Timestamp>,
    /// Its last four characters, to know it by.
    pub ending: String,
    /// What a receiver verifies with that asked for Ed25519; none of a secret that has no key.
    pub public_key: Option<PublicKey>,
}

impl From<(StoredSecret, KeyedSecret)> for LiveSecret {
    fn from((stored, keyed): (StoredSecret, KeyedSecret)) -> Self {
        Self {
            id: stored.id,
            created_at: stored.created_at,
            expires_at: stored.standing.until(),
            ending: keyed.secret.ending().to_owned(),
            public_key: keyed.key.map(|key| key.public()),
        }
    }
}

/// What came of bringing a secret along.
#[derive(Debug)]
pub enum Brought {
    /// It signs from now on.
    Done(LiveSecret),
    /// It signs for this endpoint already; nothing was changed.
    SignsAlready,
    /// The tenant has no such endpoint.
    NoEndpoint,
}

/// Changes endpoints, secrets, catalogues and accounts. Every change runs to its end even when whoever asked for it is gone: a
/// commit that the directory has not taken in would leave this node with an old picture.
#[derive(Clone)]
pub struct Admin(Arc<Parts>);

/// What a change needs.
pub struct Parts {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Encrypts and decrypts secrets.
    pub vault: Arc<Vault>,
    /// The picture to swap.
    pub directory: Arc<Directory>,
    /// Time and entropy.
    pub clock: Arc<dyn Clock>,
    /// Identifiers of what is made.
    pub ids: Arc<Ids>,
    /// Where the gates are.
    pub lanes: Arc<Lanes>,
    /// Tells dispatch what can go on.
    pub notes: Notes,
    /// Which of the nodes this is.
    pub life: Arc<Life>,
    /// What is forgotten when an account changes.
    pub credentials: Arc<Credentials>,
}

type Answer<T> = Result<T, AdminError>;

impl Admin {
    /// Changes things with these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Makes an endpoint with a fresh secret; the very next event finds it.
    pub async fn create_endpoint(
        &self,
        tenant: TenantId,
        draft: EndpointDraft,
        by: By,
    ) -> Answer<Endpoint> {
        self.to_its_end(async move |parts| {
            let endpoint = NewEndpoint {
                id: EndpointId::new(parts.ids.next(IdKind::Endpoint).await?),
                tenant,
                is_active: draft.is_active,
                target: draft.target,
                description: draft.description,
                event_types: draft.event_types,
                ssl_cert_verification: draft.ssl_cert_verification,
                signature_algorithms: draft.signature_algorithms,
                secret: parts.seal_secret(tenant, draft.secret).await?,
            };
            let created = parts.store.create_endpoint(endpoint, by).await?;
            let version = parts.refresh(tenant).await?;
            parts.applied_elsewhere(version).await?;
            Ok(created)
        })
        .await
    }

    /// Changes an endpoint; `None` when there is none. After the answer nothing is sent to an old target, or to an
    /// endpoint that was deactivated; one that was activated goes on with what it is owed.
    pub async fn update_endpoint(
        &self,
        tenant: TenantId,
        id: EndpointId,
        change: EndpointChange,
        by: By,
    ) -> Answer<Option<Endpoint>> {
        self.to_its_end(async move |parts| {
            let mut change = change;
            if change.signature_algorithms.is_some_and(SignatureAlgorithms::has_ed25519) {
                change.key = parts.missing_key(tenant, id).await?;
            }
            let Some(updated) = parts.store.update_endpoint(tenant, id, change, by).await? else {
                return Ok(None);
            };
            let refreshed = parts.refresh(tenant).await;
            // Whatever became of the refresh: the store may say that it is active.
            parts.notes.send(Note::Activated(tenant, id));
            let version = refreshed?;
            parts.drain(tenant, id).await;
            parts.applied_elsewhere(version).await?;
            Ok(Some(updated))
        })
        .await
    }

    /// Deletes an endpoint; `false` when there is none. After the answer nothing is sent to it.
    pub async fn delete_endpoint(&self, tenant: TenantId, id: EndpointId, by: By) -> Answer<bool> {
        self.to_its_end(async move |parts| {
            if !parts.store.delete_endpoint(tenant, id, by).await? {
                return Ok(false);
            }
            let version = parts.refresh(tenant).await?;
            parts.drain(tenant, id).await;
            parts.lanes.forget(id);
            parts.applied_elsewhere(version).await?;
            Ok(true)
        })
        .await
    }

    /// Shows an endpoint's current secret, and writes that to the audit log; `None` when there is no such endpoint.
    pub async fn reveal_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        by: By,
    ) -> Answer<Option<SigningSecret>> {
        let Some(stored) = self.0.store.reveal_secret(tenant, endpoint, by).await? else {
            return Ok(None);
        };
        Ok(Some(self.0.vault.open_secret(tenant, &stored)?.secret))
    }

    /// Expires an endpoint's secret and makes a new one; `None` when there is no such endpoint. After the answer the old
    /// one signs nothing, unless it was given a grace.
    pub async fn expire_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        grace: Option<Duration>,
        by: By,
    ) -> Answer<Option<Endpoint>> {
        self.to_its_end(async move |parts| {
            let secret = parts.seal_secret(tenant, None).await?;
            let expired = parts.store.expire_secret(tenant, endpoint, secret, grace, by).await?;
            if expired.is_some() {
                parts.signs_by_now(tenant, endpoint).await?;
            }
            Ok(expired)
        })
        .await
    }

    /// Puts a secret that was brought along in the place of the current one, which is treated as by
    /// [`Admin::expire_secret`].
    pub async fn bring_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: SigningSecret,
        grace: Option<Duration>,
        by: By,
    ) -> Answer<Brought> {
        self.to_its_end(async move |parts| {
            let Some(live) = parts.live_secrets(tenant, endpoint, by.at).await? else {
                return Ok(Brought::NoEndpoint);
            };
            if live.iter().any(|(_, known)| known.secret.is(&secret)) {
                return Ok(Brought::SignsAlready);
            }
            let sealed = parts.seal_secret(tenant, Some(secret)).await?;
            let (id, now) = (sealed.id, by.at);
            let expired = parts.store.expire_secret(tenant, endpoint, sealed, grace, by).await?;
            if expired.is_none() {
                return Ok(Brought::NoEndpoint);
            }
            parts.signs_by_now(tenant, endpoint).await?;
            let live = parts.live_secrets(tenant, endpoint, now).await?.unwrap_or_default();
            let brought = live.into_iter().find(|(stored, _)| stored.id == id);
            Ok(brought.map_or(Brought::NoEndpoint, |brought| Brought::Done(brought.into())))
        })
        .await
    }

    /// Ends the grace of one secret; after the answer it signs nothing.
    pub async fn end_grace(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: SecretId,
        by: By,
    ) -> Answer<GraceEnded> {
        self.to_its_end(async move |parts| {
            let ended = parts.store.end_grace(tenant, endpoint, secret, by).await?;
            if matches!(ended, GraceEnded::Done(_)) {
                parts.signs_by_now(tenant, endpoint).await?;
            }
            Ok(ended)
        })
        .await
    }

    /// The secrets that sign for an endpoint at that moment, newest first; `None` when there is no such endpoint.
    pub async fn live_secrets(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        now: Timestamp,
    ) -> Answer<Option<Vec<LiveSecret>>> {
        let live = self.0.live_secrets(tenant, endpoint, now).await?;
        Ok(live.map(|live| live.into_iter().map(LiveSecret::from).collect()))
    }

    /// Owes old events to an endpoint once more: all of them or none.
    pub async fn resend(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        events: Vec<EventId>,
        by: By,
    ) -> Answer<Resent> {
        self.to_its_end(async move |parts| {
            let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
            let ids = parts.ids.take(IdKind::Delivery, count).await?;
            let events = events.into_iter().zip(ids.map(DeliveryId::new)).collect();
            let now = by.at;
            let resent = parts.store.resend(Resend { tenant, endpoint, events }, by).await?;
            if resent == Resent::Done {
                parts.notes.send(Note::Due(tenant, endpoint, now));
            }
            Ok(resent)
        })
        .await
    }

    /// Adds an event type, or offers a retired one again; `None` when it is already offered.
    pub async fn add_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        description: String,
        by: By,
    ) -> Answer<Option<CatalogueEntry>> {
        self.to_its_end(async move |parts| {
            let added = parts.store.add_event_type(tenant, event_type, description, by).await?;
            let version = parts.refresh(tenant).await?;
            parts.applied_elsewhere(version).await?;
            Ok(added)
        })
        .await
    }

    /// Retires an event type; `false` when it is not offered.
    pub async fn retire_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        by: By,
    ) -> Answer<bool> {
        self.to_its_end(async move |parts| {
            let retired = parts.store.retire_event_type(tenant, event_type, by).await?;
            let version = parts.refresh(tenant).await?;
            parts.applied_elsewhere(version).await?;
            Ok(retired)
        })
        .await
    }

    /// Runs a change as a task of its own, so that it ends even when the request's future is dropped. One that failed may
    /// be in the store all the same, where its answer got lost; so the directory is read anew.
    async fn to_its_end<T, F>(&self, change: impl FnOnce(Arc<Parts>) -> F) -> Answer<T>
    where
        T: Send + 'static,
        F: Future<Output = Answer<T>> + Send + 'static,
    {
        let parts = self.0.clone();
        let changing = change(parts.clone());
        let to_the_end = async move {
            let changed = changing.await;
            if changed.is_err() {
                parts.directory.doubt();
            }
            changed
        };
        tokio::spawn(to_the_end).await.unwrap_or(Err(AdminError::Interrupted))
    }
}

impl Parts {
    /// Seals a secret that was brought along, or else a fresh one.
    async fn seal_secret(
        &self,
        tenant: TenantId,
        brought: Option<SigningSecret>,
    ) -> Answer<NewSecret> {
        let id = SecretId::new(self.ids.next(IdKind::Secret).await?);
        let is_brought = brought.is_some();
        let secret = brought
            .unwrap_or_else(|| SigningSecret::from_entropy(&entropy::<SECRET_BYTES>(&*self.clock)));
        let key = SigningKey::from_entropy(&entropy::<SEED_BYTES>(&*self.clock));
        let (sealed, sealed_key) = self.vault.seal_secret(tenant, id, &secret, &key);
        Ok(NewSecret { id, sealed, sealed_key: Some(sealed_key), is_brought })
    }

    /// A key for the current secret of an endpoint, where that was made before there were such keys.
    async fn missing_key(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
    ) -> Answer<Option<(SecretId, Sealed)>> {
        let secrets = self.store.secrets(tenant, endpoint).await?.unwrap_or_default();
        let is_without = |secret: &&StoredSecret| {
            secret.standing == Standing::Current && secret.sealed_key.is_none()
        };
        let make = |secret: &StoredSecret| {
            let key = SigningKey::from_entropy(&entropy::<SEED_BYTES>(&*self.clock));
            (secret.id, self.vault.seal(Place::key(tenant, secret.id), key.reveal()))
        };
        Ok(secrets.iter().find(is_without).map(make))
    }

    /// The secrets that sign at that moment, newest first.
    async fn live_secrets(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        now: Timestamp,
    ) -> Answer<Option<Vec<(StoredSecret, KeyedSecret)>>> {
        let Some(stored) = self.store.secrets(tenant, endpoint).await? else { return Ok(None) };
        let live = stored.into_iter().filter(|stored| stored.standing.signs_at(now));
        let open = |stored: StoredSecret| {
            let secret = self.vault.open_secret(tenant, &stored)?;
            Ok((stored, secret))
        };
        live.map(open).collect::<Answer<Vec<_>>>().map(Some)
    }

    /// Has everybody, on every node, sign by what was just changed of an endpoint, and by nothing older.
    async fn signs_by_now(&self, tenant: TenantId, endpoint: EndpointId) -> Answer<()> {
        let version = self.refresh(tenant).await?;
        self.drain(tenant, endpoint).await;
        self.applied_elsewhere(version).await
    }

    async fn refresh(&self, tenant: TenantId) -> Answer<Version> {
        Ok(self.directory.refresh(tenant, &*self.store, &self.vault).await?)
    }

    async fn drain(&self, tenant: TenantId, endpoint: EndpointId) {
        self.lanes.lane(tenant, endpoint).gate.drain(&*self.clock).await;
    }

    /// Waits until the other nodes have done the same, or may sign no more.
    async fn applied_elsewhere(&self, version: Version) -> Answer<()> {
        let lease = self.life.lease();
        Ok(node::applied_elsewhere(&*self.store, &*self.clock, version, lease).await?)
    }
}
