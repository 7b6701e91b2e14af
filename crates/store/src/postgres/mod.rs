//! The store on one Postgres that many nodes share.
//!
//! What many callers do at once, publish and record, shares commits ([`writer`]); everything else is a statement or a
//! transaction of its own, on a connection of a pool. No connection is held between two verbs, but the one on which other
//! nodes are heard.
//!
//! This file opens the store and says which verb is where; the verbs are in the files beside it, each a function over a
//! connection, and their statements in `sql/`.

mod accounts;
mod archive;
mod attempts;
mod audit;
mod catalogue;
mod connect;
mod deliveries;
mod endpoints;
mod events;
mod ids;
mod migrate;
mod news;
mod nodes;
mod publish;
mod purge;
mod query;
mod record;
mod sealed;
mod secrets;
#[cfg(any(test, feature = "conformance"))]
pub mod testing;
mod tls;

mod version;
mod writer;

use std::{ops::Range, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use deadpool_postgres::{Client, Pool};
use postrider_kernel::{
    DeliveryId, EndpointId, EventId, EventType, SecretId, TenantId, Timestamp, TokenId, UserId,
};
use tokio::task::JoinHandle;

pub use self::migrate::Migrated;
use self::{
    connect::Address,
    migrate::MIGRATIONS,
    news::{Inbox, Outbox, Told},
    purge::Walk,
    query::{get, one},
    version::{Change, Changes, Seen},
    writer::{WRITERS, Writers},
};
use crate::{
    Action, Attempt, AttemptQuery, AttemptRecord, AuditEntry, AuditQuery, By, CatalogueEntry,
    Claim, ClaimLimit, DirectoryEntry, Endpoint, EndpointChange, EndpointQuery, GraceEnded, IdKind,
    Lease, NewEndpoint, NewSecret, NewTenant, NewToken, NewUser, News, Page, Publication,
    Published, Purge, Recorded, Renamed, Renewal, Resend, Resent, Result, Sealed, SealedAt, Store,
    StoreError, StoredEvent, StoredSecret, Tenant, Token, User, UserChange, UserUpdated, Version,
};

/// How many connections everything but the writers has.
const CONNECTIONS: usize = 6;

/// How many connections renewals have: however much else is asked, a lease is renewed in time.
const RENEWAL_CONNECTIONS: usize = 1;

/// The store on one Postgres. Dropping it runs what has queued, and waits for nothing.
pub struct PostgresStore {
    pool: Pool,
    renewals: Pool,
    writers: Writers,
    seen: Seen,
    inbox: Arc<Inbox>,
    /// Those who hear and tell, for as long as the store lives.
    tasks: [JoinHandle<()>; 2],
    walk: Walk,
    /// What this handle is called among those that tell each other news.
    sender: String,
}

impl PostgresStore {
    /// Connects to a database by its URL, `postgres://user:password@host:5432/database?sslmode=verify-full`, and brings it
    /// to the newest schema, as far as that takes nothing from nodes of older versions that live. `sslmode` is `disable`, `prefer` (without one), `require`, `verify-ca` or `verify-full`;
    /// `sslrootcert` names a file of certificates to trust instead of the system's.
    ///
    /// Refuses a database whose schema is newer than this version, or isn't one that it made, with a text that says what
    /// to do; answers [`StoreError::Unavailable`] when the server can't be reached or refuses the connection.
    pub async fn open(url: &str) -> Result<Self> {
        let address = Address::parse(url)?;
        let pool = address.pool(CONNECTIONS)?;
        let renewals = address.pool(RENEWAL_CONNECTIONS)?;
        let mut client = pool.get().await?;
        migrate::migrate(&mut client, MIGRATIONS).await?;
        let name = "SELECT gen_random_uuid()::text AS name";
        let sender: String = one(&client, name, &[], |row| get(row, "name")).await?;
        let inbox = Arc::new(Inbox::default());
        let ear = news::listen(address.clone(), sender.clone(), inbox.clone()).await?;
        let seen = Seen::new(version::current(&client).await?);
        drop(client);
        let (outbox, teller) = Outbox::open(pool.clone(), sender.clone());
        let writing = address.pool(usize::from(WRITERS.unsigned_abs()))?;
        let writers = Writers::start(&writing, &outbox);
        let walk = Walk::default();
        Ok(Self { pool, renewals, writers, seen, inbox, tasks: [ear, teller], walk, sender })
    }

    /// Brings a database to the newest schema, and answers the steps that this took, and how many wait until the nodes of
    /// older versions have ended. Refuses what [`PostgresStore::open`] refuses.
    pub async fn migrate(url: &str) -> Result<Migrated> {
        let pool = Address::parse(url)?.pool(1)?;
        migrate::migrate(&mut pool.get().await?, MIGRATIONS).await
    }

    /// How many steps a database lacks to the newest schema; makes nothing. Refuses what [`PostgresStore::open`] refuses.
    pub async fn missing_migrations(url: &str) -> Result<usize> {
        let pool = Address::parse(url)?.pool(1)?;
        migrate::count_missing(&pool.get().await?, MIGRATIONS).await
    }

    /// Writes a backup to a new file, consistent as of one moment, while nodes serve.
    ///
    /// # Errors
    /// When a file stands there, or can't be written, or the database can't be read.
    pub async fn back_up(&self, file: &Path) -> Result<()> {
        let mut client = self.client().await?;
        match migrate::check_history(&client, MIGRATIONS).await?.beyond {
            0 => archive::back_up(&mut client, file).await,
            _ => Err(StoreError::Unavailable(
                "the schema is newer than this version's, which would leave something out; use the newer version".into(),
            )),
        }
    }

    /// Fills this database, which must be empty, from a backup of either engine: all of it or nothing.
    ///
    /// # Errors
    /// When the database isn't empty, or the file is no backup.
    pub async fn restore(&self, file: &Path) -> Result<()> {
        archive::restore(&mut self.client().await?, file).await
    }

    async fn client(&self) -> Result<Client> {
        Ok(self.pool.get().await?)
    }

    /// Commits a change of the directory; where nothing of that was changed, its version stays.
    async fn commit<T: Changes>(&self, change: Change<'_>, answer: T) -> Result<T> {
        match answer.has_changed() {
            true => self.seen.made(change.commit(&self.sender).await?),
            false => change.commit_unchanged().await?,
        }
        Ok(answer)
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Runs a verb that reads.
macro_rules! read {
    ($store:ident, $verb:path $(, $argument:expr)*) => {{
        let client = $store.client().await?;
        $verb(&client $(, $argument)*).await
    }};
}

/// Runs a verb that changes what a directory, or a cache of credentials, is made of.
macro_rules! change {
    ($store:ident, $verb:path $(, $argument:expr)*) => {{
        let mut client = $store.client().await?;
        let change = Change::begin(&mut client).await?;
        let answer = $verb(&change.transaction $(, $argument)*).await?;
        $store.commit(change, answer).await
    }};
}

/// Runs a verb that writes in a transaction of its own.
macro_rules! transact {
    ($store:ident, $verb:path $(, $argument:expr)*) => {{
        let mut client = $store.client().await?;
        let transaction = client.transaction().await?;
        let answer = $verb(&transaction $(, $argument)*).await?;
        transaction.commit().await?;
        Ok(answer)
    }};
}

#[async_trait]
impl Store for PostgresStore {
    async fn keep_key_check(&self, check: Vec<u8>) -> Result<Vec<u8>> {
        read!(self, ids::keep_key_check, &check)
    }

    async fn key_check(&self) -> Result<Option<Vec<u8>>> {
        read!(self, sealed::key_check)
    }

    async fn replace_key_check(&self, old: Vec<u8>, new: Vec<u8>, by: By) -> Result<bool> {
        change!(self, sealed::replace_key_check, &old, &new, &by)
    }

    async fn sealed_otherwise(
        &self,
        head: Vec<u8>,
        after: Option<SealedAt>,
        limit: u32,
    ) -> Result<Vec<(SealedAt, Sealed)>> {
        read!(self, sealed::otherwise, &head, after, limit)
    }

    async fn reseal(&self, at: SealedAt, old: Sealed, new: Sealed) -> Result<bool> {
        read!(self, sealed::reseal, at, &old, &new)
    }

    async fn reserve_ids(&self, kind: IdKind, count: u32) -> Result<Range<i64>> {
        read!(self, ids::reserve, kind, count)
    }

    /// Whether somebody else changed what a directory is made of; what nodes do all the time doesn't count.
    async fn changed_elsewhere(&self) -> Result<bool> {
        Ok(self.seen.see(self.directory_version().await?))
    }

    async fn check_health(&self) -> Result<()> {
        let client = self.client().await?;
        migrate::check_usable(&client, MIGRATIONS).await
    }

    async fn begin_life(&self) -> Result<Lease> {
        nodes::begin(&mut self.client().await?, &self.sender).await
    }

    async fn renew(&self, lease: Lease, applied: Version) -> Result<Renewal> {
        nodes::renew(&mut self.renewals.get().await?, lease, applied).await
    }

    async fn is_applied_elsewhere(&self, version: Version, except: Lease) -> Result<bool> {
        nodes::is_applied_elsewhere(&mut self.client().await?, version, except).await
    }

    async fn end_life(&self, lease: Lease) -> Result<()> {
        nodes::end(&mut self.client().await?, lease, &self.sender).await
    }

    async fn take_over(&self) -> Result<bool> {
        nodes::take_over(&mut self.client().await?, &self.sender).await
    }

    async fn next_news(&self) -> News {
        self.inbox.next().await
    }

    async fn directory_version(&self) -> Result<Version> {
        read!(self, version::current)
    }

    async fn create_tenant(&self, tenant: NewTenant, by: By) -> Result<bool> {
        change!(self, accounts::create_tenant, &tenant, &by)
    }

    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>> {
        read!(self, accounts::tenant, id)
    }

    async fn tenants(&self) -> Result<Vec<Tenant>> {
        read!(self, accounts::tenants)
    }

    async fn set_jwt_secret(&self, tenant: TenantId, secret: Sealed, by: By) -> Result<bool> {
        change!(self, accounts::set_jwt_secret, tenant, &secret, &by)
    }

    async fn rename_tenant(&self, tenant: TenantId, name: &str, by: By) -> Result<Renamed> {
        change!(self, accounts::rename_tenant, tenant, name, &by)
    }

    async fn create_user(&self, user: NewUser, by: By) -> Result<bool> {
        change!(self, accounts::create_user, &user, &by)
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        read!(self, accounts::user, id)
    }

    async fn users(&self, tenant: TenantId) -> Result<Vec<User>> {
        read!(self, accounts::users, tenant)
    }

    async fn disable_user(&self, tenant: TenantId, name: &str, by: By) -> Result<bool> {
        change!(self, accounts::disable_user, tenant, name, &by)
    }

    async fn update_user(
        &self,
        tenant: TenantId,
        id: UserId,
        change: UserChange,
        by: By,
    ) -> Result<UserUpdated> {
        change!(self, accounts::update_user, tenant, id, change, &by)
    }

    async fn create_token(&self, token: NewToken, by: By) -> Result<()> {
        change!(self, accounts::create_token, &token, &by)
    }

    async fn token_by_hash(&self, hash: [u8; 32]) -> Result<Option<Token>> {
        read!(self, accounts::token_by_hash, &hash)
    }

    async fn tokens(&self, tenant: TenantId) -> Result<Vec<Token>> {
        read!(self, accounts::tokens, tenant)
    }

    async fn revoke_token(&self, tenant: TenantId, id: TokenId, by: By) -> Result<bool> {
        change!(self, accounts::revoke_token, tenant, id, &by)
    }

    async fn add_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        description: String,
        by: By,
    ) -> Result<Option<CatalogueEntry>> {
        change!(self, catalogue::add, tenant, &event_type, &description, &by)
    }

    async fn retire_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        by: By,
    ) -> Result<bool> {
        change!(self, catalogue::retire, tenant, &event_type, &by)
    }

    async fn event_types(&self, tenant: TenantId) -> Result<Vec<CatalogueEntry>> {
        read!(self, catalogue::of_tenant, tenant)
    }

    async fn create_endpoint(&self, endpoint: NewEndpoint, by: By) -> Result<Endpoint> {
        change!(self, endpoints::create, &endpoint, &by)
    }

    async fn update_endpoint(
        &self,
        tenant: TenantId,
        id: EndpointId,
        change: EndpointChange,
        by: By,
    ) -> Result<Option<Endpoint>> {
        change!(self, endpoints::update, tenant, id, &change, &by)
    }

    async fn delete_endpoint(&self, tenant: TenantId, id: EndpointId, by: By) -> Result<bool> {
        change!(self, endpoints::delete, tenant, id, &by)
    }

    async fn endpoint(&self, tenant: TenantId, id: EndpointId) -> Result<Option<Endpoint>> {
        read!(self, endpoints::find, tenant, id)
    }

    async fn endpoints(&self, tenant: TenantId, query: EndpointQuery) -> Result<Page<Endpoint>> {
        read!(self, endpoints::page, tenant, &query)
    }

    async fn directory(&self, tenant: TenantId) -> Result<Vec<DirectoryEntry>> {
        read!(self, endpoints::directory, tenant)
    }

    async fn reveal_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        by: By,
    ) -> Result<Option<StoredSecret>> {
        transact!(self, secrets::reveal, tenant, endpoint, &by)
    }

    async fn secrets(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
    ) -> Result<Option<Vec<StoredSecret>>> {
        read!(self, secrets::of_endpoint, tenant, endpoint)
    }

    async fn end_grace(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: SecretId,
        by: By,
    ) -> Result<GraceEnded> {
        change!(self, secrets::end_one_grace, tenant, endpoint, secret, &by)
    }

    async fn expire_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: NewSecret,
        grace: Option<Duration>,
        by: By,
    ) -> Result<Option<Endpoint>> {
        change!(self, secrets::expire_current, tenant, endpoint, &secret, grace, &by)
    }

    async fn publish(&self, publication: Publication) -> Result<Published> {
        self.writers.publish(vec![publication]).await
    }

    async fn publish_all(&self, publications: Vec<Publication>) -> Result<Published> {
        if publications.iter().any(|publication| publication.idempotency.is_some()) {
            let refused = "one of many events has an idempotency key";
            return Err(StoreError::Inconsistent(refused.into()));
        }
        if publications.is_empty() {
            return Ok(Published::Fresh);
        }
        self.writers.publish(publications).await
    }

    async fn resend(&self, resend: Resend, by: By) -> Result<Resent> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await?;
        let resent = events::resend(&transaction, &resend, &by).await?;
        if resent == Resent::Done {
            let due = Told::Due([(resend.tenant, resend.endpoint)].into());
            news::tell(&transaction, &self.sender, &due).await?;
        }
        transaction.commit().await?;
        Ok(resent)
    }

    async fn claim_due(
        &self,
        endpoint: EndpointId,
        now: Timestamp,
        limit: ClaimLimit,
        lease: Lease,
    ) -> Result<Claim> {
        read!(self, deliveries::claim_due, endpoint, now, limit, lease)
    }

    async fn earliest_due(&self) -> Result<Vec<(TenantId, EndpointId, Timestamp)>> {
        read!(self, deliveries::earliest_due)
    }

    async fn earliest_due_of(&self, endpoint: EndpointId) -> Result<Option<Timestamp>> {
        read!(self, deliveries::earliest_due_of, endpoint)
    }

    async fn record_all(&self, attempts: Arc<[AttemptRecord]>) -> Result<Vec<Recorded>> {
        if !attempts.iter().any(|attempt| attempt.deactivates_endpoint) {
            return self.writers.record(attempts).await;
        }
        let deactivating: Result<_> = change!(self, record::write_and_deactivate, &attempts);
        Ok(deactivating?.recorded)
    }

    async fn give_back(&self, deliveries: Vec<DeliveryId>, lease: Lease) -> Result<()> {
        read!(self, deliveries::give_back, &deliveries, lease)
    }

    async fn bring_forward(&self, now: Timestamp, by: Duration) -> Result<()> {
        read!(self, deliveries::bring_forward, now, by)
    }

    async fn attempts(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        query: AttemptQuery,
    ) -> Result<Page<Attempt>> {
        read!(self, attempts::page, tenant, endpoint, &query)
    }

    async fn event(
        &self,
        tenant: TenantId,
        id: EventId,
        limit: u32,
    ) -> Result<Option<StoredEvent>> {
        read!(self, events::find, tenant, id, limit)
    }

    async fn known_events(&self, tenant: TenantId, events: Vec<EventId>) -> Result<Vec<EventId>> {
        read!(self, events::known, tenant, &events)
    }

    async fn purge(&self, purge: Purge, limit: u32) -> Result<u64> {
        let mut client = self.client().await?;
        purge::purge(&mut client, &purge, limit, &self.walk).await
    }

    async fn audit_page(&self, tenant: TenantId, query: AuditQuery) -> Result<Page<AuditEntry>> {
        read!(self, audit::page, tenant, &query)
    }

    async fn write_audit(
        &self,
        tenant: TenantId,
        action: Action,
        subject: String,
        by: By,
    ) -> Result<()> {
        transact!(self, audit::write, tenant, &by, action, subject)
    }

    async fn audit(&self, tenant: TenantId) -> Result<Vec<AuditEntry>> {
        read!(self, audit::of_tenant, tenant)
    }
}

#[cfg(test)]
mod tests;
