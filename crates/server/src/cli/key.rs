//! `postrider key`: the master keys that secrets are encrypted under. Keys themselves are never shown.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use postrider::{
    instance::Instance,
    rekey::{self, Rotation},
    vault::KeySource,
};
use serde_json::{Value, json};

use super::{
    data_dir::{DataDir, by_command_line},
    output::Answer,
};

/// The master key that signing and JWT secrets are encrypted under
#[derive(Args)]
pub struct KeyCommand {
    #[command(flatten)]
    data_dir: DataDir,
    /// Answer with one JSON document
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Prints the fingerprints of the keys, and how many secrets are under each; never a key
    Show,
    /// Encrypts under a new key from now on, and what there is anew; the server may run meanwhile
    Rotate,
}

impl KeyCommand {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        let instance = self.data_dir.open().await?;
        let answer = match self.action {
            Action::Show => show(&instance).await?,
            Action::Rotate => rotate(&instance).await?,
        };
        answer.print(self.json)
    }
}

async fn show(instance: &Instance) -> anyhow::Result<Answer> {
    let (vault, counts) = (&instance.vault, rekey::count(&*instance.store).await?);
    let source = vault.source().map(KeySource::to_string).unwrap_or_default();
    let mut lines = vec![format!("keys in {source}, the newest first:")];
    let mut keys = Vec::new();
    for key in vault.fingerprints() {
        let secrets = counts.get(&Some(key)).copied().unwrap_or_default();
        let is_current = key == vault.current();
        let note = if is_current { "; it seals" } else { "" };
        lines.push(format!("  {key}  {secrets} secrets are under it{note}"));
        keys.push(
            json!({"fingerprint": key.to_string(), "secrets": secrets, "is_current": is_current}),
        );
    }
    let missing: BTreeMap<_, _> = counts
        .iter()
        .filter_map(|(key, count)| Some(((*key)?, *count)))
        .filter(|(key, _)| !vault.fingerprints().contains(key))
        .collect();
    for (key, secrets) in &missing {
        lines.push(format!("  {key}  {secrets} secrets are under it, and it is NOT here"));
        keys.push(json!({"fingerprint": key.to_string(), "secrets": secrets, "is_missing": true}));
    }
    let unnamed = counts.get(&None).copied().unwrap_or_default();
    if unnamed > 0 {
        lines.push(format!(
            "  {unnamed} secrets don't name their key yet; a running server sees to that"
        ));
    }
    let json: Value = json!({"source": source, "keys": keys, "unnamed": unnamed});
    Ok(Answer { text: lines.join("\n"), json })
}

async fn rotate(instance: &Instance) -> anyhow::Result<Answer> {
    let rotation = rekey::rotate(instance, by_command_line(instance)).await?;
    let source = instance.vault.source().map(KeySource::to_string).unwrap_or_default();
    let (key, text, resealed) = match rotation {
        Rotation::Done(key, resealed) => {
            let text = format!(
                "the key {key} seals from now on, and {} secrets were sealed anew under it. Back up {source} now, and keep \
                 the older keys as long as you keep backups that were made under them",
                resealed.moved
            );
            (key, text, Some(resealed))
        }
        Rotation::Finished(key, resealed) => {
            let text = format!(
                "an earlier rotation to the key {key} had broken off; its last {} secrets are sealed anew now",
                resealed.moved
            );
            (key, text, Some(resealed))
        }
        Rotation::Staged(key) => {
            let text = format!(
                "the new key {key} is in {source}, and seals nothing yet. Copy that file to every node, and run `postrider \
                 key rotate` here once more"
            );
            (key, text, None)
        }
    };
    let unopenable = resealed.map_or(0, |resealed| resealed.unopenable);
    anyhow::ensure!(
        unopenable == 0,
        "{text}. But {unopenable} secrets don't open under any key, and stay as they are; the log says which"
    );
    let json = json!({
        "fingerprint": key.to_string(),
        "is_staged": resealed.is_none(),
        "resealed": resealed.map(|resealed| resealed.moved),
    });
    Ok(Answer { text, json })
}
