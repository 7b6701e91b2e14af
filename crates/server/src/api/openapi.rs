//! The OpenAPI 3.1 document: what the routes' tables say of themselves, put together. It is served at `/api/openapi.json`,
//! printed by `postrider openapi`, and held against real answers by the tests.
//!
//! What a method takes and answers stands beside its route, as an [`Operation`]. What follows from the route is added here:
//! the path's parameters, who may, and the ways in which a request can fail before its resource sees it. Schemas are those of
//! the types that are served.

use std::{collections::BTreeMap, sync::OnceLock, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Method, StatusCode};
use postrider_kernel::Role;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{
    access::Access,
    answer::{self, Answer},
    door::{Call, Route},
    error::{ApiError, FieldErrors, Problem},
};
use crate::config::Catalogue;

/// The path of this resource.
pub const ROUTES: &[Route] =
    &[Route::new("/api/openapi.json", &["GET"], Access::Open, |call| serve(call).boxed())
        .documented(&[Operation::get("readDocument", "This document").answers_any(200)])];

/// One method of a path, as the document describes it.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// The method.
    pub method: &'static str,
    id: &'static str,
    summary: &'static str,
    parameters: &'static [Parameter],
    body: Option<Body>,
    status: u16,
    answer: Option<Schema>,
    /// A status that has the same shape.
    or: Option<u16>,
    errors: &'static [u16],
}

/// A parameter of the query, or a header.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    place: &'static str,
    name: &'static str,
    describes: &'static str,
    kind: &'static str,
}

#[derive(Clone, Copy, Debug)]
struct Body {
    schema: Schema,
    is_required: bool,
}

/// Writes a type's schema among the components, and answers how it is referred to.
type Schema = fn(&mut Components) -> Value;

/// The schemas that are referred to, by name.
type Components = BTreeMap<String, Value>;

/// The parameters of every list.
pub const PAGE: [Parameter; 2] = [
    Parameter::query("limit", "At most so many, 20 unless given, and never more than 100."),
    Parameter::query("offset", "After so many."),
];

impl Parameter {
    /// A text in the query; what makes no sense counts as not given.
    pub const fn query(name: &'static str, describes: &'static str) -> Self {
        Self { place: "query", name, describes, kind: "string" }
    }

    /// A request's header.
    pub const fn header(name: &'static str, describes: &'static str) -> Self {
        Self { place: "header", name, describes, kind: "string" }
    }

    fn shown(&self) -> Value {
        let Self { place, name, describes, kind } = self;
        json!({"in": place, "name": name, "description": describes, "schema": {"type": kind}})
    }
}

impl Operation {
    const fn new(method: &'static str, id: &'static str, summary: &'static str) -> Self {
        let (parameters, body, answer, errors): (&[_], _, _, &[_]) = (&[], None, None, &[]);
        Self { method, id, summary, parameters, body, status: 204, answer, or: None, errors }
    }

    /// GET. `id` is unique in the document.
    pub const fn get(id: &'static str, summary: &'static str) -> Self {
        Self::new("GET", id, summary)
    }

    /// POST.
    pub const fn post(id: &'static str, summary: &'static str) -> Self {
        Self::new("POST", id, summary)
    }

    /// PUT.
    pub const fn put(id: &'static str, summary: &'static str) -> Self {
        Self::new("PUT", id, summary)
    }

    /// PATCH.
    pub const fn patch(id: &'static str, summary: &'static str) -> Self {
        Self::new("PATCH", id, summary)
    }

    /// DELETE.
    pub const fn delete(id: &'static str, summary: &'static str) -> Self {
        Self::new("DELETE", id, summary)
    }

    /// What may be given beside the path and the body.
    pub const fn with(self, parameters: &'static [Parameter]) -> Self {
        Self { parameters, ..self }
    }

    /// The body that it needs.
    pub const fn takes<T: ToSchema>(self) -> Self {
        Self { body: Some(Body { schema: reference::<T>, is_required: true }), ..self }
    }

