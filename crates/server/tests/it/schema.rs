//! What the official client accepts of an answer, written down from its side. A violation would be an exception there.

use serde_json::Value;

const TOKEN_FIELDS: [&str; 13] = [
    "access_token",
    "token_type",
    "grant_id",
    "provider_id",
    "expires_in",
    "expires_at",
    "scopes",
    "token_generation",
    "scope_mismatch",
    "injection_header",
    "injection_format",
    "additional_credentials",
    "additional_injections",
];

const FORBIDDEN: [&str; 22] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "cookie",
    "set-cookie",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-http-method-override",
    "x-method-override",
    "www-authenticate",
    "strict-transport-security",
    "content-security-policy",
];

fn has_line_end(text: &str) -> bool {
    text.contains(['\r', '\n', '\0'])
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
        })
}

fn is_name(text: &str, marks: &str, chars_max: usize) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
        && text.len() <= chars_max
}

/// Asserts that no client refuses this answer of `/sdk/token`, and that every field it knows is there.
#[track_caller]
pub fn check_token_answer(json: &Value) {
    let object = json.as_object().unwrap();
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    assert!(TOKEN_FIELDS.iter().all(|field| names.contains(field)) && names.len() == TOKEN_FIELDS.len(), "{names:?}");
    let text = |field: &str| json[field].as_str().unwrap_or_else(|| panic!("{field} is no text"));
    assert!(!text("access_token").is_empty() && !has_line_end(text("access_token")));
    assert!(is_uuid(text("grant_id")) && is_uuid(text("token_generation")));
    let provider = text("provider_id");
    assert!(provider.chars().count() <= 255 && provider.trim() == provider && !provider.chars().any(char::is_control));
    assert!(!text("token_type").trim().is_empty() && text("token_type").len() <= 255);
    assert!(json["expires_in"].is_null() || json["expires_in"].as_u64().is_some());
    assert!(json["expires_at"].is_null() || text("expires_at").ends_with('Z'));
    let scopes = json["scopes"].as_array().unwrap();
    assert!(scopes.iter().all(|s| s.as_str().is_some_and(|s| !s.is_empty() && s.trim() == s)));
    assert!(json["scope_mismatch"].is_boolean());
    let header = text("injection_header");
    assert!(is_name(header, "-", 60) && !FORBIDDEN.contains(&&*header.to_ascii_lowercase()), "{header}");
    let format = text("injection_format");
    assert!(format.chars().count() <= 200 && !has_line_end(format), "{format}");
    assert!(format.contains("{token}") || format.starts_with("AWS4-HMAC-SHA256"), "{format}");
    check_credentials(&json["additional_credentials"]);
    check_injections(&json["additional_injections"]);
}

#[track_caller]
fn check_credentials(credentials: &Value) {
    let Some(credentials) = credentials.as_object() else {
        return assert!(credentials.is_null());
    };
    assert!(credentials.len() <= 10);
    for (name, value) in credentials {
        let value = value.as_str().unwrap();
        assert!(name.chars().count() <= 50, "{name}");
        assert!(!value.trim().is_empty() && value.chars().count() <= 8192 && !has_line_end(value), "{name}");
    }
}

#[track_caller]
fn check_injections(injections: &Value) {
    let Some(injections) = injections.as_array() else {
        return assert!(injections.is_null());
    };
    assert!(injections.len() <= 10);
    for injection in injections {
        let (target, key) = (injection["target"].as_str().unwrap(), injection["key"].as_str().unwrap());
        let source = injection["value_source"].as_str().unwrap();
        assert_eq!(injection.as_object().unwrap().len(), 3, "{injection}");
        assert!(["header", "query_param"].contains(&target) && is_name(key, "-_", 100), "{injection}");
        assert!(target != "header" || !FORBIDDEN.contains(&&*key.to_ascii_lowercase()), "{injection}");
        let field = source.strip_prefix("additional_credentials.");
        let is_field = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        assert!(source.len() <= 100 && (source == "token" || field.is_some_and(is_field)), "{injection}");
    }
}
