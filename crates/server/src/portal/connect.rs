//! Connecting an account from the portal: a link of the app's, opened here or handed on.

use grantd_wire::api::{self, BegunConnectSession, ConnectSessionCreate, Grant, Provider};
use grantd_wire::ids::GrantId;
use grantd_wire::{Code, Error, TimeMs};
use serde::Serialize;

use super::desk::{Desk, Shown};
use super::{grants, providers};
use crate::answer::Answer;
use crate::routes::Api;

/// A link to follow, or to hand on. It is shown once.
#[derive(Serialize)]
struct Link {
    url: String,
    provider: String,
    /// The grant that it connects again.
    grant: Option<String>,
    expires_at: TimeMs,
}

/// `POST /portal/apps/{}/providers/{}/connect`.
pub async fn begin(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let provider: Provider = desk.load(Api::ProvidersShow, &[&app.id, &desk.params[1]], &[]).await?;
    let ask = ConnectSessionCreate {
        allowed_providers: Some(vec![provider.provider_id]),
        label: desk.form.filled("label"),
        ..ConnectSessionCreate::default()
    };
    match send(desk, &app, ask).await {
        Ok(begun) => Ok(go_on(desk, &app, begun, provider.name, None)),
        Err(error) => providers::again_with(desk, &app, error).await,
    }
}

/// `POST /portal/apps/{}/grants/{}/reconnect`: the same account again, and no other.
pub async fn repair(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let grant: Grant = desk.load(Api::GrantsShow, &[&app.id, &desk.params[1]], &[]).await?;
    let ask = ConnectSessionCreate {
        allowed_providers: Some(vec![grant.provider_id.clone()]),
        repair_grant_id: Some(grant.grant_id.clone()),
        ..ConnectSessionCreate::default()
    };
    match send(desk, &app, ask).await {
        Ok(begun) => Ok(go_on(desk, &app, begun, grant.provider_id, Some(grant.grant_id))),
        Err(error) => grants::again_with(desk, &app, error).await,
    }
}

/// Begins a session whose browser comes back here, where browsers may be sent back to this server at all.
async fn send(desk: &Desk<'_>, app: &api::App, mut ask: ConnectSessionCreate) -> Result<BegunConnectSession, Error> {
    if desk.form.raw("then") != "link" {
        ask.return_url = Some(format!("{}{}/apps/{}/connected", desk.vault.settings.public_url, super::PATH, app.id));
    }
    let begun = match desk.send(Api::ConnectSessionsCreate, &[&app.id], &ask).await {
        Err(error) if error.code == Code::InvalidRedirectUri => {
            ask.return_url = None;
            desk.send(Api::ConnectSessionsCreate, &[&app.id], &ask).await
        }
        begun => begun,
    };
    begun.map(|(begun, _)| begun)
}

fn go_on(
    desk: &Desk<'_>,
    app: &api::App,
    begun: BegunConnectSession,
    provider: String,
    grant: Option<String>,
) -> Answer {
    let page = Link { url: begun.connect_url, provider, grant, expires_at: begun.session.expires_at };
    // What opens the session stands in the page, and in no header that something on the way might log.
    let template = match desk.form.raw("then") {
        "link" => "portal/connect_link.html",
        _ => "portal/connect_leave.html",
    };
    desk.page(&Shown::of(template, "providers", app, &page))
}

#[derive(Serialize)]
struct Nothing {
    /// Why, as a code.
    code: String,
}

/// `GET /portal/apps/{}/connected`: where a browser comes back to. What it says of itself is shown only as far as it names a grant.
pub async fn finished(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    if let Some(grant) = GrantId::parse(desk.query.raw("grant_id")) {
        return Ok(desk.go(&format!("/portal/apps/{}/grants/{grant}?done=connected", app.id)));
    }
    let is_code =
        |text: &String| text.len() <= CODE_CHARS_MAX && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let code = desk.query.filled("error_code").filter(is_code).unwrap_or_default();
    Ok(desk.page(&Shown::of("portal/connect_nothing.html", "providers", &app, &Nothing { code })))
}

/// Characters of a code.
const CODE_CHARS_MAX: usize = 64;
