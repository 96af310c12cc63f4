//! The management API over HTTP. Invariants: no redirect is followed, and the token goes to the named server only.

use std::path::Path;
use std::time::Duration;

use grantd_domain::env::new_uuid;
use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, RETRY_AFTER};
use reqwest::{Client, Method, Response, redirect};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;
use zeroize::Zeroizing;

use super::failure::{BROKEN_OFF, Exit, Failure, UNREACHABLE, chain};
use crate::config::is_loopback;
use crate::host::Host;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a whole call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two pieces of an export.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes of an answer that is read whole; a page of a thousand events is far smaller.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A personal access token, and where it was found: a server that does not know it says nothing of that.
pub struct Token {
    text: Zeroizing<String>,
    source: String,
    /// The data directory it is of; where that is not known, how to write one.
    data_dir: Option<String>,
}

impl Token {
    /// A token from what `source` names.
    pub fn new(text: Zeroizing<String>, source: impl Into<String>) -> Self {
        Self { text, source: source.into(), data_dir: None }
    }

    /// Where it was found.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The token of a data directory.
    pub fn of_data_dir(text: Zeroizing<String>, directory: &Path) -> Self {
        let source = directory.join("operator.pat").display().to_string();
        Self { text, source, data_dir: Some(directory.display().to_string()) }
    }
}

/// A signed-in client of one server.
pub struct Api {
    client: Client,
    server: Url,
    /// For people.
    shown: String,
    authorization: HeaderValue,
    token_source: String,
    token_data_dir: Option<String>,
}

/// An object as it was read.
pub struct Read<T> {
    pub object: T,
    /// Of the state it was in.
    tag: Option<HeaderValue>,
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A query without parameters.
#[derive(Serialize)]
pub struct NoQuery {}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    message: String,
    #[serde(default)]
    hint: Option<String>,
    #[serde(default)]
    details: Map<String, Value>,
    #[serde(default)]
    request_id: Option<String>,
}

