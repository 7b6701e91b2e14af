//! What load balancers and supervisors ask: whether the process lives, and whether it should be sent requests.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    openapi::Operation,
};

/// The paths of this resource.
pub const ROUTES: &[Route] = &[
    Route::new("/healthz", &["GET"], Access::Probe, |call| live(call).boxed())
        .documented(&[Operation::get("live", "Whether the process runs").answers::<Health>(200)]),
    Route::new("/readyz", &["GET"], Access::Probe, |call| ready(call).boxed()).documented(&[
        Operation::get("ready", "Whether it can serve: database, migrations, not draining")
            .answers::<Health>(200)
            .or(503),
    ]),
];

/// Whether the server wants requests. It begins ready; who drains it says so here.
#[derive(Debug, Default)]
pub struct Readiness {
    draining: AtomicBool,
}

impl Readiness {
    /// From now on `/readyz` answers 503, so that load balancers look elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the server is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

#[derive(Serialize, ToSchema)]
struct Health {
    status: &'static str,
}

async fn live(_: &mut Call) -> Answer {
    Ok(answer::json(StatusCode::OK, &Health { status: "ok" }))
}

async fn ready(call: &mut Call) -> Answer {
    let unready = |status| Ok(answer::json(StatusCode::SERVICE_UNAVAILABLE, &Health { status }));
    if call.api.app.readiness.is_draining() {
        return unready("draining");
    }
    match call.api.app.store.check_health().await {
        Ok(()) => Ok(answer::json(StatusCode::OK, &Health { status: "ok" })),
        Err(error) => {
            tracing::warn!("not ready: {error}");
            unready("store unavailable")
        }
    }
}
