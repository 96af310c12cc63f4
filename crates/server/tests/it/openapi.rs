//! The OpenAPI document: it says what the route table says, and what is checked in is what the code makes.

use std::collections::BTreeSet;

use grantd_server::openapi;
use grantd_server::routes::API;
use grantd_wire::Code;
use serde_json::Value;

use crate::harness::{Raw, Server, api_request};

in_memory! {
    the_document_is_served_without_a_token,
    every_list_keeps_the_bounds_of_a_page,
    a_filter_of_another_list_is_refused,
}

pub fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let item = item.as_object().unwrap().clone();
        item.into_iter().map(|(method, operation)| (method.to_uppercase(), path.clone(), operation)).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

/// `{name}` as the route table writes it.
pub fn pattern(path: &str) -> String {
    let segment = |s: &str| if s.starts_with('{') { "{}".to_owned() } else { s.to_owned() };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

async fn the_document_is_served_without_a_token(server: Server) {
    let answer = server.send(Raw::new("GET", openapi::PATH, "")).await;
    assert_eq!((answer.status, answer.text.as_bytes()), (200, &openapi::text()[..]));
    server.send(Raw::new("POST", openapi::PATH, "")).await.refused(Code::MethodNotAllowed);
}

async fn every_list_keeps_the_bounds_of_a_page(server: Server) {
    let world = server.world().await;
    let document = openapi::document();
    let (mut by_offset, mut by_cursor) = (0, 0);
    for (method, path, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let takes = |name: &str| {
            let named =
                |p: &Value| p["name"] == name || p["$ref"].as_str().is_some_and(|r| r.ends_with(&format!("/{name}")));
            parameters.iter().any(named)
        };
        if method != "GET" || !takes("limit") {
            continue;
        }
        let path = path.replace("{app_id}", &world.app).replace("{secret}", &world.secret);
        assert!(!path.contains('{'), "{path}");
        let paged =
            [("offset=0", 200), ("offset=10000", 200), ("offset=10001", 400), ("offset=-1", 400), ("offset=x", 400)];
        let offsets = if takes("offset") { &paged[..] } else { &[("offset=0", 400), ("cursor=x", 400)] };
        (by_offset, by_cursor) = (by_offset + usize::from(takes("offset")), by_cursor + usize::from(takes("cursor")));
        let limits = [("limit=1", 200), ("limit=1000", 200), ("limit=1001", 400), ("limit=0", 400), ("limit=-1", 400)];
        for (query, status) in limits.iter().chain(offsets) {
            let answer = server.send(api_request(&server.pat, "GET", &format!("{path}?{query}"), "")).await;
            assert_eq!(answer.status, *status, "{path}?{query}: {}", answer.text);
            if *status == 400 {
                answer.refused(Code::InvalidRequest);
            }
        }
    }
    assert!(by_offset >= 8 && by_cursor >= 2, "{by_offset} and {by_cursor} lists were found");
}

/// One that is ignored would answer more than was asked for.
async fn a_filter_of_another_list_is_refused(server: Server) {
    let world = server.world().await;
    let document = openapi::document();
    let in_query = |operation: &Value| -> BTreeSet<String> {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let names = parameters.iter().filter(|p| p["in"] == "query").map(|p| p["name"].as_str().unwrap().to_owned());
        names.collect()
    };
    let gets = || operations(&document).into_iter().filter(|(method, ..)| method == "GET");
    let known: BTreeSet<String> = gets().flat_map(|(.., operation)| in_query(&operation)).collect();
    for name in ["idp", "user", "status", "search", "provider", "upstream", "request", "format", "operator"] {
        assert!(known.contains(name), "{name}");
    }
    let (mut lists, mut refused) = (0, 0);
    for (_, path, operation) in gets() {
        let taken = in_query(&operation);
        if taken.is_empty() {
            continue;
        }
        lists += 1;
        let path = path.replace("{app_id}", &world.app).replace("{secret}", &world.secret);
        assert!(!path.contains('{'), "{path}");
        for name in &known {
            let answer = server.send(api_request(&server.pat, "GET", &format!("{path}?{name}=x"), "")).await;
            match taken.contains(name) {
                // A value that is none may be refused, but not as a name that is none.
                true => assert!(!answer.text.contains("no such field"), "{path}?{name}: {}", answer.text),
                false => {
                    answer.names(Code::InvalidRequest, name);
                    refused += 1;
                }
            }
        }
    }
    assert!(lists >= 20 && refused > 200, "{lists} lists, {refused} refusals");
    let escaped = format!("{}?%69dp=x", world.path("grants"));
    server.send(api_request(&server.pat, "GET", &escaped, "")).await.names(Code::InvalidRequest, "idp");
}

#[test]
fn what_is_checked_in_is_what_the_code_makes() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let kept = std::fs::read_to_string(kept).unwrap_or_default();
    let made = openapi::text();
    assert!(
        kept.as_bytes() == &made[..],
        "docs/openapi.json is old: cargo run -p grantd -- openapi > docs/openapi.json"
    );
}

