//! A user's own key for a managed secret: from the session an app asks for to a credential that is the user's alone.
//!
//! Invariants: the key is in memory until it is sealed, and in no event, log, error or page; what is kept goes where the secret may,
//! and is written together with its grant, the end of the session and the events, or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use grantd_domain::audit::{Event, Kind, Outcome as EventOutcome};
use grantd_domain::connect::{Asked, Asker, Outcome, Wanted, Why};
use grantd_domain::credential::SecretValue;
use grantd_domain::env::new_uuid;
use grantd_domain::grant::{
    Behind, Credential, CredentialOf, CredentialState, Grant, GrantStatus, ManagedSecret, Principal, Tenant,
    check_text, expires_at,
};
use grantd_domain::identity::{User, UserStatus};
use grantd_domain::key_entry::{self, AskedKey, Held, Path, Wrong};
use grantd_domain::template::{self, Template, Verdict};
use grantd_store::connect::{self as rows, SessionState, StepState};
use grantd_store::grants::{GrantFilter, Listed};
use grantd_store::{Tx, append_event, apps, crash, credentials, grants, secrets, users};
use grantd_wire::ids::{AppId, CredentialId, GenerationId, GrantId, SecretId, UserId};
use grantd_wire::sdk::{KeySessionRequest, Lifetime};
use grantd_wire::{Code, Error, TimeMs, limits};
use zeroize::Zeroizing;

use crate::answer::of_store;
use crate::caller::Source;
use crate::flow::connect::{self, Session};
use crate::flow::probe::{self, Subject, Tried};
use crate::flow::session::{self, Begun};
use crate::flow::{Drafts, grants as grant_events};
use crate::outbound;
use crate::vault::Vault;

/// Times a key is sealed again because the one it replaces changed between looking and keeping.
const TRIES: usize = 5;
/// How long a step is kept for whoever checks its key: what the call may take, and twice that to store it.
const LEASE_MS: i64 = 3 * limits::PROBE_DEADLINE_MS.cast_signed();
/// Grants of a user on one secret that are looked at.
const HELD_MAX: i64 = 100;

/// A secret, and what one user holds of it.
pub struct Standing {
    pub secret: ManagedSecret,
    pub template: Option<&'static Template>,
    /// Newest first, lapsed ones behind.
    pub held: Vec<Listed>,
    own: Option<Credential>,
    /// The app's own value.
    shared: Option<Credential>,
}

impl Standing {
    /// What to ask the user for; `None`: the grant to mend is no key of theirs.
    pub fn path(&self, asked: AskedKey, label: Option<&str>, user: UserId, now: TimeMs) -> Option<Path> {
        let held: Vec<Held<'_>> =
            self.held.iter().map(|held| Held { grant: &held.grant, credential: &held.credential }).collect();
        key_entry::decide(&held, asked.repair, label, user, now)
    }

    /// Whether this is the key that the user gave.
    pub fn is_own(&self, credential: CredentialId) -> bool {
        self.own.as_ref().is_some_and(|own| own.id == credential)
    }

    /// The grant with this id, if the user holds it.
    pub fn grant(&self, id: GrantId) -> Option<&Grant> {
        self.held.iter().map(|held| &held.grant).find(|grant| grant.id == id)
    }
}

fn load(
    tx: &mut Tx<'_>,
    app: AppId,
    id_or_slug: &str,
    user: UserId,
    now: TimeMs,
) -> grantd_store::Result<Option<Standing>> {
    let Some(secret) = secrets::find(tx, app, id_or_slug)? else { return Ok(None) };
    let template = secrets::find_template(tx, app, secret.id)?.and_then(|id| template::find(&id));
    let mut held = Vec::new();
    for status in ["active", "expired"] {
        let filter = GrantFilter {
            user: Some(user),
            secret: Some(secret.id),
            status: Some(status.to_owned()),
            limit: HELD_MAX,
            ..GrantFilter::default()
        };
        held.extend(grants::list(tx, app, &filter, now)?.0);
    }
    let own = credentials::find_own(tx, app, secret.id, user)?;
    let shared = credentials::find_living(tx, app, secret.id)?;
    Ok(Some(Standing { secret, template, held, own, shared }))
}

