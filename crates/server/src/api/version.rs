//! Optimistic concurrency: `ETag` says which state of an object was read, `If-Match` that only that state may be changed.
//!
//! Invariant: a tag is compared inside the write that changes the object, so that of two writers with the same tag one is refused.

use std::fmt;

use grantd_wire::ids::AppId;
use grantd_wire::sign::{hex, sha256};
use grantd_wire::{Code, Error};
use http::{HeaderMap, HeaderValue, header};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::answer::{Answer, json as answer};
use crate::routes::Api;

/// What a caller asks of the state that is changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IfMatch {
    /// No header: whatever the state is.
    Absent,
    /// `*`: the object exists, which it does when it was found.
    Any,
    /// One of these, in their quotes. Weak ones are left out: they never match.
    Tags(Vec<String>),
}

impl IfMatch {
    /// Reads the header of a call of `route`. A route that would not look at it refuses it: the caller counts on the check.
    pub fn parse(headers: &HeaderMap, route: Api) -> Result<Self, Error> {
        let lines: Vec<&[u8]> = headers.get_all(header::IF_MATCH).iter().map(HeaderValue::as_bytes).collect();
        if lines.is_empty() {
            return Ok(Self::Absent);
        }
        if !is_checked(route) {
            return Err(Error::invalid("If-Match", "this call changes no object that has an ETag")
                .hint("Send the request without the header."));
        }
        parse_list(&lines.join(&b','))
            .ok_or_else(|| Error::invalid("If-Match", "must be `*`, or ETags in their quotes, separated by commas"))
    }

    /// Refuses the change of an object that is in another state by now.
    pub fn check(&self, object: &impl Serialize) -> Result<(), Error> {
        match self {
            Self::Tags(tags) if !tags.contains(&tag(object)) => Err(Error::new(Code::VersionConflict)
                .hint("Read the object again, look at what changed, and retry with the ETag of that answer.")),
            _ => Ok(()),
        }
    }
}

/// The list of RFC 9110, 13.1.1. Empty elements are skipped; a list of nothing else is malformed.
fn parse_list(text: &[u8]) -> Option<IfMatch> {
    if text.trim_ascii() == b"*" {
        return Some(IfMatch::Any);
    }
    let (mut rest, mut tags, mut seen) = (text, Vec::new(), false);
    loop {
        rest = rest.trim_ascii_start();
        let is_weak = rest.starts_with(b"W/");
        let opaque = if is_weak { &rest[2..] } else { rest };
        if let Some(inner) = opaque.strip_prefix(b"\"") {
            let end = inner.iter().position(|b| *b == b'"')?;
            if !inner[..end].iter().all(|b| *b == b'!' || (b'#'..=b'~').contains(b) || *b >= 0x80) {
                return None;
            }
            seen = true;
            if !is_weak {
                tags.push(String::from_utf8_lossy(&opaque[..end + 2]).into_owned());
            }
            rest = inner[end + 1..].trim_ascii_start();
        } else if is_weak {
            return None;
        }
        match rest.split_first() {
            None => return seen.then_some(IfMatch::Tags(tags)),
            Some((b',', after)) => rest = after,
            Some(_) => return None,
        }
    }
}

/// Fields that change without anybody changing the object: by its use, and by time passing.
const VOLATILE: [&str; 9] = [
    "accounts",
    "last_seen_at",
    "last_used_at",
    "needs_reconnect",
    "problem",
    "problem_at",
    "revoked_upstream",
    "status",
    "token_expires_at",
];

/// The tag of an object as it is shown. It is made from what is shown, id included: it holds for no other object, and any change
/// that a reader could see gives another one.
fn tag(object: &impl Serialize) -> String {
    let mut shown = serde_json::to_value(object).expect("objects of ours have a JSON form");
    if let Some(fields) = shown.as_object_mut() {
        fields.retain(|name, _| !VOLATILE.contains(&name.as_str()));
    }
    let hash = sha256(shown.to_string().as_bytes());
    format!("\"{}\"", hex(&hash[..16]))
}

