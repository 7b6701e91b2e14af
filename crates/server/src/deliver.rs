//! One delivery from its lane to the record of its attempt: connect, sign, send, settle, record.
//!
//! Each lane has a few workers, and each worker owns one connection. A worker takes a permit of the instance, then a
//! delivery of its lane, carries it, and hands the attempt to the [`crate::record`]er. While that can't write, nothing
//! is sent.

use std::{sync::Arc, task::Poll, time::Duration};

use postrider_kernel::{
    DeliveryId, Outcome, RetrySchedule, Settlement, Timestamp, attempt::Cause, delivery,
    retry::Jitter,
};
use postrider_store::{Lease, Store};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::{self, Clock},
    directory::{Directory, EndpointView},
    dispatch::{Note, Notes, Stray},
    ids::Ids,
    lanes::{Job, Lane, Refill, Turn},
    life::{Life, Unfit},
    permits::{Permit, Permits, Unrecorded},
    record::{Finished, RecordingState, Records},
    transport::{Connection, NotConnected, Transport, Unsent},
};

/// How long an idle worker keeps its connection open.
const IDLE: Duration = Duration::from_secs(30);

/// How long a worker waits after a try that got no answer.
const UNANSWERED_PAUSE: Duration = Duration::from_millis(5);

/// How long to wait when this machine has no more sockets, or the egress proxy fails.
const NO_WAY_PAUSE: Duration = Duration::from_secs(1);

/// What delivering needs.
pub struct Deliverer {
    /// Where deliveries are claimed.
    pub store: Arc<dyn Store>,
    /// What to sign with, and where to send.
    pub directory: Arc<Directory>,
    /// Makes connections.
    pub transport: Arc<dyn Transport>,
    /// Time and entropy.
    pub clock: Arc<dyn Clock>,
    /// Events' and deliveries' identifiers.
    pub ids: Arc<Ids>,
    /// Tells dispatch when something is due.
    pub notes: Notes,
    /// The instance's limits.
    pub permits: Permits,
    /// Under whose lease deliveries are attempted, and whether they may be signed.
    pub life: Arc<Life>,
    /// When a failed delivery is tried again.
    pub schedule: RetrySchedule,
    /// How long a whole try may take, the connection included.
    pub request_timeout: Duration,
    /// The workers, to wait for when stopping.
    pub workers: TaskTracker,
    /// Tells the workers to take nothing more.
    pub stopping: CancellationToken,
    /// Where attempts are handed in to be written down.
    pub records: Records,
    /// Whether they can be.
    pub recording: Arc<RecordingState>,
}

impl Deliverer {
    /// Sees to it that up to `jobs` deliveries which were put into a lane are worked on.
    pub fn attend(self: &Arc<Self>, lane: &Arc<Lane>, jobs: usize) {
        for _ in 0..jobs {
            if self.stopping.is_cancelled() || !lane.hire(|| self.permits.has_room()) {
                return;
            }
            let worker = Worker {
                lane: lane.clone(),
                deliverer: self.clone(),
                held: None,
                in_hand: None,
                has_left: false,
            };
            self.workers.spawn(worker.run());
        }
    }

    /// Reports deliveries that are leased to this process, and that nobody works on.
    pub fn strays(&self, lane: &Lane, deliveries: Vec<(DeliveryId, Lease)>) {
        let (tenant, endpoint) = (lane.tenant, lane.endpoint);
        let to_stray = |(delivery, lease)| Stray { tenant, endpoint, delivery, lease };
        self.notes.send(Note::Strays(deliveries.into_iter().map(to_stray).collect()));
    }
}

