//! Signing secrets: kept, shown, expired, wiped.

use std::time::Duration;

use postrider_kernel::{
    EndpointId, SecretId, TenantId, Timestamp, secret::Standing, signature::SignatureAlgorithms,
};

use super::{
    World,
    world::{at, by, sealed},
};
use crate::{EndpointChange, GraceEnded, NewSecret, StoredSecret};

const HOUR: Duration = Duration::from_secs(3600);

impl World {
    /// The live secrets of a tenant's only endpoint.
    async fn live(&self, tenant: TenantId) -> Vec<(i64, Standing)> {
        let directory = self.store.directory(tenant).await.unwrap();
        let secrets = directory.into_iter().flat_map(|entry| entry.secrets);
        secrets.map(|secret| (secret.id.get(), secret.standing)).collect()
    }

    async fn expire(&self, id: (TenantId, EndpointId), grace: Option<Duration>, seconds: i64) {
        let secret = self.new_secret().await;
        let endpoint =
            self.store.expire_secret(id.0, id.1, secret, grace, by(seconds)).await.unwrap();
        assert_eq!(endpoint.unwrap().updated_at, at(seconds));
    }
}

fn grace(until: Timestamp) -> Standing {
    Standing::Grace { until }
}

pub async fn a_reveal_is_written_down(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    let secret = world.store.reveal_secret(tenant, id, by(1)).await.unwrap().unwrap();
    assert_eq!((secret.sealed.clone(), secret.standing), (sealed(1), Standing::Current));
    let actions = world.actions(tenant, "endpoint:1").await;
    assert_eq!(actions, ["endpoint_created", "secret_revealed"]);
    assert_eq!(world.store.endpoint(tenant, id).await.unwrap().unwrap().updated_at, at(0));
}

pub async fn without_a_grace_the_old_secret_is_wiped_at_once(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    world.expire((tenant, id), None, 5).await;
    assert_eq!(world.live(tenant).await, [(2, Standing::Current)]);
    let secret = world.store.reveal_secret(tenant, id, by(6)).await.unwrap().unwrap();
    assert_eq!(secret.sealed, sealed(2));
    assert_eq!(world.store.endpoint(tenant, id).await.unwrap().unwrap().updated_at, at(5));
    let actions = world.actions(tenant, "endpoint:1").await;
    assert_eq!(actions, ["endpoint_created", "secret_expired", "secret_revealed"]);
}

pub async fn with_a_grace_both_sign_and_the_newest_comes_first(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    world.expire((tenant, id), Some(HOUR), 5).await;
    world.expire((tenant, id), Some(HOUR), 6).await;
    let expected = [(3, Standing::Current), (2, grace(at(3606))), (1, grace(at(3605)))];
    assert_eq!(world.live(tenant).await, expected);
    let directory = world.store.directory(tenant).await.unwrap();
    let oldest = StoredSecret { sealed: sealed(1), ..directory[0].secrets[2].clone() };
    assert_eq!(directory[0].secrets[2], oldest);
}

pub async fn the_current_secret_comes_first_even_if_the_clock_was_set_back(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    world.expire((tenant, id), Some(HOUR), 9).await;
    world.expire((tenant, id), Some(HOUR), 5).await;
    let ids: Vec<i64> = world.live(tenant).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [3, 2, 1]);
}

pub async fn an_expiration_without_grace_ends_every_grace(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    world.expire((tenant, id), Some(HOUR), 5).await;
    world.expire((tenant, id), Some(Duration::ZERO), 6).await;
    assert_eq!(world.live(tenant).await, [(3, Standing::Current)]);
}

pub async fn at_most_five_secrets_sign(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    for seconds in 1..8 {
        world.expire((tenant, id), Some(HOUR), seconds).await;
    }
    let ids: Vec<i64> = world.live(tenant).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [8, 7, 6, 5, 4]);
}

