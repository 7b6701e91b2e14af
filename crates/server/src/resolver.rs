//! Names to addresses, with a cache that respects what the answers say of their age. Whether an address may be dialled is
//! not decided here.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};

/// How many answers are remembered.
const CACHE_SIZE: u64 = 10_000;

/// Where the system says whom to ask.
const SYSTEM_CONFIGURATION: &str = "/etc/resolv.conf";

/// Asks the servers that the operator named, or those of the system: then it is made when it is first needed, and made
/// anew when the system's configuration has changed, since at boot the file may not be there yet, and a laptop changes
/// networks.
pub struct Resolver {
    servers: Vec<SocketAddr>,
    made: Mutex<Option<(Option<SystemTime>, TokioResolver)>>,
}

impl Resolver {
    /// A resolver that asks these servers; without any, it does as the system says, `/etc/hosts` included.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, made: Mutex::default() }
    }

    /// All addresses of a name, at least one.
    ///
    /// # Errors
    /// In words, why there is none.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let resolver = self.current().map_err(|error| format!("no resolver: {error}"))?;
        let found = resolver.lookup_ip(name).await.map_err(|error| format!("{name}: {error}"))?;
        let addresses: Vec<_> = found.iter().collect();
        if addresses.is_empty() { Err(format!("{name} has no address")) } else { Ok(addresses) }
    }

    fn current(&self) -> Result<TokioResolver, NetError> {
        let written = match self.servers.is_empty() {
            true => std::fs::metadata(SYSTEM_CONFIGURATION).and_then(|file| file.modified()).ok(),
            false => None,
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((as_of, resolver)) if *as_of == written => Ok(resolver.clone()),
            _ => {
                let resolver = self.build()?;
                *made = Some((written, resolver.clone()));
                Ok(resolver)
            }
        }
    }

    fn build(&self) -> Result<TokioResolver, NetError> {
        let mut builder = match self.servers.as_slice() {
            [] => TokioResolver::builder_tokio()?,
            servers => asking(servers),
        };
        let options = builder.options_mut();
        // Both families, always: the policy judges every address that a name has.
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = CACHE_SIZE;
        builder.build()
    }
}

fn asking(servers: &[SocketAddr]) -> ResolverBuilder<TokioRuntimeProvider> {
    let server = |server: &SocketAddr| {
        let with_port = |mut connection: ConnectionConfig| {
            connection.port = server.port();
            connection
        };
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(with_port);
        NameServerConfig::new(server.ip(), true, connections.into())
    };
    let config = ResolverConfig::from_parts(None, vec![], servers.iter().map(server).collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().use_hosts_file = ResolveHosts::Never;
    builder
}
