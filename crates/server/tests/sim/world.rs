//! What outlives the simulated processes: time and what is to happen at which, the store, the receivers, the ledger of what
//! was seen, and the trace.
//!
//! There is one time, and it passes only when nothing is left to do at this moment: then it jumps to the next thing that is
//! to happen. Nothing but that list reaches from one process to another, so that which of them runs next is never chance.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use postrider::clock::Clock;
use postrider_kernel::Timestamp;
use postrider_store::memory::MemoryStore;

use crate::{ledger::Ledger, nodes::Nodes, plan::Plan, rng::Rng, store::Fate, trace::Trace};

/// The wall clock when a run begins.
const EPOCH: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// How far apart the nodes' clocks that only go forward are: they were not started at the same moment.
const BOOTS_APART: Duration = Duration::from_secs(1_000);

/// Whoever sleeps longer never wakes up.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// What outlives a process.
pub struct World {
    /// What the seed decided beforehand.
    pub plan: Plan,
    /// What is durable.
    pub store: MemoryStore,
    /// What happened.
    pub trace: Mutex<Trace>,
    nodes: Mutex<Nodes>,
    script: Mutex<Vec<(&'static str, Fate)>>,
    ledger: Mutex<Ledger>,
    agenda: Mutex<Agenda>,
    /// The time, in microseconds since the run began.
    elapsed_micros: AtomicU64,
    wall_clocks: Vec<WallClock>,
    processes: Vec<Process>,
    process_numbers: AtomicU64,
    is_over: AtomicBool,
    commits: AtomicU64,
    records: AtomicU64,
    store_chance: Mutex<Rng>,
    network_chance: Mutex<Rng>,
    entropy: Mutex<Rng>,
}

/// What is to happen, in order, and which nodes have something to do at once.
#[derive(Default)]
struct Agenda {
    events: BTreeMap<Key, Event>,
    count: u64,
    runnable: BTreeSet<usize>,
}

/// When something happens; of two things at one time that which was put down first.
type Key = (u64, u64);

enum Event {
    /// Somebody on that node has slept enough.
    Wake(usize, Waker),
    Do(Box<dyn FnOnce() + Send>),
}

/// A node's own wall clock.
#[derive(Default)]
struct WallClock {
    set_seconds: AtomicI64,
    latest_micros: AtomicI64,
}

/// The process that a node runs now.
#[derive(Default)]
struct Process {
    number: AtomicU64,
    is_killed: AtomicBool,
    is_frozen: AtomicBool,
    is_ready: AtomicBool,
}

impl World {
    /// The beginning of a run.
    pub fn new(seed: u64, mut plan: Plan, keeps_trace: bool) -> Arc<Self> {
        let script = std::mem::take(&mut plan.script);
        let wall_clock = |&seconds: &i64| WallClock {
            set_seconds: AtomicI64::new(seconds),
            ..WallClock::default()
        };
        Arc::new(Self {
            ledger: Mutex::new(Ledger::new(&plan)),
            store: MemoryStore::new(),
            trace: Mutex::new(Trace::new(keeps_trace)),
            nodes: Mutex::new(Nodes::new(plan.nodes())),
            script: Mutex::new(script),
            agenda: Mutex::default(),
            elapsed_micros: AtomicU64::new(0),
            wall_clocks: plan.wall_clocks.iter().map(wall_clock).collect(),
            processes: (0..plan.nodes()).map(|_| Process::default()).collect(),
            process_numbers: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            plan,
            commits: AtomicU64::new(0),
            records: AtomicU64::new(0),
            store_chance: Mutex::new(Rng::new(seed, "store")),
            network_chance: Mutex::new(Rng::new(seed, "network")),
            entropy: Mutex::new(Rng::new(seed, "entropy")),
        })
    }

    // ---- time ----

