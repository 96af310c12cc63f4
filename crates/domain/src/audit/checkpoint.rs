//! Signed checkpoints: the heads of an owner's chains at one moment, each checkpoint naming the one before.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use grantd_wire::ids::SigningKeyId;
use grantd_wire::sign::{hex, sha256};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::env::{Entropy, random};

/// What a checkpoint says. Its text is RFC 8785.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Checkpoint {
    /// The app's id, or the organization's for its own chain.
    pub app_id: String,
    /// 1, 2, 3 …
    pub n: i64,
    /// Hash of the checkpoint before, or null for the first.
    pub previous: Option<String>,
    pub at: grantd_wire::TimeMs,
    /// Heads that moved since the checkpoint before.
    pub heads: Vec<HeadAt>,
    /// The checkpoint up to which retention has cut the chains, each after its last head until then; absent while nothing was
    /// pruned. It is always an earlier one, and never goes back.
    pub pruned_to: Option<i64>,
}

/// A chain's last link at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HeadAt {
    pub chain_id: String,
    pub seq: i64,
    pub hash: String,
}

impl Checkpoint {
    /// The canonical text that is stored and signed.
    pub fn text(&self) -> String {
        super::canonical(self)
    }

    /// Hash of a checkpoint's canonical text: what the next one, and a chain begun after it, refer to.
    pub fn hash_of(text: &str) -> [u8; 32] {
        sha256(text.as_bytes())
    }
}

/// A signature and who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub key_id: SigningKeyId,
    /// Standard base64 of 64 bytes.
    pub signature: String,
}

/// The key that signs checkpoints and exports.
pub struct CheckpointKey {
    id: SigningKeyId,
    pair: Ed25519KeyPair,
}

impl CheckpointKey {
    /// Makes a key; the seed is to be sealed.
    pub fn generate(entropy: &dyn Entropy, id: SigningKeyId) -> (Self, Zeroizing<[u8; 32]>) {
        let seed = Zeroizing::new(random::<32>(entropy));
        let key = Self::from_seed(id, &*seed).expect("32 bytes are a seed");
        (key, seed)
    }

    /// The key of a stored seed; `None` if it is not 32 bytes.
    pub fn from_seed(id: SigningKeyId, seed: &[u8]) -> Option<Self> {
        Ed25519KeyPair::from_seed_unchecked(seed).ok().map(|pair| Self { id, pair })
    }

    /// The public key as JWK.
    pub fn jwk(&self) -> Value {
        jwk(self.id, self.pair.public_key().as_ref())
    }

    /// Signs a checkpoint's canonical text.
    pub fn sign_checkpoint(&self, text: &str) -> Signed {
        self.sign(&format!("grantd.checkpoint.1{text}"))
    }

    /// Signs an export's footer.
    pub fn sign_footer(&self, footer: &str) -> Signed {
        self.sign(&footer_text(footer))
    }

    fn sign(&self, text: &str) -> Signed {
        Signed { key_id: self.id, signature: BASE64_STANDARD.encode(self.pair.sign(text.as_bytes())) }
    }
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointKey({})", self.id)
    }
}

/// What a footer's signature covers.
pub fn footer_text(footer: &str) -> String {
    format!("grantd.export.1{footer}")
}

/// An Ed25519 public key as JWK (RFC 8037).
pub fn jwk(id: SigningKeyId, public: &[u8]) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": BASE64_URL_SAFE_NO_PAD.encode(public)})
}

/// Whether `signature` (base64) signs `text` under the JWK.
pub fn verify_signature(jwk: &Value, text: &str, signature: &str) -> bool {
    let public = jwk["x"].as_str().and_then(|x| BASE64_URL_SAFE_NO_PAD.decode(x).ok());
    let signature = BASE64_STANDARD.decode(signature).ok();
    match (public, signature) {
        (Some(public), Some(signature)) if jwk["crv"] == "Ed25519" => {
            UnparsedPublicKey::new(&ED25519, public).verify(text.as_bytes(), &signature).is_ok()
        }
        _ => false,
    }
}

impl HeadAt {
    /// From a chain's head.
    pub fn of(head: &super::Head) -> Self {
        Self { chain_id: head.chain_id.to_string(), seq: head.seq, hash: hex(&head.hash) }
    }
}
