//! Request signing: headers, the canonical target, the string to sign, the signature.
//!
//! Every signed request carries its key in `x-api-key` and an HMAC-SHA256 whose key is derived from that same text, so a
//! server needs only a one-way hash of keys at rest.

use std::borrow::Cow;

use aws_lc_rs::{digest, hmac};

/// The plaintext key.
pub const HEADER_KEY: &str = "x-api-key";
/// Unix time in whole seconds.
pub const HEADER_TIMESTAMP: &str = "x-alter-timestamp";
/// 32 lower-case hex characters, used once.
pub const HEADER_NONCE: &str = "x-alter-nonce";
/// Lower-case hex SHA-256 of the raw body.
pub const HEADER_CONTENT_SHA256: &str = "x-alter-content-sha256";
/// 64 lower-case hex characters.
pub const HEADER_SIGNATURE: &str = "x-alter-signature";
/// Equal to the signature; present exactly when an identity header is.
pub const HEADER_SIGNATURE_V2: &str = "x-alter-signature-v2";
/// Identity header: a label or an agent's UUID.
pub const HEADER_CALLER: &str = "x-alter-caller";
/// Identity header: `agent` or `service`.
pub const HEADER_CALLER_TYPE: &str = "x-alter-caller-type";
/// Identity header: the id the server gave the caller's label.
pub const HEADER_ACTOR_ID: &str = "x-alter-actor-id";
/// Identity header: JSON object of strings.
pub const HEADER_CONTEXT: &str = "x-alter-context";
/// Narrows the key's scopes for one request.
pub const HEADER_SCOPE_CONSTRAINTS: &str = "x-alter-scope-constraints";
/// Adds a rule to one request.
pub const HEADER_REQUEST_RULE: &str = "x-alter-request-rule";

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The bytes of exactly `N * 2` lower-case hex characters.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    let mut bytes = [0; N];
    if text.len() != N * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 is 32 bytes")
}

/// SHA-256 of the parts, one after another.
pub fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 is 32 bytes")
}

/// HMAC-SHA256 key derived from the key's text.
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// `HMAC-SHA256(key text, "alter-signing-v1")`.
    pub fn derive(api_key: &str) -> Self {
        let outer = hmac::Key::new(hmac::HMAC_SHA256, api_key.as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&outer, b"alter-signing-v1").as_ref()))
    }

    /// Signs the text as lower-case hex.
    pub fn sign(&self, text: &str) -> String {
        hex(hmac::sign(&self.0, text.as_bytes()).as_ref())
    }

    /// Whether `signature` (32 bytes) signs `text`; takes the same time either way.
    pub fn verify(&self, text: &str, signature: &[u8; 32]) -> bool {
        hmac::verify(&self.0, text.as_bytes(), signature).is_ok()
    }
}

/// What a signature covers. Header values as they travel; `""` and absent are the same.
#[derive(Clone, Copy, Default)]
pub struct ToSign<'a> {
    pub method: &'a str,
    /// From [`canonical_target`].
    pub target: &'a str,
    pub timestamp: &'a str,
    pub nonce: &'a str,
    pub content_sha256: &'a str,
    pub scope_constraints: &'a str,
    pub request_rule: &'a str,
    pub caller: &'a str,
    pub caller_type: &'a str,
    pub actor_id: &'a str,
    pub context: &'a str,
}

impl ToSign<'_> {
    /// Whether an identity header is present, so that `X-Alter-Signature-V2` must be too.
    pub fn has_identity(&self) -> bool {
        [self.caller, self.caller_type, self.actor_id, self.context].iter().any(|v| !v.is_empty())
    }

    /// The lines, joined by a single LF; the sixth is always there.
    pub fn text(&self) -> String {
        let mut text =
            [self.method, self.target, self.timestamp, self.nonce, self.content_sha256, self.scope_constraints]
                .join("\n");
        for (name, value) in [
            ("request-rule:", self.request_rule),
            ("caller:", self.caller),
            ("caller-type:", self.caller_type),
            ("actor-id:", self.actor_id),
            ("actor-context:", self.context),
        ] {
            if !value.is_empty() {
                text.push('\n');
                text.push_str(name);
                text.push_str(value);
            }
        }
        text
    }
}

/// Line 2 of the text to sign: the path decoded once, and the query decoded, sorted and encoded again.
///
/// `path` and `query` are raw, as on the wire, without a base path prefix. Invalid UTF-8 becomes U+FFFD.
pub fn canonical_target(path: &str, query: Option<&str>) -> String {
    let path: Cow<'_, str> = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let Some(query) = query.filter(|q| !q.is_empty()) else { return path.into_owned() };
    let mut pairs: Vec<_> = query
        .split('&')
        .filter(|part| !part.is_empty())
        .flat_map(|part| form_urlencoded::parse(part.as_bytes()))
        .collect();
    // Code point order is the order of UTF-8 bytes.
    pairs.sort();
    let mut target = path.into_owned();
    for (i, (name, value)) in pairs.iter().enumerate() {
        target.push(if i == 0 { '?' } else { '&' });
        form_encode(&mut target, name);
        target.push('=');
        form_encode(&mut target, value);
    }
    if pairs.is_empty() {
        target.push('?');
    }
    target
}

