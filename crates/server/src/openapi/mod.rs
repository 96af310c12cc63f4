//! The OpenAPI 3.1 document of `/api/v1`, made from the route table, `describe` and the wire types.
//!
//! Invariant: it says nothing of its own about a route. Path, method and role come from `routes::API`, schemas from the types that
//! are parsed and answered; a route without a description does not compile.

mod describe;

use std::sync::LazyLock;

use bytes::Bytes;
use grantd_wire::{Code, api, limits};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::api::version::{is_checked, is_tagged};
use crate::routes::{API, Api, ApiRoute};
use describe::{Answered, Operation, Query};

/// Where the document is served. Nothing in it is secret, so that generators of clients need no token.
pub const PATH: &str = "/api/v1/openapi.json";

/// Codes that any route may answer.
const ANY: [Code; 13] = [
    Code::InvalidRequest,
    Code::SessionRequired,
    Code::RoleRequired,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::EncodingUnsupported,
    Code::RateLimitExceeded,
    Code::Internal,
    Code::StorageUnavailable,
    Code::AuditUnavailable,
    Code::Busy,
    Code::Draining,
    Code::ClockRollback,
];

/// The document as it is served and checked in: indented, ending in a line feed.
pub fn text() -> Bytes {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
        let mut text = serde_json::to_string_pretty(&document()).expect("a value has a JSON form");
        text.push('\n');
        Bytes::from(text)
    });
    TEXT.clone()
}

/// The document.
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for route in API {
        let names = parameter_names(route.path);
        let path =
            names.iter().fold(route.path.to_owned(), |path, name| path.replacen("{}", &format!("{{{name}}}"), 1));
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[route.method.to_ascii_lowercase()] = operation(route, &names, &mut schemas);
    }
    paths.insert(PATH.to_owned(), json!({"get": own_operation()}));
    let responses = std::mem::take(&mut schemas.refusals);
    let tags: Vec<Value> =
        describe::TAGS.iter().map(|(name, what)| json!({"name": name, "description": what})).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "grantd management API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What operators and automation call: apps, keys, managed secrets, grants and the audit trail. \
                Applications call `/sdk` instead, through a client library. docs/management-api.md explains \
                authentication, roles, errors and paging.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The server that gave this document"}],
        "security": [{"pat": []}],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": {"pat": {
                "type": "http",
                "scheme": "bearer",
                "description": "A personal access token, `grantd_pat_…`: `grantd tokens create` makes one.",
            }},
            "responses": responses,
            "schemas": schemas.finish(),
        },
    })
}

/// Whether a call of `route` may have the parameter `name` in its query, as far as its type does not know that by itself.
pub fn takes(route: Api, name: &str) -> bool {
    match describe::describe(route).query {
        Query::Only(_, names) => names.contains(&name),
        Query::Nothing | Query::All(_) => true,
    }
}

/// What the segments `{}` of a path are called.
fn parameter_names(path: &str) -> Vec<String> {
    let segments: Vec<&str> = path.split('/').collect();
    let name = |pair: &[&str]| match (pair[0], pair[1]) {
        ("identity-providers", "{}") => Some("identity_provider_id".to_owned()),
        ("connect-sessions", "{}") => Some("session_id".to_owned()),
        ("managed-secrets", "{}") => Some("secret".to_owned()),
        ("provider-catalog", "{}") => Some("provider_id".to_owned()),
        ("providers", "{}") => Some("provider".to_owned()),
        ("secret-templates", "{}") => Some("template_id".to_owned()),
        (plural, "{}") => Some(format!("{}_id", plural.trim_end_matches('s'))),
        _ => None,
    };
    segments.windows(2).filter_map(name).collect()
}

/// Schemas of what is taken and given, by the name of the type.
struct Schemas {
    taken: SchemaGenerator,
    given: SchemaGenerator,
    /// Refusals, by status and codes: most are common to all routes.
    refusals: Map<String, Value>,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|s| {
                s.meta_schema = None;
                s.definitions_path = "/components/schemas".into();
            })
        };
        Self {
            taken: settings().for_deserialize().into_generator(),
            given: settings().for_serialize().into_generator(),
            refusals: Map::new(),
        }
    }

    fn finish(mut self) -> Map<String, Value> {
        let mut all = self.given.take_definitions(true);
        for (name, schema) in self.taken.take_definitions(true) {
            let known = all.entry(name.clone()).or_insert_with(|| schema.clone());
            assert!(*known == schema, "`{name}` is taken in another form than it is given: make it two types");
        }
        all.insert("Error".to_owned(), error_schema());
        all
    }
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "description": "Why a request was refused. Codes are stable; messages are for people.",
        "required": ["error", "message"],
        "properties": {
            "error": {"type": "string", "description": "The code.", "examples": ["invalid_value"]},
            "message": {"type": "string", "description": "What is wrong."},
            "hint": {"type": "string", "description": "What to do next."},
            "details": {"type": "object", "description": "What the message speaks of, such as `field`."},
        },
    })
}