    /// The body that it needs is a list of these.
    pub const fn takes_many<T: ToSchema>(self) -> Self {
        Self { body: Some(Body { schema: list_of::<T>, is_required: true }), ..self }
    }

    /// The body that it may have.
    pub const fn may_take<T: ToSchema>(self) -> Self {
        Self { body: Some(Body { schema: reference::<T>, is_required: false }), ..self }
    }

    /// What it answers when all is well. Without this it is 204 and nothing.
    pub const fn answers<T: ToSchema>(self, status: u16) -> Self {
        Self { status, answer: Some(reference::<T>), ..self }
    }

    /// It answers a bare list of these.
    pub const fn answers_many<T: ToSchema>(self, status: u16) -> Self {
        Self { status, answer: Some(list_of::<T>), ..self }
    }

    /// It answers a page of these.
    pub const fn answers_page<T: ToSchema>(self) -> Self {
        Self { status: 200, answer: Some(page_of::<T>), ..self }
    }

    /// It answers an object of which no more is said.
    pub const fn answers_any(self, status: u16) -> Self {
        Self { status, answer: Some(|_| json!({"type": "object"})), ..self }
    }

    /// It may answer that with the same shape.
    pub const fn or(self, status: u16) -> Self {
        Self { or: Some(status), ..self }
    }

    /// How it may fail besides the ways that follow from its route.
    pub const fn fails(self, errors: &'static [u16]) -> Self {
        Self { errors, ..self }
    }
}

fn reference<T: ToSchema>(components: &mut Components) -> Value {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    parts.push((T::name().into_owned(), T::schema()));
    for (name, schema) in parts {
        // A schema is made of strings and numbers, and so can always be written.
        components.insert(name, serde_json::to_value(schema).unwrap_or_default());
    }
    json!({"$ref": format!("#/components/schemas/{}", T::name())})
}

fn list_of<T: ToSchema>(components: &mut Components) -> Value {
    json!({"type": "array", "items": reference::<T>(components)})
}

fn page_of<T: ToSchema>(components: &mut Components) -> Value {
    json!({
        "type": "object",
        "required": ["count", "next", "previous", "results"],
        "properties": {
            "count": {"type": "integer", "minimum": 0, "description": "How many there are in all."},
            "next": {"type": ["string", "null"], "format": "uri"},
            "previous": {"type": ["string", "null"], "format": "uri"},
            "results": list_of::<T>(components),
        },
    })
}

async fn serve(_: &mut Call) -> Answer {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| document().to_string().into());
    Ok(answer::raw_json(StatusCode::OK, text.clone()))
}

/// The document.
pub fn document() -> Value {
    let mut components = Components::new();
    let mut paths = Map::new();
    for route in super::ROUTES.iter().copied().flatten() {
        let operations = route.operations.iter().map(|operation| {
            let described = describe(route, operation, &mut components);
            (operation.method.to_ascii_lowercase(), described)
        });
        let operations: Map<String, Value> = operations.collect();
        paths.insert(shown_path(route), operations.into());
    }
    let webhooks = webhooks(&mut components);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Postrider",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Webhooks: endpoints, their secrets and attempts, and the events that are sent to them. \
                Every error is JSON: `{\"detail\": …}` when it concerns the request, `{\"field\": [\"…\"]}` when it \
                concerns fields. Every answer carries `X-Request-Id`.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "webhooks": webhooks,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API token (`prt_…`) or a JWT of the tenant. The scheme `Token` means the same.",
                },
            },
        },
    })
}

/// The contract's paths end in a slash; the others don't.
fn shown_path(route: &Route) -> String {
    let slash = if route.path.starts_with("/api/v2/") { "/" } else { "" };
    format!("{}{slash}", route.path)
}

