//! What somebody writes of a provider, held against its bounds before it is stored. Of what is stored it is known already.

use std::collections::BTreeSet;

use grantd_wire::api::CustomProvider;
use grantd_wire::limits::{
    CUSTOM_PARAM_CHARS_MAX, CUSTOM_PARAMS_MAX, CUSTOM_POINTER_CHARS_MAX, CUSTOM_POINTERS_MAX,
    CUSTOM_SCOPE_TEXT_CHARS_MAX, CUSTOM_URL_CHARS_MAX, INJECTION_HEADER_CHARS_MAX, OAUTH_SCOPE_CHARS_MAX,
    OAUTH_SCOPES_MAX, SLUG_CHARS_MAX,
};
use grantd_wire::{Error, ids::AppProviderId};
use url::Url;

use super::{CUSTOM, Provider, find};
use crate::connect::is_scope;
use crate::destination::Target;
use crate::grant::check_text;
use crate::inject::{check_format, check_header_name};

/// Checks the id that a provider is given which is not in the catalogue.
pub fn check_id(id: &str) -> Result<(), Error> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_formed = (1..=SLUG_CHARS_MAX).contains(&id.len()) && id.chars().all(is_plain);
    // Rows are found by either id, so neither may look like the other.
    if !is_formed || id.starts_with('-') || id == CUSTOM || AppProviderId::parse(id).is_some() {
        let why = format!("must be 1-{SLUG_CHARS_MAX} lower-case letters, digits and `-`, neither `custom` nor a UUID");
        return Err(Error::impossible("provider", &why));
    }
    match find(id) {
        Some(_) => {
            Err(Error::impossible("provider", "is an id of the catalogue: leave `custom` out, or choose another id"))
        }
        None => Ok(()),
    }
}

/// Checks scopes that are to be asked for.
pub fn check_scopes(field: &str, scopes: &[String]) -> Result<(), Error> {
    if scopes.len() > OAUTH_SCOPES_MAX {
        return Err(Error::impossible(field, &format!("at most {OAUTH_SCOPES_MAX} scopes")));
    }
    match scopes.iter().position(|scope| !is_scope(scope)) {
        Some(index) => Err(Error::impossible(
            &format!("{field}[{index}]"),
            &format!("must be 1-{OAUTH_SCOPE_CHARS_MAX} visible ASCII characters without blank, quote and backslash"),
        )),
        None => Ok(()),
    }
}

/// Checks a description against its bounds, and that what is called can be called.
pub fn check_custom(said: &CustomProvider) -> Result<(), Error> {
    let urls = [
        ("issuer", &said.issuer),
        ("authorize_url", &said.authorize_url),
        ("token_url", &said.token_url),
        ("revoke_url", &said.revoke_url),
        ("userinfo_url", &said.userinfo_url),
    ];
    for (field, url) in urls {
        let Some(url) = url else { continue };
        let field = format!("custom.{field}");
        if url.chars().count() > CUSTOM_URL_CHARS_MAX {
            return Err(Error::impossible(&field, &format!("at most {CUSTOM_URL_CHARS_MAX} characters")));
        }
        Target::parse(url).map_err(|why| Error::impossible(&field, &format!("is no URL that can be called. {why}")))?;
    }
    check_scopes("custom.scopes", &said.scopes)?;
    check_scope_texts(said)?;
    check_params(said)?;
    for (field, pointers) in [("account_id", &said.account_id), ("account_name", &said.account_name)] {
        let is_short = |pointer: &String| pointer.chars().count() <= CUSTOM_POINTER_CHARS_MAX;
        if pointers.len() > CUSTOM_POINTERS_MAX || !pointers.iter().all(is_short) {
            let why =
                format!("at most {CUSTOM_POINTERS_MAX} pointers of at most {CUSTOM_POINTER_CHARS_MAX} characters");
            return Err(Error::impossible(&format!("custom.{field}"), &why));
        }
    }
    if let Some(header) = &said.header {
        check_header_name("custom.header", header, INJECTION_HEADER_CHARS_MAX)?;
    }
    said.format.as_ref().map_or(Ok(()), |format| check_format("custom.format", format))
}

