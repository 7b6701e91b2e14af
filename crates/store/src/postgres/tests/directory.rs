//! One directory for all nodes: who is behind, and how they hear of it.

use std::sync::Arc;

use postrider_kernel::Next;

use super::{news, open_two};
use crate::{
    ClaimLimit, EndpointChange, IdempotencyKey, Lease, News, Published, Recorded, Resend, Resent,
    conformance::{
        World,
        world::{at, by},
    },
};

#[tokio::test]
async fn who_chose_by_an_older_directory_keeps_nothing() {
    let (one, other, _database) = open_two().await;
    let (here, there) = (World::new(one), World::new(other));
    let tenant = here.tenant("default").await;
    let endpoint = here.endpoint(tenant).await;
    let mut publication = there.publication(tenant, &[endpoint], 1).await;
    let mut all = vec![there.publication(tenant, &[endpoint], 1).await];
    here.endpoint(tenant).await;
    all.push(there.publication(tenant, &[endpoint], 1).await);
    let (key, request_hash) = ("k".into(), [1; 32]);
    publication.idempotency = Some(IdempotencyKey { key, request_hash, not_before: at(0) });

    for world in [&here, &there] {
        assert_eq!(world.store.publish(publication.clone()).await.unwrap(), Published::Stale);
        assert_eq!(world.store.publish_all(all.clone()).await.unwrap(), Published::Stale);
    }
    let events = [publication.event, all[0].event, all[1].event].to_vec();
    assert_eq!(here.store.known_events(tenant, events.clone()).await.unwrap(), []);
    assert_eq!(here.store.earliest_due().await.unwrap(), []);

    let current = there.store.directory_version().await.unwrap();
    publication.directory = current;
    all[0].directory = current;
    assert_eq!(there.store.publish(publication).await.unwrap(), Published::Fresh);
    assert_eq!(there.store.publish_all(all).await.unwrap(), Published::Fresh);
    assert_eq!(here.store.known_events(tenant, events.clone()).await.unwrap(), events);
}

#[tokio::test]
async fn a_stale_one_among_many_callers_is_alone_with_that() {
    let (one, _other, _database) = open_two().await;
    let world = World::new(one);
    let tenant = world.tenant("default").await;
    let stale = world.publication(tenant, &[], 1).await;
    world.endpoint(tenant).await;
    let fresh = world.publication(tenant, &[], 1).await;
    let answers = tokio::join!(
        world.store.publish(stale.clone()),
        world.store.publish(fresh),
        world.store.publish(stale),
    );
    let answers = [answers.0.unwrap(), answers.1.unwrap(), answers.2.unwrap()];
    assert_eq!(answers, [Published::Stale, Published::Fresh, Published::Stale]);
}

#[tokio::test]
async fn a_change_is_told_to_the_others_and_noticed_by_them_alone() {
    let (one, other, _database) = open_two().await;
    let (here, there) = (World::new(one), World::new(other));
    assert!(!there.store.changed_elsewhere().await.unwrap());
    let tenant = here.tenant("default").await;
    assert_eq!(news(&there.store).await, News::Directory);
    assert!(there.store.changed_elsewhere().await.unwrap());
    assert!(!there.store.changed_elsewhere().await.unwrap());
    assert!(!here.store.changed_elsewhere().await.unwrap());
    let before = here.store.directory_version().await.unwrap();
    assert!(
        !there.store.revoke_token(tenant, postrider_kernel::TokenId::new(9), by(1)).await.unwrap()
    );
    assert_eq!(here.store.directory_version().await.unwrap(), before);
    there.endpoint(tenant).await;
    here.endpoint(tenant).await;
    // One's own change doesn't hide another one's.
    assert!(here.store.changed_elsewhere().await.unwrap());
}

#[tokio::test]
async fn what_is_due_is_told_to_the_others_alone() {
    let (one, other, _database) = open_two().await;
    let (here, there) = (World::new(one), World::new(other));
    let tenant = here.tenant("default").await;
    let endpoint = here.endpoint(tenant).await;
    assert_eq!(news(&there.store).await, News::Directory);
    let due = News::Due(vec![(tenant, endpoint)]);
    let (event, _) = here.publish(tenant, &[endpoint], 1).await;
    let mut heard = news(&there.store).await;
    if heard == News::Directory {
        // The tenant's and the endpoint's creation are two commits.
        heard = news(&there.store).await;
    }
    assert_eq!(heard, due);
    let id = postrider_kernel::DeliveryId::new(there.id(crate::IdKind::Delivery).await);
    let resend = Resend { tenant, endpoint, events: vec![(event, id)] };
    assert_eq!(there.store.resend(resend, by(2)).await.unwrap(), Resent::Done);
    // The first that it hears: not what it told itself.
    assert_eq!(news(&here.store).await, due);
}

#[tokio::test]
async fn an_endpoint_that_its_receiver_deactivates_is_a_change() {
    let (one, other, _database) = open_two().await;
    let (here, there) = (World::new(one), World::new(other));
    let tenant = here.tenant("default").await;
    let endpoint = here.endpoint(tenant).await;
    for is_change in [true, false] {
        let change = EndpointChange { is_active: Some(true), ..EndpointChange::default() };
        if is_change {
            here.store.update_endpoint(tenant, endpoint, change, by(1)).await.unwrap();
        }
        let mut publication = here.publication(tenant, &[endpoint], 1).await;
        (publication.lease, publication.deliveries[0].leased) = (Lease(1), true);
        let leased = crate::conformance::world::Leased {
            tenant,
            endpoint,
            event: publication.event,
            delivery: publication.deliveries[0].id,
            lease: Lease(1),
        };
        here.store.publish(publication).await.unwrap();
        let mut gone = here.attempt(leased, 2, Next::Failed).await;
        (gone.response, gone.deactivates_endpoint) = (Ok((410, vec![])), true);
        there.store.changed_elsewhere().await.unwrap();
        assert_eq!(here.store.record(gone).await.unwrap(), Recorded::Done);
        assert_eq!(there.store.changed_elsewhere().await.unwrap(), is_change);
    }
}

#[tokio::test]
async fn a_lost_connection_is_made_again_and_everything_is_worth_a_look() {
    let (one, _other, database) = open_two().await;
    let world = World::new(one);
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    cut_all(&database).await;
    assert_eq!(news(&world.store).await, News::LookAgain);
    // Connections that died are found out by who uses them first.
    let publication = world.publication_once_it_works(tenant, endpoint).await;
    let store = Arc::clone(&world.store);
    let mut tries = 0;
    while store.publish(publication.clone()).await.is_err() {
        tries += 1;
        assert!(tries < 10, "the writers' connections are replaced");
    }
    let claim = store.claim_due(endpoint, at(9), ClaimLimit::count(9), Lease(1)).await.unwrap();
    assert_eq!(claim.deliveries.len(), 1);
}

/// Ends every connection to a database but the one that does so.
async fn cut_all(database: &super::TestDatabase) {
    database
        .run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
}

impl World {
    async fn publication_once_it_works(
        &self,
        tenant: postrider_kernel::TenantId,
        endpoint: postrider_kernel::EndpointId,
    ) -> crate::Publication {
        for _ in 0..20 {
            if self.store.check_health().await.is_ok() {
                break;
            }
        }
        self.publication(tenant, &[endpoint], 1).await
    }
}
