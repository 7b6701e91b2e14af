//! One delivery from its lane to the record of its attempt: connect, sign, send, settle, record.
//!
//! Each lane has a few workers, and each worker owns one connection. A worker takes a permit of the instance, then a
//! delivery of its lane, and carries it; while the attempt is written down, it carries the next one already. It never
//! runs further ahead than that, so while the store can't record, nothing is sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use postrider_kernel::{
    AttemptId, DeliveryId, Next, Outcome, RetrySchedule, Settlement, Timestamp, attempt::Cause,
    delivery, retry::Jitter,
};
use postrider_store::{AttemptRecord, IdKind, Lease, Recorded, Store, StoreError};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::{self, Clock},
    directory::{Directory, EndpointView},
    dispatch::{Note, Notes, Stray},
    ids::Ids,
    lanes::{First, Job, Lane, Refill, Turn},
    transport::{Connection, NotConnected, Transport, Unsent},
    vault::Vault,
};

/// How long an idle worker keeps its connection open.
const IDLE: Duration = Duration::from_secs(30);

/// How long to wait before a record that failed is tried again, at first and at most.
const RECORD_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long to wait when this machine has no more sockets.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(1);

/// What delivering needs.
pub struct Deliverer {
    /// Where attempts are written.
    pub store: Arc<dyn Store>,
    /// What to sign with, and where to send.
    pub directory: Arc<Directory>,
    /// Opens secrets when the directory is refreshed.
    pub vault: Arc<Vault>,
    /// Makes connections.
    pub transport: Arc<dyn Transport>,
    /// Time and entropy.
    pub clock: Arc<dyn Clock>,
    /// Attempts' identifiers.
    pub ids: Arc<Ids>,
    /// Tells dispatch when something is due.
    pub notes: Notes,
    /// The instance's limits.
    pub permits: Permits,
    /// Under which deliveries are attempted.
    pub lease: Lease,
    /// When a failed delivery is tried again.
    pub schedule: RetrySchedule,
    /// How long a whole try may take, the connection included.
    pub request_timeout: Duration,
    /// The workers, to wait for when stopping.
    pub workers: TaskTracker,
    /// Tells the workers to take nothing more.
    pub stopping: CancellationToken,
    /// Whether attempts can be written down.
    pub recording: RecordingState,
}

/// The instance's limits of requests in flight, and of connections that nobody uses.
///
/// A lane that has a request in flight needs a second permit for each further one, and of those there are fewer: endpoints
/// that take many permits, and their time, leave a part of them to the first requests of everybody else.
#[derive(Debug)]
pub struct Permits {
    all: Arc<Semaphore>,
    further: Arc<Semaphore>,
    idle: Arc<Semaphore>,
}

impl Permits {
    /// Limits for so many requests in flight, and so many connections at rest.
    pub fn new(concurrency: usize, idle: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(concurrency)),
            further: Arc::new(Semaphore::new((concurrency - concurrency / 4).max(1))),
            idle: Arc::new(Semaphore::new(idle)),
        }
    }
}

/// Whether attempts can be written down. While they can't, nothing is sent.
#[derive(Debug, Default)]
pub struct RecordingState {
    is_failing: AtomicBool,
    recovered: Notify,
}

impl RecordingState {
    fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Acquire)
    }

    async fn works(&self) {
        while self.is_failing() {
            let recovered = self.recovered.notified();
            if self.is_failing() {
                recovered.await;
            }
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) {
        if !self.is_failing.swap(true, Ordering::AcqRel) {
            tracing::error!(
                "attempts can't be recorded, so nothing is sent until they can: {error}"
            );
        }
    }

    fn succeeded(&self) {
        if self.is_failing() && self.is_failing.swap(false, Ordering::AcqRel) {
            tracing::info!("attempts are recorded again");
            self.recovered.notify_waiters();
        }
    }
}

impl Deliverer {
    /// Sees to it that up to `jobs` deliveries which were put into a lane are worked on.
    pub fn attend(self: &Arc<Self>, lane: &Arc<Lane>, jobs: usize) {
        for _ in 0..jobs {
            // Where all permits are taken, one more worker would only wait for one beside those that the lane has.
            let is_of_use = !lane.has_workers() || self.permits.all.available_permits() > 0;
            if self.stopping.is_cancelled() || !is_of_use || !lane.hire() {
                return;
            }
            let worker = Worker {
                lane: lane.clone(),
                deliverer: self.clone(),
                held: None,
                in_hand: None,
                recording: None,
                has_left: false,
            };
            self.workers.spawn(worker.run());
        }
    }

