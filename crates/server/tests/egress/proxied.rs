//! Deliveries through an egress proxy, and whose fault it is when they don't get through.

use rustls::DEFAULT_VERSIONS;
use serde_json::{Value, json};

use crate::support::{
    Server,
    certificates::{Authority, Validity},
    dns::{self, zone},
    proxy::{Manner, Proxy},
    receiver::{Receiver, answer},
};

fn port_of(url: &str) -> &str {
    url.trim_end_matches("/hook").rsplit(':').next().unwrap()
}

#[tokio::test]
async fn the_proxy_is_told_the_vetted_address_and_who_we_are() {
    let proxy = Proxy::start(|_| Manner::Tunnel).await;
    let authority = Authority::new("Our CA");
    let identity = authority.certify(&["receiver.example"], Validity::Now);
    let receiver =
        Receiver::tls(identity.acceptor(DEFAULT_VERSIONS, None), |_, _| answer(200)).await;
    let port = port_of(&receiver.url);
    let dns = dns::serve(zone(&[("receiver.example", &["127.0.0.1"])])).await.to_string();
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, &authority.pem).unwrap();
    let url = format!("http://me:secret@{}", proxy.address);
    let ca_file = ca_file.to_str().unwrap();
    let options = ["--dns-server", &dns, "--egress-proxy", &url, "--ca-file", ca_file];
    let server = Server::start(&options).await;
    let client = server.client();
    let endpoint = client.create_endpoint(&format!("https://receiver.example:{port}/hook")).await;
    client.publish(json!({})).await;

    let head = proxy.next().await;
    assert!(head.starts_with(&format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n")), "{head}");
    assert!(head.contains("proxy-authorization: Basic bWU6c2VjcmV0\r\n"), "{head}");
    let received = receiver.next().await;
    assert_eq!(received.headers["host"], format!("receiver.example:{port}"));
    assert!(!received.headers.contains_key("proxy-authorization"));
    let attempt = client.attempts(endpoint, 1).await.remove(0);
    assert_eq!(attempt["http_response_code"], 200);
    assert_eq!(attempt["peer_address"], format!("127.0.0.1:{port}"), "not the proxy's");

    // The doctor goes the same way.
    let target = format!("https://receiver.example:{port}/hook");
    let asked = ["doctor", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8", "--target"];
    let (_, report, _) = server.run(&[&asked[..], &[&target], &options[..]].concat(), "").await;
    let report: Value = serde_json::from_str(&report).unwrap();
    let found =
        report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "target");
    assert_eq!(
        found.unwrap()["text"],
        format!("{target} is reached at 127.0.0.1:{port}, with the egress proxy {}", proxy.address)
    );
    assert!(proxy.next().await.starts_with(&format!("CONNECT 127.0.0.1:{port} ")));

    // What is forbidden is not even asked of the proxy.
    let mut server = server;
    let options =
        [&options[..], &["--egress-deny", "127.0.0.0/8", "--retry-schedule", "3600"]].concat();
    server.restart_guarded(&options).await;
    let client = server.client();
    client.publish(json!({})).await;
    assert_eq!(client.attempts(endpoint, 2).await[1]["error"], "forbidden_address");
    assert_eq!(proxy.try_next().await, None);
}

#[tokio::test]
async fn exceptions_are_dialled_directly() {
    let proxy = Proxy::start(|_| Manner::Answer(500, "")).await;
    let receiver = Receiver::start().await;
    let port = port_of(&receiver.url);
    let names = zone(&[("a.corp.example", &["127.0.0.1"]), ("by-block.example", &["127.0.0.1"])]);
    let dns = dns::serve(names).await.to_string();
    for (exception, host) in [
        ("corp.example", "a.corp.example"),
        ("127.0.0.0/24", "by-block.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("unrelated.example", "localhost"),
    ] {
        let url = proxy.url();
        let options =
            ["--dns-server", &dns, "--egress-proxy", &url, "--egress-proxy-except", exception];
        let server = Server::start(&options).await;
        let client = server.client();
        let endpoint = client.create_endpoint(&format!("http://{host}:{port}/hook")).await;
        client.publish(json!({})).await;
        let attempt = client.attempts(endpoint, 1).await.remove(0);
        assert_eq!(attempt["http_response_code"], 200, "{host}");
    }
    assert_eq!(proxy.try_next().await, None);
}

#[tokio::test]
async fn a_proxy_that_vets_is_told_the_name() {
    let receiver = Receiver::start().await;
    let address = receiver.url["http://".len()..].trim_end_matches("/hook").parse().unwrap();
    let proxy = Proxy::start(move |_| Manner::TunnelTo(address)).await;
    let url = proxy.url();
    // Nobody here resolves the name.
    let server = Server::start(&["--egress-proxy", &url, "--egress-proxy-vets"]).await;
    let client = server.client();
    let endpoint = client.create_endpoint("http://only-the-proxy-knows.example:8000/").await;
    client.publish(json!({})).await;
    let head = proxy.next().await;
    assert!(head.starts_with("CONNECT only-the-proxy-knows.example:8000 HTTP/1.1\r\n"), "{head}");
    let attempt = client.attempts(endpoint, 1).await.remove(0);
    assert_eq!(attempt["http_response_code"], 200);
    assert_eq!(attempt["peer_address"], Value::Null, "nobody knows it here");
    // What needs no resolver to be judged is judged here all the same.
    let body = json!({"target": "http://10.0.0.1/", "events": [{"type": crate::support::TYPE}]});
    assert_eq!(client.post("/api/v2/webhook/endpoint/", &body).await.status, 400);
}

/// What an endpoint's first attempt came to, through a proxy that does something else first.
async fn first_attempt(script: impl Fn(usize) -> Manner + Send + Sync + 'static) -> (Value, Proxy) {
    let proxy = Proxy::start(script).await;
    let receiver = Receiver::start().await;
    let url = proxy.url();
    let options = ["--egress-proxy", &url, "--connect-timeout", "1", "--retry-schedule", "3600"];
    let server = Server::start(&options).await;
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    client.publish(json!({})).await;
    (client.attempts(endpoint, 1).await.remove(0), proxy)
}

#[tokio::test]
async fn a_proxys_own_failure_is_no_try_of_the_endpoint() {
    for failure in [
        Manner::Answer(407, "proxy-authenticate: Basic realm=\"x\"\r\n"),
        Manner::Answer(500, ""),
        Manner::Answer(503, ""),
        Manner::Close,
        Manner::Dead,
    ] {
        let script = move |count| if count == 0 { failure } else { Manner::Tunnel };
        let (attempt, proxy) = first_attempt(script).await;
        assert_eq!(attempt["http_response_code"], 200, "{failure:?}");
        assert_eq!(
            attempt["attempt_number"], 1,
            "{failure:?}: the first try is the one that got through"
        );
        let mut connects = 0;
        while let Some(head) = proxy.try_next().await {
            connects += usize::from(head.starts_with("CONNECT "));
        }
        assert_eq!(connects, 2, "{failure:?}: it was tried again");
    }
}

#[tokio::test]
async fn what_the_proxy_says_of_the_target_counts() {
    for (says, error, detail) in [
        (Manner::Answer(502, ""), "connect", "the egress proxy can't reach it"),
        (Manner::Answer(504, ""), "connect", "the egress proxy can't reach it"),
        (
            Manner::Answer(503, "x-squid-error: ERR_CONNECT_FAIL 111\r\n"),
            "connect",
            "the egress proxy can't reach it",
        ),
        (Manner::Answer(403, ""), "forbidden_address", "the egress proxy refuses it"),
        // A mail server, say: its greeting comes through with the proxy's answer.
        (Manner::Greeted, "protocol", "the receiver speaks before it is spoken to"),
        // It is alive, and says so: whom it waits for is the target.
        (Manner::Silent, "connect", "the egress proxy got no connection"),
    ] {
        let (attempt, _proxy) = first_attempt(move |_| says).await;
        assert_eq!(attempt["error"], error, "{says:?}");
        let found = attempt["error_detail"].as_str().unwrap();
        assert!(found.contains(detail), "{says:?}: {found}");
    }
}

#[tokio::test]
async fn a_proxy_that_nobody_finds_is_told_in_the_log_once_and_delays_deliveries() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let receiver = Receiver::start().await;
    let url = format!("http://me:secret@{address}");
    let (server, mut log) = Server::start_and_listen(&["--egress-proxy", &url]).await;
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    client.publish(json!({})).await;
    let told = log.line_with("the egress proxy fails").await;
    assert!(told.contains(&address.to_string()) && !told.contains("secret"), "{told}");
    let path = format!("/api/v2/webhook/endpoint/{endpoint}/attempt/");
    assert_eq!(client.get(&path).await.json()["count"], 0, "no try was used up");
    // It comes back, at its old place.
    let proxy = Proxy::start_at(address, |_| Manner::Tunnel).await;
    let attempt = client.attempts(endpoint, 1).await.remove(0);
    assert_eq!(
        (&attempt["http_response_code"], &attempt["attempt_number"]),
        (&json!(200), &json!(1))
    );
    assert!(proxy.next().await.starts_with("CONNECT "));
    log.line_with("the egress proxy works again").await;
}
