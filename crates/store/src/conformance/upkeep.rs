//! What a purge drops, and what it must not.

use std::time::Duration;

use postrider_kernel::Next;

use super::{
    World,
    world::{at, attempts_by, by, purge_nothing},
};
use crate::{
    AttemptField, AttemptQuery, ClaimLimit, EndpointChange, IdempotencyKey, Lease, Published, Purge,
};

fn by_sent_at() -> AttemptQuery {
    attempts_by(AttemptField::SentAt, false)
}

fn attempts_before(seconds: i64) -> Purge {
    Purge { attempts_before: at(seconds), ..purge_nothing() }
}

pub async fn old_lines_of_the_audit_log_go(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    for seconds in 1..=9 {
        world.store.reveal_secret(tenant, id, by(seconds)).await.unwrap();
    }
    let early = Purge { audit_before: at(4), ..purge_nothing() };
    assert_eq!(world.purge(early).await, 5);
    let times: Vec<_> =
        world.store.audit(tenant).await.unwrap().into_iter().map(|line| line.at).collect();
    assert_eq!(times, (4..=9).map(at).collect::<Vec<_>>());
    assert_eq!(world.purge(early).await, 0);
}

pub async fn old_attempts_go_and_are_no_longer_counted(world: World) {
    let tenant = world.tenant("default").await;
    let (endpoint, other) = (world.endpoint(tenant).await, world.endpoint(tenant).await);
    for seconds in 1..=9 {
        world.deliver(tenant, endpoint, seconds).await;
    }
    world.deliver(tenant, other, 1).await;
    // Attempts, deliveries and events: four of the one endpoint, one of the other.
    assert_eq!(world.purge(attempts_before(5)).await, 15);
    let page = world.store.attempts(tenant, endpoint, by_sent_at()).await.unwrap();
    assert_eq!((page.count, page.items.len()), (5, 5));
    assert_eq!(page.items[0].sent_at, at(5));
    let page = world.store.attempts(tenant, other, by_sent_at()).await.unwrap();
    assert_eq!((page.count, page.items.len()), (0, 0));
    let events = (1..=10).map(postrider_kernel::EventId::new).collect();
    let known = world.store.known_events(tenant, events).await.unwrap();
    assert_eq!(known.iter().map(|id| id.get()).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    assert_eq!(world.purge(attempts_before(5)).await, 0);
}

pub async fn an_event_stays_while_it_is_owed(world: World) {
    let tenant = world.tenant("default").await;
    let (prompt, slow) = (world.endpoint(tenant).await, world.endpoint(tenant).await);
    let (event, _) = world.publish(tenant, &[prompt, slow], 1).await;
    let leased = world.claim_one(prompt, 1, Lease(1)).await;
    let attempt = world.attempt(leased, 1, Next::Delivered).await;
    world.store.record(attempt).await.unwrap();
    let leased = world.claim_one(slow, 1, Lease(1)).await;
    let attempt = world.attempt(leased, 1, Next::Retry(at(50))).await;
    world.store.record(attempt).await.unwrap();

    world.purge(attempts_before(40)).await;
    assert_eq!(world.store.known_events(tenant, vec![event]).await.unwrap(), [event]);
    let leased = world.claim_one(slow, 50, Lease(1)).await;
    let attempt = world.attempt(leased, 50, Next::Delivered).await;
    world.store.record(attempt).await.unwrap();
    world.purge(attempts_before(50)).await;
    let page = world.store.attempts(tenant, slow, by_sent_at()).await.unwrap();
    assert_eq!((page.count, page.items.len()), (1, 1));
    assert_eq!(page.items[0].payload, format!("payload of {event}"));
    world.purge(attempts_before(51)).await;
    assert_eq!(world.store.known_events(tenant, vec![event]).await.unwrap(), []);
}

pub async fn old_events_that_are_owed_hide_none_behind_them(world: World) {
    let tenant = world.tenant("default").await;
    let (dead, alive) = (world.endpoint(tenant).await, world.endpoint(tenant).await);
    for _ in 0..20 {
        world.publish(tenant, &[dead], 1).await;
    }
    let change = EndpointChange { is_active: Some(false), ..Default::default() };
    world.store.update_endpoint(tenant, dead, change, by(2)).await.unwrap();
    for _ in 0..5 {
        world.deliver(tenant, alive, 3).await;
    }
    assert_eq!(world.purge(attempts_before(9)).await, 15);
    assert_eq!(world.purge(attempts_before(9)).await, 0);
    let change = EndpointChange { is_active: Some(true), ..Default::default() };
    world.store.update_endpoint(tenant, dead, change, by(10)).await.unwrap();
    let claim =
        world.store.claim_due(dead, at(11), ClaimLimit::count(100), Lease(1)).await.unwrap();
    assert_eq!(claim.deliveries.len(), 20);
}

pub async fn a_deleted_endpoint_leaves_nothing_behind(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    world.deliver(tenant, endpoint, 1).await;
    for _ in 0..5 {
        world.publish(tenant, &[endpoint], 2).await;
    }
    let leased = world.claim_one(endpoint, 2, Lease(1)).await;
    world.store.delete_endpoint(tenant, endpoint, by(3)).await.unwrap();
    let early = Purge { deleted_before: at(3), ..purge_nothing() };
    assert_eq!(world.purge(early).await, 0);
    let late = Purge { deleted_before: at(4), ..purge_nothing() };
    assert!(world.purge(late).await > 0);
    assert_eq!(world.purge(late).await, 0);
    // The events were young. Now nobody is owed them.
    let known = (1..=6).map(postrider_kernel::EventId::new).collect();
    assert_eq!(world.store.known_events(tenant, known).await.unwrap().len(), 6);
    assert_eq!(world.purge(attempts_before(9)).await, 6);
    let attempt = world.attempt(leased, 5, Next::Delivered).await;
    let recorded = world.store.record(attempt).await.unwrap();
    assert_eq!(recorded, crate::Recorded::LeaseLost);
    let actions = world.actions(tenant, "endpoint:1").await;
    assert_eq!(actions, ["endpoint_created", "endpoint_deleted"]);
}

pub async fn keys_go_when_they_are_old(world: World) {
    let tenant = world.tenant("default").await;
    for seconds in 1..=9 {
        let mut publication = world.publication(tenant, &[], seconds).await;
        let key =
            IdempotencyKey { key: format!("k{seconds}"), request_hash: [1; 32], not_before: at(0) };
        publication.idempotency = Some(key);
        world.store.publish(publication).await.unwrap();
    }
    let purge = Purge { idempotency_before: at(6), ..purge_nothing() };
    assert_eq!(world.purge(purge).await, 5);
    for (key, is_fresh) in [("k5", true), ("k6", false)] {
        let mut publication = world.publication(tenant, &[], 10).await;
        let (key, request_hash) = (key.to_owned(), [1; 32]);
        publication.idempotency = Some(IdempotencyKey { key, request_hash, not_before: at(0) });
        let published = world.store.publish(publication).await.unwrap();
        assert_eq!(published == Published::Fresh, is_fresh, "{published:?}");
    }
}

pub async fn a_grace_that_ran_out_is_wiped(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    for (seconds, grace) in [(1, 10), (2, 20)] {
        let secret = world.new_secret().await;
        let grace = Some(Duration::from_secs(grace));
        world.store.expire_secret(tenant, endpoint, secret, grace, by(seconds)).await.unwrap();
    }
    let live = || async {
        let directory = world.store.directory(tenant).await.unwrap();
        directory[0].secrets.iter().map(|secret| secret.id.get()).collect::<Vec<_>>()
    };
    let purge = |seconds| Purge { grace_before: at(seconds), ..purge_nothing() };
    assert_eq!(world.purge(purge(11)).await, 0);
    assert_eq!(live().await, [3, 2, 1]);
    assert_eq!(world.purge(purge(12)).await, 1);
    assert_eq!(live().await, [3, 2]);
    assert_eq!(world.purge(purge(99)).await, 1);
    assert_eq!(live().await, [3]);
}

pub async fn nothing_young_is_purged(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    world.deliver(tenant, endpoint, 5).await;
    world.publish(tenant, &[], 5).await;
    let everything = Purge {
        attempts_before: at(5),
        idempotency_before: at(5),
        deleted_before: at(5),
        grace_before: at(5),
        audit_before: at(0),
    };
    assert_eq!(world.purge(everything).await, 0);
    assert_eq!(world.attempt_ids(tenant, endpoint, by_sent_at()).await, [1]);
}