    /// Reports deliveries that are leased to this process, and that nobody works on.
    pub fn strays(&self, lane: &Lane, deliveries: Vec<DeliveryId>) {
        let to_stray = |delivery| Stray { tenant: lane.tenant, endpoint: lane.endpoint, delivery };
        self.notes.send(Note::Strays(deliveries.into_iter().map(to_stray).collect()));
    }

    /// Writes an attempt down, however often that takes, and then does what follows from it.
    async fn record(self: Arc<Self>, job: Job, record: AttemptRecord, lane: Arc<Lane>) {
        let mut pause = RECORD_AGAIN.0;
        let recorded = loop {
            match self.store.record(record.clone()).await {
                Ok(recorded) => break recorded,
                Err(error @ StoreError::Inconsistent(_)) => {
                    // No other try mends it. The delivery stays leased to this life; the next one attempts it again.
                    tracing::error!(delivery = %record.delivery, "an attempt can't be recorded: {error}");
                    return;
                }
                Err(error @ StoreError::Unavailable(_)) => self.recording.failed(&error),
            }
            tokio::select! {
                () = self.clock.sleep(pause) => pause = (pause * 2).min(RECORD_AGAIN.1),
                // The delivery stays leased to this life, which ends: the next one attempts it again.
                () = self.stopping.cancelled() => return,
            }
        };
        self.recording.succeeded();
        drop(job);
        match (recorded, record.next) {
            (Recorded::LeaseLost, _) => {
                tracing::debug!(delivery = %record.delivery, "its endpoint is gone")
            }
            (Recorded::Done, Next::Retry(due)) => {
                self.notes.send(Note::Due(lane.tenant, lane.endpoint, due))
            }
            (Recorded::Done, Next::Delivered | Next::Failed) => {}
        }
        if record.deactivates_endpoint && recorded == Recorded::Done {
            self.take_in_deactivation(&lane).await;
        }
    }

    /// The receiver answered 410: the store has deactivated its endpoint, and now everybody here learns of it.
    async fn take_in_deactivation(&self, lane: &Lane) {
        tracing::warn!(endpoint = %lane.endpoint, "deactivated, because its receiver answered 410 Gone");
        if let Err(error) = self.directory.refresh(lane.tenant, &*self.store, &self.vault).await {
            tracing::error!("the directory could not be refreshed, and will be: {error}");
        }
        lane.gate.drain(&*self.clock).await;
    }
}

/// The right to have a request in flight.
struct Permit {
    first: Option<First>,
    _further: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

impl Permit {
    fn is_first(&self) -> bool {
        self.first.is_some()
    }
}

/// One worker of a lane, with its connection.
struct Worker {
    lane: Arc<Lane>,
    deliverer: Arc<Deliverer>,
    held: Option<Held>,
    /// The delivery that is being attempted.
    in_hand: Option<DeliveryId>,
    /// The record of the last attempt, on its way to disk: a task, so that what follows from it waits for nobody.
    recording: Option<(DeliveryId, JoinHandle<()>)>,
    /// Whether the lane has counted it out.
    has_left: bool,
}

/// Keeps the lane's count right. A worker that panicked leaves a delivery behind, and perhaps a lane without workers.
impl Drop for Worker {
    fn drop(&mut self) {
        if !self.has_left {
            self.lane.lose_worker();
        }
        // A worker that is dropped with the whole process leaves its delivery to the next life.
        if let Some(delivery) = self.in_hand.take().filter(|_| std::thread::panicking()) {
            tracing::error!(%delivery, "a worker broke off; the delivery is attempted again");
            self.deliverer.strays(&self.lane, vec![delivery]);
            self.deliverer.attend(&self.lane, 1);
        }
    }
}

/// A connection, and what it was made for.
struct Held {
    connection: Box<dyn Connection>,
    view: Arc<EndpointView>,
}

impl Held {
    /// Whether it may carry a request to that view of the endpoint.
    fn suits(&self, view: &Arc<EndpointView>) -> bool {
        Arc::ptr_eq(&self.view, view) || is_same_place(&self.view, view)
    }
}

fn is_same_place(one: &EndpointView, other: &EndpointView) -> bool {
    one.target == other.target && one.ssl_cert_verification == other.ssl_cert_verification
}

/// What became of a delivery in a worker's hands.
enum Tried {
    Attempted(Attempted),
    Not(Reason),
}

/// Why a delivery was not tried.
#[derive(Clone, Copy)]
enum Reason {
    /// Its endpoint was deactivated, or a drain held it up: it is still owed, and no try was used up.
    Postponed,
    /// This machine has no socket, port or memory for it.
    Shortage,
    /// Its endpoint was deleted.
    Gone,
}

/// A try that counts.
struct Attempted {
    outcome: Outcome,
    sent_at: Timestamp,
    duration: Duration,
    peer_address: Option<String>,
    signature: String,
}

impl Worker {
    async fn run(mut self) {
        let deliverer = self.deliverer.clone();
        let lane = self.lane.clone();
        loop {
            if deliverer.recording.is_failing() {
                // This worker's own record may be the one that everybody waits for.
                self.finish_recording().await;
            }
            if !lane.has_work() {
                self.finish_recording().await;
                self.ask_for_more(lane.wants_more());
                if self.rest().await { continue } else { break }
            }
            let Some(permit) = self.permit().await else { break };
            match lane.turn(permit.is_first()) {
                Turn::Job(job, refill) => {
                    self.ask_for_more(refill);
                    let unconnected = self.deliver(*job).await;
                    drop(permit);
                    if let Some(job) = unconnected {
                        self.wait_for_sockets(job).await;
                    }
                }
                Turn::Empty => {}
                Turn::Retire => {
                    self.has_left = true;
                    break;
                }
            }
        }
        self.finish_recording().await;
    }