/// How a session's secret stands for its user; `None`: the secret is gone, or the session is none for a key.
pub async fn find(vault: &Vault, session: &Session, now: TimeMs) -> Result<Option<(Standing, Path)>, Error> {
    let Some((asked, user)) = session.request.key.zip(session.user_id) else { return Ok(None) };
    let app = session.app_id;
    let read = move |tx: &mut Tx<'_>| load(tx, app, &asked.secret_id.to_string(), user, now);
    let standing = vault.store.read(read).await.map_err(of_store)?;
    Ok(standing.and_then(|standing| {
        let path = standing.path(asked, session.request.label.as_deref(), user, now)?;
        path.is_possible(&standing.secret).then_some((standing, path))
    }))
}

/// A session that is not stored yet, and what its page will ask for.
pub struct BegunKey {
    pub begun: Begun,
    pub path: Path,
    pub secret: ManagedSecret,
    pub template: Option<&'static Template>,
}

/// Looks at what is asked, and makes a session of it.
pub async fn begin(
    vault: &Vault,
    app: AppId,
    ask: KeySessionRequest,
    user: &User,
    by: Asker,
    now: TimeMs,
) -> Result<BegunKey, Error> {
    let lifetime = check(&ask, now)?;
    let repair = match ask.repair_grant_id.as_deref() {
        Some(id) => Some(GrantId::parse(id).ok_or(Code::GrantNotFound)?),
        None => None,
    };
    let (named, of_template, user_id) = (ask.provider.clone(), ask.template_slug.clone(), user.id);
    let organization = vault.organization_id;
    let read = move |tx: &mut Tx<'_>| {
        let settings = apps::find(tx, organization, app)?.ok_or(Code::KeyNotActive)?;
        let named = match (named.as_deref(), of_template.as_deref()) {
            (Some(slug), of_template) => slug_of(tx, app, slug, of_template)?,
            (None, Some(template)) => only_of_template(tx, app, template, user_id, now)?,
            (None, None) => return Err(Error::invalid("provider", "must name a managed secret by its slug").into()),
        };
        let standing = load(tx, app, &named, user_id, now)?.ok_or(Code::SecretNotFound)?;
        Ok((settings, standing))
    };
    let (settings, standing) = vault.store.read(read).await.map_err(of_store)?;
    let allowed_origin = ask.allowed_origin.as_deref().map(without_slash);
    session::check_origins(&settings, ask.return_url.as_deref(), allowed_origin)?;
    session::check_sign_in(vault, &settings, user.id).await?;
    let label = ask.requested_grant.map(|grant| grant.label);
    let key = AskedKey { secret_id: standing.secret.id, repair };
    let path = standing.path(key, label.as_deref(), user.id, now).ok_or(Code::GrantNotFound)?;
    let Standing { secret, template, .. } = standing;
    if !path.is_possible(&secret) {
        return Err(Code::BindingHostsRequired.into());
    }
    let wanted = Wanted {
        provider_id: secret.slug.clone(),
        name: secret.name.clone(),
        scopes: Vec::new(),
        required: Vec::new(),
    };
    let request = Asked {
        by,
        providers: vec![wanted],
        is_direct: ask.direct || repair.is_some(),
        switches_account: false,
        return_url: ask.return_url,
        allowed_origin: allowed_origin.map(str::to_owned),
        label,
        lifetime,
        repair: None,
        user: Some(grantd_domain::connect::masked(user)),
        key: Some(key),
    };
    Ok(BegunKey { begun: Begun::new(vault, app, request, Some(user.id), now), path, secret, template })
}

/// Browsers write an origin without; people often with.
fn without_slash(origin: &str) -> &str {
    origin.strip_suffix('/').unwrap_or(origin)
}

/// How long the grant lives, if nothing is wrong with what was asked.
fn check(ask: &KeySessionRequest, now: TimeMs) -> Result<Lifetime, Error> {
    session::check_return_url(ask.return_url.as_deref())?;
    if let Some(origin) = ask.allowed_origin.as_deref()
        && !grantd_domain::connect::is_origin(without_slash(origin))
    {
        return Err(Error::new(Code::InvalidOrigin).detail("field", "allowed_origin"));
    }
    session::check_grant(ask.requested_grant.as_ref(), ask.grant_policy, now)?;
    if ask.repair_grant_id.is_some() && ask.requested_grant.is_some() {
        return Err(Error::invalid("repair_grant_id", "does not go with requested_grant: the grant keeps its label"));
    }
    let lifetime = match (ask.grant_policy, ask.requested_ttl_seconds) {
        (Some(_), Some(_)) => {
            return Err(Error::invalid("requested_ttl_seconds", "does not go with grant_policy: name one of them"));
        }
        (policy, None) => policy.unwrap_or_default(),
        (None, seconds) => Lifetime { max_ttl_seconds: seconds, ..Lifetime::default() },
    };
    expires_at(lifetime, now).map(|_| lifetime)
}