    /// Time since the run began.
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_micros.load(Ordering::Relaxed))
    }

    /// The database's clock, which nobody sets.
    pub fn database_clock(&self) -> Timestamp {
        EPOCH.plus(self.elapsed())
    }

    /// A node's own wall clock.
    pub fn wall(&self, node: usize) -> Timestamp {
        let clock = &self.wall_clocks[node];
        let set_seconds = clock.set_seconds.load(Ordering::Relaxed);
        let set = Timestamp::from_micros(EPOCH.as_micros() + set_seconds * 1_000_000);
        let now = set.plus(self.elapsed());
        clock.latest_micros.fetch_max(now.as_micros(), Ordering::Relaxed);
        now
    }

    /// The receivers' clock, which goes with whatever due times are measured by.
    pub fn receivers_clock(&self) -> Timestamp {
        if self.plan.is_shared() { self.database_clock() } else { self.wall(0) }
    }

    /// The latest time by which anything may be due: that of the database, or else the latest that the one wall clock has
    /// shown.
    pub fn latest_time(&self, node: usize) -> Timestamp {
        if self.plan.is_shared() {
            return self.database_clock();
        }
        Timestamp::from_micros(self.wall_clocks[node].latest_micros.load(Ordering::Relaxed))
    }

    /// Sets a node's wall clock.
    pub fn set_wall(&self, node: usize, by_seconds: i64) {
        self.wall_clocks[node].set_seconds.fetch_add(by_seconds, Ordering::Relaxed);
        self.note(|| format!("the wall clock of node {node} is set by {by_seconds} s"));
    }

    /// Waits, on a node.
    pub fn sleep(self: &Arc<Self>, node: usize, duration: Duration) -> Sleep {
        let due = (duration < FOREVER).then(|| micros(self.elapsed() + duration));
        Sleep { world: self.clone(), node, due, key: None }
    }

    /// Waits, on a node, until so much time has passed since the run began.
    pub fn until(self: &Arc<Self>, node: usize, moment: Duration) -> Sleep {
        self.sleep(node, moment.saturating_sub(self.elapsed()))
    }

    /// Waits for something, on a node, but no longer than that.
    pub async fn timeout<T>(
        self: &Arc<Self>,
        node: usize,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.sleep(node, limit) => None,
        }
    }

    /// Has something happen after a while.
    pub fn after(&self, wait: Duration, what: impl FnOnce() + Send + 'static) {
        let due = micros(self.elapsed() + wait);
        self.agenda().put(due, Event::Do(Box::new(what)));
    }

    /// Lets the next thing happen; `false` when there is nothing.
    pub fn step(&self) -> bool {
        let Some(((due, _), event)) = self.agenda().events.pop_first() else { return false };
        self.elapsed_micros.store(due, Ordering::Relaxed);
        match event {
            Event::Wake(node, waker) => self.wake(node, waker),
            Event::Do(what) => what(),
        }
        true
    }

    /// Wakes somebody up on a node.
    pub fn wake(&self, node: usize, waker: Waker) {
        self.agenda().runnable.insert(node);
        waker.wake();
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        lock(&self.agenda)
    }

    /// A node that has something to do now, and isn't frozen.
    pub fn take_runnable(&self) -> Option<usize> {
        let mut agenda = self.agenda();
        let is_free = |node: &&usize| !self.processes[**node].is_frozen.load(Ordering::Relaxed);
        let node = *agenda.runnable.iter().find(is_free)?;
        agenda.runnable.remove(&node);
        Some(node)
    }

    /// Whether all planned faults have ended.
    pub fn is_healed(&self) -> bool {
        self.elapsed() >= self.plan.heals_at
    }

    /// Nothing more is to be seen: all nodes stop.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether nothing more is to be seen.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    // ---- processes ----

    /// A process begins on a node; answers its number, which none had before.
    pub fn begin_process(&self, node: usize) -> u64 {
        let number = self.process_numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let process = &self.processes[node];
        process.number.store(number, Ordering::Relaxed);
        for flag in [&process.is_killed, &process.is_frozen, &process.is_ready] {
            flag.store(false, Ordering::Relaxed);
        }
        self.nodes().forget_news(node);
        self.agenda().runnable.insert(node);
        self.note(|| format!("process {number} begins on node {node}"));
        number
    }

    /// The process of a node has ended, and with it everything that it had in memory.
    pub fn end_process(&self, node: usize) {
        self.processes[node].number.store(0, Ordering::Relaxed);
        self.ledger().process_ended(node);
    }

    /// Kills the process of a node.
    pub fn kill(&self, node: usize, why: &str) {
        if !self.processes[node].is_killed.swap(true, Ordering::Relaxed) {
            self.note(|| format!("node {node} is killed: {why}"));
        }
    }

    /// Whether the process of a node was killed.
    pub fn is_killed(&self, node: usize) -> bool {
        self.processes[node].is_killed.load(Ordering::Relaxed)
    }

    /// Whether a process has ended or was killed.
    pub fn is_dead(&self, node: usize, number: u64) -> bool {
        self.processes[node].number.load(Ordering::Relaxed) != number || self.is_killed(node)
    }

    /// Freezes a node, as SIGSTOP does: none of its tasks runs until it is thawed.
    pub fn set_frozen(&self, node: usize, is_frozen: bool) {
        self.note(|| format!("node {node} is {}", if is_frozen { "frozen" } else { "thawed" }));
        self.processes[node].is_frozen.store(is_frozen, Ordering::Relaxed);
    }

    /// A node has done all that was planned for it, or has yet to.
    pub fn set_ready(&self, node: usize) {
        self.processes[node].is_ready.store(true, Ordering::Relaxed);
    }

    /// Whether every node has done all that was planned for it, and runs.
    pub fn all_are_ready(&self) -> bool {
        self.processes.iter().all(|process| {
            let is_alive = process.number.load(Ordering::Relaxed) != 0;
            is_alive && process.is_ready.load(Ordering::Relaxed)
        })
    }

    /// Counts a commit; the plan may kill the process between it and its answer.
    pub fn count_commit(&self, node: usize) {
        let commits = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        if self.plan.kills_after_commit.contains(&commits) && !self.is_healed() {
            self.kill(node, "between a commit and its answer");
        }
    }

    /// Counts a record; the plan may kill the process while it is on its way.
    pub fn count_record(&self, node: usize) {
        let records = self.records.fetch_add(1, Ordering::Relaxed) + 1;
        if self.plan.kills_at_record.contains(&records) && !self.is_healed() {
            self.kill(node, "while a record is on its way");
        }
    }

    /// How the next call of a verb fares, where the plan says so.
    pub fn take_scripted(&self, verb: &str) -> Option<Fate> {
        let mut script = lock(&self.script);
        let place = script.iter().position(|(of, _)| *of == verb)?;
        Some(script.remove(place).1)
    }

    // ---- chance, the ledger and the trace ----

    /// What the nodes share beside the model.
    pub fn nodes(&self) -> MutexGuard<'_, Nodes> {
        lock(&self.nodes)
    }

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

