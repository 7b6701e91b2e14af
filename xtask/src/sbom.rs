//! The bill of materials: one CycloneDX document for each crate of the workspace, in `sbom` below the target directory,
//! held to naming what it is made of. `postrider.cdx.json` is that of what users run.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    ci::{Done, cargo_command, check},
    interop::{built, checkout},
    tools::{self, Cache},
};

/// What the program depends on in the workspace, and its document has to name.
const PARTS: [&str; 2] = ["postrider-kernel", "postrider-store"];

/// Writes and checks them.
pub fn run(cache: &Cache) -> anyhow::Result<Done> {
    let directory = built("sbom");
    fs::create_dir_all(&directory)?;
    let mut cyclonedx = tools::cargo_cyclonedx(cache)?;
    cyclonedx.args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--target", "all"]);
    check(cyclonedx.arg("--quiet").current_dir(checkout()))?;
    for package in packages()? {
        take(&package, &directory)?;
    }
    let path = directory.join("postrider.cdx.json");
    let document = read(&fs::read_to_string(&path)?)?;
    for part in PARTS {
        ensure!(names_component(&document, part), "{} does not name {part}", path.display());
    }
    println!("the bill of materials is {}", path.display());
    Ok(Done::Passed)
}

/// The crates of the workspace: name and manifest.
fn packages() -> anyhow::Result<Vec<(String, String)>> {
    let mut command: Command = cargo_command(&["metadata", "--no-deps", "--format-version", "1"]);
    let command = command.current_dir(checkout()).stderr(Stdio::inherit());
    let output = command.output().context("cargo can't be run")?;
    ensure!(output.status.success(), "cargo metadata left with {}", output.status);
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a package has no name");
    packages
        .iter()
        .map(|package| Ok((text(&package["name"])?, text(&package["manifest_path"])?)))
        .collect()
}

/// Moves a document from beside its manifest, where the tool writes it, and checks that it is one.
fn take((name, manifest): &(String, String), directory: &Path) -> anyhow::Result<()> {
    let file = format!("{name}.cdx.json");
    let written = Path::new(manifest).with_file_name(&file);
    let text = fs::read_to_string(&written)
        .with_context(|| format!("{} was not written", written.display()))?;
    fs::remove_file(&written)?;
    // Where it was built is nobody's business.
    let text = text.replace(&format!("file://{}", checkout().display()), "file://");
    let document = read(&text).with_context(|| file.clone())?;
    let own = &document["metadata"]["component"]["name"];
    ensure!(own == name.as_str(), "{file} is about {own}");
    fs::write(directory.join(file), text)?;
    Ok(())
}

fn read(text: &str) -> anyhow::Result<Value> {
    let document: Value = serde_json::from_str(text).context("it is no JSON")?;
    ensure!(document["bomFormat"] == "CycloneDX", "it is no CycloneDX document");
    Ok(document)
}

fn names_component(document: &Value, name: &str) -> bool {
    let components = document["components"].as_array();
    components.is_some_and(|all| all.iter().any(|component| component["name"] == name))
}
