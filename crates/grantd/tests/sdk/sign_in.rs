//! A user signs in at an identity provider on loopback, with the program itself, and is known from then on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_sdk::{
    AssertionRequest, AuthWait, Error, GrantFilter, GrantPolicy, IdentityRequest, Principal, SecretGrantRequest,
};
use serde_json::{Value, json};

use crate::connect::{Browser, in_query};
use crate::vault::{Vault, World};

const CLIENT: &str = "client-1";

/// What the identity provider signs with.
struct Key(EcdsaKeyPair);

impl Key {
    /// Registers an app with the provider on loopback.
    async fn registered(vault: &Vault, world: &World) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let coordinate = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let jwk =
            json!({"kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig", "x": coordinate(x), "y": coordinate(y)});
        let provider = &vault.provider;
        provider.says("/jwks", &json!({"keys": [jwk]}));
        let document = json!({
            "issuer": provider.url(""), "authorization_endpoint": provider.url("/authorize"),
            "token_endpoint": provider.url("/token"), "jwks_uri": provider.url("/jwks"),
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        provider.says("/.well-known/openid-configuration", &document);
        let idp = json!({"issuer": provider.url(""), "audiences": [CLIENT], "algorithms": ["ES256"],
            "client_id": CLIENT, "client_secret": "canary"});
        vault.api("POST", &format!("apps/{}/identity-providers", world.app_id), idp).await;
        Self(key)
    }

    /// An ID token of this sign-in.
    fn token(&self, issuer: &str, nonce: &str) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let now_s = now_s();
        let claims = json!({"iss": issuer, "aud": CLIENT, "sub": "alice", "iat": now_s, "exp": now_s + 3600,
            "nonce": nonce, "email": "alice@example.test"});
        let signed = format!("{}.{}", part(&json!({"alg": "ES256", "kid": "k1", "typ": "JWT"})), part(&claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

#[expect(clippy::disallowed_methods, reason = "the program that checks the token has the real clock")]
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn quick() -> AuthWait {
    AuthWait::new().poll_interval(Duration::from_millis(20)).timeout(Duration::from_mins(1)).open_browser(false)
}

#[tokio::test]
async fn core_94_core_96_core_97_core_100_a_user_signs_in_and_is_known() {
    let vault = Vault::start().await;
    let world = vault.world().await;
    let app = vault.app(&world);
    let none = app.create_auth_session().await.unwrap_err();
    assert_eq!(none.status(), Some(400), "no identity provider: {none:?}");
    let key = Key::registered(&vault, &world).await;
    let (told, link) = tokio::sync::oneshot::channel();
    let wait = quick().on_begun(move |session| told.send(session.auth_url).unwrap());
    let user = async {
        let browser = Browser::open(&vault, &link.await.unwrap()).await;
        let link = browser.leave().await;
        let id_token = key.token(&vault.provider.url(""), &in_query(&link, "nonce"));
        vault.provider.says("/token", &json!({"access_token": "a", "token_type": "Bearer", "id_token": id_token}));
        browser.come_back(&link).await;
    };
    let (signed_in, ()) = tokio::join!(app.authenticate(wait), user);
    let signed_in = signed_in.unwrap();
    assert_eq!(signed_in.user_info.unwrap().sub, "alice");

    // From now on every call is hers: what she has is found by its provider, and nothing else is.
    let own = |user_token: &str| SecretGrantRequest {
        principal: Principal::User { user_token: user_token.to_owned(), label: "own".to_owned() },
        grant_policy: GrantPolicy::default(),
        credential_id: None,
    };
    let made = app.create_managed_secret_grant(&world.slug, &own(&signed_in.user_token)).await.unwrap();
    let answer = app.request("GET", &vault.provider.url("/x")).provider(&world.slug).send().await.unwrap();
    assert_eq!(answer.status, 200);
    let page = app.list_grants(&GrantFilter::default()).await.unwrap();
    assert_eq!(page.grants.iter().map(|grant| &grant.grant_id).collect::<Vec<_>>(), [&made.grant_id]);
    let known = app.resolve_identity(IdentityRequest::new().with_profile()).await.unwrap();
    assert_eq!((&known.app_id, known.external_subject_id.as_deref()), (&world.app_id, Some("alice")));
    assert_eq!(known.email.as_deref(), Some("alice@example.test"));
    let asserted = app.assert_identity(AssertionRequest::new("urn:memory").ttl_seconds(60)).await.unwrap();
    assert_eq!((asserted.token.split('.').count(), &asserted.identity.app_user_id), (3, &known.app_user_id));

    assert_eq!(app.verify_user_token(&signed_in.user_token).await.as_deref(), Some("alice"));
    assert_eq!(app.verify_user_token("a.b.c").await, None);
    let bad = app.resolve_identity(IdentityRequest::new().user_token("a.b.c")).await.unwrap_err();
    assert!(matches!(bad, Error::ReAuthRequired(_)), "{bad:?}");
}

#[tokio::test]
async fn core_95_a_sign_in_that_does_not_come_about() {
    let vault = Vault::start().await;
    let world = vault.world().await;
    let app = vault.app(&world);
    Key::registered(&vault, &world).await;
    let unknown = app.poll_auth_session("auth_nobodys", quick()).await.unwrap_err();
    assert!(matches!(&unknown, Error::SignIn(refusal) if refusal.message.contains("begin another")), "{unknown:?}");
    let session = app.create_auth_session().await.unwrap();
    let late = app.poll_auth_session(&session.session_token, quick().timeout(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(late, Error::ConnectTimeout { .. }), "{late:?}");
    Browser::open(&vault, &session.auth_url).await.press("decline").await;
    let denied = app.poll_auth_session(&session.session_token, quick()).await.unwrap_err();
    let code = denied.refusal().unwrap().code.as_deref();
    assert!(matches!(denied, Error::SignIn(_)) && code == Some("access_denied"), "{denied:?}");
}
