//! Identifiers, lives, health.

use super::World;
use crate::{IdKind, Lease, Renewal};

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
