//! A tenant's API tokens: list, create, get, revoke. A token's text is in the answer that made it, and nowhere else.

use std::{cmp::Ordering, time::Duration};

use futures_util::FutureExt;
use http::{Method, StatusCode};
use postrider_kernel::{Role, TenantId, Timestamp, TokenId, UserId};
use postrider_store::{Token, User};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    error::{ApiError, FieldErrors, Problem},
    form::Form,
    input::{self, TextRule},
    openapi::{self, Operation, Parameter},
    page::PageRequest,
    users,
};
use crate::admin::TokenDraft;

/// The paths of this resource.
pub const ROUTES: &[Route] = &[
    Route::new("/api/v2/token", &["GET", "POST"], Access::Secret, |call| collection(call).boxed())
        .documented(&[
            Operation::get("listTokens", "List the tenant's tokens")
                .with(&LISTED)
                .answers_page::<Shown>(),
            Operation::post("createToken", "Make a token, whose text is shown this once")
                .takes::<Body>()
                .answers::<Shown>(201),
        ]),
    Route::new("/api/v2/token/{id}", &["GET", "DELETE"], Access::Secret, |call| one(call).boxed())
        .documented(&[
            Operation::get("getToken", "Get a token, without its text").answers::<Shown>(200),
            Operation::delete("revokeToken", "Revoke a token"),
        ]),
];

/// What may be given with the list.
const LISTED: [Parameter; 3] = [
    openapi::PAGE[0],
    openapi::PAGE[1],
    Parameter::query("ordering", "`created_at`, `name`, `expires_at`, each also with `-`."),
];

/// What a client writes, as the document shows it.
#[derive(ToSchema)]
#[schema(as = TokenDraft)]
#[expect(dead_code, reason = "bodies are read as forms, which report every wrong field")]
struct Body {
    /// None above one's own.
    role: String,
    #[schema(max_length = 100, default = "")]
    name: Option<String>,
    /// The user that it acts for.
    user: Option<i64>,
    /// For how many seconds it counts; for ever unless given.
    #[schema(minimum = 1)]
    expires_in: Option<i64>,
}

/// The longest name of a token, in characters.
const NAME_LENGTH_MAX: usize = 100;

/// The longest that a token with an end may count, in seconds: a century.
const EXPIRES_IN_MAX: i64 = 100 * 366 * 86_400;

/// A token as the API shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
struct Shown {
    id: i64,
    name: String,
    role: &'static str,
    #[schema(required)]
    user: Option<i64>,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(serialize_with = "answer::as_text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    #[serde(serialize_with = "answer::as_text_or_null")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    revoked_at: Option<Timestamp>,
    /// Its text, where it was made just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl From<Token> for Shown {
    fn from(token: Token) -> Self {
        Self {
            id: token.id.get(),
            name: token.name,
            role: token.role.as_str(),
            user: token.user.map(UserId::get),
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
            token: None,
        }
    }
}

async fn collection(call: &mut Call) -> Answer {
    if call.method == Method::POST { create(call).await } else { list(call).await }
}

async fn list(call: &Call) -> Answer {
    let tokens = call.api.app.store.tokens(call.credential()?.tenant.id).await?;
    let fields = ["created_at", "name", "expires_at"];
    let asked = PageRequest::new(call.query());
    let page = asked.of_all(&call.url(), tokens, &fields, compare, Shown::from);
    Ok(answer::json(StatusCode::OK, &page))
}

fn compare(field: &str, one: &Token, other: &Token) -> Ordering {
    // What never expires comes after what does.
    let end = |token: &Token| (token.expires_at.is_none(), token.expires_at);
    match field {
        "name" => one.name.cmp(&other.name),
        "expires_at" => end(one).cmp(&end(other)),
        _ => one.created_at.cmp(&other.created_at),
    }
}

async fn create(call: &mut Call) -> Answer {
    let body = call.read_body().await?;
    let (tenant, own, by) = (call.credential()?.tenant.id, call.credential()?.role, call.by()?);
    let mut form = Form::parse(&body, ["role", "name", "user", "expires_in"])?;
    let rule = TextRule { length_max: NAME_LENGTH_MAX, may_be_blank: true, trims: true };
    let role = form.required("role", |value| users::managed_role(value, own));
    let name = form.optional("name", |value| {
        let text = input::text(value, rule)?;
        let is_sound = !text.chars().any(char::is_control);
        is_sound
            .then(|| text.into_owned())
            .ok_or_else(|| Problem::text("Control characters are not allowed."))
    });
    let user = form.optional("user", |value| input::integer(value, 1..=i64::MAX));
    let expires_in = form.optional("expires_in", |value| input::integer(value, 1..=EXPIRES_IN_MAX));
    form.finish()?;
    let role = role.ok_or(ApiError::Internal("a required field got lost".into()))?;
    if let Some(id) = user {
        check_user(call, tenant, own, id).await?;
    }
    let span = expires_in.map(|seconds| Duration::from_secs(seconds.unsigned_abs()));
    let draft = TokenDraft {
        name: name.unwrap_or_default(),
        role,
        user: user.map(UserId::new),
        expires_at: span.map(|span| by.at.plus(span)),
    };
    let (token, text) = call.api.app.admin.create_token(tenant, draft, by).await?;
    let shown = Shown { token: Some(text), ..Shown::from(token) };
    Ok(answer::not_to_keep(answer::json(StatusCode::CREATED, &shown)))
}

/// A token acts for an active user of its tenant, whose role is not above that of whoever makes it.
async fn check_user(call: &Call, tenant: TenantId, own: Role, id: i64) -> Result<(), ApiError> {
    let user = call.api.app.store.user(UserId::new(id)).await?;
    let fits = |user: User| user.tenant == tenant && user.is_active && own.manages(user.role);
    if user.is_some_and(fits) {
        return Ok(());
    }
    let text = format!("Invalid pk \"{id}\" - object does not exist.");
    Err(FieldErrors::of("user", Problem::text(text)).into())
}

async fn one(call: &mut Call) -> Answer {
    let (id, credential) = (TokenId::new(call.id()?), call.credential()?);
    let (tenant, own) = (credential.tenant.id, credential.role);
    let tokens = call.api.app.store.tokens(tenant).await?;
    let token = tokens.into_iter().find(|token| token.id == id).ok_or(ApiError::NotFound)?;
    if call.method != Method::DELETE {
        return Ok(answer::json(StatusCode::OK, &Shown::from(token)));
    }
    if !own.manages(token.role) {
        return Err(ApiError::PermissionDenied);
    }
    // One that was revoked before is as it should be.
    call.api.app.admin.revoke_token(tenant, id, call.by()?).await?;
    Ok(answer::no_content())
}
