//! Tests of managed secrets.

use grantd_domain::grant::{App, AppState, CredentialState};
use grantd_domain::template::{self, Verdict};
use grantd_store::{credentials, secrets};
use grantd_wire::api::SecretTest;
use grantd_wire::{Code, Error};

use super::Request;
use crate::answer::{Answer, json as answer, of_store};
use crate::flow::probe::{self, Subject, Tried};
use crate::outbound::Failed;
use crate::vault::Vault;

pub async fn test(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    if app.state != AppState::Active {
        return Err(Error::new(Code::Conflict)
            .message("The app is not active. `grantd apps unarchive` takes an archived one back."));
    }
    let subject = load(vault, request, app).await?;
    let (slug, template) = (subject.secret.slug.clone(), subject.template.id.clone());
    let tested = probe::run(vault, &subject, &request.drafts(vault, app, probe::KINDS)).await?;
    let (works, result, message) = told(tested.said);
    Ok(answer(
        200,
        &SecretTest {
            slug,
            template,
            works,
            result: result.to_owned(),
            message,
            method: tested.method.to_owned(),
            host: tested.host,
            status: tested.status,
            duration_ms: tested.duration_ms,
            event_id: tested.event_id.to_string(),
        },
    ))
}

async fn load(vault: &Vault, request: &Request, app: &App) -> Result<Subject, Error> {
    let (name, app) = (request.object(), app.id);
    let (secret, credential, template) = vault
        .store
        .read(move |tx| {
            let secret = secrets::find(tx, app, &name)?.ok_or(Code::SecretNotFound)?;
            let credential = credentials::find_living(tx, app, secret.id)?
                .filter(|credential| matches!(credential.state, CredentialState::Ok { .. }))
                .ok_or(Code::CredentialDestroyed)?;
            let template = secrets::find_template(tx, app, secret.id)?;
            Ok((secret, credential, template))
        })
        .await
        .map_err(of_store)?;
    let template = template.and_then(|id| template::find(&id)).ok_or_else(|| {
        Error::new(Code::InvalidValue)
            .message("This secret was made from no template, so it is not known which call is harmless.")
            .hint("Try the credential with a call of your own: grantd request")
    })?;
    Ok(Subject { secret, tried: Tried::Stored(Box::new(credential)), template })
}

/// Whether it works, the result, and the result in words.
fn told(said: Result<Verdict, Failed>) -> (Option<bool>, &'static str, String) {
    let (works, result, message) = match said {
        Ok(Verdict::Works) => (Some(true), "works", "The credential works: the vendor accepted it."),
        Ok(Verdict::Refused) => {
            (Some(false), "refused", "The credential does not work: the vendor refused it. Rotate it to one that does.")
        }
        Ok(Verdict::Unclear) => (
            None,
            "unclear",
            "The vendor refused the call, as it also does when a good credential has narrow rights. Try a call it has the right to.",
        ),
        Ok(Verdict::RateLimited) => (None, "rate_limited", "The vendor has had too many calls. Try again later."),
        Ok(Verdict::VendorFailed) => (None, "vendor_failed", "The vendor failed to answer the call. Try again later."),
        Ok(Verdict::Unexpected) => (
            None,
            "unexpected",
            "The vendor's answer says nothing of the credential: check the fields, and the template's facts.",
        ),
        Err(Failed::TimedOut) => (None, "timed_out", "The vendor did not answer in time. Try again later."),
        Err(failed @ (Failed::Tls | Failed::NoRoots)) => {
            return (None, "tls_failed", format!("Nothing was sent: {failed}."));
        }
        Err(failed) => return (None, "unreachable", format!("There was no answer: {failed}.")),
    };
    (works, result, message.to_owned())
}
