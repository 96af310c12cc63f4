//! Whom a user token speaks for: it is proved, and its user found, made at first sight, or refused.
//!
//! Invariant: what a user may do is decided on rows that were read at the epochs which the call's confirmation compares. So suspending
//! a user, deprovisioning one, or changing an identity provider counts at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use grantd_domain::audit::{Event, Kind, Outcome};
use grantd_domain::env::new_uuid;
use grantd_domain::identity::{
    Claims, Group, IdentityProvider, Invalid, Profile, ProviderState, Refused, Seen, Token, User, UserStatus, seen,
};
use grantd_domain::webhook::Mark;
use grantd_store::hot::Epochs;
use grantd_store::{Tx, append_event, apps, groups, idp_webhooks, scim, users};
use grantd_wire::ids::{AppId, GroupId, UserId};
use grantd_wire::{Code, Error, TimeMs, limits};

use crate::answer::of_store;
use crate::caller::Call;
use crate::flow::{Drafts, release};
use crate::outbound::jwks::{self, KeySets};
use crate::vault::Vault;

/// A token that is newer by less than this tells nothing new, unless it says something else.
const TOLD_LAG_MS: i64 = 5 * 60 * 1000;
/// How exactly it is kept when a user was last seen.
const SEEN_LAG_MS: i64 = 60 * 60 * 1000;
/// Identity providers that are remembered.
const PROVIDERS_MAX: usize = 10_000;

/// What is remembered of identity providers.
#[derive(Default)]
pub struct Identities {
    pub key_sets: KeySets,
    /// By app and issuer, with the epochs at which they were read.
    providers: Mutex<HashMap<(AppId, String), Remembered>>,
}

type Remembered = (Epochs, Arc<IdentityProvider>);

/// A token that is proved.
#[derive(Clone)]
pub struct Proved {
    pub idp: Arc<IdentityProvider>,
    pub claims: Claims,
    pub profile: Profile,
}

/// Why a token proves nothing. Never a word of the token itself.
pub fn refusal(check: Invalid) -> Error {
    Error::new(Code::JwtValidationError).message(format!("{check} {}", next(check))).detail("check", check.as_str())
}

/// What to do about it: the table of `docs/identity.md`, word for word.
const fn next(check: Invalid) -> &'static str {
    match check {
        Invalid::TooLong => {
            "Send the ID token or access token itself; if that is too large, have the issuer put less into it, such as fewer groups."
        }
        Invalid::Malformed
        | Invalid::Encrypted
        | Invalid::Duplicate
        | Invalid::Critical
        | Invalid::Type
        | Invalid::NoExpiry => "Send the ID token or access token itself, not another kind of token.",
        Invalid::Algorithm => "Register the algorithm, or have the issuer sign with one that `grantd idp show` names.",
        Invalid::UnknownIssuer => {
            "Register the issuer, exactly as `iss` has it: a slash at its end counts. `grantd idp list` says which there are."
        }
        Invalid::Audience => {
            "Register the audience, or send a token that was issued for one that `grantd idp show` names."
        }
        Invalid::UnknownKey => {
            "Wait ten seconds, if the issuer has just changed its keys; else look at `jwks_url` in `grantd idp show`."
        }
        Invalid::Signature => "Send the token as the issuer made it: this one was changed, or somebody else signed it.",
        Invalid::Expired => "Sign the user in again.",
        Invalid::NotYet => "Set the clocks of the issuer and of this server right, then sign the user in again.",
        Invalid::Subject => "Name a claim that says who the user is with `grantd idp update --user-claim`.",
        Invalid::Suspended => "An operator lets the user in again with `grantd end-users resume`.",
        Invalid::Deprovisioned => {
            "Sign the user in again: whoever was deprovisioned comes back as a new user, with nothing, unless their directory says that they are inactive."
        }
        Invalid::Nonce => "Begin the sign-in anew.",
    }
}

/// Proves a token. `epochs`: those that what is decided with it will be confirmed at.
pub async fn prove(vault: &Arc<Vault>, app: AppId, epochs: Epochs, text: &str) -> Result<Proved, Error> {
    let token = Token::parse(text).map_err(refusal)?;
    let issuer = token.issuer().filter(|issuer| issuer.chars().count() <= limits::ISSUER_CHARS_MAX);
    let issuer = issuer.ok_or(Invalid::UnknownIssuer).map_err(refusal)?;
    let idp = provider(vault, app, epochs, issuer).await?;
    prove_for(vault, idp, token).await
}

