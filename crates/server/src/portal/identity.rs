//! Identity providers of an app: whose users it knows, and how it is told what became of them.

use std::collections::BTreeMap;

use grantd_domain::identity::{Algorithm, PRESETS, Preset};
use grantd_domain::webhook::Vendor;
use grantd_wire::api::{
    self, Claims, DeletedIdentityProvider, DiscoveredIdentityProvider, IdentityProvider, IdentityProviderCreate,
    IdentityProviderDiscover, IdentityProviderUpdate, IdpWebhook, IdpWebhookDisabled, IdpWebhookEnable,
    IdpWebhookRotate, IdpWebhookWithToken, Scim, ScimDisabled, ScimEnable, ScimWithToken,
};
use grantd_wire::{Code, Error, limits};
use serde::Serialize;
use serde_json::json;

use super::confirm::changes_who_counts;
use super::desk::{Desk, Shown};
use super::form::Form;
use crate::answer::Answer;
use crate::flow::connect::redirect_uri;
use crate::routes::Api;

/// Fields of the forms, for what is refused elsewhere to be said at the top.
const SHOWN: [&str; 17] = [
    "name",
    "issuer",
    "audiences",
    "jwks_url",
    "client_id",
    "scopes",
    "claims.subject",
    "claims.audience",
    "claims.email",
    "claims.name",
    "claims.groups",
    "claims.roles",
    "algorithms",
    "subject_from",
    "deactivation",
    "client_secret",
    "secret",
];

/// Those whose text is kept when the page is drawn again: a secret is typed anew.
fn kept() -> &'static [&'static str] {
    &SHOWN[..SHOWN.len() - 2]
}

/// A kind of identity provider.
#[derive(Serialize)]
struct Kind {
    id: &'static str,
    name: &'static str,
    /// What its issuers look like.
    issuer: &'static str,
    /// What a token's audience is there.
    audience: &'static str,
    needs_audience: bool,
    has_webhook: bool,
    /// The vendor signs, with a secret that it shows.
    signs: bool,
}

impl Kind {
    fn of(preset: &'static Preset) -> Self {
        let vendor = Vendor::parse(preset.id);
        Self {
            id: preset.id,
            name: preset.name,
            issuer: preset.issuer,
            audience: preset.audience_help,
            needs_audience: !preset.may_own(),
            has_webhook: vendor.is_some(),
            signs: vendor.is_some_and(Vendor::signs),
        }
    }
}

#[derive(Serialize)]
struct List {
    idps: Vec<IdentityProvider>,
    kinds: Vec<Kind>,
}

/// `GET /portal/apps/{}/identity`: those there are, and what one can be made of.
pub async fn list(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let most = limits::IDENTITY_PROVIDERS_MAX.to_string();
    let found: api::Page<IdentityProvider> = desk.load(Api::IdpsList, &[&app.id], &[("limit", &most)]).await?;
    let page = List { idps: found.items, kinds: PRESETS.iter().map(Kind::of).collect() };
    Ok(desk.page(&Shown::of("portal/idps.html", "identity", &app, &page)))
}

/// An algorithm that can be ticked.
#[derive(Serialize)]
struct Choice {
    name: &'static str,
    is_on: bool,
}

