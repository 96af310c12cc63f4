//! Signs what goes to the vault, and says who calls.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use grantd_wire::limits::{
    CALLER_CHARS_MAX, CONTEXT_CHARS_MAX, CONTEXT_KEY_CHARS_MAX, CONTEXT_KEYS_MAX, CONTEXT_VALUE_CHARS_MAX,
};
use grantd_wire::sign::{
    HEADER_ACTOR_ID, HEADER_CALLER, HEADER_CALLER_TYPE, HEADER_CONTENT_SHA256, HEADER_CONTEXT, HEADER_NONCE,
    HEADER_REQUEST_RULE, HEADER_SCOPE_CONSTRAINTS, HEADER_SIGNATURE, HEADER_SIGNATURE_V2, HEADER_TIMESTAMP, SigningKey,
    ToSign, canonical_target, hex, sha256,
};
use http::{HeaderMap, HeaderValue};

use crate::constraints::ConstraintHeaders;
use crate::error::Error;

/// What kind of caller makes a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CallerType {
    /// A program.
    #[default]
    Service,
    /// An AI agent.
    Agent,
}

impl CallerType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Agent => "agent",
        }
    }
}

/// Who calls, and on whose behalf; every part is optional and signed.
#[derive(Clone, Default)]
pub struct Identity {
    /// A checked label or an agent's id.
    pub caller: Option<String>,
    pub caller_type: CallerType,
    /// The id the vault gave the client's own caller. Never beside another caller.
    pub actor_id: Option<String>,
    /// The header's value, from [`context_header`].
    pub context: Option<String>,
    /// What narrows the client.
    pub constraints: Arc<ConstraintHeaders>,
    /// Whether this is the client's own caller, not one named for a single call.
    pub is_own: bool,
}

/// One request to the vault. `path` has no base URL's prefix and no query.
pub struct Outline<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub body: &'a [u8],
    pub unix_s: u64,
    pub nonce: [u8; 16],
    pub identity: &'a Identity,
}

/// The headers that sign it; the key itself is not among them.
pub fn headers(key: &SigningKey, outline: &Outline<'_>) -> HeaderMap {
    let identity = outline.identity;
    let caller = identity.caller.as_deref().unwrap_or_default();
    let to_sign = ToSign {
        method: outline.method,
        target: &canonical_target(outline.path, None),
        timestamp: &outline.unix_s.to_string(),
        nonce: &hex(&outline.nonce),
        content_sha256: &hex(&sha256(outline.body)),
        scope_constraints: &identity.constraints.scopes,
        request_rule: &identity.constraints.rule,
        caller,
        caller_type: if caller.is_empty() { "" } else { identity.caller_type.as_str() },
        actor_id: identity.actor_id.as_deref().unwrap_or_default(),
        context: identity.context.as_deref().unwrap_or_default(),
    };
    let signature = key.sign(&to_sign.text());
    let signature_v2 = if to_sign.has_identity() { &*signature } else { "" };
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (HEADER_TIMESTAMP, to_sign.timestamp),
        (HEADER_NONCE, to_sign.nonce),
        (HEADER_CONTENT_SHA256, to_sign.content_sha256),
        (HEADER_SIGNATURE, &signature),
        (HEADER_SIGNATURE_V2, signature_v2),
        (HEADER_SCOPE_CONSTRAINTS, to_sign.scope_constraints),
        (HEADER_REQUEST_RULE, to_sign.request_rule),
        (HEADER_CALLER, to_sign.caller),
        (HEADER_CALLER_TYPE, to_sign.caller_type),
        (HEADER_ACTOR_ID, to_sign.actor_id),
        (HEADER_CONTEXT, to_sign.context),
    ] {
        if !value.is_empty() {
            headers.insert(name, HeaderValue::from_str(value).expect("checked to be printable ASCII"));
        }
    }
    headers
}

/// A caller's name: 1-255 printable ASCII characters, no spaces at its edges.
pub fn check_caller(caller: &str) -> Result<(), Error> {
    let printable = caller.bytes().all(|b| (0x20..=0x7e).contains(&b));
    if (1..=CALLER_CHARS_MAX).contains(&caller.len()) && printable && caller.trim() == caller {
        return Ok(());
    }
    Err(Error::Invalid("the caller must be 1-255 printable ASCII characters without spaces at its edges".to_owned()))
}

