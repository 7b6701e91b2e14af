//! Signing secrets. Which of them sign is the kernel's decision; here the standing that it decided is kept, and the
//! ciphertext of those that sign no more is wiped in the same transaction.

use std::time::Duration;

use postrider_kernel::{
    EndpointId, SecretId, TenantId, Timestamp,
    secret::{GraceEnd, Standing, end_grace, expire},
};
use rusqlite::{Connection, Row, named_params};

use super::{
    audit, endpoints,
    query::{all, corrupt, execute, optional_time, sql, time},
};
use crate::{
    Action, By, Endpoint, EndpointChange, GraceEnded, NewSecret, Result, Sealed, StoredSecret,
    standings,
};

pub(super) fn reveal(
    connection: &Connection,
    tenant: TenantId,
    endpoint: EndpointId,
    by: &By,
) -> Result<Option<StoredSecret>> {
    if endpoints::find(connection, tenant, endpoint)?.is_none() {
        return Ok(None);
    }
    let subject = endpoints::subject(endpoint);
    audit::write(connection, tenant, by, Action::SecretRevealed, subject)?;
    let secrets = live(connection, endpoint)?;
    Ok(secrets.into_iter().find(|secret| secret.standing == Standing::Current))
}

pub(super) fn expire_current(
    connection: &Connection,
    tenant: TenantId,
    endpoint: EndpointId,
    secret: &NewSecret,
    grace: Option<Duration>,
    by: &By,
) -> Result<Option<Endpoint>> {
    let Some(before) = endpoints::find(connection, tenant, endpoint)? else { return Ok(None) };
    let live = live(connection, endpoint)?;
    for (id, standing) in expire(&standings(&live), grace, by.at) {
        change_standing(connection, id, standing)?;
    }
    insert(connection, tenant, endpoint, secret, by.at)?;
    let after = before.changed(&EndpointChange::default(), by.at);
    endpoints::save(connection, &after)?;
    let subject = endpoints::subject(endpoint);
    audit::write(connection, tenant, by, secret.action(), subject)?;
    Ok(Some(after))
}

pub(super) fn end_one_grace(
    connection: &Connection,
    tenant: TenantId,
    endpoint: EndpointId,
    secret: SecretId,
    by: &By,
) -> Result<GraceEnded> {
    let Some(before) = endpoints::find(connection, tenant, endpoint)? else {
        return Ok(GraceEnded::Unknown);
    };
    match end_grace(&standings(&live(connection, endpoint)?), secret, by.at) {
        GraceEnd::Unknown => return Ok(GraceEnded::Unknown),
        GraceEnd::IsCurrent => return Ok(GraceEnded::IsCurrent),
        GraceEnd::Ends => change_standing(connection, secret, Standing::Expired)?,
    }
    let after = before.changed(&EndpointChange::default(), by.at);
    endpoints::save(connection, &after)?;
    let subject = endpoints::subject(endpoint);
    audit::write(connection, tenant, by, Action::GraceEnded, subject)?;
    Ok(GraceEnded::Done(after))
}

/// Adds an endpoint's current secret; the constraint says that it has no other one.
pub(super) fn insert(
    connection: &Connection,
    tenant: TenantId,
    endpoint: EndpointId,
    secret: &NewSecret,
    at: Timestamp,
) -> Result<()> {
    let parameters = named_params! {
        ":id": secret.id.get(),
        ":tenant_id": tenant.get(),
        ":endpoint_id": endpoint.get(),
        ":sealed": secret.sealed.0,
        ":sealed_key": secret.sealed_key.as_ref().map(|sealed| &sealed.0),
        ":at": at.as_micros(),
    };
    execute(connection, sql!("insert_secret"), parameters)?;
    Ok(())
}

/// Puts a key beside a secret that signs and has none.
pub(super) fn give_key(
    connection: &Connection,
    endpoint: EndpointId,
    secret: SecretId,
    key: &Sealed,
) -> Result<()> {
    let parameters = named_params! {
        ":id": secret.get(),
        ":endpoint_id": endpoint.get(),
        ":sealed_key": key.0,
    };
    execute(connection, sql!("give_key"), parameters)?;
    Ok(())
}

pub(super) fn of_endpoint(
    connection: &Connection,
    tenant: TenantId,
    endpoint: EndpointId,
) -> Result<Option<Vec<StoredSecret>>> {
    match endpoints::find(connection, tenant, endpoint)? {
        Some(_) => live(connection, endpoint).map(Some),
        None => Ok(None),
    }
}

/// An endpoint's secrets that are not expired, newest first.
pub(super) fn live(connection: &Connection, endpoint: EndpointId) -> Result<Vec<StoredSecret>> {
    let parameters = named_params! { ":endpoint_id": endpoint.get() };
    all(connection, sql!("select_live_secrets"), parameters, |row| {
        Ok(StoredSecret {
            id: SecretId::new(row.get("id")?),
            sealed: Sealed(row.get("sealed")?),
            sealed_key: row.get::<_, Option<_>>("sealed_key")?.map(Sealed),
            standing: read_standing(row)?,
            created_at: time(row, "created_at")?,
        })
    })
}

fn change_standing(connection: &Connection, id: SecretId, standing: Standing) -> Result<()> {
    match standing {
        // The kernel's decision makes no older secret current again.
        Standing::Current => {}
        Standing::Grace { until } => {
            let parameters = named_params! { ":id": id.get(), ":until": until.as_micros() };
            execute(connection, sql!("let_secret_finish"), parameters)?;
        }
        Standing::Expired => {
            execute(connection, sql!("wipe_secret"), named_params! { ":id": id.get() })?;
        }
    }
    Ok(())
}

fn read_standing(row: &Row<'_>) -> Result<Standing> {
    match (row.get("standing")?, optional_time(row, "grace_until")?) {
        (0_i64, None) => Ok(Standing::Current),
        (1, Some(until)) => Ok(Standing::Grace { until }),
        (other, _) => Err(corrupt("standing", other)),
    }
}
