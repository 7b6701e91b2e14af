//! An event's payload: the exact bytes that are signed and sent, built once when the event is published.
//!
//! The publisher's `data` goes through byte for byte, so it is kept as the text it came as: checked, never re-serialised.

use bytes::Bytes;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::{EventId, EventType, Timestamp};

/// How deep `data` may be nested; the object itself is the first level.
pub const DATA_DEPTH_MAX: usize = 128;

/// The largest `created`: the last second of the year 9999.
pub const CREATED_MAX: f64 = 253_402_300_799.0;

/// The JSON object that a publisher attached to an event, as it wrote it.
#[derive(Clone, Copy, Debug)]
pub struct EventData<'a>(&'a str);

/// Why a JSON value is not [`EventData`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidEventData {
    /// It is valid JSON but not an object.
    #[error("data is not an object")]
    NotAnObject,
    /// It is nested deeper than [`DATA_DEPTH_MAX`].
    #[error("data is nested deeper than {DATA_DEPTH_MAX} levels")]
    TooDeep,
}

impl<'a> EventData<'a> {
    /// Takes a value that the JSON parser found valid, and checks what the parser does not.
    pub fn parse(raw: &'a RawValue) -> Result<Self, InvalidEventData> {
        let text = raw.get();
        if !text.starts_with('{') {
            return Err(InvalidEventData::NotAnObject);
        }
        if depth_of(text.as_bytes()) > DATA_DEPTH_MAX {
            Err(InvalidEventData::TooDeep)
        } else {
            Ok(Self(text))
        }
    }

    /// The object's text.
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

/// The deepest nesting of a valid JSON text. Counts instead of recursing, so that no input can exhaust the stack.
fn depth_of(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    deepest
}

/// When the publisher says that an event happened, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Created(f64);

impl Created {
    /// Checks that the moment lies between 0 and [`CREATED_MAX`].
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        // Adding zero turns -0.0, which the range check lets pass, into 0.0.
        (0.0..=CREATED_MAX).contains(&seconds).then_some(Self(seconds + 0.0))
    }

    /// The moment at which the service accepted an event.
    pub fn at(time: Timestamp) -> Self {
        Self((time.as_micros() as f64 / 1e6).clamp(0.0, CREATED_MAX))
    }

    /// Seconds since the epoch.
    pub fn as_seconds(self) -> f64 {
        self.0
    }
}

/// With a decimal point, in the shortest form that reads back the same, as the contract asks.
impl std::fmt::Display for Created {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // `Display` of a float never uses an exponent, but leaves out the point of a whole number.
        if self.0.fract() == 0.0 { write!(f, "{}.0", self.0) } else { write!(f, "{}", self.0) }
    }
}

/// Builds the payload: what every attempt of the event signs and sends (`webhook-api-v2.md`, What a receiver gets).
pub fn payload(
    id: EventId,
    event_type: &EventType,
    created: Created,
    data: EventData<'_>,
) -> Bytes {
    // An event type holds nothing that JSON would escape.
    format!(
        r#"{{"event_id":{id},"type":"{event_type}","created":{created},"data":{}}}"#,
        data.as_str()
    )
    .into()
}

