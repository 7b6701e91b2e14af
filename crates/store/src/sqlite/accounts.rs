//! Tenants, users and tokens.

use postrider_kernel::{TenantId, TokenId, UserId};
use rusqlite::{Connection, Row, named_params};

use super::{
    audit, catalogue,
    query::{all, execute, first, number, optional_time, sql, time},
};
use crate::{
    Action, By, NewTenant, NewToken, NewUser, Renamed, Result, Sealed, Tenant, Token, User,
    UserChange, UserUpdated, role_from,
};

pub(super) fn create_tenant(connection: &Connection, tenant: &NewTenant, by: &By) -> Result<bool> {
    let parameters = named_params! {
        ":id": tenant.id.get(),
        ":name": tenant.name,
        ":jwt_secret": tenant.jwt_secret.0,
        ":at": by.at.as_micros(),
    };
    if execute(connection, sql!("insert_tenant"), parameters)? == 0 {
        return Ok(false);
    }
    for (event_type, description) in &tenant.catalogue {
        catalogue::insert(connection, tenant.id, event_type, description, by.at)?;
    }
    audit::write(
        connection,
        tenant.id,
        by,
        Action::TenantCreated,
        format!("tenant:{}", tenant.id),
    )?;
    Ok(true)
}

pub(super) fn tenants(connection: &Connection) -> Result<Vec<Tenant>> {
    all(
        connection,
        "SELECT id, name, jwt_secret, created_at FROM tenant ORDER BY id",
        [],
        read_tenant,
    )
}

pub(super) fn tenant(connection: &Connection, id: TenantId) -> Result<Option<Tenant>> {
    let select = "SELECT id, name, jwt_secret, created_at FROM tenant WHERE id = ?1";
    first(connection, select, [id.get()], read_tenant)
}

fn read_tenant(row: &Row<'_>) -> Result<Tenant> {
    Ok(Tenant {
        id: TenantId::new(row.get("id")?),
        name: row.get("name")?,
        jwt_secret: Sealed(row.get("jwt_secret")?),
        created_at: time(row, "created_at")?,
    })
}

pub(super) fn set_jwt_secret(
    connection: &Connection,
    tenant: TenantId,
    secret: &Sealed,
    by: &By,
) -> Result<bool> {
    let update = "UPDATE tenant SET jwt_secret = :jwt_secret WHERE id = :id";
    let parameters = named_params! { ":id": tenant.get(), ":jwt_secret": secret.0 };
    let found = execute(connection, update, parameters)? > 0;
    if found {
        audit::write(
            connection,
            tenant,
            by,
            Action::JwtSecretReplaced,
            format!("tenant:{tenant}"),
        )?;
    }
    Ok(found)
}

pub(super) fn rename_tenant(
    connection: &Connection,
    id: TenantId,
    name: &str,
    by: &By,
) -> Result<Renamed> {
    let tenants = tenants(connection)?;
    if tenants.iter().any(|known| known.name == name && known.id != id) {
        return Ok(Renamed::NameTaken);
    }
    let Some(before) = tenants.iter().find(|known| known.id == id) else {
        return Ok(Renamed::NoTenant);
    };
    if before.name != name {
        let update = "UPDATE tenant SET name = :name WHERE id = :id";
        execute(connection, update, named_params! { ":id": id.get(), ":name": name })?;
        audit::write(connection, id, by, Action::TenantRenamed, format!("tenant:{id}"))?;
    }
    Ok(Renamed::Done)
}

pub(super) fn create_user(connection: &Connection, user: &NewUser, by: &By) -> Result<bool> {
    let parameters = named_params! {
        ":id": user.id.get(),
        ":tenant_id": user.tenant.get(),
        ":name": user.name,
        ":role": user.role.as_str(),
        ":password_hash": user.password_hash,
        ":at": by.at.as_micros(),
    };
    let made = execute(connection, sql!("insert_user"), parameters)? > 0;
    if made {
        audit::write(
            connection,
            user.tenant,
            by,
            Action::UserCreated,
            format!("user:{}", user.id),
        )?;
    }
    Ok(made)
}

pub(super) fn user(connection: &Connection, id: UserId) -> Result<Option<User>> {
    first(connection, "SELECT * FROM user WHERE id = ?1", [id.get()], read_user)
}

