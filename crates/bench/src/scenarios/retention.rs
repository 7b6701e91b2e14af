//! A million attempts whose time is up: how soon they are gone, and what fresh events notice of it.

use std::time::Duration;

use anyhow::ensure;

use crate::{
    clock,
    database::Database,
    figures::Figures,
    load::Pace,
    receiver::Manner,
    seed::{self, To},
    server::{Server, Setup},
    stage::{self, Carried, Stage, TENANT},
    stats::Sorted,
};

/// In days: a minute, which is over for all that was written before the server was started.
const RETENTION: &str = "0.000694";

/// Without a retention that anything reaches.
const FOREVER: &str = "36500";

/// The longest to wait for the last of them.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many attempts have to go, and with them their deliveries and events.
    pub attempts: u32,
    /// How many events a second are published meanwhile.
    pub rate: f64,
    /// For how long.
    pub seconds: u64,
}

/// Measures, on a file or on a new database of that Postgres.
///
/// # Errors
/// A server that fails, or that lost or doubled something.
pub fn run(setup: &Setup, postgres: Option<&str>, options: Options) -> anyhow::Result<Figures> {
    let stage = Stage::set(setup)?;
    let server = stage.serve(&[])?;
    let old = server.create_endpoint(TENANT, &stage.receiver.target(9, Manner::Ok))?;
    server.stop()?;
    seed::attempt(&stage.data_dir(), To { tenant: TENANT, endpoint: old }, options.attempts)?;
    let database = postgres.map(|server| moved(&stage, server)).transpose()?;
    let serve = |retention| {
        let mut arguments = vec!["--retention", retention];
        if let Some(database) = &database {
            arguments.extend(["--database-url", &database.url]);
        }
        stage.serve(&arguments)
    };
    let server = serve(FOREVER)?;
    server.create_endpoint(TENANT, &stage.receiver.target(0, Manner::Ok))?;
    let old_attempts = format!("/api/v2/webhook/endpoint/{old}/attempt/?limit=1");
    let without = load(&stage, &server, options)?;
    server.stop()?;

    let server = serve(RETENTION)?;
    let started = clock::now();
    let beside = load(&stage, &server, options)?;
    let left =
        |server: &Server| anyhow::Ok(server.get(&old_attempts)?["count"].as_u64().unwrap_or(0));
    let left_after_load = left(&server)?;
    while left(&server)? > 0 {
        ensure!(clock::now().since(started) < PATIENCE, "attempts are left after half an hour");
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut figures = Figures::default();
    figures.put("attempts gone after", "s", clock::now().since(started).as_secs_f64());
    figures.put("attempts left at the end of the load", "", left_after_load as f64);
    put(&mut figures, "without", &without);
    put(&mut figures, "beside", &beside);
    figures.put("RSS peak", "MiB", server.memory()?.peak);
    server.stop()?;
    Ok(figures)
}

/// The stage's instance, moved to Postgres.
fn moved(stage: &Stage, postgres: &str) -> anyhow::Result<Database> {
    let database = Database::create(postgres)?;
    let backup = stage.data_dir().join("backup");
    let backup = backup.to_string_lossy();
    stage.command(&["backup", &backup])?;
    stage.command(&["restore", &backup, "--database-url", &database.url])?;
    Ok(database)
}

fn load(stage: &Stage, server: &Server, options: Options) -> anyhow::Result<Carried> {
    stage.warm_up(server, 1)?;
    let events = (options.rate * options.seconds as f64) as u64;
    let servers = std::slice::from_ref(server);
    let plan = stage::plan(servers, 500, events, 64, Pace::Open(options.rate));
    stage.carry(servers, &plan, 1)
}

fn put(figures: &mut Figures, when: &str, carried: &Carried) {
    let sent = &carried.load.sent;
    let acknowledged = sent.iter().map(|sent| sent.acknowledged.since(sent.due)).collect();
    figures.put_latency(&format!("{when}: acknowledgement"), &Sorted::new(acknowledged));
    figures.put_latency(&format!("{when}: publish→receive"), &carried.ledger.latency);
}
