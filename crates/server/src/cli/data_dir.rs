//! What the commands have in common that act on the data directory themselves, beside a running server or without one.

use std::{io::BufRead, path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use postrider::{
    clock::SystemClock,
    config::{Catalogue, DatabaseUrl},
    instance::{DATABASE_FILE, Instance, make_directory},
    vault::{KEY_FILE, KeySource},
};
use postrider_kernel::{
    Role,
    tenant::{DEFAULT_TENANT, Name},
};
use postrider_store::{By, Tenant};
use zeroize::Zeroizing;

use super::{WrongUsage, default_data_dir, from_environment};

/// Where the instance is.
#[derive(Args)]
pub struct DataDir {
    /// Where the database and the keys are kept [env: POSTRIDER_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR", default_value = default_data_dir())]
    data_dir: PathBuf,
    /// The Postgres that many nodes share [env: POSTRIDER_DATABASE_URL]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = from_environment("POSTRIDER_DATABASE_URL", ""),
        hide_default_value = true
    )]
    database_url: String,
}

/// Where the instance is, and which tenant of it is meant.
#[derive(Args)]
pub struct OfTenant {
    #[command(flatten)]
    data_dir: DataDir,
    /// The tenant
    #[arg(long, global = true, value_name = "NAME", default_value = DEFAULT_TENANT)]
    tenant: String,
    /// Answer with one JSON document
    #[arg(long, global = true)]
    pub json: bool,
}

impl DataDir {
    /// Opens the instance, and says so when there was none: it may be that another directory was meant.
    pub async fn open(&self) -> anyhow::Result<Instance> {
        let clock = Arc::new(SystemClock::new());
        let database = self.database()?;
        let instance =
            Instance::open(&self.data_dir, database.as_ref(), &Catalogue::BuiltIn, clock).await?;
        if instance.is_new {
            match database {
                None => eprintln!("made a new instance in {}", self.data_dir.display()),
                Some(_) => eprintln!(
                    "made a new instance in the database; its key and admin token are in {}",
                    self.data_dir.display()
                ),
            }
        }
        Ok(instance)
    }

    /// The file of the database, where that is one.
    pub fn database_file(&self) -> PathBuf {
        self.data_dir.join(DATABASE_FILE)
    }

    /// Where the master key is, unless the environment has it.
    pub fn key_file(&self) -> PathBuf {
        self.data_dir.join(KEY_FILE)
    }

    /// Where the master keys come from.
    pub fn key_source(&self) -> KeySource {
        KeySource::find(&self.data_dir)
    }

    /// Makes the directory where there is none.
    pub fn make(&self) -> anyhow::Result<()> {
        make_directory(&self.data_dir)
    }

    /// The database that is shared. A URL that is none is not told: it may have a password in it.
    pub fn database(&self) -> anyhow::Result<Option<DatabaseUrl>> {
        let refused = |reason| WrongUsage(format!("--database-url can't be used: {reason}")).into();
        DatabaseUrl::parse(&self.database_url).map_err(refused)
    }
}

impl OfTenant {
    /// Opens the instance and finds the tenant.
    pub async fn open(&self) -> anyhow::Result<(Instance, Tenant)> {
        let instance = self.data_dir.open().await?;
        let tenant = instance.tenant(&self.tenant).await?;
        Ok((instance, tenant))
    }
}

/// By somebody who can read the data directory, now.
pub fn by_command_line(instance: &Instance) -> By {
    instance.by(postrider_store::Actor::CommandLine)
}

/// Reads a name from an argument.
pub fn parse_name(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|error| error.to_string())
}

/// Reads a role from an argument.
pub fn role_parser() -> impl TypedValueParser<Value = Role> {
    let names = PossibleValuesParser::new(Role::ALL.map(Role::as_str));
    // Every possible value is a role's name.
    names.map(|name| Role::parse(&name).unwrap_or(Role::Viewer))
}

/// Reads one line of standard input, without its end.
pub fn read_secret_line(what: &str) -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .with_context(|| format!("{what} can't be read from standard input"))?;
    let text = line.strip_suffix('\n').unwrap_or(&line);
    Ok(Zeroizing::new(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}
