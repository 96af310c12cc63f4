//! What it costs to prove a user token whose issuer's keys are at hand, as every call that carries one does.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_domain::identity::{Algorithm, Endpoints, IdentityProvider, KeySet, Preset, ProviderState, Token};
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, IdentityProviderId};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::host::instant;
use crate::{Error, Result};

/// What the median of each algorithm that is measured may cost.
pub const BUDGET_US: f64 = 100.0;
/// Proofs before the first that is counted.
const WARM_UP: usize = 2_000;
const NOW: TimeMs = TimeMs(1_800_000_000_000);
const ISSUER: &str = "https://id.example.com/";

/// What proving tokens of one algorithm cost.
#[derive(Debug, Serialize)]
pub struct Cost {
    pub algorithm: &'static str,
    pub token_bytes: usize,
    pub median_us: f64,
    pub p99_us: f64,
}

/// Proves so many tokens of each algorithm that identity providers usually sign with, one after the other.
pub fn measure(rounds: usize) -> Result<Vec<Cost>> {
    Algorithm::ALL
        .iter()
        .filter(|algorithm| matches!(algorithm, Algorithm::Rs256 | Algorithm::Es256 | Algorithm::EdDsa))
        .map(|algorithm| cost(*algorithm, rounds.max(1)))
        .collect()
}

fn cost(algorithm: Algorithm, rounds: usize) -> Result<Cost> {
    let (text, keys) = signed(algorithm)?;
    let idp = provider();
    let keys = KeySet::parse(keys.to_string().as_bytes()).map_err(|e| Error::because("the keys are none", e))?;
    let mut taken = Vec::with_capacity(rounds);
    for round in 0..WARM_UP + rounds {
        let begun = instant();
        let proved = Token::parse(&text).and_then(|token| {
            token.check(&idp, NOW)?;
            token.verify(&idp, &keys, NOW)
        });
        let elapsed = begun.elapsed();
        proved.map_err(|e| Error::because("the token proves nothing", e))?;
        if round >= WARM_UP {
            taken.push(elapsed.as_secs_f64() * 1_000_000.0);
        }
    }
    taken.sort_by(f64::total_cmp);
    let at = |hundredth: usize| taken[(taken.len() - 1) * hundredth / 100];
    Ok(Cost { algorithm: algorithm.as_str(), token_bytes: text.len(), median_us: at(50), p99_us: at(99) })
}

fn provider() -> IdentityProvider {
    let preset = Preset::find("oidc").expect("it is always there");
    IdentityProvider {
        id: IdentityProviderId::from_uuid(Uuid::nil()),
        app_id: AppId::from_uuid(Uuid::nil()),
        name: "Lab".to_owned(),
        preset,
        issuer: ISSUER.to_owned(),
        audiences: vec!["app".to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        claims: preset.claims(),
        endpoints: Endpoints::default(),
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

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A token as identity providers issue them, and the set of three keys with the one that signed it in the middle.
fn signed(algorithm: Algorithm) -> Result<(String, Value)> {
    let cannot = |what: &str| Error(what.to_owned());
    let random = SystemRandom::new();
    let now = NOW.0 / 1000;
    let claims = json!({
        "iss": ISSUER, "sub": "auth0|0123456789abcdef01234567", "aud": ["app", "https://api.example.com"], "iat": now, "exp": now + 3600,
        "email": "ada@example.com", "email_verified": true, "name": "Ada Lovelace", "nonce": "n-0S6_WzA2Mj",
        "groups": ["engineering", "staff", "on-call", "administrators"], "sid": "08a5019c-17e1-4977-8f42-65a12843ea02",
    });
    let head = json!({"alg": algorithm.as_str(), "typ": "JWT", "kid": "k"});
    let text = format!("{}.{}", b64(head.to_string()), b64(claims.to_string()));
    let (mut key, signature) = match algorithm {
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| cannot("no P-256 key"))?;
            let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
            let signature = pair.sign(&random, text.as_bytes()).map_err(|_| cannot("no signature"))?;
            (json!({"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)}), b64(signature))
        }
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate().map_err(|_| cannot("no Ed25519 key"))?;
            let signature = pair.sign(text.as_bytes());
            (json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key())}), b64(signature))
        }
        _ => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| cannot("no RSA key"))?;
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature)
                .map_err(|_| cannot("no signature"))?;
            // PKCS #1: a sequence of the modulus, after nine bytes of tags, lengths and sign, and the exponent.
            let der = pair.public_key().as_ref();
            let (modulus, exponent) = (&der[9..9 + pair.public_modulus_len()], &der[der.len() - 3..]);
            (json!({"kty": "RSA", "n": b64(modulus), "e": b64(exponent)}), b64(signature))
        }
    };
    key["use"] = json!("sig");
    let with = |kid: &str| {
        let mut key = key.clone();
        key["kid"] = json!(kid);
        key
    };
    Ok((format!("{text}.{signature}"), json!({"keys": [with("before"), with("k"), with("after")]})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_is_proved_and_counted() {
        let costs = measure(3).unwrap();
        let names: Vec<&str> = costs.iter().map(|cost| cost.algorithm).collect();
        assert_eq!(names.len(), 3);
        assert!(names.contains(&"RS256") && names.contains(&"ES256") && names.contains(&"EdDSA"));
        assert!(costs.iter().all(|cost| cost.median_us > 0.0 && cost.median_us <= cost.p99_us));
    }
}
