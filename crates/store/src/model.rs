//! The values that the verbs take and give.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use postrider_kernel::{
    AttemptId, AuditId, Created, DeliveryId, EndpointId, EventId, EventType, Failure, Next, Role,
    SecretId, Target, TenantId, Timestamp, TokenId, Trigger, UserId, delivery::Status,
    secret::Standing, signature::SignatureAlgorithms,
};

use crate::StoreError;

/// A ciphertext: what is inside, the store can't read.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Which of the store's ciphertexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealedAt {
    /// What is sealed.
    pub kind: SealedKind,
    /// Whose it is.
    pub tenant: TenantId,
    /// The identifier of its row.
    pub id: i64,
}

/// What is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SealedKind {
    /// A tenant's JWT secret; its row is the tenant's.
    JwtSecret,
    /// A signing secret.
    Secret,
    /// The key that stands beside one; its row is the secret's.
    Key,
}

impl SealedKind {
    /// Its number in statements.
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::JwtSecret => 0,
            Self::Secret => 1,
            Self::Key => 2,
        }
    }

    pub(crate) fn of_number(number: i64) -> Result<Self, StoreError> {
        let kinds = [Self::JwtSecret, Self::Secret, Self::Key];
        let kind = kinds.into_iter().find(|kind| kind.number() == number);
        kind.ok_or_else(|| StoreError::Inconsistent(format!("unknown kind {number}")))
    }
}

/// Who asks for a change, from where, and when: a line of the audit log, and the time that the change carries.
#[derive(Clone, Debug)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// From which address, if over the network.
    pub address: Option<IpAddr>,
    /// When.
    pub at: Timestamp,
}

/// Who can change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A user, by a JWT.
    User(UserId),
    /// An API token.
    Token(TokenId),
    /// The command line, by somebody who can read the data directory.
    CommandLine,
    /// The service itself.
    Service,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Token(id) => write!(f, "token:{id}"),
            Self::CommandLine => f.write_str("command-line"),
            Self::Service => f.write_str("service"),
        }
    }
}

/// What the audit log tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A tenant was made.
    TenantCreated,
    /// A tenant's JWT secret was replaced.
    JwtSecretReplaced,
    /// The instance's master key was rotated.
    MasterKeyRotated,
    /// A user was made.
    UserCreated,
    /// A tenant was given another name.
    TenantRenamed,
    /// A user's role or password was changed, or it was enabled again.
    UserChanged,
    /// A user was disabled.
    UserDisabled,
    /// A token was made.
    TokenCreated,
    /// A token was revoked.
    TokenRevoked,
    /// An event type was added or offered again.
    EventTypeAdded,
    /// An event type was retired.
    EventTypeRetired,
    /// An endpoint was made.
    EndpointCreated,
    /// An endpoint was changed.
    EndpointChanged,
    /// An endpoint was deactivated by its receiver's 410.
    EndpointDeactivated,
    /// An endpoint was deleted.
    EndpointDeleted,
    /// A signing secret was shown.
    SecretRevealed,
    /// A signing secret was expired.
    SecretExpired,
    /// A signing secret was brought along, and took the place of the one before.
    SecretBrought,
    /// A grace was ended before its time.
    GraceEnded,
    /// Events were sent again.
    Resent,
    /// A wrong password was given.
    LoginFailed,
}

impl Action {
    /// The name in the store and, later, the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TenantCreated => "tenant_created",
            Self::JwtSecretReplaced => "jwt_secret_replaced",
            Self::MasterKeyRotated => "master_key_rotated",
            Self::UserCreated => "user_created",
            Self::TenantRenamed => "tenant_renamed",
            Self::UserChanged => "user_changed",
            Self::UserDisabled => "user_disabled",
            Self::TokenCreated => "token_created",
            Self::TokenRevoked => "token_revoked",
            Self::EventTypeAdded => "event_type_added",
            Self::EventTypeRetired => "event_type_retired",
            Self::EndpointCreated => "endpoint_created",
            Self::EndpointChanged => "endpoint_changed",
            Self::EndpointDeactivated => "endpoint_deactivated",
            Self::EndpointDeleted => "endpoint_deleted",
            Self::SecretRevealed => "secret_revealed",
            Self::SecretExpired => "secret_expired",
            Self::SecretBrought => "secret_brought",
            Self::GraceEnded => "grace_ended",
            Self::Resent => "resent",
            Self::LoginFailed => "login_failed",
        }
    }
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its identifier.
    pub id: AuditId,
    /// When it happened.
    pub at: Timestamp,
    /// Who did it, as [`Actor`] prints.
    pub actor: String,
    /// From which address.
    pub address: Option<String>,
    /// What was done, as [`Action::as_str`] names it.
    pub action: String,
    /// To what: `endpoint:7`, `token:3`, `event_type:post.created`.
    pub subject: String,
}

