//! What the end-to-end tests share: the real binary, an HTTP client, and a receiver that does what it is told.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod cable;
pub mod certificates;
pub mod client;
pub mod dns;
pub mod proxy;
pub mod receiver;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use postrider::instance::DATABASE_FILE;
use postrider_store::{
    Store,
    postgres::{PostgresStore, testing::TestDatabase},
    sqlite::SqliteStore,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use client::Client;

/// The event type that tests publish unless it matters.
pub const TYPE: &str = "comment.created";

/// The master key of nodes that share a database.
const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";

/// The binary under test: the one built with the tests, unless `POSTRIDER_TEST_BINARY` names another, such as the release
/// build.
pub fn binary() -> String {
    std::env::var("POSTRIDER_TEST_BINARY").unwrap_or(env!("CARGO_BIN_EXE_postrider").to_owned())
}

/// A server in a process and a data directory of its own. Killed when dropped.
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    data_dir: PathBuf,
    args: Vec<String>,
    _directory: tempfile::TempDir,
    database: Option<TestDatabase>,
}

/// A database for a server that isn't asked for one: none, so that it has its file, unless `POSTRIDER_TEST_STORE` is
/// `postgres`. So every test can be made one of Postgres.
async fn database() -> Option<TestDatabase> {
    let wanted = std::env::var("POSTRIDER_TEST_STORE").is_ok_and(|store| store == "postgres");
    if wanted { Some(TestDatabase::create().await) } else { None }
}

impl Server {
    /// Starts a server on an empty directory that may deliver to this machine.
    pub async fn start(args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let database = database().await;
        if let Some(database) = &database {
            args.extend(["--database-url".to_owned(), database.url()]);
        }
        let (child, url) = spawn(&data_dir, &args, None).await;
        Self { child, url, data_dir, args, _directory: directory, database }
    }

    /// Starts a server that may deliver to what `args` allow, and to nothing else that is not public.
    pub async fn start_guarded(args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (child, url) = spawn_guarded(&data_dir, &args).await;
        Self { child, url, data_dir, args, _directory: directory, database: None }
    }

    /// Starts a server as [`Server::start`] does, with its log to look into.
    pub async fn start_and_listen(args: &[&str]) -> (Self, Log) {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut command = Command::new(binary());
        command.args(["serve", "--egress-allow", "127.0.0.0/8"]);
        command.env("RUST_LOG", "info").stderr(Stdio::piped());
        let (mut child, url) = serve(command, &data_dir, &args).await;
        let log = Log(BufReader::new(child.stderr.take().unwrap()).lines());
        (Self { child, url, data_dir, args, _directory: directory, database: None }, log)
    }

    /// Starts a guarded server again on the same directory, with other options.
    pub async fn restart_guarded(&mut self, args: &[&str]) {
        self.child.kill().await.unwrap();
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        (self.child, self.url) = spawn_guarded(&self.data_dir, &self.args).await;
    }

    /// Starts a node on a database that it shares with others, and so their master key.
    pub async fn node(database_url: &str, args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        std::fs::create_dir(&data_dir).unwrap();
        std::fs::write(data_dir.join("master.key"), MASTER_KEY).unwrap();
        let args = [args, &["--database-url", database_url]].concat();
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let (child, url) = spawn(&data_dir, &args, None).await;
        Self { child, url, data_dir, args, _directory: directory, database: None }
    }

    /// `kill -9`, for good.
    pub async fn crash(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts a server whose failed deliveries are tried again almost at once, six tries in all.
    pub async fn start_impatient() -> Self {
        Self::start(&["--retry-schedule", "0.01,0.01,0.01,0.01,0.01"]).await
    }

    /// Starts a server that may have so many files open, its connections included.
    pub async fn start_with_open_files(limit: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let (child, url) = spawn(&data_dir, &[], Some(limit)).await;
        let args = Vec::new();
        Self { child, url, data_dir, args, _directory: directory, database: None }
    }

    /// A client with the operator's token.
    pub fn client(&self) -> Client {
        let token = std::fs::read_to_string(self.data_dir.join("admin.token")).unwrap();
        Client::new(&self.url, token.trim())
    }

    /// Whether it is a node on a Postgres.
    pub fn is_shared(&self) -> bool {
        self.database.is_some()
    }

    /// Where its database and keys are.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its store, to look into beside it.
    pub async fn store(&self) -> Box<dyn Store> {
        match &self.database {
            Some(database) => Box::new(PostgresStore::open(&database.url()).await.unwrap()),
            None => Box::new(SqliteStore::open(&self.data_dir.join(DATABASE_FILE)).unwrap()),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// `kill -9`, and then a start on the same directory.
    pub async fn crash_and_restart(&mut self) {
        self.child.kill().await.unwrap();
        self.restart().await;
    }

    /// SIGTERM; answers whether it left with success.
    pub async fn stop(&mut self) -> bool {
        self.signal("TERM").await;
        self.child.wait().await.unwrap().success()
    }

    /// Sends a signal.
    pub async fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.await.unwrap().success());
    }

    /// Starts again on the same directory, on another port.
    pub async fn restart(&mut self) {
        (self.child, self.url) = spawn(&self.data_dir, &self.args, None).await;
    }

    /// Runs a command of the binary on this server's directory, and answers what it printed as JSON.
    pub async fn command(&self, args: &[&str], stdin: &str) -> Value {
        let (success, stdout, stderr) = self.run(args, stdin).await;
        assert!(success, "{args:?}: {stderr}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {stdout}"))
    }

