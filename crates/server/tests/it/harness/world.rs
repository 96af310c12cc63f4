//! An app with a key, a managed secret and a grant on it: made through the API, as an operator would.

use grantd_wire::scope;
use serde_json::{Value, json};

use super::{Answer, Raw, Server, Sign};

/// Where the secrets of a world may go.
pub const URL: &str = "https://api.example.com/v1/things";
/// What a world's secret holds.
pub const VALUE: &str = "canary-of-the-first-value";

/// One app with everything a call needs.
#[derive(Clone, Debug)]
pub struct World {
    pub app: String,
    pub key_id: String,
    pub key: String,
    pub secret: String,
    pub secret_id: String,
    pub grant: String,
}

impl Server {
    /// An app with a key that has every scope, a secret, and its base grant.
    pub async fn world(&self) -> World {
        self.world_named("First").await
    }

    pub async fn world_named(&self, name: &str) -> World {
        let app = self.api("POST", "/api/v1/apps", json!({"name": name})).await.ok(201);
        let app = text(&app, "id");
        let (key_id, key) = self.key(&app, json!({"scopes": scope::all()})).await;
        let secret = self.secret(&app, json!({})).await;
        World {
            key_id,
            key,
            secret: text(&secret, "slug"),
            secret_id: text(&secret, "id"),
            grant: text(&secret, "grant_id"),
            app,
        }
    }

    /// Mints a key: its id and its text.
    pub async fn key(&self, app: &str, more: Value) -> (String, String) {
        let body = merged(json!({"name": "Backend"}), more);
        let minted = self.api("POST", &format!("/api/v1/apps/{app}/keys"), body).await.ok(201);
        (text(&minted, "id"), text(&minted, "api_key"))
    }

    /// A key with these scopes only.
    pub async fn key_with(&self, app: &str, scopes: &[&str]) -> String {
        self.key(app, json!({"scopes": scopes})).await.1
    }

    /// Stores a secret: a bearer token for one host, unless `more` says otherwise.
    pub async fn secret(&self, app: &str, more: Value) -> Value {
        let body = json!({"name": "Stripe", "value": VALUE, "allowed_hosts": ["api.example.com"]});
        let answer = self.api("POST", &format!("/api/v1/apps/{app}/managed-secrets"), merged(body, more)).await;
        answer.ok(201)
    }

    /// A further grant on the world's secret.
    pub async fn grant(&self, world: &World, more: Value) -> String {
        let body = merged(json!({"principal_type": "system"}), more);
        let path = world.path(&format!("managed-secrets/{}/grants", world.secret));
        text(&self.api("POST", &path, body).await.ok(201), "grant_id")
    }

    /// Changes the world's app.
    pub async fn update_app(&self, world: &World, change: Value) {
        self.api("PATCH", &world.path(""), change).await.ok(200);
    }

    /// Asks for the credential of the world's grant.
    pub async fn token(&self, world: &World) -> Answer {
        self.send(self.token_request(world)).await
    }

    pub fn token_request(&self, world: &World) -> Raw {
        self.sign(&world.key).post("/sdk/token", &ask(&world.grant))
    }

    /// Signs as the world's key.
    pub fn sign_as<'w>(&self, world: &'w World) -> Sign<'w> {
        self.sign(&world.key)
    }

    /// Revokes a grant through the API.
    pub async fn revoke(&self, world: &World, grant: &str) -> Answer {
        self.api("POST", &world.path(&format!("grants/{grant}/revoke")), Value::Null).await
    }

    /// Rotates the world's secret to this value.
    pub async fn rotate(&self, world: &World, value: &str) -> Answer {
        let path = world.path(&format!("managed-secrets/{}/rotate", world.secret));
        self.api("POST", &path, json!({"value": value})).await
    }

    /// Every event of the world's app, oldest first, as the export shows it.
    pub async fn trail(&self, world: &World) -> Vec<Value> {
        self.events(&world.path("audit/export")).await
    }

    /// Core and private fields, flat, of the events of this kind, oldest first.
    pub async fn told(&self, world: &World, kind: &str) -> Vec<Value> {
        let path = world.path(&format!("audit/events?limit=1000&kind={kind}"));
        let page = self.api("GET", &path, Value::Null).await.ok(200);
        let mut events = page["items"].as_array().unwrap().clone();
        // Within a millisecond the list is in no order; a chain always is.
        events.sort_by_key(|event| (text(event, "at"), event["seq"].as_i64()));
        events
    }
}

impl World {
    /// A path of the management API inside this app; without a rest, the app's own.
    pub fn path(&self, rest: &str) -> String {
        let path = format!("/api/v1/apps/{}/{rest}", self.app);
        path.trim_end_matches('/').to_owned()
    }

    /// This world as seen by another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// This world with another grant.
    pub fn with_grant(&self, grant: &str) -> Self {
        Self { grant: grant.to_owned(), ..self.clone() }
    }
}

/// The body of a token call.
pub fn ask(grant: &str) -> Value {
    json!({"grant_id": grant, "reason": null, "request": {"method": "GET", "url": URL}})
}

/// The field's text.
#[track_caller]
pub fn text(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap_or_else(|| panic!("no {field} in {object}")).to_owned()
}

/// `body` with the fields of `more` over it; a null takes a field away.
pub fn merged(mut body: Value, more: Value) -> Value {
    let Value::Object(more) = more else { return body };
    for (name, value) in more {
        match value {
            Value::Null => drop(body.as_object_mut().unwrap().remove(&name)),
            value => body[name] = value,
        }
    }
    body
}
