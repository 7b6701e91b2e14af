//! Both dialects of the signature, sign and verify (`signing.md`).
//!
//! Dialect 1 is the timestamped list: `t=<seconds>,v1=<hex>,…`, the HMAC-SHA256 of `<t>.<body>` under the whole secret
//! text. Dialect 2 is Standard Webhooks 1.0: `v1,<base64> …`, the HMAC-SHA256 of `<id>.<t>.<body>` under the secret's
//! decoded bytes, or `v1a,<base64>`, the Ed25519 signature of the same by the key that stands beside the secret, or both, as
//! the endpoint asked. One signature of each kind per live secret, newest first.

use std::time::Duration;

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;

use crate::{PublicKey, SigningKey, SigningSecret, Timestamp, secret::Standing};

/// The headers of Standard Webhooks.
pub const WEBHOOK_ID: &str = "webhook-id";
/// See [`WEBHOOK_ID`].
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// See [`WEBHOOK_ID`].
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// Which kinds of signature an endpoint asked for in `webhook-signature`. The timestamped list has no other kind than HMAC,
/// and is there in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignatureAlgorithms {
    /// `v1`, which the receiver verifies with the signing secret.
    #[default]
    Hmac,
    /// `v1a`, which the receiver verifies with the public key.
    Ed25519,
    /// Both.
    Both,
}

/// The names of the algorithms, as clients write them.
pub const HMAC_SHA256: &str = "hmac-sha256";
/// See [`HMAC_SHA256`].
pub const ED25519: &str = "ed25519";

impl SignatureAlgorithms {
    /// What these names ask for; `None` when one is unknown, or there are none.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        names.into_iter().try_fold(None, |before, name| {
            let asked = match name {
                HMAC_SHA256 => Self::Hmac,
                ED25519 => Self::Ed25519,
                _ => return None,
            };
            Some(Some(
                before.map_or(asked, |before| if before == asked { asked } else { Self::Both }),
            ))
        })?
    }

    /// Their names, always in this order.
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Hmac => &[HMAC_SHA256],
            Self::Ed25519 => &[ED25519],
            Self::Both => &[HMAC_SHA256, ED25519],
        }
    }

    /// Whether `v1` is among them.
    pub const fn has_hmac(self) -> bool {
        matches!(self, Self::Hmac | Self::Both)
    }

    /// Whether `v1a` is among them.
    pub const fn has_ed25519(self) -> bool {
        matches!(self, Self::Ed25519 | Self::Both)
    }
}

/// A signing secret with the Ed25519 key beside it, which those that were made before there were such keys don't have.
#[derive(Clone, Debug)]
pub struct KeyedSecret {
    /// The secret.
    pub secret: SigningSecret,
    /// Its key.
    pub key: Option<SigningKey>,
    /// Whether and until when both sign.
    pub standing: Standing,
}

/// An endpoint's secrets, ready to sign: the keys of both dialects are prepared once, not per request.
#[derive(Clone, Debug, Default)]
pub struct Signer {
    keys: Vec<Keys>,
}

#[derive(Clone, Debug)]
struct Keys {
    standing: Standing,
    list: hmac::Key,
    standard: Option<hmac::Key>,
    asymmetric: Option<SigningKey>,
}

impl Keys {
    fn new(secret: &SigningSecret, standing: Standing) -> Self {
        Self {
            standing,
            list: hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes()),
            standard: Some(hmac::Key::new(hmac::HMAC_SHA256, &secret.key_bytes())),
            asymmetric: None,
        }
    }

    fn of(secret: &KeyedSecret, algorithms: SignatureAlgorithms) -> Self {
        let Self { standing, list, standard, .. } = Self::new(&secret.secret, secret.standing);
        let standard = standard.filter(|_| algorithms.has_hmac());
        let asymmetric = secret.key.clone().filter(|_| algorithms.has_ed25519());
        Self { standing, list, standard, asymmetric }
    }

    fn may_sign(&self) -> bool {
        self.standing != Standing::Expired
    }

    fn sign_list(&self, seconds: &str, body: &[u8]) -> hmac::Tag {
        sign_parts(&self.list, &[seconds.as_bytes(), b".", body])
    }

    /// Writes the signatures of Standard Webhooks, separated by spaces.
    fn push_standard(&self, header: &mut String, message: &[&[u8]]) {
        let mut push = |version: &str, signature: &[u8]| {
            header.push_str(if header.is_empty() { "" } else { " " });
            header.push_str(version);
            STANDARD.encode_string(signature, header);
        };
        if let Some(key) = &self.standard {
            push(V1, sign_parts(key, message).as_ref());
        }
        if let Some(key) = &self.asymmetric {
            // Ed25519 reads its message twice, so that it can't be signed in pieces.
            push(V1A, &key.sign(&message.concat()));
        }
    }
}

