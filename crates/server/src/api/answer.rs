//! How the API answers: compact JSON, UTF-8 not escaped.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use serde::{Serialize, Serializer};

use super::error::ApiError;

/// What a resource says to a request.
pub type Answer = Result<Response, ApiError>;

/// A JSON answer.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    // Our representations have string keys and finite numbers, and so can always be written.
    raw_json(status, serde_json::to_vec(value).unwrap_or_default())
}

/// A JSON answer whose text is there already.
pub fn raw_json(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The same with a credential in it, which no cache on the way may keep.
pub fn not_to_keep(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 204: done, and nothing to say.
pub fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Writes a value as the JSON string of its `Display`.
pub fn as_text<T: std::fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// The same for a value that may be missing: `null` then.
pub fn as_text_or_null<T: std::fmt::Display, S: Serializer>(
    value: &Option<T>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}
