//! A store with shorthands for what most cases need: a tenant, an endpoint, an event that is owed, an attempt.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use postrider_kernel::{
    AttemptId, Created, DeliveryId, EndpointId, EventId, EventType, Failure, Next, SecretId,
    Target, TenantId, Timestamp, Trigger, attempt::Cause, signature::SignatureAlgorithms,
};

use crate::{
    Actor, AttemptField, AttemptQuery, AttemptRecord, By, ClaimLimit, EndpointField, EndpointQuery,
    IdKind, Lease, NewDelivery, NewEndpoint, NewSecret, NewTenant, OrderBy, Publication, Published,
    Purge, Sealed, Store,
};

/// A store, and shorthands.
pub struct World {
    /// The store itself.
    pub store: Arc<dyn Store>,
}

/// That many seconds after the world began.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + seconds * 1_000_000)
}

/// The command line, that many seconds after the world began.
pub fn by(seconds: i64) -> By {
    By { actor: Actor::CommandLine, address: None, at: at(seconds) }
}

pub fn event_type(name: &str) -> EventType {
    EventType::parse(name).unwrap()
}

pub fn target(text: &str) -> Target {
    Target::parse(text).unwrap()
}

/// A ciphertext that tells its secret.
pub fn sealed(id: i64) -> Sealed {
    Sealed(format!("sealed {id}").into_bytes())
}

/// The first hundred, by one field.
pub fn attempts_by(field: AttemptField, descending: bool) -> AttemptQuery {
    AttemptQuery { ordering: vec![OrderBy { field, descending }], limit: 100, offset: 0 }
}

/// The first hundred, by one field.
pub fn endpoints_by(field: EndpointField, descending: bool) -> EndpointQuery {
    let ordering = vec![OrderBy { field, descending }];
    EndpointQuery { target_contains: None, ordering, limit: 100, offset: 0 }
}

/// A purge that drops nothing.
pub fn purge_nothing() -> Purge {
    let beginning = Timestamp::from_micros(0);
    Purge {
        attempts_before: beginning,
        idempotency_before: beginning,
        deleted_before: beginning,
        grace_before: beginning,
        audit_before: beginning,
    }
}

/// A delivery that a case leased, to make attempts of.
#[derive(Clone, Copy, Debug)]
pub struct Leased {
    pub tenant: TenantId,
    pub endpoint: EndpointId,
    pub event: EventId,
    pub delivery: DeliveryId,
    pub lease: Lease,
}

impl World {
    /// A world of this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The next free identifier.
    pub async fn id(&self, kind: IdKind) -> i64 {
        self.store.reserve_ids(kind, 1).await.unwrap().start
    }

    /// A tenant that offers `post.created` and `post.deleted`.
    pub async fn tenant(&self, name: &str) -> TenantId {
        let id = TenantId::new(self.id(IdKind::Tenant).await);
        let catalogue =
            ["post.created", "post.deleted"].map(|name| (event_type(name), String::new())).into();
        let tenant = NewTenant { id, name: name.into(), jwt_secret: sealed(0), catalogue };
        assert!(self.store.create_tenant(tenant, by(0)).await.unwrap());
        id
    }

    pub async fn new_endpoint(&self, tenant: TenantId, url: &str) -> NewEndpoint {
        NewEndpoint {
            id: EndpointId::new(self.id(IdKind::Endpoint).await),
            tenant,
            is_active: true,
            target: target(url),
            description: String::new(),
            event_types: vec![event_type("post.created")],
            ssl_cert_verification: true,
            signature_algorithms: SignatureAlgorithms::Hmac,
            secret: self.new_secret().await,
        }
    }

    pub async fn new_secret(&self) -> NewSecret {
        let id = self.id(IdKind::Secret).await;
        NewSecret {
            id: SecretId::new(id),
            sealed: sealed(id),
            sealed_key: Some(sealed(-id)),
            is_brought: false,
        }
    }

    /// An active endpoint that enables `post.created`.
    pub async fn endpoint(&self, tenant: TenantId) -> EndpointId {
        let endpoint = self.new_endpoint(tenant, "https://receiver.example/hooks").await;
        self.store.create_endpoint(endpoint, by(0)).await.unwrap().id
    }

