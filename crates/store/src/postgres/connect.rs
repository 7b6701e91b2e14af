//! How Postgres is reached: the URL, and the settings that the promises rest on.

use std::{str::FromStr, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use super::tls::{MakeTls, Trust};
use crate::{Result, StoreError};

/// How long to wait for a connection, be it a free one or a new one, before the store counts as unavailable.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);

/// How long nothing may be heard of the other side before a connection counts as cut.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Settings of every session.
///
/// A commit is on disk before it is answered, whatever the database's default. A node that stops in the middle of a
/// transaction would keep its locks from everybody else: its session is ended. Every statement was written for an index
/// that is there, so that no plan is made while a table happens to be small which is kept until it is large; and none is
/// worth compiling.
const SETTINGS: &[&str] = &[
    "synchronous_commit=on",
    "default_transaction_isolation=read\\ committed",
    "idle_in_transaction_session_timeout=5s",
    "tcp_user_timeout=15s",
    "tcp_keepalives_idle=10",
    "enable_seqscan=off",
    "enable_bitmapscan=off",
    "enable_hashjoin=off",
    "enable_mergejoin=off",
    "jit=off",
];

/// Where Postgres is, and how to get there.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) tls: MakeTls,
}

impl Address {
    /// Reads a URL, `postgres://user:password@host:5432/database?sslmode=verify-full`. Its texts are libpq's; of those
    /// about TLS, `sslmode` and `sslrootcert` are known.
    pub(super) fn parse(url: &str) -> Result<Self> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(unusable("it begins with postgres://"));
        }
        let (rest, wanted) = take_tls_parameters(url)?;
        let mut config = Config::from_str(&rest).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            unusable(&format!("{error}{}", cause.unwrap_or_default()))
        })?;
        let (ssl_mode, trust) = wanted.read()?;
        let is_local = |host: &Host| !matches!(host, Host::Tcp(_));
        let all_are_local = config.get_hosts().iter().all(is_local);
        // As with libpq: what doesn't leave the machine isn't encrypted, whatever the mode.
        config.ssl_mode(if all_are_local { SslMode::Disable } else { ssl_mode });
        configure(&mut config);
        Ok(Self { config, tls: MakeTls::new(trust)? })
    }

    /// A pool of at most so many connections; none is made before it is needed.
    pub(super) fn pool(&self, size: usize) -> Result<Pool> {
        let method = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), method);
        let wait = Some(CONNECTION_WAIT);
        Pool::builder(manager)
            .max_size(size)
            .timeouts(Timeouts { wait, create: wait, recycle: wait })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Unavailable(format!("no pool of connections: {error}")))
    }
}

fn configure(config: &mut Config) {
    let theirs = config.get_options().unwrap_or_default().to_owned();
    let ours = SETTINGS.iter().map(|setting| format!(" -c {setting}"));
    config.options(theirs + &ours.collect::<String>());
    if config.get_application_name().is_none() {
        config.application_name("postrider");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECTION_WAIT);
    }
    config.keepalives_idle(SILENCE_MAX);
    config.keepalives_interval(Duration::from_secs(3)).keepalives_retries(3);
    config.tcp_user_timeout(SILENCE_MAX);
}

/// What a URL says about TLS.
#[derive(Default)]
struct Wanted {
    mode: Option<String>,
    roots: Option<String>,
}

impl Wanted {
    fn read(self) -> Result<(SslMode, Trust)> {
        let roots = self.roots.filter(|roots| roots != "system");
        Ok(match self.mode.as_deref().unwrap_or("prefer") {
            "disable" => (SslMode::Disable, Trust::Anyone),
            "prefer" => (SslMode::Prefer, Trust::Anyone),
            // With roots at hand, libpq checks the certificate even here.
            "require" if roots.is_none() => (SslMode::Require, Trust::Anyone),
            "require" | "verify-ca" => (SslMode::Require, Trust::IssuedBy(roots)),
            "verify-full" => (SslMode::Require, Trust::HostOf(roots)),
            _ => {
                return Err(unusable(
                    "sslmode is disable, prefer, require, verify-ca or verify-full",
                ));
            }
        })
    }
}

/// Parts what a URL says about TLS from the rest, which the client library reads.
fn take_tls_parameters(url: &str) -> Result<(String, Wanted)> {
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), Wanted::default()));
    };
    let (mut rest, mut wanted) = (Vec::new(), Wanted::default());
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", value)) => wanted.mode = Some(decode(value)?),
            Some(("sslrootcert", value)) => wanted.roots = Some(decode(value)?),
            _ => rest.push(parameter),
        }
    }
    let rest = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((rest, wanted))
}

fn decode(value: &str) -> Result<String> {
    let decoded = percent_encoding::percent_decode_str(value).decode_utf8();
    Ok(decoded.map_err(|_| unusable("a parameter is not UTF-8"))?.into_owned())
}

/// The URL itself isn't told: it has the password in it.
fn unusable(reason: &str) -> StoreError {
    StoreError::Inconsistent(format!("the database's URL can't be used: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Result<SslMode> {
        Address::parse(url).map(|address| address.config.get_ssl_mode())
    }

    #[test]
    fn a_url_says_how_to_encrypt() {
        let check = |query: &str, expected| {
            assert_eq!(mode(&format!("postgres://u@h/d{query}")).unwrap(), expected, "{query}");
        };
        check("", SslMode::Prefer);
        check("?connect_timeout=3", SslMode::Prefer);
        assert_eq!(mode("postgres://u@%2Frun/d?sslmode=require").unwrap(), SslMode::Disable);
        check("?sslmode=disable", SslMode::Disable);
        check("?connect_timeout=3&sslmode=require", SslMode::Require);
        check("?sslmode=verify-ca&sslrootcert=system", SslMode::Require);
        check("?sslrootcert=system&sslmode=verify-full", SslMode::Require);
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_telling_it() {
        for (url, says) in [
            ("host=h password=secret", "begins with postgres://"),
            ("postgres://u:secret@h/d?sslmode=allow", "sslmode is disable"),
            ("postgres://u:secret@h/d?sslcert=x", "sslcert"),
            ("postgres://u:secret@h/d?sslmode=verify-full&sslrootcert=%2Fnowhere", "/nowhere"),
        ] {
            let said = mode(url).unwrap_err().to_string();
            assert!(said.contains(says) && !said.contains("secret"), "{said}");
        }
    }
}
