//! A lane's own connections: HTTP/1.1 over TCP or TLS, made one by one, with the egress policy checked where they are
//! made.
//!
//! A name is resolved once per connection, refused when *any* of its addresses is forbidden, and the vetted address is
//! what is dialled. There is no pool and no automatic retry below us, and a redirect is an answer like any other.

mod connection;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use postrider_kernel::{
    Failure, Target,
    attempt::{Answer, Cause},
    endpoint::TargetHost,
};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    config::Config,
    egress::{Egress, Way},
    gate::Pass,
    proxy::{NoTunnel, Proxy},
    tls::Tls,
};
use connection::{HttpConnection, Stream};

/// Makes connections. The seam that a simulation replaces.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Connects, look-up and TLS included, within `limit` and the transport's own limit.
    async fn connect(
        &self,
        destination: Destination<'_>,
        limit: Duration,
    ) -> Result<Box<dyn Connection>, NotConnected>;
}

/// Where a connection is to lead, and how it is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination<'a> {
    /// Where it leads.
    pub target: &'a Target,
    /// Whether the receiver's certificate is checked.
    pub ssl_cert_verification: bool,
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
    /// The egress proxy is at fault, and has told so in the log: no try either.
    Proxy(String),
}

impl std::fmt::Display for NotConnected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed { failure, .. } => failure.fmt(f),
            Self::Shortage(error) => write!(f, "this machine can't connect now: {error}"),
            Self::Proxy(detail) => write!(f, "the egress proxy fails: {detail}"),
        }
    }
}

/// A connection that carries one request at a time.
#[async_trait]
pub trait Connection: Send {
    /// The address at the other end; unknown where a proxy chose it.
    fn peer(&self) -> Option<SocketAddr>;

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
    egress: Arc<Egress>,
    tls: Tls,
    connect_timeout: Duration,
}

impl Network {
    /// A transport that goes the ways that the operator configured. Connecting takes at most `--connect-timeout`: look-up,
    /// TCP and TLS together.
    ///
    /// # Errors
    /// When `--ca-file` can't be used.
    pub fn new(config: &Config, egress: Arc<Egress>) -> anyhow::Result<Self> {
        let tls = Tls::new(config.ca_file.as_deref())?;
        Ok(Self { egress, tls, connect_timeout: config.connect_timeout })
    }

