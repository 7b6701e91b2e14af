//! Many callers, one commit.
//!
//! A commit that survives a power loss costs one wait for the disk, however much it carries. So one thread owns the
//! connection, and while it waits for the disk the next jobs gather in a queue; then it runs all that have gathered in
//! one transaction. There is no timer and nothing to tune: a lone job is committed at once, and a crowd shares.
//!
//! What holds, whatever happens:
//! - nobody is answered before the commit that carries their job;
//! - a job that fails, or panics, leaves nothing behind and takes nobody along: the batch is rolled back and every job
//!   of it runs again in a transaction of its own;
//! - when the disk is what fails, every caller hears [`StoreError::Unavailable`], and the next batch is tried afresh;
//! - once the engine is [`StoreError::Broken`] nothing is asked of it any more, not even to be closed, and everybody hears so.
//!
//! What a job *is*, this file doesn't know, nor which database runs it: that is the [`Engine`]'s.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{Builder, JoinHandle},
};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{Result, StoreError};

/// How many jobs share a commit at most, and how many may wait for the next one before callers wait in turn.
pub const BATCH_MAX: usize = 1024;

/// A connection that runs transactions.
pub trait Engine: Send + 'static {
    /// What the jobs of one transaction add up in memory, to be written once when it commits.
    type Totals: Default;

    /// Begins a transaction.
    fn begin(&mut self) -> Result<()>;

    /// Writes the totals and commits. Where that fails, [`Engine::rollback`] is called next.
    fn commit(&mut self, totals: Self::Totals) -> Result<()>;

    /// Undoes the transaction, if there is still one.
    fn rollback(&mut self);
}

/// The queue before an engine, and the thread behind it. Dropping it runs what has queued, and waits for the end.
pub struct GroupCommit<E: Engine> {
    /// `None` only while dropping: a closed queue is how the thread learns that it is to end.
    queue: Option<mpsc::Sender<Box<dyn Job<E>>>>,
    broken: watch::Receiver<Option<StoreError>>,
    thread: Option<JoinHandle<()>>,
}

impl<E: Engine> GroupCommit<E> {
    /// Starts the thread that owns `engine`.
    pub fn start(engine: E) -> io::Result<Self> {
        let (queue, arrivals) = mpsc::channel(BATCH_MAX);
        let (tells, broken) = watch::channel(None);
        let thread = Builder::new()
            .name("store-writer".into())
            .spawn(move || commit_batches(engine, arrivals, &tells))?;
        Ok(Self { queue: Some(queue), broken, thread: Some(thread) })
    }

    /// Fails once the engine is broken.
    pub fn check(&self) -> Result<()> {
        self.broken.borrow().clone().map_or(Ok(()), Err)
    }

    /// Waits until the engine is broken, and answers how.
    pub async fn broke(&self) -> StoreError {
        let mut broken = self.broken.clone();
        match broken.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            // The thread has ended without.
            _ => std::future::pending().await,
        }
    }

    /// Runs a job in a transaction that it may share with others, and answers once that is committed.
    ///
    /// The job may run more than once: only the last run's effects are kept, and only its answer is given. A caller that
    /// stops waiting does not stop the job.
    pub async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut E, &mut E::Totals) -> Result<T> + Send + 'static,
    {
        let stopped = || StoreError::Unavailable("the writer has stopped".into());
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Asked { work, outcome: None, reply });
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl<E: Engine> Drop for GroupCommit<E> {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // The thread catches the panics of jobs; one of its own is nothing that a drop could mend.
            let _ = thread.join();
        }
    }
}

/// A job with its type forgotten, so that one queue carries all of them.
trait Job<E: Engine>: Send {
    fn run(&mut self, engine: &mut E, totals: &mut E::Totals) -> Result<()>;
    fn answer(self: Box<Self>, verdict: Result<()>);
}

