//! Credentials: API tokens, JWTs, roles.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{
    ENDPOINTS, EVENT_TYPES, EVENTS, VERIFY_TOKEN, endpoint, event,
    support::{Server, client::Client, eventually},
};

const NOT_PROVIDED: &str = "Authentication credentials were not provided.";
const INCORRECT: &str = "Incorrect authentication credentials.";
const NOT_VALID: &str =
    r#"{"detail":"Given token not valid for any token type","code":"token_not_valid"}"#;
const DENIED: &str = "You do not have permission to perform this action.";

/// The claims of a token that holds from now on for an hour.
fn claims(user: i64) -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    json!({ "user_id": user, "token_type": "access", "jti": "x", "iat": now, "exp": now + 3600, "ext_id": null })
}

fn sign(claims: &Value, secret: &str) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .unwrap()
}

#[test]
fn bad_credentials_are_refused() {
    let server = Server::start();
    let check = |lines: &[&str], detail: &str| {
        let client = lines.iter().fold(server.anyone(), |client, line| client.with_header(line));
        let answer = client.get(ENDPOINTS).says(401, detail);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"api\""));
    };
    check(&[], NOT_PROVIDED);
    check(&["Authorization: "], NOT_PROVIDED);
    check(&["Authorization: Basic dXNlcjpwYXNz"], NOT_PROVIDED);
    check(&["Authorization: prt_x"], NOT_PROVIDED);
    check(&["Authorization: Bearer"], INCORRECT);
    check(&["Authorization: Token "], INCORRECT);
    check(&["Authorization: Bearer prt_x"], INCORRECT);
    check(&["Authorization: Bearer x"], INCORRECT);
    check(&["Authorization: Bearer a.b"], INCORRECT);
    check(&["Authorization: Bearer prt_x prt_y"], INCORRECT);
    check(&["Authorization: Bearer \u{e9}"], INCORRECT);
    let made = server.cli(&["token", "create", "--role", "admin"]);
    let line = format!("Authorization: Bearer {}", made["token"].as_str().unwrap());
    check(&[&line, &line], INCORRECT);
    for scheme in ["Bearer", "bearer", "Token", "TOKEN"] {
        let line = line.replace("Bearer", scheme);
        server.anyone().with_header(&line).get(ENDPOINTS).json(200);
    }
    for garbage in ["a.b.c", "..", "e30.e30.e30", "eyJhbGciOiJub25lIn0.e30."] {
        let answer = server.anyone().with_token(garbage).get(ENDPOINTS).is(401, NOT_VALID);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"api\""));
    }
}

#[test]
fn a_jwt_holds_by_its_signature_times_and_user() {
    let server = Server::start();
    let user = server.user("jane", "admin", "correct horse");
    let secret = server.jwt_secret("default");
    // Row 14 asks for signature and times alone; a credential needs every claim.
    let is_signed = |token: &str| {
        let body = json!({ "token": token }).to_string();
        let verified = server.anyone().post(VERIFY_TOKEN, &body);
        match verified.status {
            200 => drop(verified.is(200, "{}")),
            _ => {
                let refused = verified.is(401, NOT_VALID);
                assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"api\""));
                return false;
            }
        }
        true
    };
    let holds = |token: &str| {
        let shown = server.anyone().with_token(token).get(ENDPOINTS);
        if shown.status == 200 {
            assert!(is_signed(token));
            return true;
        }
        shown.is(401, NOT_VALID);
        false
    };
    let with = |name: &str, value: Value| {
        let mut claims = claims(user);
        claims[name] = value;
        holds(&sign(&claims, &secret))
    };
    assert!(holds(&sign(&claims(user), &secret)));
    let now = jsonwebtoken::get_current_timestamp();
    assert!(with("exp", json!(now - 10)), "a skew of 30 s is allowed");
    assert!(!with("exp", json!(now - 31)));
    assert!(with("iat", json!(now + 20)));
    assert!(!with("iat", json!(now + 60)));
    assert!(!with("nbf", json!(now + 60)));
    assert!(with("nbf", json!(now as f64 - 0.5)));
    assert!(with("jti", json!(7)) && with("ext_id", json!({})) && with("aud", json!("x")));
    for (name, odd) in [
        ("user_id", json!(user + 1000)),
        ("user_id", json!(user.to_string())),
        ("user_id", json!(user as f64)),
        ("user_id", json!(true)),
        ("token_type", json!("refresh")),
        ("jti", Value::Null),
        ("iat", json!("now")),
        ("exp", json!(true)),
    ] {
        let mut claims = claims(user);
        claims[name] = odd;
        let token = sign(&claims, &secret);
        assert!(!holds(&token), "{name}");
        assert_eq!(is_signed(&token), name == "token_type", "{name}");
    }
    for name in ["user_id", "token_type", "jti", "iat", "exp"] {
        let mut claims = claims(user);
        claims.as_object_mut().unwrap().remove(name);
        let token = sign(&claims, &secret);
        assert!(!holds(&token), "{name} is missing");
        assert_eq!(is_signed(&token), !["user_id", "exp"].contains(&name), "{name} is missing");
    }
    let forged = sign(&claims(user), "another secret of more than 32 bytes");
    assert!(!holds(&forged) && !is_signed(&forged));
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = encode(&Header::new(algorithm), &claims(user), &key).unwrap();
        assert!(!holds(&token) && !is_signed(&token));
    }
}

