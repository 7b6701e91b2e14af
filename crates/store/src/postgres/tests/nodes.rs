//! Several nodes: their leases, who may sign, and how they share what is due. No test waits for a lease to run out: the
//! node's row is set back instead.

use std::{collections::BTreeSet, sync::Arc};

use postrider_kernel::Next;

use super::{connect, news, open_two, until_somebody_waits};
use crate::{
    ClaimLimit, Lease, News, Recorded, Renewal, Store, Version,
    conformance::{World, world::at},
};

/// The version that a renewal answers, and whether the node may sign.
async fn renew(store: &Arc<dyn Store>, lease: Lease, applied: Version) -> (Version, bool) {
    match store.renew(lease, applied).await.unwrap() {
        Renewal::Held { version, now, may_sign } => {
            assert!(now.is_some_and(|now| now > at(0)), "the database's clock is told");
            (version, may_sign)
        }
        Renewal::Lost => panic!("the lease is held"),
    }
}

const LEASES_RUN_OUT: &str = "UPDATE node SET signs_until = '-infinity',
    lease_until = clock_timestamp() - interval '1 second'";

const SIGNING_RUNS_OUT: &str =
    "UPDATE node SET signs_until = clock_timestamp() - interval '1 millisecond'";

#[tokio::test]
async fn what_a_dead_node_held_is_taken_over_and_it_records_nothing_more() {
    let (one, other, database) = open_two().await;
    let (here, there) = (World::new(one), World::new(other));
    let tenant = here.tenant("default").await;
    let endpoint = here.endpoint(tenant).await;
    let (dead, living) =
        (here.store.begin_life().await.unwrap(), there.store.begin_life().await.unwrap());
    here.publish(tenant, &[endpoint], 1).await;
    let leased = here.claim_one(endpoint, 1, dead).await;
    assert!(!there.store.take_over().await.unwrap(), "it lives");
    database.run(LEASES_RUN_OUT).await;
    assert_eq!(there.store.renew(living, Version(0)).await.unwrap(), Renewal::Lost);
    let living = there.store.begin_life().await.unwrap();

    assert_eq!(here.store.renew(dead, Version(0)).await.unwrap(), Renewal::Lost);
    let late = here.attempt(leased, 2, Next::Delivered).await;
    assert_eq!(here.store.record(late).await.unwrap(), Recorded::LeaseLost);
    let again = there.claim_one(endpoint, 1, living).await;
    assert_eq!(again.delivery, leased.delivery);
    here.store.give_back(vec![leased.delivery], dead).await.unwrap();
    let attempt = there.attempt(again, 3, Next::Delivered).await;
    assert_eq!(there.store.record(attempt).await.unwrap(), Recorded::Done);
}

#[tokio::test]
async fn what_a_dead_node_commits_late_is_taken_over_too() {
    let (one, other, database) = open_two().await;
    let (here, there) = (World::new(one), World::new(other));
    let tenant = here.tenant("default").await;
    let endpoint = here.endpoint(tenant).await;
    let dead = here.store.begin_life().await.unwrap();
    let mut publication = here.publication(tenant, &[endpoint], 1).await;
    (publication.lease, publication.deliveries[0].leased) = (dead, true);
    database.run(LEASES_RUN_OUT).await;
    assert!(!there.store.take_over().await.unwrap());
    here.store.publish(publication).await.unwrap();
    assert!(there.store.take_over().await.unwrap());
    assert!(!there.store.take_over().await.unwrap());
    there.claim_one(endpoint, 1, Lease(99)).await;
}

#[tokio::test]
async fn a_life_that_ends_leaves_its_deliveries_to_the_others_and_tells_them() {
    let (one, other, _database) = open_two().await;
    let (here, there) = (World::new(one), World::new(other));
    let tenant = here.tenant("default").await;
    let endpoint = here.endpoint(tenant).await;
    let (ending, living) =
        (here.store.begin_life().await.unwrap(), there.store.begin_life().await.unwrap());
    let mut publication = here.publication(tenant, &[endpoint, endpoint], 1).await;
    publication.lease = ending;
    publication.deliveries.iter_mut().for_each(|delivery| delivery.leased = true);
    here.store.publish(publication).await.unwrap();
    let current = here.store.directory_version().await.unwrap();
    renew(&here.store, ending, current).await;
    here.store.end_life(ending).await.unwrap();
    assert_eq!(here.store.renew(ending, current).await.unwrap(), Renewal::Lost);
    while news(&there.store).await != News::Due(vec![(tenant, endpoint)]) {}
    let limit = ClaimLimit::count(9);
    let claim = there.store.claim_due(endpoint, at(1), limit, living).await.unwrap();
    assert_eq!(claim.deliveries.len(), 2);
    assert!(there.store.is_applied_elsewhere(Version(99), living).await.unwrap());
}

