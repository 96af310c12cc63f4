//! One's own account: how one signs in.

use grantd_domain::secret::Secret;
use grantd_domain::totp::{address, secret_text};
use grantd_wire::ids::PasskeyId;
use grantd_wire::{Code, Error, TimeMs, limits};
use serde::Serialize;
use zeroize::Zeroizing;

use super::desk::{Desk, Shown};
use super::sso::{self, Sso};
use crate::answer::Answer;
use crate::flow::passkey::{self, Purpose, Question, SaidNew};
use crate::flow::{account, totp};
use crate::pages::qr;

#[derive(Serialize)]
struct Account {
    password_set_at: Option<TimeMs>,
    password_chars_min: usize,
    totp_set_at: Option<TimeMs>,
    recovery_codes: i64,
    sso: Option<Sso>,
    sso_only: bool,
    passkeys: Vec<Passkey>,
    /// Whether browsers have passkeys for pages here.
    may_have_passkeys: bool,
}

#[derive(Serialize)]
struct Passkey {
    id: String,
    name: String,
    created_at: TimeMs,
    used_at: Option<TimeMs>,
}

async fn page(desk: &Desk<'_>) -> Result<Account, Error> {
    let operator = &desk.visitor()?.operator;
    let methods = account::methods(desk.vault, operator).await?;
    let passkeys = passkey::list(desk.vault, operator).await?.into_iter().map(|passkey| Passkey {
        id: passkey.id.to_string(),
        name: passkey.name,
        created_at: passkey.created_at,
        used_at: passkey.used_at,
    });
    Ok(Account {
        password_set_at: methods.password_set_at,
        password_chars_min: limits::PASSWORD_CHARS_MIN,
        totp_set_at: methods.totp_set_at,
        recovery_codes: methods.recovery_codes,
        passkeys: passkeys.collect(),
        may_have_passkeys: passkey::host(desk.vault).is_some(),
        sso: sso::of_account(desk).await?,
        sso_only: sso::is_required(desk),
    })
}

/// `GET /portal/account`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let page = page(desk).await?;
    Ok(desk.page(&Shown::new("portal/account.html", "account", &page)))
}

/// `POST /portal/account/password`.
pub async fn set_password(desk: &Desk<'_>) -> Result<Answer, Error> {
    let typed = Secret::new(desk.form.raw("password").to_owned());
    match account::set_password(desk.vault, desk.visitor()?, &typed, &desk.source).await {
        Ok(()) => Ok(desk.go("/portal/account?done=password_set")),
        Err(error) => desk.again(error, &[], Shown::new("portal/account.html", "account", &page(desk).await?)),
    }
}

/// `POST /portal/account/password/remove`.
pub async fn remove_password(desk: &Desk<'_>) -> Result<Answer, Error> {
    match account::remove_password(desk.vault, desk.visitor()?, &desk.source).await? {
        true => Ok(desk.go("/portal/account?done=password_removed")),
        false => Err(Code::NotFound.into()),
    }
}

/// `POST /portal/account/authenticator/new`.
pub async fn begin_totp(desk: &Desk<'_>) -> Result<Answer, Error> {
    totp::begin(desk.vault, desk.visitor()?, &desk.source).await?;
    Ok(desk.go(TOTP))
}

const TOTP: &str = "/portal/account/authenticator";

#[derive(Serialize)]
struct NewTotp {
    /// Modules of a side of the picture, and those that are dark.
    size: usize,
    path: String,
    secret: String,
}

/// What the app needs to know; `None`: nothing is being set up, or it is asked for too late.
async fn pending(desk: &Desk<'_>) -> Result<Option<NewTotp>, Error> {
    let visitor = desk.visitor()?;
    let Some(secret) = totp::pending(desk.vault, visitor, desk.source.now).await? else { return Ok(None) };
    let issuer = format!("grantd {}", desk.host());
    let (size, path) = qr::draw(&address(&secret, &issuer, &visitor.operator.email)).ok_or(Code::Internal)?;
    Ok(Some(NewTotp { size, path, secret: secret_text(&secret).to_string() }))
}

/// `GET /portal/account/authenticator`.
pub async fn new_totp(desk: &Desk<'_>) -> Result<Answer, Error> {
    Ok(match pending(desk).await? {
        Some(page) => desk.page(&Shown::new("portal/totp_new.html", "account", &page)),
        None => desk.go("/portal/account"),
    })
}

