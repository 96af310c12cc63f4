//! Requests as a client makes them, open to tampering; and answers, looked over as they come in.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use grantd_wire::Code;
use grantd_wire::sign::{self, SigningKey, ToSign, hex, sha256};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use serde_json::Value;

use super::watch;

/// Who calls unless a test says otherwise.
pub const PEER: &str = "203.0.113.7:4711";

/// A request that can still be changed.
#[derive(Clone)]
pub struct Raw {
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub peer: SocketAddr,
}

impl Raw {
    pub fn new(method: &str, target: &str, body: impl Into<Bytes>) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: HeaderMap::new(),
            body: body.into(),
            peer: PEER.parse().unwrap(),
        }
    }

    /// With this header instead.
    pub fn set(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    /// With one more of this header.
    pub fn add(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    pub fn without(mut self, name: &'static str) -> Self {
        self.headers.remove(name);
        self
    }

    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub fn at(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    pub fn from(mut self, ip: &str) -> Self {
        self.peer = SocketAddr::new(ip.parse().unwrap(), 4711);
        self
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// With a body of this kind instead of the bytes.
    pub fn streaming(self, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.parse().unwrap();
        *request.uri_mut() = Uri::from_maybe_shared(Bytes::from(self.target)).unwrap();
        *request.headers_mut() = self.headers;
        request.extensions_mut().insert(ConnectInfo(self.peer));
        request
    }

    pub fn into_request(mut self) -> Request<Body> {
        let body = Body::from(std::mem::take(&mut self.body));
        self.streaming(body)
    }
}

/// What a client signs with, and what it says of itself.
#[derive(Clone, Copy)]
pub struct Sign<'a> {
    pub key: &'a str,
    pub timestamp_s: i64,
    pub caller: &'a str,
    pub caller_type: &'a str,
    pub actor_id: &'a str,
    pub context: &'a str,
    pub constraints: &'a str,
    pub rule: &'a str,
    /// Signs as clients before 0.21 do: nothing of its identity.
    pub old: bool,
    pub user_agent: &'a str,
}

impl<'a> Sign<'a> {
    pub fn new(key: &'a str, timestamp_s: i64) -> Self {
        Self {
            key,
            timestamp_s,
            caller: "",
            caller_type: "",
            actor_id: "",
            context: "",
            constraints: "",
            rule: "",
            old: false,
            user_agent: "alter-sdk-python/0.29.0",
        }
    }

    pub fn caller(self, caller: &'a str, caller_type: &'a str) -> Self {
        Self { caller, caller_type, ..self }
    }

    pub fn context(self, context: &'a str) -> Self {
        Self { context, ..self }
    }

    pub fn constraints(self, constraints: &'a str) -> Self {
        Self { constraints, ..self }
    }

    pub fn rule(self, rule: &'a str) -> Self {
        Self { rule, ..self }
    }

    pub fn old(self) -> Self {
        Self { old: true, user_agent: "alter-sdk-python/0.20.1", ..self }
    }

    pub fn shifted_s(self, seconds: i64) -> Self {
        Self { timestamp_s: self.timestamp_s + seconds, ..self }
    }

    pub fn post(&self, target: &str, body: &Value) -> Raw {
        self.request("POST", target, body.to_string())
    }

    pub fn get(&self, target: &str) -> Raw {
        self.request("GET", target, "")
    }

    /// The request as the client sends it. `target` is raw, with its query.
    pub fn request(&self, method: &str, target: &str, body: impl Into<Bytes>) -> Raw {
        static NONCES: AtomicU64 = AtomicU64::new(1);
        let body = body.into();
        let nonce = hex(&sha256(&NONCES.fetch_add(1, Ordering::Relaxed).to_be_bytes())[..16]);
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let (timestamp, hash) = (self.timestamp_s.to_string(), hex(&sha256(&body)));
        let target_line = sign::canonical_target(path, query);
        let bare = ToSign {
            method,
            target: &target_line,
            timestamp: &timestamp,
            nonce: &nonce,
            content_sha256: &hash,
            scope_constraints: self.constraints,
            request_rule: self.rule,
            ..ToSign::default()
        };
        let identity = ToSign {
            caller: self.caller,
            caller_type: self.caller_type,
            actor_id: self.actor_id,
            context: self.context,
            ..bare
        };
        let signed = if self.old { bare } else { identity };
        let signature = SigningKey::derive(self.key).sign(&signed.text());
        let mut raw = Raw::new(method, target, body)
            .set(sign::HEADER_KEY, self.key)
            .set("user-agent", self.user_agent)
            .set(sign::HEADER_TIMESTAMP, &timestamp)
            .set(sign::HEADER_NONCE, &nonce)
            .set(sign::HEADER_CONTENT_SHA256, &hash)
            .set(sign::HEADER_SIGNATURE, &signature);
        if signed.has_identity() {
            raw = raw.set(sign::HEADER_SIGNATURE_V2, &signature);
        }
        for (name, value) in [
            (sign::HEADER_CALLER, self.caller),
            (sign::HEADER_CALLER_TYPE, self.caller_type),
            (sign::HEADER_ACTOR_ID, self.actor_id),
            (sign::HEADER_CONTEXT, self.context),
            (sign::HEADER_SCOPE_CONSTRAINTS, self.constraints),
            (sign::HEADER_REQUEST_RULE, self.rule),
        ] {
            if !value.is_empty() {
                raw = raw.set(name, value);
            }
        }
        raw
    }
}

/// An answer that keeps the rules of every answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// Of the body.
    pub bytes: usize,
}

/// What a page may do in a browser: nothing that is not this server's own.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

impl Answer {
    /// Looks an answer over. `may_hold_secret`: it is one of the two that hand one out.
    #[track_caller]
    pub fn checked(what: &str, may_hold_secret: bool, status: u16, headers: HeaderMap, body: &Bytes) -> Self {
        let text = String::from_utf8(body.to_vec()).unwrap();
        let answer = Self { status, headers, text, bytes: body.len() };
        let head = format!("{:?}", answer.headers);
        watch::clean(&format!("the head of the answer to {what}"), &head);
        if !may_hold_secret {
            watch::clean(&format!("the answer to {what}"), &answer.text);
        }
        assert!(!(300..400).contains(&status), "{what} was redirected");
        assert!(grantd_wire::ids::RequestId::parse(answer.header("x-request-id")).is_some(), "{what}: {head}");
        if status != 204 {
            // Public keys are the one thing that others may keep.
            let is_kept = status == 200 && what.contains("/.well-known/");
            assert_eq!(answer.header("cache-control") == "no-store", !is_kept, "{what}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
        }
        if answer.header("content-type") == "application/scim+json" {
            answer.check_scim(what);
        } else if status >= 400 {
            answer.check_error(what);
        }
        answer
    }

    /// A refusal of a directory's call has the form that SCIM gives it.
    #[track_caller]
    fn check_scim(&self, what: &str) {
        let json = self.json();
        let is_error = json["schemas"] == serde_json::json!(["urn:ietf:params:scim:api:messages:2.0:Error"]);
        assert_eq!(is_error, self.status >= 400, "{what}: {json}");
        if is_error {
            assert_eq!(json["status"], self.status.to_string(), "{what}: {json}");
            assert!(json["detail"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {json}");
        }
    }

    /// Looks over what a browser is shown. `may_hold_secret`: one that is the browser's own.
    #[track_caller]
    pub fn of_browser(what: &str, may_hold_secret: bool, status: u16, mut headers: HeaderMap, body: &Bytes) -> Self {
        // A picture is no text.
        let text = String::from_utf8_lossy(body).into_owned();
        let cookies: Vec<_> = headers.get_all("set-cookie").iter().cloned().collect();
        headers.remove("set-cookie");
        watch::clean(&format!("the head of the answer to {what}"), &format!("{headers:?}"));
        if !may_hold_secret {
            watch::clean(&format!("the answer to {what}"), &text);
        }
        for cookie in cookies {
            headers.append("set-cookie", cookie);
        }
        let answer = Self { status, headers, text, bytes: body.len() };
        assert!(grantd_wire::ids::RequestId::parse(answer.header("x-request-id")).is_some(), "{what}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
        if answer.header("content-type").starts_with("text/html") {
            let policy = answer.header("content-security-policy");
            assert_eq!(policy, POLICY, "{what}");
            assert_eq!(
                (answer.header("cache-control"), answer.header("x-frame-options")),
                ("no-store", "DENY"),
                "{what}"
            );
            // Forms of the portal say where they come from, which without a referrer they could not. It has no window that waits for it.
            let (referrer, opener) = match what.contains(" /portal") {
                true => ("same-origin", "same-origin"),
                false => ("no-referrer", "unsafe-none"),
            };
            let told = (answer.header("referrer-policy"), answer.header("cross-origin-opener-policy"));
            assert_eq!(told, (referrer, opener), "{what}");
        } else {
            assert!(status < 400 || answer.header("content-type") == "application/json", "{what}: {status}");
        }
        answer
    }

    #[track_caller]
    fn check_error(&self, what: &str) {
        assert_eq!(self.header("content-type"), "application/json", "{what}");
        let json = self.json();
        let code = Code::parse(json["error"].as_str().unwrap()).unwrap_or_else(|| panic!("{what}: {json}"));
        assert_eq!(code.status(), self.status, "{what}: {json}");
        assert!(json["message"].as_str().is_some_and(|m| !m.is_empty()), "{what}: {json}");
        assert!(json.get("hint").is_none_or(|hint| hint.as_str().is_some_and(|h| !h.is_empty())), "{what}: {json}");
        assert!(json.get("details").is_none_or(Value::is_object), "{what}: {json}");
        let retry_after = self.headers.get("retry-after").map(|v| v.to_str().unwrap().parse::<u32>().unwrap());
        if matches!(self.status, 429 | 503) {
            assert!(retry_after.is_some_and(|s| s > 0), "{what}: {json}");
        }
        assert_eq!(self.headers.contains_key("allow"), self.status == 405, "{what}");
    }

    /// The header's text, or "".
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The code it was refused with, or "".
    pub fn code(&self) -> String {
        match self.status {
            400.. => self.json()["error"].as_str().unwrap().to_owned(),
            _ => String::new(),
        }
    }

    /// Asserts success with exactly this status, and gives the body.
    #[track_caller]
    pub fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// Asserts a refusal with this code, and gives the body.
    #[track_caller]
    pub fn refused(&self, code: Code) -> Value {
        assert_eq!(self.code(), code.as_str(), "{} {}", self.status, self.text);
        self.json()
    }

    /// Asserts a refusal that names the field.
    #[track_caller]
    pub fn names(&self, code: Code, field: &str) {
        let json = self.refused(code);
        assert_eq!(json["details"]["field"], field, "{json}");
    }
}
