//! Puts a released credential where the provider looks for it.
//!
//! Invariant: no error here quotes the vault's answer, which holds the credential.

use std::collections::BTreeMap;
use std::time::SystemTime;

use grantd_wire::ids::GrantId;
use grantd_wire::limits::{
    INJECTION_FORMAT_CHARS_MAX, INJECTION_HEADER_CHARS_MAX, INJECTION_KEY_CHARS_MAX, INJECTIONS_MAX,
    SECRET_FIELD_BYTES_MAX, SECRET_FIELD_NAME_CHARS_MAX, SECRET_FIELDS_MAX,
};
use grantd_wire::sdk::{
    INJECTION_HEADERS_FORBIDDEN, INJECTION_SIGV4, INJECTION_TOKEN, Injection, InjectionTarget, TokenAnswer,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::sigv4;

/// Everything but letters, digits and `- . _ ~`.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes everything but unreserved characters.
pub fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, STRICT).to_string()
}

/// A provider call, complete but for its credential.
pub struct Call {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: bytes::Bytes,
}

impl Call {
    /// Appends a query parameter.
    pub fn add_query(&mut self, name: &str, value: &str) {
        let mut query = self.url.query().map(str::to_owned).unwrap_or_default();
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(&percent_encode(name));
        query.push('=');
        query.push_str(&percent_encode(value));
        self.url.set_query(Some(&query));
    }

    /// Sets a query parameter in place of others of its name.
    fn set_query(&mut self, name: &str, value: &str) {
        let is_other = |part: &&str| form_urlencoded::parse(part.as_bytes()).next().is_none_or(|(n, _)| n != name);
        let rest: Vec<_> = self.url.query().unwrap_or_default().split('&').filter(is_other).collect();
        let rest = rest.join("&");
        self.url.set_query(if rest.is_empty() { None } else { Some(&rest) });
        self.add_query(name, value);
    }
}

/// Checks the vault's answer against the contract. The error says what is wrong and quotes nothing.
pub fn check(answer: &TokenAnswer) -> Result<(), &'static str> {
    let one_line = |text: &str| !text.contains(['\r', '\n', '\0']);
    if answer.access_token.is_empty() || !one_line(&answer.access_token) {
        return Err("access_token is empty or holds a line break");
    }
    if GrantId::parse(&answer.grant_id).is_none() {
        return Err("grant_id is not a lower-case dashed UUID");
    }
    let header = &answer.injection_header;
    let header_form = header.starts_with(|c: char| c.is_ascii_alphabetic())
        && header.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !header_form || header.len() > INJECTION_HEADER_CHARS_MAX || is_forbidden(header) {
        return Err("injection_header is not a header a credential may go into");
    }
    let format = &answer.injection_format;
    let has_place = format.contains(INJECTION_TOKEN) || format.starts_with(INJECTION_SIGV4);
    if !has_place || !one_line(format) || format.chars().count() > INJECTION_FORMAT_CHARS_MAX {
        return Err("injection_format has no place for the credential");
    }
    let fields = answer.additional_credentials.iter().flatten();
    if answer.additional_credentials.as_ref().is_some_and(|f| f.len() > SECRET_FIELDS_MAX) {
        return Err("additional_credentials has too many entries");
    }
    for (name, value) in fields {
        if name.chars().count() > SECRET_FIELD_NAME_CHARS_MAX
            || value.trim().is_empty()
            || value.len() > SECRET_FIELD_BYTES_MAX
            || !one_line(value)
        {
            return Err("additional_credentials holds an impossible entry");
        }
    }
    let injections = answer.additional_injections.as_deref().unwrap_or_default();
    if injections.len() > INJECTIONS_MAX || !injections.iter().all(is_possible) {
        return Err("additional_injections holds an impossible entry, or too many");
    }
    Ok(())
}

