//! Endpoints and their subscriptions.

use postrider_kernel::{EndpointId, EventId, TenantId, UserId, signature::SignatureAlgorithms};

use super::{
    World,
    world::{at, by, endpoints_by, event_type, target},
};
use crate::{
    Endpoint, EndpointChange, EndpointField, EndpointQuery, OrderBy, Resend, Resent, Subscription,
};

const NO_CHANGE: EndpointChange = EndpointChange {
    is_active: None,
    target: None,
    description: None,
    event_types: None,
    ssl_cert_verification: None,
    signature_algorithms: None,
    key: None,
};

impl World {
    async fn endpoint_ids(&self, tenant: TenantId, query: EndpointQuery) -> Vec<i64> {
        let page = self.store.endpoints(tenant, query).await.unwrap();
        page.items.into_iter().map(|endpoint| endpoint.id.get()).collect()
    }
}

pub async fn an_endpoint_is_read_back_as_it_was_made(world: World) {
    let tenant = world.tenant("default").await;
    let mut new = world.new_endpoint(tenant, "HTTPS://Receiver.example/a?b#c").await;
    new.is_active = false;
    new.ssl_cert_verification = false;
    new.signature_algorithms = SignatureAlgorithms::Both;
    new.description = "Zoë's \"hooks\"\n\0".into();
    new.event_types = vec![event_type("post.deleted"), event_type("post.created")];
    let added = |name| Subscription { event_type: event_type(name), added_at: at(4) };
    let expected = Endpoint {
        id: new.id,
        tenant,
        created_at: at(4),
        updated_at: at(4),
        is_active: false,
        target: new.target.clone(),
        description: new.description.clone(),
        subscriptions: vec![added("post.deleted"), added("post.created")],
        ssl_cert_verification: false,
        signature_algorithms: SignatureAlgorithms::Both,
    };
    let secret = new.secret.clone();
    assert_eq!(world.store.create_endpoint(new, by(4)).await.unwrap(), expected);
    assert_eq!(world.store.endpoint(tenant, expected.id).await.unwrap().unwrap(), expected);
    let directory = world.store.directory(tenant).await.unwrap();
    assert_eq!(directory.len(), 1);
    assert_eq!(directory[0].endpoint, expected);
    assert_eq!(directory[0].secrets[0].sealed, secret.sealed);
    assert_eq!(directory[0].secrets[0].sealed_key, secret.sealed_key);
    assert_eq!(world.actions(tenant, "endpoint:1").await, ["endpoint_created"]);
}

pub async fn a_subscription_that_stays_keeps_its_time(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    let event_types = Some(vec![event_type("post.deleted"), event_type("post.created")]);
    let change = EndpointChange { event_types, ..NO_CHANGE };
    let changed = world.store.update_endpoint(tenant, id, change, by(5)).await.unwrap().unwrap();
    let times: Vec<_> = changed
        .subscriptions
        .iter()
        .map(|subscription| (subscription.event_type.as_str(), subscription.added_at))
        .collect();
    assert_eq!(times, [("post.deleted", at(5)), ("post.created", at(0))]);

    let event_types = Some(vec![event_type("post.deleted")]);
    let change = EndpointChange { event_types, ..NO_CHANGE };
    let changed = world.store.update_endpoint(tenant, id, change, by(6)).await.unwrap().unwrap();
    assert_eq!(changed.subscriptions.len(), 1);
    assert_eq!(changed.subscriptions[0].added_at, at(5));
    assert_eq!(world.store.endpoint(tenant, id).await.unwrap().unwrap(), changed);
}

pub async fn a_change_leaves_out_what_it_does_not_name(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    let before = world.store.endpoint(tenant, id).await.unwrap().unwrap();
    let after = world.store.update_endpoint(tenant, id, NO_CHANGE, by(5)).await.unwrap().unwrap();
    assert_eq!(after, Endpoint { updated_at: at(5), ..before.clone() });

    let change = EndpointChange {
        is_active: Some(false),
        target: Some(target("http://other.example")),
        description: Some("other".into()),
        event_types: None,
        ssl_cert_verification: Some(false),
        signature_algorithms: Some(SignatureAlgorithms::Ed25519),
        key: None,
    };
    let after = world.store.update_endpoint(tenant, id, change, by(6)).await.unwrap().unwrap();
    let expected = Endpoint {
        updated_at: at(6),
        is_active: false,
        target: target("http://other.example"),
        description: "other".into(),
        ssl_cert_verification: false,
        signature_algorithms: SignatureAlgorithms::Ed25519,
        ..before
    };
    assert_eq!(after, expected);
    assert_eq!(world.store.endpoint(tenant, id).await.unwrap().unwrap(), expected);
    let actions = world.actions(tenant, "endpoint:1").await;
    assert_eq!(actions, ["endpoint_created", "endpoint_changed", "endpoint_changed"]);
}

pub async fn a_deleted_endpoint_is_seen_by_no_verb(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    world.deliver(tenant, id, 1).await;
    world.publish(tenant, &[id], 2).await;
    assert!(world.store.delete_endpoint(tenant, id, by(3)).await.unwrap());
    assert!(!world.store.delete_endpoint(tenant, id, by(4)).await.unwrap());
    world.sees_nothing_of(tenant, id).await;
    assert_eq!(world.store.earliest_due().await.unwrap(), []);
    assert_eq!(world.store.earliest_due_of(id).await.unwrap(), None);
    let actions = world.actions(tenant, "endpoint:1").await;
    assert_eq!(actions, ["endpoint_created", "endpoint_deleted"]);
}

