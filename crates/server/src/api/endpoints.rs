//! Endpoints: list, create, get, update, delete, search (rows 1 to 6 and 8).

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use postrider_kernel::{
    EndpointId, EventType, SigningSecret, Target, Timestamp,
    egress::EgressPolicy,
    endpoint::{DESCRIPTION_LENGTH_MAX, InvalidTarget, TARGET_LENGTH_MAX},
    request::RequestTemplate,
    signature::SignatureAlgorithms,
};
use postrider_store::{
    Endpoint, EndpointChange, EndpointField, EndpointQuery, OrderBy, Subscription,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    error::{ApiError, FieldErrors, Problem},
    form::{self, Form},
    input::{self, Json, TextRule},
    openapi::{self, Operation, Parameter},
    page::PageRequest,
    secrets,
};
use crate::{admin::EndpointDraft, directory::TenantView};

/// The paths of this resource.
pub const ROUTES: &[Route] = &[
    Route::new("/api/v2/webhook/endpoint", &["GET", "POST"], Access::Resource, |call| {
        collection(call).boxed()
    })
    .documented(&[
        Operation::get("listEndpoints", "List endpoints")
            .with(&LISTED)
            .answers_page::<Shown<'static>>(),
        Operation::post("createEndpoint", "Create an endpoint")
            .takes::<Body>()
            .answers::<Shown<'static>>(201),
    ]),
    Route::new(
        "/api/v2/webhook/endpoint/{id}",
        &["GET", "PUT", "PATCH", "DELETE"],
        Access::Resource,
        |call| one(call).boxed(),
    )
    .documented(&[
        Operation::get("getEndpoint", "Get an endpoint").answers::<Shown<'static>>(200),
        Operation::put("updateEndpoint", "Update an endpoint")
            .takes::<Body>()
            .answers::<Shown<'static>>(200),
        Operation::patch("changeEndpoint", "Update some fields")
            .takes::<Change>()
            .answers::<Shown<'static>>(200),
        Operation::delete("deleteEndpoint", "Delete an endpoint, with what it was still owed"),
    ]),
    Route::new("/api/v2/webhook/endpoint/search", &["GET"], Access::Resource, |call| {
        search(call).boxed()
    })
    .documented(&[Operation::get("searchEndpoints", "Search endpoints by their target")
        .with(&SEARCHED)
        .answers_page::<Shown<'static>>()]),
];

const ORDERING: Parameter =
    Parameter::query("ordering", "`created_at`, `updated_at`, `is_active`, each also with `-`.");

/// What may be given with the list.
const LISTED: [Parameter; 3] = [openapi::PAGE[0], openapi::PAGE[1], ORDERING];

/// What may be given with the search.
const SEARCHED: [Parameter; 4] = [
    openapi::PAGE[0],
    openapi::PAGE[1],
    ORDERING,
    Parameter::query("target", "A part of the target, whatever its case."),
];

/// What a client writes: the document's picture of [`Written`].
#[derive(ToSchema)]
#[schema(as = EndpointInput)]
#[expect(dead_code, reason = "bodies are read as forms, which report every wrong field")]
struct Body {
    /// An inactive endpoint is owed nothing new.
    #[schema(default = true)]
    is_active: Option<bool>,
    #[schema(format = "uri", max_length = 2_000, example = "https://receiver.example/hooks")]
    target: String,
    #[schema(max_length = 1_000, default = "")]
    description: Option<String>,
    #[schema(min_items = 1)]
    events: Vec<BodyEvent>,
    /// Whether this endpoint's certificate is checked.
    #[schema(default = true)]
    ssl_cert_verification: Option<bool>,
    /// `hmac-sha256`, `ed25519`, or both.
    signature_algorithms: Option<Vec<String>>,
    /// Brought along from elsewhere; one is made unless given, and when the endpoint is there it is ignored.
    #[schema(write_only)]
    signing_secret: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = SubscriptionInput)]
#[expect(dead_code, reason = "as above")]
struct BodyEvent {
    /// One of the tenant's event types.
    #[schema(example = "comment.created")]
    r#type: String,
}

/// The same for a PATCH: nothing is required.
#[derive(ToSchema)]
#[schema(as = EndpointChange)]
#[expect(dead_code, reason = "as above")]
struct Change {
    is_active: Option<bool>,
    #[schema(format = "uri", max_length = 2_000)]
    target: Option<String>,
    #[schema(max_length = 1_000)]
    description: Option<String>,
    #[schema(min_items = 1)]
    events: Option<Vec<BodyEvent>>,
    ssl_cert_verification: Option<bool>,
    signature_algorithms: Option<Vec<String>>,
}

/// The fields that a client writes, in the contract's order.
const FIELDS: [&str; 7] = [
    "is_active",
    "target",
    "description",
    "events",
    "ssl_cert_verification",
    "signature_algorithms",
    // Written when an endpoint is made, and in no representation.
    "signing_secret",
];

/// An endpoint as the API shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub struct Shown<'a> {
    id: i64,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    is_active: bool,
    target: &'a str,
    description: &'a str,
    events: Vec<ShownSubscription<'a>>,
    ssl_cert_verification: bool,
    #[schema(value_type = Vec<String>)]
    signature_algorithms: &'static [&'static str],
}

