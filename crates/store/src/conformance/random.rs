//! Long random sequences of verbs, run against the model and another store at once: every answer must be the same.
//!
//! The numbers in a [`Command`] are small, so that commands meet: two tenants, a handful of endpoints and events, half of
//! them another tenant's, deleted, or not there at all. Time moves on by a second with each command.

use std::{fmt::Debug, time::Duration};

use postrider_kernel::{
    DeliveryId, EndpointId, EventId, Next, SecretId, TenantId, TokenId, UserId,
};
use proptest::{collection::vec, option, prelude::*};

use super::{
    World,
    world::{Leased, at, by, event_type, purge_nothing},
};
use crate::{
    AttemptField, AttemptQuery, ClaimLimit, EndpointChange, EndpointField, EndpointQuery, IdKind,
    IdempotencyKey, Lease, NewToken, NewUser, OrderBy, Publication, Purge, Resend, Result,
    StoreError, UserChange,
};

const TYPES: [&str; 3] = ["post.created", "post.deleted", "vote.created"];

#[derive(Clone, Debug)]
pub(crate) enum Command {
    AddType {
        tenant: i64,
        name: usize,
    },
    RetireType {
        tenant: i64,
        name: usize,
    },
    CreateUser {
        tenant: i64,
        name: u8,
    },
    DisableUser {
        tenant: i64,
        name: u8,
    },
    UpdateUser {
        tenant: i64,
        user: i64,
        role: Option<usize>,
        is_active: Option<bool>,
    },
    CreateToken {
        tenant: i64,
        user: Option<i64>,
        hash: u8,
    },
    RevokeToken {
        tenant: i64,
        token: i64,
    },
    CreateEndpoint {
        tenant: i64,
        is_active: bool,
        types: Vec<usize>,
    },
    UpdateEndpoint {
        tenant: i64,
        endpoint: i64,
        is_active: Option<bool>,
        types: Option<Vec<usize>>,
    },
    DeleteEndpoint {
        tenant: i64,
        endpoint: i64,
    },
    Reveal {
        tenant: i64,
        endpoint: i64,
    },
    Expire {
        tenant: i64,
        endpoint: i64,
        grace: Option<u64>,
    },
    EndGrace {
        tenant: i64,
        endpoint: i64,
        secret: i64,
    },
    Publish {
        tenant: i64,
        endpoints: Vec<i64>,
        leased: bool,
        key: Option<(u8, u8, i64)>,
    },
    PublishAll {
        tenant: i64,
        fan_outs: Vec<Vec<i64>>,
        leased: bool,
        /// The last one takes the identifier of this event, if that is there already.
        last_is: Option<i64>,
    },
    Resend {
        tenant: i64,
        endpoint: i64,
        events: Vec<i64>,
    },
    Claim {
        endpoint: i64,
        ahead: i64,
        limit: u32,
        lease: i64,
    },
    Record {
        which: usize,
        lease: i64,
        wait: Option<i64>,
        fails: bool,
        deactivates: bool,
    },
    GiveBack {
        which: usize,
        lease: i64,
    },
    BeginLife,
    Purge {
        attempts: i64,
        keys: i64,
        deleted: i64,
        grace: i64,
    },
    Attempts {
        tenant: i64,
        endpoint: i64,
        ordering: Vec<(bool, bool)>,
        limit: u32,
        offset: u64,
    },
    Endpoints {
        tenant: i64,
        ordering: Vec<(u8, bool)>,
        text: Option<String>,
    },
}

