//! A lane's own connections: HTTP/1.1 over TCP or TLS, made one by one, with the egress policy checked where they are
//! made.
//!
//! A name is resolved once per connection, refused when *any* of its addresses is forbidden, and the vetted address is
//! what is dialled. There is no pool and no automatic retry below us, and a redirect is an answer like any other.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use hickory_resolver::{TokioResolver, config::LookupIpStrategy};
use http::{Request, header::RETRY_AFTER};
use http_body_util::Full;
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use postrider_kernel::{
    Failure, Target,
    attempt::{Answer, Cause, RESPONSE_BODY_MAX},
    egress::EgressPolicy,
    endpoint::TargetHost,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{gate::Pass, tls};

/// The most bytes of a response's head that are kept in memory while it is read.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most bytes that are read before the final head: a receiver may send informational answers first, but not for ever.
const PRELUDE_BYTES_MAX: usize = 256 * 1024;

/// How long the body may take once the head has decided.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes connections. The seam that a simulation replaces.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Connects to a target, look-up and TLS included, within `limit` and the transport's own limit.
    async fn connect(
        &self,
        target: &Target,
        ssl_cert_verification: bool,
        limit: Duration,
    ) -> Result<Box<dyn Connection>, NotConnected>;
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NotConnected {
    /// The try failed.
    Failed {
        /// What went wrong.
        failure: Failure,
        /// The address that was dialled, if it got that far.
        peer: Option<SocketAddr>,
    },
    /// This machine has no more sockets, ports or memory: no fault of the receiver's, and no try.
    Shortage(io::Error),
}

impl std::fmt::Display for NotConnected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed { failure, .. } => failure.fmt(f),
            Self::Shortage(error) => write!(f, "this machine can't connect now: {error}"),
        }
    }
}

/// A connection that carries one request at a time.
#[async_trait]
pub trait Connection: Send {
    /// The address that was dialled.
    fn peer(&self) -> SocketAddr;

    /// Whether it can carry a further request: the receiver left it open, as far as is known.
    fn is_reusable(&mut self) -> bool;

