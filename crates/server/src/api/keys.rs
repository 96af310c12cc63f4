//! API keys.

use grantd_domain::audit::{Event, Kind, Owner};
use grantd_domain::env::{new_uuid, random};
use grantd_domain::grant::{ApiKey, App, AppState, check_text};
use grantd_domain::secret::Secret;
use grantd_store::keys::{KeyFilter, Past};
use grantd_store::{Tx, append_event, apps, crash, keys};
use grantd_wire::api::{self, KeyMint, KeyRotate, KeyUpdate, ListQuery};
use grantd_wire::ids::KeyId;
use grantd_wire::key::{self, KeyType};
use grantd_wire::scope::{APP_KEY_DEFAULT, SCOPE_VERSION, Scope};
use grantd_wire::{Code, Error, TimeMs, limits};
use serde_json::{Value, json};

use super::version::shown;
use super::{Request, page};
use crate::answer::{Answer, of_store};
use crate::parse;
use crate::vault::Vault;

/// What a key can be.
const STATUSES: [&str; 5] = ["active", "in_grace", "rotated", "expired", "revoked"];

fn view(key: &ApiKey, past: Past, now: TimeMs) -> api::Key {
    api::Key {
        id: key.id.to_string(),
        name: key.name.clone(),
        key_prefix: key.key_prefix.clone(),
        key_type: key.key_type.as_str().to_owned(),
        scopes: key.scopes.iter().map(ToString::to_string).collect(),
        scope_version: key.scope_version,
        cidr_allowlist: (!key.cidrs.is_empty()).then(|| key.cidrs.iter().map(ToString::to_string).collect()),
        rate_limit_rpm: key.rate_limit_rpm.map(i64::from),
        effective_rate_limit_rpm: key.rate_limit_rpm.map(i64::from),
        rate_limit_source: key.rate_limit_rpm.map(|_| "key".to_owned()),
        allow_unsigned_identity: key.allow_unsigned_identity,
        created_at: key.created_at,
        expires_at: key.expires_at,
        deprecated_at: key.deprecated_at,
        revoked_at: key.revoked_at,
        last_used_at: past.last_used_at,
        parent_key_id: key.parent_key_id.map(|id| id.to_string()),
        status: key.status_at(now).to_owned(),
        grace_until: key.grace_until,
        successor_id: past.successor_id.map(|id| id.to_string()),
    }
}

pub async fn list(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    if query.status.as_deref().is_some_and(|s| !STATUSES.contains(&s)) {
        return Err(Error::invalid("status", &format!("must be one of {}", STATUSES.join(", "))));
    }
    let filter = KeyFilter { search: query.search, status: query.status, limit, offset };
    let (app, now) = (app.id, request.source.now);
    let (found, total) = vault.store.read(move |tx| keys::list(tx, app, &filter, now)).await.map_err(of_store)?;
    Ok(page(found.iter().map(|(key, past)| view(key, *past, now)).collect(), total, limit, offset))
}

fn missing() -> Error {
    Error::new(Code::NotFound)
        .message("There is no such key in this app.")
        .hint("Keys go by their id, which `grantd keys list` shows for this app.")
}

pub async fn show(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let id = KeyId::parse(&request.object()).ok_or_else(missing)?;
    let app = app.id;
    let found = vault.store.read(move |tx| keys::find(tx, app, id)).await.map_err(of_store)?;
    let (key, past) = found.ok_or_else(missing)?;
    Ok(shown(200, &view(&key, past, request.source.now)))
}

pub async fn rename(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let KeyUpdate { name } = parse::json(&request.body)?;
    check_text("name", &name, limits::NAME_CHARS_MAX)?;
    let id = KeyId::parse(&request.object()).ok_or_else(missing)?;
    let (app, now, if_match) = (app.id, request.source.now, request.if_match.clone());
    let event = request.event(vault, Owner::App(app), Kind::KeyRenamed);
    let (key, past) = vault
        .store
        .write(move |tx| {
            let (old, past) = keys::find(tx, app, id)?.ok_or_else(missing)?;
            if_match.check(&view(&old, past, now))?;
            if old.name != name {
                keys::rename(tx, app, id, &name)?;
                let event = event.clone().key(id, &old.key_prefix).changed("name", old.name.clone(), name.clone());
                append_event(tx, &event.prepare())?;
            }
            Ok((ApiKey { name: name.clone(), ..old }, past))
        })
        .await
        .map_err(of_store)?;
    Ok(shown(200, &view(&key, past, now)))
}

