//! The master key is rotated while servers run, and nothing that was promised breaks on the way.

mod support;

use postrider_store::postgres::testing::TestDatabase;
use serde_json::json;
use support::{Server, client::Client, receiver::Receiver};

/// The fingerprints that a server's keys have, the newest first, and how many secrets are under each.
async fn keys(server: &Server) -> Vec<(String, i64)> {
    let shown = server.command(&["key", "show"], "").await;
    let keys = shown["keys"].as_array().unwrap().iter();
    keys.map(|key| {
        let secrets = key["secrets"].as_i64().unwrap();
        (key["fingerprint"].as_str().unwrap().to_owned(), secrets)
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_rotated_while_the_server_runs_and_the_old_one_is_needed_no_more() {
    let mut server = Server::start(&[]).await;
    if server.is_shared() {
        // Nodes rotate in two steps, which is the next test.
        return;
    }
    let receiver = Receiver::start().await;
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    let secret = client.reveal(endpoint).await;
    let jwt = server.command(&["jwt-secret", "show"], "").await;
    let before = keys(&server).await;
    assert_eq!(before.len(), 1);

    let rotated = server.command(&["key", "rotate"], "").await;
    assert_eq!(rotated["is_staged"], false);
    let after = keys(&server).await;
    assert_eq!(after.len(), 2);
    assert_eq!(
        (&after[0].0, after[0].1),
        (&rotated["fingerprint"].as_str().unwrap().to_owned(), before[0].1)
    );
    assert_eq!(after[1], (before[0].0.clone(), 0));
    assert_eq!(client.reveal(endpoint).await, secret);
    let second = client.create_endpoint(&receiver.url).await;
    client.publish(json!({})).await;
    for _ in 0..2 {
        receiver.next().await;
    }

    // Twice more, and only the newest key is kept. A rotation may first finish the one before: until the server has heard
    // of that, it seals under the older key.
    let file = server.data_dir().join("master.key");
    let mut text = String::new();
    while text.lines().count() < 4 {
        server.command(&["key", "rotate"], "").await;
        text = std::fs::read_to_string(&file).unwrap();
    }
    std::fs::write(&file, text.lines().next().unwrap()).unwrap();
    server.crash_and_restart().await;
    let client = server.client();
    assert_eq!(client.reveal(endpoint).await, secret);
    assert!(client.reveal(second).await.starts_with("whsec_"));
    assert_eq!(server.command(&["jwt-secret", "show"], "").await, jwt);
    client.publish(json!({})).await;
    for _ in 0..2 {
        receiver.next().await;
    }
    // An older key alone is refused, and both are named.
    std::fs::write(&file, text.lines().last().unwrap()).unwrap();
    let (success, _, told) = server.run(&["key", "show"], "").await;
    assert!(!success);
    assert!(told.contains(&before[0].0), "{told}");
    let newest = server.store().await.key_check().await.unwrap().unwrap();
    let newest: String = newest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(told.contains(&newest), "{told}");
    assert!(!told.contains(text.lines().last().unwrap()), "a key is never shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_take_a_new_key_over_from_the_one_that_rotated() {
    let database = TestDatabase::create().await;
    let url = database.url();
    let one = Server::node(&url, &[]).await;
    let other = Server::node(&url, &[]).await;
    let token = std::fs::read_to_string(one.data_dir().join("admin.token")).unwrap();
    let client = |server: &Server| Client::new(&server.url, token.trim());
    let receiver = Receiver::start().await;
    let endpoint = client(&one).create_endpoint(&receiver.url).await;
    let secret = client(&other).reveal(endpoint).await;

    let rotate = ["key", "rotate", "--database-url", &url];
    let staged = one.command(&rotate, "").await;
    assert_eq!(staged["is_staged"], true);
    assert_eq!(client(&other).reveal(endpoint).await, secret);
    let rotated = one.command(&rotate, "").await;
    assert_eq!(
        (rotated["is_staged"].clone(), &rotated["fingerprint"]),
        (json!(false), &staged["fingerprint"])
    );

    // The other node was forgotten: it can't read the secret, says so, and reads its file again.
    let reveal = format!("/api/v2/webhook/endpoint/{endpoint}/secret/reveal/");
    assert_eq!(client(&other).post(&reveal, &json!({})).await.status, 500);
    assert_eq!(client(&one).reveal(endpoint).await, secret);
    std::fs::copy(one.data_dir().join("master.key"), other.data_dir().join("master.key")).unwrap();
    assert_eq!(client(&other).reveal(endpoint).await, secret);
    let made = client(&other).create_endpoint(&receiver.url).await;
    let secret = client(&other).reveal(made).await;
    assert_eq!(client(&one).reveal(made).await, secret);
    client(&other).publish(json!({})).await;
    for _ in 0..2 {
        receiver.next().await;
    }
}
