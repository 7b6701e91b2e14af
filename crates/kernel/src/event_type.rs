//! The names of event types.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// The longest name, in characters.
pub const EVENT_TYPE_LENGTH_MAX: usize = 128;

/// Prefixes of the types that Postrider itself publishes.
const RESERVED_PREFIXES: [&str; 2] = ["endpoint.", "delivery."];

/// A dotted name, `post.created`: parts of ASCII letters, digits, `_` and `-`, separated by single dots.
///
/// Cheap to clone: every event and subscription of a type shares one text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

/// Why a text is not an [`EventType`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidEventType {
    /// More than [`EVENT_TYPE_LENGTH_MAX`] characters.
    #[error("an event type has at most {EVENT_TYPE_LENGTH_MAX} characters")]
    TooLong,
    /// Something else than dotted parts of letters, digits, `_` and `-`.
    #[error("an event type is a dotted name of letters, digits, _ and -, such as post.created")]
    Malformed,
}

impl EventType {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidEventType> {
        if text.chars().count() > EVENT_TYPE_LENGTH_MAX {
            return Err(InvalidEventType::TooLong);
        }
        let part_is_sound = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if text.split('.').all(part_is_sound) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidEventType::Malformed)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether Postrider keeps this type for its own events, which nobody else may publish or add.
    pub fn is_reserved(&self) -> bool {
        RESERVED_PREFIXES.iter().any(|prefix| self.0.starts_with(prefix))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lets a map that is keyed by event types be asked with a plain text.
impl std::borrow::Borrow<str> for EventType {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_types_are_dotted_names() {
        for good in
            ["ping", "post.created", "loyalty.prize_request.updated", "a-b.C1", &"x".repeat(128)]
        {
            assert!(EventType::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a\"b", "é", "a\0"] {
            assert_eq!(EventType::parse(bad), Err(InvalidEventType::Malformed), "{bad:?}");
        }
        assert_eq!(EventType::parse(&"x".repeat(129)), Err(InvalidEventType::TooLong));
    }

    #[test]
    fn the_services_own_types_are_reserved() {
        let reserved = |name| EventType::parse(name).unwrap().is_reserved();
        assert!(reserved("endpoint.disabled") && reserved("delivery.failed"));
        assert!(!reserved("endpoint") && !reserved("endpoints.x") && !reserved("post.delivery"));
    }
}
