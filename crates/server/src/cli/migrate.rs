//! `postrider migrate`: brings the database to the newest schema. `serve` does the same; this is for whoever wants it done
//! before the new version serves.

use anyhow::Context;
use clap::Args;
use postrider_store::{
    postgres::{Migrated, PostgresStore},
    sqlite::SqliteStore,
};
use serde_json::json;

use super::{data_dir::DataDir, output::Answer};

/// Brings the database to the newest schema, and says what that took; serve does it too
#[derive(Args)]
pub struct Migrate {
    #[command(flatten)]
    data_dir: DataDir,
    /// Answer with one JSON document
    #[arg(long)]
    json: bool,
}

impl Migrate {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        let Migrated { taken, waiting } = match self.data_dir.database()? {
            Some(url) => PostgresStore::migrate(url.reveal()).await?,
            None => Migrated { taken: self.migrate_file().await?, waiting: 0 },
        };
        let mut text = match &taken[..] {
            [] if waiting == 0 => "the schema is the newest already".to_owned(),
            [] => "nothing could be taken".to_owned(),
            taken => format!("taken: {}", taken.join(", ")),
        };
        if waiting > 0 {
            text += &format!(
                "; {waiting} more would take something away from nodes of an older version that are running: once \
                 those have ended, the next start takes them, or `postrider migrate`"
            );
        }
        Answer { text, json: json!({"migrations": taken, "waiting": waiting}) }.print(self.json)
    }

    async fn migrate_file(&self) -> anyhow::Result<Vec<&'static str>> {
        let file = self.data_dir.database_file();
        anyhow::ensure!(
            file.exists(),
            "there is no database {}; `postrider serve` makes it",
            file.display()
        );
        let shown = file.display().to_string();
        let migrated = tokio::task::spawn_blocking(move || SqliteStore::migrate(&file)).await?;
        migrated.with_context(|| format!("the database {shown} can't be migrated"))
    }
}
