//! The instance's tenants, for operators alone: list, create, get, rename. None is deleted here: what it is owed would be
//! lost with it. Which tenant the request is about otherwise (`Postrider-Tenant`) does not matter.

use futures_util::FutureExt;
use http::{Method, StatusCode};
use postrider_kernel::{TenantId, Timestamp, tenant::DEFAULT_TENANT};
use postrider_store::{Renamed, Tenant};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    error::ApiError,
    form::Form,
    input,
    openapi::{self, Operation, Parameter},
    page::PageRequest,
    users::account_name,
};
use crate::config::Catalogue;

/// The paths of this resource.
pub const ROUTES: &[Route] = &[
    Route::new("/api/v2/tenant", &["GET", "POST"], Access::Instance, |call| {
        collection(call).boxed()
    })
    .documented(&[
        Operation::get("listTenants", "List tenants").with(&LISTED).answers_page::<Shown>(),
        Operation::post("createTenant", "Make a tenant").takes::<Body>().answers::<Shown>(201),
    ]),
    Route::new("/api/v2/tenant/{id}", &["GET", "PATCH"], Access::Instance, |call| {
        one(call).boxed()
    })
    .documented(&[
        Operation::get("getTenant", "Get a tenant").answers::<Shown>(200),
        Operation::patch("renameTenant", "Rename a tenant").takes::<Change>().answers::<Shown>(200),
    ]),
];

/// What may be given with the list.
const LISTED: [Parameter; 3] = [
    openapi::PAGE[0],
    openapi::PAGE[1],
    Parameter::query("ordering", "`created_at`, `name`, each also with `-`."),
];

/// What a client writes, as the document shows it.
#[derive(ToSchema)]
#[schema(as = TenantInput)]
#[expect(dead_code, reason = "bodies are read as forms, which report every wrong field")]
struct Body {
    #[schema(max_length = 100)]
    name: String,
    /// The event types that it begins with: `community`, or `none`.
    #[schema(default = "community")]
    catalogue: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = TenantChange)]
#[expect(dead_code, reason = "as above")]
struct Change {
    #[schema(max_length = 100)]
    name: Option<String>,
}

/// A tenant as the API shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = Tenant)]
struct Shown {
    id: i64,
    name: String,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Tenant> for Shown {
    fn from(tenant: Tenant) -> Self {
        Self { id: tenant.id.get(), name: tenant.name, created_at: tenant.created_at }
    }
}

async fn collection(call: &mut Call) -> Answer {
    if call.method == Method::POST { create(call).await } else { list(call).await }
}

async fn list(call: &Call) -> Answer {
    let tenants = call.api.app.store.tenants().await?;
    let compare = |field: &str, one: &Tenant, other: &Tenant| match field {
        "name" => one.name.cmp(&other.name),
        _ => one.created_at.cmp(&other.created_at),
    };
    let asked = PageRequest::new(call.query());
    let page = asked.of_all(&call.url(), tenants, &["created_at", "name"], compare, Shown::from);
    Ok(answer::json(StatusCode::OK, &page))
}

async fn create(call: &mut Call) -> Answer {
    let body = call.read_body().await?;
    let mut form = Form::parse(&body, ["name", "catalogue"])?;
    let name = form.required("name", account_name);
    let catalogue = form.optional("catalogue", |value| match value.text().as_deref() {
        Some("community") => Ok(Catalogue::BuiltIn),
        Some("none") => Ok(Catalogue::Empty),
        _ => Err(input::not_a_choice(value)),
    });
    form.finish()?;
    let name = name.ok_or(ApiError::Internal("a required field got lost".into()))?;
    let event_types = catalogue.unwrap_or(Catalogue::BuiltIn).read();
    let event_types = event_types.map_err(|error| ApiError::Internal(error.to_string()))?;
    let made = call.api.app.admin.create_tenant(name, event_types, call.by()?).await?;
    Ok(answer::json(StatusCode::CREATED, &Shown::from(made.ok_or_else(taken)?)))
}

async fn one(call: &mut Call) -> Answer {
    let id = TenantId::new(call.id()?);
    let tenant = call.api.app.store.tenant(id).await?.ok_or(ApiError::NotFound)?;
    if call.method != Method::PATCH {
        return Ok(answer::json(StatusCode::OK, &Shown::from(tenant)));
    }
    let body = call.read_body().await?;
    let mut form = Form::parse(&body, ["name"])?;
    let name = form.optional("name", account_name);
    form.finish()?;
    let name = name.unwrap_or_else(|| tenant.name.clone());
    if tenant.name == DEFAULT_TENANT && name != DEFAULT_TENANT {
        let text = "This tenant keeps its name: requests that name no tenant are about it.";
        return Err(ApiError::of_field("name", text));
    }
    match call.api.app.admin.rename_tenant(id, name.clone(), call.by()?).await? {
        Renamed::Done => Ok(answer::json(StatusCode::OK, &Shown::from(Tenant { name, ..tenant }))),
        Renamed::NoTenant => Err(ApiError::NotFound),
        Renamed::NameTaken => Err(taken()),
    }
}

fn taken() -> ApiError {
    ApiError::of_field("name", "tenant with this name already exists.")
}
