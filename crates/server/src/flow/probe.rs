//! A test of a managed secret: the harmless call of its template, with the stored credential or with one that was just entered.
//!
//! Never: the credential leaves before an event that says so is durable, or from a row that has changed meanwhile; anything of the
//! answer but its status is kept or told.

use std::time::Duration;

use bytes::Bytes;
use grantd_domain::audit::{Event, Kind, Outcome};
use grantd_domain::credential::SecretValue;
use grantd_domain::destination::Target;
use grantd_domain::grant::{Credential, ManagedSecret};
use grantd_domain::template::{Call, NoCall, Seen, Template, Verdict};
use grantd_store::{append_event, credentials, secrets};
use grantd_wire::ids::EventId;
use grantd_wire::{Code, Error, limits};

use super::Drafts;
use crate::answer::of_store;
use crate::outbound::client::{Answered, Outgoing, exchange};
use crate::outbound::{Failed, probe};
use crate::vault::Vault;

/// Kinds of events of a test.
pub const KINDS: &[Kind] = &[Kind::ProbeIntended, Kind::ProbeAnswered, Kind::ProbeDenied];

/// What is tested.
pub struct Subject {
    pub secret: ManagedSecret,
    pub tried: Tried,
    pub template: &'static Template,
}

/// Which credential is tested.
pub enum Tried {
    Stored(Box<Credential>),
    /// Somebody entered it, and nothing is kept of it yet.
    Entered(SecretValue),
}

impl Subject {
    fn stored(&self) -> Option<&Credential> {
        match &self.tried {
            Tried::Stored(credential) => Some(credential),
            Tried::Entered(_) => None,
        }
    }
}

/// What came of it.
pub struct Tested {
    pub said: Result<Verdict, Failed>,
    pub method: &'static str,
    pub host: String,
    pub status: Option<u16>,
    pub duration_ms: i64,
    pub event_id: EventId,
}

/// Makes the call. `drafts`: events of the caller, of each of [`KINDS`].
pub async fn run(vault: &Vault, subject: &Subject, drafts: &Drafts) -> Result<Tested, Error> {
    let opened;
    let value = match &subject.tried {
        Tried::Entered(value) => value,
        Tried::Stored(credential) => {
            let text = vault.keys.open(credential).await?;
            opened = SecretValue::parse(&text).ok_or(Code::Internal)?;
            &opened
        }
    };
    let call = subject.template.call(value.value(), value.fields()).map_err(no_call)?;
    let target = match probe::target(&call, &subject.secret, &vault.settings.outbound) {
        Ok(target) => target,
        Err(error) => return Err(denied(vault, subject, &call, drafts, error).await),
    };
    let armed = probe::arm(&call, &subject.secret, value, vault.env.now())?;
    let intent_id = intend(vault, subject, &call, &target, drafts).await?;

    let began = vault.env.now();
    let outgoing = Outgoing {
        method: armed.method,
        target: &armed.target,
        headers: armed.headers,
        body: Bytes::clone(&armed.body),
        answer_bytes_max: call.wants_body.then_some(limits::PROBE_ANSWER_BYTES_MAX),
    };
    let deadline = Duration::from_millis(limits::PROBE_DEADLINE_MS);
    let answered = exchange(&vault.outbound, &vault.settings.outbound, outgoing, deadline).await;
    let duration_ms = vault.env.now().since(began).max(0);

    let status = answered.as_ref().ok().map(|answered| answered.status);
    let said = answered.map(|Answered { status, body }| {
        subject.template.judge(Seen { status, body: body.as_ref().map(|body| body.as_slice()) })
    });
    let mut event = describe(drafts.of(Kind::ProbeAnswered), subject, &call, Some(&target))
        .outcome(outcome(said))
        .core_id("intent_id", intent_id)
        .core("duration_ms", duration_ms);
    if let Some(status) = status {
        event = event.core("status", status);
    }
    if said == Err(Failed::NotPublic) {
        event = event.code(Code::BlockedDestination);
    }
    let event_id = event.id();
    append(vault, event).await?;
    if said == Err(Failed::NotPublic) {
        return Err(grantd_domain::destination::Blocked::NotPublic.into());
    }
    Ok(Tested { said, method: call.method.as_str(), host: target.host().into_owned(), status, duration_ms, event_id })
}

const fn outcome(said: Result<Verdict, Failed>) -> Outcome {
    match said {
        Ok(Verdict::Works) => Outcome::Allowed,
        Ok(Verdict::Refused) | Err(Failed::NotPublic) => Outcome::Denied,
        Ok(Verdict::VendorFailed) | Err(_) => Outcome::Error,
        Ok(Verdict::Unclear | Verdict::RateLimited | Verdict::Unexpected) => Outcome::Unknown,
    }
}

fn no_call(why: NoCall) -> Error {
    match why {
        NoCall::NoProbe(why) => Error::new(Code::InvalidValue)
            .message(format!("This secret's template has no harmless call. {why}"))
            .hint("Try the credential with a call of your own: grantd request"),
        NoCall::MissingField(field) => {
            Error::impossible(&format!("fields.{field}"), "is not stored, and the harmless call needs it")
                .hint("Store it with the value: grantd managed-secrets rotate … --field")
        }
    }
}

/// Makes the intent durable, in the same write that finds secret and credential unchanged.
async fn intend(
    vault: &Vault,
    subject: &Subject,
    call: &Call,
    target: &Target,
    drafts: &Drafts,
) -> Result<EventId, Error> {
    let event = describe(drafts.of(Kind::ProbeIntended), subject, call, Some(target));
    let event_id = event.id();
    let event = event.prepare();
    let (app, secret_id, version) = (subject.secret.app_id, subject.secret.id, subject.secret.version);
    let stored = subject.stored().map(|credential| (credential.id, credential.version));
    vault
        .store
        .write(move |tx| {
            let secret = secrets::find(tx, app, &secret_id.to_string())?.ok_or(Code::SecretNotFound)?;
            if secret.version != version {
                return Err(Code::Conflict.into());
            }
            if stored.is_some() {
                let credential = credentials::find_living(tx, app, secret.id)?.ok_or(Code::CredentialDestroyed)?;
                if stored != Some((credential.id, credential.version)) {
                    return Err(Code::Conflict.into());
                }
            }
            append_event(tx, &event)
        })
        .await
        .map_err(of_store)?;
    Ok(event_id)
}

/// Tells of a call that was refused before anything left, and gives the refusal back.
async fn denied(vault: &Vault, subject: &Subject, call: &Call, drafts: &Drafts, error: Error) -> Error {
    let event = describe(drafts.of(Kind::ProbeDenied), subject, call, Target::parse(&call.url).ok().as_ref());
    match append(vault, event.outcome(Outcome::Denied).code(error.code)).await {
        Ok(()) => error,
        Err(unavailable) => unavailable,
    }
}

async fn append(vault: &Vault, event: Event) -> Result<(), Error> {
    let event = event.prepare();
    vault.store.write(move |tx| append_event(tx, &event)).await.map_err(of_store)
}

fn describe(event: Event, subject: &Subject, call: &Call, target: Option<&Target>) -> Event {
    let mut event = event.provider(&subject.secret.slug);
    if let Some(credential) = subject.stored() {
        event = event.credential(credential.id, credential.version).generation(credential.generation);
    }
    if subject.secret.any_host {
        event = event.core("any_host", true);
    }
    match target {
        Some(target) => {
            let names: Vec<String> = target.query_names().map(std::borrow::Cow::into_owned).collect();
            event.target(call.method.as_str(), &target.host(), target.path(), &names)
        }
        None => event.core("method", call.method.as_str()),
    }
}