#[derive(Serialize, ToSchema)]
#[schema(as = Subscription)]
struct ShownSubscription<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(serialize_with = "answer::as_text")]
    #[schema(value_type = String, format = DateTime)]
    added_at: Timestamp,
}

impl<'a> From<&'a Endpoint> for Shown<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
        let event = |subscription: &'a Subscription| ShownSubscription {
            event_type: subscription.event_type.as_str(),
            added_at: subscription.added_at,
        };
        Self {
            id: endpoint.id.get(),
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
            is_active: endpoint.is_active,
            target: endpoint.target.as_str(),
            description: &endpoint.description,
            events: endpoint.subscriptions.iter().map(event).collect(),
            ssl_cert_verification: endpoint.ssl_cert_verification,
            signature_algorithms: endpoint.signature_algorithms.names(),
        }
    }
}

/// An answer that shows an endpoint.
pub fn shown(status: StatusCode, endpoint: &Endpoint) -> answer::Answer {
    Ok(answer::json(status, &Shown::from(endpoint)))
}

/// The endpoint of the path, of the credential's tenant.
pub async fn look_up(call: &Call) -> Result<Endpoint, ApiError> {
    let (tenant, id) = (call.credential()?.tenant.id, EndpointId::new(call.id()?));
    call.api.app.store.endpoint(tenant, id).await?.ok_or(ApiError::NotFound)
}

async fn collection(call: &mut Call) -> Answer {
    if call.method == Method::POST { create(call).await } else { list(call, None).await }
}

async fn search(call: &mut Call) -> Answer {
    let text = call.query().last("target").filter(|text| !text.is_empty()).map(str::to_owned);
    list(call, text).await
}

async fn list(call: &Call, target_contains: Option<String>) -> Answer {
    let query = call.query();
    let newest_first = OrderBy { field: EndpointField::CreatedAt, descending: true };
    let ordering = query.ordering(ordering_field, newest_first);
    let asked = PageRequest::new(query);
    let (limit, offset) = (asked.limit(), asked.offset());
    let tenant = call.credential()?.tenant.id;
    let query = EndpointQuery { target_contains, ordering, limit, offset };
    let found = call.api.app.store.endpoints(tenant, query).await?;
    let results = found.items.iter().map(Shown::from).collect();
    Ok(answer::json(StatusCode::OK, &asked.page(&call.url(), found.count, results)))
}

fn ordering_field(name: &str) -> Option<EndpointField> {
    match name {
        "created_at" => Some(EndpointField::CreatedAt),
        "updated_at" => Some(EndpointField::UpdatedAt),
        "is_active" => Some(EndpointField::IsActive),
        _ => None,
    }
}

