//! Managed secrets of an app, and the catalogue of vendors that they are stored from.

use grantd_wire::api::{
    self, AllowedHosts, CreatedSecret, CredentialType, DeletedSecret, GrantCreate, Secret, SecretAccess, SecretCreate,
    SecretRotate, SecretTemplate, SecretTest,
};
use grantd_wire::{Code, Error, limits};
use serde::Serialize;
use serde_json::{Value, json};

use super::desk::{Desk, Pager, ROWS, Shown, in_days, number};
use crate::answer::Answer;
use crate::routes::Api;
use crate::sentence::Sentence;

/// How the form begins the names of fields beside the value.
const FIELD: &str = "field_";
/// The template that is none.
const CUSTOM: &str = "custom";

#[derive(Serialize)]
struct List {
    secrets: Vec<Secret>,
    search: String,
    pager: Pager,
}

/// `GET /portal/apps/{}/secrets`.
pub async fn list(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (app, search) = (desk.app().await?, desk.query.text("search"));
    let (limit, offset) = (ROWS.to_string(), desk.offset());
    let query = [("limit", limit.as_str()), ("offset", &offset), ("search", &search)];
    let found: api::Page<Secret> = desk.load(Api::SecretsList, &[&app.id], &query).await?;
    let page = List { pager: Pager::of(&found), secrets: found.items, search };
    Ok(desk.page(&Shown::of("portal/secrets.html", "secrets", &app, &page)))
}

#[derive(Serialize)]
struct Catalogue {
    templates: Vec<SecretTemplate>,
    search: String,
    total: i64,
}

/// `GET /portal/apps/{}/secrets/new`: what is to be stored?
pub async fn catalogue(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (app, search) = (desk.app().await?, desk.query.text("search"));
    let most = limits::PAGE_MAX.to_string();
    let query = [("limit", most.as_str()), ("search", &search)];
    let found: api::Page<SecretTemplate> = desk.load(Api::TemplatesList, &[], &query).await?;
    let page = Catalogue { templates: found.items, search, total: found.total };
    Ok(desk.page(&Shown::of("portal/secret_catalogue.html", "secrets", &app, &page)))
}

#[derive(Serialize)]
struct New {
    /// `None`: of one's own.
    template: Option<SecretTemplate>,
    template_id: String,
    /// Names of its fields, for what is refused elsewhere to be said at the top.
    names: Vec<String>,
}

/// Fields of the form, whatever is stored. What was typed into them is kept when the page is drawn again.
const KEPT: [&str; 5] = ["name", "allowed_hosts", "credential_type", "injection_header", "injection_format"];

async fn template(desk: &Desk<'_>) -> Result<New, Error> {
    let id = &desk.params[1];
    let template: Option<SecretTemplate> = match id == CUSTOM {
        true => None,
        false => Some(desk.load(Api::TemplatesShow, &[id], &[]).await?),
    };
    let fields = template.iter().flat_map(|template| &template.fields).map(|field| format!("{FIELD}{}", field.name));
    let names = KEPT.iter().map(|name| (*name).to_owned()).chain(["value".to_owned()]).chain(fields).collect();
    Ok(New { template, template_id: id.clone(), names })
}

/// `GET /portal/apps/{}/secrets/new/{}`.
pub async fn new(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = template(desk).await?;
    Ok(desk.page(&Shown::of("portal/secret_new.html", "secrets", &app, &page)))
}

/// `POST /portal/apps/{}/secrets/new/{}`: stores it, with its base grant.
pub async fn create(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = template(desk).await?;
    match desk.send::<CreatedSecret>(Api::SecretsCreate, &[&app.id], &ask(desk, &page)).await {
        Ok((made, _)) => {
            Ok(desk.go(&format!("/portal/apps/{}/start?grant={}&done=secret_created", app.id, made.grant_id)))
        }
        Err(error) => {
            let error = at_its_field(error);
            let shown = page.template.iter().flat_map(|template| &template.fields).filter(|field| !field.secret);
            let names: Vec<String> = shown.map(|field| format!("{FIELD}{}", field.name)).collect();
            let keep: Vec<&str> = KEPT.into_iter().chain(names.iter().map(String::as_str)).collect();
            desk.again(error, &keep, Shown::of("portal/secret_new.html", "secrets", &app, &page))
        }
    }
}

