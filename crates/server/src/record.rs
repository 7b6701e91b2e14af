//! Writes attempts down: all that have gathered while the last ones were on their way to disk, in one go; and then does
//! what follows from each.
//!
//! Workers hand their attempts in and go on. An attempt keeps its permit until it is on disk, so that they never run far
//! ahead; and once a record has failed, nothing more is sent until one succeeds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use postrider_kernel::{AttemptId, EndpointId, Next, Outcome, Settlement, Timestamp};
use postrider_store::{AttemptRecord, IdKind, Recorded, Store, StoreError};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    directory::Directory,
    dispatch::{Note, Notes, Stray},
    ids::Ids,
    lanes::{Job, Lane, Refill},
    metrics::Metrics,
    permits::Unrecorded,
    vault::Vault,
};

/// How long to wait before a record that failed is tried again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How many attempts are written in one go, at most.
const RECORDS_MAX: usize = 512;

/// An attempt that is over, and has to be written down.
pub struct Finished {
    /// What was attempted; its memory is held until it is written.
    pub job: Job,
    /// For whom.
    pub lane: Arc<Lane>,
    /// What is left of its permit.
    pub permit: Unrecorded,
    /// Who waits for it to be written, if anybody does: dropped then.
    pub held_up: Option<oneshot::Sender<()>>,
    /// Which try of the delivery this was, from 1.
    pub attempt_number: u32,
    /// When it was signed, or, where it did not get that far, begun.
    pub sent_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// The address that was dialled.
    pub peer_address: Option<String>,
    /// The timestamped list's header; empty when nothing was signed.
    pub signature: String,
    /// What it came to.
    pub outcome: Outcome,
    /// When it ended.
    pub settled_at: Timestamp,
    /// What follows.
    pub settlement: Settlement,
}

/// Where workers hand attempts in.
#[derive(Clone, Debug)]
pub struct Records(mpsc::UnboundedSender<Finished>);