/// The secret that has this slug, and was made from that template.
fn slug_of(tx: &mut Tx<'_>, app: AppId, slug: &str, of_template: Option<&str>) -> grantd_store::Result<String> {
    // An id would be found as well, and the answer would name another slug than was sent.
    let found = secrets::find(tx, app, slug)?.filter(|secret| secret.slug == slug);
    let secret = found.ok_or(Code::SecretNotFound)?;
    let template = secrets::find_template(tx, app, secret.id)?;
    match of_template {
        Some(wanted) if template.as_deref() != Some(wanted) => Err(Code::SecretTemplateMismatch.into()),
        _ => Ok(slug.to_owned()),
    }
}

/// The one secret of a template; of several, or none, the one that the user holds a grant on.
fn only_of_template(
    tx: &mut Tx<'_>,
    app: AppId,
    template: &str,
    user: UserId,
    now: TimeMs,
) -> grantd_store::Result<String> {
    let of_it = secrets::list_of_template(tx, app, template, HELD_MAX)?;
    if let [only] = &of_it[..] {
        return Ok(only.slug.clone());
    }
    let ids: Vec<SecretId> = of_it.iter().map(|secret| secret.id).collect();
    let filter =
        GrantFilter { user: Some(user), status: Some("active".to_owned()), limit: HELD_MAX, ..GrantFilter::default() };
    let held = grants::list(tx, app, &filter, now)?.0;
    let slug = held.into_iter().find_map(|held| match held.behind {
        Behind::Secret(secret) if ids.contains(&secret.id) => Some(secret.slug.clone()),
        _ => None,
    });
    slug.ok_or_else(|| Error::new(Code::NoEligibleGrants).detail("reason", "no_grant").into())
}

/// What a user entered.
pub struct Entered {
    /// What they call it.
    pub label: Option<String>,
    pub key: Zeroizing<String>,
    pub fields: BTreeMap<String, String>,
    /// Kept without a check, because there is none to be had now.
    pub is_unchecked: bool,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.fields.values_mut().for_each(zeroize::Zeroize::zeroize);
    }
}

/// What became of it.
pub enum Took {
    /// The session says.
    Tried,
    /// It cannot be a key of this secret, and nobody was asked about it.
    Wrong(Wrong),
}

/// Takes a key: looks whether it could be one, lets the vendor say whether it is, and keeps it. What follows goes on, whatever becomes
/// of the browser.
pub async fn enter(
    vault: &Arc<Vault>,
    session: &Session,
    attempts: i64,
    standing: Standing,
    entered: Entered,
    source: &Source,
) -> Result<Took, Error> {
    let label = entered.label.as_deref().map(str::trim).filter(|label| !label.is_empty());
    if label.is_some_and(|label| check_text("label", label, limits::LABEL_CHARS_MAX).is_err()) {
        return Ok(Took::Wrong(Wrong::Unfit("label".to_owned())));
    }
    let shared = fixing_hosts(vault, &standing).await?;
    let value = key_entry::value(&standing.secret, standing.template, shared.as_ref(), &entered.key, &entered.fields);
    let value = match value {
        Ok(value) => value,
        Err(wrong) => return Ok(Took::Wrong(wrong)),
    };
    let attempt = attempts + 1;
    let (id, app, slug, now) = (session.id, session.app_id, standing.secret.slug.clone(), source.now);
    let place = slug.clone();
    let take = move |tx: &mut Tx<'_>| rows::take_at_once(tx, (id, app, &place), attempt, now.plus_ms(LEASE_MS), now);
    if !vault.store.write(take).await.map_err(of_store)? {
        // Sent twice at once: the session's page says what came of the first.
        return Ok(Took::Tried);
    }
    crash::step("key_entry.taken");
    let label = label.map(str::to_owned);
    let is_unchecked = entered.is_unchecked;
    let work = {
        let (vault, session, source) = (Arc::clone(vault), session.clone(), source.clone());
        async move {
            let checked = match is_unchecked {
                true => Ok(value),
                false => check_with_vendor(&vault, &session, &standing, value, &source).await,
            };
            crash::step("key_entry.checked");
            let kept = match checked {
                Ok(value) => Box::pin(keep(&vault, &session, attempt, &standing.secret, &value, label, &source)).await,
                Err(why) => Err(why),
            };
            match kept {
                Ok(()) => Ok(()),
                Err(why) => {
                    let place = (slug.as_str(), attempt, StepState::Exchanging);
                    connect::fail(&vault, &session, place, Outcome::Failed { why }, &source).await
                }
            }
        }
    };
    vault.tasks.spawn(work).await.map_err(|_| Error::new(Code::Internal))??;
    Ok(Took::Tried)
}

