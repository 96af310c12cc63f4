//! Who does something grave proves once more who they are, if that was long ago.
//!
//! Invariants: the form that was sent waits sealed in the page that asks, for this session and this address alone: nothing of it is
//! drawn, and nothing has to be typed again; it goes on as what it was.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_domain::seal::Place;
use grantd_wire::api::{
    App, AppUpdate, Claims, ConnectSignIn, IdentityProvider, IdentityProviderUpdate, Provider, ProviderUpdate,
    Retrieve, TenantMode,
};
use grantd_wire::{Code, Error, TimeMs, limits};
use serde::Serialize;
use zeroize::Zeroizing;

use super::desk::{Desk, Shown};
use super::form::Form;
use super::sso;
use crate::answer::Answer;
use crate::flow::account::{self, Proof};
use crate::flow::passkey::{self, Purpose, Question};
use crate::flow::portal::is_unconfirmed;
use crate::routes::{Api, ApiRoute};
use crate::sentence::Sentence;

/// The field that a form waits in.
const HELD: &str = "held";

/// Whether a call of the management API is grave: it takes away, cannot be undone, hands out what works by itself, or says who may do
/// what.
pub fn is_grave(row: &ApiRoute) -> bool {
    let ends = ["/revoke", "/rotate", "/archive", "/deprovision", "/erase"];
    let more = matches!(
        row.route,
        Api::OperatorsCreate
            | Api::OperatorsUpdate
            | Api::OperatorsLoginLink
            | Api::TokensCreate
            | Api::RetentionSet
            | Api::SecretsSetHosts
            | Api::ScimEnable
            | Api::WebhookEnable
            | Api::UsersSuspend
    );
    row.method == "DELETE" || (row.method != "GET" && ends.iter().any(|end| row.path.ends_with(end))) || more
}

/// Whether a change of an app makes it keep less in check than it does.
pub fn loosens(ask: &AppUpdate, app: &App) -> bool {
    let strictness = |mode: TenantMode| match mode {
        TenantMode::Off => 0,
        TenantMode::Observe => 1,
        TenantMode::Enforce => 2,
    };
    let is_guarded = app.tenant_mode != TenantMode::Off;
    ask.retrieve == Some(Retrieve::On) && app.retrieve == Retrieve::Off
        || ask.tenant_mode.is_some_and(|mode| strictness(mode) < strictness(app.tenant_mode))
        || is_guarded && ask.tenant_key.as_ref().is_some_and(|key| Some(key) != app.tenant_key.as_ref())
        || ask.connect_sign_in == Some(ConnectSignIn::Off) && app.connect_sign_in == ConnectSignIn::Required
        || ask.return_origins.as_ref().is_some_and(|origins| admits_more(origins, &app.return_origins))
}

/// Whether users come back to more origins than before: none listed means any.
fn admits_more(origins: &[String], before: &[String]) -> bool {
    !before.is_empty() && (origins.is_empty() || origins.iter().any(|origin| !before.contains(origin)))
}

/// Whether a change of a provider leads credentials elsewhere: to whom they are sent, by which client they are had, and where.
pub fn redirects(ask: &ProviderUpdate, provider: &Provider) -> bool {
    ask.client_secret.is_some()
        || ask.client_id.as_ref().is_some_and(|id| *id != provider.client_id)
        || ask.allowed_hosts.as_ref().is_some_and(|hosts| *hosts != provider.allowed_hosts)
        || ask.custom.as_ref().is_some_and(|said| Some(said) != provider.custom.as_ref())
        || ask.environment.as_deref().is_some_and(|said| said != provider.environment.as_deref().unwrap_or_default())
        || ask.fields.as_ref().is_some_and(|fields| *fields != provider.fields)
}

