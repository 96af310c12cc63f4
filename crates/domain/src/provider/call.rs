//! What is sent to a provider: the link its user follows, and the calls for codes, refresh tokens, identity and revocation, as data.
//!
//! Never: a secret stands in a URL, unless the provider has no other way and its entry says so.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use url::form_urlencoded::{self, byte_serialize};
use zeroize::Zeroizing;

use super::{Body, ClientAuth, IdentitySource, Method, Provider, RefreshKind, RevokeAuth, Scopes, TokenKind};
use crate::env::{Entropy, random};
use crate::secret::Secret;
use crate::template::render;

/// Who calls: what the provider issued to whoever registered there.
#[derive(Debug)]
pub struct Client {
    pub id: String,
    pub secret: Secret,
}

/// The tokens of an account.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    pub access: &'a Secret,
    pub refresh: Option<&'a Secret>,
}

/// One call to a provider.
#[derive(Debug)]
pub struct Call {
    pub method: Method,
    pub url: Secret,
    pub headers: Vec<(String, Secret)>,
    pub body: Option<Secret>,
}

/// What a link to the authorize endpoint carries.
#[derive(Debug)]
pub struct Link<'a> {
    pub client_id: &'a str,
    pub redirect_uri: &'a str,
    /// None: the provider's default.
    pub scopes: &'a [String],
    pub state: &'a str,
    /// Of PKCE; left out where the provider refuses it.
    pub verifier: &'a Secret,
    /// For an ID token; left out where no `openid` is asked for.
    pub nonce: &'a str,
    /// The user chooses the account anew, where the provider follows OpenID Connect.
    pub switches_account: bool,
}

type Params = Vec<(String, Zeroizing<String>)>;

/// A new PKCE verifier: 43 characters of 256 random bits (RFC 7636 section 4.1).
pub fn new_verifier(entropy: &(impl Entropy + ?Sized)) -> Secret {
    let bytes = Zeroizing::new(random::<32>(entropy));
    Secret::new(BASE64_URL_SAFE_NO_PAD.encode(*bytes))
}

impl Scopes {
    /// What is asked for: `wanted`, else the default, and always what is required; each once, in that order.
    pub fn asked<'a>(&'a self, wanted: &'a [String]) -> Vec<&'a str> {
        let wanted = if wanted.is_empty() { &self.default } else { wanted };
        let mut asked: Vec<&str> = Vec::new();
        for scope in wanted.iter().chain(&self.required) {
            if !asked.contains(&scope.as_str()) {
                asked.push(scope);
            }
        }
        asked
    }
}

