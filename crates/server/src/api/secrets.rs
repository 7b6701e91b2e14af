//! The signing secret: reveal it (row 10), expire it (row 11), bring one along, list those that sign, and end a grace.
//!
//! This is the only place where the API shows a secret, and only the reveal does.

use std::time::Duration;

use futures_util::FutureExt;
use http::{Method, StatusCode};
use postrider_kernel::{PublicKey, SecretId, SigningSecret, Timestamp, secret::GRACE_MAX};
use postrider_store::GraceEnded;
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    endpoints,
    error::{ApiError, Problem},
    form::Form,
    input::{self, Json, TextRule},
    openapi::Operation,
};
use crate::{
    accounts::PASSWORD_LENGTH_MAX,
    admin::{Brought, LiveSecret},
};

/// The paths of this resource.
pub const ROUTES: &[Route] = &[
    Route::new("/api/v2/webhook/endpoint/{id}/secret", &["GET", "POST"], Access::Secret, |call| {
        collection(call).boxed()
    })
    .documented(&[
        Operation::get("listSecrets", "List the secrets that sign")
            .answers_many::<Shown<'static>>(200),
        Operation::post("bringSecret", "Bring a signing secret along")
            .takes::<Bringing>()
            .answers::<Shown<'static>>(201)
            .fails(&[429]),
    ]),
    // What anybody may know is no secret: whoever may read the endpoint may read it.
    Route::new(
        "/api/v2/webhook/endpoint/{id}/secret/public_key",
        &["GET"],
        Access::Resource,
        |call| public_key(call).boxed(),
    )
    .documented(&[Operation::get(
        "getPublicKey",
        "The key that Ed25519 signatures are verified with",
    )
    .answers::<ShownKey>(200)]),
    Route::new("/api/v2/webhook/endpoint/{id}/secret/reveal", &["POST"], Access::Secret, |call| {
        reveal(call).boxed()
    })
    .documented(&[Operation::post("revealSecret", "Reveal the signing secret")
        .may_take::<Confirming>()
        .answers::<Secret<'static>>(201)
        .fails(&[429])]),
    Route::new("/api/v2/webhook/endpoint/{id}/secret/expire", &["POST"], Access::Secret, |call| {
        expire(call).boxed()
    })
    .documented(&[Operation::post(
        "expireSecret",
        "Expire the signing secret, and make a new one",
    )
    .may_take::<Expiring>()
    .answers::<endpoints::Shown<'static>>(200)
    .fails(&[429])]),
    Route::new(
        "/api/v2/webhook/endpoint/{id}/secret/{secret_id}/expire",
        &["POST"],
        Access::Secret,
        |call| end_grace(call).boxed(),
    )
    .documented(&[Operation::post("endGrace", "End the grace of one expired secret")
        .may_take::<Confirming>()
        .answers::<endpoints::Shown<'static>>(200)
        .fails(&[429])]),
];

/// What a client writes, as the document shows it.
#[derive(ToSchema)]
#[schema(as = SecretConfirmation)]
#[expect(dead_code, reason = "bodies are read as forms, which report every wrong field")]
struct Confirming {
    /// The password of the user behind the credential.
    #[schema(write_only)]
    password: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = SecretExpiry)]
#[expect(dead_code, reason = "as above")]
struct Expiring {
    /// The password of the user behind the credential.
    #[schema(write_only)]
    password: Option<String>,
    /// For how many seconds the expired secret still signs beside the new one.
    #[schema(minimum = 0, maximum = 604_800, default = 0)]
    grace_period: Option<u32>,
}

#[derive(ToSchema)]
#[schema(as = SecretInput)]
#[expect(dead_code, reason = "as above")]
struct Bringing {
    /// `whsec_` and the standard base64 of 24 to 64 bytes.
    #[schema(write_only)]
    signing_secret: String,
    /// The password of the user behind the credential.
    #[schema(write_only)]
    password: Option<String>,
    /// For how many seconds the secret before still signs beside this one.
    #[schema(minimum = 0, maximum = 604_800, default = 0)]
    grace_period: Option<u32>,
}