pub async fn mint(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: KeyMint = parse::json(&request.body)?;
    let text = new_text(vault, app)?;
    let minted = minted(vault, request, app, ask, &text)?;
    let event = minted_event(request.event(vault, Owner::App(app.id), Kind::KeyMinted), &minted).prepare();
    let (hash, now) = (vault.pepper.hash(text.reveal()), request.source.now);
    let insert = move |tx: &mut Tx<'_>| {
        insert(tx, &minted, &hash)?;
        crash::step("key.inserted");
        append_event(tx, &event)?;
        Ok(api::MintedKey { api_key: text.reveal().to_owned(), key: view(&minted, Past::default(), now) })
    };
    request.once(vault, insert).await
}

/// The text of a new key of the app. It and the random bytes are wiped; the caller's copy is the only one that stays.
fn new_text(vault: &Vault, app: &App) -> Result<Secret, Error> {
    if app.state != AppState::Active {
        return Err(Error::new(Code::Conflict)
            .message("The app is not active. `grantd apps unarchive` takes an archived one back."));
    }
    let random = zeroize::Zeroizing::new(random::<{ key::RANDOM_LEN }>(&*vault.env));
    Ok(Secret::new(key::mint(KeyType::Runtime, *random)))
}

fn prefix(text: &Secret) -> String {
    text.reveal().chars().take(key::PREFIX_LEN).collect()
}

fn minted_event(event: Event, minted: &ApiKey) -> Event {
    let scopes: Vec<String> = minted.scopes.iter().map(ToString::to_string).collect();
    event.key(minted.id, &minted.key_prefix).changed("scopes", Value::Null, json!(scopes)).changed(
        "allow_unsigned_identity",
        Value::Null,
        minted.allow_unsigned_identity,
    )
}

fn insert(tx: &mut Tx<'_>, key: &ApiKey, hash: &[u8; 32]) -> grantd_store::Result<()> {
    if keys::count_living(tx, key.app_id)? >= limits::KEYS_PER_APP_MAX {
        return Err(Error::new(Code::TooMany)
            .message(format!(
                "An app has at most {} keys that are not revoked. Revoke one first.",
                limits::KEYS_PER_APP_MAX
            ))
            .into());
    }
    keys::insert(tx, key, hash)
}

/// Makes a key that takes the place of another: the same rights, the same span of life from now on.
pub async fn rotate(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: KeyRotate = if request.body.is_empty() { KeyRotate::default() } else { parse::json(&request.body)? };
    let grace = ask.grace_seconds.unwrap_or(limits::KEY_GRACE_SECONDS);
    if !(0..=limits::KEY_GRACE_SECONDS_MAX).contains(&grace) {
        return Err(Error::impossible("grace_seconds", "must be at most 30 days"));
    }
    let id = KeyId::parse(&request.object()).ok_or_else(missing)?;
    let text = new_text(vault, app)?;
    let (hash, key_prefix) = (vault.pepper.hash(text.reveal()), prefix(&text));
    let (now, app, successor) = (request.source.now, app.id, KeyId::from_uuid(new_uuid(&*vault.env)));
    let grace_until = now.plus_seconds(grace);
    let rotated = request.event(vault, Owner::App(app), Kind::KeyRotated);
    let minted = request.event(vault, Owner::App(app), Kind::KeyMinted);
    let if_match = request.if_match.clone();
    let successor_to = move |tx: &mut Tx<'_>| {
        let (old, past) = keys::find(tx, app, id)?.ok_or_else(missing)?;
        if_match.check(&view(&old, past, now))?;
        if old.status_at(now) != "active" {
            let message =
                "Only an active key can be rotated; this one has ended, or was rotated before. Mint a new one.";
            return Err(Error::new(Code::Conflict).message(message).into());
        }
        let new = ApiKey {
            id: successor,
            key_prefix: key_prefix.clone(),
            created_at: now,
            expires_at: old.expires_at.map(|at| now.plus_ms(at.since(old.created_at))),
            deprecated_at: None,
            ..old.clone()
        };
        if !keys::end(tx, app, id, grace_until, Some(successor))? {
            return Err(Code::Conflict.into());
        }
        insert(tx, &new, &hash)?;
        apps::raise_epoch(tx, app)?;
        let rotated = rotated.clone().key(id, &old.key_prefix);
        let rotated = rotated.changed("grace_until", Value::Null, grace_until.to_string());
        append_event(tx, &rotated.changed("successor_id", Value::Null, successor.to_string()).prepare())?;
        append_event(tx, &minted_event(minted.clone(), &new).prepare())?;
        let key = view(&new, Past::default(), now);
        Ok(api::RotatedKey {
            minted: api::MintedKey { api_key: text.reveal().to_owned(), key },
            predecessor_id: id.to_string(),
            predecessor_grace_until: grace_until,
        })
    };
    request.once(vault, successor_to).await
}

