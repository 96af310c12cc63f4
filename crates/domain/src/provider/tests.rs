use std::collections::BTreeSet;
use std::path::Path;

use grantd_wire::TimeMs;
use grantd_wire::limits::OAUTH_TOKEN_BYTES_MAX;

use super::catalog::FILES;
use super::*;
use crate::secret::Secret;

/// Where this server takes answers.
const OURS: &str = "https://grantd.example.com/oauth/callback";
const NOW: TimeMs = TimeMs(1_800_000_000_000);

/// Every id the official client has a constant for.
const THEIRS: &str = "acuity-scheduling adobe aircall airtable apollo asana atlassian attio autodesk basecamp bitbucket bitly \
    box brex calendly cal-com canva clickup close constant-contact contentful deel dialpad digitalocean discord docusign dropbox \
    ebay eventbrite facebook figma github gitlab google hubspot instagram klaviyo linear linkedin mailchimp mercury microsoft \
    miro monday notion outreach pagerduty paypal pinterest pipedrive quickbooks ramp reddit ringcentral rippling salesforce \
    sentry slack snapchat spotify square squarespace stripe tiktok todoist twitter typeform webex webflow xero zoom";

#[test]
fn the_catalogue_holds_every_provider_and_no_other() {
    let expected: BTreeSet<&str> = THEIRS.split_whitespace().collect();
    assert_eq!(expected.len(), 71);
    let ids: Vec<&str> = FILES.iter().map(|(id, _)| *id).collect();
    assert!(ids.is_sorted());
    assert_eq!(ids.iter().copied().collect::<BTreeSet<_>>(), expected);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers/oauth");
    let files: BTreeSet<String> =
        std::fs::read_dir(directory).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, ids.iter().map(|id| format!("{id}.toml")).collect());
    for (provider, id) in all().iter().zip(ids) {
        assert_eq!(provider.id, id);
        assert!(std::ptr::eq(find(id).unwrap(), provider));
    }
    assert!(find(CUSTOM).is_none() && find("").is_none() && find("Google").is_none());
}

#[test]
fn every_entry_is_well_formed() {
    for (id, text) in FILES {
        if let Err(e) = Provider::parse(text) {
            let why = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
            panic!("{id} {e}: {why}");
        }
    }
}

/// What an answer is judged by: how many hosts an entry opens that anybody could have under a shared domain.
#[test]
fn no_entry_opens_a_host_that_belongs_to_an_account() {
    for provider in all() {
        for rule in &provider.hosts.allow {
            assert!(
                !rule.starts_with("*.") || provider.hosts.pin.is_none(),
                "{}: {rule} beside a pinned host",
                provider.id
            );
        }
    }
}

#[test]
fn a_wrong_entry_is_refused() {
    let good = FILES.iter().find(|(id, _)| *id == "google").unwrap().1;
    Provider::parse(good).unwrap();
    let wrong = [
        ("id = \"google\"", "id = \"Google\"", "id"),
        ("https://oauth2.googleapis.com/token", "http://oauth2.googleapis.com/token", "URL of authorize or token"),
        ("access_type = \"offline\"", "client_id = \"x\"", "parameter of authorize"),
        ("required = [\"openid\"]", "required = [\"other\"]", "required scope"),
        ("auth = \"post\"\nlifetime_s", "auth = \"post\"\nnever_expires = true\nlifetime_s", "lifetime"),
        ("kind = \"stable\"", "kind = \"exchange\"", "method of refresh"),
        ("kind = \"stable\"", "kind = \"stable\"\ngrace_s = 5", "grace of refresh"),
        ("token = \"{token}\"", "token = \"{other}\"", "parameter of revoke"),
        ("id = [\"/sub\"]", "id = []", "pointer of identity"),
        ("oauth2.googleapis.com/token", "{x}.googleapis.com/token", "URL with a field"),
        ("\"gmail.googleapis.com\"", "\"https://gmail.googleapis.com\"", "host"),
        ("checked = \"2026-11-23\"", "checked = \"2026\"", "evidence"),
    ];
    for (old, new, what) in wrong {
        assert!(good.contains(old), "{old}");
        match Provider::parse(&good.replace(old, new)) {
            Err(ProviderError::Wrong(found)) => assert_eq!(found, what, "{new}"),
            other => panic!("{new}: {other:?}"),
        }
    }
    assert!(matches!(Provider::parse(&good.replace("pkce", "pcke")), Err(ProviderError::Form(_))));
}

