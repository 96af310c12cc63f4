//! How a managed secret is sent: header, value format, further injections; and which values can be sent at all.
//!
//! Never: an answer built from a stored secret that the official client refuses, or sends other than it is written here. Its rules are
//! checked when a secret is stored; what its HTTP stack refuses besides (a header value that is no printable ASCII, or has
//! spaces at its edges) is refused as well. No error carries a value, nor a name that is not well formed.
//!
//! The client replaces the first `{token}` of the format by `access_token` and encodes nothing. So `access_token` is, by type:
//!
//! | type | stored | handed out |
//! | --- | --- | --- |
//! | `bearer_token`, `header_key` | the value | the value |
//! | `basic_auth` | value `user:password` | its base64 |
//! | | value = password, field `username` | base64 of `username:value` |
//! | | value = user name, field `password` | base64 of `value:password` |
//! | | value without a colon, being the base64 of `user:password` | the value |
//! | `aws_sig_v4` | value = access key id, field `secret_key` | the value; the client signs with the fields |
//!
//! Base64 has no colon, so the first and the last of the `basic_auth` forms cannot be mistaken for each other. The further
//! fields travel as `additional_credentials`, all of them.

use std::collections::BTreeMap;
use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grantd_wire::Error;
use grantd_wire::api::{CredentialType, SecretCreate};
use grantd_wire::limits::{
    INJECTION_FORMAT_CHARS_MAX, INJECTION_HEADER_CHARS_MAX, INJECTION_KEY_CHARS_MAX, INJECTIONS_MAX,
    SECRET_FIELD_BYTES_MAX, SECRET_FIELD_NAME_CHARS_MAX, SECRET_FIELDS_MAX, SECRET_VALUE_BYTES_MAX,
};
use grantd_wire::sdk::{INJECTION_HEADERS_FORBIDDEN, INJECTION_SIGV4, INJECTION_TOKEN, Injection, InjectionTarget};
use zeroize::Zeroizing;

use crate::destination::Rule;

/// Fields of `aws_sig_v4` the client signs with.
const SIGV4_FIELDS: [&str; 4] = ["secret_key", "session_token", "region", "service"];
/// Begins a value source that is a field.
pub(crate) const FIELD_SOURCE: &str = "additional_credentials.";

/// How a secret is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub header: String,
    pub format: String,
    pub injections: Vec<Injection>,
}

/// What is handed out as `access_token`. No `Debug`, no `Display`.
pub enum AccessToken<'a> {
    Stored(&'a str),
    Encoded(Zeroizing<String>),
}

impl Deref for AccessToken<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Stored(value) => value,
            Self::Encoded(value) => value,
        }
    }
}

/// The stored value cannot be handed out as its type says. It was checked when stored, so this is a damaged row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the stored value is not what its credential type needs")]
pub struct Unsendable;

/// Decides how a new secret is sent, and refuses what could not be sent. The error names the field.
pub fn plan(create: &SecretCreate) -> Result<Plan, Error> {
    let credential_type = create.credential_type.unwrap_or(CredentialType::BearerToken);
    let (header, format) = match credential_type {
        CredentialType::BearerToken => ("Authorization", "Bearer {token}"),
        CredentialType::HeaderKey => ("X-API-Key", INJECTION_TOKEN),
        CredentialType::BasicAuth => ("Authorization", "Basic {token}"),
        CredentialType::AwsSigV4 => ("Authorization", INJECTION_SIGV4),
    };
    let plan = Plan {
        header: create.injection_header.clone().unwrap_or_else(|| header.to_owned()),
        format: create.injection_format.clone().unwrap_or_else(|| format.to_owned()),
        injections: create.injections.clone(),
    };
    if credential_type == CredentialType::AwsSigV4 {
        if !plan.header.eq_ignore_ascii_case(header) {
            return Err(Error::impossible("injection_header", "aws_sig_v4 signs into `Authorization`; leave it out"));
        }
        if plan.format != format {
            return Err(Error::impossible("injection_format", "aws_sig_v4 has its own format; leave it out"));
        }
        if !plan.injections.is_empty() {
            return Err(Error::impossible("injections", "aws_sig_v4 signs the request and injects nothing further"));
        }
    } else {
        check_header_name("injection_header", &plan.header, INJECTION_HEADER_CHARS_MAX)?;
        check_format("injection_format", &plan.format)?;
        check_injections(&plan)?;
    }
    check_values(credential_type, &plan, &create.value, &create.fields)?;
    Ok(plan)
}

/// Refuses an AWS secret that the client could not sign with: it learns region and service from names of AWS's own hosts, and
/// for any other host both must be stored.
pub fn check_signable(
    credential_type: CredentialType,
    fields: &[&str],
    hosts: &[Rule],
    any_host: bool,
) -> Result<(), Error> {
    let missing = ["region", "service"].into_iter().find(|name| !fields.contains(name));
    match missing {
        Some(name) if credential_type == CredentialType::AwsSigV4 && (any_host || !hosts.iter().all(is_aws)) => {
            Err(Error::impossible(
                &field_path(name),
                "is missing: only for hosts below amazonaws.com can it be left to the host's name",
            ))
        }
        _ => Ok(()),
    }
}

