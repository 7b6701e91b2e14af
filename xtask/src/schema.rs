//! The release binary against its own OpenAPI document: Schemathesis, in a Python environment of its own that is kept in the
//! cache.

use std::{path::PathBuf, process::Command};

use crate::{
    ci::{Done, check},
    interop::{built, checkout, prepare_python},
    tools::Cache,
};

/// Makes the environment, or makes it anew when what it should hold has changed.
pub fn prepare(cache: &Cache) -> anyhow::Result<()> {
    prepare_python(&folder(), &environment(cache), "import schemathesis")
}

/// Asks every operation.
pub fn run(cache: &Cache) -> anyhow::Result<Done> {
    prepare(cache)?;
    let mut python = Command::new(environment(cache).join("bin/python"));
    check(
        python
            .arg("-B")
            .arg(folder().join("run.py"))
            .env("POSTRIDER_BINARY", built("release/postrider")),
    )
}

fn environment(cache: &Cache) -> PathBuf {
    cache.join("schema-venv")
}

fn folder() -> PathBuf {
    checkout().join("tests/schema")
}
