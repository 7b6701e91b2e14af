//! The API's parsers, for the fuzzers in `fuzz/` and nobody else: each reads a text as a request would be read, and answers
//! what a fuzzer can hold it to. How they are told apart from good input is their own tests' business.

use postrider_kernel::Timestamp;
use postrider_store::OrderBy;

use super::{
    form::{self, Form, ListRule},
    input::{self, Json, TextRule},
    jwt,
    page::{PageRequest, Query},
};

/// Whether a token counts as a credential at a time, in microseconds of the Unix epoch, if this secret signs.
pub fn token_holds(token: &str, secret: &[u8], now: i64) -> bool {
    jwt::holds(token, secret, Timestamp::from_micros(now))
}

/// Reads a body as an object and as a list of objects, and each field `a` in every way a field is read; answers what was
/// refused, or an empty text.
pub fn body(body: &[u8]) -> String {
    let mut refused = String::new();
    match Form::parse(body, ["a", "data"]) {
        Err(error) => refused = format!("{error:?}"),
        Ok(mut form) => {
            form.optional("a", each_way);
            form.required("data", |value| Ok(value.0.get()));
            if let Err(errors) = form.finish() {
                refused = serde_json::to_string(&errors).unwrap_or_default();
            }
        }
    }
    let rule = ListRule { items_max: 3, item_bytes_max: 200 };
    let listed = form::list(body, rule, ["a"], |form| form.required("a", each_way));
    if listed.is_ok_and(|items| items.len() > rule.items_max) {
        refused.push_str("too many items were read");
    }
    refused
}

/// Converts a value in every way there is; the last refusal counts.
fn each_way(value: Json<'_>) -> Result<(), super::error::Problem> {
    let rule = TextRule { length_max: 10, may_be_blank: false, trims: true };
    let _ = input::boolean(value);
    let _ = input::not_a_choice(value);
    let _ = form::objects(value, ["a"], |form| form.required("a", |value| Ok(value.shown())));
    if let Ok(number) = input::integer(value, 1..=9) {
        assert!((1..=9).contains(&number), "{number} is out of its range");
    }
    if let Ok(number) = input::number(value, 0.0..=1.0) {
        assert!((0.0..=1.0).contains(&number), "{number} is out of its range");
    }
    let text = input::text(value, rule)?;
    assert!((1..=10).contains(&text.chars().count()), "a text is as long as its rule lets it");
    Ok(())
}

/// The limit and the offset that a query asks for, and the links of that page of a list of `count`, next and previous.
pub fn page(query: &str, count: u64) -> (u32, u64, [Option<String>; 2]) {
    let parsed = Query::parse(query);
    let field = |name: &str| ["sent_at", "id"].into_iter().find(|known| *known == name);
    let ordering = parsed.ordering(field, OrderBy { field: "id", descending: false });
    assert!((1..=2).contains(&ordering.len()), "each field orders once");
    let asked = PageRequest::new(parsed);
    (asked.limit(), asked.offset(), asked.page("", count, Vec::<()>::new()).links())
}
