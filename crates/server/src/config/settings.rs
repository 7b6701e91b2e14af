//! The table of options, and how each value is read and checked. Where values come from is not here.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use http::HeaderName;
use ipnet::IpNet;
use postrider_kernel::{
    RetrySchedule,
    egress::{self, Ports},
};
use url::Url;

use super::{Catalogue, Config, DatabaseUrl, LogFormat, NodeRole};
use crate::proxy::ProxyUrl;

/// One option of `serve`.
pub struct Setting {
    /// The key in the file: `data_dir`.
    pub key: &'static str,
    /// What the value is called in `--help`.
    pub value_name: &'static str,
    /// What it is for, in one sentence.
    pub help: &'static str,
    /// How it is written.
    pub form: Form,
    /// Its default, as it would be written on the command line.
    pub default: &'static str,
    take: fn(&mut Config, &str) -> Result<(), String>,
}

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One value.
    Value,
    /// One value that is never shown.
    Secret,
    /// Several: the option is repeated, the variable separates them by commas, the file has an array.
    List,
    /// True or false; the option's bare name means true.
    Switch,
}

impl Setting {
    /// The option's name without dashes in front: `data-dir`.
    pub fn option(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable: `POSTRIDER_DATA_DIR`.
    pub fn variable(&self) -> String {
        format!("POSTRIDER_{}", self.key.to_uppercase())
    }

    /// Reads a value, a list's values separated by commas, and puts it in its place.
    ///
    /// # Errors
    /// What a right value looks like.
    pub fn put(&self, config: &mut Config, text: &str) -> Result<(), String> {
        (self.take)(config, text)
    }
}

/// Every option of `serve` but `--config`, in the order of `--help` and of `postrider.example.toml`.
pub static SETTINGS: [Setting; 28] = [
    Setting {
        key: "listen",
        value_name: "ADDR",
        help: "Where the API listens; port 0 takes a free one",
        form: Form::Value,
        default: "127.0.0.1:8080",
        take: |config, text| {
            put(&mut config.listen, parse(text, "an address with a port, such as 127.0.0.1:8080"))
        },
    },
    Setting {
        key: "tls_cert",
        value_name: "FILE",
        help: "The API's chain of certificates in PEM form, its own first: then it is served over https; a renewal is noticed",
        form: Form::Value,
        default: "",
        take: |config, text| put(&mut config.tls_cert, Ok(path(text))),
    },
    Setting {
        key: "tls_key",
        value_name: "FILE",
        help: "The key of --tls-cert, in PEM form",
        form: Form::Value,
        default: "",
        take: |config, text| put(&mut config.tls_key, Ok(path(text))),
    },
    Setting {
        key: "public_url",
        value_name: "URL",
        help: "What links in answers begin with, where a proxy hides it; empty: taken from the request",
        form: Form::Value,
        default: "",
        take: |config, text| put(&mut config.public_url, public_url(text)),
    },
    Setting {
        key: "data_dir",
        value_name: "DIR",
        help: "Where the database, the master key and the admin token are kept",
        form: Form::Value,
        default: "./postrider-data",
        take: |config, text| put(&mut config.data_dir, Ok(text.into())),
    },
    Setting {
        key: "database_url",
        value_name: "URL",
        help: "The Postgres that many nodes share, postgres://…; without one, the database is a file in the data directory",
        form: Form::Secret,
        default: "",
        take: |config, text| put(&mut config.database_url, DatabaseUrl::parse(text)),
    },
    Setting {
        key: "role",
        value_name: "ROLE",
        help: "What this node does, of those that share a Postgres: all, api (accepts, and never delivers), or worker",
        form: Form::Value,
        default: "all",
        take: |config, text| put(&mut config.role, role(text)),
    },
    Setting {
        key: "egress_allow",
        value_name: "CIDR",
        help: "Lets deliveries reach these addresses though they are private, loopback or otherwise not public",
        form: Form::List,
        default: "",
        take: |config, text| put(&mut config.egress.allowed, blocks(text)),
    },
    Setting {
        key: "egress_deny",
        value_name: "CIDR",
        help: "Keeps deliveries from these addresses, whatever else allows them",
        form: Form::List,
        default: "",
        take: |config, text| put(&mut config.egress.denied, blocks(text)),
    },
    Setting {
        key: "egress_ports",
        value_name: "PORTS",
        help: "The only ports that deliveries may reach, such as 443 or 8000-8999; none: every port",
        form: Form::List,
        default: "",
        take: |config, text| put(&mut config.egress.ports, ports(text)),
    },
    Setting {
        key: "require_https",
        value_name: "BOOL",
        help: "Whether the target of an endpoint has to be https",
        form: Form::Switch,
        default: "false",
        take: |config, text| put(&mut config.egress.requires_https, parse(text, "true or false")),
    },
    Setting {
        key: "egress_proxy",
        value_name: "URL",
        help: "The HTTP proxy that deliveries go through by CONNECT, http://user:password@host:port",
        form: Form::Secret,
        default: "",
        take: |config, text| put(&mut config.egress_proxy, ProxyUrl::parse(text)),
    },
    Setting {
        key: "egress_proxy_except",
        value_name: "HOST",
        help: "What deliveries reach without the proxy: blocks of addresses, and names with all that is below them",
        form: Form::List,
        default: "",
        take: |config, text| put(&mut config.egress_proxy_except, list(text)),
    },
    Setting {
        key: "egress_proxy_vets",
        value_name: "BOOL",
        help: "Whether the proxy is told names instead of vetted addresses, and alone decides what they may lead to",
        form: Form::Switch,
        default: "false",
        take: |config, text| put(&mut config.egress_proxy_vets, parse(text, "true or false")),
    },
    Setting {
        key: "dns_server",
        value_name: "ADDR",
        help: "Who resolves the names of targets, an address with or without a port; none: the system's configuration",
        form: Form::List,
        default: "",
        take: |config, text| put(&mut config.dns_servers, dns_servers(text)),
    },
    Setting {
        key: "ca_file",
        value_name: "FILE",
        help: "Root certificates in PEM form that receivers may be certified by, besides those of the system",
        form: Form::Value,
        default: "",
        take: |config, text| put(&mut config.ca_file, Ok(path(text))),
    },
    Setting {
        key: "signature_header",
        value_name: "NAME",
        help: "The header that carries the timestamped list of signatures",
        form: Form::Value,
        default: "Postrider-Signature",
        take: |config, text| put(&mut config.signature_header, signature_header(text)),
    },
    Setting {
        key: "retry_schedule",
        value_name: "SECONDS",
        help: "The waits after the failed tries of a delivery, fractions allowed; one more try than waits",
        form: Form::List,
        default: "5,25,125,625,3125",
        take: |config, text| {
            let schedule = RetrySchedule::from_str(text).map_err(|error| error.to_string());
            put(&mut config.retry_schedule, schedule)
        },
    },
    Setting {
        key: "connect_timeout",
        value_name: "SECONDS",
        help: "How long a connection may take to come about: look-up, TCP and TLS together",
        form: Form::Value,
        default: "5",
        take: |config, text| put(&mut config.connect_timeout, seconds(text)),
    },
    Setting {
        key: "request_timeout",
        value_name: "SECONDS",
        help: "How long a whole try may take, the connection included",
        form: Form::Value,
        default: "20",
        take: |config, text| put(&mut config.request_timeout, seconds(text)),
    },
    Setting {
        key: "endpoint_concurrency",
        value_name: "N",
        help: "Requests in flight to one endpoint, at most",
        form: Form::Value,
        default: "32",
        take: |config, text| put(&mut config.endpoint_concurrency, whole(text, 1..=10_000)),
    },
    Setting {
        key: "concurrency",
        value_name: "N",
        help: "Requests in flight in all, at most; each needs a file descriptor",
        form: Form::Value,
        default: "1024",
        take: |config, text| put(&mut config.concurrency, whole(text, 1..=60_000)),
    },
    Setting {
        key: "retention",
        value_name: "DAYS",
        help: "How long events and attempts are kept, fractions allowed",
        form: Form::Value,
        default: "30",
        take: |config, text| put(&mut config.retention, days(text)),
    },
    Setting {
        key: "trusted_proxy",
        value_name: "CIDR",
        help: "Proxies in front of the API, whose X-Forwarded-* headers are believed",
        form: Form::List,
        default: "",
        take: |config, text| put(&mut config.trusted_proxies, blocks(text)),
    },
    Setting {
        key: "log_format",
        value_name: "FORMAT",
        help: "How logs are written to standard error: text, json, or auto, which is text on a terminal",
        form: Form::Value,
        default: "auto",
        take: |config, text| put(&mut config.log_format, log_format(text)),
    },
    Setting {
        key: "body_limit",
        value_name: "BYTES",
        help: "The largest body of a request to the API, and so the largest event; a bulk of events may have 16 MiB",
        form: Form::Value,
        default: "1048576",
        take: |config, text| put(&mut config.body_limit, whole(text, 1024..=256 * 1024 * 1024)),
    },
    Setting {
        key: "require_password",
        value_name: "BOOL",
        help: "Whether revealing and expiring a signing secret needs the password of the user who asks",
        form: Form::Switch,
        default: "false",
        take: |config, text| put(&mut config.require_password, parse(text, "true or false")),
    },
    Setting {
        key: "catalogue",
        value_name: "LIST",
        help: "The event types of the tenant that the first start makes: community, none, or a JSON file",
        form: Form::Value,
        default: "community",
        take: |config, text| put(&mut config.catalogue, Ok(Catalogue::from_text(text))),
    },
];

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

fn parse<T: FromStr>(text: &str, expected: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("expected {expected}"))
}

