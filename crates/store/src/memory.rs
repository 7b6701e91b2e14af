//! The model: everything in maps behind one lock. Simple enough to be believed, so that the tests hold the other stores
//! against it, and deterministic, so that a simulation can run on it. It keeps nothing: a process that ends forgets.
//!
//! Each verb looks at everything that could refuse it before it changes anything, since nothing here rolls back.

mod queue;
mod upkeep;
mod verbs;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use postrider_kernel::{
    AttemptId, AuditId, Created, DeliveryId, EndpointId, EventId, EventType, SecretId, TenantId,
    Timestamp, TokenId, Trigger, UserId, delivery::Status, secret::Standing,
};

use crate::{
    Action, AttemptRecord, AuditEntry, By, CatalogueEntry, Endpoint, IdKind, Lease, PublishAnswer,
    Result, Sealed, StoreError, StoredSecret, Tenant, Token, User,
};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<State>);

/// Where a delivery stands, for whoever checks what others did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryState {
    /// Which.
    pub id: DeliveryId,
    /// What is owed.
    pub event: EventId,
    /// To whom.
    pub endpoint: EndpointId,
    /// How far it is.
    pub status: Status,
    /// How many tries it has had.
    pub attempts_made: u32,
    /// When it is or was due.
    pub due_at: Timestamp,
    /// Who may attempt it, while it is leased.
    pub lease: Option<Lease>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every delivery that is kept, by id.
    pub fn deliveries(&self) -> Vec<DeliveryState> {
        let state = self.state();
        let shown = |(&id, kept): (&DeliveryId, &KeptDelivery)| DeliveryState {
            id,
            event: kept.event,
            endpoint: kept.endpoint,
            status: kept.status,
            attempts_made: kept.attempts_made,
            due_at: kept.due_at,
            lease: kept.lease,
        };
        state.deliveries.iter().map(shown).collect()
    }

    /// Every event that is kept, by id.
    pub fn events(&self) -> Vec<EventId> {
        self.state().events.keys().copied().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a verb is a bug of the model, and the test that meets it has failed already.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug, Default)]
struct State {
    key_check: Option<Vec<u8>>,
    next_ids: BTreeMap<IdKind, i64>,
    tenants: BTreeMap<TenantId, Tenant>,
    users: BTreeMap<UserId, User>,
    tokens: BTreeMap<TokenId, ([u8; 32], Token)>,
    catalogue: BTreeMap<TenantId, Vec<CatalogueEntry>>,
    endpoints: BTreeMap<EndpointId, KeptEndpoint>,
    secrets: BTreeMap<SecretId, KeptSecret>,
    events: BTreeMap<EventId, KeptEvent>,
    deliveries: BTreeMap<DeliveryId, KeptDelivery>,
    attempts: BTreeMap<AttemptId, AttemptRecord>,
    idempotency: BTreeMap<(TenantId, String), KeptAnswer>,
    audit: Vec<(TenantId, AuditEntry)>,
}

#[derive(Clone, Debug)]
struct KeptEndpoint {
    endpoint: Endpoint,
    deleted_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct KeptSecret {
    endpoint: EndpointId,
    standing: Standing,
    created_at: Timestamp,
    /// `None` once it is wiped.
    sealed: Option<Sealed>,
    sealed_key: Option<Sealed>,
}

impl KeptSecret {
    fn change_standing(&mut self, standing: Standing) {
        self.standing = standing;
        if standing == Standing::Expired {
            (self.sealed, self.sealed_key) = (None, None);
        }
    }
}

#[derive(Clone, Debug)]
struct KeptEvent {
    tenant: TenantId,
    event_type: EventType,
    accepted_at: Timestamp,
    payload: Bytes,
}

#[derive(Clone, Debug)]
struct KeptDelivery {
    tenant: TenantId,
    endpoint: EndpointId,
    event: EventId,
    trigger: Trigger,
    status: Status,
    attempts_made: u32,
    created_at: Timestamp,
    due_at: Timestamp,
    /// While it is leased.
    lease: Option<Lease>,
    /// Once it has ended.
    finished_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct KeptAnswer {
    request_hash: [u8; 32],
    event: EventId,
    event_type: EventType,
    created: Created,
    endpoint_count: u32,
    kept_at: Timestamp,
}

impl KeptAnswer {
    fn answer(&self) -> PublishAnswer {
        PublishAnswer {
            event: self.event,
            event_type: self.event_type.clone(),
            created: self.created,
            endpoint_count: self.endpoint_count,
        }
    }
}

impl State {
    fn reserve(&mut self, kind: IdKind, count: u32) -> Result<Range<i64>> {
        let next = self.next_ids.entry(kind).or_insert(1);
        let end = next.checked_add(count.into());
        let end = end.ok_or_else(|| StoreError::Inconsistent("no identifiers are left".into()))?;
        Ok(std::mem::replace(next, end)..end)
    }

