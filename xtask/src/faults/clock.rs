//! The wall clock is set, forward and back by a day, while deliveries wait for their retries.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::{LOAD, Scale, directory};
use crate::stage::{
    PATIENCE, ledger, now,
    publishers::Publishers,
    receiver::{Manner, Receiver},
    server::{Launch, Server},
    wait_for_count, wait_until,
};

/// The waits of the schedule: long enough that a clock is set while they run.
const SCHEDULE: &str = "2,2,2,2,2,2,2,2";

pub fn jumps(_: Scale) -> anyhow::Result<String> {
    let mut said = Vec::new();
    for (name, offset) in [("forward", "+1d"), ("back", "-1d")] {
        let tries = jump(offset).with_context(|| format!("a day {name}"))?;
        said.push(format!("a day {name}: {tries}"));
    }
    Ok(said.join("; "))
}

fn jump(offset: &str) -> anyhow::Result<String> {
    let directory = directory()?;
    let clock = directory.path().join("clock");
    set(&clock, "+0")?;
    let launch =
        Launch { variables: faked_by(&clock)?, ..Launch::with(&["--retry-schedule", SCHEDULE]) };
    let mut server = Server::start(&launch, &directory.path().join("data"))?;
    let mut receiver = Receiver::start()?;
    let (target, path) = receiver.target(Manner::Fine, 0);
    let endpoint = server.client().create_endpoint(&target)?;
    receiver.down();
    let publishers = Publishers::start(&server.door(), LOAD);
    wait_for_count("events were accepted", 200, || publishers.accepted())?;
    let mut accepted = publishers.finish()?;
    let mut client = server.client();
    wait_until("each was tried", || Ok(client.attempt_count(endpoint)? >= accepted.len()))?;

    set(&clock, offset)?;
    let before = client.attempt_count(endpoint)?;
    let started = now();
    // What is published after the jump is not held up by what came before it.
    let publishers = Publishers::start(&server.door(), LOAD);
    wait_for_count("events were accepted", 200, || publishers.accepted())?;
    accepted.extend(publishers.finish()?);
    wait_until("the next tries were made", || {
        Ok(client.attempt_count(endpoint)? >= before + accepted.len())
    })?;
    // Each wait takes 2 s at least, before and after the jump; only the one that ran meanwhile may be cut short.
    let tries = client.attempt_count(endpoint)?;
    let most = accepted.len() * (2 + usize::try_from(started.elapsed().as_secs())? / 2);
    ensure!(
        tries - before <= most,
        "{} tries within {:?}, {most} would do",
        tries - before,
        started.elapsed()
    );

    receiver.up()?;
    wait_for_count("deliveries arrived", accepted.len(), || receiver.delivered())?;
    ensure!(started.elapsed() < PATIENCE, "no stall");
    server.stop()?;
    let tally = ledger::settle(&accepted, &receiver, &path)?;
    ensure!(tally.duplicates == 0, "{} requests came twice", tally.duplicates);
    Ok(format!("{} events, {tries} refused tries, all delivered once", accepted.len()))
}

/// Replaced at once, so that it is never read half written.
fn set(clock: &Path, offset: &str) -> anyhow::Result<()> {
    let new = clock.with_extension("new");
    std::fs::write(&new, offset)?;
    Ok(std::fs::rename(new, clock)?)
}

/// The environment in which the wall clock, and it alone, is what a file says.
fn faked_by(clock: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let library =
        library().context("libfaketimeMT.so.1 is missing: `cargo xtask ci tools` installs it")?;
    let pair = |name: &str, value: String| (name.to_owned(), value);
    Ok(vec![
        pair("LD_PRELOAD", library.display().to_string()),
        pair("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        pair("FAKETIME_NO_CACHE", "1".into()),
        pair("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        pair("FAKETIME_DONT_RESET", "1".into()),
    ])
}

fn library() -> Option<PathBuf> {
    let libraries = Path::new("/usr/lib").read_dir().ok()?.flatten();
    let mut places = libraries.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    places.find(|path| path.exists())
}
