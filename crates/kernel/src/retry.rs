//! When a failed delivery is tried again: the schedule, its jitter, and a receiver's `Retry-After`.

use std::{fmt, str::FromStr, time::Duration};

use thiserror::Error;

use crate::Timestamp;

/// The longest wait that a `Retry-After` can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Up to this share of a wait is added to it, so that deliveries which failed together are not retried together.
const JITTER_MAX: f64 = 0.1;

/// The waits between the tries of one delivery. With five waits there are six tries.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrySchedule(Vec<Duration>);

/// Why a text is not a [`RetrySchedule`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "a retry schedule is a comma-separated list of at most 100 waits in seconds, each above 0 and up to 30 days: 5,25,125"
)]
pub struct InvalidSchedule;

impl Default for RetrySchedule {
    /// 5, 25, 125, 625 and 3,125 seconds.
    fn default() -> Self {
        Self([5, 25, 125, 625, 3125].map(Duration::from_secs).to_vec())
    }
}

impl RetrySchedule {
    /// How long to wait after the attempt of that number (from 1), before jitter; `None` when it was the last one.
    pub fn wait_after(&self, attempt_number: u32) -> Option<Duration> {
        let index = usize::try_from(attempt_number).ok()?.checked_sub(1)?;
        self.0.get(index).copied()
    }
}

impl FromStr for RetrySchedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let month = 30.0 * 86_400.0;
        let wait = |part: &str| match part.trim().parse::<f64>() {
            Ok(seconds) if seconds > 0.0 && seconds <= month => {
                let wait = Duration::from_secs_f64(seconds);
                // What is too short for a nanosecond would be no wait at all.
                if wait.is_zero() { Err(InvalidSchedule) } else { Ok(wait) }
            }
            _ => Err(InvalidSchedule),
        };
        let waits = text.split(',').map(wait).collect::<Result<Vec<_>, _>>()?;
        if waits.len() <= 100 { Ok(Self(waits)) } else { Err(InvalidSchedule) }
    }
}

impl fmt::Display for RetrySchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits: Vec<String> = self.0.iter().map(|wait| wait.as_secs_f64().to_string()).collect();
        f.write_str(&waits.join(","))
    }
}

/// A random number from 0 up to, but not including, 1. The caller draws it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// No jitter at all.
    pub const NONE: Self = Self(0.0);

    /// Makes one of 64 random bits.
    pub fn from_entropy(bits: u64) -> Self {
        // 53 bits are what a float between 0 and 1 can hold.
        Self((bits >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// A wait, lengthened by up to a tenth.
    pub fn stretch(self, wait: Duration) -> Duration {
        wait.mul_f64(1.0 + JITTER_MAX * self.0)
    }
}

/// Reads a `Retry-After` header (RFC 9110, section 10.2.3): seconds or a date. Capped at [`RETRY_AFTER_MAX`];
/// `None` when it makes no sense, since a receiver's slip must not stop its deliveries.
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit is just a very long wait.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let since_epoch =
            httpdate::parse_http_date(value).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        now.until(Timestamp::from_micros(0).plus(since_epoch))
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_schedule_allows_six_tries() {
        let schedule = RetrySchedule::default();
        let waits: Vec<_> =
            (1..=7).map(|n| schedule.wait_after(n).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(5), Some(25), Some(125), Some(625), Some(3125), None, None]);
        assert_eq!(schedule.wait_after(0), None);
    }

    #[test]
    fn schedules_are_read_and_written() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(
                text.parse::<RetrySchedule>().ok().map(|s| s.to_string()).as_deref(),
                expected,
                "{text}"
            );
        };
        check("5,25,125,625,3125", Some("5,25,125,625,3125"));
        check(" 0.05 , 1.5", Some("0.05,1.5"));
        for bad in ["", "0", "-1", "5,", "x", "NaN", "inf", "1e30", "1e-10", &["1"; 101].join(",")]
        {
            check(bad, None);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_micros(784_111_777_000_000); // Sun, 06 Nov 1994 08:49:37 GMT
        let check = |value, expected: Option<u64>| {
            assert_eq!(parse_retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        };
        check("120", Some(120));
        check(" 7 ", Some(7));
        check("0", Some(0));
        check("Sun, 06 Nov 1994 08:50:37 GMT", Some(60));
        check("Sun, 06 Nov 1994 08:00:00 GMT", Some(0));
        check("99999999999999999999999", Some(86_400));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400));
        for nonsense in ["", "soon", "-5", "1.5", "+3"] {
            check(nonsense, None);
        }
    }

    proptest! {
        #[test]
        fn jitter_adds_up_to_a_tenth(bits: u64, seconds in 0.0..100_000.0_f64) {
            let wait = Duration::from_secs_f64(seconds);
            let stretched = Jitter::from_entropy(bits).stretch(wait);
            prop_assert!(stretched >= wait && stretched <= wait.mul_f64(1.1));
        }

        #[test]
        fn no_retry_after_panics(value: String) {
            let wait = parse_retry_after(&value, Timestamp::from_micros(0));
            prop_assert!(wait.is_none_or(|wait| wait <= RETRY_AFTER_MAX));
        }
    }
}
