//! Backups, from one engine to the other and back.

use std::{path::Path, sync::Arc, time::Duration};

use postrider_kernel::{Failure, Next, attempt::Cause};
use rusqlite::{Connection, types::Value};
use tempfile::TempDir;

use super::open_here;
use crate::{
    ClaimLimit, IdKind, IdempotencyKey, Lease, Published, Recorded, Store, StoreError,
    archive::TABLES,
    conformance::{
        World,
        world::{at, by, sealed},
    },
    sqlite::{self, SqliteStore},
};

/// Something in every table, and a lease that nobody holds any more.
async fn fill(world: &World) {
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    let gone = world.endpoint(tenant).await;
    let jane = world.new_user(tenant, "jane").await;
    let token = world.new_token(tenant, Some(jane.id), 1).await;
    world.store.create_user(jane, by(1)).await.unwrap();
    world.store.create_token(token, by(1)).await.unwrap();
    world.store.keep_key_check(vec![0, 1, 2]).await.unwrap();
    let grace = Some(Duration::from_secs(60));
    for grace in [grace, None] {
        let secret = world.new_secret().await;
        world.store.expire_secret(tenant, endpoint, secret, grace, by(2)).await.unwrap().unwrap();
    }
    let mut publication = world.publication(tenant, &[endpoint, gone], 3).await;
    publication.payload = b"\x00\xff".to_vec().into();
    publication.idempotency =
        Some(IdempotencyKey { key: "k".into(), request_hash: [7; 32], not_before: at(0) });
    assert_eq!(world.store.publish(publication).await.unwrap(), Published::Fresh);
    let leased = world.claim_one(endpoint, 3, Lease(1)).await;
    let mut failed = world.attempt(leased, 4, Next::Retry(at(9))).await;
    failed.response = Err(Failure::new(Cause::Connect, "a NUL: \0"));
    assert_eq!(world.store.record(failed).await.unwrap(), Recorded::Done);
    world.publish(tenant, &[endpoint], 5).await;
    let leased = world.claim_one(endpoint, 5, Lease(1)).await;
    let mut done = world.attempt(leased, 6, Next::Delivered).await;
    done.response = Ok((200, b"\x00\xff".to_vec()));
    assert_eq!(world.store.record(done).await.unwrap(), Recorded::Done);
    world.claim_one(endpoint, 9, Lease(1)).await;
    world.store.delete_endpoint(tenant, gone, by(7)).await.unwrap();
}

/// What an archive holds, table by table.
fn content(archive: &Path) -> Vec<(&'static str, Vec<Vec<Value>>)> {
    let connection = sqlite::archive::open(archive).unwrap();
    let rows = |select: &str| {
        let mut statement = connection.prepare(select).unwrap();
        let width = statement.column_count();
        let read = |row: &rusqlite::Row<'_>| (0..width).map(|index| row.get(index)).collect();
        statement.query_map([], read).unwrap().map(Result::unwrap).collect::<Vec<Vec<Value>>>()
    };
    let of_table = |table: &crate::archive::Table| {
        let mut found = Vec::new();
        sqlite::archive::read(&connection, table, |row| {
            found.push(row);
            Ok(())
        })
        .unwrap();
        found.sort_by_key(|row| format!("{row:?}"));
        (table.name, found)
    };
    let mut content: Vec<_> = TABLES.iter().map(of_table).collect();
    content.push(("counters", rows("SELECT * FROM attempt_count ORDER BY endpoint_id")));
    content.push((
        "identifiers",
        rows("SELECT kind, next FROM id_block WHERE kind <> 'life' ORDER BY kind"),
    ));
    content
}

/// A backup of a filled SQLite database, and where it is.
async fn filled() -> (std::path::PathBuf, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("postrider.db");
    let store = Arc::new(SqliteStore::open(&database).unwrap());
    fill(&World::new(store)).await;
    let archive = directory.path().join("backup");
    sqlite::back_up(&database, &archive).unwrap();
    (archive, directory)
}

