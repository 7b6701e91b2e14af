//! One connection that was made: HTTP/1.1 over what carries its bytes, one request at a time. How it came about is not here.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
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
use http::{Request, header::RETRY_AFTER};
use http_body_util::Full;
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use postrider_kernel::{
    Failure,
    attempt::{Answer, Cause, RESPONSE_BODY_MAX},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{Connection, Unsent};
use crate::{gate::Pass, tls};

/// The most bytes of a response's head that are kept in memory while it is read.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most bytes that are read before the final head: a receiver may send informational answers first, but not for ever.
const PRELUDE_BYTES_MAX: usize = 256 * 1024;

/// How long the body may take once the head has decided.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// One HTTP/1.1 connection. Hyper splits it in two: `sender` takes requests, `driver` moves bytes while it is polled.
pub(super) struct HttpConnection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    peer: Option<SocketAddr>,
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
    /// Speaks HTTP over a stream that leads to `peer`, where that is known.
    pub(super) async fn new(stream: Stream, peer: Option<SocketAddr>) -> hyper::Result<Self> {
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
    fn peer(&self) -> Option<SocketAddr> {
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
    // With TLS 1.3 a receiver judges our certificate after the handshake has ended for us.
    if let Some(refusal) = io_error.and_then(tls::refusal) {
        return Failure::new(Cause::Tls, refusal);
    }
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
pub(super) enum Stream {
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
