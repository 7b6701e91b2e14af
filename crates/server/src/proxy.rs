//! The egress proxy: tunnels through it by CONNECT (RFC 9110, section 9.3.6), and whose fault it is when there is none.
//!
//! What a proxy does wrong is no receiver's fault: such a try does not count. Where the proxy is silent while it should
//! connect, nobody can tell from outside whom it waits for; so it is asked for itself.

use std::{
    fmt, io,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, Uri,
    header::{HOST, MAX_FORWARDS, PROXY_AUTHORIZATION},
};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1, upgrade};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use postrider_kernel::{
    Failure, Target,
    attempt::Cause,
    egress::proxy::{ConnectAnswer, Exception, Verdict, judge},
};
use tokio::{net::TcpStream, time::timeout};
use url::{Host, Url};

use crate::transport::is_shortage;

/// Where a proxy is, and who we are there. It may have a password in it, so that `Debug` tells the place alone.
#[derive(Clone, PartialEq)]
pub struct ProxyUrl {
    host: Host,
    port: u16,
    authorization: Option<HeaderValue>,
}

/// A proxy, and whether it works.
pub struct Proxy {
    url: ProxyUrl,
    exceptions: Vec<Exception>,
    vets: bool,
    is_failing: AtomicBool,
}

/// Why there is no tunnel.
#[derive(Debug)]
pub enum NoTunnel {
    /// The proxy says that it is the target's fault.
    Targets(Failure),
    /// It is the proxy's.
    Own(String),
    /// This machine has no more sockets, ports or memory.
    Shortage(io::Error),
}

impl ProxyUrl {
    /// Reads `http://user:password@host:port`; an empty text is none.
    ///
    /// # Errors
    /// What it looks like. The text itself is not told.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let expected = "expected a URL such as http://proxy.example:3128, perhaps with user:password@ before the host";
        let is_proxy = |url: &Url| {
            url.scheme() == "http"
                && url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none()
        };
        let url = Url::parse(text).ok().filter(is_proxy).ok_or(expected)?;
        let host = url.host().ok_or(expected)?.to_owned();
        // A URL without a port means the one of its scheme.
        let port = url.port_or_known_default().unwrap_or(80);
        Ok(Some(Self { host, port, authorization: authorization(&url) }))
    }
}

/// What proves who we are (RFC 7617), where the URL says it.
fn authorization(url: &Url) -> Option<HeaderValue> {
    let password = url.password().unwrap_or_default();
    if url.username().is_empty() && password.is_empty() {
        return None;
    }
    let mut credentials: Vec<u8> = percent_decode_str(url.username()).collect();
    credentials.push(b':');
    credentials.extend(percent_decode_str(password));
    // Base64 fits a header.
    let mut value =
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(credentials))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({self})")
    }
}

impl Proxy {
    /// A proxy that is taken to work. Targets that an exception covers are dialled directly; `vets` says that it is told
    /// names, and vets what they resolve to.
    pub fn new(url: ProxyUrl, exceptions: Vec<Exception>, vets: bool) -> Self {
        Self { url, exceptions, vets, is_failing: AtomicBool::new(false) }
    }

    /// Whether it is told names, and vets what they resolve to.
    pub fn vets(&self) -> bool {
        self.vets
    }

    /// Whether a target with these addresses is dialled directly.
    pub fn is_excepted(&self, target: &Target, addresses: &[IpAddr]) -> bool {
        self.exceptions.iter().any(|exception| exception.covers(target, addresses))
    }

