//! `cargo xtask sim`: the simulation of `crates/server/tests/sim.rs`, with as many seeds as one likes, or with the one that
//! broke a promise.

use anyhow::{Context, bail};

use crate::ci::{cargo_command, check};

/// How it is called.
pub const USAGE: &str = "cargo xtask sim [--seeds N] [--from N]";

/// Runs so many seeds from that one on; a single one shows everything that happened.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let (mut seeds, mut from) = (10_000, 0);
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} needs a number"))?;
        let number: u64 = value.parse().with_context(|| format!("{name} {value} is no number"))?;
        match name.as_str() {
            "--seeds" => seeds = number,
            "--from" => from = number,
            _ => bail!("unknown option {name}; usage: {USAGE}"),
        }
    }
    let mut test = cargo_command(&["test", "--package", "postrider", "--locked", "--test", "sim"]);
    test.args(["--", "--exact", "--nocapture", "no_seed_breaks_a_promise"]);
    test.env("POSTRIDER_SIM_SEEDS", seeds.to_string());
    test.env("POSTRIDER_SIM_FROM", from.to_string());
    check(&mut test).map(drop)
}
