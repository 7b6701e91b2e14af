//! Where Postrider keeps what it promised.
//!
//! [`Store`] is the seam: its verbs are each one transaction, and a verb that answers `Ok` has been committed to disk.
//! [`sqlite`] keeps everything in one file, for one process; [`postgres`] is shared by many nodes; [`memory`] is the
//! model, simple enough to be believed, that tests hold the others against. `conformance` is the one suite that every
//! store passes.
//!
//! Nothing here decides: what follows an attempt, which secrets sign, when to retry, all that is the kernel's. Nothing
//! here encrypts: what must not be read arrives [`Sealed`].
#![forbid(unsafe_code)]

mod archive;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod group_commit;
mod history;
pub mod memory;
mod model;
pub mod postgres;
pub mod sqlite;

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use postrider_kernel::{
    EndpointId, EventId, EventType, Role, SecretId, TenantId, Timestamp, TokenId, UserId,
};
use thiserror::Error;

pub use model::*;

/// What a verb answers.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why a verb did nothing: nothing of it was kept, or, in one case, nobody knows.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The store can't write or read right now: the disk is full, an IO error, shutting down. Worth another try later.
    /// At the other end of a connection the answer to a commit may have got lost: then it was kept all the same.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The disk failed in a way after which nobody knows what is on it, though a later write may succeed. From then on the
    /// store answers nothing but this: only another start, which reads what is there, knows.
    #[error(
        "the disk could not keep what was written ({0}), so that nobody knows what is on it: check the disk and the system's \
         log, then start Postrider again, which goes on from what is there"
    )]
    Broken(String),
    /// What is stored contradicts itself, or the caller did: a fault of ours that no other try will mend.
    #[error("the store is inconsistent: {0}")]
    Inconsistent(String),
}

