//! The heart of the product: after an expire was answered, the old secret signs nothing.

mod support;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use postrider_kernel::SigningSecret;
use serde_json::json;
use support::{
    Server,
    receiver::{Received, Receiver, now},
};

/// An expire that was answered.
struct Answered {
    /// The secret that signs no more.
    old: String,
    /// When the answer had come, in whole seconds.
    at_seconds: i64,
    /// An event that was published after the answer; so were all with a greater id from the same publisher.
    marker: i64,
}

/// Publishes and resends continuously, over several connections, while the secret expires again and again. No request
/// that was signed after an answer, and no event that was published after it, verifies with an older secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_expired_secret_signs_nothing_after_the_answer() {
    const EXPIRES: usize = 40;
    let server = Server::start(&[]).await;
    let receiver = Receiver::start().await;
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    let base = format!("/api/v2/webhook/endpoint/{endpoint}");
    let old_event = client.publish(json!({"published": "before everything"})).await;

    let is_over = Arc::new(AtomicBool::new(false));
    let mut load = Vec::new();
    for publisher in 0..4 {
        let (client, is_over, resend) =
            (client.another(), is_over.clone(), format!("{base}/event/resend/"));
        load.push(tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                client.publish(json!({"publisher": publisher})).await;
                assert_eq!(client.post(&resend, &json!({"event": old_event})).await.status, 204);
            }
        }));
    }

    let mut answers = Vec::new();
    for round in 0..EXPIRES {
        let old = client.reveal(endpoint).await;
        // A grace of 0 and none at all are the same.
        let body = if round % 2 == 0 { json!({}) } else { json!({"grace_period": 0}) };
        let expired = client.post(&format!("{base}/secret/expire/"), &body).await;
        assert_eq!(expired.status, 200, "{}", expired.text());
        let at_seconds = now().as_seconds();
        let marker = client.publish(json!({"published": "after the answer"})).await;
        answers.push(Answered { old, at_seconds, marker });
    }
    is_over.store(true, Ordering::SeqCst);
    for task in load {
        task.await.unwrap();
    }
    let newest = client.reveal(endpoint).await;

    let last = client.publish(json!({"published": "last"})).await;
    let mut ledger: Vec<Received> = Vec::new();
    let mut first_seen: HashMap<i64, usize> = HashMap::new();
    while !first_seen.contains_key(&last)
        || answers.iter().any(|answer| !first_seen.contains_key(&answer.marker))
    {
        let received = receiver.next().await;
        first_seen.entry(received.event_id()).or_insert(ledger.len());
        ledger.push(received);
    }
    assert!(ledger.len() > EXPIRES * 2, "there was load: {} requests", ledger.len());

    for answer in &answers {
        for received in &ledger {
            let is_later = received.signed_at() > answer.at_seconds;
            let is_published_after = received.event_id() >= answer.marker;
            if is_later || is_published_after {
                assert!(
                    !received.verifies(&answer.old),
                    "{} was signed with an expired secret",
                    received.event_id()
                );
            }
        }
    }
    assert!(ledger.iter().find(|received| received.event_id() == last).unwrap().verifies(&newest));
    let secrets: Vec<&str> =
        answers.iter().map(|answer| answer.old.as_str()).chain([newest.as_str()]).collect();
    for received in &ledger {
        let signers = secrets.iter().filter(|secret| received.verifies(secret)).count();
        assert_eq!(signers, 1, "without a grace, one secret signs");
    }
}

/// Which of the secrets, oldest first, sign the next event.
async fn signers(server: &Server, receiver: &Receiver, secrets: &[String]) -> Vec<bool> {
    server.client().publish(json!({"id": 1})).await;
    let received = receiver.next().await;
    secrets.iter().map(|secret| received.verifies(secret)).collect()
}

#[tokio::test]
async fn a_grace_keeps_the_expired_secret_beside_the_new_one_until_it_is_ended() {
    let server = Server::start(&[]).await;
    let receiver = Receiver::start().await;
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    let expire = format!("/api/v2/webhook/endpoint/{endpoint}/secret/expire/");
    let mut secrets = vec![client.reveal(endpoint).await];
    // Five sign at once, at most: a further grace ends the oldest.
    for _ in 0..6 {
        assert_eq!(client.post(&expire, &json!({"grace_period": "3600"})).await.status, 200);
        secrets.push(client.reveal(endpoint).await);
    }
    assert_eq!(
        signers(&server, &receiver, &secrets).await,
        [false, false, true, true, true, true, true]
    );

    assert_eq!(client.post(&expire, &json!({"grace_period": 0})).await.status, 200);
    secrets.push(client.reveal(endpoint).await);
    assert_eq!(
        signers(&server, &receiver, &secrets).await,
        [false, false, false, false, false, false, false, true]
    );
}

