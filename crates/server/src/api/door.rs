//! The door that every request goes through, and the order in which it is checked (`rest-conventions.md`): the path, what
//! the client accepts, its credential, its role, the method; then the resource looks things up and reads the body.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    RequestPartsExt,
    body::{Body, HttpBody},
    extract::{ConnectInfo, RawPathParams, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri,
    header::{ACCEPT, ALLOW, CONTENT_LENGTH},
};
use postrider_kernel::Timestamp;
use postrider_store::By;

use super::{
    Api,
    access::Access,
    admission::Admitted,
    answer::{self, Answer},
    auth::Credential,
    body::RequestBody,
    error::ApiError,
    openapi::Operation,
    origin,
    page::Query,
};
use crate::directory::TenantView;

/// What answers for a path, once the request is through the door.
pub type Serve = for<'call> fn(&'call mut Call) -> BoxFuture<'call, Answer>;

/// A path of the API.
#[derive(Debug)]
pub struct Route {
    /// The path in axum's notation, without the slash at its end.
    pub path: &'static str,
    /// Its methods, in the order in which `Allow` names them, without those that every path has.
    pub methods: &'static [&'static str],
    /// Whom it lets in.
    pub access: Access,
    serve: Serve,
    /// What the OpenAPI document says of each method, in their order.
    pub operations: &'static [Operation],
}

impl Route {
    /// A path, its methods in the order in which `Allow` names them (HEAD and OPTIONS are added), and whom it lets in.
    pub const fn new(
        path: &'static str,
        methods: &'static [&'static str],
        access: Access,
        serve: Serve,
    ) -> Self {
        Self { path, methods, access, serve, operations: &[] }
    }

    /// The same, with what the OpenAPI document says of each method. Every route has this; a test sees to it.
    pub const fn documented(self, operations: &'static [Operation]) -> Self {
        Self { operations, ..self }
    }

    fn has(&self, method: &Method) -> bool {
        let name = if method == Method::HEAD { "GET" } else { method.as_str() };
        self.methods.contains(&name)
    }

    /// What `Allow` says on every answer of the path.
    pub fn allow(&self) -> HeaderValue {
        let head = self.methods.contains(&"GET").then_some("HEAD");
        let names: Vec<_> = self.methods.iter().copied().chain(head).chain(["OPTIONS"]).collect();
        // Names of methods fit a header.
        HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
    }
}

/// A request on its way.
pub struct Call {
    /// What it needs besides itself.
    pub(super) api: Api,
    /// The method; HEAD is served as GET.
    pub method: Method,
    uri: Uri,
    headers: HeaderMap,
    params: Vec<(String, String)>,
    peer: Option<SocketAddr>,
    credential: Option<Credential>,
    access: Access,
    body: RequestBody,
    admitted: Option<Admitted>,
}

impl Call {
    /// Who asks. A path that is open to everyone has no credential to ask for.
    pub fn credential(&self) -> Result<&Credential, ApiError> {
        self.credential.as_ref().ok_or(ApiError::NotAuthenticated)
    }

    /// The credential's tenant as it is now: while a body came, an endpoint or an event type may have come or gone.
    pub fn tenant(&self) -> Result<Arc<TenantView>, ApiError> {
        let id = self.credential()?.tenant.id;
        self.api.app.directory.snapshot().tenant(id).cloned().ok_or(ApiError::NotFound)
    }

    /// The time. It is asked for where something is done: the body may have come long after the head.
    pub fn now(&self) -> Timestamp {
        self.api.app.clock.now()
    }

    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The `{id}` of the path. Digits that no id has are an id that isn't there.
    pub fn id(&self) -> Result<i64, ApiError> {
        self.number("id")
    }

    /// A part of the path that is an id.
    pub fn number(&self, name: &str) -> Result<i64, ApiError> {
        self.param(name).and_then(|digits| digits.parse().ok()).ok_or(ApiError::NotFound)
    }

    /// A part of the path, decoded.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The query string's parameters.
    pub fn query(&self) -> Query {
        Query::parse(self.uri.query().unwrap_or_default())
    }

    /// The absolute URL of the request, without its query.
    pub fn url(&self) -> String {
        let peer = self.peer.map(|peer| peer.ip());
        origin::absolute_url(&self.api.app.options, peer, &self.uri, &self.headers)
    }

    /// Who changes something, for the audit log.
    pub fn by(&self) -> Result<By, ApiError> {
        let trusted = &self.api.app.options.trusted_proxies;
        let address =
            self.peer.map(|peer| origin::client_address(peer.ip(), &self.headers, trusted));
        Ok(By { actor: self.credential()?.actor, address, at: self.now() })
    }

    /// Reads the body, which must be JSON; none at all is an empty object.
    pub async fn read_body(&mut self) -> Result<Bytes, ApiError> {
        self.read_body_within(self.body_limit()).await
    }

    /// The same, of a path that has a limit of its own, in bytes.
    pub async fn read_body_within(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        let app = &self.api.app;
        // Strangers have no part of what those with a credential share.
        if self.credential.is_some() {
            self.admitted = Some(app.admission.admit(&self.headers, limit, &*app.clock).await?);
        }
        let body = self.body.read_json(&self.headers, limit, &*app.clock).await?;
        // A body may take its time, and who was shut out meanwhile makes no credential, and sees no secret, any more.
        if self.access.guards_credentials() {
            self.identify().await?;
        }
        Ok(body)
    }

