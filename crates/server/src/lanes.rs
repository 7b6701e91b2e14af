//! The lanes: the deliveries of each endpoint, waiting their turn in memory.
//!
//! A lane is bounded, and so are all lanes together. Whoever wants to put a delivery in asks for a [`Slot`] first; where
//! there is none, the delivery stays in the store, pending, and costs no memory. [`crate::dispatch`] fills lanes from the
//! store, [`crate::publish`] puts fresh deliveries in directly, [`crate::deliver`] takes them out.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use postrider_kernel::{EndpointId, Outcome, TenantId, health::Window};
use postrider_store::ClaimedDelivery;
use tokio::sync::Notify;

use crate::{
    budget::{Budget, Held, Share},
    gate::Gate,
    pace::{Busy, Pace},
};

/// How much may wait in memory.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Deliveries in one lane.
    pub lane_capacity: usize,
    /// Payload bytes in all lanes together. A payload that several lanes share counts in each.
    pub bytes: usize,
    /// Requests in flight to one endpoint.
    pub endpoint_concurrency: u32,
    /// How many processors this machine has, which is what quick receivers share.
    pub processors: u32,
}

/// All lanes. They come to be when they are first asked for.
#[derive(Debug)]
pub struct Lanes {
    lanes: RwLock<HashMap<EndpointId, Arc<Lane>>>,
    bounds: Bounds,
    budget: Arc<Budget>,
    busy: Arc<Busy>,
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
    /// Wakes publishers that wait for the lane to catch up.
    caught_up: Notify,
    bounds: Bounds,
    share: Share,
    busy: Arc<Busy>,
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
    /// Whether one of the workers has the lane's first place.
    has_first: bool,
    pace: Pace,
    /// Whether this lane is counted among the busy ones.
    is_busy: bool,
}

/// A delivery in a lane, leased to this process.
#[derive(Debug)]
pub struct Job {
    /// What to deliver.
    pub delivery: ClaimedDelivery,
    _held: Held,
}

/// Room for one delivery in a lane. Dropped unfilled, it is free again.
#[derive(Debug)]
pub struct Slot {
    lane: Arc<Lane>,
    held: Option<Held>,
}

/// What a claim finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The claim is begun, for so many deliveries with so many payload bytes.
    Claim {
        /// Deliveries, at most.
        count: u32,
        /// Payload bytes, at most, though one delivery is always taken.
        bytes: usize,
    },
    /// There is no room, or somebody else is claiming: this lane asks again by itself.
    Asks,
    /// There is no memory for this lane, which holds none: ask again later.
    Later,
}

/// A lane's first place: the request that is sent though the instance is busy with endpoints that have many in flight.
#[derive(Debug)]
pub struct First(Arc<Lane>);