fn public_url(text: &str) -> Result<Option<Url>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_base = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    let url = Url::parse(text).ok().filter(is_base);
    url.map(Some).ok_or_else(|| {
        "expected an http or https URL without user, query and fragment, such as https://hooks.example.com".to_owned()
    })
}

fn role(text: &str) -> Result<NodeRole, String> {
    match text {
        "all" => Ok(NodeRole::All),
        "api" => Ok(NodeRole::Api),
        "worker" => Ok(NodeRole::Worker),
        _ => Err("expected all, api or worker".to_owned()),
    }
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

fn blocks(text: &str) -> Result<Vec<IpNet>, String> {
    each(text, |part| {
        let wrong = || format!("{part:?} is no block of addresses such as 10.0.0.0/8 or ::1/128");
        egress::block(part).ok_or_else(wrong)
    })
}

fn list<T: FromStr<Err = String>>(text: &str) -> Result<Vec<T>, String> {
    each(text, str::parse)
}

/// Reads values that commas separate.
fn each<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(read).collect()
}

fn ports(text: &str) -> Result<Ports, String> {
    let port = |text: &str| text.trim().parse().ok().filter(|port| *port > 0);
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = port(first)?..=port(last)?;
        (!range.is_empty()).then_some(range)
    };
    let read = |part: &str| {
        range(part).ok_or_else(|| {
            format!("{part:?} is no port from 1 to 65535, and no range such as 8000-8999")
        })
    };
    each(text, read).map(Ports)
}

