//! Where a request comes from, and under which URL the client sees us. `X-Forwarded-*` counts only when a proxy that the
//! operator listed has written it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Uri, header::HOST, uri::Authority};
use ipnet::IpNet;
use url::Url;

use crate::app::ApiOptions;

/// The client's address: the peer's, or what trusted proxies say of it.
///
/// Each proxy appends the address that it was called from, so the list is read from its end: the first address that is
/// no trusted proxy is the last one that somebody trusted has seen.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let mut client = peer;
    let lists: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|list| list.to_str().ok()).collect();
    for hop in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
        let Some(address) = parse_hop(hop.trim()) else { break };
        client = address;
        if !is_trusted(address, trusted) {
            break;
        }
    }
    client
}

/// The absolute URL of a request, without its query.
pub fn absolute_url(
    options: &ApiOptions,
    peer: Option<IpAddr>,
    uri: &Uri,
    headers: &HeaderMap,
) -> String {
    let path = uri.path();
    if let Some(public) = &options.public_url {
        return format!("{}{path}", public.as_str().trim_end_matches('/'));
    }
    let is_proxied = peer.is_some_and(|peer| is_trusted(peer, &options.trusted_proxies));
    // Of several values the last one is what the nearest proxy has written.
    let forwarded = |name: &str| -> Option<&str> {
        let list = headers.get_all(name).iter().next_back().filter(|_| is_proxied)?;
        list.to_str().ok()?.rsplit(',').next().map(str::trim)
    };
    let is_scheme = |scheme: &&str| ["http", "https"].contains(scheme);
    let scheme = forwarded("x-forwarded-proto").filter(is_scheme);
    let scheme = scheme.unwrap_or(if options.is_https { "https" } else { "http" });
    let host = forwarded("x-forwarded-host")
        .filter(is_host)
        .or(uri.authority().map(Authority::as_str))
        .or_else(|| headers.get(HOST)?.to_str().ok().filter(is_host))
        // HTTP/1.0 may leave the host out.
        .unwrap_or("localhost");
    format!("{scheme}://{host}{path}")
}

/// Whether a request was sent to a name that is ours, where the operator named one: a page that a browser was made to
/// believe to be ours by DNS has a name of its own. An address is no such name, and a trusted proxy knows whom it serves.
pub fn is_ours(options: &ApiOptions, peer: Option<IpAddr>, uri: &Uri, headers: &HeaderMap) -> bool {
    let Some(public) = options.public_url.as_ref().and_then(Url::host_str) else { return true };
    if peer.is_some_and(|peer| is_trusted(peer, &options.trusted_proxies)) {
        return true;
    }
    let host = uri.authority().cloned().or_else(|| headers.get(HOST)?.to_str().ok()?.parse().ok());
    // HTTP/1.0 may leave the host out; what can't be read is nobody's name.
    let Some(host) = host else { return !headers.contains_key(HOST) };
    let name = host.host();
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    is_address || name.eq_ignore_ascii_case(public)
}

fn is_host(text: &&str) -> bool {
    text.parse::<Authority>().is_ok() && !text.contains('@')
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|block| block.contains(&address))
}

/// An address as proxies write one: plain, or with a port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().map(|address: SocketAddr| address.ip());
    let bracketed = text.trim_start_matches('[').trim_end_matches(']');
    bracketed.parse().or_else(|_| with_port()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    }

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_proxies_alone() {
        let check = |peer: &str, forwarded: &[&str], expected: &str| {
            let mut map = HeaderMap::new();
            for line in forwarded {
                map.append("x-forwarded-for", line.parse().unwrap());
            }
            let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
            let found = client_address(peer.parse().unwrap(), &map, &trusted);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {forwarded:?}");
        };
        check("1.2.3.4", &["9.9.9.9"], "1.2.3.4");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["9.9.9.9"], "9.9.9.9");
        check("::ffff:10.0.0.1", &["9.9.9.9"], "9.9.9.9");
        check("10.0.0.1", &["6.6.6.6, 9.9.9.9, 10.0.0.2"], "9.9.9.9");
        check("10.0.0.1", &["6.6.6.6", "9.9.9.9", "10.0.0.2"], "9.9.9.9");
        check("10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3");
        check("10.0.0.1", &["9.9.9.9, nonsense"], "10.0.0.1");
        check("10.0.0.1", &["9.9.9.9:80"], "9.9.9.9");
        check("fd00::1", &["[2606:4700::1]:80"], "2606:4700::1");
        check("fd00::1", &["[2606:4700::1]"], "2606:4700::1");
    }

    #[test]
    fn a_name_that_is_not_ours_is_refused_and_addresses_are_not() {
        let options = |public: Option<&str>| ApiOptions {
            public_url: public.map(|url| url.parse().unwrap()),
            is_https: false,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            body_limit: 0,
            require_password: false,
            idempotency_window: Duration::ZERO,
        };
        let check = |public, peer: &str, host: &str, expected: bool| {
            let (peer, headers) = (Some(peer.parse().unwrap()), headers(&[("host", host)]));
            let ours = is_ours(&options(public), peer, &Uri::from_static("/api/"), &headers);
            assert_eq!(ours, expected, "{public:?} {host}");
        };
        let public = Some("https://hooks.example/base/");
        check(None, "1.2.3.4", "whatever.example", true);
        for ours in ["hooks.example", "HOOKS.example:8443", "127.0.0.1:8080", "[::1]", "192.0.2.1"]
        {
            check(public, "1.2.3.4", ours, true);
        }
        for other in ["rebound.example", "localhost", "hooks.example.evil.example", "", "a b"] {
            check(public, "1.2.3.4", other, false);
        }
        check(public, "10.0.0.1", "inner", true);
    }

    #[test]
    fn links_are_built_from_what_the_client_sees() {
        let check =
            |public: Option<&str>, peer: &str, lines: &[(&'static str, &str)], expected: &str| {
                let options = ApiOptions {
                    is_https: false,
                    public_url: public.map(|url| url.parse().unwrap()),
                    trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
                    body_limit: 0,
                    require_password: false,
                    idempotency_window: Duration::ZERO,
                };
                let uri = Uri::from_static("/api/?limit=5");
                let peer = Some(peer.parse().unwrap());
                assert_eq!(absolute_url(&options, peer, &uri, &headers(lines)), expected);
            };
        let forwarded = [
            ("host", "inner:8080"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "hooks.example"),
        ];
        check(None, "1.2.3.4", &[("host", "host:8080")], "http://host:8080/api/");
        check(None, "1.2.3.4", &forwarded, "http://inner:8080/api/");
        check(None, "10.0.0.1", &forwarded, "https://hooks.example/api/");
        check(None, "10.0.0.1", &[("x-forwarded-proto", "gopher")], "http://localhost/api/");
        check(Some("https://public.example"), "1.2.3.4", &forwarded, "https://public.example/api/");
        check(
            Some("https://public.example/hooks/"),
            "1.2.3.4",
            &[],
            "https://public.example/hooks/api/",
        );
    }
}
