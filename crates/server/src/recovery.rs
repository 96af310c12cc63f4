//! What a restored database goes through before it is served: it is looked over, what was taken away since is taken away again,
//! and everything that remembers the time before is shut out.
//!
//! Invariants: nothing is changed before every export was verified and planned. A run that was cut off is run again, and does the
//! rest. Nothing revoked comes back unless somebody has accepted that in so many words.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grantd_domain::audit::{self, Actor, Checkpoint, Event, HeadAt, Kind, Outcome, Owner, Trust, verify_signature};
use grantd_domain::env::Env;
use grantd_domain::grant::{GrantStatus, Tenant};
use grantd_domain::identity::{ProviderState, UserStatus};
use grantd_domain::recovery::{Lost, Plan, ReadError, Step, UserChange, plan, read_export};
use grantd_domain::seal::RootKeys;
use grantd_domain::secret::Secret;
use grantd_domain::words::counted;
use grantd_store::{
    Store, Tx, append_event, apps, grants, groups, identity_providers, idp_webhooks, keys, operators, recovery, scim,
    secrets, users,
};
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, OperatorId, OrganizationId, UserId};
use serde_json::{Value, json};

use crate::flow::{self, Drafts, assertion};
use crate::install::{self, InstallError};

/// Steps of one write.
const STEPS_PER_WRITE: usize = 50;
/// The same, as a number of rows.
const STEPS_PER_WRITE_ROWS: i64 = 50;
/// Bytes of the first line of an export.
const HEADER_BYTES_MAX: u64 = 1024 * 1024;

/// What a restore rests on.
#[derive(Debug, Default)]
pub struct Ask {
    /// Exports of the audit trail, made after the backup.
    pub replay: Vec<PathBuf>,
    /// Revocations of apps without an export may be lost.
    pub accept_lost_revocations: bool,
    /// It was seen that nothing happened since.
    pub nothing_happened: bool,
    /// When the backup was made, if that is known.
    pub backup_at: Option<TimeMs>,
    /// The backup's sum, if there is one.
    pub backup_sha256: Option<String>,
}

/// What was done.
pub struct Restored {
    /// Steps that changed something.
    pub replayed: u64,
    pub lost: Vec<Lost>,
    /// Since the backup, or since the newest event there is.
    pub gap_seconds: i64,
    /// The first operator's new token: the old ones are revoked.
    pub pat: Secret,
}

/// Why a database is not made ready. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Store(#[from] grantd_store::Error),
    #[error("cannot read the export {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is no whole export that this database's checkpoint key signed: {what}", path.display())]
    Unverified { path: PathBuf, what: String },
    #[error("{} is a filtered export, which does not hold everything: export the whole trail of the app", .0.display())]
    Partial(PathBuf),
    #[error("{}", path.display())]
    Unfit {
        path: PathBuf,
        #[source]
        source: ReadError,
    },
    #[error("{} is the trail of {owner}, which this database does not hold: leave it out", path.display())]
    Foreign { path: PathBuf, owner: String },
    #[error(
        "what was revoked since the backup would come back: {}. Give the audit export of each with --replay, or give them up with --accept-lost-revocations",
        .0.join(", ")
    )]
    Uncovered(Vec<String>),
    #[error("the database was changed by somebody who does not hold the checkpoint key: {0}. Use another backup")]
    Tampered(String),
}