    fn audit(&mut self, tenant: TenantId, by: &By, action: Action, subject: String) -> Result<()> {
        let id = AuditId::new(self.reserve(IdKind::Audit, 1)?.start);
        let entry = AuditEntry {
            id,
            at: by.at,
            actor: by.actor.to_string(),
            address: by.address.map(|address| address.to_string()),
            action: action.as_str().into(),
            subject,
        };
        self.audit.push((tenant, entry));
        Ok(())
    }

    /// A tenant's endpoint that isn't deleted.
    fn endpoint(&self, tenant: TenantId, id: EndpointId) -> Option<&Endpoint> {
        let kept = self.endpoints.get(&id)?;
        (kept.deleted_at.is_none() && kept.endpoint.tenant == tenant).then_some(&kept.endpoint)
    }

    /// The same, to change.
    fn endpoint_mut(&mut self, tenant: TenantId, id: EndpointId) -> Option<&mut Endpoint> {
        let kept = self.endpoints.get_mut(&id)?;
        (kept.deleted_at.is_none() && kept.endpoint.tenant == tenant).then_some(&mut kept.endpoint)
    }

    /// A tenant's endpoints that aren't deleted, by id.
    fn endpoints_of(&self, tenant: TenantId) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.keys().filter_map(move |&id| self.endpoint(tenant, id))
    }

    /// An endpoint's secrets that aren't expired: the current one, then those in grace, newest first.
    fn live_secrets(&self, endpoint: EndpointId) -> Vec<StoredSecret> {
        let mut live: Vec<_> = self
            .secrets
            .iter()
            .filter(|(_, kept)| kept.endpoint == endpoint)
            .filter_map(|(&id, kept)| {
                let sealed = kept.sealed.clone()?;
                let (standing, created_at) = (kept.standing, kept.created_at);
                let sealed_key = kept.sealed_key.clone();
                Some(StoredSecret { id, sealed, sealed_key, standing, created_at })
            })
            .collect();
        live.sort_by_key(|secret| {
            (secret.standing == Standing::Current, secret.created_at, secret.id)
        });
        live.reverse();
        live
    }

    /// Changes whether a secret signs; what signs no more is wiped.
    fn change_standing(&mut self, id: SecretId, standing: Standing) {
        if let Some(kept) = self.secrets.get_mut(&id) {
            kept.change_standing(standing);
        }
    }

    /// Whether a tenant has that event.
    fn knows(&self, tenant: TenantId, event: EventId) -> bool {
        self.events.get(&event).is_some_and(|kept| kept.tenant == tenant)
    }

    fn earliest_due(&self, endpoint: EndpointId) -> Option<Timestamp> {
        self.pending(endpoint).map(|(_, delivery)| delivery.due_at).min()
    }

    fn pending(&self, endpoint: EndpointId) -> impl Iterator<Item = (DeliveryId, &KeptDelivery)> {
        self.deliveries
            .iter()
            .filter(move |(_, kept)| kept.endpoint == endpoint && kept.status == Status::Pending)
            .map(|(&id, kept)| (id, kept))
    }
}

/// A fault that a constraint of the other stores would find.
fn refused<T>(what: &str) -> Result<T> {
    Err(StoreError::Inconsistent(what.into()))
}

/// Whether anything is there twice.
fn repeats<T: Ord>(mut items: impl Iterator<Item = T>) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    !items.all(|item| seen.insert(item))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::MemoryStore;
    use crate::Store;

    async fn open() -> (Arc<dyn Store>, ()) {
        (Arc::new(MemoryStore::new()), ())
    }

    crate::conformance!(open);
}
