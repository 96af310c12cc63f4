//! A provider that speaks as its entry says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_domain::provider::{
    Behaviour, Body, ClientAuth, IdentitySource, Method, Pkce, Provider, RefreshKind, RevokeAuth, TokenKind,
};
use grantd_wire::TimeMs;
use serde_json::{Map, Value, json};

use super::words::{
    Params, account_of, basic, digest, filled, form_of, in_path, name_of, parsed, pinned_host, put, without_query,
};
use super::{Act, CLIENT_ID, CLIENT_SECRET, GIVEN, Life};

/// One consent, and every token that came of it.
#[derive(Default)]
pub(super) struct Family {
    pub(super) refresh: Option<String>,
    pub(super) spent: Vec<(String, TimeMs)>,
    pub(super) access: Vec<String>,
    pub(super) is_exchanged: bool,
    pub(super) is_over: bool,
}

/// What is played now.
pub(super) struct Playing {
    pub(super) facts: Provider,
    pub(super) redirect_uri: String,
    pub(super) life: Life,
    /// The query of the last consent.
    pub(super) link: Params,
    pub(super) code: String,
    pub(super) family: Family,
    pub(super) acts: VecDeque<Act>,
    pub(super) issued: usize,
    /// How often each was asked.
    pub(super) renewals: usize,
    pub(super) revocations: usize,
    pub(super) seen: BTreeSet<Behaviour>,
    pub(super) wrong: Vec<String>,
}

/// A request as it came.
pub(super) struct Request {
    pub(super) method: String,
    /// Without its query.
    pub(super) url: String,
    pub(super) query: Params,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: String,
}

/// What comes back.
pub(super) enum Said {
    Whole(Reply),
    /// The connection ends as far into the answer as it still had to go.
    Half(Reply),
    Nothing,
    /// Not even that the connection is over.
    Silence,
}

