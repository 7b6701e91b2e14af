//! The API as a publisher or an admin uses it: one connection, one request at a time.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::TYPE;

/// No answer takes longer, whatever is done to the server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to the API, made when it is needed.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    token: String,
    stream: Option<BufReader<TcpStream>>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, of a request that succeeded.
    pub fn json(&self) -> anyhow::Result<Value> {
        ensure!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// A client of the server at that address.
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self { address, token: token.to_owned(), stream: None }
    }

    /// Sends a request. After an error nobody knows whether it was carried out.
    pub fn send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address)?,
        };
        let (address, token, length) = (self.address, &self.token, body.len());
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.get_mut().write_all(&request)?;
        let (answer, is_last) = read_answer(&mut stream)?;
        self.stream = (!is_last).then_some(stream);
        Ok(answer)
    }

    /// GET, and the JSON that came. A connection that was closed at rest is made anew: to ask twice changes nothing.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        let answer = self.send("GET", path, b"").or_else(|_| self.send("GET", path, b""))?;
        answer.json().with_context(|| format!("GET {path}"))
    }

    /// Makes an endpoint for [`TYPE`], and answers its id.
    pub fn create_endpoint(&mut self, target: &str) -> anyhow::Result<i64> {
        self.create_endpoint_for(target, &[TYPE])
    }

    /// Makes an endpoint for these event types, and answers its id.
    pub fn create_endpoint_for(&mut self, target: &str, types: &[&str]) -> anyhow::Result<i64> {
        let events: Vec<Value> = types.iter().map(|name| json!({"type": name})).collect();
        let body = json!({"target": target, "events": events}).to_string();
        let made = self.send("POST", "/api/v2/webhook/endpoint/", body.as_bytes())?.json()?;
        made["id"].as_i64().context("an endpoint has an id")
    }

    /// Publishes an event of so many bytes.
    pub fn publish(&mut self, event_type: &str, bytes: usize) -> io::Result<Answer> {
        let body = json!({"type": event_type, "data": {"text": "x".repeat(bytes)}}).to_string();
        self.send("POST", "/api/v2/webhook/event/", body.as_bytes())
    }

    /// How many attempts an endpoint has had.
    pub fn attempt_count(&mut self, endpoint: i64) -> anyhow::Result<usize> {
        let page = self.get(&format!("/api/v2/webhook/endpoint/{endpoint}/attempt/?limit=1"))?;
        Ok(usize::try_from(page["count"].as_u64().context("a list has a count")?)?)
    }
}

/// The id in the answer to a publish.
pub fn event_id(answer: &Answer) -> anyhow::Result<i64> {
    answer.json()?["event_id"].as_i64().context("an event has an id")
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(BufReader::new(stream))
}

fn read_answer(stream: &mut BufReader<TcpStream>) -> io::Result<(Answer, bool)> {
    let broken = || io::Error::from(ErrorKind::UnexpectedEof);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    let (mut length, mut is_last) = (0, false);
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(broken());
        }
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().map_err(|_| broken())?;
        }
        is_last |= header == "connection: close";
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((Answer { status, body }, is_last))
}
