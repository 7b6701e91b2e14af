//! Where options come from, what is said of wrong ones, and `doctor`, which shows what became of them.

use serde_json::Value;

use crate::support::{Place, Ran, run};

/// What `doctor` says of one thing.
fn finding(ran: &Ran, check: &str) -> String {
    let report: Value = ran.json();
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|found| found["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} in {report}"))["text"].as_str().unwrap().to_owned()
}

#[test]
fn an_option_wins_over_the_environment_and_that_over_the_file() {
    let place = Place::new();
    let data_dir = |option: Option<&str>, variable: Option<&str>| {
        let mut command = place.command(&["doctor", "--json", "--listen", "127.0.0.1:0"]);
        if let Some(option) = option {
            command.args(["--data-dir", option]);
        }
        if let Some(variable) = variable {
            command.env("POSTRIDER_DATA_DIR", variable);
        }
        finding(&run(&mut command, "").succeeded(), "data directory")
    };
    assert!(data_dir(None, None).starts_with("./postrider-data"));
    place.write("postrider.toml", "data_dir = 'from-file'");
    assert!(data_dir(None, None).starts_with("from-file"));
    assert!(data_dir(None, Some("")).starts_with("from-file"), "an empty variable is none");
    assert!(data_dir(None, Some("from-environment")).starts_with("from-environment"));
    assert!(data_dir(Some("from-option"), Some("from-environment")).starts_with("from-option"));
}

#[test]
fn commands_on_the_data_directory_heed_the_environment() {
    let place = Place::new();
    let list = |variable: &str| {
        let mut command = place.command(&["tenant", "list"]);
        run(command.env("POSTRIDER_DATA_DIR", variable), "").succeeded();
    };
    list("from-environment");
    assert!(place.path().join("from-environment/postrider.db").exists());
    assert!(!place.data_dir().exists());
    list("");
    assert!(place.data_dir().exists(), "an empty variable is none");
}

#[test]
fn the_file_may_be_named() {
    let place = Place::new();
    place.write("other.toml", "data_dir = 'from-other'");
    let named =
        place.run(&["doctor", "--json", "--listen", "127.0.0.1:0", "--config", "other.toml"]);
    assert!(finding(&named.succeeded(), "data directory").starts_with("from-other"));
    place.run(&["serve", "--config", "missing.toml"]).failed(1, &["missing.toml", "--config"]);
    let mut command = place.command(&["serve"]);
    run(command.env("POSTRIDER_CONFIG", "missing.toml"), "").failed(1, &["missing.toml"]);
}

#[test]
fn a_wrong_value_is_named_with_its_place() {
    let place = Place::new();
    for (option, value, says) in [
        ("--listen", "8080", "127.0.0.1:8080"),
        ("--egress-allow", "10.0.0.0", "10.0.0.0/8"),
        ("--signature-header", "Host", "a name of your own"),
        ("--retry-schedule", "5,x", "comma-separated"),
        ("--connect-timeout", "0", "above 0"),
        ("--request-timeout", "-1", "above 0"),
        ("--concurrency", "0", "from 1 to"),
        ("--retention", "0", "above 0"),
        ("--require-password=maybe", "", "true or false"),
    ] {
        let arguments = if value.is_empty() { vec![option] } else { vec![option, value] };
        let name = option.split('=').next().unwrap();
        place.run(&[&["serve"], &arguments[..]].concat()).failed(2, &[name, says]);
    }
    let mut command = place.command(&["serve"]);
    run(command.env("POSTRIDER_LISTEN", "x"), "")
        .failed(1, &["variable POSTRIDER_LISTEN", "\"x\""]);
    place.write("postrider.toml", "retention = 'long'");
    place.run(&["serve"]).failed(1, &["retention in postrider.toml", "days"]);
    place.write("postrider.toml", "retenton = 1");
    place.run(&["serve"]).failed(1, &["postrider.toml", "retenton", "postrider.example.toml"]);
    place.write("postrider.toml", "= =");
    place.run(&["serve"]).failed(1, &["postrider.toml", "not valid TOML"]);
    place.write("postrider.toml", "request_timeout = 1");
    place.run(&["serve"]).failed(1, &["--connect-timeout is 5 s", "--request-timeout"]);
    assert!(!place.data_dir().exists(), "nothing is made before the configuration holds");
}

