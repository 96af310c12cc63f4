//! Single sign-on of operators at an OpenID Connect issuer: what its ID token must say, whom it signs in, and why it does not.
//!
//! Invariants: an e-mail address counts only where the issuer says that it verified it, and at first sight only: from then on issuer
//! and subject are who somebody is. Nobody becomes an operator by it.

use grantd_wire::ids::OperatorId;
use grantd_wire::{TimeMs, limits};
use serde_json::Value;

use crate::identity::{Claims, Invalid};
use crate::{operator, sign_in};

/// What an operator is asked for at the issuer.
pub const SCOPES: &[&str] = &["openid", "email"];

/// Why nobody was signed in, or proved again who they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// Nobody waits for this answer: it was used, its time is over, or it never was one.
    Stale,
    /// Another browser left for the issuer, or this one has signed in since.
    Elsewhere,
    /// What the issuer said, or did not.
    Issuer(sign_in::Why),
    /// It does not vouch for an e-mail address, and has not been seen with this operator before.
    Unverified,
    /// The operator's address is of a domain that may not sign in so.
    Domain,
    /// No operator has this address.
    Unknown,
    /// The operator with this address is another subject of this issuer.
    OtherAccount,
    Disabled,
    /// Whoever was asked again is somebody else than who is signed in.
    OtherPerson,
    /// The issuer let somebody through whom it was to ask again.
    NotAsked,
    /// Whoever was to be asked again is signed out by now.
    SignedOut,
}

impl Why {
    /// The stable text, for the audit trail and the page.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Elsewhere => "other_browser",
            Self::Issuer(why) => why.code(),
            Self::Unverified => "email_not_verified",
            Self::Domain => "email_domain",
            Self::Unknown => "unknown_operator",
            Self::OtherAccount => "other_account",
            Self::Disabled => "operator_disabled",
            Self::OtherPerson => "other_person",
            Self::NotAsked => "not_asked_again",
            Self::SignedOut => "signed_out",
        }
    }

    /// What the issuer said itself, or which check its token failed.
    pub fn provider_code(&self) -> Option<&str> {
        match self {
            Self::Issuer(why) => why.provider_code(),
            _ => None,
        }
    }
}

/// What a proved ID token says of whom it speaks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    pub subject: String,
    /// In the form operators' addresses have, if the issuer says that it verified it.
    pub email: Option<String>,
    pub authenticated_at: Option<TimeMs>,
}

/// Reads what a proved ID token says. One that was issued to another client is refused, and one for several that does not say to
/// which (OpenID Connect Core 3.1.3.7, 4 and 5).
pub fn said(claims: &Claims, client_id: &str) -> Result<Said, Invalid> {
    let is_for_several = claims.all.get("aud").and_then(Value::as_array).is_some_and(|audiences| audiences.len() > 1);
    let is_ours = match claims.all.get("azp") {
        Some(azp) => azp.as_str() == Some(client_id),
        None => !is_for_several,
    };
    if !is_ours {
        return Err(Invalid::Audience);
    }
    let is_verified = claims.all.get("email_verified") == Some(&Value::Bool(true));
    let email = claims.all.get("email").and_then(Value::as_str).filter(|_| is_verified);
    Ok(Said {
        subject: claims.subject.clone(),
        email: email.and_then(|email| operator::email(email).ok()),
        authenticated_at: claims.authenticated_at,
    })
}

/// An operator whom a token may speak for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate<'a> {
    pub id: OperatorId,
    pub email: &'a str,
    pub is_disabled: bool,
    /// Bound to a subject of this issuer.
    pub is_bound: bool,
}

/// Whom a token speaks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// Bound to its subject.
    Known(OperatorId),
    /// At first sight: to be bound to it from now on.
    New(OperatorId),
}

impl Who {
    /// The operator.
    pub const fn id(self) -> OperatorId {
        match self {
            Self::Known(id) | Self::New(id) => id,
        }
    }
}

/// Whom a token speaks for. `bound`: the operator who is bound to its subject. `named`: the one with its address. `domains`: of
/// addresses that may sign in so; none: all.
pub fn who(
    said: &Said,
    bound: Option<Candidate<'_>>,
    named: Option<Candidate<'_>>,
    domains: &[String],
) -> Result<Who, Why> {
    let who = match (bound, &said.email, named) {
        (Some(bound), ..) => (Who::Known(bound.id), bound),
        (None, None, _) => return Err(Why::Unverified),
        (None, Some(_), None) => return Err(Why::Unknown),
        (None, Some(_), Some(named)) if named.is_bound => return Err(Why::OtherAccount),
        (None, Some(_), Some(named)) => (Who::New(named.id), named),
    };
    let (who, candidate) = who;
    if candidate.is_disabled {
        return Err(Why::Disabled);
    }
    let domain = candidate.email.rsplit_once('@').map_or("", |(_, domain)| domain);
    match domains.is_empty() || domains.iter().any(|allowed| allowed == domain) {
        true => Ok(who),
        false => Err(Why::Domain),
    }
}

/// When whoever signs in by it last proved who they are, as their session says it. What nobody tells was too long ago to do what is
/// grave, and so was what is older.
pub fn proved_at(said: &Said, now: TimeMs) -> TimeMs {
    let oldest = now.plus_seconds(-limits::CONFIRMED_S);
    said.authenticated_at.map_or(oldest, |at| at.clamp(oldest, now))
}