    /// Waits for the right to send; none when the service stops.
    async fn permit(&mut self) -> Option<Permit> {
        let deliverer = self.deliverer.clone();
        let first = self.lane.first();
        let permitted = async {
            deliverer.recording.works().await;
            let further = match first {
                Some(_) => None,
                None => Some(deliverer.permits.further.clone().acquire_owned().await.ok()?),
            };
            let all = deliverer.permits.all.clone().acquire_owned().await.ok()?;
            Some(Permit { first, _further: further, _all: all })
        };
        let mut permitted = std::pin::pin!(permitted);
        if deliverer.stopping.is_cancelled() {
            return None;
        }
        if let Poll::Ready(permit) = futures_util::poll!(&mut permitted) {
            return permit;
        }
        let _place = self.place_for_idle();
        tokio::select! {
            biased;
            () = deliverer.stopping.cancelled() => None,
            permit = permitted => permit,
        }
    }

    /// A place among the connections that nobody uses; without one this worker's is closed, so that no more sockets are
    /// open than requests may be in flight and connections at rest.
    fn place_for_idle(&mut self) -> Option<OwnedSemaphorePermit> {
        let place = self.deliverer.permits.idle.clone().try_acquire_owned().ok();
        if place.is_none() {
            self.held = None;
        }
        place
    }

    fn ask_for_more(&self, refill: Refill) {
        if refill == Refill::Claim {
            let (lane, now) = (&self.lane, self.deliverer.clock.now());
            self.deliverer.notes.send(Note::Due(lane.tenant, lane.endpoint, now));
        }
    }

    /// Waits for a delivery; `false` when this worker is to end instead.
    async fn rest(&mut self) -> bool {
        let _place = self.place_for_idle();
        tokio::select! {
            biased;
            () = self.deliverer.stopping.cancelled() => false,
            () = self.lane.wait() => true,
            () = self.deliverer.clock.sleep(IDLE) => {
                self.held = None;
                self.has_left = self.lane.dismiss();
                !self.has_left
            }
        }
    }

    /// Attempts a delivery. It is handed back when this machine has no socket for it.
    async fn deliver(&mut self, job: Job) -> Option<Job> {
        self.in_hand = Some(job.delivery.id);
        match self.attempt(&job).await {
            Tried::Attempted(attempted) => self.settle(job, attempted).await,
            Tried::Not(Reason::Postponed) => self.give_back(job),
            Tried::Not(Reason::Shortage) => return Some(job),
            // What is owed to a deleted endpoint is purged with it.
            Tried::Not(Reason::Gone) => {}
        }
        self.in_hand = None;
        None
    }