/// Why a credential does not go into a call.
#[derive(PartialEq, Eq, Debug)]
pub enum Refused {
    /// The vault's answer breaks the contract.
    Answer(&'static str),
    /// The URL says less than is needed, and the credential no more.
    Url(&'static str),
}

impl From<&'static str> for Refused {
    fn from(why: &'static str) -> Self {
        Self::Answer(why)
    }
}

/// Puts the credential of a checked answer into the call; what it sets replaces what the caller set.
///
/// Answers the names of the headers it set. With AWS signing, nothing of `call` may change afterwards.
pub fn inject(call: &mut Call, answer: &TokenAnswer, now: SystemTime) -> Result<Vec<HeaderName>, Refused> {
    if answer.injection_format.starts_with(INJECTION_SIGV4) {
        let fields = answer.additional_credentials.as_ref().ok_or("an AWS credential without its secret key")?;
        return sign_aws(call, &answer.access_token, fields, now);
    }
    let mut set = Vec::new();
    let value = answer.injection_format.replacen(INJECTION_TOKEN, &answer.access_token, 1);
    set.push(set_header(&mut call.headers, &answer.injection_header, &value)?);
    for injection in answer.additional_injections.iter().flatten() {
        let Some(value) = source_value(answer, &injection.value_source).filter(|v| !v.is_empty()) else { continue };
        match injection.target {
            InjectionTarget::Header => set.push(set_header(&mut call.headers, &injection.key, value)?),
            InjectionTarget::QueryParam => call.set_query(&injection.key, value),
        }
    }
    Ok(set)
}

/// The values of an answer that nobody else may see.
pub fn secrets(answer: &TokenAnswer) -> Vec<&str> {
    let fields = answer.additional_credentials.iter().flatten();
    let fields = fields.filter(|(name, _)| !matches!(&***name, "region" | "service")).map(|(_, value)| &**value);
    std::iter::once(&*answer.access_token).chain(fields).collect()
}

fn sign_aws(
    call: &mut Call,
    access_key_id: &str,
    fields: &BTreeMap<String, String>,
    now: SystemTime,
) -> Result<Vec<HeaderName>, Refused> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let host = call.url.host_str().unwrap_or_default();
    let secret = field("secret_key").ok_or("an AWS credential without its secret key")?;
    let seen = sigv4::scope_of_host(host);
    let supplied = |name: &'static str| field(name).map(str::to_owned);
    let region = seen.region.or_else(|| supplied("region")).ok_or(Refused::Url(
        "the host does not name an AWS region and the credential has none: store its `region` field",
    ))?;
    let service = seen.service.or_else(|| supplied("service")).ok_or(Refused::Url(
        "the host does not name an AWS service and the credential has none: store its `service` field",
    ))?;
    let credential = sigv4::Credential {
        access_key_id,
        secret,
        session_token: field("session_token"),
        region: &region,
        service: &service,
    };
    let signed = sigv4::headers(&credential, &call.method, &call.url, &call.body, now)?;
    // A token header of the caller's would be unsigned, and not this credential's.
    call.headers.remove("x-amz-security-token");
    let names = signed.keys().cloned().collect();
    call.headers.extend(signed);
    Ok(names)
}

fn set_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<HeaderName, &'static str> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "an injection names an impossible header")?;
    let mut value = HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| "the credential holds a character no header can carry")?;
    value.set_sensitive(true);
    headers.insert(name.clone(), value);
    Ok(name)
}

fn source_value<'a>(answer: &'a TokenAnswer, source: &str) -> Option<&'a str> {
    match source.strip_prefix("additional_credentials.") {
        Some(name) => answer.additional_credentials.as_ref()?.get(name).map(String::as_str),
        None => (source == "token").then_some(&*answer.access_token),
    }
}

fn is_possible(injection: &Injection) -> bool {
    let key = &injection.key;
    let key_form = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.len() <= INJECTION_KEY_CHARS_MAX
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let source = &*injection.value_source;
    let source_form = source == "token"
        || source.strip_prefix("additional_credentials.").is_some_and(|name| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        });
    let allowed = injection.target == InjectionTarget::QueryParam || !is_forbidden(key);
    key_form && source_form && source.len() <= INJECTION_KEY_CHARS_MAX && allowed
}

