//! The in-memory picture of tenants, endpoints and subscriptions, which fan-out and delivery read instead of the store.
//!
//! It is an immutable snapshot, swapped as a whole. Whoever changes something in the store calls [`Directory::refresh`]
//! after the commit and before the answer, so that the very next event meets the new picture. Refreshes take turns, and
//! each reads the store anew: the last swap is never older than the last commit that was answered.
//!
//! Where many nodes share a store, every picture has the version that was current before it was read, and what was swapped
//! is remembered until somebody has drained the gates of the endpoints that became others by it. An endpoint that is as it
//! was stays the same object.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use postrider_kernel::{
    EndpointId, EventType, Target, TenantId, request::RequestTemplate, signature::Signer,
};
use postrider_store::{
    CatalogueEntry, DirectoryEntry, Result, Store, StoredSecret, Tenant, Version,
};
use zeroize::Zeroizing;

use crate::{
    transport::Destination,
    vault::{Place, Vault},
};

/// Everything that fan-out and delivery need to know, as of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The oldest version that any part of it may be of.
    pub version: Version,
    tenants: HashMap<TenantId, Arc<TenantView>>,
}

/// One tenant.
#[derive(Debug)]
pub struct TenantView {
    /// Its identifier.
    pub id: TenantId,
    /// The version by which it was read.
    pub version: Version,
    /// Its name.
    pub name: String,
    /// What its JWTs are signed with; none when it can't be decrypted.
    pub jwt_secret: Option<JwtSecret>,
    /// Its whole catalogue, retired types included, in order.
    pub catalogue: Vec<CatalogueEntry>,
    /// Its endpoints that are not deleted.
    endpoints: HashMap<EndpointId, Arc<EndpointView>>,
    /// The active endpoints that enabled a type, by id.
    subscribers: HashMap<EventType, Vec<EndpointId>>,
}

/// A tenant's JWT secret. `Debug` says nothing of it.
pub struct JwtSecret(Zeroizing<String>);

impl JwtSecret {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JwtSecret(…)")
    }
}

/// One endpoint, ready to be delivered to.
#[derive(Debug)]
pub struct EndpointView {
    /// Its identifier.
    pub id: EndpointId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Whether what it is owed is attempted.
    pub is_active: bool,
    /// Where to connect.
    pub target: Target,
    /// Whether its certificate is checked.
    pub ssl_cert_verification: bool,
    /// What composes and signs its requests. None when a secret is damaged: then what it is owed waits, as for an
    /// endpoint that is inactive, and nobody else does.
    pub signing: Option<Signing>,
    /// What it was made of.
    source: DirectoryEntry,
}

/// What composes and signs the requests to an endpoint.
#[derive(Debug)]
pub struct Signing {
    /// What its requests have in common.
    pub template: RequestTemplate,
    /// Its live secrets, ready to sign.
    pub signer: Signer,
}

impl EndpointView {
    /// Whether what it is owed can be attempted.
    pub fn is_deliverable(&self) -> bool {
        self.is_active && self.signing.is_some()
    }

    /// Where its requests go, and how the connection is secured.
    pub fn destination(&self) -> Destination<'_> {
        Destination { target: &self.target, ssl_cert_verification: self.ssl_cert_verification }
    }

    /// Whether it would be made just so again. What couldn't be opened is worth another try.
    fn is_still(&self, entry: &DirectoryEntry) -> bool {
        self.signing.is_some() && self.source == *entry
    }
}

impl Snapshot {
    /// A tenant by its id.
    pub fn tenant(&self, id: TenantId) -> Option<&Arc<TenantView>> {
        self.tenants.get(&id)
    }

    /// A tenant by its name.
    pub fn tenant_named(&self, name: &str) -> Option<&Arc<TenantView>> {
        self.tenants.values().find(|tenant| tenant.name == name)
    }

    /// An endpoint that is not deleted.
    pub fn endpoint(&self, tenant: TenantId, id: EndpointId) -> Option<&Arc<EndpointView>> {
        self.tenant(tenant)?.endpoints.get(&id)
    }

