//! `postrider doctor`: looks at everything that a server needs, and says what to do about what is missing.
//!
//! It makes nothing: a directory that isn't there yet is left for `serve` to make. The checks are in `checks`.

mod checks;

use std::sync::Arc;

use clap::Args;
use postrider::clock::SystemClock;
use postrider_kernel::Target;
use serde_json::{Value, json};

use super::{Failed, output::Answer, serve::Options};

/// Checks configuration, data directory, database, clock and, with --target, the way to a receiver
#[derive(Args)]
pub struct Doctor {
    #[command(flatten)]
    options: Options,
    /// A receiver's URL: is it allowed, resolved, reached, and is its certificate good?
    #[arg(long, value_name = "URL", value_parser = parse_target)]
    target: Option<Target>,
    /// Answer with one JSON document
    #[arg(long)]
    json: bool,
}

/// What a check came to, with what to do where it isn't well.
pub enum Finding {
    /// All is well.
    Well(String),
    /// It works, but may not for long, or not as meant.
    Doubtful(String),
    /// The server would not work.
    Bad(String),
}

/// The findings so far, each under the name of its check.
#[derive(Default)]
pub struct Report(Vec<(&'static str, Finding)>);

impl Doctor {
    /// Checks, and fails if anything is bad.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut report = Report::default();
        match self.options.load() {
            Ok(config) => {
                report.add("configuration", Finding::Well("every value is valid".to_owned()));
                checks::all(
                    &mut report,
                    &config,
                    self.target.as_ref(),
                    Arc::new(SystemClock::new()),
                )
                .await;
            }
            Err(error) if error.is_wrong_usage() => return Err(error.into()),
            // Without a configuration nobody knows what else to look at.
            Err(error) => report.add("configuration", Finding::Bad(error.to_string())),
        }
        let is_well = report.is_well();
        report.answer().print(self.json)?;
        if is_well { Ok(()) } else { Err(Failed.into()) }
    }
}

impl Report {
    /// Adds what a check found.
    pub fn add(&mut self, check: &'static str, finding: Finding) {
        self.0.push((check, finding));
    }

    fn is_well(&self) -> bool {
        !self.0.iter().any(|(_, finding)| matches!(finding, Finding::Bad(_)))
    }

    fn answer(&self) -> Answer {
        let line = |(check, finding): &(&'static str, Finding)| {
            let (verdict, text) = finding.in_words();
            format!("{verdict:4}  {check:16}  {text}")
        };
        let represent = |(check, finding): &(&'static str, Finding)| -> Value {
            let (verdict, text) = finding.in_words();
            json!({"check": check, "verdict": verdict, "text": text})
        };
        Answer {
            text: self.0.iter().map(line).collect::<Vec<_>>().join("\n"),
            json: json!({
                "ok": self.is_well(),
                "checks": self.0.iter().map(represent).collect::<Vec<_>>(),
            }),
        }
    }
}

impl Finding {
    fn in_words(&self) -> (&'static str, &str) {
        match self {
            Self::Well(text) => ("ok", text),
            Self::Doubtful(text) => ("warn", text),
            Self::Bad(text) => ("fail", text),
        }
    }
}

fn parse_target(text: &str) -> Result<Target, String> {
    Target::parse(text).map_err(|error| error.to_string())
}
