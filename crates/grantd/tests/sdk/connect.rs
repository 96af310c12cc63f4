//! Connect, with the program itself, a provider on loopback, and a browser that follows its pages.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use grantd_sdk::{
    ConnectEvent, ConnectOperation, ConnectRequest, ConnectSession, ConnectWait, Error, GrantPolicy, MintRequest,
};
use serde_json::json;

use crate::vault::{Vault, World};

/// A browser: its cookie, and what it sends.
pub struct Browser<'v> {
    vault: &'v Vault,
    http: reqwest::Client,
    cookie: String,
    page: String,
}

impl<'v> Browser<'v> {
    /// Opens a session's link.
    pub async fn open(vault: &'v Vault, link: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut browser = Self { vault, http, cookie: String::new(), page: String::new() };
        let opened = browser.post("/connect/open", &[("session", link)]).await;
        assert_eq!(opened.status(), 303);
        header(&opened, "set-cookie").split(';').next().unwrap().clone_into(&mut browser.cookie);
        browser.page = header(&opened, "location");
        browser
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(format!("{}{path}", self.vault.base_url)).header("cookie", &self.cookie).send().await.unwrap()
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> reqwest::Response {
        let pairs = form.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        let request = self.http.post(format!("{}{path}", self.vault.base_url)).header("cookie", &self.cookie);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(pairs.collect::<Vec<_>>().join("&")).send().await.unwrap()
    }

    /// Presses a button of the session's page.
    pub async fn press(&self, action: &str) -> String {
        let page = self.get(&self.page).await.text().await.unwrap();
        let csrf = between(&page, r#"name="csrf" value=""#, "\"");
        let pressed = self.post(&format!("{}/{action}", self.page), &[("csrf", &csrf), ("provider", "acme")]).await;
        pressed.text().await.unwrap()
    }

    /// Consents here and there.
    async fn consent(&self) {
        let link = self.leave().await;
        self.come_back(&link).await;
    }

    /// Consents here; the link to the provider.
    pub async fn leave(&self) -> String {
        between(&self.press("start").await, "url=", "\"").replace("&amp;", "&")
    }

    /// Consents there.
    pub async fn come_back(&self, link: &str) {
        let state = in_query(link, "state");
        let back = self.get(&format!("/oauth/callback?code=code-1&state={state}")).await;
        assert!(back.status().is_success() || back.status().is_redirection(), "{back:?}");
    }
}

fn header(answer: &reqwest::Response, name: &str) -> String {
    answer.headers()[name].to_str().unwrap().to_owned()
}

/// What a link says under this name.
pub fn in_query(link: &str, name: &str) -> String {
    between(&format!("{link}&"), &format!("{name}="), "&")
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn between(text: &str, before: &str, after: &str) -> String {
    let start = text.find(before).unwrap_or_else(|| panic!("no {before} in {text}")) + before.len();
    let end = text[start..].find(after).unwrap() + start;
    text[start..end].to_owned()
}

fn quick() -> ConnectWait {
    ConnectWait::new().poll_interval(Duration::from_millis(20)).timeout(Duration::from_mins(1)).open_browser(false)
}

/// An app that is registered with the provider on loopback.
async fn registered(vault: &Vault) -> World {
    let world = vault.world().await;
    let provider = json!({"provider": "acme", "name": "Acme", "client_id": "c", "client_secret": "canary", "custom": {
        "authorize_url": vault.provider.url("/authorize"), "token_url": vault.provider.url("/token"),
        "userinfo_url": vault.provider.url("/me"),
    }, "allowed_hosts": [&vault.provider.authority]});
    vault.api("POST", &format!("apps/{}/providers", world.app_id), provider).await;
    world
}

async fn begin(vault: &Vault, world: &World, request: ConnectRequest) -> ConnectSession {
    vault.app(world).create_connect_session(request.providers(["acme"])).await.unwrap()
}

#[tokio::test]
async fn core_85_core_87_core_93_a_user_connects_and_the_grant_is_used() {
    let vault = Vault::start().await;
    let world = registered(&vault).await;
    let app = vault.app(&world);
    let (told, link) = tokio::sync::oneshot::channel();
    let told = Arc::new(Mutex::new(Some(told)));
    let wait = quick().on_event(move |event| {
        if let ConnectEvent::Begun(session) = event {
            told.lock().unwrap().take().unwrap().send(session.connect_url).unwrap();
        }
    });
    let user = async { Browser::open(&vault, &link.await.unwrap()).await.consent().await };
    let (connected, ()) = tokio::join!(app.connect(ConnectRequest::new().providers(["acme"]), wait), user);
    let connected = connected.unwrap();
    let [grant] = &connected.grants[..] else { panic!("{connected:?}") };
    assert_eq!((&*grant.provider_id, grant.operation), ("acme", ConnectOperation::Creation));
    assert_eq!(grant.account_identifier.as_deref(), Some("user-1"));
    app.request("GET", &vault.provider.url("/x")).grant_id(&grant.grant_id).send().await.unwrap();
    assert_eq!(vault.provider.seen().last().unwrap(), "Bearer tokens-of-user-1");

    // A grant beside it, tighter; its account again, and no other grant.
    let policy = GrantPolicy { max_ttl_seconds: Some(60), ..GrantPolicy::default() };
    let ask = MintRequest { grant_policy: Some(policy), ..MintRequest::labelled("ci") };
    let minted = app.mint_grant(&grant.grant_id, &ask).await.unwrap();
    assert_eq!((minted.label.as_deref(), &*minted.provider_id), (Some("ci"), "acme"));
    assert!(minted.grant_policy.unwrap().expires_at.is_some());
    let session = begin(&vault, &world, ConnectRequest::new().repair_grant_id(&grant.grant_id)).await;
    Browser::open(&vault, &session.connect_url).await.consent().await;
    let mended = app.poll_connect_session(&session.session_token, quick()).await.unwrap();
    assert_eq!((&mended.grants[0].grant_id, mended.grants[0].operation), (&grant.grant_id, ConnectOperation::Reauth));
}

#[tokio::test]
async fn core_88_core_89_core_91_a_user_who_does_not() {
    let vault = Vault::start().await;
    let world = registered(&vault).await;
    let app = vault.app(&world);
    let unknown = app.poll_connect_session("sess_nobodys", quick()).await.unwrap_err();
    assert!(matches!(unknown, Error::ConnectFlow(_)), "{unknown:?}");
    let session = begin(&vault, &world, ConnectRequest::new()).await;
    let browser = Browser::open(&vault, &session.connect_url).await;
    browser.press("decline").await;
    let denied = app.poll_connect_session(&session.session_token, quick()).await.unwrap_err();
    assert!(matches!(&denied, Error::ConnectDenied(_)) && denied.is("ConnectFlowError"), "{denied:?}");
    let session = begin(&vault, &world, ConnectRequest::new()).await;
    let late = quick().timeout(Duration::ZERO);
    let late = app.poll_connect_session(&session.session_token, late).await.unwrap_err();
    assert!(matches!(&late, Error::ConnectTimeout { reason, .. } if reason == "poll_deadline_elapsed"), "{late:?}");
    // What the vault refuses has its own error.
    let other = app.create_connect_session(ConnectRequest::new().providers(["nonesuch"])).await.unwrap_err();
    assert_eq!(other.status(), Some(400), "{other:?}");
}

#[tokio::test]
async fn core_86_core_92_sessions_as_they_are_asked_for() {
    let vault = Vault::start().await;
    let world = registered(&vault).await;
    let app = vault.app(&world);
    let session = begin(
        &vault,
        &world,
        ConnectRequest::new()
            .direct()
            .label("nightly")
            .required_scopes("acme", ["read"])
            .return_url("https://app.example.com/done")
            .allowed_origin("https://app.example.com")
            .metadata("ip_address", "192.0.2.1")
            .grant_policy(GrantPolicy { max_ttl_seconds: Some(60), ..GrantPolicy::default() }),
    )
    .await;
    assert!(session.direct && session.single_provider);
    // An error of the vault leads to a session that mends it.
    let first = begin(&vault, &world, ConnectRequest::new()).await;
    Browser::open(&vault, &first.connect_url).await.consent().await;
    let grant = app.poll_connect_session(&first.session_token, quick()).await.unwrap().grants[0].grant_id.clone();
    app.revoke_grant(&grant, None).await.unwrap();
    let refused = app.request("GET", &vault.provider.url("/x")).grant_id(&grant).send().await.unwrap_err();
    assert!(matches!(refused, Error::GrantRevoked { .. }), "{refused:?}");
    let nameless = app.create_connect_session_for_error(&refused, ConnectRequest::new()).await.unwrap_err();
    assert!(matches!(nameless, Error::Invalid(_)), "a revoked grant names no provider: {nameless:?}");
    // Of one whose credential is gone the vault names grant and provider; that grant is gone by now, so a new one is made.
    let revoked = Error::CredentialRevoked {
        grant_id: Some(grant),
        provider_id: Some("acme".to_owned()),
        app_user_id: None,
        refusal: Box::new(refused.refusal().unwrap().clone()),
    };
    let again = app.create_connect_session_for_error(&revoked, ConnectRequest::new()).await.unwrap();
    Browser::open(&vault, &again.connect_url).await.consent().await;
    let made = app.poll_connect_session(&again.session_token, quick()).await.unwrap();
    assert_eq!(made.grants[0].operation, ConnectOperation::Creation);
}

#[tokio::test]
async fn the_catalogue_of_providers_is_listed() {
    let vault = Vault::start().await;
    let world = vault.world().await;
    let providers = vault.app(&world).list_oauth_providers().await.unwrap();
    let google = providers.iter().find(|provider| provider.id == "google").unwrap();
    assert!(google.supports_refresh && !google.default_scopes.is_empty());
}
