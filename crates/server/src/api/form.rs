//! A body: a JSON object, read as a form of named fields, or a list of such objects.
//!
//! The parser builds no tree. A field's value stays the text it came as until a converter of [`super::input`] asks for it,
//! so that no input can exhaust the stack, unknown fields cost nothing, and a publisher's `data` reaches the payload
//! untouched.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    error::{ApiError, FieldErrors, NON_FIELD, Problem},
    input::{EMPTY_LIST, Json, Kind, not_a_list, not_an_object, too_many},
};

/// The fields of one object, and what was found wrong with them so far.
///
/// Fields are asked for in the order in which the contract lists them; errors are reported in that order.
#[derive(Debug)]
pub struct Form<'a, const N: usize> {
    names: [&'static str; N],
    values: [Option<&'a RawValue>; N],
    errors: FieldErrors,
}

impl<'a, const N: usize> Form<'a, N> {
    /// Reads a request's body. Of a repeated key the last value counts; unknown keys are ignored.
    pub fn parse(body: &'a [u8], names: [&'static str; N]) -> Result<Self, ApiError> {
        let text = text_of(body)?;
        if !begins_with(text, '{') {
            let value: &RawValue = serde_json::from_str(text).map_err(broken)?;
            return Err(ApiError::of_body(match Json(value).kind() {
                Kind::Null => "No data provided".to_owned(),
                kind => not_an_object(kind),
            }));
        }
        let values = values_of(text, &names).map_err(broken)?;
        Ok(Self { names, values, errors: FieldErrors::default() })
    }

    /// Reads an object that stands inside a body; the text of the error when it is none.
    fn nested(value: Json<'a>, names: [&'static str; N]) -> Result<Self, Problem> {
        match value.kind() {
            Kind::Dict => {
                // The value was read before, as a part of the body, so it can be read again.
                let values = values_of(value.0.get(), &names)
                    .map_err(|error| Problem::text(error.to_string()))?;
                Ok(Self { names, values, errors: FieldErrors::default() })
            }
            kind => Err(Problem::text(not_an_object(kind))),
        }
    }

    /// A field that may be missing.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        convert: impl FnOnce(Json<'a>) -> Result<T, Problem>,
    ) -> Option<T> {
        let position = self.names.iter().position(|known| *known == name);
        let value = Json(self.values[position?]?);
        let converted = match value.kind() {
            Kind::Null => Err(Problem::text("This field may not be null.")),
            _ => convert(value),
        };
        converted.map_err(|problem| self.errors.add(name, problem)).ok()
    }

    /// A field that must be there. `None` only when an error was noted.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        convert: impl FnOnce(Json<'a>) -> Result<T, Problem>,
    ) -> Option<T> {
        let position = self.names.iter().position(|known| *known == name);
        if position.is_none_or(|position| self.values[position].is_none()) {
            self.errors.add(name, Problem::text("This field is required."));
            return None;
        }
        self.optional(name, convert)
    }

    /// All that is wrong, together.
    pub fn finish(self) -> Result<(), FieldErrors> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}

/// Converts a list of objects, each by its fields; errors are reported by place.
pub fn objects<'a, T, const N: usize>(
    value: Json<'a>,
    names: [&'static str; N],
    read: impl Fn(&mut Form<'a, N>) -> Option<T>,
) -> Result<Vec<T>, Problem> {
    let items = value.items().map_err(Problem::of_list)?;
    if items.is_empty() {
        return Err(Problem::of_list(EMPTY_LIST));
    }
    each(items, usize::MAX, names, read).map_err(Problem::Places)
}

/// What a body that is a list may hold.
#[derive(Clone, Copy, Debug)]
pub struct ListRule {
    /// The most items.
    pub items_max: usize,
    /// The largest item, in bytes of its text.
    pub item_bytes_max: usize,
}

/// Reads a request's body that is a list of objects, each by its fields; errors are reported by place.
pub fn list<'a, T, const N: usize>(
    body: &'a [u8],
    rule: ListRule,
    names: [&'static str; N],
    read: impl Fn(&mut Form<'a, N>) -> Option<T>,
) -> Result<Vec<T>, ApiError> {
    let text = text_of(body)?;
    if !begins_with(text, '[') {
        let value: &RawValue = serde_json::from_str(text).map_err(broken)?;
        return Err(ApiError::of_body(match Json(value).kind() {
            Kind::Null => "No data provided".to_owned(),
            kind => not_a_list(kind),
        }));
    }
    match items_of(text, rule.items_max).map_err(broken)? {
        None => Err(ApiError::of_body(too_many(rule.items_max))),
        Some(items) if items.is_empty() => Err(ApiError::of_body(EMPTY_LIST)),
        Some(items) => {
            each(items, rule.item_bytes_max, names, read).map_err(ApiError::InvalidItems)
        }
    }
}

/// Reads items, each by its fields; what is wrong, by place.
fn each<'a, T, const N: usize>(
    items: Vec<Json<'a>>,
    bytes_max: usize,
    names: [&'static str; N],
    read: impl Fn(&mut Form<'a, N>) -> Option<T>,
) -> Result<Vec<T>, Vec<FieldErrors>> {
    let mut read_items = Vec::with_capacity(items.len());
    let mut places = Vec::with_capacity(items.len());
    for item in items {
        if item.0.get().len() > bytes_max {
            let text = format!("This item is larger than {bytes_max} bytes.");
            places.push(FieldErrors::of(NON_FIELD, Problem::text(text)));
            continue;
        }
        places.push(match Form::nested(item, names) {
            Err(problem) => FieldErrors::of(NON_FIELD, problem),
            Ok(mut form) => {
                read_items.extend(read(&mut form));
                form.finish().err().unwrap_or_default()
            }
        });
    }
    if places.iter().all(FieldErrors::is_empty) { Ok(read_items) } else { Err(places) }
}

fn text_of(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body)
        .map_err(|error| broken(format_args!("invalid UTF-8 after byte {}", error.valid_up_to())))
}

/// Whether a JSON text begins with that, after white space.
fn begins_with(text: &str, first: char) -> bool {
    text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with(first)
}

fn broken(what: impl fmt::Display) -> ApiError {
    ApiError::BadRequest(format!("JSON parse error - {what}").into())
}

/// The values of those names in an object's text.
fn values_of<'a, const N: usize>(
    text: &'a str,
    names: &[&'static str; N],
) -> serde_json::Result<[Option<&'a RawValue>; N]> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let values = parser.deserialize_map(Fields(names))?;
    parser.end()?;
    Ok(values)
}

/// The items of a list's text; `None` when there are more than `max`, of which no more are held than that.
fn items_of(text: &str, max: usize) -> serde_json::Result<Option<Vec<Json<'_>>>> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let items = parser.deserialize_seq(Items { max })?;
    parser.end()?;
    Ok(items)
}

struct Items {
    max: usize,
}

impl<'de> Visitor<'de> for Items {
    type Value = Option<Vec<Json<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.max {
            match list.next_element()? {
                Some(item) => items.push(Json(item)),
                None => return Ok(Some(items)),
            }
        }
        // The rest is read all the same, since broken JSON is the first thing to say.
        let mut has_more = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            has_more = true;
        }
        Ok((!has_more).then_some(items))
    }
}

struct Fields<'n, const N: usize>(&'n [&'static str; N]);

impl<'de, const N: usize> Visitor<'de> for Fields<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        while let Some(position) = map.next_key_seed(Key(self.0))? {
            match position {
                Some(position) => values[position] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

/// Reads a key as the position of its name, if it is one of ours.
struct Key<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| name.as_bytes() == key))
    }
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