    /// A tunnel to `HOST:PORT`, within `limit`. A proxy that fails is told in the log once, and once more when it works
    /// again.
    ///
    /// # Errors
    /// Why there is none, and whose fault that is.
    pub async fn tunnel(&self, place: &str, limit: Duration) -> Result<TcpStream, NoTunnel> {
        let opened = self.open(place, limit).await;
        match &opened {
            Err(NoTunnel::Own(detail)) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                tracing::error!("the egress proxy fails, and deliveries wait for it: {detail}");
            }
            Err(NoTunnel::Own(_) | NoTunnel::Shortage(_)) => {}
            Ok(_) | Err(NoTunnel::Targets(_)) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the egress proxy works again");
                }
            }
        }
        opened
    }

    async fn open(&self, place: &str, limit: Duration) -> Result<TcpStream, NoTunnel> {
        let url = &self.url;
        let own = |detail: String| NoTunnel::Own(format!("{url}: {detail}"));
        // The last eighth is for TLS with the target.
        let (for_dialling, for_connecting, for_probing) = (limit / 4, limit / 2, limit / 8);
        let stream = match timeout(for_dialling, self.dial()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if is_shortage(&error) => return Err(NoTunnel::Shortage(error)),
            Ok(Err(error)) => return Err(own(error.to_string())),
            Err(_) => return Err(own(format!("no connection within {for_dialling:?}"))),
        };
        if let Ok(answered) = timeout(for_connecting, self.connect(stream, place)).await {
            return answered;
        }
        match timeout(for_probing, self.is_alive()).await {
            Ok(true) => Err(NoTunnel::Targets(Failure::new(
                Cause::Connect,
                format!("{place}: the egress proxy got no connection within {for_connecting:?}"),
            ))),
            Ok(false) | Err(_) => Err(own(format!("no answer within {for_connecting:?}"))),
        }
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let ProxyUrl { host, port, .. } = &self.url;
        let stream = match host {
            Host::Domain(name) => TcpStream::connect((name.as_str(), *port)).await,
            Host::Ipv4(address) => TcpStream::connect((*address, *port)).await,
            Host::Ipv6(address) => TcpStream::connect((*address, *port)).await,
        }?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn connect(&self, stream: TcpStream, place: &str) -> Result<TcpStream, NoTunnel> {
        let url = &self.url;
        let own = |detail: String| NoTunnel::Own(format!("{url}: {detail}"));
        let place_uri: Uri = place.parse().map_err(|error| own(format!("{place}: {error}")))?;
        let response = self.ask(stream, Method::CONNECT, place_uri, place).await.map_err(own)?;
        let told = |name: &'static str| {
            response
                .headers()
                .get(HeaderName::from_static(name))
                .and_then(|value| value.to_str().ok())
        };
        let status = response.status().as_u16();
        let failure = |cause, what: &str| {
            let detail = format!("{place}: the egress proxy {what}: its answer is {status}");
            NoTunnel::Targets(Failure::new(cause, detail))
        };
        match judge(ConnectAnswer {
            status,
            proxy_status: told("proxy-status"),
            squid_error: told("x-squid-error"),
        }) {
            Verdict::Open => take_over(response).await.map_err(own)?.ok_or_else(|| {
                let detail = format!("{place}: the receiver speaks before it is spoken to");
                NoTunnel::Targets(Failure::new(Cause::Protocol, detail))
            }),
            Verdict::Refused => Err(failure(Cause::ForbiddenAddress, "refuses it")),
            Verdict::Unreachable => Err(failure(Cause::Connect, "can't reach it")),
            Verdict::OwnFailure => Err(own(format!("its answer to CONNECT is {status}"))),
        }
    }

    /// Whether it answers anything at all when it is asked for itself (RFC 9110, section 9.3.7): an error is an answer.
    async fn is_alive(&self) -> bool {
        let Ok(stream) = self.dial().await else { return false };
        let (everything, host) = (Uri::from_static("*"), self.url.to_string());
        self.ask(stream, Method::OPTIONS, everything, &host).await.is_ok()
    }

    /// Asks it something without a body, and waits for the head of its answer.
    async fn ask(
        &self,
        stream: TcpStream,
        method: Method,
        uri: Uri,
        host: &str,
    ) -> Result<Response<Incoming>, String> {
        let words = |error: hyper::Error| format!("no answer in HTTP/1.1: {error}");
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let host = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
        request.headers_mut().insert(HOST, host);
        if *request.method() == Method::OPTIONS {
            request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from_static("0"));
        }
        if let Some(authorization) = &self.url.authorization {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let is_connect = *request.method() == Method::CONNECT;
        let response = sender.send_request(request);
        let driver = connection.with_upgrades();
        tokio::pin!(response, driver);
        let (response, is_driven) = tokio::select! {
            biased;
            answered = &mut response => (answered.map_err(words)?, false),
            ended = &mut driver => {
                ended.map_err(words)?;
                (response.await.map_err(words)?, true)
            }
        };
        if is_connect && response.status().is_success() && !is_driven {
            // The driver ends by handing the stream over.
            driver.await.map_err(words)?;
        }
        Ok(response)
    }
}

/// Takes the connection over that has become a tunnel; `None` where something came through it already. Whoever we call
/// has nothing to say before we have spoken, neither by TLS nor by HTTP: it is no such receiver, and no fault of the proxy's.
async fn take_over(response: Response<Incoming>) -> Result<Option<TcpStream>, String> {
    let upgraded = upgrade::on(response).await.map_err(|error| format!("no tunnel: {error}"))?;
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| "no tunnel over what was dialled".to_owned())?;
    Ok(parts.read_buf.is_empty().then(|| parts.io.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_password_is_never_shown() {
        let url = ProxyUrl::parse("http://me:p%40ss@proxy.example:3128").unwrap().unwrap();
        assert_eq!(format!("{url:?} {url}"), "ProxyUrl(proxy.example:3128) proxy.example:3128");
        let authorization = url.authorization.unwrap();
        assert_eq!(authorization.to_str().unwrap(), "Basic bWU6cEBzcw==");
        assert_eq!(format!("{authorization:?}"), "Sensitive");
        assert_eq!(ProxyUrl::parse("").unwrap(), None);
        for bad in
            ["proxy:3128", "https://proxy", "ftp://me:hidden@proxy", "http://me:hidden@proxy/x"]
        {
            let refused = ProxyUrl::parse(bad).unwrap_err();
            assert!(!refused.contains("hidden"), "{refused}");
        }
    }
}
