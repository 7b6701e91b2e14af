//! An endpoint's target: the URL that receives its POSTs.

use std::{fmt, net::IpAddr};

use thiserror::Error;
use url::{Host, Url};

/// The longest target, in characters.
pub const TARGET_LENGTH_MAX: usize = 2_000;

/// The longest description, in characters.
pub const DESCRIPTION_LENGTH_MAX: usize = 1_000;

/// An http or https URL without user and password. Shown as it was written; dialled as the URL standard reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    written: String,
    url: Url,
}

/// Why a text is not a [`Target`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidTarget {
    /// More than [`TARGET_LENGTH_MAX`] characters.
    #[error("a target has at most {TARGET_LENGTH_MAX} characters")]
    TooLong,
    /// Not an absolute http or https URL.
    #[error("a target is an absolute http or https URL")]
    NotAUrl,
    /// It carries a user or a password, which would be shown to everyone who sees the endpoint.
    #[error("a target has no user or password")]
    HasCredentials,
}

impl Target {
    /// Checks a URL.
    pub fn parse(text: &str) -> Result<Self, InvalidTarget> {
        if text.chars().count() > TARGET_LENGTH_MAX {
            return Err(InvalidTarget::TooLong);
        }
        // The URL standard drops tabs and line breaks and trims; a target means what it shows, so none may be there.
        // It also reads `http:host` and backslashes as if slashes were there.
        let is_plain = !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\');
        let scheme_length = text.find("://").ok_or(InvalidTarget::NotAUrl)?;
        let scheme_is_http = ["http", "https"]
            .iter()
            .any(|scheme| text[..scheme_length].eq_ignore_ascii_case(scheme));
        let has_authority = !text[scheme_length + 3..].starts_with(['/', '?', '#']);
        if !is_plain || !scheme_is_http || !has_authority {
            return Err(InvalidTarget::NotAUrl);
        }
        let url = Url::parse(text).map_err(|_| InvalidTarget::NotAUrl)?;
        let authority = &text[scheme_length + 3..];
        let authority = &authority[..authority.find(['/', '?', '#']).unwrap_or(authority.len())];
        if authority.contains('@') {
            return Err(InvalidTarget::HasCredentials);
        }
        let host_is_sound = match url.host() {
            None => false,
            Some(Host::Domain(name)) => is_host_name(name),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        };
        if !host_is_sound || url.port() == Some(0) {
            return Err(InvalidTarget::NotAUrl);
        }
        Ok(Self { written: text.to_owned(), url })
    }

    /// The URL as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether the connection is made with TLS.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The host to dial: a name, in ASCII, or a literal address.
    pub fn host(&self) -> TargetHost<'_> {
        match self.url.host() {
            Some(Host::Ipv4(address)) => TargetHost::Address(address.into()),
            Some(Host::Ipv6(address)) => TargetHost::Address(address.into()),
            Some(Host::Domain(name)) => TargetHost::Name(name),
            // `parse` refuses a URL without a host.
            None => TargetHost::Name(""),
        }
    }

    /// The port to dial.
    pub fn port(&self) -> u16 {
        // http and https both have a default port.
        self.url.port_or_known_default().unwrap_or(80)
    }

    /// What the `Host` header says: the host, and the port unless it is the scheme's own.
    pub fn host_header(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The request's path and query. A fragment is the client's own business and is not sent.
    pub fn path_and_query(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }
}

/// Whether a name, in ASCII, can be in the DNS as a host (RFC 1123, section 2.1); a dot at its end is allowed.
fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label_is_sound = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label_is_sound)
}

/// Where a target points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetHost<'a> {
    /// A literal address; no resolver is asked.
    Address(IpAddr),
    /// A name to resolve, in ASCII.
    Name(&'a str),
}

impl fmt::Display for TargetHost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets_are_http_urls() {
        for good in [
            "https://receiver.example/hooks",
            "http://127.0.0.1:9000",
            "HTTPS://receiver.example/a?b=c%20d#frag",
            "http://[::1]:80/@",
            "http://bücher.example/ü",
            "http://localhost/",
        ] {
            assert_eq!(
                Target::parse(good).map(|target| target.as_str().to_owned()),
                Ok(good.to_owned())
            );
        }
        for bad in [
            "",
            "receiver.example",
            "ftp://receiver.example/",
            "http:receiver.example",
            "http:///x",
            "http://",
            "//receiver.example",
            "http://a b/",
            "http://a\tb/",
            "http://a\nb/",
            "http://a\\b/",
            "http://[::1",
            "http://x:99999/",
            "http://x:0/",
            "javascript:alert(1)",
            "http://?",
            "http://#x",
            "http://a..b/",
            "http://./",
            "http://-a.example/",
            "http://a-.example/",
            "http://a_b.example/",
            "http://*.x/",
            "http://a,b/",
        ] {
            assert_eq!(Target::parse(bad), Err(InvalidTarget::NotAUrl), "{bad:?}");
        }
        for credentials in
            ["http://user@x/", "http://user:password@x/", "http://:p@x/", "http://@x/"]
        {
            assert_eq!(
                Target::parse(credentials),
                Err(InvalidTarget::HasCredentials),
                "{credentials}"
            );
        }
        let of_length = |n: usize| format!("http://x/{}", "é".repeat(n - 9));
        assert!(Target::parse(&of_length(2000)).is_ok());
        assert_eq!(Target::parse(&of_length(2001)), Err(InvalidTarget::TooLong));
    }

    #[test]
    fn what_is_dialled_and_what_is_sent() {
        let check = |text: &str, host: TargetHost<'_>, port, header: &str, path: &str| {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.host(), target.port()), (host, port), "{text}");
            assert_eq!(
                (target.host_header().as_str(), target.path_and_query().as_str()),
                (header, path),
                "{text}"
            );
        };
        let address = |text: &str| TargetHost::Address(text.parse().unwrap());
        check(
            "https://Receiver.example",
            TargetHost::Name("receiver.example"),
            443,
            "receiver.example",
            "/",
        );
        check(
            "http://receiver.example:8080/a?b#c",
            TargetHost::Name("receiver.example"),
            8080,
            "receiver.example:8080",
            "/a?b",
        );
        check("http://[::1]:81/", address("::1"), 81, "[::1]:81", "/");
        // However an IPv4 address is spelled, it is the address that is judged.
        for spelling in
            ["http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/"]
        {
            check(spelling, address("127.0.0.1"), 80, "127.0.0.1", "/");
        }
    }

    proptest! {
        #[test]
        fn a_target_reads_back_the_same_and_fits_into_a_request(
            text in "(http|HTTPS)://([a-z0-9.-]{1,12}|\\[[0-9a-f:.]{2,12}\\]|[0-9x.]{1,15}|\\PC{1,8})(:[0-9]{0,6})?(/\\PC{0,12})?(\\?\\PC{0,8})?(#.{0,4})?",
        ) {
            if let Ok(target) = Target::parse(&text) {
                prop_assert_eq!(target.as_str(), &text);
                prop_assert_eq!(&Target::parse(target.as_str()).unwrap(), &target);
                let head = format!("POST {} HTTP/1.1 {}", target.path_and_query(), target.host_header());
                prop_assert!(head.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", head);
                prop_assert_eq!(head.split(' ').count(), 4, "{}", head);
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            if let Ok(target) = Target::parse(&text) {
                prop_assert!(!target.host_header().is_empty() && target.path_and_query().starts_with('/'));
            }
        }
    }
}