/// The longest signing secret that is looked at, in characters: `whsec_` and the base64 of 64 bytes.
const SECRET_LENGTH_MAX: usize = 94;

#[derive(Serialize, ToSchema)]
struct Secret<'a> {
    signing_secret: &'a str,
}

/// A secret that signs, as the API lists it.
#[derive(Serialize, ToSchema)]
#[schema(as = LiveSecret)]
struct Shown<'a> {
    id: i64,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(serialize_with = "answer::as_text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    last_four: &'a str,
    #[serde(serialize_with = "answer::as_text_or_null")]
    #[schema(value_type = Option<String>, required)]
    public_key: Option<PublicKey>,
}

impl<'a> From<&'a LiveSecret> for Shown<'a> {
    fn from(secret: &'a LiveSecret) -> Self {
        Self {
            id: secret.id.get(),
            created_at: secret.created_at,
            expires_at: secret.expires_at,
            last_four: &secret.ending,
            public_key: secret.public_key,
        }
    }
}

async fn collection(call: &mut Call) -> Answer {
    if call.method == Method::POST { bring(call).await } else { list(call).await }
}

/// At most five secrets sign, so that this list has no pages.
async fn list(call: &Call) -> Answer {
    let endpoint = endpoints::look_up(call).await?;
    let admin = &call.api.app.admin;
    let live = admin.live_secrets(endpoint.tenant, endpoint.id, call.now()).await?;
    let live = live.ok_or(ApiError::NotFound)?;
    let shown: Vec<Shown<'_>> = live.iter().map(Shown::from).collect();
    Ok(answer::json(StatusCode::OK, &shown))
}

#[derive(Serialize, ToSchema)]
#[schema(as = PublicKey)]
struct ShownKey {
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String)]
    public_key: PublicKey,
}

/// The key of the newest secret; there is none to speak of where nothing is signed with it.
async fn public_key(call: &mut Call) -> Answer {
    let endpoint = endpoints::look_up(call).await?;
    if !endpoint.signature_algorithms.has_ed25519() {
        return Err(ApiError::NotFound);
    }
    let admin = &call.api.app.admin;
    let live = admin.live_secrets(endpoint.tenant, endpoint.id, call.now()).await?;
    let current = live.unwrap_or_default().into_iter().next();
    let public_key = current.and_then(|secret| secret.public_key).ok_or(ApiError::NotFound)?;
    Ok(answer::json(StatusCode::OK, &ShownKey { public_key }))
}

async fn bring(call: &mut Call) -> Answer {
    let endpoint = endpoints::look_up(call).await?;
    let body = call.read_body().await?;
    let mut form = Form::parse(&body, ["signing_secret", "password", "grace_period"])?;
    let secret = form.required("signing_secret", signing_secret);
    let password = read_password(call, &mut form);
    let grace = read_grace(&mut form);
    form.finish()?;
    check_password(call, password).await?;
    let secret = secret.ok_or_else(|| ApiError::Internal("a required field got lost".into()))?;
    let (tenant, id, by) = (endpoint.tenant, endpoint.id, call.by()?);
    match call.api.app.admin.bring_secret(tenant, id, secret, grace, by).await? {
        Brought::Done(secret) => Ok(answer::json(StatusCode::CREATED, &Shown::from(&secret))),
        Brought::SignsAlready => Err(ApiError::of_field(
            "signing_secret",
            "This secret signs for this endpoint already.",
        )),
        Brought::NoEndpoint => Err(ApiError::NotFound),
    }
}

