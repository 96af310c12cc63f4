//! What calls the servers: signed requests of an app, and plain ones of an operator.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use grantd_wire::sign::{self, SigningKey, ToSign, hex, sha256};
use serde_json::{Value, json};

/// Where the secret of a world may go.
const URL: &str = "https://api.example.com/v1/things";

/// What came back; no answer is status 0.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }

    pub fn is_released(&self) -> bool {
        self.status == 200
    }

    /// Refused for good, and not for want of a database.
    pub fn is_refused(&self) -> bool {
        (400..500).contains(&self.status) && self.status != 429
    }

    pub fn token(&self) -> &str {
        self.body["access_token"].as_str().unwrap_or_default()
    }
}

/// A signed call, ready to be sent anywhere, as often as one likes.
#[derive(Clone)]
pub struct Signed {
    body: String,
    headers: Vec<(&'static str, String)>,
}

/// An app with a key, a secret and a grant on it.
#[derive(Clone)]
pub struct World {
    pub app: String,
    pub key: String,
    pub secret: String,
    pub grant: String,
}

/// One replica, as seen from outside.
#[derive(Clone)]
pub struct Replica {
    pub base: String,
    pub pat: String,
    http: reqwest::Client,
}

impl Replica {
    pub fn new(base: String, pat: String) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(std::time::Duration::from_mins(1))
            .pool_max_idle_per_host(64)
            .build()
            .unwrap();
        Self { base, pat, http }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let Ok(answer) = request.send().await else { return Answer { status: 0, body: Value::Null } };
        let status = answer.status().as_u16();
        match answer.text().await {
            Ok(text) => Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) },
            Err(_) => Answer { status: 0, body: Value::Null },
        }
    }

    /// A call of the operator.
    pub async fn api(&self, method: &str, path: &str, body: Value) -> Answer {
        let url = format!("{}/api/v1/{path}", self.base);
        let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(&self.pat);
        if !body.is_null() {
            request = request.json(&body);
        }
        self.send(request).await
    }

    /// Asks for a credential.
    pub async fn token(&self, signed: &Signed) -> Answer {
        let mut request = self.http.post(format!("{}/sdk/token", self.base)).body(signed.body.clone());
        for (name, value) in &signed.headers {
            request = request.header(*name, value);
        }
        self.send(request).await
    }

    pub async fn revoke(&self, app: &str, grant: &str) -> Answer {
        self.api("POST", &format!("apps/{app}/grants/{grant}/revoke"), Value::Null).await
    }

    /// A new app with everything a call needs.
    pub async fn world(&self, name: &str) -> World {
        let app = text(&self.api("POST", "apps", json!({"name": name})).await.ok(), "id");
        let (_, key) = self.mint(&app).await;
        let secret = json!({"name": "Stripe", "value": "value-0", "allowed_hosts": ["api.example.com"]});
        let secret = self.api("POST", &format!("apps/{app}/managed-secrets"), secret).await.ok();
        World { app, key, secret: text(&secret, "slug"), grant: text(&secret, "grant_id") }
    }

    /// A new key: its id and its text.
    pub async fn mint(&self, app: &str) -> (String, String) {
        let body = json!({"name": "Backend", "scopes": ["tokens:retrieve"]});
        let minted = self.api("POST", &format!("apps/{app}/keys"), body).await.ok();
        (text(&minted, "id"), text(&minted, "api_key"))
    }
}

/// A call for the grant's credential, with a nonce of its own.
pub fn ask(key: &str, grant: &str, reason: &str) -> Signed {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let body = json!({"grant_id": grant, "reason": reason, "request": {"method": "GET", "url": URL}}).to_string();
    let unique = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let nonce = hex(&sha256(format!("{unique}-{:?}", now()).as_bytes())[..16]);
    let timestamp = now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().to_string();
    let content_sha256 = hex(&sha256(body.as_bytes()));
    let target = sign::canonical_target("/sdk/token", None);
    let to_sign = ToSign {
        method: "POST",
        target: &target,
        timestamp: &timestamp,
        nonce: &nonce,
        content_sha256: &content_sha256,
        ..ToSign::default()
    };
    let signature = SigningKey::derive(key).sign(&to_sign.text());
    let headers = vec![
        (sign::HEADER_KEY, key.to_owned()),
        (sign::HEADER_TIMESTAMP, timestamp),
        (sign::HEADER_NONCE, nonce),
        (sign::HEADER_CONTENT_SHA256, content_sha256),
        (sign::HEADER_SIGNATURE, signature),
        ("user-agent", "alter-sdk-python/0.29.0".to_owned()),
    ];
    Signed { body, headers }
}

#[expect(clippy::disallowed_methods, reason = "a client's clock: servers compare it with theirs")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[track_caller]
pub fn text(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap_or_else(|| panic!("no {field} in {object}")).to_owned()
}
