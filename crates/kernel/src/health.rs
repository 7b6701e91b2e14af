//! What a try says about the endpoint as a whole: when it is deactivated, and how many requests it deserves at once.

use std::time::Duration;

use crate::{Outcome, attempt::Answer};

/// Whether a try deactivates its endpoint: 410 Gone is the receiver's way to ask for it.
pub fn deactivates(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answered(Answer { status: 410, .. }))
}

/// A try that takes longer than this holds up others.
pub const SLOW: Duration = Duration::from_secs(2);

/// How many requests may be in flight to a receiver that has never answered.
pub const WIDTH_UNKNOWN: u32 = 2;

/// How many requests may be in flight to one endpoint, between 1 and its limit.
///
/// A receiver that doesn't answer, or takes its time, would otherwise hold as many of the instance's permits as its limit
/// allows, each for up to the whole timeout; thirty such receivers would hold them all. So every try that got no answer
/// or took longer than [`SLOW`] halves the window, and every prompt answer doubles it: a dead receiver soon costs one
/// permit, and a healthy one is back at its limit within a few answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    width: u32,
    limit: u32,
}

impl Window {
    /// The window of a receiver that nobody knows yet: [`WIDTH_UNKNOWN`], and opened by its first answers.
    pub fn new(limit: u32) -> Self {
        let limit = limit.max(1);
        Self { width: WIDTH_UNKNOWN.min(limit), limit }
    }

    /// How many requests may be in flight now.
    pub fn width(self) -> u32 {
        self.width
    }

    /// The window after a try that took so long.
    pub fn after(self, outcome: &Outcome, duration: Duration) -> Self {
        let is_prompt = matches!(outcome, Outcome::Answered(_)) && duration <= SLOW;
        let width = if is_prompt {
            self.width.saturating_mul(2).min(self.limit)
        } else {
            (self.width / 2).max(1)
        };
        Self { width, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, attempt::Cause};

    fn answered(status: u16) -> Outcome {
        Outcome::Answered(Answer { status, retry_after: None, body: Vec::new() })
    }

    #[test]
    fn gone_deactivates() {
        assert!(deactivates(&answered(410)));
        assert!(!deactivates(&answered(404)) && !deactivates(&answered(500)));
        assert!(!deactivates(&Outcome::Unanswered(Failure::new(Cause::Connect, ""))));
    }

    #[test]
    fn a_dead_receiver_soon_costs_one_permit_and_a_healthy_one_gets_them_back() {
        let silent = Outcome::Unanswered(Failure::new(Cause::Timeout, ""));
        let mut window = Window::new(32);
        assert_eq!(window.width(), 2, "a receiver that nobody knows yet");
        for _ in 0..4 {
            window = window.after(&answered(200), SLOW);
        }
        assert_eq!(window.width(), 32);
        let mut widths = Vec::new();
        for _ in 0..7 {
            window = window.after(&silent, Duration::ZERO);
            widths.push(window.width());
        }
        assert_eq!(widths, [16, 8, 4, 2, 1, 1, 1]);
        for _ in 0..6 {
            window = window.after(&answered(500), SLOW);
        }
        assert_eq!(window.width(), 32);
        assert_eq!(
            window.after(&answered(200), SLOW * 2).width(),
            16,
            "an answer that took its time"
        );
        assert_eq!(Window::new(0).width(), 1);
    }
}
