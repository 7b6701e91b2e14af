//! A small HTTP client for our own API: one keep-alive connection, over TLS where the URL says so.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::{
    TrySendError,
    http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use postrider::tls;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Host, Url};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where the API is, and what proves who asks.
pub struct Client {
    base: Url,
    authorization: HeaderValue,
}

/// What the API answered.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A connection to the API, used for one request after another.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: tokio::task::JoinHandle<()>,
}

impl Client {
    /// A client of the API at `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: &Url, token: &str) -> anyhow::Result<Self> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .context("the token can't stand in a header")?;
        authorization.set_sensitive(true);
        Ok(Self { base: base.clone(), authorization })
    }

    /// Connects.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let attempt = async {
            let stream = dial(&self.base).await?;
            match self.base.scheme() {
                "https" => Connection::over(secure(stream, &self.base).await?).await,
                _ => Connection::over(stream).await,
            }
        };
        let connected = timeout(CONNECT_TIMEOUT, attempt).await;
        connected
            .unwrap_or_else(|_| bail!("no connection within {CONNECT_TIMEOUT:?}"))
            .with_context(|| format!("{} can't be reached; does the server run there?", self.base))
    }

    /// A POST of JSON to a path of the API.
    pub fn post(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let path = format!("{}{path}", self.base.path().trim_end_matches('/'));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse::<Uri>()?;
        *request.headers_mut() = headers.clone();
        let port = self.base.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = format!("{}{port}", self.base.host_str().unwrap_or_default());
        request.headers_mut().insert(HOST, HeaderValue::from_str(&host)?);
        request.headers_mut().insert(AUTHORIZATION, self.authorization.clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(request)
    }
}

impl Connection {
    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Whoever waits for an answer gets the error; the driver's own copy of it says nothing more.
        let driver = tokio::spawn(async { drop(connection.await) });
        Ok(Self { sender, driver })
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, NoAnswer> {
        let exchange = async {
            self.sender.ready().await.map_err(|error| NoAnswer::Unsent(error.into()))?;
            let sent = self.sender.try_send_request(request).await;
            let (head, body) = sent.map_err(NoAnswer::from)?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| NoAnswer::Lost(anyhow!("it broke off: {error}")))?;
            Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        let too_slow = |_| Err(NoAnswer::Lost(anyhow!("none came within {REQUEST_TIMEOUT:?}")));
        timeout(REQUEST_TIMEOUT, exchange).await.unwrap_or_else(too_slow)
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing of it was written, so that it can be sent once more.
    #[error("the connection was closed: {0}")]
    Unsent(anyhow::Error),
    /// It may have been done all the same.
    #[error("no answer: {0}")]
    Lost(anyhow::Error),
}

impl<T> From<TrySendError<T>> for NoAnswer {
    fn from(mut error: TrySendError<T>) -> Self {
        // Hyper hands back what it has not begun to write.
        let is_unsent = error.take_message().is_some();
        let error = error.into_error().into();
        if is_unsent { Self::Unsent(error) } else { Self::Lost(error) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn dial(url: &Url) -> std::io::Result<TcpStream> {
    // http and https both have a default port.
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = match url.host() {
        Some(Host::Ipv4(address)) => TcpStream::connect((address, port)).await?,
        Some(Host::Ipv6(address)) => TcpStream::connect((address, port)).await?,
        Some(Host::Domain(name)) => TcpStream::connect((name, port)).await?,
        None => return Err(std::io::Error::other("the URL has no host")),
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Makes a connection secure, against the certificates that this system trusts.
async fn secure(stream: TcpStream, url: &Url) -> anyhow::Result<TlsStream<TcpStream>> {
    let config = tls::Tls::new(None)?.config(true);
    // The URL writes an IPv6 address in brackets, the certificate does not.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = rustls::pki_types::ServerName::try_from(host)?;
    let secured = TlsConnector::from(config).connect(name, stream).await;
    secured.map_err(|error| anyhow::anyhow!(tls::in_words(&error)))
}

/// Reads the address of an API from an argument.
pub fn parse_base(text: &str) -> Result<Url, String> {
    let is_base = |url: &Url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none()
    };
    let url = Url::parse(text).ok().filter(is_base);
    url.ok_or_else(|| "expected an http or https URL, such as http://127.0.0.1:8080".to_owned())
}
