//! The verbs of the model, in the order of the trait.

use std::{cmp::Ordering, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use postrider_kernel::{
    DeliveryId, EndpointId, EventId, EventType, SecretId, TenantId, Timestamp, TokenId, UserId,
    delivery::Status,
    secret::{self, GraceEnd, Standing},
};

use super::{KeptEndpoint, KeptSecret, MemoryStore, State, refused, repeats};
use crate::{
    Action, Attempt, AttemptField, AttemptQuery, AttemptRecord, AuditEntry, AuditQuery, By,
    CatalogueEntry, Claim, ClaimLimit, DirectoryEntry, Endpoint, EndpointChange, EndpointField,
    EndpointQuery, GraceEnded, IdKind, Lease, NewEndpoint, NewSecret, NewTenant, NewToken, NewUser,
    Page, Publication, Published, Purge, Recorded, Renamed, Resend, Resent, Result, Sealed,
    SealedAt, SealedKind, Store, StoredEvent, StoredSecret, Subscription, Tenant, Token, User,
    UserChange, UserUpdated, standings,
};

#[async_trait]
impl Store for MemoryStore {
    async fn keep_key_check(&self, check: Vec<u8>) -> Result<Vec<u8>> {
        Ok(self.state().key_check.get_or_insert(check).clone())
    }

    async fn key_check(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.state().key_check.clone())
    }

    async fn replace_key_check(&self, old: Vec<u8>, new: Vec<u8>, by: By) -> Result<bool> {
        let mut state = self.state();
        if state.key_check.as_ref() != Some(&old) {
            return Ok(false);
        }
        state.key_check = Some(new);
        for tenant in state.tenants.keys().copied().collect::<Vec<_>>() {
            let subject = format!("tenant:{tenant}");
            state.audit(tenant, &by, Action::MasterKeyRotated, subject)?;
        }
        Ok(true)
    }

    async fn sealed_otherwise(
        &self,
        head: Vec<u8>,
        after: Option<SealedAt>,
        limit: u32,
    ) -> Result<Vec<(SealedAt, Sealed)>> {
        let found = self.state().sealed();
        let is_asked = |(at, sealed): &(SealedAt, Sealed)| {
            let is_otherwise = head.is_empty() || !sealed.0.starts_with(&head);
            is_otherwise && after.is_none_or(|after| *at > after)
        };
        Ok(found.into_iter().filter(is_asked).take(limit as usize).collect())
    }

    async fn reseal(&self, at: SealedAt, old: Sealed, new: Sealed) -> Result<bool> {
        let mut state = self.state();
        let id = SecretId::new(at.id);
        let place = match at.kind {
            SealedKind::JwtSecret => {
                state.tenants.get_mut(&at.tenant).map(|kept| &mut kept.jwt_secret)
            }
            SealedKind::Secret => state.secrets.get_mut(&id).and_then(|kept| kept.sealed.as_mut()),
            SealedKind::Key => state.secrets.get_mut(&id).and_then(|kept| kept.sealed_key.as_mut()),
        };
        let place = place.filter(|kept| **kept == old);
        Ok(place.map(|kept| *kept = new).is_some())
    }

    async fn reserve_ids(&self, kind: IdKind, count: u32) -> Result<Range<i64>> {
        self.state().reserve(kind, count)
    }

    /// Nobody else can reach this memory.
    async fn changed_elsewhere(&self) -> Result<bool> {
        Ok(false)
    }

    async fn check_health(&self) -> Result<()> {
        Ok(())
    }

    async fn begin_life(&self) -> Result<Lease> {
        let mut state = self.state();
        for delivery in state.deliveries.values_mut() {
            if delivery.status == Status::Leased {
                delivery.free();
            }
        }
        Ok(Lease(state.reserve(IdKind::Life, 1)?.start))
    }

    async fn create_tenant(&self, tenant: NewTenant, by: By) -> Result<bool> {
        let mut state = self.state();
        if state.tenants.values().any(|known| known.name == tenant.name) {
            return Ok(false);
        }
        if state.tenants.contains_key(&tenant.id) || repeats(tenant.catalogue.iter().map(|c| &c.0))
        {
            return refused("the tenant's id or a type of its catalogue is there already");
        }
        let entry = |(event_type, description)| CatalogueEntry {
            event_type,
            description,
            created_at: by.at,
            retired_at: None,
        };
        state.catalogue.insert(tenant.id, tenant.catalogue.into_iter().map(entry).collect());
        let kept = Tenant {
            id: tenant.id,
            name: tenant.name,
            jwt_secret: tenant.jwt_secret,
            created_at: by.at,
        };
        state.tenants.insert(tenant.id, kept);
        let subject = format!("tenant:{}", tenant.id);
        state.audit(tenant.id, &by, Action::TenantCreated, subject)?;
        Ok(true)
    }

    async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>> {
        Ok(self.state().tenants.get(&id).cloned())
    }

    async fn tenants(&self) -> Result<Vec<Tenant>> {
        Ok(self.state().tenants.values().cloned().collect())
    }

    async fn set_jwt_secret(&self, tenant: TenantId, secret: Sealed, by: By) -> Result<bool> {
        let mut state = self.state();
        let Some(kept) = state.tenants.get_mut(&tenant) else { return Ok(false) };
        kept.jwt_secret = secret;
        state.audit(tenant, &by, Action::JwtSecretReplaced, format!("tenant:{tenant}"))?;
        Ok(true)
    }

    async fn rename_tenant(&self, tenant: TenantId, name: &str, by: By) -> Result<Renamed> {
        let mut state = self.state();
        if state.tenants.values().any(|known| known.name == name && known.id != tenant) {
            return Ok(Renamed::NameTaken);
        }
        let Some(kept) = state.tenants.get_mut(&tenant) else { return Ok(Renamed::NoTenant) };
        if kept.name != name {
            name.clone_into(&mut kept.name);
            state.audit(tenant, &by, Action::TenantRenamed, format!("tenant:{tenant}"))?;
        }
        Ok(Renamed::Done)
    }

    async fn create_user(&self, user: NewUser, by: By) -> Result<bool> {
        let mut state = self.state();
        if state.users.values().any(|known| known.name == user.name) {
            return Ok(false);
        }
        if state.users.contains_key(&user.id) || !state.tenants.contains_key(&user.tenant) {
            return refused("the user's id is there already, or its tenant isn't");
        }
        let kept = User {
            id: user.id,
            tenant: user.tenant,
            name: user.name,
            role: user.role,
            password_hash: user.password_hash,
            is_active: true,
            created_at: by.at,
        };
        state.users.insert(user.id, kept);
        state.audit(user.tenant, &by, Action::UserCreated, format!("user:{}", user.id))?;
        Ok(true)
    }

    async fn user(&self, id: UserId) -> Result<Option<User>> {
        Ok(self.state().users.get(&id).cloned())
    }

    async fn users(&self, tenant: TenantId) -> Result<Vec<User>> {
        let state = self.state();
        Ok(state.users.values().filter(|user| user.tenant == tenant).cloned().collect())
    }

    async fn disable_user(&self, tenant: TenantId, name: &str, by: By) -> Result<bool> {
        let mut state = self.state();
        let named = |user: &&mut User| user.tenant == tenant && user.name == name;
        let Some(user) = state.users.values_mut().find(named) else { return Ok(false) };
        user.is_active = false;
        let subject = format!("user:{}", user.id);
        state.audit(tenant, &by, Action::UserDisabled, subject)?;
        Ok(true)
    }

    async fn update_user(
        &self,
        tenant: TenantId,
        id: UserId,
        change: UserChange,
        by: By,
    ) -> Result<UserUpdated> {
        let mut state = self.state();
        let of_tenant = state.users.values().filter(|user| user.tenant == tenant);
        let users: Vec<User> = of_tenant.cloned().collect();
        let (updated, actions) = change.apply(&users, id);
        if let UserUpdated::Done(user) = &updated {
            state.users.insert(id, user.clone());
        }
        for action in actions {
            state.audit(tenant, &by, action, format!("user:{id}"))?;
        }
        Ok(updated)
    }

    async fn create_token(&self, token: NewToken, by: By) -> Result<()> {
        let mut state = self.state();
        let hash_is_taken = state.tokens.values().any(|(hash, _)| *hash == token.hash);
        if hash_is_taken || state.tokens.contains_key(&token.id) {
            return refused("the token's hash or id is there already");
        }
        let user_is_ours =
            |id| state.users.get(&id).is_some_and(|user: &User| user.tenant == token.tenant);
        if !state.tenants.contains_key(&token.tenant) || !token.user.is_none_or(user_is_ours) {
            return refused("the token's tenant has no such user, or isn't there");
        }
        let kept = Token {
            id: token.id,
            tenant: token.tenant,
            user: token.user,
            name: token.name,
            role: token.role,
            created_at: by.at,
            expires_at: token.expires_at,
            revoked_at: None,
        };
        state.tokens.insert(token.id, (token.hash, kept));
        state.audit(token.tenant, &by, Action::TokenCreated, format!("token:{}", token.id))
    }

    async fn token_by_hash(&self, hash: [u8; 32]) -> Result<Option<Token>> {
        let state = self.state();
        let found = state.tokens.values().find(|(known, _)| *known == hash);
        Ok(found.map(|(_, token)| token.clone()))
    }

    async fn tokens(&self, tenant: TenantId) -> Result<Vec<Token>> {
        let state = self.state();
        let tokens = state.tokens.values().map(|(_, token)| token);
        Ok(tokens.filter(|token| token.tenant == tenant).cloned().collect())
    }

    async fn revoke_token(&self, tenant: TenantId, id: TokenId, by: By) -> Result<bool> {
        let mut state = self.state();
        let Some((_, token)) = state.tokens.get_mut(&id) else { return Ok(false) };
        if token.tenant != tenant || token.revoked_at.is_some() {
            return Ok(false);
        }
        token.revoked_at = Some(by.at);
        state.audit(tenant, &by, Action::TokenRevoked, format!("token:{id}"))?;
        Ok(true)
    }

    async fn add_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        description: String,
        by: By,
    ) -> Result<Option<CatalogueEntry>> {
        let mut state = self.state();
        let Some(catalogue) = state.catalogue.get_mut(&tenant) else {
            return refused("there is no such tenant");
        };
        let entry = match catalogue.iter_mut().find(|entry| entry.event_type == event_type) {
            Some(entry) if entry.retired_at.is_none() => return Ok(None),
            Some(entry) => {
                entry.retired_at = None;
                entry.description = description;
                entry.clone()
            }
            None => {
                let event_type = event_type.clone();
                let (created_at, retired_at) = (by.at, None);
                let entry = CatalogueEntry { event_type, description, created_at, retired_at };
                catalogue.push(entry.clone());
                entry
            }
        };
        let subject = format!("event_type:{event_type}");
        state.audit(tenant, &by, Action::EventTypeAdded, subject)?;
        Ok(Some(entry))
    }

    async fn retire_event_type(
        &self,
        tenant: TenantId,
        event_type: EventType,
        by: By,
    ) -> Result<bool> {
        let mut state = self.state();
        let Some(catalogue) = state.catalogue.get_mut(&tenant) else { return Ok(false) };
        let offered = |entry: &&mut CatalogueEntry| {
            entry.event_type == event_type && entry.retired_at.is_none()
        };
        let Some(entry) = catalogue.iter_mut().find(offered) else { return Ok(false) };
        entry.retired_at = Some(by.at);
        let subject = format!("event_type:{event_type}");
        state.audit(tenant, &by, Action::EventTypeRetired, subject)?;
        Ok(true)
    }

    async fn event_types(&self, tenant: TenantId) -> Result<Vec<CatalogueEntry>> {
        Ok(self.state().catalogue.get(&tenant).cloned().unwrap_or_default())
    }

    async fn create_endpoint(&self, new: NewEndpoint, by: By) -> Result<Endpoint> {
        let mut state = self.state();
        let is_taken = state.endpoints.contains_key(&new.id)
            || state.secrets.contains_key(&new.secret.id)
            || repeats(new.event_types.iter());
        if is_taken || !state.tenants.contains_key(&new.tenant) {
            return refused("an id is there already, an event type repeats, or the tenant isn't");
        }
        let subscribe = |event_type| Subscription { event_type, added_at: by.at };
        let endpoint = Endpoint {
            id: new.id,
            tenant: new.tenant,
            created_at: by.at,
            updated_at: by.at,
            is_active: new.is_active,
            target: new.target,
            description: new.description,
            subscriptions: new.event_types.into_iter().map(subscribe).collect(),
            ssl_cert_verification: new.ssl_cert_verification,
            signature_algorithms: new.signature_algorithms,
        };
        state
            .endpoints
            .insert(endpoint.id, KeptEndpoint { endpoint: endpoint.clone(), deleted_at: None });
        let is_brought = new.secret.is_brought;
        state.keep_secret(endpoint.id, new.secret, by.at);
        let subject = format!("endpoint:{}", endpoint.id);
        state.audit(endpoint.tenant, &by, Action::EndpointCreated, subject.clone())?;
        if is_brought {
            state.audit(endpoint.tenant, &by, Action::SecretBrought, subject)?;
        }
        Ok(endpoint)
    }

    async fn update_endpoint(
        &self,
        tenant: TenantId,
        id: EndpointId,
        change: EndpointChange,
        by: By,
    ) -> Result<Option<Endpoint>> {
        let mut state = self.state();
        let Some(endpoint) = state.endpoint_mut(tenant, id) else { return Ok(None) };
        if repeats(change.event_types.iter().flatten()) {
            return refused("an event type repeats");
        }
        *endpoint = endpoint.changed(&change, by.at);
        let endpoint = endpoint.clone();
        if let Some((secret, key)) = change.key
            && let Some(kept) = state.secrets.get_mut(&secret)
            && kept.endpoint == id
            && kept.sealed.is_some()
        {
            kept.sealed_key.get_or_insert(key);
        }
        state.audit(tenant, &by, Action::EndpointChanged, format!("endpoint:{id}"))?;
        Ok(Some(endpoint))
    }

    async fn delete_endpoint(&self, tenant: TenantId, id: EndpointId, by: By) -> Result<bool> {
        let mut state = self.state();
        if state.endpoint(tenant, id).is_none() {
            return Ok(false);
        }
        if let Some(kept) = state.endpoints.get_mut(&id) {
            kept.deleted_at = Some(by.at);
        }
        state.audit(tenant, &by, Action::EndpointDeleted, format!("endpoint:{id}"))?;
        Ok(true)
    }

    async fn endpoint(&self, tenant: TenantId, id: EndpointId) -> Result<Option<Endpoint>> {
        Ok(self.state().endpoint(tenant, id).cloned())
    }

    async fn endpoints(&self, tenant: TenantId, query: EndpointQuery) -> Result<Page<Endpoint>> {
        let state = self.state();
        let wanted = query.target_contains.map(|text| text.to_ascii_lowercase());
        let is_wanted = |endpoint: &&Endpoint| {
            let target = endpoint.target.as_str().to_ascii_lowercase();
            wanted.as_ref().is_none_or(|text| target.contains(text))
        };
        let mut found: Vec<&Endpoint> = state.endpoints_of(tenant).filter(is_wanted).collect();
        // The sort is stable, and they came by id.
        found.sort_by(|a, b| {
            in_turn(query.ordering.iter().map(|by| {
                let order = match by.field {
                    EndpointField::CreatedAt => a.created_at.cmp(&b.created_at),
                    EndpointField::UpdatedAt => a.updated_at.cmp(&b.updated_at),
                    EndpointField::IsActive => a.is_active.cmp(&b.is_active),
                };
                if by.descending { order.reverse() } else { order }
            }))
        });
        Ok(page(found, query.offset, query.limit).map(Clone::clone))
    }

    async fn directory(&self, tenant: TenantId) -> Result<Vec<DirectoryEntry>> {
        let state = self.state();
        let entry = |endpoint: &Endpoint| DirectoryEntry {
            endpoint: endpoint.clone(),
            secrets: state.live_secrets(endpoint.id),
        };
        Ok(state.endpoints_of(tenant).map(entry).collect())
    }

    async fn reveal_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        by: By,
    ) -> Result<Option<StoredSecret>> {
        let mut state = self.state();
        if state.endpoint(tenant, endpoint).is_none() {
            return Ok(None);
        }
        state.audit(tenant, &by, Action::SecretRevealed, format!("endpoint:{endpoint}"))?;
        let live = state.live_secrets(endpoint);
        Ok(live.into_iter().find(|secret| secret.standing == Standing::Current))
    }

    async fn secrets(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
    ) -> Result<Option<Vec<StoredSecret>>> {
        let state = self.state();
        Ok(state.endpoint(tenant, endpoint).map(|_| state.live_secrets(endpoint)))
    }

    async fn end_grace(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: SecretId,
        by: By,
    ) -> Result<GraceEnded> {
        let mut state = self.state();
        if state.endpoint(tenant, endpoint).is_none() {
            return Ok(GraceEnded::Unknown);
        }
        match secret::end_grace(&standings(&state.live_secrets(endpoint)), secret, by.at) {
            GraceEnd::Unknown => return Ok(GraceEnded::Unknown),
            GraceEnd::IsCurrent => return Ok(GraceEnded::IsCurrent),
            GraceEnd::Ends => state.change_standing(secret, Standing::Expired),
        }
        state.audit(tenant, &by, Action::GraceEnded, format!("endpoint:{endpoint}"))?;
        let Some(after) = state.endpoint_mut(tenant, endpoint) else {
            return Ok(GraceEnded::Unknown);
        };
        after.updated_at = by.at;
        Ok(GraceEnded::Done(after.clone()))
    }

    async fn expire_secret(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        secret: NewSecret,
        grace: Option<Duration>,
        by: By,
    ) -> Result<Option<Endpoint>> {
        let mut state = self.state();
        if state.secrets.contains_key(&secret.id) {
            return refused("the secret's id is there already");
        }
        let Some(after) = state.endpoint_mut(tenant, endpoint) else { return Ok(None) };
        after.updated_at = by.at;
        let after = after.clone();
        let live = state.live_secrets(endpoint);
        for (id, standing) in secret::expire(&standings(&live), grace, by.at) {
            state.change_standing(id, standing);
        }
        let action = secret.action();
        state.keep_secret(endpoint, secret, by.at);
        state.audit(tenant, &by, action, format!("endpoint:{endpoint}"))?;
        Ok(Some(after))
    }

    async fn publish(&self, publication: Publication) -> Result<Published> {
        self.state().publish(publication)
    }

    async fn publish_all(&self, publications: Vec<Publication>) -> Result<Published> {
        self.state().publish_all(publications)
    }

    async fn resend(&self, resend: Resend, by: By) -> Result<Resent> {
        self.state().resend(&resend, &by)
    }

    async fn claim_due(
        &self,
        endpoint: EndpointId,
        now: Timestamp,
        limit: ClaimLimit,
        lease: Lease,
    ) -> Result<Claim> {
        Ok(self.state().claim_due(endpoint, now, limit, lease))
    }

    async fn earliest_due(&self) -> Result<Vec<(TenantId, EndpointId, Timestamp)>> {
        let state = self.state();
        let live = state.endpoints.values().filter(|kept| kept.deleted_at.is_none());
        let due = |kept: &KeptEndpoint| {
            let endpoint = &kept.endpoint;
            Some((endpoint.tenant, endpoint.id, state.earliest_due(endpoint.id)?))
        };
        Ok(live.filter_map(due).collect())
    }

    async fn earliest_due_of(&self, endpoint: EndpointId) -> Result<Option<Timestamp>> {
        Ok(self.state().earliest_due_if_live(endpoint))
    }

    async fn record_all(&self, attempts: Arc<[AttemptRecord]>) -> Result<Vec<Recorded>> {
        let mut state = self.state();
        let before = state.clone();
        let recorded: Result<_> =
            attempts.iter().map(|attempt| state.record(attempt.clone())).collect();
        if recorded.is_err() {
            *state = before;
        }
        recorded
    }

    async fn give_back(&self, deliveries: Vec<DeliveryId>, lease: Lease) -> Result<()> {
        let mut state = self.state();
        for id in deliveries {
            if let Some(delivery) = state.deliveries.get_mut(&id)
                && delivery.lease == Some(lease)
            {
                delivery.free();
            }
        }
        Ok(())
    }

    async fn bring_forward(&self, now: Timestamp, by: Duration) -> Result<()> {
        for delivery in self.state().deliveries.values_mut() {
            if delivery.status == Status::Pending && delivery.due_at > now {
                delivery.due_at = now.plus(now.until(delivery.due_at).saturating_sub(by));
            }
        }
        Ok(())
    }

    async fn attempts(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        query: AttemptQuery,
    ) -> Result<Page<Attempt>> {
        let state = self.state();
        let is_there = state.endpoint(tenant, endpoint).is_some();
        let mut found: Vec<&AttemptRecord> = state
            .attempts
            .values()
            .filter(|attempt| is_there && attempt.endpoint == endpoint)
            .collect();
        found.sort_by(|a, b| {
            in_turn(query.ordering.iter().map(|by| {
                let order = match by.field {
                    AttemptField::SentAt => a.sent_at.cmp(&b.sent_at),
                    AttemptField::NextRetry => none_last(a.next.retry_at(), b.next.retry_at()),
                };
                if by.descending { order.reverse() } else { order }
            }))
        });
        let Page { count, items } = page(found, query.offset, query.limit);
        let items = items.into_iter().filter_map(|attempt| state.listed(attempt)).collect();
        Ok(Page { count, items })
    }

    async fn event(
        &self,
        tenant: TenantId,
        id: EventId,
        limit: u32,
    ) -> Result<Option<StoredEvent>> {
        let state = self.state();
        let Some(kept) = state.events.get(&id).filter(|kept| kept.tenant == tenant) else {
            return Ok(None);
        };
        let deliveries = state.deliveries.iter();
        let shown = deliveries.filter(|(_, delivery)| {
            delivery.event == id && state.endpoint(tenant, delivery.endpoint).is_some()
        });
        let shown = shown.map(|(&id, delivery)| delivery.stored(id)).collect();
        Ok(Some(StoredEvent {
            id,
            event_type: kept.event_type.clone(),
            accepted_at: kept.accepted_at,
            payload: kept.payload.clone(),
            deliveries: page(shown, 0, limit),
        }))
    }

    async fn known_events(&self, tenant: TenantId, events: Vec<EventId>) -> Result<Vec<EventId>> {
        let state = self.state();
        Ok(events.into_iter().filter(|&event| state.knows(tenant, event)).collect())
    }

    async fn purge(&self, purge: Purge, _limit: u32) -> Result<u64> {
        Ok(self.state().purge(&purge))
    }

    async fn audit_page(&self, tenant: TenantId, query: AuditQuery) -> Result<Page<AuditEntry>> {
        let state = self.state();
        let is_asked = |line: &&AuditEntry| {
            query.action.as_ref().is_none_or(|action| line.action == *action)
                && query.actor.as_ref().is_none_or(|actor| line.actor == *actor)
                && query.since.is_none_or(|since| line.at >= since)
                && query.until.is_none_or(|until| line.at < until)
        };
        let of_tenant = state.audit.iter().filter(|(of, _)| *of == tenant).map(|(_, line)| line);
        let mut found: Vec<&AuditEntry> = of_tenant.filter(is_asked).collect();
        found.sort_by_key(|line| (line.at, line.id));
        if query.descending {
            found.reverse();
        }
        Ok(page(found, query.offset, query.limit).map(Clone::clone))
    }

    async fn write_audit(
        &self,
        tenant: TenantId,
        action: Action,
        subject: String,
        by: By,
    ) -> Result<()> {
        self.state().audit(tenant, &by, action, subject)
    }

    async fn audit(&self, tenant: TenantId) -> Result<Vec<AuditEntry>> {
        let state = self.state();
        let lines = state.audit.iter().filter(|(of, _)| *of == tenant);
        Ok(lines.map(|(_, line)| line.clone()).collect())
    }
}

