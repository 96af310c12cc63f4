//! Refusals as somebody reads them whose browser asks for German.

use grantd_store::operators::Role;
use grantd_wire::limits;
use serde_json::Value;

use crate::harness::{Answer, Raw, Server};
use crate::portal::{Browser, csrf, form, is_sound, with_cookie};
use crate::portal_account::{PASSWORD, set, somebody};

in_memory! {
    what_the_portal_itself_refuses_is_said_in_german,
    what_only_english_has_is_marked_as_english,
}

/// The form in the language.
async fn post(browser: &Browser, path: &str, fields: &[(&str, &str)]) -> Answer {
    let proof = csrf(&browser.get("/portal/sessions").await.text);
    let fields = [&[("csrf", proof.as_str())], fields].concat();
    browser.server.send(form(&browser.cookie, path, &fields).set("accept-language", "de")).await
}

/// What the refusal of a page says, without its icon and code.
fn refusal(page: &str) -> String {
    let page = page.replace("&#x2f;", "/").replace("&quot;", "\"");
    let start = page
        .find("<p class=\"error\"")
        .or_else(|| page.find("<div class=\"note note--bad\""))
        .or_else(|| page.find("<h1>"));
    let rest = &page[start.expect("the page refuses something")..];
    let end = rest.find("class=\"mono tiny\"").or_else(|| rest.find("</p>")).or_else(|| rest.find("<dl")).unwrap();
    rest[..end].to_owned()
}

async fn what_the_portal_itself_refuses_is_said_in_german(server: Server) {
    let world = server.world().await;
    let (browser, email) = somebody(&server, Role::Admin).await;
    set(&browser, PASSWORD).await;
    let app = format!("/portal/apps/{}", world.app);
    let mut told = Vec::new();
    let fields = [("email", email.as_str()), ("password", "not this one at all")];
    let wrong = server.send(form("", "/portal/sign-in/password", &fields).set("accept-language", "de")).await;
    told.push((wrong, 401, "Die E-Mail-Adresse oder das Passwort ist falsch."));
    let passkey = server.send(form("", "/portal/sign-in/passkey", &[]).set("accept-language", "de")).await;
    told.push((passkey, 401, "Mit diesem Passkey meldet man sich hier nicht an"));
    let code = server.send(form("", "/portal/sign-in/code", &[("half", "x")]).set("accept-language", "de")).await;
    told.push((code, 401, "Das hat zu lange gedauert. Melden Sie sich noch einmal an."));
    told.push((post(&browser, &format!("{app}/delete"), &[("confirm", "x")]).await, 400, "Muss der Name der App sein"));
    let secret = format!("{app}/secrets/{}", world.secret_id);
    told.push((post(&browser, &format!("{secret}/delete"), &[("confirm", "x")]).await, 400, "Muss der Slug"));
    let grants = format!("{secret}/grants");
    told.push((post(&browser, &grants, &[("expires_in_days", "x")]).await, 400, "Muss eine ganze Zahl sein."));
    let custom = [("setup", "yes"), ("provider", "acme"), ("custom.authorize_params", "no pair")];
    told.push((post(&browser, &format!("{app}/providers/new/custom"), &custom).await, 422, "Müssen Zeilen sein wie"));
    told.push((post(&browser, "/portal/account/passkeys", &[("name", "x")]).await, 422, "Das hat zu lange gedauert"));
    let elsewhere = form(&browser.cookie, "/portal/apps/new", &[]).set("accept-language", "de");
    let elsewhere = server.send(elsewhere.set("origin", "https://evil.example")).await;
    told.push((elsewhere, 403, "Das Formular kam von einer anderen Adresse als http://127.0.0.1:8080"));
    let multipart = |body: Vec<u8>| {
        with_cookie(Raw::new("POST", &format!("{app}/branding"), body), &browser.cookie)
            .set("content-type", "multipart/form-data; boundary=edge")
            .set("origin", "http://127.0.0.1:8080")
            .set("accept-language", "de")
    };
    told.push((server.send(multipart(b"--edge".to_vec())).await, 400, "Das Formular war nicht zu lesen."));
    let large = vec![0; limits::LOGO_BYTES_MAX + limits::PAGE_BODY_BYTES_MAX + 1];
    told.push((server.send(multipart(large)).await, 413, "Das Bild ist zu groß: Ein Logo hat höchstens 256 KiB."));
    server.advance_ms(limits::CONFIRMED_S * 1000);
    let revoke = format!("{app}/keys/{}/revoke", world.key_id);
    let asked = post(&browser, &revoke, &[]).await;
    assert!(asked.text.contains("Sind Sie es noch?"), "{}", asked.text);
    let held = crate::portal_account::held(&asked.text);
    told.push((post(&browser, &revoke, &[("held", &held)]).await, 422, "Füllen Sie eines der Felder aus."));
    let wrong = post(&browser, &revoke, &[("held", &held), ("password", "x")]).await;
    assert!(wrong.text.contains("not_proved") && !wrong.text.contains("Melden Sie sich zuerst an"), "{}", wrong.text);
    told.push((wrong, 401, "Das stimmt nicht. Es ist nichts geschehen."));
    told.push((post(&browser, &revoke, &[("held", "AAAA")]).await, 400, "Das Formular, das abgeschickt werden sollte"));
    for _ in 0..limits::SIGN_IN_ATTEMPTS_FREE {
        post(&browser, &revoke, &[("held", &held), ("password", "x")]).await;
    }
    let early = post(&browser, &revoke, &[("held", &held), ("password", "x")]).await;
    told.push((early, 429, "An diesem Konto gab es zu viele falsche Versuche."));
    for (answer, status, sentence) in told {
        assert_eq!(answer.status, status, "{sentence}: {}", answer.text);
        assert!(answer.text.contains("<html lang=\"de\""), "{sentence}");
        is_sound(sentence, &answer.text);
        let said = refusal(&answer.text);
        assert!(said.contains(sentence) && !said.contains("lang=\"en\""), "{sentence}: {said}");
    }
}

