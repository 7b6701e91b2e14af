//! The catalogue of event types.

use super::{
    World,
    world::{at, by, event_type},
};
use crate::CatalogueEntry;

fn names(catalogue: &[CatalogueEntry]) -> Vec<&str> {
    catalogue.iter().map(|entry| entry.event_type.as_str()).collect()
}

pub async fn a_catalogue_keeps_its_order(world: World) {
    let tenant = world.tenant("default").await;
    let add = |name| world.store.add_event_type(tenant, event_type(name), "new".into(), by(1));
    let added = add("a.first").await.unwrap().unwrap();
    assert_eq!((added.description.as_str(), added.created_at), ("new", at(1)));
    assert_eq!(add("a.first").await.unwrap(), None);
    let catalogue = world.store.event_types(tenant).await.unwrap();
    assert_eq!(names(&catalogue), ["post.created", "post.deleted", "a.first"]);
    assert_eq!(catalogue[2], added);
    assert_eq!(world.actions(tenant, "event_type:a.first").await, ["event_type_added"]);
}

pub async fn a_retired_type_is_offered_again_where_it_stood(world: World) {
    let tenant = world.tenant("default").await;
    let created = || event_type("post.created");
    assert!(world.store.retire_event_type(tenant, created(), by(1)).await.unwrap());
    assert!(!world.store.retire_event_type(tenant, created(), by(2)).await.unwrap());
    assert!(!world.store.retire_event_type(tenant, event_type("never"), by(2)).await.unwrap());
    let catalogue = world.store.event_types(tenant).await.unwrap();
    assert_eq!(catalogue[0].retired_at, Some(at(1)));

    let again = world.store.add_event_type(tenant, created(), "again".into(), by(3)).await.unwrap();
    let again = again.unwrap();
    assert_eq!((again.created_at, again.retired_at), (at(0), None));
    let catalogue = world.store.event_types(tenant).await.unwrap();
    assert_eq!(names(&catalogue), ["post.created", "post.deleted"]);
    assert_eq!(catalogue[0], again);
    let actions = world.actions(tenant, "event_type:post.created").await;
    assert_eq!(actions, ["event_type_retired", "event_type_added"]);
}

pub async fn tenants_have_catalogues_of_their_own(world: World) {
    let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
    world.store.add_event_type(ours, event_type("a"), String::new(), by(1)).await.unwrap();
    assert!(!world.store.retire_event_type(theirs, event_type("a"), by(2)).await.unwrap());
    world.store.retire_event_type(theirs, event_type("post.created"), by(2)).await.unwrap();
    let catalogue = world.store.event_types(ours).await.unwrap();
    assert_eq!(catalogue.len(), 3);
    assert!(catalogue.iter().all(|entry| entry.retired_at.is_none()));
}