impl State {
    fn keep_secret(&mut self, endpoint: EndpointId, secret: NewSecret, at: Timestamp) {
        let kept = KeptSecret {
            endpoint,
            standing: Standing::Current,
            created_at: at,
            sealed: Some(secret.sealed),
            sealed_key: secret.sealed_key,
        };
        self.secrets.insert(secret.id, kept);
    }

    /// Every ciphertext, in the order of their places.
    fn sealed(&self) -> Vec<(SealedAt, Sealed)> {
        let of_tenant = |tenant: &Tenant| {
            let at =
                SealedAt { kind: SealedKind::JwtSecret, tenant: tenant.id, id: tenant.id.get() };
            (at, tenant.jwt_secret.clone())
        };
        let mut all: Vec<_> = self.tenants.values().map(of_tenant).collect();
        for (id, kept) in &self.secrets {
            let Some(endpoint) = self.endpoints.get(&kept.endpoint) else { continue };
            let tenant = endpoint.endpoint.tenant;
            let at = |kind| SealedAt { kind, tenant, id: id.get() };
            all.extend(kept.sealed.clone().map(|sealed| (at(SealedKind::Secret), sealed)));
            all.extend(kept.sealed_key.clone().map(|sealed| (at(SealedKind::Key), sealed)));
        }
        all.sort_by_key(|(at, _)| *at);
        all
    }