/// The context as a header value: compact JSON, everything outside printable ASCII escaped. `None` when empty.
pub fn context_header(context: &BTreeMap<String, String>) -> Result<Option<String>, Error> {
    if context.is_empty() {
        return Ok(None);
    }
    let fits = context.len() <= CONTEXT_KEYS_MAX
        && context.iter().all(|(key, value)| {
            key.chars().count() <= CONTEXT_KEY_CHARS_MAX && value.chars().count() <= CONTEXT_VALUE_CHARS_MAX
        });
    let plain = serde_json::to_string(context).expect("a map of strings is JSON");
    let mut header = String::with_capacity(plain.len());
    for character in plain.chars() {
        if (' '..='~').contains(&character) {
            header.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            write!(header, "\\u{unit:04x}").expect("a String takes all that is written");
        }
    }
    if fits && header.len() <= CONTEXT_CHARS_MAX {
        return Ok(Some(header));
    }
    Err(Error::Invalid(format!(
        "the context may hold {CONTEXT_KEYS_MAX} keys of {CONTEXT_KEY_CHARS_MAX} characters, values of \
         {CONTEXT_VALUE_CHARS_MAX}, and {CONTEXT_CHARS_MAX} characters of JSON in all"
    )))
}

/// Whether the vault's answer names an actor: a dashed UUID in either case.
pub fn is_actor_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl";

    fn signed(identity: &Identity) -> HeaderMap {
        signed_as("/sdk/grants/list", br#"{"limit":100,"offset":0}"#, identity)
    }

    fn signed_as(path: &str, body: &[u8], identity: &Identity) -> HeaderMap {
        let outline = Outline {
            method: "POST",
            path,
            body,
            unix_s: 1_700_000_000,
            nonce: [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff],
            identity,
        };
        headers(&SigningKey::derive(KEY), &outline)
    }

    #[test]
    fn core_12_a_plain_request_is_signed_as_the_contract_has_it() {
        let headers = signed(&Identity::default());
        assert_eq!(headers[HEADER_SIGNATURE], "be3956719e365d5c25c80edfafeb27e4611e91609a4dc6277af99078d757d736");
        assert_eq!(headers[HEADER_TIMESTAMP], "1700000000");
        assert!(!headers.contains_key(HEADER_SIGNATURE_V2));
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn core_14_everything_that_can_be_signed_is() {
        let identity = Identity {
            caller: Some("my-agent".to_owned()),
            caller_type: CallerType::Agent,
            context: Some(r#"{"run_id":"r1"}"#.to_owned()),
            constraints: Arc::new(ConstraintHeaders {
                scopes: "grants:read,x:y".to_owned(),
                rule: "eyJydWxlX3R5cGUiOiJ0IiwicnVsZV9ib2R5Ijp7fX0".to_owned(),
            }),
            ..Identity::default()
        };
        let body = br#"{"method":"GET","url":"https://api.example.com/v1","grant_id":"g"}"#;
        let headers = signed_as("/sdk/proxy", body, &identity);
        let wanted = "d585664e7962b874b84360806e52c359396886ab41c735211449ee8f0df4b55a";
        assert_eq!(headers[HEADER_SIGNATURE], wanted);
        assert_eq!(headers[HEADER_SIGNATURE_V2], wanted);
        assert_eq!(headers[HEADER_SCOPE_CONSTRAINTS], "grants:read,x:y");
    }

    #[test]
    fn core_15_an_identity_is_signed_twice_and_nothing_else_is() {
        let identity = Identity { caller: Some("billing".to_owned()), ..Identity::default() };
        let headers = signed(&identity);
        assert_eq!(headers[HEADER_SIGNATURE], headers[HEADER_SIGNATURE_V2]);
        assert_eq!(headers[HEADER_CALLER_TYPE], "service");
        assert_ne!(headers[HEADER_SIGNATURE], signed(&Identity::default())[HEADER_SIGNATURE]);
    }

    #[test]
    fn context_is_ascii_json() {
        let context = BTreeMap::from([("run_id".to_owned(), "é😀\u{7f}\"".to_owned())]);
        let header = context_header(&context).unwrap().unwrap();
        assert_eq!(header, r#"{"run_id":"\u00e9\ud83d\ude00\u007f\""}"#);
        assert_eq!(serde_json::from_str::<BTreeMap<String, String>>(&header).unwrap(), context);
        assert_eq!(context_header(&BTreeMap::new()).unwrap(), None);
        for (key, value) in [("k".repeat(65), String::new()), ("k".to_owned(), "v".repeat(513))] {
            assert!(context_header(&BTreeMap::from([(key, value)])).is_err());
        }
        let many = |n: usize| (0..n).map(|i| (i.to_string(), "v".to_owned())).collect();
        assert!(context_header(&many(20)).is_ok());
        assert!(context_header(&many(21)).is_err());
    }

    #[test]
    fn callers_and_actor_ids_are_checked() {
        assert!(check_caller("billing worker 7").is_ok());
        for bad in ["", " x", "x ", "é", "a\nb", &"x".repeat(256)] {
            assert!(check_caller(bad).is_err(), "{bad:?}");
        }
        assert!(is_actor_id("0199C0de-0000-7000-8000-00000000beef"));
        for bad in ["", "0199c0de00007000800000000000beef", "0199c0de-0000-7000-8000-00000000beeg"] {
            assert!(!is_actor_id(bad), "{bad}");
        }
    }
}
