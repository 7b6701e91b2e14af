//! Endpoints and their subscriptions. A deleted endpoint is seen by no verb; its rows are `purge.rs`'s business.

use std::collections::HashMap;

use deadpool_postgres::{GenericClient, Transaction};
use postrider_kernel::{EndpointId, EventType, Target, TenantId};
use tokio_postgres::Row;

use super::{
    audit,
    query::{Parameters, all, corrupt, execute, first, get, number, one, sql, text, time, words},
    secrets,
};
use crate::{
    Action, By, DirectoryEntry, Endpoint, EndpointChange, EndpointField, EndpointQuery,
    NewEndpoint, Page, Result, StoreError, Subscription, algorithms_from, algorithms_text,
};

pub(super) async fn create(
    transaction: &Transaction<'_>,
    new: &NewEndpoint,
    by: &By,
) -> Result<Endpoint> {
    let added =
        |event_type: &EventType| Subscription { event_type: event_type.clone(), added_at: by.at };
    let endpoint = Endpoint {
        id: new.id,
        tenant: new.tenant,
        created_at: by.at,
        updated_at: by.at,
        is_active: new.is_active,
        target: new.target.clone(),
        description: new.description.clone(),
        subscriptions: new.event_types.iter().map(added).collect(),
        ssl_cert_verification: new.ssl_cert_verification,
        signature_algorithms: new.signature_algorithms,
    };
    let row: Parameters<'_> = &[
        &endpoint.tenant.get(),
        &endpoint.id.get(),
        &by.at.as_micros(),
        &endpoint.is_active,
        &endpoint.ssl_cert_verification,
        &endpoint.target.as_str(),
        &endpoint.description.as_bytes(),
        &algorithms_text(endpoint.signature_algorithms),
    ];
    execute(transaction, sql!("insert_endpoint"), row).await?;
    insert_subscriptions(transaction, &endpoint).await?;
    secrets::insert(transaction, endpoint.tenant, endpoint.id, &new.secret, by.at).await?;
    let subject = subject(endpoint.id);
    audit::write(transaction, endpoint.tenant, by, Action::EndpointCreated, subject.clone())
        .await?;
    if new.secret.is_brought {
        audit::write(transaction, endpoint.tenant, by, Action::SecretBrought, subject).await?;
    }
    Ok(endpoint)
}

/// Nobody else changes it between the look and the save: whoever changes an endpoint has locked the directory.
pub(super) async fn update(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    id: EndpointId,
    change: &EndpointChange,
    by: &By,
) -> Result<Option<Endpoint>> {
    let Some(before) = find(transaction, tenant, id).await? else { return Ok(None) };
    let after = before.changed(change, by.at);
    save(transaction, &after).await?;
    if change.event_types.is_some() {
        let delete = "DELETE FROM subscription WHERE tenant_id = $1 AND endpoint_id = $2";
        execute(transaction, delete, &[&tenant.get(), &id.get()]).await?;
        insert_subscriptions(transaction, &after).await?;
    }
    if let Some((secret, key)) = &change.key {
        secrets::give_key(transaction, tenant, id, *secret, key).await?;
    }
    audit::write(transaction, tenant, by, Action::EndpointChanged, subject(id)).await?;
    Ok(Some(after))
}

pub(super) async fn delete(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    id: EndpointId,
    by: &By,
) -> Result<bool> {
    let parameters: Parameters<'_> = &[&tenant.get(), &id.get(), &by.at.as_micros()];
    let deleted = execute(transaction, sql!("delete_endpoint"), parameters).await? > 0;
    if deleted {
        audit::write(transaction, tenant, by, Action::EndpointDeleted, subject(id)).await?;
    }
    Ok(deleted)
}

/// Deactivates an endpoint as its receiver asked; `false` where it is inactive, and stays as it is.
pub(super) async fn deactivate(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    id: EndpointId,
    by: &By,
) -> Result<bool> {
    let parameters: Parameters<'_> = &[&tenant.get(), &id.get(), &by.at.as_micros()];
    let deactivated = execute(transaction, sql!("deactivate_endpoint"), parameters).await? > 0;
    if deactivated {
        audit::write(transaction, tenant, by, Action::EndpointDeactivated, subject(id)).await?;
    }
    Ok(deactivated)
}

pub(super) async fn find(
    client: &impl GenericClient,
    tenant: TenantId,
    id: EndpointId,
) -> Result<Option<Endpoint>> {
    first(client, sql!("select_endpoint"), &[&tenant.get(), &id.get()], read_endpoint).await
}

