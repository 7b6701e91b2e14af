//! Signing secrets: their form, and which of an endpoint's secrets sign at a given moment.
//!
//! An endpoint always has one *current* secret. Expiring it makes a new one current; the old one either stops at once
//! (its standing says so, no clock is asked) or signs beside the new one until its grace has run out.

use std::{fmt, time::Duration};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{SecretId, Timestamp};

/// What a secret's text starts with (Standard Webhooks, section "Signature scheme").
pub const PREFIX: &str = "whsec_";

/// How many random bytes a new secret is made of.
pub const SECRET_BYTES: usize = 32;

/// How many secrets of one endpoint sign at once, at most.
pub const LIVE_MAX: usize = 5;

/// The longest grace: a week.
pub const GRACE_MAX: Duration = Duration::from_secs(604_800);

/// `whsec_` followed by the standard base64 of 24 to 64 random bytes. `Debug` and logs say nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Zeroizing<String>);

/// Why a text is not a [`SigningSecret`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a signing secret is whsec_ followed by the standard base64 of 24 to 64 bytes")]
pub struct InvalidSecret;

impl SigningSecret {
    /// A new secret of random bytes that the caller drew.
    pub fn from_entropy(bytes: &[u8; SECRET_BYTES]) -> Self {
        Self(Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(bytes))))
    }

    /// Checks a secret's form and length.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| InvalidSecret)?);
        if (24..=64).contains(&bytes.len()) {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(InvalidSecret)
        }
    }

    /// The whole text, `whsec_` included: shown by the reveal operation, and the key of the timestamped list.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The last four characters, to know it by; the padding of the base64 would tell nothing.
    pub fn ending(&self) -> &str {
        let text = self.0.trim_end_matches('=');
        // A secret is ASCII, and far longer.
        &text[text.len().saturating_sub(4)..]
    }

    /// Whether two secrets are the same, in a time that doesn't tell how far they agree.
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }

    /// The random bytes: the key of Standard Webhooks.
    pub fn key_bytes(&self) -> Zeroizing<Vec<u8>> {
        // The form was checked when the value was made.
        Zeroizing::new(STANDARD.decode(&self.0[PREFIX.len()..]).unwrap_or_default())
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// Whether a secret signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The newest one; always signs.
    Current,
    /// Expired, and signs beside the newest until then.
    Grace {
        /// The first moment at which it no longer signs.
        until: Timestamp,
    },
    /// Signs nothing any more.
    Expired,
}

impl Standing {
    /// The end of its grace, if it has one.
    pub fn until(self) -> Option<Timestamp> {
        match self {
            Self::Grace { until } => Some(until),
            Self::Current | Self::Expired => None,
        }
    }

    /// Whether a secret of this standing signs at that moment.
    pub fn signs_at(self, now: Timestamp) -> bool {
        match self {
            Self::Current => true,
            Self::Grace { until } => now < until,
            Self::Expired => false,
        }
    }
}

/// Decides what an expiration does to an endpoint's older secrets, which are given newest first and include the current
/// one. Answers with those whose standing changes. A new current secret is the caller's to make.
///
/// Without a grace every grace ends at once. With one, the oldest graces end so that, with the new secret, at most
/// [`LIVE_MAX`] sign.
pub fn expire(
    secrets: &[(SecretId, Standing)],
    grace: Option<Duration>,
    now: Timestamp,
) -> Vec<(SecretId, Standing)> {
    let grace = grace.filter(|grace| !grace.is_zero());
    let mut room = LIVE_MAX - 1;
    let mut changes = Vec::new();
    for &(id, standing) in secrets {
        let after = match (grace, standing) {
            (None, _) => Standing::Expired,
            (Some(_), _) if room == 0 || !standing.signs_at(now) => Standing::Expired,
            (Some(grace), Standing::Current) => {
                Standing::Grace { until: now.plus(grace.min(GRACE_MAX)) }
            }
            (Some(_), standing) => standing,
        };
        if after != Standing::Expired {
            room -= 1;
        }
        if after != standing {
            changes.push((id, after));
        }
    }
    changes
}

/// What becomes of a grace that is to end early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraceEnd {
    /// It runs, and ends now.
    Ends,
    /// The secret is the current one, which has no grace: only an expiration, which makes a new one, stops it.
    IsCurrent,
    /// No secret of that identifier is in a grace that still runs.
    Unknown,
}

