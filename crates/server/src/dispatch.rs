//! Whose turn it is: one loop that knows when each endpoint's next delivery is due, and claims it from the store then.
//!
//! It remembers one time per endpoint, never the deliveries themselves, so that a backlog of millions costs it nothing.
//! What it claims goes into the endpoint's lane; a lane without room is asked again when it has run half empty.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use postrider_kernel::{DeliveryId, EndpointId, TenantId, Timestamp};
use postrider_store::{Claim, ClaimLimit, Lease, Result, Store, StoreError};
use tokio::sync::mpsc;

use crate::{
    clock::Clock,
    deliver::Deliverer,
    lanes::{Begun, Lane, Lanes, Refill},
};

/// How many claims are under way at once: enough to fill a commit of the store, too few to fill its queue.
const CLAIMS_MAX: usize = 16;

/// The longest that the loop sleeps, so that a wall clock which was set is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// A wall clock that is set back by less is caught up with.
const SET_BACK_MIN: Duration = Duration::from_secs(10);

/// How long to wait when there is no memory for a lane that holds nothing.
const MEMORY_AGAIN: Duration = Duration::from_millis(100);

/// How long to wait after the store failed.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// What the loop is told.
#[derive(Debug)]
pub enum Note {
    /// A delivery of this endpoint is pending, and due then.
    Due(TenantId, EndpointId, Timestamp),
    /// This endpoint was activated: whatever waited is to go on.
    Activated(TenantId, EndpointId),
    /// These deliveries are leased to this process, and nobody is working on them.
    Strays(Vec<Stray>),
    /// What is owed may have become deliverable anywhere: the directory was made anew after a failure.
    LookAgain,
}

/// A delivery without an owner.
#[derive(Clone, Copy, Debug)]
pub struct Stray {
    /// Whose it is.
    pub tenant: TenantId,
    /// To whom it is owed.
    pub endpoint: EndpointId,
    /// Which.
    pub delivery: DeliveryId,
    /// Under which it is leased.
    pub lease: Lease,
}

/// Tells the loop something. Never waits.
#[derive(Clone, Debug)]
pub struct Notes(mpsc::UnboundedSender<Note>);

impl Notes {
    /// The two ends.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Note>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Tells the loop something. When it has ended, the next life of the service reads it from the store.
    pub fn send(&self, note: Note) {
        let _ = self.0.send(note);
    }
}

/// The loop's own state.
pub struct Dispatch {
    deliverer: Arc<Deliverer>,
    lanes: Arc<Lanes>,
    notes: mpsc::UnboundedReceiver<Note>,
    schedule: Schedule,
    wall: WallClock,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    claiming: HashSet<EndpointId>,
    /// Of these endpoints so many batches of strays are being given back.
    giving_back: HashMap<EndpointId, usize>,
    /// Strays of endpoints that are being claimed for.
    strays: Vec<Stray>,
}

/// What the store answered.
enum Done {
    Claimed(Arc<Lane>, Timestamp, Result<Claim>),
    Due(TenantId, EndpointId, Result<Option<Timestamp>>),
    GivenBack(Vec<Stray>),
    AllDue(Result<Vec<(TenantId, EndpointId, Timestamp)>>),
}

/// When each endpoint is due next.
#[derive(Debug, Default)]
struct Schedule {
    by_time: BTreeSet<(Timestamp, EndpointId)>,
    by_endpoint: HashMap<EndpointId, (Timestamp, TenantId)>,
}

impl Schedule {
    /// Notes a due time; the earliest one of an endpoint counts.
    fn add(&mut self, tenant: TenantId, endpoint: EndpointId, due: Timestamp) {
        match self.by_endpoint.get(&endpoint) {
            Some(&(earlier, _)) if earlier <= due => return,
            Some(&(later, _)) => self.by_time.remove(&(later, endpoint)),
            None => false,
        };
        self.by_endpoint.insert(endpoint, (due, tenant));
        self.by_time.insert((due, endpoint));
    }

    fn earliest(&self) -> Option<Timestamp> {
        self.by_time.first().map(|&(due, _)| due)
    }

