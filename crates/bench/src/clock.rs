//! The one place where the bench reads time: a count of nanoseconds that all its threads share.
#![allow(
    clippy::disallowed_methods,
    reason = "whoever measures reads the clock, in this file alone"
)]

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

use postrider_kernel::Timestamp;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment, in nanoseconds since the bench first looked at the clock. It only goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// How long after `earlier` this was; zero if it wasn't.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment and `duration` more.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0 + u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2))
    }
}

/// Now.
pub fn now() -> Nanos {
    Nanos(u64::try_from(STARTED.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// The wall clock: what signatures and prepared rows carry.
pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(0).plus(since_epoch)
}