fn describe(route: &Route, operation: &Operation, components: &mut Components) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [tag(route)],
        "parameters": parameters(route, operation),
        "responses": responses(route, operation, components),
        "security": [],
    });
    if route.access.needs_credential() {
        described["security"] = json!([{"bearer": []}]);
        described["description"] = format!("For {}.", who_may(route, operation.method)).into();
    }
    if let Some(body) = operation.body {
        let content = json!({"application/json": {"schema": (body.schema)(components)}});
        described["requestBody"] = json!({"required": body.is_required, "content": content});
    }
    described
}

/// What a path is about: the part that names its resource.
fn tag(route: &Route) -> &'static str {
    let parts = route.path.split('/').filter(|part| !part.is_empty() && !part.starts_with('{'));
    let parts: Vec<_> = parts.filter(|part| !matches!(*part, "api" | "v2" | "webhook")).collect();
    match parts[..] {
        ["endpoint", "event"] => "event_type",
        ["endpoint", part @ ("attempt" | "secret" | "event"), ..] => part,
        [part, ..] => part,
        [] => "service",
    }
}

fn who_may(route: &Route, method: &str) -> String {
    let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
    let may = Role::ALL.into_iter().filter(|role| route.access.allows(*role, &method));
    may.map(|role| role.to_string()).collect::<Vec<_>>().join(", ")
}

fn parameters(route: &Route, operation: &Operation) -> Vec<Value> {
    let named = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let of_path = named.map(|name| {
        let schema = match name.ends_with("id") {
            true => json!({"type": "integer", "minimum": 1}),
            false => json!({"type": "string"}),
        };
        json!({"in": "path", "name": name, "required": true, "schema": schema})
    });
    let mut parameters: Vec<_> = of_path.collect();
    parameters.extend(operation.parameters.iter().map(Parameter::shown));
    if route.access.needs_credential() {
        let tenant = "The tenant that an operator acts in; `default` unless given.";
        parameters.push(Parameter::header("Postrider-Tenant", tenant).shown());
    }
    parameters
}

fn responses(route: &Route, operation: &Operation, components: &mut Components) -> Value {
    let mut responses = Map::new();
    for status in [Some(operation.status), operation.or].into_iter().flatten() {
        let reason = StatusCode::from_u16(status).unwrap_or_default().canonical_reason();
        let mut described = json!({"description": reason});
        if let Some(schema) = operation.answer {
            described["content"] = json!({"application/json": {"schema": schema(components)}});
        }
        if status == StatusCode::CREATED.as_u16() {
            described["links"] = links(route);
        }
        responses.insert(status.to_string(), described);
    }
    for error in errors(route, operation) {
        responses.entry(error.status().as_str()).or_insert_with(|| failure(&error));
    }
    responses.into()
}

/// Where what was made can be asked for: every operation whose path goes on with its id.
fn links(route: &Route) -> Value {
    let one = format!("{}/{{id}}", route.path);
    let routes =
        super::ROUTES.iter().copied().flatten().filter(|route| route.path.starts_with(&one));
    let operations = routes.flat_map(|route| route.operations);
    let links = operations.map(|operation| {
        let parameters = json!({"path.id": "$response.body#/id"});
        (operation.id.to_owned(), json!({"operationId": operation.id, "parameters": parameters}))
    });
    links.collect::<Map<_, _>>().into()
}

