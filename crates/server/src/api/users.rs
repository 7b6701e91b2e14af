//! A tenant's users: list, create, get, change, disable. None is ever deleted: the audit log names them.
//!
//! Nobody makes, changes or disables a user whose role is above its own, and only an operator takes a tenant its last
//! administrator.

use futures_util::FutureExt;
use http::{Method, StatusCode};
use postrider_kernel::{Role, Timestamp, UserId, tenant::Name};
use postrider_store::{User, UserChange, UserUpdated};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    error::{ApiError, Problem},
    form::Form,
    input::{self, Json, TextRule},
    openapi::{self, Operation, Parameter},
    page::PageRequest,
};
use crate::{
    accounts::{PASSWORD_LENGTH_MAX, PASSWORD_LENGTH_MIN},
    admin::UserDraft,
};

/// The paths of this resource.
pub const ROUTES: &[Route] = &[
    Route::new("/api/v2/user", &["GET", "POST"], Access::Secret, |call| collection(call).boxed())
        .documented(&[
            Operation::get("listUsers", "List the tenant's users")
                .with(&LISTED)
                .answers_page::<Shown>(),
            Operation::post("createUser", "Make a user").takes::<Body>().answers::<Shown>(201),
        ]),
    Route::new("/api/v2/user/{id}", &["GET", "PATCH", "DELETE"], Access::Secret, |call| {
        one(call).boxed()
    })
    .documented(&[
        Operation::get("getUser", "Get a user").answers::<Shown>(200),
        Operation::patch(
            "changeUser",
            "Change a user's role or password, disable it or enable it again",
        )
        .takes::<Change>()
        .answers::<Shown>(200),
        Operation::delete("disableUser", "Disable a user, whose credentials then stop counting"),
    ]),
];

/// What may be given with the list.
const LISTED: [Parameter; 3] = [
    openapi::PAGE[0],
    openapi::PAGE[1],
    Parameter::query("ordering", "`created_at`, `name`, `role`, `is_active`, each also with `-`."),
];

/// What a client writes, as the document shows it.
#[derive(ToSchema)]
#[schema(as = UserInput)]
#[expect(dead_code, reason = "bodies are read as forms, which report every wrong field")]
struct Body {
    #[schema(max_length = 100)]
    name: String,
    /// None above one's own.
    role: String,
    #[schema(write_only, min_length = 8, max_length = 1_024)]
    password: String,
}

#[derive(ToSchema)]
#[schema(as = UserChange)]
#[expect(dead_code, reason = "as above")]
struct Change {
    role: Option<String>,
    #[schema(write_only, min_length = 8, max_length = 1_024)]
    password: Option<String>,
    is_active: Option<bool>,
}

