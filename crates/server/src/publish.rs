//! Accepts an event: the payload once, the fan-out, one commit.

use std::sync::Arc;

use postrider_kernel::{Created, EventData, EventType, Timestamp};
use postrider_store::{IdempotencyKey, PublishAnswer, Result};

use crate::directory::TenantView;

/// An event as a publisher hands it in; its type was found in the tenant's catalogue.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// Its type.
    pub event_type: EventType,
    /// When it happened, where the publisher knows better than we do.
    pub created: Option<Created>,
    /// The publisher's own bytes.
    pub data: EventData<'a>,
    /// Makes a repeat harmless.
    pub idempotency: Option<IdempotencyKey>,
}

/// What became of it.
#[derive(Debug, PartialEq)]
pub enum Acceptance {
    /// It is on disk with all that it is owed to, now or since an earlier request with the same idempotency key.
    Accepted(PublishAnswer),
    /// An earlier request with this idempotency key had another body.
    KeyReused,
}

/// Accepts events.
pub struct Publisher {}

impl Publisher {
    /// Accepts an event of a tenant at `now`. It answers once the event and all that it is owed to is on disk.
    pub async fn publish(
        &self,
        tenant: &Arc<TenantView>,
        event: NewEvent<'_>,
        now: Timestamp,
    ) -> Result<Acceptance> {
        let _ = (tenant, event, now);
        unimplemented!()
    }
}
