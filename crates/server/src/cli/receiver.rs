//! A receiver of webhooks for development: takes each request, hands it to whoever looks on, and answers as it was told.
//! `listen` prints what comes; `demo` looks on too.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use postrider::clock::{Clock, entropy};
use postrider_kernel::Timestamp;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The largest body that is taken.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many requests are taken at once.
const CONNECTIONS_MAX: usize = 1_024;

/// How a receiver answers.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// With this status,
    pub status: StatusCode,
    /// but with 500 to this share of requests, in percent,
    pub fail_percent: u8,
    /// and only after so long.
    pub delay: Duration,
}

/// A request as it came in, and how it is answered.
pub struct Received {
    /// When.
    pub at: Timestamp,
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// The status it is answered with.
    pub answer: StatusCode,
}

/// Whoever looks on; called before the answer is sent.
pub type Onlooker = Arc<dyn Fn(Received) -> anyhow::Result<()> + Send + Sync>;

/// A receiver that listens.
pub struct Receiver {
    listener: TcpListener,
    service: Arc<Service>,
}

struct Service {
    manner: Manner,
    clock: Arc<dyn Clock>,
    onlooker: Onlooker,
}

impl Receiver {
    /// Listens on an address; port 0 takes a free one.
    pub async fn bind(
        address: SocketAddr,
        manner: Manner,
        clock: Arc<dyn Clock>,
        onlooker: Onlooker,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, service: Arc::new(Service { manner, clock, onlooker }) })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Receives until the onlooker fails, and answers with its error. Dropping the future ends every connection.
    pub async fn run(self) -> anyhow::Error {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                    match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(converse(stream, self.service.clone()));
                        }
                        // The peer has hung up, or descriptors are short: the next one may fare better.
                        Err(error) => {
                            eprintln!("a connection was not accepted: {error}");
                            self.service.clock.sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
                Some(ended) = connections.join_next() => {
                    if let Ok(Some(error)) = ended {
                        return error;
                    }
                }
            }
        }
    }
}

/// Serves one connection; answers with the onlooker's error, if it had one.
async fn converse(stream: TcpStream, service: Arc<Service>) -> Option<anyhow::Error> {
    let failure = Arc::new(std::sync::Mutex::new(None));
    let answer = service_fn(|request| {
        let (service, failure) = (service.clone(), failure.clone());
        async move {
            let outcome = service.take(request).await;
            outcome.map_err(|error| {
                if let Ok(mut failure) = failure.lock() {
                    *failure = Some(error);
                }
                std::io::Error::other("the onlooker has gone")
            })
        }
    });
    // A peer that breaks off is its own business: it will try again.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    failure.lock().ok().and_then(|mut failure| failure.take())
}

impl Service {
    async fn take(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            return Ok(response(StatusCode::PAYLOAD_TOO_LARGE));
        };
        let fails =
            u64::from_ne_bytes(entropy(&*self.clock)) % 100 < u64::from(self.manner.fail_percent);
        let answer = if fails { StatusCode::INTERNAL_SERVER_ERROR } else { self.manner.status };
        (self.onlooker)(Received {
            at: self.clock.now(),
            method: head.method,
            uri: head.uri,
            headers: head.headers,
            body: body.to_bytes(),
            answer,
        })?;
        if !self.manner.delay.is_zero() {
            self.clock.sleep(self.manner.delay).await;
        }
        Ok(response(answer))
    }
}

fn response(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
