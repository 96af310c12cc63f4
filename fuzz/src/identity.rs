//! What identity providers say: tokens of users, sets of keys, discovery documents.

use std::sync::OnceLock;

use grantd_domain::destination::Target;
use grantd_domain::identity::{
    Algorithm, Endpoints, IdentityProvider, KeySet, Preset, ProviderState, Token, check_url,
};
use grantd_domain::provider::{Discovery, discovery_url};
use grantd_wire::ids::{AppId, IdentityProviderId, uuid_v7};
use grantd_wire::{TimeMs, limits};
use serde_json::Value;

/// Public: nobody has the private half.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

/// Tokens that nobody signed: an algorithm each.
const UNSIGNED: [&str; 3] = [
    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiwiYXVkIjoiYXBwIiwic3ViIjoiYW5uIiwiZXhwIjoxOTAwMDAwMDAwfQ.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw",
    "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiwiYXVkIjoiYXBwIiwic3ViIjoiYW5uIiwiZXhwIjoxOTAwMDAwMDAwfQ.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw",
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiwiYXVkIjoiYXBwIiwic3ViIjoiYW5uIiwiZXhwIjoxOTAwMDAwMDAwfQ.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw",
];

const NOW: TimeMs = TimeMs(1_800_000_000_000);

fn provider() -> &'static IdentityProvider {
    static PROVIDER: OnceLock<IdentityProvider> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let preset = Preset::find("oidc").expect("a preset");
        IdentityProvider {
            id: IdentityProviderId::from_uuid(uuid_v7(1, [1; 10])),
            app_id: AppId::from_uuid(uuid_v7(2, [2; 10])),
            name: "Test".to_owned(),
            preset,
            issuer: "https://id.example.com".to_owned(),
            audiences: vec!["app".to_owned()],
            algorithms: Algorithm::ALL.to_vec(),
            claims: preset.claims(),
            endpoints: Endpoints::default(),
            client_id: None,
            client_secret: None,
            scopes: Vec::new(),
            state: ProviderState::Active,
            created_at: TimeMs(0),
            updated_at: TimeMs(0),
            is_deleted: false,
            version: 1,
        }
    })
}

/// The first byte says what the rest is. Nobody signs a token without the key, whatever the token or the set of keys; what is taken of
/// either keeps its bounds; a document is of the issuer that it names alone.
pub fn identity(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 3 {
        0 => token(data),
        1 => keys(data),
        _ => discovery(data),
    }
}

fn token(data: &[u8]) {
    static KEY_SET: OnceLock<KeySet> = OnceLock::new();
    if let Ok(Value::Object(claims)) = serde_json::from_slice(data) {
        let profile = provider().claims.profile(&claims);
        assert!(profile.roles.len() <= limits::USER_ROLES_MAX);
        assert!(profile.groups.is_none_or(|groups| groups.len() <= limits::USER_GROUPS_MAX));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(token) = Token::parse(text) else { return };
    assert!(text.len() <= limits::USER_TOKEN_BYTES_MAX && text.split('.').count() == 3);
    let key_set = KEY_SET.get_or_init(|| KeySet::parse(KEYS.as_bytes()).expect("a set of keys"));
    let _ = token.check(provider(), NOW).is_ok() && token.has_key(key_set);
    assert!(token.verify(provider(), key_set, NOW).is_err(), "nobody signs without the key");
}

fn keys(data: &[u8]) {
    let Ok(keys) = KeySet::parse(data) else { return };
    assert!(data.len() <= limits::JWKS_BYTES_MAX && (1..=limits::JWKS_KEYS_MAX).contains(&keys.len()));
    assert!(Algorithm::ALL.iter().any(|algorithm| keys.has_for(*algorithm)), "a key that is for nothing was kept");
    for text in UNSIGNED {
        let token = Token::parse(text).expect("a token");
        assert!(token.verify(provider(), &keys, NOW).is_err(), "nobody signed it");
    }
}

fn discovery(data: &[u8]) {
    let Ok(found) = Discovery::read(data) else { return };
    assert!(Discovery::parse(data, &found.issuer).is_ok());
    assert!(Discovery::parse(data, &format!("{}/", found.issuer)).is_err(), "one slash more is another issuer");
    assert!(discovery_url(&found.issuer).ends_with("/.well-known/openid-configuration"));
    let endpoints = [found.jwks_uri, found.authorization_endpoint, found.token_endpoint, found.userinfo_endpoint];
    for url in endpoints.into_iter().flatten() {
        if check_url(&url, |_| false).is_ok()
            && let Ok(target) = Target::parse(&url)
        {
            assert!(target.is_https(), "{url}");
        }
    }
}