impl Records {
    /// The two ends. The queue is no longer than there are permits.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Finished>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Hands an attempt in.
    pub fn send(&self, finished: Finished) {
        if self.0.send(finished).is_err() {
            tracing::error!(
                "an attempt came too late to be recorded; its delivery is attempted again"
            );
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
    /// Waits until attempts can be written down.
    pub async fn works(&self) {
        while self.is_failing.load(Ordering::Acquire) {
            let recovered = self.recovered.notified();
            if self.is_failing.load(Ordering::Acquire) {
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
        if self.is_failing.load(Ordering::Acquire) && self.is_failing.swap(false, Ordering::AcqRel)
        {
            tracing::info!("attempts are recorded again");
            self.recovered.notify_waiters();
        }
    }
}

/// Writes attempts down.
pub struct Recorder {
    /// Where.
    pub store: Arc<dyn Store>,
    /// To be refreshed when an attempt deactivates its endpoint.
    pub directory: Arc<Directory>,
    /// Opens secrets when the directory is refreshed.
    pub vault: Arc<Vault>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Attempts' identifiers.
    pub ids: Arc<Ids>,
    /// Tells dispatch when something is due.
    pub notes: Notes,
    /// Counts what became of attempts.
    pub metrics: Arc<Metrics>,
    /// Whether it works.
    pub state: Arc<RecordingState>,
    /// From then on what can't be recorded is left to the next life.
    pub stopping: CancellationToken,
}

impl Recorder {
    /// Runs until `ended`, and then until everything that was handed in is on disk.
    pub async fn run(
        self: Arc<Self>,
        mut finished: mpsc::UnboundedReceiver<Finished>,
        ended: CancellationToken,
    ) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                count = finished.recv_many(&mut batch, RECORDS_MAX) => if count == 0 { return },
                () = ended.cancelled(), if !finished.is_closed() => finished.close(),
            }
            if !batch.is_empty() {
                self.clone().record_guarded(batch).await;
            }
        }
    }

    /// Records in a task of its own, so that a panic ends neither this loop nor what is owed.
    async fn record_guarded(self: Arc<Self>, batch: Vec<Finished>) {
        let stray = |finished: &Finished| Stray {
            tenant: finished.lane.tenant,
            endpoint: finished.lane.endpoint,
            delivery: finished.job.delivery.id,
            lease: finished.job.delivery.lease,
        };
        let strays: Vec<Stray> = batch.iter().map(stray).collect();
        if tokio::spawn(self.clone().record_batch(batch)).await.is_err() {
            tracing::error!("recording broke off; what was not recorded is attempted again");
            self.state.succeeded();
            self.notes.send(Note::Strays(strays));
        }
    }

    async fn record_batch(self: Arc<Self>, batch: Vec<Finished>) {
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let Some(Ok(ids)) = self.insist(|| self.ids.take(IdKind::Attempt, count)).await else {
            return;
        };
        let (records, follow_ups): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .zip(ids.map(AttemptId::new))
            .map(|(finished, id)| finished.into_record(id))
            .unzip();
        let records: Arc<[AttemptRecord]> = records.into();
        match self.insist(|| self.keep(records.clone())).await {
            Some(Ok(recorded)) => self.follow_up(follow_ups.into_iter().zip(recorded)).await,
            Some(Err(_)) => self.record_singly(&records, follow_ups).await,
            None => {}
        }
    }

    async fn keep(&self, records: Arc<[AttemptRecord]>) -> Result<Vec<Recorded>, StoreError> {
        let count = records.len();
        self.metrics.record(&*self.clock, count, self.store.record_all(records)).await
    }

    async fn keep_one(&self, record: AttemptRecord) -> Result<Recorded, StoreError> {
        self.metrics.record(&*self.clock, 1, self.store.record(record)).await
    }

    /// One of many is at fault: the others are recorded without it.
    async fn record_singly(&self, records: &[AttemptRecord], follow_ups: Vec<FollowUp>) {
        for (record, follow_up) in records.iter().zip(follow_ups) {
            match self.insist(|| self.keep_one(record.clone())).await {
                Some(Ok(recorded)) => self.follow_up([(follow_up, recorded)]).await,
                // The delivery stays leased to this life; the next one attempts it again.
                Some(Err(error)) => {
                    tracing::error!(delivery = %record.delivery, "an attempt can't be recorded: {error}");
                }
                None => return,
            }
        }
    }

    /// Asks the store until it is there to answer, however often that takes. `None` when the service stops first: the
    /// deliveries stay leased to this life, which ends, and the next one attempts them again.
    async fn insist<T, F>(&self, mut ask: impl FnMut() -> F) -> Option<Result<T, StoreError>>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut pause = AGAIN.0;
        loop {
            match ask().await {
                Err(error @ (StoreError::Unavailable(_) | StoreError::Broken(_))) => {
                    self.state.failed(&error)
                }
                answer => {
                    self.state.succeeded();
                    return Some(answer);
                }
            }
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return None,
                () = self.clock.sleep(pause) => pause = (pause * 2).min(AGAIN.1),
            }
        }
    }

    /// Does what follows from attempts that are on disk.
    async fn follow_up(&self, recorded: impl IntoIterator<Item = (FollowUp, Recorded)>) {
        let mut lanes = BTreeMap::<EndpointId, Arc<Lane>>::new();
        for (follow_up, recorded) in recorded {
            let FollowUp { job, lane, permit, held_up, duration, next, deactivates_endpoint } =
                follow_up;
            let delivery = job.delivery.id;
            // Before the lane is asked whether it has room.
            drop((job, permit, held_up));
            if recorded == Recorded::Done {
                self.metrics.attempted(&next, duration);
            }
            match (recorded, next) {
                (Recorded::LeaseLost, _) => {
                    tracing::debug!(%delivery, "its endpoint, or its lease, is gone")
                }
                (Recorded::Done, Next::Retry(due)) => {
                    self.notes.send(Note::Due(lane.tenant, lane.endpoint, due))
                }
                (Recorded::Done, Next::Delivered | Next::Failed) => {}
            }
            if deactivates_endpoint && recorded == Recorded::Done {
                self.take_in_deactivation(&lane).await;
            }
            lanes.insert(lane.endpoint, lane);
        }
        for lane in lanes.into_values().filter(|lane| lane.wants_more() == Refill::Claim) {
            self.notes.send(Note::Due(lane.tenant, lane.endpoint, self.clock.now()));
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

/// What has to be done once an attempt is on disk, and what is held until then.
struct FollowUp {
    job: Job,
    lane: Arc<Lane>,
    permit: Unrecorded,
    held_up: Option<oneshot::Sender<()>>,
    duration: Duration,
    next: Next,
    deactivates_endpoint: bool,
}

impl Finished {
    fn into_record(self, id: AttemptId) -> (AttemptRecord, FollowUp) {
        let delivery = &self.job.delivery;
        let Settlement { next, deactivates_endpoint } = self.settlement;
        let record = AttemptRecord {
            id,
            tenant: delivery.tenant,
            endpoint: delivery.endpoint,
            event: delivery.event,
            delivery: delivery.id,
            lease: delivery.lease,
            attempt_number: self.attempt_number,
            trigger: delivery.trigger,
            sent_at: self.sent_at,
            duration: self.duration,
            peer_address: self.peer_address,
            signature: self.signature,
            response: match self.outcome {
                Outcome::Answered(answer) => Ok((answer.status, answer.body)),
                Outcome::Unanswered(failure) => Err(failure),
            },
            settled_at: self.settled_at,
            next,
            deactivates_endpoint,
        };
        let Self { job, lane, permit, held_up, duration, .. } = self;
        (record, FollowUp { job, lane, permit, held_up, duration, next, deactivates_endpoint })
    }
}