fn dns_servers(text: &str) -> Result<Vec<SocketAddr>, String> {
    let with_port = |part: &str| part.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    each(text, |part| {
        part.parse().or_else(|_| with_port(part)).map_err(|_| {
            format!(
                "{part:?} is no address such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53"
            )
        })
    })
}

/// Headers that HTTP, or the request itself, already gives a meaning.
const TAKEN_HEADERS: [&str; 15] = [
    "accept",
    "authorization",
    "connection",
    "cookie",
    "date",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "forwarded",
];

/// The families of headers that are taken whole.
const TAKEN_PREFIXES: [&str; 5] = ["content-", "webhook-", "proxy-", "accept-", "sec-"];

fn signature_header(text: &str) -> Result<HeaderName, String> {
    let name: HeaderName = parse(text, "a header name, such as Postrider-Signature")?;
    let taken = TAKEN_HEADERS.contains(&name.as_str())
        || TAKEN_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix));
    if taken {
        Err(format!("{text} already has a meaning in a request; choose a name of your own"))
    } else {
        Ok(name)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    duration(text, 1.0, 3600.0, "a number of seconds above 0 and up to 3600")
}

fn days(text: &str) -> Result<Duration, String> {
    duration(text, 86_400.0, 36_500.0, "a number of days above 0 and up to 36500")
}

