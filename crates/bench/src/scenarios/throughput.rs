//! How many events a second, from publish to receiver, and what each costs the server.

use std::time::Duration;

use anyhow::Context;

use crate::{
    body,
    figures::Figures,
    ledger::Ledger,
    load::{self, Load, Pace, Plan},
    receiver::{Manner, Receiver},
    server::{Server, Setup},
    stats::Sorted,
};

/// How long the server may deliver nothing before what is missing counts as lost.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long to listen for what comes twice, and to let the server write down what it did.
const AFTERGLOW: Duration = Duration::from_millis(500);

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

/// The tenant that every first start makes.
pub const TENANT: &str = "default";

/// Measures.
///
/// # Errors
/// A server that fails, or that lost or doubled something.
pub fn run(setup: &Setup, options: Options) -> anyhow::Result<Figures> {
    let directory = setup.data_dir()?;
    let receiver = Receiver::start()?;
    let server = setup.serve(directory.path(), &[])?;
    for endpoint in 0..options.endpoints {
        server.create_endpoint(TENANT, &receiver.target(endpoint, Manner::Ok))?;
    }
    std::thread::sleep(AFTERGLOW);
    let idle = server.memory()?.now;
    let disk = server.bytes_on_disk()?;

    let cpu = server.cpu()?;
    let load = load::publish(&plan(&server, options))?;
    let owed = load.sent.len() as u64 * options.endpoints as u64;
    receiver.wait_for(owed, PATIENCE);
    std::thread::sleep(AFTERGLOW);
    let cpu = server.cpu()?.saturating_sub(cpu);
    let peak = server.memory()?.peak;
    let log = server.bytes_on_disk()?;
    let data = directory.path().join("data");
    server.stop()?;
    let kept = crate::system::bytes_in(&data)?;

    let numbers: Vec<u32> = (0..).take(options.endpoints).collect();
    let ledger = Ledger::settle(&load, &receiver.inbox.take(), &numbers)
        .context("the promise is broken")?;
    let mut figures = Figures::default();
    put_rates(&mut figures, &load, &ledger);
    put_latencies(&mut figures, &load, &ledger);
    let deliveries = ledger.deliveries as f64;
    figures.put("server CPU per delivery", "µs", cpu.as_secs_f64() * 1e6 / deliveries);
    figures.put("RSS idle", "MiB", idle);
    figures.put("RSS peak", "MiB", peak);
    let per_event = |bytes: u64| bytes.saturating_sub(disk) as f64 / load.sent.len() as f64;
    figures.put("disk per event, the log included", "bytes", per_event(log));
    figures.put("disk per event, after a stop", "bytes", per_event(kept));
    Ok(figures)
}

/// The load that these options ask for.
pub fn plan(server: &Server, options: Options) -> Plan {
    Plan {
        server: server.address,
        token: server.token.clone(),
        tenant: TENANT.to_owned(),
        body: body::published(options.size),
        connections: options.connections,
        events: options.events,
        pace: options.pace,
    }
}

fn put_rates(figures: &mut Figures, load: &Load, ledger: &Ledger) {
    let began = load.began();
    let accepting = load.ended().since(began).as_secs_f64();
    let delivering = ledger.last.since(began).as_secs_f64();
    figures.put("accepted", "/s", load.sent.len() as f64 / accepting);
    figures.put("delivered", "/s", ledger.deliveries as f64 / delivering);
    figures.put("pushed back", "", load.pushed_back as f64);
}

/// Acknowledgement, and publish→receive.
pub fn put_latencies(figures: &mut Figures, load: &Load, ledger: &Ledger) {
    let acknowledgement = load.sent.iter().map(|sent| sent.acknowledged.since(sent.due)).collect();
    figures.put_latency("acknowledgement", &Sorted::new(acknowledgement));
    figures.put_latency("publish→receive", &ledger.latency);
}
