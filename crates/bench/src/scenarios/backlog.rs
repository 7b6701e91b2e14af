//! A start with a million deliveries owed to a dead endpoint, all of them due.
//!
//! They are prepared once and found by every run: what a run tries of them is soon due again.

use std::{slice::from_ref, time::Duration};

use super::dead::Dead;
use crate::{
    figures::Figures,
    load::Pace,
    receiver::Manner,
    seed::{self, To},
    server::Setup,
    stage::{self, Stage, TENANT},
};

/// How long after its start the server's memory is read.
const SETTLING: Duration = Duration::from_secs(2);

/// A server's directory with a backlog in it.
#[derive(Debug)]
pub struct Backlog {
    stage: Stage,
    _dead: Dead,
}

/// What to measure once it has started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Events a second to the healthy endpoint.
    pub rate: f64,
    /// For how long.
    pub seconds: u64,
}

impl Backlog {
    /// Writes that many deliveries.
    ///
    /// # Errors
    /// A server that doesn't start, or the store's.
    pub fn prepare(setup: &Setup, deliveries: u32) -> anyhow::Result<Self> {
        let (stage, dead) = (Stage::set(setup)?, Dead::new()?);
        stage.command(&["tenant", "create", "busy"])?;
        let server = stage.serve(&[])?;
        server.create_endpoint(TENANT, &stage.receiver.target(0, Manner::Ok))?;
        let endpoint = server.create_endpoint("busy", &dead.target())?;
        server.stop()?;
        seed::owe(&stage.data_dir(), To { tenant: "busy", endpoint }, deliveries)?;
        Ok(Self { stage, _dead: dead })
    }

    /// Starts a server on it, and measures.
    ///
    /// # Errors
    /// A server that fails, or that lost or doubled something.
    pub fn run(&self, options: Options) -> anyhow::Result<Figures> {
        let mut figures = Figures::default();
        let server = self.stage.serve(&[])?;
        let listening = crate::clock::now().since(server.started);
        let one = stage::plan(from_ref(&server), 500, 1, 1, Pace::Closed);
        let first = self.stage.carry(from_ref(&server), &one, 1)?.ledger.last.since(server.started);
        figures.put("start to listening", "ms", listening.as_secs_f64() * 1e3);
        figures.put("start to first healthy delivery", "ms", first.as_secs_f64() * 1e3);
        std::thread::sleep(SETTLING);
        figures.put("RSS after start", "MiB", server.memory()?.now);

        let events = (options.rate * options.seconds as f64) as u64;
        let plan = stage::plan(from_ref(&server), 500, events, 64, Pace::Open(options.rate));
        let carried = self.stage.carry(from_ref(&server), &plan, 1)?;
        carried.put_latencies(&mut figures);
        figures.put("RSS peak", "MiB", server.memory()?.peak);
        server.stop()?;
        Ok(figures)
    }
}
