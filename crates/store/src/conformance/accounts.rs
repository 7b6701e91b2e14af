//! Tenants, users, tokens, and the log of who changed what.

use std::net::{IpAddr, Ipv4Addr};

use postrider_kernel::{Role, TenantId, TokenId, UserId};

use super::{
    World,
    world::{at, by, event_type, sealed},
};
use crate::{
    Action, Actor, AuditEntry, AuditQuery, By, IdKind, NewTenant, NewToken, NewUser, Renamed,
    StoreError, User, UserChange, UserUpdated,
};

impl World {
    pub(crate) async fn new_user(&self, tenant: TenantId, name: &str) -> NewUser {
        NewUser {
            id: UserId::new(self.id(IdKind::User).await),
            tenant,
            name: name.into(),
            role: Role::Admin,
            password_hash: "$argon2id$…".into(),
        }
    }

    pub(crate) async fn new_token(
        &self,
        tenant: TenantId,
        user: Option<UserId>,
        byte: u8,
    ) -> NewToken {
        NewToken {
            id: TokenId::new(self.id(IdKind::Token).await),
            tenant,
            user,
            name: "ci".into(),
            role: Role::Publisher,
            hash: [byte; 32],
            expires_at: Some(at(99)),
        }
    }
}

pub async fn a_tenants_name_is_taken_once(world: World) {
    let first = world.tenant("default").await;
    let id = TenantId::new(world.id(IdKind::Tenant).await);
    let second = NewTenant {
        id,
        name: "default".into(),
        jwt_secret: sealed(2),
        catalogue: vec![(event_type("post.created"), String::new())],
    };
    assert!(!world.store.create_tenant(second, by(1)).await.unwrap());
    let tenants = world.store.tenants().await.unwrap();
    for tenant in &tenants {
        assert_eq!(world.store.tenant(tenant.id).await.unwrap().as_ref(), Some(tenant));
    }
    assert_eq!(world.store.tenant(TenantId::new(99)).await.unwrap(), None);
    assert_eq!(tenants.len(), 1);
    assert_eq!((tenants[0].id, tenants[0].created_at), (first, at(0)));
    assert_eq!(world.store.event_types(id).await.unwrap(), []);
    assert_eq!(world.store.audit(id).await.unwrap(), []);
}

pub async fn a_jwt_secret_is_replaced(world: World) {
    let tenant = world.tenant("default").await;
    assert!(world.store.set_jwt_secret(tenant, sealed(7), by(1)).await.unwrap());
    assert_eq!(world.store.tenants().await.unwrap()[0].jwt_secret, sealed(7));
    let nobody = TenantId::new(99);
    assert!(!world.store.set_jwt_secret(nobody, sealed(7), by(1)).await.unwrap());
    let actions = world.actions(tenant, "tenant:1").await;
    assert_eq!(actions, ["tenant_created", "jwt_secret_replaced"]);
}

pub async fn a_users_name_is_taken_once_in_the_instance(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let jane = world.new_user(ours, "jane").await;
    let id = jane.id;
    assert!(world.store.create_user(jane, by(1)).await.unwrap());
    let other_jane = world.new_user(theirs, "jane").await;
    assert!(!world.store.create_user(other_jane, by(1)).await.unwrap());

    let user = world.store.user(id).await.unwrap().unwrap();
    assert_eq!((user.tenant, user.name.as_str(), user.role), (ours, "jane", Role::Admin));
    assert_eq!((user.is_active, user.created_at), (true, at(1)));
    assert_eq!(world.store.users(ours).await.unwrap(), [user]);
    assert_eq!(world.store.users(theirs).await.unwrap(), []);
    assert_eq!(world.store.user(UserId::new(99)).await.unwrap(), None);
}

pub async fn a_user_is_disabled_in_its_own_tenant(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let jane = world.new_user(ours, "jane").await;
    let id = jane.id;
    world.store.create_user(jane, by(1)).await.unwrap();
    assert!(!world.store.disable_user(theirs, "jane", by(2)).await.unwrap());
    assert!(!world.store.disable_user(ours, "joe", by(2)).await.unwrap());
    assert!(world.store.user(id).await.unwrap().unwrap().is_active);
    assert!(world.store.disable_user(ours, "jane", by(2)).await.unwrap());
    assert!(!world.store.user(id).await.unwrap().unwrap().is_active);
    assert_eq!(world.actions(ours, "user:1").await, ["user_created", "user_disabled"]);
}

