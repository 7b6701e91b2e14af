//! The store in one SQLite file: the default, and enough for most.
//!
//! One connection writes, and many callers share its commits ([`crate::group_commit`]); a few others read. A second
//! process, the command line, may write the same file at the same time: each write takes SQLite's lock first, and
//! identifiers come from blocks that are kept in the file.
//!
//! This file opens the store and says which verb is where; the verbs are in the files beside it, each a function over a
//! connection, and their statements in `sql/`.

mod accounts;
pub(crate) mod archive;
mod attempts;
mod audit;
mod catalogue;
mod connect;
mod deliveries;
mod endpoints;
mod events;
mod ids;
mod migrate;
mod purge;
mod query;
mod readers;
mod sealed;
mod secrets;
mod writer;

use std::{
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use postrider_kernel::{
    DeliveryId, EndpointId, EventId, EventType, SecretId, TenantId, Timestamp, TokenId, UserId,
};
use rusqlite::Connection;

pub use self::archive::{back_up, key_check_of, restore};
use self::{
    connect::Durability,
    migrate::MIGRATIONS,
    query::{first, number},
    readers::Readers,
    writer::{Totals, Writer},
};
use crate::{
    Attempt, AttemptQuery, AttemptRecord, AuditEntry, By, CatalogueEntry, Claim, ClaimLimit,
    DirectoryEntry, Endpoint, EndpointChange, EndpointQuery, GraceEnded, IdKind, Lease,
    NewEndpoint, NewSecret, NewTenant, NewToken, NewUser, Page, Publication, Published, Purge,
    Recorded, Renamed, Resend, Resent, Result, Sealed, SealedAt, Store, StoreError, StoredEvent,
    StoredSecret, Tenant, Token, User, UserChange, UserUpdated, group_commit::GroupCommit,
};

/// Two handles of one process must not open a new file at the same moment: see [`connect`] on locks.
static OPENING: Mutex<()> = Mutex::new(());

/// The store in one SQLite file. Dropping it runs what has queued, and waits for the last commit.
pub struct SqliteStore {
    // Readers are dropped before the writer: the last connection to close puts the log back into the file.
    readers: Readers,
    writer: GroupCommit<Writer>,
    /// SQLite's count of other processes' commits, when it was last asked.
    seen_version: AtomicI64,
    /// How far a purge has walked over old events.
    walked_to: AtomicI64,
}

impl SqliteStore {
    /// Opens the file, which is made (readable by its owner alone) where there is none, and brings it to the newest
    /// schema.
    ///
    /// Refuses a file whose schema is newer than this version, or isn't one that it made, with a text that says what to
    /// do; answers [`StoreError::Unavailable`] when the file can't be opened or written.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Durability::Disk)
    }

    /// Brings a file, which is made where there is none, to the newest schema, and answers the steps that this took. Refuses
    /// what [`SqliteStore::open`] refuses.
    pub fn migrate(path: &Path) -> Result<Vec<&'static str>> {
        let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connection = Writer::open(path, Durability::Disk)?.connection;
        connect::settle_log(&connection)?;
        migrate::migrate(&mut connection, MIGRATIONS)
    }

    fn open_with(path: &Path, durability: Durability) -> Result<Self> {
        let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writer = Writer::open(path, durability)?;
        connect::settle_log(&writer.connection)?;
        migrate::migrate(&mut writer.connection, MIGRATIONS)?;
        let seen_version = AtomicI64::new(data_version(&writer.connection)?);
        let readers = Readers::open(path)?;
        let no_thread = |error| StoreError::Unavailable(format!("no thread to write: {error}"));
        let writer = GroupCommit::start(writer).map_err(no_thread)?;
        Ok(Self { readers, writer, seen_version, walked_to: AtomicI64::new(0) })
    }

    /// Runs a verb that writes, in a transaction that it may share.
    async fn write<T, F>(&self, mut work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection, &mut Totals) -> Result<T> + Send + 'static,
    {
        self.writer.run(move |writer, totals| work(&writer.connection, totals)).await
    }

    /// Runs a verb that reads.
    async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.writer.check()?;
        self.readers.read(work).await
    }
}

/// A number that moves when another connection commits.
fn data_version(connection: &Connection) -> Result<i64> {
    first(connection, "PRAGMA data_version", [], number)?
        .ok_or_else(|| StoreError::Inconsistent("the file has no version".into()))
}

#[async_trait]
impl Store for SqliteStore {
    async fn keep_key_check(&self, check: Vec<u8>) -> Result<Vec<u8>> {
        self.write(move |c, _| ids::keep_key_check(c, &check)).await
    }

    async fn key_check(&self) -> Result<Option<Vec<u8>>> {
        self.read(sealed::key_check).await
    }

    async fn replace_key_check(&self, old: Vec<u8>, new: Vec<u8>, by: By) -> Result<bool> {
        self.write(move |c, _| sealed::replace_key_check(c, &old, &new, &by)).await
    }

