//! Ed25519 keys of an endpoint: the asymmetric half of Standard Webhooks 1.0 (`v1a`, [`crate::signature`] makes and
//! verifies the signatures). A receiver holds the public key and can forge nothing with it.
//!
//! A private key stands beside each signing secret, and lives and ends with it. It is shown by no operation.

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;
use zeroize::Zeroizing;

/// What a private key's text starts with (Standard Webhooks, section "Signature scheme").
pub const PRIVATE_PREFIX: &str = "whsk_";

/// What a public key's text starts with.
pub const PUBLIC_PREFIX: &str = "whpk_";

/// How many random bytes a new key is made of: the seed of RFC 8032, section 5.1.5.
pub const SEED_BYTES: usize = 32;

/// An Ed25519 private key. Its text is `whsk_` followed by the standard base64 of its seed and its public key, 64 bytes.
/// `Debug` and logs say nothing of it.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Ed25519KeyPair>,
    text: Zeroizing<String>,
}

/// An Ed25519 public key: `whpk_` followed by the standard base64 of its 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// Why a text is not a [`SigningKey`] or a [`PublicKey`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidKey {
    /// No private key.
    #[error("a private key is whsk_ followed by the standard base64 of an Ed25519 key pair")]
    Private,
    /// No public key.
    #[error("a public key is whpk_ followed by the standard base64 of 32 bytes")]
    Public,
}

impl SigningKey {
    /// A new key of random bytes that the caller drew.
    pub fn from_entropy(seed: &[u8; SEED_BYTES]) -> Self {
        // Every seed of that length makes a key (RFC 8032, section 5.1.5).
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed has 32 bytes");
        let bytes = Zeroizing::new([seed, pair.public_key().as_ref()].concat());
        let text = Zeroizing::new(format!("{PRIVATE_PREFIX}{}", STANDARD.encode(&*bytes)));
        Self { pair: Arc::new(pair), text }
    }

    /// Checks a key's form, and that its two halves belong together.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let encoded = text.strip_prefix(PRIVATE_PREFIX).ok_or(InvalidKey::Private)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidKey::Private)?;
        let bytes = Zeroizing::new(bytes);
        let (seed, public) = bytes.split_at_checked(SEED_BYTES).ok_or(InvalidKey::Private)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public);
        let pair = pair.map(Arc::new).map_err(|_| InvalidKey::Private)?;
        Ok(Self { pair, text: Zeroizing::new(text.to_owned()) })
    }

    /// The whole text, to be sealed.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// What receivers verify with.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        // A public key has 32 bytes (RFC 8032, section 5.1.5).
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs a message (RFC 8032, section 5.1.6).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl PublicKey {
    /// Checks a key's form and length.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let encoded = text.strip_prefix(PUBLIC_PREFIX).ok_or(InvalidKey::Public)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidKey::Public)?;
        bytes.try_into().map(Self).map_err(|_| InvalidKey::Public)
    }

    /// Whether that signature was made over that message with the private half.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    /// RFC 8032, section 7.1: seed, public key, message, signature.
    const RFC_8032: [[&str; 4]; 3] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ],
    ];

    #[test]
    fn the_vectors_of_the_rfc_are_reproduced_and_verified() {
        for [seed, public, message, signature] in RFC_8032 {
            let key = SigningKey::from_entropy(&bytes(seed).try_into().unwrap());
            let (message, signature) = (bytes(message), bytes(signature));
            assert_eq!(key.public().0.as_slice(), bytes(public));
            assert_eq!(key.sign(&message).as_slice(), signature);
            assert!(key.public().verifies(&message, &signature));
            assert!(!key.public().verifies(b"another", &signature));
            assert!(!key.public().verifies(&message, &signature[1..]));
        }
    }

    #[test]
    fn the_form_of_a_key_is_checked() {
        let key = SigningKey::from_entropy(&[7; 32]);
        let (private, public) = (key.reveal(), key.public());
        assert_eq!(SigningKey::parse(private).unwrap().public(), public);
        assert_eq!(PublicKey::parse(&public.to_string()), Ok(public));
        let other = SigningKey::from_entropy(&[8; 32]).public();
        let torn = format!("whsk_{}", STANDARD.encode([[7; 32], other.0].concat()));
        for bad in ["", "whsk_", "whsk_%", &private[5..], &public.to_string(), &torn] {
            assert_eq!(SigningKey::parse(bad).unwrap_err(), InvalidKey::Private, "{bad}");
        }
        for bad in ["", "whpk_", "whpk_AAAA", &public.to_string()[5..], private] {
            assert_eq!(PublicKey::parse(bad), Err(InvalidKey::Public), "{bad}");
        }
        assert_eq!(format!("{key:?}"), "SigningKey(…)");
    }
}
