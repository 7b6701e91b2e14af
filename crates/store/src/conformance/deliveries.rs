//! Claiming, recording, giving back: the life of a lease.

use postrider_kernel::{AttemptId, DeliveryId, EndpointId, Next};

use super::{
    World,
    world::{at, attempts_by, by},
};
use crate::{AttemptField, Claim, ClaimLimit, EndpointChange, IdKind, Lease, Recorded};

fn ids(claim: &Claim) -> Vec<DeliveryId> {
    claim.deliveries.iter().map(|delivery| delivery.id).collect()
}

impl World {
    async fn claim(&self, endpoint: EndpointId, seconds: i64, lease: i64) -> Claim {
        self.store
            .claim_due(endpoint, at(seconds), ClaimLimit::count(100), Lease(lease))
            .await
            .unwrap()
    }
}

pub async fn a_claim_stops_before_its_bytes_are_exceeded_but_takes_one(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    for accepted in 0..4 {
        world.publish(tenant, &[endpoint], accepted).await;
    }
    let one = ClaimLimit { count: 9, bytes: 0 };
    let claim = world.store.claim_due(endpoint, at(9), one, Lease(1)).await.unwrap();
    assert_eq!((claim.deliveries.len(), claim.next_due), (1, Some(at(1))), "one, however large");
    let length = claim.deliveries[0].payload.len();
    let two = ClaimLimit { count: 9, bytes: 3 * length - 1 };
    let claim = world.store.claim_due(endpoint, at(9), two, Lease(1)).await.unwrap();
    assert_eq!((claim.deliveries.len(), claim.next_due), (2, Some(at(3))));
}

pub async fn the_earliest_due_are_claimed_first_and_ties_break_by_id(world: World) {
    let tenant = world.tenant("default").await;
    let (endpoint, other) = (world.endpoint(tenant).await, world.endpoint(tenant).await);
    let mut expected = Vec::new();
    for accepted in [3, 1, 3, 2, 9] {
        let (_, deliveries) = world.publish(tenant, &[endpoint], accepted).await;
        expected.push((at(accepted), deliveries[0]));
    }
    world.publish(tenant, &[other], 0).await;
    expected.sort();
    let expected: Vec<_> = expected.into_iter().map(|(_, id)| id).collect();
    let claim =
        world.store.claim_due(endpoint, at(5), ClaimLimit::count(2), Lease(1)).await.unwrap();
    assert_eq!((ids(&claim), claim.next_due), (expected[..2].to_vec(), Some(at(3))));
    let claim = world.claim(endpoint, 5, 1).await;
    assert_eq!((ids(&claim), claim.next_due), (expected[2..4].to_vec(), Some(at(9))));
    let claim = world.claim(endpoint, 5, 1).await;
    assert_eq!((ids(&claim), claim.next_due), (vec![], Some(at(9))));
    let claim =
        world.store.claim_due(endpoint, at(50), ClaimLimit::count(0), Lease(1)).await.unwrap();
    assert_eq!((ids(&claim), claim.next_due), (vec![], Some(at(9))));
}

pub async fn an_inactive_endpoints_deliveries_wait(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    world.publish(tenant, &[endpoint], 1).await;
    let activate = |is_active| EndpointChange { is_active: Some(is_active), ..Default::default() };
    world.store.update_endpoint(tenant, endpoint, activate(false), by(2)).await.unwrap();
    let claim = world.claim(endpoint, 5, 1).await;
    assert_eq!((ids(&claim), claim.next_due), (vec![], Some(at(1))));
    assert_eq!(world.store.earliest_due_of(endpoint).await.unwrap(), Some(at(1)));
    world.store.update_endpoint(tenant, endpoint, activate(true), by(6)).await.unwrap();
    assert_eq!(world.claim(endpoint, 7, 1).await.deliveries.len(), 1);
}

pub async fn a_retry_is_due_when_it_was_settled(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    world.publish(tenant, &[endpoint], 1).await;
    let leased = world.claim_one(endpoint, 1, Lease(1)).await;
    let attempt = world.attempt(leased, 2, Next::Retry(at(7))).await;
    assert_eq!(world.store.record(attempt).await.unwrap(), Recorded::Done);
    assert_eq!(world.claim(endpoint, 6, 1).await.next_due, Some(at(7)));
    let claim = world.claim(endpoint, 7, 1).await;
    assert_eq!(claim.deliveries[0].id, leased.delivery);
    assert_eq!(claim.deliveries[0].attempts_made, 1);
}

