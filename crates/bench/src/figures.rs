//! What a scenario measured: named numbers with units, in the order in which they are shown.

use std::fmt;

use crate::stats::Sorted;

/// One number.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Of what.
    pub unit: &'static str,
    /// How much.
    pub value: f64,
}

/// The numbers of one scenario.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Figures(pub Vec<Figure>);

impl Figures {
    /// Adds one.
    pub fn put(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        self.0.push(Figure { name: name.into(), unit, value });
    }

    /// Adds p50, p99 and p99.9.
    pub fn put_latency(&mut self, name: &str, latency: &Sorted) {
        for (mark, per_mille) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
            self.put(format!("{name} {mark}"), "ms", latency.at_ms(per_mille));
        }
    }

    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }
}

/// One line each.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|figure| figure.name.chars().count()).max().unwrap_or(0);
        for Figure { name, unit, value } in &self.0 {
            writeln!(f, "{name:width$}  {:>12} {unit}", shown(*value))?;
        }
        Ok(())
    }
}

/// A number with as many decimals as it deserves.
pub fn shown(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => grouped(value),
    }
}

/// A whole number with commas.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_what_matters() {
        let check = |value, expected: &str| assert_eq!(shown(value), expected);
        check(0.0, "0");
        check(0.1234, "0.123");
        check(1.234, "1.23");
        check(12.34, "12.3");
        check(123.4, "123");
        check(1_234.4, "1,234");
        check(-1_234_567.0, "-1,234,567");
    }
}
