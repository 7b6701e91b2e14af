//! `postrider listen`: prints each webhook that comes in.

use std::{fmt::Write, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Args;
use http::{HeaderName, StatusCode};
use postrider::clock::{Clock, SystemClock};
use postrider_kernel::{
    PublicKey, SigningSecret,
    request::SIGNATURE_HEADER,
    signature::{Tolerance, WEBHOOK_ID},
};
use serde_json::{Value, json};

use super::{
    output::say,
    receiver::{Manner, Received, Receiver},
    verdict::{Verdict, Verifier, parse_public_key, parse_secret},
};

/// How far a timestamp may be from now: what Standard Webhooks' libraries allow.
const TOLERANCE: Duration = Duration::from_secs(300);

/// A receiver for development: prints each webhook, verifies it, and answers as it is told
#[derive(Args)]
pub struct Listen {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// A signing secret to verify with, whsec_…; repeatable
    #[arg(long = "secret", value_name = "SECRET", value_parser = parse_secret)]
    secrets: Vec<SigningSecret>,
    /// An Ed25519 public key to verify with, whpk_…; repeatable
    #[arg(long = "public-key", value_name = "KEY", value_parser = parse_public_key)]
    public_keys: Vec<PublicKey>,
    /// The header that carries the timestamped list
    #[arg(long, value_name = "NAME", default_value = SIGNATURE_HEADER)]
    signature_header: HeaderName,
    /// The status to answer with
    #[arg(long, value_name = "CODE", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// Answer 500 to this share of the webhooks
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    fail_percent: u8,
    /// Answer only after so long, fractions allowed
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse_delay)]
    delay: Duration,
    /// Print no bodies
    #[arg(long)]
    quiet: bool,
    /// Print one JSON document per line: first the address, then each webhook
    #[arg(long)]
    json: bool,
}

impl Listen {
    /// Receives until Ctrl-C.
    pub async fn run(self) -> anyhow::Result<()> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let manner = Manner {
            status: StatusCode::from_u16(self.status)?,
            fail_percent: self.fail_percent,
            delay: self.delay,
        };
        let printer = Printer {
            verifier: Verifier {
                secrets: self.secrets,
                public_keys: self.public_keys,
                list_header: self.signature_header,
            },
            quiet: self.quiet,
            as_json: self.json,
        };
        let onlooker = Arc::new(move |received: Received| printer.print(&received));
        let receiver = Receiver::bind(self.listen, manner, clock, onlooker).await;
        let receiver = receiver.with_context(|| {
            format!("can't listen on {}; --listen chooses another address", self.listen)
        })?;
        let url = format!("http://{}", receiver.address()?);
        if self.json {
            say(&json!({"listening_on": url}).to_string())?;
        } else {
            say(&format!("listening on {url}"))?;
        }
        tokio::select! {
            error = receiver.run() => Err(error),
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    }
}

struct Printer {
    verifier: Verifier,
    quiet: bool,
    as_json: bool,
}

impl Printer {
    fn print(&self, received: &Received) -> anyhow::Result<()> {
        let tolerance = Tolerance { now: received.at, allowed: TOLERANCE };
        let verdicts = self.verifier.judge(&received.headers, &received.body, tolerance);
        let event: Option<Value> = serde_json::from_slice(&received.body).ok();
        let event_type = event.as_ref().and_then(|event| event["type"].as_str());
        let id = received.headers.get(WEBHOOK_ID).and_then(|id| id.to_str().ok());
        if self.as_json {
            let body = String::from_utf8_lossy(&received.body);
            let line = json!({
                "at": received.at.to_string(),
                "method": received.method.as_str(),
                "path": received.uri.to_string(),
                "type": event_type,
                "webhook_id": id,
                "bytes": received.body.len(),
                "answer": received.answer.as_u16(),
                "verdicts": verdicts.iter().map(Verdict::to_json).collect::<Vec<_>>(),
                "body": (!self.quiet).then_some(body),
            });
            return say(&line.to_string());
        }
        let mut text = format!(
            "{}  {}  {}  {} bytes  {} {}  answered {}",
            received.at,
            harmless(event_type.unwrap_or("(no type)"), ""),
            harmless(id.unwrap_or("(no webhook-id)"), ""),
            received.body.len(),
            received.method,
            received.uri,
            received.answer.as_u16(),
        );
        for verdict in &verdicts {
            write!(text, "\n  {verdict}")?;
        }
        if !self.quiet {
            for line in pretty(event.is_some(), &received.body).lines() {
                write!(text, "\n  {line}")?;
            }
        }
        say(&text)
    }
}

/// The body for people: indented if it is JSON. Only white space is added, since keys in another order or numbers spelled
/// anew would not be what was sent.
fn pretty(is_json: bool, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    harmless(&if is_json { indented(&text) } else { text.into_owned() }, "\n")
}

/// Valid JSON, a member or item to a line.
fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        // Deeper than anybody reads, the indent would outgrow the body.
        text.extend(std::iter::repeat_n("  ", depth.min(40)));
    };
    for c in json.chars() {
        if in_string {
            text.push(c);
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        match c {
            c if c.is_ascii_whitespace() => {}
            '{' | '[' => {
                text.push(c);
                depth += 1;
                line(&mut text, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if text.trim_end().ends_with(['{', '[']) {
                    text.truncate(text.trim_end().len());
                } else {
                    line(&mut text, depth);
                }
                text.push(c);
            }
            ',' => {
                text.push(c);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            c => {
                in_string = c == '"';
                text.push(c);
            }
        }
    }
    text
}

/// A stranger's text without anything that would steer a terminal.
fn harmless(text: &str, allowed: &str) -> String {
    let replace = |c: char| if c.is_control() && !allowed.contains(c) { '\u{fffd}' } else { c };
    text.chars().map(replace).collect()
}

fn parse_delay(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected a number of seconds from 0 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_otherwise_as_it_was_sent() {
        let sent = r#"{"b":1.0,"a":[ {},[], "x\"{,:" ],"b":1e400}"#;
        let shown = indented(sent);
        insta::assert_snapshot!(shown, @r#"
        {
          "b": 1.0,
          "a": [
            {},
            [],
            "x\"{,:"
          ],
          "b": 1e400
        }
        "#);
    }
}