#[test]
fn verifying_a_token_needs_no_credential_and_ignores_one() {
    let server = Server::start();
    let user = server.user("jane", "viewer", "correct horse");
    let token = sign(&claims(user), &server.jwt_secret("default"));
    let body = json!({ "token": token }).to_string();
    for client in
        [server.anyone(), server.anyone().with_token("nonsense"), server.with_role("publisher")]
    {
        client.post(VERIFY_TOKEN, &body).is(200, "{}");
        client.post("/api/v2/jwt/verify_token", &body).is(200, "{}");
        client.post(VERIFY_TOKEN, "").blames("token", "This field is required.");
        client
            .post(VERIFY_TOKEN, r#"{"token":""}"#)
            .blames("token", "This field may not be blank.");
        client
            .post(VERIFY_TOKEN, r#"{"token":null}"#)
            .blames("token", "This field may not be null.");
        client.post(VERIFY_TOKEN, r#"{"token":[]}"#).blames("token", "Not a valid string.");
        client.post(VERIFY_TOKEN, r#"{"token":"x"}"#).is(401, NOT_VALID);
        // An API token is no JWT.
        client.post(VERIFY_TOKEN, r#"{"token":"prt_x"}"#).is(401, NOT_VALID);
    }
}

#[test]
fn what_the_command_line_ends_is_over_within_a_second() {
    let server = Server::start();
    let user = server.user("jane", "admin", "correct horse");
    let jwt = server.anyone().with_token(&sign(&claims(user), &server.jwt_secret("default")));
    let hers = server.with_token_of(&["--role", "viewer", "--user", "jane"]);
    let made = server.cli(&["token", "create", "--role", "viewer"]);
    let other = server.anyone().with_token(made["token"].as_str().unwrap());
    for client in [&jwt, &hers, &other] {
        client.get(ENDPOINTS).json(200);
    }
    let over = |client: &Client| client.get(ENDPOINTS).status == 401;
    server.cli(&["token", "revoke", &made["id"].to_string()]);
    eventually("the token is revoked", || over(&other));
    other.get(ENDPOINTS).says(401, INCORRECT);
    server.cli(&["user", "disable", "jane"]);
    eventually("the user is disabled", || over(&jwt) && over(&hers));
    jwt.get(ENDPOINTS).is(401, NOT_VALID);
    hers.get(ENDPOINTS).says(401, INCORRECT);

    let other = server.user("joe", "admin", "correct horse");
    let joe = server.anyone().with_token(&sign(&claims(other), &server.jwt_secret("default")));
    joe.get(ENDPOINTS).json(200);
    server.cli(&["jwt-secret", "rotate"]);
    eventually("the secret is rotated", || over(&joe));
    let short = server.with_token_of(&["--role", "viewer", "--expires-in", "1s"]);
    eventually("the token has expired", || over(&short));
}

#[test]
fn roles_may_do_what_the_contract_says() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let id = admin.post(ENDPOINTS, endpoint("http://127.0.0.1:1/", &["post.created"])).id(201);
    let path = format!("{ENDPOINTS}{id}/");

    let viewer = server.with_role("viewer");
    for readable in [
        ENDPOINTS,
        &path,
        EVENT_TYPES,
        &format!("{ENDPOINTS}event/"),
        &format!("{ENDPOINTS}search/"),
        &format!("{path}attempt/"),
    ] {
        viewer.get(readable).json(200);
    }
    viewer.post(EVENTS, event("post.created")).says(403, DENIED);
    viewer.put(&path, "{}").says(403, DENIED);
    viewer.post(EVENT_TYPES, "{}").says(403, DENIED);
    for action in ["secret/reveal/", "secret/expire/", "event/resend/", "event/resend/bulk/"] {
        viewer.post(&format!("{path}{action}"), "").says(403, DENIED);
    }

    let publisher = server.with_role("publisher");
    publisher.post(EVENTS, event("post.created")).json(201);
    publisher.get(&format!("{ENDPOINTS}event/")).json(200);
    publisher.get(EVENT_TYPES).json(200);
    publisher.post(EVENT_TYPES, "{}").says(403, DENIED);
    publisher.delete(&format!("{EVENT_TYPES}post.created/")).says(403, DENIED);
    for forbidden in
        [ENDPOINTS, &path, &format!("{ENDPOINTS}search/"), &format!("{path}attempt/"), EVENTS]
    {
        publisher.get(forbidden).says(403, DENIED);
    }
    publisher.post(&format!("{path}secret/reveal/"), "").says(403, DENIED);
}
