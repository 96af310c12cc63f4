//! What happened after a backup, read from a verified export of the audit trail, and what of it must be done again so that
//! nothing which was taken away comes back.
//!
//! Invariant: every kind of event is either without consequence here, or becomes a step, or is named as lost. What cannot be
//! done again leaves access closed, never open.

use std::collections::HashMap;
use std::io::{self, BufRead};

use grantd_wire::TimeMs;
use grantd_wire::ids::{CredentialId, GrantId, GroupId, IdentityProviderId, KeyId, UserId};
use serde::Serialize;
use serde_json::Value;

use crate::audit::Kind;
use crate::destination::Rule;
use crate::grant::AppState;

/// The last link of a chain in the database that was restored: sequence and hash, by chain.
pub type Heads = HashMap<String, (i64, String)>;

/// Why an export does not say what happened since.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error(
        "its event {seq} of chain {chain} is not the one the database holds: it is of another history, or the database was changed"
    )]
    OtherHistory { chain: String, seq: i64 },
    #[error(
        "retention has removed events of chain {chain} that the database does not hold, so it does not say what was revoked there: an \
         export that was made earlier may, or give them up with --accept-lost-revocations"
    )]
    Pruned { chain: String },
    #[error("it ends before the database does: it was made before the backup. Make a new one, or leave it out")]
    Older,
    #[error(
        "line {line}: an event of the kind `{kind}`, which this grantd does not know: use the version that wrote it"
    )]
    UnknownKind { line: u64, kind: String },
    #[error("line {line}: {what}")]
    Malformed { line: u64, what: &'static str },
}

/// An event that happened after the backup and has a consequence.
#[derive(Clone, Debug)]
pub struct Happened {
    at: TimeMs,
    line: u64,
    kind: Kind,
    core: Value,
}

/// One thing to do again, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    RevokeGrant {
        grant: GrantId,
    },
    RevokeKey {
        key: KeyId,
    },
    /// The value was replaced by one that no trail holds: the old one must not be handed out.
    BreakCredential {
        credential: CredentialId,
        version: i64,
    },
    SetHosts {
        slug: String,
        hosts: Option<Vec<Rule>>,
        any_host: bool,
    },
    UpdateGrant {
        grant: GrantId,
        label: Option<Option<String>>,
        expires_at: Option<Option<TimeMs>>,
        exempt: bool,
    },
    /// It was bound to a tenant whose name the trail does not hold.
    CloseGrant {
        grant: GrantId,
    },
    SetAppState {
        state: AppState,
    },
    /// A rotated key: it works until then.
    EndKey {
        key: KeyId,
        grace_until: TimeMs,
    },
    DeleteSecret {
        slug: String,
    },
    UpdateApp {
        /// New values by field.
        fields: Vec<(String, Value)>,
    },
    /// It was changed in a way that the trail does not hold, or deleted: its tokens must not count as they did.
    CloseIdentityProvider {
        idp: IdentityProviderId,
        is_deleted: bool,
    },
    SetUser {
        user: UserId,
        change: UserChange,
    },
    /// Its token is of no use any more.
    CloseScim {
        idp: IdentityProviderId,
    },
    /// What it is proved with is of no use any more.
    CloseWebhook {
        idp: IdentityProviderId,
    },
    /// Somebody left it: its directory says again who is in it.
    EmptyGroup {
        group: GroupId,
        is_deleted: bool,
    },
}

/// What happened to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserChange {
    Suspended,
    Resumed,
    /// Their grants were revoked by events of their own.
    Deprovisioned,
    /// The next token says which groups are left.
    LeftGroups,
}

/// What did not come back, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// `grant`, `key`, `secret`, `credential`, `identity_provider`, `user`, `scim`, `webhook` or `app`.
    pub kind: &'static str,
    /// Its id, or the slug of a secret.
    pub id: String,
    pub what: &'static str,
}

/// What to do again, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub lost: Vec<Lost>,
}