    /// Sends a request and reads the answer, within `limit`. The pass is dropped as soon as the head is on its way.
    async fn send(
        &mut self,
        request: Request<Bytes>,
        pass: Pass,
        limit: Duration,
    ) -> Result<Answer, Unsent>;
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unsent {
    /// The try failed.
    Failed {
        /// What went wrong.
        failure: Failure,
        /// Whether any byte of the request was written, so that the receiver may have seen it.
        written: bool,
    },
    /// The gate was drained before a byte was written: as if it had never been tried.
    GaveUp,
}

/// The real thing.
pub struct Network {
    resolver: Resolver,
    policy: Arc<EgressPolicy>,
    connect_timeout: Duration,
    verifying: Arc<ClientConfig>,
    trusting: Arc<ClientConfig>,
}

impl Network {
    /// A transport that dials what the policy allows. Connecting takes at most `connect_timeout`: look-up, TCP and TLS
    /// together.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults.
    pub fn new(
        policy: Arc<EgressPolicy>,
        connect_timeout: Duration,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            resolver: Resolver::default(),
            policy,
            connect_timeout,
            verifying: Arc::new(tls::verifying()?),
            trusting: Arc::new(tls::trusting_anyone()?),
        })
    }

    /// The addresses of a host, all of them vetted.
    async fn vetted_addresses(&self, host: TargetHost<'_>) -> Result<Vec<IpAddr>, Failure> {
        let addresses = match host {
            TargetHost::Address(address) => vec![address],
            TargetHost::Name(name) if is_localhost(name) => return self.vetted_loopback(),
            TargetHost::Name(name) => self.resolve(name).await?,
        };
        for &address in &addresses {
            self.policy.check(address).map_err(|forbidden| {
                Failure::new(Cause::ForbiddenAddress, forbidden.to_string())
            })?;
        }
        Ok(addresses)
    }

    /// `localhost` is this machine by definition (RFC 6761, section 6.3): no resolver has a say, so that the rule
    /// against mixed answers has nothing to guard, and an operator who allowed one loopback address gets that one.
    fn vetted_loopback(&self) -> Result<Vec<IpAddr>, Failure> {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let allowed: Vec<_> =
            loopback.into_iter().filter(|&address| self.policy.check(address).is_ok()).collect();
        match self.policy.check(loopback[0]) {
            Err(forbidden) if allowed.is_empty() => {
                Err(Failure::new(Cause::ForbiddenAddress, forbidden.to_string()))
            }
            _ => Ok(allowed),
        }
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        let failed = |detail: String| Failure::new(Cause::Dns, detail);
        let resolver =
            self.resolver.current().map_err(|error| failed(format!("no resolver: {error}")))?;
        let found =
            resolver.lookup_ip(name).await.map_err(|error| failed(format!("{name}: {error}")))?;
        let addresses: Vec<_> = found.iter().collect();
        if addresses.is_empty() {
            Err(failed(format!("{name} has no address")))
        } else {
            Ok(addresses)
        }
    }

    async fn dial(
        &self,
        addresses: &[IpAddr],
        port: u16,
        limit: Duration,
    ) -> Result<(TcpStream, SocketAddr), NotConnected> {
        let mut last = None;
        for &address in addresses {
            let peer = SocketAddr::new(address, port);
            // One silent address must not use up the time of the others.
            let share = limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
            let detail = match timeout(share, TcpStream::connect(peer)).await {
                Ok(Ok(stream)) => return Ok((stream, peer)),
                Ok(Err(error)) if is_shortage(&error) => return Err(NotConnected::Shortage(error)),
                Ok(Err(error)) => format!("{peer}: {error}"),
                Err(_) => format!("{peer}: no connection within {share:?}"),
            };
            let failure = Failure::new(Cause::Connect, detail);
            last = Some(NotConnected::Failed { failure, peer: Some(peer) });
        }
        let nowhere = Failure::new(Cause::Dns, "the name has no address");
        Err(last.unwrap_or(NotConnected::Failed { failure: nowhere, peer: None }))
    }

    /// Looks up, dials and shakes hands; notes in `stage` how far it got.
    async fn reach(
        &self,
        target: &Target,
        verify: bool,
        limit: Duration,
        stage: &Stage,
    ) -> Result<(Stream, SocketAddr), NotConnected> {
        let unreached = |failure| NotConnected::Failed { failure, peer: None };
        let addresses = self.vetted_addresses(target.host()).await.map_err(unreached)?;
        stage.set(Cause::Connect);
        let (tcp, peer) = self.dial(&addresses, target.port(), limit).await?;
        stage.set(Cause::Tls);
        // A request is one write, and the answer is waited for: nothing is gained by holding small packets back.
        let _ = tcp.set_nodelay(true);
        let reached = |failure| NotConnected::Failed { failure, peer: Some(peer) };
        Ok((self.handshake(tcp, target, verify).await.map_err(reached)?, peer))
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        target: &Target,
        verify: bool,
    ) -> Result<Stream, Failure> {
        if !target.is_https() {
            return Ok(Stream::Plain(tcp));
        }
        let failed = |error: io::Error| Failure::new(Cause::Tls, tls::in_words(&error));
        let name = match target.host() {
            TargetHost::Address(address) => ServerName::from(address),
            TargetHost::Name(name) => {
                ServerName::try_from(name.trim_end_matches('.').to_owned())
                    .map_err(|error| Failure::new(Cause::Tls, error.to_string()))?
            }
        };
        let config = if verify { &self.verifying } else { &self.trusting };
        let stream = TlsConnector::from(config.clone()).connect(name, tcp).await.map_err(failed)?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

#[async_trait]
impl Transport for Network {
    async fn connect(
        &self,
        target: &Target,
        verify: bool,
        limit: Duration,
    ) -> Result<Box<dyn Connection>, NotConnected> {
        let limit = limit.min(self.connect_timeout);
        let stage = Stage::default();
        let reached = timeout(limit, self.reach(target, verify, limit, &stage)).await;
        let (stream, peer) = reached.unwrap_or_else(|_| {
            let failure = Failure::new(stage.get(), format!("no connection within {limit:?}"));
            Err(NotConnected::Failed { failure, peer: None })
        })?;
        let connection = HttpConnection::new(stream, peer).await.map_err(|error| {
            let failure = Failure::new(Cause::Protocol, error.to_string());
            NotConnected::Failed { failure, peer: Some(peer) }
        })?;
        Ok(Box::new(connection))
    }
}

/// What a connection that takes too long is waiting for.
#[derive(Default)]
struct Stage(Mutex<Option<Cause>>);

impl Stage {
    fn set(&self, cause: Cause) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
    }

    fn get(&self) -> Cause {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Cause::Dns)
    }
}

