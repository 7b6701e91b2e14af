//! Accepts events, one or many at once: each payload once, the fan-out, one commit.
//!
//! A delivery whose lane has room begins leased to this process and goes into the lane as soon as the commit is on disk;
//! the others begin pending, and are claimed later.

use std::{collections::BTreeMap, ops::Range, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use postrider_kernel::{
    Created, DeliveryId, EndpointId, EventData, EventId, EventType, Timestamp, Trigger, event,
};
use postrider_store::{
    ClaimedDelivery, IdKind, IdempotencyKey, Lease, NewDelivery, Publication, PublishAnswer,
    Published, Result, StoreError,
};
use tokio::runtime::Handle;

use crate::{
    deliver::Deliverer,
    directory::TenantView,
    disk::Reserve,
    dispatch::{Note, Stray},
    lanes::{Lane, Lanes, Refill, Slot},
    vault::Vault,
};

/// How long a publisher is slowed down, at most.
const PATIENCE: Duration = Duration::from_millis(250);

/// How often a publication is tried while the directory changes under it.
const TRIES: u32 = 5;

/// An event as a publisher hands it in; its type was found in the tenant's catalogue.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// Its type.
    pub event_type: EventType,
    /// When it happened, where the publisher knows better than we do.
    pub created: Option<Created>,
    /// The publisher's own bytes.
    pub data: EventData<'a>,
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
    /// What must be left of the disk.
    pub reserve: Arc<Reserve>,
    /// Opens secrets when the directory is refreshed.
    pub vault: Arc<Vault>,
}

impl Publisher {
    /// Accepts an event of a tenant at `now`; a key makes a repeat harmless. It answers once the event and all that it is
    /// owed to is on disk.
    ///
    /// # Errors
    /// When the store can't keep it: then nothing of it was kept.
    pub async fn publish(
        &self,
        tenant: &Arc<TenantView>,
        event: NewEvent<'_>,
        idempotency: Option<IdempotencyKey>,
        now: Timestamp,
    ) -> Result<Acceptance> {
        self.catch_up(tenant, &event.event_type).await;
        let mut tenant = tenant.clone();
        for _ in 0..TRIES {
            let mut ids = self.reserve_ids(&tenant, std::slice::from_ref(&event)).await?;
            let mut handoff = self.begin(now);
            let mut publication = self.prepare(&tenant, &event, &mut ids, &mut handoff)?;
            publication.idempotency = idempotency.clone();
            let answer = answer_of(&publication);
            let Deliverer { store, clock, metrics, .. } = &*self.deliverer;
            let (store, clock, metrics) = (store.clone(), clock.clone(), metrics.clone());
            let kept = async move {
                let publish = store.publish(publication);
                handoff.settle(metrics.publish(&*clock, 1, publish).await)
            };
            match to_its_end(kept).await? {
                Published::Fresh => return Ok(Acceptance::Accepted(answer)),
                Published::Stale => tenant = self.look_again(&tenant).await?,
                Published::Repeat(earlier) => return Ok(Acceptance::Accepted(earlier)),
                Published::KeyReused => return Ok(Acceptance::KeyReused),
            }
        }
        Err(stale_directory())
    }

    /// Accepts many events of a tenant at `now`, all or none. It answers, in their order, once all of them and all that
    /// they are owed to is on disk.
    ///
    /// # Errors
    /// When the store can't keep them: then nothing of any of them was kept.
    pub async fn publish_all(
        &self,
        tenant: &Arc<TenantView>,
        events: Vec<NewEvent<'_>>,
        now: Timestamp,
    ) -> Result<Vec<PublishAnswer>> {
        if let Some(first) = events.first() {
            // A bulk waits once, not once for each of its events.
            self.catch_up(tenant, &first.event_type).await;
        }
        let mut tenant = tenant.clone();
        for _ in 0..TRIES {
            let mut ids = self.reserve_ids(&tenant, &events).await?;
            let mut handoff = self.begin(now);
            let mut publications = Vec::with_capacity(events.len());
            for event in &events {
                publications.push(self.prepare(&tenant, event, &mut ids, &mut handoff)?);
            }
            let answers = publications.iter().map(answer_of).collect();
            let Deliverer { store, clock, metrics, .. } = &*self.deliverer;
            let (store, clock, metrics) = (store.clone(), clock.clone(), metrics.clone());
            let kept = async move {
                let (count, publish) = (publications.len(), store.publish_all(publications));
                handoff.settle(metrics.publish(&*clock, count, publish).await)
            };
            if to_its_end(kept).await? != Published::Stale {
                return Ok(answers);
            }
            tenant = self.look_again(&tenant).await?;
        }
        Err(stale_directory())
    }