/// Which lines of an audit log to list.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Only what was done under this name, as [`Action::as_str`] has it.
    pub action: Option<String>,
    /// Only what this one did, as [`Actor`] prints.
    pub actor: Option<String>,
    /// Only what was done then or later.
    pub since: Option<Timestamp>,
    /// Only what was done before then.
    pub until: Option<Timestamp>,
    /// Whether the latest comes first. Lines of one moment are in the order in which they were written.
    pub descending: bool,
    /// At most so many.
    pub limit: u32,
    /// After so many.
    pub offset: u64,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its identifier.
    pub id: TenantId,
    /// Its name, unique in the instance.
    pub name: String,
    /// What its JWTs are signed with, encrypted.
    pub jwt_secret: Sealed,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A tenant to make; its identifier was reserved, since the encryption is bound to it.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Its reserved identifier.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// What its JWTs are signed with, encrypted.
    pub jwt_secret: Sealed,
    /// Its event types with their descriptions, in order.
    pub catalogue: Vec<(EventType, String)>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its identifier, unique in the instance.
    pub id: UserId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name, unique in the instance.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The argon2 hash of its password, in PHC form.
    pub password_hash: String,
    /// Whether its credentials count.
    pub is_active: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A user to make.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Its reserved identifier.
    pub id: UserId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The argon2 hash of its password, in PHC form.
    pub password_hash: String,
}

impl User {
    /// Whether it counts, and manages its tenant.
    fn administers(&self) -> bool {
        self.is_active && matches!(self.role, Role::Operator | Role::Admin)
    }
}

/// What is to change of a user; what is `None` stays.
#[derive(Clone, Default)]
pub struct UserChange {
    /// What it may do.
    pub role: Option<Role>,
    /// The argon2 hash of its new password, in PHC form.
    pub password_hash: Option<String>,
    /// Whether its credentials count.
    pub is_active: Option<bool>,
    /// Refuse what would leave the tenant without an active user who manages it.
    pub keeps_an_admin: bool,
}

/// What became of a user that was to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserUpdated {
    /// It is so now.
    Done(User),
    /// The tenant has no such user.
    NoUser,
    /// It is the last active one who manages the tenant; nothing was changed.
    LastAdmin,
}

impl UserChange {
    /// What becomes of one of a tenant's users, and what the audit log tells of it.
    pub(crate) fn apply(self, users: &[User], id: UserId) -> (UserUpdated, Vec<Action>) {
        let Some(before) = users.iter().find(|user| user.id == id) else {
            return (UserUpdated::NoUser, Vec::new());
        };
        let after = User {
            role: self.role.unwrap_or(before.role),
            password_hash: self.password_hash.unwrap_or_else(|| before.password_hash.clone()),
            is_active: self.is_active.unwrap_or(before.is_active),
            ..before.clone()
        };
        let others_administer = || users.iter().any(|user| user.id != id && user.administers());
        let resigns = before.administers() && !after.administers();
        if self.keeps_an_admin && resigns && !others_administer() {
            return (UserUpdated::LastAdmin, Vec::new());
        }
        let is_disabled = before.is_active && !after.is_active;
        let is_changed = User { is_active: after.is_active, ..before.clone() } != after
            || (after.is_active && !before.is_active);
        let disabled = is_disabled.then_some(Action::UserDisabled);
        let actions = disabled.into_iter().chain(is_changed.then_some(Action::UserChanged));
        (UserUpdated::Done(after), actions.collect())
    }
}

/// What became of a tenant that was to have another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// It has that name.
    Done,
    /// There is no such tenant.
    NoTenant,
    /// Another one has that name.
    NameTaken,
}

