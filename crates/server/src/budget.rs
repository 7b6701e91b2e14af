//! How many payload bytes wait in memory: bounded for all lanes together, and for each lane to a share.
//!
//! The share keeps one endpoint's backlog from taking all memory; beyond the bound, a lane that holds nothing may still
//! hold one payload, so that none is stopped by the others. Where even that is used up, deliveries wait in the store.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A lane's share of the bound is one part in so many.
const SHARES: usize = 8;

/// Up to so many times the bound, a lane that holds nothing may hold one payload.
const RESERVE: usize = 2;

/// The bound of all lanes.
#[derive(Debug)]
pub struct Budget {
    held: AtomicUsize,
    bytes_max: usize,
}

/// One lane's part in it.
#[derive(Clone, Debug)]
pub struct Share {
    budget: Arc<Budget>,
    held: Arc<AtomicUsize>,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub struct Held {
    share: Share,
    bytes: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), bytes_max })
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// A share that holds nothing yet.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { budget: self.clone(), held: Arc::default() }
    }
}

impl Share {
    /// How many bytes may be added. A share that holds nothing is told of one byte where there is room for a payload at
    /// most.
    pub fn room(&self) -> usize {
        let (own, all) =
            (self.held.load(Ordering::Relaxed), self.budget.held.load(Ordering::Relaxed));
        let bytes_max = self.budget.bytes_max;
        let room = (bytes_max / SHARES).saturating_sub(own).min(bytes_max.saturating_sub(all));
        let may_have_one = own == 0 && all < bytes_max * RESERVE;
        room.max(usize::from(may_have_one))
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.load(Ordering::Relaxed) == 0
    }

    /// Holds a payload, if there is room for it.
    pub fn hold(&self, bytes: usize) -> Option<Held> {
        let room = self.room();
        let has_room = bytes <= room || (room > 0 && self.is_empty());
        has_room.then(|| self.hold_anyway(bytes))
    }

    /// Holds what is in memory already.
    pub fn hold_anyway(&self, bytes: usize) -> Held {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        Held { share: self.clone(), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.share.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lane_has_its_share_and_no_more() {
        let budget = Budget::new(800);
        let (greedy, other) = (budget.share(), budget.share());
        let held = greedy.hold(60).unwrap();
        assert_eq!(greedy.room(), 40);
        assert!(greedy.hold(41).is_none());
        assert_eq!(other.room(), 100);
        drop(held);
        assert_eq!(greedy.room(), 100);
    }

    #[test]
    fn beyond_the_bound_an_empty_lane_may_hold_one_payload() {
        let budget = Budget::new(800);
        let hoarders: Vec<_> = (0..8).map(|_| budget.share().hold_anyway(100)).collect();
        let late = budget.share();
        assert_eq!(late.room(), 1);
        let held = late.hold(500).expect("one payload, whatever its size");
        assert!(late.hold(1).is_none());
        assert!(budget.share().hold(300).is_some(), "1,300 of 1,600 are held");
        let _more = budget.share().hold_anyway(300);
        assert_eq!(budget.share().room(), 0, "at twice the bound there is no room for anybody");
        drop((hoarders, held));
        assert_eq!(budget.share().room(), 100);
    }
}
