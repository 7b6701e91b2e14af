//! Users, tokens and tenants over the API.

use std::io::{Read, Write};

use serde_json::{Value, json};

use super::{
    ENDPOINTS,
    support::{Server, client::Client},
};

const USERS: &str = "/api/v2/user/";
const TOKENS: &str = "/api/v2/token/";
const TENANTS: &str = "/api/v2/tenant/";

fn user(name: &str, role: &str) -> String {
    json!({ "name": name, "role": role, "password": "correct horse" }).to_string()
}

fn names(page: &Value) -> Vec<&str> {
    page["results"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn users_are_made_listed_changed_and_disabled() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let made = admin.post(USERS, user("jane", "viewer")).json(201);
    let id = made["id"].as_i64().unwrap();
    let shown = json!({ "id": id, "name": "jane", "role": "viewer", "is_active": true, "created_at": made["created_at"] });
    assert_eq!(made, shown, "and nothing of the password");
    admin.post(USERS, user("adam", "admin")).json(201);
    admin.post(USERS, user("jane", "viewer")).blames("name", "user with this name already exists.");
    assert_eq!(names(&admin.get("/api/v2/user/?ordering=name").json(200)), ["adam", "jane"]);
    assert_eq!(names(&admin.get("/api/v2/user/?ordering=-name&limit=1").json(200)), ["jane"]);

    let path = format!("{USERS}{id}/");
    assert_eq!(admin.patch(&path, "{}").json(200), shown);
    let changed = admin.patch(&path, r#"{"role":"publisher","password":"battery staple"}"#);
    assert_eq!(changed.json(200)["role"], "publisher");
    admin.delete(&path).is(204, "");
    assert_eq!(admin.get(&path).json(200)["is_active"], false);
    assert_eq!(admin.patch(&path, r#"{"is_active":true}"#).json(200)["is_active"], true);

    let short = r#"{"password":"1234567"}"#;
    admin.patch(&path, short).blames("password", "Ensure this field has at least 8 characters.");
    let long = json!({ "password": "x".repeat(1025) }).to_string();
    admin
        .patch(&path, long)
        .blames("password", "Ensure this field has no more than 1024 characters.");
    admin.patch(&path, r#"{"role":"root"}"#).blames("role", "\"root\" is not a valid choice.");
    let missing = json!(["This field is required."]);
    let all = json!({ "name": missing, "role": missing, "password": missing });
    assert_eq!(admin.post(USERS, "{}").json(400), all);
}

#[test]
fn no_admin_reaches_above_its_own_role() {
    let server = Server::start();
    let (admin, operator) = (server.with_role("admin"), server.operator());
    let refused = "\"operator\" is not a valid choice.";
    admin.post(USERS, user("eve", "operator")).blames("role", refused);
    admin.post(TOKENS, r#"{"role":"operator"}"#).blames("role", refused);
    let root = operator.post(USERS, user("root", "operator")).id(201);
    let path = format!("{USERS}{root}/");
    let denied = "You do not have permission to perform this action.";
    admin.patch(&path, r#"{"password":"battery staple"}"#).says(403, denied);
    admin.delete(&path).says(403, denied);
    let on_behalf = json!({ "role": "admin", "user": root }).to_string();
    let unknown = format!("Invalid pk \"{root}\" - object does not exist.");
    admin.post(TOKENS, on_behalf).blames("user", &unknown);
    let token = operator.post(TOKENS, r#"{"role":"operator"}"#).id(201);
    admin.delete(&format!("{TOKENS}{token}/")).says(403, denied);
    operator.delete(&format!("{TOKENS}{token}/")).is(204, "");
}

#[test]
fn the_last_admin_is_disabled_by_the_operator_alone() {
    let server = Server::start();
    let (admin, operator) = (server.with_role("admin"), server.operator());
    let path = format!("{USERS}{}/", admin.post(USERS, user("jane", "admin")).id(201));
    let text =
        "This is the last active admin of the tenant. Make another one first, or ask the operator.";
    admin.delete(&path).blames("non_field_errors", text);
    admin.patch(&path, r#"{"role":"viewer"}"#).blames("non_field_errors", text);
    operator.delete(&path).is(204, "");
}

#[test]
fn a_token_is_shown_once_and_ends_when_it_is_revoked_or_its_user_is_disabled() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let jane = admin.post(USERS, user("jane", "viewer")).id(201);
    let make = |body: Value| {
        let made = admin.post(TOKENS, body.to_string()).json(201);
        let client = server.anyone().with_token(made["token"].as_str().unwrap());
        client.get(ENDPOINTS).json(200);
        (format!("{TOKENS}{}/", made["id"]), client)
    };
    let is_refused = |client: &Client| client.get(ENDPOINTS).status == 401;
    let (path, ci) = make(json!({ "role": "viewer", "name": "ci", "expires_in": 3600 }));
    let shown = admin.get(&path).json(200);
    assert_eq!((&shown["name"], &shown["revoked_at"]), (&json!("ci"), &Value::Null));
    assert!(shown["expires_at"].is_string() && shown.get("token").is_none());
    admin.delete(&path).is(204, "");
    assert!(is_refused(&ci), "at once: the answer came after it was forgotten");
    admin.delete(&path).is(204, "");
    assert!(admin.get(&path).json(200)["revoked_at"].is_string());

    let (_, of_jane) = make(json!({ "role": "viewer", "user": jane }));
    admin.delete(&format!("{USERS}{jane}/")).is(204, "");
    assert!(is_refused(&of_jane));
    let newest = admin.get("/api/v2/token/?limit=1").json(200);
    assert_eq!(newest["results"][0]["user"], jane);
}

#[test]
fn the_operator_makes_and_renames_tenants() {
    let server = Server::start();
    let operator = server.operator();
    let made = operator.post(TENANTS, r#"{"name":"acme","catalogue":"none"}"#).json(201);
    let path = format!("{TENANTS}{}/", made["id"]);
    let there = |name: &str| {
        operator.with_header(&format!("Postrider-Tenant: {name}")).get(ENDPOINTS).status
    };
    assert_eq!(there("acme"), 200);
    assert_eq!(operator.patch(&path, r#"{"name":"apex"}"#).json(200)["name"], "apex");
    assert_eq!((there("acme"), there("apex")), (404, 200));
    assert_eq!(operator.get(&path).json(200)["name"], "apex");
    assert_eq!(
        names(&operator.get("/api/v2/tenant/?ordering=name").json(200)),
        ["apex", "default"]
    );
    let taken = "tenant with this name already exists.";
    operator.patch(&path, r#"{"name":"default"}"#).blames("name", taken);
    operator.post(TENANTS, r#"{"name":"apex"}"#).blames("name", taken);
    let keeps = "This tenant keeps its name: requests that name no tenant are about it.";
    operator.patch("/api/v2/tenant/1/", r#"{"name":"new"}"#).blames("name", keeps);
}

#[test]
fn who_is_shut_out_while_a_body_comes_makes_no_token() {
    let server = Server::start();
    let operator = server.operator();
    let made = operator.post(TOKENS, r#"{"role":"admin"}"#).json(201);
    let admin = server.anyone().with_token(made["token"].as_str().unwrap());
    let body = r#"{"role":"admin"}"#;
    let lines = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let mut held = admin.begin(TOKENS, &lines);
    operator.delete(&format!("{TOKENS}{}/", made["id"])).is(204, "");
    held.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    held.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}
