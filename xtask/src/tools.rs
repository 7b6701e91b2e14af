//! What the steps need besides cargo, installed where it is missing: from the system's packages and from the package
//! registries, by name. What takes long is kept in a cache outside the checkout.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use crate::{
    ci::{Done, check},
    interop, schema,
};

/// The versions that are installed where there are none.
const CARGO_DENY: (&str, &str) = ("cargo-deny", "0.20.2");
const CARGO_CYCLONEDX: (&str, &str) = ("cargo-cyclonedx", "0.5.9");

/// Where tools are kept between runs.
pub struct Cache(PathBuf);

impl Cache {
    /// `$XDG_CACHE_HOME/postrider`, or what stands for it.
    pub fn open() -> anyhow::Result<Self> {
        let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
            (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
            (_, Some(home)) => PathBuf::from(home).join(".cache"),
            _ => bail!("neither XDG_CACHE_HOME nor HOME says where to keep tools"),
        };
        let path = base.join("postrider");
        std::fs::create_dir_all(&path)
            .with_context(|| format!("{} can't be made", path.display()))?;
        Ok(Self(path))
    }

    /// A place in the cache.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Installs what is missing.
pub fn install(cache: &Cache) -> anyhow::Result<Done> {
    let mut packages = Vec::new();
    if !works("cc", &["--version"]) {
        packages.push("build-essential");
    }
    if !works("python3", &["-c", "import venv, ensurepip"]) {
        packages.push("python3-venv");
    }
    if !works("node", &["--version"]) || !works("npm", &["--version"]) {
        packages.extend(["nodejs", "npm"]);
    }
    if !has_postgres() {
        packages.push("postgresql");
    }
    for tool in ["strace", "faketime"] {
        if !works(tool, &["--version"]) {
            packages.push(tool);
        }
    }
    if !works("ip", &["-V"]) {
        packages.push("iproute2");
    }
    if !works("unshare", &["--version"]) {
        packages.push("util-linux");
    }
    install_packages(&packages)?;
    if !has_postgres() {
        bail!("the tests of the Postgres store need its server's binaries, initdb among them");
    }
    interop::prepare(cache)?;
    schema::prepare(cache)?;
    cargo_deny(cache)?;
    cargo_cyclonedx(cache)?;
    Ok(Done::Passed)
}

/// Whether the tests can start a server of their own, which one does that restarts it, even where they are told of another.
/// They look in the same places.
fn has_postgres() -> bool {
    let versions = Path::new("/usr/lib/postgresql").read_dir().into_iter().flatten().flatten();
    let has_debians =
        || versions.into_iter().any(|version| version.path().join("bin/initdb").exists());
    has_debians() || works("initdb", &["--version"])
}

/// The `cargo-deny` of this machine, or that of the cache.
pub fn cargo_deny(cache: &Cache) -> anyhow::Result<Command> {
    cargo_tool(cache, CARGO_DENY)
}

/// The `cargo-cyclonedx` of this machine, or that of the cache.
pub fn cargo_cyclonedx(cache: &Cache) -> anyhow::Result<Command> {
    cargo_tool(cache, CARGO_CYCLONEDX)
}

/// A tool of this machine, or that of the cache, which takes some minutes to build, once.
fn cargo_tool(cache: &Cache, (name, version): (&str, &str)) -> anyhow::Result<Command> {
    let root = cache.join("tools");
    let own = root.join("bin").join(name);
    // Some of them answer only to the name by which cargo calls them.
    let is_there = |program: &Path| {
        let subcommand = name.trim_start_matches("cargo-");
        works(program, &["--version"]) || works(program, &[subcommand, "--version"])
    };
    if is_there(Path::new(name)) {
        return Ok(Command::new(name));
    }
    if !is_there(&own) {
        let mut build = Command::new("cargo");
        let wanted = format!("{name}@{version}");
        build.args(["install", "--locked", &wanted, "--root"]).arg(&root);
        // Its objects are of no use to anybody else.
        check(build.env_remove("CARGO_TARGET_DIR"))?;
    }
    Ok(Command::new(own))
}

/// Where `cargo deny` keeps databases of advisories, if there is one.
pub fn advisory_database() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    let database = home.join("advisory-dbs");
    let is_filled = |path: &Path| path.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    is_filled(&database).then_some(database)
}

fn install_packages(packages: &[&str]) -> anyhow::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let wanted = packages.join(" ");
    if !works("apt-get", &["--version"]) {
        bail!("missing: {wanted} (names as in Debian); install them and run this again");
    }
    for arguments in
        [&["update"][..], &[&["install", "--yes", "--no-install-recommends"], packages].concat()]
    {
        let mut command = as_root("apt-get").with_context(|| format!("missing: {wanted}"))?;
        check(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    Ok(())
}

/// Whether we are root.
pub fn is_root() -> anyhow::Result<bool> {
    let id = Command::new("id").arg("-u").output().context("id can't be run")?;
    Ok(id.stdout.trim_ascii() == b"0")
}

/// A command as root: as we are, or by a sudo that asks nothing.
fn as_root(program: &str) -> anyhow::Result<Command> {
    if is_root()? {
        return Ok(Command::new(program));
    }
    if !works("sudo", &["-n", "true"]) {
        bail!("installing packages needs root, or a sudo without a password");
    }
    let mut command = Command::new("sudo");
    command.args(["-n", "--preserve-env=DEBIAN_FRONTEND", program]);
    Ok(command)
}

/// Whether a command can be run, and is content.
pub fn works(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