/// Proves a token that must be one of this identity provider.
pub async fn prove_of(vault: &Arc<Vault>, idp: Arc<IdentityProvider>, text: &str) -> Result<Proved, Error> {
    let token = Token::parse(text).map_err(refusal)?;
    prove_for(vault, idp, token).await
}

async fn prove_for(vault: &Arc<Vault>, idp: Arc<IdentityProvider>, token: Token<'_>) -> Result<Proved, Error> {
    if idp.state != ProviderState::Active {
        return Err(Code::IdentityProviderInactive.into());
    }
    // Before anybody is called for it.
    token.check(&idp, vault.env.now()).map_err(refusal)?;
    let keys = Box::pin(jwks::keys(vault, &idp, &token)).await?;
    let claims = token.verify(&idp, &keys, vault.env.now()).map_err(refusal)?;
    let profile = idp.claims.profile(&claims.all);
    Ok(Proved { idp, claims, profile })
}

async fn provider(vault: &Vault, app: AppId, epochs: Epochs, issuer: &str) -> Result<Arc<IdentityProvider>, Error> {
    let known = &vault.identities.providers;
    let place = (app, issuer.to_owned());
    if let Some((at, idp)) = known.lock().unwrap_or_else(PoisonError::into_inner).get(&place)
        && *at == epochs
    {
        return Ok(Arc::clone(idp));
    }
    let (at, idp) = vault.store.find_issuer(app, issuer).await.map_err(of_store)?.ok_or(Code::KeyNotActive)?;
    let idp = Arc::new(idp.ok_or_else(|| refusal(Invalid::UnknownIssuer))?);
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= PROVIDERS_MAX && !known.contains_key(&place) {
        known.clear();
    }
    known.insert(place, (at, Arc::clone(&idp)));
    Ok(idp)
}

/// The user a proved token speaks for, made at first sight and brought up to what the token says, with the epochs at which the row was
/// read. `draft` begins an event of whoever brought the token.
pub async fn user(vault: &Vault, proved: &Proved, draft: &(dyn Fn() -> Event + Sync)) -> Result<(Epochs, User), Error> {
    let (app, idp) = (proved.idp.app_id, proved.idp.id);
    for _ in 0..limits::DECISIONS_MAX {
        let found = vault.store.find_subject(app, idp, &proved.claims.subject).await.map_err(of_store)?;
        let (epochs, known, gone_at) = found.ok_or(Code::KeyNotActive)?;
        match seen(known.as_ref(), gone_at, &proved.claims) {
            Ok(Seen::Known(user)) if !is_news(proved, user, vault.env.now()) => return Ok((epochs, user.clone())),
            Ok(Seen::Known(user)) => Told::of(vault, proved, Some(user), draft).write(vault).await?,
            Ok(Seen::New) => Told::of(vault, proved, None, draft).write(vault).await?,
            Err(Refused::Suspended) => return Err(refusal(Invalid::Suspended)),
            Err(Refused::Deprovisioned) => return Err(refusal(Invalid::Deprovisioned)),
        }
    }
    Err(Code::Busy.into())
}

