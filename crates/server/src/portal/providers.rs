//! OAuth providers of an app: the catalogue, and those that it is registered with.

use std::collections::{BTreeMap, BTreeSet};

use grantd_wire::api::{
    self, CatalogProvider, CustomProvider, DeletedProvider, Provider, ProviderCreate, ProviderUpdate,
};
use grantd_wire::{Code, Error, limits};
use serde::Serialize;

use super::confirm::redirects;
use super::desk::{Desk, Shown};
use crate::answer::Answer;
use crate::routes::Api;
use crate::sentence::Sentence;

/// How the form begins the names of what a catalogue's entry asks for; refusals name them so, too.
const FIELD: &str = "fields.";
/// The entry that is none.
const CUSTOM: &str = "custom";
/// Fields of the form beside those of an entry. What was typed into them is kept when the page is drawn again.
const KEPT: [&str; 22] = [
    "provider",
    "name",
    "client_id",
    "environment",
    "scopes",
    "allowed_hosts",
    "no_client_secret",
    "custom.issuer",
    "custom.authorize_url",
    "custom.token_url",
    "custom.revoke_url",
    "custom.userinfo_url",
    "custom.client_auth",
    "custom.no_pkce",
    "custom.scope_separator",
    "custom.scopes",
    "custom.scope_texts",
    "custom.authorize_params",
    "custom.account_id",
    "custom.account_name",
    "custom.header",
    "custom.format",
];

#[derive(Serialize)]
struct List {
    registered: Vec<Provider>,
    entries: Vec<Entry>,
    search: String,
    /// Entries that the whole catalogue has.
    of: i64,
}

/// An entry of the catalogue, as the list shows it.
#[derive(Serialize)]
struct Entry {
    id: String,
    name: String,
    category: String,
    is_verified: bool,
    is_registered: bool,
}

/// `GET /portal/apps/{}/providers`: those that the app is registered with, and the catalogue.
pub async fn list(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (app, search) = (desk.app().await?, desk.query.text("search"));
    let most = limits::PAGE_MAX.to_string();
    let registered: api::Page<Provider> = desk.load(Api::ProvidersList, &[&app.id], &[("limit", &most)]).await?;
    let query = [("limit", most.as_str()), ("search", &search)];
    let found: api::Page<CatalogProvider> = desk.load(Api::CatalogList, &[], &query).await?;
    let of = match search.is_empty() {
        true => found.total,
        false => desk.load::<api::Page<CatalogProvider>>(Api::CatalogList, &[], &[("limit", "1")]).await?.total,
    };
    let known: BTreeSet<&str> = registered.items.iter().map(|provider| provider.provider_id.as_str()).collect();
    let entry = |entry: CatalogProvider| Entry {
        is_registered: known.contains(entry.id.as_str()),
        id: entry.id,
        name: entry.name,
        category: entry.category,
        is_verified: entry.verified,
    };
    let entries = found.items.into_iter().map(entry).collect();
    let page = List { registered: registered.items, entries, search, of };
    Ok(desk.page(&Shown::of("portal/providers.html", "providers", &app, &page)))
}

/// A scope that can be ticked.
#[derive(Serialize)]
struct Scope {
    name: String,
    /// What it opens, in words.
    text: String,
    is_on: bool,
    /// It is asked for whatever is ticked.
    is_required: bool,
}

/// The form of a provider, new or registered.
#[derive(Serialize)]
struct Setup {
    /// The catalogue's; `None`: it is described here.
    entry: Option<CatalogProvider>,
    /// The one that is registered; `None`: it will be.
    provider: Option<Provider>,
    /// What else is known of one that is described, by the names of its fields.
    custom: BTreeMap<&'static str, String>,
    /// Of a new one: the entry's id, or the one that is none.
    id: String,
    scopes: Vec<Scope>,
    /// Those that have no box.
    more_scopes: String,
    /// Names of its fields, for what is refused elsewhere to be said at the top.
    names: Vec<String>,
}

impl Setup {
    /// Ticks what was ticked when the form was sent, else what is configured, else the provider's default.
    fn new(desk: &Desk<'_>, entry: Option<CatalogProvider>, provider: Option<Provider>, id: String) -> Self {
        let (known, required, default) = match &entry {
            Some(entry) => (entry.scopes.clone(), entry.required_scopes.clone(), entry.default_scopes.clone()),
            None => Default::default(),
        };
        let configured = provider.as_ref().map(|provider| provider.scopes.clone()).filter(|scopes| !scopes.is_empty());
        let asked = match desk.parts.method == http::Method::POST && desk.form.is_on("setup") {
            true => desk.form.all("scope"),
            false => configured.unwrap_or(default.clone()),
        };
        let boxes: BTreeSet<&String> = known.keys().chain(&default).chain(&required).collect();
        let more: Vec<&str> = asked.iter().filter(|name| !boxes.contains(name)).map(String::as_str).collect();
        let scope = |name: &&String| Scope {
            name: (*name).clone(),
            text: known.get(*name).cloned().unwrap_or_default(),
            is_on: asked.contains(name) || required.contains(name),
            is_required: required.contains(name),
        };
        let (scopes, more_scopes) = (boxes.iter().map(scope).collect(), more.join(" "));
        let fields = entry.iter().flat_map(|entry| &entry.fields).map(|field| format!("{FIELD}{}", field.name));
        let names = KEPT.iter().map(|name| (*name).to_owned()).chain(["client_secret".to_owned()]).chain(fields);
        let said = provider.as_ref().and_then(|provider| provider.custom.clone()).unwrap_or_default();
        Self { names: names.collect(), custom: fields_of(said), id, scopes, more_scopes, entry, provider }
    }

