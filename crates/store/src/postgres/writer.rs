//! Many callers, one commit: what `group_commit.rs` is for one file, for a server at the other end of a connection.
//!
//! A commit costs a way to the server and back and a wait for its disk, however much it carries. So a few writers share one
//! queue; each takes all that waits there, sends it as one transaction without waiting for the answers in between, and
//! answers the callers. While some batches are on their way, the next one gathers. Postgres makes one wait for the disk of
//! commits that meet there.
//!
//! What holds, whatever happens:
//! - nobody is answered before the commit that carries their job;
//! - a job that fails takes nobody along: the batch is rolled back, and every job of it runs again alone;
//! - when the server or the connection is what fails, every caller hears [`StoreError::Unavailable`]. Where that was the
//!   commit's answer, nobody knows whether it came about; a record that is sent again is taken for what it is.

use std::{collections::HashSet, sync::Arc};

use deadpool_postgres::{Client, Pool};
use postrider_kernel::AttemptId;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_postgres::Error;

use super::{
    news::Outbox,
    publish::{self, Verdicts},
    query::{is_worth_another_try, sql},
    record,
};
use crate::{AttemptRecord, Publication, Published, Recorded, Result, StoreError};

/// How many batches are on their way at once. More of them are smaller, and each costs the same way.
pub(super) const WRITERS: i16 = 2;

/// How many jobs may wait before callers wait in turn.
const QUEUE_MAX: usize = 4096;

/// How many rows a batch has at most, and how many bytes; but one job is taken however large it is.
const BATCH_MAX: (usize, usize) = (4096, 16 << 20);

/// How often a batch is tried that met another one.
const TRIES: u32 = 4;

/// The queue before the writers. They end when it is dropped and empty.
pub(super) struct Writers {
    queue: mpsc::Sender<Job>,
}

/// What a caller waits for.
enum Job {
    Publish(Vec<Publication>, oneshot::Sender<Result<Published>>),
    Record(Arc<[AttemptRecord]>, oneshot::Sender<Result<Vec<Recorded>>>),
}

impl Writers {
    pub(super) fn start(pool: &Pool, outbox: &Arc<Outbox>) -> Self {
        let (queue, arrivals) = mpsc::channel(QUEUE_MAX);
        let arrivals = Arc::new(Mutex::new(arrivals));
        for number in 0..WRITERS {
            let (pool, outbox) = (pool.clone(), outbox.clone());
            let writer = Writer { number, pool, outbox, arrivals: arrivals.clone() };
            tokio::spawn(writer.run());
        }
        Self { queue }
    }

    /// Keeps publications, all or none.
    pub(super) async fn publish(&self, publications: Vec<Publication>) -> Result<Published> {
        self.run(|reply| Job::Publish(publications, reply)).await
    }

    /// Writes attempts, all or none.
    pub(super) async fn record(&self, attempts: Arc<[AttemptRecord]>) -> Result<Vec<Recorded>> {
        self.run(|reply| Job::Record(attempts, reply)).await
    }

