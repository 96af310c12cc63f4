//! What a new managed secret is, by what is said of it: for the server that stores it, and for whoever wants to know beforehand.

use grantd_wire::api::{CredentialType, SecretCreate};
use grantd_wire::{Error, limits};

use crate::destination::Rules;
use crate::grant::{check_text, slug};
use crate::inject::{self, Plan};
use crate::template;

/// What would be stored, beside value and fields.
#[derive(Debug)]
pub struct NewSecret {
    /// What its slug begins with: another secret may have that one already.
    pub slug: String,
    pub template: Option<&'static str>,
    pub credential_type: CredentialType,
    pub plan: Plan,
    pub hosts: Rules,
}

/// Completes what was asked for from its template, and refuses what could not be stored.
pub fn plan(ask: &mut SecretCreate) -> Result<NewSecret, Error> {
    let template = filled(ask)?;
    check_text("name", &ask.name, limits::NAME_CHARS_MAX)?;
    let slug = slug(&ask.name).ok_or_else(|| {
        Error::impossible("name", "must hold a letter or digit of the English alphabet, for the slug")
    })?;
    let plan = inject::plan(ask)?;
    let hosts = Rules::parse_all(&ask.allowed_hosts)?;
    if hosts.0.is_empty() && !ask.allow_any_host {
        return Err(Error::impossible(
            "allowed_hosts",
            "name the hosts this secret may go to, such as api.example.com",
        )
        .hint("grantd managed-secrets create … --allowed-host api.example.com"));
    }
    let credential_type = ask.credential_type.unwrap_or(CredentialType::BearerToken);
    let names: Vec<&str> = ask.fields.keys().map(String::as_str).collect();
    inject::check_signable(credential_type, &names, &hosts.0, ask.allow_any_host)?;
    Ok(NewSecret { slug, template, credential_type, plan, hosts })
}

/// Completes it from its template, and gives that one's id.
fn filled(ask: &mut SecretCreate) -> Result<Option<&'static str>, Error> {
    let Some(id) = ask.template.take().filter(|id| id != template::CUSTOM) else { return Ok(None) };
    let template = template::find(&id).ok_or_else(|| {
        Error::impossible("template", "there is no such template")
            .hint("`grantd managed-secrets templates` lists them; `custom` is none.")
    })?;
    template.fill(ask)?;
    Ok(Some(template.id.as_str()))
}
