//! Identifiers, lives, health.

use super::World;
use crate::{IdKind, Lease};

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