/// An answer that shows one object.
pub fn shown(status: u16, object: &impl Serialize) -> Answer {
    tagged(answer(status, object), object)
}

/// An answer that tells of one object, with its tag.
fn tagged(mut answer: Answer, object: &impl Serialize) -> Answer {
    let tag = HeaderValue::from_str(&tag(object)).expect("digits in quotes are a header's value");
    answer.headers_mut().insert(header::ETAG, tag);
    answer
}

/// The answer of a creation, with the tag of what it made, if that has one.
pub fn made(answer: Answer, route: Api, body: &[u8]) -> Answer {
    if !is_tagged(route) {
        return answer;
    }
    let mut body = serde_json::Deserializer::from_slice(body);
    let object = Without(shown_once(route)).deserialize(&mut body).expect("bodies of ours are JSON objects");
    tagged(answer, &object)
}

/// Fields of a creation's answer beside those of the object as it is shown from then on.
const fn shown_once(route: Api) -> &'static [&'static str] {
    match route {
        Api::KeysMint => &["api_key"],
        Api::KeysRotate => &["api_key", "predecessor_id", "predecessor_grace_until"],
        Api::ConnectSessionsCreate => &["connect_url"],
        Api::SecretsCreate => &["grant_id"],
        Api::TokensCreate => &["token"],
        _ => &[],
    }
}

/// Reads an object without these fields, and without a copy of what they hold.
struct Without(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Without {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Without {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut shown = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if self.0.contains(&name.as_str()) {
                fields.next_value::<IgnoredAny>()?;
            } else {
                shown.insert(name, fields.next_value()?);
            }
        }
        Ok(shown)
    }
}

/// What an app has once, as its tag covers it: its own fields name no app.
pub fn of_app(app: AppId, object: &impl Serialize) -> Value {
    json!({"app_id": app.to_string(), "object": object})
}

/// An answer that shows what an app has once.
pub fn shown_of_app(app: AppId, object: &impl Serialize) -> Answer {
    tagged(answer(200, object), &of_app(app, object))
}

/// Whether calls of this route change an object that has a tag.
pub const fn is_checked(route: Api) -> bool {
    matches!(
        route,
        Api::OrganizationUpdate
            | Api::OperatorsUpdate
            | Api::TokensRevoke
            | Api::AppsUpdate
            | Api::AppsArchive
            | Api::AppsUnarchive
            | Api::AppsDelete
            | Api::BrandingSet
            | Api::BrandingReset
            | Api::RetentionSet
            | Api::RetentionReset
            | Api::HoldSet
            | Api::HoldRelease
            | Api::KeysRename
            | Api::KeysRotate
            | Api::KeysRevoke
            | Api::ProvidersUpdate
            | Api::ProvidersDelete
            | Api::IdpsUpdate
            | Api::IdpsDelete
            | Api::UsersSuspend
            | Api::UsersResume
            | Api::UsersDeprovision
            | Api::SecretsRotate
            | Api::SecretsSetHosts
            | Api::SecretsDelete
            | Api::GrantsUpdate
            | Api::GrantsRevoke
    )
}

