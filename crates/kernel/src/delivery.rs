//! The state machine of a delivery: one event owed to one endpoint.
//!
//! ```text
//!                       claim                     settle: 2xx
//!   publish ─► pending ───────► leased ─────────────────────────► delivered
//!      │          ▲               │ │
//!      │          ├───────────────┘ └─ settle: schedule used up ─► failed
//!      │          │ settle: retry, or given back untried
//!      │          │
//!      │          └── the lease's holder died
//!      └─► leased (the fast path: this node attempts at once)
//!
//!   pending, leased ── endpoint deleted ─► cancelled
//! ```
//!
//! An endpoint that is inactive leaves its deliveries pending: nothing is tried, and no try is used up.

use crate::{Outcome, RetrySchedule, Timestamp, health, retry::Jitter};

/// Where a delivery stands, as the store names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Waits for its due time.
    Pending,
    /// Somebody holds the right to attempt it.
    Leased,
    /// The receiver acknowledged.
    Delivered,
    /// The schedule is used up.
    Failed,
    /// Its endpoint was deleted.
    Cancelled,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Leased, Self::Delivered, Self::Failed, Self::Cancelled];

    /// The name in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Leased => "leased",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What becomes of a delivery after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The receiver acknowledged; nothing more is owed.
    Delivered,
    /// It is tried again at that time.
    Retry(Timestamp),
    /// The schedule is used up; nothing more is owed.
    Failed,
}

impl Next {
    /// When the next try is due, if there is one: an attempt's `next_retry`.
    pub fn retry_at(self) -> Option<Timestamp> {
        match self {
            Self::Retry(due) => Some(due),
            Self::Delivered | Self::Failed => None,
        }
    }
}

/// The decision that follows a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// What becomes of the delivery.
    pub next: Next,
    /// Whether the endpoint is deactivated with it.
    pub deactivates_endpoint: bool,
}

/// Decides what follows the try of that number (from 1), which ended `now`.
///
/// A `Retry-After` lengthens the wait and never shortens it.
pub fn settle(
    outcome: &Outcome,
    attempt_number: u32,
    schedule: &RetrySchedule,
    now: Timestamp,
    jitter: Jitter,
) -> Settlement {
    let next = if outcome.is_success() {
        Next::Delivered
    } else {
        match schedule.wait_after(attempt_number) {
            None => Next::Failed,
            Some(wait) => {
                let wait = jitter.stretch(wait).max(outcome.retry_after(now).unwrap_or_default());
                Next::Retry(now.plus(wait))
            }
        }
    };
    Settlement { next, deactivates_endpoint: health::deactivates(outcome) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Failure,
        attempt::{Answer, Cause},
    };

    fn check(outcome: &Outcome, attempt_number: u32, expected: &str) {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let settlement =
            settle(outcome, attempt_number, &RetrySchedule::default(), now, Jitter::NONE);
        let next = match settlement.next {
            Next::Retry(due) => format!("retry after {:?}", now.until(due)),
            other => format!("{other:?}").to_lowercase(),
        };
        let suffix = if settlement.deactivates_endpoint { ", deactivated" } else { "" };
        assert_eq!(next + suffix, expected, "{outcome:?}");
    }

    fn answered(status: u16, retry_after: Option<&str>) -> Outcome {
        Outcome::Answered(Answer {
            status,
            retry_after: retry_after.map(Into::into),
            body: Vec::new(),
        })
    }

    #[test]
    fn every_outcome_settles() {
        check(&answered(200, None), 1, "delivered");
        check(&answered(299, None), 6, "delivered");
        check(&answered(301, None), 1, "retry after 5s");
        check(&answered(500, None), 2, "retry after 25s");
        check(&answered(500, None), 5, "retry after 3125s");
        check(&answered(500, None), 6, "failed");
        check(&answered(410, None), 1, "retry after 5s, deactivated");
        check(&answered(410, None), 6, "failed, deactivated");
        for cause in Cause::ALL {
            check(&Outcome::Unanswered(Failure::new(cause, "")), 3, "retry after 125s");
        }
    }

    #[test]
    fn retry_after_lengthens_and_never_shortens() {
        check(&answered(503, Some("60")), 1, "retry after 60s");
        check(&answered(429, Some("1")), 1, "retry after 5s");
        check(&answered(429, Some("9999999")), 1, "retry after 86400s");
        check(&answered(500, Some("60")), 1, "retry after 5s");
        check(&answered(503, Some("60")), 6, "failed");
    }

    #[test]
    fn jitter_is_added() {
        let now = Timestamp::from_micros(0);
        let jitter = Jitter::from_entropy(u64::MAX / 2 + 1);
        let settled = settle(&answered(500, None), 1, &RetrySchedule::default(), now, jitter);
        assert_eq!(settled.next, Next::Retry(Timestamp::from_micros(5_250_000)));
    }
}
