//! The addresses that are not global unicast, by the registries of special-purpose addresses that IANA keeps (RFC 6890),
//! and the IPv4 addresses that others carry inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(high: [u16; 3], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(high[0], high[1], high[2], 0, 0, 0, 0, 0), prefix)
}

/// IPv4 that is not global unicast.
const FORBIDDEN_V4: [(Ipv4Net, &str); 15] = [
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link-local, where clouds keep their metadata"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "protocol assignments"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 88, 99, 0, 24), "6to4 relays"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// The only IPv6 block that is global unicast (RFC 4291, section 2.4, as IANA assigns it).
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// IPv6 that is not: parts of [`GLOBAL_V6`], and what has a name outside. The first that fits gives the reason.
const FORBIDDEN_V6: [(Ipv6Net, &str); 18] = [
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "no address"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "loopback"),
    (v6([0, 0, 0], 96), "IPv4-compatible"),
    (v6([0x0064, 0xff9b, 0], 96), "NAT64"),
    (v6([0x0064, 0xff9b, 1], 48), "local NAT64"),
    (v6([0x0100, 0, 0], 64), "discard-only"),
    (v6([0x2001, 0, 0], 32), "Teredo"),
    (v6([0x2001, 0x0010, 0], 28), "ORCHID"),
    (v6([0x2001, 0x0020, 0], 28), "ORCHID"),
    (v6([0x2001, 0, 0], 23), "protocol assignments"),
    (v6([0x2001, 0x0db8, 0], 32), "documentation"),
    (v6([0x2002, 0, 0], 16), "6to4"),
    (v6([0x3fff, 0, 0], 20), "documentation"),
    (v6([0x5f00, 0, 0], 16), "SRv6"),
    (v6([0xfc00, 0, 0], 7), "private"),
    (v6([0xfe80, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0], 10), "site-local"),
    (v6([0xff00, 0, 0], 8), "multicast"),
];

/// The block that makes an address one which is not public, and what it is for; `None` for a public address.
pub fn not_public(address: IpAddr) -> Option<(IpNet, &'static str)> {
    match address {
        IpAddr::V4(v4) => {
            let (block, kind) = FORBIDDEN_V4.iter().find(|(block, _)| block.contains(&v4))?;
            Some((IpNet::V4(*block), kind))
        }
        IpAddr::V6(v6) => match FORBIDDEN_V6.iter().find(|(block, _)| block.contains(&v6)) {
            Some((block, kind)) => Some((IpNet::V6(*block), kind)),
            None if GLOBAL_V6.contains(&v6) => None,
            None => Some((IpNet::V6(Ipv6Net::default()), "not assigned")),
        },
    }
}

/// The IPv4 address that a gateway would unwrap: IPv4-compatible (RFC 4291, section 2.5.5.1), NAT64 under the well-known
/// prefix (RFC 6052), 6to4 (RFC 3056) and Teredo's client (RFC 4380, section 4).
pub fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        // `::` and `::1` carry nothing.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(of(high, low))
        }
        [0x2002, high, low, ..] => Some(of(high, low)),
        [0x2001, 0, .., high, low] => Some(of(!high, !low)),
        _ => None,
    }
}
