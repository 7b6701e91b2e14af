//! Identifiers, lives, health.

use super::{
    World,
    world::{by, sealed},
};
use crate::{IdKind, Lease, Renewal, Sealed, SealedAt, SealedKind};

pub async fn identifiers_begin_at_one_and_are_handed_out_once(world: World) {
    for kind in [IdKind::Event, IdKind::Delivery, IdKind::Audit, IdKind::Life] {
        assert_eq!(world.store.reserve_ids(kind, 3).await.unwrap(), 1..4);
        assert_eq!(world.store.reserve_ids(kind, 1).await.unwrap(), 4..5);
    }
}

pub async fn the_first_key_check_is_kept(world: World) {
    assert_eq!(world.store.keep_key_check(vec![1, 2]).await.unwrap(), [1, 2]);
    assert_eq!(world.store.keep_key_check(vec![3]).await.unwrap(), [1, 2]);
}

pub async fn a_key_check_is_replaced_by_whoever_knows_the_one_before(world: World) {
    let tenant = world.tenant("default").await;
    assert_eq!(world.store.key_check().await.unwrap(), None);
    let replace = async |old, new| world.store.replace_key_check(vec![old], vec![new], by(5)).await;
    assert!(!replace(1, 2).await.unwrap(), "there is none");
    world.store.keep_key_check(vec![1]).await.unwrap();
    assert!(replace(1, 2).await.unwrap());
    assert!(!replace(1, 3).await.unwrap());
    assert_eq!(world.store.key_check().await.unwrap(), Some(vec![2]));
    assert_eq!(world.store.keep_key_check(vec![9]).await.unwrap(), [2]);
    let actions = world.actions(tenant, "tenant:1").await;
    assert_eq!(actions, ["tenant_created", "master_key_rotated"]);
}

pub async fn every_ciphertext_is_found_and_replaced_by_whoever_knows_it(world: World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let secret = world.new_secret().await;
    let grace = Some(std::time::Duration::from_secs(60));
    world.store.expire_secret(tenant, endpoint, secret, grace, by(1)).await.unwrap();
    let find = async |head: &[u8], after, limit| {
        let found = world.store.sealed_otherwise(head.to_vec(), after, limit).await.unwrap();
        found.into_iter().map(|(at, _)| (at.kind, at.id)).collect::<Vec<_>>()
    };
    use SealedKind::{JwtSecret, Key, Secret};
    let all = [(JwtSecret, 1), (Secret, 1), (Secret, 2), (Key, 1), (Key, 2)];
    assert_eq!(find(b"", None, 9).await, all);
    assert_eq!(find(b"seal", None, 9).await, []);
    assert_eq!(find(b"", None, 2).await, all[..2]);
    let at = |kind, id| SealedAt { kind, tenant, id };
    assert_eq!(find(b"", Some(at(Secret, 1)), 2).await, all[2..4]);
    for (kind, id, old) in [(JwtSecret, 1, 0), (Secret, 2, 2), (Key, 1, -1)] {
        let new = Sealed(b"new".to_vec());
        let reseal = async |old| world.store.reseal(at(kind, id), old, new.clone()).await.unwrap();
        assert!(!reseal(sealed(77)).await);
        assert!(reseal(sealed(old)).await);
        assert!(!reseal(sealed(old)).await);
    }
    assert_eq!(find(b"new", None, 9).await, [(Secret, 1), (Key, 2)]);
    let secrets = world.store.secrets(tenant, endpoint).await.unwrap().unwrap();
    assert_eq!(
        (&secrets[0].sealed.0[..], secrets[0].sealed_key.clone()),
        (&b"new"[..], Some(sealed(-2)))
    );
    assert_eq!(world.store.tenant(tenant).await.unwrap().unwrap().jwt_secret.0, b"new");
}

pub async fn a_store_is_healthy_and_its_own_changes_are_not_elsewhere(world: World) {
    world.store.check_health().await.unwrap();
    assert!(!world.store.changed_elsewhere().await.unwrap());
    world.tenant("default").await;
    assert!(!world.store.changed_elsewhere().await.unwrap());
}

pub async fn each_life_has_a_lease_of_its_own(world: World) {
    assert_eq!(world.store.begin_life().await.unwrap(), Lease(1));
    assert_eq!(world.store.begin_life().await.unwrap(), Lease(2));
}

pub async fn a_life_that_knows_the_directory_may_sign(world: World) {
    world.tenant("default").await;
    let life = world.store.begin_life().await.unwrap();
    let current = world.store.directory_version().await.unwrap();
    match world.store.renew(life, current).await.unwrap() {
        Renewal::Held { version, may_sign, .. } => assert_eq!((version, may_sign), (current, true)),
        Renewal::Lost => panic!("nobody took it over"),
    }
    assert!(world.store.is_applied_elsewhere(current, life).await.unwrap());
    assert!(!world.store.take_over().await.unwrap());
    world.store.end_life(life).await.unwrap();
}