    /// Gives a delivery back after a while, without a permit, so that those who have connections go on.
    async fn wait_for_sockets(&mut self, job: Job) {
        tokio::select! {
            () = self.deliverer.stopping.cancelled() => {}
            () = self.deliverer.clock.sleep(SHORTAGE_PAUSE) => {}
        }
        self.give_back(job);
        self.in_hand = None;
    }

    /// Makes one try. A request that failed on a reused connection before a byte of it was written is not one: it is
    /// sent once more on a fresh connection, signed anew.
    async fn attempt(&mut self, job: &Job) -> Tried {
        let begun_at = self.deliverer.clock.now();
        let begun = self.deliverer.clock.monotonic();
        let mut may_repeat = true;
        loop {
            let view = match self.view_of(job) {
                Ok(view) => view,
                Err(reason) => return Tried::Not(reason),
            };
            let is_reused = match self.connect(&view, self.left(begun)).await {
                Ok(is_reused) => is_reused,
                Err(NotConnected::Failed { failure, peer }) => {
                    return Tried::Attempted(Attempted {
                        outcome: Outcome::Unanswered(failure),
                        sent_at: begun_at,
                        duration: self.since(begun),
                        peer_address: peer.map(|peer| peer.to_string()),
                        signature: String::new(),
                    });
                }
                Err(NotConnected::Shortage(error)) => {
                    let endpoint = job.delivery.endpoint;
                    tracing::error!(%endpoint, "this machine can't connect now, and tries again: {error}");
                    return Tried::Not(Reason::Shortage);
                }
            };
            let sent = match self.sign_and_send(job, begun).await {
                Ok(sent) => sent,
                Err(Unsigned::Not(reason)) => return Tried::Not(reason),
                Err(Unsigned::Reconnect) => continue,
            };
            if sent.may_be_repeated && is_reused && may_repeat {
                may_repeat = false;
                continue;
            }
            return Tried::Attempted(Attempted { duration: self.since(begun), ..sent.attempted });
        }
    }

    /// What is left of the time that a whole try may take.
    fn left(&self, begun: Duration) -> Duration {
        self.deliverer.request_timeout.saturating_sub(self.since(begun))
    }

    fn since(&self, begun: Duration) -> Duration {
        self.deliverer.clock.monotonic().saturating_sub(begun)
    }

    /// The endpoint as it is now, if it is to be delivered to.
    fn view_of(&self, job: &Job) -> Result<Arc<EndpointView>, Reason> {
        match self
            .deliverer
            .directory
            .snapshot()
            .endpoint(job.delivery.tenant, job.delivery.endpoint)
        {
            None => Err(Reason::Gone),
            Some(view) if !view.is_deliverable() => Err(Reason::Postponed),
            Some(view) => Ok(view.clone()),
        }
    }

    /// Sees to a connection to the endpoint's place; answers whether it has carried requests before.
    async fn connect(
        &mut self,
        view: &Arc<EndpointView>,
        limit: Duration,
    ) -> Result<bool, NotConnected> {
        let suits = |held: &mut Held| held.suits(view) && held.connection.is_reusable();
        if self.held.as_mut().is_some_and(suits) {
            return Ok(true);
        }
        // The old one is closed first, so that a lane never has more connections than workers.
        self.held = None;
        let connecting =
            self.deliverer.transport.connect(&view.target, view.ssl_cert_verification, limit);
        self.held = Some(Held { connection: connecting.await?, view: view.clone() });
        Ok(false)
    }

    /// Signs inside the gate, with what the directory says there, and sends.
    async fn sign_and_send(&mut self, job: &Job, begun: Duration) -> Result<Sent, Unsigned> {
        let pass = self.lane.gate.enter().await;
        let view = self.view_of(job).map_err(Unsigned::Not)?;
        let left = self.left(begun);
        let Some(held) = self.held.as_mut().filter(|held| held.suits(&view)) else {
            // The target was changed while the connection was made.
            return Err(Unsigned::Reconnect);
        };
        let sent_at = self.deliverer.clock.now();
        let Some(signing) = &view.signing else { return Err(Unsigned::Not(Reason::Postponed)) };
        let (event, payload) = (job.delivery.event, &job.delivery.payload);
        let signed = signing.template.sign(event, payload, &signing.signer, sent_at);
        let peer_address = Some(held.connection.peer().to_string());
        let (outcome, may_be_repeated) =
            match held.connection.send(signed.request, pass, left).await {
                Ok(answer) => (Outcome::Answered(answer), false),
                Err(Unsent::GaveUp) => {
                    self.held = None;
                    return Err(Unsigned::Not(Reason::Postponed));
                }
                Err(Unsent::Failed { failure, written }) => {
                    self.held = None;
                    let may_be_repeated = !written && failure.cause == Cause::Closed;
                    (Outcome::Unanswered(failure), may_be_repeated)
                }
            };
        let attempted = Attempted {
            outcome,
            sent_at,
            duration: Duration::ZERO,
            peer_address,
            signature: signed.signature,
        };
        Ok(Sent { attempted, may_be_repeated })
    }

