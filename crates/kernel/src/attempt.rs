//! What one HTTP try can come to. A receiver's 500 is data here, not an error.

use std::fmt;

use crate::{Timestamp, retry};

/// How much of a response's body is read and kept, in bytes.
pub const RESPONSE_BODY_MAX: usize = 16 * 1024;

/// What a try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A status line and headers came; they decide, whatever happened to the body.
    Answered(Answer),
    /// No response came, for this reason.
    Unanswered(Failure),
}

/// A receiver's answer, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The `Retry-After` header, where there was one that is text.
    pub retry_after: Option<String>,
    /// The first [`RESPONSE_BODY_MAX`] bytes of the body, as they came.
    pub body: Vec<u8>,
}

impl Outcome {
    /// Whether the receiver acknowledged: 2xx, and nothing else.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Answered(answer) if (200..300).contains(&answer.status))
    }

    /// The status code, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(answer) => Some(answer.status),
            Self::Unanswered(_) => None,
        }
    }

    /// How long the receiver asked us to wait: a `Retry-After` on 429 or 503.
    pub fn retry_after(&self, now: Timestamp) -> Option<std::time::Duration> {
        match self {
            Self::Answered(Answer { status: 429 | 503, retry_after: Some(value), .. }) => {
                retry::parse_retry_after(value, now)
            }
            _ => None,
        }
    }
}

/// In an operator's words: `503` or `connect: connection refused`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(answer) => write!(f, "status {}", answer.status),
            Self::Unanswered(failure) => failure.fmt(f),
        }
    }
}

/// Why no response came, in an operator's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind, from a closed list.
    pub cause: Cause,
    /// What exactly went wrong; never a secret or a payload.
    pub detail: String,
}

impl Failure {
    /// A failure of that kind.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause, self.detail)
    }
}

/// The closed list of causes, as an attempt's `error` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The host's name could not be resolved.
    Dns,
    /// An address that the egress policy forbids; nothing was dialled.
    ForbiddenAddress,
    /// No TCP connection came about, or not in time.
    Connect,
    /// The TLS handshake failed; an untrusted certificate, for one.
    Tls,
    /// Connected, but no answer within the request's time.
    Timeout,
    /// The receiver closed the connection before it answered.
    Closed,
    /// The answer was not HTTP/1.1.
    Protocol,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 7] = [
        Self::Dns,
        Self::ForbiddenAddress,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Closed,
        Self::Protocol,
    ];

    /// The name in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::ForbiddenAddress => "forbidden_address",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
        }
    }

    /// The cause of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a delivery exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The event was published, and the retry schedule followed.
    Schedule,
    /// An admin asked for the event once more.
    Resend,
}

impl Trigger {
    /// The name in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Resend => "resend",
        }
    }

    /// The trigger of that name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Schedule, Self::Resend].into_iter().find(|trigger| trigger.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_is_success() {
        let answered =
            |status| Outcome::Answered(Answer { status, retry_after: None, body: Vec::new() });
        for status in [200, 204, 299] {
            assert!(answered(status).is_success(), "{status}");
        }
        for status in [101, 199, 300, 301, 304, 400, 410, 500, 999] {
            assert!(!answered(status).is_success(), "{status}");
        }
        assert!(!Outcome::Unanswered(Failure::new(Cause::Timeout, "")).is_success());
    }

    #[test]
    fn retry_after_counts_on_429_and_503_alone() {
        let asked = |status| {
            Outcome::Answered(Answer { status, retry_after: Some("60".into()), body: Vec::new() })
                .retry_after(Timestamp::from_micros(0))
                .is_some()
        };
        assert!(asked(429) && asked(503));
        assert!(!asked(200) && !asked(500) && !asked(301));
    }

    #[test]
    fn causes_are_found_by_their_names() {
        assert!(Cause::ALL.into_iter().all(|cause| Cause::parse(cause.as_str()) == Some(cause)));
    }
}
