//! Signature headers and secrets: nothing that was made up verifies.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use postrider_kernel::{
    SigningSecret, Timestamp,
    signature::{Tolerance, verify_list, verify_standard},
};

fuzz_target!(|parts: (&str, &str, &str, &[u8])| {
    let (header, id, timestamp, body) = parts;
    if let Ok(secret) = SigningSecret::parse(header) {
        assert_eq!(secret.reveal(), header);
        assert!(!secret.key_bytes().is_empty());
    }
    let secret = SigningSecret::from_entropy(&[7; 32]);
    let ever = Tolerance { now: Timestamp::from_micros(0), allowed: Duration::MAX };
    assert!(verify_list(header, body, &secret, ever).is_err());
    assert!(verify_standard(id, timestamp, header, body, &secret, ever).is_err());
});
