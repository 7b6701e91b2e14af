//! A receiver on a port of its own that does what it is told, over TCP or TLS, and keeps a ledger of what came.

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use postrider_kernel::{
    SigningSecret, Timestamp,
    signature::{Tolerance, verify_list, verify_standard},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::{Mutex, Notify, mpsc},
};
use tokio_rustls::TlsAcceptor;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub request_line: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// Which connection it came on, from 0.
    pub connection: usize,
}

impl Received {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn event_id(&self) -> i64 {
        self.headers["webhook-id"].strip_prefix("evt_").unwrap().parse().unwrap()
    }

    /// When it was signed, in seconds.
    pub fn signed_at(&self) -> i64 {
        self.headers["webhook-timestamp"].parse().unwrap()
    }

    /// Whether both dialects hold under that secret; they must agree.
    pub fn verifies(&self, secret: &str) -> bool {
        let secret = SigningSecret::parse(secret).unwrap();
        let tolerance = Tolerance { now: now(), allowed: Duration::from_secs(300) };
        let list =
            verify_list(&self.headers["postrider-signature"], &self.body, &secret, tolerance)
                .is_ok();
        let standard = verify_standard(
            &self.headers["webhook-id"],
            &self.headers["webhook-timestamp"],
            &self.headers["webhook-signature"],
            &self.body,
            &secret,
            tolerance,
        );
        assert_eq!(list, standard.is_ok(), "the two dialects agree");
        list
    }
}

/// The wall clock.
#[allow(clippy::disallowed_methods, reason = "a receiver has a clock of its own")]
pub fn now() -> Timestamp {
    Timestamp::from_micros(0)
        .plus(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap())
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers with that status, these header lines and that body.
    Answer(u16, &'static str, &'static str),
    /// Writes these bytes, and goes on as if that had been an answer.
    Raw(&'static [u8]),
    /// Writes these bytes, and then nothing more, ever.
    RawThenHang(&'static [u8]),
    /// Writes these bytes, and then the same chunk of body for as long as anybody reads.
    Endless(&'static [u8]),
    /// Writes these bytes again and again for as long as anybody reads.
    Flood(&'static [u8]),
    /// Answers with that status once the test says so.
    AnswerWhen(Arc<Notify>, u16),
    /// Closes the connection.
    Close,
}

/// An answer without anything special.
pub fn answer(status: u16) -> Reply {
    Reply::Answer(status, "", "")
}

/// The receiver.
pub struct Receiver {
    /// `http://127.0.0.1:PORT/hook`
    pub url: String,
    received: Mutex<mpsc::UnboundedReceiver<Received>>,
    connections: Arc<AtomicUsize>,
}

type Script = dyn Fn(usize, &Received) -> Reply + Send + Sync;

impl Receiver {
    /// A receiver that answers 200 to everything.
    pub async fn start() -> Self {
        Self::scripted(|_, _| answer(200)).await
    }

    /// A receiver that asks the script what to do with each request; they are counted from 0.
    pub async fn scripted(
        script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen("http", None, script).await
    }

    /// The same over TLS.
    pub async fn tls(
        acceptor: TlsAcceptor,
        script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen("https", Some(acceptor), script).await
    }

    async fn listen(
        scheme: &str,
        acceptor: Option<TlsAcceptor>,
        script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}/hook", listener.local_addr().unwrap());
        let (sender, receiver) = mpsc::unbounded_channel();
        let (script, requests): (Arc<Script>, _) =
            (Arc::new(script), Arc::new(AtomicUsize::new(0)));
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = counter.fetch_add(1, Ordering::SeqCst);
                let (script, requests, sender) = (script.clone(), requests.clone(), sender.clone());
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let serve = Serve { script, requests, sender, connection };
                    match acceptor {
                        None => serve.run(stream).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve.run(stream).await;
                            }
                        }
                    }
                });
            }
        });
        Self { url, received: Mutex::new(receiver), connections }
    }

    /// The next request that came.
    pub async fn next(&self) -> Received {
        self.received.lock().await.recv().await.expect("the receiver lives")
    }

    /// A request that came and was not taken yet.
    pub async fn try_next(&self) -> Option<Received> {
        self.received.lock().await.try_recv().ok()
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

struct Serve {
    script: Arc<Script>,
    requests: Arc<AtomicUsize>,
    sender: mpsc::UnboundedSender<Received>,
    connection: usize,
}

impl Serve {
    async fn run(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut buffer = Vec::new();
        while let Some(received) = read_request(&mut stream, &mut buffer, self.connection).await {
            let reply = (self.script)(self.requests.fetch_add(1, Ordering::SeqCst), &received);
            // In the ledger first: whoever has an answer has been written down.
            let _ = self.sender.send(received);
            if perform(&mut stream, reply).await.is_err() {
                return;
            }
        }
    }
}

async fn perform(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Answer(status, headers, body) => write_answer(stream, status, headers, body).await,
        Reply::AnswerWhen(told, status) => {
            told.notified().await;
            write_answer(stream, status, "", "").await
        }
        Reply::Raw(bytes) => stream.write_all(bytes).await,
        Reply::RawThenHang(bytes) => {
            stream.write_all(bytes).await?;
            stream.flush().await?;
            pending().await
        }
        Reply::Endless(bytes) => {
            stream.write_all(bytes).await?;
            loop {
                stream.write_all(&[b'x'; 8192]).await?;
            }
        }
        Reply::Flood(bytes) => loop {
            stream.write_all(bytes).await?;
        },
        Reply::Close => Err(std::io::ErrorKind::ConnectionAborted.into()),
    }
}

async fn write_answer(
    stream: &mut (impl AsyncWrite + Unpin),
    status: u16,
    headers: &str,
    body: &str,
) -> std::io::Result<()> {
    let length = body.len();
    let text =
        format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await
}

/// Reads one request with a Content-Length; none when the sender has closed.
async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    connection: usize,
) -> Option<Received> {
    let mut head_end = None;
    let (head_end, length) = loop {
        head_end = head_end
            .or_else(|| buffer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4));
        if let Some(end) = head_end {
            let length = headers(&buffer[..end])
                .1
                .get("content-length")
                .map_or(0, |text| text.parse().unwrap());
            if buffer.len() >= end + length {
                break (end, length);
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let (request_line, headers) = headers(&buffer[..head_end]);
    let body = buffer[head_end..head_end + length].to_vec();
    buffer.drain(..head_end + length);
    Some(Received { request_line, headers, body, connection })
}

fn headers(head: &[u8]) -> (String, HashMap<String, String>) {
    let text = std::str::from_utf8(head).unwrap();
    let mut lines = text.split("\r\n");
    let request_line = lines.next().unwrap().to_owned();
    let pairs = lines.filter_map(|line| line.split_once(": "));
    (
        request_line,
        pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
    )
}