/// Reads the events of a verified export that came after the `heads` of the restored database, oldest first. `cuts` are the last
/// events that retention had removed from it.
pub fn read_export(reader: impl BufRead, heads: &Heads, cuts: &Heads) -> Result<Vec<Happened>, ReadError> {
    let (mut happened, mut met) = (Vec::new(), 0);
    for (chain, (cut, hash)) in cuts {
        match heads.get(chain) {
            Some((head, _)) if head > cut => {}
            // The database ends where the export begins.
            Some((head, known)) if head == cut && known == hash => met += 1,
            Some((head, _)) if head == cut => return Err(ReadError::OtherHistory { chain: chain.clone(), seq: *cut }),
            _ => return Err(ReadError::Pruned { chain: chain.clone() }),
        }
    }
    for (line, text) in (1..).zip(reader.lines()) {
        let malformed = |what| ReadError::Malformed { line, what };
        let value: Value = serde_json::from_str(&text?).map_err(|_| malformed("this is no JSON"))?;
        if value["type"] != "event" {
            continue;
        }
        let chain = value["chain_id"].as_str().ok_or(malformed("the event names no chain"))?;
        let seq = value["seq"].as_i64().ok_or(malformed("the event has no number"))?;
        match heads.get(chain) {
            Some((head, _)) if seq < *head => continue,
            Some((head, hash)) if seq == *head => {
                if value["hash"].as_str() != Some(hash) {
                    return Err(ReadError::OtherHistory { chain: chain.to_owned(), seq });
                }
                met += 1;
                continue;
            }
            _ => {}
        }
        happened.extend(event_of(line, &value["core"])?);
    }
    if met < heads.len() {
        return Err(ReadError::Older);
    }
    // Each chain is in order already, and stays so; between chains, time tells.
    happened.sort_by_key(|event| event.at);
    Ok(happened)
}

/// The event, if it has a consequence.
fn event_of(line: u64, core: &Value) -> Result<Option<Happened>, ReadError> {
    let text = |field: &str| core[field].as_str().unwrap_or_default();
    let kind = Kind::parse(text("kind")).ok_or_else(|| ReadError::UnknownKind {
        line,
        kind: text("kind").chars().filter(|c| !c.is_control()).take(60).collect(),
    })?;
    let has_consequence = match kind {
        Kind::TokenReleased
        | Kind::TokenDenied
        | Kind::CallClaimed
        | Kind::ScopeMismatchClaimed
        | Kind::IdentityResolved
        | Kind::IdentityAsserted
        // Of a restore every key that signed assertions is withdrawn.
        | Kind::IdentityKeyMade
        | Kind::IdentityKeyWithdrawn
        | Kind::ProbeIntended
        | Kind::ProbeAnswered
        | Kind::ProbeDenied
        | Kind::InstallCreated
        | Kind::OperatorCreated
        // Of a restore every token is revoked, and every operator but one disabled.
        | Kind::OperatorUpdated
        | Kind::PatRevoked
        | Kind::PatCreated
        | Kind::OperatorReset
        // Of a restore every operator is signed out, and every link is gone.
        | Kind::LoginLinkCreated
        | Kind::OperatorSignedIn
        | Kind::OperatorSignInRefused
        | Kind::OperatorSignedOut
        | Kind::WebSessionEnded
        // Of a restore nobody has another way to sign in than a link.
        | Kind::OperatorConfirmed
        | Kind::SignInMethodAdded
        | Kind::SignInMethodChanged
        | Kind::SignInMethodRemoved
        | Kind::PasskeyRefused
        | Kind::BackupMade
        | Kind::DatabaseRestored
        | Kind::RootKeyRotated
        | Kind::AuditExported
        | Kind::AuditPruned
        // A hold that is back after a restore does no harm.
        | Kind::HoldReleased
        | Kind::KeyRenamed
        | Kind::OrganizationUpdated
        | Kind::BrandingUpdated
        | Kind::AuthFailed
        | Kind::ClockRegressed
        | Kind::ClockAccepted
        // A user who was new after the backup had no grant before it, and is made anew at the next token.
        | Kind::UserCreated
        | Kind::UserTokenRefused
        | Kind::SignInCreated
        | Kind::SignInOpened
        | Kind::SignInDeclined
        | Kind::SignInFailed
        | Kind::SignInDone
        | Kind::SignInReleased
        // Its directory tells of it again.
        | Kind::GroupCreated
        | Kind::ConnectCreated
        | Kind::ConnectOpened
        | Kind::ConnectDeclined
        | Kind::ConnectFailed
        // The next renewal finds out whether the old refresh token is still good, and says so if it is not.
        | Kind::CredentialRefreshed
        | Kind::CredentialRefreshFailed
        | Kind::CredentialEnded
        // It follows from the revoke of the last grant.
        | Kind::CredentialDestroyed => false,
        Kind::AppCreated
        | Kind::AppUpdated
        | Kind::AppArchived
        | Kind::AppUnarchived
        | Kind::AppDeleted
        | Kind::KeyMinted
        | Kind::KeyRotated
        | Kind::KeyRevoked
        | Kind::ProviderCreated
        | Kind::ProviderUpdated
        | Kind::ProviderDeleted
        | Kind::IdentityProviderCreated
        | Kind::IdentityProviderUpdated
        | Kind::IdentityProviderDeleted
        | Kind::UserUpdated
        | Kind::UserSuspended
        | Kind::UserResumed
        | Kind::UserDeprovisioned
        | Kind::ScimEnabled
        | Kind::ScimRotated
        | Kind::ScimDisabled
        | Kind::WebhookEnabled
        | Kind::WebhookRotated
        | Kind::WebhookDisabled
        | Kind::GroupUpdated
        | Kind::GroupDeleted
        | Kind::ConnectDone
        | Kind::SecretCreated
        | Kind::SecretUpdated
        | Kind::SecretDeleted
        | Kind::CredentialRotated
        | Kind::CredentialBroken
        | Kind::GrantCreated
        | Kind::GrantUpdated
        | Kind::GrantRevoked
        | Kind::RetentionUpdated
        | Kind::AuditErased
        | Kind::HoldSet => true,
    };
    let at = TimeMs::parse(text("at")).ok_or(ReadError::Malformed { line, what: "the event has no time" })?;
    let happened = || Happened { at, line, kind, core: core.clone() };
    Ok(has_consequence.then(happened))
}

