//! Whether a bad endpoint, or a tenant with a backlog, hurts anybody else.

use std::slice::from_ref;

use super::dead::Dead;
use crate::{
    figures::Figures,
    load::Pace,
    receiver::Manner,
    seed::{self, To},
    server::Setup,
    stage::{self, Carried, Stage, TENANT},
};

/// The endpoints that behave.
const HEALTHY: usize = 7;

/// Another tenant.
const BUSY: &str = "busy";

/// Long enough for a try to hang, short enough that many do within a run.
const SERVER: [&str; 4] = ["--connect-timeout", "1", "--request-timeout", "2"];

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Events a second, each owed to all endpoints.
    pub rate: f64,
    /// For how long.
    pub seconds: u64,
    /// How many deliveries the other tenant's dead endpoint is owed.
    pub backlog: u32,
}

/// Measures.
///
/// # Errors
/// A server that fails, or that lost or doubled something.
pub fn run(setup: &Setup, options: Options) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let alone = beside_endpoints(setup, options, false)?;
    let beside = beside_endpoints(setup, options, true)?;
    put(&mut figures, "three bad endpoints", &alone, &beside);
    let (alone, beside) = beside_a_tenant(setup, options)?;
    put(&mut figures, "a tenant's backlog", &alone, &beside);
    Ok(figures)
}

fn put(figures: &mut Figures, what: &str, alone: &Carried, beside: &Carried) {
    for (mark, per_mille) in [("p50", 500), ("p99", 990)] {
        let [alone, beside] = [alone, beside].map(|run| run.ledger.latency.at_ms(per_mille));
        figures.put(format!("without {what}, {mark}"), "ms", alone);
        figures.put(format!("beside {what}, {mark}"), "ms", beside);
        figures.put(format!("beside {what} / without, {mark}"), "×", beside / alone);
    }
}

/// Seven healthy endpoints, alone or beside one that hangs, one that refuses connections and one that answers 500.
fn beside_endpoints(setup: &Setup, options: Options, bad: bool) -> anyhow::Result<Carried> {
    let stage = Stage::set(setup)?;
    let server = stage.serve(&SERVER)?;
    for endpoint in 0..HEALTHY {
        server.create_endpoint(TENANT, &stage.receiver.target(endpoint, Manner::Ok))?;
    }
    stage.warm_up(&server, HEALTHY)?;
    let dead = Dead::new()?;
    if bad {
        server.create_endpoint(TENANT, &stage.receiver.target(HEALTHY, Manner::Hang))?;
        server.create_endpoint(TENANT, &dead.target())?;
        server.create_endpoint(TENANT, &stage.receiver.target(HEALTHY + 1, Manner::Fail))?;
    }
    let events = (options.rate * options.seconds as f64) as u64;
    let plan = stage::plan(from_ref(&server), 500, events, 64, Pace::Open(options.rate));
    stage.carry(from_ref(&server), &plan, HEALTHY)
}

/// One healthy endpoint, before and after another tenant has a backlog that is due, to an endpoint that refuses.
fn beside_a_tenant(setup: &Setup, options: Options) -> anyhow::Result<(Carried, Carried)> {
    let stage = Stage::set(setup)?;
    let dead = Dead::new()?;
    stage.command(&["tenant", "create", BUSY])?;
    let carry = |owed_to: Option<i64>| {
        let server = stage.serve(&SERVER)?;
        let endpoint = match owed_to {
            Some(endpoint) => endpoint,
            None => {
                server.create_endpoint(TENANT, &stage.receiver.target(0, Manner::Ok))?;
                server.create_endpoint(BUSY, &dead.target())?
            }
        };
        stage.warm_up(&server, 1)?;
        // As many deliveries as the endpoints above were owed.
        let rate = options.rate * HEALTHY as f64;
        let events = (rate * options.seconds as f64) as u64;
        let plan = stage::plan(from_ref(&server), 500, events, 64, Pace::Open(rate));
        let carried = stage.carry(from_ref(&server), &plan, 1)?;
        server.stop()?;
        anyhow::Ok((carried, endpoint))
    };
    let (alone, endpoint) = carry(None)?;
    seed::owe(&stage.data_dir(), To { tenant: BUSY, endpoint }, options.backlog)?;
    let (beside, _) = carry(Some(endpoint))?;
    Ok((alone, beside))
}
