//! What an issuer says of itself, before it is registered: what would not work, in plain words, and what to do about it.
//!
//! Never: a text of somebody else's document in a finding, other than an address that could be registered.

use super::{Algorithm, KeySet, Preset, check_url};
use crate::provider::Discovery;
use crate::words::counted;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Ok,
    /// It can be registered, and something of it will not work, or not as one might think.
    Warning,
    /// It cannot be registered like this, or its tokens would not count.
    Failure,
}

impl Level {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// Something that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub id: &'static str,
    pub level: Level,
    pub what: String,
    /// What to do; none when there is nothing to do.
    pub fix: Option<String>,
}

/// An issuer, as far as it was looked at.
#[derive(Clone, Copy)]
pub struct Issuer<'a> {
    /// As it was given.
    pub url: &'a str,
    pub preset: &'static Preset,
    /// Its discovery document; else why there is none, in words that follow its name.
    pub document: Result<&'a Discovery, &'a str>,
    /// The keys that the document names; else why they cannot be had, in words that follow a colon.
    pub keys: Option<Result<&'a KeySet, &'a str>>,
    /// What the app calls it already.
    pub registered_as: Option<&'a str>,
    /// Whether an address may be called from here.
    pub may_call: &'a dyn Fn(&str) -> bool,
}

/// Everything that is to be said of it.
pub fn examine(issuer: &Issuer<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |id, level, what: String, fix: Option<String>| findings.push(Finding { id, level, what, fix });
    let preset = issuer.preset;
    if let Some(name) = issuer.registered_as {
        let what = format!("The app has this issuer already, as {name}.");
        add("registered", Level::Warning, what, Some("Change that one with `grantd idp update`.".to_owned()));
    }
    match Preset::of_issuer(issuer.url) {
        Some(like) if like.id != preset.id => {
            let what = format!("It looks like {}, and the preset is {}.", like.name, preset.id);
            let fix = format!("Register it with --preset {}, which knows what its tokens say.", like.id);
            add("preset", Level::Warning, what, Some(fix));
        }
        _ => {
            let what = format!("{}, as {} had it on {}.", preset.name, preset.source, preset.read_on);
            add("preset", Level::Ok, what, None);
        }
    }
    let document = match issuer.document {
        Ok(document) => document,
        Err(why) => {
            let fix = format!(
                "Give the issuer exactly as `iss` of its tokens has it; those of {} look like {}. If it has no such document, register \
                 its keys with --jwks-url.",
                preset.name, preset.issuer
            );
            add("document", Level::Failure, format!("The issuer {why}."), Some(fix));
            return findings;
        }
    };
    match document.issuer == issuer.url {
        true => add("issuer", Level::Ok, "Its discovery document names it as it was given.".to_owned(), None),
        false => {
            let named = Some(&document.issuer).filter(|named| check_url(named, |_| false).is_ok());
            let what = match named {
                Some(named) => format!("It calls itself {named} in its discovery document."),
                None => {
                    "Its discovery document calls it otherwise, and not by a URL that could be registered.".to_owned()
                }
            };
            let fix = "Register it by the name that its tokens carry as `iss`: they must be the same to the letter.";
            add("issuer", Level::Failure, what, Some(fix.to_owned()));
        }
    }
    keys(issuer, &mut add);
    algorithms(document, preset, &mut add);
    sign_in(document, issuer.may_call, &mut add);
    let audience = match preset.owns(issuer.url) {
        true => "None need be given: the issuer is of one application alone.".to_owned(),
        false => format!("Give --audience: {}.", preset.audience_help),
    };
    add("audience", Level::Ok, audience, None);
    findings
}

type Add<'f> = dyn FnMut(&'static str, Level, String, Option<String>) + 'f;

fn names(algorithms: impl Iterator<Item = Algorithm>) -> String {
    algorithms.map(Algorithm::as_str).collect::<Vec<_>>().join(", ")
}

