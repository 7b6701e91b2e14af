//! A receiver that is down while much waits for it, and then is up.

use anyhow::ensure;

use super::{LOAD, Scale, directory, waits};
use crate::stage::{
    ledger,
    publishers::Publishers,
    receiver::{Manner, Receiver},
    server::{Launch, Server},
    wait_for_count,
};

pub fn ends(scale: Scale) -> anyhow::Result<String> {
    let directory = directory()?;
    let launch = Launch::with(&["--retry-schedule", &waits(100, "5")]);
    let mut server = Server::start(&launch, &directory.path().join("data"))?;
    let (mut down, up) = (Receiver::start()?, Receiver::start()?);
    let mut client = server.client();
    let (target, path) = down.target(Manner::Fine, 0);
    let endpoint = client.create_endpoint(&target)?;
    let (other_target, other_path) = up.target(Manner::Fine, 1);
    client.create_endpoint(&other_target)?;
    down.down();

    let publishers = Publishers::start(&server.door(), LOAD);
    wait_for_count("events were accepted", scale.backlog, || publishers.accepted())?;
    let accepted = publishers.finish()?;
    wait_for_count("deliveries to a neighbour arrived", accepted.len(), || up.delivered())?;
    let failed = client.attempt_count(endpoint)?;
    ensure!(failed > 0 && down.requests() == 0, "the receiver is down, and was tried");

    down.up()?;
    wait_for_count("deliveries arrived", accepted.len(), || down.delivered())?;
    server.stop()?;
    for (receiver, path) in [(&down, &path), (&up, &other_path)] {
        let tally = ledger::settle(&accepted, receiver, path)?;
        ensure!(tally.duplicates == 0, "{} requests to {path} came twice", tally.duplicates);
    }
    Ok(format!(
        "{} events waited ({failed} tries were refused), all delivered once; a neighbour had them all meanwhile",
        accepted.len()
    ))
}
