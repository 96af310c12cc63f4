//! The demo provider of `grantd dev`: OpenID Connect on loopback, for one client, with people who are made up.
//!
//! A client cannot tell it from a provider that follows the standards: codes and refresh tokens are good once, PKCE is required,
//! whatever comes a second time ends what came of it. Only `dev` starts it.

mod ask;
mod book;
mod key;
mod page;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_domain::env::{Env, new_token};
use grantd_domain::secret::Secret;
use grantd_wire::TimeMs;
use grantd_wire::sign::sha256;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

pub use ask::bearer;
use ask::{Params, Wrong};
use book::{Kept, Memory, Tokens};
use key::SigningKey;

use super::Service;
use crate::boot::write_over;
use crate::cli::Failure;

/// The only client's id.
pub const CLIENT_ID: &str = "grantd-dev";
/// Scopes, and what they open in words.
pub const SCOPES: [(&str, &str); 4] = [
    ("openid", "Know which account it is"),
    ("profile", "See your name"),
    ("email", "See your email address"),
    ("offline_access", "Call the demo API as you, until it is ended"),
];
/// The port, if it is free when the first one starts; later ones keep the port of the first.
const PORT: u16 = 8402;
const STATE_FILE: &str = "demo-provider.json";
const KEY_FILE: &str = "demo-provider.key";
/// Bytes of a form.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a query.
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// Seconds that an ID token says to be good for.
const ID_TOKEN_S: i64 = 3600;
/// The cookie that a page is bound to. Cookies know no ports, so its name is its own.
const COOKIE: &str = "grantd_demo_provider";

/// Why a client gets no tokens (RFC 6749 section 5.2).
#[derive(Clone, Copy, Debug)]
pub enum Refused {
    InvalidRequest(&'static str),
    InvalidClient,
    InvalidGrant(&'static str),
    InvalidScope,
    UnsupportedGrantType,
    /// What would be handed out cannot be kept.
    Unavailable,
}

/// The provider.
pub struct Issuer {
    env: Arc<dyn Env>,
    port: u16,
    /// `127.0.0.1:PORT`.
    authority: String,
    url: String,
    file: PathBuf,
    key: SigningKey,
    book: Mutex<Book>,
}

struct Book {
    kept: Kept,
    memory: Memory,
}

impl Issuer {
    /// Starts with what it kept in the directory, on the port that it is known by; on another one if that is taken.
    pub async fn start(directory: &Path, env: Arc<dyn Env>) -> Result<(Arc<Self>, Service), Failure> {
        let failed = |e: std::io::Error| Failure::local(format!("cannot start the demo provider: {e}"));
        let file = directory.join(STATE_FILE);
        let kept: Option<Kept> = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let key = SigningKey::load(&directory.join(KEY_FILE)).map_err(failed)?;
        let preferred = kept.as_ref().map_or(PORT, |kept| kept.port);
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, preferred)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?,
        };
        let address: SocketAddr = listener.local_addr().map_err(failed)?;
        let kept = kept.unwrap_or_else(|| Kept::new(address.port()));
        let issuer = Arc::new(Self {
            env,
            port: address.port(),
            authority: address.to_string(),
            url: format!("http://{address}"),
            file,
            key,
            book: Mutex::new(Book { kept, memory: Memory::default() }),
        });
        let service = Service::start(listener, router(Arc::clone(&issuer))).map_err(failed)?;
        Ok((issuer, service))
    }

    /// Its name, which is its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether the client is registered in grantd as `id`.
    pub fn is_registered(&self, id: &str) -> bool {
        self.lock().kept.is_registered(id)
    }

    /// Another secret for the client. The one before is good until [`Self::set_registered`].
    pub fn new_client_secret(&self) -> Result<Secret, Failure> {
        self.change(|kept, _| Ok(kept.new_client_secret(&*self.env))).map_err(|_| self.unwritable())
    }

    /// The client is registered in grantd as `id` with its newest secret. From now on this is the port it is known by.
    pub fn set_registered(&self, id: &str) -> Result<(), Failure> {
        let register = |kept: &mut Kept, _: &mut Memory| {
            kept.register(id);
            kept.port = self.port;
            Ok(())
        };
        self.change(register).map_err(|_| self.unwritable())
    }

