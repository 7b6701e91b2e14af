//! A receiver in the test's own process: it hands on what it gets, and answers as it is told.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver as Inbox, Sender, channel},
    },
    thread,
};

use super::PATIENCE;

/// One webhook.
#[derive(Debug)]
pub struct Received {
    /// The head of the request, line by line.
    pub head: Vec<String>,
    /// Its body.
    pub body: String,
}

/// Listens until the test ends.
pub struct Receiver {
    url: String,
    inbox: Inbox<Received>,
    answer: Arc<Mutex<String>>,
}

impl Receiver {
    /// A receiver that answers 200 and `ok`.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(String::new()));
        let (sender, inbox) = channel();
        let script = answer.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (sender, script) = (sender.clone(), script.clone());
                thread::spawn(move || serve(stream, &sender, &script));
            }
        });
        let receiver = Self { url, inbox, answer };
        receiver.answers("200 OK", "ok");
        receiver
    }

    /// From now on it answers so.
    pub fn answers(&self, status: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for the next webhook.
    #[track_caller]
    pub fn next(&self) -> Received {
        self.inbox.recv_timeout(PATIENCE).expect("a webhook arrives")
    }
}

impl Received {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

fn serve(stream: TcpStream, sender: &Sender<Received>, script: &Mutex<String>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let mut received = Received { head, body: String::new() };
        let length: usize = received.header("content-length")?.parse().ok()?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        received.body = String::from_utf8(body).ok()?;
        // Answered before it is handed on, so that whoever waits for it may change the script.
        let answer = script.lock().unwrap().clone();
        writer.write_all(answer.as_bytes()).ok()?;
        sender.send(received).ok()?;
    }
}