/// An error of RFC 6749 section 5.2.
struct Failed(&'static str);

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

impl Playing {
    /// The next consent; of the same provider, what was seen before counts on.
    pub(super) fn new(facts: &Provider, redirect_uri: &str, life: Life, before: Option<Self>) -> Self {
        let before = before.filter(|before| before.facts.id == facts.id);
        let (seen, wrong, issued) = before.map(|before| (before.seen, before.wrong, before.issued)).unwrap_or_default();
        Self {
            facts: facts.clone(),
            redirect_uri: redirect_uri.to_owned(),
            life,
            link: Params::new(),
            code: String::new(),
            family: Family::default(),
            acts: VecDeque::new(),
            issued,
            renewals: 0,
            revocations: 0,
            seen,
            wrong,
        }
    }

    /// Notes what does not hold.
    fn ensure(&mut self, holds: bool, what: &str) {
        if !holds {
            self.wrong.push(what.to_owned());
        }
    }

    fn is(&self, behaviour: Behaviour) -> bool {
        self.facts.behaviours().contains(&behaviour)
    }

    fn see_if(&mut self, holds: bool, behaviour: Behaviour) {
        if holds {
            self.seen.insert(behaviour);
        }
    }

    /// Scopes as the link asked for them.
    fn asked(&self) -> Option<String> {
        self.link.get(&self.facts.scopes.param).cloned()
    }

    // The link

    pub(super) fn consent(&mut self, link: &str) -> Vec<(String, String)> {
        let facts = self.facts.clone();
        let (before, query) = link.rsplit_once('?').unwrap_or((link, ""));
        let (base, own) = facts.authorize.url.split_once('?').unwrap_or((&facts.authorize.url, ""));
        self.ensure(before == base, &format!("the link goes to {before}"));
        let query = parsed(query.as_bytes());
        self.ensure(
            parsed(own.as_bytes()).iter().all(|(name, value)| query.get(name) == Some(value)),
            "the link's own query",
        );
        self.see_if(before.contains('#'), Behaviour::RouteInFragment);
        self.see_if(before.contains(GIVEN), Behaviour::FieldInUrl);
        self.ensure(query.get("response_type").is_some_and(|kind| kind == "code"), "response_type");
        self.ensure(query.get(&facts.authorize.client_id).is_some_and(|id| id == CLIENT_ID), "client id in the link");
        if facts.authorize.client_id != "client_id" {
            self.ensure(!query.contains_key("client_id"), "client_id beside the provider's own name");
            self.seen.insert(Behaviour::OwnClientId);
        }
        self.ensure(query.get("redirect_uri") == Some(&self.redirect_uri), "redirect_uri in the link");
        self.see_if(self.redirect_uri == GIVEN, Behaviour::NamedRedirectUri);
        for (name, value) in &facts.authorize.params {
            self.ensure(query.get(name) == Some(value), &format!("parameter {name} of the link"));
            self.seen.insert(Behaviour::LinkParameters);
        }
        match query.get(&facts.scopes.param) {
            Some(scopes) => {
                let wanted = facts.scopes.default.iter().chain(&facts.scopes.required);
                let asked: Vec<&str> = scopes.split(&facts.scopes.separator).collect();
                let has_all = wanted.clone().all(|scope| asked.contains(&scope.as_str()));
                self.ensure(has_all && asked.len() > 1, &format!("scopes {scopes}"));
                self.see_if(facts.scopes.separator == "," && scopes.contains(','), Behaviour::CommaScopes);
                self.see_if(facts.scopes.param != "scope" && !query.contains_key("scope"), Behaviour::OwnScope);
            }
            None => self.see_if(facts.scopes.default.is_empty(), Behaviour::NoScopes),
        }
        let has_pkce = query.contains_key("code_challenge");
        match facts.authorize.pkce {
            Pkce::Required => {
                let is_s256 = query.get("code_challenge_method").is_some_and(|method| method == "S256");
                self.ensure(has_pkce && is_s256, "PKCE is required");
                self.see_if(has_pkce, Behaviour::PkceRequired);
            }
            Pkce::Refused => {
                self.ensure(!has_pkce, "PKCE is refused");
                self.see_if(!has_pkce, Behaviour::PkceRefused);
            }
            Pkce::Supported | Pkce::Unknown => self.ensure(has_pkce, "PKCE is sent"),
        }
        let state = query.get("state").cloned().unwrap_or_default();
        self.link = query;
        self.issued += 1;
        self.code = format!("canary-code-{}", self.issued);
        let suffix = if self.is(Behaviour::CodeSuffix) { "#_" } else { "" };
        let mut back = vec![("code".to_owned(), format!("{}{suffix}", self.code)), ("state".to_owned(), state)];
        if facts.identity.source == IdentitySource::Callback {
            back.extend(facts.identity.id.iter().enumerate().map(|(n, at)| (at[1..].to_owned(), format!("part-{n}"))));
        }
        back.extend(facts.authorize.issuer.iter().map(|issuer| ("iss".to_owned(), issuer.clone())));
        back
    }

    // Calls

    pub(super) fn answer(&mut self, request: &Request, now: TimeMs) -> Said {
        let at = |url: &str| without_query(url) == request.url;
        let facts = self.facts.clone();
        let is_post = request.method == "POST";
        let is_of = |method: Method| request.method == name_of(method);
        let refresh_url = facts.refresh.url.as_ref().unwrap_or(&facts.token.url);
        let is_renewal = String::from_utf8_lossy(&request.body).contains("refresh_token");
        if let Some(exchange) =
            facts.exchange.as_ref().filter(|_| !self.family.is_exchanged && !self.family.access.is_empty())
            && at(&exchange.url)
            && is_of(exchange.method)
        {
            return Said::Whole(self.exchange(request, now));
        }
        if facts.refresh.kind == RefreshKind::Exchange && at(refresh_url) && facts.refresh.method.is_some_and(is_of) {
            return self.renew(request, now);
        }
        if at(refresh_url) && is_post && is_renewal {
            return self.renew(request, now);
        }
        if at(&facts.token.url) && is_post {
            self.see_if(request.url.contains(GIVEN), Behaviour::FieldInUrl);
            return Said::Whole(self.redeem(request, now));
        }
        if facts.identity.url.as_deref().is_some_and(at) {
            return Said::Whole(self.identify(request));
        }
        if facts.revoke.is_some() {
            return Said::Whole(self.revoke(request));
        }
        self.wrong.push(format!("{} {}", request.method, request.url));
        Said::Whole(Reply { status: 404, kind: JSON, body: String::new() })
    }

    /// Parameters of a token call that came as the entry says, from the client.
    fn params(&mut self, request: &Request) -> Result<Params, Failed> {
        let token = self.facts.token.clone();
        let kind = request.headers.get("content-type").map_or("", String::as_str);
        let mut params = match token.body {
            Body::Form if kind == FORM => parsed(&request.body),
            Body::Json if kind == JSON => {
                self.seen.insert(Behaviour::JsonBody);
                serde_json::from_slice(&request.body).unwrap_or_default()
            }
            _ => return Err(self.refuse("invalid_request", &format!("a token call of type {kind}"))),
        };
        for (name, value) in &token.headers {
            if request.headers.get(&name.to_lowercase()) != Some(value) {
                return Err(self.refuse("invalid_request", &format!("header {name} of a token call")));
            }
            self.seen.insert(Behaviour::TokenHeaders);
        }
        let authorization = request.headers.get("authorization");
        let (id, secret) = (params.remove(&self.facts.authorize.client_id), params.remove("client_secret"));
        let is_client = match token.auth {
            ClientAuth::Basic => id.is_none() && secret.is_none() && authorization == Some(&basic()),
            ClientAuth::Post => {
                self.seen.insert(Behaviour::ClientInBody);
                id.as_deref() == Some(CLIENT_ID) && secret.as_deref() == Some(CLIENT_SECRET) && authorization.is_none()
            }
        };
        if is_client { Ok(params) } else { Err(self.refuse("invalid_client", "who calls the token endpoint")) }
    }

    fn refuse(&mut self, code: &'static str, what: &str) -> Failed {
        self.wrong.push(what.to_owned());
        Failed(code)
    }

    fn redeem(&mut self, request: &Request, now: TimeMs) -> Reply {
        match self.redeemed(request, now) {
            Ok(answer) => Reply { status: 200, kind: JSON, body: answer.to_string() },
            Err(Failed(code)) => self.failure(code),
        }
    }

    fn redeemed(&mut self, request: &Request, now: TimeMs) -> Result<Value, Failed> {
        let params = self.params(request)?;
        if params.get("grant_type").is_none_or(|kind| kind != "authorization_code") {
            return Err(self.refuse("unsupported_grant_type", "grant_type of a code"));
        }
        if params.get("code") != Some(&self.code) || self.code.is_empty() {
            return Err(self.refuse("invalid_grant", "the code"));
        }
        self.code.clear();
        self.see_if(self.is(Behaviour::CodeSuffix), Behaviour::CodeSuffix);
        if params.get("redirect_uri") != Some(&self.redirect_uri) {
            return Err(self.refuse("invalid_grant", "redirect_uri of a code"));
        }
        let verifier = params.get("code_verifier").map_or("", String::as_str);
        match self.link.get("code_challenge") {
            Some(challenge) if *challenge != digest(verifier) => {
                return Err(self.refuse("invalid_grant", "the verifier"));
            }
            None if !verifier.is_empty() => {
                return Err(self.refuse("invalid_request", "a verifier without a challenge"));
            }
            _ => {}
        }
        self.family = Family::default();
        let has_refresh = !matches!(self.facts.refresh.kind, RefreshKind::None | RefreshKind::Exchange);
        let refresh = (has_refresh && self.life != Life::Endless).then(|| self.new_token("rt"));
        self.family.refresh.clone_from(&refresh);
        let life = self.life;
        let tokens = self.tokens(refresh, life, now);
        let mut answer = match self.facts.token.root.clone() {
            Some(root) => {
                self.seen.insert(Behaviour::NestedTokens);
                // Of somebody else: only the nested one is meant.
                let mut answer = json!({"access_token": "canary-of-another"});
                put(&mut answer, &root, tokens);
                answer
            }
            None => tokens,
        };
        if self.is(Behaviour::OkFalse) {
            answer["ok"] = json!(true);
        }
        if self.facts.identity.source == IdentitySource::Token {
            self.tell(&mut answer);
        }
        self.pin(&mut answer, IdentitySource::Token);
        self.id_token(&mut answer, now);
        Ok(answer)
    }

    fn new_token(&mut self, kind: &str) -> String {
        self.issued += 1;
        format!("canary-{kind}-{}", self.issued)
    }

    /// A new access token, in the entry's words.
    fn tokens(&mut self, refresh: Option<String>, life: Life, now: TimeMs) -> Value {
        let access = self.new_token("at");
        self.family.access.push(access.clone());
        let mut tokens = json!({"access_token": access, "token_type": "Bearer"});
        if let Some(refresh) = refresh {
            tokens["refresh_token"] = refresh.into();
        }
        if let Some(scopes) = self.asked() {
            tokens["scope"] = scopes.into();
        }
        match (life, self.facts.token.expires_at.clone()) {
            (Life::Said(seconds), Some(at)) => put(&mut tokens, &at, json!(now.plus_ms(seconds * 1000))),
            (Life::Said(seconds), None) => tokens["expires_in"] = seconds.into(),
            (Life::Endless, _) if self.is(Behaviour::ZeroIsNever) => {
                self.seen.insert(Behaviour::ZeroIsNever);
                tokens["expires_in"] = 0.into();
            }
            (Life::Endless | Life::Unsaid, _) => {}
        }
        tokens
    }

    fn exchange(&mut self, request: &Request, now: TimeMs) -> Reply {
        let exchange = self.facts.exchange.clone().unwrap();
        let access = self.family.access.last().cloned().unwrap_or_default();
        let sent = if request.method == "GET" { request.query.clone() } else { parsed(&request.body) };
        let expected = filled(&exchange.params, &access, "");
        self.ensure(sent == expected, "parameters of the second exchange");
        self.seen.insert(Behaviour::SecondExchange);
        self.family.is_exchanged = true;
        let life = self.life;
        let tokens = self.tokens(None, life, now);
        Reply { status: 200, kind: JSON, body: tokens.to_string() }
    }

    // Renewal

    fn renew(&mut self, request: &Request, now: TimeMs) -> Said {
        self.renewals += 1;
        let act = self.acts.pop_front();
        match act {
            Some(Act::Fail) => return Said::Whole(self.failure("temporarily_unavailable")),
            Some(Act::Say(status, kind, body)) => return Said::Whole(Reply { status, kind, body: body.to_owned() }),
            Some(Act::CutOff) => {
                let body = r#"{"access_token":"canary-cut-off","#.to_owned();
                return Said::Half(Reply { status: 200, kind: JSON, body });
            }
            Some(Act::Hang) => return Said::Silence,
            Some(Act::Lose) | None => {}
        }
        let renewed = match self.facts.refresh.kind {
            RefreshKind::Exchange => self.exchanged(request, now),
            _ => self.refreshed(request, now),
        };
        if act == Some(Act::Lose) {
            return Said::Nothing;
        }
        Said::Whole(match renewed {
            Ok(answer) if self.is(Behaviour::FormAnswer) => {
                self.seen.insert(Behaviour::FormAnswer);
                Reply { status: 200, kind: FORM, body: form_of(&answer) }
            }
            Ok(answer) => Reply { status: 200, kind: JSON, body: answer.to_string() },
            Err(Failed(code)) => self.failure(code),
        })
    }

    fn exchanged(&mut self, request: &Request, now: TimeMs) -> Result<Value, Failed> {
        let sent = if request.method == "GET" { request.query.clone() } else { parsed(&request.body) };
        let living = self.family.access.iter().find(|access| filled(&self.facts.refresh.params, access, "") == sent);
        if living.is_none() || self.family.is_over {
            return Err(self.refuse("invalid_grant", "parameters of an exchange"));
        }
        self.seen.insert(Behaviour::ExchangesAccessToken);
        self.see_if(self.is(Behaviour::SeparateRefreshUrl), Behaviour::SeparateRefreshUrl);
        Ok(self.tokens(None, Life::Said(5_184_000), now))
    }

    fn refreshed(&mut self, request: &Request, now: TimeMs) -> Result<Value, Failed> {
        let params = self.params(request)?;
        let refresh = self.facts.refresh.clone();
        if params.get("grant_type").is_none_or(|kind| kind != "refresh_token") {
            return Err(self.refuse("unsupported_grant_type", "grant_type of a refresh"));
        }
        let is_apart = refresh.url.as_ref().is_some_and(|url| *url != self.facts.token.url);
        self.see_if(is_apart, Behaviour::SeparateRefreshUrl);
        let redirect_uri = refresh.redirect_uri.then(|| self.redirect_uri.clone());
        if params.get("redirect_uri") != redirect_uri.as_ref() {
            return Err(self.refuse("invalid_request", "redirect_uri of a refresh"));
        }
        self.see_if(redirect_uri.is_some(), Behaviour::RedirectUriAtRefresh);
        for (name, value) in &refresh.params {
            if params.get(name) != Some(value) {
                return Err(self.refuse("invalid_request", &format!("parameter {name} of a refresh")));
            }
            self.seen.insert(Behaviour::RefreshParameters);
        }
        let presented = params.get("refresh_token").cloned().unwrap_or_default();
        let spent_at = self.family.spent.iter().find(|(spent, _)| *spent == presented).map(|(_, at)| *at);
        let grace_ms = i64::from(refresh.grace_s.unwrap_or(0)) * 1000;
        let is_good = match spent_at {
            None => self.family.refresh.as_ref() == Some(&presented),
            Some(at) => now.since(at) < grace_ms,
        };
        if !is_good || self.family.is_over {
            // A token that was spent with its answer lost is what a strict provider refuses; that is no fault of the call.
            self.family.is_over = true;
            return Err(Failed("invalid_grant"));
        }
        self.see_if(spent_at.is_some(), Behaviour::RotatesWithGrace);
        let next = match refresh.kind {
            RefreshKind::Stable => None,
            _ => {
                self.family.spent.push((presented, now));
                let next = self.new_token("rt");
                self.family.refresh = Some(next.clone());
                Some(next)
            }
        };
        let life = if self.is(Behaviour::MissingExpiresIn) { Life::Unsaid } else { Life::Said(7_200) };
        let mut answer = self.tokens(next, life, now);
        if self.is(Behaviour::OkFalse) {
            answer["ok"] = json!(true);
        }
        Ok(answer)
    }

    /// A failure as the entry says it.
    fn failure(&mut self, code: &str) -> Reply {
        let error = json!({"error": code, "error_description": "the lab said no"});
        if self.is(Behaviour::OkFalse) {
            self.seen.insert(Behaviour::OkFalse);
            return Reply { status: 200, kind: JSON, body: json!({"ok": false, "error": code}).to_string() };
        }
        if self.is(Behaviour::ErrorIn200) {
            self.seen.insert(Behaviour::ErrorIn200);
            return match self.is(Behaviour::FormAnswer) {
                true => Reply { status: 200, kind: FORM, body: form_of(&error) },
                false => Reply { status: 200, kind: JSON, body: error.to_string() },
            };
        }
        let status = if code == "invalid_client" { 401 } else { 400 };
        Reply { status, kind: JSON, body: error.to_string() }
    }

    // The account

    /// Tells whose account it is, in the entry's places.
    fn tell(&self, answer: &mut Value) {
        let identity = &self.facts.identity;
        for at in identity.name.iter().chain(&identity.email) {
            put(answer, at, json!("Somebody"));
        }
        for (n, at) in identity.id.iter().enumerate() {
            put(answer, at, json!(format!("part-{n}")));
        }
    }

    fn pin(&self, answer: &mut Value, source: IdentitySource) {
        if let Some(pin) = self.facts.hosts.pin.as_ref().filter(|pin| pin.source == source) {
            let host = pinned_host(&self.facts).unwrap();
            let value = match pin.format.strip_prefix("{value}") {
                Some("") => format!("https://{host}"),
                after => host.strip_suffix(after.unwrap()).unwrap().to_owned(),
            };
            put(answer, &pin.pointer, json!(value));
        }
    }

    fn id_token(&self, answer: &mut Value, now: TimeMs) {
        let is_openid = self.asked().is_some_and(|asked| asked.split([' ', ',']).any(|scope| scope == "openid"));
        if !is_openid && self.facts.identity.source != IdentitySource::IdToken {
            return;
        }
        let mut claims = json!({"aud": CLIENT_ID, "exp": now.0 / 1000 + 600, "sub": "subject"});
        if let Some(issuer) = &self.facts.authorize.issuer {
            claims["iss"] = issuer.as_str().into();
        }
        if let Some(nonce) = self.link.get("nonce") {
            claims["nonce"] = nonce.as_str().into();
        }
        if self.facts.identity.source == IdentitySource::IdToken {
            self.tell(&mut claims);
        }
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        answer["id_token"] = format!("{}.{}.canary", encode(&json!({"alg": "RS256"})), encode(&claims)).into();
    }

    fn identify(&mut self, request: &Request) -> Reply {
        let identity = self.facts.identity.clone();
        let access = self.family.access.last().cloned().unwrap_or_default();
        let query = identity.url.as_deref().and_then(|url| url.split_once('?')).map_or("", |(_, query)| query);
        self.ensure(request.method == name_of(identity.method), "method of the identity call");
        self.ensure(request.query == parsed(query.as_bytes()), "query of the identity call");
        self.ensure(request.body == identity.body.unwrap_or_default().as_bytes(), "body of the identity call");
        let mut headers = BTreeMap::from([("authorization".to_owned(), format!("Bearer {access}"))]);
        headers.extend(
            identity
                .headers
                .iter()
                .map(|(name, value)| (name.to_lowercase(), value.replace("{access_token}", &access))),
        );
        for (name, value) in headers {
            self.ensure(request.headers.get(&name) == Some(&value), &format!("header {name} of the identity call"));
        }
        self.see_if(request.method == "POST", Behaviour::AccountByPost);
        let mut answer = Value::Object(Map::new());
        self.tell(&mut answer);
        self.pin(&mut answer, IdentitySource::Call);
        Reply { status: 200, kind: JSON, body: answer.to_string() }
    }

    // The end

    fn revoke(&mut self, request: &Request) -> Reply {
        self.revocations += 1;
        let revoke = self.facts.revoke.clone().unwrap();
        let account = account_of(&self.facts);
        let url = revoke.url.replace("{client_id}", &in_path(CLIENT_ID)).replace("{account_id}", &in_path(&account));
        self.ensure(without_query(&url) == request.url, &format!("{} {}", request.method, request.url));
        self.ensure(request.method == name_of(revoke.method), "method of a revocation");
        let access = self.family.access.last().cloned().unwrap_or_default();
        let token = match revoke.token {
            TokenKind::Access => access.clone(),
            TokenKind::Refresh => self.family.refresh.clone().unwrap_or_else(|| access.clone()),
        };
        let mut expected = filled(&revoke.params, &token, &account);
        if revoke.auth == RevokeAuth::Post {
            expected.insert(self.facts.authorize.client_id.clone(), CLIENT_ID.to_owned());
            expected.insert("client_secret".to_owned(), CLIENT_SECRET.to_owned());
        }
        let sent = match revoke.body {
            Body::Form => parsed(&request.body),
            Body::Json => serde_json::from_slice(&request.body).unwrap_or_default(),
            Body::Query => request.query.clone(),
        };
        self.ensure(sent == expected, "parameters of a revocation");
        let authorization = match revoke.auth {
            RevokeAuth::Basic => Some(basic()),
            RevokeAuth::Bearer => Some(format!("Bearer {access}")),
            RevokeAuth::SecretBearer => Some(format!("Bearer {CLIENT_SECRET}")),
            RevokeAuth::Post | RevokeAuth::None => revoke
                .headers
                .get("Authorization")
                .map(|_| filled(&revoke.headers, &token, &account).remove("Authorization").unwrap_or_default()),
        };
        self.ensure(request.headers.get("authorization") == authorization.as_ref(), "who revokes");
        for (name, value) in filled(&revoke.headers, &token, &account) {
            self.ensure(
                request.headers.get(&name.to_lowercase()) == Some(&value),
                &format!("header {name} of a revocation"),
            );
        }
        self.see_if(self.is(Behaviour::OwnRevocation), Behaviour::OwnRevocation);
        self.family.is_over = true;
        Reply { status: 200, kind: JSON, body: String::new() }
    }
}
