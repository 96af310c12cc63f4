//! The door: every request comes in here, gets its id, its route, its answer and its log line.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use futures_util::FutureExt as _;
use grantd_domain::env::new_uuid;
use grantd_wire::ids::{AppId, RequestId};
use grantd_wire::{Code, Error, limits};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri, header};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::answer::{Answer, json, raw, refusal};
use crate::caller::{self, Source, Told};
use crate::routes::{self, Found};
use crate::vault::Vault;
use crate::{api, flow, hosted, metrics, openapi, portal, scim, sdk, trace, webhook};

/// The whole HTTP surface.
pub fn router(vault: Arc<Vault>) -> Router {
    Router::new().fallback(enter).with_state(vault)
}

/// What the log line says beside method and status.
struct Seen {
    /// The route's pattern, never the path.
    route: &'static str,
    key_prefix: Option<String>,
    app_id: Option<AppId>,
}

async fn enter(State(vault): State<Arc<Vault>>, request: Request) -> Result<Answer, Infallible> {
    let (started, begun, _in_flight) = (vault.env.now(), Instant::now(), vault.meters.request());
    let (parts, body) = request.into_parts();
    let request_id = RequestId::from_uuid(new_uuid(&*vault.env));
    let method = parts.method.clone();
    let span = trace::request(&parts, request_id);
    let (mut told, mut seen) = (Told::default(), Seen { route: "(unknown)", key_prefix: None, app_id: None });
    let run = Box::pin(dispatch(&vault, parts, body, request_id, &mut told, &mut seen)).instrument(span.clone());
    let run = AssertUnwindSafe(run).catch_unwind().await;
    let mut answer = match run {
        Ok(Ok(answer)) => answer,
        Ok(Err(e)) => refusal(&with_id(e, request_id)),
        // The panic's own text went to the panic hook, which shows no payload.
        Err(_) => refusal(&with_id(Error::new(Code::Internal), request_id)),
    };
    told.write(answer.headers_mut());
    answer
        .headers_mut()
        .insert("x-request-id", HeaderValue::from_str(&request_id.to_string()).expect("an id is ASCII"));
    let code = answer.extensions().get::<Code>().copied();
    vault.meters.answered(method.as_str(), seen.route, answer.status().as_u16(), code, begun.elapsed());
    if let Some(app) = seen.app_id.filter(|_| seen.route == routes::TOKEN_PATH && answer.status() == 200) {
        vault.took(app, started, begun.elapsed());
    }
    let code = code.map(Code::as_str);
    trace::answered(&span, &method, seen.route, answer.status(), code);
    tracing::info!(
        request.id = %request_id,
        http.method = %method,
        http.route = seen.route,
        http.status = answer.status().as_u16(),
        duration_ms = vault.env.now().since(started),
        code,
        key.prefix = seen.key_prefix,
        app.id = seen.app_id.map(tracing::field::display),
        "{method} {} {}", seen.route, answer.status().as_u16()
    );
    Ok(answer)
}

/// What the caller is to give the operator stands in the body, too.
fn with_id(error: Error, request_id: RequestId) -> Error {
    match error.code.status() {
        500 => error.with("request_id", request_id.to_string()),
        _ => error,
    }
}