#[derive(Serialize)]
struct Codes {
    codes: Vec<String>,
}

fn codes_page(desk: &Desk<'_>, codes: &[Zeroizing<String>]) -> Answer {
    let codes = codes.iter().map(|code| code.to_string()).collect();
    desk.page(&Shown::new("portal/totp_codes.html", "account", &Codes { codes }))
}

/// `POST /portal/account/authenticator`: the page that follows shows the recovery codes, once.
pub async fn confirm_totp(desk: &Desk<'_>) -> Result<Answer, Error> {
    match totp::confirm(desk.vault, desk.visitor()?, desk.form.raw("code"), &desk.source).await {
        Ok(Some(codes)) => Ok(codes_page(desk, &codes)),
        Ok(None) => Ok(desk.go("/portal/account")),
        Err(error) => match pending(desk).await? {
            Some(page) => desk.again(error, &[], Shown::new("portal/totp_new.html", "account", &page)),
            None => Err(error),
        },
    }
}

/// `POST /portal/account/authenticator/codes`: as above, and the old ones work no more.
pub async fn renew_codes(desk: &Desk<'_>) -> Result<Answer, Error> {
    match totp::renew_codes(desk.vault, desk.visitor()?, &desk.source).await? {
        Some(codes) => Ok(codes_page(desk, &codes)),
        None => Err(Code::NotFound.into()),
    }
}

/// `POST /portal/account/authenticator/remove`.
pub async fn remove_totp(desk: &Desk<'_>) -> Result<Answer, Error> {
    match totp::remove(desk.vault, desk.visitor()?, &desk.source).await? {
        true => Ok(desk.go("/portal/account?done=totp_removed")),
        false => Err(Code::NotFound.into()),
    }
}

/// `POST /portal/account/passkeys/new`: before a device is asked, they are asked who they are.
pub async fn begin_passkey(desk: &Desk<'_>) -> Result<Answer, Error> {
    match passkey::begin(desk.vault, desk.visitor()?, &desk.source).await {
        Ok(()) => Ok(desk.go("/portal/account/passkeys/new")),
        Err(error) => desk.again(error, &[], Shown::new("portal/account.html", "account", &page(desk).await?)),
    }
}

#[derive(Serialize)]
struct NewPasskey {
    /// What a device is asked; `None`: browsers have no passkeys for pages here.
    passkey: Option<Question>,
}

async fn new_passkey_page(desk: &Desk<'_>) -> Result<NewPasskey, Error> {
    let visitor = desk.visitor()?;
    let known = passkey::list(desk.vault, &visitor.operator).await?;
    Ok(NewPasskey { passkey: passkey::question(desk.vault, Purpose::Add(visitor), &known, desk.source.now) })
}

/// `GET /portal/account/passkeys/new`.
pub async fn new_passkey(desk: &Desk<'_>) -> Result<Answer, Error> {
    let page = new_passkey_page(desk).await?;
    Ok(desk.page(&Shown::new("portal/passkey_new.html", "account", &page)))
}

/// `POST /portal/account/passkeys`.
pub async fn add_passkey(desk: &Desk<'_>) -> Result<Answer, Error> {
    let form = &desk.form;
    let said = SaidNew {
        challenge: form.raw("challenge"),
        client_data: form.raw("client_data"),
        attestation: form.raw("attestation"),
    };
    match passkey::add(desk.vault, desk.visitor()?, &form.text("name"), said, &desk.source).await {
        Ok(()) => Ok(desk.go("/portal/account?done=passkey_added")),
        Err(error) => {
            let page = new_passkey_page(desk).await?;
            desk.again(error, &["name"], Shown::new("portal/passkey_new.html", "account", &page))
        }
    }
}

/// `POST /portal/account/passkeys/{}/remove`.
pub async fn remove_passkey(desk: &Desk<'_>) -> Result<Answer, Error> {
    let id = PasskeyId::parse(&desk.params[0]).ok_or(Code::NotFound)?;
    match passkey::remove(desk.vault, desk.visitor()?, id, &desk.source).await? {
        true => Ok(desk.go("/portal/account?done=passkey_removed")),
        false => Err(Code::NotFound.into()),
    }
}
