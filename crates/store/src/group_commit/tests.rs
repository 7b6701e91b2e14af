//! An engine that writes down what it is told, and fails when it is told to.

use std::sync::{Arc, Mutex, mpsc};

use tokio::sync::oneshot;

use super::{Engine, GroupCommit};
use crate::{Result, StoreError};

type Log = Arc<Mutex<Vec<String>>>;

/// Keeps numbers, as a database would keep rows.
#[derive(Default)]
struct Numbers {
    log: Log,
    /// What was written since the last commit.
    written: Vec<i64>,
    begin_fails: bool,
    commit_fails: Option<StoreError>,
}

impl Numbers {
    fn log(&self, text: String) {
        self.log.lock().unwrap().push(text);
    }
}

impl Engine for Numbers {
    type Totals = i64;

    fn begin(&mut self) -> Result<()> {
        if self.begin_fails { Err(disk_full()) } else { Ok(()) }
    }

    fn commit(&mut self, totals: i64) -> Result<()> {
        if let Some(error) = self.commit_fails.take() {
            return Err(error);
        }
        let written = std::mem::take(&mut self.written);
        self.log(format!("commit {written:?}, total {totals}"));
        Ok(())
    }

    fn rollback(&mut self) {
        let written = std::mem::take(&mut self.written);
        self.log(format!("rollback {written:?}"));
    }
}

fn disk_full() -> StoreError {
    StoreError::Unavailable("disk full".into())
}

fn write(number: i64) -> impl FnMut(&mut Numbers, &mut i64) -> Result<i64> + Send + 'static {
    move |numbers, total| {
        numbers.written.push(number);
        *total += number;
        Ok(number)
    }
}

fn fail(number: i64) -> impl FnMut(&mut Numbers, &mut i64) -> Result<i64> + Send + 'static {
    move |numbers, total| {
        write(number)(numbers, total)?;
        Err(StoreError::Inconsistent(format!("job {number}")))
    }
}

/// A writer that is held in its first transaction, so that what is asked meanwhile becomes the second.
struct Held {
    commits: Arc<GroupCommit<Numbers>>,
    log: Log,
    release: mpsc::Sender<()>,
    first: tokio::task::JoinHandle<Result<()>>,
}

impl Held {
    async fn start(engine: Numbers) -> Self {
        let log = engine.log.clone();
        let commits = Arc::new(GroupCommit::start(engine).unwrap());
        let (release, released) = mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let mut begun = Some(begun);
        let first = tokio::spawn({
            let commits = commits.clone();
            async move {
                commits
                    .run(move |_, _| {
                        let _ = begun.take().map(|begun| begun.send(()));
                        let _ = released.recv();
                        Ok(())
                    })
                    .await
            }
        });
        has_begun.await.unwrap();
        Self { commits, log, release, first }
    }

