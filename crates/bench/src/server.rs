//! The server under test: a process with a data directory of its own, and its API as an admin uses it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    body::EVENT_TYPE,
    clock::{self, Nanos},
    message::Head,
    system::{self, Memory},
};

/// Which binary, and where its data goes.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The `postrider` binary.
    pub binary: PathBuf,
    /// Where data directories are made.
    pub parent: PathBuf,
}

impl Setup {
    /// A directory to keep data directories in, which goes when the value is dropped.
    ///
    /// # Errors
    /// The file system's.
    pub fn data_dir(&self) -> anyhow::Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix("postrider-bench-")
            .tempdir_in(&self.parent)
            .with_context(|| format!("no directory can be made in {}", self.parent.display()))
    }

    /// Starts a server on that directory. It may deliver to this machine.
    ///
    /// # Errors
    /// What kept it from starting.
    pub fn serve(&self, data_dir: &Path, options: &[&str]) -> anyhow::Result<Server> {
        Server::start(&self.binary, data_dir, options)
    }

    /// Runs another command of the binary on that directory.
    ///
    /// # Errors
    /// That it failed.
    pub fn command(&self, data_dir: &Path, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binary);
        let output = command.args(arguments).arg("--data-dir").arg(data_dir).output()?;
        if output.status.success() {
            return Ok(());
        }
        bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr))
    }
}

/// A server that runs. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where its API listens.
    pub address: SocketAddr,
    /// The operator's token.
    pub token: String,
    /// When it was started.
    pub started: Nanos,
}

impl Server {
    fn start(binary: &Path, data_dir: &Path, options: &[&str]) -> anyhow::Result<Self> {
        let started = clock::now();
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8"])
            .arg("--data-dir")
            .arg(data_dir)
            .args(options)
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} can't be run", binary.display()))?;
        let stdout = child.stdout.take().context("its output is a pipe")?;
        let mut lines = BufReader::new(stdout).lines();
        let listening = lines.find_map(|line| {
            line.ok()?
                .strip_prefix("listening on http://")
                .and_then(|text| text.trim().parse().ok())
        });
        // A pipe that nobody reads would one day fill up.
        std::thread::spawn(move || lines.for_each(drop));
        let Some(address) = listening else {
            let _ = child.kill();
            let _ = child.wait();
            bail!("the server did not say where it listens; its own words are above");
        };
        let token = std::fs::read_to_string(data_dir.join("admin.token"))?.trim().to_owned();
        Ok(Self { child, address, token, started })
    }

    /// Its memory.
    ///
    /// # Errors
    /// That the process is gone.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        system::memory(self.child.id())
    }

    /// The processor time it has used.
    ///
    /// # Errors
    /// That the process is gone.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        system::cpu(self.child.id())
    }

    /// SIGTERM, and waits until it has left; by then the log is back in the database.
    ///
    /// # Errors
    /// That it did not leave with success.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("the server left with {status}") }
    }

    /// Makes an endpoint of that tenant, and answers its id.
    ///
    /// # Errors
    /// That it was refused.
    pub fn create_endpoint(&self, tenant: &str, target: &str) -> anyhow::Result<i64> {
        let body = json!({"target": target, "events": [{"type": EVENT_TYPE}]});
        let made = self.request(tenant, "POST", "/api/v2/webhook/endpoint/", &body.to_string())?;
        made["id"].as_i64().context("an endpoint has an id")
    }

    /// GET, and the JSON that came.
    ///
    /// # Errors
    /// Anything but a 2xx.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.request("default", "GET", path, "")
    }

    fn request(&self, tenant: &str, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
        let (address, token, length) = (self.address, &self.token, body.len());
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.write_all(
            format!(
                "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
                 postrider-tenant: {tenant}\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 content-length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let head = Head::read(&answer).context("the server's answer breaks off")?;
        let body = &answer[head.length..];
        if !(200..300).contains(&head.status()) {
            bail!("{method} {path}: {}: {}", head.status(), String::from_utf8_lossy(body));
        }
        Ok(serde_json::from_slice(body)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