    /// The endpoints that are others now, or gone.
    fn replaced_by<'a>(
        &'a self,
        now: &'a Self,
    ) -> impl Iterator<Item = (TenantId, EndpointId)> + 'a {
        let is_same = |view: &Arc<EndpointView>| {
            now.endpoint(view.tenant, view.id).is_some_and(|now| Arc::ptr_eq(view, now))
        };
        let tenants = self.tenants.iter().filter(|(id, before)| {
            now.tenant(**id).is_none_or(|tenant| !Arc::ptr_eq(before, tenant))
        });
        let views = tenants.flat_map(|(_, tenant)| tenant.endpoints.values());
        views.filter(move |view| !is_same(view)).map(|view| (view.tenant, view.id))
    }
}

impl TenantView {
    /// Whether an event of that type may be published: it is in the catalogue, retired or not.
    pub fn knows(&self, event_type: &EventType) -> bool {
        self.subscribers.contains_key(event_type)
    }

    /// The event types that endpoints may enable, in catalogue order.
    pub fn offered(&self) -> impl Iterator<Item = &CatalogueEntry> {
        self.catalogue.iter().filter(|entry| entry.retired_at.is_none())
    }

    /// The active endpoints that enabled a type.
    pub fn subscribers(&self, event_type: &EventType) -> &[EndpointId] {
        self.subscribers.get(event_type).map_or(&[], Vec::as_slice)
    }
}

/// Keeps the snapshot.
#[derive(Debug)]
pub struct Directory {
    snapshot: ArcSwap<Snapshot>,
    refreshing: tokio::sync::Mutex<()>,
    /// Endpoints that were replaced, and whose gates may still hold somebody who signs by the old picture.
    replaced: Mutex<BTreeSet<(TenantId, EndpointId)>>,
    /// A refresh or a change failed: the picture may be older than the store.
    is_stale: AtomicBool,
    composing: Composing,
}

/// What every endpoint's requests are composed with.
#[derive(Clone, Debug)]
pub struct Composing {
    /// The timestamped list's header.
    pub signature_header: HeaderName,
    /// Who we say we are.
    pub user_agent: HeaderValue,
}

impl Directory {
    /// An empty directory.
    pub fn new(composing: Composing) -> Self {
        Self {
            snapshot: ArcSwap::default(),
            refreshing: tokio::sync::Mutex::new(()),
            replaced: Mutex::default(),
            is_stale: AtomicBool::new(false),
            composing,
        }
    }