#[test]
fn wrong_usage_exits_with_2() {
    let place = Place::new();
    for arguments in
        [&[][..], &["nope"], &["serve", "--nope"], &["completions", "nope"], &["event"]]
    {
        place.run(arguments).failed(2, &[]);
    }
    // What does not work yet is not there at all.
    place.run(&["endpoint"]).failed(2, &["unrecognized subcommand"]);
    place.run(&["serve", "--role", "worker"]).failed(1, &["--role", "--database-url"]);
    let version = place.run(&["--version"]).succeeded();
    assert!(version.stdout().starts_with("postrider "), "{version:?}");
    let help = place.run(&["serve", "--help"]).succeeded();
    assert!(help.stdout().contains("[env: POSTRIDER_EGRESS_ALLOW]"), "{help:?}");
}

#[test]
fn the_document_of_the_api_is_printed() {
    let printed = Place::new().run(&["openapi"]).succeeded();
    let document: serde_json::Value = serde_json::from_str(printed.stdout()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/api/v2/webhook/event/"]["post"].is_object());
}

#[test]
fn a_database_that_is_not_there_is_not_migrated() {
    let place = Place::new();
    place.run(&["migrate"]).failed(1, &["there is no database", "postrider serve"]);
    assert!(!place.data_dir().exists());
    place.run(&["tenant", "list"]).succeeded();
    assert_eq!(place.json(&["migrate"])["migrations"], serde_json::json!([]));
    let refused = place.run(&["tenant", "list", "--database-url", "mysql://u:hush@h/d"]);
    let refused = refused.failed(2, &["--database-url", "postgres://"]);
    assert!(!refused.stderr().contains("hush"), "{refused:?}");
}

#[test]
fn shells_are_told_how_to_complete() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]).succeeded();
        assert!(script.stdout().contains("jwt-secret"), "{shell}");
    }
}

#[test]
fn the_doctor_makes_nothing() {
    let place = Place::new();
    let report = place.run(&["doctor", "--json", "--listen", "127.0.0.1:0"]).succeeded();
    assert_eq!(report.json()["ok"], true);
    assert!(finding(&report, "data directory").contains("`postrider serve` makes it"));
    assert_eq!(place.path().read_dir().unwrap().count(), 0);
}

#[test]
fn the_doctor_finds_what_is_wrong() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let doctor = |arguments: &[&str]| {
        place.run(&[&["doctor", "--json", "--listen", "127.0.0.1:0"], arguments].concat())
    };
    place.run(&["tenant", "list"]).succeeded();
    let well = doctor(&[]).succeeded();
    assert!(finding(&well, "database").contains("it opens"));
    assert!(finding(&well, "master key").contains("the one"));

    let key = place.data_dir().join("master.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let open = doctor(&[]).failed(1, &[]);
    assert!(finding(&open, "secret files").contains("chmod 600"));
    std::fs::write(&key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    assert!(finding(&doctor(&[]).failed(1, &[]), "master key").contains("not the one"));

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}/hooks", listener.local_addr().unwrap());
    let forbidden = doctor(&["--target", &target]).failed(1, &[]);
    assert!(finding(&forbidden, "target").contains("--egress-allow"));
    std::fs::remove_dir_all(place.data_dir()).unwrap();
    let reached = doctor(&["--target", &target, "--egress-allow", "127.0.0.0/8"]).succeeded();
    assert!(finding(&reached, "target").contains("is reached at 127.0.0.1"));
    doctor(&["--target", "ftp://x"]).failed(2, &["--target"]);
}