/// Whether the answer of this route carries a tag.
pub const fn is_tagged(route: Api) -> bool {
    match route {
        // They answer what was done, not the object.
        Api::SecretsDelete
        | Api::ProvidersDelete
        | Api::IdpsDelete
        | Api::UsersDeprovision
        | Api::GrantsRevoke
        // And these change with the directory's calls.
        | Api::ScimShow
        | Api::ScimEnable
        | Api::ScimRotate
        | Api::ScimDisable
        | Api::WebhookShow
        | Api::WebhookEnable
        | Api::WebhookRotate
        | Api::WebhookDisable => false,
        Api::OperatorsCreate
        | Api::TokensCreate
        | Api::AppsCreate
        | Api::KeysMint
        | Api::ProvidersCreate
        | Api::IdpsCreate
        | Api::SecretsCreate
        | Api::SecretGrantsCreate
        | Api::ConnectSessionsCreate
        | Api::OrganizationShow
        | Api::OperatorsShow
        | Api::TokensShow
        | Api::AppsShow
        | Api::BrandingShow
        | Api::RetentionShow
        | Api::HoldShow
        | Api::KeysShow
        | Api::ProvidersShow
        | Api::IdpsShow
        | Api::UsersShow
        | Api::SecretsShow
        | Api::ConnectSessionsShow
        | Api::GrantsShow => true,
        route => is_checked(route),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_the_standard_says() {
        let tags = |texts: &[&str]| Some(IfMatch::Tags(texts.iter().map(|t| (*t).to_owned()).collect()));
        assert_eq!(parse_list(b" * "), Some(IfMatch::Any));
        assert_eq!(parse_list(b"\"a\""), tags(&["\"a\""]));
        assert_eq!(parse_list(b"\"a,b\" ,\t\"\""), tags(&["\"a,b\"", "\"\""]));
        assert_eq!(parse_list(b", \"a\",,\"b\","), tags(&["\"a\"", "\"b\""]));
        assert_eq!(parse_list(b"W/\"a\", \"b\""), tags(&["\"b\""]));
        assert_eq!(parse_list(b"W/\"a\""), tags(&[]));
        let malformed: [&[u8]; 12] = [
            b"",
            b",",
            b"a",
            b"\"a",
            b"a\"",
            b"\"a\"\"b\"",
            b"\"a\" b",
            b"*, \"a\"",
            b"\"a\", *",
            b"W/a",
            b"w/\"a\"",
            b"\"a b\"",
        ];
        for text in malformed {
            assert_eq!(parse_list(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_tag_is_of_one_object_in_one_state() {
        let object = json!({"id": "a", "name": "n", "status": "active", "last_used_at": null});
        let used = json!({"id": "a", "name": "n", "status": "expired", "last_used_at": "2026-01-01T00:00:00Z"});
        assert_eq!(tag(&object), tag(&used));
        assert_ne!(tag(&object), tag(&json!({"id": "b", "name": "n"})));
        assert_ne!(tag(&object), tag(&json!({"id": "a", "name": "m"})));
        assert!(IfMatch::Absent.check(&object).is_ok() && IfMatch::Any.check(&object).is_ok());
        assert!(IfMatch::Tags(vec!["\"x\"".to_owned(), tag(&used)]).check(&object).is_ok());
        let refused = IfMatch::Tags(Vec::new()).check(&object).unwrap_err();
        assert_eq!(refused.code, Code::VersionConflict);
    }

    /// Every field of an object with a tag: those that its tag covers, and those that change without anybody changing the object. A new
    /// field belongs into one of the two; of the second kind is what use or time alone changes.
    #[test]
    fn every_field_is_covered_by_the_tag_or_known_to_change_by_itself() {
        let fields: [(&str, &str, &str); 19] = [
            (
                "App",
                "connect_sign_in created_at description id indexed_context_keys name retrieve return_origins state \
                 tenant_key tenant_mode version website_url",
                "",
            ),
            ("AppRetention", "is_default retention updated_at", ""),
            (
                "BegunConnectSession",
                "app_id connect_url created_at declined_providers direct error expires_at failed_grants \
                 grants id opened providers",
                "status",
            ),
            ("Branding", "accent_color background_color display_name logo updated_at", ""),
            (
                "ConnectSession",
                "app_id created_at declined_providers direct error expires_at failed_grants grants id \
                 opened providers",
                "status",
            ),
            (
                "CreatedSecret",
                "allow_any_host allowed_hosts created_at credential_id credential_type fields \
                 grant_id id injection_format injection_header injections name rotated_at slug \
                 template token_generation version",
                "",
            ),
            (
                "Grant",
                "account_identifier account_name allow_any_host app_id created_at credential_id \
                 expires_at grant_id grant_kind group_id label managed_secret_id managed_secret_name \
                 principal_type provider_id reason revoked_at scopes tenant tenant_exempt user_id version",
                "last_used_at needs_reconnect revoked_upstream status token_expires_at",
            ),
            (
                "IdentityProvider",
                "algorithms audiences authorize_url claims client_id created_at has_client_secret id issuer \
                 jwks_url name preset scopes state token_url updated_at userinfo_url version",
                "",
            ),
            (
                "Key",
                "allow_unsigned_identity cidr_allowlist created_at deprecated_at \
                 effective_rate_limit_rpm expires_at grace_until id key_prefix key_type name \
                 parent_key_id rate_limit_rpm rate_limit_source revoked_at scope_version scopes \
                 successor_id",
                "last_used_at status",
            ),
            ("LegalHold", "held held_at operator_id reason", ""),
            (
                "MintedKey",
                "allow_unsigned_identity api_key cidr_allowlist created_at deprecated_at \
                 effective_rate_limit_rpm expires_at grace_until id key_prefix key_type name \
                 parent_key_id rate_limit_rpm rate_limit_source revoked_at scope_version scopes \
                 successor_id",
                "last_used_at status",
            ),
            ("MintedToken", "app_ids created_at expires_at id name operator_id revoked_at role token", "status"),
            ("Operator", "created_at disabled_at email id role", ""),
            ("Organization", "created_at id name slug token_days_max", ""),
            (
                "Provider",
                "account_hosts allowed_hosts client_id created_at custom docs_url effective_hosts \
                 effective_scopes environment fields has_client_secret id name provider_id redirect_uri \
                 scopes setup updated_at verified version",
                "accounts problem problem_at",
            ),
            (
                "RotatedKey",
                "allow_unsigned_identity api_key cidr_allowlist created_at deprecated_at \
                 effective_rate_limit_rpm expires_at grace_until id key_prefix key_type name \
                 parent_key_id predecessor_grace_until predecessor_id rate_limit_rpm \
                 rate_limit_source revoked_at scope_version scopes successor_id",
                "last_used_at status",
            ),
            (
                "Secret",
                "allow_any_host allowed_hosts created_at credential_id credential_type fields id \
                 injection_format injection_header injections name rotated_at slug template \
                 token_generation version",
                "",
            ),
            ("Token", "app_ids created_at expires_at id name operator_id revoked_at role", "status"),
            (
                "User",
                "created_at deprovisioned_at email id idp_id name roles subject user_status version",
                "last_seen_at",
            ),
        ];
        let document = crate::openapi::document();
        let mut known = std::collections::BTreeSet::new();
        let operations =
            document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        let answers = operations.flat_map(|operation| operation["responses"].as_object().unwrap().values());
        for answer in answers.filter(|answer| answer["headers"].get("ETag").is_some()) {
            let schema = answer["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
            known.insert(schema.rsplit('/').next().unwrap().to_owned());
        }
        let listed: Vec<&str> = fields.iter().map(|(object, ..)| *object).collect();
        assert_eq!(known.into_iter().collect::<Vec<_>>(), listed);
        let mut dropped = std::collections::BTreeSet::new();
        for (object, covered, changing) in fields {
            let properties = document["components"]["schemas"][object]["properties"].as_object().unwrap();
            let split = |is_volatile: bool| {
                let mut names: Vec<&str> = properties.keys().map(String::as_str).collect();
                names.retain(|name| VOLATILE.contains(name) == is_volatile);
                names.sort_unstable();
                names.join(" ")
            };
            assert_eq!((split(false), split(true)), (covered.to_owned(), changing.to_owned()), "{object}");
            dropped.extend(changing.split_ascii_whitespace());
        }
        assert_eq!(
            dropped.into_iter().collect::<Vec<_>>(),
            VOLATILE,
            "no name is left over that some object will have one day"
        );
    }
}