    async fn sealed_otherwise(
        &self,
        head: Vec<u8>,
        after: Option<SealedAt>,
        limit: u32,
    ) -> Result<Vec<(SealedAt, Sealed)>> {
        self.read(move |c| sealed::otherwise(c, &head, after, limit)).await
    }

    async fn reseal(&self, at: SealedAt, old: Sealed, new: Sealed) -> Result<bool> {
        self.write(move |c, _| sealed::reseal(c, at, &old, &new)).await
    }

    async fn reserve_ids(&self, kind: IdKind, count: u32) -> Result<Range<i64>> {
        self.write(move |c, _| ids::reserve(c, kind, count)).await
    }

    /// Asked on the connection that writes, since commits of one's own don't count; remembered here, since a
    /// transaction that is rolled back and run again must not forget.
    async fn changed_elsewhere(&self) -> Result<bool> {
        let version = self.write(|c, _| data_version(c)).await?;
        Ok(self.seen_version.swap(version, Ordering::SeqCst) != version)
    }

    async fn check_health(&self) -> Result<()> {
        match self.read(|c| migrate::check_history(c, MIGRATIONS)).await?.missing {
            0 => Ok(()),
            missing => Err(StoreError::Inconsistent(format!("{missing} migrations are missing"))),
        }
    }

    async fn broke(&self) -> StoreError {
        self.writer.broke().await
    }

    async fn begin_life(&self) -> Result<Lease> {
        self.write(|c, _| deliveries::begin_life(c)).await
    }

    async fn create_tenant(&self, tenant: NewTenant, by: By) -> Result<bool> {
        self.write(move |c, _| accounts::create_tenant(c, &tenant, &by)).await
    }

    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>> {
        self.read(move |c| accounts::tenant(c, id)).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>> {
        self.read(accounts::tenants).await
    }

    async fn set_jwt_secret(&self, tenant: TenantId, secret: Sealed, by: By) -> Result<bool> {
        self.write(move |c, _| accounts::set_jwt_secret(c, tenant, &secret, &by)).await
    }

    async fn rename_tenant(&self, tenant: TenantId, name: &str, by: By) -> Result<Renamed> {
        let name = name.to_owned();
        self.write(move |c, _| accounts::rename_tenant(c, tenant, &name, &by)).await
    }

    async fn create_user(&self, user: NewUser, by: By) -> Result<bool> {
        self.write(move |c, _| accounts::create_user(c, &user, &by)).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        self.read(move |c| accounts::user(c, id)).await
    }

    async fn users(&self, tenant: TenantId) -> Result<Vec<User>> {
        self.read(move |c| accounts::users(c, tenant)).await
    }

    async fn disable_user(&self, tenant: TenantId, name: &str, by: By) -> Result<bool> {
        let name = name.to_owned();
        self.write(move |c, _| accounts::disable_user(c, tenant, &name, &by)).await
    }

    async fn update_user(
        &self,
        tenant: TenantId,
        id: UserId,
        change: UserChange,
        by: By,
    ) -> Result<UserUpdated> {
        self.write(move |c, _| accounts::update_user(c, tenant, id, change.clone(), &by)).await
    }

    async fn create_token(&self, token: NewToken, by: By) -> Result<()> {
        self.write(move |c, _| accounts::create_token(c, &token, &by)).await
    }

    async fn token_by_hash(&self, hash: [u8; 32]) -> Result<Option<Token>> {
        self.read(move |c| accounts::token_by_hash(c, &hash)).await
    }

    async fn tokens(&self, tenant: TenantId) -> Result<Vec<Token>> {
        self.read(move |c| accounts::tokens(c, tenant)).await
    }

    async fn revoke_token(&self, tenant: TenantId, id: TokenId, by: By) -> Result<bool> {
        self.write(move |c, _| accounts::revoke_token(c, tenant, id, &by)).await
    }

    async fn add_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        description: String,
        by: By,
    ) -> Result<Option<CatalogueEntry>> {
        self.write(move |c, _| catalogue::add(c, tenant, &event_type, &description, &by)).await
    }