pub async fn a_user_is_changed_in_its_own_tenant(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let jane = world.new_user(ours, "jane").await;
    let id = jane.id;
    world.store.create_user(jane, by(1)).await.unwrap();
    let before = world.store.user(id).await.unwrap().unwrap();
    let change = |role, password_hash: Option<&str>, is_active| UserChange {
        role,
        password_hash: password_hash.map(str::to_owned),
        is_active,
        keeps_an_admin: false,
    };
    let update = |tenant, change| world.store.update_user(tenant, id, change, by(2));

    let all = || change(Some(Role::Viewer), Some("$argon2id$new"), Some(false));
    assert_eq!(update(theirs, all()).await.unwrap(), UserUpdated::NoUser);
    assert_eq!(world.store.user(id).await.unwrap().as_ref(), Some(&before));

    let nothing = update(ours, UserChange::default()).await.unwrap();
    assert_eq!(nothing, UserUpdated::Done(before.clone()));
    let after = User {
        role: Role::Viewer,
        password_hash: "$argon2id$new".into(),
        is_active: false,
        ..before
    };
    assert_eq!(update(ours, all()).await.unwrap(), UserUpdated::Done(after.clone()));
    assert_eq!(world.store.user(id).await.unwrap(), Some(after));
    update(ours, change(None, None, Some(true))).await.unwrap();
    assert!(world.store.user(id).await.unwrap().unwrap().is_active);
    let actions = world.actions(ours, "user:1").await;
    assert_eq!(actions, ["user_created", "user_disabled", "user_changed", "user_changed"]);
    assert_eq!(world.actions(theirs, "user:1").await, [""; 0]);
}

pub async fn the_last_administrator_stays_where_the_change_says_so(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let (jane, joe) = (world.new_user(ours, "jane").await, world.new_user(ours, "joe").await);
    let (jane_id, joe_id) = (jane.id, joe.id);
    let stranger = world.new_user(theirs, "stranger").await;
    for user in [jane, joe, stranger] {
        world.store.create_user(user, by(1)).await.unwrap();
    }
    let keeping =
        |role, is_active| UserChange { role, password_hash: None, is_active, keeps_an_admin: true };
    let update = |id, change| world.store.update_user(ours, id, change, by(2));
    let disabled = update(joe_id, keeping(None, Some(false))).await.unwrap();
    assert!(matches!(disabled, UserUpdated::Done(_)), "jane is left: {disabled:?}");
    for change in [keeping(None, Some(false)), keeping(Some(Role::Publisher), None)] {
        assert_eq!(update(jane_id, change).await.unwrap(), UserUpdated::LastAdmin);
    }
    let jane = world.store.user(jane_id).await.unwrap().unwrap();
    assert_eq!((jane.role, jane.is_active), (Role::Admin, true));
    let without = UserChange { is_active: Some(false), ..UserChange::default() };
    assert!(matches!(update(jane_id, without).await.unwrap(), UserUpdated::Done(_)));
    assert_eq!(world.actions(ours, "user:1").await, ["user_created", "user_disabled"]);
}

pub async fn a_tenant_is_renamed_to_a_free_name(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let rename = |tenant, name| world.store.rename_tenant(tenant, name, by(1));
    assert_eq!(rename(ours, "theirs").await.unwrap(), Renamed::NameTaken);
    assert_eq!(rename(TenantId::new(99), "new").await.unwrap(), Renamed::NoTenant);
    assert_eq!(rename(ours, "ours").await.unwrap(), Renamed::Done);
    assert_eq!(rename(ours, "new").await.unwrap(), Renamed::Done);
    assert_eq!(rename(theirs, "ours").await.unwrap(), Renamed::Done);
    let tenants = world.store.tenants().await.unwrap();
    let names: Vec<&str> = tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    assert_eq!(names, ["new", "ours"]);
    assert_eq!(world.actions(ours, "tenant:1").await, ["tenant_created", "tenant_renamed"]);
}

pub async fn a_token_is_found_by_its_hash_and_revoked_once(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let token = world.new_token(ours, None, 1).await;
    let id = token.id;
    world.store.create_token(token, by(1)).await.unwrap();

    let found = world.store.token_by_hash([1; 32]).await.unwrap().unwrap();
    assert_eq!((found.id, found.tenant, found.role), (id, ours, Role::Publisher));
    assert_eq!((found.created_at, found.expires_at), (at(1), Some(at(99))));
    assert_eq!(world.store.tokens(ours).await.unwrap(), [found]);
    assert_eq!(world.store.tokens(theirs).await.unwrap(), []);
    assert_eq!(world.store.token_by_hash([2; 32]).await.unwrap(), None);

    assert!(!world.store.revoke_token(theirs, id, by(2)).await.unwrap());
    assert!(world.store.revoke_token(ours, id, by(2)).await.unwrap());
    assert!(!world.store.revoke_token(ours, id, by(3)).await.unwrap());
    let found = world.store.token_by_hash([1; 32]).await.unwrap().unwrap();
    assert_eq!(found.revoked_at, Some(at(2)));
    assert_eq!(world.actions(ours, "token:1").await, ["token_created", "token_revoked"]);

    let twin = world.new_token(theirs, None, 1).await;
    let refused = world.store.create_token(twin, by(3)).await;
    assert!(matches!(refused, Err(StoreError::Inconsistent(_))), "{refused:?}");
}

