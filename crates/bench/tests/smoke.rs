//! The bench against the server of this workspace, on free ports: that it measures, and that its ledger is even.

use std::{path::Path, process::Command};

/// The server beside the bench. `cargo test` of the whole workspace has built it; of this crate alone it has not.
fn server() -> &'static Path {
    let beside = Path::new(env!("CARGO_BIN_EXE_postrider-bench"));
    let server = Box::leak(beside.with_file_name("postrider").into_boxed_path());
    if !server.exists() {
        let built = Command::new(env!("CARGO")).args(["build", "--package", "postrider"]).status();
        assert!(built.unwrap().success());
    }
    server
}

fn figures(arguments: &[&str]) -> Vec<(String, f64)> {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_postrider-bench"))
        .arg("--server")
        .arg(server())
        .arg("--data-dir-parent")
        .arg(directory.path())
        .arg("--json")
        .arg(&json)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let figures = figures.as_array().unwrap().iter();
    let read = |figure: &serde_json::Value| {
        (figure["name"].as_str().unwrap().to_owned(), figure["value"].as_f64().unwrap())
    };
    figures.map(read).collect()
}

fn get(figures: &[(String, f64)], name: &str) -> f64 {
    figures.iter().find(|(known, _)| known == name).expect(name).1
}

#[test]
fn two_hundred_events_are_carried() {
    let figures = figures(&["throughput", "--events", "200", "--connections", "8"]);
    assert!(get(&figures, "delivered") > 0.0);
    assert!(get(&figures, "RSS peak") > 0.0);
}

#[test]
fn a_prepared_past_is_found_by_the_server() {
    let pages = figures(&["pages", "--attempts", "3000"]);
    assert!(get(&pages, "first page, p50") > 0.0);
    let backlog = figures(&["backlog", "--deliveries", "3000", "--rate", "50", "--seconds", "1"]);
    assert!(get(&backlog, "start to first healthy delivery") > 0.0);
}