    fn listed(&self, attempt: &AttemptRecord) -> Option<Attempt> {
        let event = self.events.get(&attempt.event)?;
        Some(Attempt {
            id: attempt.id,
            event: attempt.event,
            event_type: event.event_type.clone(),
            accepted_at: event.accepted_at,
            delivery: attempt.delivery,
            attempt_number: attempt.attempt_number,
            trigger: attempt.trigger,
            sent_at: attempt.sent_at,
            // As fine as the other stores keep it.
            duration: Duration::from_micros(
                u64::try_from(attempt.duration.as_micros()).unwrap_or(u64::MAX),
            ),
            payload: event.payload.clone(),
            signature: attempt.signature.clone(),
            peer_address: attempt.peer_address.clone(),
            response: attempt.response.clone(),
            next_retry: attempt.next.retry_at(),
        })
    }
}

impl<T> Page<T> {
    fn map<U>(self, change: impl Fn(T) -> U) -> Page<U> {
        Page { count: self.count, items: self.items.into_iter().map(change).collect() }
    }
}

fn page<T>(all: Vec<T>, offset: u64, limit: u32) -> Page<T> {
    let count = all.len() as u64;
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    Page { count, items: all.into_iter().skip(offset).take(limit as usize).collect() }
}

/// The first comparison that tells two apart.
fn in_turn(orders: impl Iterator<Item = Ordering>) -> Ordering {
    orders.fold(Ordering::Equal, Ordering::then)
}

/// None comes last; reversed, first.
fn none_last<T: Ord>(a: Option<T>, b: Option<T>) -> Ordering {
    (a.is_none(), a).cmp(&(b.is_none(), b))
}