/// Whether this machine, and not the receiver, is at fault.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno))
}

/// The system's resolver, made when it is first needed, and made anew when its configuration has changed: at boot the
/// file may not be there yet, and a laptop changes networks.
#[derive(Default)]
struct Resolver(Mutex<Option<(Option<SystemTime>, TokioResolver)>>);

impl Resolver {
    fn current(&self) -> Result<TokioResolver, hickory_resolver::net::NetError> {
        let written =
            std::fs::metadata(RESOLVER_CONFIGURATION).and_then(|file| file.modified()).ok();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((as_of, resolver)) if *as_of == written => Ok(resolver.clone()),
            _ => {
                let resolver = system_resolver()?;
                *kept = Some((written, resolver.clone()));
                Ok(resolver)
            }
        }
    }
}

/// Where the system says whom to ask.
const RESOLVER_CONFIGURATION: &str = "/etc/resolv.conf";

fn system_resolver() -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    // Both families, always: the policy judges every address that a name has.
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

/// Whether a name is `localhost` or below it, which no DNS server has a say in.
pub fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

/// One HTTP/1.1 connection. Hyper splits it in two: `sender` takes requests, `driver` moves bytes while it is polled.
struct HttpConnection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    peer: SocketAddr,
    meter: Arc<Meter>,
    /// Whether the last answer was read to its end.
    is_clean: bool,
}

/// Hyper's half that does the IO; gone once it has ended.
struct Driver(Option<Pin<Box<Http1>>>);

type Http1 = http1::Connection<TokioIo<Wire>, Full<Bytes>>;

impl Driver {
    /// Moves bytes. Its own errors are told by the response's future too, so that they are dropped here.
    fn advance(&mut self, context: &mut Context<'_>) {
        if let Some(connection) = &mut self.0
            && connection.as_mut().poll(context).is_ready()
        {
            self.0 = None;
        }
    }
}

impl HttpConnection {
    async fn new(stream: Stream, peer: SocketAddr) -> hyper::Result<Self> {
        let meter = Arc::new(Meter::default());
        let wire = Wire { stream, meter: meter.clone() };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(wire))
            .await?;
        Ok(Self { sender, driver: Driver(Some(Box::pin(connection))), peer, meter, is_clean: true })
    }

    /// Waits for the response's head, and drops the pass as soon as the request's is on its way.
    async fn exchange(
        &mut self,
        request: Request<Bytes>,
        pass: Pass,
    ) -> Result<http::Response<Incoming>, Interruption> {
        let (written_before, read_before) = (self.meter.written(), self.meter.read());
        let response = self.sender.send_request(request.map(Full::new));
        tokio::pin!(response);
        let (driver, meter) = (&mut self.driver, &self.meter);
        let mut advance = |context: &mut Context<'_>| {
            driver.advance(context);
            match response.as_mut().poll(context) {
                Poll::Ready(answer) => Poll::Ready(answer.map_err(Interruption::Failed)),
                Poll::Pending if meter.read() - read_before > PRELUDE_BYTES_MAX => {
                    Poll::Ready(Err(Interruption::Babble))
                }
                Poll::Pending => Poll::Pending,
            }
        };
        let early = {
            let start = poll_fn(|context| match advance(context) {
                Poll::Pending if meter.written() == written_before => Poll::Pending,
                begun => Poll::Ready(begun),
            });
            tokio::select! {
                biased;
                answer = start => answer,
                () = pass.gives_up() => return Err(Interruption::GaveUp),
            }
        };
        drop(pass);
        match early {
            Poll::Ready(answer) => answer,
            Poll::Pending => poll_fn(advance).await,
        }
    }

    /// Reads the body up to what is kept of it. Whatever goes wrong here, the head has decided already.
    async fn read_body(&mut self, mut incoming: Incoming, kept: &mut Vec<u8>) {
        loop {
            let frame = poll_fn(|context| {
                self.driver.advance(context);
                Pin::new(&mut incoming).poll_frame(context)
            });
            match frame.await {
                None => {
                    self.is_clean = true;
                    return;
                }
                Some(Err(_)) => return,
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    let room = RESPONSE_BODY_MAX - kept.len();
                    kept.extend_from_slice(&data[..data.len().min(room)]);
                    if kept.len() == RESPONSE_BODY_MAX {
                        return;
                    }
                }
            }
        }
    }
}

