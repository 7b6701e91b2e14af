//! What is aimed at, and what does not count as done. Medians are held against them.

/// A goal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    scenario: &'static str,
    name: &'static str,
    /// What to reach.
    reach: f64,
    /// What is not enough; equal to `reach` where nothing lies between.
    floor: f64,
    side: Side,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    AtLeast,
    AtMost,
}

use Side::{AtLeast, AtMost};

const fn goal(
    scenario: &'static str,
    name: &'static str,
    side: Side,
    reach: f64,
    floor: f64,
) -> Goal {
    Goal { scenario, name, reach, floor, side }
}

const GOALS: [Goal; 19] = [
    goal("ratios", "throughput, 64 connections: delivered / limit", AtLeast, 0.25, 0.16),
    goal("throughput, 256 connections", "publish→receive p50", AtMost, 50.0, 200.0),
    goal("throughput, 64 connections", "server CPU per delivery", AtMost, 70.0, 110.0),
    goal("latency at 500/s", "acknowledgement p99", AtMost, 5.0, 10.0),
    goal("latency at 500/s", "publish→receive p50", AtMost, 1.5, 3.0),
    goal("latency at 500/s", "publish→receive p99", AtMost, 8.0, 15.0),
    goal("ratios", "fan-out to 10: delivered / limit", AtLeast, 0.45, 0.3),
    goal("ratios", "fan-out to 100: delivered / limit", AtLeast, 0.45, 0.3),
    goal("isolation", "beside three bad endpoints / without, p99", AtMost, 1.2, 1.5),
    goal("isolation", "beside a tenant's backlog / without, p99", AtMost, 1.2, 1.5),
    goal("throughput, 64 connections", "RSS idle", AtMost, 20.0, 30.0),
    goal("throughput, 64 connections", "RSS peak", AtMost, 100.0, 150.0),
    goal("throughput, 256 connections", "RSS peak", AtMost, 100.0, 150.0),
    goal("fan-out to 100", "RSS peak", AtMost, 100.0, 150.0),
    goal("backlog", "RSS after start", AtMost, 100.0, 150.0),
    goal("backlog", "RSS peak", AtMost, 100.0, 150.0),
    goal("backlog", "start to first healthy delivery", AtMost, 1_000.0, 2_000.0),
    goal("pages", "first page, p50", AtMost, 5.0, 10.0),
    goal("pages", "offset of nine tenths, p50", AtMost, 100.0, 150.0),
];

impl Goal {
    /// The goal of that measure, if it has one.
    pub fn of(scenario: &str, name: &str) -> Option<Self> {
        GOALS.into_iter().find(|goal| goal.scenario == scenario && goal.name == name)
    }

    /// The goal, and how a value stands to it.
    pub fn verdict(self, value: f64) -> String {
        let (sign, reached, enough) = match self.side {
            AtLeast => ('≥', value >= self.reach, value >= self.floor),
            AtMost => ('≤', value <= self.reach, value <= self.floor),
        };
        let verdict = match (reached, enough) {
            (true, _) => "met",
            (false, true) => "missed",
            (false, false) => "not done",
        };
        format!("{sign} {} {verdict}", crate::figures::shown(self.reach))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_meets_misses_or_is_not_enough() {
        let check = |scenario, name, value, expected: &str| {
            assert_eq!(Goal::of(scenario, name).unwrap().verdict(value), expected);
        };
        let rate = ("ratios", "throughput, 64 connections: delivered / limit");
        check(rate.0, rate.1, 0.3, "≥ 0.250 met");
        check(rate.0, rate.1, 0.2, "≥ 0.250 missed");
        check(rate.0, rate.1, 0.1, "≥ 0.250 not done");
        check("pages", "first page, p50", 5.0, "≤ 5.00 met");
        check("pages", "first page, p50", 11.0, "≤ 5.00 not done");
        assert_eq!(Goal::of("pages", "anything else"), None);
    }
}