    /// The client may have people sent back there, and nowhere else.
    pub fn admit(&self, redirect_uri: &str) {
        self.lock().memory.redirect_uri = Some(redirect_uri.to_owned());
    }

    /// Whether the text is one of its access tokens, and good; `None` if it does not even look like one.
    pub fn accepts(&self, token: &str) -> Option<bool> {
        token.starts_with(book::ACCESS_PREFIX).then(|| self.lock().kept.whose(token, self.env.now()).is_some())
    }

    fn unwritable(&self) -> Failure {
        Failure::local(format!("cannot write {}", self.file.display()))
            .hint("Make room, and give the data directory to the user that runs grantd.")
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs a change. It is in the file before anybody hears of it, also where what was asked for is refused.
    fn change<T>(&self, change: impl FnOnce(&mut Kept, &mut Memory) -> Result<T, Refused>) -> Result<T, Refused> {
        let mut book = self.lock();
        let mut next = book.kept.clone();
        let changed = change(&mut next, &mut book.memory);
        if next != book.kept {
            let bytes = serde_json::to_vec(&next).expect("texts and numbers have a JSON form");
            write_over(&self.file, &bytes).map_err(|error| {
                tracing::error!(%error, "The demo provider cannot write its file");
                Refused::Unavailable
            })?;
            book.kept = next;
        }
        changed
    }

    /// What it says of itself (OpenID Connect Discovery 1.0 section 3, RFC 8414 section 2).
    fn document(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.url);
        let client_auth = ["client_secret_basic", "client_secret_post"];
        let scopes: Vec<&str> = SCOPES.iter().map(|(scope, _)| *scope).collect();
        json!({
            "issuer": self.url,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "userinfo_endpoint": at("/userinfo"),
            "revocation_endpoint": at("/revoke"),
            "jwks_uri": at("/jwks"),
            "scopes_supported": scopes,
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": client_auth,
            "revocation_endpoint_auth_methods_supported": client_auth,
            "code_challenge_methods_supported": ["S256"],
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "name", "email", "email_verified"],
            "authorization_response_iss_parameter_supported": true,
            "claims_parameter_supported": false,
            "request_parameter_supported": false,
            "request_uri_parameter_supported": false,
        })
    }

    fn id_token(&self, tokens: &Tokens) -> String {
        let now = self.env.now();
        let mut claims = about(tokens.person, &tokens.scopes);
        let half = &sha256(tokens.access.reveal().as_bytes())[..16];
        claims["iss"] = json!(self.url);
        claims["aud"] = json!(CLIENT_ID);
        claims["iat"] = json!(seconds(now));
        claims["exp"] = json!(seconds(now.plus_seconds(ID_TOKEN_S)));
        claims["auth_time"] = json!(seconds(tokens.signed_in_at));
        claims["at_hash"] = json!(BASE64_URL_SAFE_NO_PAD.encode(half));
        if let Some(nonce) = &tokens.nonce {
            claims["nonce"] = json!(nonce);
        }
        self.key.sign(&claims)
    }

    /// Where a browser goes with what came of it.
    fn back(&self, redirect_uri: &str, state: Option<&str>, result: &[(&str, &str)]) -> Response {
        let mut url = Url::parse(redirect_uri).expect("it is the registered one");
        url.query_pairs_mut()
            .extend_pairs(result)
            .extend_pairs(state.map(|s| ("state", s)))
            .append_pair("iss", &self.url);
        ([(header::CACHE_CONTROL, "no-store")], Redirect::to(url.as_str())).into_response()
    }

    fn check_client(kept: &Kept, headers: &HeaderMap, params: &Params<'_>) -> Result<(), Refused> {
        let (id, secret) = ask::client(headers, params)?;
        match id == CLIENT_ID && kept.is_client_secret(&secret) {
            true => Ok(()),
            false => Err(Refused::InvalidClient),
        }
    }
}

fn seconds(at: TimeMs) -> i64 {
    at.0.div_euclid(1000)
}

/// What a client may know of somebody.
fn about(person: &book::Person, scopes: &[String]) -> Value {
    let has = |scope: &str| scopes.iter().any(|granted| granted == scope);
    let mut claims = json!({"sub": person.id});
    if has("profile") {
        claims["name"] = json!(person.name);
    }
    if has("email") {
        claims["email"] = json!(person.email);
        claims["email_verified"] = json!(true);
    }
    claims
}