impl Api {
    /// Signed in with `token`.
    pub fn new(server: Url, token: &Token) -> Result<Self, Failure> {
        let bearer = Zeroizing::new(format!("Bearer {}", token.text.as_str()));
        let mut authorization = HeaderValue::from_str(&bearer).map_err(|_| {
            Failure::usage("the personal access token has characters that no token has")
                .hint("Copy it again, or sign in with `grantd auth login`.")
        })?;
        authorization.set_sensitive(true);
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(concat!("grantd-cli/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&server) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|e| Failure::from_error(Exit::Error, &e))?;
        let shown = server.as_str().trim_end_matches('/').to_owned();
        let (token_source, token_data_dir) = (token.source.clone(), token.data_dir.clone());
        Ok(Self { client, server, shown, authorization, token_source, token_data_dir })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &impl Serialize) -> Result<T, Failure> {
        let response = self.call(Method::GET, path, query, HeaderMap::new(), None, Some(CALL_TIMEOUT)).await?;
        self.read(response).await
    }

    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.send_with(method, path, body, HeaderMap::new()).await
    }

    /// Creates or rotates: once, although it is sent a second time where the first answer was lost.
    pub async fn send_once<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, Failure> {
        let key = HeaderValue::from_str(&new_uuid(&Host).to_string()).expect("a UUID is a header's value");
        let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, key)]);
        match self.send_with(Method::POST, path, body, headers.clone()).await {
            Err(failure) if failure.is_lost() => self.send_with(Method::POST, path, body, headers).await,
            answered => answered,
        }
    }

    /// Reads an object that is to be changed.
    pub async fn read_to_change<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Read<T>, Failure> {
        let response = self.call(Method::GET, path, &NoQuery {}, HeaderMap::new(), None, Some(CALL_TIMEOUT)).await?;
        let tag = response.headers().get(ETAG).cloned();
        Ok(Read { object: self.read(response).await?, tag })
    }

    /// Changes an object in the state it was read in, or not at all.
    pub async fn send_if<T: DeserializeOwned, R>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
        read: &Read<R>,
    ) -> Result<T, Failure> {
        let headers = read.tag.iter().map(|tag| (IF_MATCH, tag.clone())).collect();
        self.send_with(method, path, body, headers).await
    }

    async fn send_with<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
        headers: HeaderMap,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).expect("a wire type is JSON");
        let response = self.call(method, path, &NoQuery {}, headers, Some(body), Some(CALL_TIMEOUT)).await?;
        self.read(response).await
    }

    /// An answer to be read piece by piece.
    pub async fn stream(&self, path: &[&str], query: &impl Serialize) -> Result<Response, Failure> {
        self.call(Method::GET, path, query, HeaderMap::new(), None, None).await
    }

    /// A failure while reading a streamed answer.
    pub fn broken(&self, error: &reqwest::Error) -> Failure {
        if is_refused(error) || error.is_timeout() {
            return self.unreachable(error);
        }
        let message = format!("the answer of {} broke off: {}", self.shown, cause(error));
        Failure::new(Exit::Error, BROKEN_OFF, message).hint("Run the command again.")
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &impl Serialize,
        headers: HeaderMap,
        body: Option<Vec<u8>>,
        timeout: Option<Duration>,
    ) -> Result<Response, Failure> {
        let url = self.url(path, query);
        let mut request =
            self.client.request(method, url).headers(headers).header(AUTHORIZATION, self.authorization.clone());
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() {
            let to = response.headers().get("location").and_then(|v| v.to_str().ok()).unwrap_or("elsewhere");
            let message = format!("{} answers with a redirect to {to}", self.shown);
            return Err(Failure::new(Exit::Error, "redirected", message).hint("Set --server to the final URL."));
        }
        Err(self.refusal(response).await)
    }

    fn url(&self, path: &[&str], query: &impl Serialize) -> Url {
        let mut url = self.server.clone();
        let segments = ["api", "v1"].iter().chain(path);
        url.path_segments_mut().expect("http URLs have paths").pop_if_empty().extend(segments);
        if let Ok(Value::Object(parameters)) = serde_json::to_value(query) {
            append(&mut url, &parameters);
        }
        url
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, Failure> {
        let bytes = self.bytes(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let message = format!("{} answers with something this version does not understand: {error}", self.shown);
            let hint = "Check --server, and that server and command line are of the same version.";
            Failure::new(Exit::Error, "unexpected_answer", message).hint(hint)
        })
    }

    async fn bytes(&self, mut response: Response) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut bytes = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(&error))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                let message = format!("{} answers with more than {ANSWER_BYTES_MAX} bytes", self.shown);
                return Err(Failure::new(Exit::Error, "unexpected_answer", message).hint("Check --server."));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    async fn refusal(&self, response: Response) -> Failure {
        let status = response.status().as_u16();
        let exit = Exit::of_status(status);
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let said = |failure| Failure { status: Some(status), retry_after: seconds.map(Duration::from_secs), ..failure };
        let bytes = match self.bytes(response).await {
            Ok(bytes) => bytes,
            Err(failure) => return failure,
        };
        let Ok(refusal) = serde_json::from_slice::<Refusal>(&bytes) else {
            let message = format!("{} answers with status {status}, and not as grantd does", self.shown);
            return said(Failure::new(exit, "unexpected_answer", message).hint("Check --server."));
        };
        if exit == Exit::NotSignedIn {
            return said(self.not_known(&refusal));
        }
        let field = refusal.details.get("field").and_then(Value::as_str).map(str::to_owned);
        let id = refusal.request_id.filter(|_| status == 500).map(|id| format!("Request id: {id}."));
        let next = next_step(&refusal.error).map(str::to_owned);
        let hint = refusal.hint.or(id).or(next);
        said(Failure { hint, field, ..Failure::new(exit, &refusal.error, refusal.message) })
    }

    /// The server does not take the token: which one that was, and where to get another.
    fn not_known(&self, refusal: &Refusal) -> Failure {
        let (server, source) = (&self.shown, &self.token_source);
        let ended = ["expired", "revoked"].iter().any(|word| refusal.message.contains(word));
        let why = if ended { refusal.message.as_str() } else { "It is none of this server's." };
        let message = format!("{server} does not accept the token from {source}: {why}");
        let hint = match &self.token_data_dir {
            Some(directory) => format!("`grantd operator reset --data-dir {directory}` writes a new one there."),
            None => "The first operator's is in operator.pat of the server's data directory DIR; \
                     `grantd operator reset --data-dir DIR` on its host writes a new one."
                .to_owned(),
        };
        Failure::new(Exit::NotSignedIn, &refusal.error, message).hint(hint)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let server = &self.shown;
        let failure = |message: String| Failure::new(Exit::Error, UNREACHABLE, message);
        if is_refused(error) {
            return failure(format!("cannot reach grantd at {server}: is it running?"))
                .hint("Start it with `grantd serve`, or `grantd dev` to try things out, or set --server.");
        }
        if error.is_timeout() {
            return failure(format!("grantd at {server} does not answer in time"))
                .hint("Check --server, and whether that server is well.");
        }
        let cause = cause(error);
        let hint = if is_about_certificates(&cause) { CERTIFICATE_HINT } else { "Check --server." };
        failure(format!("cannot reach grantd at {server}: {cause}")).hint(hint)
    }
}

/// Where to see what there is instead of what was not found.
pub fn next_step(code: &str) -> Option<&'static str> {
    match code {
        "grant_not_found" => Some("`grantd grants list` shows the grants of this app."),
        "secret_not_found" => Some("`grantd managed-secrets list` shows the secrets of this app."),
        _ => None,
    }
}

/// What to do about a certificate that nobody here vouches for.
pub const CERTIFICATE_HINT: &str = "If it is of a certificate authority of your own, set SSL_CERT_FILE to the file (PEM) of that authority's certificate.";

/// Whether a connection failed for the other side's certificate.
pub fn is_about_certificates(cause: &str) -> bool {
    cause.contains("certificate")
}

fn append(url: &mut Url, parameters: &Map<String, Value>) {
    for (name, value) in parameters {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        url.query_pairs_mut().append_pair(name, &text);
    }
}

fn is_refused(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The causes without reqwest's own sentence, which repeats the URL.
fn cause(error: &reqwest::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), chain)
}
