//! `postrider backup` and `postrider restore`: a copy of everything but the key, and an instance of such a copy.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueHint};
use postrider::vault::{self, Fingerprint};
use postrider_store::{postgres::PostgresStore, sqlite};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{data_dir::DataDir, output::Answer};

/// Writes a consistent copy of everything to a new file, while the server serves. The master key isn't in it
#[derive(Args)]
pub struct Backup {
    #[command(flatten)]
    of: Of,
}

/// Makes an instance of a backup: a new data directory, or an empty Postgres database. It overwrites nothing
#[derive(Args)]
pub struct Restore {
    #[command(flatten)]
    of: Of,
}

/// Which backup, of which instance.
#[derive(Args)]
struct Of {
    /// The backup: an SQLite database, whichever engine it is of
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    #[command(flatten)]
    data_dir: DataDir,
    /// Answer with one JSON document
    #[arg(long)]
    json: bool,
}

impl Backup {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        let Of { file, data_dir, json } = self.of;
        match data_dir.database()? {
            Some(url) => PostgresStore::open(url.reveal()).await?.back_up(&file).await?,
            None => {
                let (database, file) = (data_dir.database_file(), file.clone());
                anyhow::ensure!(
                    database.exists(),
                    "there is no database {}; --data-dir or --database-url says where it is",
                    database.display()
                );
                spawn_blocking(move || sqlite::back_up(&database, &file)).await??;
            }
        }
        let fingerprint = key_of(&file).await?.map(in_words);
        let text = format!(
            "{} is written. The master key{} is not in it: keep {} apart from it, without which no secret can be read",
            file.display(),
            named(fingerprint.as_deref()),
            data_dir.key_file().display()
        );
        answer(text, &file, fingerprint, json)
    }
}

impl Restore {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        let Of { file, data_dir, json } = self.of;
        let check = key_of(&file).await?;
        if let Some(check) = &check {
            vault::check_fits(&data_dir.key_source(), check)
                .context("nothing was restored: its secrets could not be read")?;
        }
        let made = match data_dir.database()? {
            Some(url) => {
                PostgresStore::open(url.reveal()).await?.restore(&file).await?;
                "the database".to_owned()
            }
            None => {
                data_dir.make()?;
                let (database, file) = (data_dir.database_file(), file.clone());
                spawn_blocking(move || sqlite::restore(&file, &database)).await??;
                data_dir.database_file().display().to_string()
            }
        };
        let fingerprint = check.map(in_words);
        let text = format!(
            "{made} is restored. It needs the master key{} that the backup was made under: put it into {}, then start",
            named(fingerprint.as_deref()),
            data_dir.key_file().display()
        );
        answer(text, &file, fingerprint, json)
    }
}

/// The check value of the key that a backup was made under.
async fn key_of(file: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let file = file.to_owned();
    Ok(spawn_blocking(move || sqlite::key_check_of(&file)).await??)
}

fn in_words(check: Vec<u8>) -> String {
    Fingerprint::of_check(&check).map(|key| key.to_string()).unwrap_or_default()
}

fn named(fingerprint: Option<&str>) -> String {
    fingerprint.map(|fingerprint| format!(" {fingerprint}")).unwrap_or_default()
}

fn answer(text: String, file: &Path, key: Option<String>, json: bool) -> anyhow::Result<()> {
    let shown = json!({"file": file.display().to_string(), "master_key": key});
    Answer { text, json: shown }.print(json)
}
