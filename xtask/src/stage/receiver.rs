//! The receiver: one address for all endpoints of a run, whose paths say how each behaves; and a note of all that came.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{lock, pause};

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It answers 200.
    Fine,
    /// It answers 503 to every third request.
    Moody,
    /// It answers 200 after 50 ms.
    Slow,
    /// It answers 500.
    Failing,
    /// It answers 410.
    Gone,
}

const MANNERS: [(Manner, &str); 5] = [
    (Manner::Fine, "fine"),
    (Manner::Moody, "moody"),
    (Manner::Slow, "slow"),
    (Manner::Failing, "failing"),
    (Manner::Gone, "gone"),
];

/// What came of one event to one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// How often it was acknowledged.
    pub acknowledged: usize,
    /// How often it was turned away.
    pub refused: usize,
    /// A checksum of its body, the same each time.
    pub checksum: u64,
}

/// What came, by the endpoint's path and the event's id.
pub type Receipts = HashMap<(String, i64), Receipt>;

#[derive(Debug, Default)]
struct Inbox {
    receipts: Mutex<Receipts>,
    /// Events that were acknowledged by an endpoint, the first time each.
    delivered: AtomicUsize,
    requests: AtomicUsize,
    /// Events whose body was another one the next time.
    changed: AtomicUsize,
    connections: Mutex<Vec<TcpStream>>,
}

/// A receiver that can be taken down and brought up again.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    inbox: Arc<Inbox>,
    up: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Receiver {
    /// A receiver on a free port.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut receiver =
            Self { address: listener.local_addr()?, inbox: Arc::default(), up: None };
        receiver.listen(listener);
        Ok(receiver)
    }

    /// Connections are refused from now on, and those that are open are closed.
    pub fn down(&mut self) {
        let Some((is_down, thread)) = self.up.take() else { return };
        is_down.store(true, Ordering::SeqCst);
        // The listener wakes up to find out.
        let _ = TcpStream::connect(self.address);
        let _ = thread.join();
        for connection in lock(&self.inbox.connections).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Listens again where it did.
    pub fn up(&mut self) -> anyhow::Result<()> {
        let listener = TcpListener::bind(self.address)?;
        self.listen(listener);
        Ok(())
    }

    fn listen(&mut self, listener: TcpListener) {
        let (inbox, is_down) = (self.inbox.clone(), Arc::<AtomicBool>::default());
        let told = is_down.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(other) = stream.try_clone() {
                    lock(&inbox.connections).push(other);
                }
                let inbox = inbox.clone();
                // How a connection ends is the sender's business.
                std::thread::spawn(move || serve(stream, &inbox));
            }
        });
        self.up = Some((is_down, thread));
    }

    /// The target of an endpoint that behaves so, and its path.
    pub fn target(&self, manner: Manner, number: usize) -> (String, String) {
        let name = MANNERS.iter().find(|(one, _)| *one == manner).map_or("", |(_, name)| name);
        let path = format!("/{name}/{number}");
        (format!("http://{}{path}", self.address), path)
    }

    /// How many deliveries were acknowledged, each counted once.
    pub fn delivered(&self) -> usize {
        self.inbox.delivered.load(Ordering::SeqCst)
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.inbox.requests.load(Ordering::SeqCst)
    }

    /// How many requests had another body than the same event had before.
    pub fn changed(&self) -> usize {
        self.inbox.changed.load(Ordering::SeqCst)
    }

    /// All that came.
    pub fn receipts(&self) -> Receipts {
        lock(&self.inbox.receipts).clone()
    }
}

fn serve(stream: TcpStream, inbox: &Inbox) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut stream = BufReader::new(stream);
    loop {
        let request = read_request(&mut stream)?;
        let nth = inbox.requests.fetch_add(1, Ordering::SeqCst);
        let manner = manner_of(&request.path);
        if manner == Manner::Slow {
            // To be slow is what it is there for.
            pause(Duration::from_millis(50));
        }
        let status = match manner {
            Manner::Moody if nth.is_multiple_of(3) => 503,
            Manner::Fine | Manner::Slow | Manner::Moody => 200,
            Manner::Failing => 500,
            Manner::Gone => 410,
        };
        note(inbox, request, status);
        let answer = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 0\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

fn manner_of(path: &str) -> Manner {
    let name = path.split('/').nth(1).unwrap_or_default();
    MANNERS.iter().find(|(_, one)| *one == name).map_or(Manner::Fine, |(manner, _)| *manner)
}

/// In the ledger before the answer is written: whoever has an answer has been written down.
fn note(inbox: &Inbox, request: Request, status: u16) {
    let mut receipts = lock(&inbox.receipts);
    let receipt = receipts.entry((request.path, request.event)).or_default();
    if receipt.checksum != 0 && receipt.checksum != request.checksum {
        inbox.changed.fetch_add(1, Ordering::SeqCst);
    }
    receipt.checksum = request.checksum;
    if status == 200 {
        receipt.acknowledged += 1;
        if receipt.acknowledged == 1 {
            inbox.delivered.fetch_add(1, Ordering::SeqCst);
        }
    } else {
        receipt.refused += 1;
    }
}

struct Request {
    path: String,
    event: i64,
    checksum: u64,
}

fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut event, mut length) = (None, 0);
    loop {
        line.clear();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(id) = header.strip_prefix("webhook-id: evt_") {
            event = id.parse().ok();
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    // FNV-1a, which has no zero for what is not empty.
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let checksum = body.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    Some(Request { path, event: event?, checksum })
}
