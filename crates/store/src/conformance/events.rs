//! Publishing and resending.

use postrider_kernel::{Created, DeliveryId, EndpointId, EventId, Next, Trigger, delivery::Status};

use super::{
    World,
    world::{at, by, event_type, purge_nothing},
};
use crate::{
    ClaimLimit, EndpointChange, IdKind, IdempotencyKey, Lease, Page, PublishAnswer, Published,
    Purge, Resend, Resent, StoreError, StoredDelivery,
};

fn key(text: &str, body: u8, not_before: i64) -> Option<IdempotencyKey> {
    let (key, request_hash) = (text.into(), [body; 32]);
    Some(IdempotencyKey { key, request_hash, not_before: at(not_before) })
}

impl World {
    /// How many deliveries of an endpoint can be claimed, ever.
    async fn owed(&self, endpoint: EndpointId) -> usize {
        let claim = self
            .store
            .claim_due(endpoint, at(1_000_000), ClaimLimit::count(1000), Lease(77))
            .await
            .unwrap();
        let ids: Vec<_> = claim.deliveries.iter().map(|delivery| delivery.id).collect();
        self.store.give_back(ids.clone(), Lease(77)).await.unwrap();
        ids.len()
    }

    async fn delivery_id(&self) -> DeliveryId {
        DeliveryId::new(self.id(IdKind::Delivery).await)
    }
}

pub async fn a_published_event_is_owed_to_its_endpoints(world: World) {
    let tenant = world.tenant("default").await;
    let (first, second) = (world.endpoint(tenant).await, world.endpoint(tenant).await);
    let (event, deliveries) = world.publish(tenant, &[first, second], 5).await;
    for (endpoint, id) in [first, second].into_iter().zip(deliveries) {
        let early =
            world.store.claim_due(endpoint, at(4), ClaimLimit::count(9), Lease(1)).await.unwrap();
        assert_eq!((early.deliveries, early.next_due), (vec![], Some(at(5))));
        let claim =
            world.store.claim_due(endpoint, at(5), ClaimLimit::count(9), Lease(1)).await.unwrap();
        assert_eq!((claim.deliveries.len(), claim.next_due), (1, None));
        let claimed = &claim.deliveries[0];
        assert_eq!((claimed.id, claimed.event), (id, event));
        assert_eq!((claimed.tenant, claimed.endpoint), (tenant, endpoint));
        assert_eq!((claimed.trigger, claimed.attempts_made), (Trigger::Schedule, 0));
        assert_eq!(claimed.payload, format!("payload of {event}"));
    }
    let (other, _) = world.publish(tenant, &[], 6).await;
    let asked = vec![other, EventId::new(99), event];
    assert_eq!(world.store.known_events(tenant, asked).await.unwrap(), [other, event]);
    let theirs = world.tenant("theirs").await;
    assert_eq!(world.store.known_events(theirs, vec![event]).await.unwrap(), []);
}

pub async fn a_fresh_delivery_may_begin_leased(world: World) {
    let tenant = world.tenant("default").await;
    let (first, second) = (world.endpoint(tenant).await, world.endpoint(tenant).await);
    let mut publication = world.publication(tenant, &[first, second], 5).await;
    publication.lease = Lease(3);
    publication.deliveries[0].leased = true;
    let leased = publication.deliveries[0].id;
    world.store.publish(publication).await.unwrap();
    assert_eq!((world.owed(first).await, world.owed(second).await), (0, 1));
    world.store.give_back(vec![leased], Lease(3)).await.unwrap();
    assert_eq!(world.owed(first).await, 1);
}

