//! `postrider jwt-secret`: what a tenant's JWTs are signed with.

use clap::{Args, Subcommand};
use postrider::{
    accounts::{self, JWT_SECRET_BYTES_MIN},
    instance::Instance,
    vault::Place,
};
use postrider_store::Tenant;
use serde_json::json;

use super::{
    WrongUsage,
    data_dir::{OfTenant, by_command_line, read_secret_line},
    output::Answer,
};

/// The secret that a tenant's JWTs are signed with (HS256)
#[derive(Args)]
pub struct JwtSecretCommand {
    #[command(flatten)]
    of_tenant: OfTenant,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Prints the secret
    Show,
    /// Replaces the secret by a fresh one and prints that; every JWT signed with the old one stops counting
    Rotate,
    /// Replaces the secret by the platform's own
    Set {
        /// Reads the secret, at least 32 bytes, from the first line of standard input
        #[arg(long, required = true)]
        stdin: bool,
    },
}

impl JwtSecretCommand {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        let answer = match self.action {
            Action::Show => {
                let (instance, tenant) = self.of_tenant.open().await?;
                let place = Place::tenant(tenant.id);
                reveal(&instance.vault.open_sealed(place, &tenant.jwt_secret)?)
            }
            Action::Rotate => {
                let (instance, tenant) = self.of_tenant.open().await?;
                let secret = accounts::new_jwt_secret(&*instance.clock);
                replace(&instance, &tenant, &secret).await?;
                reveal(&secret)
            }
            Action::Set { stdin: _ } => {
                let secret = read_secret_line("the secret")?;
                if secret.len() < JWT_SECRET_BYTES_MIN {
                    let text = format!(
                        "a JWT secret has at least {JWT_SECRET_BYTES_MIN} bytes; this one has {}",
                        secret.len()
                    );
                    return Err(WrongUsage(text).into());
                }
                let (instance, tenant) = self.of_tenant.open().await?;
                replace(&instance, &tenant, &secret).await?;
                Answer {
                    text: format!("the JWT secret of tenant {} is replaced", tenant.name),
                    json: json!({"tenant": tenant.name}),
                }
            }
        };
        answer.print(self.of_tenant.json)
    }
}

fn reveal(secret: &str) -> Answer {
    Answer { text: secret.to_owned(), json: json!({"jwt_secret": secret}) }
}

async fn replace(instance: &Instance, tenant: &Tenant, secret: &str) -> anyhow::Result<()> {
    let sealed = instance.vault.seal(Place::tenant(tenant.id), secret);
    let is_there =
        instance.store.set_jwt_secret(tenant.id, sealed, by_command_line(instance)).await?;
    anyhow::ensure!(is_there, "tenant {} is gone", tenant.name);
    Ok(())
}