/// An API token, without the token itself: that is kept as a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its identifier.
    pub id: TokenId,
    /// Its tenant.
    pub tenant: TenantId,
    /// The user on whose behalf it acts.
    pub user: Option<UserId>,
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops counting.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A token to make.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its reserved identifier.
    pub id: TokenId,
    /// Its tenant.
    pub tenant: TenantId,
    /// The user on whose behalf it acts.
    pub user: Option<UserId>,
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// When it stops counting.
    pub expires_at: Option<Timestamp>,
}

/// An event type in a tenant's catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// Its name.
    pub event_type: EventType,
    /// What it means; may be empty.
    pub description: String,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was retired: no longer offered, still publishable.
    pub retired_at: Option<Timestamp>,
}

/// An event type that an endpoint enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Which one.
    pub event_type: EventType,
    /// Since when.
    pub added_at: Timestamp,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its identifier.
    pub id: EndpointId,
    /// Its tenant.
    pub tenant: TenantId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed, or its secret expired.
    pub updated_at: Timestamp,
    /// Whether it is owed new events, and what it is owed is attempted.
    pub is_active: bool,
    /// Where its requests go.
    pub target: Target,
    /// The admin's own words.
    pub description: String,
    /// What it enabled, in the order in which the admin wrote it.
    pub subscriptions: Vec<Subscription>,
    /// Whether its certificate is checked.
    pub ssl_cert_verification: bool,
    /// Which kinds of signature it asked for.
    pub signature_algorithms: SignatureAlgorithms,
}

/// How the algorithms are kept: their names, separated by a space.
pub(crate) fn algorithms_text(algorithms: SignatureAlgorithms) -> String {
    algorithms.names().join(" ")
}

/// The algorithms, read back.
pub(crate) fn algorithms_from(text: &str) -> Result<SignatureAlgorithms, StoreError> {
    SignatureAlgorithms::of_names(text.split(' '))
        .ok_or_else(|| StoreError::Inconsistent(format!("unknown signature algorithms {text}")))
}

impl Endpoint {
    /// This endpoint after a change: a field that the change leaves out stays, and a subscription that stays keeps its
    /// time.
    pub(crate) fn changed(&self, change: &EndpointChange, at: Timestamp) -> Self {
        let keep = |event_type: &EventType| {
            let known = self.subscriptions.iter().find(|known| known.event_type == *event_type);
            let added = || Subscription { event_type: event_type.clone(), added_at: at };
            known.cloned().unwrap_or_else(added)
        };
        let subscriptions = match &change.event_types {
            Some(event_types) => event_types.iter().map(keep).collect(),
            None => self.subscriptions.clone(),
        };
        Self {
            updated_at: at,
            is_active: change.is_active.unwrap_or(self.is_active),
            target: change.target.clone().unwrap_or_else(|| self.target.clone()),
            description: change.description.clone().unwrap_or_else(|| self.description.clone()),
            subscriptions,
            ssl_cert_verification: change
                .ssl_cert_verification
                .unwrap_or(self.ssl_cert_verification),
            signature_algorithms: change.signature_algorithms.unwrap_or(self.signature_algorithms),
            ..*self
        }
    }
}

/// An endpoint to make.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    /// Its reserved identifier.
    pub id: EndpointId,
    /// Its tenant.
    pub tenant: TenantId,
    /// See [`Endpoint::is_active`].
    pub is_active: bool,
    /// See [`Endpoint::target`].
    pub target: Target,
    /// See [`Endpoint::description`].
    pub description: String,
    /// What it enables, in order, without repetitions.
    pub event_types: Vec<EventType>,
    /// See [`Endpoint::ssl_cert_verification`].
    pub ssl_cert_verification: bool,
    /// See [`Endpoint::signature_algorithms`].
    pub signature_algorithms: SignatureAlgorithms,
    /// Its first signing secret.
    pub secret: NewSecret,
}

/// What to change of an endpoint; `None` leaves a field as it is. Even an empty change moves `updated_at`.
#[derive(Clone, Debug, Default)]
pub struct EndpointChange {
    /// See [`Endpoint::is_active`].
    pub is_active: Option<bool>,
    /// See [`Endpoint::target`].
    pub target: Option<Target>,
    /// See [`Endpoint::description`].
    pub description: Option<String>,
    /// The new set of event types, in order, without repetitions.
    pub event_types: Option<Vec<EventType>>,
    /// See [`Endpoint::ssl_cert_verification`].
    pub ssl_cert_verification: Option<bool>,
    /// See [`Endpoint::signature_algorithms`].
    pub signature_algorithms: Option<SignatureAlgorithms>,
    /// A key for the secret of that identifier, encrypted, if it still signs and has none.
    pub key: Option<(SecretId, Sealed)>,
}