    /// A `post.created` that is owed to these endpoints, pending.
    pub async fn publication(
        &self,
        tenant: TenantId,
        endpoints: &[EndpointId],
        accepted: i64,
    ) -> Publication {
        let event = EventId::new(self.id(IdKind::Event).await);
        let mut deliveries = Vec::new();
        for &endpoint in endpoints {
            let id = DeliveryId::new(self.id(IdKind::Delivery).await);
            deliveries.push(NewDelivery { id, endpoint, leased: false });
        }
        Publication {
            event,
            tenant,
            event_type: event_type("post.created"),
            created: Created::at(at(accepted)),
            accepted_at: at(accepted),
            payload: Bytes::from(format!("payload of {event}")),
            deliveries,
            lease: Lease(0),
            idempotency: None,
            directory: self.store.directory_version().await.unwrap(),
        }
    }

    /// Publishes an event that is owed to these endpoints, pending.
    pub async fn publish(
        &self,
        tenant: TenantId,
        endpoints: &[EndpointId],
        accepted: i64,
    ) -> (EventId, Vec<DeliveryId>) {
        let publication = self.publication(tenant, endpoints, accepted).await;
        let (event, deliveries) = (publication.event, publication.deliveries.clone());
        assert_eq!(self.store.publish(publication).await.unwrap(), Published::Fresh);
        (event, deliveries.into_iter().map(|delivery| delivery.id).collect())
    }

    /// Claims the one delivery of an endpoint that is due then.
    pub async fn claim_one(&self, endpoint: EndpointId, seconds: i64, lease: Lease) -> Leased {
        let claim =
            self.store.claim_due(endpoint, at(seconds), ClaimLimit::count(1), lease).await.unwrap();
        let claimed = claim.deliveries.first().expect("a delivery is due");
        Leased {
            tenant: claimed.tenant,
            endpoint,
            event: claimed.event,
            delivery: claimed.id,
            lease,
        }
    }

    /// An attempt of a leased delivery, sent and settled at that second: a 200 that delivers, or a timeout.
    pub async fn attempt(&self, leased: Leased, seconds: i64, next: Next) -> AttemptRecord {
        let response = match next {
            Next::Delivered => Ok((200, b"ok".to_vec())),
            Next::Retry(_) | Next::Failed => Err(Failure::new(Cause::Timeout, "no answer")),
        };
        AttemptRecord {
            id: AttemptId::new(self.id(IdKind::Attempt).await),
            tenant: leased.tenant,
            endpoint: leased.endpoint,
            event: leased.event,
            delivery: leased.delivery,
            lease: leased.lease,
            attempt_number: 1,
            trigger: Trigger::Schedule,
            sent_at: at(seconds),
            duration: Duration::from_millis(7),
            peer_address: Some("192.0.2.1:443".into()),
            signature: "t=1,v1=00".into(),
            response,
            settled_at: at(seconds),
            next,
            deactivates_endpoint: false,
        }
    }

    /// Publishes an event to one endpoint, and delivers it at that second.
    pub async fn deliver(&self, tenant: TenantId, endpoint: EndpointId, seconds: i64) -> AttemptId {
        self.publish(tenant, &[endpoint], seconds).await;
        let leased = self.claim_one(endpoint, seconds, Lease(1)).await;
        let attempt = self.attempt(leased, seconds, Next::Delivered).await;
        let id = attempt.id;
        self.store.record(attempt).await.unwrap();
        id
    }

    /// Calls until nothing is left to purge; answers how many rows went.
    pub async fn purge(&self, purge: Purge) -> u64 {
        let mut rows = 0;
        loop {
            match self.store.purge(purge, 3).await.unwrap() {
                0 => return rows,
                some => rows += some,
            }
            assert!(rows < 100_000, "a purge comes to its end");
        }
    }

    /// The ids of a page of attempts.
    pub async fn attempt_ids(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        query: AttemptQuery,
    ) -> Vec<i64> {
        let page = self.store.attempts(tenant, endpoint, query).await.unwrap();
        page.items.into_iter().map(|attempt| attempt.id.get()).collect()
    }

    /// What the audit log says of a subject.
    pub async fn actions(&self, tenant: TenantId, subject: &str) -> Vec<String> {
        let log = self.store.audit(tenant).await.unwrap();
        log.into_iter().filter(|line| line.subject == subject).map(|line| line.action).collect()
    }
}
