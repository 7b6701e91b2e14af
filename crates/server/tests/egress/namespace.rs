//! Every target of the corpus, sent to a real server that may deliver to public addresses alone, in a network namespace
//! where some public addresses are this machine's own: whatever is dialled is dialled for real. One listener hears every
//! connection to any address, and not one may come to an address that is not public.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use postrider_kernel::egress::{
    EgressPolicy,
    corpus::{lines, names},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{Server, TYPE, client::Client, dns};

const ENDPOINTS: &str = "/api/v2/webhook/endpoint/";

/// The ports that the corpus names.
const PORTS: [u16; 3] = [80, 443, 8080];

/// A public address that is this machine's own in the namespace.
const PUBLIC: &str = "http://93.184.215.14";

/// What came to the listeners.
#[derive(Default)]
struct Ledger {
    forbidden: AtomicUsize,
    public: AtomicUsize,
}

/// Listens on every address of the namespace.
async fn listen() -> Arc<Ledger> {
    let ledger = Arc::new(Ledger::default());
    for port in PORTS {
        let listener = TcpListener::bind(("::", port)).await.expect("the namespace has free ports");
        let ledger = ledger.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let local = stream.local_addr().unwrap().ip();
                if EgressPolicy::default().check(local).is_ok() {
                    ledger.public.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(answer(stream));
                } else {
                    ledger.forbidden.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    ledger
}

/// Answers `/redirect/N` with the corpus's redirect of that number, and everything else with 200; then it closes, so that
/// each delivery makes a connection of its own.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).expect("our heads are text");
    let number = head.strip_prefix("POST /redirect/").and_then(|rest| rest.split(' ').next());
    let (status, location) = match number.map(|number| number.parse::<usize>().unwrap()) {
        None => ("200".to_owned(), String::new()),
        Some(number) => {
            let (status, location) = lines("redirect").swap_remove(number);
            (status.to_owned(), format!("location: {location}\r\n"))
        }
    };
    let text = format!(
        "HTTP/1.1 {status} Whatever\r\n{location}connection: close\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).await
}

/// A DNS server that answers as the corpus says.
async fn dns_server() -> SocketAddr {
    let zone = names().into_iter().map(|(name, turns)| {
        let answers = |answers: Vec<&str>| answers.into_iter().map(str::to_owned).collect();
        (name.to_owned(), turns.into_iter().map(|turn| answers(turn.answers)).collect())
    });
    dns::serve(zone.collect()).await
}

/// Whether the first look-up of a name, or of what it is an alias of, leads to a forbidden place.
fn is_refused_at_first(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let known = names().into_iter().find(|(known, _)| *known == name);
    let Some((_, turns)) = known else { return name == "localhost" };
    let behind = turns[0].answers.iter().filter(|answer| answer.parse::<IpAddr>().is_err());
    turns[0].is_refused || behind.into_iter().any(|alias| is_refused_at_first(alias))
}

/// Tries to make an endpoint; its id, or the errors of `target`.
async fn create(client: &Client, target: &str) -> Result<i64, Value> {
    let body = json!({"target": target, "events": [{"type": TYPE}]});
    let created = client.post(ENDPOINTS, &body).await;
    match created.status {
        201 => Ok(created.json()["id"].as_i64().unwrap()),
        400 => Err(created.json()["target"].clone()),
        status => panic!("{target:?}: {status} {}", created.text()),
    }
}

/// What became of an attempt: its status or the cause.
fn verdict(attempt: &Value) -> String {
    match attempt["http_response_code"].as_i64() {
        Some(status) => status.to_string(),
        None => attempt["error"].as_str().unwrap().to_owned(),
    }
}

/// Publishes so many events, one after the other has had its attempts, and answers each endpoint's verdicts.
async fn deliver(client: &Client, endpoints: &[(i64, String)], rounds: usize) -> Vec<Vec<Value>> {
    for round in 1..=rounds {
        client.publish(json!({})).await;
        for (endpoint, _) in endpoints {
            client.attempts(*endpoint, round).await;
        }
    }
    let mut all = Vec::new();
    for (endpoint, _) in endpoints {
        all.push(client.attempts(*endpoint, rounds).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a network namespace: cargo xtask ci egress"]
async fn not_one_connection_of_the_corpus_reaches_a_forbidden_address() {
    let ledger = listen().await;
    let dns_server = dns_server().await.to_string();
    let guarded =
        ["--retry-schedule", "3600", "--dns-server", &dns_server, "--endpoint-concurrency", "1"];
    let open = [&guarded[..], &["--egress-allow", "0.0.0.0/0,::/0"]].concat();

    // The forbidden places can be reached, where that is allowed.
    let mut server = Server::start_guarded(&open).await;
    let client = server.client();
    for sentinel in ["http://127.0.0.1/", "http://[::1]:8080/"] {
        let before = ledger.forbidden.load(Ordering::SeqCst);
        let endpoint = create(&client, sentinel).await.unwrap();
        client.publish(json!({})).await;
        client.attempts(endpoint, 1).await;
        assert_eq!(ledger.forbidden.load(Ordering::SeqCst), before + 1, "{sentinel} is reached");
        client.delete(&format!("{ENDPOINTS}{endpoint}/")).await;
    }
    // Endpoints from before the operator forbade their places. They are owed something, too.
    let mut old = Vec::new();
    for word in ["forbidden", "local"] {
        for (_, target) in lines(word) {
            let body = json!({"target": target, "events": [{"type": TYPE}], "is_active": false});
            old.push((client.create_endpoint_with(body).await, target));
        }
    }
    let before = ledger.forbidden.load(Ordering::SeqCst);

    server.restart_guarded(&guarded).await;
    let client = server.client();
    for (endpoint, target) in &old {
        let path = format!("{ENDPOINTS}{endpoint}/");
        let activated = client.json("PATCH", &path, &json!({"is_active": true})).await;
        assert_eq!(activated.status, 200, "{target}");
    }
    for ((_, target), attempts) in old.iter().zip(deliver(&client, &old, 1).await) {
        assert_eq!(verdict(&attempts[0]), "forbidden_address", "{target}");
        assert_eq!(attempts[0]["peer_address"], Value::Null, "{target}");
    }
    for (endpoint, _) in &old {
        client.delete(&format!("{ENDPOINTS}{endpoint}/")).await;
    }
    assert_eq!(ledger.forbidden.load(Ordering::SeqCst), before, "nobody came after the restart");

    // What is refused at the door, made or changed.
    let changed = create(&client, &format!("{PUBLIC}/")).await.unwrap();
    let path = format!("{ENDPOINTS}{changed}/");
    for (word, says) in [
        ("not-a-url", ""),
        ("credentials", "no user or password"),
        ("forbidden", "--egress-allow"),
        ("local", "--egress-allow"),
    ] {
        for (_, target) in lines(word) {
            // What is trimmed by the API is another line of the corpus without its edges.
            if target.trim() != target
                && lines("forbidden").iter().any(|line| line.1 == target.trim())
            {
                continue;
            }
            let refused = create(&client, &target).await.expect_err(&target);
            assert!(refused[0].as_str().unwrap().contains(says), "{target:?}: {refused}");
            let refused = client.json("PATCH", &path, &json!({"target": target})).await;
            assert_eq!(refused.status, 400, "{target:?}");
        }
    }
    client.delete(&path).await;

    // What is taken, and judged for each connection.
    let mut taken = Vec::new();
    for (name, target) in lines("name") {
        match create(&client, &target).await {
            Ok(endpoint) => {
                assert!(!is_refused_at_first(name), "{target} is taken");
                taken.push((endpoint, name.to_owned()));
            }
            Err(refused) => {
                assert!(is_refused_at_first(name), "{target}: {refused}");
                assert!(refused[0].as_str().unwrap().contains("--egress-allow"), "{refused}");
            }
        }
    }
    for (_, target) in lines("public") {
        taken.push((create(&client, &target).await.expect(&target), "literal".to_owned()));
    }
    let redirects = lines("redirect");
    for number in 0..redirects.len() {
        let target = format!("{PUBLIC}/redirect/{number}");
        let endpoint = create(&client, &target).await.unwrap();
        taken.push((endpoint, format!("redirect {number}")));
    }
    let delivered = deliver(&client, &taken, 3).await;
    for ((_, name), attempts) in taken.iter().zip(&delivered) {
        let verdicts: Vec<_> = attempts.iter().map(verdict).collect();
        let verdicts: Vec<_> = verdicts.iter().map(String::as_str).collect();
        match name.as_str() {
            "literal" => {
                assert!(
                    verdicts.iter().all(|verdict| ["200", "connect", "tls"].contains(verdict)),
                    "{name}: {verdicts:?}"
                );
            }
            "nowhere.example" => assert_eq!(verdicts, ["dns"; 3]),
            "pure.example" | "pure6.example" | "both.example" | "alias-public.example" => {
                assert_eq!(verdicts, ["200"; 3], "{name}");
                let peer: SocketAddr =
                    attempts[0]["peer_address"].as_str().unwrap().parse().unwrap();
                let addresses = ["93.184.215.14", "2606:2800:21f::14"];
                assert!(addresses.map(|text| text.parse::<IpAddr>().unwrap()).contains(&peer.ip()));
            }
            "rebinds-late.example" => {
                assert_eq!(verdicts, ["200", "forbidden_address", "forbidden_address"], "{name}");
            }
            name => match name.strip_prefix("redirect ") {
                Some(number) => {
                    let status = redirects[number.parse::<usize>().unwrap()].0;
                    assert_eq!(verdicts, [status; 3], "{name}");
                }
                None => assert_eq!(verdicts, ["forbidden_address"; 3], "{name}"),
            },
        }
    }
    assert!(
        ledger.public.load(Ordering::SeqCst) >= 3 * redirects.len(),
        "public places are reached"
    );
    assert_eq!(ledger.forbidden.load(Ordering::SeqCst), before, "nobody reached a forbidden place");
}
