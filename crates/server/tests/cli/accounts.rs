//! Users, tokens, JWT secrets and tenants, on the data directory itself.

use std::{collections::HashSet, os::unix::fs::PermissionsExt, process::Stdio};

use serde_json::json;

use crate::support::{Place, Ran, Running, run};

const PASSWORD: &str = "correct horse\n";

fn create_user(place: &Place, arguments: &[&str]) -> Ran {
    place.run_with(&[&["user", "create", "--password-stdin"], arguments].concat(), PASSWORD)
}

#[test]
fn a_user_is_made_listed_and_disabled() {
    let place = Place::new();
    let made = create_user(&place, &["jane", "--role", "admin", "--json"]).succeeded().json();
    assert_eq!(made, json!({"id": 1, "name": "jane", "role": "admin", "tenant": "default"}));

    let users = place.json(&["user", "list"]);
    assert_eq!(users[0]["name"], "jane");
    assert_eq!(users[0]["is_active"], true);
    assert!(!users.to_string().contains("argon2"), "no hash is shown");

    place.run(&["user", "disable", "jane"]).succeeded();
    assert_eq!(place.json(&["user", "list"])[0]["is_active"], false);
    let text = place.run(&["user", "list"]).succeeded();
    assert!(text.stdout().contains("disabled"), "{text:?}");
    place.run(&["user", "disable", "nobody"]).failed(1, &["no user nobody", "user list"]);
}

#[test]
fn a_users_name_is_unique_in_the_instance() {
    let place = Place::new();
    place.run(&["tenant", "create", "other", "--catalogue", "none"]).succeeded();
    create_user(&place, &["jane", "--role", "admin"]).succeeded();
    let elsewhere = ["jane", "--role", "viewer", "--tenant", "other"];
    create_user(&place, &elsewhere).failed(1, &["there is a user jane already"]);
}

#[test]
fn a_user_is_not_made_by_wrong_usage() {
    let place = Place::new();
    let short = place
        .run_with(&["user", "create", "jane", "--role", "admin", "--password-stdin"], "1234567\n");
    short.failed(2, &["at least 8 characters"]);
    place.run(&["user", "create", "jane", "--role", "admin"]).failed(2, &["--password-stdin"]);
    create_user(&place, &["jane", "--role", "king"]).failed(2, &["king", "operator", "viewer"]);
    create_user(&place, &["ja ne", "--role", "admin"]).failed(2, &["a name has 1 to 100"]);
    create_user(&place, &["jane", "--role", "admin", "--tenant", "nope"])
        .failed(1, &["no tenant nope", "there are: default"]);
    assert_eq!(place.json(&["user", "list"]), json!([]));
}

#[test]
fn a_token_is_shown_once_and_revoked() {
    let place = Place::new();
    create_user(&place, &["jane", "--role", "admin"]).succeeded();
    let arguments = ["token", "create", "--role", "publisher", "--user", "jane", "--name", "ci"];
    let made = place.json(&[&arguments[..], &["--expires-in", "30d"]].concat());
    let text = made["token"].as_str().unwrap();
    assert!(text.starts_with("prt_"));
    assert_eq!(made["name"], "ci");
    assert_eq!(made["role"], "publisher");
    assert_eq!(made["tenant"], "default");
    assert!(made["expires_at"].as_str().unwrap().ends_with('Z'));

    let listed = place.json(&["token", "list"]);
    assert_eq!(listed[0]["id"], made["id"]);
    assert_eq!(listed[0]["user"], "jane");
    assert_eq!(listed[0]["revoked_at"], json!(null));
    assert!(!listed.to_string().contains(text), "a token is not shown again");

    let id = made["id"].to_string();
    place.run(&["token", "revoke", &id]).succeeded();
    assert!(place.json(&["token", "list"])[0]["revoked_at"].is_string());
    place.run(&["token", "revoke", &id]).failed(1, &["no token", "token list"]);
}

#[test]
fn a_shell_can_keep_a_token() {
    let place = Place::new();
    let made = place.run(&["token", "create", "--role", "viewer"]).succeeded();
    assert!(made.stdout().starts_with("prt_") && !made.stdout().contains(char::is_whitespace));
    assert!(made.stderr().contains("made a new instance"), "{made:?}");
}

#[test]
fn a_token_is_not_made_by_wrong_usage() {
    let place = Place::new();
    place.run(&["token", "create"]).failed(2, &["--role"]);
    for bad in ["30", "0d", "soon"] {
        place
            .run(&["token", "create", "--role", "viewer", "--expires-in", bad])
            .failed(2, &["such as 30d"]);
    }
    place
        .run(&["token", "create", "--role", "viewer", "--user", "nobody"])
        .failed(1, &["no user nobody"]);
    create_user(&place, &["jane", "--role", "admin"]).succeeded();
    place.run(&["user", "disable", "jane"]).succeeded();
    place
        .run(&["token", "create", "--role", "viewer", "--user", "jane"])
        .failed(1, &["jane is disabled"]);
    assert_eq!(place.json(&["token", "list"]), json!([]));
}

