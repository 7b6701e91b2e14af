//! What the kernel tells of a process, a directory and a disk.

use std::{fs, io, os::unix::fs::FileExt, path::Path, time::Duration};

use anyhow::Context;

use crate::{clock, stats::Sorted};

/// Linux counts processor time in hundredths of a second, whatever its own clock does (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// How often the disk is asked.
const SYNCS: u64 = 1_000;

/// The processor time that a process has used, in user and system mode together, ended threads included.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = read_proc(pid, "stat")?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("/proc/{pid}/stat is of another form"))?;
    Ok(TICK * ticks)
}

/// Fields 14 and 15. The second field is a name in parentheses that may hold anything.
fn cpu_ticks(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The processor time that everything on this machine has used since it started, and what all its processors had to give.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    used: Duration,
    available: Duration,
}

impl Machine {
    /// Now.
    pub fn now() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("/proc/stat can't be read")?;
        Self::read(&stat).context("/proc/stat is of another form")
    }

    fn read(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = fields
            .split_ascii_whitespace()
            .take(8)
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let time = |ticks: u64| TICK.mul_f64(ticks as f64);
        let available = time(ticks.iter().sum());
        // Idle, and idle for want of a disk.
        let idle = time(ticks.get(3)? + ticks.get(4)?);
        Some(Self { used: available.saturating_sub(idle), available })
    }

    /// The part of the machine, in percent, that was used since `earlier` by others than those who used `ours`.
    pub fn percent_used_by_others(self, earlier: Self, ours: Duration) -> f64 {
        let used = self.used.saturating_sub(earlier.used).saturating_sub(ours);
        let available = self.available.saturating_sub(earlier.available).max(TICK);
        100.0 * used.as_secs_f64() / available.as_secs_f64()
    }
}

/// Memory in MiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// What is resident now.
    pub now: f64,
    /// The most that ever was.
    pub peak: f64,
}

/// The memory of a process.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let status = read_proc(pid, "status")?;
    let field = |name: &str| {
        let kib = memory_kib(&status, name);
        kib.map(|kib| kib / 1024.0).with_context(|| format!("/proc/{pid}/status has no {name}"))
    };
    Ok(Memory { now: field("VmRSS:")?, peak: field("VmHWM:")? })
}

fn memory_kib(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn read_proc(pid: u32, file: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path)
        .with_context(|| format!("{path} can't be read; the bench needs Linux"))
}

/// The bytes of a directory's files, those beneath included.
pub fn bytes_in(directory: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { bytes_in(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}

/// How long this disk takes to make one 4 KiB page durable: `pwrite` and `fdatasync`, over a file that is there already,
/// as a write-ahead log that has been used before is.
pub fn sync_times(directory: &Path) -> anyhow::Result<Sorted> {
    let file = tempfile::tempfile_in(directory).context("no file to sync can be made")?;
    let page = [0x5A; 4096];
    let offset = |turn: u64| turn * 4096;
    for turn in 0..SYNCS {
        file.write_all_at(&page, offset(turn))?;
    }
    file.sync_all()?;
    let mut times = Vec::new();
    for turn in 0..SYNCS {
        let started = clock::now();
        file.write_all_at(&page, offset(turn))?;
        file.sync_data()?;
        times.push(clock::now().since(started));
    }
    Ok(Sorted::new(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        let stat = "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 1 0 0 0 120 30 0 0 20 0 5 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(150));
        assert_eq!(cpu_ticks("nothing"), None);
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(memory_kib(status, "VmHWM:"), Some(2048.0));
        assert_eq!(memory_kib(status, "VmSwap:"), None);
    }

    #[test]
    fn others_are_what_is_neither_idle_nor_ours() {
        let machine = |user: u64, idle: u64| {
            Machine::read(&format!("cpu  {user} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2")).unwrap()
        };
        let (before, after) = (machine(100, 100), machine(160, 140));
        assert_eq!(after.percent_used_by_others(before, Duration::from_millis(200)), 40.0);
        assert_eq!(Machine::read("intr 1 2"), None);
    }

    #[test]
    fn this_process_and_this_disk_can_be_measured() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.now > 0.0 && memory.peak >= memory.now);
        cpu(std::process::id()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("within")).unwrap();
        fs::write(directory.path().join("within/file"), [0; 10]).unwrap();
        assert_eq!(bytes_in(directory.path()).unwrap(), 10);
        assert!(sync_times(directory.path()).unwrap().at(500) > Duration::ZERO);
    }
}
