//! The way to a target: resolved, judged by the kernel's policy, and then directly or through the proxy. It is asked for
//! each connection, and when an admin names a target. Dialling is the transport's.

use std::{net::IpAddr, time::Duration};

use postrider_kernel::{
    Failure, Target,
    attempt::Cause,
    egress::{EgressPolicy, Forbidden, is_localhost},
    endpoint::TargetHost,
};
use tokio::time::timeout;

use crate::{config::Config, proxy::Proxy, resolver::Resolver};

/// How long an admin who names a target waits for a resolver that doesn't answer; the target is taken then.
const DOOR_TIMEOUT: Duration = Duration::from_secs(2);

/// Finds ways to targets.
pub struct Egress {
    policy: EgressPolicy,
    resolver: Resolver,
    proxy: Option<Proxy>,
}

/// A way to a target, on which every address is vetted.
pub enum Way<'a> {
    /// To one of these addresses.
    Direct(Vec<IpAddr>),
    /// Through the proxy, which is told one of these addresses.
    Proxied(&'a Proxy, Vec<IpAddr>),
    /// Through the proxy, which is told the name, and does the vetting.
    ProxysOwn(&'a Proxy),
}

/// Why there is no way.
enum NoWay {
    Forbidden(Forbidden),
    Unresolved(String),
}

impl Egress {
    /// Ways as the operator configured them.
    pub fn new(config: &Config) -> Self {
        Self {
            policy: config.egress.clone(),
            resolver: Resolver::new(config.dns_servers.clone()),
            proxy: config.egress_proxy.clone().map(|url| {
                Proxy::new(url, config.egress_proxy_except.clone(), config.egress_proxy_vets)
            }),
        }
    }

    /// The way to a target, as of now.
    ///
    /// # Errors
    /// Its name does not resolve, or the policy forbids it.
    pub async fn way(&self, target: &Target) -> Result<Way<'_>, Failure> {
        self.find(target).await.map_err(|no_way| match no_way {
            NoWay::Forbidden(forbidden) => {
                Failure::new(Cause::ForbiddenAddress, forbidden.to_string())
            }
            NoWay::Unresolved(detail) => Failure::new(Cause::Dns, detail),
        })
    }

    /// Whether a target may be named. One that doesn't resolve may: it is judged again for each connection.
    ///
    /// # Errors
    /// The policy forbids it.
    pub async fn check(&self, target: &Target) -> Result<(), Forbidden> {
        match timeout(DOOR_TIMEOUT, self.find(target)).await {
            Ok(Err(NoWay::Forbidden(forbidden))) => Err(forbidden),
            Ok(Ok(_) | Err(NoWay::Unresolved(_))) | Err(_) => Ok(()),
        }
    }

    async fn find(&self, target: &Target) -> Result<Way<'_>, NoWay> {
        self.policy.check_target(target).map_err(NoWay::Forbidden)?;
        let addresses = match target.host() {
            TargetHost::Address(address) => vec![address],
            // `check_target` has found that it may be reached, and a proxy has another `localhost` than we.
            TargetHost::Name(name) if is_localhost(name) => {
                return Ok(Way::Direct(self.policy.loopback().unwrap_or_default()));
            }
            TargetHost::Name(name) => match &self.proxy {
                Some(proxy) if proxy.vets() && !proxy.is_excepted(target, &[]) => {
                    return Ok(Way::ProxysOwn(proxy));
                }
                _ => self.resolver.addresses(name).await.map_err(NoWay::Unresolved)?,
            },
        };
        self.policy.check_all(target, &addresses).map_err(NoWay::Forbidden)?;
        Ok(match &self.proxy {
            Some(proxy) if !proxy.is_excepted(target, &addresses) => Way::Proxied(proxy, addresses),
            _ => Way::Direct(addresses),
        })
    }

    /// What is judged by.
    pub fn policy(&self) -> &EgressPolicy {
        &self.policy
    }

    /// The proxy, if there is one.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }
}
