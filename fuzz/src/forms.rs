//! Targets that need no server: texts and blobs, and what must hold of them once they are read.

use std::sync::OnceLock;

use grantd_domain::audit::{Terms, Trust, verify};
use grantd_domain::context::Context;
use grantd_domain::destination::{OutboundAllow, Rule, Target, allow};
use grantd_domain::env::Entropy;
use grantd_domain::passkey::{self, Made, Wrong};
use grantd_domain::scim::filter::Filter;
use grantd_domain::scim::group as scim_group;
use grantd_domain::scim::path::{GROUP, USER};
use grantd_domain::scim::user::User as ScimUser;
use grantd_domain::seal::{DataKey, Place, RootKey, RootKeys};
use grantd_domain::webhook::signature::{Headers, Key, verify as verify_webhook};
use grantd_domain::webhook::{Message, SubjectFrom, Vendor, read};
use grantd_wire::ids::{AppId, DataKeyId, GrantId, uuid_v7};
use grantd_wire::scope::Scope;
use grantd_wire::sign::{SigningKey, ToSign, canonical_target, sha256, unhex};
use grantd_wire::{TimeMs, key, limits};
use serde_json::{Value, json};

/// An export: never trusted unless it was made by grantd. A verifier that says yes has read at least a header and a footer.
pub fn audit(data: &[u8]) {
    let trust = Trust { key: None, checkpoint: None };
    if let Ok(report) = verify(data, &trust) {
        assert_eq!(report.ok, report.problems.is_empty());
        assert!(!report.ok || data.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count() >= 2);
    }
    if let Some(terms) = Terms::unpack(data) {
        assert_eq!(terms.pack(), data, "terms are written as they were read");
    }
}

/// `X-Alter-Context`: what is accepted keeps its bounds.
pub fn context(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(context) = Context::parse(text) {
        assert!(context.pairs().count() <= limits::CONTEXT_KEYS_MAX);
        for (key, value) in context.pairs() {
            assert!(key.chars().count() <= limits::CONTEXT_KEY_CHARS_MAX);
            assert!(value.chars().count() <= limits::CONTEXT_VALUE_CHARS_MAX);
            assert_eq!(context.get(key), Some(value));
        }
    }
}

/// A line of rules, then a URL: a rule reads back as itself, and a URL that passes leads to the host of a rule.
pub fn destination(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (rules, url) = text.split_once('\n').unwrap_or(("", text));
    let rules: Vec<Rule> = rules.split(' ').filter_map(|rule| Rule::parse(rule).ok()).collect();
    for rule in &rules {
        assert_eq!(Rule::parse(&rule.to_string()).as_ref(), Ok(rule), "{rule}");
    }
    let Ok(target) = Target::parse(url) else { return };
    assert!(!target.host().is_empty() && target.path().starts_with('/'));
    let nothing = OutboundAllow::parse(&[] as &[&str]).expect("an empty list is one");
    let verdict = allow(&target, &rules, false, &nothing);
    if verdict.is_ok() {
        assert!(rules.iter().any(|rule| rule.matches(&target)), "{url}");
        assert!(target.is_https() && target.address().is_none_or(grantd_domain::destination::is_public), "{url}");
    }
    // What was parsed is what is dialled: parsing it again changes nothing.
    let again = Target::parse(target.as_str()).map(|target| target.as_str().to_owned());
    assert_eq!(again.as_deref(), Ok(target.as_str()));
}

/// What a browser and a device say of a passkey: one that is taken keeps its bounds and could sign, and nothing that is made up has signed.
pub fn passkey(data: &[u8]) {
    let expected = passkey::Expected { challenge: &[0; 32], origin: "https://example.org", host: "example.org" };
    let zeros = "A".repeat(43);
    let client = |kind: &str| {
        format!(r#"{{"type":"{kind}","challenge":"{zeros}","origin":"https://example.org"}}"#).into_bytes()
    };
    let device = [&sha256(b"example.org")[..], &[0x05], &[0; 4]].concat();
    let signed = |client: &[u8], device: &[u8], key: &Made| passkey::signed(expected, client, device, b"", key);
    let (asked, mut key) = (client("webauthn.get"), Made { id: vec![0], public_key: data.to_vec(), counter: 0 });
    assert!(matches!(signed(&asked, &device, &key), Err(Wrong::Key | Wrong::Signature)));
    if let Ok(made) = passkey::made(expected, &client("webauthn.create"), data) {
        assert!((1..=limits::PASSKEY_ID_BYTES_MAX).contains(&made.id.len()));
        assert!(made.public_key.len() <= limits::PASSKEY_KEY_BYTES_MAX);
        assert_eq!(signed(&asked, &device, &made), Err(Wrong::Signature));
        key = made;
    }
    assert!(signed(&asked, data, &key).is_err() && signed(data, &device, &key).is_err());
}

/// Keys, tokens, scopes, ids, times, and the text that is signed.
pub fn keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(Some(_)) = key::check(text) {
        assert_eq!(text.len(), 38);
        assert!(text.is_ascii() && text.starts_with("alter_"));
    }
    if let Some(scope) = Scope::parse(text) {
        assert_eq!(scope.to_string(), text);
        assert!(scope.covers(scope));
    }
    if let Some(id) = GrantId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    if let Some(time) = TimeMs::parse(text) {
        assert_eq!(TimeMs::parse(&time.to_string()), Some(time));
    }
    let _ = unhex::<16>(text).is_some() && unhex::<32>(text).is_some();
    let _ = grantd_wire::time::parse_span_seconds(text);
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    let target = canonical_target(path, query);
    let to_sign = ToSign { method: "GET", target: &target, timestamp: "1", nonce: text, ..ToSign::default() };
    let signing = SigningKey::derive(text);
    let signature = unhex::<32>(&signing.sign(&to_sign.text())).expect("a signature is hex");
    assert!(signing.verify(&to_sign.text(), &signature));
}