impl Drop for First {
    fn drop(&mut self) {
        self.0.state().has_first = false;
    }
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
        Self {
            lanes: RwLock::default(),
            bounds,
            budget: Budget::new(bounds.bytes),
            busy: Busy::new(bounds.processors),
        }
    }

    /// An endpoint's lane.
    pub fn lane(&self, tenant: TenantId, endpoint: EndpointId) -> Arc<Lane> {
        if let Some(lane) = self.lanes.read().unwrap_or_else(PoisonError::into_inner).get(&endpoint)
        {
            return lane.clone();
        }
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        let make =
            || Lane::new(tenant, endpoint, self.bounds, self.budget.share(), self.busy.clone());
        lanes.entry(endpoint).or_insert_with(|| Arc::new(make())).clone()
    }

    /// How many payload bytes wait in memory.
    pub fn bytes_held(&self) -> usize {
        self.budget.held()
    }

    /// How many deliveries wait in all lanes together.
    pub fn depth(&self) -> usize {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        lanes.values().map(|lane| lane.state().queue.len()).sum()
    }

    /// An endpoint's lane, if it has one already.
    pub fn find(&self, endpoint: EndpointId) -> Option<Arc<Lane>> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).get(&endpoint).cloned()
    }

    /// Drops what waits in all lanes: it is no longer leased to this process.
    pub fn clear(&self) {
        for lane in self.lanes.read().unwrap_or_else(PoisonError::into_inner).values() {
            lane.clear();
        }
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
        share: Share,
        busy: Arc<Busy>,
    ) -> Self {
        let state = State {
            queue: VecDeque::new(),
            reserved: 0,
            workers: 0,
            waiting: 0,
            window: Window::new(bounds.endpoint_concurrency),
            has_backlog: false,
            is_claiming: false,
            has_first: false,
            pace: Pace::default(),
            is_busy: false,
        };
        Self {
            tenant,
            endpoint,
            gate: Gate::default(),
            state: Mutex::new(state),
            work: Notify::new(),
            caught_up: Notify::new(),
            bounds,
            share,
            busy,
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
        if state.held() >= capacity {
            return None;
        }
        let held = self.share.hold(payload_bytes)?;
        state.reserved += 1;
        self.count(&mut state);
        drop(state);
        Some(Slot { lane: self.clone(), held: Some(held) })
    }

    /// Waits until the lane has caught up, if it is behind though its receiver is prompt: then this machine is what is
    /// slow, and a publisher that is slowed down now is better served than one whose events queue. For a receiver that
    /// takes its time nobody waits, since that is its own business.
    pub async fn catch_up(&self) {
        loop {
            let mut caught_up = std::pin::pin!(self.caught_up.notified());
            caught_up.as_mut().enable();
            if !self.is_behind(&self.state()) {
                return;
            }
            caught_up.await;
        }
    }

    /// Notes that somebody waited for this lane in vain: its receiver may have stopped answering, and until it has proved
    /// prompt again nobody waits for it.
    pub fn give_up_waiting(&self) {
        let mut state = self.state();
        if self.is_behind(&state) {
            state.pace = state.pace.doubted();
            self.caught_up.notify_waiters();
        }
    }

    /// Begins a claim, if there is room for what it may bring.
    pub fn begin_claim(&self) -> Begun {
        let mut state = self.state();
        let room = self.bounds.lane_capacity.saturating_sub(state.held());
        let bytes = self.share.room();
        if state.is_claiming || room == 0 || bytes == 0 {
            // Whoever runs this lane half empty asks again; but nobody runs a lane that holds nothing.
            state.has_backlog = true;
            let holds_something = state.is_claiming || !self.share.is_empty();
            return if holds_something { Begun::Asks } else { Begun::Later };
        }
        state.is_claiming = true;
        // From here on the flag tells of what is added to the backlog while the claim is under way.
        state.has_backlog = false;
        // Small enough that neither the writer nor memory is held up by one endpoint.
        Begun::Claim { count: u32::try_from(room.min(CLAIM_MAX)).unwrap_or(u32::MAX), bytes }
    }

    /// Ends a claim; `more` tells whether the store holds further deliveries that are due already.
    /// Returns whether the caller should claim again at once, because the lane still has much room.
    pub fn end_claim(self: &Arc<Self>, claimed: Vec<ClaimedDelivery>, more: bool) -> Refill {
        let mut state = self.state();
        state.is_claiming = false;
        state.has_backlog |= more;
        for delivery in claimed {
            let held = self.share.hold_anyway(delivery.payload.len());
            state.queue.push_back(Job { delivery, _held: held });
            self.work.notify_last();
        }
        self.count(&mut state);
        self.refill(&state)
    }

    fn refill(&self, state: &State) -> Refill {
        let is_half_empty = state.held() <= self.bounds.lane_capacity / 2;
        // Without memory the claim is put off, and made again by itself; where this lane holds something, whoever works on
        // that asks again instead.
        let may_claim = self.share.room() > 0 || self.share.is_empty();
        if state.has_backlog && !state.is_claiming && is_half_empty && may_claim {
            Refill::Claim
        } else {
            Refill::No
        }
    }

    /// Whether the store should be asked for more, now that a worker has nothing left to do and its memory is free.
    pub fn wants_more(&self) -> Refill {
        self.refill(&self.state())
    }

    /// Takes the lane's first place, unless another worker has it.
    pub fn first(self: &Arc<Self>) -> Option<First> {
        let was_taken = std::mem::replace(&mut self.state().has_first, true);
        (!was_taken).then(|| First(self.clone()))
    }

    /// Notes that the store holds due deliveries which found no room here.
    pub fn note_backlog(&self) {
        self.state().has_backlog = true;
    }

    /// Takes on a worker, if there is more to do than workers wait and this lane may have one more in flight. Where there is
    /// no room for its request, a further one would only wait beside those that the lane has.
    pub fn hire(&self, has_room: impl FnOnce() -> bool) -> bool {
        let mut state = self.state();
        let waiting = usize::try_from(state.waiting).unwrap_or(usize::MAX);
        let hires = state.queue.len() > waiting
            && state.workers < state.window.width().min(self.busy.width(state.pace))
            && (state.workers == 0 || has_room());
        state.workers += u32::from(hires);
        hires
    }

    /// What a worker is to do now. The one that has the first place is never retired, since others may be waiting for
    /// permits that they don't get.
    pub fn turn(&self, is_first: bool) -> Turn {
        let mut state = self.state();
        // A little more than its share, so that a lane which others join now and then keeps its connections.
        let share = self.busy.width(state.pace);
        let width = state.window.width().min(share.saturating_add(share / 2));
        if state.workers > width && !is_first {
            state.workers -= 1;
            return Turn::Retire;
        }
        match state.queue.pop_front() {
            None => Turn::Empty,
            Some(job) => {
                self.count(&mut state);
                if !self.exceeds_share(&state) {
                    // One delivery makes room for one: were all woken, most would find the room taken and wait again.
                    self.caught_up.notify_one();
                }
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

    /// Adjusts how many requests may be in flight after a try.
    pub fn observe(&self, outcome: &Outcome, duration: Duration) {
        let mut state = self.state();
        state.window = state.window.after(outcome, duration);
        state.pace = state.pace.after(outcome, duration);
        self.count(&mut state);
    }

    /// Counts this lane among the busy ones, or no longer.
    fn count(&self, state: &mut State) {
        let is_busy = state.held() > 0 && state.pace.is_quick();
        if is_busy == std::mem::replace(&mut state.is_busy, is_busy) {
            return;
        }
        if is_busy {
            self.busy.add();
        } else {
            self.busy.remove();
        }
    }

    /// Whether more waits for this machine than this lane's share.
    fn is_behind(&self, state: &State) -> bool {
        state.pace.is_prompt() && self.exceeds_share(state)
    }

    fn exceeds_share(&self, state: &State) -> bool {
        u32::try_from(state.held()).unwrap_or(u32::MAX) >= self.busy.waiting()
    }

    /// Takes everything out: the endpoint was deactivated, or the service stops.
    pub fn clear(&self) -> Vec<Job> {
        let mut state = self.state();
        let jobs = state.queue.drain(..).collect();
        self.count(&mut state);
        jobs
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.clear();
    }
}

impl State {
    /// Deliveries that are here, or have a slot.
    fn held(&self) -> usize {
        self.queue.len() + self.reserved
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
        if let Some(held) = self.held.take() {
            let mut state = self.lane.state();
            state.reserved -= 1;
            state.queue.push_back(Job { delivery, _held: held });
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
        if self.held.take().is_some() {
            let mut state = self.lane.state();
            state.reserved -= 1;
            self.lane.count(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::PROMPT;
    use futures_util::poll;
    use postrider_kernel::{
        DeliveryId, EventId, Failure, Trigger,
        attempt::{Answer, Cause},
    };
    use postrider_store::Lease;
    use std::pin::pin;

    const BOUNDS: Bounds =
        Bounds { lane_capacity: 4, bytes: 800, endpoint_concurrency: 4, processors: 2 };

    fn delivery(id: i64, payload_bytes: usize) -> ClaimedDelivery {
        ClaimedDelivery {
            id: DeliveryId::new(id),
            tenant: TenantId::new(1),
            endpoint: EndpointId::new(1),
            event: EventId::new(id),
            payload: vec![b'x'; payload_bytes].into(),
            trigger: Trigger::Schedule,
            attempts_made: 0,
            lease: Lease(1),
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
            matches!(lane.turn(false), Turn::Job(job, Refill::No) if job.delivery.id == DeliveryId::new(1))
        );
        assert!(lane.reserve(1).is_some());
    }

    #[test]
    fn a_job_holds_its_memory_until_it_is_done() {
        let (_lanes, lane) = lanes();
        lane.reserve(60).unwrap().fill(delivery(1, 60));
        let Turn::Job(job, _) = lane.turn(false) else { panic!("there is a job") };
        assert!(lane.reserve(60).is_none(), "the lane's share is 100 bytes");
        assert_eq!(lane.begin_claim(), Begun::Claim { count: 4, bytes: 40 });
        assert_eq!(lane.end_claim(Vec::new(), false), Refill::No);
        drop(job);
        assert!(lane.reserve(60).is_some());
    }

    #[test]
    fn a_lane_without_memory_asks_again_when_it_has_some() {
        let (_lanes, lane) = lanes();
        lane.reserve(100).unwrap().fill(delivery(1, 100));
        let Turn::Job(job, _) = lane.turn(false) else { panic!("there is a job") };
        assert_eq!(lane.begin_claim(), Begun::Asks);
        assert_eq!(lane.wants_more(), Refill::No);
        drop(job);
        assert_eq!(lane.wants_more(), Refill::Claim);
    }

    #[test]
    fn one_worker_has_the_first_place_and_is_not_retired() {
        let (_lanes, lane) = lanes();
        let first = lane.first().unwrap();
        assert!(lane.first().is_none());
        let silent = Outcome::Unanswered(Failure::new(Cause::Timeout, ""));
        lane.reserve(1).unwrap().fill(delivery(1, 1));
        lane.reserve(1).unwrap().fill(delivery(2, 1));
        assert!(lane.hire(|| true) && lane.hire(|| true));
        for _ in 0..3 {
            lane.observe(&silent, Duration::ZERO);
        }
        assert!(matches!(lane.turn(true), Turn::Job(..)));
        assert!(matches!(lane.turn(false), Turn::Retire));
        drop(first);
        assert!(lane.first().is_some());
    }

    #[test]
    fn older_deliveries_in_the_store_get_half_of_the_lane() {
        let (_lanes, lane) = lanes();
        lane.note_backlog();
        let slots: Vec<_> = (0..2).map(|_| lane.reserve(1).unwrap()).collect();
        assert!(lane.reserve(1).is_none(), "the other half is for what waits in the store");
        assert_eq!(lane.begin_claim(), Begun::Claim { count: 2, bytes: 98 });
        assert_eq!(lane.begin_claim(), Begun::Asks, "one claim at a time");
        assert_eq!(lane.end_claim(vec![delivery(7, 1), delivery(8, 1)], true), Refill::No);
        assert_eq!(lane.begin_claim(), Begun::Asks, "the lane is full");
        drop(slots);
        assert!(
            matches!(lane.turn(false), Turn::Job(_, Refill::Claim)),
            "half empty, and the store holds more"
        );
        assert_eq!(lane.begin_claim(), Begun::Claim { count: 3, bytes: 99 });
        assert_eq!(lane.end_claim(Vec::new(), false), Refill::No);
        assert!(matches!(lane.turn(false), Turn::Job(_, Refill::No)));
    }

    #[test]
    fn workers_are_hired_for_work_within_the_window() {
        let (_lanes, lane) = lanes();
        assert!(!lane.hire(|| true), "there is nothing to do");
        for id in 0..4 {
            lane.reserve(1).unwrap().fill(delivery(id, 1));
        }
        assert!(lane.hire(|| false), "the first one needs no room beside others");
        assert!(!lane.hire(|| false) && lane.hire(|| true));
        assert!(!lane.hire(|| true), "two are enough for a receiver that nobody knows");
        let prompt = Outcome::Answered(Answer { status: 200, retry_after: None, body: Vec::new() });
        lane.observe(&prompt, PROMPT);
        assert!(lane.hire(|| true) && lane.hire(|| true));
        assert!(!lane.hire(|| true), "the window is 4");
        let silent = Outcome::Unanswered(Failure::new(Cause::Timeout, ""));
        lane.observe(&silent, Duration::ZERO);
        assert!(
            matches!(lane.turn(false), Turn::Retire) && matches!(lane.turn(false), Turn::Retire)
        );
        assert!(matches!(lane.turn(false), Turn::Job(..)));
        assert!(!lane.dismiss(), "there is still work");
        assert_eq!(lane.clear().len(), 3);
        assert!(lane.dismiss());
    }

    #[test]
    fn a_lane_that_has_emptied_asks_for_more_though_others_hold_all_memory() {
        let (lanes, lane) = lanes();
        lane.reserve(1).unwrap().fill(delivery(1, 1));
        let others = [2, 3].map(|id| lanes.lane(TenantId::new(1), EndpointId::new(id)));
        let _held = others.map(|other| other.reserve(800).unwrap());
        assert_eq!(lane.begin_claim(), Begun::Asks);
        let Turn::Job(job, Refill::No) = lane.turn(false) else { panic!("there is no job") };
        drop(job);
        assert_eq!(lane.wants_more(), Refill::Claim, "nobody else would ask");
        assert_eq!(lane.begin_claim(), Begun::Later);
    }

    #[tokio::test]
    async fn a_publisher_waits_for_a_prompt_receiver_alone() {
        let lanes = Lanes::new(Bounds { lane_capacity: 1_000, bytes: 1 << 20, ..BOUNDS });
        let lane = lanes.lane(TenantId::new(1), EndpointId::new(1));
        let slots: Vec<_> = (0..lane.busy.waiting()).map(|_| lane.reserve(1).unwrap()).collect();
        assert!(poll!(pin!(lane.catch_up())).is_ready(), "nothing is known of this receiver");
        let prompt = Outcome::Answered(Answer { status: 500, retry_after: None, body: Vec::new() });
        for _ in 0..60 {
            lane.observe(&prompt, Duration::from_millis(1));
        }
        let mut wait = pin!(lane.catch_up());
        assert!(poll!(&mut wait).is_pending(), "it is prompt, and yet behind");
        for slot in slots {
            slot.fill(delivery(1, 1));
        }
        assert!(matches!(lane.turn(false), Turn::Job(..)));
        assert!(poll!(&mut wait).is_ready(), "one less, and it has caught up");

        lane.reserve(1).unwrap().fill(delivery(2, 1));
        assert!(poll!(pin!(lane.catch_up())).is_pending());
        lane.give_up_waiting();
        assert!(poll!(pin!(lane.catch_up())).is_ready(), "somebody waited in vain");
    }

    #[tokio::test]
    async fn a_waiting_worker_is_woken_and_not_doubled() {
        let (_lanes, lane) = lanes();
        let mut wait = pin!(lane.wait());
        assert!(poll!(&mut wait).is_pending());
        lane.reserve(1).unwrap().fill(delivery(1, 1));
        assert!(!lane.hire(|| true), "somebody waits for it already");
        assert!(poll!(&mut wait).is_ready());
        lane.reserve(1).unwrap().fill(delivery(2, 1));
        assert!(lane.hire(|| true), "the one that was woken is busy");
    }
}