fn is_aws(rule: &Rule) -> bool {
    let text = rule.to_string();
    let host = text.split(['/', ':']).next().unwrap_or_default();
    [".amazonaws.com", ".amazonaws.com.cn"].iter().any(|domain| host.ends_with(domain))
}

/// Refuses a value and fields that `plan` could not send; also on rotation, with the fields that will then be stored.
pub fn check_values(
    credential_type: CredentialType,
    plan: &Plan,
    value: &str,
    fields: &BTreeMap<String, String>,
) -> Result<(), Error> {
    check_text("value", value, SECRET_VALUE_BYTES_MAX)?;
    if fields.len() > SECRET_FIELDS_MAX {
        return Err(Error::impossible("fields", &format!("at most {SECRET_FIELDS_MAX} fields")));
    }
    for (name, value) in fields {
        if !is_field_name(name) {
            return Err(Error::impossible(
                "fields",
                &format!(
                    "names are a lower-case letter, then lower-case letters, digits and `_`, at most {SECRET_FIELD_NAME_CHARS_MAX} characters"
                ),
            ));
        }
        check_text(&field_path(name), value, SECRET_FIELD_BYTES_MAX)?;
    }
    for (index, injection) in plan.injections.iter().enumerate() {
        let Some(name) = injection.value_source.strip_prefix(FIELD_SOURCE) else { continue };
        let Some(value) = fields.get(name) else {
            let why = "names no stored field; add the field, or use `token`";
            return Err(Error::impossible(&format!("injections[{index}].value_source"), why));
        };
        if injection.target == InjectionTarget::Header {
            check_header_value(&field_path(name), value)?;
        }
    }
    match credential_type {
        CredentialType::BearerToken | CredentialType::HeaderKey => check_header_value("value", value),
        CredentialType::BasicAuth => check_basic(value, fields),
        CredentialType::AwsSigV4 => check_sigv4(value, fields),
    }
}

/// What is handed out as `access_token`; the client puts it in place of `{token}`.
pub fn access_token<'a>(
    credential_type: CredentialType,
    value: &'a str,
    fields: &BTreeMap<String, String>,
) -> Result<AccessToken<'a>, Unsendable> {
    if credential_type != CredentialType::BasicAuth {
        return Ok(AccessToken::Stored(value));
    }
    let pair = match (fields.get("username"), fields.get("password")) {
        (None, None) if value.contains(':') => Zeroizing::new(value.to_owned()),
        (None, None) if is_encoded_pair(value) => return Ok(AccessToken::Stored(value)),
        (Some(username), None) if !username.contains(':') => pair(username, value),
        (None, Some(password)) if !value.contains(':') => pair(value, password),
        _ => return Err(Unsendable),
    };
    Ok(AccessToken::Encoded(Zeroizing::new(STANDARD.encode(pair.as_bytes()))))
}

/// What a further injection sends; none if the row lacks the field it names.
pub fn source<'a>(injection: &Injection, token: &'a str, fields: &'a BTreeMap<String, String>) -> Option<&'a str> {
    match injection.value_source.strip_prefix(FIELD_SOURCE) {
        Some(name) => fields.get(name).map(String::as_str),
        None => Some(token),
    }
}

/// One allocation of the right size, so that no piece of it is left behind by growing.
fn pair(username: &str, password: &str) -> Zeroizing<String> {
    let mut pair = Zeroizing::new(String::with_capacity(username.len() + 1 + password.len()));
    pair.push_str(username);
    pair.push(':');
    pair.push_str(password);
    pair
}

fn is_encoded_pair(value: &str) -> bool {
    STANDARD.decode(value).is_ok_and(|pair| Zeroizing::new(pair).contains(&b':'))
}

fn check_basic(value: &str, fields: &BTreeMap<String, String>) -> Result<(), Error> {
    let (username, password) = (fields.get("username"), fields.get("password"));
    if username.is_some() && password.is_some() {
        return Err(Error::impossible(
            "fields",
            "basic_auth takes `username` or `password`; the value is the other one",
        ));
    }
    if username.is_some_and(|username| username.contains(':')) {
        return Err(Error::impossible("fields.username", "a user name cannot contain a colon"));
    }
    if password.is_some() && value.contains(':') {
        return Err(Error::impossible(
            "value",
            "is the user name beside the field `password`, and cannot contain a colon",
        ));
    }
    access_token(CredentialType::BasicAuth, value, fields).map(|_| ()).map_err(|Unsendable| {
        Error::impossible("value", "must be `user:password`, its base64, or the password beside a field `username`")
    })
}