/// One worker of a lane, with its connection.
struct Worker {
    lane: Arc<Lane>,
    deliverer: Arc<Deliverer>,
    held: Option<Held>,
    /// The delivery that is being attempted.
    in_hand: Option<(DeliveryId, Lease)>,
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
        if let Some(in_hand) = self.in_hand.take().filter(|_| std::thread::panicking()) {
            tracing::error!(delivery = %in_hand.0, "a worker broke off; the delivery is attempted again");
            self.deliverer.strays(&self.lane, vec![in_hand]);
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

/// Whether connections to one may be used for the other: no change of how the two ends prove themselves may be outlived by
/// a connection that was made before.
fn is_same_place(one: &EndpointView, other: &EndpointView) -> bool {
    one.destination() == other.destination()
}

/// What became of a delivery in a worker's hands.
enum Tried {
    Attempted(Attempted),
    Not(Reason),
}

/// Why a delivery was not tried.
#[derive(Clone, Copy)]
enum Reason {
    /// Its endpoint was deactivated, a drain held it up, or this node may not sign just now: it is still owed, and no try
    /// was used up.
    Postponed,
    /// This machine has no socket, port or memory for it, or the egress proxy fails.
    NoWay,
    /// Its endpoint was deleted.
    Gone,
    /// Its lease is lost: others deliver it.
    Lost,
}

impl From<Unfit> for Reason {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Lost => Self::Lost,
            Unfit::NoRight => Self::Postponed,
        }
    }
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
        let lane = self.lane.clone();
        loop {
            if !lane.has_work() {
                if self.rest().await { continue } else { break }
            }
            let Some(permit) = self.permit().await else { break };
            match lane.turn(permit.is_first()) {
                Turn::Job(job, refill) => {
                    self.ask_for_more(refill);
                    if let Some(job) = self.deliver(*job, permit).await {
                        self.wait_for_a_way(job).await;
                    }
                }
                Turn::Empty => {}
                Turn::Retire => {
                    self.has_left = true;
                    break;
                }
            }
        }
    }

    /// Waits for the right to send; none when the service stops.
    async fn permit(&mut self) -> Option<Permit> {
        let deliverer = self.deliverer.clone();
        let lane = self.lane.clone();
        let permitted = async {
            deliverer.recording.works().await;
            deliverer.life.right_to_sign(&*deliverer.clock).await;
            deliverer.permits.permit(&lane).await
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
        let place = self.deliverer.permits.place_for_idle();
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

    /// Attempts a delivery. It is handed back when there is no way for it.
    async fn deliver(&mut self, job: Job, permit: Permit) -> Option<Job> {
        self.in_hand = Some((job.delivery.id, job.delivery.lease));
        match self.attempt(&job).await {
            Tried::Attempted(attempted) => {
                let recorded = self.settle(job, attempted, permit.answered());
                self.in_hand = None;
                if let Some(recorded) = recorded {
                    self.hold_back(recorded).await;
                }
            }
            Tried::Not(Reason::Postponed) => self.give_back(job),
            Tried::Not(Reason::NoWay) => return Some(job),
            // What is owed to a deleted endpoint is purged with it.
            Tried::Not(Reason::Gone | Reason::Lost) => {}
        }
        self.in_hand = None;
        None
    }

    /// Waits after a try that got no answer. A connection can be refused more often a second than attempts can be written:
    /// those of a dead endpoint would keep the store from everybody else's. Its first answer ends that.
    async fn hold_back(&mut self, recorded: oneshot::Receiver<()>) {
        // It ends when the other end is dropped: the attempt is written, or given up.
        let _ = recorded.await;
        tokio::select! {
            biased;
            () = self.deliverer.stopping.cancelled() => {}
            () = self.deliverer.clock.sleep(UNANSWERED_PAUSE) => {}
        }
    }

    /// Gives a delivery back after a while, without a permit, so that those who have connections go on.
    async fn wait_for_a_way(&mut self, job: Job) {
        tokio::select! {
            biased;
            () = self.deliverer.stopping.cancelled() => {}
            () = self.deliverer.clock.sleep(NO_WAY_PAUSE) => {}
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
                    return Tried::Not(Reason::NoWay);
                }
                Err(NotConnected::Proxy(detail)) => {
                    let endpoint = job.delivery.endpoint;
                    tracing::debug!(%endpoint, "the egress proxy fails: {detail}");
                    return Tried::Not(Reason::NoWay);
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
        let connecting = self.deliverer.transport.connect(view.destination(), limit);
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
        // The time was read before, so that no request says that it was signed when it could not have been.
        let (life, lease) = (&self.deliverer.life, job.delivery.lease);
        life.may_sign(lease, &*self.deliverer.clock)
            .map_err(|unfit| Unsigned::Not(unfit.into()))?;
        let Some(signing) = &view.signing else { return Err(Unsigned::Not(Reason::Postponed)) };
        let (event, payload) = (job.delivery.event, &job.delivery.payload);
        let signed = signing.template.sign(event, payload, &signing.signer, sent_at);
        let peer_address = held.connection.peer().map(|peer| peer.to_string());
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

    /// Decides what follows, and hands it in to be written down.
    /// Where no answer came, it answers what ends when it is.
    fn settle(
        &mut self,
        job: Job,
        attempted: Attempted,
        permit: Unrecorded,
    ) -> Option<oneshot::Receiver<()>> {
        let deliverer = &self.deliverer;
        self.lane.observe(&attempted.outcome, attempted.duration);
        // The window may have room again for what queues.
        deliverer.attend(&self.lane, 1);
        let settled_at = deliverer.clock.now();
        let attempt_number = job.delivery.attempts_made + 1;
        let Attempted { outcome, sent_at, duration, peer_address, signature } = attempted;
        let jitter =
            if outcome.is_success() { Jitter::NONE } else { clock::jitter(&*deliverer.clock) };
        let settlement =
            delivery::settle(&outcome, attempt_number, &deliverer.schedule, settled_at, jitter);
        if !outcome.is_success() {
            log_failure(&job, attempt_number, &outcome, settlement);
        }
        let (held_up, recorded) = match outcome {
            Outcome::Answered(_) => (None, None),
            Outcome::Unanswered(_) => {
                let (held_up, recorded) = oneshot::channel();
                (Some(held_up), Some(recorded))
            }
        };
        deliverer.records.send(Finished {
            job,
            lane: self.lane.clone(),
            permit,
            held_up,
            attempt_number,
            sent_at,
            duration,
            peer_address,
            signature,
            outcome,
            settled_at,
            settlement,
        });
        recorded
    }

    /// Gives a delivery back to the store, and with it all others of a lane that can't be worked on.
    fn give_back(&self, job: Job) {
        let leased = |job: &Job| (job.delivery.id, job.delivery.lease);
        let mut deliveries = vec![leased(&job)];
        deliveries.extend(self.lane.clear().iter().map(leased));
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
