//! How quick receivers are, and how the endpoints that keep this machine busy share it.
//!
//! While a receiver is what takes its time, more requests in flight to it are more that it does at once. While this machine
//! is what takes its time, more in flight only wait for it, in tasks and connections that cost memory and more time. So the
//! lanes whose receivers are quick share a width, and a length of queue, that is enough to keep the machine busy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use postrider_kernel::Outcome;

/// A receiver that can answer within this time is prompt: publishers wait for its lane.
pub const PROMPT: Duration = Duration::from_millis(10);

/// A receiver that can answer within this time is quick: its lane has a share of what is in flight.
const QUICK: Duration = Duration::from_millis(100);

/// How many answers in a row it takes to be believed.
pub const PROOF: u32 = 32;

/// The pace is that of so many answers, or up to twice as many.
const LATELY: u32 = 32;

/// How many deliveries may wait in the lanes of quick receivers together, and the least and most that are one lane's share.
const WAITING: u32 = 512;
const WAITING_OF_ONE: (u32, u32) = (4, 128);

/// How many requests to quick receivers a processor keeps in flight at least, and so many a second: about half of what it
/// can send. The more time they take, the more of them are in flight.
const IN_FLIGHT: u32 = 32;
const RATE: u32 = 7_500;

/// The least share of what is in flight.
const WIDTH_LEAST: u32 = 2;

/// How long a try takes at best, lately: others may have waited for this machine, not for the receiver.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The quickest of the latest answers, and of as many before those.
    quickest: [Duration; 2],
    /// How many answers there were in a row.
    answers: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { quickest: [Duration::MAX; 2], answers: 0 }
    }
}

impl Pace {
    /// The pace after a try that took so long. One that got no answer leaves nothing known.
    pub fn after(self, outcome: &Outcome, duration: Duration) -> Self {
        let Outcome::Answered(_) = outcome else { return Self::default() };
        let [latest, before] = self.quickest;
        let quickest = match self.answers.is_multiple_of(LATELY) {
            true => [duration, latest],
            false => [latest.min(duration), before],
        };
        Self { quickest, answers: self.answers.saturating_add(1) }
    }

    /// The same pace, of a receiver that has to prove prompt once more.
    pub fn doubted(self) -> Self {
        Self { answers: 0, ..self }
    }

    /// How quick the receiver can be.
    fn best(self) -> Duration {
        let [latest, before] = self.quickest;
        latest.min(before)
    }

    /// Whether the receiver has proved prompt.
    pub fn is_prompt(self) -> bool {
        self.answers >= PROOF && self.best() <= PROMPT
    }

    /// Whether the receiver can be quick.
    pub fn is_quick(self) -> bool {
        self.best() <= QUICK
    }
}

/// The lanes that have a quick receiver, and deliveries for it.
#[derive(Debug)]
pub struct Busy {
    lanes: AtomicU32,
    processors: u32,
}

impl Busy {
    /// None yet, on a machine with so many processors.
    pub fn new(processors: u32) -> Arc<Self> {
        Arc::new(Self { lanes: AtomicU32::new(0), processors })
    }

    /// One more.
    pub fn add(&self) {
        self.lanes.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn remove(&self) {
        self.lanes.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many requests a lane of that pace should have in flight; as many as it may, where its receiver isn't quick.
    pub fn width(&self, pace: Pace) -> u32 {
        if !pace.is_quick() {
            return u32::MAX;
        }
        // Little's law: so many are in flight as begin in a second, times the seconds that each takes.
        let by_rate = RATE * u32::try_from(pace.best().as_millis()).unwrap_or(u32::MAX) / 1_000;
        let of_all = self.processors.saturating_mul(by_rate.max(IN_FLIGHT));
        (of_all / self.shares()).max(WIDTH_LEAST)
    }

    /// From how many waiting deliveries on a lane is behind.
    pub fn waiting(&self) -> u32 {
        let (least, most) = WAITING_OF_ONE;
        (WAITING / self.shares()).clamp(least, most)
    }

    fn shares(&self) -> u32 {
        self.lanes.load(Ordering::Relaxed).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_kernel::{
        Failure,
        attempt::{Answer, Cause},
    };

    fn after(answers: u32, pace: Pace, duration: Duration) -> Pace {
        let answer = Outcome::Answered(Answer { status: 200, retry_after: None, body: vec![] });
        (0..answers).fold(pace, |pace, _| pace.after(&answer, duration))
    }

    #[test]
    fn the_best_of_the_latest_answers_counts() {
        let quick = after(1, Pace::default(), Duration::from_millis(1));
        let mostly_slow = after(PROOF, quick, QUICK * 2);
        assert!(mostly_slow.is_prompt() && mostly_slow.is_quick());
        let slow = after(2 * LATELY, mostly_slow, QUICK * 2);
        assert!(!slow.is_prompt() && !slow.is_quick(), "the quick one was long ago");
        let fair = after(2 * LATELY, slow, QUICK);
        assert!(!fair.is_prompt() && fair.is_quick());
    }

    #[test]
    fn a_receiver_has_to_prove_prompt() {
        let pace = after(PROOF - 1, Pace::default(), Duration::ZERO);
        assert!(!pace.is_prompt() && pace.is_quick());
        let proven = after(1, pace, Duration::ZERO);
        assert!(proven.is_prompt());
        let doubted = proven.doubted();
        assert!(!doubted.is_prompt() && doubted.is_quick());
        assert!(after(PROOF, doubted, Duration::ZERO).is_prompt());
        let silent = Outcome::Unanswered(Failure::new(Cause::Timeout, ""));
        assert!(!proven.after(&silent, Duration::ZERO).is_quick());
    }

    #[test]
    fn busy_lanes_share_what_keeps_the_machine_busy() {
        let busy = Busy { lanes: AtomicU32::new(0), processors: 2 };
        let at = |milliseconds| after(PROOF, Pace::default(), Duration::from_millis(milliseconds));
        assert_eq!(busy.width(Pace::default()), u32::MAX, "nothing is known of it");
        assert_eq!(busy.width(at(101)), u32::MAX, "it takes its time");
        assert_eq!((busy.width(at(0)), busy.width(at(100))), (64, 1_500));
        assert_eq!(busy.waiting(), 128);
        (0..20).for_each(|_| busy.add());
        assert_eq!((busy.width(at(0)), busy.width(at(100))), (3, 75));
        assert_eq!(busy.waiting(), 25);
        (0..1_000).for_each(|_| busy.add());
        assert_eq!((busy.width(at(0)), busy.width(at(100))), (2, 2));
        assert_eq!(busy.waiting(), 4);
        (0..1_020).for_each(|_| busy.remove());
        assert_eq!(busy.width(at(0)), 64);
    }
}
