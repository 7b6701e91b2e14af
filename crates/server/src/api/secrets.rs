//! The signing secret: reveal it (row 10), and expire it (row 11).
//!
//! This is the only place where the API shows a secret.

use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, header::CACHE_CONTROL};
use postrider_kernel::secret::GRACE_MAX;
use serde::Serialize;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    endpoints,
    error::ApiError,
    form::Form,
    input::{self, TextRule},
};

/// The paths of this resource.
pub const ROUTES: &[Route] = &[
    Route::new("/api/v2/webhook/endpoint/{id}/secret/reveal", &["POST"], Access::Secret, |call| {
        reveal(call).boxed()
    }),
    Route::new("/api/v2/webhook/endpoint/{id}/secret/expire", &["POST"], Access::Secret, |call| {
        expire(call).boxed()
    }),
];

/// The longest password that is looked at, in characters.
const PASSWORD_LENGTH_MAX: usize = 1_024;

#[derive(Serialize)]
struct Secret<'a> {
    signing_secret: &'a str,
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
    let mut shown = answer::json(StatusCode::CREATED, &Secret { signing_secret: secret.reveal() });
    // No cache on the way may keep it.
    shown.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(shown)
}

async fn expire(call: &mut Call) -> Answer {
    let endpoint = endpoints::look_up(call).await?;
    let body = call.read_body().await?;
    let mut form = Form::parse(&body, ["password", "grace_period"])?;
    let password = read_password(call, &mut form);
    let grace_max = GRACE_MAX.as_secs() as i64;
    let seconds = form.optional("grace_period", |value| input::integer(value, 0..=grace_max));
    form.finish()?;
    check_password(call, password).await?;
    let grace = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let grace = grace.filter(|grace| !grace.is_zero());
    let admin = &call.api.app.admin;
    let changed = admin.expire_secret(endpoint.tenant, endpoint.id, grace, call.by()?).await?;
    endpoints::shown(StatusCode::OK, &changed.ok_or(ApiError::NotFound)?)
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
