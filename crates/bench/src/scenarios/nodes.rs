//! Events in a closed loop over one node or several on one Postgres, to one endpoint.

use std::{fs, path::PathBuf};

use crate::{
    database::Database,
    figures::Figures,
    load::Pace,
    receiver::Manner,
    server::{Server, Setup},
    stage::{self, Stage, TENANT},
};

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many events.
    pub events: u64,
    /// Over how many connections, spread over the nodes.
    pub connections: usize,
    /// How many bytes each publish has.
    pub size: usize,
    /// How many nodes.
    pub nodes: usize,
}

/// Measures, on a new database of that Postgres.
///
/// # Errors
/// A server that fails, or that lost or doubled something.
pub fn run(setup: &Setup, postgres: &str, options: Options) -> anyhow::Result<Figures> {
    let database = Database::create(postgres)?;
    let stage = Stage::set(setup)?;
    let nodes = start(&stage, &database, options.nodes)?;
    nodes[0].create_endpoint(TENANT, &stage.receiver.target(0, Manner::Ok))?;
    let plan = stage::plan(&nodes, options.size, options.events, options.connections, Pace::Closed);
    let carried = stage.carry(&nodes, &plan, 1)?;
    let mut peak = 0.0;
    for node in &nodes {
        peak = node.memory()?.peak.max(peak);
    }
    let bytes = database.bytes()?;
    nodes.into_iter().try_for_each(Server::stop)?;

    let mut figures = Figures::default();
    carried.put_rates(&mut figures);
    carried.put_latencies(&mut figures);
    carried.put_costs(&mut figures);
    figures.put("RSS peak of a node", "MiB", peak);
    figures.put("database per event", "bytes", bytes as f64 / options.events as f64);
    Ok(figures)
}

/// The first node makes the instance; the others get its key, and the operator's token with it.
fn start(stage: &Stage, database: &Database, count: usize) -> anyhow::Result<Vec<Server>> {
    let directory = |node: usize| -> PathBuf { stage.data_dir().join(node.to_string()) };
    let mut nodes = Vec::new();
    for node in 0..count {
        fs::create_dir_all(directory(node))?;
        if node > 0 {
            for file in ["master.key", "admin.token"] {
                fs::copy(directory(0).join(file), directory(node).join(file))?;
            }
        }
        let options = ["--database-url", &database.url];
        nodes.push(stage.serve_in(&directory(node), &options)?);
    }
    Ok(nodes)
}
