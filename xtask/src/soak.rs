//! `cargo xtask soak --minutes N`: endpoints of every kind at a moderate rate, for a while. Memory has to stay flat, and the
//! ledger exact to the last try.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::stage::{
    ledger, now, pause,
    publishers::{Load, Publishers},
    receiver::{Manner, Receipt, Receipts, Receiver},
    server::{Launch, Server},
    wait_for_count, wait_until,
};

/// What is understood on the command line.
pub const USAGE: &str = "cargo xtask soak [--minutes N]";

/// Three tries in all.
const SCHEDULE: &str = "0.5,1";

/// How often each failing delivery is tried.
const TRIES: usize = 3;

/// About 200 events a second in all.
const LOAD: Load = Load { publishers: 4, bytes: 400, pause: Duration::from_millis(20) };

/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What memory may still grow by in the second half, in percent and beside it in KiB.
const GROWTH_MAX: (u64, u64) = (15, 8 * 1024);

/// Runs for as long as is wanted, two minutes unless that is said.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let minutes: f64 = match arguments {
        [] => 2.0,
        [name, minutes] if name == "--minutes" => {
            minutes.parse().context("--minutes needs a number")?
        }
        _ => anyhow::bail!("usage: {USAGE}"),
    };
    let directory = tempfile::tempdir()?;
    let launch = Launch::with(&["--retry-schedule", SCHEDULE]);
    let mut server = Server::start(&launch, &directory.path().join("data"))?;
    let (receiver, mut refusing) = (Receiver::start()?, Receiver::start()?);
    let mut client = server.client();
    let manners =
        [Manner::Fine, Manner::Fine, Manner::Slow, Manner::Moody, Manner::Failing, Manner::Gone];
    let mut paths = Vec::new();
    for (number, manner) in manners.into_iter().enumerate() {
        let (target, path) = receiver.target(manner, number);
        let endpoint = client.create_endpoint(&target)?;
        paths.push((manner, path, endpoint));
    }
    let refused = client.create_endpoint(&refusing.target(Manner::Fine, 0).0)?;
    refusing.down();

    let publishers = Publishers::start(&server.door(), LOAD);
    let memory = watch(&server, Duration::from_secs_f64(minutes * 60.0))?;
    ensure!(publishers.refused() + publishers.unanswered() == 0, "a publish was not answered 201");
    let accepted = publishers.finish()?;

    // The failing ones end last.
    for endpoint in [paths[4].2, refused] {
        wait_until("the last tries were made", || {
            Ok(client.attempt_count(endpoint)? >= accepted.len() * TRIES)
        })?;
    }
    wait_for_count("deliveries arrived", 3 * accepted.len(), || receiver.delivered())?;
    let receipts = receiver.receipts();
    for (manner, path, endpoint) in &paths {
        let requests = settle(*manner, path, &accepted, &receipts)?;
        wait_until("each request is an attempt", || {
            Ok(client.attempt_count(*endpoint)? >= requests)
        })?;
        let attempts = client.attempt_count(*endpoint)?;
        ensure!(attempts == requests, "{path}: {requests} requests, {attempts} attempts");
    }
    ensure!(
        client.attempt_count(refused)? == accepted.len() * TRIES,
        "refused ones are tried as often"
    );
    for path in [&paths[0].1, &paths[1].1, &paths[2].1] {
        let tally = ledger::settle(&accepted, &receiver, path)?;
        ensure!(tally.duplicates + tally.unacknowledged == 0, "{path}: {tally:?}");
    }
    server.stop()?;
    let (first, second) = (memory.first_half / 1024, memory.second_half / 1024);
    println!(
        "soak: {minutes} minutes, {} events to 7 endpoints, {} requests, the ledger exact; resident at most {first} MiB \
         in the first half and {second} MiB in the second",
        accepted.len(),
        receiver.requests()
    );
    let most = memory.first_half * (100 + GROWTH_MAX.0) / 100 + GROWTH_MAX.1;
    ensure!(memory.second_half <= most, "memory grew");
    Ok(())
}

/// The most that was resident, in KiB.
struct Memory {
    first_half: u64,
    second_half: u64,
}

fn watch(server: &Server, how_long: Duration) -> anyhow::Result<Memory> {
    let start = now();
    let mut memory = Memory { first_half: 0, second_half: 0 };
    while start.elapsed() < how_long {
        let is_first = start.elapsed() < how_long / 2;
        let half = if is_first { &mut memory.first_half } else { &mut memory.second_half };
        *half = (*half).max(server.resident_kib()?);
        pause(LOOK);
    }
    Ok(memory)
}

/// Holds every event's requests at an endpoint against how it behaves; answers how many there were.
fn settle(
    manner: Manner,
    path: &str,
    accepted: &[i64],
    receipts: &Receipts,
) -> anyhow::Result<usize> {
    let none = Receipt::default();
    let mut requests = 0;
    for &event in accepted {
        let came = receipts.get(&(path.to_owned(), event)).unwrap_or(&none);
        let is_right = match manner {
            Manner::Fine | Manner::Slow => (came.acknowledged, came.refused) == (1, 0),
            Manner::Failing => (came.acknowledged, came.refused) == (0, TRIES),
            // Acknowledged at last, or turned away each time.
            Manner::Moody => {
                came.acknowledged <= 1
                    && came.refused <= TRIES
                    && (came.acknowledged == 1) == (came.refused < TRIES)
            }
            // What was in flight when the first 410 came, and no more.
            Manner::Gone => came.acknowledged == 0 && came.refused <= 1,
        };
        ensure!(is_right, "{path}: event {event} came so: {came:?}");
        requests += came.acknowledged + came.refused;
    }
    if manner == Manner::Gone {
        ensure!(requests > 0 && requests < 200, "{path}: {requests} requests though it is gone");
    }
    Ok(requests)
}