/// Why an exchange ended without a response.
enum Interruption {
    Failed(hyper::Error),
    /// The receiver sent much, and none of it was an answer.
    Babble,
    GaveUp,
}

#[async_trait]
impl Connection for HttpConnection {
    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn is_reusable(&mut self) -> bool {
        // One look at the socket tells whether the receiver has closed it meanwhile.
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.driver.advance(&mut context);
        self.is_clean && self.driver.0.is_some() && self.sender.is_ready()
    }

    async fn send(
        &mut self,
        request: Request<Bytes>,
        pass: Pass,
        limit: Duration,
    ) -> Result<Answer, Unsent> {
        let written_before = self.meter.written();
        self.is_clean = false;
        let mut answer = None;
        // Tokio's timeout ends a future that is always ready, too, which a plain race against a timer does not.
        let conversed = timeout(limit, self.converse(request, pass, &mut answer)).await;
        if let Some(answer) = answer {
            return Ok(answer);
        }
        let written = self.meter.written() > written_before;
        let failure = match conversed {
            Ok(Err(Interruption::GaveUp)) => return Err(Unsent::GaveUp),
            Ok(Err(Interruption::Failed(error))) => in_words(&error),
            Ok(Err(Interruption::Babble)) => Failure::new(
                Cause::Protocol,
                format!("no answer in the first {PRELUDE_BYTES_MAX} bytes"),
            ),
            Ok(Ok(())) | Err(_) => {
                Failure::new(Cause::Timeout, format!("no answer within {limit:?}"))
            }
        };
        Err(Unsent::Failed { failure, written })
    }
}

impl HttpConnection {
    /// Sends the request and reads the answer; what of it has come stands in `answer`, also when this is cut short.
    async fn converse(
        &mut self,
        request: Request<Bytes>,
        pass: Pass,
        answer: &mut Option<Answer>,
    ) -> Result<(), Interruption> {
        let (head, incoming) = self.exchange(request, pass).await?.into_parts();
        let retry_after =
            head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let answer =
            answer.insert(Answer { status: head.status.as_u16(), retry_after, body: Vec::new() });
        // The head has decided; a body that takes its time is kept as far as it has come.
        let _ = timeout(BODY_TIMEOUT, self.read_body(incoming, &mut answer.body)).await;
        Ok(())
    }
}

/// Sorts hyper's errors into the closed list.
fn in_words(error: &hyper::Error) -> Failure {
    let io_error =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    let is_closed = error.is_incomplete_message()
        || error.is_canceled()
        || error.is_closed()
        || io_error.is_some();
    let detail = match io_error {
        Some(io_error) => {
            format!("the receiver broke the connection off before it answered: {io_error}")
        }
        None if is_closed => "the receiver closed the connection before it answered".to_owned(),
        None => format!("the answer is not HTTP/1.1: {error}"),
    };
    Failure::new(if is_closed { Cause::Closed } else { Cause::Protocol }, detail)
}

/// Bytes to and from the receiver, in the clear or encrypted.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How many bytes went over a connection, either way.
#[derive(Default)]
struct Meter {
    read: AtomicUsize,
    written: AtomicUsize,
}

impl Meter {
    fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }
}

/// A stream that counts: a request of which no byte was written can be sent once more, and a receiver that sends
/// anything but an answer is stopped.
struct Wire {
    stream: Stream,
    meter: Arc<Meter>,
}

impl Wire {
    fn count(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &result {
            self.meter.written.fetch_add(*bytes, Ordering::Relaxed);
        }
        result
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        self.meter.read.fetch_add(buffer.filled().len() - before, Ordering::Relaxed);
        result
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.count(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        self.count(result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
