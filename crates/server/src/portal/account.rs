//! One's own account: how one signs in.

use grantd_domain::secret::Secret;
use grantd_wire::{Code, Error, TimeMs, limits};
use serde::Serialize;

use super::desk::{Desk, Shown};
use crate::answer::Answer;
use crate::flow::account;

#[derive(Serialize)]
struct Account {
    password_set_at: Option<TimeMs>,
    password_chars_min: usize,
}

async fn page(desk: &Desk<'_>) -> Result<Account, Error> {
    let methods = account::methods(desk.vault, &desk.visitor()?.operator).await?;
    Ok(Account { password_set_at: methods.password_set_at, password_chars_min: limits::PASSWORD_CHARS_MIN })
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
