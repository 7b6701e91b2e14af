//! Pages, their links, orderings, and the search.

use serde_json::{Value, json};

use super::{
    ENDPOINTS, endpoint,
    support::{Server, client::Client},
};

/// Makes endpoints with these targets, in this order; their ids.
fn make(admin: &Client, targets: &[&str]) -> Vec<i64> {
    targets
        .iter()
        .map(|target| admin.post(ENDPOINTS, endpoint(target, &["post.created"])).id(201))
        .collect()
}

fn ids(page: &Value) -> Vec<i64> {
    page["results"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
}

#[test]
fn pages_link_to_each_other() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let empty = r#"{"count":0,"next":null,"previous":null,"results":[]}"#;
    admin.get(ENDPOINTS).is(200, empty);
    let made = make(&admin, &["http://a.example/"; 12]);
    let url = format!("http://{}{ENDPOINTS}", admin.address());
    let page = |query: &str| admin.get(&format!("{ENDPOINTS}{query}")).json(200);
    let links = |query: &str| {
        let page = page(query);
        assert_eq!(page["count"], 12, "{query}");
        (page["next"].clone(), page["previous"].clone(), ids(&page).len())
    };
    let to = |query: &str| json!(format!("{url}{query}"));
    assert_eq!(links(""), (Value::Null, Value::Null, 12));
    assert_eq!(links("?limit=5"), (to("?limit=5&offset=5"), Value::Null, 5));
    assert_eq!(links("?limit=5&offset=5"), (to("?limit=5&offset=10"), to("?limit=5"), 5));
    assert_eq!(links("?limit=5&offset=10"), (Value::Null, to("?limit=5&offset=5"), 2));
    assert_eq!(links("?limit=5&offset=99"), (Value::Null, to("?limit=5&offset=94"), 0));
    assert_eq!(links("?offset=99999999999999999999").2, 0);
    for senseless in ["?limit=0", "?limit=-5", "?limit=x", "?limit=", "?offset=-1", "?offset=x"] {
        assert_eq!(links(senseless), (Value::Null, Value::Null, 12), "{senseless}");
    }
    assert_eq!(
        links("?z=%C3%A9+&limit=5&a=1&ordering=created_at&z=2"),
        (to("?a=1&limit=5&offset=5&ordering=created_at&z=%C3%A9+&z=2"), Value::Null, 5)
    );
    let all: Vec<_> = ["?limit=5", "?limit=5&offset=5", "?limit=5&offset=10"]
        .iter()
        .flat_map(|query| ids(&page(query)))
        .collect();
    assert_eq!(all, made.iter().rev().copied().collect::<Vec<_>>(), "newest first, each once");
}

#[test]
fn a_page_has_at_most_a_hundred() {
    let server = Server::start();
    let operator = server.operator();
    let page = operator.get("/api/v2/webhook/event_type/?limit=1000").json(200);
    let results = page["results"].as_array().unwrap().len() as u64;
    assert_eq!(results, page["count"].as_u64().unwrap().min(100));
    let page = operator.get("/api/v2/webhook/event_type/").json(200);
    assert_eq!(page["results"].as_array().unwrap().len(), 20);
}

#[test]
fn links_begin_with_what_the_client_sees() {
    let behind_a_proxy = Server::start_with(&["--trusted-proxy", "127.0.0.1/32"]);
    let next = |client: Client| {
        let page = client.get("/api/v2/webhook/event_type?limit=1").json(200);
        page["next"].as_str().unwrap().to_owned()
    };
    let rest = "/api/v2/webhook/event_type?limit=1&offset=1";
    let forwarded = |client: Client| {
        client
            .with_header("X-Forwarded-Proto: https")
            .with_header("X-Forwarded-Host: hooks.example")
    };
    let operator = behind_a_proxy.operator();
    assert_eq!(next(forwarded(operator)), format!("https://hooks.example{rest}"));

    let bare = Server::start();
    let operator = bare.operator();
    assert_eq!(next(forwarded(operator.clone())), format!("http://{}{rest}", operator.address()));

    let named = Server::start_with(&["--public-url", "https://public.example/"]);
    assert_eq!(next(named.operator()), format!("https://public.example{rest}"));
}

#[test]
fn endpoints_are_ordered_as_asked() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let made = make(&admin, &["http://a.example/", "http://b.example/", "http://c.example/"]);
    let [a, b, c] = made[..] else { panic!() };
    admin.patch(&format!("{ENDPOINTS}{b}/"), r#"{"is_active":false}"#).json(200);
    admin.patch(&format!("{ENDPOINTS}{a}/"), "{}").json(200);
    let order =
        |ordering: &str| ids(&admin.get(&format!("{ENDPOINTS}?ordering={ordering}")).json(200));
    assert_eq!(order("created_at"), [a, b, c]);
    assert_eq!(order("-created_at"), [c, b, a]);
    assert_eq!(order("updated_at"), [c, b, a]);
    assert_eq!(order("-updated_at"), [a, b, c]);
    assert_eq!(order("is_active"), [b, a, c], "ties break by id");
    assert_eq!(order("-is_active"), [a, c, b]);
    assert_eq!(order("is_active,-created_at"), [b, c, a]);
    assert_eq!(order("nope,%20is_active%20,--x"), [b, a, c]);
    for default in ["", "nope", "target", "-"] {
        assert_eq!(order(default), [c, b, a], "{default}");
    }
}

#[test]
fn the_search_folds_ascii_case() {
    let server = Server::start();
    let admin = server.with_role("admin");
    let targets = ["http://One.example/a_b", "http://two.example/A%25B", "http://three.example/é"];
    let made = make(&admin, &targets);
    let found = |query: &str| {
        let page = admin.get(&format!("{ENDPOINTS}search/{query}")).json(200);
        let found = ids(&page);
        assert_eq!(page["count"], found.len());
        found
    };
    assert_eq!(found("?target=ONE"), [made[0]]);
    assert_eq!(found("?target=%C3%A9"), [made[2]]);
    assert_eq!(found("?target=a_b"), [made[0]], "no pattern characters");
    assert_eq!(found("?target=%25"), [made[1]]);
    assert_eq!(found("?target=%00"), [0_i64; 0]);
    assert_eq!(found("?target=one&target=two"), [made[1]], "the last one counts");
    assert_eq!(found(""), [made[2], made[1], made[0]]);
    assert_eq!(found("?target="), [made[2], made[1], made[0]]);
    let page = admin.get(&format!("{ENDPOINTS}search?target=EXAMPLE&limit=1&offset=1")).json(200);
    let url = format!("http://{}{ENDPOINTS}search", admin.address());
    assert_eq!(page["next"], format!("{url}?limit=1&offset=2&target=EXAMPLE"));
    assert_eq!(page["previous"], format!("{url}?limit=1&target=EXAMPLE"));
}