/// An error of each status that an operation may answer.
fn errors(route: &Route, operation: &Operation) -> Vec<ApiError> {
    let needs_credential = route.access.needs_credential();
    let mut errors = vec![ApiError::Internal(String::new())];
    if route.access != Access::Probe {
        errors.push(ApiError::NotAcceptable);
        errors.push(ApiError::Unavailable(String::new()));
    }
    if needs_credential {
        errors.extend([ApiError::NotAuthenticated, ApiError::PermissionDenied]);
        // Also of an operator who names a tenant that isn't there, or two.
        errors
            .extend([ApiError::NotFound, ApiError::BadRequest("The request is malformed.".into())]);
    }
    if operation.body.is_some() {
        let required = Problem::text("This field is required.");
        errors.push(ApiError::Invalid(FieldErrors::of("field", required)));
        errors.push(ApiError::UnsupportedMediaType("text/plain".into()));
        errors.extend([ApiError::BodyTooLarge(1_048_576), ApiError::BodyTooSlow]);
    }
    errors.extend(operation.errors.iter().filter_map(|status| match status {
        401 => Some(ApiError::TokenNotValid),
        422 => Some(ApiError::KeyReused),
        429 => Some(ApiError::Throttled(Duration::from_secs(30))),
        _ => None,
    }));
    errors
}

fn failure(error: &ApiError) -> Value {
    let schema = match error {
        // Of a request, of its fields, or of the items of a list.
        ApiError::BadRequest(_) | ApiError::Invalid(_) => json!({"type": ["object", "array"]}),
        _ => json!({
            "type": "object",
            "required": ["detail"],
            "properties": {"detail": {"type": "string"}, "code": {"type": "string"}},
        }),
    };
    json!({
        "description": error.status().canonical_reason(),
        "content": {"application/json": {"schema": schema, "example": error.example()}},
    })
}

/// What receivers get: a POST for each type of the catalogue that a new tenant begins with.
fn webhooks(components: &mut Components) -> Value {
    components.insert(
        "Payload".into(),
        json!({
            "type": "object",
            "required": ["event_id", "type", "created", "data"],
            "properties": {
                "event_id": {"type": "integer", "minimum": 1},
                "type": {"type": "string"},
                "created": {"type": "number", "description": "Seconds since 1970-01-01T00:00:00Z."},
                "data": {"type": "object", "description": "Byte for byte as it was published."},
            },
        }),
    );
    let header =
        |name, describes| Parameter { kind: "string", ..Parameter::header(name, describes) };
    let headers = [
        header(
            "Postrider-Signature",
            "`t=…,v1=…`: the time, and an HMAC-SHA256 in hex for each live secret.",
        ),
        header("webhook-id", "Standard Webhooks 1.0: the same on every attempt of an event."),
        header("webhook-timestamp", "Standard Webhooks 1.0: when this attempt was signed."),
        header(
            "webhook-signature",
            "Standard Webhooks 1.0: `v1,…` for each live secret, `v1a,…` by Ed25519.",
        ),
    ];
    let headers: Vec<_> = headers.iter().map(Parameter::shown).collect();
    let webhook = |(event_type, description): (postrider_kernel::EventType, String)| {
        let schema = json!({"allOf": [
            {"$ref": "#/components/schemas/Payload"},
            {"properties": {"type": {"const": event_type.as_str()}}},
        ]});
        let operation = json!({
            "summary": event_type.as_str(),
            "description": description,
            "parameters": headers,
            "requestBody": {"required": true, "content": {"application/json": {"schema": schema}}},
            "responses": {"2XX": {"description": "Acknowledged. Everything else is tried again."}},
        });
        (event_type.as_str().to_owned(), json!({"post": operation}))
    };
    // A test reads the built-in list.
    let types = Catalogue::BuiltIn.read().unwrap_or_default();
    types.into_iter().map(webhook).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{super::ROUTES, *};

    #[test]
    fn every_method_of_every_route_is_documented() {
        for route in ROUTES.iter().copied().flatten() {
            let documented: Vec<_> = route.operations.iter().map(|one| one.method).collect();
            assert_eq!(documented, route.methods, "{}", route.path);
        }
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let routes = ROUTES.iter().copied().flatten();
        let ids: Vec<_> = routes.flat_map(|route| route.operations).map(|one| one.id).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{ids:?}");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    fields.values().for_each(|value| check(value, document));
                }
                Value::Array(items) => items.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        let document = document();
        check(&document, &document);
        assert!(document["webhooks"]["comment.created"]["post"].is_object());
    }
}
