//! Where a delivery may go. Everything that is not public is forbidden, unless the operator allowed it; what the operator
//! denied is forbidden whatever else holds.
//!
//! The check is on addresses, where the connection is made: a name is resolved first, and refused when any of its
//! addresses is forbidden, so that neither a mixed answer nor a second look-up can lead to a forbidden place. Which blocks
//! are not public is in [`blocks`], and what a proxy's answer means in [`proxy`]; resolving and dialling are not here.

pub mod blocks;
#[cfg(any(test, feature = "corpus"))]
pub mod corpus;
pub mod proxy;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

use crate::{Target, endpoint::TargetHost};

/// What deliveries may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Blocks that may be reached though they are not public.
    pub allowed: Vec<IpNet>,
    /// Blocks that may not be reached, public or allowed as they may be.
    pub denied: Vec<IpNet>,
    /// The ports that may be dialled; every one when there is none.
    pub ports: Ports,
    /// Whether a target has to be https.
    pub requires_https: bool,
}

/// Ranges of ports. None at all stands for every port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(pub Vec<RangeInclusive<u16>>);

/// A target that may not be reached.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("deliveries to {host} are not allowed: {reason}")]
pub struct Forbidden {
    /// The host, as the target names it. What a name resolves to stays untold: a stranger could ask for the names inside.
    pub host: String,
    /// Why.
    pub reason: Reason,
}

/// Why something may not be reached.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Reason {
    /// Its address is not global unicast, and was not allowed.
    #[error(
        "its address is not a public one ({kind}, {block}), and --egress-allow does not list it"
    )]
    NotPublic {
        /// What the block is for.
        kind: &'static str,
        /// The block that the address is in.
        block: IpNet,
    },
    /// A name resolves to such an address: to which, a stranger isn't told.
    #[error("it leads to an address that is not a public one, and --egress-allow does not list it")]
    LeadsInside,
    /// A name resolves to an address that the operator denied.
    #[error("it leads to an address that --egress-deny lists")]
    LeadsToDenied,
    /// The operator denied its address.
    #[error("--egress-deny lists {0}")]
    Denied(IpNet),
    /// The operator listed the ports, and not this one.
    #[error("port {0} is none of --egress-ports, which lists {1}")]
    Port(u16, Ports),
    /// The operator wants TLS.
    #[error("--require-https demands an https URL")]
    NotHttps,
}

impl EgressPolicy {
    /// Everything: for a command line that calls its own server.
    pub fn anywhere() -> Self {
        let allowed = vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        Self { allowed, ..Self::default() }
    }

    /// Checks one address. An IPv4 address in IPv6 clothes is judged as what it is: where it is written out
    /// (`::ffff:10.0.0.1`) as that alone, and where a gateway would unwrap it (NAT64, 6to4, Teredo) as both.
    ///
    /// # Errors
    /// Why it may not be dialled.
    pub fn check(&self, address: IpAddr) -> Result<(), Reason> {
        let plain = address.to_canonical();
        self.check_plain(plain)?;
        match plain {
            IpAddr::V6(v6) => blocks::embedded(v6).map_or(Ok(()), |v4| self.check_plain(v4.into())),
            IpAddr::V4(_) => Ok(()),
        }
    }

    fn check_plain(&self, address: IpAddr) -> Result<(), Reason> {
        let listed = |list: &[IpNet]| list.iter().find(|block| block.contains(&address)).copied();
        if let Some(block) = listed(&self.denied) {
            return Err(Reason::Denied(block));
        }
        match blocks::not_public(address) {
            Some((block, kind)) if listed(&self.allowed).is_none() => {
                Err(Reason::NotPublic { kind, block })
            }
            _ => Ok(()),
        }
    }

    /// Checks what a target says by itself: scheme, port, and its host where that is an address or `localhost`. Whether a
    /// name leads to a forbidden place shows only when it is resolved.
    ///
    /// # Errors
    /// Why it may not be reached.
    pub fn check_target(&self, target: &Target) -> Result<(), Forbidden> {
        let checked = if self.requires_https && !target.is_https() {
            Err(Reason::NotHttps)
        } else if !self.ports.allow(target.port()) {
            Err(Reason::Port(target.port(), self.ports.clone()))
        } else {
            match target.host() {
                TargetHost::Address(address) => self.check(address),
                TargetHost::Name(name) if is_localhost(name) => self.loopback().map(drop),
                TargetHost::Name(_) => Ok(()),
            }
        };
        checked.map_err(|reason| Forbidden { host: target.host().to_string(), reason })
    }

    /// Checks all addresses of a target's name: one that is forbidden forbids it.
    ///
    /// # Errors
    /// Why it may not be reached.
    pub fn check_all(&self, target: &Target, addresses: &[IpAddr]) -> Result<(), Forbidden> {
        let checked = addresses.iter().try_for_each(|&address| self.check(address));
        let untold = |reason| match reason {
            Reason::NotPublic { .. } => Reason::LeadsInside,
            Reason::Denied(_) => Reason::LeadsToDenied,
            Reason::LeadsInside | Reason::LeadsToDenied | Reason::Port(..) | Reason::NotHttps => {
                reason
            }
        };
        checked
            .map_err(|reason| Forbidden { host: target.host().to_string(), reason: untold(reason) })
    }

    /// Where `localhost` leads: those of this machine's two loopback addresses that are allowed. It is this machine by
    /// definition (RFC 6761, section 6.3): no resolver has a say, so that the rule against mixed answers has nothing to
    /// guard, and an operator who allowed one loopback address gets that one.
    ///
    /// # Errors
    /// When neither is allowed.
    pub fn loopback(&self) -> Result<Vec<IpAddr>, Reason> {
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let both = [v4, IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let allowed: Vec<_> =
            both.into_iter().filter(|&address| self.check(address).is_ok()).collect();
        if allowed.is_empty() { self.check(v4).map(|()| allowed) } else { Ok(allowed) }
    }
}

/// Reads a block of addresses. One of IPv4 in IPv6 clothes (`::ffff:10.0.0.0/104`) is that of IPv4: addresses are judged so,
/// and it would list none.
pub fn block(text: &str) -> Option<IpNet> {
    let block: IpNet = text.parse().ok()?;
    let mapped = match block {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => v6.network().to_ipv4_mapped(),
        _ => None,
    };
    match mapped {
        Some(v4) => Some(Ipv4Net::new(v4, block.prefix_len() - 96).ok()?.into()),
        None => Some(block),
    }
}

/// Whether a name is `localhost` or below it.
pub fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_below = || name.to_ascii_lowercase().ends_with(".localhost");
    name.eq_ignore_ascii_case("localhost") || is_below()
}

impl Ports {
    fn allow(&self, port: u16) -> bool {
        self.0.is_empty() || self.0.iter().any(|range| range.contains(&port))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, range) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}
