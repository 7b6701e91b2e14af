//! Where Prometheus reads the metrics: on the API's address with a credential of role operator, and, where the operator
//! asks for it, on an address of its own without one. What the metrics are is not here (`crate::metrics`).

use std::sync::Arc;

use axum::{Router, body::Body, middleware, response::Response, routing::get};
use futures_util::FutureExt;
use http::{HeaderValue, header::CONTENT_TYPE};

use super::{access::Access, door::Route, openapi::Operation};
use crate::{app::App, metrics};

/// Where they are.
const PATH: &str = "/metrics";

/// The paths of this resource.
pub const ROUTES: &[Route] = &[Route::new(PATH, &["GET"], Access::Metrics, |call| {
    async { Ok(answer(&call.api.app).await) }.boxed()
})
.documented(&[
    Operation::get("readMetrics", "The metrics, for Prometheus").answers_text("text/plain")
])];

/// The router of an address where nothing else is served, without a credential.
pub fn open_router(app: Arc<App>) -> Router {
    let identify = middleware::from_fn_with_state(app.clone(), super::identify_request);
    Router::new().route(PATH, get(move || async move { answer(&app).await })).layer(identify)
}

async fn answer(app: &App) -> Response {
    let mut response = Response::new(Body::from(metrics::render(app).await));
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}