/// The form of an identity provider, new or registered.
#[derive(Serialize)]
struct Setup {
    kind: Kind,
    idp: Option<IdentityProvider>,
    claims: ClaimFields,
    algorithms: Vec<Choice>,
    /// Where users come back to when they sign in there.
    callback_url: String,
    shown: [&'static str; SHOWN.len()],
    scim: Option<Scim>,
    webhook: Option<IdpWebhook>,
    /// What the issuer says of itself, when it was looked at.
    looked: Option<DiscoveredIdentityProvider>,
}

/// What stands in the fields of claims.
#[derive(Serialize)]
struct ClaimFields {
    subject: String,
    audience: String,
    email: String,
    name: String,
    groups: String,
    roles: String,
}

impl ClaimFields {
    /// As it is registered, or as its kind usually has it.
    fn of(idp: Option<&IdentityProvider>, preset: &Preset) -> Self {
        let usual = preset.claims();
        let (subject, audience) = (Some(usual.subject), Some(usual.audience));
        let usual = Claims {
            subject,
            audience,
            email: usual.email,
            name: usual.name,
            groups: usual.groups,
            roles: usual.roles,
        };
        let claims = idp.map_or(usual, |idp| idp.claims.clone());
        let text = Option::unwrap_or_default;
        Self {
            subject: text(claims.subject),
            audience: text(claims.audience),
            email: text(claims.email),
            name: text(claims.name),
            groups: text(claims.groups),
            roles: text(claims.roles),
        }
    }
}

impl Setup {
    fn new(desk: &Desk<'_>, preset: &'static Preset, idp: Option<IdentityProvider>) -> Self {
        let ticked = desk.form.all("algorithm");
        let is_on = |algorithm: &Algorithm| match (&idp, desk.form.is_on("setup")) {
            (_, true) => ticked.iter().any(|name| name == algorithm.as_str()),
            (Some(idp), false) => idp.algorithms.iter().any(|name| name == algorithm.as_str()),
            (None, false) => preset.algorithms.contains(algorithm),
        };
        let choice = |algorithm: &Algorithm| Choice { name: algorithm.as_str(), is_on: is_on(algorithm) };
        Self {
            kind: Kind::of(preset),
            claims: ClaimFields::of(idp.as_ref(), preset),
            algorithms: Algorithm::ALL.iter().map(choice).collect(),
            callback_url: redirect_uri(desk.vault),
            shown: SHOWN,
            idp,
            scim: None,
            webhook: None,
            looked: None,
        }
    }
}

/// What the issuer says of itself, without what the page says already: of the audience at its field, and that it is registered where it is.
async fn look(desk: &Desk<'_>, app: &api::App, page: &Setup) -> Result<DiscoveredIdentityProvider, Error> {
    let issuer = page.idp.as_ref().map_or_else(|| desk.form.text("issuer"), |idp| idp.issuer.clone());
    let ask = IdentityProviderDiscover { issuer, preset: Some(page.kind.id.to_owned()) };
    let mut found: DiscoveredIdentityProvider = desk.send_again(Api::IdpsDiscover, &[&app.id], &ask).await?;
    let is_said = |id: &str| id == "audience" || (id == "registered" && page.idp.is_some());
    found.findings.retain(|finding| !is_said(&finding.id));
    Ok(found)
}

/// The page with what was found, and what was typed.
async fn looked(desk: &Desk<'_>, app: &api::App, mut page: Setup, template: &'static str) -> Result<Answer, Error> {
    match look(desk, app, &page).await {
        Ok(found) => {
            page.looked = Some(found);
            let typed = if desk.form.is_on("setup") { desk.form.kept(kept()) } else { BTreeMap::new() };
            Ok(desk.page(&Shown::of(template, "identity", app, &page).with(typed)))
        }
        Err(error) => desk.again(error, kept(), Shown::of(template, "identity", app, &page)),
    }
}

fn preset(id: &str) -> Result<&'static Preset, Error> {
    Preset::find(id).ok_or_else(|| Code::NotFound.into())
}

/// `GET /portal/apps/{}/identity/new/{}`.
pub async fn new(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = Setup::new(desk, preset(&desk.params[1])?, None);
    Ok(desk.page(&Shown::of("portal/idp_new.html", "identity", &app, &page)))
}