/// While events come without a pause, a secret is brought along again and again, and then the grace of the one before is
/// ended. Nothing that was signed after that answer, and no event that was published after it, verifies with the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_secret_whose_grace_was_ended_signs_nothing_after_the_answer() {
    const ROUNDS: u8 = 20;
    let server = Server::start(&[]).await;
    let receiver = Receiver::start().await;
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    let path = format!("/api/v2/webhook/endpoint/{endpoint}/secret/");
    let is_over = Arc::new(AtomicBool::new(false));
    let publish = |client: support::client::Client| {
        let is_over = is_over.clone();
        async move {
            while !is_over.load(Ordering::SeqCst) {
                client.publish(json!({"load": true})).await;
            }
        }
    };
    let load: Vec<_> = (0..4).map(|_| tokio::spawn(publish(client.another()))).collect();

    let mut answers = Vec::new();
    for round in 0..ROUNDS {
        let old = client.reveal(endpoint).await;
        let new = SigningSecret::from_entropy(&[round; 32]);
        let body = json!({"signing_secret": new.reveal(), "grace_period": 3600});
        let brought = client.post(&path, &body).await;
        assert_eq!(brought.status, 201, "{}", brought.text());
        assert_eq!(client.reveal(endpoint).await, new.reveal());
        let beside = client.publish(json!({"published": "in the grace"})).await;
        let listed = client.get(&path).await.json();
        let end = format!("{path}{}/expire/", listed[1]["id"]);
        assert_eq!(client.post(&end, &json!({})).await.status, 200);
        let at_seconds = now().as_seconds();
        let marker = client.publish(json!({"published": "after the answer"})).await;
        answers.push((Answered { old, at_seconds, marker }, beside));
    }
    is_over.store(true, Ordering::SeqCst);
    for task in load {
        task.await.unwrap();
    }
    let mut ledger: Vec<Received> = Vec::new();
    while !answers
        .iter()
        .all(|(answer, _)| ledger.iter().any(|received| received.event_id() == answer.marker))
    {
        ledger.push(receiver.next().await);
    }
    assert!(ledger.len() > usize::from(ROUNDS) * 3, "there was load: {}", ledger.len());
    for (answer, _) in &answers {
        let is_late = |received: &&Received| {
            received.signed_at() > answer.at_seconds || received.event_id() >= answer.marker
        };
        let broken = ledger.iter().filter(is_late).filter(|late| late.verifies(&answer.old));
        assert_eq!(broken.count(), 0, "signed after the answer");
    }
    let old_signed = answers.iter().filter(|(answer, beside)| {
        let published = ledger.iter().find(|received| received.event_id() == *beside);
        published.is_some_and(|received| received.verifies(&answer.old))
    });
    assert!(old_signed.count() > 0, "in its grace, the old one signs beside the new one");
}

#[tokio::test]
async fn a_grace_that_has_run_out_no_longer_signs() {
    let server = Server::start(&[]).await;
    let receiver = Receiver::start().await;
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    let old = client.reveal(endpoint).await;
    let expire = format!("/api/v2/webhook/endpoint/{endpoint}/secret/expire/");
    let before = now();
    assert_eq!(client.post(&expire, &json!({"grace_period": 1})).await.status, 200);
    let after = now();
    loop {
        client.publish(json!({"id": 1})).await;
        let received = receiver.next().await;
        if received.verifies(&old) {
            assert!(
                received.signed_at() <= after.as_seconds() + 1,
                "it signs for a second and no longer"
            );
        } else {
            assert!(received.signed_at() > before.as_seconds(), "it signs for a whole second");
            break;
        }
    }
}

#[tokio::test]
async fn nothing_is_sent_after_a_deactivation_or_deletion_was_answered() {
    let server = Server::start(&[]).await;
    let receiver = Receiver::start().await;
    let client = server.client();
    for is_deletion in [false, true] {
        let endpoint = client.create_endpoint(&receiver.url).await;
        let path = format!("/api/v2/webhook/endpoint/{endpoint}/");
        let mut publishers = Vec::new();
        for _ in 0..8 {
            let client = client.another();
            publishers.push(tokio::spawn(async move {
                for _ in 0..25 {
                    client.publish(json!({"id": 1})).await;
                }
            }));
        }
        receiver.next().await;
        if is_deletion {
            assert_eq!(client.delete(&path).await.status, 204);
        } else {
            assert_eq!(client.json("PATCH", &path, &json!({"is_active": false})).await.status, 200);
        }
        let at_seconds = now().as_seconds();
        for publisher in publishers {
            publisher.await.unwrap();
        }
        // Another endpoint's delivery shows that what was to come has come.
        let other = Receiver::start().await;
        client.create_endpoint(&other.url).await;
        client.publish(json!({"id": 2})).await;
        other.next().await;
        while let Some(received) = receiver.try_next().await {
            assert!(received.signed_at() <= at_seconds, "signed after the answer");
        }
    }
}