/// Makes a restored database fit to be served.
pub async fn run(store: &Store, root: &RootKeys, env: &dyn Env, ask: &Ask) -> Result<Restored, RecoveryError> {
    let opened = install::open(store, root).await?;
    let organization = opened.organization_id;
    let known = store.read(move |tx| Known::read(tx, organization)).await?;
    known.check(&opened.public_keys)?;
    let mut plans = BTreeMap::new();
    for path in &ask.replay {
        let (owner, made) = read(path, &known, &opened.public_keys)?;
        plans.insert(owner, made);
    }
    let uncovered: Vec<String> = known
        .apps
        .iter()
        .filter(|(app, _)| !plans.contains_key(&Owner::App(*app)))
        .map(|(app, name)| format!("app {name} ({app})"))
        .collect();
    if !uncovered.is_empty() && !ask.accept_lost_revocations && !ask.nothing_happened {
        return Err(RecoveryError::Uncovered(uncovered));
    }
    let now = env.now().max(known.newest_event.unwrap_or_default());
    store.write(move |tx| recovery::fence(tx, now)).await?;
    // Tokens revoked since the backup are not told apart from others: all of them go.
    let reset = install::reset_operator(store, env).await?;
    close_others(store, env, organization, reset.operator_id, now).await?;
    assertion::withdraw_all(store, env, organization, now).await?;
    let (mut replayed, mut lost) = (0, Vec::new());
    for (owner, plan) in plans {
        let Owner::App(app) = owner else { continue };
        replayed += replay(store, env, organization, app, &plan.steps, now).await?;
        lost.extend(plan.lost);
    }
    let backup_at = ask.backup_at.or(known.newest_event);
    tell(store, env, organization, &known, ask, backup_at, replayed).await?;
    let gap_seconds = backup_at.map_or(0, |at| now.since(at).max(0) / 1000);
    Ok(Restored { replayed, lost, gap_seconds, pat: reset.pat })
}

/// Locks out every operator but the one who was let in: who was disabled or demoted since the backup is not told apart.
async fn close_others(
    store: &Store,
    env: &dyn Env,
    organization: OrganizationId,
    except: OperatorId,
    now: TimeMs,
) -> Result<(), RecoveryError> {
    loop {
        let others = store.read(move |tx| operators::list_open(tx, organization, except, STEPS_PER_WRITE_ROWS)).await?;
        if others.is_empty() {
            return Ok(());
        }
        let draft = |id: &OperatorId| {
            let owner = Owner::Organization(organization);
            Event::new(env, now, owner, Kind::OperatorUpdated, Outcome::Allowed, Actor::Job)
                .core("replayed", true)
                .core_id("operator_id", id)
                .changed("disabled", false, true)
                .prepare()
        };
        let others: Vec<_> = others.iter().map(|id| (*id, draft(id))).collect();
        store
            .write(move |tx| {
                others.iter().try_for_each(|(id, event)| {
                    operators::close(tx, *id, now)?;
                    append_event(tx, event)
                })
            })
            .await?;
    }
}

/// What the database holds of its own past.
struct Known {
    organization: OrganizationId,
    apps: Vec<(AppId, String)>,
    heads: recovery::Heads,
    /// The last checkpoint of each owner: body, signature, and the hashes that stand where it says.
    checkpoints: BTreeMap<Owner, (String, String, std::collections::HashMap<String, String>)>,
    newest_event: Option<TimeMs>,
}

impl Known {
    fn read(tx: &mut Tx<'_>, organization: OrganizationId) -> grantd_store::Result<Self> {
        let apps = recovery::apps(tx, organization)?;
        let mut checkpoints = BTreeMap::new();
        let owners = apps.iter().map(|(app, _)| Owner::App(*app)).chain([Owner::Organization(organization)]);
        for owner in owners {
            let Some(last) = recovery::last_checkpoint(tx, &owner)? else { continue };
            let heads = serde_json::from_str::<Checkpoint>(&last.body).map(|c| c.heads).unwrap_or_default();
            let hashes = recovery::link_hashes(tx, &heads)?;
            checkpoints.insert(owner, (last.body, last.signature, hashes));
        }
        let mut heads = recovery::heads(tx)?;
        for heads in heads.values_mut() {
            let mut kept = Vec::new();
            for head in heads.drain(..) {
                // What a restore that was cut off has written is in no export, and is written again.
                let is_ours =
                    |core: &String| serde_json::from_str::<Value>(core).is_ok_and(|core| core["replayed"] == true);
                if !recovery::ends(tx, &head)?.iter().all(is_ours) {
                    kept.push(head);
                }
            }
            *heads = kept;
        }
        let newest_event = recovery::newest_event(tx)?;
        Ok(Self { organization, apps, heads, checkpoints, newest_event })
    }

