//! What faults are tried on: the real binary in a process of its own, publishers that remember what they were told, and
//! receivers that remember what came. Plain threads and sockets, so that nothing here shares code with what is tried.

pub mod client;
pub mod ledger;
pub mod publishers;
pub mod receiver;
pub mod server;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;

/// The event type of all events here.
pub const TYPE: &str = "comment.created";

/// How long anything may take that should happen by itself.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Time that only goes forward.
#[allow(clippy::disallowed_methods, reason = "no simulation runs in here")]
pub fn now() -> Instant {
    Instant::now()
}

/// Lets others run before the next look, or slows a load down.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Waits until a condition holds; it is named in the error.
pub fn wait_until(
    what: &str,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let start = now();
    while !holds()? {
        if start.elapsed() > PATIENCE {
            bail!("after {PATIENCE:?} still not: {what}");
        }
        pause(LOOK);
    }
    Ok(())
}

/// Waits until a number has come to `goal`, for as long as it grows.
pub fn wait_for_count(what: &str, goal: usize, count: impl Fn() -> usize) -> anyhow::Result<()> {
    let (mut seen, mut since) = (count(), now());
    while seen < goal {
        pause(LOOK);
        let latest = count();
        if latest > seen {
            (seen, since) = (latest, now());
        } else if since.elapsed() > PATIENCE {
            bail!("{seen} of {goal} {what}, and none came for {PATIENCE:?}");
        }
    }
    Ok(())
}

/// A lock whose holder may have panicked; what it guards here is never half done.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