pub async fn a_repeat_with_the_same_key_answers_as_the_first_time(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let mut first = world.publication(tenant, &[endpoint], 5).await;
    first.idempotency = key("k", 1, 0);
    first.created = Created::from_seconds(1625471209.139224).unwrap();
    let event = first.event;
    assert_eq!(world.store.publish(first.clone()).await.unwrap(), Published::Fresh);

    let mut second = world.publication(tenant, &[], 9).await;
    second.event_type = event_type("post.deleted");
    second.idempotency = key("k", 1, 5);
    let answer = PublishAnswer {
        event,
        event_type: first.event_type,
        created: first.created,
        endpoint_count: 1,
    };
    let asked = vec![second.event];
    assert_eq!(world.store.publish(second).await.unwrap(), Published::Repeat(answer));
    assert_eq!(world.store.known_events(tenant, asked).await.unwrap(), []);
    assert_eq!(world.owed(endpoint).await, 1);
}

pub async fn a_key_with_another_body_is_refused(world: World) {
    let tenant = world.tenant("default").await;
    let mut first = world.publication(tenant, &[], 5).await;
    first.idempotency = key("k", 1, 0);
    world.store.publish(first).await.unwrap();
    let mut second = world.publication(tenant, &[], 6).await;
    second.idempotency = key("k", 2, 0);
    let asked = vec![second.event];
    assert_eq!(world.store.publish(second).await.unwrap(), Published::KeyReused);
    assert_eq!(world.store.known_events(tenant, asked).await.unwrap(), []);
}

pub async fn a_key_that_no_longer_counts_is_replaced(world: World) {
    let tenant = world.tenant("default").await;
    for (accepted, not_before, body) in [(5, 0, 1), (90, 6, 2)] {
        let mut publication = world.publication(tenant, &[], accepted).await;
        publication.idempotency = key("k", body, not_before);
        assert_eq!(world.store.publish(publication).await.unwrap(), Published::Fresh);
    }
    let mut repeat = world.publication(tenant, &[], 91).await;
    repeat.idempotency = key("k", 2, 90);
    let Published::Repeat(answer) = world.store.publish(repeat).await.unwrap() else {
        panic!("the newer key counts")
    };
    assert_eq!(answer.event, EventId::new(2));
}

pub async fn tenants_have_keys_of_their_own(world: World) {
    for name in ["ours", "theirs"] {
        let tenant = world.tenant(name).await;
        let mut publication = world.publication(tenant, &[], 5).await;
        publication.idempotency = key("k", 1, 0);
        assert_eq!(world.store.publish(publication).await.unwrap(), Published::Fresh);
    }
}

pub async fn nothing_is_owed_to_an_endpoint_that_is_gone(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let (deleted, foreign) = (world.endpoint(ours).await, world.endpoint(theirs).await);
    let live = world.endpoint(ours).await;
    world.store.delete_endpoint(ours, deleted, by(1)).await.unwrap();
    let endpoints = [deleted, foreign, EndpointId::new(99), live];
    let (event, _) = world.publish(ours, &endpoints, 5).await;
    assert_eq!(world.store.known_events(ours, vec![event]).await.unwrap(), [event]);
    assert_eq!(world.store.earliest_due().await.unwrap(), [(ours, live, at(5))]);
    // So an event that was for those alone is kept by nobody.
    let (event, _) = world.publish(ours, &endpoints[..3], 5).await;
    let purge = Purge { attempts_before: at(6), ..purge_nothing() };
    assert_eq!(world.purge(purge).await, 1);
    assert_eq!(world.store.known_events(ours, vec![event]).await.unwrap(), []);
}

pub async fn an_event_is_published_once_or_not_at_all(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let (event, deliveries) = world.publish(tenant, &[endpoint], 5).await;
    let mut same_event = world.publication(tenant, &[endpoint], 6).await;
    same_event.event = event;
    let mut same_delivery = world.publication(tenant, &[endpoint], 6).await;
    same_delivery.deliveries[0].id = deliveries[0];
    same_delivery.idempotency = key("k", 1, 0);
    let asked = vec![same_delivery.event];
    for publication in [same_event, same_delivery] {
        let refused = world.store.publish(publication).await;
        assert!(matches!(refused, Err(StoreError::Inconsistent(_))), "{refused:?}");
    }
    assert_eq!(world.store.known_events(tenant, asked).await.unwrap(), []);
    assert_eq!(world.owed(endpoint).await, 1);
    let mut fresh = world.publication(tenant, &[], 7).await;
    fresh.idempotency = key("k", 2, 0);
    assert_eq!(world.store.publish(fresh).await.unwrap(), Published::Fresh);
}

