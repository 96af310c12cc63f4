//! What `dev` makes and finds again: an app, a key, a demo secret and a grant on it.
//!
//! Whatever was revoked, changed or lost since the last start is made again, alone: the rest stays what it was.

use std::collections::BTreeMap;
use std::path::Path;

use grantd_domain::env::{Clock as _, new_token};
use grantd_wire::api::{
    AllowedHosts, App, AppCreate, CreatedSecret, Grant, GrantCreate, Key, KeyMint, ListQuery, MintedKey, Page, Secret,
    SecretCreate, SecretRotate,
};
use grantd_wire::scope;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::boot;
use crate::cli::{Api, Exit, Failure, NoQuery};
use crate::host::Host;

const SECRET_NAME: &str = "Demo API";
const SECRET_SLUG: &str = "demo-api";
const STATE_FILE: &str = "dev.json";
/// Where every demo API listens.
pub const DEMO_HOST_PREFIX: &str = "127.0.0.1:";

/// What there is to try things out with. Kept with mode 0600: it holds the key.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Made {
    pub app_id: String,
    pub key_id: String,
    pub api_key: String,
    pub secret_id: String,
    pub grant_id: String,
    /// Changes by itself when the secret's name is given to another; for commands that people read.
    pub slug: String,
}

/// What an earlier start noted; an older one noted less.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Earlier {
    app_id: Option<String>,
    key_id: Option<String>,
    api_key: Option<String>,
    secret_id: Option<String>,
    grant_id: Option<String>,
}

/// Finds what there is, makes what is missing, and says of everything made anew why.
pub async fn make(api: &Api, data_dir: &Path, demo_host: &str) -> Result<(Made, Vec<String>), Failure> {
    let state = data_dir.join(STATE_FILE);
    let earlier = std::fs::read(&state).ok().map(Zeroizing::new);
    let earlier: Earlier = earlier.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let mut notes = Vec::new();
    let app_id = app(api, &earlier, &mut notes).await?;
    let (key_id, api_key) = key(api, &app_id, &earlier, &mut notes).await?;
    let (secret, grant_id) = match find_secret(api, &app_id, &earlier).await? {
        Some(secret) => {
            let secret = reach_demo(api, &app_id, secret, demo_host).await?;
            let grant_id = grant(api, &app_id, &secret, &earlier, &mut notes).await?;
            (secret, grant_id)
        }
        None => create_secret(api, &app_id, demo_host).await?,
    };
    let made = Made { app_id, key_id, api_key, secret_id: secret.id, slug: secret.slug, grant_id };
    let bytes = Zeroizing::new(serde_json::to_vec(&made).expect("texts have a JSON form"));
    boot::write_over(&state, &bytes).map_err(|e| Failure::local(format!("cannot write {}: {e}", state.display())))?;
    Ok((made, notes))
}

