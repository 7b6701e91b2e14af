//! Everything that happened in a run, in order: as a hash, by which two runs are compared, and as text for who replays one.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};

/// What happened.
pub struct Trace {
    hash: Context,
    lines: Option<Vec<String>>,
    count: u64,
}

impl Trace {
    /// Nothing yet.
    pub fn new(keeps_lines: bool) -> Self {
        Self { hash: Context::new(&SHA256), lines: keeps_lines.then(Vec::new), count: 0 }
    }

    /// One more line.
    pub fn add(&mut self, at: Duration, what: &str) {
        let line = format!("{:>12.6} {what}\n", at.as_secs_f64());
        self.hash.update(line.as_bytes());
        self.count += 1;
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }

    /// How many lines there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// The hash of all lines.
    pub fn hash(&self) -> String {
        let digest = self.hash.clone().finish();
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The lines, where they are kept.
    pub fn text(&self) -> String {
        self.lines.as_ref().map(|lines| lines.concat()).unwrap_or_default()
    }
}
