//! Switching the webhook of an identity provider on and off.
//!
//! Invariant: a token is shown once, in the answer to the call that made it, and stored is its hash; a vendor's secret is sealed.

use grantd_domain::account::SealedSecret;
use grantd_domain::audit::{Event, Kind, Owner};
use grantd_domain::env::new_token;
use grantd_domain::grant::App;
use grantd_domain::identity::IdentityProvider;
use grantd_domain::secret::Secret;
use grantd_domain::webhook::signature::{Key, SECRET_START};
use grantd_domain::webhook::{SubjectFrom, Vendor};
use grantd_store::idp_webhooks::{self as rows, Proof, Webhook};
use grantd_store::{Tx, append_event, identity_providers};
use grantd_wire::api::{self, IdpWebhookEnable, IdpWebhookRotate};
use grantd_wire::ids::{AppId, IdentityProviderId};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs};
use serde_json::Value;

use super::Request;
use super::identity::missing;
use crate::answer::{Answer, json, of_store};
use crate::keyring::webhook_secret_place;
use crate::parse;
use crate::vault::Vault;
use crate::webhook::{TOKEN_START, url};

fn is_off() -> Error {
    Error::new(Code::NotFound)
        .message("The webhook of this identity provider is off.")
        .hint("`grantd idp webhook enable` switches it on.")
}

async fn named(vault: &Vault, app: AppId, name: String) -> Result<IdentityProvider, Error> {
    let found = vault.store.read(move |tx| identity_providers::find(tx, app, &name)).await.map_err(of_store)?;
    found.ok_or_else(missing)
}

fn vendor(idp: &IdentityProvider) -> Result<Vendor, Error> {
    Vendor::parse(idp.preset.id).ok_or_else(|| {
        Error::impossible("preset", "must be auth0, clerk or okta: the others have no webhooks that grantd knows")
            .hint("Directories of the others tell by SCIM: `grantd idp scim enable`.")
    })
}

fn view(webhook: &Webhook, url: String) -> api::IdpWebhook {
    api::IdpWebhook {
        identity_provider_id: webhook.idp_id.to_string(),
        url,
        vendor: webhook.vendor.as_str().to_owned(),
        proof: if webhook.vendor.signs() { "signature" } else { "token" }.to_owned(),
        subject_from: webhook.subject_from.as_str().to_owned(),
        created_at: webhook.created_at,
        rotated_at: webhook.rotated_at,
        last_event_at: webhook.last_event_at,
    }
}

/// A new proof, and the token that must be told of it.
async fn proof(
    vault: &Vault,
    idp: &IdentityProvider,
    vendor: Vendor,
    secret: Option<Secret>,
    now: TimeMs,
) -> Result<(Proof, Option<Secret>), Error> {
    match (vendor.signs(), secret) {
        (false, None) => {
            let token = new_token(&*vault.env, TOKEN_START);
            Ok((Proof::Token(sha256(token.reveal().as_bytes())), Some(token)))
        }
        (false, Some(_)) => {
            Err(Error::impossible("secret", "must not be given: this vendor signs nothing, and is given a token"))
        }
        (true, None) => {
            Err(Error::impossible("secret", "must be given: it is the signing secret that the vendor shows"))
        }
        (true, Some(secret)) => {
            if Key::parse(secret.reveal()).is_none() {
                let why = format!("must be {SECRET_START} and 24 to 64 bytes in base64, as the vendor shows it");
                return Err(Error::impossible("secret", &why));
            }
            // Of a webhook that is switched off and on, nothing that was sealed before opens.
            let place = webhook_secret_place(idp.app_id, idp.id, now.0);
            let sealed = vault.keys.seal_of_app(&*vault.env, idp.app_id, place, secret.reveal().as_bytes()).await?;
            Ok((Proof::Secret(SealedSecret { sealed, version: now.0 }), None))
        }
    }
}

pub async fn show(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let (app, idp) = (app.id, named(vault, app.id, request.object()).await?.id);
    let found = vault.store.read(move |tx| rows::find(tx, app, idp)).await.map_err(of_store)?;
    Ok(json(200, &view(&found.ok_or_else(is_off)?, url(vault, idp))))
}