pub async fn one_grace_is_ended_early_and_the_others_run_on(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    world.expire((tenant, id), Some(HOUR), 5).await;
    world.expire((tenant, id), Some(HOUR), 6).await;
    let end = async |secret, seconds| {
        world.store.end_grace(tenant, id, SecretId::new(secret), by(seconds)).await.unwrap()
    };
    match end(1, 7).await {
        GraceEnded::Done(endpoint) => assert_eq!(endpoint.updated_at, at(7)),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.live(tenant).await, [(3, Standing::Current), (2, grace(at(3606)))]);
    assert_eq!(end(1, 8).await, GraceEnded::Unknown, "it has ended");
    assert_eq!(end(3, 8).await, GraceEnded::IsCurrent);
    assert_eq!(end(9, 8).await, GraceEnded::Unknown);
    assert_eq!(end(2, 3606).await, GraceEnded::Unknown, "it ended by itself");
    assert_eq!(world.store.endpoint(tenant, id).await.unwrap().unwrap().updated_at, at(7));
    let actions = world.actions(tenant, "endpoint:1").await;
    assert_eq!(actions, ["endpoint_created", "secret_expired", "secret_expired", "grace_ended"]);
    let theirs = world.tenant("theirs").await;
    let elsewhere = world.store.end_grace(theirs, id, SecretId::new(2), by(9)).await.unwrap();
    assert_eq!(elsewhere, GraceEnded::Unknown);
}

pub async fn live_secrets_are_listed_with_their_times(world: World) {
    let tenant = world.tenant("default").await;
    let id = world.endpoint(tenant).await;
    world.expire((tenant, id), Some(HOUR), 5).await;
    let secrets = world.store.secrets(tenant, id).await.unwrap().unwrap();
    assert_eq!(secrets, world.store.directory(tenant).await.unwrap()[0].secrets);
    let times: Vec<_> = secrets.iter().map(|secret| secret.created_at).collect();
    assert_eq!(times, [at(5), at(0)]);
    let theirs = world.tenant("theirs").await;
    assert_eq!(world.store.secrets(theirs, id).await.unwrap(), None);
}

pub async fn a_secret_that_was_brought_along_is_told_apart(world: World) {
    let tenant = world.tenant("default").await;
    let mut endpoint = world.new_endpoint(tenant, "https://receiver.example").await;
    endpoint.secret.is_brought = true;
    let id = world.store.create_endpoint(endpoint, by(0)).await.unwrap().id;
    let secret = NewSecret { is_brought: true, ..world.new_secret().await };
    assert!(world.store.expire_secret(tenant, id, secret, None, by(1)).await.unwrap().is_some());
    let actions = world.actions(tenant, "endpoint:1").await;
    assert_eq!(actions, ["endpoint_created", "secret_brought", "secret_brought"]);
}

pub async fn a_secret_without_a_key_is_given_one_once(world: World) {
    let tenant = world.tenant("default").await;
    let mut endpoint = world.new_endpoint(tenant, "https://receiver.example").await;
    endpoint.secret.sealed_key = None;
    let (id, secret) = (endpoint.id, endpoint.secret.id);
    world.store.create_endpoint(endpoint, by(0)).await.unwrap();
    let other = world.endpoint(tenant).await;
    let give = async |endpoint, secret, key| {
        let signature_algorithms = Some(SignatureAlgorithms::Ed25519);
        let key = Some((secret, sealed(key)));
        let change = EndpointChange { signature_algorithms, key, ..EndpointChange::default() };
        let changed = world.store.update_endpoint(tenant, endpoint, change, by(1)).await.unwrap();
        assert_eq!(changed.unwrap().signature_algorithms, SignatureAlgorithms::Ed25519);
        let secrets = world.store.secrets(tenant, id).await.unwrap().unwrap();
        secrets.into_iter().map(|secret| secret.sealed_key).collect::<Vec<_>>()
    };
    assert_eq!(give(other, secret, 7).await, [None], "it is not the other endpoint's");
    assert_eq!(give(id, SecretId::new(99), 7).await, [None]);
    assert_eq!(give(id, secret, 8).await, [Some(sealed(8))]);
    assert_eq!(give(id, secret, 9).await, [Some(sealed(8))], "one that has a key keeps it");
    world.expire((tenant, id), None, 5).await;
    assert_eq!(give(id, secret, 9).await, [Some(sealed(-3))], "what signs no more gets none");
}

pub async fn another_tenants_secret_is_as_if_it_were_not_there(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let id = world.endpoint(theirs).await;
    assert_eq!(world.store.reveal_secret(ours, id, by(1)).await.unwrap(), None);
    let secret = world.new_secret().await;
    assert_eq!(world.store.expire_secret(ours, id, secret, None, by(1)).await.unwrap(), None);
    assert_eq!(world.live(theirs).await, [(1, Standing::Current)]);
    assert_eq!(world.store.audit(ours).await.unwrap().len(), 1);
}
