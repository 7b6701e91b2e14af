//! Backups: made while the server serves, and restored into either engine.

use std::fs;

use postrider_store::postgres::testing::TestDatabase;
use serde_json::Value;

use crate::support::{Place, Running};

/// An instance that serves, with a user in it.
fn inhabited() -> (Place, Running) {
    let place = Place::new();
    let mut server = Running::start(place.command(&["serve", "--listen", "127.0.0.1:0"]));
    assert!(server.line().starts_with("listening"));
    let create = ["user", "create", "jane", "--role", "admin", "--password-stdin"];
    place.run_with(&create, "correct horse\n").succeeded();
    (place, server)
}

/// What only the right rows and the right key tell.
fn told(place: &Place, more: &[&str]) -> [Value; 2] {
    [&["user", "list"][..], &["jwt-secret", "show"]]
        .map(|command| place.json(&[command, more].concat()))
}

#[test]
fn a_backup_of_a_server_that_serves_is_another_server_once_it_has_the_key() {
    let (place, server) = inhabited();
    let file = place.path().join("backup");
    let backup = file.to_str().unwrap();
    let made = place.run(&["backup", backup]).succeeded();
    assert!(made.stdout().contains("master.key"), "{made:?}");
    place.run(&["backup", backup]).failed(1, &["is there, and is not overwritten"]);
    place.run(&["restore", backup]).failed(1, &["is there, and is not overwritten"]);
    let key = fs::read(place.data_dir().join("master.key")).unwrap();
    let bytes = fs::read(&file).unwrap();
    assert!(!bytes.windows(key.len()).any(|window| window == key), "the key is not in it");

    let other = Place::new();
    other.run(&["restore", backup]).succeeded();
    other.run(&["user", "list"]).failed(1, &["master.key", "is missing"]);
    fs::write(other.data_dir().join("master.key"), &key).unwrap();
    assert_eq!(told(&other, &[]), told(&place, &[]));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_backup_is_not_restored_under_another_key() {
    let (place, _server) = inhabited();
    let file = place.path().join("backup");
    let made = place.json(&["backup", file.to_str().unwrap()]);
    let key = made["master_key"].as_str().unwrap();
    assert_eq!(place.json(&["key", "show"])["keys"][0]["fingerprint"], key);
    let other = Place::new();
    other.run(&["tenant", "list"]).succeeded();
    let others =
        other.json(&["key", "show"])["keys"][0]["fingerprint"].as_str().unwrap().to_owned();
    fs::remove_file(other.data_dir().join("postrider.db")).unwrap();
    let restore = ["restore", file.to_str().unwrap()];
    other.run(&restore).failed(1, &["nothing was restored", key, &others]);
    assert!(!other.data_dir().join("postrider.db").exists());
    fs::copy(place.data_dir().join("master.key"), other.data_dir().join("master.key")).unwrap();
    assert!(other.run(&restore).succeeded().stdout().contains(key));
    assert_eq!(told(&other, &[]), told(&place, &[]));
}

#[test]
fn a_backup_moves_from_a_file_to_postgres_and_back() {
    let (place, _server) = inhabited();
    let file = place.path().join("backup");
    place.run(&["backup", file.to_str().unwrap()]).succeeded();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(TestDatabase::create());
    let url = database.url();
    let on_postgres = ["--database-url", &url];

    let node = Place::new();
    fs::create_dir(node.data_dir()).unwrap();
    fs::copy(place.data_dir().join("master.key"), node.data_dir().join("master.key")).unwrap();
    let restore = [&["restore", file.to_str().unwrap()], &on_postgres[..]].concat();
    node.run(&restore).succeeded();
    node.run(&restore).failed(1, &["the database is not empty"]);
    assert_eq!(told(&node, &on_postgres), told(&place, &[]));

    let back = node.path().join("back");
    node.run(&[&["backup", back.to_str().unwrap()], &on_postgres[..]].concat()).succeeded();
    node.run(&["restore", back.to_str().unwrap()]).succeeded();
    assert_eq!(told(&node, &[]), told(&place, &[]));
}

#[test]
fn what_is_no_backup_makes_no_instance() {
    let place = Place::new();
    place.run(&["backup", "x"]).failed(1, &["there is no database", "--data-dir"]);
    let nonsense = place.write("nonsense", "nonsense");
    place.run(&["restore", nonsense.to_str().unwrap()]).failed(1, &["is no sound backup"]);
    place.run(&["restore", "missing"]).failed(1, &["missing can't be read"]);
    assert!(!place.data_dir().join("postrider.db").exists());
}