fn operation(route: &ApiRoute, names: &[String], schemas: &mut Schemas) -> Value {
    let told: Operation = describe::describe(route.route);
    let mut parameters: Vec<Value> = names.iter().map(|name| path_parameter(name)).collect();
    parameters.extend(query_parameters(&told.query, schemas));
    if is_checked(route.route) {
        parameters.push(if_match_parameter());
    }
    if told.is_once {
        parameters.push(idempotency_key());
    }
    let mut operation = json!({
        "operationId": told.id,
        "tags": [told.tag],
        "summary": told.summary,
        "description": format!("{} Needs the role `{}`.", told.description, route.role.as_str()).trim_start(),
        "x-role": route.role.as_str(),
        "parameters": parameters,
        "responses": responses(route, &told, schemas),
    });
    if let Some(body) = &told.body {
        let mut content = json!({"schema": (body.schema)(&mut schemas.taken)});
        if let Some(example) = body.example {
            content["example"] = serde_json::from_str(example).expect("an example is JSON");
        }
        operation["requestBody"] = json!({"required": body.required, "content": {"application/json": content}});
    }
    operation
}

fn if_match_parameter() -> Value {
    json!({
        "name": "If-Match",
        "in": "header",
        "required": false,
        "description": "ETags of the object, or `*`. In another state it is not changed, and the answer is 409 `version_conflict`.",
        "schema": {"type": "string", "pattern": "^(\\*|\"[!#-~]*\"(, \"[!#-~]*\")*)$"},
    })
}

fn path_parameter(name: &str) -> Value {
    let what = match name {
        "secret" => "Id or slug of the managed secret.",
        "provider" => "Id of the row, or of the provider, such as `google`.",
        "template_id" => "Id of the template, such as `stripe`.",
        _ => "Id of the object: a UUID in lower case. Any other text names nothing, and is 404.",
    };
    json!({"name": name, "in": "path", "required": true, "description": what, "schema": {"type": "string", "minLength": 1}})
}

fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "Names this request. Sent again under it within 24 hours, nothing is done again and the first answer is given again.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": limits::IDEMPOTENCY_KEY_CHARS_MAX,
            "pattern": "^[!-~]+$",
        },
    })
}

/// The parameters of a query, from the type it is parsed into.
fn query_parameters(query: &Query, schemas: &mut Schemas) -> Vec<Value> {
    let (schema, names): (schemars::Schema, Option<&[&str]>) = match query {
        Query::Nothing => return Vec::new(),
        Query::All(schema) => (schema(&mut schemas.taken), None),
        Query::Only(schema, names) => (schema(&mut schemas.taken), Some(names)),
    };
    let properties = schema.as_value()["properties"].as_object().cloned().unwrap_or_default();
    let is_taken = |name: &str| names.is_none_or(|names| names.contains(&name));
    let parameter = |(name, mut schema): (String, Value)| {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let description = match name.as_str() {
            "limit" => Some(json!(format!("Items of a page; {} when absent.", limits::PAGE_DEFAULT))),
            "offset" => Some(json!("Items to skip. What lies further is found with a filter.")),
            "cursor" => Some(json!("`next_cursor` of the page before.")),
            _ => description,
        };
        let schema = match name.as_str() {
            "limit" => {
                json!({"type": "integer", "minimum": 1, "maximum": limits::PAGE_MAX, "default": limits::PAGE_DEFAULT})
            }
            "offset" => json!({"type": "integer", "minimum": 0, "maximum": limits::OFFSET_MAX, "default": 0}),
            _ => without_null(schema),
        };
        let mut parameter = json!({"name": name, "in": "query", "required": false, "schema": schema});
        if let Some(description) = description {
            parameter["description"] = description;
        }
        parameter
    };
    properties.into_iter().filter(|(name, _)| is_taken(name)).map(parameter).collect()
}

/// A parameter is left out, never null.
fn without_null(mut schema: Value) -> Value {
    if let Some(types) = schema["type"].as_array() {
        schema["type"] = types.iter().find(|kind| **kind != "null").cloned().unwrap_or_default();
    } else if let Some(forms) = schema["anyOf"].as_array() {
        schema = forms.iter().find(|form| form["type"] != "null").cloned().unwrap_or_default();
    }
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("default");
    }
    schema
}

