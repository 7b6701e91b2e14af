//! A job that fails among others, a commit whose answer is lost, a server that isn't there.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use postrider_kernel::Next;

use super::{connect, open_here, open_two, until_somebody_waits};
use crate::{
    AttemptField, ClaimLimit, IdempotencyKey, Lease, PublishAnswer, Published, Recorded,
    StoreError,
    conformance::{
        World,
        world::{at, attempts_by},
    },
    postgres::{
        PostgresStore,
        query::{get, one},
    },
};

fn key(body: u8) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { key: "k".into(), request_hash: [body; 32], not_before: at(0) })
}

#[tokio::test]
async fn a_failing_verb_does_not_fail_its_neighbours() {
    let (store, _database) = open_here().await;
    let world = World::new(Arc::new(store));
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let mut all = Vec::new();
    for _ in 0..9 {
        all.push(world.publication(tenant, &[endpoint], 1).await);
    }
    let known = world.publication(tenant, &[], 1).await;
    world.store.publish(known.clone()).await.unwrap();
    all[4].event = known.event;
    let publish = |publication| {
        let store = world.store.clone();
        tokio::spawn(async move { store.publish(publication).await })
    };
    let tasks: Vec<_> = all.into_iter().map(publish).collect();
    for (place, task) in tasks.into_iter().enumerate() {
        match task.await.unwrap() {
            Err(StoreError::Inconsistent(_)) if place == 4 => {}
            answer => assert_eq!(answer.unwrap(), Published::Fresh),
        }
    }
    let limit = ClaimLimit::count(99);
    let claim = world.store.claim_due(endpoint, at(1), limit, Lease(1)).await.unwrap();
    assert_eq!(claim.deliveries.len(), 8);
}

#[tokio::test]
async fn attempts_that_are_written_at_once_are_all_counted() {
    let (store, _database) = open_here().await;
    let world = World::new(Arc::new(store));
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let mut records = Vec::new();
    for _ in 0..50 {
        world.publish(tenant, &[endpoint], 1).await;
        let leased = world.claim_one(endpoint, 1, Lease(1)).await;
        records.push(world.attempt(leased, 1, Next::Delivered).await);
    }
    let record = |attempt| {
        let store = world.store.clone();
        tokio::spawn(async move { store.record(attempt).await })
    };
    let tasks: Vec<_> = records.into_iter().map(record).collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), Recorded::Done);
    }
    let page = attempts_by(AttemptField::SentAt, true);
    let page = world.store.attempts(tenant, endpoint, page).await.unwrap();
    assert_eq!((page.count, page.items.len()), (50, 50));
}

#[tokio::test]
async fn a_record_whose_answer_was_lost_may_come_again() {
    let (store, _database) = open_here().await;
    let world = World::new(Arc::new(store));
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    world.publish(tenant, &[endpoint], 1).await;
    let leased = world.claim_one(endpoint, 1, Lease(1)).await;
    let attempt = world.attempt(leased, 1, Next::Retry(at(2))).await;
    for _ in 0..2 {
        assert_eq!(world.store.record(attempt.clone()).await.unwrap(), Recorded::Done);
    }
    let leased = world.claim_one(endpoint, 2, Lease(2)).await;
    assert_eq!(world.store.record(attempt).await.unwrap(), Recorded::Done);
    let page = attempts_by(AttemptField::SentAt, true);
    assert_eq!(world.store.attempts(tenant, endpoint, page).await.unwrap().count, 1);
    let next = world.attempt(leased, 2, Next::Delivered).await;
    assert_eq!(world.store.record(next).await.unwrap(), Recorded::Done, "its lease was left alone");
}

#[tokio::test]
async fn of_many_requests_with_one_key_on_two_nodes_one_is_kept() {
    let (one, other, _database) = open_two().await;
    let world = World::new(one.clone());
    let tenant = world.tenant("default").await;
    let mut tasks = Vec::new();
    for turn in 0..20 {
        let mut publication = world.publication(tenant, &[], 1).await;
        publication.idempotency = key(1);
        let store = if turn % 2 == 0 { one.clone() } else { other.clone() };
        tasks.push(tokio::spawn(async move {
            let event = publication.event;
            match store.publish(publication).await.unwrap() {
                Published::Fresh => (event, true),
                Published::Repeat(PublishAnswer { event, .. }) => (event, false),
                other => panic!("{other:?}"),
            }
        }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|(_, is_fresh)| *is_fresh).count(), 1);
    let events: BTreeSet<_> = answers.iter().map(|(event, _)| *event).collect();
    assert_eq!(events.len(), 1);
}

#[tokio::test]
async fn a_repeat_waits_for_the_first_that_is_not_committed_yet() {
    let (store, database) = open_here().await;
    let world = World::new(Arc::new(store));
    let tenant = world.tenant("default").await;
    let mut repeat = world.publication(tenant, &[], 1).await;
    repeat.idempotency = key(2);
    let asked = vec![repeat.event];
    let first = connect(&database.url()).await;
    let insert = format!(
        "BEGIN; INSERT INTO idempotency VALUES
         ({tenant}, 'k', decode(repeat('01', 32), 'hex'), 77, 'post.created', 1.5, 0, {})",
        at(1).as_micros()
    );
    first.batch_execute(&insert).await.unwrap();
    let store = world.store.clone();
    let repeating = tokio::spawn(async move { store.publish(repeat).await });
    until_somebody_waits(&database).await;
    first.batch_execute("COMMIT").await.unwrap();
    assert_eq!(repeating.await.unwrap().unwrap(), Published::KeyReused);
    assert_eq!(world.store.known_events(tenant, asked).await.unwrap(), []);
}

#[tokio::test]
async fn a_commit_is_on_disk_whatever_the_databases_default() {
    let (store, database) = open_here().await;
    drop(store);
    database
        .run("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$")
        .await;
    let store = PostgresStore::open(&database.url()).await.unwrap();
    let client = store.client().await.unwrap();
    let setting = one(&client, "SHOW synchronous_commit", &[], |row| {
        get::<String>(row, "synchronous_commit")
    });
    assert_eq!(setting.await.unwrap(), "on");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    for url in ["postgres://u@127.0.0.1:1/d", "postgres://u@%2Fnowhere/d"] {
        let opened = PostgresStore::open(url).await.map(drop);
        assert!(matches!(opened, Err(StoreError::Unavailable(_))), "{opened:?}");
    }
    let database = super::TestDatabase::create().await;
    let opened = PostgresStore::open(&format!("{}_x", database.url())).await.map(drop);
    let Err(StoreError::Unavailable(text)) = opened else { panic!("{opened:?}") };
    assert!(text.contains("does not exist"), "{text}");
}

#[tokio::test]
async fn a_batch_of_large_payloads_arrives_whole() {
    let (store, _database) = open_here().await;
    let world = World::new(Arc::new(store));
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let mut all = Vec::new();
    for byte in 0..4 {
        let mut publication = world.publication(tenant, &[endpoint], 1).await;
        publication.payload = Bytes::from(vec![byte; 6 << 20]);
        all.push(publication);
    }
    assert_eq!(world.store.publish_all(all).await.unwrap(), Published::Fresh);
    let limit = ClaimLimit { count: 9, bytes: 13 << 20 };
    let claim = world.store.claim_due(endpoint, at(1), limit, Lease(1)).await.unwrap();
    let payloads: Vec<_> =
        claim.deliveries.iter().map(|claimed| claimed.payload[5 << 20]).collect();
    assert_eq!(payloads, [0, 1]);
}
