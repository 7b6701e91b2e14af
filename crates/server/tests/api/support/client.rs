//! An HTTP client of forty lines, which writes what it is told, byte for byte, over a connection of its own.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use super::{PATIENCE, document};

/// Where requests go, and as whom.
#[derive(Clone)]
pub struct Client {
    address: String,
    headers: Vec<String>,
}

impl Client {
    /// A client without a credential.
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), headers: Vec::new() }
    }

    /// The same client with a bearer token.
    pub fn with_token(&self, token: &str) -> Self {
        self.with_header(&format!("Authorization: Bearer {token}"))
    }

    /// The same client with a header line that every request carries.
    pub fn with_header(&self, line: &str) -> Self {
        let mut client = self.clone();
        client.headers.push(line.to_owned());
        client
    }

    /// The server's address, as it stands in links.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// GET.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, b"")
    }

    /// POST of a JSON text.
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send("POST", path, body.as_ref())
    }

    /// PUT of a JSON text.
    pub fn put(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send("PUT", path, body.as_ref())
    }

    /// PATCH with a JSON text.
    pub fn patch(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send("PATCH", path, body.as_ref())
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, b"")
    }

    /// A request; a body is JSON.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let mut lines = String::new();
        if !body.is_empty() {
            lines += &format!("Content-Length: {}\r\n", body.len());
            lines += "Content-Type: application/json\r\n";
        }
        self.send_raw(method, path, &lines, body)
    }

    /// Begins a request whose body the server asks for, and doesn't get while the stream lives.
    pub fn begin(&self, path: &str, lines: &str) -> TcpStream {
        let head = self.head("POST", path, &format!("{lines}Expect: 100-continue\r\n"));
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    }

    /// A request with these header lines, each ending in CRLF, and whatever bytes follow the head.
    pub fn send_raw(&self, method: &str, path: &str, lines: &str, rest: &[u8]) -> Answer {
        let mut request = self.head(method, path, lines).into_bytes();
        request.extend_from_slice(rest);
        self.exchange(&request, method == "HEAD")
    }

    fn head(&self, method: &str, path: &str, lines: &str) -> String {
        let mut request = format!("{method} {path} HTTP/1.1\r\n");
        if !lines.to_ascii_lowercase().contains("host:") {
            request += &format!("Host: {}\r\n", self.address);
        }
        for line in &self.headers {
            request += &format!("{line}\r\n");
        }
        request + &format!("Connection: close\r\n{lines}\r\n")
    }

    fn exchange(&self, request: &[u8], is_head: bool) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).expect("the server reads what it is sent");
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !bytes.is_empty() => {}
            Err(error) => panic!("the answer could not be read: {error}"),
        }
        let answer = Answer::parse(&bytes, is_head);
        document::check(request, &answer);
        answer
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Reads what came on the wire.
    pub fn parse(bytes: &[u8], is_head: bool) -> Self {
        let text = std::str::from_utf8(bytes).expect("answers are text");
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap_or((line, "")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let answer = Self { status, headers, body: body.to_owned() };
        assert_ne!(status, 500, "nothing that a client does is our fault: {answer:?}");
        assert!(answer.header("x-request-id").is_some(), "every answer has an id: {answer:?}");
        assert!(!is_head || body.is_empty(), "HEAD has no body");
        if !body.is_empty() {
            let is_metrics = body.starts_with("# HELP postrider_");
            let known = if is_metrics {
                "text/plain; version=0.0.4; charset=utf-8"
            } else {
                "application/json"
            };
            assert_eq!(answer.header("content-type"), Some(known), "{answer:?}");
            let length = answer.header("content-length").map(|length| length.parse().unwrap());
            assert_eq!(length, Some(body.len()), "{answer:?}");
        }
        answer
    }

    /// The value of a header, if it is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }

    /// Asserts the status, and the body to the letter.
    #[track_caller]
    pub fn is(self, status: u16, body: &str) -> Self {
        assert_eq!((self.status, self.body.as_str()), (status, body));
        self
    }

    /// Asserts the status, and the text under `detail`.
    #[track_caller]
    pub fn says(self, status: u16, detail: &str) -> Self {
        let body = serde_json::json!({ "detail": detail }).to_string();
        self.is(status, &body)
    }

    /// Asserts a 400, and the problem of one field.
    #[track_caller]
    pub fn blames(self, field: &str, text: &str) -> Self {
        let body = serde_json::json!({ field: [text] }).to_string();
        self.is(400, &body)
    }

    /// Asserts the status; the body as JSON.
    #[track_caller]
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// Asserts the status; the `id` of what is shown.
    #[track_caller]
    pub fn id(&self, status: u16) -> i64 {
        self.json(status)["id"].as_i64().unwrap()
    }
}