/// What signatures of Standard Webhooks begin with: HMAC-SHA256, and Ed25519.
const V1: &str = "v1,";
const V1A: &str = "v1a,";

/// What Standard Webhooks signs, in pieces.
fn standard_message<'a>(webhook_id: &'a str, seconds: &'a str, body: &'a [u8]) -> [&'a [u8]; 5] {
    [webhook_id.as_bytes(), b".", seconds.as_bytes(), b".", body]
}

/// Signs a message in pieces, so that the body is never copied.
fn sign_parts(key: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    context.sign()
}

/// The values of the signature headers of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatures {
    /// When it was signed: `webhook-timestamp`, in seconds since the epoch.
    pub timestamp: String,
    /// The timestamped list's header.
    pub list: String,
    /// `webhook-signature`.
    pub standard: String,
}

impl Signer {
    /// A signer by HMAC with these secrets, which are given newest first.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a SigningSecret, Standing)>) -> Self {
        let keys = secrets.into_iter().map(|(secret, standing)| Keys::new(secret, standing));
        Self { keys: keys.filter(Keys::may_sign).collect() }
    }

    /// A signer by these algorithms with these secrets, which are given newest first.
    pub fn with<'a>(
        algorithms: SignatureAlgorithms,
        secrets: impl IntoIterator<Item = &'a KeyedSecret>,
    ) -> Self {
        let keys = secrets.into_iter().map(|secret| Keys::of(secret, algorithms));
        Self { keys: keys.filter(Keys::may_sign).collect() }
    }

    /// Signs a body now, with each secret that is live now.
    pub fn sign(&self, webhook_id: &str, now: Timestamp, body: &[u8]) -> Signatures {
        let timestamp = now.as_seconds().to_string();
        let mut list = format!("t={timestamp}");
        let mut standard = String::new();
        for keys in self.keys.iter().filter(|keys| keys.standing.signs_at(now)) {
            list.push_str(",v1=");
            push_hex(&mut list, keys.sign_list(&timestamp, body).as_ref());
            keys.push_standard(&mut standard, &standard_message(webhook_id, &timestamp, body));
        }
        Signatures { timestamp, list, standard }
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for &byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
}

/// Why a request's signature does not hold.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidSignature {
    /// The header is not of the dialect's form.
    #[error("the signature header is malformed: {0}")]
    Malformed(&'static str),
    /// It was signed too long ago, or in the future.
    #[error(
        "the timestamp {timestamp} is {apart_seconds} s away from now; at most {tolerance_seconds} s are allowed"
    )]
    OutsideTolerance {
        /// What the header says, in seconds since the epoch.
        timestamp: i64,
        /// How far that is from now.
        apart_seconds: u64,
        /// How far it may be.
        tolerance_seconds: u64,
    },
    /// No signature in the header was made with this secret over this body.
    #[error("no signature matches: another secret, or the body was changed after it was signed")]
    NoMatch,
}

/// How a receiver judges the age of a request.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// The receiver's time.
    pub now: Timestamp,
    /// How far from it a timestamp may be.
    pub allowed: Duration,
}