/// `POST /portal/apps/{}/identity/new/{}`: adds it, or looks at its issuer first.
pub async fn create(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let form = &desk.form;
    let page = Setup::new(desk, preset(&desk.params[1])?, None);
    if form.is_on("look") {
        return looked(desk, &app, page, "portal/idp_new.html").await;
    }
    let ask = IdentityProviderCreate {
        preset: Some(page.kind.id.to_owned()),
        name: form.filled("name"),
        issuer: form.text("issuer"),
        audiences: form.list("audiences"),
        algorithms: Some(form.all("algorithm")),
        claims: Some(claims(form)),
        jwks_url: form.filled("jwks_url"),
        client_id: form.filled("client_id"),
        client_secret: form.filled("client_secret"),
        scopes: Some(form.words("scopes")).filter(|scopes| !scopes.is_empty()),
    };
    match desk.send::<IdentityProvider>(Api::IdpsCreate, &[&app.id], &ask).await {
        Ok((made, _)) => Ok(desk.go(&format!("/portal/apps/{}/identity/{}?done=idp_created", app.id, made.id))),
        Err(error) => desk.again(error, kept(), Shown::of("portal/idp_new.html", "identity", &app, &page)),
    }
}

/// What the form says of claims; one that is empty tokens do not have.
fn claims(form: &Form) -> Claims {
    let said = |name: &str| {
        let field = format!("claims.{name}");
        form.is_sent(&field).then(|| form.text(&field))
    };
    Claims {
        subject: said("subject"),
        audience: said("audience"),
        email: said("email"),
        name: said("name"),
        groups: said("groups"),
        roles: said("roles"),
    }
}

async fn registered(desk: &Desk<'_>, app: &api::App) -> Result<Setup, Error> {
    let params = [app.id.as_str(), &desk.params[1]];
    let idp: IdentityProvider = desk.load(Api::IdpsShow, &params, &[]).await?;
    let preset = preset(&idp.preset)?;
    let mut page = Setup::new(desk, preset, Some(idp));
    page.scim = unless_off(desk.load(Api::ScimShow, &params, &[]).await)?;
    page.webhook = unless_off(desk.load(Api::WebhookShow, &params, &[]).await)?;
    Ok(page)
}

/// What is switched off is not there.
fn unless_off<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// `GET /portal/apps/{}/identity/{}`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = registered(desk, &app).await?;
    Ok(desk.page(&Shown::of("portal/idp.html", "identity", &app, &page)))
}

/// `POST /portal/apps/{}/identity/{}`: changes it, or looks at its issuer.
pub async fn update(desk: &Desk<'_>) -> Result<Answer, Error> {
    let form = &desk.form;
    let app = desk.app().await?;
    let page = registered(desk, &app).await?;
    if form.is_on("look") {
        return looked(desk, &app, page, "portal/idp.html").await;
    }
    let ask = match form.raw("state") {
        "" if form.is_on("rediscover") => {
            IdentityProviderUpdate { rediscover: true, ..IdentityProviderUpdate::default() }
        }
        "" => IdentityProviderUpdate {
            name: form.filled("name"),
            audiences: Some(form.list("audiences")),
            algorithms: Some(form.all("algorithm")),
            claims: Some(claims(form)),
            jwks_url: form.filled("jwks_url"),
            client_id: form.filled("client_id"),
            client_secret: form.changed_secret("client_secret", "no_client_secret"),
            scopes: Some(form.words("scopes")),
            ..IdentityProviderUpdate::default()
        },
        state => IdentityProviderUpdate { state: Some(state.to_owned()), ..IdentityProviderUpdate::default() },
    };
    desk.check_grave(page.idp.as_ref().is_some_and(|idp| changes_who_counts(&ask, idp)))?;
    match desk.send::<IdentityProvider>(Api::IdpsUpdate, &[&app.id, &desk.params[1]], &ask).await {
        Ok(_) => Ok(here(desk, &app, "idp_updated")),
        Err(error) => desk.again(error, kept(), Shown::of("portal/idp.html", "identity", &app, &page)),
    }
}

fn here(desk: &Desk<'_>, app: &api::App, done: &str) -> Answer {
    desk.go(&format!("/portal/apps/{}/identity/{}?done={done}", app.id, desk.params[1]))
}

/// `GET /portal/apps/{}/identity/{}/delete`: what will happen.
pub async fn ask_delete(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = registered(desk, &app).await?;
    Ok(desk.page(&Shown::of("portal/idp_delete.html", "identity", &app, &page)))
}

