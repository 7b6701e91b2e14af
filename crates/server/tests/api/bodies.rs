//! Bodies as rude clients send them: whatever comes, the answer is a 4xx that can be read, and never a 500.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use super::{
    BULK, ENDPOINTS, EVENTS, endpoint, event,
    support::{PATIENCE, Server},
};

const JSON: &str = "Content-Type: application/json\r\n";

fn of_length(length: usize) -> String {
    format!("{JSON}Content-Length: {length}\r\n")
}

#[test]
fn broken_json_is_told_what_is_wrong_and_where() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let id = admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    for path in [ENDPOINTS, EVENTS, &format!("{ENDPOINTS}{id}/secret/expire/")] {
        for broken in [
            &b"{"[..],
            b" ",
            b"{\"a\":}",
            b"{\"a\":1,}",
            b"{\"a\":NaN}",
            b"{'a':1}",
            b"{} {}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{\"\xed\xa0\x80\":1}",
            b"{\"a\":\"\x00\"}",
            b"\x00",
        ] {
            let detail = admin.post(path, broken).json(400)["detail"].as_str().unwrap().to_owned();
            assert!(detail.starts_with("JSON parse error - "), "{detail}");
            assert!(detail.contains("column") || detail.contains("byte"), "{detail}");
        }
        for (body, name) in
            [("[]", "list"), ("\"x\"", "str"), ("1", "int"), ("-1.5", "float"), ("true", "bool")]
        {
            let text = format!("Invalid data. Expected a dictionary, but got {name}.");
            admin.post(path, body).blames("non_field_errors", &text);
        }
        admin.post(path, "null").blames("non_field_errors", "No data provided");
    }
}

#[test]
fn odd_texts_are_the_business_of_their_own_fields() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let body = r#"{"\ud800":"\udfff","x":"\ud800","n\u0000":1,"type":"post.created","data":{"\ud800":"\u0000"}}"#;
    admin.post(EVENTS, body).json(201);
    let body = r#"{"description":"first","target":"http://127.0.0.1:1/","events":[{"type":"nope","type":"post.created"}],"description":"last"}"#;
    assert_eq!(admin.post(ENDPOINTS, body).json(201)["description"], "last");
}

#[test]
fn a_body_without_json_in_its_content_type_is_refused() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let send = |lines: &str, body: &[u8]| {
        let lines = format!("{lines}Content-Length: {}\r\n", body.len());
        admin.send_raw("POST", ENDPOINTS, &lines, body)
    };
    for sent in [
        "text/plain",
        "text/plain; charset=utf-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        send(&format!("Content-Type: {sent}\r\n"), b"{}")
            .says(415, &format!("Unsupported media type \"{sent}\" in request."));
    }
    send("", b"{}").says(415, "Unsupported media type \"\" in request.");
    let required = r#"{"target":["This field is required."],"events":["This field is required."]}"#;
    send("Content-Type: text/plain\r\n", b"").is(400, required);
    send("Content-Type: APPLICATION/json;charset=utf-8\r\n", b"{}").is(400, required);
    // What is not read is not judged.
    let id = admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let lines = "Content-Type: text/plain\r\nContent-Length: 2\r\n";
    admin.send_raw("DELETE", &format!("{ENDPOINTS}{id}/"), lines, b"xx").is(204, "");
    admin.send_raw("GET", ENDPOINTS, lines, b"xx").json(200);
}

#[test]
fn a_body_that_is_too_large_is_refused_and_the_refusal_can_be_read() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let too_large = "Request body is larger than 1048576 bytes.";
    let ten_megabytes = vec![b' '; 10_000_000];
    admin.post(EVENTS, &ten_megabytes).says(413, too_large);
    let mut chunks = Vec::new();
    for chunk in ten_megabytes.chunks(100_000) {
        chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    let lines = format!("{JSON}Transfer-Encoding: chunked\r\n");
    admin.send_raw("POST", EVENTS, &lines, &chunks).says(413, too_large);
    // Who is refused for another reason can read that one.
    let denied = "You do not have permission to perform this action.";
    server.with_role("viewer").post(EVENTS, &ten_megabytes).says(403, denied);
    server.anyone().post("/nowhere", &ten_megabytes[..100_000]).says(404, "Not found.");
    // A client that asks before it sends is told at once, and never sends.
    let lines = format!("{}Expect: 100-continue\r\n", of_length(10_000_000));
    admin.send_raw("POST", EVENTS, &lines, b"").says(413, too_large);

    let exactly = |length: usize| {
        let frame = r#"{"type":"post.created","data":{"a":""}}"#;
        frame.replace("\"\"", &format!("\"{}\"", "x".repeat(length - frame.len())))
    };
    admin.post(EVENTS, exactly(1_048_576)).json(201);
    admin.post(EVENTS, exactly(1_048_577)).says(413, too_large);
}