/// Headers of a signed webhook in the first line, its body below. Nobody signs without the secret, and what is read of a body keeps its
/// bounds.
pub fn webhook(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (line, body) = (String::from_utf8_lossy(&data[..end]), data.get(end + 1..).unwrap_or_default());
    let mut parts = line.splitn(3, '|');
    let mut part = || parts.next().unwrap_or_default();
    let headers = Headers { id: part(), timestamp: part(), signature: part() };
    let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
    assert!(
        verify_webhook(&key, &headers, body, TimeMs(1_614_265_330_000)).is_err(),
        "nobody signs without the secret"
    );
    let _ = Key::parse(&line).is_some();
    let message = Message { id: "m", at: TimeMs(0) };
    for (vendor, from) in [
        (Vendor::Auth0, SubjectFrom::Id),
        (Vendor::Clerk, SubjectFrom::Id),
        (Vendor::Okta, SubjectFrom::Id),
        (Vendor::Okta, SubjectFrom::Login),
    ] {
        let Ok(told) = read(vendor, from, body, &message) else { continue };
        assert!(told.len() <= limits::WEBHOOK_EVENTS_MAX);
        for each in told {
            assert!((1..=limits::SUBJECT_CHARS_MAX).contains(&each.subject.chars().count()));
            assert!((1..=limits::SUBJECT_CHARS_MAX).contains(&each.id.chars().count()));
        }
    }
}

/// A filter in the first line, a document or change below: what a directory may send. What becomes of a user is read back as it is stored,
/// and a filter says the same of it then.
pub fn scim(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let line = String::from_utf8_lossy(&data[..end]);
    let filters = [USER, GROUP].map(|resource| Filter::parse(resource, &line).ok());
    let Ok(Value::Object(body)) = serde_json::from_slice(data.get(end + 1..).unwrap_or_default()) else { return };
    let _ = (scim_group::Group::parse(&body).is_ok(), scim_group::changes(&body).is_ok());
    let before =
        json!({"userName": "ada", "externalId": "1", "emails": [{"value": "ada@example.com", "type": "work"}]});
    let before = ScimUser::parse(before.as_object().expect("an object")).expect("a user");
    for user in [ScimUser::parse(&body), before.replaced(&body), before.changed(&body)].into_iter().flatten() {
        let stored = ScimUser::stored(&user.text());
        assert_eq!(stored.as_ref(), Some(&user), "what is stored is what was said");
        let Ok(Value::Object(document)) = serde_json::from_str(&user.text()) else { panic!("a document is an object") };
        let _ = filters.iter().flatten().filter(|filter| filter.holds(&document)).count();
    }
}

struct Zero;

impl Entropy for Zero {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// A sealed value: garbage never opens, and a changed byte never opens.
pub fn sealed(data: &[u8]) {
    static KEY: OnceLock<DataKey> = OnceLock::new();
    let app = AppId::from_uuid(uuid_v7(1, [1; 10]));
    let key = KEY.get_or_init(|| {
        let root = RootKeys::new(RootKey::new(&[7; 32]), Vec::new());
        root.new_data_key(&Zero, DataKeyId::from_uuid(uuid_v7(2, [2; 10])), Some(app)).0
    });
    let place = Place { table: "credentials", app: Some(app), row: [3; 16], field: "sealed", version: 4 };
    assert!(key.open(place, data).is_err(), "nobody seals without the key");
    let Some((change, plain)) = data.split_first_chunk::<3>() else { return };
    let mut sealed = key.seal(&Zero, place, plain);
    assert_eq!(key.open(place, &sealed).ok().as_deref().map(Vec::as_slice), Some(plain));
    let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % sealed.len();
    if change[2] != 0 {
        sealed[at] ^= change[2];
        assert!(key.open(place, &sealed).is_err(), "byte {at}");
    }
}