    fn take_due(&mut self, now: Timestamp) -> Option<(TenantId, EndpointId)> {
        let &(due, endpoint) = self.by_time.first()?;
        if due > now {
            return None;
        }
        self.by_time.pop_first();
        self.by_endpoint.remove(&endpoint).map(|(_, tenant)| (tenant, endpoint))
    }
}

/// Notices that the wall clock, by which deliveries are put off, was set back.
#[derive(Debug)]
struct WallClock {
    seen: Timestamp,
    seen_at: Duration,
}

impl WallClock {
    fn new(clock: &dyn Clock) -> Self {
        Self { seen: clock.now(), seen_at: clock.monotonic() }
    }

    /// How far it was set back since it was last asked, if it was.
    fn set_back_by(&mut self, clock: &dyn Clock) -> Option<Duration> {
        self.set_back_to(Self::new(clock))
    }

    fn set_back_to(&mut self, latest: Self) -> Option<Duration> {
        let expected = self.seen.plus(latest.seen_at.saturating_sub(self.seen_at));
        let by = latest.seen.until(expected);
        *self = latest;
        (by >= SET_BACK_MIN).then_some(by)
    }
}

impl Dispatch {
    /// A loop that begins with what the store owes.
    pub async fn new(
        deliverer: Arc<Deliverer>,
        lanes: Arc<Lanes>,
        notes: mpsc::UnboundedReceiver<Note>,
    ) -> Result<Self> {
        let mut schedule = Schedule::default();
        for (tenant, endpoint, due) in deliverer.store.earliest_due().await? {
            schedule.add(tenant, endpoint, due);
        }
        let wall = WallClock::new(&*deliverer.clock);
        Ok(Self {
            deliverer,
            lanes,
            notes,
            schedule,
            wall,
            under_way: FuturesUnordered::new(),
            claiming: HashSet::new(),
            giving_back: HashMap::new(),
            strays: Vec::new(),
        })
    }