/// Whether the token says more of its user than is known. An older one than the last says nothing.
fn is_news(proved: &Proved, user: &User, now: TimeMs) -> bool {
    let is_newer_by = |lag: i64| match (proved.claims.issued_at, user.told_at) {
        (Some(issued), Some(told)) => issued.since(told) > lag,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let says_otherwise = user.told_hash != Some(proved.profile.hash());
    let was_unseen = user.last_seen_at.is_none_or(|seen| now.since(seen) >= SEEN_LAG_MS);
    is_newer_by(TOLD_LAG_MS) || (says_otherwise && is_newer_by(0)) || was_unseen
}

/// What a token tells of its user, to be written.
struct Told {
    user: User,
    /// The version it is written over; none: the user is new.
    was: Option<i64>,
    /// What the token says of groups, if it says something, each with the id it gets if it is new.
    groups: Option<Vec<(String, GroupId)>>,
    says_otherwise: bool,
    drafts: Drafts,
    now: TimeMs,
}

impl Told {
    fn of(vault: &Vault, proved: &Proved, known: Option<&User>, draft: &(dyn Fn() -> Event + Sync)) -> Self {
        let (env, now) = (&*vault.env, vault.env.now());
        let Proved { idp, claims, profile } = proved;
        let is_newest =
            known.is_none_or(|user| claims.issued_at.is_some_and(|at| user.told_at.is_none_or(|told| at > told)));
        let mut user = known.cloned().unwrap_or_else(|| User {
            id: UserId::from_uuid(new_uuid(env)),
            app_id: idp.app_id,
            idp_id: idp.id,
            subject: claims.subject.clone(),
            status: UserStatus::Active,
            email: None,
            name: None,
            roles: BTreeSet::new(),
            told_at: None,
            told_hash: None,
            last_seen_at: None,
            created_at: now,
            updated_at: now,
            version: 1,
        });
        let hash = profile.hash();
        let says_otherwise = is_newest && user.told_hash != Some(hash);
        if is_newest {
            user.email.clone_from(&profile.email);
            user.name.clone_from(&profile.name);
            user.roles.clone_from(&profile.roles);
            user.told_at = claims.issued_at;
            user.told_hash = Some(hash);
        }
        user.last_seen_at = Some(now);
        user.updated_at = if says_otherwise { now } else { user.updated_at };
        let new_id = |name: &String| (name.clone(), GroupId::from_uuid(new_uuid(env)));
        let named = profile.groups.as_ref().filter(|_| says_otherwise);
        Self {
            was: known.map(|user| user.version),
            groups: named.map(|names| names.iter().map(new_id).collect()),
            says_otherwise,
            drafts: Drafts::new(env, &draft(), &[Kind::UserCreated, Kind::UserUpdated, Kind::UserSuspended]),
            user,
            now,
        }
    }

    async fn write(self, vault: &Vault) -> Result<(), Error> {
        vault.store.write(move |tx| self.apply(tx)).await.map_err(of_store)
    }

    /// Nothing, when somebody else wrote meanwhile: then it is looked at again.
    fn apply(&self, tx: &mut Tx<'_>) -> grantd_store::Result<()> {
        let mut user = self.user.clone();
        let barred = self.barred(tx)?;
        if !barred.is_empty() {
            // The next token is looked at, also if it says the same.
            user.told_hash = None;
        }
        let kind = match self.was {
            None if !self.begin(tx)? => return Ok(()),
            None => Kind::UserCreated,
            Some(version) if !users::update(tx, &user, version)? => return Ok(()),
            Some(_) => Kind::UserUpdated,
        };
        if !self.says_otherwise {
            return Ok(());
        }
        let (joined, left) = self.sort_groups(tx, &barred)?;
        if left > 0 {
            apps::raise_epoch(tx, user.app_id)?;
        }
        let mut event = self.drafts.of(kind).user(user.id).core_id("idp_id", user.idp_id);
        event = event.private_text("subject", Some(&user.subject));
        for (field, count) in [("groups_joined", joined), ("groups_left", left)] {
            if count > 0 {
                event = event.core(field, count);
            }
        }
        append_event(tx, &event.prepare())?;
        if self.was.is_none() { self.suspend_if_blocked(tx) } else { Ok(()) }
    }

    /// Makes the row of a user who was never seen, or is back; `false`: somebody else made it meanwhile. Of whom the directory told
    /// before, it goes on telling: nobody whom it calls inactive begins anew.
    fn begin(&self, tx: &mut Tx<'_>) -> grantd_store::Result<bool> {
        let User { id: user, app_id: app, idp_id: idp, subject, .. } = &self.user;
        let told_of = scim::find_subject(tx, *app, *idp, subject)?;
        if told_of.as_ref().is_some_and(|row| !row.user.is_active()) {
            return Err(refusal(Invalid::Deprovisioned).into());
        }
        if !users::insert(tx, &self.user)? {
            return Ok(false);
        }
        if let Some(row) = told_of {
            scim::bind(tx, *app, row.id, *user)?;
        }
        Ok(true)
    }

    /// Groups that the token names, and that the directory took the user out of since the token was issued.
    fn barred(&self, tx: &mut Tx<'_>) -> grantd_store::Result<BTreeSet<String>> {
        let User { id: user, app_id: app, told_at, .. } = self.user;
        let (Some(named), Some(_), Some(issued_at)) = (&self.groups, self.was, told_at) else {
            return Ok(BTreeSet::new());
        };
        let mut left = groups::external_ids_left(tx, app, user, issued_at)?;
        left.retain(|name| named.iter().any(|(named, _)| named == name));
        Ok(left)
    }

    /// Who was blocked at the identity provider before they were seen here is suspended from the first sight on, as if the webhook had
    /// told of it now.
    fn suspend_if_blocked(&self, tx: &mut Tx<'_>) -> grantd_store::Result<()> {
        let User { id: user, app_id: app, idp_id: idp, subject, .. } = &self.user;
        let Some(blocked_at) = idp_webhooks::blocked_at(tx, *app, *idp, subject)? else { return Ok(()) };
        idp_webhooks::forget_blocked(tx, *app, *idp, subject)?;
        users::set_suspended(tx, *app, *user, UserStatus::Suspended, self.now)?;
        idp_webhooks::set_mark(tx, *app, *user, &Mark { told_at: blocked_at, suspended_at: Some(self.now) })?;
        let event = self.drafts.of(Kind::UserSuspended).user(*user).core_id("idp_id", *idp);
        append_event(tx, &event.core("webhook_event_at", blocked_at.to_string()).prepare())
    }

    /// Puts the user into the groups the token names, but for those that are barred, and out of those that an earlier one named; answers
    /// how many of either.
    fn sort_groups(&self, tx: &mut Tx<'_>, barred: &BTreeSet<String>) -> grantd_store::Result<(i64, i64)> {
        let Some(named) = &self.groups else { return Ok((0, 0)) };
        let User { id: user, app_id: app, idp_id: idp, .. } = self.user;
        let before = groups::external_ids_by_token(tx, app, user)?;
        let (mut joined, mut left) = (0, 0);
        for (external_id, new_id) in named.iter().filter(|(name, _)| !before.contains(name) && !barred.contains(name)) {
            let group = match groups::find_external(tx, app, idp, external_id)? {
                Some(group) => group.id,
                None => {
                    let group = Group {
                        id: *new_id,
                        app_id: app,
                        idp_id: idp,
                        external_id: external_id.clone(),
                        name: external_id.clone(),
                        created_at: self.now,
                        updated_at: self.now,
                        version: 1,
                    };
                    if !groups::insert(tx, &group)? {
                        return Err(Code::Conflict.into());
                    }
                    group.id
                }
            };
            joined += i64::from(groups::add(tx, app, group, user, groups::Source::Token, self.now)?);
        }
        for external_id in before.iter().filter(|name| !named.iter().any(|(named, _)| named == *name)) {
            if let Some(group) = groups::find_external(tx, app, idp, external_id)? {
                left += i64::from(groups::remove(tx, app, group.id, user, groups::Source::Token)?);
            }
        }
        Ok((joined, left))
    }
}

/// The user of a call that carries a token, at the epochs that its key was read at; none: it carries none. A refusal is an event.
pub async fn of_call(vault: &Arc<Vault>, call: &Call, token: Option<&str>) -> Result<Option<User>, Error> {
    let Some(token) = token else { return Ok(None) };
    let draft = || call.event(vault, Kind::UserCreated, Outcome::Allowed);
    let found = async {
        let proved = prove(vault, call.known.app.id, call.known.epochs, token).await?;
        Ok::<_, Error>(user(vault, &proved, &draft).await?.1)
    };
    match Box::pin(found).await {
        Ok(user) => Ok(Some(user)),
        // An identity provider that fails is a refusal to tell of; what fails here may be unable to write.
        Err(error) if error.code.status() >= 500 && error.code != Code::ServiceUnavailable => Err(error),
        Err(error) => {
            let event = refused(call.event(vault, Kind::UserTokenRefused, Outcome::Denied), &error);
            Err(release::record(vault, event, error).await)
        }
    }
}

/// An event of a refusal, with the check that a user token failed.
pub fn refused(event: Event, error: &Error) -> Event {
    let event = event.code(error.code);
    match error.details.get("check") {
        Some(check) if matches!(error.code, Code::JwtValidationError | Code::ServiceUnavailable) => {
            event.core("check", check.clone())
        }
        _ => event,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_check_is_answered_with_what_the_page_says_of_it() {
        let page = include_str!("../../../../docs/identity.md");
        let (_, table) = page.split_once("| `check` | what to do |").unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let mut named = HashSet::new();
        for row in rows {
            let (checks, to_do) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
            for name in checks.split(' ').map(|name| name.trim_matches('`')) {
                let check = Invalid::ALL.iter().find(|check| check.as_str() == name).unwrap();
                assert!(named.insert(name), "{name} stands in two rows");
                let (first, rest) = to_do.split_at(1);
                let sentence = format!("{}{rest}.", first.to_uppercase());
                assert_eq!(sentence, next(*check), "{name}");
                assert!(refusal(*check).message.ends_with(&sentence), "{name}");
            }
        }
        assert_eq!(named.len(), Invalid::ALL.len(), "the page leaves a check out");
    }
}