fn is_forbidden(header: &str) -> bool {
    INJECTION_HEADERS_FORBIDDEN.iter().any(|f| f.eq_ignore_ascii_case(header))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::time::{Duration, UNIX_EPOCH};

    fn answer(fields: &Value) -> TokenAnswer {
        let mut all = json!({"access_token": "tok-1", "grant_id": "0199c0de-0000-7000-8000-00000000beef"});
        all.as_object_mut().unwrap().append(&mut fields.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn call(url: &str) -> Call {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer of-the-caller"));
        headers.insert("x-kept", HeaderValue::from_static("kept"));
        Call { method: Method::GET, url: url.parse().unwrap(), headers, body: bytes::Bytes::new() }
    }

    fn injected(url: &str, fields: &Value) -> (Call, Vec<HeaderName>) {
        let (mut call, answer) = (call(url), answer(fields));
        check(&answer).unwrap();
        let set = inject(&mut call, &answer, UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
        (call, set)
    }

    #[test]
    fn a_bearer_token_replaces_the_callers_header() {
        let (call, set) = injected("https://a.example/x", &json!({}));
        assert_eq!(call.headers["authorization"], "Bearer tok-1");
        assert_eq!(call.headers["x-kept"], "kept");
        assert_eq!(set, ["authorization"]);
        assert!(!format!("{:?}", call.headers).contains("tok-1"));
    }

    #[test]
    fn only_the_first_place_is_filled() {
        let fields = json!({"injection_header": "X-Api-Key", "injection_format": "k={token};{token}"});
        let (call, _) = injected("https://a.example/x", &fields);
        assert_eq!(call.headers["x-api-key"], "k=tok-1;{token}");
        assert_eq!(call.headers["authorization"], "Bearer of-the-caller");
    }

    #[test]
    fn further_values_go_into_headers_and_query() {
        let fields = json!({
            "additional_credentials": {"account": "a&b c", "unused": "u"},
            "additional_injections": [
                {"target": "header", "key": "X-Account", "value_source": "additional_credentials.account"},
                {"target": "query_param", "key": "key", "value_source": "token"},
                {"target": "query_param", "key": "acct", "value_source": "additional_credentials.account"},
                {"target": "query_param", "key": "gone", "value_source": "additional_credentials.missing"},
            ],
        });
        let (call, set) = injected("https://a.example/x?key=mine&k%65y=too&a=1", &fields);
        assert_eq!(call.headers["x-account"], "a&b c");
        assert_eq!(call.url.as_str(), "https://a.example/x?a=1&key=tok-1&acct=a%26b%20c");
        assert_eq!(set, ["authorization", "x-account"]);
    }

    #[test]
    fn aws_signing_takes_the_place_of_all_else() {
        let fields = json!({
            "injection_format": "AWS4-HMAC-SHA256",
            "additional_credentials": {"secret_key": "sk-secret", "session_token": "st", "region": "x", "service": "y"},
            "additional_injections": [{"target": "header", "key": "X-Other", "value_source": "token"}],
        });
        let (call, set) = injected("https://sqs.eu-west-1.amazonaws.com/1/q", &fields);
        let authorization = call.headers["authorization"].to_str().unwrap();
        assert!(
            authorization.starts_with(
                "AWS4-HMAC-SHA256 Credential=tok-1/20231114/eu-west-1/sqs/aws4_request, \
                 SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature="
            ),
            "{authorization}"
        );
        assert!(!call.headers.contains_key("x-other"));
        assert_eq!(set.len(), 4);
    }

    #[test]
    fn aws_signing_says_what_is_missing() {
        let aws = json!({"injection_format": "AWS4-HMAC-SHA256"});
        assert!(inject(&mut call("https://a.example"), &answer(&aws), UNIX_EPOCH).is_err());
        let aws = json!({"injection_format": "AWS4-HMAC-SHA256", "additional_credentials": {"region": "r"}});
        assert!(inject(&mut call("https://sqs.eu-west-1.amazonaws.com"), &answer(&aws), UNIX_EPOCH).is_err());
        let aws = json!({"injection_format": "AWS4-HMAC-SHA256", "additional_credentials": {"secret_key": "s"}});
        let why = inject(&mut call("https://minio.example"), &answer(&aws), UNIX_EPOCH).unwrap_err();
        assert!(matches!(why, Refused::Url(why) if why.contains("`region`")), "{why:?}");
    }

    #[test]
    fn answers_that_break_the_contract_are_refused() {
        for fields in [
            json!({"access_token": ""}),
            json!({"access_token": "a\nb"}),
            json!({"grant_id": "0199C0DE-0000-7000-8000-00000000BEEF"}),
            json!({"injection_header": "Cookie"}),
            json!({"injection_header": "1x"}),
            json!({"injection_header": "x".repeat(61)}),
            json!({"injection_format": "Bearer"}),
            json!({"injection_format": "{token}\r\nX: y"}),
            json!({"additional_credentials": {"a": " "}}),
            json!({"additional_credentials": {"a": "x\ny"}}),
            json!({"additional_injections": [{"target": "header", "key": "Host", "value_source": "token"}]}),
            json!({"additional_injections": [{"target": "header", "key": "X", "value_source": "password"}]}),
            json!({"additional_injections": [{"target": "query_param", "key": "a b", "value_source": "token"}]}),
        ] {
            assert!(check(&answer(&fields)).is_err(), "{fields}");
        }
    }
}
