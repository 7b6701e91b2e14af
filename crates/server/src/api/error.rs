//! How the API says no: one shape for requests, one for fields, and the texts of `rest-conventions.md`.
//!
//! What went wrong on our side is written to the log by whoever knows the request's id (`mod.rs`); the client learns the
//! text of the table and nothing else.

use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{
    HeaderValue, Method, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use postrider_store::StoreError;
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::answer;
use crate::admin::AdminError;

/// How many seconds a client is asked to wait when the store can't take events.
const UNAVAILABLE_RETRY_SECONDS: u64 = 5;

/// Why a request was not done.
#[derive(Debug, PartialEq)]
pub enum ApiError {
    /// No credential.
    NotAuthenticated,
    /// A credential that is unknown, expired, revoked or malformed.
    BadCredential,
    /// A JWT that does not hold.
    TokenNotValid,
    /// The role is too small.
    PermissionDenied,
    /// Not there, or somebody else's.
    NotFound,
    /// The path has no such method.
    MethodNotAllowed(Method),
    /// `Accept` excludes JSON.
    NotAcceptable,
    /// It was sent to a name that isn't ours.
    Misdirected,
    /// A body of that content type.
    UnsupportedMediaType(String),
    /// Too much; worth another try after that time.
    Throttled(Duration),
    /// Something about the request as a whole.
    BadRequest(Cow<'static, str>),
    /// Something about fields.
    Invalid(FieldErrors),
    /// Something about the items of a body that is a list; empty where nothing is wrong.
    InvalidItems(Vec<FieldErrors>),
    /// The body is larger than that many bytes.
    BodyTooLarge(usize),
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The idempotency key was used with another body.
    KeyReused,
    /// The store can't be written or read now; the text is for the log.
    Unavailable(String),
    /// Our own fault; the text is for the log.
    Internal(String),
}

/// What went wrong on our side. It travels in the response's extensions to the place that knows the request's id.
#[derive(Clone, Debug)]
pub struct Fault(pub String);

impl ApiError {
    /// The whole body is at fault.
    pub fn of_body(text: impl Into<String>) -> Self {
        FieldErrors::of(NON_FIELD, Problem::text(text)).into()
    }

    /// One field is at fault.
    pub fn of_field(field: &'static str, text: impl Into<String>) -> Self {
        FieldErrors::of(field, Problem::text(text)).into()
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotAuthenticated | Self::BadCredential | Self::TokenNotValid => {
                StatusCode::UNAUTHORIZED
            }
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::BadRequest(_) | Self::Invalid(_) | Self::InvalidItems(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::NotAuthenticated => "Authentication credentials were not provided.".into(),
            Self::BadCredential => "Incorrect authentication credentials.".into(),
            Self::TokenNotValid => "Given token not valid for any token type".into(),
            Self::PermissionDenied => "You do not have permission to perform this action.".into(),
            Self::NotFound => "Not found.".into(),
            Self::MethodNotAllowed(method) => format!("Method \"{method}\" not allowed.").into(),
            Self::NotAcceptable => "Could not satisfy the request Accept header.".into(),
            Self::Misdirected => {
                "This service has another name: the Host of the request is not the one of --public-url.".into()
            }
            Self::UnsupportedMediaType(sent) => {
                format!("Unsupported media type \"{sent}\" in request.").into()
            }
            Self::Throttled(wait) => {
                let seconds = whole_seconds(*wait);
                let unit = if seconds == 1 { "second" } else { "seconds" };
                format!("Request was throttled. Expected available in {seconds} {unit}.").into()
            }
            Self::BadRequest(text) => text.clone(),
            // Fields have their own shape; see `into_response`.
            Self::Invalid(_) | Self::InvalidItems(_) => "".into(),
            Self::BodyTooLarge(limit) => {
                format!("Request body is larger than {limit} bytes.").into()
            }
            Self::BodyTooSlow => "The request body did not arrive in time.".into(),
            Self::KeyReused => "This Idempotency-Key was used with a different request.".into(),
            Self::Unavailable(_) => {
                "The service can't store events right now. Try again later.".into()
            }
            Self::Internal(_) => "Internal server error.".into(),
        }
    }

    /// The body that it is answered with, for the document.
    pub fn example(&self) -> serde_json::Value {
        // Texts under names can always be written.
        match self {
            Self::Invalid(errors) => serde_json::to_value(errors),
            Self::InvalidItems(places) => serde_json::to_value(places),
            _ => serde_json::to_value(self.shown()),
        }
        .unwrap_or_default()
    }

    fn shown(&self) -> Detail {
        let code = (*self == Self::TokenNotValid).then_some("token_not_valid");
        Detail { detail: self.detail(), code }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Throttled(wait) => Some(whole_seconds(*wait)),
            Self::Unavailable(_) => Some(UNAVAILABLE_RETRY_SECONDS),
            _ => None,
        }
    }
}

/// A wait in whole seconds, rounded up so that nobody comes back too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// `{"detail": …}`, with a code where clients look for one.
#[derive(Serialize)]
struct Detail {
    detail: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = match &self {
            Self::Invalid(errors) => answer::json(status, errors),
            Self::InvalidItems(places) => answer::json(status, places),
            other => answer::json(status, &other.shown()),
        };
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"api\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Self::Unavailable(text) | Self::Internal(text) = self {
            response.extensions_mut().insert(Fault(text));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Broken(_) => {
                Self::Unavailable(error.to_string())
            }
            StoreError::Inconsistent(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Store(error) => error.into(),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<FieldErrors> for ApiError {
    fn from(errors: FieldErrors) -> Self {
        Self::Invalid(errors)
    }
}

/// The name under which problems stand that concern no single field.
pub const NON_FIELD: &str = "non_field_errors";

/// What is wrong with which field, in the order of the fields.
#[derive(Debug, Default, PartialEq)]
pub struct FieldErrors(Vec<(&'static str, Problem)>);

/// What is wrong with one field.
#[derive(Debug, PartialEq)]
pub enum Problem {
    /// These texts say it.
    Texts(Vec<String>),
    /// Items of a list have problems; empty where an item has none.
    Places(Vec<FieldErrors>),
    /// The list as a whole has one, under a name of its own.
    Within(FieldErrors),
}

impl FieldErrors {
    /// One field with its problem.
    pub fn of(field: &'static str, problem: Problem) -> Self {
        Self(vec![(field, problem)])
    }

    /// Adds a field's problem.
    pub fn add(&mut self, field: &'static str, problem: Problem) {
        self.0.push((field, problem));
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Problem {
    /// A problem that one text says.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Texts(vec![text.into()])
    }

    /// A problem of a list of objects as a whole.
    pub fn of_list(text: impl Into<String>) -> Self {
        Self::Within(FieldErrors::of(NON_FIELD, Self::text(text)))
    }
}

impl Serialize for FieldErrors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (field, problem) in &self.0 {
            map.serialize_entry(field, problem)?;
        }
        map.end()
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Texts(texts) => texts.serialize(serializer),
            Self::Places(places) => places.serialize(serializer),
            Self::Within(errors) => errors.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn shown(error: ApiError) -> String {
        let response = error.into_response();
        let status = response.status().as_u16();
        let header = |name| {
            let value = response.headers().get(&name)?;
            Some(format!("{name}: {}\n", value.to_str().unwrap()))
        };
        let headers: String =
            [WWW_AUTHENTICATE, RETRY_AFTER].into_iter().filter_map(header).collect();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        format!("{status}\n{headers}{}\n", String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn what_the_store_says_is_told_apart_and_stays_in_the_log() {
        let unavailable = StoreError::Unavailable("disk full".into());
        let inconsistent = StoreError::Inconsistent("two of one".into());
        assert!(matches!(ApiError::from(unavailable.clone()), ApiError::Unavailable(_)));
        assert!(matches!(ApiError::from(inconsistent), ApiError::Internal(_)));
        let error = ApiError::from(AdminError::Store(unavailable)).into_response();
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
        let Some(Fault(text)) = error.extensions().get() else { panic!("nothing for the log") };
        assert!(text.contains("disk full"));
    }

    #[tokio::test]
    async fn every_error_is_json_with_the_text_of_the_table() {
        let mut all = String::new();
        let places = vec![
            FieldErrors::default(),
            FieldErrors::of("type", Problem::text("\"nope\" is not a valid choice.")),
        ];
        let mut fields = FieldErrors::of("target", Problem::text("Enter a valid URL."));
        fields.add("events", Problem::Places(places));
        for error in [
            ApiError::NotAuthenticated,
            ApiError::BadCredential,
            ApiError::TokenNotValid,
            ApiError::PermissionDenied,
            ApiError::NotFound,
            ApiError::MethodNotAllowed(Method::DELETE),
            ApiError::NotAcceptable,
            ApiError::UnsupportedMediaType("text/plain".into()),
            ApiError::Throttled(Duration::from_millis(29_001)),
            ApiError::BadRequest("JSON parse error - x".into()),
            fields.into(),
            ApiError::of_body("No data provided"),
            ApiError::InvalidItems(vec![
                FieldErrors::default(),
                FieldErrors::of("type", Problem::text("This field is required.")),
            ]),
            FieldErrors::of("events", Problem::of_list("This list may not be empty.")).into(),
            ApiError::BodyTooLarge(1024),
            ApiError::KeyReused,
            ApiError::Unavailable("disk full".into()),
            ApiError::Internal("a secret detail".into()),
        ] {
            all += &shown(error).await;
        }
        insta::assert_snapshot!(all, @r#"
        401
        www-authenticate: Bearer realm="api"
        {"detail":"Authentication credentials were not provided."}
        401
        www-authenticate: Bearer realm="api"
        {"detail":"Incorrect authentication credentials."}
        401
        www-authenticate: Bearer realm="api"
        {"detail":"Given token not valid for any token type","code":"token_not_valid"}
        403
        {"detail":"You do not have permission to perform this action."}
        404
        {"detail":"Not found."}
        405
        {"detail":"Method \"DELETE\" not allowed."}
        406
        {"detail":"Could not satisfy the request Accept header."}
        415
        {"detail":"Unsupported media type \"text/plain\" in request."}
        429
        retry-after: 30
        {"detail":"Request was throttled. Expected available in 30 seconds."}
        400
        {"detail":"JSON parse error - x"}
        400
        {"target":["Enter a valid URL."],"events":[{},{"type":["\"nope\" is not a valid choice."]}]}
        400
        {"non_field_errors":["No data provided"]}
        400
        [{},{"type":["This field is required."]}]
        400
        {"events":{"non_field_errors":["This list may not be empty."]}}
        413
        {"detail":"Request body is larger than 1024 bytes."}
        422
        {"detail":"This Idempotency-Key was used with a different request."}
        503
        retry-after: 5
        {"detail":"The service can't store events right now. Try again later."}
        500
        {"detail":"Internal server error."}
        "#);
    }
}
