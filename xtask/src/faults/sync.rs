//! The disk says that it could not write: `fsync` fails with EIO, now and then, and then always.

use anyhow::ensure;

use super::{LOAD, Scale, directory, waits};
use crate::stage::{
    ledger,
    publishers::Publishers,
    receiver::{Manner, Receiver},
    server::{Launch, Server},
    wait_for_count, wait_until,
};

pub fn fails(_: Scale) -> anyhow::Result<String> {
    let directory = directory()?;
    let data_dir = directory.path().join("data");
    let options = ["--retry-schedule", &waits(30, "0.05")];
    let healthy = Launch::with(&options);
    let mut server = Server::start(&healthy, &data_dir)?;
    let receiver = Receiver::start()?;
    let (target, path) = receiver.target(Manner::Fine, 0);
    server.client().create_endpoint(&target)?;
    server.stop()?;

    let mut accepted = Vec::new();
    let mut refused = 0;
    for when in ["30+3", "60+1"] {
        server.restart(&Launch { wrapper: injecting(when), ..healthy.clone() })?;
        let publishers = Publishers::start(&server.door(), LOAD);
        wait_until("publishing is refused", || {
            Ok(publishers.refused() > 50 || server.ended()?.is_some())
        })?;
        refused += publishers.refused();
        accepted.extend(publishers.finish()?);
        // What the failing process holds in memory is lost, as its pages may be.
        server.kill()?;
    }

    server.restart(&healthy)?;
    let publishers = Publishers::start(&server.door(), LOAD);
    wait_for_count("events were accepted", 200, || publishers.accepted())?;
    ensure!(publishers.refused() == 0, "a start on a disk that works is clean");
    accepted.extend(publishers.finish()?);
    wait_until("all accepted events arrived", || {
        Ok(ledger::missing(&accepted, &receiver.receipts(), &path).is_empty())
    })?;
    server.stop()?;
    let tally = ledger::settle(&accepted, &receiver, &path)?;
    super::power::check_integrity(&data_dir)?;
    Ok(format!(
        "{} events accepted, {refused} refused while fsync failed, none of the accepted lost, {} twice",
        tally.accepted, tally.duplicates
    ))
}

/// A tracer that lets syncs fail, counted in each thread.
fn injecting(when: &str) -> Vec<String> {
    let inject = format!("inject=fsync,fdatasync:error=EIO:when={when}");
    let words =
        ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e"];
    words.iter().map(|&word| word.to_owned()).chain([inject]).collect()
}