/// What is there, or `None`.
pub async fn find<T: DeserializeOwned>(api: &Api, path: &[&str]) -> Result<Option<T>, Failure> {
    match api.get(path, &NoQuery {}).await {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.exit == Exit::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn app(api: &Api, earlier: &Earlier, notes: &mut Vec<String>) -> Result<String, Failure> {
    if let Some(id) = &earlier.app_id {
        let app: Option<App> = find(api, &["apps", id]).await?;
        if app.is_some_and(|app| app.state == "active") {
            return Ok(id.clone());
        }
        notes.push(format!("The app {id} is gone or not active, so another one is used."));
    }
    let query = ListQuery { limit: Some(grantd_wire::limits::PAGE_MAX), ..ListQuery::default() };
    let apps: Page<App> = api.get(&["apps"], &query).await?;
    // The oldest one: where there are several, that is the one an earlier start made.
    let oldest = apps.items.into_iter().filter(|app| app.state == "active").min_by_key(|app| app.created_at);
    if let Some(app) = oldest {
        return Ok(app.id);
    }
    let ask = AppCreate { name: "My first app".to_owned(), ..AppCreate::default() };
    let app: App = api.send_once(&["apps"], &ask).await?;
    Ok(app.id)
}

async fn key(api: &Api, app_id: &str, earlier: &Earlier, notes: &mut Vec<String>) -> Result<(String, String), Failure> {
    if let Some(text) = &earlier.api_key {
        let found = match &earlier.key_id {
            Some(id) => find::<Key>(api, &["apps", app_id, "keys", id]).await?,
            None => find_key(api, app_id, text).await?,
        };
        match found {
            Some(key) if key.revoked_at.is_some() => {
                notes.push(format!("The key {} was revoked, so a new one was minted.", key.key_prefix));
            }
            Some(key) if key.expires_at.is_some_and(|at| at <= Host.now()) => {
                notes.push(format!("The key {} has expired, so a new one was minted.", key.key_prefix));
            }
            Some(key) => return Ok((key.id, text.clone())),
            None => {}
        }
    }
    let mint = KeyMint { name: "dev".to_owned(), scopes: Some(scope::all()), ..KeyMint::default() };
    let minted: MintedKey = api.send_once(&["apps", app_id, "keys"], &mint).await?;
    Ok((minted.key.id, minted.api_key))
}

/// The key of this text, where its id was not noted.
async fn find_key(api: &Api, app_id: &str, text: &str) -> Result<Option<Key>, Failure> {
    let query = ListQuery {
        search: Some("dev".to_owned()),
        limit: Some(grantd_wire::limits::PAGE_MAX),
        ..ListQuery::default()
    };
    let keys: Page<Key> = api.get(&["apps", app_id, "keys"], &query).await?;
    Ok(keys.items.into_iter().find(|key| text.starts_with(&key.key_prefix)))
}

/// The demo secret: the noted one, that of the noted grant, or one that looks like it.
async fn find_secret(api: &Api, app_id: &str, earlier: &Earlier) -> Result<Option<Secret>, Failure> {
    if let Some(id) = &earlier.secret_id
        && let Some(secret) = find(api, &["apps", app_id, "managed-secrets", id]).await?
    {
        return Ok(Some(secret));
    }
    if let Some(id) = &earlier.grant_id
        && let Some(grant) = find::<Grant>(api, &["apps", app_id, "grants", id]).await?
        && let Some(secret) = grant.managed_secret_id
    {
        return find(api, &["apps", app_id, "managed-secrets", &secret]).await;
    }
    let secret: Option<Secret> = find(api, &["apps", app_id, "managed-secrets", SECRET_SLUG]).await?;
    let is_demo = |secret: &Secret| {
        let mut hosts = secret.allowed_hosts.iter();
        secret.name == SECRET_NAME && !secret.allow_any_host && hosts.all(|host| host.starts_with(DEMO_HOST_PREFIX))
    };
    Ok(secret.filter(is_demo))
}

/// The demo API may listen on another port than last time. Everything else about the hosts is the developer's.
async fn reach_demo(api: &Api, app_id: &str, secret: Secret, demo_host: &str) -> Result<Secret, Failure> {
    let (demos, others): (Vec<String>, Vec<String>) =
        secret.allowed_hosts.iter().cloned().partition(|host| host.starts_with(DEMO_HOST_PREFIX));
    if secret.allow_any_host || demos.is_empty() || demos.iter().any(|host| host == demo_host) {
        return Ok(secret);
    }
    let hosts = AllowedHosts { allowed_hosts: std::iter::once(demo_host.to_owned()).chain(others).collect() };
    api.send(Method::PUT, &["apps", app_id, "managed-secrets", &secret.id, "allowed-hosts"], &hosts).await
}

/// A living grant on the secret.
async fn grant(
    api: &Api,
    app_id: &str,
    secret: &Secret,
    earlier: &Earlier,
    notes: &mut Vec<String>,
) -> Result<String, Failure> {
    if let Some(id) = &earlier.grant_id {
        let grant: Option<Grant> = find(api, &["apps", app_id, "grants", id]).await?;
        match grant {
            Some(grant) if grant.status == "active" && grant.managed_secret_id.as_ref() == Some(&secret.id) => {
                return Ok(id.clone());
            }
            Some(grant) if grant.managed_secret_id.as_ref() == Some(&secret.id) => {
                notes.push(format!("The grant {id} is {}, so there is a new one on the same secret.", grant.status));
            }
            _ => {}
        }
    }
    let secret_path = ["apps", app_id, "managed-secrets", &secret.id];
    if secret.credential_id.is_none() {
        // Its value was destroyed with the last grant.
        let rotate = SecretRotate { value: demo_value(), fields: Some(BTreeMap::new()) };
        let _: Secret = api.send_once(&[&secret_path[..], &["rotate"]].concat(), &rotate).await?;
    }
    let ask = GrantCreate { principal_type: "system".to_owned(), ..GrantCreate::default() };
    let grant: Grant = api.send_once(&[&secret_path[..], &["grants"]].concat(), &ask).await?;
    Ok(grant.grant_id)
}

async fn create_secret(api: &Api, app_id: &str, demo_host: &str) -> Result<(Secret, String), Failure> {
    let ask = SecretCreate {
        name: SECRET_NAME.to_owned(),
        template: None,
        credential_type: None,
        value: demo_value(),
        fields: BTreeMap::new(),
        injection_header: None,
        injection_format: None,
        injections: Vec::new(),
        allowed_hosts: vec![demo_host.to_owned()],
        allow_any_host: false,
    };
    let created: CreatedSecret = api.send_once(&["apps", app_id, "managed-secrets"], &ask).await?;
    Ok((created.secret, created.grant_id))
}

fn demo_value() -> String {
    new_token(&Host, "demo_").reveal().to_owned()
}

#[cfg(test)]
mod tests {
    use grantd_domain::env::new_uuid;
    use grantd_wire::api::GrantRevoke;
    use serde_json::json;
    use url::Url;

    use super::*;
    use crate::boot::{DataDir, PAT_FILE};
    use crate::cli::Token;
    use crate::config::{Config, Flags, Inputs};
    use crate::env::Env;
    use grantd_server::http::Bounds;

    use crate::serve::{self, Server, Signals};

    const DEMO: &str = "127.0.0.1:8401";

    /// A whole server with an empty install.
    struct Running {
        server: Server,
        api: Api,
        directory: DataDir,
    }

    async fn start() -> Running {
        let path = std::env::temp_dir().join(format!("grantd-made-{}", new_uuid(&Host)));
        let flags = Flags::default()
            .with("data_dir", Some(path.display().to_string()))
            .with("listen", Some("127.0.0.1:0".to_owned()));
        let env = Env::default();
        let inputs = Inputs { flags: &flags, env: &env, file: None, stderr_is_terminal: false, loopback_only: true };
        let config = Config::load(&inputs).unwrap();
        let directory = DataDir::take(&path).unwrap();
        let (listener, bound) = serve::bind(config.listen).await.unwrap();
        let store = boot::open_store(&config).await.unwrap();
        boot::create_install(&config, &directory, &env, &store).await.unwrap();
        let vault =
            boot::open_vault(&config, &env, store, &serve::url_of(bound, false), &[DEMO.to_owned()]).await.unwrap();
        let server = Server::start(vault, listener, None, Bounds::default()).await.unwrap();
        let pat = std::fs::read_to_string(path.join(PAT_FILE)).unwrap().trim().to_owned();
        let url = Url::parse(&format!("http://{bound}")).unwrap();
        let api = Api::new(url, &Token::of_data_dir(Zeroizing::new(pat), &path)).unwrap();
        Running { server, api, directory }
    }

    impl Running {
        async fn make(&self) -> (Made, usize) {
            let (made, notes) = make(&self.api, &self.directory.path, DEMO).await.unwrap();
            (made, notes.len())
        }

        async fn stop(self) {
            let mut signals = Signals::new().unwrap();
            self.server.stop(std::time::Duration::ZERO, &mut signals).await.unwrap();
            std::fs::remove_dir_all(&self.directory.path).unwrap();
        }
    }

    #[tokio::test]
    async fn what_was_revoked_is_made_again_alone() {
        let running = start().await;
        let api = &running.api;
        let (first, _) = running.make().await;
        assert!((first.clone(), 0) == running.make().await, "a second start makes nothing");

        let grant = ["apps", &first.app_id, "grants", &first.grant_id, "revoke"];
        let _: grantd_wire::api::RevokedGrant = api.send(Method::POST, &grant, &GrantRevoke::default()).await.unwrap();
        let (second, notes) = running.make().await;
        assert!(second.grant_id != first.grant_id && notes == 1);
        assert!(second == Made { grant_id: second.grant_id.clone(), ..first }, "same app, key and secret");
        assert!((second.clone(), 0) == running.make().await);

        let key = ["apps", &second.app_id, "keys", &second.key_id, "revoke"];
        let _: Key = api.send(Method::POST, &key, &json!({})).await.unwrap();
        let (third, notes) = running.make().await;
        assert!(third.api_key != second.api_key && notes == 1);
        assert_eq!(third.grant_id, second.grant_id);

        let hosts = AllowedHosts { allowed_hosts: vec!["127.0.0.1:1".to_owned(), "a.example".to_owned()] };
        let path = ["apps", &third.app_id, "managed-secrets", &third.secret_id];
        let _: Secret = api.send(Method::PUT, &[&path[..], &["allowed-hosts"]].concat(), &hosts).await.unwrap();
        assert!((third.clone(), 0) == running.make().await);
        let secret: Secret = api.get(&path, &NoQuery {}).await.unwrap();
        assert_eq!(secret.allowed_hosts, [DEMO, "a.example"]);
        running.stop().await;
    }

    #[tokio::test]
    async fn an_older_note_is_enough_and_a_lost_one_does_no_harm() {
        let running = start().await;
        let (made, _) = running.make().await;
        let note = running.directory.path.join(STATE_FILE);
        let older = json!({"app_id": made.app_id, "api_key": made.api_key, "grant_id": made.grant_id});
        std::fs::write(&note, older.to_string()).unwrap();
        assert!((made.clone(), 0) == running.make().await);

        std::fs::write(&note, "{").unwrap();
        let (again, _) = running.make().await;
        assert_eq!((&again.app_id, &again.secret_id), (&made.app_id, &made.secret_id));
        running.stop().await;
    }
}
