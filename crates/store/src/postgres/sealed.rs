//! Ciphertexts as such: which there are, and how each is replaced by another of the same text, under another master key.

use deadpool_postgres::{GenericClient, Transaction};
use postrider_kernel::TenantId;

use super::{
    accounts, audit,
    query::{Parameters, all, execute, first, get, sql},
};
use crate::{Action, By, Result, Sealed, SealedAt, SealedKind};

pub(super) async fn key_check(client: &impl GenericClient) -> Result<Option<Vec<u8>>> {
    let select = "SELECT value FROM meta WHERE name = 'key_check'";
    first(client, select, &[], |row| get(row, "value")).await
}

pub(super) async fn replace_key_check(
    transaction: &Transaction<'_>,
    old: &[u8],
    new: &[u8],
    by: &By,
) -> Result<bool> {
    let update = "UPDATE meta SET value = $2 WHERE name = 'key_check' AND value = $1";
    if execute(transaction, update, &[&old, &new]).await? == 0 {
        return Ok(false);
    }
    for tenant in accounts::tenants(transaction).await? {
        let subject = format!("tenant:{}", tenant.id);
        audit::write(transaction, tenant.id, by, Action::MasterKeyRotated, subject).await?;
    }
    Ok(true)
}

pub(super) async fn otherwise(
    client: &impl GenericClient,
    head: &[u8],
    after: Option<SealedAt>,
    limit: u32,
) -> Result<Vec<(SealedAt, Sealed)>> {
    let kind = after.map_or(-1, |after| after.kind.number());
    let tenant = after.map_or(0, |after| after.tenant.get());
    let id = after.map_or(0, |after| after.id);
    let parameters: Parameters<'_> = &[&head, &kind, &tenant, &id, &i64::from(limit)];
    all(client, sql!("select_sealed_otherwise"), parameters, |row| {
        let kind = SealedKind::of_number(get(row, "kind")?)?;
        let tenant = TenantId::new(get(row, "tenant_id")?);
        Ok((SealedAt { kind, tenant, id: get(row, "id")? }, Sealed(get(row, "sealed")?)))
    })
    .await
}

pub(super) async fn reseal(
    client: &impl GenericClient,
    at: SealedAt,
    old: &Sealed,
    new: &Sealed,
) -> Result<bool> {
    let update = match at.kind {
        SealedKind::JwtSecret => {
            "UPDATE tenant SET jwt_secret = $4 WHERE $1 = id AND id = $2 AND jwt_secret = $3"
        }
        SealedKind::Secret => {
            "UPDATE secret SET sealed = $4 WHERE tenant_id = $1 AND id = $2 AND sealed = $3"
        }
        SealedKind::Key => {
            "UPDATE secret SET sealed_key = $4 WHERE tenant_id = $1 AND id = $2 AND sealed_key = $3"
        }
    };
    let parameters: Parameters<'_> = &[&at.tenant.get(), &at.id, &old.0, &new.0];
    Ok(execute(client, update, parameters).await? > 0)
}
