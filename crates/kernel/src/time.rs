//! Points in time, as microseconds since the epoch, and how the API writes them.

use std::{fmt, time::Duration};

/// A point in time with the resolution of the API: one microsecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Reads ISO 8601 with an offset, `2021-03-25T15:21:46.575398Z`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(|time: jiff::Timestamp| Self(time.as_microsecond()))
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down: what a signature's `t` carries.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment and `duration` more; the far end of time where that does not fit.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This moment and `duration` less; the beginning of time where that does not fit.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long until `later`; zero when that has passed.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_micros(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

/// ISO 8601 in UTC, with microseconds unless they are zero: `2021-03-25T15:21:46.575398Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0 % 1_000_000 == 0;
        let Ok(time) = jiff::Timestamp::from_microsecond(self.0) else {
            // Beyond the years that ISO 8601 writes in four digits; no stored time gets there.
            return write!(f, "{}us", self.0);
        };
        if whole { write!(f, "{time:.0}") } else { write!(f, "{time:.6}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_api_writes_them() {
        let check = |micros, expected: &str| {
            assert_eq!(Timestamp::from_micros(micros).to_string(), expected);
            assert_eq!(Timestamp::parse(expected), Some(Timestamp::from_micros(micros)));
        };
        check(1_616_685_706_575_398, "2021-03-25T15:21:46.575398Z");
        check(1_616_685_706_500_000, "2021-03-25T15:21:46.500000Z");
        check(1_616_685_706_000_000, "2021-03-25T15:21:46Z");
        check(0, "1970-01-01T00:00:00Z");
        check(-1, "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn times_without_an_offset_are_none() {
        let offset = Timestamp::parse("2021-03-25T17:21:46+02:00").unwrap();
        assert_eq!(offset.to_string(), "2021-03-25T15:21:46Z");
        for text in ["", "now", "2021-03-25", "2021-03-25T15:21:46", "1616685706"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        assert_eq!(Timestamp::from_micros(i64::MAX).plus(Duration::MAX).as_micros(), i64::MAX);
        assert_eq!(Timestamp::from_micros(5).until(Timestamp::from_micros(3)), Duration::ZERO);
        assert_eq!(Timestamp::from_micros(-1).as_seconds(), -1);
    }
}
