//! The steps, the quick ones first. The first that fails ends the run, with its name.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::{
    egress, faults, interop, sbom, schema,
    tools::{self, Cache},
};

/// What a step came to, if it didn't fail.
pub enum Done {
    Passed,
    /// It can't be done on this machine, for this reason; nothing is wrong.
    Skipped(String),
}

struct Step {
    name: &'static str,
    run: fn(&Cache) -> anyhow::Result<Done>,
}

static STEPS: [Step; 15] = [
    Step { name: "tools", run: tools::install },
    Step { name: "format", run: |_| cargo(&["fmt", "--all", "--check"]) },
    Step { name: "lint", run: lint },
    Step { name: "test", run: |_| cargo(&["test", "--workspace", "--locked"]) },
    Step { name: "postgres", run: test_on_postgres },
    Step { name: "egress", run: egress::run },
    Step { name: "doc", run: doc },
    Step { name: "dependencies", run: dependencies },
    Step { name: "advisories", run: advisories },
    Step { name: "sbom", run: sbom::run },
    Step { name: "release", run: release },
    Step { name: "release-test", run: release_test },
    Step { name: "faults", run: |_| faults::run_short().map(|()| Done::Passed) },
    Step { name: "interop", run: interop::run },
    Step { name: "schema", run: schema::run },
];

/// How it is called.
pub const USAGE: &str = "cargo xtask ci [STEP...]";

/// The steps' names, in order.
pub fn step_names() -> Vec<&'static str> {
    STEPS.iter().map(|step| step.name).collect()
}

/// Runs the steps of those names, or all of them.
pub fn run(wanted: &[String]) -> anyhow::Result<()> {
    for name in wanted {
        let known = step_names();
        ensure!(known.contains(&name.as_str()), "no step {name}; there are: {}", known.join(" "));
    }
    let cache = Cache::open()?;
    let is_wanted = |step: &&Step| wanted.is_empty() || wanted.iter().any(|name| name == step.name);
    let (mut passed, mut skipped) = (0, 0);
    for step in STEPS.iter().filter(is_wanted) {
        println!("==> {}", step.name);
        let (result, took) = timed(|| (step.run)(&cache));
        match result {
            Ok(Done::Passed) => {
                passed += 1;
                println!("==> {} passed in {took:.1?}", step.name);
            }
            Ok(Done::Skipped(reason)) => {
                skipped += 1;
                println!("==> {} SKIPPED: {reason}", step.name);
            }
            Err(error) => {
                println!("==> {} FAILED after {took:.1?}", step.name);
                println!("{passed} passed, 1 failed, {skipped} skipped");
                return Err(error.context(format!("the step {} failed", step.name)));
            }
        }
    }
    println!("{passed} passed, 0 failed, {skipped} skipped");
    Ok(())
}

/// Does something, and says how long it took.
#[allow(clippy::disallowed_methods, reason = "how long a step takes has no part in any simulation")]
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn lint(_: &Cache) -> anyhow::Result<Done> {
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
}

/// What a server promises, it promises on Postgres too.
fn test_on_postgres(_: &Cache) -> anyhow::Result<Done> {
    let mut tests = cargo_command(&["test", "--package", "postrider", "--locked"]);
    tests.args(["--test", "api", "--test", "crash", "--test", "expire", "--test", "delivery"]);
    check(tests.env("POSTRIDER_TEST_STORE", "postgres"))
}

/// The documentation is for those who work on the code, so that it covers private items, and may link to them.
fn doc(_: &Cache) -> anyhow::Result<Done> {
    let mut doc =
        cargo_command(&["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"]);
    check(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))
}

fn dependencies(cache: &Cache) -> anyhow::Result<Done> {
    let mut deny = tools::cargo_deny(cache)?;
    check(deny.args(["check", "licenses", "bans", "sources"]))
}

/// The database of advisories is fetched from where packages are not, so that it is used only where somebody has
/// fetched it: `cargo deny fetch db`.
fn advisories(cache: &Cache) -> anyhow::Result<Done> {
    let Some(database) = tools::advisory_database() else {
        return Ok(Done::Skipped(
            "there is no advisory database on this machine; `cargo deny fetch db` brings it".into(),
        ));
    };
    println!("with the database in {}", database.display());
    let mut deny = tools::cargo_deny(cache)?;
    check(deny.args(["check", "--disable-fetch", "advisories"]))
}

fn release(_: &Cache) -> anyhow::Result<Done> {
    cargo(&["build", "--release", "--package", "postrider", "--locked"])
}

/// What depends on timing is tried with what users run, too: the crashes, and a load.
fn release_test(_: &Cache) -> anyhow::Result<Done> {
    let mut tests = cargo_command(&["test", "--package", "postrider", "--locked"]);
    tests.args(["--test", "crash", "--test", "expire", "--test", "delivery", "--test", "hostile"]);
    check(tests.env("POSTRIDER_TEST_BINARY", interop::built("release/postrider")))
}

fn cargo(arguments: &[&str]) -> anyhow::Result<Done> {
    check(&mut cargo_command(arguments))
}

/// A cargo command.
pub fn cargo_command(arguments: &[&str]) -> Command {
    // Cargo tells those that it runs where it is.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(arguments);
    command
}

/// Runs a command and holds it to its exit code.
pub fn check(command: &mut Command) -> anyhow::Result<Done> {
    println!("$ {command:?}");
    let status = command
        .status()
        .with_context(|| format!("{} can't be run", command.get_program().display()))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(Done::Passed)
}
