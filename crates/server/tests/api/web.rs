//! What browsers and go-betweens could be used for: names that aren't ours, answers taken for something else, and requests
//! of which two readers would make two things.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::{
    ENDPOINTS, EVENTS,
    support::{PATIENCE, Server},
};

#[test]
fn a_request_for_another_name_is_refused_where_ours_is_known() {
    let server = Server::start_with(&["--public-url", "https://hooks.example"]);
    let admin = server.with_role("admin");
    let to = |host: &str| admin.send_raw("GET", ENDPOINTS, &format!("Host: {host}\r\n"), b"");
    let text =
        "This service has another name: the Host of the request is not the one of --public-url.";
    to("rebound.example").says(421, text);
    to("hooks.example").json(200);
    // Whoever asks by address, as a probe does, is no browser that was misled.
    to(admin.address()).json(200);
    let probe = server.anyone().send_raw("GET", "/healthz", "Host: pod.internal\r\n", b"");
    assert_eq!(probe.status, 200);
}

#[test]
fn every_answer_has_the_headers_that_browsers_heed() {
    let server = Server::start();
    let admin = server.with_role("admin");
    for answer in [
        admin.get(ENDPOINTS),
        admin.get("/nowhere"),
        server.anyone().get(ENDPOINTS),
        admin.delete(ENDPOINTS),
        server.anyone().get("/healthz"),
    ] {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

/// Sends bytes, and reads until the server closes; the status codes of all answers.
fn statuses(server: &Server, bytes: &[u8]) -> Vec<String> {
    let mut stream = TcpStream::connect(server.anyone().address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let lines = text.split("HTTP/1.1 ").skip(1);
    lines.map(|line| line.chars().take(3).collect()).collect()
}

#[test]
fn a_request_that_two_readers_would_read_differently_smuggles_none_in() {
    let server = Server::start();
    let get = format!("GET {ENDPOINTS} HTTP/1.1\r\nHost: x\r\n\r\n");
    let smuggled = get.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let head = format!("POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
    for (what, lines) in [
        ("two lengths", "Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}".to_owned()),
        ("a length of two", "Content-Length: 2, 60\r\n\r\n{}".to_owned()),
        ("a space before the colon", "Content-Length : 60\r\n\r\n".to_owned()),
        ("a folded line", "X-Folded: a\r\n Content-Length: 60\r\n\r\n".to_owned()),
        ("a bare CR", "X-Bare: a\rb\r\n\r\n".to_owned()),
        ("a NUL", "X-Nul: a\0b\r\n\r\n".to_owned()),
        ("an unknown coding", "Transfer-Encoding: gzip\r\n\r\n".to_owned()),
        (
            "a coding after chunked",
            "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n".to_owned(),
        ),
        ("a signed length", "Content-Length: +2\r\n\r\n{}".to_owned()),
        ("a huge header", format!("X-Huge: {}\r\n\r\n", "a".repeat(1024 * 1024))),
        ("very many headers", format!("{}\r\n", "X-Many: a\r\n".repeat(1000))),
    ] {
        let found = statuses(&server, format!("{head}{lines}{smuggled}").as_bytes());
        assert_eq!(found.len(), 1, "{what}: one answer, and the connection is closed: {found:?}");
        assert!(["400", "431"].contains(&&*found[0]), "{what}: {found:?}");
    }
    // The server goes on, and two proper requests are two.
    assert_eq!(statuses(&server, format!("{get}{smuggled}").as_bytes()), ["401", "401"]);
}