/// Commands, the usual ones more often.
pub(crate) fn commands() -> impl Strategy<Value = Vec<Command>> {
    use Command::*;
    let tenant = || 1..=3_i64;
    let endpoint = || 1..=4_i64;
    let lease = || 1..=2_i64;
    let types = || proptest::sample::subsequence(vec![0_usize, 1, 2], 1..=3).prop_shuffle();
    let name = || 0..TYPES.len();
    let command = prop_oneof![
        1 => (tenant(), name()).prop_map(|(tenant, name)| AddType { tenant, name }),
        1 => (tenant(), name()).prop_map(|(tenant, name)| RetireType { tenant, name }),
        1 => (tenant(), 0..3_u8).prop_map(|(tenant, name)| CreateUser { tenant, name }),
        1 => (tenant(), 0..3_u8).prop_map(|(tenant, name)| DisableUser { tenant, name }),
        1 => (tenant(), 1..4_i64, option::of(0..4_usize), any::<Option<bool>>()).prop_map(
            |(tenant, user, role, is_active)| UpdateUser { tenant, user, role, is_active }
        ),
        1 => (tenant(), option::of(1..3_i64), 0..3_u8)
            .prop_map(|(tenant, user, hash)| CreateToken { tenant, user, hash }),
        1 => (tenant(), 1..4_i64).prop_map(|(tenant, token)| RevokeToken { tenant, token }),
        4 => (1..=2_i64, prop::bool::weighted(0.9), types())
            .prop_map(|(tenant, is_active, types)| CreateEndpoint { tenant, is_active, types }),
        2 => (tenant(), endpoint(), option::of(prop::bool::weighted(0.8)), option::of(types()))
            .prop_map(|(tenant, endpoint, is_active, types)| UpdateEndpoint { tenant, endpoint, is_active, types }),
        1 => (tenant(), endpoint()).prop_map(|(tenant, endpoint)| DeleteEndpoint { tenant, endpoint }),
        1 => (tenant(), endpoint()).prop_map(|(tenant, endpoint)| Reveal { tenant, endpoint }),
        2 => (tenant(), endpoint(), option::of(0..30_u64))
            .prop_map(|(tenant, endpoint, grace)| Expire { tenant, endpoint, grace }),
        1 => (tenant(), endpoint(), 1..8_i64)
            .prop_map(|(tenant, endpoint, secret)| EndGrace { tenant, endpoint, secret }),
        8 => (1..=2_i64, vec(endpoint(), 0..4), any::<bool>(), option::weighted(0.2, (0..2_u8, 0..2_u8, 0..30_i64)))
            .prop_map(|(tenant, endpoints, leased, key)| Publish { tenant, endpoints, leased, key }),
        3 => (1..=2_i64, vec(vec(endpoint(), 0..3), 0..4), any::<bool>(), option::weighted(0.2, 1..30_i64))
            .prop_map(|(tenant, fan_outs, leased, last_is)| PublishAll { tenant, fan_outs, leased, last_is }),
        2 => (tenant(), endpoint(), vec(1..8_i64, 0..3))
            .prop_map(|(tenant, endpoint, events)| Resend { tenant, endpoint, events }),
        8 => (endpoint(), -3..20_i64, 0..4_u32, lease())
            .prop_map(|(endpoint, ahead, limit, lease)| Claim { endpoint, ahead, limit, lease }),
        12 => (any::<prop::sample::Index>(), lease(), option::of(0..9_i64), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(which, lease, wait, fails, deactivates)| {
                Record { which: which.index(64), lease, wait, fails, deactivates }
            }),
        1 => (0..64_usize, lease()).prop_map(|(which, lease)| GiveBack { which, lease }),
        1 => Just(BeginLife),
        2 => (0..40_i64, 0..40_i64, 0..40_i64, 0..40_i64)
            .prop_map(|(attempts, keys, deleted, grace)| Purge { attempts, keys, deleted, grace }),
        4 => (tenant(), endpoint(), vec(any::<(bool, bool)>(), 0..3), 0..5_u32, 0..4_u64)
            .prop_map(|(tenant, endpoint, ordering, limit, offset)| {
                Attempts { tenant, endpoint, ordering, limit, offset }
            }),
        2 => (tenant(), vec((0..3_u8, any::<bool>()), 0..3), option::of("[RZ.]"))
            .prop_map(|(tenant, ordering, text)| Endpoints { tenant, ordering, text }),
    ];
    vec(command, 1..120)
}

/// A store, and what its answers so far allow to be asked next.
pub(crate) struct Run {
    world: World,
    seconds: i64,
    /// Deliveries that were leased at some time.
    leased: Vec<Leased>,
    /// The life that was begun last.
    life: Option<Lease>,
}

impl Run {
    pub(crate) async fn begin(world: World) -> Self {
        for name in ["ours", "theirs"] {
            world.tenant(name).await;
        }
        Self { world, seconds: 100, leased: Vec::new(), life: None }
    }

