//! The in-memory picture of tenants, endpoints and subscriptions, which fan-out and delivery read instead of the store.
//!
//! It is an immutable snapshot, swapped as a whole. Whoever changes something in the store calls [`Directory::refresh`]
//! after the commit and before the answer, so that the very next event meets the new picture. Refreshes take turns, and
//! each reads the store anew: the last swap is never older than the last commit that was answered.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use postrider_kernel::{
    EndpointId, EventType, SigningSecret, Target, TenantId, request::RequestTemplate,
    signature::Signer,
};
use postrider_store::{CatalogueEntry, DirectoryEntry, Store, StoreError, Tenant};
use thiserror::Error;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::vault::{Place, Unopenable, Vault};

/// Everything that fan-out and delivery need to know, as of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    tenants: HashMap<TenantId, Arc<TenantView>>,
}

/// One tenant.
#[derive(Debug)]
pub struct TenantView {
    /// Its identifier.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// What its JWTs are signed with.
    pub jwt_secret: JwtSecret,
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
    /// What its requests have in common.
    pub template: RequestTemplate,
    /// Its live secrets, ready to sign.
    pub signer: Signer,
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
    refreshing: Mutex<()>,
    /// A refresh failed: the picture may be older than the store.
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

/// Why the picture could not be made anew.
#[derive(Debug, Error)]
pub enum RefreshError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret could not be decrypted.
    #[error(transparent)]
    Unopenable(#[from] Unopenable),
}

impl Directory {
    /// An empty directory.
    pub fn new(composing: Composing) -> Self {
        Self {
            snapshot: ArcSwap::default(),
            refreshing: Mutex::new(()),
            is_stale: AtomicBool::new(false),
            composing,
        }
    }

    /// The picture as of now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Whether a refresh failed, so that everything is to be read anew.
    pub fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Acquire)
    }

    /// Reads everything anew.
    ///
    /// # Errors
    /// When the store can't be read, or a secret not be opened; the picture is stale then.
    pub async fn refresh_all(&self, store: &dyn Store, vault: &Vault) -> Result<(), RefreshError> {
        let _turn = self.refreshing.lock().await;
        self.is_stale.store(true, Ordering::Release);
        let mut tenants = HashMap::new();
        for tenant in store.tenants().await? {
            tenants.insert(tenant.id, Arc::new(self.view(tenant, store, vault).await?));
        }
        self.snapshot.store(Arc::new(Snapshot { tenants }));
        Ok(())
    }

    /// Reads one tenant anew.
    pub async fn refresh(
        &self,
        tenant: TenantId,
        store: &dyn Store,
        vault: &Vault,
    ) -> Result<(), RefreshError> {
        let _turn = self.refreshing.lock().await;
        let mut tenants = self.snapshot.load().tenants.clone();
        if let Some(tenant) = store.tenants().await?.into_iter().find(|row| row.id == tenant) {
            tenants.insert(tenant.id, Arc::new(self.view(tenant, store, vault).await?));
        }
        self.snapshot.store(Arc::new(Snapshot { tenants }));
        Ok(())
    }

    async fn view(
        &self,
        tenant: Tenant,
        store: &dyn Store,
        vault: &Vault,
    ) -> Result<TenantView, RefreshError> {
        let catalogue = store.event_types(tenant.id).await?;
        let mut subscribers: HashMap<EventType, Vec<EndpointId>> =
            catalogue.iter().map(|entry| (entry.event_type.clone(), Vec::new())).collect();
        let mut endpoints = HashMap::new();
        for entry in store.directory(tenant.id).await? {
            let subscriptions = entry.endpoint.subscriptions.clone();
            let Some(view) = self.endpoint_view(entry, vault)? else { continue };
            if view.is_active {
                for subscription in subscriptions {
                    subscribers.entry(subscription.event_type).or_default().push(view.id);
                }
            }
            endpoints.insert(view.id, Arc::new(view));
        }
        let jwt_secret =
            JwtSecret(vault.open_sealed(Place::tenant(tenant.id), &tenant.jwt_secret)?);
        Ok(TenantView {
            id: tenant.id,
            name: tenant.name,
            jwt_secret,
            catalogue,
            endpoints,
            subscribers,
        })
    }

    fn endpoint_view(
        &self,
        entry: DirectoryEntry,
        vault: &Vault,
    ) -> Result<Option<EndpointView>, RefreshError> {
        let DirectoryEntry { endpoint, secrets } = entry;
        let mut opened = Vec::with_capacity(secrets.len());
        for stored in secrets {
            let text =
                vault.open_sealed(Place::secret(endpoint.tenant, stored.id), &stored.sealed)?;
            match SigningSecret::parse(&text) {
                Ok(secret) => opened.push((secret, stored.standing)),
                Err(malformed) => {
                    tracing::error!(endpoint = %endpoint.id, "a stored signing secret: {malformed}")
                }
            }
        }
        let Composing { signature_header, user_agent } = self.composing.clone();
        let template = match RequestTemplate::new(&endpoint.target, signature_header, user_agent) {
            Ok(template) => template,
            Err(unrequestable) => {
                // The API lets no such target in; should one be there, its deliveries wait for a better one.
                tracing::error!(endpoint = %endpoint.id, "{unrequestable}");
                return Ok(None);
            }
        };
        let signer = Signer::new(opened.iter().map(|(secret, standing)| (secret, *standing)));
        Ok(Some(EndpointView {
            id: endpoint.id,
            tenant: endpoint.tenant,
            is_active: endpoint.is_active,
            target: endpoint.target,
            ssl_cert_verification: endpoint.ssl_cert_verification,
            template,
            signer,
        }))
    }
}
