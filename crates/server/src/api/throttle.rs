//! How often anybody may ask: each credential, each address, and each address that shows credentials which don't hold.
//!
//! Requests are counted when they have passed the role's check, by credential and by address; the limits are generous, so
//! that a publisher at full speed doesn't meet them. Credentials that don't hold are counted by address, and many of them
//! lock that address for a while: then no credential that isn't already known to hold is looked at. What was checked before
//! goes on being served, so that nobody behind a shared address is locked out by a neighbour who guesses; behind a proxy
//! that the operator listed, addresses are the clients' own.
//!
//! Memory is bounded: of each kind the ten thousand that asked last are remembered. An address of IPv6 stands for its /64,
//! which is what one client has.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock as _,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use moka::sync::Cache;
use postrider_store::Actor;

use super::error::ApiError;
use crate::clock::Clock;

/// How many of each kind are remembered.
const REMEMBERED_MAX: u64 = 10_000;

/// How many credentials that don't hold an address may show at once, and after how long one more.
const WRONG_BURST: u32 = 20;
const WRONG_EVERY: Duration = Duration::from_secs(3);

/// Requests per second; none where there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of one credential.
    pub credential: Option<NonZeroU32>,
    /// Of one address.
    pub address: Option<NonZeroU32>,
}

/// Counts requests.
pub struct Throttle {
    credentials: Option<Buckets<String>>,
    addresses: Option<Buckets<IpAddr>>,
    wrong: Buckets<IpAddr>,
}

/// A bucket for each of those that asked last, which fills again as time goes by (GCRA).
struct Buckets<K> {
    quota: Quota,
    time: Time,
    remembered: Cache<K, Arc<Bucket>>,
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, Time, NoOpMiddleware<Duration>>;

/// The time that only goes forward, as buckets ask for it.
#[derive(Clone)]
struct Time(Arc<dyn Clock>);

impl governor::clock::Clock for Time {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Buckets<K> {
    fn new(quota: Quota, time: &Time) -> Self {
        Self { quota, time: time.clone(), remembered: Cache::new(REMEMBERED_MAX) }
    }

    /// Takes one, or says how long to wait for it.
    fn take(&self, key: K) -> Result<(), Duration> {
        let full = || Arc::new(RateLimiter::direct_with_clock(self.quota, self.time.clone()));
        let bucket = self.remembered.get_with(key, full);
        bucket.check().map_err(|refused| refused.wait_time_from(self.time.now()))
    }
}

impl Throttle {
    /// With these limits, by the clock's time that only goes forward.
    pub fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let time = Time(clock);
        // A second's worth may come at once.
        let quota = Quota::per_second;
        Self {
            credentials: limits.credential.map(|limit| Buckets::new(quota(limit), &time)),
            addresses: limits.address.map(|limit| Buckets::new(quota(limit), &time)),
            wrong: Buckets::new(wrong_quota(), &time),
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// Too many, by one or the other.
    pub fn count(&self, actor: Option<Actor>, address: Option<IpAddr>) -> Result<(), ApiError> {
        if let (Some(buckets), Some(actor)) = (&self.credentials, actor) {
            buckets.take(actor.to_string()).map_err(ApiError::Throttled)?;
        }
        if let (Some(buckets), Some(address)) = (&self.addresses, address) {
            buckets.take(client_of(address)).map_err(ApiError::Throttled)?;
        }
        Ok(())
    }

    /// Counts a credential that isn't known to hold, before it is looked at: looking takes time, and tries may come side by
    /// side. One that then holds is given back by [`Throttle::held`].
    ///
    /// # Errors
    /// Too many of that address didn't hold.
    pub fn count_unknown(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        let Some(address) = address else { return Ok(()) };
        self.wrong.take(client_of(address)).map_err(ApiError::Throttled)
    }

    /// A credential of that address held: it begins anew.
    pub fn held(&self, address: Option<IpAddr>) {
        if let Some(address) = address {
            self.wrong.remembered.invalidate(&client_of(address));
        }
    }
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Throttle(…)")
    }
}

fn wrong_quota() -> Quota {
    let burst = NonZeroU32::new(WRONG_BURST).unwrap_or(NonZeroU32::MIN);
    // The period isn't zero.
    Quota::with_period(WRONG_EVERY).unwrap_or(Quota::per_second(burst)).allow_burst(burst)
}

/// The client that an address stands for.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use postrider_kernel::TokenId;

    use super::*;
    use crate::clock::At;

    fn throttle(limits: Limits) -> (Throttle, Arc<At>) {
        let clock = Arc::new(At::new(Duration::from_secs(1_000)));
        (Throttle::new(limits, clock.clone()), clock)
    }

    #[test]
    fn each_credential_and_each_address_has_a_bucket_of_its_own() {
        let limits = Limits { credential: NonZeroU32::new(3), address: NonZeroU32::new(5) };
        let (throttle, clock) = throttle(limits);
        let ask = |token, address: &str| {
            let actor = Some(Actor::Token(TokenId::new(token)));
            throttle.count(actor, Some(address.parse().unwrap())).is_ok()
        };
        let of_one: Vec<bool> = (0..4).map(|_| ask(1, "192.0.2.1")).collect();
        assert_eq!(of_one, [true, true, true, false]);
        assert!(ask(2, "192.0.2.2"), "another credential, from elsewhere");
        assert_eq!((10..30).filter(|token| ask(*token, "2001:db8::1")).count(), 5);
        assert!(!ask(40, "2001:db8::2"), "a /64 is one client");
        assert!(ask(41, "2001:db8:0:1::1"), "the next /64 is another");
        clock.advance(Duration::from_millis(334));
        assert!(ask(1, "192.0.2.1"), "a third of a second later, one of three");
        assert!(!ask(1, "192.0.2.1"));
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let (throttle, _) = throttle(Limits::default());
        let (actor, address) = (Actor::Token(TokenId::new(1)), "192.0.2.1".parse().unwrap());
        assert!((0..1_000).all(|_| throttle.count(Some(actor), Some(address)).is_ok()));
    }

    #[test]
    fn wrong_credentials_lock_their_own_address_until_one_holds() {
        let (throttle, clock) = throttle(Limits::default());
        let one = Some("192.0.2.1".parse().unwrap());
        assert!((0..WRONG_BURST).all(|_| throttle.count_unknown(one).is_ok()));
        assert_eq!(throttle.count_unknown(one), Err(ApiError::Throttled(WRONG_EVERY)));
        assert_eq!(throttle.count_unknown(Some("192.0.2.2".parse().unwrap())), Ok(()));
        clock.advance(WRONG_EVERY);
        assert_eq!(throttle.count_unknown(one), Ok(()), "one more is looked at");
        assert_eq!(throttle.count_unknown(one), Err(ApiError::Throttled(WRONG_EVERY)));
        throttle.held(one);
        assert_eq!(throttle.count_unknown(one), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, _) = throttle(Limits::default());
        for host in 0..30_000_u32 {
            assert_eq!(throttle.count_unknown(Some(IpAddr::from(host.to_be_bytes()))), Ok(()));
        }
        throttle.wrong.remembered.run_pending_tasks();
        assert!(throttle.wrong.remembered.entry_count() <= REMEMBERED_MAX);
    }
}