impl Tolerance {
    fn check(self, seconds: &str) -> Result<(), InvalidSignature> {
        let timestamp: i64 = seconds
            .parse()
            .map_err(|_| InvalidSignature::Malformed("the timestamp is no integer"))?;
        let apart_seconds = timestamp.abs_diff(self.now.as_seconds());
        let tolerance_seconds = self.allowed.as_secs();
        if apart_seconds <= tolerance_seconds {
            Ok(())
        } else {
            Err(InvalidSignature::OutsideTolerance { timestamp, apart_seconds, tolerance_seconds })
        }
    }
}

/// Verifies the timestamped list.
pub fn verify_list(
    header: &str,
    body: &[u8],
    secret: &SigningSecret,
    tolerance: Tolerance,
) -> Result<(), InvalidSignature> {
    let items = || header.split(',').filter_map(|item| item.trim().split_once('='));
    let seconds = items().find_map(|(key, value)| (key == "t").then_some(value));
    let seconds = seconds.ok_or(InvalidSignature::Malformed("it has no t="))?;
    let expected = Keys::new(secret, Standing::Current).sign_list(seconds, body);
    let mut expected_hex = String::new();
    push_hex(&mut expected_hex, expected.as_ref());
    let matches = |(key, value): (&str, &str)| {
        key == "v1" && verify_slices_are_equal(value.as_bytes(), expected_hex.as_bytes()).is_ok()
    };
    if !items().any(matches) {
        return Err(InvalidSignature::NoMatch);
    }
    tolerance.check(seconds)
}

/// Verifies Standard Webhooks.
pub fn verify_standard(
    webhook_id: &str,
    timestamp: &str,
    header: &str,
    body: &[u8],
    secret: &SigningSecret,
    tolerance: Tolerance,
) -> Result<(), InvalidSignature> {
    let mut expected_text = String::new();
    Keys::new(secret, Standing::Current)
        .push_standard(&mut expected_text, &standard_message(webhook_id, timestamp, body));
    let matches =
        |item: &str| verify_slices_are_equal(item.as_bytes(), expected_text.as_bytes()).is_ok();
    if !header.split(' ').any(matches) {
        return Err(InvalidSignature::NoMatch);
    }
    tolerance.check(timestamp)
}