impl Provider {
    /// The link that a user follows to consent (RFC 6749 section 4.1.1).
    pub fn authorize_link(&self, link: &Link<'_>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("response_type", "code").append_pair(&self.authorize.client_id, link.client_id);
        query.append_pair("redirect_uri", link.redirect_uri).append_pair("state", link.state);
        let scopes = self.scopes.asked(link.scopes);
        if !scopes.is_empty() {
            query.append_pair(&self.scopes.param, &scopes.join(&self.scopes.separator));
        }
        if self.authorize.pkce.is_sent() {
            let challenge = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, link.verifier.reveal().as_bytes()));
            query.append_pair("code_challenge", &challenge).append_pair("code_challenge_method", "S256");
        }
        if scopes.contains(&"openid") {
            query.append_pair("nonce", link.nonce);
        }
        let chooses = link.switches_account && (self.authorize.issuer.is_some() || scopes.contains(&"openid"));
        for (name, value) in &self.authorize.params {
            if !(chooses && name == "prompt") {
                query.append_pair(name, value);
            }
        }
        if chooses {
            // OpenID Connect Core 3.1.2.1: several at once, with blanks between them.
            let other = self.authorize.params.get("prompt").filter(|prompt| *prompt != "select_account");
            let prompt = other.map_or_else(|| "select_account".to_owned(), |other| format!("select_account {other}"));
            query.append_pair("prompt", &prompt);
        }
        // Appended to the text: a provider's route may be in the fragment, and the query belongs behind it.
        with_query(&self.authorize.url, &query.finish())
    }

    /// The call that turns a code into tokens (RFC 6749 section 4.1.3).
    pub fn code_call(&self, client: &Client, code: &Secret, redirect_uri: &str, verifier: &Secret) -> Call {
        let mut params = vec![
            param("grant_type", "authorization_code"),
            param("code", code.reveal()),
            param("redirect_uri", redirect_uri),
        ];
        if self.authorize.pkce.is_sent() {
            params.push(param("code_verifier", verifier.reveal()));
        }
        self.token_call(&self.token.url, client, params)
    }

    /// The call after that one, where the provider has a second exchange.
    pub fn exchange_call(&self, client: &Client, access: &Secret) -> Option<Call> {
        let exchange = self.exchange.as_ref()?;
        let params = filled(&exchange.params, client, access, "");
        Some(sent(exchange.method, &exchange.url, Vec::new(), body_of(exchange.method), &params))
    }

    /// The call that renews an access token, if it can be renewed: with the refresh token (RFC 6749 section 6), or by exchanging
    /// the access token itself.
    pub fn refresh_call(&self, client: &Client, pair: Pair<'_>, redirect_uri: &str) -> Option<Call> {
        let url = self.refresh.url.as_ref().unwrap_or(&self.token.url);
        let further = filled(&self.refresh.params, client, pair.access, "");
        match self.refresh.kind {
            RefreshKind::None => None,
            RefreshKind::Exchange => {
                let method = self.refresh.method?;
                Some(sent(method, url, Vec::new(), body_of(method), &further))
            }
            RefreshKind::Stable | RefreshKind::Rotates | RefreshKind::Unknown => {
                let refresh = pair.refresh?.reveal();
                let mut params = vec![param("grant_type", "refresh_token"), param("refresh_token", refresh)];
                if self.refresh.redirect_uri {
                    params.push(param("redirect_uri", redirect_uri));
                }
                params.extend(further);
                Some(self.token_call(url, client, params))
            }
        }
    }

    /// The call that ends a token, where there is one (RFC 7009, or the provider's own).
    pub fn revoke_call(&self, client: &Client, pair: Pair<'_>, account_id: &str) -> Option<Call> {
        let revoke = self.revoke.as_ref()?;
        let token = match revoke.token {
            TokenKind::Access => pair.access,
            TokenKind::Refresh => pair.refresh.unwrap_or(pair.access),
        };
        let mut params = filled(&revoke.params, client, token, account_id);
        let mut headers: Vec<(String, Secret)> = filled(&revoke.headers, client, token, account_id)
            .into_iter()
            .map(|(name, mut value)| (name, Secret::new(std::mem::take(&mut *value))))
            .collect();
        match revoke.auth {
            RevokeAuth::Basic => headers.push(("Authorization".to_owned(), basic(client))),
            RevokeAuth::Post => params.extend(self.credentials(client)),
            RevokeAuth::Bearer => headers.push(("Authorization".to_owned(), bearer(pair.access))),
            RevokeAuth::SecretBearer => headers.push(("Authorization".to_owned(), bearer(&client.secret))),
            RevokeAuth::None => {}
        }
        let url = render(&revoke.url, |name| match name {
            "client_id" => Some(in_path(&client.id)),
            _ => Some(in_path(account_id)),
        })?;
        Some(sent(revoke.method, &url, headers, revoke.body, &params))
    }

    /// The call that says whose account it is, where that takes one.
    pub fn identity_call(&self, access: &Secret) -> Option<Call> {
        let identity = Some(&self.identity).filter(|identity| identity.source == IdentitySource::Call)?;
        let mut headers = vec![("Accept".to_owned(), Secret::new("application/json".to_owned()))];
        let mut is_authorized = false;
        for (name, value) in &identity.headers {
            is_authorized |= name.eq_ignore_ascii_case("authorization");
            headers.push((name.clone(), Secret::new(render(value, |_| Some(access.reveal().to_owned()))?)));
        }
        if !is_authorized {
            headers.push(("Authorization".to_owned(), bearer(access)));
        }
        if identity.body.is_some() {
            headers.push(("Content-Type".to_owned(), Secret::new("application/json".to_owned())));
        }
        let (url, body) = (identity.url.clone()?, identity.body.clone().map(Secret::new));
        Some(Call { method: identity.method, url: Secret::new(url), headers, body })
    }

    fn token_call(&self, url: &str, client: &Client, mut params: Params) -> Call {
        let mut headers = vec![("Accept".to_owned(), Secret::new("application/json".to_owned()))];
        headers.extend(self.token.headers.iter().map(|(name, value)| (name.clone(), Secret::new(value.clone()))));
        match self.token.auth {
            ClientAuth::Basic => headers.push(("Authorization".to_owned(), basic(client))),
            // RFC 6749 section 2.3.1: an empty secret may be left out, and a public client has none.
            ClientAuth::Post => {
                let of_client = self.credentials(client);
                params.extend(of_client.into_iter().filter(|(_, value)| !value.is_empty()));
            }
        }
        sent(Method::Post, url, headers, self.token.body, &params)
    }

    fn credentials(&self, client: &Client) -> [(String, Zeroizing<String>); 2] {
        [param(&self.authorize.client_id, &client.id), param("client_secret", client.secret.reveal())]
    }
}

