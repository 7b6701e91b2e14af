//! The gate: why an expired secret signs nothing after the answer.
//!
//! A request starts when it is signed. Per endpoint there is a gate: signing a request and writing its head happen inside
//! it, together with others'. An expire (likewise a delete, a deactivation, a change of target) commits, swaps the
//! directory, and then drains the gate: it waits until those inside have left. Whoever enters later reads the new
//! directory, so that once the drain is over, nothing is signed by the old one any more.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, OwnedRwLockReadGuard, RwLock};

use crate::clock::Clock;

/// How long a drain waits for those inside, before it asks them to give up.
const PATIENCE: Duration = Duration::from_secs(1);

/// One endpoint's gate.
#[derive(Debug, Default)]
pub struct Gate {
    /// Tokio's lock is fair: whoever comes after a drain has begun waits until it is over.
    inside: Arc<RwLock<()>>,
    give_up: Arc<Notify>,
}

/// The right to sign and start one request. Dropped as soon as the head is on its way.
#[derive(Debug)]
pub struct Pass {
    _inside: OwnedRwLockReadGuard<()>,
    give_up: Arc<Notify>,
}

impl Gate {
    /// Enters, together with others; waits while the gate is being drained.
    pub async fn enter(&self) -> Pass {
        Pass { _inside: self.inside.clone().read_owned().await, give_up: self.give_up.clone() }
    }

    /// Waits until everybody who entered before has left. A straggler, whose receiver takes no bytes, is asked to give
    /// up after a second; its try is not counted.
    pub async fn drain(&self, clock: &dyn Clock) {
        let drained = self.inside.write();
        tokio::pin!(drained);
        loop {
            tokio::select! {
                biased;
                _ = &mut drained => return,
                () = clock.sleep(PATIENCE) => self.give_up.notify_waiters(),
            }
        }
    }
}

impl Pass {
    /// Ends when the holder has to give up.
    pub async fn gives_up(&self) {
        self.give_up.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use futures_util::{FutureExt, poll};
    use std::{pin::pin, task::Poll};

    #[tokio::test]
    async fn a_drain_waits_for_those_inside_and_holds_back_those_who_come() {
        let (gate, clock) = (Gate::default(), SystemClock::new());
        let (one, two) = (gate.enter().await, gate.enter().await);
        let mut drain = pin!(gate.drain(&clock));
        assert_eq!(poll!(&mut drain), Poll::Pending);
        let mut late = pin!(gate.enter());
        assert!(poll!(&mut late).is_pending(), "whoever comes waits for the drain");
        drop(one);
        assert_eq!(poll!(&mut drain), Poll::Pending);
        drop(two);
        assert_eq!(poll!(&mut drain), Poll::Ready(()));
        assert!(late.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_straggler_is_asked_to_give_up() {
        let (gate, clock) = (Arc::new(Gate::default()), SystemClock::new());
        let pass = gate.enter().await;
        let straggler = tokio::spawn(async move {
            pass.gives_up().await;
        });
        gate.drain(&clock).await;
        straggler.await.unwrap();
    }
}
