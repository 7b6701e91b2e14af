//! Every statement fits the schema, and the hot ones are served by the index that was made for them, whether the tables
//! were small or large when they were planned.

use std::{fmt::Write, fs};

use deadpool_postgres::Client;

use super::open_here;
use crate::{
    AttemptField, AttemptQuery, OrderBy,
    postgres::{attempts, migrate::MIGRATIONS, query::sql},
};

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let (store, _database) = open_here().await;
    let client = store.client().await.unwrap();
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/postgres/sql");
    let mut prepared = 0;
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        if let Err(error) = client.prepare(&text).await {
            panic!("{}: {error:?}", path.display());
        }
        prepared += 1;
    }
    assert!(prepared > 50, "only {prepared} statements were found");
}

#[test]
fn every_migration_is_named_and_listed() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/postgres/migrations");
    let mut files: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let listed: Vec<_> = MIGRATIONS.iter().map(|step| format!("{}.sql", step.name)).collect();
    assert_eq!(files, listed);
}

/// How Postgres runs a statement whose parameters it doesn't know yet, which is how it keeps a plan.
async fn plan(client: &Client, statement: &str) -> String {
    let parameters = client.prepare(statement).await.unwrap().params().len();
    let values = vec!["NULL"; parameters].join(", ");
    let values = if parameters == 0 { values } else { format!("({values})") };
    client.batch_execute("SET plan_cache_mode = force_generic_plan").await.unwrap();
    client.batch_execute(&format!("PREPARE planned AS {statement}")).await.unwrap();
    let explain = format!("EXPLAIN (COSTS OFF) EXECUTE planned{values}");
    let rows = client.query(&explain, &[]).await.unwrap();
    client.batch_execute("DEALLOCATE planned").await.unwrap();
    rows.iter().fold(String::new(), |mut plan, row| {
        writeln!(plan, "{}", row.get::<_, &str>(0)).unwrap();
        plan
    })
}

/// A past: an endpoint with a long backlog, another with none, and what was delivered before.
const PAST: &str = "
    INSERT INTO tenant SELECT n, 'tenant ' || n, '', 0 FROM generate_series(1, 20) n;
    INSERT INTO endpoint SELECT 1 + n % 20, n, 0, 0, NULL, TRUE, TRUE, 'https://a.example', '' FROM generate_series(1, 100) n;
    INSERT INTO event SELECT 1 + n % 20, n, 'a', 0, n, 'x' FROM generate_series(1, 20000) n;
    INSERT INTO delivery (tenant_id, id, endpoint_id, event_id, trigger, status, due_at, created_at, finished_at)
        SELECT 1 + n % 20, n, 1 + n % 20, n, 0, CASE WHEN n % 3 = 0 THEN 0 ELSE 2 END, n, n,
            CASE WHEN n % 3 = 0 THEN NULL ELSE n END
        FROM generate_series(1, 20000) n;
    INSERT INTO attempt SELECT tenant_id, id, endpoint_id, event_id, id, 1, 0, id, 1, NULL, NULL, '', 200, NULL, NULL, ''
        FROM delivery WHERE status = 2;
    INSERT INTO attempt_count SELECT tenant_id, endpoint_id, 0, count(*) FROM attempt GROUP BY 1, 2;
    ANALYZE;
";

/// Looks at the plans of a new database, and of one with a past.
async fn check(look: impl AsyncFn(&Client)) {
    let (store, _database) = open_here().await;
    let client = store.client().await.unwrap();
    look(&client).await;
    client.batch_execute(PAST).await.unwrap();
    look(&client).await;
}

#[tokio::test]
async fn a_claim_looks_at_its_endpoints_pending_rows_in_order() {
    check(async |client| {
        let plan = plan(client, sql!("claim_due")).await;
        let seek = "Index Scan using delivery_pending on delivery\n";
        let (before, after) = plan.split_once(seek).unwrap_or_else(|| panic!("{plan}"));
        assert!(before.ends_with("->  LockRows\n                ->  "), "no sort between: {plan}");
        let condition = after.lines().next().unwrap();
        for part in ["tenant_id = $", "endpoint_id = $1", "due_at <= $2"] {
            assert!(condition.contains(part), "{plan}");
        }
    })
    .await;
}

#[tokio::test]
async fn hot_statements_seek_by_keys_alone() {
    check(async |client| {
        for (statement, seeks) in [
            (sql!("claim_due"), &["delivery_pkey", "event_pkey", "endpoint_ids_are_unique"][..]),
            (sql!("publish"), &["Index Scan using endpoint_"]),
            (sql!("record"), &["Index Scan using endpoint_", "attempt_pkey"]),
            (sql!("select_idempotency"), &["idempotency_pkey"]),
            (sql!("select_event"), &["event_pkey"]),
            (sql!("count_deliveries_of_event"), &["delivery_of_event"]),
            (sql!("select_deliveries_of_event"), &["delivery_of_event"]),
            (sql!("give_back"), &["delivery_leased", "delivery_pkey"]),
            (sql!("earliest_due_of"), &["delivery_pending"]),
            (sql!("earliest_due"), &["delivery_pending"]),
            (sql!("find_dead_leases"), &["delivery_leased"]),
            (sql!("free_leased"), &["delivery_leased", "delivery_pkey"]),
        ] {
            let plan = plan(client, statement).await;
            for seek in seeks {
                assert!(plan.contains(seek), "{seek}: {plan}");
            }
            for scan in ["event", "delivery", "attempt", "endpoint", "idempotency"] {
                assert!(!plan.contains(&format!("Seq Scan on {scan}")), "{plan}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_page_of_attempts_is_found_in_its_index() {
    let order = |field, descending| OrderBy { field, descending };
    let ordering = vec![order(AttemptField::SentAt, true)];
    let query = AttemptQuery { ordering, limit: 10, offset: 0 };
    check(async |client| {
        let plan = plan(client, &attempts::select_ids(&query)).await;
        assert!(plan.contains("Index Only Scan using attempt_of_endpoint"), "{plan}");
        assert!(!plan.contains("Sort"), "{plan}");
    })
    .await;
}

#[tokio::test]
async fn a_purge_scans_nothing_that_grows_but_the_walk() {
    check(async |client| {
        for statement in [
            sql!("delete_old_attempts"),
            sql!("find_deleted_endpoints"),
            sql!("delete_attempts_of_endpoint"),
            sql!("delete_pending_of_endpoint"),
            sql!("delete_leased_of_endpoint"),
            sql!("lock_bare_endpoint"),
            sql!("walk_events"),
            sql!("lock_old_events"),
            sql!("delete_finished_deliveries"),
            sql!("delete_events"),
            sql!("delete_idempotency_keys"),
            sql!("wipe_secrets_after_grace"),
        ] {
            let plan = plan(client, statement).await;
            assert!(!plan.contains("Seq Scan"), "{statement}: {plan}");
        }
        let plan = plan(client, sql!("delete_old_attempts")).await;
        assert!(plan.contains("attempt_of_endpoint"), "{plan}");
    })
    .await;
}
