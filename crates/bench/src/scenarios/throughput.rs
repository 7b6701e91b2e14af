//! Events in a closed or an open loop, to one endpoint or many: rates, times, and what each costs the server.
//!
//! `throughput`, `latency` and `fanout` are this with different options.

use std::{slice::from_ref, time::Duration};

use crate::{
    figures::Figures,
    load::Pace,
    receiver::Manner,
    server::Setup,
    stage::{self, Stage, TENANT},
    system,
};

/// How long the server is left alone before its memory counts as idle.
const SETTLING: Duration = Duration::from_millis(500);

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many events.
    pub events: u64,
    /// Over how many connections.
    pub connections: usize,
    /// How many bytes each publish has.
    pub size: usize,
    /// To how many endpoints each event is owed.
    pub endpoints: usize,
    /// How fast.
    pub pace: Pace,
}

impl Options {
    /// As many events as a rate gives in that time, published when they are due.
    pub fn at_rate(rate: f64, seconds: u64, size: usize) -> Self {
        let events = (rate * seconds as f64) as u64;
        Self { events, connections: 64, size, endpoints: 1, pace: Pace::Open(rate) }
    }

    /// As many events as give that many deliveries.
    pub fn fan_out(endpoints: usize, deliveries: u64, size: usize) -> Self {
        let events = (deliveries / endpoints.max(1) as u64).max(1);
        Self { events, connections: 16, size, endpoints, pace: Pace::Closed }
    }
}

/// Measures.
///
/// # Errors
/// A server that fails, or that lost or doubled something.
pub fn run(setup: &Setup, options: Options) -> anyhow::Result<Figures> {
    let stage = Stage::set(setup)?;
    let server = stage.serve(&[])?;
    for endpoint in 0..options.endpoints {
        server.create_endpoint(TENANT, &stage.receiver.target(endpoint, Manner::Ok))?;
    }
    std::thread::sleep(SETTLING);
    let idle = server.memory()?.now;
    if matches!(options.pace, Pace::Open(_)) {
        stage.warm_up(&server, options.endpoints)?;
    }
    let Options { events, connections, size, endpoints, pace } = options;
    let plan = stage::plan(from_ref(&server), size, events, connections, pace);
    let carried = stage.carry(from_ref(&server), &plan, endpoints)?;
    let bytes_with_log = system::bytes_in(&stage.data_dir())?;
    let peak = server.memory()?.peak;
    server.stop()?;
    let bytes_kept = system::bytes_in(&stage.data_dir())?;

    let mut figures = Figures::default();
    carried.put_rates(&mut figures);
    carried.put_latencies(&mut figures);
    carried.put_costs(&mut figures);
    figures.put("RSS idle", "MiB", idle);
    figures.put("RSS peak", "MiB", peak);
    // Few events would share what an empty instance and a log of any use have.
    if matches!(pace, Pace::Closed) {
        let per_event = |bytes: u64| bytes as f64 / events as f64;
        figures.put("disk per event, with the log", "bytes", per_event(bytes_with_log));
        figures.put("disk per event, after a stop", "bytes", per_event(bytes_kept));
    }
    Ok(figures)
}