/// Whether a change of an identity provider makes other tokens count than did, or none.
pub fn changes_who_counts(ask: &IdentityProviderUpdate, idp: &IdentityProvider) -> bool {
    let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let claims =
        |said: &Claims| [&said.subject, &said.audience, &said.email, &said.name, &said.groups, &said.roles].map(text);
    ask.rediscover
        || ask.client_secret.is_some()
        || ask.state.as_ref().is_some_and(|state| *state != idp.state)
        || ask.jwks_url.as_ref().is_some_and(|url| *url != idp.jwks_url)
        || ask.client_id.is_some() && text(&ask.client_id) != text(&idp.client_id)
        || ask.audiences.as_ref().is_some_and(|names| set(names) != set(&idp.audiences))
        || ask.algorithms.as_ref().is_some_and(|names| set(names) != set(&idp.algorithms))
        || ask.claims.as_ref().is_some_and(|said| claims(said) != claims(&idp.claims))
}

#[derive(Serialize)]
struct Confirm<'a> {
    held: String,
    /// When they last proved it.
    auth_at: TimeMs,
    /// What they may prove it with, beside a link: a passkey, and a code of their app or else their password.
    has_totp: bool,
    has_password: bool,
    /// What a device is asked, where they have a passkey.
    passkey: Option<Question>,
    /// What the issuer of single sign-on is called, at which they may prove it in another window.
    sso: Option<&'a str>,
}

/// Whether the page that asks is the answer to this refusal.
pub fn is_asked(desk: &Desk<'_>, error: &Error) -> bool {
    is_unconfirmed(error) && desk.visitor.is_some() && desk.parts.method == http::Method::POST
}

/// The page that asks, with the form that waits.
pub async fn ask(desk: &Desk<'_>) -> Result<Answer, Error> {
    let form = desk.form.encoded();
    let until = desk.source.now.plus_seconds(limits::HELD_FORM_S);
    let text = Zeroizing::new(format!("{}\n{}\n{}", until.0, desk.parts.uri.path(), form.as_str()));
    let key = desk.vault.keys.take_seal(&*desk.vault.env, None).await?;
    let sealed = key.seal(&*desk.vault.env, place(desk)?, text.as_bytes());
    draw(desk, BASE64_URL_SAFE_NO_PAD.encode(sealed), None).await
}

async fn draw(desk: &Desk<'_>, held: String, refused: Option<Error>) -> Result<Answer, Error> {
    let visitor = desk.visitor()?;
    let methods = account::methods(desk.vault, &visitor.operator).await?;
    let may_otherwise = !sso::is_required(desk);
    let has_totp = methods.totp_set_at.is_some() && may_otherwise;
    let has_password = methods.password_set_at.is_some() && !has_totp && may_otherwise;
    let known = passkey::list(desk.vault, &visitor.operator).await?;
    let passkey = match known.is_empty() || !may_otherwise {
        true => None,
        false => passkey::question(desk.vault, Purpose::Confirm(visitor), &known, desk.source.now),
    };
    let sso = sso::name(desk);
    let page = Confirm { held, auth_at: visitor.session.auth_at, has_totp, has_password, passkey, sso };
    let shown = Shown::new("portal/confirm.html", "", &page);
    Ok(match refused {
        None => desk.page_with(401, &shown),
        Some(error) => desk.refused_page(error, shown),
    })
}

fn place<'a>(desk: &Desk<'_>) -> Result<Place<'a>, Error> {
    let session = desk.visitor()?.session.id;
    Ok(Place { table: "web_sessions", app: None, row: *session.as_bytes(), field: HELD, version: 0 })
}

/// Whether the form is what the page that asks sends.
pub fn is_answer(desk: &Desk<'_>) -> bool {
    !desk.form.raw(HELD).is_empty()
}