/// Verifies the Ed25519 signature of Standard Webhooks.
pub fn verify_ed25519(
    webhook_id: &str,
    timestamp: &str,
    header: &str,
    body: &[u8],
    key: &PublicKey,
    tolerance: Tolerance,
) -> Result<(), InvalidSignature> {
    let message = standard_message(webhook_id, timestamp, body).concat();
    let matches = |encoded: &str| {
        let signature = STANDARD.decode(encoded);
        signature.is_ok_and(|signature| key.verifies(&message, &signature))
    };
    if !header.split(' ').filter_map(|item| item.strip_prefix(V1A)).any(matches) {
        return Err(InvalidSignature::NoMatch);
    }
    tolerance.check(timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Vector {
        name: String,
        webhook_id: String,
        timestamp: i64,
        body: String,
        secrets: Vec<SigningSecret>,
        list_header: String,
        standard_header: String,
    }

    fn vectors() -> Vec<Vector> {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../tests/data/signing-vectors.json")).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let cases = file["cases"].as_array().unwrap();
        let vector = |case: &serde_json::Value| Vector {
            name: text(&case["name"]),
            webhook_id: text(&case["webhook_id"]),
            timestamp: case["timestamp"].as_i64().unwrap(),
            body: text(&case["body"]),
            secrets: case["secrets_newest_first"]
                .as_array()
                .unwrap()
                .iter()
                .map(|secret| SigningSecret::parse(secret.as_str().unwrap()).unwrap())
                .collect(),
            list_header: text(&case["list_header"]),
            standard_header: text(&case["standard_header"]),
        };
        cases.iter().map(vector).collect()
    }

    #[test]
    fn the_vectors_are_reproduced_and_verified() {
        let vectors = vectors();
        assert!(vectors.len() >= 4);
        for vector in vectors {
            let now = Timestamp::from_micros(vector.timestamp * 1_000_000);
            let signer =
                Signer::new(vector.secrets.iter().map(|secret| (secret, Standing::Current)));
            let body = vector.body.as_bytes();
            let signed = signer.sign(&vector.webhook_id, now, body);
            assert_eq!(signed.list, vector.list_header, "{}", vector.name);
            assert_eq!(signed.standard, vector.standard_header, "{}", vector.name);

            let tolerance = Tolerance { now, allowed: Duration::from_secs(300) };
            for secret in &vector.secrets {
                assert_eq!(verify_list(&signed.list, body, secret, tolerance), Ok(()));
                let standard = |body| {
                    verify_standard(
                        &vector.webhook_id,
                        &signed.timestamp,
                        &signed.standard,
                        body,
                        secret,
                        tolerance,
                    )
                };
                assert_eq!(standard(body), Ok(()));
                assert_eq!(standard(b"{}"), Err(InvalidSignature::NoMatch));
            }
        }
    }

    #[test]
    fn only_live_secrets_sign() {
        let now = Timestamp::from_micros(50_000_000);
        let secrets = [1_u8, 2, 3, 4].map(|byte| SigningSecret::from_entropy(&[byte; 32]));
        let until = |micros| Standing::Grace { until: Timestamp::from_micros(micros) };
        let standings =
            [Standing::Current, until(50_000_001), until(50_000_000), Standing::Expired];
        let signed = Signer::new(secrets.iter().zip(standings)).sign("evt_1", now, b"{}");
        let tolerance = Tolerance { now, allowed: Duration::ZERO };
        let verifies = secrets.each_ref().map(|secret| {
            let list = verify_list(&signed.list, b"{}", secret, tolerance).is_ok();
            let standard =
                verify_standard("evt_1", "50", &signed.standard, b"{}", secret, tolerance).is_ok();
            assert_eq!(list, standard);
            list
        });
        assert_eq!(verifies, [true, true, false, false]);
    }

    #[test]
    fn the_ed25519_vectors_are_reproduced_and_verified() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../tests/data/ed25519-vectors.json")).unwrap();
        let cases = file["cases"].as_array().unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let text = |name: &str| case[name].as_str().unwrap();
            let key = SigningKey::parse(text("signing_key")).unwrap();
            let public = PublicKey::parse(text("public_key")).unwrap();
            assert_eq!(key.public(), public);
            let now = Timestamp::from_micros(case["timestamp"].as_i64().unwrap() * 1_000_000);
            let secret = SigningSecret::from_entropy(&[1; 32]);
            let keyed =
                KeyedSecret { secret: secret.clone(), key: Some(key), standing: Standing::Current };
            let (id, body) = (text("webhook_id"), text("body").as_bytes());
            let signed = Signer::with(SignatureAlgorithms::Ed25519, [&keyed]).sign(id, now, body);
            assert_eq!(signed.standard, text("standard_header"), "{}", text("name"));
            let tolerance = Tolerance { now, allowed: Duration::ZERO };
            let both = Signer::with(SignatureAlgorithms::Both, [&keyed]).sign(id, now, body);
            for signatures in [&signed, &both] {
                let Signatures { timestamp, standard, list } = signatures;
                let verdict = verify_ed25519(id, timestamp, standard, body, &public, tolerance);
                assert_eq!(verdict, Ok(()));
                let changed = verify_ed25519(id, timestamp, standard, b"x", &public, tolerance);
                assert_eq!(changed, Err(InvalidSignature::NoMatch));
                assert_eq!(verify_list(list, body, &secret, tolerance), Ok(()));
            }
            let by_hmac = |signatures: &Signatures| {
                let Signatures { timestamp, standard, .. } = signatures;
                verify_standard(id, timestamp, standard, body, &secret, tolerance)
            };
            assert_eq!(by_hmac(&both), Ok(()));
            assert_eq!(by_hmac(&signed), Err(InvalidSignature::NoMatch));
        }
    }

    #[test]
    fn a_secret_without_a_key_signs_by_hmac_alone() {
        let secrets = [1_u8, 2].map(|byte| KeyedSecret {
            secret: SigningSecret::from_entropy(&[byte; 32]),
            key: (byte == 1).then(|| SigningKey::from_entropy(&[byte; 32])),
            standing: Standing::Current,
        });
        let kinds = |algorithms| {
            let signed =
                Signer::with(algorithms, &secrets).sign("evt_1", Timestamp::from_micros(0), b"");
            let kinds = signed.standard.split(' ').map(|item| item.split(',').next().unwrap_or(""));
            kinds.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(kinds(SignatureAlgorithms::Hmac), "v1 v1");
        assert_eq!(kinds(SignatureAlgorithms::Both), "v1 v1a v1");
        assert_eq!(kinds(SignatureAlgorithms::Ed25519), "v1a");
    }

    #[test]
    fn algorithms_are_known_by_their_names() {
        use SignatureAlgorithms::{Both, Ed25519, Hmac};
        for algorithms in [Hmac, Ed25519, Both] {
            let names = algorithms.names().iter().copied();
            assert_eq!(SignatureAlgorithms::of_names(names), Some(algorithms));
        }
        let of = |names: &[&str]| SignatureAlgorithms::of_names(names.iter().copied());
        assert_eq!(of(&["ed25519", "hmac-sha256", "ed25519"]), Some(Both));
        assert_eq!(of(&["ed25519", "ed25519"]), Some(Ed25519));
        assert_eq!([of(&[]), of(&["rsa"]), of(&["ed25519", "rsa"])], [None; 3]);
    }

    #[test]
    fn a_verifier_says_why_not() {
        let secret = SigningSecret::from_entropy(&[1; 32]);
        let signer = Signer::new([(&secret, Standing::Current)]);
        let signed = signer.sign("evt_1", Timestamp::from_micros(1_000_000_000), b"{}");
        let late = Tolerance {
            now: Timestamp::from_micros(1_301_000_000),
            allowed: Duration::from_secs(300),
        };
        let expected = InvalidSignature::OutsideTolerance {
            timestamp: 1000,
            apart_seconds: 301,
            tolerance_seconds: 300,
        };
        assert_eq!(verify_list(&signed.list, b"{}", &secret, late), Err(expected));
        for malformed in ["", "v1=ab", "t"] {
            let verdict = verify_list(malformed, b"{}", &secret, late);
            assert_eq!(verdict, Err(InvalidSignature::Malformed("it has no t=")), "{malformed}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics_and_none_is_forged(
            header in "(t=-?[0-9]{0,20}|v1=[0-9a-f]{0,64}|v1,[A-Za-z0-9+/=]{0,44}|,| ){0,6}|.{0,40}",
            timestamp in "-?[0-9]{0,20}|.{0,10}",
            body in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let secret = SigningSecret::from_entropy(&[7; 32]);
            let now = Timestamp::from_micros(0);
            let ever = Tolerance { now, allowed: Duration::MAX };
            prop_assert!(verify_list(&header, &body, &secret, ever).is_err());
            prop_assert!(verify_standard("evt_1", &timestamp, &header, &body, &secret, ever).is_err());
        }

        #[test]
        fn what_is_signed_verifies_until_a_bit_is_changed(
            entropy: [u8; 32],
            seconds in 0_i64..4_102_444_800,
            body in proptest::collection::vec(any::<u8>(), 1..40),
            place: prop::sample::Index,
            bit in 0..8_u8,
        ) {
            let secret = SigningSecret::from_entropy(&entropy);
            let now = Timestamp::from_micros(seconds * 1_000_000);
            let tolerance = Tolerance { now, allowed: Duration::ZERO };
            let signed = Signer::new([(&secret, Standing::Current)]).sign("evt_1", now, &body);
            let holds = |body: &[u8]| {
                let list = verify_list(&signed.list, body, &secret, tolerance);
                let standard =
                    verify_standard("evt_1", &signed.timestamp, &signed.standard, body, &secret, tolerance);
                (list.is_ok(), standard.is_ok())
            };
            prop_assert_eq!(holds(&body), (true, true));
            let mut changed = body.clone();
            changed[place.index(body.len())] ^= 1 << bit;
            prop_assert_eq!(holds(&changed), (false, false));
        }
    }
}