    /// Looks up, dials and shakes hands; notes in `stage` how far it got.
    async fn reach(
        &self,
        destination: Destination<'_>,
        limit: Duration,
        stage: &Stage,
    ) -> Result<HttpConnection, NotConnected> {
        let target = destination.target;
        let unreached = |failure| NotConnected::Failed { failure, peer: None };
        // Where a proxy is silent, there has to be time left to find out whose fault that is.
        let (for_look_up, limit) = match self.egress.proxy() {
            None => (limit, limit),
            Some(_) => (limit / 4, limit / 4 * 3),
        };
        let way = timeout(for_look_up, self.egress.way(target)).await;
        let slow = || Failure::new(Cause::Dns, format!("no answer within {for_look_up:?}"));
        let way = way.unwrap_or_else(|_| Err(slow())).map_err(unreached)?;
        stage.set(Cause::Connect);
        let (tcp, peer) = dial(way, target, limit).await?;
        stage.set(Cause::Tls);
        // A request is one write, and the answer is waited for: nothing is gained by holding small packets back.
        let _ = tcp.set_nodelay(true);
        let reached = |failure| NotConnected::Failed { failure, peer };
        let stream = self.handshake(tcp, destination).await.map_err(reached)?;
        let protocol = |error: hyper::Error| Failure::new(Cause::Protocol, error.to_string());
        HttpConnection::new(stream, peer).await.map_err(|error| reached(protocol(error)))
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        destination: Destination<'_>,
    ) -> Result<Stream, Failure> {
        if !destination.target.is_https() {
            return Ok(Stream::Plain(tcp));
        }
        let failed = |detail| Failure::new(Cause::Tls, detail);
        let name = match destination.target.host() {
            TargetHost::Address(address) => ServerName::from(address),
            TargetHost::Name(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
                .map_err(|error| failed(error.to_string()))?,
        };
        let config = self.tls.config(destination.ssl_cert_verification);
        let stream = TlsConnector::from(config).connect(name, tcp).await;
        let stream = stream.map_err(|error| failed(crate::tls::in_words(&error)))?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

#[async_trait]
impl Transport for Network {
    async fn connect(
        &self,
        destination: Destination<'_>,
        limit: Duration,
    ) -> Result<Box<dyn Connection>, NotConnected> {
        let limit = limit.min(self.connect_timeout);
        let stage = Stage::default();
        let reached = timeout(limit, self.reach(destination, limit, &stage)).await;
        let connection = reached.unwrap_or_else(|_| {
            let failure = Failure::new(stage.get(), format!("no connection within {limit:?}"));
            Err(NotConnected::Failed { failure, peer: None })
        })?;
        Ok(Box::new(connection))
    }
}

/// Goes a way as far as TCP leads.
async fn dial(
    way: Way<'_>,
    target: &Target,
    limit: Duration,
) -> Result<(TcpStream, Option<SocketAddr>), NotConnected> {
    let port = target.port();
    match way {
        Way::Direct(addresses) => {
            let connect = |peer, share| dial_directly(peer, share);
            dial_any(&addresses, port, limit, connect).await
        }
        Way::Proxied(proxy, addresses) => {
            let connect = |peer: SocketAddr, share| tunnel(proxy, peer.to_string(), share);
            dial_any(&addresses, port, limit, connect).await
        }
        Way::ProxysOwn(proxy) => {
            let host = target.host().to_string();
            let place = format!("{}:{port}", host.trim_end_matches('.'));
            match tunnel(proxy, place, limit).await {
                Ok(stream) => Ok((stream, None)),
                Err(Undialled::Failed(failure)) => {
                    Err(NotConnected::Failed { failure, peer: None })
                }
                Err(Undialled::NoFaultOfTheirs(not_connected)) => Err(not_connected),
            }
        }
    }
}

/// Why a place was not dialled.
enum Undialled {
    /// The next address may do better.
    Failed(Failure),
    /// This machine, or the proxy.
    NoFaultOfTheirs(NotConnected),
}

/// Tries one address after the other.
async fn dial_any<F>(
    addresses: &[IpAddr],
    port: u16,
    limit: Duration,
    connect: impl Fn(SocketAddr, Duration) -> F,
) -> Result<(TcpStream, Option<SocketAddr>), NotConnected>
where
    F: Future<Output = Result<TcpStream, Undialled>>,
{
    // One silent address must not use up the time of the others.
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let nowhere = Failure::new(Cause::Dns, "the name has no address");
    let mut last = NotConnected::Failed { failure: nowhere, peer: None };
    for &address in addresses {
        let peer = SocketAddr::new(address, port);
        match connect(peer, share).await {
            Ok(stream) => return Ok((stream, Some(peer))),
            Err(Undialled::NoFaultOfTheirs(not_connected)) => return Err(not_connected),
            Err(Undialled::Failed(failure)) => {
                last = NotConnected::Failed { failure, peer: Some(peer) };
            }
        }
    }
    Err(last)
}

async fn dial_directly(peer: SocketAddr, limit: Duration) -> Result<TcpStream, Undialled> {
    let detail = match timeout(limit, TcpStream::connect(peer)).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) if is_shortage(&error) => {
            return Err(Undialled::NoFaultOfTheirs(NotConnected::Shortage(error)));
        }
        Ok(Err(error)) => format!("{peer}: {error}"),
        Err(_) => format!("{peer}: no connection within {limit:?}"),
    };
    Err(Undialled::Failed(Failure::new(Cause::Connect, detail)))
}

async fn tunnel(proxy: &Proxy, place: String, limit: Duration) -> Result<TcpStream, Undialled> {
    proxy.tunnel(&place, limit).await.map_err(|no_tunnel| match no_tunnel {
        NoTunnel::Targets(failure) => Undialled::Failed(failure),
        NoTunnel::Own(detail) => Undialled::NoFaultOfTheirs(NotConnected::Proxy(detail)),
        NoTunnel::Shortage(error) => Undialled::NoFaultOfTheirs(NotConnected::Shortage(error)),
    })
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
pub fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno))
}
