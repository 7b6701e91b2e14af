//! `postrider tenant`: the communities that share an instance.

use clap::{Args, Subcommand};
use postrider::config::Catalogue;
use postrider_kernel::tenant::Name;
use postrider_store::{Actor, Tenant};
use serde_json::json;

use super::{
    data_dir::{DataDir, parse_name},
    output::{Answer, columns},
};

/// Tenants: communities or customers that share the instance and don't see each other
#[derive(Args)]
pub struct TenantCommand {
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
    /// Makes a tenant with a catalogue and a JWT secret of its own
    Create {
        /// 1 to 100 letters, digits or any of . _ - @ +
        #[arg(value_parser = parse_name)]
        name: Name,
        /// Its event types: community, none, or a JSON file
        #[arg(long, value_name = "LIST", default_value = "community")]
        catalogue: String,
    },
    /// Lists the tenants
    List,
}

impl TenantCommand {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        let instance = self.data_dir.open().await?;
        let answer = match self.action {
            Action::Create { name, catalogue } => {
                let catalogue = Catalogue::from_text(&catalogue);
                let made =
                    instance.create_tenant(name.as_str(), &catalogue, Actor::CommandLine).await?;
                let Some(id) = made else { anyhow::bail!("there is a tenant {name} already") };
                Answer {
                    text: format!("tenant {id}, {name}"),
                    json: json!({"id": id.get(), "name": name.as_str()}),
                }
            }
            Action::List => list(&instance.store.tenants().await?),
        };
        answer.print(self.json)
    }
}

fn list(tenants: &[Tenant]) -> Answer {
    let rows: Vec<_> = tenants
        .iter()
        .map(|tenant| [tenant.id.to_string(), tenant.name.clone(), tenant.created_at.to_string()])
        .collect();
    let represent = |tenant: &Tenant| {
        json!({
            "id": tenant.id.get(),
            "name": tenant.name,
            "created_at": tenant.created_at.to_string(),
        })
    };
    Answer {
        text: columns(["ID", "NAME", "CREATED"], &rows),
        json: tenants.iter().map(represent).collect(),
    }
}