    /// Runs a command of the binary on this server's directory, with `--json`.
    pub async fn run(&self, args: &[&str], stdin: &str) -> (bool, String, String) {
        let mut command = Command::new(binary());
        command.args(args).args(["--json", "--data-dir"]).arg(&self.data_dir);
        if let Some(database) = &self.database {
            command.args(["--database-url", &database.url()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // A command that does not read its input closes the pipe early.
        let _ = pipe.write_all(stdin.as_bytes()).await;
        drop(pipe);
        let output = child.wait_with_output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }
}

async fn spawn(data_dir: &Path, args: &[String], open_files: Option<usize>) -> (Child, String) {
    let mut command = match open_files {
        None => Command::new(binary()),
        Some(limit) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\""), &binary()]);
            shell
        }
    };
    command.args(["serve", "--egress-allow", "127.0.0.0/8"]);
    serve(command, data_dir, args).await
}

async fn spawn_guarded(data_dir: &Path, args: &[String]) -> (Child, String) {
    let mut command = Command::new(binary());
    command.arg("serve");
    serve(command, data_dir, args).await
}

/// Nobody resolves names there: a test that wants somebody to brings a server of its own.
const NO_DNS_SERVER: &str = "127.0.0.1:1";

async fn serve(mut command: Command, data_dir: &Path, args: &[String]) -> (Child, String) {
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]);
    command
        .arg(data_dir)
        .args(args)
        .env("POSTRIDER_DNS_SERVER", NO_DNS_SERVER)
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    if command.as_std().get_envs().all(|(name, _)| name != "RUST_LOG") {
        command.env("RUST_LOG", std::env::var("TEST_LOG").unwrap_or("error".into()));
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = loop {
        let line = lines.next_line().await.unwrap().expect("the server says where it listens");
        if let Some(url) = line.strip_prefix("listening on ") {
            break url.trim().to_owned();
        }
    };
    // A pipe that nobody reads would one day fill up.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, url)
}

/// A server's log.
pub struct Log(Lines<BufReader<ChildStderr>>);

impl Log {
    /// The next line that contains this.
    pub async fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.0.next_line().await.unwrap().expect("the server runs");
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Client {
    /// Makes an endpoint for [`TYPE`] at that URL, and answers its id.
    pub async fn create_endpoint(&self, target: &str) -> i64 {
        self.create_endpoint_with(json!({"target": target, "events": [{"type": TYPE}]})).await
    }

    /// Makes an endpoint, and answers its id.
    pub async fn create_endpoint_with(&self, body: Value) -> i64 {
        let created = self.post("/api/v2/webhook/endpoint/", &body).await;
        assert_eq!(created.status, 201, "{}", created.text());
        created.json()["id"].as_i64().unwrap()
    }

    /// Publishes an event of [`TYPE`], and answers its id.
    pub async fn publish(&self, data: Value) -> i64 {
        let published =
            self.post("/api/v2/webhook/event/", &json!({"type": TYPE, "data": data})).await;
        assert_eq!(published.status, 201, "{}", published.text());
        published.json()["event_id"].as_i64().unwrap()
    }

    /// The endpoint's signing secret.
    pub async fn reveal(&self, endpoint: i64) -> String {
        let revealed = self
            .post(&format!("/api/v2/webhook/endpoint/{endpoint}/secret/reveal/"), &json!({}))
            .await;
        assert_eq!(revealed.status, 201, "{}", revealed.text());
        revealed.json()["signing_secret"].as_str().unwrap().to_owned()
    }

    /// The endpoint's attempts, the oldest first, once there are at least that many.
    pub async fn attempts(&self, endpoint: i64, at_least: usize) -> Vec<Value> {
        let path =
            format!("/api/v2/webhook/endpoint/{endpoint}/attempt/?ordering=created_at&limit=100");
        loop {
            // Each look is a request of its own, which takes its time: this is not a busy loop.
            let page = self.get(&path).await.json();
            let results = page["results"].as_array().unwrap();
            if results.len() >= at_least {
                return results.clone();
            }
        }
    }
}