/// What to do again, and what is lost.
pub fn plan(happened: &[Happened]) -> Result<Plan, ReadError> {
    let mut plan = Plan::default();
    for event in happened {
        let malformed = |what| ReadError::Malformed { line: event.line, what };
        let text = |field: &str| event.core[field].as_str().unwrap_or_default();
        let grant = || GrantId::parse(text("grant_id")).ok_or(malformed("the event names no grant"));
        match event.kind {
            Kind::GrantRevoked => plan.revoke_grant(grant()?),
            Kind::KeyRevoked => {
                let key = KeyId::parse(text("key_id")).ok_or(malformed("the event names no key"))?;
                plan.forget("key", &key.to_string());
                plan.steps.push(Step::RevokeKey { key });
            }
            Kind::CredentialRotated | Kind::CredentialBroken => {
                let credential = CredentialId::parse(text("credential_id"));
                let credential = credential.ok_or(malformed("the event names no credential"))?;
                let version = event.core["credential_version"].as_i64();
                let version = version.ok_or(malformed("the event names no version"))?;
                plan.steps.push(Step::BreakCredential { credential, version });
                if event.kind == Kind::CredentialBroken && !event.core["reason"].is_null() {
                    plan.lose(
                        "account",
                        &credential.to_string(),
                        "its consent ended after the backup: let its user connect again",
                    );
                    continue;
                }
                // Of a user's own key, that it was given is told beside this.
                if event.core["user_id"].is_null() {
                    plan.lose(
                        "secret",
                        text("provider_id"),
                        "its value was rotated after the backup: store it again with `grantd managed-secrets rotate`",
                    );
                }
            }
            Kind::SecretUpdated => plan.steps.push(hosts(event).ok_or(malformed("the event's hosts are none"))?),
            Kind::GrantUpdated => plan.update_grant(grant()?, event).ok_or(malformed("the event's change is none"))?,
            Kind::AppArchived => plan.steps.push(Step::SetAppState { state: AppState::Archived }),
            Kind::AppUnarchived => plan.steps.push(Step::SetAppState { state: AppState::Active }),
            Kind::AppDeleted => plan.steps.push(Step::SetAppState { state: AppState::Deleted }),
            Kind::KeyRotated => {
                let key = KeyId::parse(text("key_id")).ok_or(malformed("the event names no key"))?;
                let until = event.core["changed"]["grace_until"][1].as_str().and_then(TimeMs::parse);
                let grace_until = until.ok_or(malformed("the event names no end"))?;
                plan.steps.push(Step::EndKey { key, grace_until });
            }
            Kind::SecretDeleted => {
                plan.forget("secret", text("provider_id"));
                plan.steps.push(Step::DeleteSecret { slug: text("provider_id").to_owned() });
            }
            Kind::AppUpdated => {
                let changed = event.core["changed"].as_object().into_iter().flatten();
                let fields = changed.map(|(field, pair)| (field.clone(), pair[1].clone())).collect();
                plan.steps.push(Step::UpdateApp { fields });
            }
            Kind::RetentionUpdated => {
                plan.note(
                    text("app_id"),
                    "how long its trail is kept was changed after the backup: look with `grantd apps retention show`",
                );
            }
            Kind::AuditErased => {
                plan.note(
                    text("app_id"),
                    "private parts of its events were erased after the backup and are back: erase them again",
                );
            }
            Kind::HoldSet => {
                plan.note(text("app_id"), "it was put under a legal hold after the backup: see `grantd apps hold set`");
            }
            Kind::ProviderCreated | Kind::ProviderUpdated => plan.lose(
                "provider",
                text("provider_id"),
                "it was registered or changed after the backup: look with `grantd providers show`",
            ),
            Kind::ProviderDeleted => plan.lose(
                "provider",
                text("provider_id"),
                "it was deleted after the backup and is back: delete it again with `grantd providers delete`",
            ),
            Kind::IdentityProviderCreated => {
                plan.lose("identity_provider", text("idp_id"), "it was registered after the backup: register it again");
            }
            Kind::IdentityProviderUpdated | Kind::IdentityProviderDeleted => {
                let idp = IdentityProviderId::parse(text("idp_id"));
                let idp = idp.ok_or(malformed("the event names no identity provider"))?;
                let is_deleted = event.kind == Kind::IdentityProviderDeleted;
                plan.forget("identity_provider", text("idp_id"));
                plan.steps.push(Step::CloseIdentityProvider { idp, is_deleted });
                if !is_deleted {
                    plan.lose(
                        "identity_provider",
                        text("idp_id"),
                        "it was changed after the backup, so it is inactive: look at it, and activate it",
                    );
                }
            }
            Kind::UserSuspended | Kind::UserResumed | Kind::UserDeprovisioned | Kind::UserUpdated => {
                let user = UserId::parse(text("user_id")).ok_or(malformed("the event names no user"))?;
                let is_rebound = event.core["rebound"].as_bool() == Some(true);
                if is_rebound {
                    plan.lose(
                        "user",
                        text("user_id"),
                        "its id at the provider changed after the backup, so it is suspended: look at it, and let it in again",
                    );
                }
                let change = match event.kind {
                    Kind::UserUpdated if is_rebound => Some(UserChange::Suspended),
                    Kind::UserSuspended => Some(UserChange::Suspended),
                    Kind::UserResumed => Some(UserChange::Resumed),
                    Kind::UserDeprovisioned => Some(UserChange::Deprovisioned),
                    _ => event.core["groups_left"].as_i64().is_some_and(|n| n > 0).then_some(UserChange::LeftGroups),
                };
                plan.steps.extend(change.map(|change| Step::SetUser { user, change }));
            }
            Kind::ScimEnabled | Kind::ScimRotated | Kind::ScimDisabled => {
                let idp = IdentityProviderId::parse(text("idp_id"));
                let idp = idp.ok_or(malformed("the event names no identity provider"))?;
                plan.forget("scim", text("idp_id"));
                plan.steps.push(Step::CloseScim { idp });
                if event.kind != Kind::ScimDisabled {
                    plan.lose(
                        "scim",
                        text("idp_id"),
                        "its token was made after the backup, so SCIM is off: switch it on again",
                    );
                }
            }
            Kind::WebhookEnabled | Kind::WebhookRotated | Kind::WebhookDisabled => {
                let idp = IdentityProviderId::parse(text("idp_id"));
                let idp = idp.ok_or(malformed("the event names no identity provider"))?;
                plan.forget("webhook", text("idp_id"));
                plan.steps.push(Step::CloseWebhook { idp });
                if event.kind != Kind::WebhookDisabled {
                    plan.lose(
                        "webhook",
                        text("idp_id"),
                        "its secret was made after the backup, so the webhook is off: switch it on again",
                    );
                }
            }
            Kind::GroupUpdated | Kind::GroupDeleted => {
                let group = GroupId::parse(text("group_id")).ok_or(malformed("the event names no group"))?;
                let is_deleted = event.kind == Kind::GroupDeleted;
                if is_deleted || event.core["members_left"].as_i64().is_some_and(|n| n > 0) {
                    plan.steps.push(Step::EmptyGroup { group, is_deleted });
                }
            }
            // An approval made nothing.
            Kind::ConnectDone if text("operation") != "approval" => plan.lose(
                "account",
                text("credential_id"),
                "it was connected after the backup: let its user connect again",
            ),
            Kind::GrantCreated => {
                plan.lose("grant", text("grant_id"), "it was issued after the backup: issue a new one");
            }
            Kind::KeyMinted => plan.lose("key", text("key_id"), "it was minted after the backup: mint a new one"),
            Kind::SecretCreated => {
                plan.lose("secret", text("provider_id"), "it was stored after the backup: store it again");
            }
            _ => {}
        }
    }
    Ok(plan)
}

