//! The model's deliveries: owed, leased, settled.

use postrider_kernel::{DeliveryId, EndpointId, EventId, Timestamp, Trigger, delivery::Status};

use super::{KeptAnswer, KeptDelivery, KeptEvent, State, refused, repeats};
use crate::{
    Action, Actor, AttemptRecord, By, Claim, ClaimLimit, ClaimedDelivery, Lease, NewDelivery,
    Publication, Published, Recorded, Resend, Resent, Result, StoredDelivery,
};

impl State {
    pub(super) fn publish(&mut self, publication: Publication) -> Result<Published> {
        let place =
            publication.idempotency.as_ref().map(|key| (publication.tenant, key.key.clone()));
        if let (Some(place), Some(key)) = (&place, &publication.idempotency)
            && let Some(kept) = self.idempotency.get(place)
            && kept.kept_at >= key.not_before
        {
            let is_same = kept.request_hash == key.request_hash;
            return Ok(if is_same {
                Published::Repeat(kept.answer())
            } else {
                Published::KeyReused
            });
        }
        self.check_is_new(std::slice::from_ref(&publication))?;
        if let (Some(place), Some(key)) = (place, &publication.idempotency) {
            let kept = KeptAnswer {
                request_hash: key.request_hash,
                event: publication.event,
                event_type: publication.event_type.clone(),
                created: publication.created,
                endpoint_count: u32::try_from(publication.deliveries.len()).unwrap_or(u32::MAX),
                kept_at: publication.accepted_at,
            };
            self.idempotency.insert(place, kept);
        }
        self.keep(publication);
        Ok(Published::Fresh)
    }

    pub(super) fn publish_all(&mut self, publications: Vec<Publication>) -> Result<Published> {
        if publications.iter().any(|publication| publication.idempotency.is_some()) {
            return refused("one of many events has an idempotency key");
        }
        self.check_is_new(&publications)?;
        publications.into_iter().for_each(|publication| self.keep(publication));
        Ok(Published::Fresh)
    }

    /// Whether no event and no delivery of these is there already, or among them twice.
    fn check_is_new(&self, publications: &[Publication]) -> Result<()> {
        let events = || publications.iter().map(|publication| publication.event);
        let owed = || publications.iter().flat_map(|publication| self.owed(publication));
        if events().any(|event| self.events.contains_key(&event))
            || owed().any(|new| self.deliveries.contains_key(&new.id))
            || repeats(events())
            || repeats(owed().map(|new| new.id))
        {
            return refused("the event's or a delivery's id is there already");
        }
        Ok(())
    }

    /// The deliveries of an event to endpoints that are there.
    fn owed(&self, publication: &Publication) -> Vec<NewDelivery> {
        let is_there =
            |new: &&NewDelivery| self.endpoint(publication.tenant, new.endpoint).is_some();
        publication.deliveries.iter().filter(is_there).copied().collect()
    }

    /// Keeps an event and its deliveries, which are known to be new.
    fn keep(&mut self, publication: Publication) {
        for new in self.owed(&publication) {
            let delivery = KeptDelivery {
                tenant: publication.tenant,
                endpoint: new.endpoint,
                event: publication.event,
                trigger: Trigger::Schedule,
                status: if new.leased { Status::Leased } else { Status::Pending },
                attempts_made: 0,
                created_at: publication.accepted_at,
                due_at: publication.accepted_at,
                lease: new.leased.then_some(publication.lease),
                finished_at: None,
            };
            self.deliveries.insert(new.id, delivery);
        }
        let event = KeptEvent {
            tenant: publication.tenant,
            event_type: publication.event_type,
            accepted_at: publication.accepted_at,
            payload: publication.payload,
        };
        self.events.insert(publication.event, event);
    }

    pub(super) fn resend(&mut self, resend: &Resend, by: &By) -> Result<Resent> {
        match self.endpoint(resend.tenant, resend.endpoint) {
            None => return Ok(Resent::NoEndpoint),
            Some(endpoint) if !endpoint.is_active => return Ok(Resent::Inactive),
            Some(_) => {}
        }
        let unknown = |&&(event, _): &&(EventId, _)| !self.knows(resend.tenant, event);
        if let Some(&(event, _)) = resend.events.iter().find(unknown) {
            return Ok(Resent::UnknownEvent(event));
        }
        let ids = || resend.events.iter().map(|&(_, id)| id);
        if repeats(ids()) || ids().any(|id| self.deliveries.contains_key(&id)) {
            return refused("a delivery's id is there already");
        }
        for &(event, id) in &resend.events {
            let delivery = KeptDelivery {
                tenant: resend.tenant,
                endpoint: resend.endpoint,
                event,
                trigger: Trigger::Resend,
                status: Status::Pending,
                attempts_made: 0,
                created_at: by.at,
                due_at: by.at,
                lease: None,
                finished_at: None,
            };
            self.deliveries.insert(id, delivery);
        }
        let subject = format!("endpoint:{}", resend.endpoint);
        self.audit(resend.tenant, by, Action::Resent, subject)?;
        Ok(Resent::Done)
    }