async fn create(call: &mut Call) -> Answer {
    let body = call.read_body().await?;
    let (tenant, by) = (call.tenant()?, call.by()?);
    let written =
        Written::read(&body, &tenant, &[], call.api.app.egress.policy(), Manner::Creates)?;
    // `read` has refused a body without the required fields.
    let (Some(target), Some(event_types)) = (written.target, written.event_types) else {
        return Err(ApiError::Internal("a required field got lost".into()));
    };
    check_names(call, Some(&target)).await?;
    let draft = EndpointDraft {
        is_active: written.is_active.unwrap_or(true),
        target,
        description: written.description.unwrap_or_default(),
        event_types,
        ssl_cert_verification: written.ssl_cert_verification.unwrap_or(true),
        signature_algorithms: written.signature_algorithms.unwrap_or_default(),
        secret: written.signing_secret,
    };
    let endpoint = call.api.app.admin.create_endpoint(tenant.id, draft, by).await?;
    shown(StatusCode::CREATED, &endpoint)
}

async fn one(call: &mut Call) -> Answer {
    let endpoint = look_up(call).await?;
    if call.method == Method::DELETE {
        delete(call, endpoint.id).await
    } else if call.method == Method::PUT || call.method == Method::PATCH {
        update(call, endpoint).await
    } else {
        shown(StatusCode::OK, &endpoint)
    }
}

async fn update(call: &mut Call, endpoint: Endpoint) -> Answer {
    let body = call.read_body().await?;
    let (tenant, by) = (call.tenant()?, call.by()?);
    let manner = if call.method == Method::PUT { Manner::Replaces } else { Manner::Changes };
    let enabled = &endpoint.subscriptions;
    let egress = call.api.app.egress.policy();
    let written = Written::read(&body, &tenant, enabled, egress, manner)?;
    check_names(call, written.target.as_ref()).await?;
    let change = EndpointChange {
        is_active: written.is_active,
        target: written.target,
        description: written.description,
        event_types: written.event_types,
        ssl_cert_verification: written.ssl_cert_verification,
        signature_algorithms: written.signature_algorithms,
        key: None,
    };
    let admin = &call.api.app.admin;
    let changed = admin.update_endpoint(tenant.id, endpoint.id, change, by).await?;
    shown(StatusCode::OK, &changed.ok_or(ApiError::NotFound)?)
}

/// Refuses a target whose name leads to a place that the egress policy forbids. It may lead elsewhere tomorrow: it is
/// resolved, and judged, for each connection.
async fn check_names(call: &Call, target: Option<&Target>) -> Result<(), ApiError> {
    let Some(target) = target else { return Ok(()) };
    let checked = call.api.app.egress.check(target).await;
    checked.map_err(|forbidden| ApiError::of_field("target", forbidden.to_string()))
}

async fn delete(call: &Call, id: EndpointId) -> Answer {
    let tenant = call.credential()?.tenant.id;
    let was_there = call.api.app.admin.delete_endpoint(tenant, id, call.by()?).await?;
    if was_there { Ok(answer::no_content()) } else { Err(ApiError::NotFound) }
}

/// What a body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// POST: required fields must be there, and the first secret may.
    Creates,
    /// PUT: required fields must be there.
    Replaces,
    /// PATCH: any field may be missing.
    Changes,
}

/// What a client wrote of an endpoint.
#[derive(Debug)]
struct Written {
    is_active: Option<bool>,
    target: Option<Target>,
    description: Option<String>,
    event_types: Option<Vec<EventType>>,
    ssl_cert_verification: Option<bool>,
    signature_algorithms: Option<SignatureAlgorithms>,
    signing_secret: Option<SigningSecret>,
}

impl Written {
    /// Reads a body. `enabled` are the event types that the endpoint has already, which it may keep though they are
    /// retired.
    fn read(
        body: &[u8],
        tenant: &TenantView,
        enabled: &[Subscription],
        egress: &EgressPolicy,
        manner: Manner,
    ) -> Result<Self, ApiError> {
        let choice = |name: &str| {
            let offered = tenant.offered().map(|entry| &entry.event_type);
            let enabled = enabled.iter().map(|subscription| &subscription.event_type);
            offered.chain(enabled).find(|known| known.as_str() == name).cloned()
        };
        Self::read_form(Form::parse(body, FIELDS)?, egress, choice, manner).map_err(Into::into)
    }