/// What is rare is boxed here and below: the future of a request has room for every way it can go, and is moved about.
async fn dispatch(
    vault: &Arc<Vault>,
    mut parts: Parts,
    body: Body,
    request_id: RequestId,
    told: &mut Told,
    seen: &mut Seen,
) -> Result<Answer, Error> {
    strip_base(&mut parts, &vault.settings.base_path);
    let path = parts.uri.path().to_owned();
    match path.as_str() {
        "/healthz" => {
            seen.route = "/healthz";
            return Ok(json(200, &serde_json::json!({"status": "ok"})));
        }
        "/readyz" => {
            seen.route = "/readyz";
            return Box::pin(ready(vault)).await;
        }
        "/metrics" => {
            seen.route = "/metrics";
            if parts.method != http::Method::GET {
                return Err(not_allowed(&["GET"]));
            }
            if !vault.meters.is_open() {
                Box::pin(api::may_see_metrics(vault, &parts, &source(vault, &parts, request_id))).await?;
            }
            return Ok(Box::pin(metrics::answer(vault)).await);
        }
        openapi::PATH => {
            seen.route = openapi::PATH;
            if parts.method != http::Method::GET {
                return Err(not_allowed(&["GET"]));
            }
            return Ok(raw(200, "application/json", Body::from(openapi::text())));
        }
        // One set under two names: the official clients look for the second.
        "/.well-known/jwks.json" | "/.well-known/alter-identity-jwks.json" => {
            seen.route = "/.well-known/jwks.json";
            if !matches!(parts.method, http::Method::GET | http::Method::HEAD) {
                return Err(not_allowed(&["GET", "HEAD"]));
            }
            return Box::pin(jwks(vault)).await;
        }
        _ => {}
    }
    let source = source(vault, &parts, request_id);
    if let Some((hosted, pattern)) = hosted::find(&path) {
        seen.route = pattern;
        return Ok(Box::pin(hosted::answer(vault, hosted, &parts, body, source)).await);
    }
    if let Some(rest) = path.strip_prefix(portal::PATH)
        && (rest.is_empty() || rest.starts_with('/'))
    {
        seen.route = portal::PATH;
        return Ok(Box::pin(portal::answer(vault, &parts, body, source, &mut seen.route)).await);
    }
    if path.starts_with("/sdk/") || path == "/sdk" {
        seen.route = "/sdk";
        check_path(&path)?;
        return match routes::find(routes::SDK, |r| (r.method, r.path), parts.method.as_str(), &path) {
            Found::Route(route, params) => {
                seen.route = route.path;
                let call = caller::authenticate(vault, &route, params, &parts, body, source, told);
                let call = call.instrument(trace::part!("authenticate")).await;
                if let Ok(call) = &call {
                    seen.key_prefix = Some(call.known.key.key_prefix.clone());
                    seen.app_id = Some(call.known.app.id);
                }
                sdk::answer(vault, &route, call?).await
            }
            Found::MethodNotAllowed(methods) => Err(not_allowed(&methods)),
            Found::Unknown => Err(Code::UnknownRoute.into()),
        };
    }
    if path.starts_with("/api/v1/") {
        seen.route = "/api/v1";
        check_path(&path)?;
        return match routes::find(routes::API, |r| (r.method, r.path), parts.method.as_str(), &path) {
            Found::Route(route, params) => {
                seen.route = route.path;
                Box::pin(api::answer(vault, &route, params, &parts, body, source)).await
            }
            Found::MethodNotAllowed(methods) => Err(not_allowed(&methods)),
            Found::Unknown => Err(Error::new(Code::NotFound)
                .message("There is no such route in the management API. `grantd openapi` prints those there are.")),
        };
    }
    if path.starts_with(scim::PREFIX) {
        seen.route = scim::pattern(&path);
        return Ok(Box::pin(scim::answer(vault, &parts, body, source)).await);
    }
    if path.starts_with(webhook::PREFIX) {
        seen.route = webhook::PATTERN;
        return Box::pin(webhook::answer(vault, &parts, body, source)).await;
    }
    Err(Error::new(Code::UnknownRoute).message("There is nothing here. Applications call /sdk, operators /api/v1."))
}

fn not_allowed(methods: &[&'static str]) -> Error {
    Error::new(Code::MethodNotAllowed)
        .message(format!("This path takes {}.", methods.join(", ")))
        .detail("allow", methods.join(", "))
}

/// Refuses paths whose decoded form holds control characters: one would add a line to the signed text.
fn check_path(path: &str) -> Result<(), Error> {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    if decoded.chars().any(char::is_control) {
        return Err(Error::new(Code::InvalidRequest)
            .message("The path holds control characters. Leave them out, percent-encoded ones as well."));
    }
    Ok(())
}

/// Takes the path part of the public URL off, if the request still carries it. Clients sign without it.
fn strip_base(parts: &mut Parts, base: &str) {
    let Some(rest) = parts.uri.path().strip_prefix(base).filter(|rest| !base.is_empty() && rest.starts_with('/'))
    else {
        return;
    };
    let query = parts.uri.query().map_or_else(String::new, |q| format!("?{q}"));
    if let Ok(uri) = format!("{rest}{query}").parse::<Uri>() {
        parts.uri = uri;
    }
}

pub(crate) async fn ready(vault: &Vault) -> Result<Answer, Error> {
    if vault.draining.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(Code::Draining.into());
    }
    vault.check_clock()?;
    match vault.store.ping().await {
        Ok(()) => Ok(json(200, &serde_json::json!({"status": "ready"}))),
        Err(e) => Err(crate::answer::of_store(e)),
    }
}