async fn end_grace(call: &mut Call) -> Answer {
    let endpoint = endpoints::look_up(call).await?;
    let secret = call.number("secret_id").map(SecretId::new)?;
    let body = call.read_body().await?;
    let mut form = Form::parse(&body, ["password"])?;
    let password = read_password(call, &mut form);
    form.finish()?;
    check_password(call, password).await?;
    let admin = &call.api.app.admin;
    match admin.end_grace(endpoint.tenant, endpoint.id, secret, call.by()?).await? {
        GraceEnded::Done(endpoint) => endpoints::shown(StatusCode::OK, &endpoint),
        GraceEnded::IsCurrent => Err(ApiError::BadRequest(
            "This is the current secret. Expire it with …/secret/expire/, which makes a new one."
                .into(),
        )),
        GraceEnded::Unknown => Err(ApiError::NotFound),
    }
}

async fn reveal(call: &mut Call) -> Answer {
    let endpoint = endpoints::look_up(call).await?;
    let body = call.read_body().await?;
    let mut form = Form::parse(&body, ["password"])?;
    let password = read_password(call, &mut form);
    form.finish()?;
    check_password(call, password).await?;
    let admin = &call.api.app.admin;
    let secret = admin.reveal_secret(endpoint.tenant, endpoint.id, call.by()?).await?;
    let secret = secret.ok_or(ApiError::NotFound)?;
    let shown = Secret { signing_secret: secret.reveal() };
    Ok(answer::not_to_keep(answer::json(StatusCode::CREATED, &shown)))
}

async fn expire(call: &mut Call) -> Answer {
    let endpoint = endpoints::look_up(call).await?;
    let body = call.read_body().await?;
    let mut form = Form::parse(&body, ["password", "grace_period"])?;
    let password = read_password(call, &mut form);
    let grace = read_grace(&mut form);
    form.finish()?;
    check_password(call, password).await?;
    let admin = &call.api.app.admin;
    let changed = admin.expire_secret(endpoint.tenant, endpoint.id, grace, call.by()?).await?;
    endpoints::shown(StatusCode::OK, &changed.ok_or(ApiError::NotFound)?)
}

/// Converts `signing_secret`, without repeating it when it is none.
pub fn signing_secret(value: Json<'_>) -> Result<SigningSecret, Problem> {
    let rule = TextRule { length_max: SECRET_LENGTH_MAX, may_be_blank: false, trims: true };
    let text = Zeroizing::new(input::text(value, rule)?.into_owned());
    SigningSecret::parse(&text).map_err(|_| {
        Problem::text("Enter whsec_ followed by the standard base64 of 24 to 64 bytes.")
    })
}

/// Reads `grace_period`; none is 0.
fn read_grace<const N: usize>(form: &mut Form<'_, N>) -> Option<Duration> {
    let grace_max = GRACE_MAX.as_secs() as i64;
    let seconds = form.optional("grace_period", |value| input::integer(value, 0..=grace_max));
    let grace = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    grace.filter(|grace| !grace.is_zero())
}

/// Reads `password`. It is required only of a user, and only where the operator wants it.
fn read_password<const N: usize>(call: &Call, form: &mut Form<'_, N>) -> Option<String> {
    let rule = TextRule { length_max: PASSWORD_LENGTH_MAX, may_be_blank: false, trims: false };
    let has_user = call.credential().is_ok_and(|credential| credential.user.is_some());
    let convert = |value| input::text(value, rule).map(|text| text.into_owned());
    if has_user && call.api.app.options.require_password {
        form.required("password", convert)
    } else {
        form.optional("password", convert)
    }
}

/// Checks a password that was given. The throttle stands here and not in the door: before the body is read nobody knows
/// whether a password is given at all, and a request without one is not throttled.
async fn check_password(call: &Call, password: Option<String>) -> Result<(), ApiError> {
    match (call.credential()?.user, password) {
        (Some(user), Some(password)) => {
            call.api.passwords.check(&call.api.app, user, &password).await
        }
        // A credential without a user has no password that could be wrong.
        _ => Ok(()),
    }
}
