//! Signing secrets. Which of them sign is the kernel's decision; here the standing that it decided is kept, and the
//! ciphertext of those that sign no more is wiped in the same transaction.

use std::time::Duration;

use deadpool_postgres::{GenericClient, Transaction};
use postrider_kernel::{
    EndpointId, SecretId, TenantId, Timestamp,
    secret::{GraceEnd, Standing, end_grace, expire},
};
use tokio_postgres::Row;

use super::{
    audit, endpoints,
    query::{Parameters, all, corrupt, execute, get, optional_time, sql, time},
};
use crate::{
    Action, By, Endpoint, EndpointChange, GraceEnded, NewSecret, Result, Sealed, StoredSecret,
    standings,
};

pub(super) async fn reveal(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
    by: &By,
) -> Result<Option<StoredSecret>> {
    if endpoints::find(transaction, tenant, endpoint).await?.is_none() {
        return Ok(None);
    }
    let secrets = live(transaction, tenant, endpoint).await?;
    let subject = endpoints::subject(endpoint);
    audit::write(transaction, tenant, by, Action::SecretRevealed, subject).await?;
    Ok(secrets.into_iter().find(|secret| secret.standing == Standing::Current))
}

pub(super) async fn expire_current(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
    secret: &NewSecret,
    grace: Option<Duration>,
    by: &By,
) -> Result<Option<Endpoint>> {
    let Some(before) = endpoints::find(transaction, tenant, endpoint).await? else {
        return Ok(None);
    };
    let live = live(transaction, tenant, endpoint).await?;
    for (id, standing) in expire(&standings(&live), grace, by.at) {
        change_standing(transaction, tenant, id, standing).await?;
    }
    insert(transaction, tenant, endpoint, secret, by.at).await?;
    let after = before.changed(&EndpointChange::default(), by.at);
    endpoints::save(transaction, &after).await?;
    let subject = endpoints::subject(endpoint);
    audit::write(transaction, tenant, by, secret.action(), subject).await?;
    Ok(Some(after))
}

pub(super) async fn end_one_grace(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
    secret: SecretId,
    by: &By,
) -> Result<GraceEnded> {
    let Some(before) = endpoints::find(transaction, tenant, endpoint).await? else {
        return Ok(GraceEnded::Unknown);
    };
    match end_grace(&standings(&live(transaction, tenant, endpoint).await?), secret, by.at) {
        GraceEnd::Unknown => return Ok(GraceEnded::Unknown),
        GraceEnd::IsCurrent => return Ok(GraceEnded::IsCurrent),
        GraceEnd::Ends => change_standing(transaction, tenant, secret, Standing::Expired).await?,
    }
    let after = before.changed(&EndpointChange::default(), by.at);
    endpoints::save(transaction, &after).await?;
    let subject = endpoints::subject(endpoint);
    audit::write(transaction, tenant, by, Action::GraceEnded, subject).await?;
    Ok(GraceEnded::Done(after))
}

/// Adds an endpoint's current secret; the constraint says that it has no other one.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
    secret: &NewSecret,
    at: Timestamp,
) -> Result<()> {
    let key = secret.sealed_key.as_ref().map(|sealed| &sealed.0);
    let row: Parameters<'_> = &[
        &tenant.get(),
        &secret.id.get(),
        &endpoint.get(),
        &secret.sealed.0,
        &key,
        &at.as_micros(),
    ];
    execute(transaction, sql!("insert_secret"), row).await?;
    Ok(())
}

/// The secrets of all of a tenant's endpoints that are not expired, each endpoint's newest first.
pub(super) async fn live_of_tenant(
    client: &impl GenericClient,
    tenant: TenantId,
) -> Result<Vec<(EndpointId, StoredSecret)>> {
    all(client, sql!("select_live_secrets_of_tenant"), &[&tenant.get()], |row| {
        Ok((EndpointId::new(get(row, "endpoint_id")?), read_secret(row)?))
    })
    .await
}

/// Puts a key beside a secret that signs and has none.
pub(super) async fn give_key(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
    secret: SecretId,
    key: &Sealed,
) -> Result<()> {
    let parameters: Parameters<'_> = &[&tenant.get(), &endpoint.get(), &secret.get(), &key.0];
    execute(transaction, sql!("give_key"), parameters).await?;
    Ok(())
}

pub(super) async fn of_endpoint(
    client: &impl GenericClient,
    tenant: TenantId,
    endpoint: EndpointId,
) -> Result<Option<Vec<StoredSecret>>> {
    match endpoints::find(client, tenant, endpoint).await? {
        Some(_) => live(client, tenant, endpoint).await.map(Some),
        None => Ok(None),
    }
}

/// An endpoint's secrets that are not expired, newest first.
async fn live(
    client: &impl GenericClient,
    tenant: TenantId,
    endpoint: EndpointId,
) -> Result<Vec<StoredSecret>> {
    let parameters: Parameters<'_> = &[&tenant.get(), &endpoint.get()];
    all(client, sql!("select_live_secrets"), parameters, read_secret).await
}

async fn change_standing(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    id: SecretId,
    standing: Standing,
) -> Result<()> {
    match standing {
        // The kernel's decision makes no older secret current again.
        Standing::Current => {}
        Standing::Grace { until } => {
            let parameters: Parameters<'_> = &[&tenant.get(), &id.get(), &until.as_micros()];
            execute(transaction, sql!("let_secret_finish"), parameters).await?;
        }
        Standing::Expired => {
            execute(transaction, sql!("wipe_secret"), &[&tenant.get(), &id.get()]).await?;
        }
    }
    Ok(())
}

fn read_secret(row: &Row) -> Result<StoredSecret> {
    Ok(StoredSecret {
        id: SecretId::new(get(row, "id")?),
        sealed: Sealed(get(row, "sealed")?),
        sealed_key: get::<Option<_>>(row, "sealed_key")?.map(Sealed),
        standing: read_standing(row)?,
        created_at: time(row, "created_at")?,
    })
}

fn read_standing(row: &Row) -> Result<Standing> {
    match (get::<i16>(row, "standing")?, optional_time(row, "grace_until")?) {
        (0, None) => Ok(Standing::Current),
        (1, Some(until)) => Ok(Standing::Grace { until }),
        (other, _) => Err(corrupt("standing", other)),
    }
}
