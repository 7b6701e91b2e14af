//! A request's body: read when somebody asks for it, never beyond the limit.
//!
//! A client that is refused while it still sends would find its connection reset, and never read why. So what it still
//! sends is read and dropped before the answer goes out, within bounds.

use std::{
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap,
    header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
};
use http_body_util::BodyExt;
use hyper::body::Frame;

use super::error::ApiError;
use crate::clock::Clock;

/// How long a body may take to arrive, so that nobody holds a connection for nothing.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// How much of a refused body is read and dropped, in bytes.
const DRAIN_MAX: u64 = 32 * 1024 * 1024;

/// For how long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// A body that may not have been read yet.
#[derive(Debug)]
pub struct RequestBody {
    // Never locked: a body can't be shared between threads, and the mutex is what lets a reference to a call be.
    body: Mutex<Option<Body>>,
}

impl RequestBody {
    /// The body of a request that just came in.
    pub fn new(body: Body) -> Self {
        Self { body: Mutex::new(Some(body)) }
    }

    /// Reads a JSON body; no body at all is an empty object.
    pub async fn read_json(
        &mut self,
        headers: &HeaderMap,
        limit: usize,
        clock: &dyn Clock,
    ) -> Result<Bytes, ApiError> {
        let bytes = self.read(headers, limit, clock).await?;
        if bytes.is_empty() {
            return Ok(Bytes::from_static(b"{}"));
        }
        let sent = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if is_json(sent) {
            Ok(bytes)
        } else {
            Err(ApiError::UnsupportedMediaType(String::from_utf8_lossy(sent).into_owned()))
        }
    }

    async fn read(
        &mut self,
        headers: &HeaderMap,
        limit: usize,
        clock: &dyn Clock,
    ) -> Result<Bytes, ApiError> {
        if declared_length(headers).is_some_and(|length| length > limit as u64) {
            return Err(ApiError::BodyTooLarge(limit));
        }
        let Some(body) = self.slot() else { return Ok(Bytes::new()) };
        let mut patience = None;
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        loop {
            let frame = match next_frame(body, clock, &mut patience).await {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    // More of it would come too late, or never.
                    *self.slot() = None;
                    return Err(error);
                }
            };
            // Trailers mean nothing here.
            let Ok(data) = frame.into_data() else { continue };
            if first.len() + whole.len() + data.len() > limit {
                return Err(ApiError::BodyTooLarge(limit));
            }
            // Most bodies come in one piece, which then is not copied; others are copied once.
            if first.is_empty() && whole.is_empty() {
                first = data;
                continue;
            }
            if whole.is_empty() {
                let declared = usize::try_from(declared_length(headers).unwrap_or(0));
                whole.reserve(declared.unwrap_or(limit).min(limit));
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&data);
        }
        *self.slot() = None;
        Ok(if whole.is_empty() { first } else { whole.freeze() })
    }

    fn slot(&mut self) -> &mut Option<Body> {
        self.body.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and drops what nobody has read.
    pub async fn drain(&mut self, headers: &HeaderMap, clock: &dyn Clock) {
        let Some(mut body) = self.slot().take() else { return };
        // A client that waits for `100 Continue` has sent nothing, and will not once it has read the refusal.
        if body.is_end_stream() || headers.contains_key(EXPECT) {
            return;
        }
        let everything = async {
            let mut drained = 0;
            while let Some(Ok(frame)) = body.frame().await {
                drained += frame.data_ref().map_or(0, |data| data.len() as u64);
                if drained > DRAIN_MAX {
                    break;
                }
            }
        };
        tokio::select! {
            () = everything => {}
            () = clock.sleep(DRAIN_TIME_MAX) => {}
        }
    }
}

/// The next piece of a body. The time that all of it may take begins with the first piece that has to be waited for, so
/// that a body which is there already starts no timer.
async fn next_frame(
    body: &mut Body,
    clock: &dyn Clock,
    patience: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
) -> Result<Option<Frame<Bytes>>, ApiError> {
    let unreadable = |error| {
        ApiError::BadRequest(format!("The request body could not be read: {error}.").into())
    };
    let mut frame = body.frame();
    if let Poll::Ready(frame) = futures_util::poll!(&mut frame) {
        return frame.transpose().map_err(unreadable);
    }
    let patience = patience.get_or_insert_with(|| clock.sleep(BODY_TIME_MAX));
    tokio::select! {
        frame = frame => frame.transpose().map_err(unreadable),
        () = patience => Err(ApiError::BodyTooSlow),
    }
}

/// What a request says of its body's length.
pub(super) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a content type is JSON, whatever its parameters.
fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use futures_util::{StreamExt, stream};

    fn chunks(parts: &[&'static str]) -> RequestBody {
        let parts: Vec<std::io::Result<&str>> = parts.iter().map(|part| Ok(*part)).collect();
        RequestBody::new(Body::from_stream(stream::iter(parts)))
    }

    async fn read(
        parts: &[&'static str],
        content_type: &str,
        limit: usize,
    ) -> Result<Bytes, ApiError> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
        chunks(parts).read_json(&headers, limit, &SystemClock::new()).await
    }

    #[tokio::test]
    async fn bodies_are_json_within_the_limit() {
        let json = "application/json; charset=utf-8";
        assert_eq!(read(&["{\"a\"", ":", "1}"], json, 7).await.unwrap(), "{\"a\":1}");
        assert_eq!(read(&["{\"a\":1}"], "Application/JSON", 7).await.unwrap(), "{\"a\":1}");
        assert_eq!(read(&[], "text/plain", 7).await.unwrap(), "{}");
        assert_eq!(read(&["{\"a\":", "12}"], json, 7).await, Err(ApiError::BodyTooLarge(7)));
        for other in ["text/plain", "", "application/json-patch+json"] {
            let refused = Err(ApiError::UnsupportedMediaType(other.to_owned()));
            assert_eq!(read(&["{}"], other, 7).await, refused);
        }
    }

    #[tokio::test]
    async fn a_declared_length_beyond_the_limit_is_refused_unread() {
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, "8".parse().unwrap())]);
        let mut body = chunks(&["12345678"]);
        assert_eq!(
            body.read_json(&headers, 7, &SystemClock::new()).await,
            Err(ApiError::BodyTooLarge(7))
        );
        assert!(body.slot().is_some());
        body.drain(&headers, &SystemClock::new()).await;
        assert!(body.slot().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_not_waited_for() {
        let begun = stream::iter([Ok::<_, std::io::Error>("{")]);
        let mut body = RequestBody::new(Body::from_stream(begun.chain(stream::pending())));
        let clock = SystemClock::new();
        assert_eq!(body.read_json(&HeaderMap::new(), 7, &clock).await, Err(ApiError::BodyTooSlow));
        assert!(body.slot().is_none());
    }
}
