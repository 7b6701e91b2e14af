//! JSON Web Tokens: no token that was made up holds, and a signed one only for claims that say so.
#![no_main]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;
use postrider::api::fuzzed::token_holds;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fuzz_target!(|given: (&str, &str, i64)| {
    let (made_up, claims, now) = given;
    assert!(!token_holds(made_up, SECRET, now));
    let parts = [r#"{"alg":"HS256"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = parts.join(".");
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    let token = format!("{message}.{}", signature.expect("HMAC signs anything"));
    if token_holds(&token, SECRET, now) {
        let read: serde_json::Value = serde_json::from_str(claims).expect("claims are JSON");
        assert_eq!(read["token_type"], "access");
        assert!(read["user_id"].is_i64() && read["iat"].is_number() && read["exp"].is_number());
    }
    assert!(!token_holds(&token, b"another secret of at least 32 bytes", now));
});
