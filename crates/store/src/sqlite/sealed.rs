//! Ciphertexts as such: which there are, and how each is replaced by another of the same text, under another master key.

use postrider_kernel::TenantId;
use rusqlite::{Connection, named_params};

use super::{
    accounts, audit,
    query::{all, execute, first, sql},
};
use crate::{Action, By, Result, Sealed, SealedAt, SealedKind};

pub(super) fn key_check(connection: &Connection) -> Result<Option<Vec<u8>>> {
    let select = "SELECT value FROM meta WHERE name = 'key_check'";
    first(connection, select, [], |row| Ok(row.get(0)?))
}

pub(super) fn replace_key_check(
    connection: &Connection,
    old: &[u8],
    new: &[u8],
    by: &By,
) -> Result<bool> {
    let update = "UPDATE meta SET value = ?2 WHERE name = 'key_check' AND value = ?1";
    if execute(connection, update, [old, new])? == 0 {
        return Ok(false);
    }
    for tenant in accounts::tenants(connection)? {
        let subject = format!("tenant:{}", tenant.id);
        audit::write(connection, tenant.id, by, Action::MasterKeyRotated, subject)?;
    }
    Ok(true)
}

pub(super) fn otherwise(
    connection: &Connection,
    head: &[u8],
    after: Option<SealedAt>,
    limit: u32,
) -> Result<Vec<(SealedAt, Sealed)>> {
    let parameters = named_params! {
        ":head": head,
        ":kind": after.map_or(-1, |after| after.kind.number()),
        ":tenant_id": after.map_or(0, |after| after.tenant.get()),
        ":id": after.map_or(0, |after| after.id),
        ":limit": limit,
    };
    all(connection, sql!("select_sealed_otherwise"), parameters, |row| {
        let kind = SealedKind::of_number(row.get("kind")?)?;
        let tenant = TenantId::new(row.get("tenant_id")?);
        Ok((SealedAt { kind, tenant, id: row.get("id")? }, Sealed(row.get("sealed")?)))
    })
}

pub(super) fn reseal(
    connection: &Connection,
    at: SealedAt,
    old: &Sealed,
    new: &Sealed,
) -> Result<bool> {
    let update = match at.kind {
        SealedKind::JwtSecret => {
            "UPDATE tenant SET jwt_secret = ?3 WHERE id = ?1 AND jwt_secret = ?2"
        }
        SealedKind::Secret => "UPDATE secret SET sealed = ?3 WHERE id = ?1 AND sealed = ?2",
        SealedKind::Key => "UPDATE secret SET sealed_key = ?3 WHERE id = ?1 AND sealed_key = ?2",
    };
    Ok(execute(connection, update, (at.id, &old.0, &new.0))? > 0)
}