#[test]
fn the_limit_is_the_operators() {
    let server = Server::start_with(&["--body-limit", "2048"]);
    let admin = server.with_role("admin");
    admin.post(EVENTS, vec![b' '; 2049]).says(413, "Request body is larger than 2048 bytes.");
}

#[test]
fn chunked_bodies_are_read() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let lines = format!("{JSON}Transfer-Encoding: chunked\r\n");
    let body = b"a\r\n{\"type\":\"p\r\n1e\r\nost.created\",\"data\":{\"a\":1}}  \r\n0\r\nTrailer: x\r\n\r\n";
    admin.send_raw("POST", EVENTS, &lines, body).json(201);
    admin
        .send_raw("POST", EVENTS, &lines, b"0\r\n\r\n")
        .is(400, r#"{"type":["This field is required."],"data":["This field is required."]}"#);
}

#[test]
fn a_million_levels_are_answered_quickly() {
    let server = Server::start_with(&["--body-limit", "20000000"]);
    let admin = server.with_role("admin");
    let (open, close) = ("[".repeat(1_000_000), "]".repeat(1_000_000));
    for path in [ENDPOINTS, EVENTS] {
        let list = "Invalid data. Expected a dictionary, but got list.";
        admin.post(path, format!("{open}{close}")).blames("non_field_errors", list);
        assert_eq!(admin.post(path, &open).status, 400);
        assert_eq!(admin.post(path, "{\"a\":".repeat(1_000_000)).status, 400);
        for field in ["type", "data", "created", "target", "events", "description", "x"] {
            let body = format!("{{\"{field}\":{open}{close}}}");
            assert_eq!(admin.post(path, body).status, 400, "{field}");
        }
    }
    let body = format!(r#"{{"type":"post.created","data":{{"a":{open}{close}}}}}"#);
    assert!(admin.post(EVENTS, body).json(400)["data"][0].as_str().unwrap().contains("128"));
    let wide =
        format!("{{{}\"type\":\"post.created\",\"data\":{{}}}}", "\"k\":0,".repeat(1_000_000));
    admin.post(EVENTS, wide).json(201);
}

#[test]
fn a_body_that_breaks_off_harms_nobody() {
    let server = Server::start();
    let admin = server.with_role("admin");
    for lines in [of_length(1000), format!("{JSON}Transfer-Encoding: chunked\r\n")] {
        let token = admin.clone();
        let mut stream = TcpStream::connect(token.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("POST {EVENTS} HTTP/1.1\r\nHost: x\r\n{lines}\r\n3\r\n{{\"a");
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 5"));
    }
    admin.get(ENDPOINTS).json(200);
}

#[test]
fn malformed_requests_harm_nobody() {
    let server = Server::start();
    let admin = server.with_role("admin");
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET /%ff%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /api/v2/webhook/endpoint/%31/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /api/v2/webhook/event_type/%ff/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET http://x/api/v2/webhook/endpoint/ HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\nConnection: close\r\n\r\n",
        "POST /api/v2/webhook/event/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "POST /api/v2/webhook/event/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "GET /api/v2/webhook/endpoint/ HTTP/1.0\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(admin.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 5"), "{request}");
    }
    admin.get(ENDPOINTS).json(200);
}

#[test]
fn while_bodies_take_all_their_room_publishers_are_told_to_come_again() {
    let server = Server::start();
    let publisher = server.with_role("publisher");
    let of_eight_mib = of_length(8 * 1024 * 1024 - 1);
    let held: Vec<_> = (0..8).map(|_| publisher.begin(BULK, &of_eight_mib)).collect();
    let refused = publisher.post(EVENTS, event("post.created"));
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    server.with_role("admin").get(ENDPOINTS).json(200);
    drop(held);
    while publisher.post(EVENTS, event("post.created")).status != 201 {}
}