type Shared = State<Arc<Issuer>>;

fn router(issuer: Arc<Issuer>) -> Router {
    let document = get(async |State(issuer): Shared| json_answer(StatusCode::OK, &issuer.document()));
    let keys = get(async |State(issuer): Shared| json_answer(StatusCode::OK, &json!({"keys": [issuer.key.public()]})));
    Router::new()
        .route("/.well-known/openid-configuration", document.clone())
        .route("/.well-known/oauth-authorization-server", document)
        .route("/jwks", keys)
        .route("/authorize", get(authorize).post(authorize_by_form))
        .route("/answer", post(answer))
        .route("/token", post(token))
        .route("/revoke", post(revoke))
        .route("/userinfo", get(userinfo).post(userinfo))
        .route("/style.css", get(async || ([(header::CONTENT_TYPE, "text/css")], page::STYLE)))
        .fallback(async || {
            page::answer(StatusCode::NOT_FOUND, &page::dead_end("Nothing here", "There is no such page."))
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&issuer), only_by_its_name))
        .with_state(issuer)
}

/// A page of somebody else's whose name leads here could read what is answered: only those who call it by its own name are heard.
async fn only_by_its_name(State(issuer): Shared, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host == Some(issuer.authority()) && request.uri().query().is_none_or(|query| query.len() <= QUERY_BYTES_MAX) {
        return next.run(request).await;
    }
    let why = "It listens to its own address alone, and to links of a reasonable length.";
    page::answer(StatusCode::BAD_REQUEST, &page::dead_end("This link cannot be followed", why))
}

async fn authorize(State(issuer): Shared, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    ask_person(&issuer, &headers, &Params::parse(query.unwrap_or_default().as_bytes()))
}

async fn authorize_by_form(State(issuer): Shared, headers: HeaderMap, body: Bytes) -> Response {
    match Params::of_form(&headers, &body) {
        Ok(params) => ask_person(&issuer, &headers, &params),
        Err(refused) => refused.into_response(),
    }
}

fn ask_person(issuer: &Issuer, headers: &HeaderMap, params: &Params<'_>) -> Response {
    let mut book = issuer.lock();
    let ask = match ask::authorization(params, book.memory.redirect_uri.as_deref()) {
        Ok(ask) => ask,
        Err(Wrong::Page(why)) => {
            return page::answer(StatusCode::BAD_REQUEST, &page::dead_end("This link cannot be followed", why));
        }
        Err(Wrong::Back { redirect_uri, state, error, why }) => {
            return issuer.back(&redirect_uri, state.as_deref(), &[("error", error), ("error_description", why)]);
        }
    };
    let known = browser(headers).map(str::to_owned);
    let is_new = known.is_none();
    let browser = known.unwrap_or_else(|| new_token(&*issuer.env, "").reveal().to_owned());
    let id = book.memory.show(ask.clone(), &browser, &*issuer.env);
    let mut shown = page::answer(StatusCode::OK, &page::question(&id, &ask));
    if is_new {
        let cookie = format!("{COOKIE}={browser}; Path=/; HttpOnly; SameSite=Lax");
        shown.headers_mut().insert(header::SET_COOKIE, cookie.parse().expect("base64url is for headers"));
    }
    shown
}

/// The cookie, if it is one of ours in form.
fn browser(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, value)| *name == COOKIE && value.len() == 43).map(|(_, value)| value)
}

async fn answer(State(issuer): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let params = match Params::of_form(&headers, &body) {
        Ok(params) => params,
        Err(refused) => return refused.into_response(),
    };
    let find = |name| params.find(name).unwrap_or_default();
    let mut book = issuer.lock();
    let page = find("page").zip(browser(&headers));
    let Some(ask) = page.and_then(|(page, browser)| book.memory.take(page, browser, issuer.env.now())) else {
        let why = "It was answered before, is more than ten minutes old, or was shown in another browser. Go back to the application \
                   that sent you here and begin again.";
        return page::answer(StatusCode::BAD_REQUEST, &page::dead_end("This page is over", why));
    };
    let state = ask.state.clone();
    let redirect_uri = ask.redirect_uri.clone();
    match (find("answer"), find("person").and_then(book::person)) {
        (Some("allow"), Some(person)) => {
            let code = book.memory.grant(ask, person, &*issuer.env);
            issuer.back(&redirect_uri, state.as_deref(), &[("code", code.reveal())])
        }
        _ => issuer.back(&redirect_uri, state.as_deref(), &[("error", "access_denied")]),
    }
}