#[tokio::test]
async fn a_change_waits_for_every_node_that_may_sign_and_no_other() {
    let (one, other, database) = open_two().await;
    let (here, there) = (World::new(one), World::new(other));
    let (signer, changer) =
        (here.store.begin_life().await.unwrap(), there.store.begin_life().await.unwrap());
    let before = here.store.directory_version().await.unwrap();
    assert_eq!(renew(&here.store, signer, before).await, (before, true));
    there.tenant("default").await;
    let after = there.store.directory_version().await.unwrap();
    let is_applied = async || there.store.is_applied_elsewhere(after, changer).await.unwrap();
    assert!(!is_applied().await);
    // A right that runs is renewed, and the answer says what there is to apply.
    assert_eq!(renew(&here.store, signer, before).await, (after, true));
    assert!(!is_applied().await);
    assert_eq!(renew(&here.store, signer, after).await, (after, true));
    assert!(is_applied().await);

    there.tenant("another").await;
    let after = there.store.directory_version().await.unwrap();
    assert!(!there.store.is_applied_elsewhere(after, changer).await.unwrap());
    database.run(SIGNING_RUNS_OUT).await;
    assert!(there.store.is_applied_elsewhere(after, changer).await.unwrap());
    // Nobody waits for it any more: it may not sign by what it knows.
    let known = Version(after.0 - 1);
    assert_eq!(renew(&here.store, signer, known).await, (after, false));
    assert!(there.store.is_applied_elsewhere(after, changer).await.unwrap());
    assert_eq!(renew(&here.store, signer, after).await, (after, true));
    assert!(there.store.is_applied_elsewhere(after, changer).await.unwrap());
}

#[tokio::test]
async fn a_right_that_ran_out_is_not_renewed_while_a_change_is_under_way() {
    let (one, _other, database) = open_two().await;
    let life = one.begin_life().await.unwrap();
    let before = one.directory_version().await.unwrap();
    let change = connect(&database.url()).await;
    change.batch_execute("BEGIN; SELECT version FROM directory FOR UPDATE").await.unwrap();
    let renewal = tokio::spawn(async move { renew(&one, life, before).await });
    until_somebody_waits(&database).await;
    change.batch_execute("UPDATE directory SET version = version + 1; COMMIT").await.unwrap();
    assert_eq!(renewal.await.unwrap(), (Version(before.0 + 1), false));
}

#[tokio::test]
async fn a_renewal_that_began_in_time_is_waited_for() {
    let (one, other, database) = open_two().await;
    let (signer, changer) = (one.begin_life().await.unwrap(), other.begin_life().await.unwrap());
    let renewal = connect(&database.url()).await;
    let lock = format!("BEGIN; SELECT id FROM node WHERE id = {} FOR UPDATE", signer.0);
    renewal.batch_execute(&lock).await.unwrap();
    let look =
        tokio::spawn(async move { other.is_applied_elsewhere(Version(1), changer).await.unwrap() });
    until_somebody_waits(&database).await;
    let renew = "UPDATE node SET signs_until = clock_timestamp() + interval '9 seconds'";
    renewal.batch_execute(&format!("{renew} WHERE id = {}; COMMIT", signer.0)).await.unwrap();
    assert!(!look.await.unwrap());
}

#[tokio::test]
async fn nodes_share_an_endpoints_deliveries_without_overlap() {
    let (one, other, _database) = open_two().await;
    let world = World::new(one.clone());
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let mut all = BTreeSet::new();
    for _ in 0..10 {
        all.extend(world.publish(tenant, &[endpoint; 20], 1).await.1);
    }
    let claim_all = |store: Arc<dyn Store>, lease| async move {
        let mut claimed = Vec::new();
        while claimed.len() < 200 {
            let limit = ClaimLimit::count(7);
            let claim = store.claim_due(endpoint, at(1), limit, lease).await.unwrap();
            if claim.deliveries.is_empty() && claim.next_due.is_none() {
                break;
            }
            claimed.extend(claim.deliveries.into_iter().map(|delivery| delivery.id));
        }
        claimed
    };
    let (ours, theirs) = tokio::join!(
        tokio::spawn(claim_all(one, Lease(1))),
        tokio::spawn(claim_all(other, Lease(2))),
    );
    let claimed = [ours.unwrap(), theirs.unwrap()].concat();
    assert_eq!(claimed.len(), 200);
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), all);
}

#[tokio::test]
async fn a_claim_passes_by_what_another_node_is_claiming() {
    let (one, _other, database) = open_two().await;
    let world = World::new(one);
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let (_, deliveries) = world.publish(tenant, &[endpoint; 3], 1).await;
    let claiming = connect(&database.url()).await;
    let lock = format!("BEGIN; SELECT id FROM delivery WHERE id = {} FOR UPDATE", deliveries[0]);
    claiming.batch_execute(&lock).await.unwrap();
    let limit = ClaimLimit::count(9);
    let claim = world.store.claim_due(endpoint, at(1), limit, Lease(1)).await.unwrap();
    let claimed: Vec<_> = claim.deliveries.iter().map(|delivery| delivery.id).collect();
    assert_eq!((claimed, claim.next_due), (deliveries[1..].to_vec(), Some(at(1))));
}
