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
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
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

/// Makes connections. The seam that a simulation replaces.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Connects to a target.
    async fn connect(
        &self,
        target: &Target,
        ssl_cert_verification: bool,
    ) -> Result<Box<dyn Connection>, NotConnected>;
}

/// Why there is no connection.
#[derive(Debug)]
pub struct NotConnected {
    /// What went wrong.
    pub failure: Failure,
    /// The address that was dialled, if it got that far.
    pub peer: Option<SocketAddr>,
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
    resolver: Option<TokioResolver>,
    policy: Arc<EgressPolicy>,
    connect_timeout: Duration,
    verifying: Arc<ClientConfig>,
    trusting: Arc<ClientConfig>,
}

impl Network {
    /// A transport that dials what the policy allows. Connecting takes at most `connect_timeout`.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults.
    pub fn new(
        policy: Arc<EgressPolicy>,
        connect_timeout: Duration,
    ) -> Result<Self, rustls::Error> {
        let resolver = system_resolver().inspect_err(|error| {
            tracing::error!("no name can be resolved, literal addresses alone will do: {error}")
        });
        Ok(Self {
            resolver: resolver.ok(),
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
            self.resolver.as_ref().ok_or_else(|| failed("this machine has no resolver".into()))?;
        let found =
            resolver.lookup_ip(name).await.map_err(|error| failed(format!("{name}: {error}")))?;
        let addresses: Vec<_> = found.iter().collect();
        if addresses.is_empty() {
            Err(failed(format!("{name} has no address")))
        } else {
            Ok(addresses)
        }
    }

    async fn dial(&self, addresses: &[IpAddr], port: u16) -> Result<TcpStream, NotConnected> {
        let mut last = None;
        for &address in addresses {
            let peer = SocketAddr::new(address, port);
            // One silent address must not use up the time of the others.
            let share = self.connect_timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
            let failure = match timeout(share, TcpStream::connect(peer)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => Failure::new(Cause::Connect, format!("{peer}: {error}")),
                Err(_) => {
                    Failure::new(Cause::Connect, format!("{peer}: no connection within {share:?}"))
                }
            };
            last = Some(NotConnected { failure, peer: Some(peer) });
        }
        Err(last.unwrap_or(NotConnected {
            failure: Failure::new(Cause::Dns, "no address"),
            peer: None,
        }))
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
    ) -> Result<Box<dyn Connection>, NotConnected> {
        let unreached = |failure| NotConnected { failure, peer: None };
        let too_slow = |cause, what: &str| {
            Failure::new(cause, format!("{what} within {:?}", self.connect_timeout))
        };

        let resolving = timeout(self.connect_timeout, self.vetted_addresses(target.host())).await;
        let addresses = resolving
            .unwrap_or_else(|_| Err(too_slow(Cause::Dns, "the name was not resolved")))
            .map_err(unreached)?;
        let tcp = self.dial(&addresses, target.port()).await?;
        let peer = tcp
            .peer_addr()
            .map_err(|error| unreached(Failure::new(Cause::Connect, error.to_string())))?;
        let reached = |failure| NotConnected { failure, peer: Some(peer) };
        // A request is one write, and the answer is waited for: nothing is gained by holding small packets back.
        let _ = tcp.set_nodelay(true);
        let stream = timeout(self.connect_timeout, self.handshake(tcp, target, verify))
            .await
            .unwrap_or_else(|_| Err(too_slow(Cause::Tls, "the handshake did not end")))
            .map_err(reached)?;
        let connection = HttpConnection::new(stream, peer)
            .await
            .map_err(|error| reached(Failure::new(Cause::Protocol, error.to_string())))?;
        Ok(Box::new(connection))
    }
}

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
    written: Arc<AtomicUsize>,
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
        let written = Arc::new(AtomicUsize::new(0));
        let wire = Wire { stream, written: written.clone() };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(wire))
            .await?;
        Ok(Self {
            sender,
            driver: Driver(Some(Box::pin(connection))),
            peer,
            written,
            is_clean: true,
        })
    }

    fn bytes_written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits for the response's head, and drops the pass as soon as the request's is on its way.
    async fn exchange(
        &mut self,
        request: Request<Bytes>,
        pass: Pass,
    ) -> Result<http::Response<Incoming>, Interruption> {
        let before = self.bytes_written();
        let response = self.sender.send_request(request.map(Full::new));
        tokio::pin!(response);
        let (driver, written) = (&mut self.driver, &self.written);
        let is_started = || written.load(Ordering::Relaxed) > before;

        let early = {
            let start = poll_fn(|context| {
                driver.advance(context);
                let answer = response.as_mut().poll(context);
                if answer.is_pending() && !is_started() {
                    Poll::Pending
                } else {
                    Poll::Ready(answer)
                }
            });
            tokio::select! {
                biased;
                answer = start => answer,
                () = pass.gives_up() => return Err(Interruption::GaveUp),
            }
        };
        drop(pass);
        let answer = match early {
            Poll::Ready(answer) => answer,
            Poll::Pending => {
                poll_fn(|context| {
                    driver.advance(context);
                    response.as_mut().poll(context)
                })
                .await
            }
        };
        answer.map_err(Interruption::Failed)
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
        let before = self.bytes_written();
        self.is_clean = false;
        let sleep = tokio::time::sleep(limit);
        tokio::pin!(sleep);
        let exchanged = tokio::select! {
            biased;
            exchanged = self.exchange(request, pass) => Some(exchanged),
            () = &mut sleep => None,
        };
        let written = self.bytes_written() > before;
        let failed = |failure| Unsent::Failed { failure, written };
        let response = match exchanged {
            Some(Ok(response)) => response,
            Some(Err(Interruption::GaveUp)) => return Err(Unsent::GaveUp),
            Some(Err(Interruption::Failed(error))) => return Err(failed(in_words(&error))),
            None => {
                return Err(failed(Failure::new(
                    Cause::Timeout,
                    format!("no answer within {limit:?}"),
                )));
            }
        };
        let (head, incoming) = response.into_parts();
        let retry_after =
            head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        tokio::select! {
            biased;
            () = self.read_body(incoming, &mut body) => {}
            () = &mut sleep => {}
        }
        Ok(Answer { status: head.status.as_u16(), retry_after, body })
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

/// A stream that counts what was written to it: a request of which no byte was written can be sent once more.
struct Wire {
    stream: Stream,
    written: Arc<AtomicUsize>,
}

impl Wire {
    fn count(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &result {
            self.written.fetch_add(*bytes, Ordering::Relaxed);
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
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
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