/// Form encoding: space as `+`; letters, digits and `_ . - ~` literal; all else as upper-case `%XX`.
fn form_encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => {
                out.push('%');
                out.push_str(&hex(&[byte]).to_ascii_uppercase());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl";

    fn known(method: &'static str, target: &str, body: &str, more: ToSign<'_>) -> String {
        let hash = hex(&sha256(body.as_bytes()));
        let to_sign = ToSign {
            method,
            target,
            timestamp: "1700000000",
            nonce: "00112233445566778899aabbccddeeff",
            content_sha256: &hash,
            ..more
        };
        SigningKey::derive(KEY).sign(&to_sign.text())
    }

    #[test]
    fn core_12_vector_a_plain() {
        let target = canonical_target("/sdk/grants/list", None);
        let signature = known("POST", &target, r#"{"limit":100,"offset":0}"#, ToSign::default());
        assert_eq!(signature, "be3956719e365d5c25c80edfafeb27e4611e91609a4dc6277af99078d757d736");
    }

    #[test]
    fn core_13_vector_b_encoded_path_and_sorted_query() {
        let path = "/sdk/provider-specs/oauth/a%2Fb%20c/operations";
        let wanted = "/sdk/provider-specs/oauth/a/b c/operations?limit=5&offset=0&search=x+y~%2A%C3%A9%2F";
        for query in ["limit=5&offset=0&search=x+y~%2A%C3%A9%2F", "search=x%20y~*%c3%a9/&&offset=0&limit=5"] {
            assert_eq!(canonical_target(path, Some(query)), wanted);
        }
        let signature = known("GET", wanted, "", ToSign::default());
        assert_eq!(signature, "06fb7206d2281d0da56695f04c5924ed5ccbb59b8d4ccf3990be8041fe184d33");
    }

    #[test]
    fn core_14_vector_c_everything() {
        let more = ToSign {
            scope_constraints: "grants:read,x:y",
            request_rule: "eyJydWxlX3R5cGUiOiJ0IiwicnVsZV9ib2R5Ijp7fX0",
            caller: "my-agent",
            caller_type: "agent",
            context: r#"{"run_id":"r1"}"#,
            ..ToSign::default()
        };
        assert!(more.has_identity());
        let body = r#"{"method":"GET","url":"https://api.example.com/v1","grant_id":"g"}"#;
        let signature = known("POST", "/sdk/proxy", body, more);
        assert_eq!(signature, "d585664e7962b874b84360806e52c359396886ab41c735211449ee8f0df4b55a");
    }

    #[test]
    fn core_19_a_path_is_decoded_exactly_once() {
        assert_eq!(canonical_target("/sdk/agents/a%20b%2Fc%252F", Some("")), "/sdk/agents/a b/c%2F");
        assert_eq!(canonical_target("/sdk/%ff", None), "/sdk/\u{fffd}");
    }

    #[test]
    fn a_query_keeps_blank_values_and_order_of_code_points() {
        assert_eq!(canonical_target("/x", Some("b=2&a=&a=1&b")), "/x?a=&a=1&b=&b=2");
    }

    #[test]
    fn verify_refuses_any_other_signature() {
        let key = SigningKey::derive(KEY);
        let mut signature: [u8; 32] = unhex(&key.sign("text")).unwrap();
        assert!(key.verify("text", &signature));
        assert!(!key.verify("text ", &signature));
        signature[31] ^= 1;
        assert!(!key.verify("text", &signature));
    }

    #[test]
    fn hex_goes_both_ways_and_refuses_upper_case() {
        assert_eq!(unhex::<2>(&hex(&[0x0f, 0xa0])), Some([0x0f, 0xa0]));
        assert_eq!(unhex::<2>("0FA0"), None);
        assert_eq!(unhex::<2>("0fa"), None);
    }

    /// `text` with every byte that `plain` does not keep written as `%XX`, in either case.
    fn encoded(text: &str, lower: bool, plain: impl Fn(u8) -> bool) -> String {
        let escaped = |b: u8| if lower { format!("%{b:02x}") } else { format!("%{b:02X}") };
        text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { escaped(b) }).collect()
    }

    proptest::proptest! {
        #[test]
        fn however_a_target_is_encoded_its_canonical_form_is_one(
            path in "/[a-z0-9 é%/._~+-]{0,24}",
            pairs in proptest::collection::vec(("[a-z &=+%é~*-]{0,6}", "[a-z &=+%é~*-]{0,6}"), 0..5),
            lower in proptest::prelude::any::<bool>(),
            swap in proptest::prelude::any::<bool>(),
        ) {
            let strict = |b: u8| b.is_ascii_alphanumeric() || b == b'/';
            let loose = |b: u8| b.is_ascii_alphanumeric() || b"/._~-+".contains(&b);
            let form = |plain: &dyn Fn(u8) -> bool, pairs: &[(String, String)]| {
                let pair = |(n, v): &(String, String)| format!("{}={}", encoded(n, lower, plain), encoded(v, lower, plain));
                pairs.iter().map(pair).collect::<Vec<_>>().join("&")
            };
            let bare = |b: u8| b.is_ascii_alphanumeric();
            let first = canonical_target(&encoded(&path, lower, strict), Some(&form(&bare, &pairs)));
            let mut other = pairs.clone();
            if swap { other.reverse(); }
            let typed = |b: u8| b.is_ascii_alphanumeric() || b"~-*".contains(&b);
            let second = canonical_target(&encoded(&path, !lower, loose), Some(&format!("&{}&", form(&typed, &other))));
            // Without pairs the bare `&&` is a query of nothing, and says so with a lone `?`.
            proptest::prop_assert_eq!(first, if pairs.is_empty() { second.trim_end_matches('?').to_owned() } else { second });
        }

        #[test]
        fn a_canonical_query_is_its_own_canonical_form(query in "[ -~é]{0,40}") {
            let once = canonical_target("/p", Some(&query));
            if let Some(("/p", canonical)) = once.split_once('?') {
                proptest::prop_assert_eq!(&canonical_target("/p", Some(canonical).filter(|c| !c.is_empty())), if canonical.is_empty() { "/p" } else { &once });
            }
        }
    }
}
