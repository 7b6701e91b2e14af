//! The life of this process on its store: the lease under which it claims, attempts and records, and its right to sign.
//!
//! On a store that it holds alone the lease is one, and the right has no end. Where many nodes share a store, a right runs
//! out unless it is renewed, which [`crate::node`] does; it is counted by the clock that nobody sets, from before the renewal
//! was asked for, so that it ends here before anybody else takes it for ended. A node that was stopped for a while finds
//! that it has none; one that lost its lease begins another life under another one, and what it held is no longer its own.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use postrider_store::{Lease, SIGNING};
use tokio::sync::Notify;

use crate::clock::Clock;

/// How much earlier than it was given a right to sign ends here, since no two clocks run equally fast.
const MARGIN: Duration = Duration::from_millis(50);

/// Until when a right lasts that has no end.
const FOREVER: u64 = u64::MAX;

/// How often whoever waits for the right looks by itself.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// This process's life.
#[derive(Debug)]
pub struct Life {
    lease: AtomicI64,
    /// In microseconds of the clock that only goes forward.
    signs_until: AtomicU64,
    is_doubted: AtomicBool,
    granted: Notify,
}

/// Why a delivery can't be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Its lease is that of an earlier life: it is, or may be, somebody else's.
    Lost,
    /// This life has no right to sign just now.
    NoRight,
}

impl Life {
    /// A life that may not sign yet.
    pub fn new(lease: Lease) -> Self {
        Self {
            lease: AtomicI64::new(lease.0),
            signs_until: AtomicU64::new(0),
            is_doubted: AtomicBool::new(false),
            granted: Notify::new(),
        }
    }

    /// The lease to claim under.
    pub fn lease(&self) -> Lease {
        Lease(self.lease.load(Ordering::Acquire))
    }

    /// Whether what is leased so may be signed now. Whoever asks has read the time that it signs with before.
    ///
    /// # Errors
    /// Why not.
    pub fn may_sign(&self, lease: Lease, clock: &dyn Clock) -> Result<(), Unfit> {
        if lease != self.lease() {
            return Err(Unfit::Lost);
        }
        if self.has_right(clock) { Ok(()) } else { Err(Unfit::NoRight) }
    }

    /// Waits until this life may sign.
    pub async fn right_to_sign(&self, clock: &dyn Clock) {
        while !self.has_right(clock) {
            tokio::select! {
                biased;
                () = self.granted.notified() => {}
                () = clock.sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Whether this life may sign just now.
    pub fn has_right(&self, clock: &dyn Clock) -> bool {
        let until = self.signs_until.load(Ordering::Acquire);
        until == FOREVER || clock.monotonic() < Duration::from_micros(until)
    }

    /// Nobody else works on this store: the right has no end.
    pub fn may_sign_forever(&self) {
        self.signs_until.store(FOREVER, Ordering::Release);
    }

    /// The right to sign was given, for [`SIGNING`] from some moment after this one of the clock that only goes forward.
    pub fn may_sign_from(&self, asked_at: Duration) {
        let until = (asked_at + SIGNING).saturating_sub(MARGIN).as_micros();
        self.signs_until.store(u64::try_from(until).unwrap_or(0), Ordering::Release);
        self.granted.notify_waiters();
    }

    /// The lease is lost: what was leased under it is no longer to be attempted, and nothing else is yet.
    pub fn ends(&self) {
        self.signs_until.store(0, Ordering::Release);
    }

    /// Something may be leased to this life of which it doesn't know: the answer to a claim was lost on its way, perhaps
    /// after the commit. Only another life sets that free.
    pub fn doubt(&self) {
        self.is_doubted.store(true, Ordering::Release);
    }

    /// Whether something may be leased to this life of which it doesn't know.
    pub fn is_doubted(&self) -> bool {
        self.is_doubted.load(Ordering::Acquire)
    }

    /// Another life begins. It may not sign yet.
    pub fn begins_again(&self, lease: Lease) {
        self.ends();
        self.is_doubted.store(false, Ordering::Release);
        self.lease.store(lease.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::At;

    #[test]
    fn a_right_ends_before_it_does_for_others_and_with_its_life() {
        let life = Life::new(Lease(7));
        let at = |millis| At::new(Duration::from_millis(millis));
        let check = |lease, millis, expected| {
            assert_eq!(life.may_sign(Lease(lease), &at(millis)), expected, "{lease} at {millis}");
        };
        check(7, 0, Err(Unfit::NoRight));
        life.may_sign_from(Duration::from_millis(500));
        check(7, 500, Ok(()));
        check(7, 1_449, Ok(()));
        check(7, 1_450, Err(Unfit::NoRight));
        check(6, 500, Err(Unfit::Lost));
        life.doubt();
        assert!(life.is_doubted());
        life.begins_again(Lease(8));
        assert!(!life.is_doubted());
        check(7, 500, Err(Unfit::Lost));
        check(8, 500, Err(Unfit::NoRight));
        life.may_sign_forever();
        check(8, u64::MAX / 2, Ok(()));
    }

    #[tokio::test]
    async fn whoever_waits_for_the_right_goes_on_once_it_is_given() {
        let life = Life::new(Lease(1));
        let clock = At::new(Duration::from_secs(3));
        let mut wait = std::pin::pin!(life.right_to_sign(&clock));
        assert!(futures_util::poll!(&mut wait).is_pending());
        life.may_sign_from(Duration::from_secs(3));
        wait.await;
    }
}
