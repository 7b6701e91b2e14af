//! `cargo xtask soak [--minutes N] [--rate N]`: endpoints of every kind at a steady rate, for a while. Memory has to stay
//! flat, and the ledger exact to the last try.
//!
//! As on a real platform most events are of a type that few want, and a few of one that all do, those that fail included.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::stage::{
    TYPE, ledger, now, pause,
    publishers::{Load, Publishers},
    receiver::{Manner, Receipt, Receipts, Receiver},
    server::{Launch, Server},
    wait_for_count, wait_until,
};

/// What is understood on the command line.
pub const USAGE: &str = "cargo xtask soak [--minutes N] [--rate EVENTS_A_SECOND]";

/// Three tries in all.
const SCHEDULE: &str = "0.5,1";

/// How often each failing delivery is tried.
const TRIES: usize = 3;

/// One event of so many is wanted by all endpoints. An endpoint that refuses connections is tried one connection at a time,
/// some dozen times a second, and has to keep up.
const RARE: u32 = 40;

/// How many publish the others.
const PUBLISHERS: u32 = 4;

/// The type that one endpoint alone wants.
const COMMON: &str = "post.created";

/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What memory may still grow by in the second half, in percent and beside it in KiB.
const GROWTH_MAX: (u64, u64) = (15, 8 * 1024);

/// Runs for as long as is wanted, two minutes unless that is said.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let (minutes, rate) = read(arguments)?;
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
        let types = if number == 0 { &[TYPE, COMMON][..] } else { &[TYPE] };
        let endpoint = client.create_endpoint_for(&target, types)?;
        paths.push((manner, path, endpoint));
    }
    let refused = client.create_endpoint(&refusing.target(Manner::Fine, 0).0)?;
    refusing.down();

    let rare_every = Duration::from_secs_f64(f64::from(RARE) / rate);
    let rare = Load { publishers: 1, event_type: TYPE, bytes: 400, every: rare_every };
    let common = Load {
        publishers: usize::try_from(PUBLISHERS)?,
        event_type: COMMON,
        every: rare_every * PUBLISHERS / (RARE - 1),
        ..rare
    };
    let publishers = [rare, common].map(|load| Publishers::start(&server.door(), load));
    let memory = watch(&server, Duration::from_secs_f64(minutes * 60.0))?;
    let missed: usize = publishers.iter().map(|all| all.refused() + all.unanswered()).sum();
    ensure!(missed == 0, "{missed} publishes were not answered 201");
    let [rare, common] = publishers;
    // What all endpoints want, and beside it what the first one does.
    let accepted = rare.finish()?;
    let for_first = [accepted.clone(), common.finish()?].concat();

    // The failing ones end last.
    for endpoint in [paths[4].2, refused] {
        wait_until("the last tries were made", || {
            Ok(client.attempt_count(endpoint)? >= accepted.len() * TRIES)
        })?;
    }
    let owed_for_good = for_first.len() + 2 * accepted.len();
    wait_for_count("deliveries arrived", owed_for_good, || receiver.delivered())?;
    let receipts = receiver.receipts();
    let wanted_by = |path: &String| if *path == paths[0].1 { &for_first } else { &accepted };
    for (manner, path, endpoint) in &paths {
        let requests = settle(*manner, path, wanted_by(path), &receipts)?;
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
        let tally = ledger::settle(wanted_by(path), &receiver, path)?;
        ensure!(tally.duplicates + tally.unacknowledged == 0, "{path}: {tally:?}");
    }
    server.stop()?;
    let (first, second) = (memory.first_half / 1024, memory.second_half / 1024);
    println!(
        "soak: {minutes} minutes, {} events, {} of them to 7 endpoints, {} requests that were answered and {} that were \
         refused, the ledger exact; resident at most {first} MiB in the first half and {second} MiB in the second",
        for_first.len(),
        accepted.len(),
        receiver.requests(),
        accepted.len() * TRIES
    );
    let most = memory.first_half * (100 + GROWTH_MAX.0) / 100 + GROWTH_MAX.1;
    ensure!(memory.second_half <= most, "memory grew");
    Ok(())
}

/// For how many minutes, and at how many events a second: two and 200 unless that is said.
fn read(arguments: &[String]) -> anyhow::Result<(f64, f64)> {
    let (mut minutes, mut rate) = (2.0, 200.0);
    for pair in arguments.chunks(2) {
        let [name, number] = pair else { anyhow::bail!("usage: {USAGE}") };
        let number: f64 = number.parse().with_context(|| format!("{name} needs a number"))?;
        ensure!(number.is_finite() && number > 0.0, "{name} needs a number above nothing");
        match name.as_str() {
            "--minutes" => minutes = number,
            "--rate" => rate = number,
            _ => anyhow::bail!("usage: {USAGE}"),
        }
    }
    Ok((minutes, rate))
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