/// The app's own value, for those of its fields that only fix hosts: they are the same for everybody's key.
async fn fixing_hosts(vault: &Vault, standing: &Standing) -> Result<Option<SecretValue>, Error> {
    let is_needed = standing.template.is_some_and(Template::has_fields_of_hosts);
    match standing.shared.as_ref().filter(|shared| is_needed && matches!(shared.state, CredentialState::Ok { .. })) {
        Some(shared) => Ok(SecretValue::parse(&vault.keys.open(shared).await?)),
        None => Ok(None),
    }
}

/// Asks the vendor with the template's harmless call, where there is one and the secret may go there.
async fn check_with_vendor(
    vault: &Vault,
    session: &Session,
    standing: &Standing,
    value: SecretValue,
    source: &Source,
) -> Result<SecretValue, Why> {
    let Some(template) = standing.template.filter(|template| can_check(vault, &standing.secret, template, &value))
    else {
        return Ok(value);
    };
    let event = connect::event(vault, session, Kind::ProbeIntended, EventOutcome::Allowed, source);
    let drafts = Drafts::new(&*vault.env, &event, probe::KINDS);
    let subject = Subject { secret: standing.secret.clone(), tried: Tried::Entered(value), template };
    let tested = probe::run(vault, &subject, &drafts).await;
    match tested {
        Ok(tested) => match tested.said {
            Ok(Verdict::Refused) => return Err(Why::Refused(tested.status.unwrap_or_default().to_string())),
            Ok(Verdict::VendorFailed) | Err(_) => return Err(Why::Unreachable),
            // It says nothing against the key.
            Ok(Verdict::Works | Verdict::Unclear | Verdict::RateLimited | Verdict::Unexpected) => {}
        },
        // It resolves to an address that nothing may go to: nothing was sent.
        Err(e) if e.code == Code::BlockedDestination => return Err(Why::Unreachable),
        // The secret was changed meanwhile: what was entered is looked at anew.
        Err(e) if matches!(e.code, Code::Conflict | Code::SecretNotFound) => return Err(Why::Interrupted),
        Err(e) => {
            tracing::error!(session.id = %session.id, code = e.code.as_str(), "A user's key could not be checked");
            return Err(Why::Internal);
        }
    }
    match subject.tried {
        Tried::Entered(value) => Ok(value),
        Tried::Stored(_) => Err(Why::Internal),
    }
}

fn can_check(vault: &Vault, secret: &ManagedSecret, template: &Template, value: &SecretValue) -> bool {
    let call = template.call(value.value(), value.fields());
    call.is_ok_and(|call| outbound::probe::target(&call, secret, &vault.settings.outbound).is_ok())
}

/// Whether a key for this secret can be checked at all, as far as that is known before there is one.
pub fn is_checked(standing: &Standing) -> bool {
    standing.template.is_some_and(|template| template.probe.is_some())
}

