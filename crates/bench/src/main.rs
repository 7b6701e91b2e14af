//! `postrider-bench`: how fast Postrider is on this machine, beside how fast this machine can be.
//!
//! Load generator and receiver run in this process, on the cores that the server under test uses too. What each figure
//! means stands in `docs/performance.md`.
#![forbid(unsafe_code)]

mod body;
mod clock;
mod figures;
mod ledger;
mod load;
mod message;
mod receiver;
mod scenarios;
mod server;
mod stats;
mod system;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::{
    figures::Figures,
    load::Pace,
    scenarios::{limit, throughput},
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
    /// Print the figures as JSON
    #[arg(long, global = true)]
    json: bool,
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
        let figures = self.measure()?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&figures)?);
        } else {
            print!("{figures}");
        }
        Ok(())
    }

    fn measure(&self) -> anyhow::Result<Figures> {
        match self.command {
            Command::Limit { connections, seconds, size } => limit::run(limit::Options {
                connections,
                duration: Duration::from_secs(seconds),
                size: size.size,
            }),
            Command::Throughput { events, connections, size } => throughput::run(
                &self.setup()?,
                throughput::Options {
                    events,
                    connections,
                    size: size.size,
                    endpoints: 1,
                    pace: Pace::Closed,
                },
            ),
        }
    }

    fn setup(&self) -> anyhow::Result<Setup> {
        let own = std::env::current_exe().context("where this program is")?;
        let beside = own.parent().context("this program is in a directory")?;
        Ok(Setup {
            binary: self.server.clone().unwrap_or_else(|| beside.join("postrider")),
            parent: self.data_dir_parent.clone().unwrap_or_else(|| beside.to_owned()),
        })
    }
}