/// The id of an event as Standard Webhooks carries it: `evt_41`, the same on every attempt, without a `.`.
pub fn webhook_id(id: EventId) -> String {
    format!("evt_{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_data(text: &str) -> Result<String, InvalidEventData> {
        let raw: &RawValue = serde_json::from_str(text).expect("valid JSON");
        EventData::parse(raw).map(|data| data.as_str().to_owned())
    }

    #[test]
    fn data_passes_byte_for_byte() {
        for odd in [
            r#"{}"#,
            r#"{"a":1.0,"a":1e2,"b":-0,"big":123456789012345678901234567890}"#,
            r#"{"nul":"\u0000","lone":"\ud800","slash":"\/","é":"☕"}"#,
            "{ \"spaces\" :\t[ 1 ,\n2 ] }",
        ] {
            assert_eq!(check_data(odd).as_deref(), Ok(odd));
        }
        assert_eq!(check_data("[]"), Err(InvalidEventData::NotAnObject));
        assert_eq!(check_data("\"{\""), Err(InvalidEventData::NotAnObject));
    }

    #[test]
    fn data_is_at_most_128_levels_deep() {
        let nested = |levels: usize| {
            format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
        };
        assert!(check_data(&nested(128)).is_ok());
        assert_eq!(check_data(&nested(129)), Err(InvalidEventData::TooDeep));
        assert_eq!(check_data(&nested(1_000_000)), Err(InvalidEventData::TooDeep));
        assert!(
            check_data(&format!(r#"{{"a":"{}\"{}"}}"#, "[".repeat(200), "{".repeat(200))).is_ok()
        );
    }

    #[test]
    fn created_has_a_decimal_point() {
        let check = |seconds, expected: &str| {
            assert_eq!(Created::from_seconds(seconds).unwrap().to_string(), expected)
        };
        check(0.0, "0.0");
        check(-0.0, "0.0");
        check(1_700_000_000.0, "1700000000.0");
        check(1_625_471_209.139224, "1625471209.139224");
        check(CREATED_MAX, "253402300799.0");
        check(1e-7, "0.0000001");
        for bad in [-0.1, f64::NAN, f64::INFINITY, CREATED_MAX + 1.0] {
            assert_eq!(Created::from_seconds(bad), None);
        }
        assert_eq!(
            Created::at(Timestamp::from_micros(1_625_471_209_139_224)).to_string(),
            "1625471209.139224"
        );
    }

    #[test]
    fn the_payload_is_compact_around_the_publishers_bytes() {
        let raw: &RawValue = serde_json::from_str(r#"{"id": 1}"#).unwrap();
        let event_type = EventType::parse("post.created").unwrap();
        let built = payload(
            EventId::new(41),
            &event_type,
            Created::from_seconds(1_625_471_209.139224).unwrap(),
            EventData::parse(raw).unwrap(),
        );
        assert_eq!(
            built,
            r#"{"event_id":41,"type":"post.created","created":1625471209.139224,"data":{"id": 1}}"#
        );
        assert_eq!(webhook_id(EventId::new(41)), "evt_41");
    }

    proptest! {
        #[test]
        fn a_payload_is_json_around_the_very_bytes_of_data(
            data in "\\{( ?\"[a-zé☕]{0,4}\" ?: ?(1e5|-0|null|\\[ ?\\]|\\{\\}|\"\\\\u[0-9a-f]{4}\"),){0,4}\"z\":\\[[ 0-9]\\]\\}",
            id in 1..i64::MAX,
        ) {
            let raw: &RawValue = serde_json::from_str(&data).unwrap();
            let checked = EventData::parse(raw).unwrap();
            let created = Created::from_seconds(1.5).unwrap();
            let event_type = EventType::parse("post.created").unwrap();
            let built = payload(EventId::new(id), &event_type, created, checked);
            let text = std::str::from_utf8(&built).unwrap();
            prop_assert!(text.ends_with(&format!("\"data\":{data}}}")), "{}", text);
            prop_assert!(serde_json::from_str::<&RawValue>(text).is_ok(), "{}", text);
        }

        #[test]
        fn created_reads_back_the_same(seconds in 0.0..CREATED_MAX) {
            let text = Created::from_seconds(seconds).unwrap().to_string();
            prop_assert!(text.contains('.') && !text.contains('e'));
            prop_assert_eq!(text.parse::<f64>().unwrap(), seconds);
        }

        #[test]
        fn acceptance_times_keep_their_microseconds(micros in 0_i64..4_102_444_800_000_000) {
            let text = Created::at(Timestamp::from_micros(micros)).to_string();
            let fraction = text.split_once('.').unwrap().1;
            prop_assert!(fraction.len() <= 6, "{}", text);
        }
    }
}
