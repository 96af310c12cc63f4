//! From what is asked of a connect session to a stored one, whoever asks: an app by its key, or an operator.

use std::collections::BTreeSet;

use grantd_domain::account::AppProvider;
use grantd_domain::connect::{self, Asked, Asker, Repair, Wanted};
use grantd_domain::env::{new_token, new_uuid};
use grantd_domain::grant::{App, GrantStatus, Principal, check_text};
use grantd_domain::identity::User;
use grantd_domain::secret::Secret;
use grantd_domain::sign_in::{NoSignIn, can_sign_in};
use grantd_store::connect::SessionState;
use grantd_store::{Tx, apps, grants, providers};
use grantd_wire::api::ConnectSignIn;
use grantd_wire::ids::{AppId, ConnectSessionId, GrantId, UserId};
use grantd_wire::sdk::{ConnectSessionRequest, Lifetime, RequestedGrant};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};
use serde_json::json;

use crate::answer::of_store;
use crate::flow::connect::Session;
use crate::flow::sign_in;
use crate::vault::Vault;

/// What begins a session's token.
pub const TOKEN_PREFIX: &str = "sess_";

/// A session that is not stored yet. Only the hash of its token ever is.
pub struct Begun {
    pub session: Session,
    pub token_hash: [u8; 32],
    token: Secret,
}

impl Begun {
    /// A session with a token of its own.
    pub fn new(vault: &Vault, app: AppId, request: Asked, user_id: Option<UserId>, now: TimeMs) -> Self {
        let env = &*vault.env;
        let token = new_token(env, TOKEN_PREFIX);
        let session = Session {
            id: ConnectSessionId::from_uuid(new_uuid(env)),
            app_id: app,
            user_id,
            request,
            browser_hash: None,
            state: SessionState::Open,
            created_at: now,
            expires_at: now.plus_seconds(limits::CONNECT_SESSION_S),
            version: 1,
        };
        Self { session, token_hash: sha256(token.reveal().as_bytes()), token }
    }

    /// What the browser's library and polls are given.
    pub fn token(&self) -> &str {
        self.token.reveal()
    }

    /// The link for a browser. The token is behind the `#`, so that it reaches no log.
    pub fn connect_url(&self, vault: &Vault) -> String {
        format!("{}/sdk/oauth/connect#session={}", vault.settings.public_url, self.token())
    }

    /// Ids of the providers it is for.
    pub fn provider_ids(&self) -> Vec<&str> {
        self.session.request.providers.iter().map(|wanted| &*wanted.provider_id).collect()
    }
}

/// Looks at what is asked, and makes a session of it. `user`: what is connected will be theirs.
pub async fn begin(
    vault: &Vault,
    app: AppId,
    ask: ConnectSessionRequest,
    user: Option<&User>,
    by: Asker,
    now: TimeMs,
) -> Result<Begun, Error> {
    check(&ask, now)?;
    let named = named(&ask)?;
    let repair = match ask.repair_grant_id.as_deref() {
        Some(id) => Some(GrantId::parse(id).ok_or(Code::GrantNotFound)?),
        None => None,
    };
    let organization = vault.organization_id;
    let read = move |tx: &mut Tx<'_>| {
        let settings = apps::find(tx, organization, app)?.ok_or(Code::KeyNotActive)?;
        let (registered, _) = providers::list(tx, app, None, limits::PROVIDERS_MAX, 0)?;
        let mended = repair.map(|grant| grants::find(tx, app, grant)).transpose()?.flatten();
        Ok((settings, registered, mended))
    };
    let (settings, registered, mended) = vault.store.read(read).await.map_err(of_store)?;
    check_origins(&settings, ask.return_url.as_deref(), ask.allowed_origin.as_deref())?;
    let wanted = wanted(&ask, named.as_ref(), &registered)?;
    let mut owner = user.map(|user| user.id);
    let repair = match (repair, mended) {
        (None, _) => None,
        (Some(_), Some(listed)) => {
            let account = listed.credential.account().filter(|_| {
                let is_of = wanted.iter().any(|wanted| wanted.provider_id == listed.behind.provider_id());
                // Another user's is one that nobody knows.
                let is_theirs = user.is_none_or(|user| listed.grant.principal == Principal::User(user.id));
                is_of && is_theirs && listed.grant.status == GrantStatus::Active
            });
            let account = account.ok_or(Code::GrantNotFound)?;
            owner = owner.or(listed.credential.user_id);
            Some(Repair {
                grant_id: listed.grant.id,
                credential_id: listed.credential.id,
                account: account.identifier.clone(),
                account_name: account.name.clone(),
            })
        }
        (Some(_), None) => return Err(Code::GrantNotFound.into()),
    };
    match owner {
        Some(owner) => check_sign_in(vault, &settings, owner).await?,
        // Mending takes the account that was connected before and no other; an operator speaks for the app.
        None if repair.is_some() || matches!(by, Asker::OperatorId(_)) => {}
        None => check_bound(&settings)?,
    }
    let asked = Asked {
        by,
        is_direct: ask.direct && wanted.len() == 1,
        providers: wanted,
        switches_account: ask.switch_account,
        return_url: ask.return_url,
        allowed_origin: ask.allowed_origin,
        label: ask.requested_grant.map(|grant| grant.label),
        lifetime: ask.grant_policy.unwrap_or_default(),
        repair,
        user: user.map(connect::masked),
        key: None,
    };
    Ok(Begun::new(vault, app, asked, owner, now))
}

