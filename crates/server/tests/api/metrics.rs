//! The metrics, as Prometheus asks for them.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use super::{
    EVENTS, event,
    support::{Server, client::Client},
};

const METRICS: &str = "/metrics";

#[test]
fn metrics_are_for_operators_alone() {
    let server = Server::start();
    server.anyone().get(METRICS).says(401, "Authentication credentials were not provided.");
    for role in ["admin", "publisher", "viewer"] {
        let denied = "You do not have permission to perform this action.";
        server.with_role(role).get(METRICS).says(403, denied);
    }
}

#[test]
fn an_accepted_event_is_counted_and_its_request_is_timed_under_its_route() {
    let server = Server::start();
    let operator = server.operator();
    operator.post(EVENTS, event("comment.created")).json(201);
    let answer = operator.with_header("Accept: text/plain").get(METRICS);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = &answer.body;
    let has = |line: &str| assert!(text.lines().any(|known| known == line), "{line}: {text}");
    has("postrider_events_accepted_total 1");
    has("postrider_oldest_pending_overdue_seconds 0");
    has("postrider_publish_commit_duration_seconds_count 1");
    let route = r#"{route="/api/v2/webhook/event",status="2xx"}"#;
    has(&format!("postrider_http_request_duration_seconds_count{route} 1"));
}

#[test]
fn an_address_of_their_own_serves_metrics_to_everyone_and_nothing_else() {
    let data_dir = tempfile::tempdir().unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
        .args(["--log-format", "text", "--data-dir"])
        .arg(data_dir.path())
        .env("RUST_LOG", "info")
        .env("NO_COLOR", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let address = lines.map_while(Result::ok).find_map(|line| {
        let (_, rest) = line.split_once("metrics at http://")?;
        rest.strip_suffix(METRICS).map(str::to_owned)
    });
    let answers = address.map(|address| {
        let anyone = Client::new(&address);
        (anyone.get(METRICS), anyone.get("/api/v2/webhook/endpoint/"))
    });
    process.kill().unwrap();
    process.wait().unwrap();
    let (metrics, other) = answers.expect("the log says where the metrics are");
    assert_eq!((metrics.status, other.status), (200, 404));
    assert!(metrics.body.contains("# TYPE postrider_lane_depth gauge\n"), "{}", metrics.body);
}
