//! Tenants, users and tokens.

use deadpool_postgres::{GenericClient, Transaction};
use postrider_kernel::{TenantId, TokenId, UserId};
use tokio_postgres::Row;

use super::{
    audit, catalogue,
    query::{Parameters, all, execute, first, get, number, optional_time, sql, text, time},
};
use crate::{
    Action, By, NewTenant, NewToken, NewUser, Renamed, Result, Sealed, Tenant, Token, User,
    UserChange, UserUpdated, role_from,
};

pub(super) async fn create_tenant(
    transaction: &Transaction<'_>,
    tenant: &NewTenant,
    by: &By,
) -> Result<bool> {
    let row: Parameters<'_> =
        &[&tenant.id.get(), &text(&tenant.name), &tenant.jwt_secret.0, &by.at.as_micros()];
    if execute(transaction, sql!("insert_tenant"), row).await? == 0 {
        return Ok(false);
    }
    for (event_type, description) in &tenant.catalogue {
        catalogue::insert(transaction, tenant.id, event_type, description, by.at).await?;
    }
    let subject = format!("tenant:{}", tenant.id);
    audit::write(transaction, tenant.id, by, Action::TenantCreated, subject).await?;
    Ok(true)
}

pub(super) async fn tenants(client: &impl GenericClient) -> Result<Vec<Tenant>> {
    let select = "SELECT id, name, jwt_secret, created_at FROM tenant ORDER BY id";
    all(client, select, &[], read_tenant).await
}

pub(super) async fn tenant(client: &impl GenericClient, id: TenantId) -> Result<Option<Tenant>> {
    let select = "SELECT id, name, jwt_secret, created_at FROM tenant WHERE id = $1";
    first(client, select, &[&id.get()], read_tenant).await
}

fn read_tenant(row: &Row) -> Result<Tenant> {
    Ok(Tenant {
        id: TenantId::new(get(row, "id")?),
        name: get(row, "name")?,
        jwt_secret: Sealed(get(row, "jwt_secret")?),
        created_at: time(row, "created_at")?,
    })
}

pub(super) async fn set_jwt_secret(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    secret: &Sealed,
    by: &By,
) -> Result<bool> {
    let update = "UPDATE tenant SET jwt_secret = $2 WHERE id = $1";
    let found = execute(transaction, update, &[&tenant.get(), &secret.0]).await? > 0;
    if found {
        let subject = format!("tenant:{tenant}");
        audit::write(transaction, tenant, by, Action::JwtSecretReplaced, subject).await?;
    }
    Ok(found)
}

pub(super) async fn rename_tenant(
    transaction: &Transaction<'_>,
    id: TenantId,
    name: &str,
    by: &By,
) -> Result<Renamed> {
    let tenants = tenants(transaction).await?;
    let name = text(name);
    if tenants.iter().any(|known| known.name == name && known.id != id) {
        return Ok(Renamed::NameTaken);
    }
    let Some(before) = tenants.iter().find(|known| known.id == id) else {
        return Ok(Renamed::NoTenant);
    };
    if before.name != name {
        let update = "UPDATE tenant SET name = $2 WHERE id = $1";
        execute(transaction, update, &[&id.get(), &name]).await?;
        let subject = format!("tenant:{id}");
        audit::write(transaction, id, by, Action::TenantRenamed, subject).await?;
    }
    Ok(Renamed::Done)
}

pub(super) async fn create_user(
    transaction: &Transaction<'_>,
    user: &NewUser,
    by: &By,
) -> Result<bool> {
    let row: Parameters<'_> = &[
        &user.tenant.get(),
        &user.id.get(),
        &text(&user.name),
        &user.role.as_str(),
        &text(&user.password_hash),
        &by.at.as_micros(),
    ];
    let made = execute(transaction, sql!("insert_user"), row).await? > 0;
    if made {
        let subject = format!("user:{}", user.id);
        audit::write(transaction, user.tenant, by, Action::UserCreated, subject).await?;
    }
    Ok(made)
}

