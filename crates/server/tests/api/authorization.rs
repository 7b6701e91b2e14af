//! Who may do what: `authorization.txt`, held to the server by every role, in the own tenant and in a foreign one, and by
//! every kind of credential that doesn't hold.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::{
    ENDPOINTS, EVENT_TYPES, EVENTS, event,
    support::{Server, client::Client, eventually},
};

const ROLES: [&str; 4] = ["operator", "admin", "publisher", "viewer"];

/// A line of the table.
struct Rule {
    method: &'static str,
    path: &'static str,
    roles: Vec<&'static str>,
}

impl Rule {
    fn all() -> impl Iterator<Item = Self> {
        let lines = include_str!("authorization.txt").lines();
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let [method, path, roles] = words[..] else { panic!("not a rule: {line}") };
            Self { method, path, roles: roles.split(',').collect() }
        })
    }

    fn needs_credential(&self) -> bool {
        self.roles != ["everyone"]
    }

    fn has_parts(&self) -> bool {
        self.path.contains('{')
    }

    /// The path of something fresh, which the client makes.
    fn path_of(&self, maker: &Client, number: usize) -> String {
        let make = |path: &str, body: String| maker.post(path, body).id(201).to_string();
        let id = || {
            match self.path.split('/').nth(3) {
            Some("user") => make(
                "/api/v2/user/",
                json!({"name": format!("u{number}"), "role": "viewer", "password": "correct horse"})
                    .to_string(),
            ),
            Some("token") => make("/api/v2/token/", json!({"role": "viewer"}).to_string()),
            Some("tenant") => {
                make("/api/v2/tenant/", json!({"name": format!("t{number}")}).to_string())
            }
            _ if self.path.starts_with("/api/v2/webhook/event/") => {
                maker.post(EVENTS, event("post.created")).json(201)["event_id"].to_string()
            }
            _ => make(
                ENDPOINTS,
                json!({
                    "target": "http://127.0.0.1:9/",
                    "events": [{"type": "post.created"}],
                    // So that it has a public key to show.
                    "signature_algorithms": ["ed25519"],
                })
                .to_string(),
            ),
        }
        };
        let mut path = self.path.to_owned();
        if path.contains("{id}") {
            path = path.replace("{id}", &id());
        }
        if path.contains("{type}") {
            let name = format!("matrix.t{number}");
            maker.post(EVENT_TYPES, json!({ "type": name }).to_string()).json(201);
            path = path.replace("{type}", &name);
        }
        path.replace("{secret_id}", "1")
    }
}

#[test]
fn each_role_may_do_what_the_table_says_in_its_own_tenant_and_nothing_in_another() {
    let server = Server::start();
    server.cli(&["tenant", "create", "other"]);
    let operator = server.operator();
    let elsewhere = operator.with_header("Postrider-Tenant: other");
    eventually("the tenant is known", || elsewhere.get(ENDPOINTS).status == 200);
    let clients = ROLES.map(|role| (role, server.with_role(role)));
    let mut number = 0;
    for rule in Rule::all().filter(Rule::needs_credential) {
        for (role, client) in &clients {
            number += 1;
            let what = format!("{role}: {} {}", rule.method, rule.path);
            let own = client.send(rule.method, &rule.path_of(&operator, number), b"").status;
            if !rule.roles.contains(role) {
                assert_eq!(own, 403, "{what}");
                continue;
            }
            let is_through = ![401, 403, 405].contains(&own);
            assert!(is_through, "{what}: {own}");
            assert!(own != 404 || rule.path.contains("{secret_id}"), "{what}: {own}");
            if rule.has_parts() && !rule.path.starts_with("/api/v2/tenant") {
                number += 1;
                let foreign = rule.path_of(&elsewhere, number);
                let answer = client.send(rule.method, &foreign, b"").status;
                assert_eq!(answer, 404, "{what}, of another tenant");
            }
        }
    }
}

#[test]
fn no_credential_that_does_not_hold_opens_any_route() {
    // So that each path can be tried from an address of its own: many such credentials lock the one that shows them.
    let server = Server::start_with(&["--trusted-proxy", "127.0.0.1/32"]);
    server.cli(&["tenant", "create", "other"]);
    let user = server.user("jane", "admin", "correct horse");
    let now = jsonwebtoken::get_current_timestamp();
    let claims = |exp: u64| json!({ "user_id": user, "token_type": "access", "jti": "x", "iat": now - 7200, "exp": exp });
    let sign = |exp, secret: &str| {
        let key = EncodingKey::from_secret(secret.as_bytes());
        encode(&Header::new(Algorithm::HS256), &claims(exp), &key).unwrap()
    };
    let good = sign(now + 3600, &server.jwt_secret("default"));
    eventually("the good one holds", || {
        server.anyone().with_token(&good).get(ENDPOINTS).status == 200
    });
    let (_, rest) = good.split_once('.').unwrap();
    let (body, _) = rest.split_once('.').unwrap();
    let operator = server.operator();
    let made = operator.post("/api/v2/token/", r#"{"role":"admin"}"#).json(201);
    operator.delete(&format!("/api/v2/token/{}/", made["id"])).is(204, "");
    let short = operator.post("/api/v2/token/", r#"{"role":"admin","expires_in":1}"#).json(201);
    let short = short["token"].as_str().unwrap().to_owned();
    eventually("the token expires", || {
        server.anyone().with_token(&short).get(ENDPOINTS).status == 401
    });
    // {"alg":"none"}, {"alg":"RS256"}
    let (none, rs256) = ("eyJhbGciOiJub25lIn0", "eyJhbGciOiJSUzI1NiJ9");
    let bad = [
        ("revoked", made["token"].as_str().unwrap().to_owned()),
        ("expired", short),
        ("expired JWT", sign(now - 60, &server.jwt_secret("default"))),
        ("another tenant's secret", sign(now + 3600, &server.jwt_secret("other"))),
        ("no algorithm", format!("{none}.{body}.")),
        ("another algorithm", format!("{rs256}.{rest}")),
        ("nonsense", "prt_nonsense".to_owned()),
    ];
    for (host, rule) in Rule::all().enumerate() {
        let path =
            rule.path.replace("{id}", "1").replace("{type}", "a").replace("{secret_id}", "1");
        let from = format!("X-Forwarded-For: 192.0.2.{host}");
        let status =
            |client: Client| client.with_header(&from).send(rule.method, &path, b"").status;
        if !rule.needs_credential() {
            assert_ne!(status(server.anyone()), 403, "{} {path}", rule.method);
            continue;
        }
        assert_eq!(status(server.anyone()), 401, "{} {path}", rule.method);
        for (what, token) in &bad {
            let answer = status(server.anyone().with_token(token));
            assert_eq!(answer, 401, "{what}: {} {path}", rule.method);
        }
    }
}
