//! The values that clients write, converted as Django REST Framework converts them: a text of digits is an integer, `on` is
//! a boolean, a number becomes a text, and each refusal has the text of `rest-conventions.md`.
//!
//! A value stays the JSON text it came as until a converter asks for it. Strings are read as bytes, because a lone
//! surrogate is the business of the field it stands in and not of its neighbours.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use serde::de::{Deserializer, Visitor};
use serde_json::value::RawValue;

use super::error::Problem;

/// How much of a wrong value an error repeats, in characters.
const SHOWN_MAX: usize = 1_000;

/// The longest text that may stand for a number.
const NUMBER_LENGTH_MAX: usize = 1_000;

/// A JSON value, known to be valid, as its text.
#[derive(Clone, Copy, Debug)]
pub struct Json<'a>(pub &'a RawValue);

/// What a JSON value is, in the words of Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number without fraction and exponent.
    Int,
    /// Any other number.
    Float,
    /// A string.
    Str,
    /// An array.
    List,
    /// An object.
    Dict,
}

impl Kind {
    /// Python's name, as errors show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "NoneType",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Str => "str",
            Self::List => "list",
            Self::Dict => "dict",
        }
    }
}

impl<'a> Json<'a> {
    /// What the value is.
    pub fn kind(self) -> Kind {
        let text = self.0.get();
        match text.as_bytes().first() {
            Some(b'n') => Kind::Null,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'"') => Kind::Str,
            Some(b'[') => Kind::List,
            Some(b'{') => Kind::Dict,
            _ if text.contains(['.', 'e', 'E']) => Kind::Float,
            _ => Kind::Int,
        }
    }

    /// The text of a string or a number. `None` for other values, and for strings with a lone surrogate.
    pub fn text(self) -> Option<Cow<'a, str>> {
        let raw = self.0.get();
        match self.kind() {
            Kind::Int | Kind::Float => Some(Cow::Borrowed(raw)),
            Kind::Str if !raw.contains('\\') => Some(Cow::Borrowed(raw.trim_matches('"'))),
            Kind::Str => {
                let mut parser = serde_json::Deserializer::from_str(raw);
                let bytes = parser.deserialize_bytes(StringBytes).ok()?;
                String::from_utf8(bytes).ok().map(Cow::Owned)
            }
            _ => None,
        }
    }

    /// The items of a list; the text of the error when it is none.
    pub fn items(self) -> Result<Vec<Json<'a>>, String> {
        match self.kind() {
            Kind::List => {
                let items: Vec<&RawValue> =
                    serde_json::from_str(self.0.get()).map_err(|error| error.to_string())?;
                Ok(items.into_iter().map(Json).collect())
            }
            kind => Err(not_a_list(kind)),
        }
    }

    /// The value as an error repeats it: as Python's `str` would write it, cut where it is long.
    pub fn shown(self) -> String {
        let text = match self.kind() {
            Kind::Bool if self.0.get() == "true" => "True".into(),
            Kind::Bool => "False".into(),
            _ => self.text().unwrap_or(Cow::Borrowed(self.0.get())),
        };
        match text.char_indices().nth(SHOWN_MAX) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.into_owned(),
        }
    }
}

/// What a text field accepts.
#[derive(Clone, Copy, Debug)]
pub struct TextRule {
    /// The longest text, in characters, after trimming.
    pub length_max: usize,
    /// Whether it may be empty.
    pub may_be_blank: bool,
    /// Whether white space around it is dropped.
    pub trims: bool,
}

/// Converts a text field.
pub fn text<'a>(value: Json<'a>, rule: TextRule) -> Result<Cow<'a, str>, Problem> {
    let text = value.text().ok_or_else(|| Problem::text("Not a valid string."))?;
    let text = if rule.trims { trim(text) } else { text };
    if text.is_empty() && !rule.may_be_blank {
        return Err(Problem::text("This field may not be blank."));
    }
    let mut problems = Vec::new();
    if text.len() > rule.length_max && text.chars().count() > rule.length_max {
        problems.push(too_long(rule.length_max));
    }
    if text.contains('\0') {
        problems.push("Null characters are not allowed.".to_owned());
    }
    if problems.is_empty() { Ok(text) } else { Err(Problem::Texts(problems)) }
}