#[test]
fn the_page_has_each_route_with_its_role_and_no_other() {
    let page = include_str!("../../../../docs/management-api.md");
    let told: BTreeSet<&str> = page.lines().filter(|line| line.contains("| `/api/v1/")).collect();
    let rows: Vec<String> =
        API.iter().map(|r| format!("| {} | `{}` | {} |", r.method, r.path, r.role.as_str())).collect();
    assert_eq!(told, rows.iter().map(String::as_str).collect());
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = openapi::document();
    let own = ("GET".to_owned(), openapi::PATH.to_owned());
    let described: BTreeSet<_> = operations(&document).into_iter().map(|(m, path, _)| (m, pattern(&path))).collect();
    let mut routes: BTreeSet<_> = API.iter().map(|r| (r.method.to_owned(), r.path.to_owned())).collect();
    assert!(routes.insert(own));
    assert_eq!(described, routes);
}

#[test]
fn every_operation_is_complete() {
    let document = openapi::document();
    let tags: Vec<&Value> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let what = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{what}: operationId");
        assert!(tags.contains(&&operation["tags"][0]), "{what}: tag");
        assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty() && !s.ends_with('.')), "{what}: summary");
        if path == openapi::PATH {
            continue;
        }
        let route = API.iter().find(|r| r.method == method && r.path == pattern(&path)).unwrap();
        assert_eq!(operation["x-role"], route.role.as_str(), "{what}");
        let named: BTreeSet<_> = path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}')).collect();
        let parameters = operation["parameters"].as_array().unwrap();
        let in_path: BTreeSet<_> =
            parameters.iter().filter(|p| p["in"] == "path").map(|p| p["name"].as_str().unwrap()).collect();
        assert_eq!(in_path, named, "{what}");
        assert_eq!(named.len(), route.path.matches("{}").count(), "{what}: two parameters of one name");
        for (status, response) in operation["responses"].as_object().unwrap() {
            let named = response["$ref"].as_str().and_then(|name| document.pointer(name.trim_start_matches('#')));
            let response = named.unwrap_or(response);
            let content = response["content"].as_object().unwrap();
            assert!(content.values().all(|c| c["schema"].is_object()), "{what}: {status}");
            for code in response["content"]["application/json"]["schema"]["properties"]["error"]["enum"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let code = Code::parse(code.as_str().unwrap()).unwrap();
                assert_eq!(code.status().to_string(), *status, "{what}");
            }
        }
    }
}

#[test]
fn what_names_a_schema_finds_it() {
    fn named(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|v| named(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| named(v, found)),
            _ => {}
        }
    }
    let document = openapi::document();
    let mut found = BTreeSet::new();
    named(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for name in found {
        assert!(document.pointer(name.trim_start_matches('#')).is_some(), "{name}");
    }
    // A value is a secret: nothing that is answered has one.
    assert!(document.pointer("/components/schemas/Secret/properties/value").is_none());
}
