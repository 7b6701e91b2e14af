//! The lanes: the deliveries of each endpoint, waiting their turn in memory.
//!
//! A lane is bounded, and so are all lanes together. Whoever wants to put a delivery in asks for a [`Slot`] first; where
//! there is none, the delivery stays in the store, pending, and costs no memory. [`crate::dispatch`] fills lanes from the
//! store, [`crate::publish`] puts fresh deliveries in directly, [`crate::deliver`] takes them out.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use postrider_kernel::{EndpointId, Outcome, TenantId, health::Window};
use postrider_store::ClaimedDelivery;
use tokio::sync::Notify;

use crate::gate::Gate;

/// How much may wait in memory.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Deliveries in one lane.
    pub lane_capacity: usize,
    /// Payload bytes in all lanes together. A payload that several lanes share counts in each.
    pub bytes: usize,
    /// Requests in flight to one endpoint.
    pub endpoint_concurrency: u32,
}

/// All lanes. They come to be when they are first asked for.
#[derive(Debug)]
pub struct Lanes {
    lanes: RwLock<HashMap<EndpointId, Arc<Lane>>>,
    bounds: Bounds,
    bytes_held: Arc<AtomicUsize>,
}

/// One endpoint's lane.
#[derive(Debug)]
pub struct Lane {
    /// Whose endpoint.
    pub tenant: TenantId,
    /// Which endpoint.
    pub endpoint: EndpointId,
    /// Signing for this endpoint happens inside.
    pub gate: Gate,
    state: Mutex<State>,
    /// Wakes a worker that waits for a delivery.
    work: Notify,
    bounds: Bounds,
    bytes_held: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Job>,
    /// Slots that were given out and are not filled yet.
    reserved: usize,
    /// Workers that live, and those of them that wait for a delivery.
    workers: u32,
    waiting: u32,
    window: Window,
    /// Whether the store holds due deliveries of this endpoint that found no room here.
    has_backlog: bool,
    /// Whether somebody is claiming from the store for this lane.
    is_claiming: bool,
}

/// A delivery in a lane, leased to this process.
#[derive(Debug)]
pub struct Job {
    /// What to deliver.
    pub delivery: ClaimedDelivery,
    bytes: Bytes,
}

/// Memory that is given back when the job is done.
#[derive(Debug)]
struct Bytes {
    held: Arc<AtomicUsize>,
    count: usize,
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.held.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// Room for one delivery in a lane. Dropped unfilled, it is free again.
#[derive(Debug)]
pub struct Slot {
    lane: Arc<Lane>,
    bytes: Option<Bytes>,
}

/// What a worker finds.
#[derive(Debug)]
pub enum Turn {
    /// A delivery, and whether the lane now has room that a claim should fill.
    Job(Box<Job>, Refill),
    /// Nothing to do.
    Empty,
    /// More workers live than the window allows: this one is to end.
    Retire,
}

/// Whether the store should be asked for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refill {
    /// The lane has run half empty, and the store holds more.
    Claim,
    /// Nothing to do.
    No,
}

impl Lanes {
    /// No lanes yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { lanes: RwLock::default(), bounds, bytes_held: Arc::default() }
    }

    /// An endpoint's lane.
    pub fn lane(&self, tenant: TenantId, endpoint: EndpointId) -> Arc<Lane> {
        if let Some(lane) = self.lanes.read().unwrap_or_else(PoisonError::into_inner).get(&endpoint)
        {
            return lane.clone();
        }
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(Lane::new(tenant, endpoint, self.bounds, self.bytes_held.clone()));
        lanes.entry(endpoint).or_insert_with(make).clone()
    }

    /// Forgets the lane of an endpoint that was deleted. What is in it ends with its workers.
    pub fn forget(&self, endpoint: EndpointId) {
        self.lanes.write().unwrap_or_else(PoisonError::into_inner).remove(&endpoint);
    }
}

