//! JSON Web Tokens: HS256 with the tenant's secret, the claims of the contract and nothing looser; and the operation that
//! tells whether one holds (row 14).
//!
//! A token names no tenant. Its `user_id` is read first, unverified, only to find the user and with it the secret; then
//! the signature decides, and after it nothing is taken from the token but what it has signed.

use std::fmt;

use futures_util::FutureExt;
use http::StatusCode;
use jsonwebtoken::{Algorithm, DecodingKey};
use postrider_kernel::{Timestamp, UserId};
use postrider_store::{Actor, User};
use serde::{Deserialize, Deserializer, de};
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    auth::{Identity, Validity},
    door::{Call, Route},
    error::ApiError,
    form::Form,
    input::{self, TextRule},
    openapi::Operation,
};
use crate::app::App;

/// The path of this resource.
pub const ROUTES: &[Route] =
    &[Route::new("/api/v2/jwt/verify_token", &["POST"], Access::Open, |call| {
        verify_token(call).boxed()
    })
    .documented(&[Operation::post("verifyToken", "Whether a JWT's signature and times hold")
        .takes::<Body>()
        .answers_any(200)
        .fails(&[401])])];

/// What a client writes, as the document shows it.
#[derive(ToSchema)]
#[schema(as = TokenInput)]
#[expect(dead_code, reason = "bodies are read as forms, which report every wrong field")]
struct Body {
    token: String,
}

/// How far the clocks of the issuer and ours may be apart, in seconds.
const SKEW_SECONDS: f64 = 30.0;

/// The longest token that row 14 looks at, in characters.
const TOKEN_LENGTH_MAX: usize = 16_384;

/// The claims that count. Others are ignored; one of these twice, or of another type, makes the token invalid.
#[derive(Debug, Deserialize)]
struct Claims {
    user_id: i64,
    #[serde(default, deserialize_with = "present")]
    token_type: Option<String>,
    // Only its presence counts.
    #[serde(default, deserialize_with = "present")]
    jti: Option<Jti>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<f64>,
    exp: f64,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<f64>,
}

/// A claim that may be missing, but not null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl Claims {
    /// When the token counts.
    fn validity(&self) -> Validity {
        let begins = [self.iat, self.nbf].into_iter().flatten().fold(f64::NEG_INFINITY, f64::max);
        Validity { from: begins - SKEW_SECONDS, until: self.exp + SKEW_SECONDS }
    }

    /// Whether the token may be used as a credential: every claim that the contract requires is there.
    fn is_access(&self) -> bool {
        self.token_type.as_deref() == Some("access") && self.jti.is_some() && self.iat.is_some()
    }

    /// Whether it counts as one now.
    fn count(&self, now: Timestamp) -> bool {
        self.is_access() && self.validity().holds(now)
    }
}

/// A string or a number.
#[derive(Debug)]
struct Jti;

impl<'de> Deserialize<'de> for Jti {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

impl de::Visitor<'_> for Jti {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(Self)
    }
}

/// Whether a token is meant as a JWT: three parts, separated by dots.
pub fn looks_like_one(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Whom a JWT stands for, when it holds as a credential.
pub async fn verify(app: &App, token: &str, now: Timestamp) -> Result<Identity, ApiError> {
    let (user, claims) = signed_by_user(app, token).await?;
    if !user.is_active || !claims.count(now) {
        return Err(ApiError::TokenNotValid);
    }
    Ok(Identity {
        role: user.role,
        tenant: user.tenant,
        actor: Actor::User(user.id),
        user: Some(user.id),
        validity: claims.validity(),
    })
}

/// Whether a token holds as a credential, if this secret signs: [`verify`] for whoever has no users.
pub fn holds(token: &str, secret: &[u8], now: Timestamp) -> bool {
    signed_claims(token, secret).is_some_and(|claims| claims.count(now))
}

/// The user that a token names and the claims that it holds, if the secret of that user's tenant has signed it.
async fn signed_by_user(app: &App, token: &str) -> Result<(User, Claims), ApiError> {
    let named = claims_of(token).ok_or(ApiError::TokenNotValid)?.user_id;
    let user = app.store.user(UserId::new(named)).await?.ok_or(ApiError::TokenNotValid)?;
    let snapshot = app.directory.snapshot();
    let tenant = snapshot.tenant(user.tenant).ok_or(ApiError::TokenNotValid)?;
    let secret = tenant.jwt_secret.as_ref().ok_or(ApiError::TokenNotValid)?;
    let claims = signed_claims(token, secret.as_bytes()).ok_or(ApiError::TokenNotValid)?;
    Ok((user, claims))
}

/// The claims of a token, before anything of it is believed.
fn claims_of(token: &str) -> Option<Claims> {
    jsonwebtoken::dangerous::insecure_decode_claims(token).ok()
}

/// The claims of a token, if the secret has signed it. Only the signature is the library's business: for the times it
/// would ask the machine's clock, and it has opinions on claims that are ignored here.
fn signed_claims(token: &str, secret: &[u8]) -> Option<Claims> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    // A token that names extensions which must be understood is not one that we understand (RFC 7515, section 4.1.11).
    if header.alg != Algorithm::HS256 || header.crit.is_some() {
        return None;
    }
    let (message, signature) = token.rsplit_once('.')?;
    let key = DecodingKey::from_secret(secret);
    let signed =
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, Algorithm::HS256);
    if signed.ok()? { claims_of(token) } else { None }
}