/// A signing secret to keep.
#[derive(Clone, Debug)]
pub struct NewSecret {
    /// Its reserved identifier.
    pub id: SecretId,
    /// Its text, encrypted.
    pub sealed: Sealed,
    /// The Ed25519 key that stands beside it, encrypted.
    pub sealed_key: Option<Sealed>,
    /// Whether a client brought it along, or else the service made it: the audit log tells which.
    pub is_brought: bool,
}

impl NewSecret {
    /// How the audit log names that it took the place of the one before.
    pub(crate) const fn action(&self) -> Action {
        if self.is_brought { Action::SecretBrought } else { Action::SecretExpired }
    }
}

/// A signing secret that may still sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSecret {
    /// Its identifier.
    pub id: SecretId,
    /// Its text, encrypted.
    pub sealed: Sealed,
    /// The Ed25519 key that stands beside it, encrypted; one that was made before there were such keys has none.
    pub sealed_key: Option<Sealed>,
    /// Whether and until when it signs.
    pub standing: Standing,
    /// When it was made or brought.
    pub created_at: Timestamp,
}

/// Which secrets there are and how they stand, for the kernel to decide on.
pub(crate) fn standings(secrets: &[StoredSecret]) -> Vec<(SecretId, Standing)> {
    secrets.iter().map(|secret| (secret.id, secret.standing)).collect()
}

/// What came of ending a grace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraceEnded {
    /// The secret signs no more, and its ciphertext is wiped.
    Done(Endpoint),
    /// The secret is the current one; nothing was changed.
    IsCurrent,
    /// The tenant has no such endpoint, or that has no such secret in a grace that runs.
    Unknown,
}

/// An endpoint and what signs for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Its secrets that are not expired, newest first.
    pub secrets: Vec<StoredSecret>,
}

/// A field to order by, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderBy<F> {
    /// The field.
    pub field: F,
    /// Whether the greatest comes first.
    pub descending: bool,
}

/// What endpoints are ordered by; ties break by id, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointField {
    /// [`Endpoint::created_at`].
    CreatedAt,
    /// [`Endpoint::updated_at`].
    UpdatedAt,
    /// [`Endpoint::is_active`]; false before true.
    IsActive,
}

/// Which endpoints to list.
#[derive(Clone, Debug)]
pub struct EndpointQuery {
    /// Only those whose target contains this text, folding ASCII case.
    pub target_contains: Option<String>,
    /// In which order.
    pub ordering: Vec<OrderBy<EndpointField>>,
    /// At most so many.
    pub limit: u32,
    /// After so many.
    pub offset: u64,
}

/// What attempts are ordered by; ties break by id, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptField {
    /// [`Attempt::sent_at`], which is when the attempt came to be.
    SentAt,
    /// [`Attempt::next_retry`]; none comes last ascending, first descending.
    NextRetry,
}

/// Which attempts to list.
#[derive(Clone, Debug)]
pub struct AttemptQuery {
    /// In which order.
    pub ordering: Vec<OrderBy<AttemptField>>,
    /// At most so many.
    pub limit: u32,
    /// After so many.
    pub offset: u64,
}

/// A part of a list, and how long the whole is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// How many there are in all; exact.
    pub count: u64,
    /// The part that was asked for.
    pub items: Vec<T>,
}

/// The right to attempt deliveries, and the fence against whoever lost it: one per life of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease(pub i64);

/// For how long a renewal keeps a lease. Whoever holds it counts from before it asked, by a clock that nobody sets, and
/// stops a margin earlier.
pub const LEASE: Duration = Duration::from_secs(10);

/// For how long a renewal gives the right to sign; counted as [`LEASE`] is.
pub const SIGNING: Duration = Duration::from_secs(1);

/// How often what a directory, or a cache of credentials, is made of had been changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub i64);