impl Lane {
    fn new(
        tenant: TenantId,
        endpoint: EndpointId,
        bounds: Bounds,
        bytes_held: Arc<AtomicUsize>,
    ) -> Self {
        let state = State {
            queue: VecDeque::new(),
            reserved: 0,
            workers: 0,
            waiting: 0,
            window: Window::new(bounds.endpoint_concurrency),
            has_backlog: false,
            is_claiming: false,
        };
        Self {
            tenant,
            endpoint,
            gate: Gate::default(),
            state: Mutex::new(state),
            work: Notify::new(),
            bounds,
            bytes_held,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for room for a fresh delivery. While older ones wait in the store, half of the lane is theirs.
    pub fn reserve(self: &Arc<Self>, payload_bytes: usize) -> Option<Slot> {
        let mut state = self.state();
        let is_shared = state.has_backlog || state.is_claiming;
        let capacity =
            if is_shared { self.bounds.lane_capacity / 2 } else { self.bounds.lane_capacity };
        if state.queue.len() + state.reserved >= capacity {
            return None;
        }
        let bytes = self.hold(payload_bytes)?;
        state.reserved += 1;
        drop(state);
        Some(Slot { lane: self.clone(), bytes: Some(bytes) })
    }

    /// Counts bytes against the bound of all lanes.
    fn hold(&self, count: usize) -> Option<Bytes> {
        let before = self.bytes_held.fetch_add(count, Ordering::Relaxed);
        let bytes = Bytes { held: self.bytes_held.clone(), count };
        (before + count <= self.bounds.bytes).then_some(bytes)
    }

    /// Begins a claim: how many deliveries there is room for. `None` when there is no room, or somebody else is at it.
    pub fn begin_claim(&self) -> Option<u32> {
        let mut state = self.state();
        let room = self.bounds.lane_capacity.saturating_sub(state.queue.len() + state.reserved);
        if state.is_claiming || room == 0 {
            // Whoever runs this lane half empty asks again.
            state.has_backlog = true;
            return None;
        }
        state.is_claiming = true;
        // From here on the flag tells of what is added to the backlog while the claim is under way.
        state.has_backlog = false;
        // Small enough that neither the writer nor memory is held up by one endpoint.
        Some(u32::try_from(room.min(CLAIM_MAX)).unwrap_or(u32::MAX))
    }

    /// Ends a claim; `more` tells whether the store holds further deliveries that are due already.
    /// Returns whether the caller should claim again at once, because the lane still has much room.
    pub fn end_claim(self: &Arc<Self>, claimed: Vec<ClaimedDelivery>, more: bool) -> Refill {
        let mut state = self.state();
        state.is_claiming = false;
        state.has_backlog |= more;
        for delivery in claimed {
            // What was claimed is in memory already; the bound holds back the next claim.
            let count = delivery.payload.len();
            self.bytes_held.fetch_add(count, Ordering::Relaxed);
            let bytes = Bytes { held: self.bytes_held.clone(), count };
            state.queue.push_back(Job { delivery, bytes });
            self.work.notify_last();
        }
        self.refill(&state)
    }

    fn refill(&self, state: &State) -> Refill {
        let is_half_empty = state.queue.len() + state.reserved <= self.bounds.lane_capacity / 2;
        let has_memory =
            self.bytes_held.load(Ordering::Relaxed) < self.bounds.bytes || state.queue.is_empty();
        if state.has_backlog && !state.is_claiming && is_half_empty && has_memory {
            Refill::Claim
        } else {
            Refill::No
        }
    }

    /// Notes that the store holds due deliveries which found no room here.
    pub fn note_backlog(&self) {
        self.state().has_backlog = true;
    }

    /// Takes on a worker, if there is more to do than workers wait and the window allows one more.
    pub fn hire(&self) -> bool {
        let mut state = self.state();
        let waiting = usize::try_from(state.waiting).unwrap_or(usize::MAX);
        let hires = state.queue.len() > waiting && state.workers < state.window.width();
        state.workers += u32::from(hires);
        hires
    }

    /// What a worker is to do now.
    pub fn turn(&self) -> Turn {
        let mut state = self.state();
        if state.workers > state.window.width() {
            state.workers -= 1;
            return Turn::Retire;
        }
        match state.queue.pop_front() {
            None => Turn::Empty,
            Some(job) => {
                let refill = self.refill(&state);
                Turn::Job(Box::new(job), refill)
            }
        }
    }

    /// Whether a delivery waits here.
    pub fn has_work(&self) -> bool {
        !self.state().queue.is_empty()
    }

    /// Waits until there may be a delivery to take.
    pub async fn wait(&self) {
        let mut notified = std::pin::pin!(self.work.notified());
        let _waiting = {
            let mut state = self.state();
            if !state.queue.is_empty() {
                return;
            }
            // Whatever is pushed once the lock is released finds this worker waiting, and wakes it.
            notified.as_mut().enable();
            state.waiting += 1;
            Waiting(self)
        };
        notified.await;
    }

    /// A worker ends because it has nothing to do; refused when there is something after all.
    pub fn dismiss(&self) -> bool {
        let mut state = self.state();
        let leaves = state.queue.is_empty();
        state.workers -= u32::from(leaves);
        leaves
    }

    /// A worker ended without asking: the service stops, or it panicked.
    pub fn lose_worker(&self) {
        let mut state = self.state();
        state.workers = state.workers.saturating_sub(1);
    }

    /// Adjusts how many requests may be in flight.
    pub fn observe(&self, outcome: &Outcome) {
        let mut state = self.state();
        state.window = state.window.after(outcome);
    }

    /// Takes everything out: the endpoint was deactivated, or the service stops.
    pub fn clear(&self) -> Vec<Job> {
        self.state().queue.drain(..).collect()
    }
}

/// The most deliveries that one claim takes.
const CLAIM_MAX: usize = 128;

/// Counts a worker as waiting for as long as it does, also when its wait is cut short.
struct Waiting<'a>(&'a Lane);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl Slot {
    /// The lane.
    pub fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Puts a delivery into the room that was kept for it.
    pub fn fill(mut self, delivery: ClaimedDelivery) {
        if let Some(bytes) = self.bytes.take() {
            let mut state = self.lane.state();
            state.reserved -= 1;
            state.queue.push_back(Job { delivery, bytes });
            let wakes = state.waiting > 0;
            drop(state);
            if wakes {
                // The worker that waited last has the warmest connection.
                self.lane.work.notify_last();
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.bytes.take().is_some() {
            self.lane.state().reserved -= 1;
        }
    }
}

impl Job {
    /// The payload bytes that this job holds in memory.
    pub fn bytes(&self) -> usize {
        self.bytes.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use postrider_kernel::{DeliveryId, EventId, Failure, Trigger, attempt::Cause};
    use std::pin::pin;

    const BOUNDS: Bounds = Bounds { lane_capacity: 4, bytes: 100, endpoint_concurrency: 4 };

    fn delivery(id: i64, payload_bytes: usize) -> ClaimedDelivery {
        ClaimedDelivery {
            id: DeliveryId::new(id),
            tenant: TenantId::new(1),
            endpoint: EndpointId::new(1),
            event: EventId::new(id),
            payload: vec![b'x'; payload_bytes].into(),
            trigger: Trigger::Schedule,
            attempts_made: 0,
        }
    }

    fn lanes() -> (Lanes, Arc<Lane>) {
        let lanes = Lanes::new(BOUNDS);
        let lane = lanes.lane(TenantId::new(1), EndpointId::new(1));
        (lanes, lane)
    }

    #[test]
    fn a_full_lane_has_no_slot() {
        let (_lanes, lane) = lanes();
        let mut slots: Vec<_> = (0..4).map(|_| lane.reserve(1).unwrap()).collect();
        assert!(lane.reserve(1).is_none());
        drop(slots.pop());
        let slot = lane.reserve(1).expect("an unfilled slot is free again");
        slot.fill(delivery(1, 1));
        assert!(lane.reserve(1).is_none());
        assert!(
            matches!(lane.turn(), Turn::Job(job, Refill::No) if job.delivery.id == DeliveryId::new(1))
        );
        assert!(lane.reserve(1).is_some());
    }

    #[test]
    fn memory_is_bounded_over_all_lanes() {
        let (lanes, one) = lanes();
        let two = lanes.lane(TenantId::new(2), EndpointId::new(2));
        let slot = one.reserve(60).unwrap();
        assert!(two.reserve(60).is_none(), "60 + 60 bytes are over the bound of 100");
        assert!(two.reserve(40).is_some());
        slot.fill(delivery(1, 60));
        let Turn::Job(job, _) = one.turn() else { panic!("there is a job") };
        assert!(two.reserve(60).is_none(), "a job holds its bytes while it is worked on");
        assert_eq!(job.bytes(), 60);
        drop(job);
        assert!(two.reserve(60).is_some());
    }

    #[test]
    fn older_deliveries_in_the_store_get_half_of_the_lane() {
        let (_lanes, lane) = lanes();
        lane.note_backlog();
        let slots: Vec<_> = (0..2).map(|_| lane.reserve(1).unwrap()).collect();
        assert!(lane.reserve(1).is_none(), "the other half is for what waits in the store");
        assert_eq!(lane.begin_claim(), Some(2));
        assert_eq!(lane.begin_claim(), None, "one claim at a time");
        assert_eq!(lane.end_claim(vec![delivery(7, 1), delivery(8, 1)], true), Refill::No);
        assert_eq!(lane.begin_claim(), None, "the lane is full");
        drop(slots);
        assert!(
            matches!(lane.turn(), Turn::Job(_, Refill::Claim)),
            "half empty, and the store holds more"
        );
        assert_eq!(lane.begin_claim(), Some(3));
        assert_eq!(lane.end_claim(Vec::new(), false), Refill::No);
        assert!(matches!(lane.turn(), Turn::Job(_, Refill::No)));
    }

    #[test]
    fn workers_are_hired_for_work_within_the_window() {
        let (_lanes, lane) = lanes();
        assert!(!lane.hire(), "there is nothing to do");
        for id in 0..4 {
            lane.reserve(1).unwrap().fill(delivery(id, 1));
        }
        assert!((0..4).all(|_| lane.hire()));
        assert!(!lane.hire(), "the window is 4");
        let silent = Outcome::Unanswered(Failure::new(Cause::Timeout, ""));
        lane.observe(&silent);
        assert!(matches!(lane.turn(), Turn::Retire) && matches!(lane.turn(), Turn::Retire));
        assert!(matches!(lane.turn(), Turn::Job(..)));
        assert!(!lane.dismiss(), "there is still work");
        assert_eq!(lane.clear().len(), 3);
        assert!(lane.dismiss());
    }

    #[tokio::test]
    async fn a_waiting_worker_is_woken_and_not_doubled() {
        let (_lanes, lane) = lanes();
        let mut wait = pin!(lane.wait());
        assert!(poll!(&mut wait).is_pending());
        lane.reserve(1).unwrap().fill(delivery(1, 1));
        assert!(!lane.hire(), "somebody waits for it already");
        assert!(poll!(&mut wait).is_ready());
        lane.reserve(1).unwrap().fill(delivery(2, 1));
        assert!(lane.hire(), "the one that was woken is busy");
    }
}
