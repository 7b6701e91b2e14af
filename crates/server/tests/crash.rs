//! `kill -9`, again and again, under load: everything that got a 201 arrives.

mod support;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use serde_json::json;
use support::{
    Server, TYPE,
    client::Client,
    receiver::{Receiver, Reply, answer},
};

const CRASHES: usize = 20;

/// How many 201s are waited for between two crashes.
const ACCEPTED_BETWEEN: usize = 60;

/// What publishers were told, and where the server is now.
struct Shared {
    accepted: Mutex<HashSet<i64>>,
    count: AtomicUsize,
    client: Mutex<Client>,
    is_over: AtomicBool,
}

impl Shared {
    fn client(&self) -> Client {
        self.client.lock().unwrap().another()
    }
}

async fn publish_for_as_long_as_it_takes(shared: Arc<Shared>) {
    let event = Bytes::from(json!({"type": TYPE, "data": {"text": "x".repeat(400)}}).to_string());
    let headers = [("content-type", "application/json")];
    let mut client = shared.client();
    while !shared.is_over.load(Ordering::SeqCst) {
        match client.try_send("POST", "/api/v2/webhook/event/", &headers, event.clone()).await {
            Ok(response) => {
                assert_eq!(response.status, 201, "{}", response.text());
                shared
                    .accepted
                    .lock()
                    .unwrap()
                    .insert(response.json()["event_id"].as_i64().unwrap());
                shared.count.fetch_add(1, Ordering::SeqCst);
            }
            // The server was killed: the next one listens on another port.
            Err(_) => {
                tokio::task::yield_now().await;
                client = shared.client();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_that_got_a_201_arrives_however_often_the_process_is_killed() {
    let mut server = Server::start_impatient().await;
    // One receiver is fine, one fails every third time, so that retries are under way at every crash.
    let fine = Receiver::start().await;
    let moody =
        Receiver::scripted(
            |nth, _| if nth % 3 == 0 { Reply::Answer(503, "", "") } else { answer(200) },
        )
        .await;
    let client = server.client();
    client.create_endpoint(&fine.url).await;
    client.create_endpoint(&moody.url).await;

    let shared = Arc::new(Shared {
        accepted: Mutex::default(),
        count: AtomicUsize::new(0),
        client: Mutex::new(client),
        is_over: AtomicBool::new(false),
    });
    let publishers: Vec<_> =
        (0..8).map(|_| tokio::spawn(publish_for_as_long_as_it_takes(shared.clone()))).collect();
    for crash in 1..=CRASHES {
        while shared.count.load(Ordering::SeqCst) < crash * ACCEPTED_BETWEEN {
            tokio::task::yield_now().await;
        }
        server.crash_and_restart().await;
        *shared.client.lock().unwrap() = server.client();
    }
    shared.is_over.store(true, Ordering::SeqCst);
    for publisher in publishers {
        publisher.await.unwrap();
    }

    let accepted = shared.accepted.lock().unwrap().clone();
    assert!(accepted.len() >= CRASHES * ACCEPTED_BETWEEN);
    for receiver in [&fine, &moody] {
        let mut ledger: HashMap<i64, Vec<u8>> = HashMap::new();
        let mut requests = 0;
        let mut missing = accepted.clone();
        while !missing.is_empty() {
            let received = receiver.next().await;
            requests += 1;
            missing.remove(&received.event_id());
            let first = ledger.entry(received.event_id()).or_insert_with(|| received.body.clone());
            assert_eq!(*first, received.body, "the same bytes on every attempt");
        }
        println!("{} events, {} requests, {CRASHES} crashes", ledger.len(), requests);
    }
}