pub(super) fn users(connection: &Connection, tenant: TenantId) -> Result<Vec<User>> {
    let select = "SELECT * FROM user WHERE tenant_id = ?1 ORDER BY id";
    all(connection, select, [tenant.get()], read_user)
}

/// Leaves the user's tokens as they are: whoever checks one looks at its user too.
pub(super) fn disable_user(
    connection: &Connection,
    tenant: TenantId,
    name: &str,
    by: &By,
) -> Result<bool> {
    let parameters = named_params! { ":tenant_id": tenant.get(), ":name": name };
    let Some(id) = first(connection, sql!("disable_user"), parameters, number)? else {
        return Ok(false);
    };
    audit::write(connection, tenant, by, Action::UserDisabled, format!("user:{id}"))?;
    Ok(true)
}

pub(super) fn update_user(
    connection: &Connection,
    tenant: TenantId,
    id: UserId,
    change: UserChange,
    by: &By,
) -> Result<UserUpdated> {
    let (updated, actions) = change.apply(&users(connection, tenant)?, id);
    if let UserUpdated::Done(user) = &updated {
        let parameters = named_params! {
            ":id": id.get(),
            ":role": user.role.as_str(),
            ":password_hash": user.password_hash,
            ":is_active": user.is_active,
        };
        execute(connection, sql!("update_user"), parameters)?;
    }
    for action in actions {
        audit::write(connection, tenant, by, action, format!("user:{id}"))?;
    }
    Ok(updated)
}

pub(super) fn create_token(connection: &Connection, token: &NewToken, by: &By) -> Result<()> {
    let parameters = named_params! {
        ":id": token.id.get(),
        ":tenant_id": token.tenant.get(),
        ":user_id": token.user.map(UserId::get),
        ":name": token.name,
        ":role": token.role.as_str(),
        ":hash": token.hash,
        ":at": by.at.as_micros(),
        ":expires_at": token.expires_at.map(|at| at.as_micros()),
    };
    execute(connection, sql!("insert_token"), parameters)?;
    audit::write(connection, token.tenant, by, Action::TokenCreated, format!("token:{}", token.id))
}

pub(super) fn token_by_hash(connection: &Connection, hash: &[u8; 32]) -> Result<Option<Token>> {
    first(connection, "SELECT * FROM token WHERE hash = ?1", [hash], read_token)
}

pub(super) fn tokens(connection: &Connection, tenant: TenantId) -> Result<Vec<Token>> {
    let select = "SELECT * FROM token WHERE tenant_id = ?1 ORDER BY id";
    all(connection, select, [tenant.get()], read_token)
}

pub(super) fn revoke_token(
    connection: &Connection,
    tenant: TenantId,
    id: TokenId,
    by: &By,
) -> Result<bool> {
    let parameters = named_params! {
        ":id": id.get(),
        ":tenant_id": tenant.get(),
        ":at": by.at.as_micros(),
    };
    let revoked = execute(connection, sql!("revoke_token"), parameters)? > 0;
    if revoked {
        audit::write(connection, tenant, by, Action::TokenRevoked, format!("token:{id}"))?;
    }
    Ok(revoked)
}

fn read_user(row: &Row<'_>) -> Result<User> {
    Ok(User {
        id: UserId::new(row.get("id")?),
        tenant: TenantId::new(row.get("tenant_id")?),
        name: row.get("name")?,
        role: role_from(&row.get::<_, String>("role")?)?,
        password_hash: row.get("password_hash")?,
        is_active: row.get("is_active")?,
        created_at: time(row, "created_at")?,
    })
}

fn read_token(row: &Row<'_>) -> Result<Token> {
    Ok(Token {
        id: TokenId::new(row.get("id")?),
        tenant: TenantId::new(row.get("tenant_id")?),
        user: row.get::<_, Option<i64>>("user_id")?.map(UserId::new),
        name: row.get("name")?,
        role: role_from(&row.get::<_, String>("role")?)?,
        created_at: time(row, "created_at")?,
        expires_at: optional_time(row, "expires_at")?,
        revoked_at: optional_time(row, "revoked_at")?,
    })
}