    /// Does what the command says; answers what the store did.
    pub(crate) async fn step(&mut self, command: &Command) -> String {
        self.seconds += 1;
        match command {
            Command::AddType { .. }
            | Command::RetireType { .. }
            | Command::CreateUser { .. }
            | Command::DisableUser { .. }
            | Command::UpdateUser { .. }
            | Command::CreateToken { .. }
            | Command::RevokeToken { .. } => self.administer(command).await,
            Command::Publish { .. }
            | Command::PublishAll { .. }
            | Command::Resend { .. }
            | Command::Claim { .. }
            | Command::Record { .. }
            | Command::GiveBack { .. }
            | Command::BeginLife
            | Command::Purge { .. } => self.deliver(command).await,
            _ => self.manage(command).await,
        }
    }

    async fn administer(&self, command: &Command) -> String {
        let (store, by) = (&self.world.store, by(self.seconds));
        match *command {
            Command::AddType { tenant, name } => {
                let (tenant, added) = (TenantId::new(tenant), event_type(TYPES[name]));
                said(store.add_event_type(tenant, added, format!("at {}", self.seconds), by).await)
            }
            Command::RetireType { tenant, name } => {
                let retired = event_type(TYPES[name]);
                said(store.retire_event_type(TenantId::new(tenant), retired, by).await)
            }
            Command::CreateUser { tenant, name } => {
                let user = NewUser {
                    id: UserId::new(self.world.id(IdKind::User).await),
                    tenant: TenantId::new(tenant),
                    name: format!("user {name}"),
                    role: postrider_kernel::Role::ALL[usize::from(name)],
                    password_hash: "hash".into(),
                };
                said(store.create_user(user, by).await)
            }
            Command::DisableUser { tenant, name } => {
                let name = format!("user {name}");
                said(store.disable_user(TenantId::new(tenant), &name, by).await)
            }
            Command::UpdateUser { tenant, user, role, is_active } => {
                let change = UserChange {
                    role: role.map(|role| postrider_kernel::Role::ALL[role]),
                    password_hash: None,
                    is_active,
                    keeps_an_admin: true,
                };
                said(store.update_user(TenantId::new(tenant), UserId::new(user), change, by).await)
            }
            Command::CreateToken { tenant, user, hash } => {
                let token = NewToken {
                    id: TokenId::new(self.world.id(IdKind::Token).await),
                    tenant: TenantId::new(tenant),
                    user: user.map(UserId::new),
                    name: "token".into(),
                    role: postrider_kernel::Role::Viewer,
                    hash: [hash; 32],
                    expires_at: None,
                };
                said(store.create_token(token, by).await)
            }
            Command::RevokeToken { tenant, token } => {
                said(store.revoke_token(TenantId::new(tenant), TokenId::new(token), by).await)
            }
            _ => unreachable!("not an administrator's command"),
        }
    }

    async fn manage(&self, command: &Command) -> String {
        let (store, by) = (&self.world.store, by(self.seconds));
        let named = |names: &[usize]| names.iter().map(|&name| event_type(TYPES[name])).collect();
        match command {
            Command::CreateEndpoint { tenant, is_active, types } => {
                let url = format!("https://r{}.example", self.seconds);
                let mut new = self.world.new_endpoint(TenantId::new(*tenant), &url).await;
                new.is_active = *is_active;
                new.event_types = named(types);
                said(store.create_endpoint(new, by).await)
            }
            Command::UpdateEndpoint { tenant, endpoint, is_active, types } => {
                let change = EndpointChange {
                    is_active: *is_active,
                    event_types: types.as_deref().map(named),
                    ..EndpointChange::default()
                };
                let (tenant, endpoint) = (TenantId::new(*tenant), EndpointId::new(*endpoint));
                said(store.update_endpoint(tenant, endpoint, change, by).await)
            }
            Command::DeleteEndpoint { tenant, endpoint } => {
                let (tenant, endpoint) = (TenantId::new(*tenant), EndpointId::new(*endpoint));
                said(store.delete_endpoint(tenant, endpoint, by).await)
            }
            Command::Reveal { tenant, endpoint } => {
                let (tenant, endpoint) = (TenantId::new(*tenant), EndpointId::new(*endpoint));
                said(store.reveal_secret(tenant, endpoint, by).await)
            }
            Command::Expire { tenant, endpoint, grace } => {
                let (tenant, endpoint) = (TenantId::new(*tenant), EndpointId::new(*endpoint));
                let secret = self.world.new_secret().await;
                let grace = grace.map(Duration::from_secs);
                said(store.expire_secret(tenant, endpoint, secret, grace, by).await)
            }
            Command::EndGrace { tenant, endpoint, secret } => {
                let (tenant, endpoint) = (TenantId::new(*tenant), EndpointId::new(*endpoint));
                said(store.end_grace(tenant, endpoint, SecretId::new(*secret), by).await)
            }
            Command::Attempts { tenant, endpoint, ordering, limit, offset } => {
                let order = |&(retry, descending): &(bool, bool)| OrderBy {
                    field: if retry { AttemptField::NextRetry } else { AttemptField::SentAt },
                    descending,
                };
                let ordering = ordering.iter().map(order).collect();
                let query = AttemptQuery { ordering, limit: *limit, offset: *offset };
                let (tenant, endpoint) = (TenantId::new(*tenant), EndpointId::new(*endpoint));
                said(store.attempts(tenant, endpoint, query).await)
            }
            Command::Endpoints { tenant, ordering, text } => {
                use EndpointField::{CreatedAt, IsActive, UpdatedAt};
                let order = |&(field, descending): &(u8, bool)| OrderBy {
                    field: [CreatedAt, IsActive, UpdatedAt][usize::from(field)],
                    descending,
                };
                let query = EndpointQuery {
                    target_contains: text.clone(),
                    ordering: ordering.iter().map(order).collect(),
                    limit: 3,
                    offset: 0,
                };
                said(store.endpoints(TenantId::new(*tenant), query).await)
            }
            _ => unreachable!("not a manager's command"),
        }
    }

