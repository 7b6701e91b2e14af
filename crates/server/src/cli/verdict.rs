//! What a verifier says of a received webhook: per dialect and secret, whether the signature holds, or why not.

use std::fmt;

use http::{HeaderMap, HeaderName};
use postrider_kernel::{
    PublicKey, SigningSecret,
    signature::{
        InvalidSignature, Tolerance, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP,
        verify_ed25519, verify_list, verify_standard,
    },
};
use serde_json::{Value, json};

/// The two forms of a signature (`signing.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `t=…,v1=…` in a header of the operator's choice.
    TimestampedList,
    /// The three headers of Standard Webhooks.
    StandardWebhooks,
}

/// What a dialect is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// A signing secret.
    Secret,
    /// An Ed25519 public key.
    PublicKey,
}

/// One dialect judged by one secret or public key.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Which form.
    pub dialect: Dialect,
    /// By what it was judged,
    pub means: Means,
    /// and by which one of these, counted from 1.
    pub number: usize,
    /// Its last four characters, to know it by.
    pub ends: String,
    /// Why the signature does not hold, if it doesn't.
    pub objection: Option<String>,
}

/// Verifies webhooks.
pub struct Verifier {
    /// The secrets to try, in the order in which they were given.
    pub secrets: Vec<SigningSecret>,
    /// The Ed25519 keys to try, likewise.
    pub public_keys: Vec<PublicKey>,
    /// The timestamped list's header.
    pub list_header: HeaderName,
}

impl Verifier {
    /// Judges both dialects by each secret, and Standard Webhooks by each public key.
    pub fn judge(&self, headers: &HeaderMap, body: &[u8], tolerance: Tolerance) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for (index, secret) in self.secrets.iter().enumerate() {
            let list = judge_list(headers, &self.list_header, body, secret, tolerance);
            let standard = judge_standard(headers, |id, timestamp, signature| {
                verify_standard(id, timestamp, signature, body, secret, tolerance)
            });
            let outcomes =
                [(Dialect::TimestampedList, list), (Dialect::StandardWebhooks, standard)];
            verdicts.extend(outcomes.map(|(dialect, outcome)| Verdict {
                dialect,
                means: Means::Secret,
                number: index + 1,
                ends: secret.ending().to_owned(),
                objection: outcome.err(),
            }));
        }
        for (index, key) in self.public_keys.iter().enumerate() {
            let text = key.to_string();
            let outcome = judge_standard(headers, |id, timestamp, signature| {
                verify_ed25519(id, timestamp, signature, body, key, tolerance)
            });
            verdicts.push(Verdict {
                dialect: Dialect::StandardWebhooks,
                means: Means::PublicKey,
                number: index + 1,
                ends: last_four(text.trim_end_matches('=')).to_owned(),
                objection: outcome.err(),
            });
        }
        verdicts
    }
}

impl Verdict {
    /// Whether the signature holds.
    pub fn holds(&self) -> bool {
        self.objection.is_none()
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "dialect": match self.dialect {
                Dialect::TimestampedList => "timestamped_list",
                Dialect::StandardWebhooks => "standard_webhooks",
            },
            self.means.key(): self.number,
            format!("{}_ends", self.means.key()): self.ends,
            "valid": self.holds(),
            "reason": self.objection,
        })
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimestampedList => "timestamped list",
            Self::StandardWebhooks => "Standard Webhooks",
        })
    }
}

impl Means {
    /// Its name for programs.
    fn key(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::PublicKey => "public_key",
        }
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "secret",
            Self::PublicKey => "public key",
        })
    }
}

/// `timestamped list: valid with secret 1 (…+ko=)`
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dialect, means, number, ends, objection } = self;
        match objection {
            None => write!(f, "{dialect}: valid with {means} {number} (…{ends})"),
            Some(reason) => {
                write!(f, "{dialect}: not valid with {means} {number} (…{ends}): {reason}")
            }
        }
    }
}

/// The end of a text that is ASCII.
fn last_four(text: &str) -> &str {
    &text[text.len().saturating_sub(4)..]
}

fn judge_list(
    headers: &HeaderMap,
    name: &HeaderName,
    body: &[u8],
    secret: &SigningSecret,
    tolerance: Tolerance,
) -> Result<(), String> {
    verify_list(text(headers, name.as_str())?, body, secret, tolerance).map_err(in_words)
}

fn judge_standard(
    headers: &HeaderMap,
    verify: impl FnOnce(&str, &str, &str) -> Result<(), InvalidSignature>,
) -> Result<(), String> {
    let id = text(headers, WEBHOOK_ID)?;
    let timestamp = text(headers, WEBHOOK_TIMESTAMP)?;
    let signature = text(headers, WEBHOOK_SIGNATURE)?;
    verify(id, timestamp, signature).map_err(in_words)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, String> {
    let value = headers.get(name).ok_or_else(|| format!("there is no header {name}"))?;
    value.to_str().map_err(|_| format!("the header {name} is not plain text"))
}

fn in_words(error: InvalidSignature) -> String {
    error.to_string()
}

/// Reads a signing secret from an argument, without ever showing it.
pub fn parse_secret(text: &str) -> Result<SigningSecret, String> {
    SigningSecret::parse(text).map_err(|error| error.to_string())
}

/// Reads a public key from an argument.
pub fn parse_public_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postrider_kernel::{Timestamp, secret::Standing, signature::Signer};

    use super::*;

    #[test]
    fn each_dialect_is_judged_by_each_secret() {
        let secrets = [1, 2].map(|byte| SigningSecret::from_entropy(&[byte; 32]));
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let signed = Signer::new([(&secrets[1], Standing::Current)]).sign("evt_1", now, b"{}");
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (WEBHOOK_ID, "evt_1"),
            (WEBHOOK_TIMESTAMP, &signed.timestamp),
            (WEBHOOK_SIGNATURE, &signed.standard),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let verifier = Verifier {
            secrets: secrets.to_vec(),
            public_keys: Vec::new(),
            list_header: HeaderName::from_static("x-signature"),
        };
        let tolerance = Tolerance { now, allowed: Duration::from_secs(300) };
        let judge = |headers: &HeaderMap| {
            let verdicts = verifier.judge(headers, b"{}", tolerance);
            verdicts.iter().map(Verdict::holds).collect::<Vec<_>>()
        };
        assert_eq!(judge(&headers), [false, false, false, true]);
        headers.insert("x-signature", signed.list.parse().unwrap());
        assert_eq!(judge(&headers), [false, false, true, true]);
    }
}