/// What became of a lease that was to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It holds.
    Held {
        /// The directory's current version.
        version: Version,
        /// The time that due times are measured by; `None` where that is this machine's own.
        now: Option<Timestamp>,
        /// Whether this life may sign, for [`SIGNING`].
        may_sign: bool,
    },
    /// Others have, or may have, taken over what it held: it attempts nothing more, and a new life begins.
    Lost,
}

/// What one node tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// What a directory is made of was changed.
    Directory,
    /// Of these endpoints deliveries are pending and due that whoever made them so may not attempt.
    Due(Vec<(TenantId, EndpointId)>),
    /// The store was out of reach and is back, or there was too much to tell: anything may have changed or be due.
    LookAgain,
}

/// An event to keep, with all that it is owed to.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Its reserved identifier, which the payload contains.
    pub event: EventId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its type.
    pub event_type: EventType,
    /// When it happened.
    pub created: Created,
    /// When it was accepted; its deliveries are due from then on.
    pub accepted_at: Timestamp,
    /// What is signed and sent.
    pub payload: Bytes,
    /// To whom it is owed.
    pub deliveries: Vec<NewDelivery>,
    /// The lease of those deliveries that begin leased.
    pub lease: Lease,
    /// Makes a repeat harmless.
    pub idempotency: Option<IdempotencyKey>,
    /// The version of the directory that chose to whom it is owed.
    pub directory: Version,
}

/// A delivery to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// Its reserved identifier.
    pub id: DeliveryId,
    /// To whom.
    pub endpoint: EndpointId,
    /// Whether it begins leased, because the publisher has room to attempt it at once; else it begins pending.
    pub leased: bool,
}

/// A publisher's own name for a request, unique in its tenant for a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The publisher's text.
    pub key: String,
    /// SHA-256 of the request's body.
    pub request_hash: [u8; 32],
    /// A key that was kept before then no longer counts.
    pub not_before: Timestamp,
}

/// What a publish came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Published {
    /// The event was kept.
    Fresh,
    /// An earlier request with this key and body was kept; nothing was added.
    Repeat(PublishAnswer),
    /// An earlier request with this key had another body; nothing was added.
    KeyReused,
    /// The directory that chose to whom it is owed is older than the store's; nothing was added. Read it anew, and choose
    /// again.
    Stale,
}

/// What the publisher of an event is told.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishAnswer {
    /// The event's identifier.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// When it happened.
    pub created: Created,
    /// To how many endpoints it is owed.
    pub endpoint_count: u32,
}

/// Old events to owe to an endpoint once more.
#[derive(Clone, Debug)]
pub struct Resend {
    /// Whose events and endpoint.
    pub tenant: TenantId,
    /// To whom.
    pub endpoint: EndpointId,
    /// Each event, and the reserved identifier of its new delivery.
    pub events: Vec<(EventId, DeliveryId)>,
}

/// What a resend came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resent {
    /// All are owed.
    Done,
    /// The tenant has no such endpoint.
    NoEndpoint,
    /// The endpoint is inactive.
    Inactive,
    /// The tenant has no such event; the first in the order asked.
    UnknownEvent(EventId),
}

/// How much a claim takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimLimit {
    /// At most so many deliveries.
    pub count: u32,
    /// Of at most so many payload bytes together; but one delivery is taken however large it is, or it would never be.
    pub bytes: usize,
}

impl ClaimLimit {
    /// A limit of deliveries alone.
    pub const fn count(count: u32) -> Self {
        Self { count, bytes: usize::MAX }
    }
}

/// What a claim came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The deliveries that are now leased.
    pub deliveries: Vec<ClaimedDelivery>,
    /// When the endpoint's earliest delivery that is still pending is due.
    pub next_due: Option<Timestamp>,
}

/// A delivery that may be attempted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedDelivery {
    /// Its identifier.
    pub id: DeliveryId,
    /// Whose it is.
    pub tenant: TenantId,
    /// To whom it is owed.
    pub endpoint: EndpointId,
    /// What is owed.
    pub event: EventId,
    /// What is signed and sent.
    pub payload: Bytes,
    /// Why it exists.
    pub trigger: Trigger,
    /// How many tries it has had.
    pub attempts_made: u32,
    /// Under which it is leased.
    pub lease: Lease,
}

