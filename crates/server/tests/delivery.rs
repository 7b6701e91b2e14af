//! Deliveries, end to end: the real server, real sockets, and receivers that behave in every way that receivers do.

mod support;

use std::{collections::HashSet, sync::Arc};

use postrider_kernel::EventId;

use serde_json::{Value, json};
use support::{
    Server, TYPE,
    receiver::{Receiver, Reply, answer},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Notify};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivatePkcs8KeyDer},
};

/// What an attempt came to: its status code or the cause that its `error` names.
fn verdict(attempt: &Value) -> String {
    match attempt["http_response_code"].as_i64() {
        Some(code) => code.to_string(),
        None => attempt["error"]
            .as_str()
            .expect("an attempt without an answer names its cause")
            .to_owned(),
    }
}

/// One delivery to a receiver that does the same to every request; answers the first attempt.
async fn first_attempt(server: &Server, receiver: &Receiver) -> Value {
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    client.publish(json!({"id": 1})).await;
    client.attempts(endpoint, 1).await.remove(0)
}

#[tokio::test]
async fn an_event_arrives_signed_and_byte_for_byte() {
    let server = Server::start(&[]).await;
    let receiver = Receiver::start().await;
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    let secret = client.reveal(endpoint).await;

    let data = r#"{ "é":"☕ \u0000 \ud83d\ude00 \ud800 \/", "big":123456789012345678901234567890, "a":1.0,"a":1e2, "n":[ [] ] }"#;
    let body = format!(r#"{{"created": 1625471209.139224, "data":{data},"type":"{TYPE}"}}"#);
    let published = client.raw_json("POST", "/api/v2/webhook/event/", body).await;
    assert_eq!(published.status, 201, "{}", published.text());
    let event = published.json()["event_id"].as_i64().unwrap();
    assert_eq!(
        published.text(),
        format!(
            r#"{{"event_id":{event},"type":"{TYPE}","created":1625471209.139224,"endpoint_count":1}}"#
        )
    );

    let received = receiver.next().await;
    assert_eq!(received.request_line, "POST /hook HTTP/1.1");
    let expected = format!(
        r#"{{"event_id":{event},"type":"{TYPE}","created":1625471209.139224,"data":{data}}}"#
    );
    assert_eq!(String::from_utf8(received.body.clone()).unwrap(), expected);
    assert_eq!(received.headers["content-type"], "application/json");
    assert!(received.headers["user-agent"].starts_with("Postrider/"));
    assert_eq!(received.headers["webhook-id"], format!("evt_{event}"));
    assert!(received.verifies(&secret));
    assert!(!received.verifies("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="));

    let attempt = client.attempts(endpoint, 1).await.remove(0);
    assert_eq!(attempt["http_request_body"], expected);
    assert_eq!(attempt["http_request_signature_header"], received.headers["postrider-signature"]);
    assert_eq!(attempt["http_response_code"], 200);
    assert_eq!(attempt["next_retry"], Value::Null);
    assert_eq!(attempt["event"]["id"], event);
}

#[tokio::test]
async fn a_receiver_that_fails_three_times_gets_the_event_a_fourth_time() {
    let server = Server::start_impatient().await;
    let receiver = Receiver::scripted(|nth, _| answer(if nth < 3 { 500 } else { 200 })).await;
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    client.publish(json!({"id": 1})).await;
    let mut bodies = Vec::new();
    for _ in 0..4 {
        bodies.push(receiver.next().await.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "the same bytes on every attempt");
    let attempts = client.attempts(endpoint, 4).await;
    let verdicts: Vec<_> = attempts.iter().map(verdict).collect();
    assert_eq!(verdicts, ["500", "500", "500", "200"]);
    let retries: Vec<_> =
        attempts.iter().map(|attempt| attempt["next_retry"].is_string()).collect();
    assert_eq!(retries, [true, true, true, false]);
}

#[tokio::test]
async fn a_delivery_fails_for_good_after_its_schedule() {
    let server = Server::start(&["--retry-schedule", "0.01,0.01"]).await;
    let receiver = Receiver::scripted(|_, _| answer(404)).await;
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    let event = client.publish(json!({"id": 1})).await;
    let attempts = client.attempts(endpoint, 3).await;
    assert_eq!(attempts.iter().map(verdict).collect::<Vec<_>>(), ["404", "404", "404"]);
    assert_eq!(attempts[2]["next_retry"], Value::Null);

    // A resend is a new delivery with the full schedule.
    let path = format!("/api/v2/webhook/endpoint/{endpoint}/event/resend/");
    assert_eq!(client.post(&path, &json!({"event": event})).await.status, 204);
    let attempts = client.attempts(endpoint, 6).await;
    assert_eq!(attempts[5]["next_retry"], Value::Null);
    assert!(
        attempts
            .iter()
            .all(|attempt| attempt["http_request_body"] == attempts[0]["http_request_body"])
    );
}

#[tokio::test]
async fn a_receiver_that_hangs_times_out() {
    let server = Server::start(&["--connect-timeout", "0.3", "--request-timeout", "0.3"]).await;
    let receiver = Receiver::scripted(|_, _| Reply::RawThenHang(b"")).await;
    assert_eq!(verdict(&first_attempt(&server, &receiver).await), "timeout");
}

#[tokio::test]
async fn an_answer_whose_body_then_hangs_counts_with_the_body_that_came() {
    let server = Server::start(&["--connect-timeout", "0.3", "--request-timeout", "0.3"]).await;
    let receiver = Receiver::scripted(|_, _| {
        Reply::RawThenHang(b"HTTP/1.1 202 Accepted\r\ncontent-length: 99\r\n\r\nso far")
    })
    .await;
    let attempt = first_attempt(&server, &receiver).await;
    assert_eq!(
        (verdict(&attempt).as_str(), &attempt["http_response_body"]),
        ("202", &json!("so far"))
    );
    assert_eq!(attempt["next_retry"], Value::Null);
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let server = Server::start(&[]).await;
    let elsewhere = Receiver::start().await;
    let location: &'static str =
        Box::leak(format!("location: {}\r\n", elsewhere.url).into_boxed_str());
    for status in [301, 302, 303, 307, 308] {
        let receiver =
            Receiver::scripted(move |_, _| Reply::Answer(status, location, "moved")).await;
        let attempt = first_attempt(&server, &receiver).await;
        assert_eq!(verdict(&attempt), status.to_string());
        assert!(attempt["next_retry"].is_string());
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn at_most_16_kib_of_a_response_are_kept_whatever_it_says_it_is() {
    let server = Server::start(&[]).await;
    let cases: [&'static [u8]; 3] = [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1000000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n",
    ];
    for head in cases {
        let receiver = Receiver::scripted(move |_, _| Reply::Endless(head)).await;
        let attempt = first_attempt(&server, &receiver).await;
        assert_eq!(verdict(&attempt), "200");
        assert_eq!(attempt["http_response_body"].as_str().unwrap(), "x".repeat(16 * 1024));
    }
}

#[tokio::test]
async fn a_response_that_is_not_utf_8_is_shown_as_far_as_it_is() {
    let server = Server::start(&[]).await;
    let receiver = Receiver::scripted(|_, _| {
        Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\na\0\xff\n")
    })
    .await;
    assert_eq!(first_attempt(&server, &receiver).await["http_response_body"], "a\0\u{fffd}\n");
}

#[tokio::test]
async fn every_way_not_to_answer_has_its_cause() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let closing = Receiver::scripted(|_, _| Reply::Close).await;
    let half = Receiver::scripted(|_, _| Reply::RawThenHang(b"HTTP/1.1 2")).await;
    drop(half);
    let babbling =
        Receiver::scripted(|_, _| Reply::Raw(b"220 smtp.receiver.example ESMTP\r\n\r\n")).await;
    let flooding = Receiver::scripted(|_, _| Reply::Endless(b"HTTP/1.1 200 OK\r\nx: ")).await;
    let interim = Receiver::scripted(|_, _| Reply::Flood(b"HTTP/1.1 100 Continue\r\n\r\n")).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let plain_as_tls = closing.url.replace("http:", "https:");
    let cases = [
        (closing.url.clone(), "closed"),
        (babbling.url.clone(), "protocol"),
        (flooding.url.clone(), "protocol"),
        (interim.url.clone(), "protocol"),
        (refused, "connect"),
        (plain_as_tls, "tls"),
        ("http://no-such-host.invalid/".to_owned(), "dns"),
    ];
    for (target, expected) in cases {
        let endpoint = client.create_endpoint(&target).await;
        client.publish(json!({"id": 1})).await;
        let attempt = client.attempts(endpoint, 1).await.remove(0);
        assert_eq!(verdict(&attempt), expected, "{target}: {attempt}");
        assert_eq!(attempt["http_response_body"], "");
        assert!(attempt["next_retry"].is_string());
        assert_eq!(
            client.delete(&format!("/api/v2/webhook/endpoint/{endpoint}/")).await.status,
            204
        );
    }
}

fn self_signed() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_self_signed_certificate_is_refused_unless_the_endpoint_says_otherwise() {
    let server = Server::start_impatient().await;
    let client = server.client();
    let receiver = Receiver::tls(self_signed(), |_, _| answer(200)).await;
    let body = |verify| json!({"target": receiver.url, "events": [{"type": TYPE}], "ssl_cert_verification": verify});
    let strict = client.create_endpoint_with(body(true)).await;
    let trusting = client.create_endpoint_with(body(false)).await;
    client.publish(json!({"id": 1})).await;

    assert_eq!(verdict(&client.attempts(trusting, 1).await[0]), "200");
    let refused = client.attempts(strict, 1).await.remove(0);
    assert_eq!(verdict(&refused), "tls");
    let detail = refused["error_detail"].as_str().unwrap();
    assert!(detail.contains("self-signed"), "{detail}");
    assert_eq!(
        refused["http_request_signature_header"], "",
        "nothing was signed for whom we don't trust"
    );

    // The option is the endpoint's alone, and holds from the answer on.
    let path = format!("/api/v2/webhook/endpoint/{strict}/");
    let change = client.json("PATCH", &path, &json!({"ssl_cert_verification": false})).await;
    assert_eq!(change.status, 200);
    let event = refused["event"]["id"].clone();
    let resent = client.post(&format!("{path}event/resend/"), &json!({"event": event})).await;
    assert_eq!(resent.status, 204);
    while !client.attempts(strict, 1).await.iter().any(|attempt| verdict(attempt) == "200") {}
}

#[tokio::test]
async fn gone_deactivates_and_the_delivery_goes_on_when_the_endpoint_is_active_again() {
    let server = Server::start_impatient().await;
    let client = server.client();
    let receiver = Receiver::scripted(|nth, _| answer(if nth == 0 { 410 } else { 200 })).await;
    let endpoint = client.create_endpoint(&receiver.url).await;
    client.publish(json!({"id": 1})).await;
    receiver.next().await;
    let path = format!("/api/v2/webhook/endpoint/{endpoint}/");
    // The very next event after the deactivation is taken in is owed to nobody.
    let event = json!({"type": TYPE, "data": {}});
    while client.post("/api/v2/webhook/event/", &event).await.json()["endpoint_count"] != 0 {}
    assert_eq!(client.get(&path).await.json()["is_active"], false);

    assert_eq!(client.json("PATCH", &path, &json!({"is_active": "yes"})).await.status, 200);
    let goes_on = |attempts: Vec<Value>| {
        assert_eq!(verdict(&attempts[0]), "410");
        attempts[1..]
            .iter()
            .any(|attempt| attempt["event"] == attempts[0]["event"] && verdict(attempt) == "200")
    };
    while !goes_on(client.attempts(endpoint, 1).await) {}
}

#[tokio::test]
async fn what_an_inactive_endpoint_is_owed_waits_without_using_up_tries() {
    let server = Server::start(&["--retry-schedule", "0.01"]).await;
    let client = server.client();
    let told = Arc::new(Notify::new());
    let receiver = Receiver::scripted({
        let told = told.clone();
        move |nth, _| if nth == 0 { Reply::AnswerWhen(told.clone(), 500) } else { answer(200) }
    })
    .await;
    let endpoint = client.create_endpoint(&receiver.url).await;
    let path = format!("/api/v2/webhook/endpoint/{endpoint}/");
    client.publish(json!({"id": 1})).await;
    receiver.next().await;
    assert_eq!(client.json("PATCH", &path, &json!({"is_active": false})).await.status, 200);
    told.notify_one();
    client.attempts(endpoint, 1).await;
    // Another endpoint's deliveries show that dispatch has had its chance.
    let other = Receiver::start().await;
    client.create_endpoint(&other.url).await;
    for id in 2..5 {
        client.publish(json!({"id": id})).await;
        other.next().await;
    }
    assert_eq!(client.get(&format!("{path}attempt/")).await.json()["count"], 1);
    assert!(receiver.try_next().await.is_none());
    assert_eq!(client.json("PATCH", &path, &json!({"is_active": true})).await.status, 200);
    let attempts = client.attempts(endpoint, 2).await;
    assert_eq!(attempts.iter().map(verdict).collect::<Vec<_>>(), ["500", "200"]);
}

#[tokio::test]
async fn retry_after_lengthens_the_wait() {
    let server = Server::start(&["--retry-schedule", "0.01"]).await;
    for (status, expected) in [(503, true), (429, true), (500, false)] {
        let receiver =
            Receiver::scripted(move |_, _| Reply::Answer(status, "retry-after: 3600\r\n", ""))
                .await;
        let attempt = first_attempt(&server, &receiver).await;
        let sent = attempt["sent_at"].as_str().unwrap().parse::<Instant>().unwrap();
        let next = attempt["next_retry"].as_str().unwrap().parse::<Instant>().unwrap();
        assert_eq!(next.0 - sent.0 >= 3_600, expected, "{status}");
    }
}

/// Whole seconds of an ISO 8601 time, counted within its month: enough to compare an hour.
struct Instant(i64);

impl std::str::FromStr for Instant {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |range: std::ops::Range<usize>| text[range].parse::<i64>();
        let days = part(5..7)? * 31 + part(8..10)?;
        Ok(Self(((days * 24 + part(11..13)?) * 60 + part(14..16)?) * 60 + part(17..19)?))
    }
}

#[tokio::test]
async fn a_connection_is_kept_and_used_again() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let receiver = Receiver::start().await;
    client.create_endpoint(&receiver.url).await;
    for id in 0..20 {
        client.publish(json!({"id": id})).await;
        receiver.next().await;
    }
    assert!(
        receiver.connections() < 20,
        "{} connections for 20 deliveries",
        receiver.connections()
    );
}

#[tokio::test]
async fn no_more_requests_are_in_flight_than_the_endpoint_allows() {
    let server = Server::start(&["--endpoint-concurrency", "3"]).await;
    let client = server.client();
    let receiver = Receiver::scripted(|_, _| Reply::RawThenHang(b"")).await;
    client.create_endpoint(&receiver.url).await;
    for id in 0..20 {
        client.publish(json!({"id": id})).await;
    }
    for _ in 0..3 {
        receiver.next().await;
    }
    // A healthy endpoint's round trips show that the hanging one's workers had their chance.
    let healthy = Receiver::start().await;
    client.create_endpoint(&healthy.url).await;
    for id in 0..5 {
        client.publish(json!({"id": id})).await;
        healthy.next().await;
    }
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn endpoints_that_hang_leave_room_for_the_first_request_of_everybody_else() {
    let server = Server::start(&["--concurrency", "8", "--endpoint-concurrency", "8"]).await;
    let client = server.client();
    let hanging = Receiver::scripted(|_, _| Reply::RawThenHang(b"")).await;
    let hung = client.create_endpoint(&hanging.url).await;
    for id in 0..20 {
        client.publish(json!({"id": id})).await;
    }
    hanging.next().await;
    let healthy = Receiver::start().await;
    client.create_endpoint(&healthy.url).await;
    for id in 0..5 {
        client.publish(json!({"id": id})).await;
        healthy.next().await;
    }
    let path = format!("/api/v2/webhook/endpoint/{hung}/attempt/");
    let count = client.get(&path).await.json()["count"].clone();
    assert_eq!(count, 0, "not one of them had to time out first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_resend_is_forgotten_while_another_is_claimed() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let receiver = Receiver::start().await;
    let endpoint = client.create_endpoint(&receiver.url).await;
    let event = client.publish(json!({"id": 1})).await;
    receiver.next().await;
    let path = format!("/api/v2/webhook/endpoint/{endpoint}/event/resend/");
    for _ in 0..100 {
        let resend = || {
            let (client, path) = (client.another(), path.clone());
            tokio::spawn(async move {
                for _ in 0..2 {
                    assert_eq!(client.post(&path, &json!({"event": event})).await.status, 204);
                }
            })
        };
        for task in [resend(), resend(), resend(), resend()] {
            task.await.unwrap();
        }
        // The endpoint is idle otherwise: nothing else would bring a forgotten one to light.
        for _ in 0..8 {
            receiver.next().await;
        }
    }
}

#[tokio::test]
async fn a_wide_fan_out_with_more_workers_than_permits_comes_to_its_end() {
    let server = Server::start(&["--concurrency", "16"]).await;
    let client = server.client();
    let receiver = Receiver::start().await;
    let (endpoints, events) = (60, 40);
    for nth in 0..endpoints {
        client.create_endpoint(&format!("{}?{nth}", receiver.url)).await;
    }
    for id in 0..events {
        client.publish(json!({"id": id})).await;
    }
    let mut seen = std::collections::HashSet::new();
    for _ in 0..endpoints * events {
        let received = receiver.next().await;
        let event = received.event_id();
        assert!(seen.insert((received.request_line, event)), "each once");
    }
}

#[tokio::test]
async fn a_machine_without_sockets_delivers_in_turn_and_uses_up_no_tries() {
    let server = Server::start_with_open_files(100).await;
    let client = server.client();
    let receiver = Receiver::start().await;
    let endpoints = 120;
    for nth in 0..endpoints {
        client.create_endpoint(&format!("{}?{nth}", receiver.url)).await;
    }
    client.publish(json!({"id": 1})).await;
    let mut targets = std::collections::HashSet::new();
    for _ in 0..endpoints {
        assert!(targets.insert(receiver.next().await.request_line), "each endpoint once");
    }
    let page = client.get("/api/v2/webhook/endpoint/?limit=100").await.json();
    for endpoint in page["results"].as_array().unwrap() {
        let attempts = client.attempts(endpoint["id"].as_i64().unwrap(), 1).await;
        assert_eq!(attempts.iter().map(verdict).collect::<Vec<_>>(), ["200"]);
    }
}

#[tokio::test]
async fn a_bulk_whose_publisher_hangs_up_is_delivered_if_it_was_kept() {
    let server = Server::start(&[]).await;
    let receiver = Receiver::start().await;
    let client = server.client();
    client.create_endpoint(&receiver.url).await;
    let token = std::fs::read_to_string(server.data_dir().join("admin.token")).unwrap();
    let path = "/api/v2/webhook/event/bulk/";
    let bulk = |round: usize| {
        let event = |n| json!({"type": TYPE, "data": {"round": round, "n": n}});
        Value::from((0..20).map(event).collect::<Vec<_>>()).to_string()
    };
    for round in 0..40 {
        let body = bulk(round);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            token.trim(),
            body.len()
        );
        let mut stream = TcpStream::connect(client.authority()).await.unwrap();
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        // It hangs up sooner or later, before, while or after its events are written to disk.
        for _ in 0..round * 20 {
            tokio::task::yield_now().await;
        }
    }
    let last = client.raw_json("POST", path, bulk(40)).await.json();
    let last = last[19]["event_id"].as_i64().unwrap();

    // Which of them were kept, nobody was told; the store knows.
    let store = server.store().await;
    let tenant = store.tenants().await.unwrap()[0].id;
    let kept = store.known_events(tenant, (1..=last).map(EventId::new).collect()).await.unwrap();
    let mut missing: HashSet<_> = kept.into_iter().map(EventId::get).collect();
    assert!(missing.contains(&last));
    while !missing.is_empty() {
        missing.remove(&receiver.next().await.event_id());
    }
}

#[tokio::test]
async fn a_stopped_server_finishes_what_is_in_flight_and_goes_on_after_a_start() {
    let mut server = Server::start(&[]).await;
    let receiver = Receiver::start().await;
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    for id in 0..50 {
        client.publish(json!({"id": id})).await;
    }
    assert!(server.stop().await, "it leaves with success");
    server.restart().await;
    let client = server.client();
    client.attempts(endpoint, 50).await;
    let mut events = Vec::new();
    while let Some(received) = receiver.try_next().await {
        events.push(received.event_id());
    }
    events.sort_unstable();
    let count = events.len();
    events.dedup();
    assert_eq!((events.len(), count), (50, 50), "each once: a stop is no crash");
}

#[tokio::test]
async fn twenty_thousand_events_arrive_none_lost_none_twice() {
    let server = Server::start(&[]).await;
    let receiver = Arc::new(Receiver::start().await);
    let client = server.client();
    client.create_endpoint(&receiver.url).await;
    let (events, connections) = (20_000, 64);
    let ledger = tokio::spawn({
        let receiver = receiver.clone();
        async move {
            let mut seen = std::collections::HashSet::new();
            while seen.len() < events {
                let received = receiver.next().await;
                assert!(
                    seen.insert(received.event_id()),
                    "event {} came twice",
                    received.event_id()
                );
            }
            seen
        }
    });
    let data = json!({"text": "x".repeat(430)});
    let mut publishers = Vec::new();
    for publisher in 0..connections {
        let (client, data) = (client.another(), data.clone());
        publishers.push(tokio::spawn(async move {
            let mut accepted = Vec::new();
            for _ in (publisher..events).step_by(connections) {
                accepted.push(client.publish(data.clone()).await);
            }
            accepted
        }));
    }
    let mut accepted = std::collections::HashSet::new();
    for publisher in publishers {
        accepted.extend(publisher.await.unwrap());
    }
    assert_eq!(ledger.await.unwrap(), accepted);
    // What arrives later than the last one would be a duplicate: an attempt per event, and no more.
    let endpoint =
        client.get("/api/v2/webhook/endpoint/").await.json()["results"][0]["id"].as_i64().unwrap();
    let count = async || {
        client.get(&format!("/api/v2/webhook/endpoint/{endpoint}/attempt/?limit=1")).await.json()["count"].clone()
    };
    while count().await.as_u64() < Some(events as u64) {}
    assert_eq!(count().await, events);
    assert!(receiver.try_next().await.is_none());
}