    fn read_form(
        mut form: Form<'_, 7>,
        egress: &EgressPolicy,
        choice: impl Fn(&str) -> Option<EventType>,
        manner: Manner,
    ) -> Result<Self, FieldErrors> {
        let description =
            TextRule { length_max: DESCRIPTION_LENGTH_MAX, may_be_blank: true, trims: true };
        let target = |value| target(value, egress);
        let events = |value| event_types(value, &choice);
        let requires = manner != Manner::Changes;
        let written = Self {
            is_active: form.optional("is_active", input::boolean),
            target: match requires {
                true => form.required("target", target),
                false => form.optional("target", target),
            },
            description: form.optional("description", |value| {
                input::text(value, description).map(|text| text.into_owned())
            }),
            event_types: match requires {
                true => form.required("events", events),
                false => form.optional("events", events),
            },
            ssl_cert_verification: form.optional("ssl_cert_verification", input::boolean),
            signature_algorithms: form.optional("signature_algorithms", signature_algorithms),
            signing_secret: match manner {
                Manner::Creates => form.optional("signing_secret", secrets::signing_secret),
                // A secret that is there is replaced by an expire, or by one that is brought along.
                Manner::Replaces | Manner::Changes => None,
            },
        };
        form.finish().map(|()| written)
    }
}

/// Converts `target`: a URL that may be called.
fn target(value: Json<'_>, egress: &EgressPolicy) -> Result<Target, Problem> {
    let rule = TextRule { length_max: TARGET_LENGTH_MAX, may_be_blank: false, trims: true };
    let text = input::text(value, rule)?;
    let target = Target::parse(&text).map_err(|invalid| match invalid {
        InvalidTarget::TooLong => Problem::text(input::too_long(TARGET_LENGTH_MAX)),
        InvalidTarget::NotAUrl => Problem::text("Enter a valid URL."),
        InvalidTarget::HasCredentials => Problem::text(
            "A target has no user or password: everybody who sees the endpoint would see them.",
        ),
    })?;
    // What can't be written as a request can't be sent; the headers' names don't matter for that.
    let any_header = (HeaderName::from_static("x"), HeaderValue::from_static("x"));
    RequestTemplate::new(&target, any_header.0, any_header.1)
        .map_err(|_| Problem::text("Enter a valid URL."))?;
    egress.check_target(&target).map_err(|forbidden| Problem::text(forbidden.to_string()))?;
    Ok(target)
}

/// Converts `signature_algorithms`: their names, in any order.
fn signature_algorithms(value: Json<'_>) -> Result<SignatureAlgorithms, Problem> {
    let items = value.items().map_err(Problem::text)?;
    let mut names = Vec::new();
    for item in items {
        let name = item.text().filter(|name| SignatureAlgorithms::of_names([&**name]).is_some());
        names.push(name.ok_or_else(|| input::not_a_choice(item))?);
    }
    let algorithms = SignatureAlgorithms::of_names(names.iter().map(|name| &**name));
    algorithms.ok_or_else(|| Problem::text(input::EMPTY_LIST))
}

/// Converts `events`: which types, each once, in their order.
fn event_types(
    value: Json<'_>,
    choice: impl Fn(&str) -> Option<EventType>,
) -> Result<Vec<EventType>, Problem> {
    let read = |form: &mut Form<'_, 1>| {
        form.required("type", |value| {
            // A lone surrogate is the one text that no choice can be shown for.
            let is_text = value.kind() != input::Kind::Str || value.text().is_some();
            if !is_text {
                return Err(Problem::text("Not a valid string."));
            }
            let known = value.text().and_then(|name| choice(&name));
            known.ok_or_else(|| input::not_a_choice(value))
        })
    };
    let mut distinct = Vec::new();
    for event_type in form::objects(value, ["type"], read)? {
        if !distinct.contains(&event_type) {
            distinct.push(event_type);
        }
    }
    Ok(distinct)
}

#[cfg(test)]
#[path = "endpoints_tests.rs"]
mod tests;