/// An attempt to write down, and what became of its delivery.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// Its reserved identifier.
    pub id: AttemptId,
    /// Whose it is.
    pub tenant: TenantId,
    /// To whom.
    pub endpoint: EndpointId,
    /// What was sent.
    pub event: EventId,
    /// For which delivery.
    pub delivery: DeliveryId,
    /// Under which lease.
    pub lease: Lease,
    /// Which try of the delivery this was, from 1.
    pub attempt_number: u32,
    /// Why the delivery exists.
    pub trigger: Trigger,
    /// When it was signed, or, where it did not get that far, begun.
    pub sent_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// The address that was dialled, `127.0.0.1:9000`.
    pub peer_address: Option<String>,
    /// The timestamped list's header; empty when nothing was signed.
    pub signature: String,
    /// The status code and body that came, or why none did.
    pub response: std::result::Result<(u16, Vec<u8>), Failure>,
    /// When the try ended: the time of the settlement.
    pub settled_at: Timestamp,
    /// What becomes of the delivery.
    pub next: Next,
    /// Whether the endpoint is deactivated with it.
    pub deactivates_endpoint: bool,
}

impl AttemptRecord {
    /// What its delivery is from then on.
    pub(crate) fn status(&self) -> Status {
        match self.next {
            Next::Delivered => Status::Delivered,
            Next::Retry(_) => Status::Pending,
            Next::Failed => Status::Failed,
        }
    }

    /// When its delivery ended, if it did: no sooner than its last attempt was sent, even if the clock was set back between
    /// the two. A purge relies on it, that attempts are gone before their event.
    pub(crate) fn finished_at(&self) -> Option<Timestamp> {
        let is_over = self.next.retry_at().is_none();
        is_over.then(|| self.settled_at.max(self.sent_at))
    }
}

/// What a record came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is written.
    Done,
    /// Somebody else holds the delivery, or its endpoint is gone; nothing was written.
    LeaseLost,
}

/// An attempt as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Its identifier.
    pub id: AttemptId,
    /// The event it carried.
    pub event: EventId,
    /// That event's type.
    pub event_type: EventType,
    /// When that event was accepted.
    pub accepted_at: Timestamp,
    /// The delivery it belonged to.
    pub delivery: DeliveryId,
    /// Which try of the delivery this was, from 1.
    pub attempt_number: u32,
    /// Why the delivery exists.
    pub trigger: Trigger,
    /// When it was signed, or, where it did not get that far, begun.
    pub sent_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// What was sent, byte for byte.
    pub payload: Bytes,
    /// The timestamped list's header.
    pub signature: String,
    /// The address that was dialled.
    pub peer_address: Option<String>,
    /// The status code and body that came, or why none did.
    pub response: std::result::Result<(u16, Vec<u8>), Failure>,
    /// When the delivery was to be tried again, as settled after this attempt.
    pub next_retry: Option<Timestamp>,
}

/// An event as it was accepted, with what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its identifier.
    pub id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// What is sent of it, byte for byte.
    pub payload: Bytes,
    /// The first of its deliveries, by id: those to endpoints that aren't deleted, and that are still kept.
    pub deliveries: Page<StoredDelivery>,
}

/// A delivery, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Its identifier.
    pub id: DeliveryId,
    /// The endpoint to which the event is owed.
    pub endpoint: EndpointId,
    /// Where it stands.
    pub status: Status,
    /// Why it exists.
    pub trigger: Trigger,
    /// How many tries it took so far.
    pub attempts_made: u32,
    /// When it came to be.
    pub created_at: Timestamp,
    /// While it is pending: when it is to be tried.
    pub due_at: Option<Timestamp>,
    /// Once it has ended: when it did.
    pub finished_at: Option<Timestamp>,
}

/// What is no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Attempts sent before then go; so do deliveries that ended before then, and events accepted before then that no
    /// delivery refers to any more.
    pub attempts_before: Timestamp,
    /// Idempotency keys kept before then go.
    pub idempotency_before: Timestamp,
    /// Of endpoints that were deleted before then everything but the audit log goes, what was owed to them included.
    pub deleted_before: Timestamp,
    /// Secrets whose grace ran out before then are wiped.
    pub grace_before: Timestamp,
    /// Lines of the audit log that were written before then go.
    pub audit_before: Timestamp,
}
