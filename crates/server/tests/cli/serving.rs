//! `serve`, `event publish` and `demo`, and the command line beside a running server.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Stdio,
    sync::mpsc::{Receiver, channel},
};

use serde_json::{Value, json};

use crate::support::{Place, Ran, Running};

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
        (0..2_500).map(|n| format!(r#"{{"type":"post.created","data":{{"n":{n}}}}}"#)).collect();
    lines[9] = "nonsense".to_owned();
    lines[99] = r#"{"type":"no.such","data":{}}"#.to_owned();
    lines[199] = String::new();
    lines[299] = "7".to_owned();
    // As a part of a bulk this would be two events.
    lines[2_099] = format!("{},{}", lines[0], lines[1]);
    let arguments = server.publish(&["-", "--json"]);
    let ran = server.place.run_with(&arguments, &lines.join("\n"));
    let ran = ran.failed(1, &["line 10: ", "line 100: ", "line 300: ", "line 2100: "]);
    let summary = ran.json();
    assert_eq!(summary["published"], 2_495);
    assert_eq!((&summary["failed"], &summary["unknown"]), (&json!(4), &json!(0)));
    let failed: Vec<_> =
        summary["failures"].as_array().unwrap().iter().map(|failure| &failure["line"]).collect();
    assert_eq!(failed, [10, 100, 300, 2_100]);
    let reason = summary["failures"][1]["reason"].as_str().unwrap();
    assert!(
        reason.ends_with(r#"400: {"type":["\"no.such\" is not a valid choice."]}"#),
        "{reason}"
    );
    // Identifiers are given to what is kept alone, so nothing was published twice.
    let last = server.place.json(&server.publish(&["post.created", "--data", "{}"]));
    assert_eq!(last["event_id"], 2_496);
    let text = server.place.run_with(&server.publish(&["-"]), &lines[0]).succeeded();
    assert_eq!(text.stdout(), "1 published, 0 failed");
    server.place.run_with(&server.publish(&["-"]), "\n\n").succeeded();
}

#[test]
fn lines_of_every_size_are_published() {
    let server = Server::start();
    let of_length = |length: usize| {
        let frame = r#"{"type":"post.created","data":{"a":""}}"#;
        frame.replace("\"\"", &format!("\"{}\"", "x".repeat(length - frame.len())))
    };
    let lengths = [100, 1_048_576, 600_000, 600_000, 1_048_577, 100, 400_000, 400_000];
    let lines = lengths.map(of_length).join("\n");
    let arguments = server.publish(&["-", "--json"]);
    let ran = server.place.run_with(&arguments, &lines).failed(1, &["line 5: ", "1048576 bytes"]);
    assert_eq!((&ran.json()["published"], &ran.json()["failed"]), (&json!(7), &json!(1)));
}

#[test]
fn what_every_line_would_be_refused_for_ends_the_publishing() {
    let server = Server::start();
    let place = &server.place;
    let lines = "{\"type\":\"post.created\",\"data\":{}}\n".repeat(3);
    let run = |token: &str| place.run_with(&server.publish(&["-", "--token", token]), &lines);
    run("prt_wrong").failed(1, &["stopped at line 1; 0 events", "answered 401", "--token"]);
    let viewer = place.run(&["token", "create", "--role", "viewer"]).succeeded();
    run(viewer.stdout()).failed(1, &["stopped at line 1; 0 events", "answered 403", "publisher"]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let arguments = ["event", "publish", "-", "--token", "x", "--url", &url];
    place.run_with(&arguments, &lines).failed(1, &["stopped at line 1", "can't be reached"]);
}

/// An API that does what a test wants; it lives until the test ends.
struct FakeApi {
    url: String,
    /// The bodies of the requests that came. Each is here before it is answered.
    bodies: Receiver<String>,
}

impl FakeApi {
    /// An API that asks the script how to answer each request, by its number from 0 and its body; without an answer it
    /// closes the connection.
    fn start(script: impl Fn(usize, &str) -> Option<&'static str> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, bodies) = channel();
        std::thread::spawn(move || {
            let mut count = 0;
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                while let Some((head, body)) = read_request(&mut stream) {
                    assert!(head.starts_with("POST /api/v2/webhook/event/bulk/ "), "{head}");
                    let answer = script(count, &body);
                    count += 1;
                    let _ = sender.send(body);
                    let Some(answer) = answer else { break };
                    stream.get_mut().write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        Self { url, bodies }
    }

    /// The arguments of a publication to it.
    fn publish(&self) -> [&str; 8] {
        ["event", "publish", "-", "--json", "--token", "x", "--url", &self.url]
    }
}

/// Reads one request; answers with its head and its body. `None` when there is no more.
fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    Some((head, String::from_utf8(body).unwrap()))
}

const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n[]";

#[test]
fn a_bulk_whose_answer_was_lost_is_reported_and_not_repeated() {
    let place = Place::new();
    let bad_gateway = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
    let api = FakeApi::start(move |nth, _| match nth {
        0 => None,
        2 => Some(bad_gateway),
        _ => Some(CREATED),
    });
    let mut child = place
        .command(&api.publish())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A slow producer: each line is published before the next one is there.
    for line in ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}", "{\"n\":4}"] {
        writeln!(input, "{line}").unwrap();
        assert_eq!(api.bodies.recv().unwrap(), format!("[{line}]"));
    }
    drop(input);
    let ran = Ran::from(child.wait_with_output().unwrap());
    let ran = ran.failed(1, &["line 1: the answer was lost", "line 3: ", "502", "perhaps"]);
    let summary = ran.json();
    assert_eq!((&summary["published"], &summary["failed"]), (&json!(2), &json!(0)));
    assert_eq!((&summary["unknown"], &summary["unknown_lines"]), (&json!(2), &json!([1, 3])));
    assert!(api.bodies.try_recv().is_err(), "nothing was sent again");
}

#[test]
fn a_server_that_can_not_take_events_is_waited_for() {
    let place = Place::new();
    let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    let api = FakeApi::start(move |nth, _| Some(if nth == 0 { busy } else { CREATED }));
    let ran = place.run_with(&api.publish(), "{\"n\":1}").succeeded();
    assert_eq!((&ran.json()["published"], &ran.json()["unknown"]), (&json!(1), &json!(0)));
    assert!(ran.stderr().contains("waiting"), "{ran:?}");
    assert_eq!(api.bodies.iter().take(2).collect::<Vec<_>>(), ["[{\"n\":1}]", "[{\"n\":1}]"]);
}

#[test]
fn a_bulk_that_is_too_large_for_somebody_on_the_way_is_divided() {
    let place = Place::new();
    let too_large = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
    let is_taken = |body: &str| body.matches('n').count() < 3 && !body.contains('0');
    let api = FakeApi::start(move |_, body| Some(if is_taken(body) { CREATED } else { too_large }));
    let lines: Vec<String> = (0..50).map(|n| format!("{{\"n\":{}}}", n % 7)).collect();
    let ran = place.run_with(&api.publish(), &lines.join("\n")).failed(1, &["line 8: ", "413"]);
    let digits = |text: &str| text.matches(char::is_numeric).collect::<String>();
    let expected = digits(&lines.concat()).replace('0', "");
    assert_eq!(ran.json()["published"], expected.len());
    assert_eq!(ran.json()["failed"], lines.len() - expected.len());
    let taken: String = api.bodies.try_iter().filter(|body| is_taken(body)).collect();
    assert_eq!(digits(&taken), expected, "each once, in their order");
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
