//! What became of the lines so far: counted, told on standard error as it happens, and summed up in the end.

use std::{io::IsTerminal, time::Duration};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use rustix::fs::{FileType, fstat};
use serde_json::{Value, json};

use super::lines::Line;
use crate::cli::output::Answer;

/// What became of the lines.
pub struct Tally {
    bar: ProgressBar,
    published: u64,
    failures: Vec<Failure>,
    unknown: Vec<u64>,
}

/// A line that was not accepted.
struct Failure {
    line: u64,
    reason: String,
}

impl Tally {
    /// Nothing so far.
    pub fn new() -> Self {
        Self { bar: progress_bar(), published: 0, failures: Vec::new(), unknown: Vec::new() }
    }

    /// How many events were accepted.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// These lines were accepted.
    pub fn accept(&mut self, lines: &[Line]) {
        self.published += lines.len() as u64;
    }

    /// This line was refused.
    pub fn refuse(&mut self, line: u64, reason: String) {
        self.tell(&format!("line {line}: {reason}"));
        self.failures.push(Failure { line, reason });
    }

    /// Nobody can say whether these lines were accepted.
    pub fn lose(&mut self, lines: &[Line], reason: &str) {
        let numbers: Vec<u64> = lines.iter().map(|line| line.number).collect();
        self.tell(&format!(
            "{} {}: {reason}; perhaps published, perhaps not: look before you publish again",
            if numbers.len() == 1 { "line" } else { "lines" },
            ranges(&numbers)
        ));
        self.unknown.extend(numbers);
    }

    /// Tells the person who waits.
    pub fn tell(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Shows how far it is: so many bytes of the input, after that time.
    pub fn show(&self, bytes: u64, elapsed: Duration) {
        let rate = self.published as f64 / elapsed.as_secs_f64().max(0.001);
        let (count, rate) = (HumanCount(self.published), HumanCount(rate as u64));
        self.bar.set_position(bytes);
        self.bar.set_message(format!("{count} events, {rate} a second"));
    }

    /// There is no more to come.
    pub fn finish(&mut self) {
        self.bar.finish_and_clear();
        self.failures.sort_by_key(|failure| failure.line);
    }

    /// Whether every line was accepted.
    pub fn is_flawless(&self) -> bool {
        self.failures.is_empty() && self.unknown.is_empty()
    }

    /// The summary.
    pub fn answer(&self) -> Answer {
        let failure = |failure: &Failure| json!({"line": failure.line, "reason": failure.reason});
        let json = json!({
            "published": self.published,
            "failed": self.failures.len(),
            "failures": self.failures.iter().map(failure).collect::<Vec<Value>>(),
            "unknown": self.unknown.len(),
            "unknown_lines": self.unknown,
        });
        let mut text = format!("{} published, {} failed", self.published, self.failures.len());
        if !self.unknown.is_empty() {
            text += &format!(", {} unknown", self.unknown.len());
        }
        Answer { text, json }
    }
}

/// A bar on a terminal, nothing elsewhere. How much there will be is known of a file alone.
fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let stdin = fstat(std::io::stdin()).ok();
    let file = stdin.filter(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    let length = file.and_then(|stat| u64::try_from(stat.st_size).ok());
    let (bar, template) = match length {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {percent:>3}%  {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    let style = ProgressStyle::with_template(template);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Numbers that rise, as people write them: `1-8, 10`.
fn ranges(numbers: &[u64]) -> String {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    let shown = runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        few => few.iter().map(u64::to_string).collect(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_ranges() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[7]), "7");
        assert_eq!(ranges(&[1, 2, 3, 5, 7, 8]), "1-3, 5, 7-8");
    }
}