/// Texts of a page that no element around them marks as of another language.
fn of_the_page(page: &str) -> String {
    use html5gum::{Token, Tokenizer};
    let void = ["meta", "link", "input", "img", "br", "hr", "use", "wbr"];
    let (mut open, mut text): (Vec<bool>, String) = (Vec::new(), String::new());
    for Ok(token) in Tokenizer::new(page) {
        match token {
            Token::StartTag(tag) => {
                let is_english = tag.attributes.iter().any(|(n, v)| n.as_slice() == b"lang" && v.as_slice() == b"en");
                if !void.contains(&&*String::from_utf8_lossy(&tag.name)) && !tag.self_closing {
                    open.push(is_english);
                }
            }
            Token::EndTag(_) => drop(open.pop()),
            Token::String(said) if !open.contains(&true) => text.push_str(&String::from_utf8_lossy(&said)),
            _ => {}
        }
    }
    text
}

async fn what_only_english_has_is_marked_as_english(server: Server) {
    let world = server.world().await;
    let browser = Browser::of(&server, Role::Developer).await;
    let catalog = async |path: &str| server.api("GET", path, Value::Null).await.ok(200);
    let page = async |path: &str| {
        let raw = with_cookie(Raw::new("GET", &format!("/portal/apps/{}/{path}", world.app), ""), &browser.cookie);
        server.send(raw.set("accept-language", "de")).await.text
    };
    let mut english = Vec::new();
    for id in ["stripe", "shopify", "aws"] {
        let template = catalog(&format!("/api/v1/secret-templates/{id}")).await;
        english.push((format!("secrets/new/{id}"), template));
    }
    for id in ["salesforce", "github", "zoom", "slack"] {
        english.push((format!("providers/new/{id}"), catalog(&format!("/api/v1/provider-catalog/{id}")).await));
    }
    let mut found = 0;
    for (path, entry) in &english {
        let page = page(path).await;
        is_sound(path, &page);
        let own = of_the_page(&page);
        let mut texts: Vec<&Value> = vec![&entry["description"], &entry["setup"], &entry["notes"]];
        for field in entry["fields"].as_array().into_iter().flatten() {
            texts.extend([&field["label"], &field["find"]]);
        }
        texts.extend(entry["scopes"].as_object().into_iter().flat_map(|scopes| scopes.values()));
        for text in texts.into_iter().filter_map(Value::as_str).filter(|text| text.contains(' ')) {
            found += usize::from(page.contains(text));
            assert!(!own.contains(text), "{path}: {text}");
        }
    }
    assert!(found > 10, "texts of the catalogue stand on its pages: {found}");
    for (path, of) in
        [("secrets/new", "/api/v1/secret-templates?limit=1000"), ("providers", "/api/v1/provider-catalog?limit=1000")]
    {
        let (page, catalogue) = (page(path).await, catalog(of).await);
        for entry in catalogue["items"].as_array().unwrap() {
            let category = entry["category"].as_str().unwrap().replace('&', "&amp;");
            assert!(
                page.contains(&format!("<small><span lang=\"en\">{category}</span></small>")),
                "{path}: {category}"
            );
            assert!(!page.contains(&format!("<small>{category}</small>")), "{path}: {category}");
        }
    }
    let idp = page("identity/new/auth0").await.replace("&#x2f;", "/").replace("&#x27;", "'");
    let help = grantd_domain::identity::Preset::find("auth0").unwrap().audience_help;
    assert!(idp.contains(help) && !of_the_page(&idp).contains(help), "{idp}");
}