/// A user as the API shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
struct Shown {
    id: i64,
    name: String,
    role: &'static str,
    is_active: bool,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<User> for Shown {
    fn from(user: User) -> Self {
        let User { id, name, role, is_active, created_at, .. } = user;
        Self { id: id.get(), name, role: role.as_str(), is_active, created_at }
    }
}

async fn collection(call: &mut Call) -> Answer {
    if call.method == Method::POST { create(call).await } else { list(call).await }
}

async fn list(call: &Call) -> Answer {
    let users = call.api.app.store.users(call.credential()?.tenant.id).await?;
    let compare = |field: &str, one: &User, other: &User| match field {
        "name" => one.name.cmp(&other.name),
        "role" => one.role.as_str().cmp(other.role.as_str()),
        "is_active" => one.is_active.cmp(&other.is_active),
        _ => one.created_at.cmp(&other.created_at),
    };
    let fields = ["created_at", "name", "role", "is_active"];
    let asked = PageRequest::new(call.query());
    let page = asked.of_all(&call.url(), users, &fields, compare, Shown::from);
    Ok(answer::json(StatusCode::OK, &page))
}

async fn create(call: &mut Call) -> Answer {
    let body = call.read_body().await?;
    let own = call.credential()?.role;
    let mut form = Form::parse(&body, ["name", "role", "password"])?;
    let name = form.required("name", account_name);
    let role = form.required("role", |value| managed_role(value, own));
    let password = form.required("password", new_password);
    form.finish()?;
    // `finish` has refused a form without one of them.
    let (Some(name), Some(role), Some(password)) = (name, role, password) else {
        return Err(ApiError::Internal("a required field got lost".into()));
    };
    let password_hash = call.api.passwords.hash(&call.api.app, password).await?;
    let draft = UserDraft { name, role, password_hash };
    let (tenant, by) = (call.credential()?.tenant.id, call.by()?);
    let made = call.api.app.admin.create_user(tenant, draft, by).await?;
    let taken = || ApiError::of_field("name", "user with this name already exists.");
    Ok(answer::json(StatusCode::CREATED, &Shown::from(made.ok_or_else(taken)?)))
}

async fn one(call: &mut Call) -> Answer {
    let user = look_up(call, UserId::new(call.id()?)).await?;
    if call.method == Method::GET || call.method == Method::HEAD {
        return Ok(answer::json(StatusCode::OK, &Shown::from(user)));
    }
    let own = call.credential()?.role;
    if !own.manages(user.role) {
        return Err(ApiError::PermissionDenied);
    }
    if call.method == Method::DELETE {
        let change = UserChange { is_active: Some(false), ..UserChange::default() };
        return update(call, user.id, change).await.map(|_| answer::no_content());
    }
    let change = read_change(call, own).await?;
    // The user may have risen while the body came.
    if !own.manages(look_up(call, user.id).await?.role) {
        return Err(ApiError::PermissionDenied);
    }
    let updated = update(call, user.id, change).await?;
    Ok(answer::json(StatusCode::OK, &Shown::from(updated)))
}

/// A user of the credential's tenant.
async fn look_up(call: &Call, id: UserId) -> Result<User, ApiError> {
    let tenant = call.credential()?.tenant.id;
    let found = call.api.app.store.user(id).await?;
    found.filter(|user| user.tenant == tenant).ok_or(ApiError::NotFound)
}

async fn read_change(call: &mut Call, own: Role) -> Result<UserChange, ApiError> {
    let body = call.read_body().await?;
    let mut form = Form::parse(&body, ["role", "password", "is_active"])?;
    let role = form.optional("role", |value| managed_role(value, own));
    let password = form.optional("password", new_password);
    let is_active = form.optional("is_active", input::boolean);
    form.finish()?;
    let password_hash = match password {
        Some(password) => Some(call.api.passwords.hash(&call.api.app, password).await?),
        None => None,
    };
    Ok(UserChange { role, password_hash, is_active, keeps_an_admin: false })
}

async fn update(call: &Call, id: UserId, change: UserChange) -> Result<User, ApiError> {
    let credential = call.credential()?;
    let change = UserChange { keeps_an_admin: credential.role != Role::Operator, ..change };
    let admin = &call.api.app.admin;
    match admin.update_user(credential.tenant.id, id, change, call.by()?).await? {
        UserUpdated::Done(user) => Ok(user),
        UserUpdated::NoUser => Err(ApiError::NotFound),
        UserUpdated::LastAdmin => Err(ApiError::of_body(
            "This is the last active admin of the tenant. Make another one first, or ask the operator.",
        )),
    }
}

/// Converts a user's or a tenant's name.
pub fn account_name(value: Json<'_>) -> Result<String, Problem> {
    let rule = TextRule { length_max: 100, may_be_blank: false, trims: true };
    let text = input::text(value, rule)?;
    let name = Name::parse(&text).map(|name| name.to_string());
    name.map_err(|_| Problem::text("Enter 1 to 100 letters, digits or any of . _ - @ +"))
}

/// Converts a role that is to be given: none above that of whoever gives it.
pub fn managed_role(value: Json<'_>, own: Role) -> Result<Role, Problem> {
    let role = value.text().and_then(|name| Role::parse(&name));
    role.filter(|role| own.manages(*role)).ok_or_else(|| input::not_a_choice(value))
}

fn new_password(value: Json<'_>) -> Result<String, Problem> {
    let rule = TextRule { length_max: PASSWORD_LENGTH_MAX, may_be_blank: false, trims: false };
    let text = input::text(value, rule)?;
    if text.chars().count() < PASSWORD_LENGTH_MIN {
        let text = format!("Ensure this field has at least {PASSWORD_LENGTH_MIN} characters.");
        return Err(Problem::text(text));
    }
    Ok(text.into_owned())
}