fn param(name: &str, value: &str) -> (String, Zeroizing<String>) {
    (name.to_owned(), Zeroizing::new(value.to_owned()))
}

/// An entry's parameters with their placeholders filled; the schema has seen to it that there are no others.
fn filled(params: &BTreeMap<String, String>, client: &Client, token: &Secret, account_id: &str) -> Params {
    let value = |name: &str| match name {
        "access_token" | "token" => Some(token.reveal().to_owned()),
        "client_id" => Some(client.id.clone()),
        "client_secret" => Some(client.secret.reveal().to_owned()),
        "account_id" => Some(account_id.to_owned()),
        _ => None,
    };
    let fill = |(name, text): (&String, &String)| Some((name.clone(), Zeroizing::new(render(text, value)?)));
    params.iter().filter_map(fill).collect()
}

/// Encoded for one part of a path, where a plus is no space.
pub(super) fn in_path(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// RFC 6749 section 2.3.1: both are form-encoded first.
fn basic(client: &Client) -> Secret {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Zeroizing::new(format!("{}:{}", encoded(&client.id), encoded(client.secret.reveal())));
    Secret::new(format!("Basic {}", BASE64_STANDARD.encode(&*pair)))
}

fn bearer(token: &Secret) -> Secret {
    Secret::new(format!("Bearer {}", token.reveal()))
}

const fn body_of(method: Method) -> Body {
    match method {
        Method::Post => Body::Form,
        Method::Get | Method::Delete => Body::Query,
    }
}

fn with_query(url: &str, query: &str) -> String {
    match (query.is_empty(), url.contains('?')) {
        (true, _) => url.to_owned(),
        (false, true) => format!("{url}&{query}"),
        (false, false) => format!("{url}?{query}"),
    }
}

fn sent(method: Method, url: &str, mut headers: Vec<(String, Secret)>, form: Body, params: &Params) -> Call {
    let encoded = || {
        let pairs = params.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    };
    let mut is_of = |kind: &str| headers.push(("Content-Type".to_owned(), Secret::new(kind.to_owned())));
    let (url, body) = match form {
        _ if params.is_empty() => (url.to_owned(), None),
        Body::Query => (with_query(url, &encoded()), None),
        Body::Form => {
            is_of("application/x-www-form-urlencoded");
            (url.to_owned(), Some(encoded()))
        }
        Body::Json => {
            is_of("application/json");
            let fields: BTreeMap<&str, &str> = params.iter().map(|(name, value)| (&**name, &***value)).collect();
            (url.to_owned(), serde_json::to_string(&fields).ok())
        }
    };
    Call { method, url: Secret::new(url), headers, body: body.map(Secret::new) }
}
