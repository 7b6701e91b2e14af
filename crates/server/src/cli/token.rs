//! `postrider token`: API tokens. A token's text is printed once, when it is made; only its hash is kept.

use std::time::Duration;

use clap::{Args, Subcommand};
use postrider::{accounts, instance::Instance};
use postrider_kernel::{Role, Timestamp, TokenId, UserId};
use postrider_store::{IdKind, NewToken, Tenant, Token, User};
use serde_json::{Value, json};

use super::{
    data_dir::{OfTenant, by_command_line, role_parser},
    output::{Answer, columns},
};

/// API tokens, for programs
#[derive(Args)]
pub struct TokenCommand {
    #[command(flatten)]
    of_tenant: OfTenant,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Makes a token and prints it, this once
    Create(Create),
    /// Lists the tenant's tokens, without their texts
    List,
    /// Ends a token
    Revoke {
        /// The token's id, as `token list` shows it
        id: i64,
    },
}

#[derive(Args)]
struct Create {
    /// What the token may do
    #[arg(long, value_parser = role_parser())]
    role: Role,
    /// The user on whose behalf it acts; it ends with the user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// What it is called, to know it again in the list
    #[arg(long, value_parser = parse_name, default_value = "")]
    name: String,
    /// How long it counts: a number with s, m, h, d or w, such as 30d; without it, until it is revoked
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    expires_in: Option<Duration>,
}

impl TokenCommand {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        let (instance, tenant) = self.of_tenant.open().await?;
        let answer = match self.action {
            Action::Create(wish) => wish.create(&instance, &tenant).await?,
            Action::List => {
                let tokens = instance.store.tokens(tenant.id).await?;
                list(&tokens, &instance.store.users(tenant.id).await?, instance.clock.now())
            }
            Action::Revoke { id } => revoke(&instance, &tenant, TokenId::new(id)).await?,
        };
        answer.print(self.of_tenant.json)
    }
}

impl Create {
    async fn create(self, instance: &Instance, tenant: &Tenant) -> anyhow::Result<Answer> {
        let user = match &self.user {
            Some(name) => Some(find_user(instance, tenant, name).await?),
            None => None,
        };
        let (text, hash) = accounts::new_token(&*instance.clock);
        let id = TokenId::new(instance.reserve_id(IdKind::Token).await?);
        let by = by_command_line(instance);
        let expires_at = self.expires_in.map(|span| by.at.plus(span));
        let token = NewToken {
            id,
            tenant: tenant.id,
            user,
            name: self.name.clone(),
            role: self.role,
            hash,
            expires_at,
        };
        instance.store.create_token(token, by).await?;
        let json = json!({
            "id": id.get(),
            "token": text,
            "name": self.name,
            "role": self.role.as_str(),
            "tenant": tenant.name,
            "expires_at": expires_at.map(|at| at.to_string()),
        });
        // The token alone goes to standard output, so that `TOKEN=$(postrider token create …)` works.
        Ok(Answer { text, json })
    }
}

/// A token's name is shown in lists: it must not steer the terminal that shows them.
fn parse_name(text: &str) -> Result<String, String> {
    let is_sound = text.chars().count() <= 100 && !text.chars().any(char::is_control);
    if is_sound {
        Ok(text.to_owned())
    } else {
        Err("expected at most 100 characters, none of them a control character".into())
    }
}

async fn find_user(instance: &Instance, tenant: &Tenant, name: &str) -> anyhow::Result<UserId> {
    let users = instance.store.users(tenant.id).await?;
    match users.iter().find(|user| user.name == name) {
        Some(user) if user.is_active => Ok(user.id),
        Some(_) => anyhow::bail!("user {name} is disabled; a token of theirs would not count"),
        None => anyhow::bail!(
            "tenant {} has no user {name}; `postrider user list` shows its users",
            tenant.name
        ),
    }
}

fn list(tokens: &[Token], users: &[User], now: Timestamp) -> Answer {
    let user_name = |token: &Token| {
        let user = users.iter().find(|user| Some(user.id) == token.user);
        user.map(|user| user.name.clone())
    };
    let row = |token: &Token| {
        [
            token.id.to_string(),
            token.name.clone(),
            token.role.to_string(),
            user_name(token).unwrap_or_default(),
            token.created_at.to_string(),
            standing(token, now),
        ]
    };
    let represent = |token: &Token| -> Value {
        json!({
            "id": token.id.get(),
            "name": token.name,
            "role": token.role.as_str(),
            "user": user_name(token),
            "created_at": token.created_at.to_string(),
            "expires_at": token.expires_at.map(|at| at.to_string()),
            "revoked_at": token.revoked_at.map(|at| at.to_string()),
        })
    };
    let rows: Vec<_> = tokens.iter().map(row).collect();
    Answer {
        text: columns(["ID", "NAME", "ROLE", "USER", "CREATED", "STANDING"], &rows),
        json: tokens.iter().map(represent).collect(),
    }
}

fn standing(token: &Token, now: Timestamp) -> String {
    match (token.revoked_at, token.expires_at) {
        (Some(_), _) => "revoked".to_owned(),
        (None, Some(at)) if at <= now => "expired".to_owned(),
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "active".to_owned(),
    }
}

async fn revoke(instance: &Instance, tenant: &Tenant, id: TokenId) -> anyhow::Result<Answer> {
    if !instance.store.revoke_token(tenant.id, id, by_command_line(instance)).await? {
        anyhow::bail!(
            "tenant {} has no token {id} that counts; `postrider token list` shows its tokens",
            tenant.name
        );
    }
    Ok(Answer {
        text: format!("token {id} is revoked"),
        json: json!({"id": id.get(), "revoked": true}),
    })
}

/// Reads `30d`.
fn parse_span(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number with s, m, h, d or w, such as 30d".to_owned();
    let (number, unit) =
        text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(expected)?;
    let unit_seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(expected()),
    };
    let century = 100 * 366 * 86_400;
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_seconds)) {
        Some(seconds) if (1..=century).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_a_number_with_a_unit() {
        let check = |text, seconds: Option<u64>| {
            assert_eq!(parse_span(text).ok(), seconds.map(Duration::from_secs), "{text}");
        };
        check("30d", Some(2_592_000));
        check("1s", Some(1));
        check("2w", Some(1_209_600));
        for bad in ["", "d", "30", "0d", "-1d", "1.5h", "30é", "99999999999999999w", "200000d"] {
            check(bad, None);
        }
    }
}