/// Decides whether the grace of one secret can be ended, given an endpoint's secrets.
pub fn end_grace(secrets: &[(SecretId, Standing)], id: SecretId, now: Timestamp) -> GraceEnd {
    match secrets.iter().find(|(known, _)| *known == id).map(|&(_, standing)| standing) {
        Some(Standing::Current) => GraceEnd::IsCurrent,
        Some(standing) if standing.signs_at(now) => GraceEnd::Ends,
        _ => GraceEnd::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    #[test]
    fn the_form_of_a_secret_is_checked() {
        let of_length = |n: usize| format!("whsec_{}", STANDARD.encode(vec![7; n]));
        for length in [24, 32, 64] {
            assert!(SigningSecret::parse(&of_length(length)).is_ok());
        }
        for bad in [&of_length(23), &of_length(65), "whsec_", "", "whsec_%%%", &of_length(32)[6..]]
        {
            assert_eq!(SigningSecret::parse(bad), Err(InvalidSecret), "{bad}");
        }
        let made = SigningSecret::from_entropy(&[1; 32]);
        assert_eq!(SigningSecret::parse(made.reveal()), Ok(made.clone()));
        assert_eq!(made.key_bytes().as_slice(), [1; 32]);
        assert_eq!(format!("{made:?}"), "SigningSecret(…)");
    }

    /// Secrets are written newest first: `3 current, 2 grace 60s`.
    fn check(before: &[(i64, Standing)], grace_seconds: u64, expected: &[(i64, Standing)]) {
        let before: Vec<_> =
            before.iter().map(|&(id, standing)| (SecretId::new(id), standing)).collect();
        let expected: Vec<_> =
            expected.iter().map(|&(id, standing)| (SecretId::new(id), standing)).collect();
        assert_eq!(expire(&before, Some(Duration::from_secs(grace_seconds)), NOW), expected);
    }

    fn grace(seconds: u64) -> Standing {
        Standing::Grace { until: NOW.plus(Duration::from_secs(seconds)) }
    }

    #[test]
    fn without_a_grace_everything_older_stops() {
        use Standing::{Current, Expired};
        check(&[(1, Current)], 0, &[(1, Expired)]);
        check(&[(3, Current), (2, grace(9)), (1, Expired)], 0, &[(3, Expired), (2, Expired)]);
    }

    #[test]
    fn with_a_grace_the_old_one_signs_beside_the_new() {
        use Standing::{Current, Expired};
        check(&[(1, Current)], 60, &[(1, grace(60))]);
        check(&[(2, Current), (1, grace(10))], 60, &[(2, grace(60))]);
        check(&[(2, Current), (1, grace(0))], 60, &[(2, grace(60)), (1, Expired)]);
        check(&[(1, Current)], 9_999_999, &[(1, grace(604_800))]);
    }

    #[test]
    fn a_further_expiration_ends_the_oldest_grace() {
        use Standing::{Current, Expired};
        let full = [(5, Current), (4, grace(4)), (3, grace(3)), (2, grace(2)), (1, grace(1))];
        check(&full, 60, &[(5, grace(60)), (1, Expired)]);
    }

    #[test]
    fn only_a_grace_that_runs_is_ended_early() {
        let second = NOW.plus(Duration::from_secs(1));
        let secrets = [
            (SecretId::new(4), Standing::Current),
            (SecretId::new(3), Standing::Grace { until: second }),
            (SecretId::new(2), Standing::Grace { until: NOW }),
            (SecretId::new(1), Standing::Expired),
        ];
        let decide = |id| end_grace(&secrets, SecretId::new(id), NOW);
        use GraceEnd::{Ends, IsCurrent, Unknown};
        assert_eq!([4, 3, 2, 1, 9].map(decide), [IsCurrent, Ends, Unknown, Unknown, Unknown]);
    }

    #[test]
    fn a_secret_is_known_by_its_ending() {
        let secret = SigningSecret::from_entropy(&[0; 32]);
        assert!(secret.reveal().ends_with("AAAA="));
        assert_eq!(secret.ending(), "AAAA");
        assert!(secret.is(&secret.clone()) && !secret.is(&SigningSecret::from_entropy(&[1; 32])));
    }

    #[test]
    fn a_grace_that_has_run_out_no_longer_counts() {
        let until = Standing::Grace { until: NOW };
        assert!(until.signs_at(Timestamp::from_micros(NOW.as_micros() - 1)));
        assert!(!until.signs_at(NOW));
        assert!(Standing::Current.signs_at(NOW) && !Standing::Expired.signs_at(NOW));
    }
}
