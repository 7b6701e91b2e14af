//! The one place where time and randomness are read. Everything else asks a [`Clock`], which a simulation replaces.
#![allow(clippy::disallowed_methods, reason = "this is the place the lint protects")]

use std::{
    pin::Pin,
    time::{Duration, Instant, SystemTime},
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
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    pub fn new() -> Self {
        Self { started: Instant::now() }
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