pub async fn many_events_are_kept_in_one_go_in_their_order(world: World) {
    let tenant = world.tenant("default").await;
    let (first, second) = (world.endpoint(tenant).await, world.endpoint(tenant).await);
    let mut all = Vec::new();
    for endpoints in [&[first, second][..], &[first], &[], &[first, EndpointId::new(99)]] {
        all.push(world.publication(tenant, endpoints, 5).await);
    }
    all[1].lease = Lease(3);
    all[1].deliveries[0].leased = true;
    let leased = all[1].deliveries[0].id;
    let events: Vec<_> = all.iter().map(|publication| publication.event).collect();
    world.store.publish_all(all).await.unwrap();
    assert_eq!(world.store.known_events(tenant, events.clone()).await.unwrap(), events);
    assert_eq!((world.owed(first).await, world.owed(second).await), (2, 1));
    world.store.give_back(vec![leased], Lease(3)).await.unwrap();
    let claim = world.store.claim_due(first, at(5), ClaimLimit::count(9), Lease(1)).await.unwrap();
    let claimed: Vec<_> = claim.deliveries.iter().map(|delivery| delivery.event).collect();
    assert_eq!(claimed, [events[0], events[1], events[3]]);
    assert_eq!(claim.deliveries[2].payload, format!("payload of {}", events[3]));
    world.store.publish_all(Vec::new()).await.unwrap();
}

pub async fn many_events_are_kept_all_or_none(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let (known, deliveries) = world.publish(tenant, &[endpoint], 5).await;
    for fault in 0..5 {
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(world.publication(tenant, &[endpoint], 6).await);
        }
        let fresh: Vec<_> = all.iter().map(|publication| publication.event).collect();
        match fault {
            0 => all[2].event = known,
            1 => all[2].event = all[0].event,
            2 => all[2].deliveries[0].id = deliveries[0],
            3 => all[2].deliveries[0].id = all[0].deliveries[0].id,
            _ => all[2].idempotency = key("k", 1, 0),
        }
        let refused = world.store.publish_all(all).await;
        assert!(matches!(refused, Err(StoreError::Inconsistent(_))), "{fault}: {refused:?}");
        assert_eq!(world.store.known_events(tenant, fresh).await.unwrap(), [], "{fault}");
        assert_eq!(world.owed(endpoint).await, 1, "{fault}");
    }
}

pub async fn an_event_shows_where_its_deliveries_stand(world: World) {
    let tenant = world.tenant("default").await;
    let mut endpoints = Vec::new();
    for _ in 0..5 {
        endpoints.push(world.endpoint(tenant).await);
    }
    let (event, ids) = world.publish(tenant, &endpoints, 5).await;
    for (&endpoint, next) in
        endpoints.iter().zip([Next::Delivered, Next::Failed, Next::Retry(at(90))])
    {
        let leased = world.claim_one(endpoint, 5, Lease(1)).await;
        let attempt = world.attempt(leased, 7, next).await;
        world.store.record(attempt).await.unwrap();
    }
    world.claim_one(endpoints[3], 5, Lease(1)).await;
    world.store.delete_endpoint(tenant, endpoints[4], by(8)).await.unwrap();

    let found = world.store.event(tenant, event, 9).await.unwrap().unwrap();
    assert_eq!((found.id, found.event_type.as_str()), (event, "post.created"));
    assert_eq!(found.accepted_at, at(5));
    assert_eq!(found.payload, format!("payload of {event}"));
    let shown = [
        (Status::Delivered, 1, None, Some(at(7))),
        (Status::Failed, 1, None, Some(at(7))),
        (Status::Pending, 1, Some(at(90)), None),
        (Status::Leased, 0, None, None),
    ];
    let expected: Vec<_> = (ids.into_iter().zip(endpoints).zip(shown))
        .map(|((id, endpoint), (status, attempts_made, due_at, finished_at))| StoredDelivery {
            id,
            endpoint,
            status,
            trigger: Trigger::Schedule,
            attempts_made,
            created_at: at(5),
            due_at,
            finished_at,
        })
        .collect();
    assert_eq!(found.deliveries, Page { count: 4, items: expected.clone() });
    let few = world.store.event(tenant, event, 2).await.unwrap().unwrap();
    assert_eq!(few.deliveries, Page { count: 4, items: expected[..2].into() });
}