    /// The picture as of now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Whether a refresh or a change failed, so that everything is to be read anew.
    pub fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Acquire)
    }

    /// Takes the picture for stale: something may have changed in the store that was not told.
    pub fn doubt(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    /// Reads everything anew.
    ///
    /// # Errors
    /// When the store can't be read; the picture is stale then.
    pub async fn refresh_all(&self, store: &dyn Store, vault: &Vault) -> Result<()> {
        let _turn = self.refreshing.lock().await;
        // Stale until it has succeeded, also when whoever refreshes is dropped on the way.
        self.is_stale.store(true, Ordering::Release);
        let version = store.directory_version().await?;
        vault.follow(store).await?;
        let before = self.snapshot();
        let mut tenants = HashMap::new();
        for tenant in store.tenants().await? {
            let view = self.view(tenant, version, &before, store, vault).await?;
            tenants.insert(view.id, Arc::new(view));
        }
        self.swap(&before, Snapshot { version, tenants });
        self.is_stale.store(false, Ordering::Release);
        Ok(())
    }

    /// Reads one tenant anew; answers the version by which that was done. Of the other tenants the picture stays as old as
    /// it was.
    ///
    /// # Errors
    /// When the store can't be read; the picture is stale then.
    pub async fn refresh(
        &self,
        tenant: TenantId,
        store: &dyn Store,
        vault: &Vault,
    ) -> Result<Version> {
        let _turn = self.refreshing.lock().await;
        self.refresh_alone(tenant, store, vault).await
    }

    /// Reads one tenant anew, unless somebody has done so since that version was read.
    ///
    /// # Errors
    /// As [`Directory::refresh`].
    pub async fn refresh_after(
        &self,
        version: Version,
        tenant: TenantId,
        store: &dyn Store,
        vault: &Vault,
    ) -> Result<()> {
        let _turn = self.refreshing.lock().await;
        if self.snapshot.load().tenant(tenant).is_none_or(|view| view.version <= version) {
            self.refresh_alone(tenant, store, vault).await?;
        }
        Ok(())
    }

    /// Whoever calls this has the turn.
    async fn refresh_alone(
        &self,
        tenant: TenantId,
        store: &dyn Store,
        vault: &Vault,
    ) -> Result<Version> {
        let was_stale = self.is_stale.swap(true, Ordering::AcqRel);
        let version = store.directory_version().await?;
        let before = self.snapshot();
        let mut tenants = before.tenants.clone();
        if let Some(tenant) = store.tenant(tenant).await? {
            let view = self.view(tenant, version, &before, store, vault).await?;
            tenants.insert(view.id, Arc::new(view));
        }
        self.swap(&before, Snapshot { version: before.version, tenants });
        self.is_stale.store(was_stale, Ordering::Release);
        Ok(version)
    }

    /// Puts a picture in the place of the one before.
    fn swap(&self, before: &Snapshot, now: Snapshot) {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        if now.tenants.values().any(|tenant| tenant.version > Version::default()) {
            // A store without versions is held alone: nobody asks what was replaced.
            replaced.extend(before.replaced_by(&now));
        }
        self.snapshot.store(Arc::new(now));
    }

    /// The version of the picture, and all endpoints that were replaced since this was last asked. Once the gates of those
    /// are drained, nobody signs by an older version any more.
    pub fn take_replaced(&self) -> (Version, BTreeSet<(TenantId, EndpointId)>) {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        (self.snapshot.load().version, std::mem::take(&mut replaced))
    }

    async fn view(
        &self,
        tenant: Tenant,
        version: Version,
        before: &Snapshot,
        store: &dyn Store,
        vault: &Vault,
    ) -> Result<TenantView> {
        let catalogue = store.event_types(tenant.id).await?;
        let mut subscribers: HashMap<EventType, Vec<EndpointId>> =
            catalogue.iter().map(|entry| (entry.event_type.clone(), Vec::new())).collect();
        let mut endpoints = HashMap::new();
        for entry in store.directory(tenant.id).await? {
            let known = before.endpoint(tenant.id, entry.endpoint.id);
            let view = match known.filter(|known| known.is_still(&entry)) {
                Some(known) => known.clone(),
                None => Arc::new(self.endpoint_view(entry, vault)),
            };
            if view.is_active {
                for subscription in &view.source.endpoint.subscriptions {
                    let event_type = subscription.event_type.clone();
                    subscribers.entry(event_type).or_default().push(view.id);
                }
            }
            endpoints.insert(view.id, view);
        }
        let jwt_secret =
            vault.open_sealed(Place::tenant(tenant.id), &tenant.jwt_secret).inspect_err(
                |error| tracing::error!(tenant = %tenant.id, "no JWT of it holds: {error}"),
            );
        Ok(TenantView {
            id: tenant.id,
            version,
            name: tenant.name,
            jwt_secret: jwt_secret.ok().map(JwtSecret),
            catalogue,
            endpoints,
            subscribers,
        })
    }

    fn endpoint_view(&self, entry: DirectoryEntry, vault: &Vault) -> EndpointView {
        let signing = self.signing(&entry, vault).inspect_err(|problem| {
            tracing::error!(endpoint = %entry.endpoint.id, "what it is owed waits: {problem}");
        });
        let endpoint = &entry.endpoint;
        EndpointView {
            id: endpoint.id,
            tenant: endpoint.tenant,
            is_active: endpoint.is_active,
            target: endpoint.target.clone(),
            ssl_cert_verification: endpoint.ssl_cert_verification,
            signing: signing.ok(),
            source: entry,
        }
    }

    fn signing(&self, entry: &DirectoryEntry, vault: &Vault) -> anyhow::Result<Signing> {
        let tenant = entry.endpoint.tenant;
        let algorithms = entry.endpoint.signature_algorithms;
        let open = |stored: &StoredSecret| vault.open_secret(tenant, stored);
        let secrets = entry.secrets.iter().map(open).collect::<std::result::Result<Vec<_>, _>>()?;
        let Composing { signature_header, user_agent } = self.composing.clone();
        Ok(Signing {
            template: RequestTemplate::new(&entry.endpoint.target, signature_header, user_agent)?,
            signer: Signer::with(algorithms, &secrets),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use postrider_kernel::{SecretId, SigningSecret, Timestamp, signature::SignatureAlgorithms};
    use postrider_store::{
        Actor, By, EndpointChange, NewEndpoint, NewSecret, NewTenant, memory::MemoryStore,
    };

    const TENANT: TenantId = TenantId::new(1);

    fn directory() -> Directory {
        Directory::new(Composing {
            signature_header: HeaderName::from_static("postrider-signature"),
            user_agent: HeaderValue::from_static("Postrider"),
        })
    }

    fn vault() -> Vault {
        Vault::with_key(&[1; 32], Arc::new(SystemClock::new())).unwrap()
    }

    fn by() -> By {
        By { actor: Actor::Service, address: None, at: Timestamp::from_micros(1) }
    }

    /// A tenant with endpoints of these identifiers.
    async fn store_with(vault: &Vault, endpoints: &[i64]) -> MemoryStore {
        let store = MemoryStore::default();
        let jwt_secret = vault.seal(Place::tenant(TENANT), "secret");
        let name = "default".to_owned();
        let tenant = NewTenant { id: TENANT, name, jwt_secret, catalogue: Vec::new() };
        assert!(store.create_tenant(tenant, by()).await.unwrap());
        for &number in endpoints {
            let id = SecretId::new(number);
            let text = SigningSecret::from_entropy(&[7; 32]);
            let secret = NewSecret {
                id,
                sealed: vault.seal(Place::secret(TENANT, id), text.reveal()),
                sealed_key: None,
                is_brought: false,
            };
            let endpoint = NewEndpoint {
                id: EndpointId::new(number),
                tenant: TENANT,
                is_active: true,
                target: Target::parse("https://their.example/hooks").unwrap(),
                description: String::new(),
                event_types: Vec::new(),
                ssl_cert_verification: true,
                signature_algorithms: SignatureAlgorithms::default(),
                secret,
            };
            store.create_endpoint(endpoint, by()).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn a_picture_that_was_refreshed_is_not_stale() {
        let (directory, vault, store) = (directory(), vault(), MemoryStore::default());
        directory.refresh_all(&store, &vault).await.unwrap();
        assert!(!directory.is_stale());
        directory.refresh(TENANT, &store, &vault).await.unwrap();
        assert!(!directory.is_stale());
    }

    #[tokio::test]
    async fn what_is_as_it_was_stays_the_same_object() {
        let (directory, vault) = (directory(), vault());
        let store = store_with(&vault, &[1, 2, 3]).await;
        directory.refresh_all(&store, &vault).await.unwrap();
        let before = directory.snapshot();
        let replaced = |now: &Snapshot| {
            let mut ids: Vec<_> = before.replaced_by(now).map(|(_, id)| id.get()).collect();
            ids.sort_unstable();
            ids
        };
        directory.refresh_all(&store, &vault).await.unwrap();
        assert_eq!(replaced(&directory.snapshot()), [0; 0]);

        let inactive = EndpointChange { is_active: Some(false), ..EndpointChange::default() };
        store.update_endpoint(TENANT, EndpointId::new(2), inactive, by()).await.unwrap().unwrap();
        assert!(store.delete_endpoint(TENANT, EndpointId::new(3), by()).await.unwrap());
        directory.refresh(TENANT, &store, &vault).await.unwrap();
        assert_eq!(replaced(&directory.snapshot()), [2, 3]);
        assert!(directory.take_replaced().1.is_empty(), "nobody asks on a store of one process");
    }
}