fn check(ask: &ConnectSessionRequest, now: TimeMs) -> Result<(), Error> {
    check_return_url(ask.return_url.as_deref())?;
    if let Some(origin) = ask.allowed_origin.as_deref()
        && !connect::is_origin(origin)
    {
        return Err(Error::invalid("allowed_origin", "must be an origin such as https://app.example.com"));
    }
    let metadata = ask.metadata.as_ref().map_or(0, |metadata| json!(metadata).to_string().len());
    if metadata > limits::CONNECT_METADATA_BYTES_MAX {
        return Err(Error::invalid(
            "metadata",
            &format!("must be at most {} bytes", limits::CONNECT_METADATA_BYTES_MAX),
        ));
    }
    check_grant(ask.requested_grant.as_ref(), ask.grant_policy, now)?;
    if ask.repair_grant_id.is_some() && (ask.requested_grant.is_some() || ask.switch_account) {
        return Err(Error::invalid("repair_grant_id", "goes with neither requested_grant nor switch_account"));
    }
    Ok(())
}

/// Refuses what no browser may be sent back to.
pub fn check_return_url(url: Option<&str>) -> Result<(), Error> {
    match url {
        Some(url) if !connect::is_return_url(url) => {
            Err(Error::new(Code::InvalidRedirectUri).detail("field", "return_url"))
        }
        _ => Ok(()),
    }
}

/// Refuses to send a browser to, or to tell a window of, an origin that is none of the app's, where the app names its own.
pub fn check_origins(app: &App, return_url: Option<&str>, allowed_origin: Option<&str>) -> Result<(), Error> {
    let refused = |code, field: &str| {
        let what = format!("`{field}`: is of an origin that this app does not list");
        let next = "An operator adds it with `grantd apps update --return-origin`.";
        Err(Error::new(code).message(format!("{what}. {next}")).detail("field", field))
    };
    let is_foreign =
        |address: Option<&str>| address.is_some_and(|address| !connect::is_of(address, &app.return_origins));
    if is_foreign(return_url) {
        return refused(Code::InvalidRedirectUri, "return_url");
    }
    if is_foreign(allowed_origin) {
        return refused(Code::InvalidOrigin, "allowed_origin");
    }
    Ok(())
}

/// Refuses a session whose user could not sign in, where the app demands that they do.
pub async fn check_sign_in(vault: &Vault, app: &App, user: UserId) -> Result<(), Error> {
    if app.connect_sign_in == ConnectSignIn::Off {
        return Ok(());
    }
    let provider = sign_in::provider_of(vault, app.id, user).await?;
    let able = provider.as_ref().ok_or(NoSignIn::NoProvider).and_then(can_sign_in);
    able.map_err(|why| why.refused(Code::IdpSigninNotConfigured))
}

