//! `serve`, `event publish` and `demo`, and the command line beside a running server.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Stdio,
};

use serde_json::{Value, json};

use crate::support::{Place, Running};

/// A server in a place of its own.
struct Server {
    // Dropped first, so that the directory is no longer in use when it goes.
    running: Running,
    place: Place,
    url: String,
}

impl Server {
    fn start() -> Self {
        let place = Place::new();
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8"];
        let mut running = Running::start(place.command(&arguments));
        let first = running.line();
        let url = first.strip_prefix("listening on ").expect(&first).to_owned();
        Self { running, place, url }
    }

    /// The arguments of a publication to this server.
    fn publish<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["event", "publish", "--url", &self.url], arguments].concat()
    }
}

/// A `listen` that prints JSON lines.
fn listen(place: &Place) -> (Running, String) {
    let mut running =
        Running::start(place.command(&["listen", "--listen", "127.0.0.1:0", "--json"]));
    let first: Value = serde_json::from_str(&running.line()).unwrap();
    let url = first["listening_on"].as_str().unwrap().to_owned();
    (running, url)
}

#[test]
fn serve_says_where_everything_is_and_stops_when_told() {
    use std::os::unix::fs::PermissionsExt;
    let mut server = Server::start();
    let said = [server.running.line(), server.running.line(), server.running.line()];
    let data_dir = server.place.data_dir();
    let token_file: PathBuf = data_dir.join("admin.token");
    assert!(said[0].ends_with(data_dir.to_str().unwrap()), "{said:?}");
    assert!(said[1].ends_with(token_file.to_str().unwrap()), "{said:?}");
    assert_eq!(token_file.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let curl = said[2].strip_prefix("try").unwrap().trim();
    assert!(curl.starts_with("curl ") && curl.contains(&server.url), "{curl}");
    let Server { running, place, .. } = server;
    assert_eq!(running.stop(), Some(0));
    drop(place);
}

#[test]
fn a_directory_has_one_server_alone() {
    let server = Server::start();
    server
        .place
        .run(&["serve", "--listen", "127.0.0.1:0"])
        .failed(1, &["another postrider already serves", "--data-dir"]);
}

#[test]
fn the_admin_token_is_made_anew_where_its_file_was_taken_away() {
    let Server { running, place, .. } = Server::start();
    let file = place.data_dir().join("admin.token");
    let first = std::fs::read_to_string(&file).unwrap();
    assert_eq!(running.stop(), Some(0));
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let mut again = Running::start(place.command(&serve));
    again.line();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first, "it stays");
    assert_eq!(again.stop(), Some(0));

    std::fs::remove_file(&file).unwrap();
    Running::start(place.command(&serve)).line();
    assert_ne!(std::fs::read_to_string(&file).unwrap(), first);
    let tokens = place.json(&["token", "list"]);
    let revoked: Vec<bool> =
        tokens.as_array().unwrap().iter().map(|token| token["revoked_at"].is_string()).collect();
    assert_eq!(revoked, [true, false]);
}