/// The verbs. Each is one transaction; those that read see all that was answered before they were called.
///
/// A verb that names a tenant sees nothing of another one: what belongs to somebody else is as if it weren't there.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    // ---- the instance ----

    /// Keeps the master key's check value if none is kept yet; answers the one that is kept.
    async fn keep_key_check(&self, check: Vec<u8>) -> Result<Vec<u8>>;

    /// The master key's check value, once one is kept.
    async fn key_check(&self) -> Result<Option<Vec<u8>>>;

    /// Keeps the check value `new` instead of `old`, and writes that to every tenant's audit log; `false` when another one
    /// than `old` is kept.
    async fn replace_key_check(&self, old: Vec<u8>, new: Vec<u8>, by: By) -> Result<bool>;

    /// Up to `limit` ciphertexts that don't begin with `head`, those after a place, in the order of their places. Every
    /// column that holds a ciphertext is among them.
    async fn sealed_otherwise(
        &self,
        head: Vec<u8>,
        after: Option<SealedAt>,
        limit: u32,
    ) -> Result<Vec<(SealedAt, Sealed)>>;

    /// Puts a ciphertext of the same text in the place of `old`; `false` when another one, or none, is there by now.
    async fn reseal(&self, at: SealedAt, old: Sealed, new: Sealed) -> Result<bool>;

    /// Hands out `count` (at least 1) identifiers of a kind that nobody was or will be handed again.
    async fn reserve_ids(&self, kind: IdKind, count: u32) -> Result<Range<i64>>;

    /// Whether another process has changed the store since this was last asked (or, at first, since it was opened).
    async fn changed_elsewhere(&self) -> Result<bool>;

    /// Whether the store can be read and its schema is current.
    async fn check_health(&self) -> Result<()>;

    /// Waits until the store is [`StoreError::Broken`], and answers how.
    async fn broke(&self) -> StoreError {
        std::future::pending().await
    }

    // ---- lives: who works on this store ----
    //
    // What has a default is for a store that one process at a time holds alone; only where many nodes share a store do
    // they need to hear of each other.

    /// Begins a life of the server: what dead lives had leased is pending again, due when it was. Answers the lease under
    /// which this life claims and records; it may not sign yet. A store that one process holds alone takes every earlier
    /// life for dead; on a shared one those are that ended, or didn't renew their lease for [`LEASE`].
    async fn begin_life(&self) -> Result<Lease>;

    /// Keeps a life's lease for another [`LEASE`] from now, and its right to sign for another [`SIGNING`] if it hasn't
    /// lost that meanwhile, or knows the directory's current version: `applied` is the one that it signs by and, its gate
    /// drained, by no older one.
    async fn renew(&self, lease: Lease, applied: Version) -> Result<Renewal> {
        let _ = lease;
        Ok(Renewal::Held { version: applied, now: None, may_sign: true })
    }

    /// Whether every other life that may sign has applied that version, or a younger one.
    async fn is_applied_elsewhere(&self, version: Version, except: Lease) -> Result<bool> {
        let _ = (version, except);
        Ok(true)
    }

    /// Ends a life that signs no more: what it had leased is pending again, due when it was, and nobody waits for it.
    async fn end_life(&self, lease: Lease) -> Result<()> {
        let _ = lease;
        Ok(())
    }

    /// Makes what dead lives had leased pending again, due when it was; answers whether there was anything.
    async fn take_over(&self) -> Result<bool> {
        Ok(false)
    }

    /// Waits until another node has news for this one, and answers them. A call that is dropped loses none.
    async fn next_news(&self) -> News {
        std::future::pending().await
    }

    /// The directory's current version. Whoever reads the directory anew asks for this *before* reading the rest.
    async fn directory_version(&self) -> Result<Version> {
        Ok(Version(0))
    }

    // ---- tenants, users, tokens ----

    /// Makes a tenant with its catalogue; `false` when the name is taken.
    async fn create_tenant(&self, tenant: NewTenant, by: By) -> Result<bool>;

    /// One tenant.
    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>>;

    /// Every tenant, by id.
    async fn tenants(&self) -> Result<Vec<Tenant>>;

    /// Replaces a tenant's JWT secret; `false` when there is no such tenant.
    async fn set_jwt_secret(&self, tenant: TenantId, secret: Sealed, by: By) -> Result<bool>;

    /// Gives a tenant another name; one that it has already is no change.
    async fn rename_tenant(&self, tenant: TenantId, name: &str, by: By) -> Result<Renamed>;

    /// Makes a user; `false` when the name is taken, by whichever tenant.
    async fn create_user(&self, user: NewUser, by: By) -> Result<bool>;

    /// A user, of whichever tenant.
    async fn user(&self, id: UserId) -> Result<Option<User>>;

    /// A tenant's users, by id.
    async fn users(&self, tenant: TenantId) -> Result<Vec<User>>;

    /// Disables a tenant's user, whose credentials then stop counting; `false` when there is no such user.
    async fn disable_user(&self, tenant: TenantId, name: &str, by: By) -> Result<bool>;

    /// Changes a tenant's user, unless that would leave the tenant without an administrator and the change is not to.
    async fn update_user(
        &self,
        tenant: TenantId,
        id: UserId,
        change: UserChange,
        by: By,
    ) -> Result<UserUpdated>;

    /// Makes a token. Its user, if any, is of the same tenant.
    async fn create_token(&self, token: NewToken, by: By) -> Result<()>;

    /// The token with that hash, of whichever tenant, revoked and expired ones included.
    async fn token_by_hash(&self, hash: [u8; 32]) -> Result<Option<Token>>;

    /// A tenant's tokens, by id.
    async fn tokens(&self, tenant: TenantId) -> Result<Vec<Token>>;

    /// Revokes a tenant's token; `false` when there is no such token, or it was revoked before.
    async fn revoke_token(&self, tenant: TenantId, id: TokenId, by: By) -> Result<bool>;

    // ---- the catalogue ----

    /// Adds an event type at the end of a tenant's catalogue, or offers a retired one again where it stood;
    /// `None` when it is already offered.
    async fn add_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        description: String,
        by: By,
    ) -> Result<Option<CatalogueEntry>>;

    /// Retires an event type; `false` when it is not offered.
    async fn retire_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        by: By,
    ) -> Result<bool>;

    /// A tenant's whole catalogue, retired types included, in catalogue order.
    async fn event_types(&self, tenant: TenantId) -> Result<Vec<CatalogueEntry>>;

    // ---- endpoints and their secrets ----

    /// Makes an endpoint with its first secret.
    async fn create_endpoint(&self, endpoint: NewEndpoint, by: By) -> Result<Endpoint>;

    /// Changes an endpoint; a subscription that stays keeps its `added_at`. `None` when there is no such endpoint.
    async fn update_endpoint(
        &self,
        tenant: TenantId,
        id: EndpointId,
        change: EndpointChange,
        by: By,
    ) -> Result<Option<Endpoint>>;

    /// Marks an endpoint deleted: from then on no verb shows it, and nothing of it is claimed. Its rows are purged
    /// later. `false` when there is no such endpoint.
    async fn delete_endpoint(&self, tenant: TenantId, id: EndpointId, by: By) -> Result<bool>;

    /// One endpoint.
    async fn endpoint(&self, tenant: TenantId, id: EndpointId) -> Result<Option<Endpoint>>;

    /// A page of a tenant's endpoints.
    async fn endpoints(&self, tenant: TenantId, query: EndpointQuery) -> Result<Page<Endpoint>>;

    /// All of a tenant's endpoints with their live secrets, by id: what the directory is made of.
    async fn directory(&self, tenant: TenantId) -> Result<Vec<DirectoryEntry>>;

    /// Reads an endpoint's current secret, and writes to the audit log that it was revealed.
    async fn reveal_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        by: By,
    ) -> Result<Option<StoredSecret>>;

    /// An endpoint's secrets that are not expired, the current one first, then those in grace, newest first; `None` when
    /// there is no such endpoint.
    async fn secrets(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
    ) -> Result<Option<Vec<StoredSecret>>>;

    /// Ends one secret's grace, if [`postrider_kernel::secret::end_grace`] lets it at `by.at`, and wipes its ciphertext.
    async fn end_grace(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: SecretId,
        by: By,
    ) -> Result<GraceEnded>;

    /// Makes `secret` the current one and expires the older ones as [`postrider_kernel::secret::expire`] decides with
    /// that grace at `by.at`; the ciphertext of those that sign no more is wiped. `None` when there is no such endpoint.
    async fn expire_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: NewSecret,
        grace: Option<std::time::Duration>,
        by: By,
    ) -> Result<Option<Endpoint>>;

    // ---- events and deliveries ----

    /// Keeps an event and all that it is owed to.
    async fn publish(&self, publication: Publication) -> Result<Published>;

    /// Keeps many events and all that they are owed to: all of them or none. None of them carries an idempotency key.
    /// They are [`Published::Fresh`], or [`Published::Stale`].
    async fn publish_all(&self, publications: Vec<Publication>) -> Result<Published>;

    /// Owes old events to an endpoint once more, due at `by.at`: all of them or none.
    async fn resend(&self, resend: Resend, by: By) -> Result<Resent>;

    /// Leases pending deliveries of one endpoint that are due at `now`, the earliest first, up to a limit. Answers none
    /// when the endpoint is inactive or deleted. Looks at this endpoint's deliveries alone.
    async fn claim_due(
        &self,
        endpoint: EndpointId,
        now: Timestamp,
        limit: ClaimLimit,
        lease: Lease,
    ) -> Result<Claim>;

    /// For each endpoint, active or not, that has pending deliveries: when the earliest is due.
    async fn earliest_due(&self) -> Result<Vec<(TenantId, EndpointId, Timestamp)>>;

    /// When one endpoint's earliest pending delivery is due.
    async fn earliest_due_of(&self, endpoint: EndpointId) -> Result<Option<Timestamp>>;

    /// Writes an attempt and its delivery's next state, and deactivates the endpoint where the settlement says so.
    /// Changes nothing when the lease was lost.
    async fn record(&self, attempt: AttemptRecord) -> Result<Recorded> {
        let recorded = self.record_all([attempt].into()).await?;
        let unanswered = || StoreError::Inconsistent("an attempt got no answer".into());
        recorded.first().copied().ok_or_else(unanswered)
    }

    /// Does what [`Store::record`] does for many attempts, in their order: all of them or, on an error, none.
    async fn record_all(&self, attempts: Arc<[AttemptRecord]>) -> Result<Vec<Recorded>>;

    /// Gives leased deliveries back untried: they are pending again, due when they were. Those whose lease was lost are
    /// left alone.
    async fn give_back(
        &self,
        deliveries: Vec<postrider_kernel::DeliveryId>,
        lease: Lease,
    ) -> Result<()>;

    /// Has what is pending, and due after `now`, be due so much earlier, but no earlier than `now`: the wall clock by which
    /// it was put off has been set back. May be done by every node that noticed.
    async fn bring_forward(&self, now: Timestamp, by: std::time::Duration) -> Result<()>;

    /// A page of an endpoint's attempts; empty for an endpoint that isn't there.
    async fn attempts(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        query: AttemptQuery,
    ) -> Result<Page<Attempt>>;

    /// One event, with up to `limit` of its deliveries.
    async fn event(&self, tenant: TenantId, id: EventId, limit: u32)
    -> Result<Option<StoredEvent>>;

    /// Which of these events a tenant has.
    async fn known_events(&self, tenant: TenantId, events: Vec<EventId>) -> Result<Vec<EventId>>;

    // ---- upkeep ----

    /// Drops up to about `limit` rows of what is no longer kept, as [`Purge`] says. Call until it answers zero.
    async fn purge(&self, purge: Purge, limit: u32) -> Result<u64>;

    /// A tenant's audit log, oldest first.
    async fn audit(&self, tenant: TenantId) -> Result<Vec<AuditEntry>>;

    /// A page of a tenant's audit log. There is no verb that changes a line or takes one away before its time.
    async fn audit_page(&self, tenant: TenantId, query: AuditQuery) -> Result<Page<AuditEntry>>;

    /// Writes a line of something that changes nothing else.
    async fn write_audit(
        &self,
        tenant: TenantId,
        action: Action,
        subject: String,
        by: By,
    ) -> Result<()>;
}

/// The kinds of identifiers that are handed out in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdKind {
    /// Tenants.
    Tenant,
    /// Users.
    User,
    /// API tokens.
    Token,
    /// Endpoints.
    Endpoint,
    /// Signing secrets.
    Secret,
    /// Events.
    Event,
    /// Deliveries.
    Delivery,
    /// Attempts.
    Attempt,
    /// Lines of the audit log.
    Audit,
    /// Lives of the server.
    Life,
}

impl IdKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Tenant,
        Self::User,
        Self::Token,
        Self::Endpoint,
        Self::Secret,
        Self::Event,
        Self::Delivery,
        Self::Attempt,
        Self::Audit,
        Self::Life,
    ];

    /// The name under which the store keeps the next free identifier.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Token => "token",
            Self::Endpoint => "endpoint",
            Self::Secret => "secret",
            Self::Event => "event",
            Self::Delivery => "delivery",
            Self::Attempt => "attempt",
            Self::Audit => "audit",
            Self::Life => "life",
        }
    }
}

/// A role's column, read back.
pub(crate) fn role_from(text: &str) -> Result<Role> {
    Role::parse(text).ok_or_else(|| StoreError::Inconsistent(format!("unknown role {text}")))
}