/// The text for a text that is too long.
pub fn too_long(length_max: usize) -> String {
    format!("Ensure this field has no more than {length_max} characters.")
}

/// Converts a boolean, in any of the spellings that the conventions list.
pub fn boolean(value: Json<'_>) -> Result<bool, Problem> {
    let is_text = value.kind() == Kind::Str;
    let text = value.text().unwrap_or(Cow::Borrowed(value.0.get())).to_ascii_lowercase();
    match text.as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        "t" | "yes" | "y" | "on" if is_text => Ok(true),
        "f" | "no" | "n" | "off" if is_text => Ok(false),
        // Python finds 1.0 in a set that holds 1.
        "1.0" if !is_text => Ok(true),
        "0.0" if !is_text => Ok(false),
        _ => Err(Problem::text("Must be a valid boolean.")),
    }
}

/// Converts an integer within a range; a text of digits counts, and so does a number whose fraction is zero.
pub fn integer(value: Json<'_>, range: RangeInclusive<i64>) -> Result<i64, Problem> {
    let text = value.text().ok_or(()).and_then(|text| whole_number(&text, value.kind()).ok_or(()));
    let number = text.map_err(|()| Problem::text("A valid integer is required."))?;
    in_range(number, range)
}

/// Converts a number within a range; a text that spells one counts.
pub fn number(value: Json<'_>, range: RangeInclusive<f64>) -> Result<f64, Problem> {
    let parsed = value.text().and_then(|text| {
        let text = text.trim();
        (text.len() <= NUMBER_LENGTH_MAX).then(|| text.parse::<f64>().ok())?
    });
    match parsed.filter(|number| !number.is_nan()) {
        Some(number) => in_range(number, range),
        None => Err(Problem::text("A valid number is required.")),
    }
}

fn in_range<T: PartialOrd + fmt::Display + Copy>(
    number: T,
    range: RangeInclusive<T>,
) -> Result<T, Problem> {
    let (least, greatest) = (range.start(), range.end());
    if number < *least {
        let text = format!("Ensure this value is greater than or equal to {least}.");
        Err(Problem::text(text))
    } else if number > *greatest {
        Err(Problem::text(format!("Ensure this value is less than or equal to {greatest}.")))
    } else {
        Ok(number)
    }
}

/// A whole number as Django REST Framework reads one: `5`, `"5"`, `" 5 "`, `5.0`. One beyond 64 bits becomes the
/// nearest that fits, which no range of ours contains.
fn whole_number(text: &str, kind: Kind) -> Option<i64> {
    let text = text.trim();
    if text.len() > NUMBER_LENGTH_MAX {
        return None;
    }
    if kind == Kind::Float {
        let number: f64 = text.parse().ok()?;
        // From there on Python writes an exponent, and refuses.
        let is_whole = number.fract() == 0.0 && number.abs() < 1e16;
        return is_whole.then_some(number as i64);
    }
    let whole = match text.rsplit_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
        _ => text,
    };
    let digits = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let is_negative = whole.starts_with('-');
    Some(whole.parse().unwrap_or(if is_negative { i64::MIN } else { i64::MAX }))
}

/// The text for a value that is not an object.
pub fn not_an_object(kind: Kind) -> String {
    format!("Invalid data. Expected a dictionary, but got {}.", kind.name())
}

/// The text for a value that is not a list.
pub fn not_a_list(kind: Kind) -> String {
    format!("Expected a list of items but got type \"{}\".", kind.name())
}

/// The text for a list that has nothing in it.
pub const EMPTY_LIST: &str = "This list may not be empty.";

/// The text for a list that is too long.
pub fn too_many(items_max: usize) -> String {
    format!("Ensure this field has no more than {items_max} elements.")
}

/// The text for a value that is not one of the choices.
pub fn not_a_choice(value: Json<'_>) -> Problem {
    Problem::text(format!("\"{}\" is not a valid choice.", value.shown()))
}

/// Drops what Python's `str.strip` drops: Unicode white space, and four separators that Unicode does not count.
fn trim(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_matches(is_space)),
        Cow::Owned(text) => Cow::Owned(text.trim_matches(is_space).to_owned()),
    }
}

/// Reads a string as bytes, in which a lone surrogate is no valid UTF-8.
struct StringBytes;

impl Visitor<'_> for StringBytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(bytes.to_vec())
    }
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