/// The refusal of a further field, by the name that the form has for it.
fn at_its_field(mut error: Error) -> Error {
    if let Some(Value::String(field)) = error.details.get("field").cloned()
        && let Some(name) = field.strip_prefix("fields.")
    {
        error.message = error.message.replace(&field, &format!("{FIELD}{name}"));
        error = error.detail("field", format!("{FIELD}{name}"));
    }
    error
}

/// What the form asks for. With a template, what the form does not show is as the template has it.
fn ask(desk: &Desk<'_>, page: &New) -> SecretCreate {
    let form = &desk.form;
    let kinds =
        [CredentialType::BearerToken, CredentialType::HeaderKey, CredentialType::BasicAuth, CredentialType::AwsSigV4];
    let kind = form.filled("credential_type").and_then(|text| {
        kinds.into_iter().find(|kind| serde_json::to_value(kind).is_ok_and(|value| value == text.as_str()))
    });
    SecretCreate {
        name: form.text("name"),
        template: page.template.as_ref().map(|template| template.id.clone()),
        credential_type: kind,
        value: value(desk),
        fields: form.under(FIELD),
        injection_header: form.filled("injection_header"),
        injection_format: form.filled("injection_format"),
        injections: Vec::new(),
        allowed_hosts: form.list("allowed_hosts"),
        allow_any_host: false,
    }
}

#[derive(Serialize)]
struct Detail {
    secret: Secret,
    access: Vec<SecretAccess>,
    pager: Pager,
    /// What its vendor just said to it.
    tested: Option<SecretTest>,
    /// Names of the fields of all forms of its page.
    names: Vec<String>,
}

async fn detail(desk: &Desk<'_>, app: &api::App) -> Result<Detail, Error> {
    let params = [app.id.as_str(), &desk.params[1]];
    let (limit, offset) = (ROWS.to_string(), desk.offset());
    let secret: Secret = desk.load(Api::SecretsShow, &params, &[]).await?;
    let query = [("limit", limit.as_str()), ("offset", &offset)];
    let access: api::Page<SecretAccess> = desk.load(Api::SecretsAccess, &params, &query).await?;
    let names = ["principal_type", "principal_id", "label", "expires_in_days", "value", "allowed_hosts"]
        .map(str::to_owned)
        .into_iter();
    let names = names.chain(secret.fields.iter().map(|name| format!("{FIELD}{name}"))).collect();
    Ok(Detail { secret, pager: Pager::of(&access), access: access.items, tested: None, names })
}

/// `GET /portal/apps/{}/secrets/{}`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = detail(desk, &app).await?;
    Ok(desk.page(&Shown::of("portal/secret.html", "secrets", &app, &page)))
}

/// `POST /portal/apps/{}/secrets/{}/grants`: one more grant on it, for the app itself, one of its users or a group.
pub async fn grant(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let made = match ask_grant(desk) {
        Ok(ask) => desk.send::<Value>(Api::SecretGrantsCreate, &[&app.id, &desk.params[1]], &ask).await,
        Err(error) => Err(error),
    };
    match made {
        Ok((made, _)) => {
            let id = made["grant_id"].as_str().unwrap_or_default();
            Ok(desk.go(&format!("/portal/apps/{}/grants/{id}?done=grant_created", app.id)))
        }
        Err(error) => {
            let kept = ["principal_type", "principal_id", "label", "expires_in_days"];
            again(desk, &app, of_principal(in_days(error)), &kept).await
        }
    }
}