/// Whether the issuer asked them when it was told to, at `asked_at`. It tells whole seconds, by a clock of its own.
pub fn was_asked(said: &Said, asked_at: TimeMs) -> bool {
    said.authenticated_at.is_some_and(|at| at.since(asked_at) >= -limits::JWT_LEEWAY_S * 1000)
}

#[cfg(test)]
mod tests {
    use grantd_wire::ids::uuid_v7;
    use serde_json::{Map, json};

    use super::*;

    fn id(n: i64) -> OperatorId {
        OperatorId::from_uuid(uuid_v7(n, [0; 10]))
    }

    fn claims(all: Value) -> Claims {
        let all: Map<String, Value> = serde_json::from_value(all).unwrap();
        Claims { subject: "s".to_owned(), issued_at: None, authenticated_at: None, expires_at: TimeMs(0), all }
    }

    fn seen(email: Option<&str>) -> Said {
        Said { subject: "s".to_owned(), email: email.map(str::to_owned), authenticated_at: None }
    }

    fn candidate(n: i64, email: &str) -> Candidate<'_> {
        Candidate { id: id(n), email, is_disabled: false, is_bound: false }
    }

    #[test]
    fn only_an_address_that_the_issuer_verified_is_one() {
        for (all, email) in [
            (json!({"email": "Ann@Example.com", "email_verified": true}), Some("ann@example.com")),
            (json!({"email": "ann@example.com", "email_verified": false}), None),
            (json!({"email": "ann@example.com", "email_verified": "true"}), None),
            (json!({"email": "ann@example.com", "email_verified": 1}), None),
            (json!({"email": "ann@example.com"}), None),
            (json!({"email": "no address", "email_verified": true}), None),
            (json!({"email": ["ann@example.com"], "email_verified": true}), None),
            (json!({"email_verified": true}), None),
        ] {
            assert_eq!(said(&claims(all.clone()), "c").unwrap().email.as_deref(), email, "{all}");
        }
    }

    #[test]
    fn a_token_issued_to_another_client_is_none_for_us() {
        for (all, is_ours) in [
            (json!({}), true),
            (json!({"azp": "c"}), true),
            (json!({"azp": "other"}), false),
            (json!({"azp": ["c"]}), false),
            (json!({"azp": null}), false),
            (json!({"aud": "c"}), true),
            (json!({"aud": ["c"]}), true),
            (json!({"aud": ["c", "other"]}), false),
            (json!({"aud": ["c", "c"]}), false),
            (json!({"aud": ["c", "other"], "azp": "c"}), true),
            (json!({"aud": ["c", "other"], "azp": "other"}), false),
            (json!({"aud": "c", "azp": "other"}), false),
        ] {
            let found = said(&claims(all.clone()), "c");
            assert_eq!(found.err(), (!is_ours).then_some(Invalid::Audience), "{all}");
        }
    }

    #[test]
    fn whom_it_signs_in() {
        let ann = candidate(1, "ann@example.com");
        let bound = Candidate { is_bound: true, ..ann };
        let disabled = Candidate { is_disabled: true, ..ann };
        let ben = candidate(2, "ben@other.example");
        let with = seen(Some("ann@example.com"));
        let none: &[String] = &[];
        let domains = &["example.com".to_owned()][..];
        for (said, of_subject, of_address, domains, expected) in [
            (&with, None, Some(ann), none, Ok(Who::New(id(1)))),
            (&with, None, Some(ann), domains, Ok(Who::New(id(1)))),
            // Who is bound is known by that, whatever address they have there by now.
            (&with, Some(ben), Some(ann), none, Ok(Who::Known(id(2)))),
            (&seen(None), Some(bound), None, none, Ok(Who::Known(id(1)))),
            (&seen(None), None, None, none, Err(Why::Unverified)),
            (&with, None, None, none, Err(Why::Unknown)),
            (&with, None, Some(bound), none, Err(Why::OtherAccount)),
            (&with, None, Some(disabled), none, Err(Why::Disabled)),
            (&with, Some(disabled), None, none, Err(Why::Disabled)),
            (&with, Some(ben), None, domains, Err(Why::Domain)),
            (&with, None, Some(ben), domains, Err(Why::Domain)),
            // Of a domain below it, or one that only ends so.
            (&with, None, Some(candidate(3, "a@sub.example.com")), domains, Err(Why::Domain)),
            (&with, None, Some(candidate(3, "a@notexample.com")), domains, Err(Why::Domain)),
        ] {
            assert_eq!(who(said, of_subject, of_address, domains), expected, "{of_subject:?} {of_address:?}");
        }
    }

    #[test]
    fn what_is_not_told_to_be_new_is_old() {
        let now = TimeMs(10_000_000_000);
        let oldest = now.plus_seconds(-limits::CONFIRMED_S);
        let at = |authenticated_at| Said { authenticated_at, ..seen(None) };
        for (told, proved) in [
            (None, oldest),
            (Some(TimeMs(0)), oldest),
            (Some(now.plus_ms(-5)), now.plus_ms(-5)),
            (Some(now.plus_ms(5)), now),
        ] {
            assert_eq!(proved_at(&at(told), now), proved, "{told:?}");
        }
        let leeway_ms = limits::JWT_LEEWAY_S * 1000;
        for (told, was) in [
            (None, false),
            (Some(now), true),
            (Some(now.plus_ms(-leeway_ms)), true),
            (Some(now.plus_ms(-leeway_ms - 1)), false),
        ] {
            assert_eq!(was_asked(&at(told), now), was, "{told:?}");
        }
    }
}
