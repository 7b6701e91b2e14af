//! The receiver: raw sockets, a constant answer, and a note of which event came when.
//!
//! It runs on a thread of its own beside the load generator. One address serves every endpoint of a run: the path tells
//! which endpoint it is, and how it behaves. It verifies no signature, as the limit that it also measures has none to spare.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::{
    clock::{self, Nanos},
    message::{Head, number},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const FAIL: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\nno";

/// How much of a connection is read at once; a longer message makes its connection's buffer grow.
const BUFFER: usize = 16 * 1024;

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It answers 200.
    Ok,
    /// It answers 500.
    Fail,
    /// It reads, and never answers.
    Hang,
}

impl Manner {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Hang => "hang",
        }
    }

    fn of(path: &[u8]) -> Self {
        match path.get(1) {
            Some(b'f') => Self::Fail,
            Some(b'h') => Self::Hang,
            _ => Self::Ok,
        }
    }
}

/// A request that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The number in the endpoint's path.
    pub endpoint: u32,
    /// The number in `webhook-id`.
    pub event: u64,
    /// When it had come whole.
    pub at: Nanos,
}

/// What came, over all connections.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Each connection has a list of its own, so that none waits for another.
    connections: Mutex<Vec<Arc<Mutex<Vec<Receipt>>>>>,
    acknowledged: AtomicU64,
}

impl Inbox {
    fn open(&self) -> Arc<Mutex<Vec<Receipt>>> {
        let receipts = Arc::<Mutex<Vec<Receipt>>>::default();
        lock(&self.connections).push(receipts.clone());
        receipts
    }

    /// How many requests were answered with 200.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Everything that came, and forgets it.
    pub fn take(&self) -> Vec<Receipt> {
        let connections = lock(&self.connections);
        connections.iter().flat_map(|receipts| std::mem::take(&mut *lock(receipts))).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A receiver on a thread of its own. Dropping it closes its connections.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    /// What came.
    pub inbox: Arc<Inbox>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts one on a free port of the loopback address.
    pub fn start() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let inbox = Arc::<Inbox>::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let theirs = inbox.clone();
        let thread = std::thread::Builder::new().name("receiver".into()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, theirs) => {}
                }
            });
        })?;
        Ok(Self { address, inbox, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The target of an endpoint that behaves so.
    pub fn target(&self, endpoint: usize, manner: Manner) -> String {
        format!("http://{}/{}/{endpoint}", self.address, manner.name())
    }

    /// Waits until that many requests have been acknowledged, or none comes any more; `false` then.
    pub fn wait_for(&self, acknowledged: u64, patience: Duration) -> bool {
        let (mut seen, mut since) = (self.inbox.acknowledged(), clock::now());
        loop {
            let now = self.inbox.acknowledged();
            if now >= acknowledged {
                return true;
            }
            if now != seen {
                (seen, since) = (now, clock::now());
            } else if clock::now().since(since) > patience {
                return false;
            }
            // When exactly the last one came is in its receipt.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Accepts connections and answers what comes on them.
pub async fn accept(listener: TcpListener, inbox: Arc<Inbox>) {
    while let Ok((stream, _)) = listener.accept().await {
        let inbox = inbox.clone();
        tokio::spawn(async move {
            // A connection that breaks is the sender's to mend.
            let _ = answer(stream, &inbox).await;
        });
    }
}

async fn answer(mut stream: TcpStream, inbox: &Inbox) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let receipts = inbox.open();
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        let mut done = 0;
        while let Some(head) = Head::read(&buffer[done..filled]) {
            let length = head.message_length();
            if filled - done < length {
                break;
            }
            let manner = note(&head, &receipts);
            done += length;
            match manner {
                Manner::Ok => {
                    inbox.acknowledged.fetch_add(1, Ordering::Relaxed);
                    stream.write_all(OK).await?;
                }
                Manner::Fail => stream.write_all(FAIL).await?,
                Manner::Hang => {}
            }
        }
        buffer.copy_within(done..filled, 0);
        filled -= done;
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
    }
}

fn note(head: &Head<'_>, receipts: &Mutex<Vec<Receipt>>) -> Manner {
    let path = head.path();
    let last = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let endpoint = u32::try_from(number(&path[last..])).unwrap_or(u32::MAX);
    let event = head.event.unwrap_or_default();
    lock(receipts).push(Receipt { endpoint, event, at: clock::now() });
    Manner::of(path)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net,
    };

    use super::*;

    #[test]
    fn requests_are_noted_and_answered_however_they_are_cut() {
        let receiver = Receiver::start().unwrap();
        let mut stream = net::TcpStream::connect(receiver.address).unwrap();
        let body = "x".repeat(BUFFER);
        let one = |path: &str, event: u64, body: &str| {
            let length = body.len();
            format!(
                "POST {path} HTTP/1.1\r\nwebhook-id: evt_{event}\r\ncontent-length: {length}\r\n\r\n{body}"
            )
        };
        let text = one("/ok/7", 41, "{}") + &one("/fail/8", 42, &body) + &one("/ok/9", 43, "");
        for piece in text.as_bytes().chunks(100) {
            stream.write_all(piece).unwrap();
        }
        let mut answers = vec![0; 2 * OK.len() + FAIL.len()];
        stream.read_exact(&mut answers).unwrap();
        assert_eq!(answers, [OK, FAIL, OK].concat());
        let noted: Vec<_> =
            receiver.inbox.take().iter().map(|receipt| (receipt.endpoint, receipt.event)).collect();
        assert_eq!(noted, [(7, 41), (8, 42), (9, 43)]);
        assert!(receiver.wait_for(2, Duration::ZERO));
        assert!(!receiver.wait_for(3, Duration::ZERO));
        assert!(receiver.inbox.take().is_empty());
    }

    #[test]
    fn targets_say_how_they_behave() {
        for manner in [Manner::Ok, Manner::Fail, Manner::Hang] {
            assert_eq!(Manner::of(format!("/{}/1", manner.name()).as_bytes()), manner);
        }
    }
}
