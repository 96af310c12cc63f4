//! Tokens against keys, as issuers and as attackers make them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_wire::ids::uuid_v7;
use grantd_wire::limits::{
    JWKS_BYTES_MAX, JWKS_KEYS_MAX, JWT_LEEWAY_S, SUBJECT_CHARS_MAX, USER_GROUPS_MAX, USER_ROLES_MAX,
    USER_TOKEN_BYTES_MAX,
};
use serde_json::json;

use super::*;

const NOW: TimeMs = TimeMs(1_800_000_000_000);
const ISSUER: &str = "https://id.example.com/";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn idp() -> IdentityProvider {
    let preset = Preset::find("oidc").unwrap();
    IdentityProvider {
        id: IdentityProviderId::from_uuid(uuid_v7(1, [1; 10])),
        app_id: AppId::from_uuid(uuid_v7(1, [2; 10])),
        name: "Test".to_owned(),
        preset,
        issuer: ISSUER.to_owned(),
        audiences: vec!["app".to_owned(), "api".to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        claims: preset.claims(),
        endpoints: Endpoints { jwks_url: format!("{ISSUER}jwks"), ..Endpoints::default() },
        client_id: None,
        client_secret: None,
        scopes: Vec::new(),
        state: ProviderState::Active,
        created_at: NOW,
        updated_at: NOW,
        is_deleted: false,
        version: 1,
    }
}

fn claims() -> Value {
    let now = NOW.0 / 1000;
    json!({"iss": ISSUER, "sub": "u1", "aud": ["other", "api"], "exp": now + 300, "iat": now, "email": "U1@example.com"})
}

/// Claims with some changed; null takes one away.
fn with(changes: Value) -> Value {
    let mut all = claims();
    let Value::Object(changes) = changes else { panic!("an object") };
    for (name, value) in changes {
        match value {
            Value::Null => all.as_object_mut().unwrap().remove(&name),
            value => all.as_object_mut().unwrap().insert(name, value),
        };
    }
    all
}

enum Private {
    Ec(EcdsaKeyPair, bool),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

struct Signer {
    kid: &'static str,
    key: Private,
}

impl Signer {
    fn p256(kid: &'static str) -> Self {
        Self { kid, key: Private::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), false) }
    }

    fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Private::Ec(key, is_384) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": if *is_384 { "P-384" } else { "P-256" }, "x": b64(x), "y": b64(y)})
            }
            Private::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key())}),
            Private::Rsa(key) => {
                // PKCS #1: a sequence of the modulus, after nine bytes of tags, lengths and sign, and the exponent.
                let der = key.public_key().as_ref();
                json!({"kty": "RSA", "n": b64(&der[9..9 + 256]), "e": b64(&der[der.len() - 3..])})
            }
        };
        jwk["kid"] = self.kid.into();
        jwk["use"] = "sig".into();
        jwk
    }

    fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Private::Ec(key, _) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Private::Ed(key) => key.sign(message).as_ref().to_vec(),
            Private::Rsa(key) => {
                let padding: &'static dyn RsaEncoding = match algorithm {
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signed = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, message, &mut signed).unwrap();
                signed
            }
        }
    }

    fn token_of(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(claims));
        let signature = b64(self.sign(algorithm, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn token(&self, algorithm: Algorithm, claims: &Value) -> String {
        let header = json!({"alg": algorithm.as_str(), "kid": self.kid, "typ": "JWT"});
        self.token_of(algorithm, &header.to_string(), &claims.to_string())
    }
}

fn set(signers: &[&Signer]) -> KeySet {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn verify(token: &str, keys: &KeySet, idp: &IdentityProvider) -> Result<Claims, Invalid> {
    Token::parse(token)?.verify(idp, keys, NOW)
}

fn failed(token: &str, keys: &KeySet) -> Option<Invalid> {
    verify(token, keys, &idp()).err()
}

#[test]
fn every_asymmetric_algorithm_proves_and_no_other_key_does() {
    let rsa = Signer { kid: "rsa", key: Private::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()) };
    let p256 = Signer::p256("p256");
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let p384 = Signer { kid: "p384", key: Private::Ec(p384, true) };
    let ed = Signer { kid: "ed", key: Private::Ed(Ed25519KeyPair::generate().unwrap()) };
    let keys = set(&[&rsa, &p256, &p384, &ed]);
    assert_eq!(keys.len(), 4);
    let mut proved = 0;
    for algorithm in Algorithm::ALL {
        for signer in [&rsa, &p256, &p384, &ed] {
            let is_its = match (&signer.key, algorithm) {
                (Private::Ec(_, is_384), a) => *a == if *is_384 { Algorithm::Es384 } else { Algorithm::Es256 },
                (Private::Ed(_), a) => *a == Algorithm::EdDsa,
                (Private::Rsa(_), a) => a.as_str().starts_with("RS") || a.as_str().starts_with("PS"),
            };
            let token = signer.token(*algorithm, &claims());
            match (is_its, verify(&token, &keys, &idp())) {
                (true, Ok(said)) => {
                    assert_eq!((said.subject.as_str(), said.issued_at), ("u1", Some(NOW)));
                    proved += 1;
                }
                (false, Err(Invalid::UnknownKey)) => {}
                (_, other) => panic!("{algorithm:?} {}: {:?}", signer.kid, other.err()),
            }
            // One other bit anywhere in what is signed, or in the signature.
            let only = IdentityProvider { algorithms: vec![*algorithm], ..idp() };
            let others = Signer::p256(signer.kid);
            if is_its {
                let body = token.rsplit_once('.').unwrap().0;
                let forged = format!("{body}.{}", b64(signer.sign(*algorithm, b"something else")));
                assert_eq!(verify(&forged, &keys, &only).err(), Some(Invalid::Signature));
                let short = format!("{body}.{}", b64([0; 8]));
                assert_eq!(verify(&short, &keys, &only).err(), Some(Invalid::Signature));
                assert!(matches!(
                    verify(&token, &set(&[&others]), &only).err(),
                    Some(Invalid::UnknownKey | Invalid::Signature)
                ));
            }
        }
    }
    assert_eq!(proved, Algorithm::ALL.len());
}

#[test]
fn a_token_cannot_choose_how_it_is_verified() {
    let signer = Signer::p256("k");
    let keys = set(&[&signer]);
    let body = claims().to_string();
    let made = |header: Value| signer.token_of(Algorithm::Es256, &header.to_string(), &body);
    assert_eq!(failed(&made(json!({"alg": "ES256", "kid": "k"})), &keys), None);
    for (header, why) in [
        (json!({"alg": "none", "kid": "k"}), Invalid::Algorithm),
        (json!({"alg": "None", "kid": "k"}), Invalid::Algorithm),
        (json!({"alg": "HS256", "kid": "k"}), Invalid::Algorithm),
        (json!({"alg": "es256", "kid": "k"}), Invalid::Algorithm),
        (json!({"alg": "RS256", "kid": "k"}), Invalid::UnknownKey),
        (json!({"kid": "k"}), Invalid::Malformed),
        (json!({"alg": 1, "kid": "k"}), Invalid::Malformed),
        (json!({"alg": "ES256", "kid": 1}), Invalid::Malformed),
        (json!({"alg": "ES256", "kid": "../../k"}), Invalid::UnknownKey),
        (json!({"alg": "ES256", "kid": ""}), Invalid::UnknownKey),
        (json!({"alg": "ES256", "kid": "k\u{0}"}), Invalid::UnknownKey),
        (json!({"alg": "ES256", "kid": "k", "crit": ["exp"]}), Invalid::Critical),
        (json!({"alg": "ES256", "kid": "k", "crit": []}), Invalid::Critical),
        (json!({"alg": "ES256", "kid": "k", "b64": false}), Invalid::Critical),
        (json!({"alg": "ES256", "kid": "k", "cty": "JWT"}), Invalid::Encrypted),
        (json!({"alg": "RSA-OAEP", "enc": "A256GCM"}), Invalid::Encrypted),
        (json!({"alg": "ES256", "kid": "k", "typ": "logout+jwt"}), Invalid::Type),
        (json!({"alg": "ES256", "kid": "k", "typ": "alter-identity+jwt"}), Invalid::Type),
        (json!({"alg": "ES256", "kid": "k", "typ": "dpop+jwt"}), Invalid::Type),
    ] {
        assert_eq!(failed(&made(header.clone()), &keys), Some(why), "{header}");
    }
    // The public key as a shared secret: no algorithm here takes one.
    let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, signer.jwk().to_string().as_bytes());
    let signed = format!("{}.{}", b64(r#"{"alg":"HS256","kid":"k"}"#), b64(&body));
    let forged = format!("{signed}.{}", b64(aws_lc_rs::hmac::sign(&hmac, signed.as_bytes())));
    assert_eq!(failed(&forged, &keys), Some(Invalid::Algorithm));
    assert_eq!(failed(&format!("{signed}."), &keys), Some(Invalid::Algorithm));
    // Keys that a token brings along are not looked at.
    let evil = Signer::p256("evil");
    for header in [
        json!({"alg": "ES256", "kid": "evil", "jwk": evil.jwk()}),
        json!({"alg": "ES256", "kid": "evil", "jku": "https://evil.example/jwks"}),
        json!({"alg": "ES256", "kid": "evil", "x5u": "https://evil.example/x", "x5c": ["AAAA"]}),
    ] {
        let token = evil.token_of(Algorithm::Es256, &header.to_string(), &body);
        assert_eq!(failed(&token, &keys), Some(Invalid::UnknownKey), "{header}");
        let named = header.to_string().replace("evil\"", "k\"");
        assert_eq!(failed(&evil.token_of(Algorithm::Es256, &named, &body), &keys), Some(Invalid::Signature), "{named}");
    }
    // What the provider is not registered with.
    let only = IdentityProvider { algorithms: vec![Algorithm::EdDsa], ..idp() };
    assert_eq!(verify(&signer.token(Algorithm::Es256, &claims()), &keys, &only).err(), Some(Invalid::Algorithm));
}

#[test]
fn claims_are_held_against_the_provider_and_the_clock() {
    let signer = Signer::p256("k");
    let keys = set(&[&signer]);
    let now = NOW.0 / 1000;
    for (changes, why) in [
        (json!({}), None),
        (json!({"iss": "https://id.example.com"}), Some(Invalid::UnknownIssuer)),
        (json!({"iss": "https://ID.example.com/"}), Some(Invalid::UnknownIssuer)),
        (json!({"iss": [ISSUER]}), Some(Invalid::UnknownIssuer)),
        (json!({"iss": null}), Some(Invalid::UnknownIssuer)),
        (json!({"aud": "app"}), None),
        (json!({"aud": "App"}), Some(Invalid::Audience)),
        (json!({"aud": ["other"]}), Some(Invalid::Audience)),
        (json!({"aud": []}), Some(Invalid::Audience)),
        (json!({"aud": null}), Some(Invalid::Audience)),
        (json!({"aud": {"app": "app"}}), Some(Invalid::Audience)),
        (json!({"exp": null}), Some(Invalid::NoExpiry)),
        (json!({"exp": (now + 300).to_string()}), Some(Invalid::Malformed)),
        (json!({"exp": 1e300}), Some(Invalid::Malformed)),
        (json!({"exp": -1}), Some(Invalid::Malformed)),
        (json!({"exp": now - JWT_LEEWAY_S}), Some(Invalid::Expired)),
        (json!({"exp": now - JWT_LEEWAY_S + 1}), None),
        (json!({"nbf": now + JWT_LEEWAY_S}), None),
        (json!({"nbf": now + JWT_LEEWAY_S + 1}), Some(Invalid::NotYet)),
        (json!({"iat": now + JWT_LEEWAY_S}), None),
        (json!({"iat": now + JWT_LEEWAY_S + 1}), Some(Invalid::NotYet)),
        (json!({"iat": null}), None),
        (json!({"sub": null}), Some(Invalid::Subject)),
        (json!({"sub": ""}), Some(Invalid::Subject)),
        (json!({"sub": 7}), Some(Invalid::Subject)),
        (json!({"sub": "a\nb"}), Some(Invalid::Subject)),
        (json!({"sub": "é".repeat(SUBJECT_CHARS_MAX)}), None),
        (json!({"sub": "é".repeat(SUBJECT_CHARS_MAX + 1)}), Some(Invalid::Subject)),
        (json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}), Some(Invalid::Type)),
    ] {
        let token = signer.token(Algorithm::Es256, &with(changes.clone()));
        assert_eq!(failed(&token, &keys), why, "{changes}");
    }
}

