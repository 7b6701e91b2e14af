//! Receivers and networks at their worst. Whatever they do is one attempt with the right cause, costs a bounded piece of
//! memory, and holds up nobody else.

mod support;

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    Server,
    client::Client,
    receiver::{Receiver, Reply, answer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
};

/// How much the server may grow, at its peak, whatever is thrown at it: 64 MiB.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

/// What a hostile receiver does with every connection.
#[derive(Clone, Copy)]
enum Manner {
    /// Resets it at once.
    ResetsUnread,
    /// Closes it at once, politely.
    ClosesUnread,
    /// Reads the request's head, and resets.
    ResetsAfterHead,
    /// Reads the request, and resets.
    ResetsAfterBody,
    /// Reads the request, writes these bytes, and resets.
    Breaks(&'static [u8]),
    /// Reads the request, writes these bytes, and closes.
    Says(&'static [u8]),
    /// Reads each request of a connection, and writes these bytes. Whoever says that a connection is kept has to keep it: what
    /// comes while it closes is broken off, and rightly.
    Keeps(&'static [u8]),
    /// Reads the request, writes the first bytes, and then the second ones for as long as anybody reads.
    Repeats(&'static [u8], &'static [u8]),
    /// Reads the request, writes the first bytes, and then one more byte at a time for as long as anybody is there.
    Trickles(&'static [u8], u8),
    /// Leaves it to the system to accept connections, and looks at none.
    Ignores,
}

/// A receiver that does the same to every connection.
struct Hostile {
    url: String,
    /// How many bytes it got rid of.
    written: Arc<AtomicUsize>,
}

impl Hostile {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let written = Arc::<AtomicUsize>::default();
        let counter = written.clone();
        tokio::spawn(async move {
            if matches!(manner, Manner::Ignores) {
                std::future::pending::<()>().await;
            }
            while let Ok((stream, _)) = listener.accept().await {
                let written = counter.clone();
                // How it ends is the server's business.
                tokio::spawn(async move { behave(stream, manner, &written).await.ok() });
            }
        });
        Self { url, written }
    }
}

async fn behave(mut stream: TcpStream, manner: Manner, written: &AtomicUsize) -> io::Result<()> {
    match manner {
        Manner::ResetsUnread => return stream.set_zero_linger(),
        Manner::ClosesUnread | Manner::Ignores => return Ok(()),
        Manner::ResetsAfterHead => {
            read_head(&mut stream).await?;
            return stream.set_zero_linger();
        }
        _ => read_request(&mut stream).await?,
    }
    match manner {
        Manner::Breaks(bytes) => {
            stream.write_all(bytes).await?;
            stream.set_zero_linger()
        }
        Manner::Says(bytes) => stream.write_all(bytes).await,
        Manner::Keeps(bytes) => loop {
            stream.write_all(bytes).await?;
            read_request(&mut stream).await?;
        },
        Manner::Repeats(first, then) => {
            stream.write_all(first).await?;
            loop {
                // What fits is written at once; the next repetition begins where this one ends.
                let mut rest = then;
                while !rest.is_empty() {
                    let taken = stream.write(rest).await?;
                    written.fetch_add(taken, Ordering::Relaxed);
                    rest = &rest[taken..];
                }
            }
        }
        Manner::Trickles(first, then) => {
            stream.write_all(first).await?;
            loop {
                // To be slow is what it is there for; nobody waits for it.
                tokio::time::sleep(Duration::from_millis(20)).await;
                stream.write_all(&[then]).await?;
            }
        }
        _ => stream.set_zero_linger(),
    }
}

/// Reads a request's head, a byte at a time so that the body stays unread, and answers how long its body is.
async fn read_head(stream: &mut TcpStream) -> io::Result<usize> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8(head).expect("our heads are text").to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    Ok(length.expect("our requests have a length").parse().expect("which is a number"))
}

async fn read_request(stream: &mut TcpStream) -> io::Result<()> {
    let mut body = vec![0; read_head(stream).await?];
    stream.read_exact(&mut body).await.map(drop)
}

/// What has to stand in an attempt: its status code or its cause, a part of the reason in words, and the beginning of the
/// response's body.
struct Case {
    name: &'static str,
    manner: Manner,
    verdict: &'static str,
    detail: &'static str,
    body: &'static str,
}

const fn case(
    name: &'static str,
    manner: Manner,
    verdict: &'static str,
    detail: &'static str,
    body: &'static str,
) -> Case {
    Case { name, manner, verdict, detail, body }
}

const BROKEN_OFF: &str = "the receiver broke the connection off before it answered";
const NOT_HTTP: &str = "the answer is not HTTP/1.1";

/// Those that need no timer to be found out.
const PROMPT: [Case; 33] = [
    // The reset may overtake the end of the handshake.
    case("reset unread", Manner::ResetsUnread, "connect or closed", "", ""),
    case("closed unread", Manner::ClosesUnread, "closed", "the receiver", ""),
    case("reset after the head", Manner::ResetsAfterHead, "closed", "the receiver", ""),
    case("reset after the body", Manner::ResetsAfterBody, "closed", BROKEN_OFF, ""),
    case("closed after the body", Manner::Says(b""), "closed", "closed the connection", ""),
    case("reset in the status line", Manner::Breaks(b"HTTP/1.1 20"), "closed", BROKEN_OFF, ""),
    case("closed in the status line", Manner::Says(b"HTTP/1.1 20"), "closed", "closed the", ""),
    case("reset in a header", Manner::Breaks(b"HTTP/1.1 200 OK\r\nx: "), "closed", BROKEN_OFF, ""),
    case("closed in a header", Manner::Says(b"HTTP/1.1 200 OK\r\nx: "), "closed", "closed the", ""),
    // From here on the head has come, and decides.
    case(
        "reset in the body",
        Manner::Breaks(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf"),
        "200",
        "",
        "half",
    ),
    case(
        "closed in the body of a failure",
        Manner::Says(b"HTTP/1.1 503 No\r\ncontent-length: 99\r\n\r\nhalf"),
        "503",
        "",
        "half",
    ),
    case(
        "broken chunks",
        Manner::Says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n"),
        "200",
        "",
        "hello",
    ),
    case("HTTP/1.0", Manner::Says(b"HTTP/1.0 200 OK\r\n\r\nold"), "200", "", "old"),
    case("a failure in HTTP/1.0", Manner::Says(b"HTTP/1.0 500 No\r\n\r\nold"), "500", "", "old"),
    case(
        "HTTP/1.0 with keep-alive",
        Manner::Keeps(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nold"),
        "200",
        "",
        "old",
    ),
    case(
        "another protocol from here on",
        Manner::Says(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        "101",
        "",
        "",
    ),
    case(
        "informational answers first",
        Manner::Says(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nok"),
        "200",
        "",
        "ok",
    ),
    case("a gigabyte", Manner::Repeats(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n", &[b'x'; 65_536]), "200", "", "xxx"),
    case("a body without end", Manner::Repeats(b"HTTP/1.1 500 No\r\n\r\n", &[b'x'; 65_536]), "500", "", "xxx"),
    case(
        "chunks without end",
        Manner::Repeats(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"3\r\nabc\r\n"),
        "200",
        "",
        "abcabc",
    ),
    case(
        "a chunk's extension without end",
        Manner::Repeats(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;", &[b'x'; 65_536]),
        "200",
        "",
        "",
    ),
    case(
        "trailers without end",
        Manner::Repeats(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", b"x: y\r\n"),
        "200",
        "",
        "ok",
    ),
    case(
        "a gzip bomb",
        Manner::Repeats(
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 104857600\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\x02\x03",
            b"\xec\xc1\x01\x01\0\0\0\x80\x90\xfe\xaf\xee\x08\n\0\0",
        ),
        "200",
        "",
        "\x1f\u{fffd}\x08\0",
    ),
    case("a header without end", Manner::Repeats(b"HTTP/1.1 200 OK\r\nx: ", &[b'x'; 65_536]), "protocol", NOT_HTTP, ""),
    case("headers without end", Manner::Repeats(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"), "protocol", NOT_HTTP, ""),
    case("a status line without end", Manner::Repeats(b"HTTP/1.1 200 ", &[b'x'; 65_536]), "protocol", NOT_HTTP, ""),
    case(
        "informational answers without end",
        Manner::Repeats(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        "protocol",
        "no answer in the first",
        "",
    ),
    case("the preface of HTTP/2", Manner::Says(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "protocol", NOT_HTTP, ""),
    case("settings of HTTP/2", Manner::Says(b"\0\0\0\x04\0\0\0\0\0"), "protocol", NOT_HTTP, ""),
    case("a TLS alert", Manner::Says(b"\x15\x03\x01\0\x02\x02\x46"), "protocol", NOT_HTTP, ""),
    case("a mail server", Manner::Says(b"220 mx.receiver.example ESMTP\r\n"), "protocol", NOT_HTTP, ""),
    case(
        "two lengths",
        Manner::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!"),
        "protocol",
        NOT_HTTP,
        "",
    ),
    case("noise without end", Manner::Repeats(b"", &[0xA5; 4096]), "protocol", NOT_HTTP, ""),
];

/// Those that only time finds out.
const SLOW: [Case; 5] = [
    case("accepted by nobody", Manner::Ignores, "timeout", "no answer within", ""),
    case(
        "a head in drops",
        Manner::Trickles(b"HTTP/1.1 200 OK\r\nx: ", b'x'),
        "timeout",
        "no answer within",
        "",
    ),
    case(
        "a status line in drops",
        Manner::Trickles(b"HTTP/1.1 ", b'2'),
        "timeout",
        "no answer within",
        "",
    ),
    case(
        "an informational answer in drops",
        Manner::Trickles(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 x\r\nx: ", b'x'),
        "timeout",
        "no answer within",
        "",
    ),
    case("a body in drops", Manner::Trickles(b"HTTP/1.1 200 OK\r\n\r\n", b'x'), "200", "", "x"),
];

/// One server, all of them at once, and a good receiver in their midst.
async fn withstands(server: &Server, cases: &'static [Case], events: usize) {
    let client = server.client();
    let mut endpoints = Vec::new();
    for case in cases {
        let hostile = Hostile::start(case.manner).await;
        endpoints.push((case, client.create_endpoint(&hostile.url).await, hostile));
    }
    let good = Receiver::start().await;
    client.create_endpoint(&good.url).await;
    let before = peak_kib(server);
    let mut published = HashSet::new();
    for id in 0..events {
        published.insert(client.publish(json!({"id": id})).await);
    }

    let mut came = HashSet::new();
    for _ in 0..events {
        assert!(came.insert(good.next().await.event_id()), "each once");
    }
    assert_eq!(came, published);
    for (case, endpoint, hostile) in &endpoints {
        let attempts = client.attempts(*endpoint, events).await;
        assert_eq!(attempts.len(), events, "{}: one attempt each", case.name);
        let of_events: HashSet<i64> =
            attempts.iter().map(|attempt| attempt["event"]["id"].as_i64().unwrap()).collect();
        assert_eq!(of_events, published, "{}", case.name);
        attempts.iter().for_each(|attempt| check(case, attempt));
        // What nobody reads stays in the system's buffers.
        let written = hostile.written.load(Ordering::Relaxed);
        assert!(written < events * 16 * 1024 * 1024, "{}: {written} bytes were read", case.name);
    }
    let growth = peak_kib(server) - before;
    assert!(growth < GROWTH_KIB_MAX, "the server grew by {growth} KiB");
    assert!(good.try_next().await.is_none());
}

fn check(case: &Case, attempt: &Value) {
    let said = verdict(attempt);
    assert!(case.verdict.split(" or ").any(|one| one == said), "{}: {attempt}", case.name);
    let detail = attempt["error_detail"].as_str().unwrap_or_default();
    assert!(detail.contains(case.detail), "{}: {detail}", case.name);
    let body = attempt["http_response_body"].as_str().unwrap();
    assert!(body.starts_with(case.body), "{}: {body:?}", case.name);
    assert!(body.chars().count() <= 16 * 1024, "{}: {} characters", case.name, body.len());
    assert!(case.body.is_empty() <= body.is_empty(), "{}: {body:?}", case.name);
    let is_success = said.starts_with('2');
    assert_eq!(attempt["next_retry"].is_null(), is_success, "{}: {attempt}", case.name);
}

/// What an attempt came to: its status code or the cause that its `error` names.
fn verdict(attempt: &Value) -> String {
    match attempt["http_response_code"].as_i64() {
        Some(code) => code.to_string(),
        None => attempt["error"].as_str().expect("a cause").to_owned(),
    }
}

/// The most memory that the server's process ever had.
fn peak_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_receiver_answers_is_one_attempt_with_its_cause() {
    let server = Server::start(&["--retry-schedule", "3600"]).await;
    withstands(&server, &PROMPT, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_answers_in_drops_is_cut_off() {
    let short = ["--retry-schedule", "3600", "--connect-timeout", "1", "--request-timeout", "1"];
    let server = Server::start(&short).await;
    withstands(&server, &SLOW, 3).await;
}

/// All that was recorded of an endpoint.
async fn recorded(client: &Client, endpoint: i64) -> Vec<Value> {
    let mut attempts = Vec::new();
    let mut next = Some(format!("/api/v2/webhook/endpoint/{endpoint}/attempt/?limit=100"));
    while let Some(path) = next {
        let page = client.get(&path).await.json();
        attempts.extend(page["results"].as_array().unwrap().iter().cloned());
        let link = page["next"].as_str();
        next = link.map(|url| url[url.find("/api").unwrap()..].to_owned());
    }
    attempts
}

/// Waits until each event was acknowledged, and answers all that was recorded of them.
async fn until_acknowledged(client: &Client, endpoint: i64, events: &HashSet<i64>) -> Vec<Value> {
    loop {
        let attempts = recorded(client, endpoint).await;
        let acknowledged: HashSet<i64> = attempts
            .iter()
            .filter(|attempt| verdict(attempt) == "200")
            .map(|attempt| attempt["event"]["id"].as_i64().unwrap())
            .collect();
        if acknowledged == *events {
            return attempts;
        }
    }
}

/// How often each event is in a list.
fn tally(events: impl IntoIterator<Item = i64>) -> HashMap<i64, usize> {
    let mut tally = HashMap::new();
    for event in events {
        *tally.entry(event).or_default() += 1;
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_closed_at_rest_costs_no_attempt() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (closed, mut is_closed) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_request(&mut stream).await.unwrap();
            // It says that it keeps the connection, and closes it.
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    });
    let endpoint = client.create_endpoint(&url).await;
    for id in 1..=50 {
        client.publish(json!({"id": id})).await;
        is_closed.recv().await.unwrap();
        let attempts = client.attempts(endpoint, id).await;
        assert_eq!(attempts.len(), id);
        assert!(attempts.iter().all(|attempt| verdict(attempt) == "200"), "{attempts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_that_a_receiver_may_have_seen_is_repeated_in_silence() {
    let server = Server::start(&["--retry-schedule", &["0.01"; 20].join(",")]).await;
    let client = server.client();
    // The second request of each connection is read to its end, and the connection closed.
    let seen = std::sync::Mutex::new(HashSet::new());
    let receiver = Receiver::scripted(move |_, received| {
        let is_first = seen.lock().unwrap().insert(received.connection);
        if is_first { answer(200) } else { Reply::Close }
    })
    .await;
    let endpoint = client.create_endpoint(&receiver.url).await;
    let mut published = HashSet::new();
    for id in 0..200 {
        published.insert(client.publish(json!({"id": id})).await);
    }
    let attempts = until_acknowledged(&client, endpoint, &published).await;
    let mut requests = Vec::new();
    while let Some(received) = receiver.try_next().await {
        requests.push(received.event_id());
    }
    let recorded = attempts.iter().map(|attempt| attempt["event"]["id"].as_i64().unwrap());
    assert_eq!(tally(requests), tally(recorded), "as many attempts are recorded as came");
    let closed = attempts.iter().filter(|attempt| verdict(attempt) == "closed").count();
    assert!(closed > 0, "connections were closed under requests");
    assert_eq!(attempts.len(), published.len() + closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_not_asked_for_answers_no_later_event() {
    let server = Server::start(&["--retry-schedule", &["0.01"; 20].join(",")]).await;
    let client = server.client();
    const TWICE: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let receiver = Receiver::scripted(|_, _| Reply::Raw(TWICE)).await;
    client.create_endpoint(&receiver.url).await;
    let mut published = HashSet::new();
    for id in 0..100 {
        published.insert(client.publish(json!({"id": id})).await);
    }
    while !published.is_empty() {
        published.remove(&receiver.next().await.event_id());
    }
}

/// A receiver that is reached through a network, and keeps no connection.
async fn receiver_behind_a_network() -> Receiver {
    Receiver::scripted(|_, _| {
        Reply::Raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    })
    .await
}

/// Carries a connection on to such a receiver.
async fn carry_on(mut stream: TcpStream, to: &Receiver) {
    let target = to.url["http://".len()..].trim_end_matches("/hook");
    let mut onward = TcpStream::connect(target).await.unwrap();
    // An answer says that it is the last, and the server closes.
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut onward).await.ok() });
}

/// Publishes to an endpoint behind a network and to one that isn't, and answers the attempts at the first, once each event
/// has come to both, and come once.
async fn each_event_comes_once(client: &Client, endpoint: i64, behind: &Receiver) -> Vec<Value> {
    let good = Receiver::start().await;
    client.create_endpoint(&good.url).await;
    let mut published = HashSet::new();
    for id in 0..EVENTS {
        published.insert(client.publish(json!({"id": id})).await);
    }
    for receiver in [behind, &good] {
        let mut came = HashSet::new();
        while came != published {
            assert!(came.insert(receiver.next().await.event_id()), "each once");
        }
    }
    let attempts = until_acknowledged(client, endpoint, &published).await;
    assert!(behind.try_next().await.is_none() && good.try_next().await.is_none());
    attempts
}

/// How many events go through a network.
const EVENTS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_breaks_three_connections_in_ten_delivers_each_event_once() {
    let server = Server::start(&["--retry-schedule", &["0.01"; 30].join(",")]).await;
    let client = server.client();
    let behind = receiver_behind_a_network().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let endpoint = client.create_endpoint(&url).await;
    let network = async {
        for nth in 0_u64.. {
            let (stream, _) = listener.accept().await.unwrap();
            match nth % 10 {
                1 | 4 | 8 => stream.set_zero_linger().unwrap(),
                _ => carry_on(stream, &behind).await,
            }
        }
    };
    let attempts = tokio::select! {
        () = network => unreachable!("it has no end"),
        attempts = each_event_comes_once(&client, endpoint, &behind) => attempts,
    };
    assert!(attempts.len() > EVENTS);
    let expected = |attempt| matches!(verdict(attempt).as_str(), "200" | "connect" | "closed");
    assert!(attempts.iter().all(expected), "{attempts:?}");
}

/// How many connections were refused, nobody having listened.
fn count_refused(attempts: &[Value]) -> usize {
    let is_refused = |attempt: &&Value| {
        let detail = attempt["error_detail"].as_str();
        detail.is_some_and(|detail| detail.to_lowercase().contains("connection refused"))
    };
    attempts.iter().filter(is_refused).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_refuses_three_connections_in_ten_delivers_each_event_once() {
    let server = Server::start(&["--retry-schedule", &["0.01"; 30].join(",")]).await;
    let client = server.client();
    let behind = receiver_behind_a_network().await;
    // Bound, so that the port is nobody else's, and not listening: who connects is refused.
    let port = TcpSocket::new_v4().unwrap();
    port.set_reuseaddr(true).unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = port.local_addr().unwrap();
    let endpoint = client.create_endpoint(&format!("http://{address}/")).await;
    let network = async {
        let (mut carried, mut refused) = (0, 0);
        loop {
            let before = refused;
            while refused == before {
                refused = count_refused(&recorded(&client, endpoint).await);
            }
            // Seven are carried on for three that were refused.
            let listener = TcpListener::bind(address).await.unwrap();
            while carried * 3 < refused * 7 {
                carry_on(listener.accept().await.unwrap().0, &behind).await;
                carried += 1;
            }
        }
    };
    let attempts = tokio::select! {
        () = network => unreachable!("it has no end"),
        attempts = each_event_comes_once(&client, endpoint, &behind) => attempts,
    };
    assert!(
        count_refused(&attempts) * 7 >= EVENTS * 3,
        "three in ten: {}",
        count_refused(&attempts)
    );
    // Who had just connected when nobody listened any more is broken off.
    let expected = |attempt| matches!(verdict(attempt).as_str(), "200" | "connect" | "closed");
    assert!(attempts.iter().all(expected), "{attempts:?}");
}
