//! Providers that are not in the catalogue: what their OpenID discovery document says, and what the operator does.

use std::collections::BTreeMap;

use grantd_wire::api::CustomProvider;
use serde::Deserialize;
use url::Url;

use super::{
    Authorize, Body, ClientAuth, Ends, Hosts, Identity, IdentitySource, Injection, Method, Pkce, Provider, Refresh,
    RefreshKind, Revoke, RevokeAuth, Scopes, Token, TokenKind,
};
use crate::evidence::{Evidence, Level};
use crate::template::http_name;

/// Why a provider cannot be used as it is described. Says which field.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field} {why}")]
pub struct CustomError {
    pub field: &'static str,
    pub why: &'static str,
}

/// Parts of a discovery document that are read (OpenID Connect Discovery 1.0 section 3, RFC 8414 section 2).
#[derive(Deserialize, Debug)]
pub struct Discovery {
    pub issuer: String,
    pub authorization_endpoint: Option<String>,
    pub token_endpoint: Option<String>,
    pub revocation_endpoint: Option<String>,
    pub userinfo_endpoint: Option<String>,
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    pub code_challenge_methods_supported: Vec<String>,
    pub jwks_uri: Option<String>,
    #[serde(default)]
    pub id_token_signing_alg_values_supported: Vec<String>,
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// Where an issuer's discovery document is.
pub fn discovery_url(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

impl Discovery {
    /// Reads a document, whoever it is of.
    pub fn read(body: &[u8]) -> Result<Self, CustomError> {
        let wrong = |_| CustomError { field: "issuer", why: "has no discovery document that can be read" };
        serde_json::from_slice(body).map_err(wrong)
    }

    /// Reads a document that was fetched for `issuer`.
    pub fn parse(body: &[u8], issuer: &str) -> Result<Self, CustomError> {
        let wrong = |why| CustomError { field: "issuer", why };
        let found = Self::read(body)?;
        // Else another server's endpoints could be taken for this one's (section 4.3).
        match found.issuer == issuer {
            true => Ok(found),
            false => Err(wrong("calls itself otherwise in its discovery document: give it exactly as it does")),
        }
    }

    /// What was not said is as the document has it.
    pub fn complete(self, mut said: CustomProvider) -> CustomProvider {
        let fill = |field: &mut Option<String>, found: Option<String>| {
            if field.is_none() {
                *field = found;
            }
        };
        fill(&mut said.authorize_url, self.authorization_endpoint);
        fill(&mut said.token_url, self.token_endpoint);
        fill(&mut said.revoke_url, self.revocation_endpoint);
        fill(&mut said.userinfo_url, self.userinfo_endpoint);
        // A list that is not there means Basic.
        let methods = &self.token_endpoint_auth_methods_supported;
        let takes = |method: &str| methods.iter().any(|known| known == method);
        let auth = if takes("client_secret_post") && !takes("client_secret_basic") { "post" } else { "basic" };
        fill(&mut said.client_auth, Some(auth.to_owned()));
        said
    }
}

/// The entry of a provider that is not in the catalogue. `is_allowed` says whether a URL that is not `https` may be called.
pub fn of_custom(
    id: &str,
    name: &str,
    said: &CustomProvider,
    is_allowed: impl Fn(&str) -> bool,
) -> Result<Provider, CustomError> {
    let url = |field: &'static str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => {
            let url = Url::parse(text).map_err(|_| CustomError { field, why: "is no URL" })?;
            let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
            match url.scheme() {
                _ if !is_plain => Err(CustomError { field, why: "must have neither user info nor a fragment" }),
                "https" => Ok(Some(text.clone())),
                "http" if is_allowed(text) => Ok(Some(text.clone())),
                _ => Err(CustomError { field, why: "must be https, or a host and port that outbound.allow names" }),
            }
        }
    };
    let needed = |field: &'static str, text: Option<String>| {
        text.ok_or(CustomError { field, why: "is missing: give it, or an issuer whose discovery document has it" })
    };
    let client_auth = match said.client_auth.as_deref() {
        Some("basic") | None => ClientAuth::Basic,
        Some("post") => ClientAuth::Post,
        Some(_) => return Err(CustomError { field: "client_auth", why: "must be basic or post" }),
    };
    let separator = said.scope_separator.clone().unwrap_or_else(|| " ".to_owned());
    if ![" ", ","].contains(&separator.as_str()) {
        return Err(CustomError { field: "scope_separator", why: "must be a space or a comma" });
    }
    let own = [
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "code_challenge",
        "code_challenge_method",
        "nonce",
    ];
    if said.authorize_params.keys().any(|name| own.contains(&name.as_str())) {
        return Err(CustomError { field: "authorize_params", why: "must not hold what grantd sends itself" });
    }
    let header = said.header.clone().unwrap_or_else(|| "Authorization".to_owned());
    let format = said.format.clone().unwrap_or_else(|| "Bearer {token}".to_owned());
    if !http_name(&header) {
        return Err(CustomError { field: "header", why: "must be the name of a header" });
    }
    if format.matches("{token}").count() != 1 {
        return Err(CustomError { field: "format", why: "must hold {token} once" });
    }
    let pointers = |field: &'static str, said: &[String], default: &[&str]| -> Result<Vec<String>, CustomError> {
        let pointers: Vec<String> =
            if said.is_empty() { default.iter().map(|p| (*p).to_owned()).collect() } else { said.to_vec() };
        match pointers.iter().all(|pointer| pointer.starts_with('/')) {
            true => Ok(pointers),
            false => Err(CustomError { field, why: "must be JSON pointers such as /sub" }),
        }
    };
    let userinfo = url("userinfo_url", &said.userinfo_url)?;
    let source = if userinfo.is_some() { IdentitySource::Call } else { IdentitySource::IdToken };
    let default_scopes = if said.scopes.is_empty() { vec!["openid".to_owned()] } else { said.scopes.clone() };
    let evidence = || Evidence { level: Level::Unconfirmed, source: String::new(), checked: String::new() };
    let revoke = url("revoke_url", &said.revoke_url)?.map(|url| Revoke {
        method: Method::Post,
        url,
        auth: if client_auth == ClientAuth::Basic { RevokeAuth::Basic } else { RevokeAuth::Post },
        body: Body::Form,
        params: BTreeMap::from([("token".to_owned(), "{token}".to_owned())]),
        headers: BTreeMap::new(),
        token: TokenKind::Refresh,
        ends: Ends::Grant,
        evidence: evidence(),
    });
    Ok(Provider {
        id: id.to_owned(),
        name: name.to_owned(),
        category: "Custom".to_owned(),
        description: format!("{name}, as it was described here."),
        docs: String::new(),
        setup: None,
        fields: Vec::new(),
        authorize: Authorize {
            url: needed("authorize_url", url("authorize_url", &said.authorize_url)?)?,
            params: said.authorize_params.clone(),
            client_id: super::client_id(),
            redirect_uri: None,
            pkce: if said.no_pkce { Pkce::Refused } else { Pkce::Supported },
            issuer: url("issuer", &said.issuer)?,
            evidence: evidence(),
        },
        scopes: Scopes {
            param: super::scope(),
            separator,
            default: default_scopes,
            required: Vec::new(),
            known: said.scope_texts.clone(),
            evidence: evidence(),
        },
        token: Token {
            url: needed("token_url", url("token_url", &said.token_url)?)?,
            auth: client_auth,
            body: Body::Form,
            headers: BTreeMap::new(),
            root: None,
            quirks: Vec::new(),
            expires_at: None,
            lifetime_s: None,
            never_expires: false,
            evidence: evidence(),
        },
        exchange: None,
        refresh: Refresh {
            kind: RefreshKind::Unknown,
            url: None,
            method: None,
            params: BTreeMap::new(),
            redirect_uri: false,
            grace_s: None,
            min_age_s: None,
            idle_s: None,
            absolute_s: None,
            evidence: evidence(),
        },
        revoke,
        identity: Identity {
            source,
            method: Method::Get,
            url: userinfo,
            headers: BTreeMap::new(),
            body: None,
            id: pointers("account_id", &said.account_id, &["/sub"])?,
            name: pointers("account_name", &said.account_name, &["/email", "/preferred_username", "/name"])?,
            email: None,
            evidence: evidence(),
        },
        hosts: Hosts { allow: Vec::new(), pin: None, evidence: evidence() },
        injection: Injection { header, format, further: BTreeMap::new() },
        environments: BTreeMap::new(),
    })
}
