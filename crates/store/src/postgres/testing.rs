//! Databases for tests: each test has its own, which goes with it.
//!
//! They are made on the server that `POSTRIDER_TEST_POSTGRES` names by a URL, or else on a private one, which is started
//! from Debian's binaries in a temporary directory, once for all tests of a process, and ends with it. A test that restarts
//! its server has one of its own. A test that needs Postgres and finds none fails.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio_postgres::Client;

use super::connect::Address;

/// Names a server to use: `postgres://postgres@127.0.0.1:5432/postgres`, by somebody who may make databases.
pub const SERVER: &str = "POSTRIDER_TEST_POSTGRES";

/// A database that is dropped with this value, whoever is connected to it then.
pub struct TestDatabase {
    name: String,
    server: String,
}

impl TestDatabase {
    /// Makes an empty database.
    ///
    /// # Panics
    /// Without a Postgres to make it on; that is the test's failure.
    pub async fn create() -> Self {
        Self::create_at(server().await).await
    }

    /// Makes an empty database on a server of the test's own, which has to outlive it.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn create_on(server: &TestServer) -> Self {
        Self::create_at(server.url.clone()).await
    }

    async fn create_at(server: String) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("postrider_test_{}_{number}", std::process::id());
        // One of that name was left by a process that was killed.
        let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'");
        run(&server, &[&drop, &create]).await;
        Self { name, server }
    }

    /// Where it is.
    ///
    /// # Panics
    /// When the server's URL names no database.
    pub fn url(&self) -> String {
        let (base, query) = match self.server.split_once('?') {
            Some((base, query)) => (base, format!("?{query}")),
            None => (&self.server[..], String::new()),
        };
        let (server, _) = base.rsplit_once('/').expect("the server's URL names a database");
        format!("{server}/{}{query}", self.name)
    }

    /// Runs statements in it, as somebody who is no store.
    ///
    /// # Panics
    /// When one fails.
    pub async fn run(&self, statements: &str) {
        run(&self.url(), &[statements]).await;
    }

    /// The one number that a query answers, for somebody who is no store.
    ///
    /// # Panics
    /// When it answers anything else.
    pub async fn number(&self, query: &str) -> i64 {
        let row = connect(&self.url()).await.query_one(query, &[]).await;
        row.unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
    }

    /// Throws everybody out, and lets nobody in again: what a server does that is restarted, to this database alone.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn close(&self) {
        let name = &self.name;
        let refuse = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
        let throw_out = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        run(&self.server, &[&refuse, &throw_out]).await;
    }

    /// Lets everybody in again.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn open_again(&self) {
        let allow = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name);
        run(&self.server, &[&allow]).await;
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's runtime can't be waited for from within.
        let dropper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            runtime.expect("a thread can have a runtime").block_on(run(&server, &[&drop]));
        });
        // What is left of a test that panics is not worth a second panic, which would hide the first.
        let _ = dropper.join();
    }
}

