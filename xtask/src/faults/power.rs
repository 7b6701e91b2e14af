//! The power fails. Every write and sync of a server under load is recorded; then, for moments chosen by chance, what
//! would be on disk is rebuilt: surely what was synced, and any part of what was not, by sectors. The database must open,
//! be whole, and hold every event that was acknowledged by then.
//!
//! A second recording has syncs that fail. What was written before such a one may be gone for good, whatever a later sync
//! says: the system gives up such pages, and tells once.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use anyhow::{Context, ensure};
use rusqlite::Connection;

use super::{Chance, LOAD, Scale, directory, trace, trace::Step, waits};
use crate::stage::{
    publishers::{Load, Publishers},
    receiver::{Manner, Receiver},
    server::{Launch, Server},
    wait_for_count, wait_until,
};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Enough for several checkpoints.
const EVENTS: usize = 4_000;

const DATABASE: &str = "postrider.db";

pub fn fails(scale: Scale) -> anyhow::Result<String> {
    let mut said = Vec::new();
    for (name, inject) in [("", None), (" with failing syncs", Some("400+"))] {
        let steps = record(inject)?;
        let checked = cut_often(&steps, scale)?;
        said.push(format!("{checked}{name}"));
    }
    Ok(said.join("; "))
}

/// Records a server under load, from its first start on.
fn record(inject: Option<&str>) -> anyhow::Result<Vec<Step>> {
    let directory = directory()?;
    let path = directory.path().join("trace");
    let mut wrapper: Vec<String> = trace::STRACE.map(str::to_owned).to_vec();
    if let Some(when) = inject {
        wrapper.extend(["-e".into(), format!("inject=fsync,fdatasync:error=EIO:when={when}")]);
    }
    wrapper.extend(["-o".into(), path.display().to_string()]);
    let launch = Launch { wrapper, ..Launch::with(&["--retry-schedule", &waits(30, "0.05")]) };
    let mut server = Server::start(&launch, &directory.path().join("data"))?;
    let receiver = Receiver::start()?;
    server.client().create_endpoint(&receiver.target(Manner::Moody, 0).0)?;
    let publishers = Publishers::start(&server.door(), Load { bytes: 2_000, ..LOAD });
    if inject.is_some() {
        // The first sync that fails stops it.
        wait_until("it stopped", || Ok(server.ended()?.is_some()))?;
    } else {
        wait_for_count("events were accepted", EVENTS, || publishers.accepted())?;
        server.kill()?;
    }
    let accepted = publishers.finish()?;
    let told = |steps: &[Step]| -> HashSet<i64> {
        let told = |step: &Step| match step {
            Step::Acknowledge { event } => Some(*event),
            _ => None,
        };
        steps.iter().filter_map(told).collect()
    };
    let mut steps = Vec::new();
    // The tracer writes its last lines after the server has gone.
    wait_until("every 201 is in the trace", || {
        steps = trace::read(&path)?;
        let told = told(&steps);
        Ok(accepted.iter().all(|event| told.contains(event)))
    })?;
    Ok(steps)
}

fn cut_often(steps: &[Step], scale: Scale) -> anyhow::Result<String> {
    let mut chance = Chance(scale.seed);
    // A database that isn't there yet has acknowledged nothing; there is nothing to check.
    let first =
        steps.iter().position(|step| matches!(step, Step::Acknowledge { .. })).context("no 201")?;
    let mut cuts: Vec<usize> =
        (0..scale.cuts).map(|_| first + chance.below(steps.len() - first)).collect();
    cuts.sort_unstable();
    let mut disk = Disk::default();
    let (mut acknowledged, mut done) = (Vec::new(), 0);
    for &cut in &cuts {
        for (number, step) in steps.iter().enumerate().take(cut + 1).skip(done) {
            match step {
                Step::Acknowledge { event } => acknowledged.push(*event),
                _ => disk.take(number, step, &mut chance),
            }
        }
        done = cut + 1;
        let place = directory()?;
        disk.lose_power(place.path(), &mut chance)?;
        check(place.path(), &acknowledged)
            .with_context(|| format!("the power failed after step {cut} of {}", steps.len()))?;
    }
    let syncs = steps.iter().filter(|step| matches!(step, Step::Sync { .. })).count();
    Ok(format!(
        "{} cuts over {} steps ({syncs} syncs, {} events): every database was whole and had all that was acknowledged",
        cuts.len(),
        steps.len(),
        acknowledged.len()
    ))
}

/// What is on a disk, and what may be.
#[derive(Default)]
struct Disk {
    files: BTreeMap<String, File>,
}

