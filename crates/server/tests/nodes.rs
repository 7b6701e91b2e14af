//! Many nodes on one Postgres: what one changes holds on all, and what one leaves behind is delivered by the others.

mod support;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::future::join_all;
use postrider_store::postgres::testing::{TestDatabase, TestServer};
use serde_json::json;
use support::{
    Server, TYPE,
    cable::Cable,
    client::Client,
    receiver::{Received, Receiver, now},
};

/// Nodes, and the database that they share.
struct Cluster {
    // Dropped first: a database is not taken away from under its nodes.
    nodes: Vec<Server>,
    token: String,
    database: TestDatabase,
}

impl Cluster {
    /// Starts a node for each list of options.
    async fn start(options: &[&[&str]]) -> Self {
        Self::start_on(TestDatabase::create().await, options).await
    }

    /// The same, on a given database.
    async fn start_on(database: TestDatabase, options: &[&[&str]]) -> Self {
        let first = Server::node(&database.url(), options[0]).await;
        let token = std::fs::read_to_string(first.data_dir().join("admin.token")).unwrap();
        let mut cluster = Self { nodes: vec![first], token: token.trim().to_owned(), database };
        for options in &options[1..] {
            cluster.join(options).await;
        }
        cluster
    }

    /// Starts another node.
    async fn join(&mut self, options: &[&str]) {
        self.nodes.push(Server::node(&self.database.url(), options).await);
    }

    /// A client of a node, with the operator's token.
    fn client(&self, node: usize) -> Client {
        Client::new(&self.nodes[node].url, &self.token)
    }

    /// Runs a command on the database, from a node's directory.
    async fn command(&self, args: &[&str]) -> serde_json::Value {
        let url = self.database.url();
        self.nodes[0].command(&[args, &["--database-url", &url]].concat(), "").await
    }

    /// Waits until so many nodes live.
    async fn wait_for_living(&self, count: i64) {
        while self.database.number("SELECT count(*) FROM node").await != count {}
    }
}