/// Keeps a key: the user's credential, a grant on it, the session's end and the events, in one write.
async fn keep(
    vault: &Vault,
    session: &Session,
    attempt: i64,
    secret: &ManagedSecret,
    value: &SecretValue,
    label: Option<String>,
    source: &Source,
) -> Result<(), Why> {
    let internal = |e: Error| {
        tracing::error!(session.id = %session.id, code = e.code.as_str(), "A user's key could not be kept");
        if e.code == Code::TooMany { Why::Full } else { Why::Internal }
    };
    let env = &*vault.env;
    let user = session.user_id.ok_or(Why::Internal)?;
    for _ in 0..TRIES {
        let now = vault.env.now();
        let found = find(vault, session, now).await.map_err(internal)?;
        // Deleted, changed, or the grant to mend is gone: what was entered is looked at anew.
        let (standing, path) = found.filter(|(s, _)| s.secret.version == secret.version).ok_or(Why::Interrupted)?;
        let old = standing.own.as_ref();
        let id = old.map_or_else(|| CredentialId::from_uuid(new_uuid(env)), |old| old.id);
        let version = old.map_or(1, |old| old.version + 1);
        let until = expires_at(session.request.lifetime, now).map_err(internal)?;
        let grant = match (path, old) {
            (Path::Repair(grant), Some(_)) => standing
                .grant(grant)
                .cloned()
                .map(|grant| Grant { expires_at: if grant.lapsed(now) { until } else { grant.expires_at }, ..grant }),
            (Path::KeyEntry, None) => Some(Grant {
                id: GrantId::from_uuid(new_uuid(env)),
                app_id: session.app_id,
                credential_id: id,
                principal: Principal::User(user),
                label: session.request.label.clone().or_else(|| label.clone()),
                status: GrantStatus::Active,
                tenant: Tenant::Exempt,
                expires_at: until,
                created_at: now,
                last_used_at: None,
                version: 1,
            }),
            // Somebody gave the user a grant meanwhile, or the user entered the key elsewhere: the page asks anew.
            _ => None,
        };
        let grant = grant.ok_or(Why::Interrupted)?;
        let credential = Credential {
            id,
            app_id: session.app_id,
            of: CredentialOf::Secret(secret.id),
            user_id: Some(user),
            generation: GenerationId::from_uuid(new_uuid(env)),
            version,
            state: vault.keys.seal(env, session.app_id, id, version, &value.text()).await.map_err(internal)?,
            updated_at: now,
        };
        crash::step("key_entry.sealed");
        let event = connect::event(vault, session, Kind::ConnectDone, EventOutcome::Allowed, source);
        let keeping = Keeping {
            session: session.clone(),
            attempt,
            secret: secret.clone(),
            was: old.map(|old| old.version),
            grant,
            credential,
            drafts: Drafts::new(env, &event, &[Kind::ConnectDone, Kind::GrantCreated, Kind::CredentialRotated]),
            now,
        };
        match vault.store.write(move |tx| keeping.write(tx)).await {
            Ok(Kept::Yes) => {
                crash::step("key_entry.kept");
                return Ok(());
            }
            // Somebody replaced or ended the key meanwhile: as it is now.
            Ok(Kept::Moved) => {}
            Ok(Kept::Not(why)) => return Err(why),
            Err(e) => match of_store(e) {
                e if e.code == Code::Conflict => return Err(Why::Interrupted),
                e => return Err(internal(e)),
            },
        }
    }
    Err(Why::Internal)
}

/// What is kept, if everything is still as it was.
struct Keeping {
    session: Session,
    attempt: i64,
    secret: ManagedSecret,
    credential: Credential,
    /// The version that is replaced; none: the key is the user's first.
    was: Option<i64>,
    grant: Grant,
    drafts: Drafts,
    now: TimeMs,
}

enum Kept {
    Yes,
    /// The user's key is another by now.
    Moved,
    Not(Why),
}