    /// A caller that stops waiting does not stop the job.
    async fn run<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T>>) -> Job) -> Result<T> {
        let stopped = || StoreError::Unavailable("the writers have stopped".into());
        let (reply, answer) = oneshot::channel();
        self.queue.send(job(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Job {
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Publish(publications, _) => publications.iter().fold((0, 0), |sum, each| {
                (sum.0 + 1 + each.deliveries.len(), sum.1 + each.payload.len())
            }),
            Self::Record(attempts, _) => attempts.iter().fold((0, 0), |sum, each| {
                let body = each.response.as_ref().map_or(0, |(_, body)| body.len());
                (sum.0 + 1, sum.1 + body)
            }),
        }
    }

    // A caller that stopped waiting needs no answer.
    fn answer(self, verdict: &Result<Committed>) {
        match self {
            Self::Publish(publications, reply) => {
                let of = |committed: &Committed| committed.published.of(&publications);
                let _ = reply.send(verdict.as_ref().map(of).map_err(Clone::clone));
            }
            Self::Record(attempts, reply) => {
                let of = |committed: &Committed| record::of(&committed.written, &attempts);
                let _ = reply.send(verdict.as_ref().map(of).map_err(Clone::clone));
            }
        }
    }
}

/// What a transaction came to.
struct Committed {
    published: Verdicts,
    written: HashSet<AttemptId>,
}

/// Why a transaction didn't come about.
enum Undone {
    /// It met another one.
    Clash(StoreError),
    /// One of its jobs may be at fault, or the server is.
    Failed(StoreError),
}

impl From<Error> for Undone {
    fn from(error: Error) -> Self {
        let clashed = is_worth_another_try(&error);
        if clashed { Self::Clash(error.into()) } else { Self::Failed(error.into()) }
    }
}

impl From<StoreError> for Undone {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

struct Writer {
    /// Of this node: each writer counts attempts in rows of its own.
    number: i16,
    pool: Pool,
    outbox: Arc<Outbox>,
    arrivals: Arc<Mutex<mpsc::Receiver<Job>>>,
}

impl Writer {
    async fn run(self) {
        while let Some(batch) = self.next_batch().await {
            self.commit_batch(batch).await;
        }
    }

    /// Waits for a job, and takes with it what else has gathered, as much as a batch may have.
    async fn next_batch(&self) -> Option<Vec<Job>> {
        let mut arrivals = self.arrivals.lock().await;
        let first = arrivals.recv().await?;
        let (mut rows, mut bytes) = first.size();
        let mut batch = vec![first];
        while rows < BATCH_MAX.0
            && bytes < BATCH_MAX.1
            && let Ok(job) = arrivals.try_recv()
        {
            let more = job.size();
            (rows, bytes) = (rows + more.0, bytes + more.1);
            batch.push(job);
        }
        Some(batch)
    }

    async fn commit_batch(&self, batch: Vec<Job>) {
        match self.commit(&batch).await {
            Err(StoreError::Inconsistent(_)) if batch.len() > 1 => self.commit_alone(batch).await,
            verdict => answer_all(batch, &verdict),
        }
    }

    /// Gives each job a transaction of its own, until the server itself fails: the rest then hear of that at once,
    /// instead of each waiting for the same failure.
    async fn commit_alone(&self, batch: Vec<Job>) {
        let mut jobs = batch.into_iter();
        while let Some(job) = jobs.next() {
            let verdict = self.commit(std::slice::from_ref(&job)).await;
            job.answer(&verdict);
            if let Err(StoreError::Unavailable(_)) = verdict {
                return answer_all(jobs, &verdict);
            }
        }
    }

    async fn commit(&self, jobs: &[Job]) -> Result<Committed> {
        let mut tries = 1;
        let committed = loop {
            let client = self.pool.get().await?;
            match transact(&client, jobs, self.number).await {
                Ok(committed) => break committed,
                Err(Undone::Clash(_)) if tries < TRIES => tries += 1,
                Err(Undone::Clash(error) | Undone::Failed(error)) => return Err(error),
            }
        };
        self.tell_pending(jobs, &committed);
        Ok(committed)
    }

    /// Tells the other nodes of what was published pending.
    fn tell_pending(&self, jobs: &[Job], committed: &Committed) {
        let fresh = publications(jobs)
            .filter(|publications| committed.published.of(publications) == Published::Fresh);
        self.outbox.put(fresh.flatten().flat_map(|publication| {
            let pending = publication.deliveries.iter().filter(|delivery| !delivery.leased);
            pending.map(|delivery| (publication.tenant, delivery.endpoint))
        }));
    }
}

/// Runs jobs as one transaction. All of it is sent before the first answer has come: where a statement fails, the server
/// skips the rest, and ends with a rollback.
async fn transact(
    client: &Client,
    jobs: &[Job],
    writer: i16,
) -> std::result::Result<Committed, Undone> {
    let statements = publish::Statements::prepare(client).await?;
    let statement = client.prepare_cached(sql!("record")).await?;
    let published = publish::Columns::of(publications(jobs));
    let attempted = record::Columns::of(attempts(jobs));
    let (begun, kept, earlier, written, ended) = tokio::join!(
        biased;
        client.batch_execute("BEGIN"),
        publish::keep(client, &statements, &published),
        publish::find_earlier(client, &statements, &published),
        record::write(client, &statement, &attempted, writer),
        client.batch_execute("COMMIT"),
    );
    begun?;
    let (kept, earlier, written) = (kept?, earlier?, written?);
    ended?;
    Ok(Committed { published: Verdicts::read(&kept, &earlier)?, written: record::read(&written)? })
}

fn publications(jobs: &[Job]) -> impl Iterator<Item = &[Publication]> {
    jobs.iter().filter_map(|job| match job {
        Job::Publish(publications, _) => Some(&publications[..]),
        Job::Record(..) => None,
    })
}

fn attempts(jobs: &[Job]) -> impl Iterator<Item = &AttemptRecord> {
    jobs.iter().flat_map(|job| match job {
        Job::Record(attempts, _) => &attempts[..],
        Job::Publish(..) => &[],
    })
}

fn answer_all(jobs: impl IntoIterator<Item = Job>, verdict: &Result<Committed>) {
    for job in jobs {
        job.answer(verdict);
    }
}