fn duration(text: &str, unit_seconds: f64, max: f64, expected: &str) -> Result<Duration, String> {
    match text.trim().parse::<f64>() {
        // A duration that is too short for a nanosecond would be none at all.
        Ok(number) if number * unit_seconds >= 1e-6 && number <= max => {
            Ok(Duration::from_secs_f64(number * unit_seconds))
        }
        _ => Err(format!("expected {expected}")),
    }
}

fn whole<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    let number = text.trim().parse().ok().filter(|number| range.contains(number));
    number
        .ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::fitting_stderr()),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected text, json or auto".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(key: &str) -> &'static Setting {
        SETTINGS.iter().find(|setting| setting.key == key).expect(key)
    }

    #[test]
    fn the_written_defaults_are_the_real_ones() {
        for setting in &SETTINGS {
            let mut config = Config::default();
            setting.put(&mut config, setting.default).expect(setting.key);
            assert_eq!(config, Config::default(), "{}", setting.key);
        }
    }

    #[test]
    fn values_are_checked() {
        let check = |key, good: &[&str], bad: &[&str]| {
            for text in good {
                assert_eq!(setting(key).put(&mut Config::default(), text), Ok(()), "{key} {text}");
            }
            for text in bad {
                assert!(
                    setting(key).put(&mut Config::default(), text).is_err(),
                    "{key} takes {text:?}"
                );
            }
        };
        check("listen", &["0.0.0.0:0", "[::1]:80"], &["", "8080", "localhost:80", "1.2.3.4"]);
        check(
            "public_url",
            &["", "https://x.example", "http://x.example/hooks/"],
            &["x.example", "ftp://x", "https://u@x", "https://x?y", "https://x#y"],
        );
        check(
            "database_url",
            &["", "postgres://u:p@h/d", "postgresql:///d"],
            &["h/d", "mysql://h"],
        );
        check("role", &["all", "api", "worker"], &["", "both"]);
        check("egress_allow", &["", "10.0.0.0/8", "127.0.0.1/32,::1/128"], &["10.0.0.0", "x/8"]);
        check(
            "egress_ports",
            &["", "443", "80,8000-8999"],
            &["0", "x", "2-1", "65536", "1-", "1-2-3"],
        );
        check("egress_proxy", &["", "http://u:p@proxy:3128"], &["proxy:3128", "https://proxy"]);
        check("egress_proxy_except", &["", "10.0.0.0/8,.corp.example"], &["a b", "*.example"]);
        check("dns_server", &["", "1.1.1.1,[::1]:5353", "::1"], &["ns.example", "1.1.1.1:x"]);
        check(
            "signature_header",
            &["X-Hook-Signature", "signature"],
            &["", "a b", "é", "Host", "Content-Type", "webhook-id", "Transfer-Encoding", "TE"],
        );
        check("retry_schedule", &["1", "0.05,0.1"], &["", "0", "5,,5", "5;25"]);
        check("connect_timeout", &["0.5", "3600"], &["", "0", "-1", "3601", "NaN", "inf", "5s"]);
        check("retention", &["1", "0.5"], &["0", "-1", "36501", "30d"]);
        check("concurrency", &["1", "60000"], &["0", "-1", "1.5", "60001", ""]);
        check("endpoint_concurrency", &["1"], &["0", "10001"]);
        check("body_limit", &["1024"], &["1023", "268435457", "1M"]);
        check("require_password", &["true", "false"], &["yes", "1", ""]);
        check("log_format", &["auto", "text", "json"], &["", "xml"]);
    }
}
