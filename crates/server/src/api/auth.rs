//! Who asks: the credential of a request, and the tenant that it speaks for (`webhook-api-v2.md`, Credentials).
//!
//! A credential that held once is remembered for a while, since a publisher shows the same one on every request. What is
//! remembered ends with the credential's own time, and is forgotten as a whole when any account changes.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use moka::sync::Cache;
use postrider_kernel::{Role, TenantId, Timestamp, UserId, tenant::DEFAULT_TENANT};
use postrider_store::Actor;

use super::{error::ApiError, jwt};
use crate::{
    accounts::{self, TOKEN_PREFIX},
    app::App,
    directory::{Snapshot, TenantView},
};

/// How many credentials are remembered.
const REMEMBERED_MAX: u64 = 10_000;

/// The header by which an operator picks a tenant.
const TENANT_HEADER: &str = "postrider-tenant";

/// Who asks, and for which tenant.
#[derive(Clone, Debug)]
pub struct Credential {
    /// What it may do.
    pub role: Role,
    /// The tenant that the request is about, as of now.
    pub tenant: Arc<TenantView>,
    /// Who, for the audit log.
    pub actor: Actor,
    /// The user behind it, if there is one.
    pub user: Option<UserId>,
}

/// What a token was found to stand for.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// What it may do.
    pub role: Role,
    /// Whose it is.
    pub tenant: TenantId,
    /// Who, for the audit log.
    pub actor: Actor,
    /// The user behind it, if there is one.
    pub user: Option<UserId>,
    /// When it counts.
    pub validity: Validity,
}

/// From when until when something counts, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validity {
    /// The first moment.
    pub from: f64,
    /// The first moment at which it no longer counts.
    pub until: f64,
}

impl Validity {
    /// Whether it counts at that moment.
    pub fn holds(self, now: Timestamp) -> bool {
        let seconds = seconds_of(now);
        self.from <= seconds && seconds < self.until
    }
}

fn seconds_of(time: Timestamp) -> f64 {
    time.as_micros() as f64 / 1e6
}

/// Checks credentials, and remembers those that held.
#[derive(Debug)]
pub struct Credentials {
    remembered: Cache<[u8; 32], (u64, Identity)>,
    // Those that held when they were looked up last, also when everything else was forgotten: they are no guesses.
    held: Cache<[u8; 32], ()>,
    // Counts how often everything was forgotten. What was looked up before that must not be believed after it, and a
    // look-up may be under way in between: so each memory carries the count from before its look-up.
    generation: AtomicU64,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            remembered: Cache::new(REMEMBERED_MAX),
            held: Cache::new(REMEMBERED_MAX),
            generation: AtomicU64::new(0),
        }
    }
}

impl Credentials {
    /// Forgets everything: a user, a token or a JWT secret has changed, and the directory knows of it.
    pub fn forget_all(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.remembered.invalidate_all();
    }

