//! The disk says that it could not write: `fsync` fails with EIO, once, and then always. The server has to stop: what it could
//! not sync may be gone although the next sync succeeds.

use anyhow::{Context, ensure};

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

    let (mut accepted, mut refused) = (Vec::new(), 0);
    // A sync fails and the next ones succeed; and from some moment on all of them fail.
    for when in ["30", "60+1"] {
        server.restart(&Launch { wrapper: injecting(when), ..healthy.clone() })?;
        let publishers = Publishers::start(&server.door(), LOAD);
        wait_until("the server stops by itself", || Ok(server.ended()?.is_some()))?;
        let status = server.ended()?.context("it has ended")?;
        ensure!(status.code() == Some(1), "a server whose disk failed left with {status}");
        refused += publishers.refused();
        accepted.extend(publishers.finish()?);
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
        "{} events accepted, two servers stopped by themselves when fsync failed ({refused} refused), none of the accepted \
         lost, {} twice",
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
