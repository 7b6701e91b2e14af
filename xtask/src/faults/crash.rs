//! The process ends under load: killed, or asked to.

use anyhow::ensure;

use super::{LOAD, Scale, directory, waits};
use crate::stage::{
    ledger,
    publishers::Publishers,
    receiver::{Manner, Receiver},
    server::{Launch, Server},
    wait_for_count,
};

/// Requests in flight to one endpoint, at most.
const CONCURRENCY: usize = 8;

/// How many 201s are waited for before the next end.
const ACCEPTED_BETWEEN: usize = 60;

/// `kill -9`, again and again: all that got a 201 arrives, and twice only what was in flight or not yet written down.
pub fn kill(scale: Scale) -> anyhow::Result<String> {
    let stage = Stage::set()?;
    let (tallies, unanswered) = stage.end_often(scale.kills, Server::kill)?;
    // A worker carries one delivery while its last one is being written down.
    let bound = scale.kills * CONCURRENCY * 2;
    for tally in &tallies {
        ensure!(tally.duplicates <= bound, "{} duplicates, {bound} could be", tally.duplicates);
    }
    Ok(format!(
        "{} kills, {} events accepted, none lost; duplicates {} and {} (at most {bound}); \
         {unanswered} publishes got no answer, {} of their events arrived",
        scale.kills,
        tallies[0].accepted,
        tallies[0].duplicates,
        tallies[1].duplicates,
        tallies[0].unacknowledged
    ))
}

/// SIGTERM: nothing is lost, and nothing comes twice.
pub fn stop(scale: Scale) -> anyhow::Result<String> {
    let stage = Stage::set()?;
    let (tallies, _) = stage.end_often(scale.stops, Server::stop)?;
    for tally in &tallies {
        ensure!(
            tally.duplicates == 0,
            "{} requests came twice though nothing crashed",
            tally.duplicates
        );
    }
    Ok(format!(
        "{} stops, {} events accepted, none lost, none twice",
        scale.stops, tallies[0].accepted
    ))
}

struct Stage {
    server: Server,
    launch: Launch,
    receiver: Receiver,
    paths: [String; 2],
    _directory: tempfile::TempDir,
}

impl Stage {
    /// One receiver is fine, one fails every third time, so that retries are under way at every end.
    fn set() -> anyhow::Result<Self> {
        let (concurrency, schedule) = (CONCURRENCY.to_string(), waits(30, "0.02"));
        let launch =
            Launch::with(&["--endpoint-concurrency", &concurrency, "--retry-schedule", &schedule]);
        let directory = directory()?;
        let server = Server::start(&launch, &directory.path().join("data"))?;
        let receiver = Receiver::start()?;
        let mut client = server.client();
        let mut paths = [String::new(), String::new()];
        for (path, manner) in paths.iter_mut().zip([Manner::Fine, Manner::Moody]) {
            let (target, at) = receiver.target(manner, 0);
            client.create_endpoint(&target)?;
            *path = at;
        }
        Ok(Self { server, launch, receiver, paths, _directory: directory })
    }

    /// Ends and starts the server so often under load, waits until all has arrived, and settles.
    fn end_often(
        mut self,
        times: usize,
        end: fn(&mut Server) -> anyhow::Result<()>,
    ) -> anyhow::Result<([ledger::Tally; 2], usize)> {
        let publishers = Publishers::start(&self.server.door(), LOAD);
        for time in 1..=times {
            wait_for_count("events were accepted", time * ACCEPTED_BETWEEN, || {
                publishers.accepted()
            })?;
            end(&mut self.server)?;
            self.server.restart(&self.launch)?;
        }
        let unanswered = publishers.unanswered();
        let accepted = publishers.finish()?;
        wait_for_count("deliveries arrived", 2 * accepted.len(), || self.receiver.delivered())?;
        let missing = || -> usize {
            let receipts = self.receiver.receipts();
            self.paths.iter().map(|path| ledger::missing(&accepted, &receipts, path).len()).sum()
        };
        // Those that came without a 201 count among the deliveries too.
        crate::stage::wait_until("all accepted events arrived", || Ok(missing() == 0))?;
        self.server.stop()?;
        let settle = |path: &String| ledger::settle(&accepted, &self.receiver, path);
        Ok(([settle(&self.paths[0])?, settle(&self.paths[1])?], unanswered))
    }
}