/// Row 14 asks for signature and times alone: a token of another type, or of a disabled user, is still one that we
/// signed and that has not expired.
async fn verify_token(call: &mut Call) -> Answer {
    let body = call.read_body().await?;
    let mut form = Form::parse(&body, ["token"])?;
    let rule = TextRule { length_max: TOKEN_LENGTH_MAX, may_be_blank: false, trims: true };
    let token = form.required("token", |value| input::text(value, rule));
    form.finish()?;
    let token = token.unwrap_or_default();
    let (_, claims) = signed_by_user(&call.api.app, &token).await?;
    if !claims.validity().holds(call.now()) {
        return Err(ApiError::TokenNotValid);
    }
    Ok(answer::raw_json(StatusCode::OK, "{}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use jsonwebtoken::{EncodingKey, Header};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    /// When a token of user 7 counts as a credential.
    fn access(token: &str, secret: &[u8]) -> Option<Validity> {
        let claims = signed_claims(token, secret)?;
        (claims.is_access() && claims.user_id == 7).then(|| claims.validity())
    }

    fn signed(header: &str, claims: &str) -> String {
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let key = EncodingKey::from_secret(SECRET);
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    fn good() -> Value {
        json!({"user_id": 7, "token_type": "access", "jti": "x", "iat": 1000, "exp": 2000})
    }

    /// The good claims with one of them replaced, or left out.
    fn with(name: &str, value: Option<&str>) -> Option<Validity> {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        let mut text = claims.to_string();
        if let Some(value) = value {
            text = format!("{},\"{name}\":{value}}}", &text[..text.len() - 1]);
        }
        let token = signed(r#"{"alg":"HS256","typ":"JWT"}"#, &text);
        access(&token, SECRET)
    }

    #[test]
    fn a_good_token_counts_from_its_issue_to_its_end_with_thirty_seconds_around() {
        assert_eq!(with("ext_id", Some("[1]")), Some(Validity { from: 970.0, until: 2030.0 }));
        assert_eq!(with("nbf", Some("1500")), Some(Validity { from: 1470.0, until: 2030.0 }));
        assert_eq!(with("nbf", Some("500")), Some(Validity { from: 970.0, until: 2030.0 }));
        assert_eq!(with("exp", Some("2000.5")), Some(Validity { from: 970.0, until: 2030.5 }));
        for jti in ["1", "-1", "1.5", "\"\""] {
            assert!(with("jti", Some(jti)).is_some(), "{jti}");
        }
        assert!(with("aud", Some("[\"somebody\"]")).is_some());
        for ignored in ["aud", "sub", "iss"] {
            assert!(with(ignored, Some("{}")).is_some(), "{ignored}");
        }
    }

    #[test]
    fn every_required_claim_is_there_and_of_its_type() {
        for name in ["user_id", "token_type", "jti", "iat", "exp"] {
            assert_eq!(with(name, None), None, "{name} is missing");
            for odd in ["null", "true", "[]", "{}", "1e400"] {
                assert_eq!(with(name, Some(odd)), None, "{name} is {odd}");
            }
        }
        for (name, odd) in [
            ("user_id", "7.0"),
            ("user_id", "\"7\""),
            ("user_id", "8"),
            ("user_id", "99999999999999999999"),
            ("token_type", "\"refresh\""),
            ("iat", "\"1000\""),
            ("exp", "\"2000\""),
            ("nbf", "null"),
            ("nbf", "\"1\""),
        ] {
            assert_eq!(with(name, Some(odd)), None, "{name} is {odd}");
        }
    }

    #[test]
    fn row_14_asks_for_signature_and_times_alone() {
        for looser in
            [r#"{"user_id":7,"exp":2000}"#, r#"{"user_id":7,"token_type":"refresh","exp":2000}"#]
        {
            let token = signed(r#"{"alg":"HS256"}"#, looser);
            assert_eq!(access(&token, SECRET), None, "it is no credential");
            let validity = signed_claims(&token, SECRET).unwrap().validity();
            assert!(validity.holds(Timestamp::from_micros(2_030_000_000 - 1)));
            assert!(!validity.holds(Timestamp::from_micros(2_031_000_000)));
        }
    }

    #[test]
    fn a_claim_twice_makes_the_token_invalid() {
        let text = good().to_string().replace("\"iat\":1000", "\"iat\":1000,\"iat\":1000");
        assert_eq!(access(&signed(r#"{"alg":"HS256"}"#, &text), SECRET), None);
    }

    #[test]
    fn no_other_algorithm_passes() {
        let claims = good().to_string();
        let holds = |token: &str| access(token, SECRET).is_some();
        assert!(holds(&signed(r#"{"alg":"HS256"}"#, &claims)));
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"HS384"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            r#"{"typ":"JWT"}"#,
            "nonsense",
            "",
        ] {
            assert!(!holds(&signed(header, &claims)), "{header}");
        }
        let token = signed(r#"{"alg":"HS256"}"#, &claims);
        let (message, signature) = token.rsplit_once('.').unwrap();
        assert!(!holds(&format!("{message}.")), "no signature");
        assert!(!holds(&format!("{message}.{signature}=")), "padding");
        let other = if signature.starts_with('A') { "B" } else { "A" };
        assert!(!holds(&format!("{message}.{other}{}", &signature[1..])), "another signature");
        assert!(access(&token, b"another secret of at least 32 bytes").is_none());
        // The same algorithm signed, but the header lies about it.
        let key = EncodingKey::from_secret(SECRET);
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let token = jsonwebtoken::encode(&Header::new(algorithm), &good(), &key).unwrap();
            assert!(!holds(&token), "{algorithm:?}");
        }
    }

    proptest! {
        #[test]
        fn no_token_panics(token in ".{0,40}|[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,20}") {
            prop_assert!(access(&token, SECRET).is_none());
            claims_of(&token);
        }

        #[test]
        fn no_claims_panic(claims in "\\PC{0,60}") {
            let token = signed(r#"{"alg":"HS256"}"#, &claims);
            prop_assert!(access(&token, SECRET).is_none());
        }
    }
}