fn keys(issuer: &Issuer<'_>, add: &mut Add<'_>) {
    let taken = issuer.preset.algorithms;
    let (what, fix) = match issuer.keys {
        None => ("Its discovery document names no keys.".to_owned(), "Name them with --jwks-url."),
        Some(Err(why)) => {
            (format!("Its keys cannot be had: {why}."), "Try again; if it stays so, tell whoever runs it.")
        }
        Some(Ok(keys)) => {
            let fitting = names(taken.iter().copied().filter(|algorithm| keys.has_for(*algorithm)));
            if !fitting.is_empty() {
                return add(
                    "keys",
                    Level::Ok,
                    format!("It has {}, for {fitting}.", counted(keys.len(), "key", "keys")),
                    None,
                );
            }
            let there = names(Algorithm::ALL.iter().copied().filter(|algorithm| keys.has_for(*algorithm)));
            (
                format!("Its keys are for {there}, and the preset takes {}.", names(taken.iter().copied())),
                "Say which algorithms count with --algorithm.",
            )
        }
    };
    add("keys", Level::Failure, what, Some(fix.to_owned()));
}

/// A document need not say; then the keys do.
fn algorithms(document: &Discovery, preset: &Preset, add: &mut Add<'_>) {
    let said = &document.id_token_signing_alg_values_supported;
    let known: Vec<Algorithm> = said.iter().filter_map(|text| Algorithm::parse(text)).collect();
    if said.is_empty() || known.iter().any(|algorithm| preset.algorithms.contains(algorithm)) {
        return;
    }
    let (what, fix) = match known.is_empty() {
        true => (
            "It signs ID tokens in no way that can prove them here: a secret that two share proves nothing.".to_owned(),
            "Have it sign with RS256 or ES256.",
        ),
        false => (
            format!("It signs ID tokens with {}, which the preset does not take.", names(known.into_iter())),
            "Say which algorithms count with --algorithm.",
        ),
    };
    add("algorithms", Level::Failure, what, Some(fix.to_owned()));
}

