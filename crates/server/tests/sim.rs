//! The delivery engine, simulated: the real publish, lanes, dispatch, deliver, record and settle code on a simulated clock,
//! network and store, all of whose faults are drawn from one seed. A run that breaks a promise is replayed by its seed.
//! See `docs/reliability.md`.

#[path = "sim/bugs.rs"]
mod bugs;
#[path = "sim/ledger.rs"]
mod ledger;
#[path = "sim/life.rs"]
mod life;
#[path = "sim/machine.rs"]
mod machine;
#[path = "sim/network.rs"]
mod network;
#[path = "sim/nodes.rs"]
mod nodes;
#[path = "sim/plan.rs"]
mod plan;
#[path = "sim/rng.rs"]
mod rng;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/store.rs"]
mod store;
#[path = "sim/trace.rs"]
mod trace;
#[path = "sim/world.rs"]
mod world;

use std::{
    env,
    num::NonZero,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use ledger::Counts;
use run::run;

/// How many seeds a run of the tests tries; `cargo xtask sim` tries others.
const SEEDS: u64 = 300;

/// How many of the seeds that broke a promise are told of.
const TOLD_MAX: usize = 20;

/// What many runs came to.
#[derive(Default)]
struct Sum {
    steps: u64,
    counts: Counts,
    verdicts: Vec<String>,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.counts.add(other.counts);
        self.verdicts.extend(other.verdicts);
    }
}

/// Runs a seed, and says what to do where it broke a promise.
fn try_seed(seed: u64, shows_trace: bool) -> Sum {
    let report = run(seed, shows_trace);
    print!("{}", report.trace);
    let mut verdicts = Vec::new();
    if !report.violations.is_empty() {
        let told = report.violations.iter().take(10);
        let told: String = told.map(|told| format!("  {}: {}\n", told.check, told.what)).collect();
        let replay = format!("replay it with `cargo xtask sim --from {seed} --seeds 1`");
        verdicts.push(format!("seed {seed} breaks promises:\n{told}{replay}\n"));
    }
    Sum { steps: report.steps, counts: report.counts, verdicts }
}

/// Runs so many seeds, on all processors.
fn try_seeds(from: u64, seeds: u64) -> Sum {
    let next = AtomicU64::new(from);
    let work = || {
        let mut sum = Sum::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return sum;
            }
            sum.add(try_seed(seed, seeds == 1));
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().fold(Sum::default(), |mut sum, worker| {
            sum.add(worker.join().expect("a run does not panic"));
            sum
        })
    })
}

#[test]
fn no_seed_breaks_a_promise() {
    let number = |name: &str| {
        let text = env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
    };
    let from = number("POSTRIDER_SIM_FROM").unwrap_or(0);
    let seeds = number("POSTRIDER_SIM_SEEDS").unwrap_or(SEEDS);
    let Sum { steps, counts, mut verdicts } = try_seeds(from, seeds);
    println!("{seeds} seeds from {from}, {steps} steps: {counts}");
    let broken = verdicts.len();
    verdicts.sort();
    verdicts.truncate(TOLD_MAX);
    assert!(broken == 0, "{broken} of {seeds} seeds break promises\n{}", verdicts.concat());
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..20 {
        let (one, other) = (run(seed, false), run(seed, true));
        assert_eq!((one.hash, one.steps), (other.hash, other.steps), "seed {seed}");
    }
    assert_ne!(run(0, false).hash, run(1, false).hash);
}
