//! The interoperability tests: other people's libraries verify what the release binary sends. They are Python, in an
//! environment of their own that is kept in the cache.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::{
    ci::{Done, check},
    tools::{Cache, works},
};

/// Makes the environment, or makes it anew when what it should hold has changed.
pub fn prepare(cache: &Cache) -> anyhow::Result<()> {
    let environment = environment(cache);
    let wanted = std::fs::read(folder().join("requirements.txt"))?;
    let stamp = environment.join("requirements.txt");
    let holds = std::fs::read(&stamp).is_ok_and(|held| held == wanted);
    // The python that it was made with may have gone since.
    if holds && works(environment.join("bin/python"), &["-c", "import standardwebhooks, stripe"]) {
        return Ok(());
    }
    check(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
    check(pip.arg("--requirement").arg(folder().join("requirements.txt")))?;
    // Written last: an environment that broke off has none.
    std::fs::write(&stamp, wanted).with_context(|| format!("{} can't be written", stamp.display()))
}

/// Runs the tests against the release binary.
pub fn run(cache: &Cache) -> anyhow::Result<Done> {
    prepare(cache)?;
    let mut python = Command::new(environment(cache).join("bin/python"));
    python.args(["-B", "-m", "unittest", "--verbose", "test_interop"]).current_dir(folder());
    check(python.env("POSTRIDER_BINARY", release_binary()))
}

fn environment(cache: &Cache) -> PathBuf {
    cache.join("interop-venv")
}

fn checkout() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

fn folder() -> PathBuf {
    checkout().join("tests/interop")
}

fn release_binary() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    checkout().join(target).join("release/postrider")
}