    /// Another node changed the directory since this view of a tenant was read: here is a newer one.
    async fn look_again(&self, tenant: &TenantView) -> Result<Arc<TenantView>> {
        let Deliverer { store, directory, .. } = &*self.deliverer;
        directory.refresh_after(tenant.version, tenant.id, &**store, &self.vault).await?;
        directory.snapshot().tenant(tenant.id).cloned().ok_or_else(stale_directory)
    }

    /// Slows a publisher down while this machine delivers less than it accepts, for a moment at most: what waits longer
    /// than that waits in the store.
    async fn catch_up(&self, tenant: &TenantView, event_type: &EventType) {
        let lanes = async {
            for &endpoint in tenant.subscribers(event_type) {
                self.lanes.lane(tenant.id, endpoint).catch_up().await;
            }
        };
        let mut lanes = std::pin::pin!(lanes);
        if futures_util::poll!(&mut lanes).is_pending() {
            tokio::select! {
                biased;
                () = lanes => {}
                () = self.deliverer.clock.sleep(PATIENCE) => {
                    for &endpoint in tenant.subscribers(event_type) {
                        self.lanes.lane(tenant.id, endpoint).give_up_waiting();
                    }
                }
            }
        }
    }

    /// Takes the identifiers that these events and their deliveries will have.
    async fn reserve_ids(&self, tenant: &TenantView, events: &[NewEvent<'_>]) -> Result<Reserved> {
        if self.reserve.is_reached() {
            return Err(StoreError::Unavailable("the disk is nearly full".into()));
        }
        let fan_out = |event: &NewEvent<'_>| tenant.subscribers(&event.event_type).len();
        let deliveries = count(events.iter().map(fan_out).sum())?;
        Ok(Reserved {
            events: self.deliverer.ids.take(IdKind::Event, count(events.len())?).await?,
            deliveries: self.deliverer.ids.take(IdKind::Delivery, deliveries).await?,
        })
    }

    fn begin(&self, now: Timestamp) -> Handoff {
        let deliverer = self.deliverer.clone();
        let lease = deliverer.life.lease();
        let may_sign = deliverer.life.has_right(&*deliverer.clock);
        Handoff { deliverer, now, lease, may_sign, owed: Vec::new() }
    }

    /// Builds an event's payload, chooses to whom it is owed, and asks their lanes for room.
    fn prepare(
        &self,
        tenant: &TenantView,
        event: &NewEvent<'_>,
        ids: &mut Reserved,
        handoff: &mut Handoff,
    ) -> Result<Publication> {
        let id = EventId::new(ids.events.next().ok_or_else(too_few_ids)?);
        let created = event.created.unwrap_or_else(|| Created::at(handoff.now));
        let payload = event::payload(id, &event.event_type, created, event.data);
        let subscribers = tenant.subscribers(&event.event_type);
        let mut deliveries = Vec::with_capacity(subscribers.len());
        handoff.owed.reserve(subscribers.len());
        for &endpoint in subscribers {
            let delivery = DeliveryId::new(ids.deliveries.next().ok_or_else(too_few_ids)?);
            let lane = self.lanes.lane(tenant.id, endpoint);
            let slot = if handoff.may_sign { lane.reserve(payload.len()) } else { None };
            deliveries.push(NewDelivery { id: delivery, endpoint, leased: slot.is_some() });
            handoff.owed.push(Owed { lane, slot, delivery, event: id, payload: payload.clone() });
        }
        Ok(Publication {
            event: id,
            tenant: tenant.id,
            event_type: event.event_type.clone(),
            created,
            accepted_at: handoff.now,
            payload,
            deliveries,
            lease: handoff.lease,
            idempotency: None,
            directory: tenant.version,
        })
    }
}

/// Identifiers that were taken and not used yet.
struct Reserved {
    events: Range<i64>,
    deliveries: Range<i64>,
}

fn too_few_ids() -> StoreError {
    StoreError::Inconsistent("fewer identifiers were reserved than events need".into())
}

fn stale_directory() -> StoreError {
    StoreError::Unavailable(
        "the directory changes faster than events can be fanned out by it".into(),
    )
}

fn count(number: usize) -> Result<u32> {
    u32::try_from(number)
        .map_err(|_| StoreError::Inconsistent("more deliveries than can be counted".into()))
}

/// What the publisher is told once a publication is kept.
fn answer_of(publication: &Publication) -> PublishAnswer {
    PublishAnswer {
        event: publication.event,
        event_type: publication.event_type.clone(),
        created: publication.created,
        // The identifiers of the deliveries were counted in 32 bits.
        endpoint_count: u32::try_from(publication.deliveries.len()).unwrap_or(u32::MAX),
    }
}

/// Runs what was begun to its end, though a publisher that hangs up makes its request's future vanish: a publication that
/// is on its way can't be called back, and what it leases must find whoever works on it.
async fn to_its_end<T: Send + 'static>(begun: impl Future<Output = T> + Send + 'static) -> T {
    let mut rest = Rest(Some(begun.boxed()));
    std::future::poll_fn(|context| {
        let Some(begun) = &mut rest.0 else { return Poll::Pending };
        let ended = begun.poll_unpin(context);
        if ended.is_ready() {
            rest.0 = None;
        }
        ended
    })
    .await
}