pub(super) async fn user(client: &impl GenericClient, id: UserId) -> Result<Option<User>> {
    first(client, r#"SELECT * FROM "user" WHERE id = $1"#, &[&id.get()], read_user).await
}

pub(super) async fn users(client: &impl GenericClient, tenant: TenantId) -> Result<Vec<User>> {
    let select = r#"SELECT * FROM "user" WHERE tenant_id = $1 ORDER BY id"#;
    all(client, select, &[&tenant.get()], read_user).await
}

/// Leaves the user's tokens as they are: whoever checks one looks at its user too.
pub(super) async fn disable_user(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    name: &str,
    by: &By,
) -> Result<bool> {
    let parameters: Parameters<'_> = &[&tenant.get(), &text(name)];
    let Some(id) = first(transaction, sql!("disable_user"), parameters, number).await? else {
        return Ok(false);
    };
    let subject = format!("user:{id}");
    audit::write(transaction, tenant, by, Action::UserDisabled, subject).await?;
    Ok(true)
}

pub(super) async fn update_user(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    id: UserId,
    change: UserChange,
    by: &By,
) -> Result<UserUpdated> {
    let (updated, actions) = change.apply(&users(transaction, tenant).await?, id);
    if let UserUpdated::Done(user) = &updated {
        let parameters: Parameters<'_> = &[
            &tenant.get(),
            &id.get(),
            &user.role.as_str(),
            &text(&user.password_hash),
            &user.is_active,
        ];
        execute(transaction, sql!("update_user"), parameters).await?;
    }
    for action in actions {
        audit::write(transaction, tenant, by, action, format!("user:{id}")).await?;
    }
    Ok(updated)
}

pub(super) async fn create_token(
    transaction: &Transaction<'_>,
    token: &NewToken,
    by: &By,
) -> Result<()> {
    let row: Parameters<'_> = &[
        &token.tenant.get(),
        &token.id.get(),
        &token.user.map(UserId::get),
        &text(&token.name),
        &token.role.as_str(),
        &&token.hash[..],
        &by.at.as_micros(),
        &token.expires_at.map(|at| at.as_micros()),
    ];
    execute(transaction, sql!("insert_token"), row).await?;
    let subject = format!("token:{}", token.id);
    audit::write(transaction, token.tenant, by, Action::TokenCreated, subject).await
}

pub(super) async fn token_by_hash(
    client: &impl GenericClient,
    hash: &[u8; 32],
) -> Result<Option<Token>> {
    first(client, "SELECT * FROM token WHERE hash = $1", &[&&hash[..]], read_token).await
}

pub(super) async fn tokens(client: &impl GenericClient, tenant: TenantId) -> Result<Vec<Token>> {
    let select = "SELECT * FROM token WHERE tenant_id = $1 ORDER BY id";
    all(client, select, &[&tenant.get()], read_token).await
}

pub(super) async fn revoke_token(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    id: TokenId,
    by: &By,
) -> Result<bool> {
    let parameters: Parameters<'_> = &[&tenant.get(), &id.get(), &by.at.as_micros()];
    let revoked = execute(transaction, sql!("revoke_token"), parameters).await? > 0;
    if revoked {
        let subject = format!("token:{id}");
        audit::write(transaction, tenant, by, Action::TokenRevoked, subject).await?;
    }
    Ok(revoked)
}

fn read_user(row: &Row) -> Result<User> {
    Ok(User {
        id: UserId::new(get(row, "id")?),
        tenant: TenantId::new(get(row, "tenant_id")?),
        name: get(row, "name")?,
        role: role_from(get(row, "role")?)?,
        password_hash: get(row, "password_hash")?,
        is_active: get(row, "is_active")?,
        created_at: time(row, "created_at")?,
    })
}

fn read_token(row: &Row) -> Result<Token> {
    Ok(Token {
        id: TokenId::new(get(row, "id")?),
        tenant: TenantId::new(get(row, "tenant_id")?),
        user: get::<Option<i64>>(row, "user_id")?.map(UserId::new),
        name: get(row, "name")?,
        role: role_from(get(row, "role")?)?,
        created_at: time(row, "created_at")?,
        expires_at: optional_time(row, "expires_at")?,
        revoked_at: optional_time(row, "revoked_at")?,
    })
}
