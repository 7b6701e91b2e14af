//! What the fixtures of every engine hold: databases of every schema that was released, as the version of its time left
//! them. Where they are kept, and how they are opened or killed, is the engines' business.

use std::sync::Arc;

use postrider_kernel::{EventId, Next, TenantId};

use super::{
    World,
    world::{at, attempts_by, endpoints_by},
};
use crate::{AttemptField, ClaimLimit, EndpointField, IdKind, Lease, Store};

/// Events in each fixture: the first is delivered, the second waits for its retry, the third is in flight, and the last was
/// never tried.
const EVENTS: i64 = 4;

/// Fills an empty store.
pub(crate) async fn fill(store: Arc<dyn Store>) {
    let world = World::new(store);
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    for next in [Some(Next::Delivered), Some(Next::Retry(at(600))), None] {
        world.publish(tenant, &[endpoint], 1).await;
        let leased = world.claim_one(endpoint, 1, Lease(1)).await;
        if let Some(next) = next {
            let attempt = world.attempt(leased, 2, next).await;
            world.store.record(attempt).await.unwrap();
        }
    }
    world.publish(tenant, &[endpoint], 700).await;
}

/// Whether all that a fixture held is there, and can be worked on.
pub(crate) async fn holds_everything(store: &dyn Store) {
    store.check_health().await.unwrap();
    let tenant = store.tenants().await.unwrap()[0].clone();
    assert_eq!((tenant.id, tenant.name.as_str()), (TenantId::new(1), "default"));
    assert_eq!(store.event_types(tenant.id).await.unwrap().len(), 2);
    let endpoints = store.endpoints(tenant.id, endpoints_by(EndpointField::CreatedAt, false));
    let endpoints = endpoints.await.unwrap().items;
    assert_eq!(endpoints.len(), 1);
    let endpoint = endpoints[0].id;
    let attempts = store.attempts(tenant.id, endpoint, attempts_by(AttemptField::SentAt, false));
    assert_eq!(attempts.await.unwrap().count, 2);
    let events: Vec<_> = (1..=EVENTS).map(EventId::new).collect();
    assert_eq!(store.known_events(tenant.id, events.clone()).await.unwrap(), events);

    let lease = store.begin_life().await.unwrap();
    let all = ClaimLimit { count: 100, bytes: usize::MAX };
    let claim = store.claim_due(endpoint, at(1_000), all, lease).await.unwrap();
    let mut owed: Vec<_> = claim.deliveries.iter().map(|delivery| delivery.event).collect();
    owed.sort_unstable();
    assert_eq!(owed, events[1..], "all but the one that was delivered");
    assert!(claim.deliveries.iter().all(|delivery| !delivery.payload.is_empty()));
    let next = store.reserve_ids(IdKind::Event, 1).await.unwrap().start;
    assert_eq!(next, EVENTS + 1, "no identifier is given twice");
}