/// What the page that asks was answered. `None`: they are who they were, and the form goes on; else it is asked again.
pub async fn answered(desk: &mut Desk<'_>) -> Result<Option<Answer>, Error> {
    if !is_answer(desk) {
        return Ok(None);
    }
    let held = desk.form.raw(HELD).to_owned();
    let form = open(desk, &held).await?;
    let (password, link) = (desk.form.raw("password"), link_of(desk.form.raw("link")));
    let code = desk.form.raw("code");
    let proof = match (password, link) {
        // Browsers fill passwords in by themselves. Nobody but a device fills this in.
        _ if !desk.form.raw("signature").is_empty() => Proof::Passkey(desk.form.said()),
        ("", "") if !code.is_empty() => Proof::Code(code),
        // They proved it in another window meanwhile.
        ("", "") if desk.visitor()?.check_confirmed(desk.source.now).is_ok() => {
            desk.form = form;
            return Ok(None);
        }
        ("", "") => {
            let empty = Sentence::NothingFilledIn.of(Code::InvalidValue);
            return draw(desk, held, Some(empty)).await.map(Some);
        }
        ("", link) => Proof::Link(link),
        (password, _) => Proof::Password(password),
    };
    match account::confirm(desk.vault, desk.visitor()?, proof, &desk.source).await {
        Ok(true) => {}
        Ok(false) => {
            let wrong = Sentence::WrongProof.of(Code::NotProved);
            return draw(desk, held, Some(wrong)).await.map(Some);
        }
        Err(error) if error.code == Code::RateLimitExceeded => return draw(desk, held, Some(error)).await.map(Some),
        Err(error) => return Err(error),
    }
    if let Some(visitor) = &mut desk.visitor {
        visitor.session.auth_at = desk.source.now;
    }
    desk.form = form;
    Ok(None)
}

async fn open(desk: &Desk<'_>, held: &str) -> Result<Form, Error> {
    let stale = || Sentence::WaitedTooLong.of(Code::InvalidRequest);
    let sealed = BASE64_URL_SAFE_NO_PAD.decode(held).map_err(|_| stale())?;
    let text = desk.vault.keys.open_sent_back(place(desk)?, &sealed).await?.ok_or_else(stale)?;
    let mut parts = text.splitn(3, |b| *b == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (until, path, form) = (part(), part(), part());
    let until = std::str::from_utf8(until).ok().and_then(|ms| ms.parse().ok()).map(TimeMs);
    let is_good = until.is_some_and(|until| desk.source.now < until) && path == desk.parts.uri.path().as_bytes();
    if is_good { Ok(Form::parse(form)) } else { Err(stale()) }
}

/// The token in what was pasted: a link as it is printed, or what stands at its end.
fn link_of(pasted: &str) -> &str {
    let pasted = pasted.trim();
    pasted.split_once("link=").map_or(pasted, |(_, token)| token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::API;

    #[test]
    fn what_takes_away_is_grave_and_what_reads_is_not() {
        let is = |route: Api| API.iter().find(|row| row.route == route).is_some_and(is_grave);
        for grave in [
            Api::GrantsRevoke,
            Api::GrantsRevokeMany,
            Api::KeysRevoke,
            Api::KeysRotate,
            Api::TokensRevoke,
            Api::TokensCreate,
            Api::AppsArchive,
            Api::AppsDelete,
            Api::SecretsDelete,
            Api::SecretsRotate,
            Api::SecretsSetHosts,
            Api::ProvidersDelete,
            Api::IdpsDelete,
            Api::UsersDeprovision,
            Api::OperatorsCreate,
            Api::OperatorsUpdate,
            Api::OperatorsLoginLink,
            Api::EventsErase,
            Api::OrganizationEventsErase,
            Api::HoldRelease,
            Api::RetentionSet,
            Api::ScimEnable,
            Api::WebhookEnable,
            Api::UsersSuspend,
        ] {
            assert!(is(grave), "{grave:?}");
        }
        // Of these some are: it depends on what they change.
        let some = [Api::AppsUpdate, Api::ProvidersUpdate, Api::IdpsUpdate];
        let light = [Api::AppsCreate, Api::AppsUnarchive, Api::KeysMint, Api::SecretsCreate, Api::SecretGrantsCreate];
        for light in light.into_iter().chain(some) {
            assert!(!is(light), "{light:?}");
        }
        assert!(API.iter().filter(|row| row.method == "GET").all(|row| !is_grave(row)));
    }

    #[test]
    fn a_link_is_taken_whole_or_as_its_token() {
        assert_eq!(link_of(" https://x.example/portal/sign-in?link=login_a\n"), "login_a");
        assert_eq!(link_of("login_a"), "login_a");
        assert_eq!(link_of(""), "");
    }
}
