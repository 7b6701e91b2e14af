//! Every statement fits the schema, and the hot ones are served by the index that was made for them.

use std::fs;

use rusqlite::Connection;

use crate::{
    AttemptField, AttemptQuery, OrderBy,
    sqlite::{
        attempts, connect,
        migrate::{MIGRATIONS, migrate},
        query::sql,
    },
};

fn schema() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection, MIGRATIONS).unwrap();
    connection
}

#[test]
fn every_statement_fits_the_schema() {
    let connection = schema();
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sqlite/sql");
    let mut prepared = 0;
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        connection.prepare(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        prepared += 1;
    }
    assert!(prepared > 50, "only {prepared} statements were found");
}

#[test]
fn every_migration_is_named_and_listed() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sqlite/migrations");
    let mut files: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let listed: Vec<_> = MIGRATIONS.iter().map(|step| format!("{}.sql", step.name)).collect();
    assert_eq!(files, listed);
    for (number, step) in (1..).zip(MIGRATIONS) {
        assert!(step.name.starts_with(&format!("{number:04}_")), "{}", step.name);
    }
}

/// How SQLite would run a statement, a line for each step.
fn plan(statement: &str) -> Vec<String> {
    let connection = schema();
    let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    let mut steps = explain.raw_query();
    let mut plan = Vec::new();
    while let Some(step) = steps.next().unwrap() {
        plan.push(step.get("detail").unwrap());
    }
    plan
}

fn check(statement: &str, expected: &[&str]) {
    assert_eq!(plan(statement), expected, "{statement}");
}

#[test]
fn a_claim_looks_at_its_endpoints_pending_rows_in_order() {
    check(
        sql!("select_due"),
        &[
            "SEARCH delivery USING INDEX delivery_pending (endpoint_id=? AND due_at<?)",
            "SEARCH event USING INTEGER PRIMARY KEY (rowid=?)",
        ],
    );
    check(sql!("lease_delivery"), &["SEARCH delivery USING INTEGER PRIMARY KEY (rowid=?)"]);
}

#[test]
fn the_earliest_due_times_are_one_seek_each() {
    check(
        sql!("earliest_due"),
        &[
            "SCAN endpoint",
            "SEARCH delivery USING INTEGER PRIMARY KEY (rowid=?)",
            "CORRELATED SCALAR SUBQUERY 1",
            "SEARCH delivery USING COVERING INDEX delivery_pending (endpoint_id=?)",
        ],
    );
    check(
        sql!("earliest_due_of"),
        &[
            "SEARCH endpoint EXISTS USING INTEGER PRIMARY KEY (rowid=?)",
            "SEARCH delivery USING COVERING INDEX delivery_pending (endpoint_id=?)",
        ],
    );
}

#[test]
fn a_new_life_looks_at_leased_rows_alone() {
    check(sql!("void_leases"), &["SCAN delivery USING INDEX delivery_leased"]);
}

#[test]
fn a_settlement_is_found_by_its_key() {
    check(
        sql!("settle_delivery"),
        &[
            "SEARCH delivery USING INTEGER PRIMARY KEY (rowid=?)",
            "SCALAR SUBQUERY 1",
            "SEARCH endpoint USING INTEGER PRIMARY KEY (rowid=?)",
        ],
    );
}

fn page_by(ordering: &[(AttemptField, bool)]) -> String {
    let by = |&(field, descending): &(AttemptField, bool)| OrderBy { field, descending };
    let ordering = ordering.iter().map(by).collect();
    attempts::select_ids(&AttemptQuery { ordering, limit: 10, offset: 0 })
}

#[test]
fn a_page_of_attempts_is_found_in_its_index_alone() {
    const SEARCH: &str = "SEARCH attempt USING COVERING INDEX attempt_of_endpoint (endpoint_id=?)";
    check(&page_by(&[(AttemptField::SentAt, true)]), &[SEARCH]);
    // Ascending, only those of one moment are sorted at a time.
    let ascending = page_by(&[(AttemptField::SentAt, false)]);
    check(&ascending, &[SEARCH, "USE TEMP B-TREE FOR LAST TERM OF ORDER BY"]);
    let by_retry = page_by(&[(AttemptField::NextRetry, true)]);
    check(&by_retry, &[SEARCH, "USE TEMP B-TREE FOR ORDER BY"]);
    check(
        sql!("select_attempt"),
        &[
            "SEARCH attempt USING INTEGER PRIMARY KEY (rowid=?)",
            "SEARCH event USING INTEGER PRIMARY KEY (rowid=?)",
        ],
    );
}

#[test]
fn an_events_deliveries_are_found_by_its_key() {
    for statement in [sql!("count_deliveries_of_event"), sql!("select_deliveries_of_event")] {
        let plan = plan(statement);
        assert_eq!(plan[0], "SEARCH delivery USING INDEX delivery_of_event (event_id=?)");
        assert!(
            plan.iter().all(|step| !step.contains("SCAN") && !step.contains("TEMP")),
            "{plan:?}"
        );
    }
    check(sql!("select_event"), &["SEARCH event USING INTEGER PRIMARY KEY (rowid=?)"]);
}

#[test]
fn a_purge_scans_nothing_that_grows_but_the_walk() {
    let grows = ["SCAN attempt", "SCAN delivery", "SCAN event"];
    for statement in [
        sql!("find_old_attempts"),
        sql!("find_deleted_endpoints"),
        sql!("find_attempts_of_endpoint"),
        sql!("find_pending_of_endpoint"),
        sql!("find_leased_of_endpoint"),
        sql!("endpoint_is_bare"),
        sql!("walk_events"),
        sql!("delete_attempt"),
        sql!("delete_finished_deliveries"),
        sql!("delete_event"),
        sql!("delete_idempotency_keys"),
        sql!("wipe_secrets_after_grace"),
    ] {
        let plan = plan(statement);
        let scans = plan.iter().any(|step| grows.contains(&step.as_str()));
        assert!(!scans, "{statement}: {plan:?}");
    }
    check(
        sql!("find_old_attempts"),
        &[
            "SCAN attempt_count",
            "SEARCH attempt USING COVERING INDEX attempt_of_endpoint (endpoint_id=? AND sent_at<?)",
        ],
    );
    assert_eq!(plan(sql!("walk_events"))[0], "SEARCH event USING INTEGER PRIMARY KEY (rowid>?)");
}

/// A statement beyond the cache's capacity would be prepared anew each time.
#[test]
fn there_are_fewer_statements_than_a_connection_keeps() {
    let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/sqlite/sql")).unwrap();
    assert!(files.count() + 40 < connect::STATEMENTS_MAX);
}