impl Keeping {
    fn write(&self, tx: &mut Tx<'_>) -> grantd_store::Result<Kept> {
        let Self { session, secret, credential, grant, drafts, now, .. } = self;
        if let Some(why) = barred(tx, session)? {
            return Ok(Kept::Not(why));
        }
        let is_same =
            secrets::find(tx, secret.app_id, &secret.id.to_string())?.is_some_and(|s| s.version == secret.version);
        if !is_same {
            return Ok(Kept::Not(Why::Interrupted));
        }
        let own = match credential.user_id {
            Some(user) => credentials::find_own(tx, credential.app_id, secret.id, user)?,
            None => return Err(Code::Internal.into()),
        };
        if own.map(|own| (own.id, own.version)) != self.was.map(|version| (credential.id, version)) {
            return Ok(Kept::Moved);
        }
        let event = |kind: Kind| {
            let event = drafts.of(kind).provider(&secret.slug).credential(credential.id, credential.version);
            event.grant(grant.id)
        };
        match self.was {
            Some(version) => {
                credentials::update(tx, credential, version)?;
                // It may have lapsed; that the row moved on means that somebody changed it.
                grants::update(tx, grant, grant.version, *now)?;
                append_event(tx, &event(Kind::CredentialRotated).prepare())?;
            }
            None => {
                credentials::insert(tx, credential)?;
                grants::insert(tx, grant)?;
                append_event(tx, &grant_events::created_event(drafts, secret, grant, credential.version).prepare())?;
            }
        }
        crash::step("key_entry.credential_written");
        let operation = if self.was.is_none() { "creation" } else { "reauth" };
        end(tx, session, (self.attempt, *now), grant, self.was.is_none())?;
        apps::raise_epoch(tx, credential.app_id)?;
        let done = event(Kind::ConnectDone).generation(credential.generation).core("operation", operation);
        append_event(tx, &done.prepare())?;
        Ok(Kept::Yes)
    }
}

/// Why nothing comes of a session any more.
fn barred(tx: &mut Tx<'_>, session: &Session) -> grantd_store::Result<Option<Why>> {
    if !apps::is_active(tx, session.app_id)? {
        return Ok(Some(Why::AppClosed));
    }
    let user = match session.user_id {
        Some(user) => users::find(tx, session.app_id, user)?,
        None => None,
    };
    Ok(user.is_none_or(|user| user.status != UserStatus::Active).then_some(Why::Barred))
}

/// Ends step and session with this grant. A conflict undoes all of the write: somebody ended them before.
fn end(
    tx: &mut Tx<'_>,
    session: &Session,
    (attempt, now): (i64, TimeMs),
    grant: &Grant,
    is_new: bool,
) -> grantd_store::Result<()> {
    let Some(wanted) = session.request.providers.first() else { return Err(Code::Internal.into()) };
    let outcome = Outcome::Done {
        grant_id: grant.id,
        is_new,
        account: grant.label.clone().unwrap_or_else(|| wanted.provider_id.clone()),
        account_name: grant.label.clone(),
        scopes: Vec::new(),
        pinned_host: None,
        expires_at: grant.expires_at,
        created_at: grant.created_at,
    };
    let place = (session.id, wanted.provider_id.as_str(), attempt);
    let is_ended = rows::end_step(tx, place, StepState::Exchanging, StepState::Done, &outcome, now)?
        && rows::finish(tx, session.id, SessionState::Completed)?;
    if is_ended { Ok(()) } else { Err(Code::Conflict.into()) }
}

/// The user lets the app use what they hold. Nothing changes if that is no longer what the session asks.
pub async fn approve(vault: &Vault, session: &Session, attempts: i64, source: &Source) -> Result<(), Error> {
    let Some((asked, user)) = session.request.key.zip(session.user_id) else { return Err(Code::NotFound.into()) };
    let done = connect::event(vault, session, Kind::ConnectDone, EventOutcome::Allowed, source);
    let (session, now, attempt) = (session.clone(), source.now, attempts + 1);
    let write = move |tx: &mut Tx<'_>| {
        if barred(tx, &session)?.is_some() {
            return Ok(());
        }
        let standing = load(tx, session.app_id, &asked.secret_id.to_string(), user, now)?;
        let Some(standing) = standing else { return Ok(()) };
        let path = standing.path(asked, session.request.label.as_deref(), user, now);
        let Some(Path::FastPath(id)) = path else { return Ok(()) };
        let Some(held) = standing.held.iter().find(|held| held.grant.id == id) else { return Ok(()) };
        let slug = &standing.secret.slug;
        if !rows::take_at_once(tx, (session.id, session.app_id, slug), attempt, now, now)? {
            return Ok(());
        }
        end(tx, &session, (attempt, now), &held.grant, false)?;
        let event: Event = done.clone().provider(slug).credential(held.credential.id, held.credential.version);
        append_event(tx, &event.grant(id).core("operation", "approval").prepare())
    };
    match vault.store.write(write).await.map_err(of_store) {
        // It ended meanwhile: its page says how.
        Err(e) if e.code == Code::Conflict => Ok(()),
        other => other,
    }
}
