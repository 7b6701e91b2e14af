//! `cargo xtask faults [--long] [NAME...]`: real faults, done to the release binary under load. Each ends with an exact
//! ledger, or with what is wrong. The short form is a step of CI; the figures of the long one stand in
//! `docs/reliability.md`.

mod clock;
mod crash;
mod disk;
mod outage;
mod power;
mod sync;
mod trace;

use anyhow::{Context, bail, ensure};

use crate::{ci::timed, stage, tools::works};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// How often the process is killed.
    pub kills: usize,
    /// How often it is stopped.
    pub stops: usize,
    /// At how many moments the power is cut, for each of two recordings.
    pub cuts: usize,
    /// How many events wait for a receiver that is down.
    pub backlog: usize,
    /// Where chance begins.
    pub seed: u64,
}

const SHORT: Scale = Scale { kills: 20, stops: 4, cuts: 15, backlog: 3_000, seed: 1 };
const LONG: Scale = Scale { kills: 200, stops: 20, cuts: 500, backlog: 100_000, seed: 1 };

struct Fault {
    name: &'static str,
    try_it: fn(Scale) -> anyhow::Result<String>,
}

static FAULTS: [Fault; 7] = [
    Fault { name: "kill", try_it: crash::kill },
    Fault { name: "stop", try_it: crash::stop },
    Fault { name: "disk", try_it: disk::full },
    Fault { name: "sync", try_it: sync::fails },
    Fault { name: "power", try_it: power::fails },
    Fault { name: "clock", try_it: clock::jumps },
    Fault { name: "outage", try_it: outage::ends },
];

/// What is understood on the command line.
pub const USAGE: &str = "cargo xtask faults [--long] [--seed N] [NAME...]";

/// The short form of all of them, as CI runs it.
pub fn run_short() -> anyhow::Result<()> {
    run(&[])
}

/// Runs those that are named, or all of them.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let (scale, names) = read(arguments)?;
    for tool in ["strace", "faketime"] {
        ensure!(
            works(tool, &["--version"]),
            "{tool} is missing: `cargo xtask ci tools` installs it"
        );
    }
    for fault in FAULTS.iter().filter(|fault| names.is_empty() || names.contains(&fault.name)) {
        let (result, took) = timed(|| (fault.try_it)(scale));
        let figures =
            result.with_context(|| format!("{} failed with --seed {}", fault.name, scale.seed))?;
        println!("{}: {figures} ({took:.1?})", fault.name);
    }
    Ok(())
}

fn read(arguments: &[String]) -> anyhow::Result<(Scale, Vec<&str>)> {
    let is_long = arguments.iter().any(|argument| argument == "--long");
    let mut scale = if is_long { LONG } else { SHORT };
    let mut names = Vec::new();
    let mut rest = arguments.iter().filter(|argument| *argument != "--long");
    while let Some(argument) = rest.next() {
        if argument == "--seed" {
            let seed = rest.next().and_then(|text| text.parse().ok());
            scale.seed = seed.context("--seed needs a number")?;
        } else if FAULTS.iter().any(|fault| fault.name == argument) {
            names.push(argument.as_str());
        } else {
            let known: Vec<_> = FAULTS.iter().map(|fault| fault.name).collect();
            bail!("no fault {argument}; there are: {}\nusage: {USAGE}", known.join(" "));
        }
    }
    Ok((scale, names))
}

/// A directory for a server's data, on the disk that builds use; gone when dropped.
fn directory() -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("postrider-faults-")
        .tempdir()
        .context("no directory can be made")
}

/// A schedule of equal waits, so that a delivery is tried often and soon.
fn waits(count: usize, seconds: &str) -> String {
    vec![seconds; count].join(",")
}

/// The load that most faults are tried under.
const LOAD: stage::publishers::Load = stage::publishers::Load {
    publishers: 8,
    event_type: stage::TYPE,
    bytes: 400,
    every: std::time::Duration::ZERO,
};

/// Chance that can be had again: SplitMix64.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.bits() % bound.max(1) as u64).unwrap_or_default()
    }

    /// True so many times in a hundred.
    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