#[test]
fn an_event_is_published_from_the_shell() {
    let server = Server::start();
    let place = &server.place;
    let data = place.write("data.json", r#"{"id":   1, "big": 123456789012345678901234567890}"#);
    let published =
        place.json(&server.publish(&["post.created", "--data-file", data.to_str().unwrap()]));
    assert_eq!(published["event_id"], 1);
    assert_eq!(published["endpoint_count"], 0);
    let one = ["post.created", "--data", "{}", "--created", "1625471209.139224"];
    assert_eq!(place.json(&server.publish(&one))["created"], 1625471209.139224);

    let keyed = ["post.created", "--data", "{}", "--idempotency-key", "once"];
    let first = place.json(&server.publish(&keyed));
    assert_eq!(place.json(&server.publish(&keyed)), first);
    let text = place.run(&server.publish(&keyed)).succeeded();
    assert!(
        text.stdout().starts_with("event ") && text.stdout().contains("post.created"),
        "{text:?}"
    );
}

#[test]
fn what_cant_be_published_is_refused_with_what_to_do() {
    let server = Server::start();
    let place = &server.place;
    let run = |arguments: &[&str]| place.run(&server.publish(arguments));
    run(&["no.such", "--data", "{}"]).failed(1, &["answered 400", "no.such"]);
    run(&["post.created", "--data", "[]"]).failed(1, &["answered 400"]);
    run(&["post.created", "--data", "{"]).failed(2, &["not valid JSON"]);
    run(&["post.created"]).failed(2, &["--data"]);
    run(&["post.created", "--data-file", "missing.json"]).failed(1, &["missing.json"]);
    run(&["post.created", "--data", "{}", "--token", "prt_wrong"])
        .failed(1, &["answered 401", "--token"]);
    run(&["post.created", "--data", "{}", "--data-dir", "elsewhere"])
        .failed(1, &["elsewhere", "POSTRIDER_TOKEN"]);
    run(&["-", "--data", "{}"]).failed(2, &["--data is for one event"]);
    let viewer = place.run(&["token", "create", "--role", "viewer"]).succeeded();
    run(&["post.created", "--data", "{}", "--token", viewer.stdout()])
        .failed(1, &["answered 403", "publisher"]);

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    place
        .run(&["event", "publish", "x", "--data", "{}", "--url", &format!("http://{closed}")])
        .failed(1, &["can't be reached"]);
}

#[test]
fn a_file_of_events_is_published_and_bad_lines_are_named() {
    let server = Server::start();
    let mut lines: Vec<String> =
        (0..300).map(|n| format!(r#"{{"type":"post.created","data":{{"n":{n}}}}}"#)).collect();
    lines[9] = "nonsense".to_owned();
    lines[99] = r#"{"type":"no.such","data":{}}"#.to_owned();
    lines[199] = String::new();
    let arguments = server.publish(&["-", "--json"]);
    let ran = server.place.run_with(&arguments, &lines.join("\n"));
    let ran = ran.failed(1, &["line 10: ", "line 100: "]);
    let summary = ran.json();
    assert_eq!(summary["published"], 297);
    assert_eq!(summary["failed"], 2);
    assert_eq!(summary["failures"][0]["line"], 10);
    assert_eq!(summary["failures"][1]["line"], 100);
    let text = server.place.run_with(&server.publish(&["-"]), &lines[0]).succeeded();
    assert_eq!(text.stdout(), "1 published, 0 failed");
}

/// Reads one request; answers with its head.
fn read_request(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    head
}

#[test]
fn a_line_whose_answer_was_lost_is_tried_again_under_the_same_key() {
    let place = Place::new();
    let api = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", api.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let accept = || BufReader::new(api.accept().unwrap().0);
        let lost = read_request(&mut accept());
        let mut again = accept();
        let busy = read_request(&mut again);
        let unavailable = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
        again.get_mut().write_all(unavailable.as_bytes()).unwrap();
        let taken = read_request(&mut again);
        again.get_mut().write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        [lost, busy, taken]
    });
    let arguments = ["event", "publish", "-", "--token", "x", "--url", &url];
    let ran = place.run_with(&arguments, r#"{"type":"a","data":{}}"#).succeeded();
    assert_eq!(ran.stdout(), "1 published, 0 failed");
    let key = |head: &String| {
        head.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap().to_owned()
    };
    let keys = server.join().unwrap().each_ref().map(key);
    assert!(keys.iter().all(|other| *other == keys[0]), "{keys:?}");
}

#[test]
fn what_the_command_line_changes_holds_for_the_running_server() {
    let server = Server::start();
    let place = &server.place;
    let made = place.json(&["token", "create", "--role", "publisher"]);
    let token = made["token"].as_str().unwrap();
    let publish =
        || place.run(&server.publish(&["post.created", "--data", "{}", "--token", token]));
    // The server has never seen this token, so that it has nothing old to remember of it.
    publish().succeeded();
    place.run(&["token", "revoke", &made["id"].to_string()]).succeeded();
    // It honours a revocation within a second; however long a machine is busy, it does so in the end.
    let refused = (0..600).any(|_| publish().code() == Some(1));
    assert!(refused, "a revoked token is refused");
}

#[test]
fn what_is_published_arrives_and_verifies() {
    let server = Server::start();
    let place = &server.place;
    let (mut receiver, target) = listen(place);
    let token = std::fs::read_to_string(place.data_dir().join("admin.token")).unwrap();
    let endpoint = json!({"target": target, "events": [{"type": "post.created"}]}).to_string();
    let made = post(&server.url, "/api/v2/webhook/endpoint/", &token, &endpoint);
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let secret = post(&server.url, "/api/v2/webhook/endpoint/1/secret/reveal/", &token, "{}");
    let secret: Value = serde_json::from_str(secret.lines().last().unwrap()).unwrap();

    let data = r#"{ "n": 1.0,  "text": "\u0000\ud83d\ude00" }"#;
    place.run(&server.publish(&["post.created", "--data", data])).succeeded();
    let line: Value = serde_json::from_str(&receiver.line()).unwrap();
    let body = line["body"].as_str().unwrap();
    assert!(body.ends_with(&format!(r#""data":{data}}}"#)), "{body}");
    assert_eq!(line["webhook_id"], "evt_1");
    assert_eq!(line["path"], "/");
    assert!(secret["signing_secret"].as_str().unwrap().starts_with("whsec_"));
}

/// A POST without a library; answers with the whole answer.
fn post(url: &str, path: &str, token: &str, body: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        token.trim(),
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_demo_shows_deliveries_and_ends_by_itself() {
    let place = Place::new();
    let demo = place.command(&["demo", "--events", "3"]).stderr(Stdio::inherit()).output().unwrap();
    assert!(demo.status.success(), "{demo:?}");
    let text = String::from_utf8(demo.stdout).unwrap();
    assert!(text.contains("token       prt_"), "{text}");
    let delivered = text.lines().filter(|line| line.contains("200 delivered"));
    assert_eq!(delivered.count(), 3, "{text}");
    assert!(text.contains("verified: timestamped list, Standard Webhooks"), "{text}");
    assert_eq!(place.path().read_dir().unwrap().count(), 0, "nothing of it is left");
}