async fn token(State(issuer): Shared, headers: HeaderMap, body: Bytes) -> Response {
    changing(issuer, move |issuer| {
        let params = Params::of_form(&headers, &body)?;
        let env = &*issuer.env;
        let tokens = issuer.change(|kept, memory| {
            Issuer::check_client(kept, &headers, &params)?;
            let needed = |name| params.find(name)?.ok_or(Refused::InvalidRequest("A parameter is missing."));
            match needed("grant_type")? {
                "authorization_code" => {
                    let (code, verifier) = (needed("code")?, needed("code_verifier")?);
                    kept.redeem(memory, code, params.find("redirect_uri")?, verifier, env)
                }
                "refresh_token" => {
                    let scopes = params.find("scope")?;
                    let scopes = scopes.map(|s| s.split_ascii_whitespace().map(str::to_owned).collect());
                    kept.renew(needed("refresh_token")?, scopes, env)
                }
                _ => Err(Refused::UnsupportedGrantType),
            }
        })?;
        let mut answer = json!({
            "access_token": tokens.access.reveal(),
            "token_type": "Bearer",
            "expires_in": book::ACCESS_TOKEN_S,
            "scope": tokens.scopes.join(" "),
        });
        if let Some(refresh) = &tokens.refresh {
            answer["refresh_token"] = json!(refresh.reveal());
        }
        if tokens.scopes.iter().any(|scope| scope == "openid") {
            answer["id_token"] = json!(issuer.id_token(&tokens));
        }
        Ok(json_answer(StatusCode::OK, &answer))
    })
    .await
}

async fn revoke(State(issuer): Shared, headers: HeaderMap, body: Bytes) -> Response {
    changing(issuer, move |issuer| {
        let params = Params::of_form(&headers, &body)?;
        issuer.change(|kept, _| {
            Issuer::check_client(kept, &headers, &params)?;
            kept.end(params.find("token")?.ok_or(Refused::InvalidRequest("token is missing."))?);
            Ok(())
        })?;
        Ok(StatusCode::OK.into_response())
    })
    .await
}

/// Runs what writes the file where it keeps nobody waiting.
async fn changing(
    issuer: Arc<Issuer>,
    change: impl FnOnce(&Issuer) -> Result<Response, Refused> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(move || change(&issuer)).await {
        Ok(Ok(response)) => response,
        Ok(Err(refused)) => refused.into_response(),
        Err(_) => Refused::Unavailable.into_response(),
    }
}

async fn userinfo(State(issuer): Shared, headers: HeaderMap) -> Response {
    let refuse =
        |status: StatusCode, challenge: &'static str| (status, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
    let Some(token) = bearer(&headers) else { return refuse(StatusCode::UNAUTHORIZED, "Bearer") };
    let book = issuer.lock();
    match book.kept.whose(token, issuer.env.now()) {
        None => refuse(StatusCode::UNAUTHORIZED, r#"Bearer error="invalid_token""#),
        Some((_, scopes)) if !scopes.iter().any(|scope| scope == "openid") => {
            refuse(StatusCode::FORBIDDEN, r#"Bearer error="insufficient_scope", scope="openid""#)
        }
        Some((person, scopes)) => json_answer(StatusCode::OK, &about(person, scopes)),
    }
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, body.to_string()).into_response()
}

impl Refused {
    fn into_response(self) -> Response {
        let (status, error, why) = match self {
            Self::InvalidRequest(why) => (StatusCode::BAD_REQUEST, "invalid_request", why),
            Self::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client", "Client id or secret are wrong."),
            Self::InvalidGrant(why) => (StatusCode::BAD_REQUEST, "invalid_grant", why),
            Self::InvalidScope => (StatusCode::BAD_REQUEST, "invalid_scope", "That is more than was granted."),
            Self::UnsupportedGrantType => {
                (StatusCode::BAD_REQUEST, "unsupported_grant_type", "It is authorization_code or refresh_token.")
            }
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "Tokens cannot be kept at the moment.")
            }
        };
        let mut answer = json_answer(status, &json!({"error": error, "error_description": why}));
        if status == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Basic realm=\"demo\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        answer
    }
}
