//! Names, with a DNS server that says what the test wants.

use serde_json::{Value, json};

use crate::support::{
    Server, TYPE,
    dns::{self, zone},
    receiver::Receiver,
};

const ENDPOINTS: &str = "/api/v2/webhook/endpoint/";

fn body(target: &str) -> Value {
    json!({"target": target, "events": [{"type": TYPE}]})
}

#[tokio::test]
async fn a_name_that_leads_to_a_forbidden_place_is_refused_at_the_door() {
    let names = zone(&[
        ("inside.example", &["10.0.0.5"]),
        ("mixed.example", &["93.184.215.14", "::1"]),
        ("alias.example", &["inside.example"]),
        ("allowed.example", &["127.0.0.1"]),
        ("denied.example", &["127.66.0.1"]),
    ]);
    let dns = dns::serve(names).await.to_string();
    let options = ["--dns-server", &dns, "--egress-deny", "127.66.0.0/16"];
    let server = Server::start(&options).await;
    let client = server.client();
    // Neither the address nor its block, which may be as small: a stranger could ask for the names inside.
    let inside =
        "it leads to an address that is not a public one, and --egress-allow does not list it";
    for (name, why) in [
        ("inside.example", inside),
        ("mixed.example", inside),
        ("alias.example", inside),
        ("denied.example", "it leads to an address that --egress-deny lists"),
    ] {
        let refused = client.post(ENDPOINTS, &body(&format!("http://{name}/"))).await;
        assert_eq!(refused.status, 400, "{name}");
        let text = refused.json()["target"][0].as_str().unwrap().to_owned();
        assert!(text.starts_with(&format!("deliveries to {name} are not allowed: ")), "{text}");
        assert!(text.ends_with(why), "{text}");
    }
    // One that resolves to what is allowed, and one that doesn't resolve.
    for name in ["allowed.example", "nowhere.example"] {
        client.create_endpoint(&format!("http://{name}/")).await;
    }
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_later_is_refused_then() {
    let mut names = zone(&[]);
    let turns = ["127.0.0.1", "127.0.0.1", "10.0.0.5"].map(|answer| vec![answer.to_owned()]);
    names.insert("rebinds.example".into(), turns.into());
    let dns = dns::serve(names).await.to_string();
    let server = Server::start(&["--dns-server", &dns, "--retry-schedule", "3600"]).await;
    let client = server.client();
    let receiver = Receiver::scripted(|_, _| {
        crate::support::receiver::Reply::Answer(200, "connection: close\r\n", "")
    })
    .await;
    let port = receiver.url.rsplit(':').next().unwrap().to_owned();
    let endpoint = client.create_endpoint(&format!("http://rebinds.example:{port}")).await;
    client.publish(json!({"n": 1})).await;
    let first = client.attempts(endpoint, 1).await.remove(0);
    assert_eq!(first["http_response_code"], 200);
    assert!(first["peer_address"].as_str().unwrap().starts_with("127.0.0.1:"));
    client.publish(json!({"n": 2})).await;
    let second = client.attempts(endpoint, 2).await.remove(1);
    assert_eq!(second["error"], "forbidden_address");
    assert_eq!(second["peer_address"], Value::Null);
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn ports_and_the_scheme_are_the_operators_choice() {
    let server = Server::start(&["--egress-ports", "443,8000-8999", "--require-https"]).await;
    let client = server.client();
    for (target, why) in [
        ("https://x.example:22/", "port 22 is none of --egress-ports, which lists 443, 8000-8999"),
        ("http://x.example:8000/", "--require-https demands an https URL"),
    ] {
        let refused = client.post(ENDPOINTS, &body(target)).await;
        assert_eq!(refused.status, 400, "{target}");
        let text = refused.json()["target"][0].as_str().unwrap().to_owned();
        assert_eq!(text, format!("deliveries to x.example are not allowed: {why}"));
    }
    client.create_endpoint("https://x.example:8443/").await;
}

#[tokio::test]
async fn what_the_operator_forbids_later_is_refused_at_every_connect() {
    let mut server = Server::start_guarded(&["--egress-allow", "127.0.0.0/8"]).await;
    let receiver = Receiver::start().await;
    let client = server.client();
    let endpoint = client.create_endpoint(&receiver.url).await;
    client.publish(json!({})).await;
    assert_eq!(client.attempts(endpoint, 1).await[0]["http_response_code"], 200);
    for (round, option) in [
        ["--egress-deny", "127.0.0.0/16"],
        ["--egress-ports", "1"],
        ["--require-https", "--require-password"],
    ]
    .iter()
    .enumerate()
    {
        let options =
            [&["--egress-allow", "127.0.0.0/8", "--retry-schedule", "3600"], &option[..]].concat();
        server.restart_guarded(&options).await;
        let client = server.client();
        client.publish(json!({})).await;
        let attempts = client.attempts(endpoint, round + 2).await;
        assert_eq!(attempts[round + 1]["error"], "forbidden_address", "{option:?}");
    }
    assert_eq!(receiver.connections(), 1);
}
