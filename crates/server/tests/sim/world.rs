//! What outlives a simulated process: time, the store, the receivers, the ledger of what was seen, and the trace.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use postrider::clock::Clock;
use postrider_kernel::Timestamp;
use postrider_store::memory::MemoryStore;
use tokio::{sync::Notify, time::Instant};

use crate::{ledger::Ledger, plan::Plan, rng::Rng, store::Fate, trace::Trace};

/// The wall clock when a run begins.
const EPOCH: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// What outlives a process.
pub struct World {
    /// What the seed decided beforehand.
    pub plan: Plan,
    /// What is durable.
    pub store: MemoryStore,
    /// What happened.
    pub trace: Mutex<Trace>,
    /// Set when the process is killed.
    pub killed: Notify,
    is_killed: AtomicBool,
    /// Verbs of a dead process that arrive late.
    late: Mutex<BTreeMap<u64, Late>>,
    script: Mutex<Vec<(&'static str, Fate)>>,
    ledger: Mutex<Ledger>,
    time: Time,
    commits: AtomicU64,
    calls: AtomicU64,
    records: AtomicU64,
    store_chance: Mutex<Rng>,
    network_chance: Mutex<Rng>,
    entropy: Mutex<Rng>,
}

/// A verb that is on its way though whoever asked is dead.
pub type Late = Box<dyn FnOnce() + Send>;

/// The one time of a run. Each process has a runtime of its own, whose paused clock begins anew; this one goes on.
#[derive(Default)]
struct Time {
    carried_micros: AtomicU64,
    set_seconds: AtomicI64,
    life_began: Mutex<Option<Instant>>,
    latest_micros: AtomicI64,
}

impl World {
    /// The beginning of a run.
    pub fn new(seed: u64, mut plan: Plan, keeps_trace: bool) -> Arc<Self> {
        let script = std::mem::take(&mut plan.script);
        Arc::new(Self {
            ledger: Mutex::new(Ledger::new(&plan)),
            plan,
            store: MemoryStore::new(),
            trace: Mutex::new(Trace::new(keeps_trace)),
            killed: Notify::new(),
            is_killed: AtomicBool::new(false),
            late: Mutex::default(),
            script: Mutex::new(script),
            time: Time::default(),
            commits: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            records: AtomicU64::new(0),
            store_chance: Mutex::new(Rng::new(seed, "store")),
            network_chance: Mutex::new(Rng::new(seed, "network")),
            entropy: Mutex::new(Rng::new(seed, "entropy")),
        })
    }

    // ---- time ----

    /// A process begins; the runtime's clock is from now on the time.
    #[allow(
        clippy::disallowed_methods,
        reason = "the runtime's clock is paused: it is simulated time"
    )]
    pub fn begin_life(&self) {
        *lock(&self.time.life_began) = Some(Instant::now());
        self.is_killed.store(false, Ordering::Relaxed);
        // The death of the last one is over.
        let _ = self.killed.notified().now_or_never();
    }

    /// A process has ended, and the next one begins so much later. Called while its runtime still tells the time.
    pub fn end_life(&self, downtime: Duration) {
        let end = micros(self.elapsed() + downtime);
        *lock(&self.time.life_began) = None;
        self.time.carried_micros.store(end, Ordering::Relaxed);
    }

    /// Time since the run began.
    #[allow(
        clippy::disallowed_methods,
        reason = "the runtime's clock is paused: it is simulated time"
    )]
    pub fn elapsed(&self) -> Duration {
        let carried = Duration::from_micros(self.time.carried_micros.load(Ordering::Relaxed));
        let began = *lock(&self.time.life_began);
        carried + began.map_or(Duration::ZERO, |began| Instant::now() - began)
    }

    /// The wall clock.
    pub fn wall(&self) -> Timestamp {
        let set_seconds = self.time.set_seconds.load(Ordering::Relaxed);
        let set = Timestamp::from_micros(EPOCH.as_micros() + set_seconds * 1_000_000);
        let now = set.plus(self.elapsed());
        self.time.latest_micros.fetch_max(now.as_micros(), Ordering::Relaxed);
        now
    }

    /// The latest time that the wall clock has shown.
    pub fn latest_wall(&self) -> Timestamp {
        Timestamp::from_micros(self.time.latest_micros.load(Ordering::Relaxed))
    }

    /// Sets the wall clock.
    pub fn set_wall(&self, by_seconds: i64) {
        self.time.set_seconds.fetch_add(by_seconds, Ordering::Relaxed);
        self.note(|| format!("the wall clock is set by {by_seconds} s"));
    }

    /// Waits until so much time has passed since the run began.
    pub async fn until(&self, moment: Duration) {
        tokio::time::sleep(moment.saturating_sub(self.elapsed())).await;
    }

    /// Whether all faults have ended.
    pub fn is_healed(&self) -> bool {
        self.elapsed() >= self.plan.heals_at
    }

    // ---- death ----

    /// Kills the process.
    pub fn kill(&self, why: &str) {
        if !self.is_killed.swap(true, Ordering::Relaxed) {
            self.note(|| format!("killed: {why}"));
            self.killed.notify_one();
        }
    }

    /// Whether the process was killed.
    pub fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Relaxed)
    }

    /// Counts a commit; the plan may kill the process between it and its answer.
    pub fn count_commit(&self) {
        let commits = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        if self.plan.kills_after_commit.contains(&commits) && !self.is_healed() {
            self.kill("between a commit and its answer");
        }
    }

    /// Numbers a call; the plan may kill the process while a record is on its way.
    pub fn count_call(&self, verb: &str) -> u64 {
        if verb == "record_all" {
            let records = self.records.fetch_add(1, Ordering::Relaxed) + 1;
            if self.plan.kills_at_record.contains(&records) && !self.is_healed() {
                self.kill("while a record is on its way");
            }
        }
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets the call of that number arrive later, though its process is dead.
    pub fn delay(&self, number: u64, late: Late) {
        lock(&self.late).insert(number, late);
    }

    /// What dead processes had on its way, in order.
    pub fn take_late(&self) -> Vec<Late> {
        std::mem::take(&mut *lock(&self.late)).into_values().collect()
    }

    /// How the next call of a verb fares, where the plan says so.
    pub fn take_scripted(&self, verb: &str) -> Option<Fate> {
        let mut script = lock(&self.script);
        let place = script.iter().position(|(of, _)| *of == verb)?;
        Some(script.remove(place).1)
    }

    // ---- chance, the ledger and the trace ----

    /// Decides how the store fares.
    pub fn store_chance(&self) -> MutexGuard<'_, Rng> {
        lock(&self.store_chance)
    }

    /// Decides how receivers and publishers fare.
    pub fn network_chance(&self) -> MutexGuard<'_, Rng> {
        lock(&self.network_chance)
    }

    /// What was seen.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Writes a line into the trace.
    pub fn note(&self, line: impl FnOnce() -> String) {
        lock(&self.trace).add(self.elapsed(), &line());
    }
}

/// A lock that nobody else holds: a run has one thread.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The engine's clock.
pub struct SimClock(pub Arc<World>);

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.0.wall()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn fill(&self, buffer: &mut [u8]) {
        let mut entropy = lock(&self.0.entropy);
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&entropy.next().to_le_bytes()[..chunk.len()]);
        }
    }
}
