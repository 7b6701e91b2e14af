//! What end-to-end tests need: the real binary on a free port, a client that can also be rude, and a receiver that
//! answers as it is told. Everything waits for what it expects, with a time limit, and nothing sleeps.

pub mod client;
mod document;
pub mod receiver;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use postrider_store::postgres::testing::TestDatabase;
use serde_json::Value;
use tempfile::TempDir;

use client::Client;

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running server with a data directory of its own; it is killed when dropped.
pub struct Server {
    process: Child,
    address: String,
    data_dir: TempDir,
    database: Option<TestDatabase>,
}

/// A database for a server: none, so that it has its file, unless `POSTRIDER_TEST_STORE` is `postgres`.
fn database() -> Option<TestDatabase> {
    let wanted = std::env::var("POSTRIDER_TEST_STORE").is_ok_and(|store| store == "postgres");
    let runtime = wanted.then(|| tokio::runtime::Runtime::new().unwrap());
    runtime.map(|runtime| runtime.block_on(TestDatabase::create()))
}

/// The option that names it.
fn database_option(database: Option<&TestDatabase>) -> Vec<String> {
    database.map_or(Vec::new(), |database| vec!["--database-url".to_owned(), database.url()])
}

impl Server {
    /// Starts a server that may deliver to this machine.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with more options.
    pub fn start_with(options: &[&str]) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let database = database();
        let mut process = postrider()
            .args(["serve", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8"])
            .arg("--data-dir")
            .arg(data_dir.path())
            .args(options)
            .args(database_option(database.as_ref()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { process, address, data_dir, database }
    }

    /// A client without a credential.
    pub fn anyone(&self) -> Client {
        Client::new(&self.address)
    }

    /// The operator, with the token of the first start.
    pub fn operator(&self) -> Client {
        let token = std::fs::read_to_string(self.data_dir.path().join("admin.token")).unwrap();
        self.anyone().with_token(token.trim())
    }

    /// A client with a fresh token of that role, in the tenant `default`.
    pub fn with_role(&self, role: &str) -> Client {
        self.with_token_of(&["--role", role])
    }

    /// A client with a fresh token, made with these options.
    pub fn with_token_of(&self, options: &[&str]) -> Client {
        let made = self.cli(&[&["token", "create"], options].concat());
        self.anyone().with_token(made["token"].as_str().unwrap())
    }

    /// Makes a user of the tenant `default`; its id.
    pub fn user(&self, name: &str, role: &str, password: &str) -> i64 {
        let arguments = ["user", "create", name, "--role", role, "--password-stdin"];
        self.cli_with_input(&arguments, password)["id"].as_i64().unwrap()
    }

    /// The secret that signs a tenant's JWTs.
    pub fn jwt_secret(&self, tenant: &str) -> String {
        let shown = self.cli(&["jwt-secret", "show", "--tenant", tenant]);
        shown["jwt_secret"].as_str().unwrap().to_owned()
    }

    /// Runs a command beside the server, on its data directory; its JSON answer.
    pub fn cli(&self, arguments: &[&str]) -> Value {
        self.cli_with_input(arguments, "")
    }

    fn cli_with_input(&self, arguments: &[&str], input: &str) -> Value {
        let mut command = postrider()
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data_dir.path())
            .arg("--json")
            .args(database_option(self.database.as_ref()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        command.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let Output { status, stdout, stderr } = command.wait_with_output().unwrap();
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        // A command that has nothing to tell prints nothing.
        serde_json::from_slice(&stdout).unwrap_or(Value::Null)
    }
}

/// Asks again until it is so; what the command line changes, a server honours within a second.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "a test waits by the machine's own clock")]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "{what}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn postrider() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    // The environment of whoever runs the tests must not configure the server.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("POSTRIDER_")) {
        command.env_remove(name);
    }
    command.current_dir(std::env::temp_dir());
    command
}