#[test]
fn only_an_issuer_of_one_application_may_leave_the_audience_open() {
    let signer = Signer::p256("k");
    let keys = set(&[&signer]);
    let token = signer.token(Algorithm::Es256, &with(json!({"aud": null, "azp": "https://app.example.com"})));
    let open = |preset| {
        let preset = Preset::find(preset).unwrap();
        IdentityProvider { preset, claims: preset.claims(), audiences: Vec::new(), ..idp() }
    };
    assert_eq!(verify(&token, &keys, &open("oidc")).err(), Some(Invalid::Audience));
    assert_eq!(verify(&token, &keys, &open("clerk")).err(), None);
    let named = |audience: &str| IdentityProvider { audiences: vec![audience.to_owned()], ..open("clerk") };
    assert_eq!(verify(&token, &keys, &named("https://app.example.com")).err(), None);
    assert_eq!(verify(&token, &keys, &named("https://evil.example")).err(), Some(Invalid::Audience));
}

#[test]
fn what_is_no_token_is_refused_within_its_bound() {
    let signer = Signer::p256("k");
    let keys = set(&[&signer]);
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    let good = signer.token(Algorithm::Es256, &claims());
    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    for (token, why) in [
        (String::new(), Invalid::Malformed),
        ("a".to_owned(), Invalid::Malformed),
        (format!("{head}.{body}"), Invalid::Malformed),
        (format!("{good}.x"), Invalid::Malformed),
        (format!("{good}.x.y"), Invalid::Encrypted),
        (format!("{good} "), Invalid::Malformed),
        (format!("{good}="), Invalid::Malformed),
        (format!("{head}=.{body}.{signature}"), Invalid::Malformed),
        (format!("{}.{body}.{signature}", b64("[]")), Invalid::Malformed),
        (format!("{head}.{}.{signature}", b64("\"x\"")), Invalid::Malformed),
        (format!("{head}.{}.{signature}", b64([0xff, 0xfe])), Invalid::Malformed),
        (
            signer.token_of(Algorithm::Es256, r#"{"alg":"ES256","alg":"none","kid":"k"}"#, &claims().to_string()),
            Invalid::Duplicate,
        ),
        (
            signer.token_of(Algorithm::Es256, header, &claims().to_string().replacen('{', r#"{"sub":"u2","#, 1)),
            Invalid::Duplicate,
        ),
        (
            signer.token_of(
                Algorithm::Es256,
                header,
                &with(json!({"x": 1})).to_string().replace("\"x\":1", r#""x":{"a":1,"a":2}"#),
            ),
            Invalid::Duplicate,
        ),
    ] {
        assert_eq!(failed(&token, &keys), Some(why), "{token}");
    }
    // Lengths of base64 leave gaps: the longest that fits, and the next.
    let pads = |n: usize| signer.token(Algorithm::Es256, &with(json!({"pad": "x".repeat(n)})));
    let most = (5_000..7_000).take_while(|n| pads(*n).len() <= USER_TOKEN_BYTES_MAX).last().unwrap();
    assert_eq!(failed(&pads(most), &keys), None);
    assert_eq!(failed(&pads(most + 1), &keys), Some(Invalid::TooLong));
    // A check says what failed, and nothing of the token.
    let texts: BTreeSet<&str> = Invalid::ALL.iter().map(|check| check.as_str()).collect();
    assert_eq!(texts.len(), Invalid::ALL.len());
}

#[test]
fn a_token_without_a_key_id_means_the_only_key() {
    let (one, two) = (Signer::p256("a"), Signer::p256("b"));
    let token = one.token_of(Algorithm::Es256, r#"{"alg":"ES256"}"#, &claims().to_string());
    assert_eq!(failed(&token, &set(&[&one])), None);
    assert_eq!(failed(&token, &set(&[&one, &two])), Some(Invalid::UnknownKey));
    assert_eq!(failed(&token, &set(&[&two])), Some(Invalid::Signature));
}

#[test]
fn a_set_holds_what_can_prove_and_is_bounded() {
    let signer = Signer::p256("k");
    let parse = |keys: Vec<Value>| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes());
    let changed = |name: &str, value: Value| {
        let mut jwk = signer.jwk();
        jwk[name] = value;
        jwk
    };
    for jwk in [
        changed("use", json!("enc")),
        changed("key_ops", json!(["sign"])),
        changed("d", json!("AAAA")),
        changed("alg", json!("HS256")),
        changed("alg", json!("RS256")),
        changed("crv", json!("secp256k1")),
        changed("x", json!("AAAA")),
        changed("kty", json!("oct")),
        json!({"kty": "oct", "k": "AAAA", "kid": "k"}),
        json!({"kty": "RSA", "n": b64([0xff; 128]), "e": "AQAB", "kid": "k"}),
        json!({"kty": "RSA", "n": b64([0xff; 1025]), "e": "AQAB", "kid": "k"}),
        json!({"kty": "RSA", "n": b64([0xff; 256]), "e": "", "kid": "k"}),
        json!("x"),
        json!(null),
    ] {
        assert_eq!(parse(vec![jwk.clone()]), Err(KeySetError::Empty), "{jwk}");
        assert_eq!(parse(vec![jwk, signer.jwk()]).unwrap().len(), 1);
    }
    assert!(parse(vec![changed("key_ops", json!(["verify"])), changed("alg", json!("ES256"))]).is_ok());
    assert!(parse(vec![json!({"kty": "RSA", "n": b64([0xff; 256]), "e": "AQAB"})]).is_ok());
    assert_eq!(parse(vec![signer.jwk(); JWKS_KEYS_MAX]).unwrap().len(), JWKS_KEYS_MAX);
    assert_eq!(parse(vec![signer.jwk(); JWKS_KEYS_MAX + 1]), Err(KeySetError::TooMany));
    for none in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":1}"#] {
        assert_eq!(KeySet::parse(none.as_bytes()), Err(KeySetError::NoSet), "{none}");
    }
    let text = json!({"keys": [signer.jwk()]}).to_string();
    let padded = |len: usize| format!("{text}{}", " ".repeat(len - text.len()));
    assert!(KeySet::parse(padded(JWKS_BYTES_MAX).as_bytes()).is_ok());
    assert_eq!(KeySet::parse(padded(JWKS_BYTES_MAX + 1).as_bytes()), Err(KeySetError::TooLarge));
}

#[test]
fn a_profile_is_read_as_it_is_mapped_and_bounded() {
    let preset = Preset::find("keycloak").unwrap();
    let said = |value: Value| {
        let Value::Object(claims) = value else { panic!("an object") };
        preset.claims().profile(&claims)
    };
    let profile = said(json!({
        "email": "a@example.com", "name": "Ä", "groups": ["g1", "g2", "g1", 7, "", "x\n"],
        "realm_access": {"roles": ["admin"]},
    }));
    assert_eq!((profile.email.as_deref(), profile.name.as_deref()), (Some("a@example.com"), Some("Ä")));
    assert_eq!(profile.groups, Some(BTreeSet::from(["g1".to_owned(), "g2".to_owned()])));
    assert_eq!(profile.roles, BTreeSet::from(["admin".to_owned()]));
    let bare = said(json!({"email": 7, "groups": "only", "realm_access": "x"}));
    assert_eq!((bare.email, bare.roles.len(), bare.groups), (None, 0, Some(BTreeSet::from(["only".to_owned()]))));
    // Tokens that say nothing of groups say that there are none; a provider whose tokens never do says nothing.
    assert_eq!(said(json!({})).groups, Some(BTreeSet::new()));
    assert_eq!(Preset::find("google").unwrap().claims().profile(&Map::new()).groups, None);
    let names = |prefix: &str, n: usize| (0..n).map(|i| format!("{prefix}{i:04}")).collect::<Vec<_>>();
    for (n, groups, roles) in [(50, 50, 50), (51, 51, USER_ROLES_MAX), (201, USER_GROUPS_MAX, USER_ROLES_MAX)] {
        let profile = said(json!({"groups": names("g", n), "realm_access": {"roles": names("r", n)}}));
        assert_eq!((profile.groups.unwrap().len(), profile.roles.len()), (groups, roles));
    }
    let tricky = json!({"a/b": {"c~d": "x"}});
    assert_eq!(claim(tricky.as_object().unwrap(), "/a~1b/c~0d"), Some(&json!("x")));
    assert_eq!(claim(json!({"https://x/groups": 1}).as_object().unwrap(), "https://x/groups"), Some(&json!(1)));
}

#[test]
fn an_old_token_does_not_bring_a_deprovisioned_user_back() {
    let user = |status| User {
        id: UserId::from_uuid(uuid_v7(1, [1; 10])),
        app_id: idp().app_id,
        idp_id: idp().id,
        subject: "u1".to_owned(),
        status,
        email: None,
        name: None,
        roles: BTreeSet::new(),
        told_at: None,
        told_hash: None,
        last_seen_at: None,
        created_at: NOW,
        updated_at: NOW,
        version: 1,
    };
    let signer = Signer::p256("k");
    let issued = |changes: Value| {
        verify(&signer.token(Algorithm::Es256, &with(changes)), &set(&[&signer]), &idp())
            .unwrap_or_else(|e| panic!("{e}"))
    };
    let now = issued(json!({}));
    let (active, suspended) = (user(UserStatus::Active), user(UserStatus::Suspended));
    assert_eq!(seen(None, None, &now), Ok(Seen::New));
    assert!(matches!(seen(Some(&active), None, &now), Ok(Seen::Known(_))));
    assert_eq!(seen(Some(&suspended), None, &now), Err(Refused::Suspended));
    let gone = user(UserStatus::Deprovisioned { at: NOW });
    for (ms, is_of_before) in [(1, true), (0, true), (-1, false)] {
        let at = Some(NOW.plus_ms(ms));
        // A directory may have made a row anew meanwhile.
        let expected = if is_of_before { Err(Refused::Deprovisioned) } else { Ok(Seen::New) };
        assert_eq!(seen(Some(&gone), at, &now), expected);
        assert_eq!(seen(Some(&active), at, &now).is_err(), is_of_before);
        assert_eq!(seen(Some(&gone), at, &issued(json!({"iat": null}))), Err(Refused::Deprovisioned));
        assert_eq!(seen(Some(&active), at, &issued(json!({"iat": null}))), Err(Refused::Deprovisioned));
    }
}

#[test]
fn presets_are_whole() {
    let ids: BTreeSet<&str> = PRESETS.iter().map(|preset| preset.id).collect();
    assert_eq!(ids.len(), PRESETS.len());
    for preset in PRESETS {
        assert_eq!(check_url(preset.issuer, |_| false), Ok(()), "{}", preset.id);
        assert!(!preset.algorithms.is_empty() && preset.scopes.contains(&"openid"));
        assert!(preset.source.starts_with("https://") && preset.read_on.len() == "2026-11-29".len(), "{}", preset.id);
        // Its own example is one of its own; only those that run anywhere cannot be told.
        let like = Preset::of_issuer(preset.issuer).map(|preset| preset.id);
        assert_eq!(like, Some(preset.id).filter(|id| *id != "oidc"), "{}", preset.issuer);
        assert_eq!(preset.owns(preset.issuer), matches!(preset.id, "clerk" | "workos"), "{}", preset.id);
    }
    let workos = Preset::find("workos").unwrap();
    for shared in ["https://api.workos.com", "https://api.workos.com/", "https://api.workos.com/user_management/", "x"]
    {
        assert!(!workos.owns(shared), "{shared} is everybody's");
    }
    for stranger in ["https://auth0.com", "https://auth0.com.evil.example", "https://evil.example/?x=.okta.com"] {
        assert_eq!(Preset::of_issuer(stranger), None, "{stranger}");
    }
    for (url, is_refused) in
        [("http://127.0.0.1:9/", true), ("https://a@b/", true), ("https://x/#f", true), ("x", true)]
    {
        assert_eq!(check_url(url, |_| false).is_err(), is_refused, "{url}");
    }
    assert_eq!(check_url("http://127.0.0.1:9/", |_| true), Ok(()));
}