/// Every code the route may answer.
fn codes(route: &ApiRoute, told: &Operation) -> Vec<Code> {
    let mut codes = ANY.to_vec();
    if route.path.contains("{}") {
        codes.push(Code::NotFound);
    }
    if route.method != "GET" && route.path.contains("{}") {
        codes.push(Code::Conflict);
    }
    if is_checked(route.route) {
        codes.push(Code::VersionConflict);
    }
    // A text of either may hold what no text may.
    if told.is_once {
        // The key may be one of another request, and its answer may not open.
        codes.extend([Code::InvalidValue, Code::Conflict, Code::KeyUnavailable]);
    }
    if told.body.is_some() || !matches!(told.query, Query::Nothing) {
        codes.push(Code::InvalidValue);
    }
    codes.extend(told.codes);
    codes.sort_by_key(|code| (code.status(), code.as_str()));
    codes.dedup();
    codes
}

fn responses(route: &ApiRoute, told: &Operation, schemas: &mut Schemas) -> Value {
    let content = match &told.answer {
        Answered::Json(schema) => json!({"application/json": {"schema": schema(&mut schemas.given)}}),
        Answered::Export => json!({
            "application/jsonl": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
        }),
    };
    let mut responses = Map::new();
    let mut headers = json!({"X-Request-Id": request_id()});
    if told.is_once {
        headers["Idempotency-Replayed"] = json!({
            "description": "`true` when this is the answer to an earlier request under the same `Idempotency-Key`.",
            "schema": {"type": "string", "enum": ["true"]},
        });
    }
    if is_tagged(route.route) {
        let what = "Stands for the object in this state: send it back as `If-Match`.";
        headers["ETag"] = json!({"description": what, "schema": {"type": "string"}});
    }
    responses.insert(told.status.to_string(), json!({"description": "Done.", "headers": headers, "content": content}));
    for (status, codes) in by_status(&codes(route, told)) {
        let texts: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        let name = format!("{status}.{}", texts.join("."));
        responses.insert(status.to_string(), json!({"$ref": format!("#/components/responses/{name}")}));
        schemas.refusals.entry(name).or_insert_with(|| refusal(status, &codes));
    }
    Value::Object(responses)
}

fn refusal(status: u16, codes: &[Code]) -> Value {
    let texts: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    let lines: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.message())).collect();
    let schema = json!({
        "allOf": [{"$ref": "#/components/schemas/Error"}],
        "properties": {"error": {"enum": texts}},
    });
    let mut refusal = json!({
        "description": lines.join("\n\n"),
        "headers": {"X-Request-Id": request_id()},
        "content": {"application/json": {"schema": schema}},
    });
    if matches!(status, 429 | 503) {
        refusal["headers"]["Retry-After"] =
            json!({"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}});
    }
    refusal
}

fn request_id() -> Value {
    json!({"description": "Names this request in logs and events.", "schema": {"type": "string"}})
}

fn by_status(codes: &[Code]) -> Vec<(u16, Vec<Code>)> {
    let mut groups: Vec<(u16, Vec<Code>)> = Vec::new();
    for code in codes {
        match groups.last_mut() {
            Some((status, group)) if *status == code.status() => group.push(*code),
            _ => groups.push((code.status(), vec![*code])),
        }
    }
    groups
}

fn own_operation() -> Value {
    json!({
        "operationId": "showOpenapi",
        "tags": ["about"],
        "summary": "Shows this document",
        "description": "Needs no token.",
        "security": [],
        "parameters": [],
        "responses": {"200": {"description": "Done.", "content": {"application/json": {"schema": {"type": "object"}}}}},
    })
}

/// An audit event, which has the fields of its kind.
fn event_schema(_: &mut SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "An audit event: core and private fields, flat, plus `hash`. Absent fields are left out.",
        "required": ["id", "at", "kind", "outcome", "hash"],
        "properties": {
            "id": {"type": "string"},
            "at": {"type": "string", "format": "date-time"},
            "kind": {"type": "string", "examples": ["token.released"]},
            "outcome": {"enum": ["allowed", "denied", "parked", "error", "unknown"]},
            "hash": {"type": "string"},
        },
    })
}

/// A page of events.
fn events_schema(generator: &mut SchemaGenerator) -> schemars::Schema {
    let mut page = generator.subschema_for::<api::CursorPage<api::Event>>();
    page.insert("description".to_owned(), json!("Newest first."));
    page
}
