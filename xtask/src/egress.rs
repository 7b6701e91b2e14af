//! The egress corpus in a network namespace: a network of its own, whose loopback has public-looking addresses, so that a
//! delivery to a public address is dialled for real, and nothing leaves the machine.

use std::process::{Command, Stdio};

use anyhow::bail;

use crate::{
    ci::{Done, cargo_command, check},
    tools::{Cache, is_root},
};

/// Makes the network, and becomes the command that follows.
const ENTER: &str = "set -e
ip link set lo up
ip address add 93.184.215.14/32 dev lo
ip -6 address add 2606:2800:21f::14/128 dev lo nodad
exec \"$@\"";

const TEST: [&str; 6] = ["test", "--package", "postrider", "--test", "egress", "--locked"];

/// Runs the tests that need it. Where the namespace can't be made, it fails: skipped, it would show nothing.
pub fn run(_: &Cache) -> anyhow::Result<Done> {
    // There is no registry inside.
    check(cargo_command(&TEST).arg("--no-run"))?;
    let cargo = cargo_command(&TEST);
    let mut inside = Command::new("unshare");
    if !is_root()? {
        inside.arg("--map-root-user");
    }
    inside.args(["--net", "sh", "-c", ENTER, "sh"]).arg(cargo.get_program());
    inside.args(cargo.get_args()).args(["--offline", "--", "--ignored"]);
    println!("$ {inside:?}");
    let output = inside.stdout(Stdio::piped()).spawn()?.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    if !output.status.success() {
        let status = output.status;
        bail!("a forbidden place was reached, or the namespace could not be made: {status}");
    }
    // A test that was renamed away would pass, too.
    if !text.contains("1 passed") {
        bail!("no test was run in the namespace");
    }
    Ok(Done::Passed)
}
