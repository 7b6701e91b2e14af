//! The one place where time and randomness are read. Everything else asks a [`Clock`], which a simulation replaces.
#![allow(clippy::disallowed_methods, reason = "this is the place the lint protects")]

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use postrider_kernel::{Timestamp, retry::Jitter};

/// Time and entropy.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. It may jump; nothing but what is written down or shown is computed from it.
    fn now(&self) -> Timestamp;

    /// Time that only goes forward, since some fixed moment.
    fn monotonic(&self) -> Duration;

    /// Waits.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Fills a buffer with random bytes, good enough for keys.
    fn fill(&self, buffer: &mut [u8]);
}

/// An array of random bytes.
pub fn entropy<const N: usize>(clock: &dyn Clock) -> [u8; N] {
    let mut bytes = [0; N];
    clock.fill(&mut bytes);
    bytes
}

/// The jitter of one retry.
pub fn jitter(clock: &dyn Clock) -> Jitter {
    Jitter::from_entropy(u64::from_ne_bytes(entropy(clock)))
}

/// The machine's own clock and random source.
#[derive(Debug)]
pub struct SystemClock {
    /// Where the system's time since its start can't be had.
    #[cfg(not(target_os = "linux"))]
    started: std::time::Instant,
}

impl SystemClock {
    /// The machine's clock.
    pub fn new() -> Self {
        Self {
            #[cfg(not(target_os = "linux"))]
            started: std::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(0).plus(since_epoch)
    }

    /// The time in which the machine slept counts: a right that ran out meanwhile has run out.
    #[cfg(target_os = "linux")]
    fn monotonic(&self) -> Duration {
        let since_start = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Neither is ever negative.
        let seconds = u64::try_from(since_start.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(since_start.tv_nsec).unwrap_or(0))
    }

    #[cfg(not(target_os = "linux"))]
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn fill(&self, buffer: &mut [u8]) {
        // A machine without a random source can't make a secret, and must not go on with a guessable one.
        aws_lc_rs::rand::fill(buffer).expect("the system's random source works");
    }
}

/// This machine's clock, its time of day put right by the one that many machines share. Between two answers of that it goes
/// by the time that only goes forward, so that nobody who sets this machine's clock is noticed.
pub struct SharedClock {
    own: Arc<dyn Clock>,
    /// The shared time of day, in microseconds, at the moment from which the own time is counted.
    began_at: AtomicI64,
}

impl SharedClock {
    /// A clock that was asked for the shared time at `asked_at`, by the own time that only goes forward, and told `now`.
    pub fn new(own: Arc<dyn Clock>, asked_at: Duration, now: Timestamp) -> Self {
        // As if the answer had taken no time to come: rather behind than ahead.
        let began_at = AtomicI64::new(now.minus(own.monotonic()).as_micros());
        let clock = Self { own, began_at };
        clock.heed(asked_at, now);
        clock
    }

    /// The shared time was `now` at some moment since `asked_at`. What is known stays where that can be; so the time doesn't
    /// jump with every answer that took a little longer.
    pub fn heed(&self, asked_at: Duration, now: Timestamp) {
        let latest = now.minus(asked_at).as_micros();
        let earliest = now.minus(self.own.monotonic()).as_micros();
        let known = self.began_at.load(Ordering::Relaxed);
        self.began_at.store(known.clamp(earliest.min(latest), latest), Ordering::Relaxed);
    }
}

impl Clock for SharedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.began_at.load(Ordering::Relaxed)).plus(self.own.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.own.monotonic()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.own.sleep(duration)
    }

    fn fill(&self, buffer: &mut [u8]) {
        self.own.fill(buffer);
    }
}

/// A clock for tests, whose time that only goes forward stands where it was put.
#[cfg(test)]
pub struct At(std::sync::Mutex<Duration>);

#[cfg(test)]
impl At {
    /// Stands at `monotonic`.
    pub fn new(monotonic: Duration) -> Self {
        Self(monotonic.into())
    }

    /// Goes forward.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

#[cfg(test)]
impl Clock for At {
    fn now(&self) -> Timestamp {
        SystemClock::new().now()
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }

    fn fill(&self, _: &mut [u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_time_is_kept_until_it_can_not_be() {
        let own = Arc::new(SystemClock::new());
        let year = Timestamp::from_micros(1_700_000_000_000_000);
        let clock = SharedClock::new(own.clone(), own.monotonic(), year);
        let seen = clock.now();
        assert!(year.until(seen) < Duration::from_secs(60), "{seen}");
        // An answer that took long, and leaves the time open by more than it could be wrong.
        clock.heed(Duration::ZERO, seen);
        assert!(clock.now() >= seen && seen.until(clock.now()) < Duration::from_secs(60));
        // It was set by an hour.
        let later = seen.plus(Duration::from_secs(3_600));
        clock.heed(own.monotonic(), later);
        assert!(clock.now() >= later.minus(Duration::from_secs(60)), "{}", clock.now());
    }
}
