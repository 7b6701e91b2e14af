//! The delivery engine, simulated: the real publish, lanes, dispatch, deliver, record and settle code on a simulated clock,
//! network and store, all of whose faults are drawn from one seed. A run that breaks a promise is replayed by its seed.
//! See `docs/reliability.md`.

#[path = "sim/bugs.rs"]
mod bugs;
#[path = "sim/ledger.rs"]
mod ledger;
#[path = "sim/life.rs"]
mod life;
#[path = "sim/network.rs"]
mod network;
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

use run::run;

#[test]
fn a_seed_decides_everything() {
    for seed in 0..20 {
        let (one, other) = (run(seed, false), run(seed, true));
        assert_eq!((one.hash, one.steps), (other.hash, other.steps), "seed {seed}");
    }
    assert_ne!(run(0, false).hash, run(1, false).hash);
}