#[test]
fn a_jwt_secret_is_shown_rotated_and_brought_along() {
    let place = Place::new();
    let show = || place.json(&["jwt-secret", "show"])["jwt_secret"].as_str().unwrap().to_owned();
    let first = show();
    assert!(first.len() >= 32);
    let rotated = place.run(&["jwt-secret", "rotate"]).succeeded().stdout().to_owned();
    assert_ne!(rotated, first);
    assert_eq!(show(), rotated);

    let own = "the platform's own secret, 37 bytes long";
    place.run_with(&["jwt-secret", "set", "--stdin"], &format!("{own}\r\n")).succeeded();
    assert_eq!(show(), own);
    place
        .run_with(&["jwt-secret", "set", "--stdin"], &"x".repeat(31))
        .failed(2, &["at least 32 bytes", "31"]);
    place.run(&["jwt-secret", "set"]).failed(2, &["--stdin"]);
    assert_eq!(show(), own);
}

#[test]
fn tenants_have_catalogues_and_secrets_of_their_own() {
    let place = Place::new();
    let list = place.write("types.json", r#"{"event_types": ["a.b"]}"#);
    let made = place.json(&["tenant", "create", "b", "--catalogue", list.to_str().unwrap()]);
    assert_eq!(made["name"], "b");
    place.run(&["tenant", "create", "b"]).failed(1, &["there is a tenant b already"]);
    place
        .run(&["tenant", "create", "c", "--catalogue", "missing.json"])
        .failed(1, &["missing.json", "`none`"]);
    let names: Vec<String> = place
        .json(&["tenant", "list"])
        .as_array()
        .unwrap()
        .iter()
        .map(|tenant| tenant["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["default", "b"]);
    let secrets =
        ["default", "b"].map(|tenant| place.json(&["jwt-secret", "show", "--tenant", tenant]));
    assert_ne!(secrets[0], secrets[1]);
}

#[test]
fn processes_that_start_at_once_make_one_instance() {
    let place = Place::new();
    let start = || {
        let mut command = place.command(&["jwt-secret", "show", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..6).map(|_| start()).collect();
    let mut secrets = HashSet::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        secrets.insert(output.stdout);
    }
    assert_eq!(secrets.len(), 1, "all of them see one tenant under one key");
    assert_eq!(place.json(&["tenant", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn what_is_made_is_private() {
    let place = Place::new();
    let mut server = Running::start(place.command(&["serve", "--listen", "127.0.0.1:0"]));
    server.line();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.data_dir()), 0o700);
    for entry in place.data_dir().read_dir().unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_data_directory_that_cant_be_used_is_named_with_what_to_do() {
    let place = Place::new();
    let file = place.write("file", "");
    place
        .run(&["tenant", "list", "--data-dir", file.to_str().unwrap()])
        .failed(1, &["file", "--data-dir"]);

    place.run(&["tenant", "list"]).succeeded();
    let database = place.data_dir().join("postrider.db");
    for entry in place.data_dir().read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path != place.data_dir().join("master.key") {
            std::fs::remove_file(path).unwrap();
        }
    }
    std::fs::write(&database, "this is no database, however long one looks at it".repeat(99))
        .unwrap();
    place.run(&["tenant", "list"]).failed(1, &["postrider.db"]);
}

#[test]
fn a_lost_or_wrong_master_key_is_told_apart() {
    let place = Place::new();
    place.run(&["tenant", "list"]).succeeded();
    let key = place.data_dir().join("master.key");
    let text = std::fs::read_to_string(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    place.run(&["tenant", "list"]).failed(1, &["master.key", "is missing", "backup"]);

    let mut command = place.command(&["tenant", "list"]);
    run(command.env("POSTRIDER_MASTER_KEY", text.trim()), "").succeeded();
    let elsewhere = place.write("key", &text);
    let mut command = place.command(&["tenant", "list"]);
    run(command.env("POSTRIDER_MASTER_KEY_FILE", &elsewhere), "").succeeded();
    std::fs::create_dir(place.path().join("credentials")).unwrap();
    std::fs::copy(&elsewhere, place.path().join("credentials/master.key")).unwrap();
    let mut command = place.command(&["key", "show"]);
    let shown = run(command.env("CREDENTIALS_DIRECTORY", place.path().join("credentials")), "");
    let shown = shown.succeeded();
    assert!(shown.stdout().contains("credentials/master.key"), "{shown:?}");
    assert!(!shown.stdout().contains(text.trim()), "a key is never shown");
    // Keys that the operator looks after are the operator's to change.
    let mut command = place.command(&["key", "rotate"]);
    let told = ["isn't ours to change", "POSTRIDER_MASTER_KEY", "openssl rand"];
    run(command.env("POSTRIDER_MASTER_KEY", text.trim()), "").failed(1, &told);
    let both = format!("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n{text}");
    let mut command = place.command(&["key", "rotate"]);
    run(command.env("POSTRIDER_MASTER_KEY", &both), "").succeeded();
    let mut command = place.command(&["tenant", "list"]);
    run(command.env("POSTRIDER_MASTER_KEY", text.trim()), "").failed(1, &["not the one"]);
    std::fs::write(&key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    place.run(&["tenant", "list"]).succeeded();
    std::fs::write(&key, "AgECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    place.run(&["tenant", "list"]).failed(1, &["not the one"]);
}