    /// Decides what follows, and begins to write it down.
    async fn settle(&mut self, job: Job, attempted: Attempted) {
        let deliverer = self.deliverer.clone();
        let lane = self.lane.clone();
        if lane.observe(&attempted.outcome, attempted.duration) {
            // The window has room again for what queues.
            deliverer.attend(&lane, 1);
        }
        let settled_at = deliverer.clock.now();
        let attempt_number = job.delivery.attempts_made + 1;
        let jitter = if attempted.outcome.is_success() {
            Jitter::NONE
        } else {
            clock::jitter(&*deliverer.clock)
        };
        let settlement = delivery::settle(
            &attempted.outcome,
            attempt_number,
            &deliverer.schedule,
            settled_at,
            jitter,
        );
        if !attempted.outcome.is_success() {
            log_failure(&job, attempt_number, &attempted.outcome, settlement);
        }
        self.finish_recording().await;
        let id = loop {
            match deliverer.ids.next(IdKind::Attempt).await {
                Ok(id) => break AttemptId::new(id),
                Err(error) => deliverer.recording.failed(&error),
            }
            tokio::select! {
                () = deliverer.clock.sleep(RECORD_AGAIN.1) => {}
                () = deliverer.stopping.cancelled() => return,
            }
        };
        let record = AttemptRecord {
            id,
            tenant: job.delivery.tenant,
            endpoint: job.delivery.endpoint,
            event: job.delivery.event,
            delivery: job.delivery.id,
            lease: deliverer.lease,
            attempt_number,
            trigger: job.delivery.trigger,
            sent_at: attempted.sent_at,
            duration: attempted.duration,
            peer_address: attempted.peer_address,
            signature: attempted.signature,
            response: match attempted.outcome {
                Outcome::Answered(answer) => Ok((answer.status, answer.body)),
                Outcome::Unanswered(failure) => Err(failure),
            },
            settled_at,
            next: settlement.next,
            deactivates_endpoint: settlement.deactivates_endpoint,
        };
        let delivery = job.delivery.id;
        let recording = deliverer.clone().record(job, record, lane);
        self.recording = Some((delivery, deliverer.workers.spawn(recording)));
    }

    async fn finish_recording(&mut self) {
        if let Some((delivery, recording)) = self.recording.take()
            && recording.await.is_err()
        {
            tracing::error!(%delivery, "recording an attempt broke off; the delivery is attempted again");
            self.deliverer.recording.succeeded();
            self.deliverer.strays(&self.lane, vec![delivery]);
        }
    }

    /// Gives a delivery back to the store, and with it all others of a lane that can't be worked on.
    fn give_back(&self, job: Job) {
        let mut deliveries = vec![job.delivery.id];
        deliveries.extend(self.lane.clear().iter().map(|job| job.delivery.id));
        self.deliverer.strays(&self.lane, deliveries);
    }
}

/// A request that got as far as it could.
struct Sent {
    attempted: Attempted,
    may_be_repeated: bool,
}

/// Why nothing was sent.
enum Unsigned {
    Not(Reason),
    /// The target was changed while the connection was made.
    Reconnect,
}

/// The one line that an operator sees of a failed attempt.
fn log_failure(job: &Job, attempt_number: u32, outcome: &Outcome, settlement: Settlement) {
    let (endpoint, event) = (job.delivery.endpoint, job.delivery.event);
    match settlement.next.retry_at() {
        Some(next_retry) => {
            tracing::warn!(%endpoint, %event, attempt_number, cause = %outcome, %next_retry, "an attempt failed")
        }
        None => {
            tracing::warn!(%endpoint, %event, attempt_number, cause = %outcome, "the last attempt failed: the delivery has failed for good")
        }
    }
}