fn check_sigv4(value: &str, fields: &BTreeMap<String, String>) -> Result<(), Error> {
    check_header_value("value", value)?;
    if !fields.contains_key("secret_key") {
        return Err(Error::impossible(
            "fields.secret_key",
            "is required: the value is the access key id, this its secret",
        ));
    }
    for (name, value) in fields {
        if !SIGV4_FIELDS.contains(&name.as_str()) {
            return Err(Error::impossible(
                &field_path(name),
                "aws_sig_v4 takes secret_key, session_token, region, service",
            ));
        }
        if name != "secret_key" {
            check_header_value(&field_path(name), value)?;
        }
    }
    Ok(())
}

pub(crate) fn check_format(path: &str, format: &str) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::impossible(path, why));
    if format.chars().count() > INJECTION_FORMAT_CHARS_MAX {
        return refuse(&format!("at most {INJECTION_FORMAT_CHARS_MAX} characters"));
    }
    if format.starts_with(INJECTION_SIGV4) {
        return refuse("use credential_type aws_sig_v4 to sign");
    }
    match format.matches(INJECTION_TOKEN).count() {
        0 => return refuse("must contain `{token}`, in place of which the value is sent"),
        1 => {}
        _ => return refuse("must contain `{token}` once: clients replace the first one only"),
    }
    if is_header_value(format) { Ok(()) } else { refuse("must be printable ASCII without spaces at its edges") }
}

fn check_injections(plan: &Plan) -> Result<(), Error> {
    if plan.injections.len() > INJECTIONS_MAX {
        return Err(Error::impossible("injections", &format!("at most {INJECTIONS_MAX} injections")));
    }
    for (index, injection) in plan.injections.iter().enumerate() {
        let key_path = format!("injections[{index}].key");
        match injection.target {
            InjectionTarget::Header => check_header_name(&key_path, &injection.key, INJECTION_KEY_CHARS_MAX)?,
            InjectionTarget::QueryParam => check_key(&key_path, &injection.key, INJECTION_KEY_CHARS_MAX, "-_")?,
        }
        let is_main = injection.target == InjectionTarget::Header && injection.key.eq_ignore_ascii_case(&plan.header);
        if is_main || plan.injections[..index].iter().any(|earlier| is_same_place(earlier, injection)) {
            return Err(Error::impossible(&key_path, "is set twice; the later value would replace the earlier one"));
        }
        let source = injection.value_source.as_str();
        if source != "token" && !source.strip_prefix(FIELD_SOURCE).is_some_and(is_field_name) {
            let why = "must be `token`, or `additional_credentials.` and the name of a field";
            return Err(Error::impossible(&format!("injections[{index}].value_source"), why));
        }
    }
    Ok(())
}

fn is_same_place(one: &Injection, other: &Injection) -> bool {
    one.target == other.target
        && match one.target {
            InjectionTarget::Header => one.key.eq_ignore_ascii_case(&other.key),
            InjectionTarget::QueryParam => one.key == other.key,
        }
}

pub(crate) fn check_header_name(path: &str, name: &str, chars_max: usize) -> Result<(), Error> {
    // The main header's name has no `_`; the keys of further injections may.
    check_key(path, name, chars_max, if chars_max == INJECTION_HEADER_CHARS_MAX { "-" } else { "-_" })?;
    if INJECTION_HEADERS_FORBIDDEN.iter().any(|forbidden| forbidden.eq_ignore_ascii_case(name)) {
        return Err(Error::impossible(path, "is a header that a credential may not set"));
    }
    Ok(())
}

fn check_key(path: &str, key: &str, chars_max: usize, marks: &str) -> Result<(), Error> {
    let is_formed = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
        && key.len() <= chars_max;
    if is_formed {
        return Ok(());
    }
    let marks: Vec<String> = marks.chars().map(|mark| format!("`{mark}`")).collect();
    let marks = marks.join(" and ");
    Err(Error::impossible(
        path,
        &format!("must be a letter, then letters, digits and {marks}, at most {chars_max} characters"),
    ))
}

fn check_text(path: &str, value: &str, bytes_max: usize) -> Result<(), Error> {
    if is_blank(value) {
        return Err(Error::impossible(path, "must not be empty or blank"));
    }
    if value.len() > bytes_max {
        return Err(Error::impossible(path, &format!("at most {bytes_max} bytes")));
    }
    if value.contains(['\r', '\n', '\0']) {
        return Err(Error::impossible(path, "must not contain line ends or NUL"));
    }
    Ok(())
}

fn check_header_value(path: &str, value: &str) -> Result<(), Error> {
    if is_header_value(value) {
        return Ok(());
    }
    Err(Error::impossible(path, "is sent in a header: it must be printable ASCII without spaces at its edges"))
}

fn is_header_value(value: &str) -> bool {
    value.bytes().all(|c| (b' '..=b'~').contains(&c)) && value.trim() == value
}

/// As the client's language sees it: its white space includes four separators that Rust's does not.
fn is_blank(value: &str) -> bool {
    value.chars().all(|c| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

fn is_field_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
        && name.len() <= SECRET_FIELD_NAME_CHARS_MAX
}

fn field_path(name: &str) -> String {
    format!("fields.{name}")
}

#[cfg(test)]
mod tests;