fn sign_in(document: &Discovery, may_call: &dyn Fn(&str) -> bool, add: &mut Add<'_>) {
    let fine = "That is fine, as long as the app brings its users' tokens itself.";
    let endpoints = [("authorize", &document.authorization_endpoint), ("token", &document.token_endpoint)];
    // What cannot be registered is told before what can.
    for (name, url) in endpoints {
        let Some(url) = url.as_ref().filter(|url| !may_call(url)) else { continue };
        let why = match check_url(url, |_| true) {
            Ok(()) => "is not https",
            Err(_) => "is no URL that can be called",
        };
        let fix = "If the app brings its users' tokens itself, register its keys alone, with --jwks-url.";
        return add("sign_in", Level::Failure, format!("Its {name} endpoint {why}."), Some(fix.to_owned()));
    }
    if let Some((name, _)) = endpoints.into_iter().find(|(_, url)| url.is_none()) {
        let what = format!("Its discovery document names no {name} endpoint, so nobody can sign in there.");
        return add("sign_in", Level::Warning, what, Some(fine.to_owned()));
    }
    let methods = &document.token_endpoint_auth_methods_supported;
    let is_possible =
        methods.iter().any(|method| matches!(method.as_str(), "client_secret_basic" | "client_secret_post" | "none"));
    if !methods.is_empty() && !is_possible {
        let what = "It takes neither a client secret nor a client without one, so nobody can sign in there.";
        return add("sign_in", Level::Warning, what.to_owned(), Some(fine.to_owned()));
    }
    let pkce = &document.code_challenge_methods_supported;
    if !pkce.is_empty() && !pkce.iter().any(|method| method == "S256") {
        let what = "It does not say that it knows PKCE with S256, which every sign-in uses.";
        return add("sign_in", Level::Warning, what.to_owned(), Some("Sign in once, to see that it works.".to_owned()));
    }
    add("sign_in", Level::Ok, "Users can sign in there, with a client that you register.".to_owned(), None);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const URL: &str = "https://id.acme.example";

    fn document(more: &Value) -> Discovery {
        let mut said = json!({
            "issuer": URL, "authorization_endpoint": "https://id.acme.example/authorize",
            "token_endpoint": "https://id.acme.example/token", "jwks_uri": "https://id.acme.example/keys",
        });
        said.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        Discovery::read(said.to_string().as_bytes()).unwrap()
    }

    fn set(curve: &str, bytes: usize) -> KeySet {
        let part = "A".repeat(bytes.div_ceil(3) * 4 - (3 - bytes % 3) % 3);
        let jwk = json!({"kty": "EC", "crv": curve, "x": part, "y": part});
        KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap()
    }

    fn found(more: &Value, keys: &KeySet) -> Vec<Finding> {
        let document = document(more);
        examine(&Issuer {
            url: URL,
            preset: Preset::find("oidc").unwrap(),
            document: Ok(&document),
            keys: Some(Ok(keys)),
            registered_as: None,
            may_call: &|url| check_url(url, |_| false).is_ok(),
        })
    }

    fn of<'f>(findings: &'f [Finding], id: &str) -> &'f Finding {
        findings.iter().find(|finding| finding.id == id).unwrap_or_else(|| panic!("no {id} in {findings:?}"))
    }

    #[test]
    fn an_issuer_that_fits_is_found_so() {
        let findings = found(&json!({}), &set("P-256", 32));
        assert!(findings.iter().all(|finding| finding.level == Level::Ok && finding.fix.is_none()), "{findings:?}");
        assert_eq!(of(&findings, "keys").what, "It has 1 key, for ES256.");
        assert!(of(&findings, "audience").what.contains("--audience"));
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_to_do() {
        for (more, id, level, part) in [
            (json!({"issuer": "https://id.acme.example/"}), "issuer", Level::Failure, "https://id.acme.example/ "),
            (json!({"issuer": "<b>"}), "issuer", Level::Failure, "not by a URL"),
            (json!({"id_token_signing_alg_values_supported": ["HS256"]}), "algorithms", Level::Failure, "no way"),
            (json!({"id_token_signing_alg_values_supported": ["RS512"]}), "algorithms", Level::Failure, "RS512"),
            (json!({"authorization_endpoint": null}), "sign_in", Level::Warning, "no authorize endpoint"),
            (json!({"token_endpoint": "x"}), "sign_in", Level::Failure, "token endpoint is no URL"),
            (json!({"token_endpoint": "http://id/t"}), "sign_in", Level::Failure, "token endpoint is not https"),
            (
                json!({"authorization_endpoint": "http://id/a"}),
                "sign_in",
                Level::Failure,
                "authorize endpoint is not https",
            ),
            (json!({"authorization_endpoint": null, "token_endpoint": "ftp://x"}), "sign_in", Level::Failure, "no URL"),
            (
                json!({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}),
                "sign_in",
                Level::Warning,
                "neither a client secret",
            ),
            (json!({"code_challenge_methods_supported": ["plain"]}), "sign_in", Level::Warning, "PKCE"),
        ] {
            let findings = found(&more, &set("P-256", 32));
            let finding = of(&findings, id);
            assert!(finding.level == level && finding.what.contains(part) && finding.fix.is_some(), "{finding:?}");
        }
        let findings = found(&json!({}), &set("P-384", 48));
        let keys = of(&findings, "keys");
        assert!(keys.level == Level::Failure && keys.what.contains("for ES384"), "{keys:?}");
    }

    #[test]
    fn what_cannot_be_looked_at_is_said() {
        let okta = "https://company.okta.com/oauth2/default";
        let whole = document(&json!({"issuer": okta}));
        let issuer = |document, keys| Issuer {
            url: okta,
            preset: Preset::find("oidc").unwrap(),
            document,
            keys,
            registered_as: Some("Okta"),
            may_call: &|_| true,
        };
        let findings = examine(&issuer(Err("has no discovery document: it answers 404"), None));
        assert_eq!(of(&findings, "document").what, "The issuer has no discovery document: it answers 404.");
        assert!(of(&findings, "registered").what.contains("as Okta"));
        assert!(of(&findings, "preset").fix.as_ref().unwrap().contains("--preset okta"));
        for keys in [None, Some(Err("the address answers 500"))] {
            let findings = examine(&issuer(Ok(&whole), keys));
            assert_eq!(of(&findings, "keys").level, Level::Failure);
        }
    }
}