    /// The credential of a request.
    pub async fn check(
        &self,
        app: &App,
        headers: &HeaderMap,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Credential, ApiError> {
        let identity = self.identity(app, presented(headers)?, address, now).await?;
        let snapshot = app.directory.snapshot();
        let tenant = match identity.role {
            Role::Operator => chosen_tenant(&snapshot, headers)?,
            _ => snapshot.tenant(identity.tenant).cloned().ok_or(ApiError::BadCredential)?,
        };
        let Identity { role, actor, user, .. } = identity;
        Ok(Credential { role, tenant, actor, user })
    }

    async fn identity(
        &self,
        app: &App,
        token: &str,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Identity, ApiError> {
        let hash = accounts::token_hash(token);
        let generation = self.generation.load(Ordering::Acquire);
        if let Some((known_at, identity)) = self.remembered.get(&hash)
            && known_at == generation
            && identity.validity.holds(now)
        {
            return Ok(identity);
        }
        // For an address that showed many which didn't hold, nothing is looked up for a while but what held before.
        let has_held = self.held.contains_key(&hash);
        if !has_held {
            app.throttle.count_unknown(address)?;
        }
        let identity = identify(app, token, hash, now).await.inspect_err(|error| {
            if matches!(error, ApiError::BadCredential | ApiError::TokenNotValid) {
                self.held.invalidate(&hash);
            }
        })?;
        if !has_held {
            self.held.insert(hash, ());
            app.throttle.held(address);
        }
        self.remembered.insert(hash, (generation, identity));
        Ok(identity)
    }
}

/// Tries each kind of credential in turn. OAuth access tokens will be one more arm.
async fn identify(
    app: &App,
    token: &str,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Identity, ApiError> {
    if jwt::looks_like_one(token) {
        jwt::verify(app, token, now).await
    } else if token.starts_with(TOKEN_PREFIX) {
        api_token(app, hash, now).await
    } else {
        Err(ApiError::BadCredential)
    }
}

async fn api_token(app: &App, hash: [u8; 32], now: Timestamp) -> Result<Identity, ApiError> {
    let token = app.store.token_by_hash(hash).await?.ok_or(ApiError::BadCredential)?;
    let validity = Validity {
        from: f64::NEG_INFINITY,
        until: token.expires_at.map_or(f64::INFINITY, seconds_of),
    };
    if token.revoked_at.is_some() || !validity.holds(now) {
        return Err(ApiError::BadCredential);
    }
    if let Some(user) = token.user
        && !app.store.user(user).await?.is_some_and(|user| user.is_active)
    {
        return Err(ApiError::BadCredential);
    }
    Ok(Identity {
        role: token.role,
        tenant: token.tenant,
        actor: Actor::Token(token.id),
        user: token.user,
        validity,
    })
}

/// The token that a request shows.
fn presented(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = lines.next().ok_or(ApiError::NotAuthenticated)?;
    if lines.next().is_some() {
        return Err(ApiError::BadCredential);
    }
    let mut words = line
        .as_bytes()
        .split(|byte| *byte == b' ' || *byte == b'\t')
        .filter(|word| !word.is_empty());
    let scheme = words.next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"bearer") && !scheme.eq_ignore_ascii_case(b"token") {
        return Err(ApiError::NotAuthenticated);
    }
    match (words.next(), words.next()) {
        (Some(token), None) => std::str::from_utf8(token).map_err(|_| ApiError::BadCredential),
        _ => Err(ApiError::BadCredential),
    }
}

/// The tenant that an operator's request is about.
fn chosen_tenant(snapshot: &Snapshot, headers: &HeaderMap) -> Result<Arc<TenantView>, ApiError> {
    let mut lines = headers.get_all(TENANT_HEADER).iter();
    let name = lines.next().map(HeaderValue::as_bytes);
    if lines.next().is_some() {
        return Err(ApiError::BadRequest("Postrider-Tenant was given more than once.".into()));
    }
    let name = std::str::from_utf8(name.unwrap_or(DEFAULT_TENANT.as_bytes()));
    name.ok().and_then(|name| snapshot.tenant_named(name)).cloned().ok_or(ApiError::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_read_from_one_authorization_header() {
        let check = |lines: &[&str], expected: Result<&str, ApiError>| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(AUTHORIZATION, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            assert_eq!(presented(&headers), expected, "{lines:?}");
        };
        check(&["Bearer prt_x"], Ok("prt_x"));
        check(&["bearer  prt_x"], Ok("prt_x"));
        check(&["TOKEN prt_x"], Ok("prt_x"));
        check(&[], Err(ApiError::NotAuthenticated));
        check(&[""], Err(ApiError::NotAuthenticated));
        check(&["Basic dXNlcjpwYXNz"], Err(ApiError::NotAuthenticated));
        check(&["prt_x"], Err(ApiError::NotAuthenticated));
        check(&["Bearer"], Err(ApiError::BadCredential));
        check(&["Bearer prt_x y"], Err(ApiError::BadCredential));
        check(&["Bearer prt_x", "Bearer prt_x"], Err(ApiError::BadCredential));
        check(&["Basic x", "Bearer prt_x"], Err(ApiError::BadCredential));
    }

    #[test]
    fn validity_has_a_beginning_and_an_end() {
        let validity = Validity { from: 100.0, until: 200.5 };
        let holds = |micros| validity.holds(Timestamp::from_micros(micros));
        assert!(holds(100_000_000) && holds(200_499_999));
        assert!(!holds(99_999_999) && !holds(200_500_000));
    }
}