#[tokio::test]
async fn nothing_is_lost_on_the_way_from_one_engine_to_the_other_and_back() {
    let (archive, directory) = filled().await;
    assert!(
        content(&archive).iter().all(|(name, rows)| !rows.is_empty() || panic!("{name} is empty"))
    );
    let (postgres, _database) = open_here().await;
    postgres.restore(&archive).await.unwrap();
    let back = directory.path().join("back");
    postgres.back_up(&back).await.unwrap();
    assert_eq!(content(&archive), content(&back));

    let again = directory.path().join("again.db");
    sqlite::restore(&back, &again).unwrap();
    let again: Arc<dyn Store> = Arc::new(SqliteStore::open(&again).unwrap());
    for store in [again, Arc::new(postgres)] {
        let lease = store.begin_life().await.unwrap();
        let tenant = store.tenants().await.unwrap()[0].clone();
        assert_eq!((tenant.name.as_str(), tenant.jwt_secret), ("default", sealed(0)));
        assert_eq!(store.keep_key_check(vec![9]).await.unwrap(), [0, 1, 2]);
        assert_eq!(store.reserve_ids(IdKind::Event, 1).await.unwrap(), 3..4);
        let due = store.earliest_due().await.unwrap();
        let [(_, endpoint, due_at)] = due[..] else {
            panic!("one endpoint is owed something: {due:?}")
        };
        assert_eq!(due_at, at(9), "what was leased is due when it was");
        let claim = store.claim_due(endpoint, at(9), ClaimLimit::count(9), lease).await.unwrap();
        assert_eq!(claim.deliveries[0].payload[..], *b"\x00\xff");
    }
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let (archive, directory) = filled().await;
    let database = directory.path().join("postrider.db");
    let refusals = [sqlite::back_up(&database, &archive), sqlite::restore(&archive, &database)];
    let (postgres, _database) = open_here().await;
    let refusals = refusals.into_iter().chain([postgres.back_up(&archive).await]);
    for refused in refusals {
        assert!(refused.unwrap_err().to_string().ends_with("is there, and is not overwritten"));
    }
    postgres.restore(&archive).await.unwrap();
    let refused = postgres.restore(&archive).await.unwrap_err().to_string();
    assert!(refused.contains("the database is not empty"), "{refused}");
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".partial")), "{left:?}");
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let (archive, directory) = filled().await;
    let whole = std::fs::read(&archive).unwrap();
    let damaged = directory.path().join("damaged");
    let target = directory.path().join("target.db");
    let (postgres, _database) = open_here().await;
    for bytes in [&b""[..], b"nonsense", &whole[..whole.len() / 2]] {
        std::fs::write(&damaged, bytes).unwrap();
        assert!(matches!(sqlite::restore(&damaged, &target), Err(StoreError::Unavailable(_))));
        assert!(!target.exists());
        assert!(matches!(postgres.restore(&damaged).await, Err(StoreError::Unavailable(_))));
        assert_eq!(postgres.tenants().await.unwrap(), []);
    }
    let missing = directory.path().join("missing");
    assert!(sqlite::restore(&missing, &target).unwrap_err().to_string().contains("can't be read"));
}

#[tokio::test]
async fn a_backup_is_of_one_moment_while_others_write() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("postrider.db");
    let sqlite: Arc<dyn Store> = Arc::new(SqliteStore::open(&database).unwrap());
    let (postgres, _database) = open_here().await;
    let postgres = Arc::new(postgres);
    for (number, store) in [sqlite, postgres.clone()].into_iter().enumerate() {
        let world = World::new(store);
        let tenant = world.tenant("default").await;
        let endpoint = world.endpoint(tenant).await;
        let writing = tokio::spawn(async move {
            loop {
                world.publish(tenant, &[endpoint], 1).await;
            }
        });
        for turn in 0..5 {
            let archive = directory.path().join(format!("{number}-{turn}"));
            match number {
                0 => sqlite::back_up(&database, &archive).unwrap(),
                _ => postgres.back_up(&archive).await.unwrap(),
            }
            let torn = "SELECT count(*) FROM event FULL JOIN delivery ON event.id = event_id
                WHERE event.id IS NULL OR event_id IS NULL";
            let archive = Connection::open(&archive).unwrap();
            assert_eq!(archive.query_row(torn, [], |row| row.get::<_, i64>(0)), Ok(0));
        }
        writing.abort();
    }
}
