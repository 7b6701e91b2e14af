//! `postrider user`: who may sign in.

use clap::{Args, Subcommand};
use postrider::{
    accounts::{self, PASSWORD_LENGTH_MAX, PASSWORD_LENGTH_MIN},
    instance::Instance,
};
use postrider_kernel::{Role, UserId, tenant::Name};
use postrider_store::{IdKind, NewUser, Tenant, User};
use serde_json::{Value, json};

use super::{
    WrongUsage,
    data_dir::{OfTenant, by_command_line, parse_name, read_secret_line, role_parser},
    output::{Answer, columns},
};

/// Users: those whom JWTs name, and who have a password
#[derive(Args)]
pub struct UserCommand {
    #[command(flatten)]
    of_tenant: OfTenant,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Makes a user; its name is unique in the instance
    Create {
        /// 1 to 100 letters, digits or any of . _ - @ +
        #[arg(value_parser = parse_name)]
        name: Name,
        /// What the user may do
        #[arg(long, value_parser = role_parser())]
        role: Role,
        /// Reads the password, at least 8 characters, from the first line of standard input
        #[arg(long, required = true)]
        password_stdin: bool,
    },
    /// Lists the tenant's users
    List,
    /// Ends a user's access: its JWTs, tokens and password count no more
    Disable {
        /// The user's name
        name: String,
    },
}

impl UserCommand {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        let answer = match self.action {
            Action::Create { name, role, password_stdin: _ } => {
                let password = read_secret_line("the password")?;
                let lengths = PASSWORD_LENGTH_MIN..=PASSWORD_LENGTH_MAX;
                if !lengths.contains(&password.chars().count()) {
                    let text = format!(
                        "a password has at least {PASSWORD_LENGTH_MIN} characters and at most {PASSWORD_LENGTH_MAX}"
                    );
                    return Err(WrongUsage(text).into());
                }
                let (instance, tenant) = self.of_tenant.open().await?;
                create(&instance, &tenant, &name, role, &password).await?
            }
            Action::List => {
                let (instance, tenant) = self.of_tenant.open().await?;
                list(&instance.store.users(tenant.id).await?)
            }
            Action::Disable { name } => {
                let (instance, tenant) = self.of_tenant.open().await?;
                disable(&instance, &tenant, &name).await?
            }
        };
        answer.print(self.of_tenant.json)
    }
}

async fn create(
    instance: &Instance,
    tenant: &Tenant,
    name: &Name,
    role: Role,
    password: &str,
) -> anyhow::Result<Answer> {
    let password_hash = accounts::hash_password(password, &*instance.clock)
        .map_err(|error| anyhow::anyhow!("the password can't be hashed: {error}"))?;
    let id = UserId::new(instance.reserve_id(IdKind::User).await?);
    let user = NewUser { id, tenant: tenant.id, name: name.to_string(), role, password_hash };
    if !instance.store.create_user(user, by_command_line(instance)).await? {
        anyhow::bail!("there is a user {name} already; names are unique in the whole instance");
    }
    Ok(Answer {
        text: format!("user {id}, {name}, {role} of tenant {}", tenant.name),
        json: json!({"id": id.get(), "name": name.as_str(), "role": role.as_str(), "tenant": tenant.name}),
    })
}

fn list(users: &[User]) -> Answer {
    let row = |user: &User| {
        let standing = if user.is_active { "active" } else { "disabled" };
        [
            user.id.to_string(),
            user.name.clone(),
            user.role.to_string(),
            standing.to_owned(),
            user.created_at.to_string(),
        ]
    };
    let rows: Vec<_> = users.iter().map(row).collect();
    Answer {
        text: columns(["ID", "NAME", "ROLE", "STANDING", "CREATED"], &rows),
        json: users.iter().map(represent).collect(),
    }
}

fn represent(user: &User) -> Value {
    json!({
        "id": user.id.get(),
        "name": user.name,
        "role": user.role.as_str(),
        "is_active": user.is_active,
        "created_at": user.created_at.to_string(),
    })
}

async fn disable(instance: &Instance, tenant: &Tenant, name: &str) -> anyhow::Result<Answer> {
    if !instance.store.disable_user(tenant.id, name, by_command_line(instance)).await? {
        anyhow::bail!(
            "tenant {} has no user {name}; `postrider user list` shows its users",
            tenant.name
        );
    }
    Ok(Answer {
        text: format!("user {name} is disabled"),
        json: json!({"name": name, "is_active": false}),
    })
}