/// Publishers on some nodes, and what they were told.
struct Load {
    accepted: Arc<Mutex<HashSet<i64>>>,
    refused: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    publishers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// Starts some publishers for each client. A node that can't be reached, or refuses, is asked again.
    fn start(clients: &[Client]) -> Self {
        let accepted = Arc::<Mutex<HashSet<i64>>>::default();
        let (refused, is_over) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let publisher = |client: &Client| {
            let client = client.another();
            let (accepted, refused, is_over) = (accepted.clone(), refused.clone(), is_over.clone());
            tokio::spawn(async move {
                let event = Bytes::from(json!({"type": TYPE, "data": {"n": 1}}).to_string());
                let headers = [("content-type", "application/json")];
                while !is_over.load(Ordering::SeqCst) {
                    let path = "/api/v2/webhook/event/";
                    match client.try_send("POST", path, &headers, event.clone()).await {
                        Ok(response) if response.status == 201 => {
                            let id = response.json()["event_id"].as_i64().unwrap();
                            accepted.lock().unwrap().insert(id);
                        }
                        Ok(response) => {
                            assert_eq!(response.status, 503, "{}", response.text());
                            refused.store(true, Ordering::SeqCst);
                        }
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
            })
        };
        let publishers = clients.iter().flat_map(|client| [publisher(client), publisher(client)]);
        let publishers = publishers.collect();
        Self { accepted, refused, is_over, publishers }
    }

    fn count(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    /// Waits until so many more are accepted.
    async fn more(&self, count: usize) {
        let before = self.count();
        while self.count() < before + count {
            tokio::task::yield_now().await;
        }
    }

    /// Ends it; what was accepted.
    async fn end(self) -> HashSet<i64> {
        self.is_over.store(true, Ordering::SeqCst);
        for publisher in self.publishers {
            publisher.await.unwrap();
        }
        let accepted = self.accepted.lock().unwrap();
        accepted.clone()
    }
}

/// Receives until each of these events has come; all that came.
async fn receive_all(receiver: &Receiver, mut missing: HashSet<i64>) -> Vec<Received> {
    let mut ledger = Vec::new();
    while !missing.is_empty() {
        let received = receiver.next().await;
        missing.remove(&received.event_id());
        ledger.push(received);
    }
    ledger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_made_on_one_node_gets_the_very_next_event_of_another() {
    let cluster = Cluster::start(&[&[], &[]]).await;
    let (one, other) = (cluster.client(0), cluster.client(1));
    for round in 1..=15 {
        let receiver = Receiver::start().await;
        one.create_endpoint(&receiver.url).await;
        let published =
            other.post("/api/v2/webhook/event/", &json!({"type": TYPE, "data": {}})).await;
        assert_eq!(published.status, 201, "{}", published.text());
        assert_eq!(published.json()["endpoint_count"], round);
        assert_eq!(receiver.next().await.event_id(), published.json()["event_id"]);
    }
    // A node that hung meanwhile was not waited for, and yet the event that reaches it first knows of the endpoint.
    for round in 16..=20 {
        cluster.nodes[1].signal("STOP").await;
        let receiver = Receiver::start().await;
        one.create_endpoint(&receiver.url).await;
        let client = other.another();
        let publishing = tokio::spawn(async move {
            client.post("/api/v2/webhook/event/", &json!({"type": TYPE, "data": {}})).await
        });
        cluster.nodes[1].signal("CONT").await;
        let published = publishing.await.unwrap();
        assert_eq!(published.status, 201, "{}", published.text());
        assert_eq!(published.json()["endpoint_count"], round);
        assert_eq!(receiver.next().await.event_id(), published.json()["event_id"]);
    }
    // An event type, too.
    let added = json!({"type": "ours.alone", "description": ""});
    let answer = one.post("/api/v2/webhook/event_type/", &added).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let event = json!({"type": "ours.alone", "data": {}});
    let published = other.post("/api/v2/webhook/event/", &event).await;
    assert_eq!(published.status, 201, "{}", published.text());
    let bulk = other.post("/api/v2/webhook/event/bulk/", &json!([event, event])).await;
    assert_eq!(bulk.status, 201, "{}", bulk.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_nodes_that_start_at_once_make_one_instance() {
    let database = TestDatabase::create().await;
    let url = database.url();
    let nodes = join_all((0..10).map(|_| Server::node(&url, &[]))).await;
    let has_token = |node: &&Server| node.data_dir().join("admin.token").exists();
    let maker = nodes.iter().find(has_token).expect("somebody made the instance");
    assert_eq!(nodes.iter().filter(has_token).count(), 1);
    let tenants = maker.command(&["tenant", "list", "--database-url", &url], "").await;
    assert_eq!(tenants.as_array().unwrap().len(), 1, "{tenants}");
    let tokens = maker.command(&["token", "list", "--database-url", &url], "").await;
    assert_eq!(tokens.as_array().unwrap().len(), 1, "{tokens}");
    let token = std::fs::read_to_string(maker.data_dir().join("admin.token")).unwrap();
    for node in &nodes {
        Client::new(&node.url, token.trim()).publish(json!({})).await;
    }
    // The last of them finds another key.
    let stranger = &nodes[9];
    let key = stranger.data_dir().join("master.key");
    std::fs::write(&key, "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=\n").unwrap();
    let list = ["tenant", "list", "--database-url", &url];
    let (success, _, said) = stranger.run(&list, "").await;
    assert!(!success && said.contains("is not the one"), "{said}");
    // And without one it makes none.
    std::fs::remove_file(&key).unwrap();
    let (success, _, said) = stranger.run(&list, "").await;
    assert!(!success && said.contains("is missing") && !key.exists(), "{said}");
}

/// A secret expires again and again under load. Meanwhile the third node is stopped, with a queue of its own: five times just
/// until the answer is there, and once for longer than its lease. The answer comes without it, and when it goes on, it signs
/// nothing with the old secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_expired_secret_signs_nothing_on_any_node_after_the_answer() {
    let cluster = Cluster::start(&[&[], &[], &["--concurrency", "1"]]).await;
    let receiver = Receiver::start().await;
    let client = cluster.client(0);
    let endpoint = client.create_endpoint(&receiver.url).await;
    let expire = format!("/api/v2/webhook/endpoint/{endpoint}/secret/expire/");
    let load = Load::start(&[cluster.client(0), cluster.client(1)]);

    let (mut answers, mut queued, mut ledger) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..12 {
        load.more(30).await;
        let is_stopped = (3..=8).contains(&round);
        if is_stopped {
            let events = vec![json!({"type": TYPE, "data": {"queued": true}}); 400];
            let bulk = cluster.client(2).post("/api/v2/webhook/event/bulk/", &json!(events)).await;
            cluster.nodes[2].signal("STOP").await;
            assert_eq!(bulk.status, 201, "{}", bulk.text());
            let ids = bulk.json().as_array().unwrap().clone();
            queued.extend(ids.iter().map(|event| event["event_id"].as_i64().unwrap()));
        }
        let old = client.reveal(endpoint).await;
        // From another node than the next.
        let expired = cluster.client(round % 2).post(&expire, &json!({})).await;
        assert_eq!(expired.status, 200, "{}", expired.text());
        let at_seconds = now().as_seconds();
        let marker = cluster.client((round + 1) % 2).publish(json!({"after": round})).await;
        while let Some(received) = receiver.try_next().await {
            ledger.push(received);
        }
        answers.push(Answered { old, at_seconds, marker, seen: ledger.len(), is_stopped });
        if round == 8 {
            cluster.wait_for_living(2).await;
        }
        if is_stopped {
            cluster.nodes[2].signal("CONT").await;
            cluster.wait_for_living(3).await;
        }
    }
    // The node that was stopped delivers again, and by the newest secret.
    let newest = client.reveal(endpoint).await;
    let last = cluster.client(2).publish(json!({"published": "last"})).await;
    let accepted = load.end().await;
    assert!(accepted.len() > 300);
    let markers = answers.iter().map(|answer| answer.marker);
    let mut missing: HashSet<_> = accepted.into_iter().chain(markers).chain([last]).collect();
    missing.extend(&queued);
    for received in &ledger {
        missing.remove(&received.event_id());
    }
    ledger.extend(receive_all(&receiver, missing).await);

    for Answered { old, at_seconds, marker, seen, is_stopped } in &answers {
        let verifies = |received: &&Received| received.verifies(old);
        let is_late = |received: &&Received| {
            received.signed_at() > *at_seconds || received.event_id() == *marker
        };
        assert_eq!(ledger.iter().filter(is_late).filter(verifies).count(), 0);
        if *is_stopped {
            // One request may have been on its way: it was signed when the node was stopped.
            let is_queued = |received: &&Received| queued.contains(&received.event_id());
            let after = ledger[*seen..].iter().filter(is_queued).filter(verifies).count();
            assert!(after <= 1, "{after} requests were signed with an expired secret");
        }
    }
    assert!(ledger.iter().find(|received| received.event_id() == last).unwrap().verifies(&newest));
}

/// A grace that one node ends has ended on the other one, too, when the answer has come.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_grace_that_was_ended_signs_nothing_on_any_node_after_the_answer() {
    let cluster = Cluster::start(&[&[], &[]]).await;
    let receiver = Receiver::start().await;
    let (one, other) = (cluster.client(0), cluster.client(1));
    let endpoint = one.create_endpoint(&receiver.url).await;
    let path = format!("/api/v2/webhook/endpoint/{endpoint}/secret/");
    for _ in 0..10 {
        let old = one.reveal(endpoint).await;
        let expired = one.post(&format!("{path}expire/"), &json!({"grace_period": 3600})).await;
        assert_eq!(expired.status, 200, "{}", expired.text());
        other.publish(json!({})).await;
        assert!(receiver.next().await.verifies(&old), "the grace runs on the other node");
        let listed = other.get(&path).await.json();
        let end = format!("{path}{}/expire/", listed[1]["id"]);
        assert_eq!(one.post(&end, &json!({})).await.status, 200);
        other.publish(json!({})).await;
        assert!(!receiver.next().await.verifies(&old));
    }
}

/// An expire that was answered.
struct Answered {
    old: String,
    /// When, in whole seconds.
    at_seconds: i64,
    /// An event that was published after it.
    marker: i64,
    /// How many requests had come by then.
    seen: usize,
    /// Whether a node was stopped that had a queue.
    is_stopped: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_killed_node_held_is_delivered_by_the_others() {
    const IN_FLIGHT: usize = 16;
    let options: &[&str] = &["--concurrency", "16"];
    let mut cluster = Cluster::start(&[options, options, options]).await;
    let receiver = Receiver::start().await;
    cluster.client(0).create_endpoint(&receiver.url).await;
    let load = Load::start(&[cluster.client(0), cluster.client(1), cluster.client(2)]);
    load.more(300).await;
    cluster.nodes[2].crash().await;
    load.more(300).await;
    let accepted = load.end().await;
    let ledger = receive_all(&receiver, accepted).await;
    let mut bodies = HashMap::<i64, &[u8]>::new();
    for received in &ledger {
        let first = bodies.entry(received.event_id()).or_insert(&received.body);
        assert_eq!(*first, received.body, "the same bytes on every attempt");
    }
    let duplicates = ledger.len() - bodies.len();
    assert!(duplicates <= IN_FLIGHT, "{duplicates} duplicates");
    println!("{} events, {duplicates} duplicates", bodies.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_held_that_was_told_to_stop_is_delivered_by_the_others() {
    let mut cluster = Cluster::start(&[&[], &["--concurrency", "1"]]).await;
    let receiver = Receiver::start().await;
    cluster.client(0).create_endpoint(&receiver.url).await;
    let client = cluster.client(1);
    let events = join_all(
        (0..200).map(|_| client.another()).map(async |client| client.publish(json!({})).await),
    );
    let events: HashSet<i64> = events.await.into_iter().collect();
    assert!(cluster.nodes[1].stop().await);
    cluster.wait_for_living(1).await;
    let ledger = receive_all(&receiver, events.clone()).await;
    assert_eq!(ledger.len(), events.len(), "each once: it was handed over in good order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_go_on_when_their_database_does() {
    let cluster = Cluster::start(&[&[], &[]]).await;
    let receiver = Receiver::start().await;
    cluster.client(0).create_endpoint(&receiver.url).await;
    let load = Load::start(&[cluster.client(0), cluster.client(1)]);
    load.more(200).await;
    cluster.database.close().await;
    while !load.refused.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    let ready = cluster.client(0).get("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    cluster.database.open_again().await;
    load.more(200).await;
    let accepted = load.end().await;
    receive_all(&receiver, accepted).await;
    assert_eq!(cluster.client(0).get("/readyz").await.status, 200);
}

/// Three nodes under load on a Postgres of their own, which is restarted five times, twice without a good end. Meanwhile one
/// node is stopped for longer than its lease and goes on, one is cut off from the database for longer than its lease, and one
/// is killed. In the end all that was accepted has arrived; twice came only what was in flight at one of these times.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_happens_to_nodes_and_their_database_nothing_is_lost() {
    const IN_FLIGHT: usize = 4;
    let mut server = TestServer::start();
    let database = TestDatabase::create_on(&server).await;
    let options: &[&str] = &["--concurrency", "4"];
    let mut cluster = Cluster::start_on(database, &[options, options]).await;
    let cable = Cable::to(server.socket()).await;
    cluster.nodes.push(Server::node(&cable.url(&cluster.database.url()), options).await);
    let receiver = Receiver::start().await;
    cluster.client(0).create_endpoint(&receiver.url).await;
    let load = Load::start(&[cluster.client(0), cluster.client(1), cluster.client(2)]);

    load.more(100).await;
    server.restart(false);
    load.more(100).await;
    cluster.nodes[1].signal("STOP").await;
    cluster.wait_for_living(2).await;
    server.restart(true);
    load.more(100).await;
    cluster.nodes[1].signal("CONT").await;
    cluster.wait_for_living(3).await;
    cable.cut();
    cluster.wait_for_living(2).await;
    load.more(100).await;
    server.restart(false);
    load.more(100).await;
    cable.mend();
    cluster.wait_for_living(3).await;
    load.more(100).await;
    cluster.nodes[0].crash().await;
    server.restart(true);
    load.more(100).await;
    server.restart(false);
    load.more(100).await;
    let accepted = load.end().await;

    let count = accepted.len();
    let mut ledger = receive_all(&receiver, accepted).await;
    // What came without its 201 having been heard arrives, too: the backlog drains.
    while cluster.database.number("SELECT count(*) FROM delivery WHERE status < 2").await > 0 {}
    while let Some(received) = receiver.try_next().await {
        ledger.push(received);
    }
    let mut firsts = HashMap::new();
    for received in &ledger {
        let said = (received.headers.get("webhook-id"), &received.body);
        let first = firsts.entry(received.event_id()).or_insert_with(|| said);
        assert_eq!(*first, said, "the same id and the same bytes on every attempt");
    }
    let duplicates = ledger.len() - firsts.len();
    // Five restarts met three nodes, and three faults one.
    assert!(duplicates <= (5 * 3 + 3) * IN_FLIGHT, "{duplicates} duplicates");
    println!("{count} events accepted, {} came, {duplicates} duplicates", firsts.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_or_deactivated_on_one_node_is_so_on_all() {
    let cluster = Cluster::start(&[&[], &[]]).await;
    let made = cluster.command(&["token", "create", "--role", "admin"]).await;
    let token = made["token"].as_str().unwrap();
    let client = Client::new(&cluster.nodes[1].url, token);
    client.publish(json!({})).await;
    cluster.command(&["token", "revoke", &made["id"].to_string()]).await;
    // Every node hears of it within a second, and the test waits for as long as it takes.
    while client.get("/api/v2/webhook/endpoint/").await.status != 401 {}

    let receiver = Receiver::start().await;
    let (one, other) = (cluster.client(0), cluster.client(1));
    let endpoint = one.create_endpoint(&receiver.url).await;
    let path = format!("/api/v2/webhook/endpoint/{endpoint}/");
    other.publish(json!({})).await;
    receiver.next().await;
    let inactive = one.json("PATCH", &path, &json!({"is_active": false})).await;
    assert_eq!(inactive.status, 200, "{}", inactive.text());
    let published = other.post("/api/v2/webhook/event/", &json!({"type": TYPE, "data": {}})).await;
    assert_eq!(published.json()["endpoint_count"], 0);
    let active = other.json("PATCH", &path, &json!({"is_active": true})).await;
    assert_eq!(active.status, 200, "{}", active.text());
    let event = one.publish(json!({})).await;
    assert_eq!(receiver.next().await.event_id(), event);
    assert_eq!(one.delete(&path).await.status, 204);
    let published = other.post("/api/v2/webhook/event/", &json!({"type": TYPE, "data": {}})).await;
    assert_eq!(published.json()["endpoint_count"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_accepts_and_another_delivers() {
    let mut cluster = Cluster::start(&[&["--role", "api"]]).await;
    let receiver = Receiver::start().await;
    let api = cluster.client(0);
    let endpoint = api.create_endpoint(&receiver.url).await;
    let first = api.publish(json!({})).await;
    let pending = "SELECT count(*) FROM delivery WHERE status = 0";
    assert_eq!(cluster.database.number(pending).await, 1, "whoever accepts holds nothing");

    cluster.join(&["--role", "worker"]).await;
    assert_eq!(receiver.next().await.event_id(), first);
    let second = api.publish(json!({})).await;
    assert_eq!(receiver.next().await.event_id(), second);
    // A resend, and what follows a change, are for the worker as well.
    let resend = format!("/api/v2/webhook/endpoint/{endpoint}/event/resend/");
    assert_eq!(api.post(&resend, &json!({"event": first})).await.status, 204);
    assert_eq!(receiver.next().await.event_id(), first);
    let old = api.reveal(endpoint).await;
    let expire = format!("/api/v2/webhook/endpoint/{endpoint}/secret/expire/");
    assert_eq!(api.post(&expire, &json!({})).await.status, 200);
    api.publish(json!({})).await;
    assert!(!receiver.next().await.verifies(&old));

    let worker = cluster.client(1);
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/api/v2/webhook/endpoint/", 404)]
    {
        assert_eq!(worker.get(path).await.status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_migrated_once_and_a_newer_one_is_refused() {
    let cluster = Cluster::start(&[&[]]).await;
    let migrate = ["migrate"];
    assert_eq!(cluster.command(&migrate).await, json!({"migrations": [], "waiting": 0}));
    let empty = TestDatabase::create().await;
    let url = empty.url();
    let doctor = ["doctor", "--database-url", &url];
    let (_, missing, _) = cluster.nodes[0].run(&doctor, "").await;
    let arguments = ["migrate", "--database-url", &url];
    let took = cluster.nodes[0].command(&arguments, "").await;
    let migrations = took["migrations"].as_array().unwrap();
    assert_eq!(migrations[0], "0001_what_is_promised");
    assert_eq!(took["waiting"], 0);
    let count = format!("; {} migrations are missing", migrations.len());
    assert!(missing.contains(&count), "{missing}");
    let (_, report, _) = cluster.nodes[0].run(&doctor, "").await;
    assert!(report.contains("its schema is the newest"), "{report}");
    empty.run("INSERT INTO schema_migration VALUES (9999, '9999_of_tomorrow', '')").await;
    let (success, _, said) = cluster.nodes[0].run(&arguments, "").await;
    assert!(
        !success && said.contains("newer Postrider") && said.contains("9999_of_tomorrow"),
        "{said}"
    );
}