pub async fn another_tenants_event_is_as_if_it_were_not_there(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let endpoint = world.endpoint(theirs).await;
    let (event, _) = world.publish(theirs, &[endpoint], 5).await;
    assert_eq!(world.store.event(ours, event, 9).await.unwrap(), None);
    assert!(world.store.event(theirs, event, 9).await.unwrap().is_some());
    assert_eq!(world.store.event(theirs, EventId::new(i64::MAX), 9).await.unwrap(), None);
}

pub async fn a_resend_owes_an_event_once_more(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let (event, _) = world.publish(tenant, &[], 5).await;
    let (first, second) = (world.delivery_id().await, world.delivery_id().await);
    let resend = Resend { tenant, endpoint, events: vec![(event, first), (event, second)] };
    assert_eq!(world.store.resend(resend, by(8)).await.unwrap(), Resent::Done);
    let claim =
        world.store.claim_due(endpoint, at(7), ClaimLimit::count(9), Lease(1)).await.unwrap();
    assert_eq!((claim.deliveries, claim.next_due), (vec![], Some(at(8))));
    let claim =
        world.store.claim_due(endpoint, at(8), ClaimLimit::count(9), Lease(1)).await.unwrap();
    let claimed: Vec<_> = claim.deliveries.iter().map(|d| (d.id, d.event, d.trigger)).collect();
    assert_eq!(claimed, [first, second].map(|id| (id, event, Trigger::Resend)));
    assert_eq!(claim.deliveries[0].payload, format!("payload of {event}"));
    assert_eq!(world.actions(tenant, "endpoint:1").await, ["endpoint_created", "resent"]);
}

pub async fn a_resend_is_all_or_none(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let endpoint = world.endpoint(ours).await;
    let (known, _) = world.publish(ours, &[], 5).await;
    let (foreign, _) = world.publish(theirs, &[], 5).await;
    for (asked, expected) in [
        (vec![known, EventId::new(98), EventId::new(97)], EventId::new(98)),
        (vec![known, foreign], foreign),
        (vec![EventId::new(i64::MAX), known], EventId::new(i64::MAX)),
    ] {
        let mut events = Vec::new();
        for event in asked {
            events.push((event, world.delivery_id().await));
        }
        let resend = Resend { tenant: ours, endpoint, events };
        let resent = world.store.resend(resend, by(8)).await.unwrap();
        assert_eq!(resent, Resent::UnknownEvent(expected));
    }
    assert_eq!(world.owed(endpoint).await, 0);
    assert_eq!(world.actions(ours, "endpoint:1").await, ["endpoint_created"]);
}

pub async fn a_resend_is_refused_where_it_cannot_be_tried(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let endpoint = world.endpoint(ours).await;
    let (event, _) = world.publish(ours, &[], 5).await;
    let resend =
        |tenant, endpoint| Resend { tenant, endpoint, events: vec![(event, DeliveryId::new(50))] };
    let change = EndpointChange { is_active: Some(false), ..EndpointChange::default() };
    world.store.update_endpoint(ours, endpoint, change, by(6)).await.unwrap();
    let resent = world.store.resend(resend(ours, endpoint), by(7)).await.unwrap();
    assert_eq!(resent, Resent::Inactive);
    let resent = world.store.resend(resend(theirs, endpoint), by(7)).await.unwrap();
    assert_eq!(resent, Resent::NoEndpoint);
    world.store.delete_endpoint(ours, endpoint, by(8)).await.unwrap();
    let resent = world.store.resend(resend(ours, endpoint), by(9)).await.unwrap();
    assert_eq!(resent, Resent::NoEndpoint);
}
