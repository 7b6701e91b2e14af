//! The load generator: keep-alive connections over raw sockets, on a thread of its own.
//!
//! In a *closed* loop each connection publishes its next event when the last one was acknowledged: it finds out how much
//! can be done. In an *open* loop events are due on a schedule, whatever the server does, and their times count from when
//! they were due: what a stalled server kept from being sent counts against it (no "coordinated omission").

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::{
    clock::{self, Nanos},
    message::{Head, published_event},
};

/// How long a publisher that was told to come back waits, unless it was told how long.
const AGAIN: Duration = Duration::from_millis(50);

/// How long a publish may go unanswered before the server counts as hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to publish, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the API listens; connections are spread over them.
    pub servers: Vec<SocketAddr>,
    /// The operator's token.
    pub token: String,
    /// For which tenant.
    pub tenant: String,
    /// The body of each publish.
    pub body: Bytes,
    /// How many connections.
    pub connections: usize,
    /// How many events.
    pub events: u64,
    /// How fast.
    pub pace: Pace,
}

/// How fast events are published.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As fast as they are acknowledged.
    Closed,
    /// So many a second.
    Open(f64),
}

/// An event that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Its identifier.
    pub event: u64,
    /// When it was due, which in a closed loop is when it was sent.
    pub due: Nanos,
    /// When its acknowledgement had come.
    pub acknowledged: Nanos,
}

/// What a load came to.
#[derive(Debug, Default)]
pub struct Load {
    /// The events, in no order.
    pub sent: Vec<Sent>,
    /// How often the server answered 503 or 429, and the event was sent again.
    pub pushed_back: u64,
}

impl Load {
    /// When the first event was due.
    pub fn began(&self) -> Nanos {
        self.sent.iter().map(|sent| sent.due).min().unwrap_or_default()
    }

    /// When the last acknowledgement came.
    pub fn ended(&self) -> Nanos {
        self.sent.iter().map(|sent| sent.acknowledged).max().unwrap_or_default()
    }
}

/// Publishes; answers when the last event is acknowledged.
///
/// # Errors
/// A connection that broke, or an answer that is neither 201 nor a request to come back.
pub fn publish(plan: &Plan) -> anyhow::Result<Load> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let source = Arc::new(Source::new(plan)?);
        let mut connections = JoinSet::new();
        for &server in plan.servers.iter().cycle().take(plan.connections) {
            let publisher = Publisher::connect(plan, server).await?;
            connections.spawn(publisher.run(source.clone()));
        }
        let mut load = Load::default();
        while let Some(done) = connections.join_next().await {
            let part = done.context("a publisher panicked")??;
            load.sent.extend(part.sent);
            load.pushed_back += part.pushed_back;
        }
        Ok(load)
    })
}

/// Where publishers learn when the next event is due.
enum Source {
    Closed(AtomicU64),
    Open(Mutex<mpsc::UnboundedReceiver<Nanos>>),
}

impl Source {
    fn new(plan: &Plan) -> anyhow::Result<Self> {
        match plan.pace {
            Pace::Closed => Ok(Self::Closed(AtomicU64::new(plan.events))),
            Pace::Open(rate) => {
                let (due, waiting) = mpsc::unbounded_channel();
                let events = plan.events;
                std::thread::Builder::new()
                    .name("pacer".into())
                    .spawn(move || keep_pace(rate, events, &due))?;
                Ok(Self::Open(Mutex::new(waiting)))
            }
        }
    }

    /// When the next event is due, once it is.
    async fn next(&self) -> Option<Nanos> {
        match self {
            Self::Closed(left) => {
                let take = |left: u64| left.checked_sub(1);
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
                Some(clock::now())
            }
            Self::Open(due) => due.lock().await.recv().await,
        }
    }
}

/// Says when each event is due. A thread sleeps to within 0.1 ms, where a timer of the runtime rounds to a whole one.
fn keep_pace(rate: f64, events: u64, due: &mpsc::UnboundedSender<Nanos>) {
    let started = clock::now().plus(Duration::from_millis(20));
    for turn in 0..events {
        let at = started.plus(Duration::from_secs_f64(turn as f64 / rate));
        std::thread::sleep(at.since(clock::now()));
        if due.send(at).is_err() {
            return;
        }
    }
}

/// One connection.
struct Publisher {
    stream: TcpStream,
    request: Bytes,
    buffer: Vec<u8>,
}

impl Publisher {
    async fn connect(plan: &Plan, server: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server).await.context("the server can't be reached")?;
        stream.set_nodelay(true)?;
        let Plan { token, tenant, body, .. } = plan;
        let mut request = format!(
            "POST /api/v2/webhook/event/ HTTP/1.1\r\nhost: {server}\r\nauthorization: Bearer {token}\r\n\
             postrider-tenant: {tenant}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        Ok(Self { stream, request: request.into(), buffer: vec![0; 4096] })
    }

    async fn run(mut self, source: Arc<Source>) -> anyhow::Result<Load> {
        let mut load = Load::default();
        while let Some(due) = source.next().await {
            let event = loop {
                let answer = tokio::time::timeout(PATIENCE, self.publish_once()).await;
                match answer.context("the server hangs: a publish was not answered in 30 s")?? {
                    Answer::Published(event) => break event,
                    Answer::ComeBack => {
                        load.pushed_back += 1;
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            };
            load.sent.push(Sent { event, due, acknowledged: clock::now() });
        }
        Ok(load)
    }

    async fn publish_once(&mut self) -> anyhow::Result<Answer> {
        self.stream.write_all(&self.request).await?;
        let mut filled = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[filled..]).await?;
            if count == 0 {
                bail!("the server closed a connection or sent an answer too long to be one");
            }
            filled += count;
            let Some(head) = Head::read(&self.buffer[..filled]) else { continue };
            if filled < head.message_length() {
                continue;
            }
            let body = &self.buffer[head.length..head.message_length()];
            return match (head.status(), published_event(body)) {
                (201, Some(event)) => Ok(Answer::Published(event)),
                (503 | 429, _) => Ok(Answer::ComeBack),
                (status, _) => {
                    bail!("a publish was answered {status}: {}", String::from_utf8_lossy(body))
                }
            };
        }
    }
}

/// What came of one request.
enum Answer {
    Published(u64),
    ComeBack,
}