    /// The last checkpoint of each trail is signed, and the events it was signed over are there.
    fn check(&self, keys: &[Value]) -> Result<(), RecoveryError> {
        for (owner, (body, signature, hashes)) in &self.checkpoints {
            let tampered =
                |what: &str| RecoveryError::Tampered(format!("the last checkpoint of {} {what}", owner.key()));
            let text = format!("grantd.checkpoint.1{body}");
            if !keys.iter().any(|key| verify_signature(key, &text, signature)) {
                return Err(tampered("is not signed by this install"));
            }
            let checkpoint: Checkpoint = serde_json::from_str(body).map_err(|_| tampered("is none"))?;
            let holds = |head: &HeadAt| hashes.get(&head.chain_id) == Some(&head.hash);
            if checkpoint.app_id != owner.key() || !checkpoint.heads.iter().all(holds) {
                return Err(tampered("was signed over other events"));
            }
        }
        Ok(())
    }

    fn owner(&self, key: &str) -> Option<Owner> {
        let organization = Owner::Organization(self.organization);
        let apps = self.apps.iter().map(|(app, _)| Owner::App(*app));
        apps.chain([organization]).find(|owner| owner.key() == key)
    }
}

/// Verifies an export against what the database holds, and plans what follows from it.
fn read(path: &Path, known: &Known, keys: &[Value]) -> Result<(Owner, Plan), RecoveryError> {
    let unreadable = |source| RecoveryError::Unreadable { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let key = header(&file, path)?;
    let owner = known.owner(&key).ok_or_else(|| RecoveryError::Foreign { path: path.to_owned(), owner: key })?;
    // It must hold the last checkpoint of the database unchanged, and be signed by the key that signs here.
    let checkpoint = known.checkpoints.get(&owner).and_then(|(body, ..)| serde_json::from_str::<Value>(body).ok());
    let trust = Trust { key: keys.first().cloned(), checkpoint: checkpoint.map(|body| json!({"body": body})) };
    file.rewind().map_err(unreadable)?;
    let report = audit::verify(BufReader::new(&file), &trust).map_err(unreadable)?;
    if report.partial {
        return Err(RecoveryError::Partial(path.to_owned()));
    }
    if let Some(problem) = report.problems.first() {
        let all = counted(report.problems.len(), "problem", "problems");
        let what = format!("{} ({all}; `grantd audit verify` lists them)", problem.what);
        return Err(RecoveryError::Unverified { path: path.to_owned(), what });
    }
    file.rewind().map_err(unreadable)?;
    let heads = known.heads.get(&owner.key()).into_iter().flatten();
    let heads = heads.map(|head| (head.chain_id.clone(), (head.seq, head.hash.clone()))).collect();
    let unfit = |source| RecoveryError::Unfit { path: path.to_owned(), source };
    let happened = read_export(BufReader::new(&file), &heads, &report.cuts).map_err(unfit)?;
    Ok((owner, plan(&happened).map_err(unfit)?))
}

/// Whose trail an export says it is.
fn header(file: &File, path: &Path) -> Result<String, RecoveryError> {
    use std::io::{BufRead as _, Read as _};
    let mut line = Vec::new();
    let read = BufReader::new(file.take(HEADER_BYTES_MAX)).read_until(b'\n', &mut line);
    read.map_err(|source| RecoveryError::Unreadable { path: path.to_owned(), source })?;
    let header: Value = serde_json::from_slice(&line).unwrap_or_default();
    match (header["type"].as_str(), header["app_id"].as_str()) {
        (Some("header"), Some(owner)) => Ok(owner.to_owned()),
        _ => {
            let what = "it does not begin like one. `grantd audit export --format jsonl` makes one".to_owned();
            Err(RecoveryError::Unverified { path: path.to_owned(), what })
        }
    }
}

/// Does the steps of an app again, some at a time; answers how many changed something.
async fn replay(
    store: &Store,
    env: &dyn Env,
    organization: OrganizationId,
    app: AppId,
    steps: &[Step],
    now: TimeMs,
) -> Result<u64, RecoveryError> {
    let mut replayed = 0;
    for chunk in steps.chunks(STEPS_PER_WRITE) {
        let draft = Event::new(env, now, Owner::App(app), Kind::GrantRevoked, Outcome::Allowed, Actor::Job);
        let draft = draft.core("replayed", true);
        // Ids are made before the write, which may run twice.
        let steps: Vec<(Step, Drafts)> =
            chunk.iter().map(|step| (step.clone(), Drafts::new(env, &draft, KINDS))).collect();
        let steps = Arc::new(steps);
        replayed += store
            .write(move |tx| {
                let mut changed = 0;
                for (step, drafts) in steps.iter() {
                    changed += u64::from(take(tx, organization, app, step, drafts, now)?);
                }
                Ok(changed)
            })
            .await?;
    }
    Ok(replayed)
}

/// What replaying tells of.
const KINDS: &[Kind] = &[
    Kind::GrantRevoked,
    Kind::GrantUpdated,
    Kind::KeyRevoked,
    Kind::SecretUpdated,
    Kind::CredentialBroken,
    Kind::CredentialDestroyed,
    Kind::AppUpdated,
    Kind::AppArchived,
    Kind::AppUnarchived,
    Kind::AppDeleted,
    Kind::KeyRotated,
    Kind::SecretDeleted,
    Kind::IdentityProviderUpdated,
    Kind::IdentityProviderDeleted,
    Kind::UserUpdated,
    Kind::UserSuspended,
    Kind::UserResumed,
    Kind::UserDeprovisioned,
    Kind::ScimDisabled,
    Kind::WebhookDisabled,
    Kind::GroupUpdated,
    Kind::GroupDeleted,
];

/// Takes one step; `false` when there is nothing to take away any more.
fn take(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    app: AppId,
    step: &Step,
    drafts: &Drafts,
    now: TimeMs,
) -> grantd_store::Result<bool> {
    match step {
        Step::RevokeGrant { grant } | Step::CloseGrant { grant } => {
            let living =
                grants::find(tx, app, *grant)?.is_some_and(|listed| listed.grant.status == GrantStatus::Active);
            if living {
                flow::grants::revoke(tx, app, *grant, Some("revoked again after a restore"), now, drafts)?;
            }
            Ok(living)
        }
        Step::RevokeKey { key } => {
            let Some((held, _)) = keys::find(tx, app, *key)? else { return Ok(false) };
            let revoked = keys::revoke(tx, app, *key, now)?;
            if revoked {
                apps::raise_epoch(tx, app)?;
                append_event(tx, &drafts.of(Kind::KeyRevoked).key(*key, &held.key_prefix).prepare())?;
            }
            Ok(revoked)
        }
        Step::BreakCredential { credential, version } => {
            let broken = recovery::break_credential(tx, app, *credential, *version, now)?;
            if broken {
                let event = drafts.of(Kind::CredentialBroken).credential(*credential, version + 1);
                append_event(tx, &event.prepare())?;
            }
            Ok(broken)
        }
        Step::SetHosts { slug, hosts, any_host } => {
            let Some(secret) = secrets::find(tx, app, slug)? else { return Ok(false) };
            let Some(hosts) = hosts.as_ref().filter(|hosts| **hosts != secret.hosts || secret.any_host) else {
                return Ok(false);
            };
            // A list of hosts takes the flag away; nothing that is replayed ever sets it.
            debug_assert!(!any_host);
            secrets::set_hosts(tx, &secret, hosts)?;
            apps::raise_epoch(tx, app)?;
            let shown: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            let event =
                drafts.of(Kind::SecretUpdated).provider(slug).changed("allowed_hosts", Value::Null, json!(shown));
            append_event(tx, &event.prepare())?;
            Ok(true)
        }
        Step::UpdateGrant { grant, label, expires_at, exempt } => {
            let Some(old) = grants::find(tx, app, *grant)?.map(|listed| listed.grant) else { return Ok(false) };
            let mut new = old.clone();
            new.label = label.clone().unwrap_or(new.label);
            new.expires_at = expires_at.unwrap_or(new.expires_at);
            if *exempt {
                new.tenant = Tenant::Exempt;
            }
            let is_same = new.label == old.label && new.expires_at == old.expires_at && new.tenant == old.tenant;
            if is_same || old.status != GrantStatus::Active {
                return Ok(false);
            }
            grants::update(tx, &new, old.version, now)?;
            apps::raise_epoch(tx, app)?;
            append_event(tx, &drafts.of(Kind::GrantUpdated).grant(*grant).prepare())?;
            Ok(true)
        }
        Step::EndKey { key, grace_until } => {
            let Some((held, _)) = keys::find(tx, app, *key)? else { return Ok(false) };
            let ended = keys::end(tx, app, *key, *grace_until, None)?;
            if ended {
                apps::raise_epoch(tx, app)?;
                let event = drafts.of(Kind::KeyRotated).key(*key, &held.key_prefix);
                let event = event.changed("grace_until", Value::Null, grace_until.to_string());
                append_event(tx, &event.prepare())?;
            }
            Ok(ended)
        }
        Step::SetAppState { state } => {
            let Some(old) = apps::find(tx, organization, app)?.filter(|old| old.state != *state) else {
                return Ok(false);
            };
            flow::apps::set_state(tx, &old, *state, drafts)?;
            Ok(true)
        }
        Step::DeleteSecret { slug } => {
            let Some(secret) = secrets::find(tx, app, slug)? else { return Ok(false) };
            // Its grants were revoked by steps of their own before.
            flow::secrets::delete(tx, &secret, now, drafts, std::slice::from_ref(drafts))?;
            Ok(true)
        }
        Step::UpdateApp { fields } => update_app(tx, organization, app, fields, drafts),
        Step::CloseIdentityProvider { idp, is_deleted } => {
            let Some(mut held) = identity_providers::find_row(tx, app, *idp)?.filter(|held| !held.is_deleted) else {
                return Ok(false);
            };
            let kind = if *is_deleted {
                identity_providers::delete(tx, app, *idp, now)?;
                idp_webhooks::disable(tx, app, *idp)?;
                Kind::IdentityProviderDeleted
            } else if held.state == ProviderState::Active {
                held.state = ProviderState::Inactive;
                held.updated_at = now;
                identity_providers::update(tx, &held, held.version)?;
                Kind::IdentityProviderUpdated
            } else {
                return Ok(false);
            };
            apps::raise_epoch(tx, app)?;
            append_event(tx, &drafts.of(kind).core_id("idp_id", idp).prepare())?;
            Ok(true)
        }
        Step::CloseScim { idp } => {
            let closed = scim::disable(tx, app, *idp)?;
            if closed {
                append_event(tx, &drafts.of(Kind::ScimDisabled).core_id("idp_id", idp).prepare())?;
            }
            Ok(closed)
        }
        Step::CloseWebhook { idp } => {
            let closed = idp_webhooks::disable(tx, app, *idp)?;
            if closed {
                append_event(tx, &drafts.of(Kind::WebhookDisabled).core_id("idp_id", idp).prepare())?;
            }
            Ok(closed)
        }
        Step::EmptyGroup { group, is_deleted } => {
            let (changed, kind) = match is_deleted {
                true => (groups::delete(tx, app, *group, now)?, Kind::GroupDeleted),
                false => (groups::clear(tx, app, *group)? > 0, Kind::GroupUpdated),
            };
            if changed {
                apps::raise_epoch(tx, app)?;
                append_event(tx, &drafts.of(kind).core_id("group_id", group).prepare())?;
            }
            Ok(changed)
        }
        Step::SetUser { user, change } => set_user(tx, app, *user, *change, drafts, now),
    }
}

fn set_user(
    tx: &mut Tx<'_>,
    app: AppId,
    user: UserId,
    change: UserChange,
    drafts: &Drafts,
    now: TimeMs,
) -> grantd_store::Result<bool> {
    let (changed, kind) = match change {
        UserChange::Suspended => {
            (users::set_suspended(tx, app, user, UserStatus::Suspended, now)?, Kind::UserSuspended)
        }
        UserChange::Resumed => (users::set_suspended(tx, app, user, UserStatus::Active, now)?, Kind::UserResumed),
        UserChange::Deprovisioned => {
            groups::remove_everywhere(tx, app, user)?;
            (users::deprovision(tx, app, user, now)?, Kind::UserDeprovisioned)
        }
        UserChange::LeftGroups => (groups::remove_everywhere(tx, app, user)? > 0, Kind::UserUpdated),
    };
    if changed {
        apps::raise_epoch(tx, app)?;
        append_event(tx, &drafts.of(kind).user(user).prepare())?;
    }
    Ok(changed)
}

fn update_app(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    app: AppId,
    fields: &[(String, Value)],
    drafts: &Drafts,
) -> grantd_store::Result<bool> {
    let Some(old) = apps::find(tx, organization, app)? else { return Ok(false) };
    let mut new = old.clone();
    let mut event = drafts.of(Kind::AppUpdated);
    let before = serde_json::to_value(crate::api::apps::view(&old)).unwrap_or_default();
    for (field, value) in fields {
        if before[field] == *value {
            continue;
        }
        let text = || value.as_str().map(str::to_owned);
        let malformed = |e: serde_json::Error| grantd_wire::Error::impossible(field, &e.to_string());
        match field.as_str() {
            "name" => new.name = text().unwrap_or(new.name),
            "description" => new.description = text(),
            "website_url" => new.website_url = text(),
            "tenant_key" => new.tenant_key = text(),
            "tenant_mode" => new.tenant_mode = serde_json::from_value(value.clone()).map_err(malformed)?,
            "retrieve" => new.retrieve = serde_json::from_value(value.clone()).map_err(malformed)?,
            "indexed_context_keys" => {
                new.indexed_context_keys = serde_json::from_value(value.clone()).map_err(malformed)?;
            }
            "connect_sign_in" => new.connect_sign_in = serde_json::from_value(value.clone()).map_err(malformed)?,
            "return_origins" => new.return_origins = serde_json::from_value(value.clone()).map_err(malformed)?,
            _ => {
                return Err(grantd_wire::Error::impossible(
                    field,
                    "is a setting of an app that this grantd does not know",
                )
                .into());
            }
        }
        event = event.changed(field, before[field].clone(), value.clone());
    }
    let after = serde_json::to_value(crate::api::apps::view(&new)).unwrap_or_default();
    if before == after {
        return Ok(false);
    }
    apps::update(tx, &new, old.version)?;
    append_event(tx, &event.prepare())?;
    Ok(true)
}

/// Every trail says that there was a restore, and what it rests on.
async fn tell(
    store: &Store,
    env: &dyn Env,
    organization: OrganizationId,
    known: &Known,
    ask: &Ask,
    backup_at: Option<TimeMs>,
    replayed: u64,
) -> Result<(), RecoveryError> {
    let owners = known.apps.iter().map(|(app, _)| Owner::App(*app)).chain([Owner::Organization(organization)]);
    let events: Vec<_> = owners
        .map(|owner| {
            let rests_on = match (ask.nothing_happened, ask.replay.is_empty()) {
                (true, _) => "nothing happened since",
                (false, true) => "revocations given up",
                (false, false) => "replayed exports",
            };
            let mut event = Event::new(env, env.now(), owner, Kind::DatabaseRestored, Outcome::Allowed, Actor::Job)
                .core("rests_on", rests_on)
                .core("replayed_steps", replayed);
            if let Some(at) = backup_at {
                event = event.core("backup_at", at.to_string());
            }
            if let Some(sum) = &ask.backup_sha256 {
                event = event.core("sha256", sum.clone());
            }
            event.prepare()
        })
        .collect();
    for chunk in events.chunks(STEPS_PER_WRITE) {
        let chunk = chunk.to_vec();
        store.write(move |tx| chunk.iter().try_for_each(|event| append_event(tx, event))).await?;
    }
    Ok(())
}