    pub(super) fn claim_due(
        &mut self,
        endpoint: EndpointId,
        now: Timestamp,
        limit: ClaimLimit,
        lease: Lease,
    ) -> Claim {
        let takes = self
            .endpoints
            .get(&endpoint)
            .is_some_and(|kept| kept.deleted_at.is_none() && kept.endpoint.is_active);
        let mut due: Vec<(Timestamp, DeliveryId)> = self
            .pending(endpoint)
            .filter(|(_, delivery)| takes && delivery.due_at <= now)
            .map(|(id, delivery)| (delivery.due_at, id))
            .collect();
        due.sort();
        due.truncate(limit.count as usize);
        let mut bytes = 0;
        let fits = |id: &DeliveryId| {
            let is_first = bytes == 0;
            bytes += self.payload_length(*id);
            is_first || bytes <= limit.bytes
        };
        let taken: Vec<DeliveryId> = due.into_iter().map(|(_, id)| id).take_while(fits).collect();
        let deliveries = taken.into_iter().filter_map(|id| self.lease(id, lease)).collect();
        Claim { deliveries, next_due: self.earliest_due_if_live(endpoint) }
    }

    fn payload_length(&self, id: DeliveryId) -> usize {
        let event = self.deliveries.get(&id).and_then(|delivery| self.events.get(&delivery.event));
        event.map_or(0, |event| event.payload.len())
    }

    fn lease(&mut self, id: DeliveryId, lease: Lease) -> Option<ClaimedDelivery> {
        let delivery = self.deliveries.get_mut(&id)?;
        delivery.status = Status::Leased;
        delivery.lease = Some(lease);
        Some(ClaimedDelivery {
            id,
            tenant: delivery.tenant,
            endpoint: delivery.endpoint,
            event: delivery.event,
            payload: self.events.get(&delivery.event)?.payload.clone(),
            trigger: delivery.trigger,
            attempts_made: delivery.attempts_made,
            lease,
        })
    }

    pub(super) fn earliest_due_if_live(&self, endpoint: EndpointId) -> Option<Timestamp> {
        let kept = self.endpoints.get(&endpoint)?;
        if kept.deleted_at.is_some() { None } else { self.earliest_due(endpoint) }
    }

    pub(super) fn record(&mut self, attempt: AttemptRecord) -> Result<Recorded> {
        let endpoint_is_there = self.endpoint(attempt.tenant, attempt.endpoint).is_some();
        let Some(delivery) = self.deliveries.get_mut(&attempt.delivery) else {
            return Ok(Recorded::LeaseLost);
        };
        let is_ours = delivery.lease == Some(attempt.lease)
            && delivery.endpoint == attempt.endpoint
            && delivery.event == attempt.event;
        if !is_ours || !endpoint_is_there {
            return Ok(Recorded::LeaseLost);
        }
        if self.attempts.contains_key(&attempt.id) {
            return refused("the attempt's id is there already");
        }
        delivery.settle(&attempt);
        if attempt.deactivates_endpoint {
            self.deactivate(&attempt)?;
        }
        self.attempts.insert(attempt.id, attempt);
        Ok(Recorded::Done)
    }

    fn deactivate(&mut self, attempt: &AttemptRecord) -> Result<()> {
        let Some(endpoint) = self.endpoint_mut(attempt.tenant, attempt.endpoint) else {
            return Ok(());
        };
        if std::mem::replace(&mut endpoint.is_active, false) {
            endpoint.updated_at = attempt.settled_at;
            let by = By { actor: Actor::Service, address: None, at: attempt.settled_at };
            let subject = format!("endpoint:{}", attempt.endpoint);
            self.audit(attempt.tenant, &by, Action::EndpointDeactivated, subject)?;
        }
        Ok(())
    }
}

impl KeptDelivery {
    pub(super) fn stored(&self, id: DeliveryId) -> StoredDelivery {
        StoredDelivery {
            id,
            endpoint: self.endpoint,
            status: self.status,
            trigger: self.trigger,
            attempts_made: self.attempts_made,
            created_at: self.created_at,
            due_at: (self.status == Status::Pending).then_some(self.due_at),
            finished_at: self.finished_at,
        }
    }

    pub(super) fn free(&mut self) {
        self.status = Status::Pending;
        self.lease = None;
    }

    fn settle(&mut self, attempt: &AttemptRecord) {
        self.lease = None;
        self.attempts_made = attempt.attempt_number;
        self.status = attempt.status();
        self.due_at = attempt.next.retry_at().unwrap_or(self.due_at);
        self.finished_at = attempt.finished_at();
    }
}
