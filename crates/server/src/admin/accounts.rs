//! What admins change of accounts: tenants, users and tokens. After the answer the directory has the tenant as it is, and no
//! node believes a credential that it checked before.

use postrider_kernel::{EventType, Role, TenantId, Timestamp, TokenId, UserId};
use postrider_store::{
    By, IdKind, NewTenant, NewToken, NewUser, Renamed, Tenant, Token, User, UserChange, UserUpdated,
};

use super::{Admin, Answer, Parts};
use crate::{accounts, vault::Place};

/// What an admin gives of a new user.
pub struct UserDraft {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The argon2 hash of its password, in PHC form.
    pub password_hash: String,
}

/// What an admin gives of a new token.
pub struct TokenDraft {
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The user on whose behalf it acts, of the same tenant.
    pub user: Option<UserId>,
    /// When it stops counting.
    pub expires_at: Option<Timestamp>,
}

impl Admin {
    /// Makes a tenant with that catalogue and a fresh JWT secret; `None` when the name is taken.
    pub async fn create_tenant(
        &self,
        name: String,
        catalogue: Vec<(EventType, String)>,
        by: By,
    ) -> Answer<Option<Tenant>> {
        self.to_its_end(async move |parts| {
            let id = TenantId::new(parts.ids.next(IdKind::Tenant).await?);
            let secret = accounts::new_jwt_secret(&*parts.clock);
            let jwt_secret = parts.vault.seal(Place::tenant(id), &secret);
            let tenant = NewTenant { id, name, jwt_secret, catalogue };
            if !parts.store.create_tenant(tenant, by).await? {
                return Ok(None);
            }
            parts.accounts_changed(id).await?;
            Ok(parts.store.tenant(id).await?)
        })
        .await
    }

    /// Gives a tenant another name.
    pub async fn rename_tenant(&self, id: TenantId, name: String, by: By) -> Answer<Renamed> {
        self.to_its_end(async move |parts| {
            let renamed = parts.store.rename_tenant(id, &name, by).await?;
            parts.accounts_changed(id).await?;
            Ok(renamed)
        })
        .await
    }

    /// Makes a user; `None` when the name is taken, by whichever tenant.
    pub async fn create_user(
        &self,
        tenant: TenantId,
        draft: UserDraft,
        by: By,
    ) -> Answer<Option<User>> {
        self.to_its_end(async move |parts| {
            let id = UserId::new(parts.ids.next(IdKind::User).await?);
            let UserDraft { name, role, password_hash } = draft;
            let user = NewUser { id, tenant, name, role, password_hash };
            let is_made = parts.store.create_user(user, by).await?;
            Ok(if is_made { parts.store.user(id).await? } else { None })
        })
        .await
    }

    /// Changes a user.
    pub async fn update_user(
        &self,
        tenant: TenantId,
        id: UserId,
        change: UserChange,
        by: By,
    ) -> Answer<UserUpdated> {
        self.to_its_end(async move |parts| {
            let updated = parts.store.update_user(tenant, id, change, by).await?;
            parts.accounts_changed(tenant).await?;
            Ok(updated)
        })
        .await
    }

    /// Makes a token; its text is nowhere but in this answer.
    pub async fn create_token(
        &self,
        tenant: TenantId,
        draft: TokenDraft,
        by: By,
    ) -> Answer<(Token, String)> {
        self.to_its_end(async move |parts| {
            let (text, hash) = accounts::new_token(&*parts.clock);
            let id = TokenId::new(parts.ids.next(IdKind::Token).await?);
            let (TokenDraft { name, role, user, expires_at }, created_at) = (draft, by.at);
            let kept = NewToken { id, tenant, user, name: name.clone(), role, hash, expires_at };
            parts.store.create_token(kept, by).await?;
            let revoked_at = None;
            Ok((Token { id, tenant, user, name, role, created_at, expires_at, revoked_at }, text))
        })
        .await
    }

    /// Revokes a token; `false` when there is no such token, or it was revoked before.
    pub async fn revoke_token(&self, tenant: TenantId, id: TokenId, by: By) -> Answer<bool> {
        self.to_its_end(async move |parts| {
            let was_revoked = parts.store.revoke_token(tenant, id, by).await?;
            parts.accounts_changed(tenant).await?;
            Ok(was_revoked)
        })
        .await
    }
}

impl Parts {
    /// Has nobody, on any node, believe a credential that was checked before.
    async fn accounts_changed(&self, tenant: TenantId) -> Answer<()> {
        let refreshed = self.refresh(tenant).await;
        self.credentials.forget_all();
        self.applied_elsewhere(refreshed?).await
    }
}