/// As an app is registered with it, with something for every field that has no default.
fn registered(provider: &Provider) -> Provider {
    let required = provider.fields.iter().filter(|field| field.required);
    provider.with_fields(&required.map(|field| (field.name.clone(), "acme".to_owned())).collect()).unwrap()
}

fn token(change: impl FnOnce(&mut Token)) -> Token {
    let mut token = Provider::parse(FILES.iter().find(|(id, _)| *id == "google").unwrap().1).unwrap().token;
    token.lifetime_s = None;
    change(&mut token);
    token
}

fn read(token: &Token, status: u16, body: &str) -> Result<Tokens, Refusal> {
    token.read(status, body.as_bytes(), NOW)
}

#[test]
fn tokens_are_read_from_json_and_forms_alike() {
    let plain = token(|_| {});
    for body in [
        r#"{"access_token":"a","refresh_token":"r","expires_in":3600,"scope":"x y"}"#,
        r#" {"access_token":"a","refresh_token":"r","expires_in":"3600","scopes":["x","y"]}"#,
        r#"{"access_token":"a","refresh_token":"r","expires_in":3600.9,"scope":"x,y"}"#,
        "access_token=a&refresh_token=r&expires_in=3600&scope=x+y",
    ] {
        let tokens = read(&plain, 200, body).unwrap();
        assert_eq!((tokens.access.reveal(), tokens.refresh.unwrap().reveal()), ("a", "r"), "{body}");
        assert_eq!(tokens.expiry, Expiry::At(NOW.plus_ms(3_600_000)), "{body}");
        assert_eq!(tokens.scopes.unwrap(), ["x", "y"], "{body}");
    }
    let bare = read(&plain, 200, r#"{"access_token":"a","refresh_token":null,"scope":""}"#).unwrap();
    assert!(bare.refresh.is_none() && bare.scopes.is_none() && bare.expiry == Expiry::Unknown);
}

#[test]
fn how_long_a_token_lives_is_said_by_the_answer_then_the_catalogue_then_the_token() {
    let claims = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, r#"{"exp":1900000000}"#);
    let jwt = format!(r#"{{"access_token":"h.{claims}.s"}}"#);
    let is = |change: fn(&mut Token), body: &str| read(&token(change), 200, body).unwrap().expiry;
    assert_eq!(is(|_| {}, &jwt), Expiry::At(TimeMs(1_900_000_000_000)));
    assert_eq!(is(|t| t.lifetime_s = Some(60), &jwt), Expiry::At(NOW.plus_ms(60_000)));
    assert_eq!(is(|t| t.never_expires = true, r#"{"access_token":"a"}"#), Expiry::Never);
    assert_eq!(
        is(|t| t.never_expires = true, r#"{"access_token":"a","expires_in":5}"#),
        Expiry::At(NOW.plus_ms(5_000))
    );
    let zero = r#"{"access_token":"a","expires_in":0}"#;
    assert_eq!(is(|t| t.quirks = vec![Quirk::ZeroIsNever], zero), Expiry::Never);
    assert_eq!(is(|_| {}, zero), Expiry::Unknown);
    let for_ever = r#"{"access_token":"a","expires_in":9000000000000000000}"#;
    assert!(matches!(is(|_| {}, for_ever), Expiry::At(at) if at > NOW));
    assert_eq!(is(|_| {}, r#"{"access_token":"h.%%%.s","expires_in":-1}"#), Expiry::Unknown);
    // The moment itself, as a time, as seconds, or where a duration should be; one that is over says nothing.
    let at = Expiry::At(TimeMs(1_900_000_000_000));
    for said in [r#""2030-03-17T17:46:40Z""#, "1900000000", r#""1900000000""#] {
        let body = format!(r#"{{"access_token":"a","expires_at":{said},"expires_in":5}}"#);
        assert_eq!(is(|t| t.expires_at = Some("/expires_at".to_owned()), &body), at, "{said}");
        assert_eq!(is(|_| {}, &body), Expiry::At(NOW.plus_ms(5_000)), "{said}");
    }
    assert_eq!(is(|_| {}, r#"{"access_token":"a","expires_in":1900000000}"#), at);
    for said in [r#""2020-01-01T00:00:00Z""#, "1", r#""soon""#, "null", "9000000000000000000"] {
        let body = format!(r#"{{"access_token":"a","expires_at":{said}}}"#);
        assert_eq!(is(|t| t.expires_at = Some("/expires_at".to_owned()), &body), Expiry::Unknown, "{said}");
    }
}

#[test]
fn tokens_may_stand_deeper_in_the_answer() {
    let nested = token(|t| t.root = Some("/data/0".to_owned()));
    assert_eq!(read(&nested, 200, r#"{"data":[{"access_token":"a"}]}"#).unwrap().access.reveal(), "a");
    assert_eq!(read(&nested, 200, r#"{"access_token":"a"}"#).unwrap().access.reveal(), "a");
}

#[test]
fn a_refusal_says_what_it_means_for_what_is_stored() {
    let plain = token(|_| {});
    let ok_flag = token(|t| t.quirks = vec![Quirk::OkFalse]);
    let over = |code: &str| Refusal::Over(code.to_owned());
    let configuration = |code: &str| Refusal::Configuration(code.to_owned());
    let transient = |code: &str| Refusal::Transient(code.to_owned());
    let cases = [
        (&plain, 400, r#"{"error":"invalid_grant","error_description":"secret text"}"#, over("invalid_grant")),
        (&plain, 200, r#"{"error":"bad_refresh_token"}"#, over("bad_refresh_token")),
        (&plain, 200, "error=bad_refresh_token&error_description=x", over("bad_refresh_token")),
        (&ok_flag, 200, r#"{"ok":false,"error":"invalid_refresh_token"}"#, over("invalid_refresh_token")),
        (&ok_flag, 200, r#"{"ok":false,"access_token":"a"}"#, Refusal::Unreadable),
        (&plain, 401, r#"{"error":"invalid_client"}"#, configuration("invalid_client")),
        (&plain, 401, "", configuration("status_401")),
        (&plain, 401, r#"{"message":"no"}"#, configuration("status_401")),
        (&plain, 400, r#"{"error":{"code":"invalid_scope"}}"#, configuration("invalid_scope")),
        (&plain, 400, r#"{"error":{"type":"slow_down"}}"#, transient("slow_down")),
        (&plain, 403, r#"{"error":"temporarily_unavailable"}"#, transient("temporarily_unavailable")),
        (&plain, 503, r#"{"error":"invalid_grant"}"#, transient("status_503")),
        (&plain, 429, "<html>slow</html>", transient("status_429")),
        (&plain, 500, r#"{"access_token":"a"}"#, transient("status_500")),
        (&plain, 400, r#"{"access_token":"a"}"#, Refusal::Unreadable),
        (&plain, 400, r#"{"error":"Bearer abc123"}"#, Refusal::Unreadable),
        (&plain, 200, "", Refusal::Unreadable),
        (&plain, 200, "{\"access_token\":\"a", Refusal::Unreadable),
        (&plain, 200, "<html>welcome</html>", Refusal::Unreadable),
        (&plain, 200, "[]", Refusal::Unreadable),
        (&plain, 200, r#"{"access_token":""}"#, Refusal::Unreadable),
        (&plain, 200, r#"{"access_token":7}"#, Refusal::Unreadable),
    ];
    for (token, status, body, expected) in cases {
        assert_eq!(read(token, status, body).unwrap_err(), expected, "{status} {body}");
    }
}

#[test]
fn an_answer_is_read_up_to_its_bound() {
    let body = |len: usize| format!(r#"{{"access_token":"a","x":"{}"}}"#, "a".repeat(len - 27));
    let plain = token(|_| {});
    assert_eq!(body(100).len(), 100);
    assert!(read(&plain, 200, &body(ANSWER_BYTES_MAX)).is_ok());
    assert_eq!(read(&plain, 200, &body(ANSWER_BYTES_MAX + 1)).unwrap_err(), Refusal::Unreadable);
}

#[test]
fn what_no_request_could_carry_is_no_token() {
    let plain = token(|_| {});
    let long = "a".repeat(OAUTH_TOKEN_BYTES_MAX);
    for good in ["!", "~", "ya29.a0_-/+=", &long] {
        let body = serde_json::json!({"access_token": good, "refresh_token": good}).to_string();
        let tokens = read(&plain, 200, &body).unwrap();
        assert_eq!((tokens.access.reveal(), tokens.refresh.unwrap().reveal()), (good, good));
    }
    for bad in ["a b", "a\nb", "a\u{7f}", "\u{e9}", "a\0", &format!("{long}a")] {
        for (access, refresh) in [(bad, "r"), ("a", bad)] {
            let body = serde_json::json!({"access_token": access, "refresh_token": refresh}).to_string();
            assert_eq!(read(&plain, 200, &body).unwrap_err(), Refusal::Unreadable, "{}", bad.len());
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_answer_makes_it_panic(status in 100_u16..600, body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        drop(token(|_| {}).read(status, &body, NOW));
    }
}

fn client() -> Client {
    Client { id: "id 1".to_owned(), secret: Secret::new("s/canary".to_owned()) }
}

fn header<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    call.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.reveal())
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

fn link(id: &str, scopes: &[String]) -> String {
    // The example of RFC 7636 appendix B.
    let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned());
    let link = Link {
        client_id: "id 1",
        redirect_uri: OURS,
        scopes,
        state: "st",
        verifier: &verifier,
        nonce: "no",
        switches_account: false,
    };
    registered(find(id).unwrap()).authorize_link(&link)
}

#[test]
fn a_link_carries_what_the_provider_needs() {
    let google = link("google", &["openid".to_owned(), "https://www.googleapis.com/auth/calendar".to_owned()]);
    let (url, query) = google.split_once('?').unwrap();
    let query = pairs(query);
    assert_eq!(url, "https://accounts.google.com/o/oauth2/v2/auth");
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "id 1"),
        ("redirect_uri", OURS),
        ("state", "st"),
        ("scope", "openid https://www.googleapis.com/auth/calendar"),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
        ("nonce", "no"),
        ("access_type", "offline"),
    ] {
        assert_eq!(query[name], value, "{name}");
    }
    let tiktok = pairs(link("tiktok", &[]).split_once('?').unwrap().1);
    assert!(tiktok["client_key"] == "id 1" && !tiktok.contains_key("client_id") && !tiktok.contains_key("nonce"));
    assert!(link("apollo", &[]).starts_with("https://app.apollo.io/#/oauth/authorize?response_type=code&"));
    assert!(!link("square", &[]).contains("code_challenge"), "it refuses PKCE");
    for provider in all() {
        let link = link(&provider.id, &[]);
        let query = pairs(link.split_once('?').unwrap().1);
        assert!(query["state"] == "st" && query["response_type"] == "code", "{link}");
        let asked = provider.scopes.asked(&[]).join(&provider.scopes.separator);
        assert_eq!(query.get("scope").map_or("", String::as_str), asked, "{link}");
    }
}

#[test]
fn required_scopes_are_always_asked_for_and_once() {
    let scopes = &find("google").unwrap().scopes;
    assert_eq!(scopes.asked(&["email".to_owned(), "email".to_owned()]), ["email", "openid"]);
    assert_eq!(scopes.asked(&[]), ["openid", "email", "profile"]);
}

#[test]
fn a_token_call_authenticates_as_the_provider_takes_it() {
    let (code, verifier) = (Secret::new("c".to_owned()), Secret::new("v".to_owned()));
    let call = |id: &str| find(id).unwrap().code_call(&client(), &code, OURS, &verifier);
    let google = call("google");
    let body = pairs(google.body.as_ref().unwrap().reveal());
    assert_eq!((body["client_id"].as_str(), body["client_secret"].as_str()), ("id 1", "s/canary"));
    assert_eq!((body["code"].as_str(), body["code_verifier"].as_str()), ("c", "v"));
    assert_eq!(header(&google, "Content-Type"), Some("application/x-www-form-urlencoded"));
    let notion = call("notion");
    // `id+1:s%2Fcanary`
    assert_eq!(header(&notion, "Authorization"), Some("Basic aWQrMTpzJTJGY2FuYXJ5"));
    assert_eq!(header(&notion, "Content-Type"), Some("application/json"));
    let body: BTreeMap<String, String> = serde_json::from_str(notion.body.as_ref().unwrap().reveal()).unwrap();
    assert!(body["grant_type"] == "authorization_code" && !body.contains_key("client_secret"));
}

#[test]
fn no_secret_stands_in_the_url_of_a_call_that_need_not_have_it_there() {
    let (access, refresh) = (Secret::new("canary-at".to_owned()), Secret::new("canary-rt".to_owned()));
    let pair = Pair { access: &access, refresh: Some(&refresh) };
    for provider in all().iter().map(registered) {
        let calls = [
            Some(provider.code_call(&client(), &access, OURS, &refresh)),
            provider.refresh_call(&client(), pair, OURS).filter(|_| provider.refresh.kind != RefreshKind::Exchange),
            provider
                .revoke_call(&client(), pair, "account")
                .filter(|_| provider.revoke.as_ref().is_some_and(|revoke| revoke.body != Body::Query)),
            provider.identity_call(&access),
        ];
        for call in calls.into_iter().flatten() {
            assert!(!call.url.reveal().contains("canary"), "{}", provider.id);
            assert!(crate::destination::Target::parse(call.url.reveal()).is_ok(), "{}", provider.id);
            assert!(!format!("{call:?}").contains("canary"), "{}", provider.id);
        }
    }
}

#[test]
fn a_token_is_renewed_the_providers_way() {
    let (access, refresh) = (Secret::new("at".to_owned()), Secret::new("rt".to_owned()));
    let call = |id: &str, refresh| find(id).unwrap().refresh_call(&client(), Pair { access: &access, refresh }, OURS);
    let google = call("google", Some(&refresh)).unwrap();
    let body = pairs(google.body.as_ref().unwrap().reveal());
    assert_eq!((body["grant_type"].as_str(), body["refresh_token"].as_str()), ("refresh_token", "rt"));
    assert!(!body.contains_key("redirect_uri") && call("google", None).is_none());
    let gitlab = call("gitlab", Some(&refresh)).unwrap();
    assert_eq!(pairs(gitlab.body.as_ref().unwrap().reveal())["redirect_uri"], OURS);
    let instagram = call("instagram", None).unwrap();
    let url = "https://graph.instagram.com/refresh_access_token?access_token=at&grant_type=ig_refresh_token";
    assert_eq!((instagram.url.reveal(), instagram.method, instagram.body.is_none()), (url, Method::Get, true));
    let exchange = find("instagram").unwrap().exchange_call(&client(), &access).unwrap();
    assert!(exchange.url.reveal().contains("client_secret=s%2Fcanary") && exchange.body.is_none());
    assert!(find("google").unwrap().exchange_call(&client(), &access).is_none());
    for provider in all() {
        let call = provider.refresh_call(&client(), Pair { access: &access, refresh: Some(&refresh) }, OURS);
        assert_eq!(call.is_some(), provider.is_refreshable(), "{}", provider.id);
    }
}

#[test]
fn a_token_is_ended_the_providers_way() {
    let (access, refresh) = (Secret::new("at".to_owned()), Secret::new("rt".to_owned()));
    let call = |id: &str, refresh| find(id).unwrap().revoke_call(&client(), Pair { access: &access, refresh }, "a/1");
    let google = call("google", Some(&refresh)).unwrap();
    assert_eq!((google.method, google.body.unwrap().reveal()), (Method::Post, "token=rt"));
    assert_eq!(call("google", None).unwrap().body.unwrap().reveal(), "token=at");
    let github = call("github", None).unwrap();
    assert_eq!(
        (github.method, github.url.reveal()),
        (Method::Delete, "https://api.github.com/applications/id%201/token")
    );
    assert_eq!(github.body.unwrap().reveal(), r#"{"access_token":"at"}"#);
    assert!(call("airtable", Some(&refresh)).is_none(), "no such call is known");
}

#[test]
fn whose_account_it_is_takes_the_token_in_the_providers_header() {
    let access = Secret::new("at".to_owned());
    let call = |id: &str| find(id).unwrap().identity_call(&access);
    assert_eq!(header(&call("google").unwrap(), "Authorization"), Some("Bearer at"));
    let mailchimp = call("mailchimp").unwrap();
    let sent: Vec<&str> =
        mailchimp.headers.iter().filter(|(n, _)| n == "Authorization").map(|(_, v)| v.reveal()).collect();
    assert_eq!(sent, ["OAuth at"]);
    assert!(call("stripe").is_none(), "the token answer says it");
}

const FIELD: &str =
    "[[fields]]\nname = \"x\"\nlabel = \"X\"\nfind = \"there\"\nform = \"name\"\ndefault = \"a\"\n\n[authorize]";

#[test]
fn a_field_stands_where_it_leads_to_no_other_server() {
    let google = FILES.iter().find(|(id, _)| *id == "google").unwrap().1;
    let entry = |form: &str, url: &str| {
        let field = FIELD.replace("\"name\"\ndefault", &format!("\"{form}\"\ndefault"));
        let text = google.replace("[authorize]", &field).replace("https://oauth2.googleapis.com/token", url);
        Provider::parse(&text).map_err(|e| e.to_string())
    };
    for (form, url) in [
        ("name", "https://{x}.googleapis.com/token"),
        ("label", "https://{x}.googleapis.com/{x}/token"),
        ("text", "https://oauth2.googleapis.com/{x}/token"),
    ] {
        assert_eq!(entry(form, url).map(drop), Ok(()), "{url}");
    }
    for (form, url) in [
        ("name", "https://{x}/token"),
        ("name", "https://{x}.com/token"),
        ("name", "https://a{x}.googleapis.com/token"),
        ("name", "https://oauth2.{x}.com/token"),
        ("name", "https://{x}.{x}.googleapis.com/token"),
        ("name", "https://oauth2.googleapis.com{x}/token"),
        ("text", "https://{x}.googleapis.com/token"),
        ("name", "https://oauth2.googleapis.com/{y}/token"),
        ("host", "https://oauth2.googleapis.com/{x}/token"),
    ] {
        assert!(entry(form, url).is_err(), "{form} {url}");
    }
}

#[test]
fn what_is_given_is_of_its_form_and_stands_in_the_urls() {
    let given = |id: &str, name: &str, value: &str| {
        find(id).unwrap().with_fields(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    };
    let none = BTreeMap::new();
    let usual = find("microsoft").unwrap().with_fields(&none).unwrap();
    assert_eq!(usual.token.url, "https://login.microsoftonline.com/common/oauth2/v2.0/token");
    let contoso = given("microsoft", "tenant", "contoso.example").unwrap();
    assert!(contoso.authorize.url.contains("/contoso.example/") && contoso.token.url.contains("/contoso.example/"));
    let acme = given("salesforce", "domain", "acme--uat.sandbox.my").unwrap();
    assert_eq!(acme.identity.url.unwrap(), "https://acme--uat.sandbox.my.salesforce.com/services/oauth2/userinfo");
    let sandbox = find("salesforce").unwrap().in_environment("sandbox").unwrap().with_fields(&none).unwrap();
    assert_eq!(sandbox.token.url, "https://test.salesforce.com/services/oauth2/token");
    let ebay = given("ebay", "ru_name", "Acme_Inc-Acme-PRD-abc").unwrap();
    assert_eq!((ebay.redirect_uri(OURS), usual.redirect_uri(OURS)), ("Acme_Inc-Acme-PRD-abc", OURS));
    let rippling = given("rippling", "app_name", "a/b?c#d").unwrap();
    assert_eq!(rippling.authorize.url, "https://app.rippling.com/apps/PLATFORM/a%2Fb%3Fc%23d");
    // A revocation keeps what is filled when it is sent.
    let facebook = given("facebook", "version", "v25.0").unwrap();
    assert_eq!(facebook.revoke.unwrap().url, "https://graph.facebook.com/v25.0/{account_id}/permissions");

    let longest = "a".repeat(grantd_wire::limits::PROVIDER_FIELD_CHARS_MAX);
    assert!(given("rippling", "app_name", &longest).is_ok());
    for (id, name, value, why) in [
        ("microsoft", "tenant", "a/b", "dots between"),
        ("microsoft", "tenant", "..", "dots between"),
        ("microsoft", "tenant", "a?b", "dots between"),
        ("microsoft", "tenant", "", "1-255 characters"),
        ("salesforce", "domain", "evil.example/", "dots between"),
        ("salesforce", "domain", "evil.example#", "dots between"),
        ("salesforce", "domain", "user@evil", "dots between"),
        ("rippling", "app_name", "..", "one word"),
        ("rippling", "app_name", "a b", "one word"),
        ("rippling", "app_name", &format!("{longest}a"), "1-255 characters"),
        ("microsoft", "shop", "a", "it takes tenant"),
        ("google", "tenant", "a", "takes no fields"),
    ] {
        let refused = given(id, name, value).unwrap_err();
        assert_eq!(refused.details["field"], format!("fields.{name}"), "{id} {value}");
        assert!(refused.message.contains(why), "{id} {value}: {}", refused.message);
    }
    let missing = find("ebay").unwrap().with_fields(&none).unwrap_err();
    assert!(missing.message.contains("RuName") && missing.hint.is_some(), "{}", missing.message);
    // One that was registered before the entry asked for it is still read, and nothing else stands in its place.
    let earlier = find("ebay").unwrap().with_stored_fields(&none).unwrap();
    assert_eq!((earlier.redirect_uri(OURS), &*earlier.token.url), ("{ru_name}", &*find("ebay").unwrap().token.url));
    let wrong = BTreeMap::from([("domain".to_owned(), "evil.example/".to_owned())]);
    assert!(find("salesforce").unwrap().with_stored_fields(&wrong).is_err());
}

/// The tokens of a user stand beside those of the bot, which are another's.
#[test]
fn slack_has_tokens_of_bots_and_of_users() {
    let answer =
        r#"{"ok":true,"access_token":"bot","team":{"id":"T1"},"authed_user":{"id":"U1","access_token":"user"}}"#;
    let (bot, user) = (find("slack").unwrap(), find("slack").unwrap().in_environment("user").unwrap());
    let account = |provider: &Provider| {
        let learnt = Learnt { token: fields(answer.as_bytes()).unwrap(), ..Learnt::default() };
        provider.account(&learnt).unwrap().identifier
    };
    assert_eq!((read(&bot.token, 200, answer).unwrap().access.reveal(), &*account(bot)), ("bot", "T1"));
    assert_eq!((read(&user.token, 200, answer).unwrap().access.reveal(), &*account(&user)), ("user", "T1:U1"));
    assert_eq!((&*bot.scopes.param, &*user.scopes.param), ("scope", "user_scope"));
    // Only a bot was installed: its token is not taken for the user's.
    let of_bot = r#"{"ok":true,"access_token":"bot","authed_user":{"id":"U1"}}"#;
    assert!(read(&user.token, 200, of_bot).is_err());
}

/// The page that explains behaviours has every one. What no entry has, the server's lab does not play either, so nothing would show that it works.
#[test]
fn every_behaviour_is_explained_and_some_entry_has_it() {
    let page = include_str!("../../../../docs/oauth-providers.md");
    let rows: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(name, _)| name).collect();
    for behaviour in Behaviour::ALL {
        assert!(rows.contains(behaviour.as_str()), "docs/oauth-providers.md does not explain {}", behaviour.as_str());
    }
    let mut of_entries = BTreeSet::new();
    for provider in all() {
        let here = provider.behaviours();
        assert_eq!(here.iter().collect::<BTreeSet<_>>().len(), here.len());
        of_entries.extend(here);
        of_entries
            .extend(provider.environments.keys().flat_map(|id| provider.in_environment(id).unwrap().behaviours()));
    }
    let unused: Vec<&Behaviour> = Behaviour::ALL.iter().filter(|b| !of_entries.contains(b)).collect();
    assert!(unused.is_empty(), "{unused:?}: nobody plays them");
}

/// Connect's page shows them to whoever consents: they speak to that person.
#[test]
fn scopes_are_explained_to_the_person_who_consents() {
    for provider in all() {
        for (scope, text) in &provider.scopes.known {
            let words: Vec<String> = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect();
            let about =
                words.windows(2).find(|pair| matches!((&*pair[0], &*pair[1]), ("the", "user" | "users" | "member")));
            assert!(about.is_none(), "{}: {scope}: {text:?} speaks of somebody: say you and your", provider.id);
            assert!(
                text.starts_with(|c: char| c.is_uppercase()) && !text.ends_with('.'),
                "{}: {scope}: {text:?}",
                provider.id
            );
        }
    }
}

#[test]
fn an_ending_is_what_the_provider_says_it_is() {
    let (acme, slack) = (find("google").unwrap(), find("slack").unwrap());
    for (status, body, ended) in [
        (200, "", true),
        (204, "", true),
        (200, r#"{"ok":false}"#, true),
        (400, r#"{"error":"invalid_token"}"#, true),
        (400, r#"{"error":"invalid_grant"}"#, true),
        (400, r#"{"error":"invalid_request"}"#, false),
        (400, r#"{"error":"unsupported_token_type"}"#, false),
        (401, r#"{"error":"invalid_client"}"#, false),
        (401, "", false),
        (404, "<html>", false),
        (410, "", false),
        (503, "", false),
    ] {
        assert_eq!(acme.has_ended(status, body.as_bytes()), ended, "{status} {body}");
    }
    assert!(slack.has_ended(200, br#"{"ok":true,"revoked":true}"#));
    assert!(slack.has_ended(200, br#"{"ok":false,"error":"token_revoked"}"#));
    assert!(!slack.has_ended(200, br#"{"ok":false,"error":"not_authed"}"#));
}