/// Refuses a session for whoever opens it, where the app demands that users sign in: nobody could say whether it is the right one.
fn check_bound(app: &App) -> Result<(), Error> {
    match app.connect_sign_in {
        ConnectSignIn::Off => Ok(()),
        ConnectSignIn::Required => Err(Error::invalid(
            "user_token",
            "is missing: this app demands that users sign in before they connect (connect_sign_in)",
        )
        .hint(
            "Send the token of the user who will connect, or have an operator run `grantd connect` for the app itself.",
        )),
    }
}

/// Refuses a grant that no session can make.
pub fn check_grant(grant: Option<&RequestedGrant>, policy: Option<Lifetime>, now: TimeMs) -> Result<(), Error> {
    if let Some(grant) = grant {
        check_text("requested_grant.label", &grant.label, limits::LABEL_CHARS_MAX)?;
    }
    if let Some(Lifetime { expires_at: Some(_), .. }) = policy {
        return Err(Error::impossible(
            "grant_policy.expires_at",
            "is not for sessions: give max_ttl_seconds or default_ttl_seconds",
        ));
    }
    policy.map_or(Ok(()), |lifetime| grantd_domain::grant::expires_at(lifetime, now).map(drop))
}

/// The providers that are named, trimmed and in lower case, each once.
fn named(ask: &ConnectSessionRequest) -> Result<Option<Vec<String>>, Error> {
    let Some(given) = &ask.allowed_providers else { return Ok(None) };
    let mut seen = BTreeSet::new();
    let clean = given.iter().map(|name| name.trim().to_lowercase());
    let named: Vec<String> = clean.filter(|name| seen.insert(name.clone())).collect();
    match named.len() {
        0 => Err(Error::invalid("allowed_providers", "must name a provider, or be left out for all of them")),
        n if n > limits::CONNECT_PROVIDERS_MAX => {
            Err(Error::invalid("allowed_providers", &format!("must be at most {}", limits::CONNECT_PROVIDERS_MAX)))
        }
        _ => Ok(Some(named)),
    }
}

fn wanted(
    ask: &ConnectSessionRequest,
    named: Option<&Vec<String>>,
    registered: &[AppProvider],
) -> Result<Vec<Wanted>, Error> {
    let missing = |id: &str| {
        Error::invalid("allowed_providers", &format!("names {id}, which this app is not registered with"))
            .hint("An operator registers it with `grantd providers create`.")
            .with("provider_id", id.to_owned())
    };
    let chosen: Vec<&AppProvider> = match named {
        Some(named) => {
            let find =
                |id: &String| registered.iter().find(|provider| provider.provider_id == *id).ok_or_else(|| missing(id));
            named.iter().map(find).collect::<Result<_, _>>()?
        }
        None => registered.iter().collect(),
    };
    if chosen.is_empty() {
        return Err(Error::invalid(
            "allowed_providers",
            "cannot be left out: this app is not registered with any provider",
        )
        .hint("An operator registers one with `grantd providers create`."));
    }
    if (ask.direct || ask.repair_grant_id.is_some()) && chosen.len() != 1 {
        return Err(Error::invalid(
            "allowed_providers",
            "must name exactly one provider for direct or repair_grant_id",
        ));
    }
    let required = ask.required_scopes.clone().unwrap_or_default();
    for (id, scopes) in &required {
        if !chosen.iter().any(|provider| provider.provider_id == *id) {
            return Err(Error::invalid("required_scopes", &format!("names {id}, which the session is not for")));
        }
        let is_possible =
            scopes.len() <= limits::OAUTH_SCOPES_MAX && scopes.iter().all(|scope| connect::is_scope(scope));
        if !is_possible {
            return Err(Error::new(Code::ScopeNotAllowed).with("provider_id", id.clone()));
        }
    }
    let of = |provider: &&AppProvider| {
        let required = required.get(&provider.provider_id).cloned().unwrap_or_default();
        Wanted {
            provider_id: provider.provider_id.clone(),
            name: provider.name.clone(),
            scopes: connect::scopes(&provider.facts.scopes, &provider.scopes, &required),
            required,
        }
    };
    Ok(chosen.iter().map(of).collect())
}