impl Agenda {
    fn put(&mut self, due: u64, event: Event) -> Key {
        self.count += 1;
        let key = (due, self.count);
        self.events.insert(key, event);
        key
    }
}

/// Somebody who waits, on a node.
pub struct Sleep {
    world: Arc<World>,
    node: usize,
    /// None where nobody wakes it up.
    due: Option<u64>,
    key: Option<Key>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else { return Poll::Pending };
        if micros(self.world.elapsed()) >= due {
            return Poll::Ready(());
        }
        let event = Event::Wake(self.node, context.waker().clone());
        let key = match self.key {
            Some(key) => {
                let before = self.world.agenda().events.insert(key, event);
                drop(before);
                key
            }
            None => self.world.agenda().put(due, event),
        };
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            // Dropped here, once the lock is free: what a waker holds may sleep, too.
            let event = self.world.agenda().events.remove(&key);
            drop(event);
        }
    }
}

/// A lock that nobody else holds: a run has one thread.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rounded up, so that nobody wakes up too early.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// A node's own clock.
pub struct SimClock {
    /// What it is the clock of.
    pub world: Arc<World>,
    /// On which node.
    pub node: usize,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.world.wall(self.node)
    }

    fn monotonic(&self) -> Duration {
        self.world.elapsed() + BOOTS_APART * u32::try_from(self.node).unwrap_or(0)
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.world.sleep(self.node, duration))
    }

    fn fill(&self, buffer: &mut [u8]) {
        let mut entropy = lock(&self.world.entropy);
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&entropy.next().to_le_bytes()[..chunk.len()]);
        }
    }
}
