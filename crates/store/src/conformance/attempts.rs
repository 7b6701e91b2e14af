//! Attempts as they are listed.

use std::time::Duration;

use postrider_kernel::{EndpointId, Failure, Next, TenantId, Trigger, attempt::Cause};

use super::{
    World,
    world::{at, attempts_by, event_type},
};
use crate::{Attempt, AttemptField, AttemptQuery, Lease, OrderBy, Page};

impl World {
    /// Attempts of one delivery each, sent and to be retried at these seconds.
    async fn attempts_at(
        &self,
        (tenant, endpoint): (TenantId, EndpointId),
        sent: &[(i64, Option<i64>)],
    ) {
        for &(seconds, retry) in sent {
            self.publish(tenant, &[endpoint], 0).await;
            let leased = self.claim_one(endpoint, 0, Lease(1)).await;
            let next = retry.map_or(Next::Delivered, |retry| Next::Retry(at(retry)));
            let attempt = self.attempt(leased, seconds, next).await;
            self.store.record(attempt).await.unwrap();
        }
    }
}

pub async fn an_attempt_is_read_back_as_it_was_made(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    world.publish(tenant, &[endpoint], 1).await;
    let leased = world.claim_one(endpoint, 1, Lease(1)).await;
    let answered = world.attempt(leased, 2, Next::Retry(at(3))).await;
    let answered = crate::AttemptRecord {
        response: Ok((503, vec![0, 255, b'\n'])),
        duration: Duration::from_micros(1_234_567),
        trigger: Trigger::Resend,
        ..answered
    };
    world.store.record(answered.clone()).await.unwrap();
    let leased = world.claim_one(endpoint, 3, Lease(1)).await;
    let failed = crate::AttemptRecord {
        response: Err(Failure::new(Cause::Tls, "unknown issuer")),
        attempt_number: 2,
        peer_address: None,
        signature: String::new(),
        ..world.attempt(leased, 4, Next::Failed).await
    };
    world.store.record(failed.clone()).await.unwrap();

    let expected = [failed, answered].map(|record| Attempt {
        id: record.id,
        event: record.event,
        event_type: event_type("post.created"),
        accepted_at: at(1),
        delivery: record.delivery,
        attempt_number: record.attempt_number,
        trigger: record.trigger,
        sent_at: record.sent_at,
        duration: record.duration,
        payload: format!("payload of {}", record.event).into(),
        signature: record.signature,
        peer_address: record.peer_address,
        response: record.response,
        next_retry: record.next.retry_at(),
    });
    let page = attempts_by(AttemptField::SentAt, true);
    let page = world.store.attempts(tenant, endpoint, page).await.unwrap();
    assert_eq!(page, Page { count: 2, items: expected.into() });
}

pub async fn pages_are_ordered_with_ties_and_nulls(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let sent = [(5, Some(90)), (6, None), (5, Some(80)), (4, None), (5, Some(90))];
    world.attempts_at((tenant, endpoint), &sent).await;
    for (field, descending, expected) in [
        (AttemptField::SentAt, false, [4, 1, 3, 5, 2]),
        (AttemptField::SentAt, true, [2, 1, 3, 5, 4]),
        (AttemptField::NextRetry, false, [3, 1, 5, 2, 4]),
        (AttemptField::NextRetry, true, [2, 4, 1, 5, 3]),
    ] {
        let ids = world.attempt_ids(tenant, endpoint, attempts_by(field, descending)).await;
        assert_eq!(ids, expected, "{field:?} {descending}");
    }
    let by = |field, descending| OrderBy { field, descending };
    let mut query = AttemptQuery {
        ordering: vec![by(AttemptField::NextRetry, true), by(AttemptField::SentAt, false)],
        limit: 100,
        offset: 0,
    };
    assert_eq!(world.attempt_ids(tenant, endpoint, query.clone()).await, [4, 2, 1, 5, 3]);
    query.ordering.clear();
    assert_eq!(world.attempt_ids(tenant, endpoint, query).await, [1, 2, 3, 4, 5]);
}

pub async fn a_count_is_exact_on_every_page(world: World) {
    let tenant = world.tenant("default").await;
    let (endpoint, other) = (world.endpoint(tenant).await, world.endpoint(tenant).await);
    world.attempts_at((tenant, endpoint), &[(1, None), (2, None), (3, None)]).await;
    world.attempts_at((tenant, other), &[(1, None)]).await;
    for (limit, offset, expected) in
        [(2, 0, &[3, 2][..]), (2, 2, &[1]), (2, 4, &[]), (0, 0, &[]), (2, u64::MAX, &[])]
    {
        let query = AttemptQuery { limit, offset, ..attempts_by(AttemptField::SentAt, true) };
        let page = world.store.attempts(tenant, endpoint, query.clone()).await.unwrap();
        assert_eq!(page.count, 3);
        assert_eq!(world.attempt_ids(tenant, endpoint, query).await, expected);
    }
}

pub async fn another_tenants_attempts_are_as_if_there_were_none(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let endpoint = world.endpoint(theirs).await;
    world.deliver(theirs, endpoint, 1).await;
    let page = attempts_by(AttemptField::SentAt, true);
    let page = world.store.attempts(ours, endpoint, page).await.unwrap();
    assert_eq!(page, Page { count: 0, items: vec![] });
}
