//! Percentiles of many measurements, and the spread of few.

use std::time::Duration;

/// Measurements in ascending order.
#[derive(Clone, Debug, Default)]
pub struct Sorted(Vec<Duration>);

impl Sorted {
    /// Sorts.
    pub fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// The smallest measurement that at least `per_mille` of 1,000 do not exceed (the nearest rank, so that it is one that
    /// was measured); zero where there are none.
    pub fn at(&self, per_mille: usize) -> Duration {
        let rank = (self.0.len() * per_mille).div_ceil(1_000).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// The same in milliseconds.
    pub fn at_ms(&self, per_mille: usize) -> f64 {
        self.at(per_mille).as_secs_f64() * 1e3
    }
}

/// What several runs measured of the same thing.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The one in the middle; of an even number the mean of the two there.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// The spread of these values; `None` where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { min, median, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let check = |count: u64, per_mille, expected| {
            // The order that they come in must not matter.
            let sorted = Sorted::new((1..=count).rev().map(Duration::from_millis).collect());
            assert_eq!(
                sorted.at(per_mille),
                Duration::from_millis(expected),
                "{count} {per_mille}"
            );
        };
        check(0, 500, 0);
        check(1, 0, 1);
        check(1, 500, 1);
        check(1, 999, 1);
        check(2, 500, 1);
        check(3, 500, 2);
        check(100, 500, 50);
        check(100, 990, 99);
        check(100, 999, 100);
        check(1_000, 999, 999);
        check(1_000, 1_000, 1_000);
    }

    #[test]
    fn a_spread_has_its_middle() {
        let check = |values: &[f64], expected| {
            assert_eq!(Spread::of(values).map(|s| (s.min, s.median, s.max)), expected);
        };
        check(&[], None);
        check(&[7.0], Some((7.0, 7.0, 7.0)));
        check(&[3.0, 1.0, 2.0], Some((1.0, 2.0, 3.0)));
        check(&[4.0, 1.0, 3.0, 2.0], Some((1.0, 2.5, 4.0)));
    }
}