/// `POST /portal/apps/{}/identity/{}/delete`.
pub async fn delete(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (app, idp) = (&desk.params[0], &desk.params[1]);
    desk.send::<DeletedIdentityProvider>(Api::IdpsDelete, &[app, idp], &json!({})).await?;
    Ok(desk.go(&format!("/portal/apps/{app}/identity?done=idp_deleted")))
}

/// A token that is shown once, and where it goes.
#[derive(Serialize)]
struct Shared {
    /// `scim` or `webhook`.
    of: &'static str,
    url: String,
    token: String,
    idp_id: String,
}

/// `POST /portal/apps/{}/identity/{}/scim`: on, with a new token, or off.
pub async fn scim(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let (form, params) = (&desk.form, [app.id.as_str(), &desk.params[1]]);
    let made = match form.raw("do") {
        "enable" => {
            let ask =
                ScimEnable { subject_from: form.filled("subject_from"), deactivation: form.filled("deactivation") };
            desk.send::<ScimWithToken>(Api::ScimEnable, &params, &ask).await
        }
        "rotate" => desk.send::<ScimWithToken>(Api::ScimRotate, &params, &json!({})).await,
        "disable" => {
            desk.send::<ScimDisabled>(Api::ScimDisable, &params, &json!({})).await?;
            return Ok(here(desk, &app, "scim_disabled"));
        }
        _ => return Err(Error::invalid("do", "must be enable, rotate or disable")),
    };
    match made {
        Ok((ScimWithToken { token, scim }, was_made))
            if desk.may_show(was_made, scim.rotated_at.unwrap_or(scim.created_at)) =>
        {
            let (url, idp_id) = (scim.base_url, scim.identity_provider_id);
            Ok(once(desk, &app, &Shared { of: "scim", url, token, idp_id }))
        }
        Ok(_) => Ok(here(desk, &app, "")),
        Err(error) => again_with(desk, &app, error).await,
    }
}

/// `POST /portal/apps/{}/identity/{}/webhook`: on, with a new token or secret, or off.
pub async fn webhook(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let (form, params) = (&desk.form, [app.id.as_str(), &desk.params[1]]);
    let secret = form.filled("secret");
    let made = match form.raw("do") {
        "enable" => {
            let ask = IdpWebhookEnable { secret, subject_from: form.filled("subject_from") };
            desk.send::<IdpWebhookWithToken>(Api::WebhookEnable, &params, &ask).await
        }
        "rotate" => desk.send::<IdpWebhookWithToken>(Api::WebhookRotate, &params, &IdpWebhookRotate { secret }).await,
        "disable" => {
            desk.send::<IdpWebhookDisabled>(Api::WebhookDisable, &params, &json!({})).await?;
            return Ok(here(desk, &app, "webhook_disabled"));
        }
        _ => return Err(Error::invalid("do", "must be enable, rotate or disable")),
    };
    match made {
        Ok((IdpWebhookWithToken { token: Some(token), webhook }, was_made))
            if desk.may_show(was_made, webhook.rotated_at.unwrap_or(webhook.created_at)) =>
        {
            let (url, idp_id) = (webhook.url, webhook.identity_provider_id);
            Ok(once(desk, &app, &Shared { of: "webhook", url, token, idp_id }))
        }
        // The vendor has a secret of its own, which was given; or the token was shown a while ago.
        Ok(_) => Ok(here(desk, &app, "webhook_enabled")),
        Err(error) => again_with(desk, &app, error).await,
    }
}

fn once(desk: &Desk<'_>, app: &api::App, page: &Shared) -> Answer {
    desk.page(&Shown::of("portal/idp_token.html", "identity", app, page))
}

async fn again_with(desk: &Desk<'_>, app: &api::App, error: Error) -> Result<Answer, Error> {
    let page = registered(desk, app).await?;
    desk.again(error, kept(), Shown::of("portal/idp.html", "identity", app, &page))
}