    async fn retire_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        by: By,
    ) -> Result<bool> {
        self.write(move |c, _| catalogue::retire(c, tenant, &event_type, &by)).await
    }

    async fn event_types(&self, tenant: TenantId) -> Result<Vec<CatalogueEntry>> {
        self.read(move |c| catalogue::of_tenant(c, tenant)).await
    }

    async fn create_endpoint(&self, endpoint: NewEndpoint, by: By) -> Result<Endpoint> {
        self.write(move |c, _| endpoints::create(c, &endpoint, &by)).await
    }

    async fn update_endpoint(
        &self,
        tenant: TenantId,
        id: EndpointId,
        change: EndpointChange,
        by: By,
    ) -> Result<Option<Endpoint>> {
        self.write(move |c, _| endpoints::update(c, tenant, id, &change, &by)).await
    }

    async fn delete_endpoint(&self, tenant: TenantId, id: EndpointId, by: By) -> Result<bool> {
        self.write(move |c, _| endpoints::delete(c, tenant, id, &by)).await
    }

    async fn endpoint(&self, tenant: TenantId, id: EndpointId) -> Result<Option<Endpoint>> {
        self.read(move |c| endpoints::find(c, tenant, id)).await
    }

    async fn endpoints(&self, tenant: TenantId, query: EndpointQuery) -> Result<Page<Endpoint>> {
        self.read(move |c| endpoints::page(c, tenant, &query)).await
    }

    async fn directory(&self, tenant: TenantId) -> Result<Vec<DirectoryEntry>> {
        self.read(move |c| endpoints::directory(c, tenant)).await
    }

    async fn reveal_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        by: By,
    ) -> Result<Option<StoredSecret>> {
        self.write(move |c, _| secrets::reveal(c, tenant, endpoint, &by)).await
    }

    async fn secrets(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
    ) -> Result<Option<Vec<StoredSecret>>> {
        self.read(move |c| secrets::of_endpoint(c, tenant, endpoint)).await
    }

    async fn end_grace(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: SecretId,
        by: By,
    ) -> Result<GraceEnded> {
        self.write(move |c, _| secrets::end_one_grace(c, tenant, endpoint, secret, &by)).await
    }

    async fn expire_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: NewSecret,
        grace: Option<Duration>,
        by: By,
    ) -> Result<Option<Endpoint>> {
        self.write(move |c, _| secrets::expire_current(c, tenant, endpoint, &secret, grace, &by))
            .await
    }

    async fn publish(&self, publication: Publication) -> Result<Published> {
        self.write(move |c, _| events::publish(c, &publication)).await
    }

    async fn publish_all(&self, publications: Vec<Publication>) -> Result<Published> {
        self.write(move |c, _| events::publish_all(c, &publications)).await
    }

    async fn resend(&self, resend: Resend, by: By) -> Result<Resent> {
        self.write(move |c, _| events::resend(c, &resend, &by)).await
    }

    async fn claim_due(
        &self,
        endpoint: EndpointId,
        now: Timestamp,
        limit: ClaimLimit,
        lease: Lease,
    ) -> Result<Claim> {
        self.write(move |c, _| deliveries::claim_due(c, endpoint, now, limit, lease)).await
    }

    async fn earliest_due(&self) -> Result<Vec<(TenantId, EndpointId, Timestamp)>> {
        self.read(deliveries::earliest_due).await
    }

    async fn earliest_due_of(&self, endpoint: EndpointId) -> Result<Option<Timestamp>> {
        self.read(move |c| deliveries::earliest_due_of(c, endpoint)).await
    }

    async fn record_all(&self, attempts: Arc<[AttemptRecord]>) -> Result<Vec<Recorded>> {
        let record_each = move |c: &Connection, totals: &mut Totals| {
            attempts.iter().map(|attempt| deliveries::record(c, totals, attempt)).collect()
        };
        self.write(record_each).await
    }

    async fn give_back(&self, deliveries: Vec<DeliveryId>, lease: Lease) -> Result<()> {
        self.write(move |c, _| deliveries::give_back(c, &deliveries, lease)).await
    }

    async fn bring_forward(&self, now: Timestamp, by: Duration) -> Result<()> {
        self.write(move |c, _| deliveries::bring_forward(c, now, by)).await
    }

    async fn attempts(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        query: AttemptQuery,
    ) -> Result<Page<Attempt>> {
        self.read(move |c| attempts::page(c, tenant, endpoint, &query)).await
    }

    async fn event(
        &self,
        tenant: TenantId,
        id: EventId,
        limit: u32,
    ) -> Result<Option<StoredEvent>> {
        self.read(move |c| events::find(c, tenant, id, limit)).await
    }

    async fn known_events(&self, tenant: TenantId, events: Vec<EventId>) -> Result<Vec<EventId>> {
        self.read(move |c| events::known(c, tenant, &events)).await
    }

    async fn purge(&self, purge: Purge, limit: u32) -> Result<u64> {
        let walked_to = self.walked_to.load(Ordering::SeqCst);
        let found = self.read(move |c| purge::look(c, &purge, limit, walked_to)).await?;
        let walked_to = found.walked_to;
        let dropped =
            self.write(move |c, totals| purge::drop_found(c, totals, &purge, &found)).await?;
        self.walked_to.store(walked_to, Ordering::SeqCst);
        Ok(dropped)
    }

    async fn audit(&self, tenant: TenantId) -> Result<Vec<AuditEntry>> {
        self.read(move |c| audit::of_tenant(c, tenant)).await
    }
}

#[cfg(test)]
mod tests;