/// What is left of something that was begun; dropped early, it becomes a task of its own.
struct Rest<T: Send + 'static>(Option<BoxFuture<'static, T>>);

impl<T: Send + 'static> Drop for Rest<T> {
    fn drop(&mut self) {
        // Without a runtime the process ends, and the next life looks after what was leased.
        if let Some(begun) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(begun);
        }
    }
}

/// One delivery of an event that is being published.
struct Owed {
    lane: Arc<Lane>,
    slot: Option<Slot>,
    delivery: DeliveryId,
    event: EventId,
    payload: Bytes,
}

/// Sees to it that what was leased is worked on, whatever becomes of the publication.
///
/// When the store failed, nobody knows whether it keeps the event; so whoever drops an uncompleted handoff reports its
/// deliveries as strays. They are given back, which is nothing where there is nothing.
struct Handoff {
    deliverer: Arc<Deliverer>,
    now: Timestamp,
    lease: Lease,
    /// Whether it could be attempted here at once; else all of it begins pending, for whoever can.
    may_sign: bool,
    owed: Vec<Owed>,
}

impl Handoff {
    /// Does what follows from the store's answer, and passes it on.
    fn settle(self, published: Result<Published>) -> Result<Published> {
        match &published {
            Ok(Published::Fresh) => self.complete(),
            Ok(_) => self.release(),
            Err(_) => {}
        }
        published
    }

    /// Gives up the room that was asked for. A claim may have found a lane without any meanwhile, and counts on whoever had
    /// it to ask again.
    fn release(mut self) {
        for Owed { lane, slot, .. } in self.owed.drain(..) {
            drop(slot);
            if lane.wants_more() == Refill::Claim {
                self.deliverer.notes.send(Note::Due(lane.tenant, lane.endpoint, self.now));
            }
        }
    }

    fn complete(mut self) {
        let mut without_room = BTreeMap::<EndpointId, Arc<Lane>>::new();
        for Owed { lane, slot, delivery, event, payload } in self.owed.drain(..) {
            let Some(slot) = slot else {
                without_room.insert(lane.endpoint, lane);
                continue;
            };
            slot.fill(ClaimedDelivery {
                id: delivery,
                tenant: lane.tenant,
                endpoint: lane.endpoint,
                event,
                payload,
                trigger: Trigger::Schedule,
                attempts_made: 0,
                lease: self.lease,
            });
            self.deliverer.attend(&lane, 1);
        }
        // However many events found no room in a lane, it is told once.
        for lane in without_room.into_values() {
            lane.note_backlog();
            self.deliverer.notes.send(Note::Due(lane.tenant, lane.endpoint, self.now));
        }
    }
}

impl Drop for Handoff {
    fn drop(&mut self) {
        let mut without_room = BTreeMap::<EndpointId, Arc<Lane>>::new();
        let mut strays = Vec::new();
        for Owed { lane, slot, delivery, .. } in self.owed.drain(..) {
            let (tenant, endpoint) = (lane.tenant, lane.endpoint);
            match slot {
                Some(_) => strays.push(Stray { tenant, endpoint, delivery, lease: self.lease }),
                None => drop(without_room.insert(endpoint, lane)),
            }
        }
        for lane in without_room.into_values() {
            self.deliverer.notes.send(Note::Due(lane.tenant, lane.endpoint, self.now));
        }
        if !strays.is_empty() {
            self.deliverer.notes.send(Note::Strays(strays));
        }
    }
}
