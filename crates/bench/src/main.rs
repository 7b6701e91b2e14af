//! `postrider-bench`: how fast Postrider is on this machine, beside how fast this machine can be.
//!
//! Load generator and receiver run in this process, on the cores that the server under test uses too. What each figure
//! means stands in `docs/performance.md`.
#![forbid(unsafe_code)]

mod body;
mod clock;
mod database;
mod figures;
mod ledger;
mod load;
mod message;
mod receiver;
mod report;
mod scenarios;
mod seed;
mod server;
mod stage;
mod stats;
mod system;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::{
    figures::Figures,
    load::Pace,
    report::{Extent, Report},
    scenarios::{
        backlog::{self, Backlog},
        isolation, limit, nodes,
        pages::Pages,
        throughput,
    },
    server::Setup,
};

/// The server's allocator, so that the limit is measured with it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How fast Postrider is on this machine
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The server to measure; by default the `postrider` beside this program
    #[arg(long, global = true, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Where data directories are made: a directory on the disk to measure; by default the one of this program
    #[arg(long, global = true, value_name = "DIR")]
    data_dir_parent: Option<PathBuf>,
    /// Where `nodes` and `report` make databases of their own: `postgres://user@host/database`
    #[arg(long, global = true, value_name = "URL")]
    postgres: Option<String>,
    /// Write the figures to a file too, as JSON
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The physical limit: signed POSTs to the same receiver, without a store
    Limit {
        /// Keep-alive connections
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// How long
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Give the receiver a thread of its own
        #[arg(long)]
        apart: bool,
        #[command(flatten)]
        size: Size,
    },
    /// Events a second, end to end, in a closed loop
    Throughput {
        /// How many events
        #[arg(long, default_value_t = 100_000)]
        events: u64,
        /// Keep-alive connections that publish
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[command(flatten)]
        size: Size,
    },
    /// Events a second, end to end, in a closed loop over nodes on one Postgres
    Nodes {
        /// How many nodes
        #[arg(long, default_value_t = 1)]
        nodes: usize,
        /// How many events
        #[arg(long, default_value_t = 50_000)]
        events: u64,
        /// Keep-alive connections that publish, spread over the nodes
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[command(flatten)]
        size: Size,
    },
    /// Events at a fixed rate, whatever the server does
    Latency {
        /// Events a second
        #[arg(long, default_value_t = 500.0)]
        rate: f64,
        /// How long
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        #[command(flatten)]
        size: Size,
    },
    /// Events that are owed to many endpoints
    Fanout {
        /// How many endpoints
        #[arg(long, default_value_t = 10)]
        endpoints: usize,
        /// How many deliveries in all
        #[arg(long, default_value_t = 100_000)]
        deliveries: u64,
        #[command(flatten)]
        size: Size,
    },
    /// Healthy endpoints beside bad ones, and beside another tenant's backlog
    Isolation {
        /// Events a second, to seven healthy endpoints
        #[arg(long, default_value_t = 100.0)]
        rate: f64,
        /// How long
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// What the other tenant's dead endpoint is owed
        #[arg(long, default_value_t = 200_000)]
        backlog: u32,
    },
    /// A start with many deliveries owed to a dead endpoint
    Backlog {
        /// How many
        #[arg(long, default_value_t = 1_000_000)]
        deliveries: u32,
        /// Events a second to the healthy endpoint, once it has started
        #[arg(long, default_value_t = 200.0)]
        rate: f64,
        /// For how long
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Pages of an endpoint with many attempts
    Pages {
        /// How many
        #[arg(long, default_value_t = 1_000_000)]
        attempts: u32,
    },
    /// How long this disk takes to make a page durable
    Disk,
    /// All of it, several times over, as one table
    Report {
        /// How often; 5, or 3 with --quick
        #[arg(long)]
        runs: Option<usize>,
        /// Less of everything: a few minutes
        #[arg(long)]
        quick: bool,
    },
}

#[derive(Args, Clone, Copy)]
struct Size {
    /// Bytes of a publish
    #[arg(long, default_value_t = 500)]
    size: usize,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    fn run(&self) -> anyhow::Result<()> {
        if let Command::Report { runs, quick } = self.command {
            return self.report(runs, quick);
        }
        let figures = self.measure()?;
        self.write_json(&figures)?;
        print!("{figures}");
        Ok(())
    }

    fn measure(&self) -> anyhow::Result<Figures> {
        match self.command {
            Command::Limit { connections, seconds, apart, size: Size { size } } => {
                let duration = Duration::from_secs(seconds);
                limit::run(limit::Options { connections, duration, size, apart })
            }
            Command::Throughput { events, connections, size: Size { size } } => {
                let (endpoints, pace) = (1, Pace::Closed);
                let options = throughput::Options { events, connections, size, endpoints, pace };
                throughput::run(&self.setup()?, options)
            }
            Command::Nodes { nodes, events, connections, size: Size { size } } => {
                anyhow::ensure!(nodes > 0, "--nodes is 1 or more");
                let postgres = self.postgres.as_deref().context("--postgres says where")?;
                let options = nodes::Options { events, connections, size, nodes };
                nodes::run(&self.setup()?, postgres, options)
            }
            Command::Latency { rate, seconds, size: Size { size } } => {
                throughput::run(&self.setup()?, throughput::Options::at_rate(rate, seconds, size))
            }
            Command::Fanout { endpoints, deliveries, size: Size { size } } => {
                let options = throughput::Options::fan_out(endpoints, deliveries, size);
                throughput::run(&self.setup()?, options)
            }
            Command::Isolation { rate, seconds, backlog } => {
                isolation::run(&self.setup()?, isolation::Options { rate, seconds, backlog })
            }
            Command::Backlog { deliveries, rate, seconds } => {
                Backlog::prepare(&self.setup()?, deliveries)?
                    .run(backlog::Options { rate, seconds })
            }
            Command::Pages { attempts } => Pages::prepare(&self.setup()?, attempts)?.run(),
            Command::Disk | Command::Report { .. } => report::disk(&self.setup()?),
        }
    }

    fn report(&self, runs: Option<usize>, quick: bool) -> anyhow::Result<()> {
        let extent =
            if quick { Extent::quick(runs.unwrap_or(3)) } else { Extent::full(runs.unwrap_or(5)) };
        let report: Report = report::run(&self.setup()?, self.postgres.as_deref(), extent)?;
        self.write_json(&report)?;
        print!("{}", report.table());
        anyhow::ensure!(report.failures.is_empty(), "{} scenarios failed", report.failures.len());
        Ok(())
    }

    fn write_json(&self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let text = serde_json::to_string_pretty(value)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    fn setup(&self) -> anyhow::Result<Setup> {
        let own = std::env::current_exe().context("where this program is")?;
        let beside = own.parent().context("this program is in a directory")?;
        let parent = self.data_dir_parent.as_deref().unwrap_or(beside);
        let binary = self.server.clone().unwrap_or_else(|| beside.join("postrider"));
        anyhow::ensure!(binary.exists(), "there is no server at {}", binary.display());
        Ok(Setup { binary, parent: Path::to_owned(parent) })
    }
}