fn ask_grant(desk: &Desk<'_>) -> Result<GrantCreate, Error> {
    let form = &desk.form;
    let whose = form.filled("principal_id");
    let (principal_type, user, group) = match (form.text("principal_type").as_str(), whose) {
        ("user" | "group", None) => return Err(Sentence::WhoseGrant.at("principal_id", Code::InvalidRequest)),
        ("user", user) => ("user", user, None),
        ("group", group) => ("group", None, group),
        (_, None) => ("system", None, None),
        (_, Some(_)) => return Err(Sentence::GrantOfApp.at("principal_id", Code::InvalidRequest)),
    };
    Ok(GrantCreate {
        principal_type: principal_type.to_owned(),
        user,
        group,
        label: form.filled("label"),
        expires_in_seconds: number(form, "expires_in_days")?.map(|days| days.saturating_mul(86_400)),
        ..GrantCreate::default()
    })
}

/// What is wrong with a user or a group, said of the field for the id of either.
fn of_principal(mut error: Error) -> Error {
    for name in ["user", "group"] {
        if error.details.get("field") == Some(&json!(name)) {
            error.message = error.message.replace(&format!("`{name}`"), "`principal_id`");
            error = error.detail("field", "principal_id");
        }
    }
    error
}

/// What was typed or pasted as the value; a line's end at its end came with the paste.
fn value(desk: &Desk<'_>) -> String {
    desk.form.raw("value").trim_end_matches(['\r', '\n']).to_owned()
}

/// The secret's page again, with what was wrong with one of its forms.
async fn again(desk: &Desk<'_>, app: &api::App, error: Error, keep: &[&str]) -> Result<Answer, Error> {
    let page = detail(desk, app).await?;
    desk.again(error, keep, Shown::of("portal/secret.html", "secrets", app, &page))
}

/// `POST /portal/apps/{}/secrets/{}/rotate`: another value in its place; who holds a grant goes on with that.
pub async fn rotate(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let id = &desk.params[1];
    let fields = desk.form.under(FIELD);
    let ask = SecretRotate { value: value(desk), fields: Some(fields).filter(|fields| !fields.is_empty()) };
    match desk.send::<Secret>(Api::SecretsRotate, &[&app.id, id], &ask).await {
        Ok(_) => Ok(desk.go(&format!("/portal/apps/{}/secrets/{id}?done=secret_rotated", app.id))),
        Err(error) => again(desk, &app, at_its_field(error), &[]).await,
    }
}

/// `POST /portal/apps/{}/secrets/{}/hosts`.
pub async fn set_hosts(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let id = &desk.params[1];
    let ask = AllowedHosts { allowed_hosts: desk.form.list("allowed_hosts") };
    match desk.send::<Secret>(Api::SecretsSetHosts, &[&app.id, id], &ask).await {
        Ok(_) => Ok(desk.go(&format!("/portal/apps/{}/secrets/{id}?done=secret_hosts_set", app.id))),
        Err(error) => again(desk, &app, error, &["allowed_hosts"]).await,
    }
}

/// `POST /portal/apps/{}/secrets/{}/test`: what the vendor says to a harmless call.
pub async fn test(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    match desk.send::<SecretTest>(Api::SecretsTest, &[&app.id, &desk.params[1]], &json!({})).await {
        Ok((tested, _)) => {
            let page = Detail { tested: Some(tested), ..detail(desk, &app).await? };
            Ok(desk.page(&Shown::of("portal/secret.html", "secrets", &app, &page)))
        }
        Err(error) => again(desk, &app, error, &[]).await,
    }
}

/// `GET /portal/apps/{}/secrets/{}/delete`: what will happen.
pub async fn ask_delete(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = detail(desk, &app).await?;
    Ok(desk.page(&Shown::of("portal/secret_delete.html", "secrets", &app, &page)))
}

/// `POST /portal/apps/{}/secrets/{}/delete`: with its slug typed.
pub async fn delete(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = detail(desk, &app).await?;
    let deleted = match desk.form.text("confirm") == page.secret.slug {
        true => desk.send::<DeletedSecret>(Api::SecretsDelete, &[&app.id, &page.secret.id], &json!({})).await,
        false => Err(Sentence::TypeSlug.at("confirm", Code::InvalidRequest)),
    };
    match deleted {
        Ok(_) => Ok(desk.go(&format!("/portal/apps/{}/secrets?done=secret_deleted", app.id))),
        Err(error) => desk.again(error, &["confirm"], Shown::of("portal/secret_delete.html", "secrets", &app, &page)),
    }
}