pub async fn what_waits_is_brought_forward_and_no_further_than_now(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    for due in [150, 107, 90] {
        world.publish(tenant, &[endpoint], 1).await;
        let leased = world.claim_one(endpoint, 1, Lease(1)).await;
        let attempt = world.attempt(leased, 2, Next::Retry(at(due))).await;
        assert_eq!(world.store.record(attempt).await.unwrap(), Recorded::Done);
    }
    world.publish(tenant, &[endpoint], 1).await;
    let leased = world.claim_one(endpoint, 1, Lease(1)).await;
    let by = at(0).until(at(20));
    for now in [100, 100] {
        world.store.bring_forward(at(now), by).await.unwrap();
    }
    assert_eq!(world.store.earliest_due_of(endpoint).await.unwrap(), Some(at(90)));
    assert_eq!(world.claim(endpoint, 99, 1).await.deliveries.len(), 1, "it was due already");
    let claim = world.claim(endpoint, 100, 1).await;
    assert_eq!(
        (claim.deliveries.len(), claim.next_due),
        (1, Some(at(110))),
        "and once for each call"
    );
    assert_eq!(world.claim(endpoint, 110, 1).await.deliveries.len(), 1);
    let attempt = world.attempt(leased, 120, Next::Delivered).await;
    assert_eq!(world.store.record(attempt).await.unwrap(), Recorded::Done, "leases stay");
}

pub async fn a_delivery_that_ended_is_owed_no_more(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    for next in [Next::Delivered, Next::Failed] {
        world.publish(tenant, &[endpoint], 1).await;
        let leased = world.claim_one(endpoint, 1, Lease(1)).await;
        let attempt = world.attempt(leased, 2, next).await;
        assert_eq!(world.store.record(attempt).await.unwrap(), Recorded::Done);
        let again = world.attempt(leased, 3, Next::Delivered).await;
        assert_eq!(world.store.record(again).await.unwrap(), Recorded::LeaseLost);
        world.store.give_back(vec![leased.delivery], Lease(1)).await.unwrap();
        assert_eq!(
            world.claim(endpoint, 99, 1).await,
            Claim { deliveries: vec![], next_due: None }
        );
    }
}

pub async fn a_lost_lease_records_nothing(world: World) {
    let (tenant, theirs) = (world.tenant("default").await, world.tenant("theirs").await);
    let (endpoint, other) = (world.endpoint(tenant).await, world.endpoint(tenant).await);
    world.publish(tenant, &[endpoint], 1).await;
    let leased = world.claim_one(endpoint, 1, Lease(1)).await;
    let attempt = world.attempt(leased, 2, Next::Delivered).await;
    let mut others = vec![attempt.clone(); 4];
    others[0].lease = Lease(2);
    others[1].tenant = theirs;
    others[2].endpoint = other;
    others[3].delivery = DeliveryId::new(i64::MAX);
    for mut lost in others {
        lost.deactivates_endpoint = true;
        assert_eq!(world.store.record(lost).await.unwrap(), Recorded::LeaseLost);
    }
    let page = attempts_by(AttemptField::SentAt, true);
    assert_eq!(world.store.attempts(tenant, endpoint, page).await.unwrap().count, 0);
    assert!(world.store.endpoint(tenant, endpoint).await.unwrap().unwrap().is_active);
    assert_eq!(world.store.record(attempt).await.unwrap(), Recorded::Done);
}

pub async fn many_attempts_are_recorded_in_their_order_all_or_none(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let mut attempts = Vec::new();
    for _ in 0..2 {
        world.publish(tenant, &[endpoint], 1).await;
        let leased = world.claim_one(endpoint, 1, Lease(1)).await;
        attempts.push(world.attempt(leased, 2, Next::Delivered).await);
    }
    let count = async || {
        let page = attempts_by(AttemptField::SentAt, true);
        world.store.attempts(tenant, endpoint, page).await.unwrap().count
    };
    let mut with_an_id_twice = attempts.clone();
    with_an_id_twice[1].id = attempts[0].id;
    assert!(world.store.record_all(with_an_id_twice.into()).await.is_err());
    assert_eq!(count().await, 0);

    let mut lost = attempts[1].clone();
    lost.id = AttemptId::new(world.id(IdKind::Attempt).await);
    lost.lease = Lease(2);
    attempts.insert(1, lost);
    let recorded = world.store.record_all(attempts.into()).await.unwrap();
    assert_eq!(recorded, [Recorded::Done, Recorded::LeaseLost, Recorded::Done]);
    assert_eq!(count().await, 2);
    assert_eq!(world.store.record_all([].into()).await.unwrap(), []);
}

pub async fn nothing_is_recorded_for_a_deleted_endpoint(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    world.publish(tenant, &[endpoint], 1).await;
    let leased = world.claim_one(endpoint, 1, Lease(1)).await;
    let attempt = world.attempt(leased, 2, Next::Delivered).await;
    world.store.delete_endpoint(tenant, endpoint, by(2)).await.unwrap();
    assert_eq!(world.store.record(attempt).await.unwrap(), Recorded::LeaseLost);
    world.store.give_back(vec![leased.delivery], Lease(1)).await.unwrap();
    assert_eq!(world.claim(endpoint, 99, 1).await, Claim { deliveries: vec![], next_due: None });
}