    async fn release(&self) {
        let _ = self.release.send(());
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

/// The answers of jobs 1 to 3, which share a batch; the second is `second`.
async fn run_three(
    held: &Held,
    second: impl FnMut(&mut Numbers, &mut i64) -> Result<i64> + Send + 'static,
) -> [std::result::Result<i64, String>; 3] {
    // `join!` polls in order: all three are queued before the writer is released.
    let (one, two, three, ()) = tokio::join!(
        held.commits.run(write(1)),
        held.commits.run(second),
        held.commits.run(write(3)),
        held.release(),
    );
    [one, two, three].map(|answer| answer.map_err(|error| error.to_string()))
}

const FIRST: &str = "commit [], total 0";

#[tokio::test]
async fn what_arrives_during_a_commit_shares_the_next() {
    let held = Held::start(Numbers::default()).await;
    assert_eq!(run_three(&held, write(2)).await, [Ok(1), Ok(2), Ok(3)]);
    assert_eq!(held.log(), [FIRST, "commit [1, 2, 3], total 6"]);
    held.first.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_failing_job_does_not_fail_its_neighbours() {
    let held = Held::start(Numbers::default()).await;
    let failed = Err("the store is inconsistent: job 2".to_owned());
    assert_eq!(run_three(&held, fail(2)).await, [Ok(1), failed, Ok(3)]);
    let expected =
        [FIRST, "rollback [1, 2]", "commit [1], total 1", "rollback [2]", "commit [3], total 3"];
    assert_eq!(held.log(), expected);
}

#[tokio::test]
async fn a_panic_is_answered_and_the_writer_goes_on() {
    let held = Held::start(Numbers::default()).await;
    let panicked = Err("the store is inconsistent: a job panicked".to_owned());
    let answers = run_three(&held, |numbers, _| {
        numbers.written.push(2);
        panic!("a bug in a job")
    });
    assert_eq!(answers.await, [Ok(1), panicked, Ok(3)]);
    assert_eq!(held.commits.run(write(4)).await.unwrap(), 4);
}

#[tokio::test]
async fn a_full_disk_is_told_to_every_caller() {
    let held = Held::start(Numbers::default()).await;
    let answers = run_three(&held, |numbers, _| {
        numbers.commit_fails = Some(disk_full());
        Ok(2)
    });
    let full = || Err("the store is unavailable: disk full".to_owned());
    assert_eq!(answers.await, [full(), full(), full()]);
    assert_eq!(held.log(), [FIRST, "rollback [1, 3]"]);
    assert_eq!(held.commits.run(write(4)).await.unwrap(), 4);
}

#[tokio::test]
async fn a_commit_that_fails_by_a_jobs_fault_is_tried_alone() {
    let held = Held::start(Numbers::default()).await;
    let answers = run_three(&held, |numbers, total| {
        numbers.commit_fails = Some(StoreError::Inconsistent("constraint".into()));
        write(2)(numbers, total)
    });
    let failed = Err("the store is inconsistent: constraint".to_owned());
    assert_eq!(answers.await, [Ok(1), failed, Ok(3)]);
}

#[tokio::test]
async fn an_engine_that_cannot_begin_is_asked_once_per_batch() {
    let held = Held::start(Numbers::default()).await;
    let answers = run_three(&held, |numbers, _| {
        numbers.begin_fails = true;
        Err(StoreError::Inconsistent("job 2".into()))
    });
    let full = || Err("the store is unavailable: disk full".to_owned());
    assert_eq!(answers.await, [full(), full(), full()]);
    assert_eq!(held.log(), [FIRST, "rollback [1]"]);
}

#[tokio::test]
async fn a_caller_that_stops_waiting_does_not_stop_its_job() {
    let held = Held::start(Numbers::default()).await;
    let forgotten = tokio::spawn({
        let commits = held.commits.clone();
        async move { commits.run(write(1)).await }
    });
    tokio::task::yield_now().await;
    forgotten.abort();
    assert!(forgotten.await.unwrap_err().is_cancelled());
    let (two, ()) = tokio::join!(held.commits.run(write(2)), held.release());
    assert_eq!(two.unwrap(), 2);
    assert_eq!(held.log(), [FIRST, "commit [1, 2], total 3"]);
}

#[tokio::test]
async fn dropping_it_runs_what_has_queued() {
    let held = Held::start(Numbers::default()).await;
    let queued = tokio::spawn({
        let commits = held.commits.clone();
        async move { commits.run(write(1)).await }
    });
    tokio::task::yield_now().await;
    queued.abort();
    let _ = queued.await;
    held.release().await;
    held.first.await.unwrap().unwrap();
    drop(held.commits);
    assert_eq!(*held.log.lock().unwrap(), [FIRST, "commit [1], total 1"]);
}

#[tokio::test]
async fn a_broken_engine_is_asked_nothing_more_and_everybody_hears_so() {
    let held = Held::start(Numbers::default()).await;
    let answers = run_three(&held, |numbers, total| {
        numbers.commit_fails = Some(StoreError::Broken("EIO".into()));
        write(2)(numbers, total)
    });
    let broken = || Err(StoreError::Broken("EIO".into()).to_string());
    assert_eq!(answers.await, [broken(), broken(), broken()]);
    assert!(matches!(held.commits.broke().await, StoreError::Broken(_)));
    assert!(held.commits.check().is_err());
    assert!(matches!(held.commits.run(write(4)).await, Err(StoreError::Broken(_))));
    assert_eq!(held.log(), [FIRST], "nothing is committed, and nothing rolled back");
}