    async fn deliver(&mut self, command: &Command) -> String {
        let store = self.world.store.clone();
        match command {
            Command::Publish { tenant, endpoints, leased, key } => {
                self.publish(TenantId::new(*tenant), endpoints, *leased, *key).await
            }
            Command::PublishAll { tenant, fan_outs, leased, last_is } => {
                let mut all = Vec::new();
                for endpoints in fan_outs {
                    all.push(self.publication(TenantId::new(*tenant), endpoints, *leased).await);
                }
                if let (Some(last), Some(id)) = (all.last_mut(), last_is) {
                    // Its own tenant's alone: identifiers are unique in the instance because they are reserved, and not
                    // every store looks whether somebody else has one that was not.
                    let (tenant, id) = (TenantId::new(*tenant), EventId::new(*id));
                    if store.known_events(tenant, vec![id]).await.is_ok_and(|known| known == [id]) {
                        last.event = id;
                    }
                }
                said(self.world.store.publish_all(all).await)
            }
            Command::Resend { tenant, endpoint, events } => {
                let mut asked = Vec::new();
                for &event in events {
                    let id = DeliveryId::new(self.world.id(IdKind::Delivery).await);
                    asked.push((EventId::new(event), id));
                }
                let (tenant, endpoint) = (TenantId::new(*tenant), EndpointId::new(*endpoint));
                let resend = Resend { tenant, endpoint, events: asked };
                said(store.resend(resend, by(self.seconds)).await)
            }
            &Command::Claim { endpoint, ahead, limit, lease } => {
                let (now, lease) = (at(self.seconds + ahead), Lease(lease));
                // Some claims are cut short by their bytes, some by their count.
                let limit = ClaimLimit { count: limit, bytes: limit as usize * 30 };
                let claim = store.claim_due(EndpointId::new(endpoint), now, limit, lease).await;
                self.leased.extend(claim.iter().flat_map(|claim| &claim.deliveries).map(
                    |claimed| Leased {
                        tenant: claimed.tenant,
                        endpoint: claimed.endpoint,
                        event: claimed.event,
                        delivery: claimed.id,
                        lease,
                    },
                ));
                said(claim)
            }
            &Command::Record { which, lease, wait, fails, deactivates } => {
                let Some(&leased) = self.pick(which) else { return String::new() };
                let next = match wait {
                    Some(wait) => Next::Retry(at(self.seconds + wait)),
                    None if fails => Next::Failed,
                    None => Next::Delivered,
                };
                // Mostly under its own lease, else the one that the command names.
                let lease = if fails && wait.is_none() { Lease(lease) } else { leased.lease };
                let leased = Leased { lease, ..leased };
                let mut attempt = self.world.attempt(leased, self.seconds, next).await;
                attempt.deactivates_endpoint = deactivates;
                said(store.record(attempt).await)
            }
            &Command::GiveBack { which, lease } => {
                let Some(leased) = self.pick(which) else { return String::new() };
                said(store.give_back(vec![leased.delivery], Lease(lease)).await)
            }
            Command::BeginLife => {
                if let Some(old) = self.life {
                    store.end_life(old).await.unwrap();
                }
                let begun = store.begin_life().await;
                self.life = begun.as_ref().ok().copied();
                said(begun)
            }
            &Command::Purge { attempts, keys, deleted, grace } => {
                let purge = Purge {
                    attempts_before: at(self.seconds - attempts),
                    idempotency_before: at(self.seconds - keys),
                    deleted_before: at(self.seconds - deleted),
                    grace_before: at(self.seconds - grace),
                    audit_before: at(0),
                };
                // How many rows a purge takes is the store's own business.
                self.world.purge(purge).await;
                String::new()
            }
            _ => unreachable!("not a delivery's command"),
        }
    }