/// A job with its caller.
struct Asked<F, T> {
    work: F,
    outcome: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<E, F, T> Job<E> for Asked<F, T>
where
    E: Engine,
    T: Send,
    F: FnMut(&mut E, &mut E::Totals) -> Result<T> + Send,
{
    fn run(&mut self, engine: &mut E, totals: &mut E::Totals) -> Result<()> {
        // What a panic may have left half done is rolled back with the transaction, so no broken state is seen.
        let ran = catch_unwind(AssertUnwindSafe(|| (self.work)(engine, totals)));
        let panicked = |_| Err(StoreError::Inconsistent("a job panicked".into()));
        self.outcome = Some(ran.unwrap_or_else(panicked)?);
        Ok(())
    }

    fn answer(self: Box<Self>, verdict: Result<()>) {
        let never_ran = || StoreError::Inconsistent("a job was committed that never ran".into());
        let Self { outcome, reply, .. } = *self;
        // A caller that stopped waiting needs no answer.
        let _ = reply.send(verdict.and_then(|()| outcome.ok_or_else(never_ran)));
    }
}

/// Why a transaction was rolled back.
enum Undone {
    /// One of its jobs was at fault; the others may fare better alone.
    ByJob(StoreError),
    /// The engine was; nobody would fare better now.
    ByEngine(StoreError),
}

/// The thread's life: takes what has arrived, up to [`BATCH_MAX`], until the queue is closed and empty.
fn commit_batches<E: Engine>(
    mut engine: E,
    mut arrivals: mpsc::Receiver<Box<dyn Job<E>>>,
    broken: &watch::Sender<Option<StoreError>>,
) {
    let mut batch = Vec::new();
    while arrivals.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        if let Some(error) = commit_batch(&mut engine, std::mem::take(&mut batch)) {
            broken.send_replace(Some(error.clone()));
            refuse_all(arrivals, &error);
            // To close it would be to write.
            return std::mem::forget(engine);
        }
    }
}

/// The end of a broken engine: whoever still asks is told.
fn refuse_all<E: Engine>(mut arrivals: mpsc::Receiver<Box<dyn Job<E>>>, error: &StoreError) {
    while let Some(job) = arrivals.blocking_recv() {
        job.answer(Err(error.clone()));
    }
}

/// Answers how the engine broke, if it did.
fn commit_batch<E: Engine>(engine: &mut E, mut batch: Vec<Box<dyn Job<E>>>) -> Option<StoreError> {
    match transact(engine, &mut batch) {
        Err(Undone::ByJob(_)) if batch.len() > 1 => commit_alone(engine, batch),
        Ok(()) => answer_all(batch, Ok(())),
        Err(Undone::ByJob(error) | Undone::ByEngine(error)) => answer_all(batch, Err(error)),
    }
}

/// Gives each job a transaction of its own, until the engine itself fails: the rest then hear of that at once, instead
/// of each waiting for the same failure.
fn commit_alone<E: Engine>(engine: &mut E, batch: Vec<Box<dyn Job<E>>>) -> Option<StoreError> {
    let mut jobs = batch.into_iter();
    while let Some(mut job) = jobs.next() {
        match transact(engine, std::slice::from_mut(&mut job)) {
            Ok(()) => job.answer(Ok(())),
            Err(Undone::ByJob(error)) => job.answer(Err(error)),
            Err(Undone::ByEngine(error)) => {
                job.answer(Err(error.clone()));
                return answer_all(jobs, Err(error));
            }
        }
    }
    None
}

fn transact<E: Engine>(
    engine: &mut E,
    jobs: &mut [Box<dyn Job<E>>],
) -> std::result::Result<(), Undone> {
    engine.begin().map_err(Undone::ByEngine)?;
    let mut totals = E::Totals::default();
    let ran = jobs.iter_mut().try_for_each(|job| job.run(engine, &mut totals));
    let undone = match ran.map(|()| engine.commit(totals)) {
        Ok(Ok(())) => return Ok(()),
        // Not even a rollback is asked of it.
        Ok(Err(error @ StoreError::Broken(_))) | Err(error @ StoreError::Broken(_)) => {
            return Err(Undone::ByEngine(error));
        }
        Ok(Err(error @ StoreError::Unavailable(_))) => Undone::ByEngine(error),
        // A commit may also fail by a job's fault: a constraint that is only looked at then.
        Ok(Err(error)) | Err(error) => Undone::ByJob(error),
    };
    engine.rollback();
    Err(undone)
}

/// Tells all of them the same; answers how the engine broke, if that is what they are told.
fn answer_all<E: Engine>(
    jobs: impl IntoIterator<Item = Box<dyn Job<E>>>,
    verdict: Result<()>,
) -> Option<StoreError> {
    for job in jobs {
        job.answer(verdict.clone());
    }
    verdict.err().filter(|error| matches!(error, StoreError::Broken(_)))
}

#[cfg(test)]
mod tests;