    /// Checks the credential, and that its role is large enough.
    async fn identify(&mut self) -> Result<(), ApiError> {
        let app = &self.api.app;
        let credential = app.credentials.check(app, &self.headers, self.now()).await?;
        if !self.access.allows(credential.role, &self.method) {
            return Err(ApiError::PermissionDenied);
        }
        self.credential = Some(credential);
        Ok(())
    }

    /// The largest body that the operator lets through, in bytes.
    pub fn body_limit(&self) -> usize {
        self.api.app.options.body_limit
    }
}

/// Takes a request through the door of a route.
pub async fn enter(
    api: Api,
    route: &'static Route,
    allow: HeaderValue,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(params) = parts.extract::<RawPathParams>().await.ok().and_then(params_of) else {
        return nowhere(api, Request::from_parts(parts, body)).await;
    };
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let is_head = parts.method == Method::HEAD;
    let mut call = Call {
        api,
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        params,
        peer,
        credential: None,
        access: route.access,
        body: RequestBody::new(body),
        admitted: None,
    };
    let mut response = pass(&mut call, route).await.unwrap_or_else(IntoResponse::into_response);
    call.body.drain(&call.headers, &*call.api.app.clock).await;
    response.headers_mut().insert(ALLOW, allow);
    if is_head { without_body(response) } else { response }
}

/// Answers for a path that no route has, to everyone alike.
pub async fn nowhere(api: Api, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    RequestBody::new(body).drain(&parts.headers, &*api.app.clock).await;
    let response = ApiError::NotFound.into_response();
    if parts.method == Method::HEAD { without_body(response) } else { response }
}

/// The order of checks. Nothing is counted against a throttle here: wrong passwords, the one thing that is throttled,
/// show only when the body has been read (`passwords.rs`).
async fn pass(call: &mut Call, route: &Route) -> Answer {
    if route.access != Access::Probe && !accepts_json(&call.headers) {
        return Err(ApiError::NotAcceptable);
    }
    if route.access.needs_credential() {
        call.identify().await?;
    }
    if call.method == Method::OPTIONS {
        let text = r#"{"renders":["application/json"],"parses":["application/json"]}"#;
        return Ok(answer::raw_json(StatusCode::OK, text));
    }
    if !route.has(&call.method) {
        return Err(ApiError::MethodNotAllowed(call.method.clone()));
    }
    (route.serve)(call).await
}

/// The parts of the path; `None` when no route has such a path: no part is empty, and an `{id}` or `{…_id}` is digits.
fn params_of(raw: RawPathParams) -> Option<Vec<(String, String)>> {
    let is_sound = |(name, value): (&str, &str)| {
        let is_id = name == "id" || name.ends_with("_id");
        !value.is_empty() && (!is_id || value.bytes().all(|byte| byte.is_ascii_digit()))
    };
    raw.iter()
        .all(is_sound)
        .then(|| raw.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Whether `Accept` lets JSON through: of the ranges that fit, the most specific one decides (RFC 9110, section 12.5.1).
fn accepts_json(headers: &HeaderMap) -> bool {
    // What is no text names no type that we have.
    let lists = headers.get_all(ACCEPT).iter().map(|list| list.to_str().unwrap_or("none/none"));
    let mut ranges =
        lists.flat_map(|list| list.split(',')).map(str::trim).filter(|range| !range.is_empty());
    let Some(first) = ranges.next() else { return true };
    let fitting = std::iter::once(first).chain(ranges).filter_map(json_in_range);
    fitting.max().is_some_and(|(_, is_accepted)| is_accepted)
}

/// How precisely a media range names JSON, and whether it accepts it; `None` when it names something else.
fn json_in_range(range: &str) -> Option<(u8, bool)> {
    let mut parts = range.split(';').map(str::trim);
    let names = parts.next()?;
    let precision = ["*/*", "application/*", "application/json"]
        .iter()
        .position(|fitting| fitting.eq_ignore_ascii_case(names))?;
    let is_refusal = |parameter: &str| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("q") && value.trim().parse() == Ok(0.0)
        })
    };
    Some((precision as u8, !parts.any(is_refusal)))
}

/// What HEAD answers: everything but the body, whose length it still tells.
fn without_body(mut response: Response) -> Response {
    let length = response.body().size_hint().exact();
    *response.body_mut() = Body::empty();
    if let Some(length) = length.filter(|length| *length > 0) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_excludes_json_only_when_it_says_so() {
        let check = |accept: &[&str], expected: bool| {
            let mut headers = HeaderMap::new();
            for line in accept {
                headers.append(ACCEPT, line.parse().unwrap());
            }
            assert_eq!(accepts_json(&headers), expected, "{accept:?}");
        };
        check(&[], true);
        check(&[""], true);
        check(&["*/*"], true);
        check(&["application/*"], true);
        check(&["Application/JSON; charset=utf-8"], true);
        check(&["text/html, application/json;q=0.1"], true);
        check(&["text/html", "application/json"], true);
        check(&["text/html"], false);
        check(&["text/*, application/xml"], false);
        check(&["application/json;q=0"], false);
        check(&["*/*, application/json;q=0.0"], false);
        check(&["*/*;q=0, application/json"], true);
    }
}