pub async fn another_tenants_endpoint_is_as_if_it_were_not_there(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let id = world.endpoint(theirs).await;
    world.sees_nothing_of(ours, id).await;
    assert!(!world.store.delete_endpoint(ours, id, by(3)).await.unwrap());
    let endpoint = world.store.endpoint(theirs, id).await.unwrap().unwrap();
    assert_eq!(endpoint.updated_at, at(0));
    assert_eq!(world.actions(ours, "endpoint:1").await, [""; 0]);
}

impl World {
    /// Every verb of a tenant that names an endpoint finds none.
    async fn sees_nothing_of(&self, tenant: TenantId, id: EndpointId) {
        let store = &self.store;
        assert_eq!(store.endpoint(tenant, id).await.unwrap(), None);
        assert_eq!(store.update_endpoint(tenant, id, NO_CHANGE, by(9)).await.unwrap(), None);
        assert_eq!(store.reveal_secret(tenant, id, by(9)).await.unwrap(), None);
        let secret = self.new_secret().await;
        assert_eq!(store.expire_secret(tenant, id, secret, None, by(9)).await.unwrap(), None);
        assert_eq!(store.directory(tenant).await.unwrap(), []);
        let page = endpoints_by(EndpointField::CreatedAt, false);
        assert_eq!(store.endpoints(tenant, page).await.unwrap().count, 0);
        let page = super::world::attempts_by(crate::AttemptField::SentAt, true);
        let page = store.attempts(tenant, id, page).await.unwrap();
        assert_eq!((page.count, page.items), (0, vec![]));
        let resend = Resend { tenant, endpoint: id, events: vec![] };
        assert_eq!(store.resend(resend, by(9)).await.unwrap(), Resent::NoEndpoint);
    }
}

pub async fn pages_are_ordered_and_ties_break_by_id(world: World) {
    let tenant = world.tenant("default").await;
    for (created, is_active) in [(2, true), (1, false), (2, false), (3, true)] {
        let mut new = world.new_endpoint(tenant, "https://a.example").await;
        new.is_active = is_active;
        world.store.create_endpoint(new, by(created)).await.unwrap();
    }
    let change = || EndpointChange { ssl_cert_verification: Some(false), ..NO_CHANGE };
    world.store.update_endpoint(tenant, EndpointId::new(2), change(), by(9)).await.unwrap();
    use EndpointField::{CreatedAt, IsActive, UpdatedAt};
    for (field, descending, expected) in [
        (CreatedAt, false, [2, 1, 3, 4]),
        (CreatedAt, true, [4, 1, 3, 2]),
        (UpdatedAt, false, [1, 3, 4, 2]),
        (UpdatedAt, true, [2, 4, 1, 3]),
        (IsActive, false, [2, 3, 1, 4]),
        (IsActive, true, [1, 4, 2, 3]),
    ] {
        let ids = world.endpoint_ids(tenant, endpoints_by(field, descending)).await;
        assert_eq!(ids, expected, "{field:?} {descending}");
    }
    let by = |field| OrderBy { field, descending: true };
    let mut query = endpoints_by(IsActive, true);
    query.ordering = vec![by(IsActive), by(CreatedAt)];
    assert_eq!(world.endpoint_ids(tenant, query.clone()).await, [4, 1, 3, 2]);
    (query.limit, query.offset) = (2, 1);
    let page = world.store.endpoints(tenant, query.clone()).await.unwrap();
    assert_eq!((page.count, page.items.len()), (4, 2));
    query.ordering.clear();
    assert_eq!(world.endpoint_ids(tenant, query.clone()).await, [2, 3]);
    query.offset = u64::MAX;
    assert_eq!(world.endpoint_ids(tenant, query).await, [0; 0]);
}

pub async fn a_search_folds_ascii_case_and_nothing_else(world: World) {
    let tenant = world.tenant("default").await;
    for url in ["https://A.example/Päth%", "https://b.example/path_"] {
        let new = world.new_endpoint(tenant, url).await;
        world.store.create_endpoint(new, by(1)).await.unwrap();
    }
    for (text, expected) in [
        ("", &[1, 2][..]),
        ("EXAMPLE", &[1, 2]),
        ("a.Example", &[1]),
        ("pÄth", &[]),
        ("Päth", &[1]),
        ("%", &[1]),
        ("_", &[2]),
        ("c.example", &[]),
    ] {
        let target_contains = Some(text.into());
        let query =
            EndpointQuery { target_contains, ..endpoints_by(EndpointField::CreatedAt, false) };
        let page = world.store.endpoints(tenant, query.clone()).await.unwrap();
        assert_eq!(page.count, expected.len() as u64, "{text}");
        assert_eq!(world.endpoint_ids(tenant, query).await, expected, "{text}");
    }
}

pub async fn identifiers_beyond_every_store_are_merely_unknown(world: World) {
    let tenant = world.tenant("default").await;
    for id in [0, -1, i64::MIN, i64::MAX] {
        world.sees_nothing_of(tenant, EndpointId::new(id)).await;
        assert_eq!(world.store.user(UserId::new(id)).await.unwrap(), None);
        let known = world.store.known_events(tenant, vec![EventId::new(id)]).await.unwrap();
        assert_eq!(known, []);
        assert_eq!(world.store.event_types(TenantId::new(id)).await.unwrap(), []);
    }
}