    /// What stands in the form's fields when it is drawn again.
    fn keep(&self) -> Vec<&str> {
        let is_shown = |name: &&str| *name != "client_secret";
        self.names.iter().map(String::as_str).filter(is_shown).collect()
    }
}

/// What stands in the fields of a provider that is described.
fn fields_of(said: CustomProvider) -> BTreeMap<&'static str, String> {
    let lines = |pairs: &BTreeMap<String, String>| {
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\n")
    };
    let text = Option::unwrap_or_default;
    BTreeMap::from([
        ("issuer", text(said.issuer)),
        ("authorize_url", text(said.authorize_url)),
        ("token_url", text(said.token_url)),
        ("revoke_url", text(said.revoke_url)),
        ("userinfo_url", text(said.userinfo_url)),
        ("client_auth", text(said.client_auth)),
        ("no_pkce", if said.no_pkce { "yes" } else { "" }.to_owned()),
        ("scope_separator", text(said.scope_separator)),
        ("scopes", said.scopes.join(" ")),
        ("scope_texts", lines(&said.scope_texts)),
        ("authorize_params", lines(&said.authorize_params)),
        ("account_id", said.account_id.join(" ")),
        ("account_name", said.account_name.join(" ")),
        ("header", text(said.header)),
        ("format", text(said.format)),
    ])
}

async fn load_entry(desk: &Desk<'_>, id: &str) -> Result<CatalogProvider, Error> {
    desk.load(Api::CatalogShow, &[id], &[]).await
}

async fn planned(desk: &Desk<'_>) -> Result<Setup, Error> {
    let id = &desk.params[1];
    let entry = if id == CUSTOM { None } else { Some(load_entry(desk, id).await?) };
    Ok(Setup::new(desk, entry, None, id.clone()))
}

/// `GET /portal/apps/{}/providers/new/{}`.
pub async fn new(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = planned(desk).await?;
    Ok(desk.page(&Shown::of("portal/provider_new.html", "providers", &app, &page)))
}

/// `POST /portal/apps/{}/providers/new/{}`.
pub async fn create(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = planned(desk).await?;
    let made = match asked(desk, &page) {
        Ok(ask) => desk.send::<Provider>(Api::ProvidersCreate, &[&app.id], &ask).await,
        Err(error) => Err(error),
    };
    match made {
        Ok((made, _)) => Ok(desk.go(&format!("/portal/apps/{}/providers/{}?done=provider_created", app.id, made.id))),
        Err(error) => desk.again(error, &page.keep(), Shown::of("portal/provider_new.html", "providers", &app, &page)),
    }
}

fn asked(desk: &Desk<'_>, page: &Setup) -> Result<ProviderCreate, Error> {
    let form = &desk.form;
    Ok(ProviderCreate {
        provider: page.entry.as_ref().map_or_else(|| form.text("provider"), |entry| entry.id.clone()),
        name: form.filled("name"),
        custom: page.entry.is_none().then(|| described(desk)).transpose()?,
        environment: form.filled("environment"),
        fields: form.under(FIELD),
        client_id: form.text("client_id"),
        client_secret: form.filled("client_secret"),
        scopes: scopes(desk, page),
        allowed_hosts: form.list("allowed_hosts"),
    })
}

/// What users are asked for. The provider's default is stored as such, so that it follows the catalogue.
fn scopes(desk: &Desk<'_>, page: &Setup) -> Vec<String> {
    let (ticked, more) = (desk.form.all("scope"), desk.form.words("scopes"));
    let chosen: BTreeSet<&String> = ticked.iter().chain(&more).collect();
    let usual = page.entry.iter().flat_map(|entry| entry.default_scopes.iter().chain(&entry.required_scopes));
    let required: BTreeSet<&String> = page.entry.iter().flat_map(|entry| &entry.required_scopes).collect();
    match chosen.union(&required).copied().collect::<BTreeSet<_>>() == usual.collect() {
        true => Vec::new(),
        false => chosen.into_iter().cloned().collect(),
    }
}

