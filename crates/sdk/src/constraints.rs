//! What a client takes from itself: fewer scopes than its key, and a rule of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantd_wire::limits::REQUEST_RULE_CHARS_MAX;
use serde::Serialize;

use crate::error::Error;

/// Narrows a client, for [`App::with_constraints`](crate::App::with_constraints). It can only take away: a scope that the
/// key lacks is refused by the vault (400 `constraint_not_narrowing`).
///
/// ```
/// # use grantd_sdk::{App, Constraints};
/// # let app = App::builder("alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl").build()?;
/// let reader = app.with_constraints(&Constraints::new().scopes(["grants:read"]))?;
/// # Ok::<(), grantd_sdk::Error>(())
/// ```
#[derive(Clone, Default, Debug)]
#[must_use = "constraints do nothing until a client is made with them"]
pub struct Constraints {
    scopes: Option<Vec<String>>,
    rule: Option<Result<Vec<u8>, ()>>,
}

/// The headers, checked; empty ones are not sent.
#[derive(Default)]
pub struct ConstraintHeaders {
    pub scopes: String,
    pub rule: String,
}

#[derive(Serialize)]
struct Rule<'a, B: ?Sized> {
    rule_type: &'a str,
    rule_body: &'a B,
}

impl Constraints {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// These scopes only, such as `tokens:retrieve` or `tokens:retrieve:GRANT_ID`.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// A rule that every release must pass as well. `body` must be a JSON object.
    pub fn rule(mut self, rule_type: &str, body: &(impl Serialize + ?Sized)) -> Self {
        self.rule = Some(serde_json::to_vec(&Rule { rule_type, rule_body: body }).map_err(|_| ()));
        self
    }

    /// Checks what can be checked here.
    pub(crate) fn headers(&self) -> Result<ConstraintHeaders, Error> {
        let invalid = |why: &str| Err(Error::Invalid(why.to_owned()));
        let scopes = self.scopes.as_deref().unwrap_or_default();
        if self.scopes.is_none() && self.rule.is_none() {
            return invalid("constraints must name scopes, a rule, or both");
        }
        if self.scopes.is_some() && scopes.is_empty() {
            return invalid("the scopes of a constraint may not be empty: name at least one");
        }
        let is_atom = |scope: &String| !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        if !scopes.iter().all(is_atom) || scopes.iter().any(|scope| scope == "*") {
            return invalid("a scope of a constraint is printable ASCII without spaces or commas, and not `*`");
        }
        let rule = match &self.rule {
            None => String::new(),
            Some(Ok(json)) => {
                // `Serialize` may have written anything for the body.
                let object =
                    serde_json::from_slice::<serde_json::Value>(json).is_ok_and(|v| v["rule_body"].is_object());
                if !object {
                    return invalid("the body of a rule must be a JSON object");
                }
                URL_SAFE_NO_PAD.encode(json)
            }
            Some(Err(())) => return invalid("the body of a rule cannot be written as JSON"),
        };
        if rule.len() > REQUEST_RULE_CHARS_MAX {
            return Err(Error::Invalid(format!(
                "the rule is longer than {REQUEST_RULE_CHARS_MAX} characters of base64"
            )));
        }
        Ok(ConstraintHeaders { scopes: scopes.join(","), rule })
    }
}

impl ConstraintHeaders {
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty() && self.rule.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn headers_are_as_the_contract_has_them() {
        let constraints = Constraints::new().scopes(["grants:read", "x:y"]).rule("t", &json!({}));
        let headers = constraints.headers().unwrap();
        assert_eq!(headers.scopes, "grants:read,x:y");
        assert_eq!(headers.rule, "eyJydWxlX3R5cGUiOiJ0IiwicnVsZV9ib2R5Ijp7fX0");
    }

    #[test]
    fn what_no_vault_takes_is_refused_here() {
        let rule_of = |bytes: usize| Constraints::new().rule("t", &json!({"x": "y".repeat(bytes)}));
        // `{"rule_type":"t","rule_body":{"x":""}}` has 38 bytes; three bytes are four characters.
        assert_eq!(rule_of(3072 - 38).headers().unwrap().rule.len(), REQUEST_RULE_CHARS_MAX);
        for constraints in [
            Constraints::new(),
            Constraints::new().scopes(Vec::<String>::new()),
            Constraints::new().scopes(["*"]),
            Constraints::new().scopes(["a:b,c:d"]),
            Constraints::new().scopes(["a b"]),
            Constraints::new().scopes([""]),
            Constraints::new().rule("t", &[1]),
            Constraints::new().rule("t", &Value::Null),
            rule_of(3072 - 37),
        ] {
            assert!(matches!(constraints.headers(), Err(Error::Invalid(_))), "{constraints:?}");
        }
    }
}