pub(super) async fn page(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &EndpointQuery,
) -> Result<Page<Endpoint>> {
    let (tenant, contains) = (tenant.get(), query.target_contains.as_deref().map(text));
    let count = one(client, sql!("count_endpoints"), &[&tenant, &contains], number).await?;
    let (limit, offset) = (i64::from(query.limit), i64::try_from(query.offset).unwrap_or(i64::MAX));
    let select = format!("{}{} LIMIT $3 OFFSET $4", sql!("select_endpoints"), order_by(query));
    let parameters: Parameters<'_> = &[&tenant, &contains, &limit, &offset];
    let items = all(client, &select, parameters, read_endpoint).await?;
    Ok(Page { count: u64::try_from(count).unwrap_or(0), items })
}

pub(super) async fn directory(
    client: &impl GenericClient,
    tenant: TenantId,
) -> Result<Vec<DirectoryEntry>> {
    let select = concat!(sql!("select_endpoints"), "ORDER BY id");
    let endpoints = all(client, select, &[&tenant.get(), &None::<&str>], read_endpoint).await?;
    let mut secrets = HashMap::<EndpointId, Vec<_>>::new();
    for (endpoint, secret) in secrets::live_of_tenant(client, tenant).await? {
        secrets.entry(endpoint).or_default().push(secret);
    }
    let entry = |endpoint: Endpoint| {
        let secrets = secrets.remove(&endpoint.id).unwrap_or_default();
        DirectoryEntry { endpoint, secrets }
    };
    Ok(endpoints.into_iter().map(entry).collect())
}

/// Writes back what may change of an endpoint, its subscriptions apart.
pub(super) async fn save(transaction: &Transaction<'_>, endpoint: &Endpoint) -> Result<()> {
    let row: Parameters<'_> = &[
        &endpoint.tenant.get(),
        &endpoint.id.get(),
        &endpoint.updated_at.as_micros(),
        &endpoint.is_active,
        &endpoint.ssl_cert_verification,
        &endpoint.target.as_str(),
        &endpoint.description.as_bytes(),
        &algorithms_text(endpoint.signature_algorithms),
    ];
    match execute(transaction, sql!("update_endpoint"), row).await? {
        1 => Ok(()),
        _ => Err(StoreError::Inconsistent(format!("endpoint {} vanished", endpoint.id))),
    }
}

/// How the audit log names an endpoint.
pub(super) fn subject(id: EndpointId) -> String {
    format!("endpoint:{id}")
}

async fn insert_subscriptions(transaction: &Transaction<'_>, endpoint: &Endpoint) -> Result<()> {
    let of = |subscription: &Subscription| subscription.event_type.as_str().to_owned();
    let names: Vec<String> = endpoint.subscriptions.iter().map(of).collect();
    let times: Vec<i64> =
        endpoint.subscriptions.iter().map(|kept| kept.added_at.as_micros()).collect();
    let parameters: Parameters<'_> = &[&endpoint.tenant.get(), &endpoint.id.get(), &names, &times];
    execute(transaction, sql!("insert_subscriptions"), parameters).await?;
    Ok(())
}

fn order_by(query: &EndpointQuery) -> String {
    let mut order = String::from("ORDER BY ");
    for by in &query.ordering {
        order.push_str(match by.field {
            EndpointField::CreatedAt => "created_at",
            EndpointField::UpdatedAt => "updated_at",
            EndpointField::IsActive => "is_active",
        });
        order.push_str(if by.descending { " DESC, " } else { " ASC, " });
    }
    order + "id ASC"
}

fn read_endpoint(row: &Row) -> Result<Endpoint> {
    let target: String = get(row, "target")?;
    Ok(Endpoint {
        id: EndpointId::new(get(row, "id")?),
        tenant: TenantId::new(get(row, "tenant_id")?),
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        is_active: get(row, "is_active")?,
        target: Target::parse(&target).map_err(|_| corrupt("target", target))?,
        description: words(row, "description")?,
        subscriptions: read_subscriptions(row)?,
        ssl_cert_verification: get(row, "ssl_cert_verification")?,
        signature_algorithms: algorithms_from(get(row, "signature_algorithms")?)?,
    })
}

fn read_subscriptions(row: &Row) -> Result<Vec<Subscription>> {
    let names: Vec<&str> = get(row, "event_types")?;
    let times: Vec<i64> = get(row, "added_at")?;
    let read = |(name, added_at): (&str, i64)| {
        let event_type = EventType::parse(name).map_err(|_| corrupt("event_type", name))?;
        let added_at = postrider_kernel::Timestamp::from_micros(added_at);
        Ok(Subscription { event_type, added_at })
    };
    names.into_iter().zip(times).map(read).collect()
}
