//! The API, end to end: every operation, good and bad, against the real binary, and every text of `rest-conventions.md`.

#[path = "api/accounts.rs"]
mod accounts;
#[path = "api/attempts.rs"]
mod attempts;
#[path = "api/authorization.rs"]
mod authorization;
#[path = "api/bodies.rs"]
mod bodies;
#[path = "api/bulk.rs"]
mod bulk;
#[path = "api/credentials.rs"]
mod credentials;
#[path = "api/door.rs"]
mod door;
#[path = "api/endpoints.rs"]
mod endpoints;
#[path = "api/event_types.rs"]
mod event_types;
#[path = "api/events.rs"]
mod events;
#[path = "api/metrics.rs"]
mod metrics;
#[path = "api/pages.rs"]
mod pages;
#[path = "api/secrets.rs"]
mod secrets;
#[path = "api/support/mod.rs"]
mod support;

use serde_json::json;

/// Where endpoints live.
const ENDPOINTS: &str = "/api/v2/webhook/endpoint/";

/// Where events are published.
const EVENTS: &str = "/api/v2/webhook/event/";

/// Where many are published at once.
const BULK: &str = "/api/v2/webhook/event/bulk/";

/// Where event types live.
const EVENT_TYPES: &str = "/api/v2/webhook/event_type/";

/// Where a JWT is verified.
const VERIFY_TOKEN: &str = "/api/v2/jwt/verify_token/";

/// The text that creates an endpoint for these types.
fn endpoint(target: &str, types: &[&str]) -> String {
    let events: Vec<_> = types.iter().map(|name| json!({ "type": name })).collect();
    json!({ "target": target, "events": events }).to_string()
}

/// The text that publishes an event.
fn event(name: &str) -> String {
    json!({ "type": name, "data": { "n": 1 } }).to_string()
}