async fn run(url: &str, statements: &[&str]) {
    let client = connect(url).await;
    for statement in statements {
        client
            .batch_execute(statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// A connection to a database, beside those of a store.
pub(crate) async fn connect(url: &str) -> Client {
    let Address { config, tls } = Address::parse(url).expect("the URL can be used");
    let (client, connection) = config.connect(tls).await.expect("Postgres answers");
    tokio::spawn(connection);
    client
}

async fn server() -> String {
    static PRIVATE: OnceLock<TestServer> = OnceLock::new();
    match std::env::var(SERVER) {
        Ok(url) if !url.is_empty() => url,
        _ => tokio::task::spawn_blocking(|| PRIVATE.get_or_init(TestServer::start).url.clone())
            .await
            .expect("a Postgres was started"),
    }
}

/// Makes a cluster, runs it until standard input ends, which it does with the process at its other end, however that
/// ends; and takes the cluster away. A signal's name on standard input stops the server by it, and starts it anew. Says
/// where it listens whenever it begins to.
const SCRIPT: &str = r#"
    set -eu
    umask 077
    directory=$(mktemp -d "${TMPDIR:-/tmp}/postrider-test-XXXXXX")
    trap 'rm -rf "$directory"' EXIT
    cd "$directory"
    "$0/initdb" --pgdata=data --username=postrider --auth=trust --encoding=UTF8 --locale=C --no-sync >log 2>&1 ||
        { cat log >&2; exit 1; }
    run() {
        "$0/postgres" -D data -k "$directory" -c listen_addresses= -c fsync=off -c full_page_writes=off \
            -c max_connections=500 -c shared_buffers=64MB >>log 2>&1 </dev/null &
        server=$!
        until "$0/pg_isready" --quiet --host="$directory"; do
            kill -0 $server 2>/dev/null || { cat log >&2; exit 1; }
            sleep 0.05
        done
        echo "$directory"
    }
    stop() {
        kill -"$1" $server
        wait $server || true
    }
    run
    while read -r signal; do
        stop "$signal"
        run
    done
    stop INT
"#;

/// A server that ends with this value, or with this process.
pub struct TestServer {
    url: String,
    /// Where it listens: a directory with a socket.
    directory: PathBuf,
    /// Its standard input is the one thing that keeps the server.
    script: Child,
    said: BufReader<ChildStdout>,
}

impl TestServer {
    /// Starts an empty one. Blocks until it listens.
    ///
    /// # Panics
    /// Without Postgres' binaries, or when it doesn't start.
    pub fn start() -> Self {
        let binaries = binaries().unwrap_or_else(|| {
            panic!(
                "there is no Postgres: install Debian's postgresql, or name a server in {SERVER}"
            )
        });
        let mut script = as_somebody();
        script.args(["sh", "-c", SCRIPT]).arg(binaries);
        let mut script = script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell can be started");
        let mut said = BufReader::new(script.stdout.take().expect("the output is piped"));
        let directory = hear(&mut said);
        let host = directory.replace('/', "%2F");
        let url = format!("postgres://postrider@{host}/postgres");
        Self { url, directory: directory.into(), script, said }
    }

    /// Ends every connection and starts anew: in good order, or, if it `crashes`, without having written anything but
    /// its log. Blocks until it listens again.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn restart(&mut self, crashes: bool) {
        let signal = if crashes { "QUIT" } else { "INT" };
        let input = self.script.stdin.as_mut().expect("the input is piped");
        writeln!(input, "{signal}").expect("the shell reads");
        hear(&mut self.said);
    }

    /// The socket that it listens on.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(".s.PGSQL.5432")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        // Its end is waited for, so that nothing of it is left.
        let _ = self.script.wait();
    }
}

/// Waits until the script says where the server listens.
fn hear(said: &mut BufReader<ChildStdout>) -> String {
    let mut directory = String::new();
    said.read_line(&mut directory).expect("the output can be read");
    let directory = directory.trim();
    assert!(!directory.is_empty(), "Postgres could not be started; its own words are above");
    directory.to_owned()
}

/// Postgres refuses to be started by root: then it is started by its own user, or by nobody.
fn as_somebody() -> Command {
    let is = |arguments: &[&str]| {
        let id = Command::new("id").args(arguments).stderr(Stdio::null()).output();
        id.ok().filter(|id| id.status.success()).map(|id| id.stdout)
    };
    if is(&["-u"]).is_none_or(|user| user.trim_ascii() != b"0") {
        return Command::new("env");
    }
    let user = if is(&["-u", "postgres"]).is_some() { "postgres" } else { "nobody" };
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), "--regid", user, "--clear-groups"]);
    command.current_dir("/");
    command
}

/// The newest of Debian's, or where the distribution has them in the path.
fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|version| {
            let number = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin")))
        })
        .filter(|(_, path)| path.join("initdb").exists())
        .collect();
    found.sort();
    let in_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|path| path.join("initdb").exists())
    };
    found.pop().map(|(_, path)| path).or_else(in_path)
}