/// The keys that verify assertions of identity, for everybody.
async fn jwks(vault: &Vault) -> Result<Answer, Error> {
    let found = flow::assertion::list(vault).await?;
    let keys: Vec<_> = found.into_iter().map(|(key, _)| key.public_jwk).collect();
    let body = serde_json::json!({"keys": keys}).to_string();
    let mut answer = raw(200, "application/jwk-set+json", Body::from(body));
    let kept = format!("public, max-age={}", limits::JWKS_MAX_AGE_S);
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_str(&kept).expect("digits are ASCII"));
    Ok(answer)
}

fn source(vault: &Vault, parts: &Parts, request_id: RequestId) -> Source {
    let peer =
        parts.extensions.get::<ConnectInfo<SocketAddr>>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |c| c.0.ip());
    let text = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok());
    let user_agent = text(header::USER_AGENT.as_str()).map(|t| t.chars().take(USER_AGENT_CHARS_MAX).collect());
    Source {
        ip: client_ip(peer.to_canonical(), &parts.headers, &vault.settings.trusted_proxies),
        user_agent,
        request_id,
        trace_id: text("traceparent").and_then(trace_id),
        now: vault.env.now(),
    }
}

/// Characters of a user agent kept in an event.
const USER_AGENT_CHARS_MAX: usize = 200;

/// The address nearest to us that is not one of our proxies.
fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[ipnet::IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    if !is_trusted(&peer) {
        return peer;
    }
    let values: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).collect();
    let mut nearest = peer;
    for hop in values.iter().flat_map(|v| v.split(',')).map(str::trim).rev() {
        // What a proxy wrote that is no address ends what can be trusted.
        let Ok(ip) = hop.parse::<IpAddr>() else { return nearest };
        nearest = ip.to_canonical();
        if !is_trusted(&nearest) {
            return nearest;
        }
    }
    nearest
}

/// The trace id of a W3C `traceparent`.
fn trace_id(traceparent: &str) -> Option<String> {
    let mut parts = traceparent.split('-');
    let (version, id) = (parts.next()?, parts.next()?);
    let hex = |t: &str| t.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (version.len() == 2 && id.len() == 32 && hex(version) && hex(id)).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<ipnet::IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("1.1.1.1, 2.2.2.2"));
        headers.append("x-forwarded-for", HeaderValue::from_static("10.0.0.9"));
        let ip = |t: &str| t.parse::<IpAddr>().unwrap();
        assert_eq!(client_ip(ip("3.3.3.3"), &headers, &trusted), ip("3.3.3.3"));
        assert_eq!(client_ip(ip("10.0.0.1"), &headers, &trusted), ip("2.2.2.2"));
        headers.append("x-forwarded-for", HeaderValue::from_static("unknown"));
        assert_eq!(client_ip(ip("10.0.0.1"), &headers, &trusted), ip("10.0.0.1"));
    }

    #[test]
    fn a_base_path_comes_off_whole_segments_only() {
        let strip = |path: &str| {
            let (mut parts, ()) = Request::builder().uri(path).body(()).unwrap().into_parts();
            strip_base(&mut parts, "/alter");
            parts.uri.to_string()
        };
        assert_eq!(strip("/alter/sdk/token?x=1"), "/sdk/token?x=1");
        assert_eq!(strip("/sdk/token"), "/sdk/token");
        assert_eq!(strip("/alternative/sdk"), "/alternative/sdk");
    }

    #[test]
    fn control_characters_in_paths_are_refused() {
        for bad in ["/sdk/a%0Ab", "/sdk/%00", "/sdk/%C2%85", "/sdk/%7f"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
        assert!(check_path("/sdk/agents/a%20b%2Fc%252F").is_ok());
    }
}
