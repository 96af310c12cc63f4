//! The provider over HTTP, as a client and a browser see it.

use std::sync::Arc;

use base64::prelude::BASE64_STANDARD;
use reqwest::{Client, Method, RequestBuilder, Response, redirect};
use url::form_urlencoded::Serializer;

use super::*;
use crate::host::Host;
use crate::scratch::Scratch;

const BACK: &str = "http://127.0.0.1:8400/oauth/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A provider with its client, and a browser.
struct Running {
    issuer: Arc<Issuer>,
    secret: Secret,
    client: Client,
    scratch: Scratch,
    _service: Service,
}

type Fields<'a> = &'a [(&'a str, &'a str)];

impl Running {
    async fn start() -> Self {
        Self::start_in(Scratch::new()).await
    }

    async fn start_in(scratch: Scratch) -> Self {
        let (issuer, service) = Issuer::start(&scratch.0, Arc::new(Host)).await.unwrap();
        let secret = issuer.new_client_secret().unwrap();
        issuer.set_registered("registration").unwrap();
        issuer.admit(BACK);
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap();
        Self { issuer, secret, client, scratch, _service: service }
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.issuer.url()))
    }

    async fn form(&self, path: &str, fields: Fields<'_>, cookie: &str) -> Response {
        let request = self.call(Method::POST, path).header("content-type", "application/x-www-form-urlencoded");
        let body = Serializer::new(String::new()).extend_pairs(fields).finish();
        request.header("cookie", cookie).body(body).send().await.unwrap()
    }

    /// A call of the client, which says who it is in its header.
    async fn client_form(&self, path: &str, fields: Fields<'_>) -> (u16, Value) {
        let request = self.call(Method::POST, path).basic_auth(CLIENT_ID, Some(self.secret.reveal()));
        let body = Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// Opens the page with some parameters changed; an empty one is left out.
    async fn open(&self, changed: Fields<'_>) -> Response {
        let usual = [
            ("client_id", CLIENT_ID),
            ("redirect_uri", BACK),
            ("response_type", "code"),
            ("scope", "openid email offline_access unheard_of"),
            ("state", "s&t=a te"),
            ("nonce", "n-1"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        let mut query = Serializer::new(String::new());
        for (name, value) in
            usual.iter().filter(|(name, _)| !changed.iter().any(|(known, _)| known == name)).chain(changed)
        {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        self.call(Method::GET, &format!("/authorize?{}", query.finish())).send().await.unwrap()
    }

    /// Opens the page and answers it; where the browser is sent.
    async fn answer(&self, answer: &str, person: &str) -> Url {
        let (page, cookie) = seen(self.open(&[]).await).await;
        let fields = [("page", &*page), ("person", person), ("answer", answer)];
        sent_to(&self.form("/answer", &fields, &cookie).await)
    }

    async fn redeem(&self, code: &str) -> (u16, Value) {
        let fields = [("code", code), ("redirect_uri", BACK), ("code_verifier", VERIFIER)];
        self.client_form("/token", &[&[("grant_type", "authorization_code")], &fields[..]].concat()).await
    }

    async fn renew(&self, tokens: &Value) -> (u16, Value) {
        let token = tokens["refresh_token"].as_str().unwrap();
        self.client_form("/token", &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    async fn tokens(&self) -> Value {
        let back = self.answer("allow", "demo-cleo").await;
        let (status, tokens) = self.redeem(&part(&back, "code").unwrap()).await;
        assert_eq!(status, 200, "{tokens}");
        tokens
    }

    async fn userinfo(&self, tokens: &Value) -> (u16, Value) {
        let token = tokens["access_token"].as_str().unwrap();
        let answer = self.call(Method::GET, "/userinfo").bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

/// The page's id and the browser's cookie.
async fn seen(page: Response) -> (String, String) {
    assert_eq!(page.status(), 200);
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
    let cookie = page.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let text = page.text().await.unwrap();
    let id = text.split("name=\"page\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    (id, cookie)
}

fn sent_to(answer: &Response) -> Url {
    assert_eq!(answer.status(), 303);
    Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap()
}

fn part(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

fn claims(tokens: &Value) -> Value {
    let payload = tokens["id_token"].as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn somebody_signs_in_and_the_client_learns_who_it_is() {
    let running = Running::start().await;
    let back = running.answer("allow", "demo-cleo").await;
    assert!(back.as_str().starts_with(BACK));
    assert_eq!(
        (part(&back, "state").unwrap(), part(&back, "iss").unwrap()),
        ("s&t=a te".to_owned(), running.issuer.url().to_owned())
    );
    let (status, tokens) = running.redeem(&part(&back, "code").unwrap()).await;
    assert_eq!(status, 200, "{tokens}");
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(180)));
    assert_eq!(tokens["scope"], "openid email offline_access");
    let claims = claims(&tokens);
    let wanted = json!({"iss": running.issuer.url(), "aud": CLIENT_ID, "sub": "demo-cleo", "nonce": "n-1", "email": "cleo@demo.example"});
    for (name, value) in wanted.as_object().unwrap() {
        assert_eq!(claims[name], *value, "{name}");
    }
    assert!(claims["auth_time"].as_i64().unwrap() <= claims["iat"].as_i64().unwrap());
    let about = json!({"sub": "demo-cleo", "email": "cleo@demo.example", "email_verified": true});
    assert_eq!(running.userinfo(&tokens).await, (200, about));
    assert_eq!(running.issuer.accepts(tokens["access_token"].as_str().unwrap()), Some(true));
    assert_eq!(running.issuer.accepts("a key of one's own"), None);
}

#[tokio::test]
async fn its_document_says_what_it_does() {
    let running = Running::start().await;
    let get =
        async |path: &str| -> Value { running.call(Method::GET, path).send().await.unwrap().json().await.unwrap() };
    let document = get("/.well-known/openid-configuration").await;
    assert_eq!(document["issuer"], running.issuer.url());
    assert_eq!(document, get("/.well-known/oauth-authorization-server").await);
    let keys = document["jwks_uri"].as_str().unwrap().strip_prefix(running.issuer.url()).unwrap();
    let tokens = running.tokens().await;
    let header = tokens["id_token"].as_str().unwrap().split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(get(keys).await["keys"][0]["kid"], header["kid"]);
    for name in ["token_endpoint", "userinfo_endpoint", "revocation_endpoint"] {
        let path = document[name].as_str().unwrap().strip_prefix(running.issuer.url()).unwrap();
        let status = running.call(Method::POST, path).send().await.unwrap().status();
        assert!(status == 400 || status == 401, "{name}: {status}");
    }
}

#[tokio::test]
async fn deny_sends_back_without_a_code() {
    let running = Running::start().await;
    for (answer, person) in [("deny", "demo-ada"), ("allow", "demo-nobody"), ("", "demo-ada")] {
        let back = running.answer(answer, person).await;
        assert_eq!(part(&back, "error").as_deref(), Some("access_denied"));
        assert_eq!(part(&back, "code"), None);
    }
}

#[tokio::test]
async fn a_page_is_answered_once_and_by_the_browser_it_was_shown_to() {
    let running = Running::start().await;
    let (page, cookie) = seen(running.open(&[]).await).await;
    let fields = [("page", &*page), ("person", "demo-ada"), ("answer", "allow")];
    let other = format!("{COOKIE}={}", "a".repeat(43));
    for stranger in ["", &other] {
        assert_eq!(running.form("/answer", &fields, stranger).await.status(), 400);
    }
    sent_to(&running.form("/answer", &fields, &cookie).await);
    assert_eq!(running.form("/answer", &fields, &cookie).await.status(), 400);
}

#[tokio::test]
async fn what_is_wrong_with_a_link_is_told_to_whom_it_is_safe_to_tell() {
    let running = Running::start().await;
    let to_person: [Fields<'_>; 5] = [
        &[("client_id", "other")],
        &[("client_id", "")],
        &[("redirect_uri", "http://127.0.0.1:8400/oauth/callback/")],
        &[("redirect_uri", "")],
        &[("redirect_uri", BACK), ("redirect_uri", "http://127.0.0.1:1/")],
    ];
    for changed in to_person {
        assert_eq!(running.open(changed).await.status(), 400, "{changed:?}");
    }
    let too_long = "x".repeat(QUERY_BYTES_MAX);
    assert_eq!(running.open(&[("state", &too_long)]).await.status(), 400);
    let to_client: [(Fields<'_>, &str); 11] = [
        (&[("response_type", "token")], "unsupported_response_type"),
        (&[("response_type", "")], "invalid_request"),
        (&[("code_challenge", "")], "invalid_request"),
        (&[("code_challenge", "short")], "invalid_request"),
        (&[("code_challenge_method", "plain")], "invalid_request"),
        (&[("code_challenge_method", "")], "invalid_request"),
        (&[("scope", "unheard_of")], "invalid_scope"),
        (&[("prompt", "none")], "login_required"),
        (&[("response_mode", "fragment")], "invalid_request"),
        (&[("request", "x")], "request_not_supported"),
        (&[("nonce", "a"), ("nonce", "b")], "invalid_request"),
    ];
    for (changed, error) in to_client {
        let back = sent_to(&running.open(changed).await);
        assert_eq!(part(&back, "error").as_deref(), Some(error), "{changed:?}");
        assert_eq!(part(&back, "state").as_deref(), Some("s&t=a te"));
    }
    assert_eq!(running.open(&[("prompt", "select_account consent")]).await.status(), 200);
}

#[tokio::test]
async fn only_the_client_gets_tokens() {
    let running = Running::start().await;
    let back = running.answer("allow", "demo-ada").await;
    let code = part(&back, "code").unwrap();
    let grant =
        [("grant_type", "authorization_code"), ("code", &*code), ("redirect_uri", BACK), ("code_verifier", VERIFIER)];
    let anybody = running.form("/token", &grant, "").await;
    assert_eq!(anybody.status(), 401);
    assert!(anybody.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic"));
    let wrong = [&grant[..], &[("client_id", CLIENT_ID), ("client_secret", "x")]].concat();
    assert_eq!(running.form("/token", &wrong, "").await.status(), 401);
    let in_form = [&grant[..], &[("client_id", CLIENT_ID), ("client_secret", running.secret.reveal())]].concat();
    let twice = running.client_form("/token", &in_form).await;
    assert_eq!((twice.0, &twice.1["error"]), (400, &json!("invalid_request")));
    assert_eq!(running.form("/token", &in_form, "").await.status(), 200, "the code was not touched by strangers");

    let pair = BASE64_STANDARD.encode(format!("grantd%2Ddev:{}", running.secret.reveal()));
    let request = running.call(Method::POST, "/token").header("authorization", format!("Basic {pair}"));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body("grant_type=password");
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["error"], "unsupported_grant_type", "it is known, however it is encoded");
    let no_form = running.call(Method::POST, "/token").body("{}").send().await.unwrap();
    assert_eq!(no_form.status(), 400);
    let too_large = "x".repeat(BODY_BYTES_MAX + 1);
    assert_eq!(running.form("/token", &[("code", &too_large)], "").await.status(), 413);
}

#[tokio::test]
async fn tokens_are_renewed_ended_and_outlive_the_process() {
    let running = Running::start().await;
    let first = running.tokens().await;
    let (status, second) = running.renew(&first).await;
    assert_eq!(status, 200, "{second}");
    assert_ne!(first["access_token"], second["access_token"]);
    assert_eq!(claims(&second)["nonce"], Value::Null);

    let Running { scratch, .. } = running;
    let running = Running::start_in(scratch).await;
    assert_eq!(running.userinfo(&second).await.0, 200);
    let (status, third) = running.renew(&second).await;
    assert_eq!(status, 200, "{third}");

    let strangers = running.form("/revoke", &[("token", third["refresh_token"].as_str().unwrap())], "").await;
    assert_eq!(strangers.status(), 401);
    assert_eq!(running.userinfo(&third).await.0, 200);
    assert_eq!(running.client_form("/revoke", &[("token", "of nobody")]).await.0, 200);
    assert_eq!(running.client_form("/revoke", &[("token", third["refresh_token"].as_str().unwrap())]).await.0, 200);
    assert_eq!(running.userinfo(&third).await.0, 401);
    assert_eq!(running.issuer.accepts(third["access_token"].as_str().unwrap()), Some(false));
    let (status, refused) = running.renew(&third).await;
    assert_eq!((status, &refused["error"]), (400, &json!("invalid_grant")));
}

#[tokio::test]
async fn tokens_that_cannot_be_kept_are_not_handed_out() {
    let running = Running::start().await;
    let tokens = running.tokens().await;
    let in_the_way = running.scratch.0.join(format!("{STATE_FILE}.new"));
    std::fs::create_dir(&in_the_way).unwrap();
    let (status, refused) = running.renew(&tokens).await;
    assert_eq!((status, &refused["error"]), (503, &json!("temporarily_unavailable")));
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(running.renew(&tokens).await.0, 200, "the refresh token was not used up");
}

#[tokio::test]
async fn it_listens_to_its_own_name_alone() {
    let running = Running::start().await;
    let as_host = async |host: String| {
        let request = running.call(Method::GET, "/.well-known/openid-configuration").header("host", host);
        request.send().await.unwrap().status()
    };
    assert_eq!(as_host(running.issuer.authority().to_owned()).await, 200);
    assert_eq!(as_host(format!("localhost:{}", running.issuer.port)).await, 400);
    assert_eq!(as_host("rebound.example".to_owned()).await, 400);
}
