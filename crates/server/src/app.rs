//! What the parts share: built once at start, handed to the API, the command line and the loops.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use postrider_store::Store;
use url::Url;

use crate::{
    admin::Admin,
    api::{admission::Admission, auth::Credentials, health::Readiness, throttle::Throttle},
    clock::Clock,
    directory::Directory,
    egress::Egress,
    publish::Publisher,
};

/// What the API needs of the rest.
pub struct App {
    /// Where everything is kept. The API reads it; it changes nothing but through [`Admin`] and [`Publisher`].
    pub store: Arc<dyn Store>,
    /// Time and entropy.
    pub clock: Arc<dyn Clock>,
    /// The picture of tenants, endpoints and subscriptions.
    pub directory: Arc<Directory>,
    /// Accepts events.
    pub publisher: Publisher,
    /// Changes endpoints, secrets, catalogues and accounts.
    pub admin: Admin,
    /// Which targets may be named.
    pub egress: Arc<Egress>,
    /// How the API answers.
    pub options: ApiOptions,
    /// Credentials that were checked, and still hold.
    pub credentials: Arc<Credentials>,
    /// How often anybody may ask.
    pub throttle: Throttle,
    /// The room for requests' bodies.
    pub admission: Admission,
    /// Whether requests are welcome.
    pub readiness: Readiness,
}

/// How the API answers.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// What links begin with, where the operator named it.
    pub public_url: Option<Url>,
    /// Whether clients come over https by themselves.
    pub is_https: bool,
    /// Whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The largest request body, in bytes.
    pub body_limit: usize,
    /// Whether revealing and expiring a secret needs the user's password.
    pub require_password: bool,
    /// How long an idempotency key counts.
    pub idempotency_window: Duration,
}
