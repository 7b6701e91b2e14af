//! Accepts an event: the payload once, the fan-out, one commit.
//!
//! A delivery whose lane has room begins leased to this process and goes into the lane as soon as the commit is on disk;
//! the others begin pending, and are claimed later.

use std::sync::Arc;

use postrider_kernel::{
    Created, DeliveryId, EventData, EventId, EventType, Timestamp, Trigger, event,
};
use postrider_store::{
    ClaimedDelivery, IdKind, IdempotencyKey, NewDelivery, Publication, PublishAnswer, Published,
    Result,
};

use crate::{
    deliver::Deliverer,
    directory::TenantView,
    dispatch::{Note, Stray},
    lanes::{Lane, Lanes, Slot},
};

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
pub struct Publisher {
    /// Carries what can be carried at once.
    pub deliverer: Arc<Deliverer>,
    /// Where deliveries wait.
    pub lanes: Arc<Lanes>,
}

impl Publisher {
    /// Accepts an event of a tenant at `now`. It answers once the event and all that it is owed to is on disk.
    ///
    /// # Errors
    /// When the store can't keep it: then nothing of it was kept.
    pub async fn publish(
        &self,
        tenant: &TenantView,
        event: NewEvent<'_>,
        now: Timestamp,
    ) -> Result<Acceptance> {
        let subscribers = tenant.subscribers(&event.event_type);
        let count = u32::try_from(subscribers.len()).unwrap_or(u32::MAX);
        let id = EventId::new(self.deliverer.ids.next(IdKind::Event).await?);
        let delivery_ids = self.deliverer.ids.take(IdKind::Delivery, count).await?;
        let created = event.created.unwrap_or_else(|| Created::at(now));
        let payload = event::payload(id, &event.event_type, created, event.data);

        let mut handoff = Handoff {
            deliverer: self.deliverer.clone(),
            now,
            owed: Vec::with_capacity(subscribers.len()),
        };
        for (&endpoint, delivery) in subscribers.iter().zip(delivery_ids) {
            let lane = self.lanes.lane(tenant.id, endpoint);
            let slot = lane.reserve(payload.len());
            handoff.owed.push(Owed { lane, slot, delivery: DeliveryId::new(delivery) });
        }
        let publication = Publication {
            event: id,
            tenant: tenant.id,
            event_type: event.event_type.clone(),
            created,
            accepted_at: now,
            payload: payload.clone(),
            deliveries: handoff.owed.iter().map(Owed::to_keep).collect(),
            lease: self.deliverer.lease,
            idempotency: event.idempotency,
        };
        match self.deliverer.store.publish(publication).await? {
            Published::Fresh => {
                handoff.complete(id, &payload);
                let event_type = event.event_type;
                Ok(Acceptance::Accepted(PublishAnswer {
                    event: id,
                    event_type,
                    created,
                    endpoint_count: count,
                }))
            }
            Published::Repeat(earlier) => {
                handoff.owed.clear();
                Ok(Acceptance::Accepted(earlier))
            }
            Published::KeyReused => {
                handoff.owed.clear();
                Ok(Acceptance::KeyReused)
            }
        }
    }
}

/// One delivery of the event that is being published.
struct Owed {
    lane: Arc<Lane>,
    slot: Option<Slot>,
    delivery: DeliveryId,
}

impl Owed {
    fn to_keep(&self) -> NewDelivery {
        NewDelivery { id: self.delivery, endpoint: self.lane.endpoint, leased: self.slot.is_some() }
    }
}

/// Sees to it that what was leased is worked on, whatever becomes of the request.
///
/// A publisher that hangs up makes its request's future vanish, perhaps after the commit. What was leased by then would
/// wait for the next start; so whoever drops an uncompleted handoff reports its deliveries as strays.
struct Handoff {
    deliverer: Arc<Deliverer>,
    now: Timestamp,
    owed: Vec<Owed>,
}

impl Handoff {
    fn complete(mut self, event: EventId, payload: &bytes::Bytes) {
        for Owed { lane, slot, delivery } in self.owed.drain(..) {
            let Some(slot) = slot else {
                lane.note_backlog();
                self.deliverer.notes.send(Note::Due(lane.tenant, lane.endpoint, self.now));
                continue;
            };
            slot.fill(ClaimedDelivery {
                id: delivery,
                tenant: lane.tenant,
                endpoint: lane.endpoint,
                event,
                payload: payload.clone(),
                trigger: Trigger::Schedule,
                attempts_made: 0,
            });
            self.deliverer.attend(&lane, 1);
        }
    }
}

impl Drop for Handoff {
    fn drop(&mut self) {
        let mut strays = Vec::new();
        for Owed { lane, slot, delivery } in self.owed.drain(..) {
            let (tenant, endpoint) = (lane.tenant, lane.endpoint);
            match slot {
                Some(_) => strays.push(Stray { tenant, endpoint, delivery }),
                None => self.deliverer.notes.send(Note::Due(tenant, endpoint, self.now)),
            }
        }
        if !strays.is_empty() {
            self.deliverer.notes.send(Note::Strays(strays));
        }
    }
}
