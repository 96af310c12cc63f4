//! API keys of an app.

use grantd_wire::Error;
use grantd_wire::api::{self, Key, KeyMint, MintedKey};
use serde::Serialize;
use serde_json::{Value, json};

use super::desk::{Desk, Pager, ROWS, Shown, in_days, number};
use crate::answer::Answer;
use crate::routes::Api;

#[derive(Serialize)]
struct List {
    keys: Vec<Key>,
    pager: Pager,
}

/// `GET /portal/apps/{}/keys`.
pub async fn list(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let (limit, offset) = (ROWS.to_string(), desk.offset());
    let found: api::Page<Key> = desk.load(Api::KeysList, &[&app.id], &[("limit", &limit), ("offset", &offset)]).await?;
    let page = List { pager: Pager::of(&found), keys: found.items };
    Ok(desk.page(&Shown::of("portal/keys.html", "keys", &app, &page)))
}

/// `GET /portal/apps/{}/keys/new`.
pub async fn new(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    Ok(desk.page(&Shown::of("portal/key_new.html", "keys", &app, &())))
}

#[derive(Serialize)]
struct Minted<'a> {
    api_key: &'a str,
    key: &'a Key,
}

/// `POST /portal/apps/{}/keys/new`: the page that follows shows the key, once.
pub async fn create(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let ask = match ask(desk) {
        Ok(ask) => ask,
        Err(error) => return again(desk, error, &app),
    };
    match desk.send::<MintedKey>(Api::KeysMint, &[&app.id], &ask).await {
        Ok((minted, was_made)) if desk.may_show(was_made, minted.key.created_at) => {
            let page = Minted { api_key: &minted.api_key, key: &minted.key };
            Ok(desk.page(&Shown::of("portal/key_minted.html", "keys", &app, &page)))
        }
        Ok(_) => Ok(desk.go(&format!("/portal/apps/{}/keys", app.id))),
        Err(error) => again(desk, error, &app),
    }
}

fn ask(desk: &Desk<'_>) -> Result<KeyMint, Error> {
    let form = &desk.form;
    let networks = form.list("cidr_allowlist");
    Ok(KeyMint {
        name: form.text("name"),
        cidr_allowlist: (!networks.is_empty()).then_some(networks),
        rate_limit_rpm: number(form, "rate_limit_rpm")?,
        expires_in_seconds: number(form, "expires_in_days")?.map(|days| days.saturating_mul(86_400)),
        ..KeyMint::default()
    })
}

fn again(desk: &Desk<'_>, error: Error, app: &api::App) -> Result<Answer, Error> {
    let keep = ["name", "cidr_allowlist", "rate_limit_rpm", "expires_in_days"];
    desk.again(in_days(error), &keep, Shown::of("portal/key_new.html", "keys", app, &()))
}

/// `GET /portal/apps/{}/keys/{}/revoke`: what will happen.
pub async fn ask_revoke(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let key: Key = desk.load(Api::KeysShow, &[&app.id, &desk.params[1]], &[]).await?;
    Ok(desk.page(&Shown::of("portal/key_revoke.html", "keys", &app, &key)))
}

/// `POST /portal/apps/{}/keys/{}/revoke`.
pub async fn revoke(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (app, key) = (&desk.params[0], &desk.params[1]);
    desk.send::<Value>(Api::KeysRevoke, &[app, key], &json!({})).await?;
    Ok(desk.go(&format!("/portal/apps/{app}/keys?done=key_revoked")))
}
