//! Signing secrets: kept, shown, expired, wiped.

use std::time::Duration;

use postrider_kernel::{EndpointId, TenantId, Timestamp, secret::Standing};

use super::{
    World,
    world::{at, by, sealed},
};
use crate::StoredSecret;

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

pub async fn another_tenants_secret_is_as_if_it_were_not_there(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    let id = world.endpoint(theirs).await;
    assert_eq!(world.store.reveal_secret(ours, id, by(1)).await.unwrap(), None);
    let secret = world.new_secret().await;
    assert_eq!(world.store.expire_secret(ours, id, secret, None, by(1)).await.unwrap(), None);
    assert_eq!(world.live(theirs).await, [(1, Standing::Current)]);
    assert_eq!(world.store.audit(ours).await.unwrap().len(), 1);
}
