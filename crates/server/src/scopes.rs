//! What a key may do: its scopes, narrowed by the call, against what a route needs and the object it names.

use grantd_domain::grant::ApiKey;
use grantd_wire::ids::GrantId;
use grantd_wire::scope::{SCOPE_VERSION, Scope};
use grantd_wire::{Code, Error};

use crate::caller::Call;
use crate::routes::Needs;

/// The scopes that a call narrows itself to; `None`: it keeps the key's.
pub fn narrowed(key: &ApiKey, constraints: &str) -> Result<Option<Vec<Scope>>, Error> {
    if constraints.is_empty() {
        return Ok(None);
    }
    let atom = |text: &str| {
        Scope::parse(text).filter(|atom| key.scopes.iter().any(|s| s.covers(*atom))).ok_or_else(|| {
            Error::new(Code::ConstraintNotNarrowing).with("scope", text.chars().take(100).collect::<String>())
        })
    };
    constraints.split(',').map(atom).collect::<Result<_, _>>().map(Some)
}

/// Whether `have` opens a route.
pub fn check(key: &ApiKey, have: &[Scope], needs: Needs) -> Result<(), Error> {
    let reaches = |wanted: &str| {
        let wanted = Scope::parse(wanted).expect("the table names scopes of the catalogue");
        have.iter().any(|s| s.without_id().covers(wanted))
    };
    let (wanted, any, enough) = match needs {
        Needs::Nothing => return Ok(()),
        Needs::All(wanted) => (wanted, false, wanted.iter().all(|w| reaches(w))),
        Needs::Any(wanted) => (wanted, true, wanted.iter().any(|w| reaches(w))),
    };
    if enough {
        return Ok(());
    }
    let required: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
    let missing = required.iter().filter(|w| !reaches(w)).cloned().collect();
    Err(insufficient(key, have, required, missing, any))
}

fn insufficient(key: &ApiKey, have: &[Scope], required: Vec<String>, missing: Vec<String>, any: bool) -> Error {
    let granted: Vec<String> = have.iter().map(ToString::to_string).collect();
    Error::new(Code::InsufficientScope)
        .message(format!(
            "The API key lacks {}. Mint a key that has it.",
            missing.join(if any { " or " } else { " and " })
        ))
        .with("required", required)
        .with("granted", granted)
        .with("missing", missing)
        .with("scope_version", key.scope_version)
        .with("current_scope_version", SCOPE_VERSION)
        .with("scope_version_mismatch", key.scope_version != SCOPE_VERSION)
        .with("documentation_url", "docs/wire.md")
        .with("required_any_of", any)
}

impl Call {
    /// What this call may do: what its key may, or what it narrowed itself to.
    pub fn scopes(&self) -> &[Scope] {
        self.narrowed.as_deref().unwrap_or(&self.known.key.scopes)
    }

    /// Whether this call may do `scope` to the object `id`.
    pub fn check_scope_for(&self, scope: &str, id: &str) -> Result<(), Error> {
        let wanted = format!("{scope}:{id}");
        let covered = Scope::parse(&wanted).is_some_and(|wanted| self.scopes().iter().any(|s| s.covers(wanted)));
        if covered || self.covers(scope) {
            return Ok(());
        }
        Err(insufficient(&self.known.key, self.scopes(), vec![wanted.clone()], vec![wanted], false))
    }

    /// Whether this call may have the credential of this grant.
    pub fn check_grant(&self, grant: GrantId) -> Result<(), Error> {
        self.check_scope_for("tokens:retrieve", &grant.to_string())
    }

    /// Whether this call may do `scope` at all, or else `narrow` to the object `id`.
    pub fn check_either(&self, scope: &str, narrow: &str, id: &str) -> Result<(), Error> {
        if self.covers(scope) || self.check_scope_for(narrow, id).is_ok() {
            return Ok(());
        }
        let wanted = vec![scope.to_owned(), format!("{narrow}:{id}")];
        Err(insufficient(&self.known.key, self.scopes(), wanted.clone(), wanted, true))
    }

    /// Whether this call may do `scope` to anything.
    pub fn check_scope(&self, scope: &str) -> Result<(), Error> {
        if self.covers(scope) {
            return Ok(());
        }
        Err(insufficient(&self.known.key, self.scopes(), vec![scope.to_owned()], vec![scope.to_owned()], false))
    }

    fn covers(&self, scope: &str) -> bool {
        Scope::parse(scope).is_some_and(|wanted| self.scopes().iter().any(|s| s.covers(wanted)))
    }

    /// The objects `scope` is narrowed to; `None` when it is not narrowed.
    pub fn narrowed_to(&self, scope: &str) -> Option<Vec<uuid::Uuid>> {
        let wanted = Scope::parse(scope)?;
        if self.covers(scope) {
            return None;
        }
        Some(self.scopes().iter().filter(|s| s.without_id().covers(wanted)).filter_map(|s| s.id()).collect())
    }
}
