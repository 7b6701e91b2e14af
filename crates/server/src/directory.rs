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
use postrider_store::{CatalogueEntry, DirectoryEntry, Result, Store, StoredSecret, Tenant};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::vault::{Place, Vault};

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
            refreshing: Mutex::new(()),
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
        let mut tenants = HashMap::new();
        for tenant in store.tenants().await? {
            tenants.insert(tenant.id, Arc::new(self.view(tenant, store, vault).await?));
        }
        self.snapshot.store(Arc::new(Snapshot { tenants }));
        self.is_stale.store(false, Ordering::Release);
        Ok(())
    }

    /// Reads one tenant anew.
    ///
    /// # Errors
    /// When the store can't be read; the picture is stale then.
    pub async fn refresh(&self, tenant: TenantId, store: &dyn Store, vault: &Vault) -> Result<()> {
        let _turn = self.refreshing.lock().await;
        let was_stale = self.is_stale.swap(true, Ordering::AcqRel);
        let mut tenants = self.snapshot.load().tenants.clone();
        if let Some(tenant) = store.tenant(tenant).await? {
            tenants.insert(tenant.id, Arc::new(self.view(tenant, store, vault).await?));
        }
        self.snapshot.store(Arc::new(Snapshot { tenants }));
        self.is_stale.store(was_stale, Ordering::Release);
        Ok(())
    }

    async fn view(&self, tenant: Tenant, store: &dyn Store, vault: &Vault) -> Result<TenantView> {
        let catalogue = store.event_types(tenant.id).await?;
        let mut subscribers: HashMap<EventType, Vec<EndpointId>> =
            catalogue.iter().map(|entry| (entry.event_type.clone(), Vec::new())).collect();
        let mut endpoints = HashMap::new();
        for entry in store.directory(tenant.id).await? {
            let subscriptions = entry.endpoint.subscriptions.clone();
            let view = self.endpoint_view(entry, vault);
            if view.is_active {
                for subscription in subscriptions {
                    subscribers.entry(subscription.event_type).or_default().push(view.id);
                }
            }
            endpoints.insert(view.id, Arc::new(view));
        }
        let jwt_secret =
            vault.open_sealed(Place::tenant(tenant.id), &tenant.jwt_secret).inspect_err(
                |error| tracing::error!(tenant = %tenant.id, "no JWT of it holds: {error}"),
            );
        Ok(TenantView {
            id: tenant.id,
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
        let endpoint = entry.endpoint;
        EndpointView {
            id: endpoint.id,
            tenant: endpoint.tenant,
            is_active: endpoint.is_active,
            target: endpoint.target,
            ssl_cert_verification: endpoint.ssl_cert_verification,
            signing: signing.ok(),
        }
    }

    fn signing(&self, entry: &DirectoryEntry, vault: &Vault) -> anyhow::Result<Signing> {
        let tenant = entry.endpoint.tenant;
        let open = |stored: &StoredSecret| {
            let text = vault.open_sealed(Place::secret(tenant, stored.id), &stored.sealed)?;
            anyhow::Ok((SigningSecret::parse(&text)?, stored.standing))
        };
        let secrets = entry.secrets.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
        let Composing { signature_header, user_agent } = self.composing.clone();
        Ok(Signing {
            template: RequestTemplate::new(&entry.endpoint.target, signature_header, user_agent)?,
            signer: Signer::new(secrets.iter().map(|(secret, standing)| (secret, *standing))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use postrider_store::memory::MemoryStore;

    #[tokio::test]
    async fn a_picture_that_was_refreshed_is_not_stale() {
        let directory = Directory::new(Composing {
            signature_header: HeaderName::from_static("postrider-signature"),
            user_agent: HeaderValue::from_static("Postrider"),
        });
        let vault = Vault::with_key(&[1; 32], Arc::new(SystemClock::new())).unwrap();
        let store = MemoryStore::default();
        directory.refresh_all(&store, &vault).await.unwrap();
        assert!(!directory.is_stale());
        directory.refresh(TenantId::new(1), &store, &vault).await.unwrap();
        assert!(!directory.is_stale());
    }
}