pub async fn enable(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: IdpWebhookEnable =
        if request.body.is_empty() { IdpWebhookEnable::default() } else { parse::json(&request.body)? };
    let idp = named(vault, app.id, request.object()).await?;
    let vendor = vendor(&idp)?;
    let subject_from = match ask.subject_from.as_deref().map(SubjectFrom::parse) {
        None => SubjectFrom::Id,
        Some(Some(SubjectFrom::Login)) if vendor != Vendor::Okta => {
            return Err(Error::impossible("subject_from", "must be id: only okta tells what users sign in with"));
        }
        Some(from) => from.ok_or_else(|| Error::impossible("subject_from", "must be id or login"))?,
    };
    let now = request.source.now;
    let (proof, token) = proof(vault, &idp, vendor, ask.secret.map(Secret::new), now).await?;
    let webhook = Webhook {
        app_id: app.id,
        idp_id: idp.id,
        vendor,
        subject_from,
        proof,
        created_at: now,
        rotated_at: None,
        last_event_at: None,
    };
    let (url, event) = (url(vault, idp.id), request.event(vault, Owner::App(app.id), Kind::WebhookEnabled));
    let event = about(event, idp.id).changed("vendor", Value::Null, vendor.as_str()).changed(
        "subject_from",
        Value::Null,
        subject_from.as_str(),
    );
    let open = move |tx: &mut Tx<'_>| {
        if !rows::enable(tx, &webhook)? {
            let message = "The webhook of this identity provider is on. `grantd idp webhook rotate` replaces its secret; switch it \
                           off first to choose otherwise.";
            return Err(Error::new(Code::Conflict).message(message).into());
        }
        append_event(tx, &event.clone().prepare())?;
        Ok(shown(token.as_ref(), view(&webhook, url.clone())))
    };
    request.once(vault, open).await
}

pub async fn rotate(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: IdpWebhookRotate =
        if request.body.is_empty() { IdpWebhookRotate::default() } else { parse::json(&request.body)? };
    let idp = named(vault, app.id, request.object()).await?;
    let (app, idp_id, now) = (app.id, idp.id, request.source.now);
    let on = vault.store.read(move |tx| rows::find(tx, app, idp_id)).await.map_err(of_store)?.ok_or_else(is_off)?;
    let (proof, token) = proof(vault, &idp, on.vendor, ask.secret.map(Secret::new), now).await?;
    let (url, event) = (url(vault, idp_id), request.event(vault, Owner::App(app), Kind::WebhookRotated));
    let replace = move |tx: &mut Tx<'_>| {
        if !rows::rotate(tx, app, idp_id, &proof, now)? {
            return Err(is_off().into());
        }
        append_event(tx, &about(event.clone(), idp_id).prepare())?;
        let webhook = rows::find(tx, app, idp_id)?.ok_or_else(is_off)?;
        Ok(shown(token.as_ref(), view(&webhook, url.clone())))
    };
    request.once(vault, replace).await
}

pub async fn disable(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let (app, idp, now) = (app.id, named(vault, app.id, request.object()).await?.id, request.source.now);
    let event = about(request.event(vault, Owner::App(app), Kind::WebhookDisabled), idp);
    let close = move |tx: &mut Tx<'_>| {
        if !rows::disable(tx, app, idp)? {
            return Err(is_off().into());
        }
        append_event(tx, &event.clone().prepare())?;
        Ok(api::IdpWebhookDisabled { identity_provider_id: idp.to_string(), disabled_at: now })
    };
    Ok(json(200, &vault.store.write(close).await.map_err(of_store)?))
}

fn shown(token: Option<&Secret>, webhook: api::IdpWebhook) -> api::IdpWebhookWithToken {
    api::IdpWebhookWithToken { token: token.map(|token| token.reveal().to_owned()), webhook }
}

fn about(event: Event, idp: IdentityProviderId) -> Event {
    event.core_id("idp_id", idp)
}
