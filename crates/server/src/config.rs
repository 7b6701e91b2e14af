//! What the operator chose, checked and complete.
//!
//! Every option is one row of [`SETTINGS`]: its name, its words, its default, and the one function that reads and checks
//! its value, wherever that came from. The command line, the environment, the file and `postrider.example.toml` are all
//! made from, or held against, that table. Which source wins is in [`sources`].

mod settings;
mod sources;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use http::HeaderName;
use ipnet::IpNet;
use postrider_kernel::{
    RetrySchedule,
    egress::{EgressPolicy, proxy::Exception},
    request::SIGNATURE_HEADER,
};
use url::Url;

use crate::{listener::CertificateFiles, proxy::ProxyUrl};

pub use settings::{Form, SETTINGS, Setting};
pub use sources::{ConfigError, Origin, Sources, load};

/// The configuration of `serve`: the command line over the environment over the file over the defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The chain of certificates of the API, if it is served over https.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// What links begin with; the request's Host without it.
    pub public_url: Option<Url>,
    /// Where the database and the keys are.
    pub data_dir: PathBuf,
    /// The Postgres that many nodes share; without one, the database is a file in the data directory.
    pub database_url: Option<DatabaseUrl>,
    /// What this node does.
    pub role: NodeRole,
    /// What deliveries may reach.
    pub egress: EgressPolicy,
    /// The proxy that deliveries go through.
    pub egress_proxy: Option<ProxyUrl>,
    /// What is dialled directly all the same.
    pub egress_proxy_except: Vec<Exception>,
    /// Whether the proxy is told names, and vets what they resolve to.
    pub egress_proxy_vets: bool,
    /// Who resolves names; the system's own resolvers when there is none.
    pub dns_servers: Vec<SocketAddr>,
    /// Root certificates besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The timestamped list's header.
    pub signature_header: HeaderName,
    /// When a failed delivery is tried again.
    pub retry_schedule: RetrySchedule,
    /// How long a connection may take to come about: look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// How long a whole try may take, the connection included.
    pub request_timeout: Duration,
    /// Requests in flight to one endpoint, at most.
    pub endpoint_concurrency: u32,
    /// Requests in flight in all, at most.
    pub concurrency: u32,
    /// How long events and attempts are kept.
    pub retention: Duration,
    /// Whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How logs are written.
    pub log_format: LogFormat,
    /// Where metrics are served without a credential, if anywhere.
    pub metrics_listen: Option<SocketAddr>,
    /// The largest request body, in bytes.
    pub body_limit: usize,
    /// Whether revealing and expiring a secret needs the user's password.
    pub require_password: bool,
    /// The event types of a new tenant.
    pub catalogue: Catalogue,
}

/// Where a Postgres is, and who we are there. It may have a password in it, so that `Debug` says nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

/// What a node does, of those that share a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRole {
    /// Everything.
    All,
    /// Accepts events and answers admins; others deliver.
    Api,
    /// Delivers; others accept.
    Worker,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where the event types of a new tenant come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Catalogue {
    /// The list that the binary carries.
    BuiltIn,
    /// None; the tenant's admins add their own.
    Empty,
    /// A JSON file of the same form as the built-in list.
    File(PathBuf),
}

impl Config {
    /// What the API is served over https with, if it is.
    pub fn certificate(&self) -> Option<CertificateFiles> {
        let (chain, key) = (self.tls_cert.clone()?, self.tls_key.clone()?);
        Some(CertificateFiles { chain, key })
    }
}

impl DatabaseUrl {
    /// Reads a URL; an empty text is none.
    ///
    /// # Errors
    /// What it looks like. The text itself is not told.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        match text {
            "" => Ok(None),
            _ if text.starts_with("postgres://") || text.starts_with("postgresql://") => {
                Ok(Some(Self(text.to_owned())))
            }
            _ => Err("expected a URL such as postgres://postrider@db.example/postrider".to_owned()),
        }
    }

    /// The URL, to connect with and never to show.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}

impl LogFormat {
    /// Text where a person looks on, JSON where the log is collected.
    pub fn fitting_stderr() -> Self {
        use std::io::IsTerminal;
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

impl Catalogue {
    /// Reads the option's value: the name of the built-in list, `none`, or a file.
    pub fn from_text(text: &str) -> Self {
        match text {
            "community" => Self::BuiltIn,
            "none" => Self::Empty,
            file => Self::File(file.into()),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls_cert: None,
            tls_key: None,
            public_url: None,
            data_dir: "./postrider-data".into(),
            database_url: None,
            role: NodeRole::All,
            egress: EgressPolicy::default(),
            egress_proxy: None,
            egress_proxy_except: Vec::new(),
            egress_proxy_vets: false,
            dns_servers: Vec::new(),
            ca_file: None,
            signature_header: SIGNATURE_HEADER.parse().expect("it is a valid header name"),
            retry_schedule: RetrySchedule::default(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(20),
            endpoint_concurrency: 32,
            concurrency: 1024,
            retention: Duration::from_secs(30 * 86_400),
            trusted_proxies: Vec::new(),
            log_format: LogFormat::fitting_stderr(),
            metrics_listen: None,
            body_limit: 1024 * 1024,
            require_password: false,
            catalogue: Catalogue::BuiltIn,
        }
    }
}
