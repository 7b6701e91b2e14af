//! The disk fills up, to its last byte: nothing is accepted, lists still work, and all goes on by itself once there is
//! room.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

use super::{LOAD, Scale, directory, waits};
use crate::{
    ci::check,
    stage::{
        TYPE, ledger,
        publishers::Publishers,
        receiver::{Manner, Receiver},
        server::{Launch, Server},
        wait_for_count, wait_until,
    },
};

/// How large the disk is.
const SIZE: &str = "size=32m,mode=0700";

pub fn full(_: Scale) -> anyhow::Result<String> {
    let directory = directory()?;
    let disk = Disk::mount(directory.path().join("disk"))?;
    let launch = Launch::with(&["--retry-schedule", &waits(30, "0.05")]);
    let mut server = Server::start(&launch, &disk.path.join("data"))?;
    let receiver = Receiver::start()?;
    let (target, path) = receiver.target(Manner::Moody, 0);
    let endpoint = server.client().create_endpoint(&target)?;
    let publishers = Publishers::start(&server.door(), LOAD);
    wait_for_count("events were accepted", 500, || publishers.accepted())?;

    let ballast = disk.fill()?;
    wait_until("publishing is refused", || Ok(publishers.refused() > 20))?;
    let mut client = server.client();
    let refusal = client.publish(TYPE, 10)?;
    ensure!(
        refusal.status == 503,
        "a full disk was answered {}: {}",
        refusal.status,
        refusal.text()
    );
    let words = refusal.text();
    ensure!(words.contains("can't store events"), "a refusal that says little: {words}");
    for list in ["endpoint/", &format!("endpoint/{endpoint}/attempt/"), "endpoint/event/type/"] {
        let answer = client.send("GET", &format!("/api/v2/webhook/{list}"), b"")?;
        ensure!(
            matches!(answer.status, 200 | 404),
            "{list} was answered {}: {}",
            answer.status,
            answer.text()
        );
    }
    ensure!(client.get("/api/v2/webhook/endpoint/")?["count"] == 1, "lists still work");
    let before = publishers.accepted();

    std::fs::remove_file(&ballast)?;
    wait_for_count("events were accepted", before + 500, || publishers.accepted())?;
    let refused = publishers.refused();
    let accepted = publishers.finish()?;
    wait_until("all accepted events arrived", || {
        Ok(ledger::missing(&accepted, &receiver.receipts(), &path).is_empty())
    })?;
    server.stop()?;
    let tally = ledger::settle(&accepted, &receiver, &path)?;
    ensure!(tally.duplicates == 0, "{} requests came twice", tally.duplicates);
    Ok(format!(
        "filled to the last byte: {refused} publishes refused, then {} events accepted in all, none lost, none twice",
        tally.accepted
    ))
}

/// A small disk in memory. Unmounted when dropped.
struct Disk {
    path: PathBuf,
}

impl Disk {
    fn mount(path: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir(&path)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "postrider-faults"]).arg(&path);
        check(&mut mount).context(
            "a small disk can't be mounted: this needs root (CAP_SYS_ADMIN), and in a container `--privileged`",
        )?;
        Ok(Self { path })
    }

    /// Writes a file until there is no room for another byte.
    fn fill(&self) -> anyhow::Result<PathBuf> {
        let ballast = self.path.join("ballast");
        let mut file = File::create(&ballast)?;
        for size in [65_536, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        match free_bytes(&self.path)? {
            0 => Ok(ballast),
            free => bail!("{free} bytes are free on a disk that is full"),
        }
    }
}

fn free_bytes(path: &Path) -> anyhow::Result<u64> {
    let told = rustix::fs::statvfs(path)?;
    Ok(told.f_bavail * told.f_frsize)
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The server may be about to leave: the mount goes when its last file is closed.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
