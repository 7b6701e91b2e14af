//! What proves who somebody is: passwords, API tokens, JWT secrets. How they are made, and what is kept of them.

use argon2::{
    Argon2, PasswordHash, PasswordHasher, PasswordVerifier,
    password_hash::{Error, SaltString},
};
use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::clock::{Clock, entropy};

/// What an API token's text starts with.
pub const TOKEN_PREFIX: &str = "prt_";

/// The shortest password, in characters.
pub const PASSWORD_LENGTH_MIN: usize = 8;

/// The longest password, in characters: hashing a longer one would keep a thread busy for whoever sends it.
pub const PASSWORD_LENGTH_MAX: usize = 1_024;

/// The shortest JWT secret, in bytes (RFC 7518, section 3.2: at least as long as the hash).
pub const JWT_SECRET_BYTES_MIN: usize = 32;

/// Hashes a password with argon2id, in PHC form. Takes tens of milliseconds: call it on a thread of its own.
pub fn hash_password(password: &str, clock: &dyn Clock) -> Result<String, Error> {
    let salt = SaltString::encode_b64(&entropy::<16>(clock))?;
    Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string())
}

/// Whether a password is the one that was hashed. As slow as [`hash_password`].
pub fn verify_password(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// A new API token: its text, which is shown once, and the hash that is kept.
pub fn new_token(clock: &dyn Clock) -> (String, [u8; 32]) {
    let text = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(entropy::<32>(clock)));
    let hash = token_hash(&text);
    (text, hash)
}

/// SHA-256 of a token. A token is 32 random bytes, so that a slow hash would add nothing.
pub fn token_hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    hash
}

/// A new JWT secret: 48 random bytes as text.
pub fn new_jwt_secret(clock: &dyn Clock) -> String {
    URL_SAFE_NO_PAD.encode(entropy::<48>(clock))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_password_verifies_against_its_own_hash() {
        let hash = hash_password("correct horse", &SystemClock::new()).unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(verify_password("correct horse", &hash));
        assert!(
            !verify_password("battery staple", &hash)
                && !verify_password("correct horse", "nonsense")
        );
    }

    #[test]
    fn tokens_differ_and_only_their_hash_is_kept() {
        let clock = SystemClock::new();
        let (one, hash) = new_token(&clock);
        assert!(one.starts_with(TOKEN_PREFIX) && one.len() == 47);
        assert_eq!(token_hash(&one), hash);
        assert_ne!(new_token(&clock).0, one);
        assert!(new_jwt_secret(&clock).len() >= JWT_SECRET_BYTES_MIN);
    }
}