    async fn publish(
        &mut self,
        tenant: TenantId,
        endpoints: &[i64],
        leased: bool,
        key: Option<(u8, u8, i64)>,
    ) -> String {
        let mut publication = self.publication(tenant, endpoints, leased).await;
        publication.idempotency = key.map(|(key, body, age)| IdempotencyKey {
            key: format!("key {key}"),
            request_hash: [body; 32],
            not_before: at(self.seconds - age),
        });
        said(self.world.store.publish(publication).await)
    }

    /// A publication to these endpoints, whose deliveries are remembered where they begin leased.
    async fn publication(
        &mut self,
        tenant: TenantId,
        endpoints: &[i64],
        leased: bool,
    ) -> Publication {
        let endpoints: Vec<_> = endpoints.iter().copied().map(EndpointId::new).collect();
        let mut publication = self.world.publication(tenant, &endpoints, self.seconds).await;
        publication.lease = Lease(1);
        let event = publication.event;
        for delivery in &mut publication.deliveries {
            delivery.leased = leased;
            if leased {
                let (endpoint, delivery, lease) = (delivery.endpoint, delivery.id, Lease(1));
                self.leased.push(Leased { tenant, endpoint, event, delivery, lease });
            }
        }
        publication
    }

    /// One of the deliveries that were leased, the latest most often.
    fn pick(&self, which: usize) -> Option<&Leased> {
        let last = self.leased.len().checked_sub(1)?;
        self.leased.get(last - which.min(last) % 8)
    }

    /// All that can be seen.
    pub(crate) async fn look(&self) -> Vec<String> {
        let store = &self.world.store;
        let mut seen = vec![said(store.earliest_due().await), said(store.tenants().await)];
        for tenant in [1, 2].map(TenantId::new) {
            seen.push(said(store.directory(tenant).await));
            seen.push(said(store.audit(tenant).await));
            seen.push(said(store.event_types(tenant).await));
            seen.push(said(store.users(tenant).await));
            seen.push(said(store.tokens(tenant).await));
            let events = (0..200).map(EventId::new).collect();
            seen.push(said(store.known_events(tenant, events).await));
            for event in (0..60).map(EventId::new) {
                seen.push(said(store.event(tenant, event, 2).await));
            }
            for endpoint in (1..30).map(EndpointId::new) {
                let query = AttemptQuery { ordering: vec![], limit: 1000, offset: 0 };
                seen.push(said(store.attempts(tenant, endpoint, query).await));
                seen.push(said(store.earliest_due_of(endpoint).await));
            }
        }
        seen
    }
}

/// An answer as text; of an error, its kind.
fn said<T: Debug>(answer: Result<T>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(StoreError::Unavailable(_)) => "unavailable".into(),
        Err(StoreError::Inconsistent(_)) => "inconsistent".into(),
        Err(StoreError::Broken(_)) => "broken".into(),
    }
}

/// Runs the commands in both worlds, and compares every answer and what can be seen in the end.
pub(crate) async fn compare(model: World, other: World, commands: &[Command]) {
    let (mut model, mut other) = (Run::begin(model).await, Run::begin(other).await);
    for command in commands {
        assert_eq!(model.step(command).await, other.step(command).await, "{command:?}");
    }
    assert_eq!(model.look().await, other.look().await);
    // Everything old is purged, what is owed stays.
    let now = at(model.seconds + 100);
    let everything = Purge {
        attempts_before: now,
        deleted_before: now,
        audit_before: at(120),
        ..purge_nothing()
    };
    model.world.purge(everything).await;
    other.world.purge(everything).await;
    assert_eq!(model.look().await, other.look().await);
}
