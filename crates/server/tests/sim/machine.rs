//! What gives each process its turn: a runtime for each node, which runs until it has nothing left to do at this moment;
//! then the next node's, and when all of them rest, the time jumps. A kill drops a runtime with all that is in it; a node that
//! is frozen gets no turn, though time passes and whatever it had asked the store for is done.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

use crate::{
    run::{Progress, live},
    world::{World, lock},
};

/// No run takes longer in simulated time.
const RUN_MAX: Duration = Duration::from_secs(24 * 3_600);

/// How long a node is without a process, at most.
const DOWNTIME_MAX_MILLIS: u64 = 3_000;

/// A node's process.
struct Machine {
    runtime: Runtime,
    rest: Arc<Rest>,
    main: JoinHandle<()>,
}

/// Knows when a runtime has nothing left to do.
#[derive(Default)]
struct Rest {
    waiting: Mutex<Option<Waker>>,
    is_reached: AtomicBool,
}

impl Machine {
    fn start(world: &Arc<World>, progress: &Arc<Mutex<Progress>>, node: usize) -> Self {
        let rest = Arc::<Rest>::default();
        let parks = rest.clone();
        let reach = move || {
            parks.is_reached.store(true, Ordering::Relaxed);
            if let Some(waiting) = lock(&parks.waiting).take() {
                waiting.wake();
            }
        };
        let runtime = Builder::new_current_thread().on_thread_park(reach).build();
        let runtime = runtime.expect("a runtime needs nothing of the system");
        let process = world.begin_process(node);
        let main = runtime.spawn(live(world.clone(), progress.clone(), node, process));
        Self { runtime, rest, main }
    }

    /// Runs until there is nothing left to do.
    fn run(&self) {
        self.rest.is_reached.store(false, Ordering::Relaxed);
        self.runtime.block_on(poll_fn(|context| {
            if self.rest.is_reached.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            *lock(&self.rest.waiting) = Some(context.waker().clone());
            Poll::Pending
        }));
    }
}

/// Runs all nodes until nothing more is to be seen.
pub fn drive(world: &Arc<World>, progress: &Arc<Mutex<Progress>>) {
    plan_faults(world);
    let nodes = world.plan.nodes();
    let begins = Arc::new(Mutex::new((0..nodes).collect::<Vec<usize>>()));
    let mut machines: Vec<Option<Machine>> = (0..nodes).map(|_| None).collect();
    while world.elapsed() < RUN_MAX {
        for node in std::mem::take(&mut *lock(&begins)) {
            machines[node] = Some(Machine::start(world, progress, node));
        }
        while let Some(node) = world.take_runnable() {
            if let Some(machine) = &machines[node] {
                machine.run();
            }
        }
        for (node, machine) in machines.iter_mut().enumerate() {
            let is_over =
                |machine: &mut Machine| world.is_killed(node) || machine.main.is_finished();
            if machine.take_if(is_over).is_some() {
                world.end_process(node);
                let (downtime, begins) = (downtime(world), begins.clone());
                world.after(downtime, move || lock(&begins).push(node));
            }
        }
        if world.is_over() && machines.iter().all(Option::is_none) {
            return;
        }
        if !world.step() {
            break;
        }
    }
    world.ledger().violate("every run comes to its end", "it did not");
}

fn downtime(world: &World) -> Duration {
    if world.is_over() {
        return RUN_MAX;
    }
    world.network_chance().millis(0, DOWNTIME_MAX_MILLIS)
}

/// Has the planned faults happen that have a time.
fn plan_faults(world: &Arc<World>) {
    let plan = &world.plan;
    for &(at, node) in &plan.kills {
        let world_then = world.clone();
        world.after(at, move || world_then.kill(node, "planned"));
    }
    for &(at, node, by_seconds) in &plan.clock_jumps {
        let world_then = world.clone();
        world.after(at, move || world_then.set_wall(node, by_seconds));
    }
    for &(at, node, how_long) in &plan.freezes {
        let (freezing, thawing) = (world.clone(), world.clone());
        world.after(at, move || freezing.set_frozen(node, true));
        world.after(at + how_long, move || thawing.set_frozen(node, false));
    }
}