impl Plan {
    /// What happened to the app's trail, which is not mended by what comes later. Once is enough.
    fn note(&mut self, app: &str, what: &'static str) {
        let lost = Lost { kind: "app", id: app.to_owned(), what };
        if !self.lost.contains(&lost) {
            self.lost.push(lost);
        }
    }

    fn lose(&mut self, kind: &'static str, id: &str, what: &'static str) {
        self.forget(kind, id);
        self.lost.push(Lost { kind, id: id.to_owned(), what });
    }

    /// It is gone by now, so nobody misses it.
    fn forget(&mut self, kind: &str, id: &str) {
        self.lost.retain(|lost| (lost.kind, lost.id.as_str()) != (kind, id));
    }

    fn revoke_grant(&mut self, grant: GrantId) {
        self.forget("grant", &grant.to_string());
        self.steps.push(Step::RevokeGrant { grant });
    }

    fn update_grant(&mut self, grant: GrantId, event: &Happened) -> Option<()> {
        let changed = event.core["changed"].as_object()?;
        let new = |field: &str| changed.get(field).map(|pair| &pair[1]);
        let label = new("label").map(|label| label.as_str().map(str::to_owned));
        let expires_at = match new("expires_at") {
            None => None,
            Some(Value::Null) => Some(None),
            Some(time) => Some(Some(TimeMs::parse(time.as_str()?)?)),
        };
        let exempt = match new("tenant").map(|tenant| tenant.as_str()) {
            None => false,
            Some(Some("exempt")) => true,
            // To whom is not told, because it may be personal.
            Some(_) => {
                self.steps.push(Step::CloseGrant { grant });
                self.lose("grant", &grant.to_string(), "it was bound to a tenant after the backup, and the trail does not say to which: it was revoked; issue a new one");
                return Some(());
            }
        };
        self.steps.push(Step::UpdateGrant { grant, label, expires_at, exempt });
        Some(())
    }
}

fn hosts(event: &Happened) -> Option<Step> {
    let changed = event.core["changed"].as_object()?;
    let hosts = match changed.get("allowed_hosts") {
        None => None,
        Some(pair) => {
            let texts = pair[1].as_array()?;
            Some(texts.iter().map(|text| Rule::parse(text.as_str()?).ok()).collect::<Option<Vec<_>>>()?)
        }
    };
    let any_host = changed.get("allow_any_host").is_some_and(|pair| pair[1] == true);
    Some(Step::SetHosts { slug: event.core["provider_id"].as_str()?.to_owned(), hosts, any_host })
}

#[cfg(test)]
mod tests;
