//! The server: the release binary in a process of its own, started as often as it takes on one data directory.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{client::Client, lock};
use crate::interop::built;

/// How to start a server.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// Options of `serve`.
    pub options: Vec<String>,
    /// A program and its arguments that run the server: a tracer.
    pub wrapper: Vec<String>,
    /// Variables of its environment.
    pub variables: Vec<(String, String)>,
}

impl Launch {
    /// A server with these options.
    pub fn with(options: &[&str]) -> Self {
        Self {
            options: options.iter().map(|&option| option.to_owned()).collect(),
            ..Self::default()
        }
    }
}

/// A server that runs. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    data_dir: PathBuf,
    door: Door,
}

/// Where the server is now. It listens somewhere else after each start.
#[derive(Clone, Debug)]
pub struct Door(Arc<Mutex<(SocketAddr, String)>>);

impl Door {
    /// A client of the server that runs now.
    pub fn client(&self) -> Client {
        let (address, token) = &*lock(&self.0);
        Client::new(*address, token)
    }
}

impl Server {
    /// Starts a server, which makes the data directory where there is none.
    pub fn start(launch: &Launch, data_dir: &Path) -> anyhow::Result<Self> {
        let (child, address, token) = spawn(launch, data_dir)?;
        let door = Door(Arc::new(Mutex::new((address, token))));
        Ok(Self { child, data_dir: data_dir.to_owned(), door })
    }

    /// Starts again on the same directory, perhaps in another way.
    pub fn restart(&mut self, launch: &Launch) -> anyhow::Result<()> {
        let (child, address, token) = spawn(launch, &self.data_dir)?;
        self.child = child;
        *lock(&self.door.0) = (address, token);
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits until it has left with success.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the server left with {status}");
        Ok(())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Where it is, now and after every restart.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        self.door.client()
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_ascii_whitespace().next());
        number.context("a process has VmRSS")?.parse().context("which is a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The release build, unless `POSTRIDER_TEST_BINARY` names another.
fn binary() -> PathBuf {
    std::env::var_os("POSTRIDER_TEST_BINARY")
        .map_or_else(|| built("release/postrider"), PathBuf::from)
}

fn spawn(launch: &Launch, data_dir: &Path) -> anyhow::Result<(Child, SocketAddr, String)> {
    let binary = binary();
    let mut command = match launch.wrapper.split_first() {
        None => Command::new(&binary),
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&binary);
            command
        }
    };
    command.args(["serve", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8"]);
    command.args(&launch.options).arg("--data-dir").arg(data_dir);
    command.envs(launch.variables.iter().map(|(name, value)| (name, value)));
    // What it says of the faults that are done to it would fill the screen.
    let log = std::env::var("FAULTS_LOG").unwrap_or_else(|_| "off".into());
    let mut child = command
        .env("RUST_LOG", log)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} can't be run", command.get_program().display()))?;
    let mut lines = BufReader::new(child.stdout.take().context("its output is a pipe")?).lines();
    let listening = lines.by_ref().map_while(Result::ok).find_map(|line| {
        line.strip_prefix("listening on http://").and_then(|text| text.trim().parse().ok())
    });
    // A pipe that nobody reads would one day fill up.
    std::thread::spawn(move || lines.for_each(drop));
    let Some(address) = listening else {
        let _ = child.kill();
        bail!("the server did not say where it listens, and left with {}", child.wait()?);
    };
    let token = std::fs::read_to_string(data_dir.join("admin.token"))?.trim().to_owned();
    Ok((child, address, token))
}
