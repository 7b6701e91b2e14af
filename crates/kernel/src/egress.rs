//! Which addresses a delivery may dial. Everything that is not public is forbidden, unless the operator allowed it.
//!
//! The check is on addresses, where the connection is made: a name is resolved first, and refused when any of its
//! addresses is forbidden, so that neither a mixed answer nor a second look-up can lead to a forbidden place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(high: [u16; 3], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(high[0], high[1], high[2], 0, 0, 0, 0, 0), prefix)
}

/// IPv4 that is not global unicast (IANA special-purpose registry, RFC 6890).
const FORBIDDEN_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 0, 8),       // this network
    v4(10, 0, 0, 0, 8),      // private
    v4(100, 64, 0, 0, 10),   // carrier-grade NAT
    v4(127, 0, 0, 0, 8),     // loopback
    v4(169, 254, 0, 0, 16),  // link-local, where clouds keep their metadata
    v4(172, 16, 0, 0, 12),   // private
    v4(192, 0, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 88, 99, 0, 24),  // 6to4 relays
    v4(192, 168, 0, 0, 16),  // private
    v4(198, 18, 0, 0, 15),   // benchmarking
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
    v4(224, 0, 0, 0, 4),     // multicast
    v4(240, 0, 0, 0, 4),     // reserved, and broadcast
];

/// The only IPv6 block that is global unicast. Loopback, ULA, link-local, multicast and NAT64 lie outside.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// Parts of [`GLOBAL_V6`] that are not.
const FORBIDDEN_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0], 23), // protocol assignments: Teredo, ORCHID, benchmarking
    v6([0x2001, 0x0db8, 0], 32), // documentation
    v6([0x2002, 0, 0], 16), // 6to4
    v6([0x3fff, 0, 0], 20), // documentation
];

/// The addresses that may be dialled.
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    allowed: Vec<IpNet>,
}

/// An address that may not be dialled.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "deliveries to {0} are not allowed: it is not a public address, and --egress-allow does not list it"
)]
pub struct Forbidden(pub IpAddr);

impl EgressPolicy {
    /// Public addresses, and these blocks besides.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Everything: for a command line that calls its own server.
    pub fn anywhere() -> Self {
        Self::new(vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())])
    }

    /// Checks one address. An IPv4 address in IPv6 clothes (`::ffff:10.0.0.1`) is judged as the IPv4 address it is.
    pub fn check(&self, address: IpAddr) -> Result<(), Forbidden> {
        let plain = address.to_canonical();
        if is_public(plain) || self.allowed.iter().any(|block| block.contains(&plain)) {
            Ok(())
        } else {
            Err(Forbidden(address))
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !FORBIDDEN_V4.iter().any(|block| block.contains(&v4)),
        IpAddr::V6(v6) => {
            GLOBAL_V6.contains(&v6) && !FORBIDDEN_V6.iter().any(|block| block.contains(&v6))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_allowed() {
        let policy = EgressPolicy::default();
        let allows = |text: &str| policy.check(text.parse().unwrap()).is_ok();
        for public in
            ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"]
        {
            assert!(allows(public), "{public}");
        }
        for forbidden in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!allows(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn the_operator_may_allow_more() {
        let policy =
            EgressPolicy::new(vec!["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let allows = |text: &str| policy.check(text.parse().unwrap()).is_ok();
        assert!(allows("127.0.0.1") && allows("::ffff:127.0.0.1") && allows("fd12::1"));
        assert!(!allows("10.0.0.1") && !allows("::1"));
        assert!(EgressPolicy::anywhere().check("::1".parse().unwrap()).is_ok());
    }
}