    /// Runs until the service stops.
    pub async fn run(mut self) {
        let stopping = self.deliverer.stopping.clone();
        loop {
            self.heed_the_clock();
            while self.under_way.len() < CLAIMS_MAX
                && let Some((tenant, endpoint)) = self.schedule.take_due(self.deliverer.clock.now())
            {
                self.begin_claim(tenant, endpoint);
            }
            let has_room = self.under_way.len() < CLAIMS_MAX;
            let sleep = self.sleep();
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                Some(note) = self.notes.recv() => self.take_note(note),
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => self.take_in(done),
                () = sleep, if has_room => {}
            }
        }
        // A claim that was begun has a say in who holds what; only its deliveries are of no use any more.
        while self.under_way.next().await.is_some() {}
    }

    /// What was put off by a clock that has been set back since would wait until the clock has caught up.
    fn heed_the_clock(&mut self) {
        let clock = self.deliverer.clock.clone();
        if let Some(by) = self.wall.set_back_by(&*clock) {
            tracing::warn!(
                "the clock was set back by {by:?}: what waits is brought forward by as much"
            );
            let store = self.deliverer.store.clone();
            self.under_way.push(bring_forward(store, clock, by).boxed());
        }
    }

    fn sleep(&self) -> impl Future<Output = ()> + use<> {
        let clock = &self.deliverer.clock;
        let wait = self.schedule.earliest().map_or(SLEEP_MAX, |due| clock.now().until(due));
        clock.sleep(wait.min(SLEEP_MAX))
    }

    fn begin_claim(&mut self, tenant: TenantId, endpoint: EndpointId) {
        // An endpoint that can't be delivered to waits for its activation, which is told by a note; one that was deleted
        // must not get a lane again.
        if !self.is_deliverable(tenant, endpoint) {
            return;
        }
        // Asked again once they are back: a give-back whose answer got lost is repeated, and what was claimed in between
        // would be given back from under the worker that attempts it.
        if self.giving_back.contains_key(&endpoint) {
            return;
        }
        let lane = self.lanes.lane(tenant, endpoint);
        let now = self.deliverer.clock.now();
        let limit = match lane.begin_claim() {
            Begun::Claim { count, bytes } => ClaimLimit { count, bytes },
            Begun::Asks => return,
            Begun::Later => return self.schedule.add(tenant, endpoint, now.plus(MEMORY_AGAIN)),
        };
        self.claiming.insert(endpoint);
        let (store, lease) = (self.deliverer.store.clone(), self.deliverer.life.lease());
        let claim = async move {
            Done::Claimed(lane, now, store.claim_due(endpoint, now, limit, lease).await)
        };
        self.under_way.push(claim.boxed());
    }

    fn take_in(&mut self, done: Done) {
        let later = self.deliverer.clock.now().plus(STORE_AGAIN);
        if let Done::Claimed(lane, ..) = &done {
            self.end_claim(lane.endpoint);
        }
        match done {
            Done::Claimed(lane, asked_at, Ok(claim)) => {
                let claimed = claim.deliveries.len();
                let more = claim.next_due.is_some_and(|due| due <= asked_at);
                let refill = lane.end_claim(claim.deliveries, more);
                self.deliverer.attend(&lane, claimed);
                match claim.next_due {
                    // Due, and yet not claimed: the store knows why, and must not be asked in a tight loop.
                    Some(_) if more && claimed == 0 => {
                        self.schedule.add(lane.tenant, lane.endpoint, later);
                    }
                    Some(due) if !more => self.schedule.add(lane.tenant, lane.endpoint, due),
                    // Either this is asked below, or the lane asks when it has run half empty.
                    _ => {}
                }
                // Without `more`, somebody told of a due delivery while the claim was under way, perhaps too late for
                // it: nobody else would ask for that one.
                if refill == Refill::Claim && (claimed > 0 || !more) {
                    self.schedule.add(lane.tenant, lane.endpoint, asked_at);
                }
            }
            Done::Claimed(lane, _, Err(error)) => {
                tracing::error!(endpoint = %lane.endpoint, "due deliveries could not be claimed, and will be: {error}");
                self.deliverer.life.doubt();
                lane.end_claim(Vec::new(), true);
                self.schedule.add(lane.tenant, lane.endpoint, later);
            }
            Done::Due(tenant, endpoint, Ok(Some(due))) => self.schedule.add(tenant, endpoint, due),
            Done::Due(_, _, Ok(None)) => {}
            Done::GivenBack(strays) => {
                // When each was due is in the store; now is soon enough to ask.
                let now = self.deliverer.clock.now();
                for endpoint in endpoints_of(&strays) {
                    if let Entry::Occupied(mut batches) = self.giving_back.entry(endpoint) {
                        *batches.get_mut() -= 1;
                        if *batches.get() == 0 {
                            batches.remove();
                        }
                    }
                }
                for stray in strays {
                    self.schedule.add(stray.tenant, stray.endpoint, now);
                }
            }
            Done::AllDue(Ok(all)) => {
                for (tenant, endpoint, due) in all {
                    self.schedule.add(tenant, endpoint, due);
                }
            }
            Done::AllDue(Err(error)) => {
                tracing::error!("what is owed could not be read, and will be: {error}");
                self.look_again(STORE_AGAIN);
            }
            Done::Due(tenant, endpoint, Err(error)) => {
                tracing::error!(%endpoint, "what it is owed could not be read, and will be: {error}");
                self.schedule.add(tenant, endpoint, later);
            }
        }
    }

    /// Asks for everything that is owed, after a while.
    fn look_again(&mut self, after: Duration) {
        let (store, pause) = (self.deliverer.store.clone(), self.deliverer.clock.sleep(after));
        let ask = async move {
            pause.await;
            Done::AllDue(store.earliest_due().await)
        };
        self.under_way.push(ask.boxed());
    }

    /// Those strays that waited for the claim's end are given back.
    fn end_claim(&mut self, endpoint: EndpointId) {
        self.claiming.remove(&endpoint);
        if !self.strays.is_empty() {
            let strays = std::mem::take(&mut self.strays);
            self.take_strays(strays);
        }
    }

    /// Gives strays back, those of endpoints that are being claimed for a little later.
    fn take_strays(&mut self, strays: Vec<Stray>) {
        let is_claiming = |stray: &Stray| self.claiming.contains(&stray.endpoint);
        let (wait, strays): (Vec<_>, Vec<_>) = strays.into_iter().partition(is_claiming);
        self.strays.extend(wait);
        if strays.is_empty() {
            return;
        }
        for endpoint in endpoints_of(&strays) {
            *self.giving_back.entry(endpoint).or_default() += 1;
        }
        let Deliverer { store, clock, .. } = &*self.deliverer;
        self.under_way.push(give_back(store.clone(), clock.clone(), strays).boxed());
    }

    fn is_deliverable(&self, tenant: TenantId, endpoint: EndpointId) -> bool {
        let snapshot = self.deliverer.directory.snapshot();
        snapshot.endpoint(tenant, endpoint).is_some_and(|view| view.is_deliverable())
    }

    fn take_note(&mut self, note: Note) {
        let store = self.deliverer.store.clone();
        match note {
            Note::Due(tenant, endpoint, due) => self.schedule.add(tenant, endpoint, due),
            Note::Activated(tenant, endpoint) => {
                let ask = async move {
                    Done::Due(tenant, endpoint, store.earliest_due_of(endpoint).await)
                };
                self.under_way.push(ask.boxed());
            }
            Note::Strays(strays) => self.take_strays(strays),
            Note::LookAgain => self.look_again(Duration::ZERO),
        }
    }
}