fn check_scope_texts(said: &CustomProvider) -> Result<(), Error> {
    const FIELD: &str = "custom.scope_texts";
    if said.scope_texts.len() > OAUTH_SCOPES_MAX {
        return Err(Error::impossible(FIELD, &format!("at most {OAUTH_SCOPES_MAX} scopes")));
    }
    for (scope, text) in &said.scope_texts {
        // Where lines say `scope=text`, such a scope would be read as another.
        if !is_scope(scope) || scope.contains('=') {
            return Err(Error::impossible(
                FIELD,
                "must name scopes as they are asked for, and none with an equals sign",
            ));
        }
        check_text(FIELD, text, CUSTOM_SCOPE_TEXT_CHARS_MAX).map_err(|wrong| wrong.detail("scope", scope.as_str()))?;
    }
    Ok(())
}

fn check_params(said: &CustomProvider) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::impossible("custom.authorize_params", why));
    if said.authorize_params.len() > CUSTOM_PARAMS_MAX {
        return refuse(&format!("at most {CUSTOM_PARAMS_MAX} parameters"));
    }
    let is_short =
        |text: &String| text.chars().count() <= CUSTOM_PARAM_CHARS_MAX && !text.chars().any(char::is_control);
    match said.authorize_params.iter().all(|(name, value)| !name.is_empty() && is_short(name) && is_short(value)) {
        true => Ok(()),
        false => refuse(&format!(
            "names and values have at most {CUSTOM_PARAM_CHARS_MAX} characters, none of them a control character; no name is empty"
        )),
    }
}

impl Provider {
    /// Origins of what is sent a client secret or a token of an account's, beside the hosts of its API.
    pub fn origins(&self) -> BTreeSet<String> {
        let urls = [
            Some(&self.token.url),
            self.exchange.as_ref().map(|exchange| &exchange.url),
            self.refresh.url.as_ref(),
            self.revoke.as_ref().map(|revoke| &revoke.url),
            self.identity.url.as_ref(),
        ];
        let origin = |url: &String| Some(Url::parse(url).ok()?.origin().ascii_serialization());
        urls.into_iter().flatten().filter_map(origin).collect()
    }
}

#[cfg(test)]
mod tests {
    use grantd_wire::Code;

    use super::*;

    #[test]
    fn an_id_is_plain_and_neither_the_catalogues_nor_a_rows() {
        let longest = "a".repeat(SLUG_CHARS_MAX);
        for id in ["a", "acme-2", &longest] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        let longer = "a".repeat(SLUG_CHARS_MAX + 1);
        for id in ["", "A", "a_b", "-a", "ä", CUSTOM, "google", "0199c0de-0000-7000-8000-00000000beef", &longer] {
            assert_eq!(check_id(id).unwrap_err().code, Code::InvalidValue, "{id}");
        }
    }

