//! A full disk, a lock that somebody else holds, a job that fails among others.

use std::sync::Arc;

use bytes::Bytes;
use postrider_kernel::Next;

use super::{database, open_here};
use crate::{
    AttemptField, ClaimLimit, IdKind, Lease, Published, Recorded, StoreError,
    conformance::{World, world::attempts_by},
    sqlite::{SqliteStore, query::first},
};

impl SqliteStore {
    /// Lets the file grow to that many pages and no further, as a full disk would.
    async fn limit_pages(&self, pages: i64) {
        let set = move |c: &rusqlite::Connection, _: &mut _| {
            first(c, &format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        };
        self.write(set).await.unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_the_store_goes_on_once_there_is_room() {
    let (store, _directory) = open_here();
    let store = Arc::new(store);
    let world = World::new(store.clone());
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    world.publish(tenant, &[endpoint], 1).await;
    let mut big = world.publication(tenant, &[endpoint], 2).await;
    big.payload = Bytes::from(vec![b'x'; 1 << 20]);
    let (event, kept_from) = (big.event, vec![big.event]);

    store.limit_pages(1).await;
    let refused = world.store.publish(big.clone()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(world.store.known_events(tenant, kept_from.clone()).await.unwrap(), []);
    // There is room for what needs none: a settlement of what was promised before.
    let leased = world.claim_one(endpoint, 1, Lease(1)).await;
    let attempt = world.attempt(leased, 1, Next::Delivered).await;
    assert_eq!(world.store.record(attempt).await.unwrap(), Recorded::Done);

    store.limit_pages(1 << 20).await;
    assert_eq!(world.store.publish(big).await.unwrap(), Published::Fresh);
    assert_eq!(world.store.known_events(tenant, kept_from).await.unwrap(), [event]);
}

#[tokio::test]
async fn a_disk_that_is_full_half_way_keeps_none_of_many_events() {
    let (store, _directory) = open_here();
    let store = Arc::new(store);
    let world = World::new(store.clone());
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(world.publication(tenant, &[endpoint], 2).await);
    }
    all[2].payload = Bytes::from(vec![b'x'; 1 << 20]);
    let events: Vec<_> = all.iter().map(|publication| publication.event).collect();
    store.limit_pages(1).await;
    let refused = world.store.publish_all(all.clone()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(world.store.known_events(tenant, events.clone()).await.unwrap(), []);
    assert_eq!(world.store.earliest_due().await.unwrap(), []);
    store.limit_pages(1 << 20).await;
    world.store.publish_all(all).await.unwrap();
    assert_eq!(world.store.known_events(tenant, events.clone()).await.unwrap(), events);
}

#[tokio::test]
async fn a_full_disk_fails_only_those_that_need_room() {
    let (store, _directory) = open_here();
    let store = Arc::new(store);
    let world = World::new(store.clone());
    let tenant = world.tenant("default").await;
    let mut big = world.publication(tenant, &[], 2).await;
    big.payload = Bytes::from(vec![b'x'; 1 << 20]);
    store.limit_pages(1).await;
    let (ids, published) =
        tokio::join!(world.store.reserve_ids(IdKind::Event, 1), world.store.publish(big));
    assert!(ids.is_ok());
    assert!(matches!(published, Err(StoreError::Unavailable(_))), "{published:?}");
}

#[tokio::test]
async fn a_failing_verb_does_not_fail_its_neighbours() {
    let (store, _directory) = open_here();
    let world = World::new(Arc::new(store));
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(world.publication(tenant, &[endpoint], 1).await);
    }
    all[1].event = all[0].event;
    let publish = |i: usize| world.store.publish(all[i].clone());
    let answers = tokio::join!(publish(0), publish(1), publish(2));
    assert_eq!((answers.0.unwrap(), answers.2.unwrap()), (Published::Fresh, Published::Fresh));
    assert!(matches!(answers.1, Err(StoreError::Inconsistent(_))));
    let claim = world
        .store
        .claim_due(endpoint, all[0].accepted_at, ClaimLimit::count(9), Lease(1))
        .await
        .unwrap();
    assert_eq!(claim.deliveries.len(), 2);
}

#[tokio::test]
async fn attempts_of_one_batch_are_all_counted() {
    let (store, _directory) = open_here();
    let world = World::new(Arc::new(store));
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let mut records = Vec::new();
    for _ in 0..20 {
        world.publish(tenant, &[endpoint], 1).await;
        let leased = world.claim_one(endpoint, 1, Lease(1)).await;
        records.push(world.attempt(leased, 1, Next::Delivered).await);
    }
    let tasks: Vec<_> = records
        .into_iter()
        .map(|record| {
            let store = world.store.clone();
            tokio::spawn(async move { store.record(record).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), Recorded::Done);
    }
    let page = attempts_by(AttemptField::SentAt, true);
    let page = world.store.attempts(tenant, endpoint, page).await.unwrap();
    assert_eq!((page.count, page.items.len()), (20, 20));
}

#[tokio::test]
async fn the_database_itself_keeps_the_audit_log_append_only() {
    let (store, directory) = open_here();
    let world = World::new(Arc::new(store));
    let tenant = world.tenant("default").await;
    let other = rusqlite::Connection::open(database(&directory)).unwrap();
    for change in
        ["DELETE FROM audit", "UPDATE audit SET actor = 'nobody'", "UPDATE audit SET at = 0"]
    {
        let refused = other.execute(change, []).unwrap_err().to_string();
        assert_eq!(refused, "the audit log is append-only", "{change}");
    }
    assert_eq!(world.store.audit(tenant).await.unwrap().len(), 1);
}

#[tokio::test]
async fn reading_goes_on_while_another_process_writes() {
    let (store, directory) = open_here();
    let world = World::new(Arc::new(store));
    let tenant = world.tenant("default").await;
    let other = rusqlite::Connection::open(database(&directory)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; DELETE FROM event_type").unwrap();
    assert_eq!(world.store.tenants().await.unwrap()[0].id, tenant);
    assert_eq!(world.store.event_types(tenant).await.unwrap().len(), 2);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(world.store.event_types(tenant).await.unwrap().len(), 0);
    assert!(world.store.changed_elsewhere().await.unwrap());
}
