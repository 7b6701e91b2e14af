//! What admins change: commit, swap the directory, drain the gate, and only then answer.

use std::time::Duration;

use postrider_kernel::{EndpointId, EventId, EventType, SigningSecret, Target, TenantId};
use postrider_store::{By, CatalogueEntry, Endpoint, EndpointChange, Resent, StoreError};
use thiserror::Error;

use crate::{directory::RefreshError, vault::Unopenable};

/// Why a change, or its answer, did not come about.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The store could not be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret could not be decrypted.
    #[error(transparent)]
    Unopenable(#[from] Unopenable),
    /// The change is committed, but this node could not take it in.
    #[error("the directory could not be refreshed: {0}")]
    Refresh(#[from] RefreshError),
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
}

/// Changes endpoints, secrets and catalogues. Every change runs to its end even when whoever asked for it is gone.
pub struct Admin {}

impl Admin {
    /// Makes an endpoint with a fresh secret; the very next event finds it.
    pub async fn create_endpoint(
        &self,
        tenant: TenantId,
        draft: EndpointDraft,
        by: By,
    ) -> Result<Endpoint, AdminError> {
        let _ = (tenant, draft, by);
        unimplemented!()
    }
    /// Changes an endpoint. After the answer nothing is sent to an old target, or to an endpoint that was deactivated.
    pub async fn update_endpoint(
        &self,
        tenant: TenantId,
        id: EndpointId,
        change: EndpointChange,
        by: By,
    ) -> Result<Option<Endpoint>, AdminError> {
        let _ = (tenant, id, change, by);
        unimplemented!()
    }
    /// Deletes an endpoint; `false` when there is none. After the answer nothing is sent to it.
    pub async fn delete_endpoint(
        &self,
        tenant: TenantId,
        id: EndpointId,
        by: By,
    ) -> Result<bool, AdminError> {
        let _ = (tenant, id, by);
        unimplemented!()
    }
    /// Shows an endpoint's current secret, and writes that to the audit log.
    pub async fn reveal_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        by: By,
    ) -> Result<Option<SigningSecret>, AdminError> {
        let _ = (tenant, endpoint, by);
        unimplemented!()
    }
    /// Expires an endpoint's secret. After the answer it signs nothing, unless it was given a grace.
    pub async fn expire_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        grace: Option<Duration>,
        by: By,
    ) -> Result<Option<Endpoint>, AdminError> {
        let _ = (tenant, endpoint, grace, by);
        unimplemented!()
    }
    /// Owes old events to an endpoint once more: all of them or none.
    pub async fn resend(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        events: Vec<EventId>,
        by: By,
    ) -> Result<Resent, AdminError> {
        let _ = (tenant, endpoint, events, by);
        unimplemented!()
    }
    /// Adds an event type, or offers a retired one again; `None` when it is already offered.
    pub async fn add_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        description: String,
        by: By,
    ) -> Result<Option<CatalogueEntry>, AdminError> {
        let _ = (tenant, event_type, description, by);
        unimplemented!()
    }
    /// Retires an event type; `false` when it is not offered.
    pub async fn retire_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        by: By,
    ) -> Result<bool, AdminError> {
        let _ = (tenant, event_type, by);
        unimplemented!()
    }
}