/// The endpoints of strays, each once.
fn endpoints_of(strays: &[Stray]) -> BTreeSet<EndpointId> {
    strays.iter().map(|stray| stray.endpoint).collect()
}

/// Gives strays back to the store, however often that takes.
async fn give_back(store: Arc<dyn Store>, clock: Arc<dyn Clock>, strays: Vec<Stray>) -> Done {
    let mut by_lease = BTreeMap::<Lease, Vec<DeliveryId>>::new();
    for stray in &strays {
        by_lease.entry(stray.lease).or_default().push(stray.delivery);
    }
    let mut is_told = false;
    for (lease, ids) in by_lease {
        while let Err(error) = store.give_back(ids.clone(), lease).await {
            if !std::mem::replace(&mut is_told, true) {
                tracing::error!("deliveries could not be given back, and will be: {error}");
            }
            if matches!(error, StoreError::Inconsistent(_)) {
                // No other try mends it: they stay leased to this life.
                break;
            }
            clock.sleep(STORE_AGAIN).await;
        }
    }
    Done::GivenBack(strays)
}

/// Brings forward what waits, however often that takes, and answers when each endpoint is due then.
async fn bring_forward(store: Arc<dyn Store>, clock: Arc<dyn Clock>, by: Duration) -> Done {
    while let Err(error) = store.bring_forward(clock.now(), by).await {
        tracing::error!("what waits could not be brought forward, and will be: {error}");
        clock.sleep(STORE_AGAIN).await;
    }
    Done::AllDue(store.earliest_due().await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_is_noticed_once() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let wall =
            |seen, seen_at| WallClock { seen: at(seen), seen_at: Duration::from_secs(seen_at) };
        let mut known = wall(1_000, 0);
        let mut set_back_by = |seen, seen_at| known.set_back_to(wall(seen, seen_at));
        assert_eq!(set_back_by(1_005, 5), None, "time goes by");
        assert_eq!(set_back_by(5_000, 6), None, "set forward");
        assert_eq!(set_back_by(1_000, 7), Some(Duration::from_secs(4_001)));
        assert_eq!(set_back_by(1_001, 8), None, "once");
        assert_eq!(set_back_by(997, 9), None, "a little");
    }

    #[test]
    fn the_earliest_time_of_an_endpoint_counts() {
        let (tenant, one, two) = (TenantId::new(1), EndpointId::new(1), EndpointId::new(2));
        let at = Timestamp::from_micros;
        let mut schedule = Schedule::default();
        schedule.add(tenant, one, at(50));
        schedule.add(tenant, two, at(40));
        schedule.add(tenant, one, at(60));
        schedule.add(tenant, one, at(30));
        assert_eq!(schedule.earliest(), Some(at(30)));
        assert_eq!(schedule.take_due(at(29)), None);
        assert_eq!(schedule.take_due(at(100)), Some((tenant, one)));
        assert_eq!(schedule.take_due(at(100)), Some((tenant, two)));
        assert_eq!((schedule.take_due(at(100)), schedule.earliest()), (None, None));
    }
}
