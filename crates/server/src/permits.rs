//! How many requests may be in flight: the permits of the instance, and the places of connections at rest.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::lanes::{First, Lane};

/// The instance's limits of requests in flight, and of connections that nobody uses.
///
/// A lane that has a request in flight needs a second permit for each further one, and of those there are fewer: endpoints
/// that take many permits, and their time, leave a part of them to the first requests of everybody else.
#[derive(Debug)]
pub struct Permits {
    concurrency: usize,
    all: Arc<Semaphore>,
    further: Arc<Semaphore>,
    idle: Arc<Semaphore>,
}

/// The right to have a request in flight.
#[derive(Debug)]
pub struct Permit {
    first: Option<First>,
    _further: Option<OwnedSemaphorePermit>,
    all: Unrecorded,
}

/// What is left of a permit once the answer is there: an attempt that is not on disk yet still counts. So while attempts
/// can't be written down, no more of them are made than there are permits.
pub type Unrecorded = OwnedSemaphorePermit;

impl Permits {
    /// Limits for so many requests in flight, and so many connections at rest.
    pub fn new(concurrency: usize, idle: usize) -> Self {
        Self {
            concurrency,
            all: Arc::new(Semaphore::new(concurrency)),
            further: Arc::new(Semaphore::new((concurrency - concurrency / 4).max(1))),
            idle: Arc::new(Semaphore::new(idle)),
        }
    }

    /// Waits for the right to have a request of this lane in flight.
    pub async fn permit(&self, lane: &Arc<Lane>) -> Option<Permit> {
        let first = lane.first();
        let mut _further = None;
        if first.is_none() {
            _further = Some(self.further.clone().acquire_owned().await.ok()?);
        }
        let all = self.all.clone().acquire_owned().await.ok()?;
        Some(Permit { first, _further, all })
    }

    /// How many attempts are in flight, or answered and not on disk yet.
    pub fn in_flight(&self) -> usize {
        self.concurrency.saturating_sub(self.all.available_permits())
    }

    /// Whether one more request could be in flight now.
    pub fn has_room(&self) -> bool {
        self.all.available_permits() > 0
    }

    /// A place among the connections that nobody uses, if there is one.
    pub fn place_for_idle(&self) -> Option<OwnedSemaphorePermit> {
        self.idle.clone().try_acquire_owned().ok()
    }
}

impl Permit {
    /// Whether it is the lane's first.
    pub fn is_first(&self) -> bool {
        self.first.is_some()
    }

    /// The answer is there: the receiver is free for others.
    pub fn answered(self) -> Unrecorded {
        self.all
    }
}
