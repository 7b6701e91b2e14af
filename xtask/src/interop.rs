//! The interoperability tests: other people's libraries verify what the release binary sends. They are Python, in an
//! environment of their own that is kept in the cache; so is what the Node receiver of the documentation needs.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::{
    ci::{Done, cargo_command, check},
    tools::{Cache, works},
};

/// Makes both environments, or makes them anew when what they should hold has changed.
pub fn prepare(cache: &Cache) -> anyhow::Result<()> {
    let imports = "import cryptography, standardwebhooks, stripe";
    prepare_python(&folder(), &environment(cache), imports)?;
    prepare_node(cache)
}

/// Node looks for packages beside the file that imports them, so that the receiver is copied to where they are.
fn prepare_node(cache: &Cache) -> anyhow::Result<()> {
    let environment = node_environment(cache);
    std::fs::create_dir_all(&environment)?;
    let copy = |from: PathBuf, name: &str| {
        std::fs::copy(&from, environment.join(name))
            .with_context(|| format!("{} can't be copied", from.display()))
    };
    copy(checkout().join("docs/receivers/receiver.mjs"), "receiver.mjs")?;
    let wanted = std::fs::read(folder().join("package-lock.json"))?;
    let stamp = environment.join("installed-lock.json");
    if std::fs::read(&stamp).is_ok_and(|held| held == wanted) {
        return Ok(());
    }
    copy(folder().join("package.json"), "package.json")?;
    copy(folder().join("package-lock.json"), "package-lock.json")?;
    let mut npm = Command::new("npm");
    check(npm.args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&environment))?;
    std::fs::write(&stamp, wanted).with_context(|| format!("{} can't be written", stamp.display()))
}

/// Makes an environment that holds what a folder's `requirements.txt` asks for, unless there is one.
pub fn prepare_python(folder: &Path, environment: &Path, imports: &str) -> anyhow::Result<()> {
    let wanted = std::fs::read(folder.join("requirements.txt"))?;
    let stamp = environment.join("requirements.txt");
    let holds = std::fs::read(&stamp).is_ok_and(|held| held == wanted);
    // The python that it was made with may have gone since.
    if holds && works(environment.join("bin/python"), &["-c", imports]) {
        return Ok(());
    }
    check(Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment))?;
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
    check(pip.arg("--requirement").arg(folder.join("requirements.txt")))?;
    // Written last: an environment that broke off has none.
    std::fs::write(&stamp, wanted).with_context(|| format!("{} can't be written", stamp.display()))
}

/// Runs the tests against the release binary.
pub fn run(cache: &Cache) -> anyhow::Result<Done> {
    prepare(cache)?;
    let mut python = Command::new(environment(cache).join("bin/python"));
    python.args(["-B", "-m", "unittest", "--verbose", "test_interop", "test_receivers"]);
    python.env("POSTRIDER_BINARY", built("release/postrider"));
    python.env("POSTRIDER_RUST_RECEIVER", built("debug/examples/receiver"));
    python.env("POSTRIDER_NODE_DIR", node_environment(cache));
    // The example is built with the tests; alone, this step builds it itself.
    check(&mut cargo_command(&[
        "build",
        "--package",
        "postrider",
        "--example",
        "receiver",
        "--locked",
    ]))?;
    check(python.current_dir(folder()))
}

fn node_environment(cache: &Cache) -> PathBuf {
    cache.join("interop-node")
}

fn environment(cache: &Cache) -> PathBuf {
    cache.join("interop-venv")
}

pub fn checkout() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

fn folder() -> PathBuf {
    checkout().join("tests/interop")
}

/// A file that cargo built.
pub fn built(name: &str) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    checkout().join(target).join(name)
}
