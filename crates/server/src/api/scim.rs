//! Opening and closing the place where the directory of an identity provider tells of its users.
//!
//! Invariant: a token is shown once, in the answer to the call that made it; stored is its hash.

use grantd_domain::audit::{Event, Kind, Owner};
use grantd_domain::env::new_token;
use grantd_domain::grant::App;
use grantd_domain::scim::user::{Deactivation, SubjectFrom};
use grantd_store::scim::{self as rows, Endpoint, Exactly};
use grantd_store::{Tx, append_event, identity_providers};
use grantd_wire::api::{self, ScimEnable};
use grantd_wire::ids::{AppId, IdentityProviderId};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error};
use serde_json::Value;

use super::Request;
use crate::answer::{Answer, json, of_store};
use crate::parse;
use crate::scim::{TOKEN_START, base_url};
use crate::vault::Vault;

fn no_provider() -> Error {
    Error::new(Code::NotFound)
        .message("The app has no such identity provider.")
        .hint("`grantd idp list` lists those it has; they go by their id or their issuer.")
}

fn is_off() -> Error {
    Error::new(Code::NotFound)
        .message("SCIM is off for this identity provider.")
        .hint("`grantd idp scim enable` switches it on.")
}

/// The identity provider that is named.
fn named(tx: &mut Tx<'_>, app: AppId, name: &str) -> grantd_store::Result<IdentityProviderId> {
    Ok(identity_providers::find(tx, app, name)?.ok_or_else(no_provider)?.id)
}

fn view(tx: &mut Tx<'_>, endpoint: &Endpoint, base_url: String) -> grantd_store::Result<api::Scim> {
    let (_, users) = rows::list(tx, endpoint.app_id, endpoint.idp_id, &Exactly::default(), 0, 0)?;
    Ok(api::Scim {
        identity_provider_id: endpoint.idp_id.to_string(),
        base_url,
        subject_from: endpoint.subject_from.as_str().to_owned(),
        deactivation: endpoint.deactivation.as_str().to_owned(),
        users,
        created_at: endpoint.created_at,
        rotated_at: endpoint.rotated_at,
    })
}

pub async fn show(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let (name, app, base) = (request.object(), app.id, Base::of(vault));
    let read = move |tx: &mut Tx<'_>| {
        let idp = named(tx, app, &name)?;
        let endpoint = rows::find_endpoint(tx, app, idp)?.ok_or_else(is_off)?;
        view(tx, &endpoint, base.url(idp))
    };
    Ok(json(200, &vault.store.read(read).await.map_err(of_store)?))
}

/// What addresses of this server begin with, for use inside a write.
#[derive(Clone)]
struct Base(String);

impl Base {
    fn of(vault: &Vault) -> Self {
        Self(base_url(vault))
    }

    fn url(&self, idp: IdentityProviderId) -> String {
        format!("{}{idp}", self.0)
    }
}

pub async fn enable(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: ScimEnable = if request.body.is_empty() { ScimEnable::default() } else { parse::json(&request.body)? };
    let subject_from = match ask.subject_from.as_deref() {
        None => SubjectFrom::ExternalId,
        Some(text) => SubjectFrom::parse(text)
            .ok_or_else(|| Error::impossible("subject_from", "must be externalId or userName"))?,
    };
    let deactivation = match ask.deactivation.as_deref() {
        None => Deactivation::Suspend,
        Some(text) => Deactivation::parse(text)
            .ok_or_else(|| Error::impossible("deactivation", "must be suspend or deprovision"))?,
    };
    let text = new_token(&*vault.env, TOKEN_START);
    let (hash, name, app, now) = (sha256(text.reveal().as_bytes()), request.object(), app.id, request.source.now);
    let (base, event) = (Base::of(vault), request.event(vault, Owner::App(app), Kind::ScimEnabled));
    let open = move |tx: &mut Tx<'_>| {
        let idp_id = named(tx, app, &name)?;
        let endpoint = Endpoint { app_id: app, idp_id, subject_from, deactivation, created_at: now, rotated_at: None };
        if !rows::enable(tx, &endpoint, &hash)? {
            let message = "SCIM is on for this identity provider. `grantd idp scim rotate` makes another token; switch it \
                           off first to choose otherwise.";
            return Err(Error::new(Code::Conflict).message(message).into());
        }
        let event = about(event.clone(), idp_id).changed("subject_from", Value::Null, subject_from.as_str()).changed(
            "deactivation",
            Value::Null,
            deactivation.as_str(),
        );
        append_event(tx, &event.prepare())?;
        let scim = view(tx, &endpoint, base.url(idp_id))?;
        Ok(api::ScimWithToken { token: text.reveal().to_owned(), scim })
    };
    request.once(vault, open).await
}

pub async fn rotate(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let text = new_token(&*vault.env, TOKEN_START);
    let (hash, name, app, now) = (sha256(text.reveal().as_bytes()), request.object(), app.id, request.source.now);
    let (base, event) = (Base::of(vault), request.event(vault, Owner::App(app), Kind::ScimRotated));
    let replace = move |tx: &mut Tx<'_>| {
        let idp = named(tx, app, &name)?;
        if !rows::rotate(tx, app, idp, &hash, now)? {
            return Err(is_off().into());
        }
        append_event(tx, &about(event.clone(), idp).prepare())?;
        let endpoint = rows::find_endpoint(tx, app, idp)?.ok_or_else(is_off)?;
        let scim = view(tx, &endpoint, base.url(idp))?;
        Ok(api::ScimWithToken { token: text.reveal().to_owned(), scim })
    };
    request.once(vault, replace).await
}

pub async fn disable(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let (name, app, now) = (request.object(), app.id, request.source.now);
    let event = request.event(vault, Owner::App(app), Kind::ScimDisabled);
    let close = move |tx: &mut Tx<'_>| {
        let idp = named(tx, app, &name)?;
        if !rows::disable(tx, app, idp)? {
            return Err(is_off().into());
        }
        append_event(tx, &about(event.clone(), idp).prepare())?;
        Ok(api::ScimDisabled { identity_provider_id: idp.to_string(), disabled_at: now })
    };
    Ok(json(200, &vault.store.write(close).await.map_err(of_store)?))
}

fn about(event: Event, idp: IdentityProviderId) -> Event {
    event.core_id("idp_id", idp)
}