    #[test]
    fn every_bound_holds_at_it_and_one_past() {
        let texts = |count: usize, chars: usize| vec!["/".repeat(chars); count];
        let url = |chars: usize| Some(format!("https://id.example.com/{}", "a".repeat(chars - 23)));
        let params = |count: usize, chars: usize| {
            (0..count).map(|n| (format!("p{n}"), "v".repeat(chars))).collect::<std::collections::BTreeMap<_, _>>()
        };
        let of = CustomProvider::default;
        let check = |at: CustomProvider, past: CustomProvider, field: &str| {
            assert!(check_custom(&at).is_ok(), "{field}");
            let refused = check_custom(&past).unwrap_err();
            assert!(refused.message.starts_with(&format!("`custom.{field}")), "{}", refused.message);
        };
        let (at, past) = (url(CUSTOM_URL_CHARS_MAX), url(CUSTOM_URL_CHARS_MAX + 1));
        check(CustomProvider { issuer: at.clone(), ..of() }, CustomProvider { issuer: past.clone(), ..of() }, "issuer");
        check(CustomProvider { token_url: at, ..of() }, CustomProvider { token_url: past, ..of() }, "token_url");
        check(
            CustomProvider { scopes: texts(OAUTH_SCOPES_MAX, OAUTH_SCOPE_CHARS_MAX), ..of() },
            CustomProvider { scopes: texts(OAUTH_SCOPES_MAX + 1, 1), ..of() },
            "scopes",
        );
        check(of(), CustomProvider { scopes: texts(1, OAUTH_SCOPE_CHARS_MAX + 1), ..of() }, "scopes[0]");
        check(
            CustomProvider { authorize_params: params(CUSTOM_PARAMS_MAX, CUSTOM_PARAM_CHARS_MAX), ..of() },
            CustomProvider { authorize_params: params(CUSTOM_PARAMS_MAX + 1, 1), ..of() },
            "authorize_params",
        );
        check(
            CustomProvider { scope_texts: params(OAUTH_SCOPES_MAX, CUSTOM_SCOPE_TEXT_CHARS_MAX), ..of() },
            CustomProvider { scope_texts: params(OAUTH_SCOPES_MAX + 1, 1), ..of() },
            "scope_texts",
        );
        let past = CustomProvider { scope_texts: params(1, CUSTOM_SCOPE_TEXT_CHARS_MAX + 1), ..of() };
        check(of(), past, "scope_texts");
        let past = CustomProvider { authorize_params: params(1, CUSTOM_PARAM_CHARS_MAX + 1), ..of() };
        check(of(), past, "authorize_params");
        check(
            CustomProvider { account_id: texts(CUSTOM_POINTERS_MAX, CUSTOM_POINTER_CHARS_MAX), ..of() },
            CustomProvider { account_id: texts(CUSTOM_POINTERS_MAX + 1, 1), ..of() },
            "account_id",
        );
        check(of(), CustomProvider { account_name: texts(1, CUSTOM_POINTER_CHARS_MAX + 1), ..of() }, "account_name");
    }

    #[test]
    fn what_could_not_be_called_or_sent_is_refused() {
        let tells = |scope: &str, text: &str| CustomProvider {
            scope_texts: std::collections::BTreeMap::from([(scope.to_owned(), text.to_owned())]),
            ..Default::default()
        };
        for (said, field) in [
            (CustomProvider { token_url: Some("https:id.example.com".to_owned()), ..Default::default() }, "token_url"),
            (CustomProvider { userinfo_url: Some("ftp://x/".to_owned()), ..Default::default() }, "userinfo_url"),
            (CustomProvider { header: Some("Host".to_owned()), ..Default::default() }, "header"),
            (tells("two words", "Read"), "scope_texts"),
            (tells("a=b", "Read"), "scope_texts"),
            (tells("read", ""), "scope_texts"),
            (tells("read", "Read\nSend money"), "scope_texts"),
            (CustomProvider { format: Some("Bearer".to_owned()), ..Default::default() }, "format"),
            (CustomProvider { format: Some("{token}\n".to_owned()), ..Default::default() }, "format"),
        ] {
            let refused = check_custom(&said).unwrap_err();
            assert_eq!(refused.details["field"], format!("custom.{field}"), "{}", refused.message);
        }
    }

    #[test]
    fn origins_are_of_all_that_gets_a_secret() {
        let google = find("google").unwrap().origins();
        assert!(google.contains("https://oauth2.googleapis.com"), "{google:?}");
        assert!(!google.contains("https://accounts.google.com"), "the browser goes there: {google:?}");
        assert_eq!(find("salesforce").unwrap().in_environment("sandbox").map(|p| p.origins().len()), Some(1));
    }
}
