//! What most scenarios need: a server on a fresh directory, a receiver beside it, and a run of events between the two.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;

use crate::{
    body, clock,
    figures::Figures,
    ledger::Ledger,
    load::{self, Load, Pace, Plan},
    receiver::Receiver,
    server::{Server, Setup},
    stats::Sorted,
    system::{self, Machine},
};

/// The tenant that every first start makes.
pub const TENANT: &str = "default";

/// How long the server may deliver nothing before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to listen for what comes twice, and to let the server write down what it did.
const AFTERGLOW: Duration = Duration::from_millis(500);

/// A server and a receiver. The directory goes with the value.
#[derive(Debug)]
pub struct Stage {
    /// Where deliveries come.
    pub receiver: Receiver,
    directory: tempfile::TempDir,
    setup: Setup,
}

/// What a run of events came to.
#[derive(Debug)]
pub struct Carried {
    /// What was published.
    pub load: Load,
    /// What was received of it.
    pub ledger: Ledger,
    /// The processor time of the server.
    pub server_cpu: Duration,
    /// The processor time of load generator and receiver.
    pub bench_cpu: Duration,
    /// The part of the machine that neither of them used.
    pub percent_used_by_others: f64,
}

impl Stage {
    /// An empty directory and a receiver; the server is started when it is asked for.
    ///
    /// # Errors
    /// The file system's, or sockets that can't be had.
    pub fn set(setup: &Setup) -> anyhow::Result<Self> {
        let directory = setup.data_dir()?;
        Ok(Self { receiver: Receiver::start()?, directory, setup: setup.clone() })
    }

    /// Starts the server on the stage's directory.
    ///
    /// # Errors
    /// What kept it from starting.
    pub fn serve(&self, options: &[&str]) -> anyhow::Result<Server> {
        self.setup.serve(&self.data_dir(), options)
    }

    /// Starts one of several servers, on a directory of its own within the stage's.
    ///
    /// # Errors
    /// What kept it from starting.
    pub fn serve_in(&self, data_dir: &Path, options: &[&str]) -> anyhow::Result<Server> {
        self.setup.serve(data_dir, options)
    }

    /// Runs another command of the server's binary on the stage's directory.
    ///
    /// # Errors
    /// That it failed.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.setup.command(&self.data_dir(), arguments)
    }

    /// Where the server keeps everything.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Publishes, waits until all of it has come to these endpoints (the numbers in their paths), and settles.
    ///
    /// # Errors
    /// A server that fails, or that lost or doubled something.
    pub fn carry(
        &self,
        servers: &[Server],
        plan: &Plan,
        endpoints: usize,
    ) -> anyhow::Result<Carried> {
        self.receiver.inbox.take();
        let before = self.receiver.inbox.acknowledged();
        let own = std::process::id();
        let (server_cpu, bench_cpu, machine) = (cpu(servers)?, system::cpu(own)?, Machine::now()?);
        let load = load::publish(plan)?;
        self.receiver.wait_for(before + load.sent.len() as u64 * endpoints as u64, PATIENCE);
        let at_end = Machine::now()?;
        std::thread::sleep(AFTERGLOW);
        let (server_cpu, bench_cpu) =
            (cpu(servers)?.saturating_sub(server_cpu), system::cpu(own)?.saturating_sub(bench_cpu));
        let numbers: Vec<u32> = (0..).take(endpoints).collect();
        let ledger = Ledger::settle(&load, &self.receiver.inbox.take(), &numbers)
            .context("the promise is broken")?;
        let percent_used_by_others = at_end.percent_used_by_others(machine, server_cpu + bench_cpu);
        Ok(Carried { load, ledger, server_cpu, bench_cpu, percent_used_by_others })
    }

    /// Publishes a little without measuring, so that connections are there and pages are warm.
    ///
    /// # Errors
    /// As [`Stage::carry`].
    pub fn warm_up(&self, server: &Server, endpoints: usize) -> anyhow::Result<()> {
        let servers = std::slice::from_ref(server);
        let plan = plan(servers, 500, 300, 16, Pace::Closed);
        self.carry(servers, &plan, endpoints)?;
        Ok(())
    }
}

/// The processor time of all servers.
fn cpu(servers: &[Server]) -> anyhow::Result<Duration> {
    servers.iter().map(Server::cpu).sum()
}

/// Events of that size for the first tenant, spread over servers that know the first one's token.
pub fn plan(servers: &[Server], size: usize, events: u64, connections: usize, pace: Pace) -> Plan {
    Plan {
        servers: servers.iter().map(|server| server.address).collect(),
        token: servers[0].token.clone(),
        tenant: TENANT.to_owned(),
        body: body::published(size),
        connections,
        events,
        pace,
    }
}

impl Carried {
    /// Adds accepted and delivered a second.
    pub fn put_rates(&self, figures: &mut Figures) {
        let began = self.load.began();
        let per_second =
            |count: u64, until: clock::Nanos| count as f64 / until.since(began).as_secs_f64();
        figures.put("accepted", "/s", per_second(self.load.sent.len() as u64, self.load.ended()));
        figures.put("delivered", "/s", per_second(self.ledger.deliveries, self.ledger.last));
        figures.put("pushed back", "times", self.load.pushed_back as f64);
    }

    /// Adds the times of acknowledgement and of publish→receive.
    pub fn put_latencies(&self, figures: &mut Figures) {
        let acknowledgements =
            self.load.sent.iter().map(|sent| sent.acknowledged.since(sent.due)).collect();
        figures.put_latency("acknowledgement", &Sorted::new(acknowledgements));
        figures.put_latency("publish→receive", &self.ledger.latency);
    }

    /// Adds what it cost.
    pub fn put_costs(&self, figures: &mut Figures) {
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / self.ledger.deliveries as f64;
        figures.put("server CPU per delivery", "µs", each(self.server_cpu));
        figures.put("bench CPU per delivery", "µs", each(self.bench_cpu));
        figures.put("machine used by others", "%", self.percent_used_by_others);
    }
}
