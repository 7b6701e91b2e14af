//! `postrider verify`: judges one captured webhook.

use std::{
    io::{ErrorKind, Read},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use postrider::clock::{Clock, SystemClock};
use postrider_kernel::{
    PublicKey, SigningSecret, Timestamp, request::SIGNATURE_HEADER, signature::Tolerance,
};
use serde_json::json;

use super::{
    Failed, WrongUsage,
    output::Answer,
    receiver::BODY_BYTES_MAX,
    verdict::{Verdict, Verifier, parse_public_key, parse_secret},
};

/// Verifies one captured webhook: its body comes from standard input, exactly as it was received
#[derive(Args)]
pub struct Verify {
    /// A signing secret to try, whsec_…; repeatable
    #[arg(
        long = "secret",
        value_name = "SECRET",
        required_unless_present = "public_keys",
        value_parser = parse_secret
    )]
    secrets: Vec<SigningSecret>,
    /// An Ed25519 public key to try, whpk_…; repeatable
    #[arg(long = "public-key", value_name = "KEY", value_parser = parse_public_key)]
    public_keys: Vec<PublicKey>,
    /// A header of the request, 'Name: value'; repeatable
    #[arg(long = "header", value_name = "HEADER", required = true, value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The header that carries the timestamped list
    #[arg(long, value_name = "NAME", default_value = SIGNATURE_HEADER)]
    signature_header: HeaderName,
    /// How far the timestamp may be from now
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    tolerance: u64,
    /// Judge as of this moment, in seconds since the epoch, instead of now
    #[arg(long, value_name = "SECONDS")]
    now: Option<u32>,
    /// Answer with one JSON document
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Says which secret and dialect held, or why none did.
    pub fn run(self) -> anyhow::Result<()> {
        let body = read_body()?;
        let now = self.now.map(|seconds| Timestamp::from_micros(i64::from(seconds) * 1_000_000));
        let tolerance = Tolerance {
            now: now.unwrap_or_else(|| SystemClock::new().now()),
            allowed: Duration::from_secs(self.tolerance),
        };
        let headers: HeaderMap = self.headers.into_iter().collect();
        let verifier = Verifier {
            secrets: self.secrets,
            public_keys: self.public_keys,
            list_header: self.signature_header,
        };
        let verdicts = verifier.judge(&headers, &body, tolerance);
        let is_valid = verdicts.iter().any(Verdict::holds);
        let answer = Answer {
            text: verdicts.iter().map(Verdict::to_string).collect::<Vec<_>>().join("\n"),
            json: json!({
                "valid": is_valid,
                "verdicts": verdicts.iter().map(Verdict::to_json).collect::<Vec<_>>(),
            }),
        };
        answer.print(self.json)?;
        if is_valid { Ok(()) } else { Err(Failed.into()) }
    }
}

fn read_body() -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let limit = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX);
    let read = std::io::stdin().lock().take(limit + 1).read_to_end(&mut body);
    match read {
        Ok(_) if body.len() > BODY_BYTES_MAX => {
            let text = format!("the body has more than {BODY_BYTES_MAX} bytes");
            Err(WrongUsage(text).into())
        }
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => {
            Err(error).context("the body can't be read from standard input")
        }
        _ => Ok(body),
    }
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let expected = "expected 'Name: value'";
    let (name, value) = text.split_once(':').ok_or(expected)?;
    let name =
        name.trim().parse().map_err(|_| format!("{name:?} is no header name; {expected}"))?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} can't stand in a header"))?;
    Ok((name, value))
}