fn minted(vault: &Vault, request: &Request, app: &App, ask: KeyMint, text: &Secret) -> Result<ApiKey, Error> {
    check_text("name", &ask.name, limits::NAME_CHARS_MAX)?;
    match ask.key_type.as_deref() {
        None | Some("rk") => {}
        Some("ak" | "dk") => {
            return Err(
                Error::new(Code::FeatureUnavailable).message("Agent and derived keys are not built yet. Mint an rk.")
            );
        }
        Some(_) => return Err(Error::impossible("key_type", "must be rk")),
    }
    let texts = ask.scopes.unwrap_or_else(|| APP_KEY_DEFAULT.iter().map(|s| (*s).to_owned()).collect());
    if texts.is_empty() || texts.len() > limits::SCOPES_MAX {
        return Err(Error::impossible("scopes", &format!("must be 1-{} scopes", limits::SCOPES_MAX)));
    }
    let scope = |t: &String| {
        Scope::parse(t).ok_or_else(|| {
            let shown: String = t.chars().filter(|c| !c.is_control()).take(60).collect();
            Error::impossible("scopes", &format!("`{shown}` is no scope of this server"))
                .hint("GET /sdk/scopes lists them: resource:verb, as in grants:read.")
        })
    };
    let scopes = texts.iter().map(scope).collect::<Result<Vec<_>, _>>()?;
    let nets = ask.cidr_allowlist.unwrap_or_default();
    if nets.len() > limits::CIDRS_MAX {
        return Err(Error::impossible("cidr_allowlist", &format!("must be at most {}", limits::CIDRS_MAX)));
    }
    let net = |t: &String| {
        parse_net(t)
            .ok_or_else(|| Error::impossible("cidr_allowlist", "must hold addresses or ranges such as 10.0.0.0/8"))
    };
    let cidrs = nets.iter().map(net).collect::<Result<Vec<_>, _>>()?;
    if ask.rate_limit_rpm.is_some_and(|r| !(1..=limits::RATE_LIMIT_RPM_MAX).contains(&r)) {
        return Err(Error::impossible("rate_limit_rpm", &format!("must be 1-{}", limits::RATE_LIMIT_RPM_MAX)));
    }
    if ask.expires_in_seconds.is_some_and(|s| !(1..=limits::LIFETIME_SECONDS_MAX).contains(&s)) {
        return Err(Error::impossible("expires_in_seconds", "must be between 1 second and ten years"));
    }
    Ok(ApiKey {
        id: KeyId::from_uuid(new_uuid(&*vault.env)),
        app_id: app.id,
        key_type: KeyType::Runtime,
        key_prefix: prefix(text),
        name: ask.name,
        scopes,
        scope_version: SCOPE_VERSION,
        cidrs,
        rate_limit_rpm: ask.rate_limit_rpm.and_then(|r| u32::try_from(r).ok()),
        allow_unsigned_identity: ask.allow_unsigned_identity,
        parent_key_id: None,
        created_at: request.source.now,
        expires_at: ask.expires_in_seconds.map(|s| request.source.now.plus_seconds(s)),
        grace_until: None,
        deprecated_at: None,
        revoked_at: None,
    })
}

/// A range, or a single address.
fn parse_net(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from))
}

pub async fn revoke(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let id = KeyId::parse(&request.object()).ok_or_else(missing)?;
    let (app, now, if_match) = (app.id, request.source.now, request.if_match.clone());
    let event = request.event(vault, Owner::App(app), Kind::KeyRevoked);
    let (key, past) = vault
        .store
        .write(move |tx| {
            let (key, past) = keys::find(tx, app, id)?.ok_or_else(missing)?;
            if_match.check(&view(&key, past, now))?;
            if !keys::revoke(tx, app, id, now)? {
                return Ok((key, past));
            }
            crash::step("key.revoked");
            apps::raise_epoch(tx, app)?;
            append_event(tx, &event.clone().key(id, &key.key_prefix).prepare())?;
            Ok((ApiKey { revoked_at: Some(now), ..key }, past))
        })
        .await
        .map_err(of_store)?;
    Ok(shown(200, &view(&key, past, now)))
}