pub async fn what_is_given_back_is_due_when_it_was(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    for accepted in [1, 2, 3] {
        world.publish(tenant, &[endpoint], accepted).await;
    }
    let claim = world.claim(endpoint, 9, 1).await;
    let all = ids(&claim);
    world.store.give_back(all.clone(), Lease(2)).await.unwrap();
    assert_eq!(world.store.earliest_due_of(endpoint).await.unwrap(), None);
    let with_unknown = [all.clone(), vec![DeliveryId::new(i64::MAX)]].concat();
    world.store.give_back(with_unknown, Lease(1)).await.unwrap();
    assert_eq!(world.store.earliest_due_of(endpoint).await.unwrap(), Some(at(1)));
    let mut again = world.claim(endpoint, 9, 2).await;
    for delivery in &mut again.deliveries {
        assert_eq!(std::mem::replace(&mut delivery.lease, Lease(1)), Lease(2));
    }
    assert_eq!(again.deliveries, claim.deliveries);
}

pub async fn a_life_that_ended_leaves_its_deliveries_to_the_next(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let old = world.store.begin_life().await.unwrap();
    world.publish(tenant, &[endpoint], 1).await;
    let leased = world.claim_one(endpoint, 1, old).await;
    world.store.end_life(old).await.unwrap();
    let new = world.store.begin_life().await.unwrap();
    assert_ne!(old, new);
    let late = world.attempt(leased, 2, Next::Delivered).await;
    assert_eq!(world.store.record(late).await.unwrap(), Recorded::LeaseLost);
    let again = world.claim_one(endpoint, 1, new).await;
    assert_eq!(again.delivery, leased.delivery);
    let attempt = world.attempt(again, 3, Next::Delivered).await;
    assert_eq!(world.store.record(attempt).await.unwrap(), Recorded::Done);
}

pub async fn a_new_life_takes_over_what_nobody_alive_has_leased(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let (_, deliveries) = world.publish(tenant, &[endpoint], 1).await;
    world.claim_one(endpoint, 1, Lease(77)).await;
    let new = world.store.begin_life().await.unwrap();
    assert_eq!(world.claim_one(endpoint, 1, new).await.delivery, deliveries[0]);
}

pub async fn a_gone_receiver_deactivates_its_endpoint_once(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let mut in_flight = Vec::new();
    for _ in 0..2 {
        world.publish(tenant, &[endpoint], 1).await;
        in_flight.push(world.claim_one(endpoint, 1, Lease(1)).await);
    }
    for (seconds, leased) in (2..).zip(in_flight) {
        let mut attempt = world.attempt(leased, seconds, Next::Retry(at(50))).await;
        attempt.response = Ok((410, Vec::new()));
        attempt.deactivates_endpoint = true;
        assert_eq!(world.store.record(attempt).await.unwrap(), Recorded::Done);
    }
    let endpoint_now = world.store.endpoint(tenant, endpoint).await.unwrap().unwrap();
    assert_eq!((endpoint_now.is_active, endpoint_now.updated_at), (false, at(2)));
    let log = world.store.audit(tenant).await.unwrap();
    let deactivations: Vec<_> =
        log.iter().filter(|line| line.action == "endpoint_deactivated").collect();
    assert_eq!(deactivations.len(), 1);
    assert_eq!((deactivations[0].actor.as_str(), deactivations[0].at), ("service", at(2)));
    assert_eq!(deactivations[0].subject, "endpoint:1");
    // The second one, which found it inactive, is written all the same.
    let page = attempts_by(AttemptField::SentAt, true);
    assert_eq!(world.store.attempts(tenant, endpoint, page).await.unwrap().items.len(), 2);
    assert_eq!(world.store.earliest_due_of(endpoint).await.unwrap(), Some(at(50)));
}

pub async fn the_earliest_due_time_of_each_endpoint_is_known(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    assert_eq!(world.store.earliest_due().await.unwrap(), []);
    let (first, idle) = (world.endpoint(ours).await, world.endpoint(ours).await);
    let last = world.endpoint(theirs).await;
    world.publish(ours, &[first], 5).await;
    world.publish(ours, &[first], 4).await;
    world.publish(theirs, &[last], 3).await;
    let change = EndpointChange { is_active: Some(false), ..Default::default() };
    world.store.update_endpoint(theirs, last, change, by(6)).await.unwrap();
    let expected = [(ours, first, at(4)), (theirs, last, at(3))];
    assert_eq!(world.store.earliest_due().await.unwrap(), expected);
    assert_eq!(world.store.earliest_due_of(first).await.unwrap(), Some(at(4)));
    assert_eq!(world.store.earliest_due_of(idle).await.unwrap(), None);
    world.claim(first, 9, 1).await;
    assert_eq!(world.store.earliest_due().await.unwrap(), expected[1..]);
}
