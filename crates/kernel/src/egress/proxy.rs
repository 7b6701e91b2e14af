//! What goes through an egress proxy, and what its answer to a CONNECT means: whether the way is open, and if not, whose
//! fault that is. Speaking to it is not here.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

use crate::{Target, endpoint::TargetHost};

/// What is dialled directly though there is a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exception {
    /// Addresses.
    Block(IpNet),
    /// A name, and all names below it; in lower case, without a dot at either end.
    Name(String),
}

impl Exception {
    /// Whether it excepts a target with these addresses; of a name that the proxy resolves there are none.
    pub fn covers(&self, target: &Target, addresses: &[IpAddr]) -> bool {
        match (self, target.host()) {
            (Self::Block(block), _) => {
                let is_inside = |address: &IpAddr| block.contains(&address.to_canonical());
                !addresses.is_empty() && addresses.iter().all(is_inside)
            }
            (Self::Name(excepted), TargetHost::Name(name)) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name.strip_suffix(excepted.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Self::Name(_), TargetHost::Address(_)) => false,
        }
    }
}

impl FromStr for Exception {
    type Err = String;

    /// Reads a block, an address, or a name, before which a dot may stand.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(block) = super::block(text) {
            return Ok(Self::Block(block));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Block(address.to_canonical().into()));
        }
        let name = text.trim_matches('.').to_ascii_lowercase();
        // What no target's host could be would silently except nothing.
        match Target::parse(&format!("http://{name}/")) {
            Ok(target) if matches!(target.host(), TargetHost::Name(host) if host == name) => {
                Ok(Self::Name(name))
            }
            _ => Err(format!(
                "{text:?} is no block of addresses such as 10.0.0.0/8, and no name such as intranet.example"
            )),
        }
    }
}

/// What an answer to a CONNECT means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The way is open.
    Open,
    /// The proxy's own rules forbid the target.
    Refused,
    /// The proxy could not reach the target.
    Unreachable,
    /// The proxy failed by itself: nothing is known of the target.
    OwnFailure,
}

/// What a proxy said.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectAnswer<'a> {
    /// The status code.
    pub status: u16,
    /// `Proxy-Status` (RFC 9209), where there is one.
    pub proxy_status: Option<&'a str>,
    /// `X-Squid-Error`, which Squid writes instead.
    pub squid_error: Option<&'a str>,
}

/// Errors of RFC 9209, section 2.3, that tell of the target.
const TARGETS_FAULTS: [&str; 8] = [
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
];

/// Squid's errors that tell of the target.
const SQUIDS_WORDS: [&str; 3] = ["ERR_CONNECT_FAIL", "ERR_DNS_FAIL", "ERR_READ_TIMEOUT"];

/// Judges an answer to a CONNECT. 502 and 504 tell of what lies behind the proxy (RFC 9110, section 15.6), and 503 of the
/// proxy itself unless it says otherwise.
pub fn judge(answer: ConnectAnswer<'_>) -> Verdict {
    let names_the_target = || {
        let words = answer.proxy_status.unwrap_or_default();
        let error = words.split(';').find_map(|part| part.trim().strip_prefix("error="));
        let squids = answer.squid_error.unwrap_or_default();
        error.is_some_and(|error| TARGETS_FAULTS.contains(&error.trim()))
            || SQUIDS_WORDS.iter().any(|word| squids.starts_with(word))
    };
    match answer.status {
        200..=299 => Verdict::Open,
        403 => Verdict::Refused,
        502 | 504 => Verdict::Unreachable,
        503 if names_the_target() => Verdict::Unreachable,
        _ => Verdict::OwnFailure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_blocks_and_names_with_all_below() {
        let check = |exception: &str, target: &str, addresses: &[&str], expected| {
            let exception: Exception = exception.parse().unwrap();
            let target = Target::parse(target).unwrap();
            let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(exception.covers(&target, &addresses), expected, "{exception:?} {target:?}");
        };
        check("10.0.0.0/8", "http://x.example/", &["10.1.2.3"], true);
        check("10.0.0.0/8", "http://x.example/", &["10.1.2.3", "11.0.0.1"], false);
        check("10.0.0.0/8", "http://x.example/", &[], false);
        check("10.1.2.3", "http://10.1.2.3/", &["10.1.2.3"], true);
        check("10.1.2.3", "http://[::ffff:10.1.2.3]/", &["::ffff:10.1.2.3"], true);
        check(".Corp.example", "http://corp.example/", &[], true);
        check("corp.example", "http://a.b.corp.example./", &[], true);
        check("corp.example", "http://notcorp.example/", &[], false);
        check("corp.example", "http://10.1.2.3/", &["10.1.2.3"], false);
        for bad in ["", ".", "a b", "http://x", "*.x", "x:80", "10.0.0.0/33"] {
            assert!(bad.parse::<Exception>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proxys_own_failure_is_told_from_the_targets() {
        let check = |status, proxy_status, squid_error, expected| {
            let answer = ConnectAnswer { status, proxy_status, squid_error };
            assert_eq!(judge(answer), expected, "{answer:?}");
        };
        check(200, None, None, Verdict::Open);
        check(403, None, None, Verdict::Refused);
        check(502, None, None, Verdict::Unreachable);
        check(504, None, None, Verdict::Unreachable);
        check(503, None, None, Verdict::OwnFailure);
        check(503, Some("squid; error=connection_refused"), None, Verdict::Unreachable);
        check(503, Some("p; error=proxy_internal_error"), None, Verdict::OwnFailure);
        check(503, None, Some("ERR_CONNECT_FAIL 111"), Verdict::Unreachable);
        check(503, None, Some("ERR_CANNOT_FORWARD 0"), Verdict::OwnFailure);
        for status in [100, 301, 400, 401, 404, 405, 407, 429, 500, 501, 505] {
            check(status, None, None, Verdict::OwnFailure);
        }
    }
}
