//! The HTTP API: what `webhook-api-v2.md` and `rest-conventions.md` promise on the wire.
//!
//! A request goes through the [`door`], which checks in the promised order whether it may come in at all, and then to its
//! resource: one file each, with its paths in a table at the top. A resource reads the body as a [`form`], asks
//! [`crate::admin::Admin`] or [`crate::publish::Publisher`] for what is to be done, and shows the result. Nothing is
//! decided here, and nothing is kept here but what was checked a moment ago: credentials ([`auth`]) and wrong passwords
//! ([`passwords`]).

mod access;
pub mod admission;
mod answer;
mod attempts;
pub mod auth;
mod body;
mod door;
mod endpoints;
mod error;
mod event_types;
mod events;
mod form;
#[doc(hidden)]
pub mod fuzzed;
pub mod health;
mod history;
mod input;
mod jwt;
pub mod openapi;
mod origin;
mod page;
mod passwords;
mod resend;
mod secrets;
mod tenants;
mod tokens;
mod users;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::any,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use tower_http::catch_panic::CatchPanicLayer;

use self::{
    error::{ApiError, Fault},
    passwords::Passwords,
};
use crate::{app::App, clock, config::NodeRole};

/// The header that tells one request from another, in the answer and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The paths, by resource.
const ROUTES: [&[door::Route]; 13] = [
    endpoints::ROUTES,
    event_types::ROUTES,
    attempts::ROUTES,
    secrets::ROUTES,
    resend::ROUTES,
    events::ROUTES,
    history::ROUTES,
    jwt::ROUTES,
    users::ROUTES,
    tokens::ROUTES,
    tenants::ROUTES,
    health::ROUTES,
    openapi::ROUTES,
];

/// What a request needs besides itself.
#[derive(Clone)]
struct Api {
    app: Arc<App>,
    passwords: Arc<Passwords>,
}

/// The router, to be served with the peer's address (`into_make_service_with_connect_info`).
///
/// A worker answers probes and nothing else.
pub fn router(app: Arc<App>, role: NodeRole) -> Router {
    let api = Api { app, passwords: Arc::default() };
    let mut router = Router::new();
    let routes = if role == NodeRole::Worker { &[health::ROUTES][..] } else { &ROUTES[..] };
    for route in routes.iter().copied().flatten() {
        let (api, allow) = (api.clone(), route.allow());
        let enter =
            any(move |request: Request| door::enter(api.clone(), route, allow.clone(), request));
        // Both forms of a path mean the same; clients lose a body when they are redirected.
        router = router.route(route.path, enter.clone()).route(&format!("{}/", route.path), enter);
    }
    let app = api.app.clone();
    router
        .fallback(move |request: Request| door::nowhere(api.clone(), request))
        .layer(CatchPanicLayer::custom(internal_error))
        .layer(middleware::from_fn_with_state(app, identify_request))
}

/// A panic ends one request, and the others don't notice.
fn internal_error(panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    ApiError::Internal(format!("panic: {text}")).into_response()
}

/// Gives each request an id, and writes down under it what went wrong on our side.
async fn identify_request(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers()).unwrap_or_else(|| {
        let random = u128::from_ne_bytes(clock::entropy(&*app.clock));
        // Hexadecimal digits fit a header.
        HeaderValue::from_str(&format!("{random:032x}")).unwrap_or(HeaderValue::from_static("-"))
    });
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut response = next.run(request).await;
    if let Some(Fault(text)) = response.extensions().get() {
        let (id, path) = (id.to_str().unwrap_or_default(), uri.path());
        tracing::error!(request_id = id, %method, path, status = response.status().as_u16(), "{text}");
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The client's own id, when it is a sane one.
fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    let is_sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-".contains(byte);
    ((1..=128).contains(&id.len()) && id.as_bytes().iter().all(is_sane)).then(|| id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_request_id_is_kept_when_it_is_sane() {
        let check = |id: &str, expected: bool| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, id.parse().unwrap())]);
            assert_eq!(request_id(&headers).is_some(), expected, "{id}");
        };
        check("a", true);
        check("A.b_c:d-9", true);
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
        for bad in ["", "a b", "a\"b", "a\tb", "a/b"] {
            check(bad, false);
        }
    }

    #[test]
    fn a_panic_is_a_500_that_says_nothing_of_it() {
        let response = internal_error(Box::new("a secret detail".to_owned()));
        assert_eq!(response.status(), http::StatusCode::INTERNAL_SERVER_ERROR);
        let Some(Fault(text)) = response.extensions().get() else { panic!("nothing for the log") };
        assert_eq!(text, "panic: a secret detail");
    }

    #[test]
    fn each_route_has_a_rule_that_says_who_may() {
        let rules = include_str!("../../tests/api/authorization.txt");
        let rules = rules.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut ruled: Vec<_> = rules
            .map(|rule| rule.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let of_route = |route: &'static door::Route| {
            route.methods.iter().map(|method| vec![(*method).to_owned(), route.path.to_owned()])
        };
        let mut routed: Vec<_> = ROUTES.into_iter().flatten().flat_map(of_route).collect();
        ruled.sort_unstable();
        routed.sort_unstable();
        assert_eq!(routed, ruled, "tests/api/authorization.txt says who may do what");
    }

    #[test]
    fn no_two_routes_share_a_path() {
        let mut paths: Vec<_> = ROUTES.into_iter().flatten().map(|route| route.path).collect();
        paths.sort_unstable();
        let all = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }
}
