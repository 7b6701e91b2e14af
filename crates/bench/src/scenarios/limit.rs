//! The physical limit: signed POSTs of the same bytes to the same receiver, and nothing else.
//!
//! As many threads as there are processors, each with an event loop, a share of the connections, and the receiver's ends
//! of them: so no wake-up crosses threads, and no design with a store in between could be faster with this client and this
//! receiver. It is the denominator of the ratios. With the receiver on a thread of its own, each request wakes the other
//! thread and the other one it, as a server must: that is measured for comparison.

use std::{
    net::SocketAddr,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use postrider_kernel::{
    Created, EventData, EventId, EventType, SigningSecret, Target, event,
    request::{RequestTemplate, SIGNATURE_HEADER},
    secret::Standing,
    signature::Signer,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    body, clock,
    figures::Figures,
    receiver::{self, Inbox, Receiver},
    system::{self, Machine},
};

/// The figure that doesn't depend on what else the machine does.
pub const CPU: &str = "CPU per request, client and receiver";

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many connections.
    pub connections: usize,
    /// How long.
    pub duration: Duration,
    /// How many bytes a publisher would have sent.
    pub size: usize,
    /// Whether the receiver has a thread of its own, as it has in the other scenarios.
    pub apart: bool,
}

/// Measures.
///
/// # Errors
/// Sockets that can't be had.
pub fn run(options: Options) -> anyhow::Result<Figures> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    // Apart, one processor is the receiver's.
    let threads = if options.apart { processors.saturating_sub(1) } else { processors };
    let threads = threads.clamp(1, options.connections.max(1));
    let receiver = if options.apart { Some(Receiver::start()?) } else { None };
    let apart = receiver.as_ref().map(Receiver::address);
    let run = Arc::new(Run { sent: AtomicU64::new(0), is_over: AtomicBool::new(false) });
    let payload = payload(options.size)?;
    let pid = std::process::id();
    let (started, cpu, machine) = (clock::now(), system::cpu(pid)?, Machine::now()?);
    let loops: Vec<_> = (0..threads)
        .map(|thread| {
            let share = (options.connections + thread) / threads;
            let (run, payload) = (run.clone(), payload.clone());
            std::thread::spawn(move || post_in_a_loop(share, apart, &run, &payload))
        })
        .collect();
    std::thread::sleep(options.duration);
    run.is_over.store(true, Ordering::Relaxed);
    for posting in loops {
        posting.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    let elapsed = clock::now().since(started).as_secs_f64();
    let cpu = system::cpu(pid)?.saturating_sub(cpu);
    let sent = run.sent.load(Ordering::Relaxed) as f64;

    let mut figures = Figures::default();
    figures.put("requests", "/s", sent / elapsed);
    figures.put(CPU, "µs", cpu.as_secs_f64() * 1e6 / sent);
    figures.put("requests, had it been alone", "/s", sent * processors as f64 / cpu.as_secs_f64());
    let others = Machine::now()?.percent_used_by_others(machine, cpu);
    figures.put("machine used by others", "%", others);
    figures.put("payload", "bytes", payload.len() as f64);
    Ok(figures)
}

struct Run {
    sent: AtomicU64,
    is_over: AtomicBool,
}

fn payload(size: usize) -> anyhow::Result<Bytes> {
    let published = body::published(size);
    let raw = serde_json::from_str(body::data(&published))?;
    let event_type = EventType::parse(body::EVENT_TYPE)?;
    let created = Created::at(clock::wall());
    Ok(event::payload(EventId::new(1_000_000), &event_type, created, EventData::parse(raw)?))
}

/// One thread's share.
fn post_in_a_loop(
    connections: usize,
    apart: Option<SocketAddr>,
    run: &Arc<Run>,
    payload: &Bytes,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let address = match apart {
            Some(address) => address,
            None => {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let address = listener.local_addr()?;
                tokio::spawn(receiver::accept(listener, Arc::<Inbox>::default()));
                address
            }
        };
        let target = Target::parse(&format!("http://{address}/ok/0"))?;
        let mut posting = JoinSet::new();
        for _ in 0..connections {
            posting.spawn(post(target.clone(), address, run.clone(), payload.clone()));
        }
        while let Some(done) = posting.join_next().await {
            done.context("a connection panicked")??;
        }
        Ok(())
    })
}

async fn post(
    target: Target,
    address: SocketAddr,
    run: Arc<Run>,
    payload: Bytes,
) -> anyhow::Result<()> {
    let agent = HeaderValue::from_static("Postrider/bench");
    let header = HeaderName::from_bytes(SIGNATURE_HEADER.as_bytes())?;
    let template = RequestTemplate::new(&target, header, agent)?;
    let secret = SigningSecret::from_entropy(&[7; 32]);
    let signer = Signer::new([(&secret, Standing::Current)]);

    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    while !run.is_over.load(Ordering::Relaxed) {
        let number = run.sent.fetch_add(1, Ordering::Relaxed);
        let event = EventId::new(1_000_000 + number.cast_signed());
        let signed = template.sign(event, &payload, &signer, clock::wall());
        sender.ready().await?;
        let response = sender.send_request(signed.request.map(Full::new)).await?;
        response.into_body().collect().await?;
    }
    Ok(())
}