#[derive(Default)]
struct File {
    durable: Vec<u8>,
    /// What was done since the last sync, and when.
    pending: Vec<(usize, Change)>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Disk {
    fn take(&mut self, number: usize, step: &Step, chance: &mut Chance) {
        match step {
            Step::Write { file, offset, bytes } => {
                self.file(file).pending.push((number, Change::Write(*offset, bytes.clone())));
            }
            Step::Truncate { file, length } => {
                self.file(file).pending.push((number, Change::Truncate(*length)));
            }
            Step::Sync { file, since, worked } => self.file(file).sync(*since, *worked, chance),
            // The log of a database in use is never removed; a journal is, before there is a log.
            Step::Unlink { file } => drop(self.files.remove(file)),
            Step::Acknowledge { .. } => {}
        }
    }

    fn file(&mut self, name: &str) -> &mut File {
        self.files.entry(name.to_owned()).or_default()
    }

    /// Writes into a directory what is found there after the power failed now.
    fn lose_power(&self, place: &Path, chance: &mut Chance) -> anyhow::Result<()> {
        // Disks lose little, or much.
        let percent = [0, 10, 50, 90, 100][chance.below(5)];
        for (name, file) in &self.files {
            let mut content = file.durable.clone();
            for (_, change) in &file.pending {
                apply_in_part(&mut content, change, percent, chance);
            }
            std::fs::write(place.join(name), content)?;
        }
        Ok(())
    }
}

impl File {
    fn sync(&mut self, since: usize, worked: bool, chance: &mut Chance) {
        let later = self.pending.partition_point(|(number, _)| *number < since);
        for (_, change) in self.pending.drain(..later) {
            let percent = if worked { 100 } else { 50 };
            apply_in_part(&mut self.durable, &change, percent, chance);
        }
    }
}

/// Applies each sector of a write, and each cut, so many times in a hundred.
fn apply_in_part(content: &mut Vec<u8>, change: &Change, percent: usize, chance: &mut Chance) {
    match change {
        Change::Truncate(length) => {
            if chance.percent(percent) {
                content.resize(*length, 0);
            }
        }
        Change::Write(offset, bytes) => {
            let mut at = *offset;
            let end = offset + bytes.len();
            while at < end {
                let next = ((at / SECTOR + 1) * SECTOR).min(end);
                if chance.percent(percent) {
                    content.resize(content.len().max(next), 0);
                    content[at..next].copy_from_slice(&bytes[at - offset..next - offset]);
                }
                at = next;
            }
        }
    }
}

fn check(place: &Path, acknowledged: &[i64]) -> anyhow::Result<()> {
    let database = open_whole(place)?;
    let mut select = database.prepare(
        "SELECT event.id FROM event WHERE EXISTS (SELECT 1 FROM delivery WHERE event_id = event.id)",
    )?;
    let kept: HashSet<i64> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let missing: Vec<_> = acknowledged.iter().filter(|event| !kept.contains(event)).collect();
    ensure!(
        missing.is_empty(),
        "of {} acknowledged events are missing: {missing:?}",
        acknowledged.len()
    );
    Ok(())
}

/// Opens the database in a directory, and has SQLite look at every page of it.
fn open_whole(place: &Path) -> anyhow::Result<Connection> {
    let database = Connection::open(place.join(DATABASE))?;
    let said: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(said == "ok", "the database is damaged: {said}");
    Ok(database)
}

/// Whether the database in a directory is whole.
pub fn check_integrity(place: &Path) -> anyhow::Result<()> {
    open_whole(place).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "postrider.db-wal";

    /// What is in the log after these steps and a power cut, for a hundred kinds of bad luck.
    fn outcomes(steps: &[Step]) -> HashSet<Vec<u8>> {
        let outcome = |seed| {
            let (mut disk, mut chance) = (Disk::default(), Chance(seed));
            for (number, step) in steps.iter().enumerate() {
                disk.take(number, step, &mut chance);
            }
            let place = tempfile::tempdir().unwrap();
            disk.lose_power(place.path(), &mut chance).unwrap();
            std::fs::read(place.path().join(LOG)).unwrap()
        };
        (0..100).map(outcome).collect()
    }

    fn write(offset: usize, byte: u8) -> Step {
        Step::Write { file: LOG.into(), offset, bytes: vec![byte; SECTOR] }
    }

    fn sync(since: usize, worked: bool) -> Step {
        Step::Sync { file: LOG.into(), since, worked }
    }

    #[test]
    fn what_was_synced_is_there_and_the_rest_may_be() {
        let (one, two) = (vec![1; SECTOR], vec![2; SECTOR]);
        let both = [one.clone(), two.clone()].concat();
        let steps = [write(0, 1), sync(1, true), write(SECTOR, 2)];
        assert_eq!(outcomes(&steps), HashSet::from([one.clone(), both.clone()]));
        // A sync says nothing of what was written after it had begun.
        let steps = [write(0, 1), write(SECTOR, 2), sync(1, true)];
        assert_eq!(outcomes(&steps), HashSet::from([one, both]));
    }

    #[test]
    fn what_was_written_before_a_failed_sync_may_be_gone_for_good() {
        let gone = [vec![0; SECTOR], vec![2; SECTOR]].concat();
        let steps = [write(0, 1), sync(1, false), write(SECTOR, 2), sync(3, true)];
        let found = outcomes(&steps);
        assert!(found.contains(&gone) && found.len() == 2, "{} outcomes", found.len());
    }
}