/// What the form says of a provider that is not in the catalogue.
fn described(desk: &Desk<'_>) -> Result<CustomProvider, Error> {
    let form = &desk.form;
    let pairs = |field: &str, example: &str| {
        form.pairs(field).ok_or_else(|| Sentence::NoLines.at(field, Code::InvalidValue).detail("example", example))
    };
    Ok(CustomProvider {
        issuer: form.filled("custom.issuer"),
        authorize_url: form.filled("custom.authorize_url"),
        token_url: form.filled("custom.token_url"),
        revoke_url: form.filled("custom.revoke_url"),
        userinfo_url: form.filled("custom.userinfo_url"),
        client_auth: form.filled("custom.client_auth"),
        no_pkce: form.is_on("custom.no_pkce"),
        scope_separator: Some(form.raw("custom.scope_separator").to_owned()).filter(|text| !text.is_empty()),
        scopes: form.words("custom.scopes"),
        scope_texts: pairs("custom.scope_texts", "files.read=Read your files")?,
        authorize_params: pairs("custom.authorize_params", "prompt=consent")?,
        account_id: form.words("custom.account_id"),
        account_name: form.words("custom.account_name"),
        header: form.filled("custom.header"),
        format: form.filled("custom.format"),
    })
}

async fn registered(desk: &Desk<'_>, app: &api::App) -> Result<Setup, Error> {
    let provider: Provider = desk.load(Api::ProvidersShow, &[&app.id, &desk.params[1]], &[]).await?;
    let entry = match &provider.custom {
        Some(_) => None,
        // One that a later release took out of the catalogue goes on with what is known of it.
        None => load_entry(desk, &provider.provider_id).await.ok(),
    };
    Ok(Setup::new(desk, entry, Some(provider), String::new()))
}

/// `GET /portal/apps/{}/providers/{}`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = registered(desk, &app).await?;
    Ok(desk.page(&Shown::of("portal/provider.html", "providers", &app, &page)))
}

/// The page of a provider again, with what was wrong with another form of it.
pub async fn again_with(desk: &Desk<'_>, app: &api::App, error: Error) -> Result<Answer, Error> {
    let page = registered(desk, app).await?;
    desk.again(error, &["label"], Shown::of("portal/provider.html", "providers", app, &page))
}

/// `POST /portal/apps/{}/providers/{}`.
pub async fn update(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = registered(desk, &app).await?;
    let id = &desk.params[1];
    let changed = match changes(desk, &page) {
        Ok(ask) => {
            desk.check_grave(page.provider.as_ref().is_some_and(|provider| redirects(&ask, provider)))?;
            desk.send::<Provider>(Api::ProvidersUpdate, &[&app.id, id], &ask).await
        }
        Err(error) => Err(error),
    };
    match changed {
        Ok(_) => Ok(desk.go(&format!("/portal/apps/{}/providers/{id}?done=provider_updated", app.id))),
        Err(error) => desk.again(error, &page.keep(), Shown::of("portal/provider.html", "providers", &app, &page)),
    }
}

/// What the form changes. Where it is, is said only when that differs: saying it takes the facts from the catalogue anew.
fn changes(desk: &Desk<'_>, page: &Setup) -> Result<ProviderUpdate, Error> {
    let form = &desk.form;
    let mut ask = ProviderUpdate {
        name: form.filled("name"),
        client_id: Some(form.text("client_id")),
        client_secret: form.changed_secret("client_secret", "no_client_secret"),
        scopes: Some(scopes(desk, page)),
        allowed_hosts: Some(form.list("allowed_hosts")),
        ..ProviderUpdate::default()
    };
    let Some(provider) = &page.provider else { return Ok(ask) };
    if provider.custom.is_some() {
        ask.custom = Some(described(desk)?).filter(|said| Some(said) != provider.custom.as_ref());
    } else {
        let environment = form.text("environment");
        ask.environment = Some(environment).filter(|said| *said != provider.environment.clone().unwrap_or_default());
        ask.fields = Some(form.under(FIELD)).filter(|said| *said != provider.fields);
    }
    Ok(ask)
}

/// `GET /portal/apps/{}/providers/{}/delete`: what will happen.
pub async fn ask_delete(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = registered(desk, &app).await?;
    Ok(desk.page(&Shown::of("portal/provider_delete.html", "providers", &app, &page)))
}

/// `POST /portal/apps/{}/providers/{}/delete`.
pub async fn delete(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    match desk.send::<DeletedProvider>(Api::ProvidersDelete, &[&app.id, &desk.params[1]], &()).await {
        Ok(_) => Ok(desk.go(&format!("/portal/apps/{}/providers?done=provider_deleted", app.id))),
        Err(error) => {
            let page = registered(desk, &app).await?;
            desk.again(error, &[], Shown::of("portal/provider_delete.html", "providers", &app, &page))
        }
    }
}