pub async fn a_token_acts_for_a_user_of_its_own_tenant(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let jane = world.new_user(ours, "jane").await;
    let id = jane.id;
    world.store.create_user(jane, by(1)).await.unwrap();
    let good = world.new_token(ours, Some(id), 1).await;
    world.store.create_token(good, by(1)).await.unwrap();
    assert_eq!(world.store.tokens(ours).await.unwrap()[0].user, Some(id));
    let bad = world.new_token(theirs, Some(id), 2).await;
    let refused = world.store.create_token(bad, by(1)).await;
    assert!(matches!(refused, Err(StoreError::Inconsistent(_))), "{refused:?}");
    assert_eq!(world.store.tokens(theirs).await.unwrap(), []);
}

pub async fn nobody_belongs_to_a_tenant_that_is_not_there(world: World) {
    let nowhere = TenantId::new(99);
    let user = world.new_user(nowhere, "jane").await;
    assert!(world.store.create_user(user, by(1)).await.is_err());
    let token = world.new_token(nowhere, None, 1).await;
    assert!(world.store.create_token(token, by(1)).await.is_err());
    let endpoint = world.new_endpoint(nowhere, "https://a.example").await;
    assert!(world.store.create_endpoint(endpoint, by(1)).await.is_err());
    let added = world.store.add_event_type(nowhere, event_type("a"), String::new(), by(1)).await;
    assert!(added.is_err());
    assert_eq!(world.store.audit(nowhere).await.unwrap(), []);
}

pub async fn the_audit_log_is_paged_and_filtered(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    for seconds in 1..=4 {
        world.store.reveal_secret(tenant, id, by(seconds)).await.unwrap();
    }
    let user = By {
        actor: Actor::User(UserId::new(7)),
        address: Some("192.0.2.1".parse().unwrap()),
        at: at(3),
    };
    let subject = "user:7".to_owned();
    world.store.write_audit(tenant, Action::LoginFailed, subject, user).await.unwrap();
    let ask = async |query: AuditQuery| {
        let page = world.store.audit_page(tenant, query).await.unwrap();
        (page.count, page.items.into_iter().map(|line| line.id.get()).collect::<Vec<_>>())
    };
    let all = AuditQuery { limit: 100, ..AuditQuery::default() };
    assert_eq!(ask(all.clone()).await, (7, vec![1, 2, 3, 4, 5, 7, 6]));
    let latest = AuditQuery { descending: true, limit: 2, offset: 1, ..AuditQuery::default() };
    assert_eq!(ask(latest).await, (7, vec![7, 5]));
    let revealed = Some("secret_revealed".to_owned());
    let between =
        AuditQuery { action: revealed, since: Some(at(2)), until: Some(at(4)), ..all.clone() };
    assert_eq!(ask(between).await, (2, vec![4, 5]));
    let by_user = AuditQuery { actor: Some("user:7".into()), ..all.clone() };
    let page = world.store.audit_page(tenant, by_user).await.unwrap();
    assert_eq!((page.count, page.items[0].address.as_deref()), (1, Some("192.0.2.1")));
    assert_eq!(
        ask(AuditQuery { action: Some("nonsense".into()), ..all.clone() }).await,
        (0, vec![])
    );
    let theirs = world.tenant("theirs").await;
    assert_eq!(world.store.audit_page(theirs, all).await.unwrap().count, 1);
}

pub async fn the_audit_log_tells_who_did_what_to_whom(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let address = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
    let jane = By { actor: Actor::User(UserId::new(5)), address, at: at(8) };
    world.store.retire_event_type(ours, event_type("post.created"), jane).await.unwrap();

    let log = world.store.audit(ours).await.unwrap();
    let ids: Vec<i64> = log.iter().map(|line| line.id.get()).collect();
    assert_eq!(ids, [1, 3]);
    let last = AuditEntry {
        id: log[1].id,
        at: at(8),
        actor: "user:5".into(),
        address: Some("192.0.2.7".into()),
        action: "event_type_retired".into(),
        subject: "event_type:post.created".into(),
    };
    assert_eq!(log[1], last);
    let log = world.store.audit(theirs).await.unwrap();
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].actor.as_str(), log[0].address.as_deref()), ("command-line", None));
}
