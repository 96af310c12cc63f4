//! A browser, as far as connecting an account needs one.

use std::collections::BTreeMap;

use serde_json::Value;

use super::world::text;
use super::{Answer, Raw, Server};

/// A browser: its cookie.
#[derive(Clone, Default)]
pub struct Browser(Option<String>);

impl Browser {
    pub async fn send(&mut self, server: &Server, raw: Raw) -> Answer {
        let raw = match &self.0 {
            Some(cookie) => raw.set("cookie", cookie.clone()),
            None => raw,
        };
        let answer = server.send(raw).await;
        if let Some(cookie) = answer.headers.get("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
            self.0 = Some(cookie.split(';').next().unwrap().to_owned());
        }
        answer
    }

    pub async fn get(&mut self, server: &Server, path: &str) -> Answer {
        self.send(server, Raw::new("GET", path, "")).await
    }

    pub async fn post(&mut self, server: &Server, path: &str, form: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let raw = Raw::new("POST", path, body).set("content-type", "application/x-www-form-urlencoded");
        self.send(server, raw).await
    }

    /// Opens a session's link; the path of its page.
    pub async fn open(&mut self, server: &Server, session: &Value) -> String {
        let opened = self.post(server, "/connect/open", &[("session", &text(session, "connect_url"))]).await;
        assert_eq!(opened.status, 303, "{}", opened.text);
        opened.headers["location"].to_str().unwrap().to_owned()
    }

    /// Consents here and is sent to the provider; the query of that link.
    pub async fn start(&mut self, server: &Server, path: &str, provider: &str) -> BTreeMap<String, String> {
        let link = self.link(server, path, provider).await;
        let (_, query) = link.split_once('?').unwrap_or_else(|| panic!("{link} has no query"));
        form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    /// Consents here and is sent to the provider; that link.
    pub async fn link(&mut self, server: &Server, path: &str, provider: &str) -> String {
        let page = self.get(server, path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let csrf = between(&page.text, r#"name="csrf" value=""#, "\"");
        let left = self.post(server, &format!("{path}/start"), &[("provider", provider), ("csrf", &csrf)]).await;
        assert_eq!(left.status, 200, "{}", left.text);
        between(&left.text, "url=", "\"").replace("&#x2f;", "/").replace("&amp;", "&")
    }

    /// Says no on the page at `path`; the answer.
    pub async fn decline(&mut self, server: &Server, path: &str, provider: &str) -> Answer {
        let page = self.get(server, path).await;
        let csrf = between(&page.text, r#"name="csrf" value=""#, "\"");
        self.post(server, &format!("{path}/decline"), &[("provider", provider), ("csrf", &csrf)]).await
    }

    /// The provider sends the browser back with this.
    pub async fn back(&mut self, server: &Server, params: &[(&str, &str)]) -> Answer {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let answer = self.get(server, &format!("/oauth/callback?{query}")).await;
        match answer.headers.get("location") {
            Some(location) => {
                let location = location.to_str().unwrap().to_owned();
                self.get(server, &location).await
            }
            None => answer,
        }
    }
}

/// What stands between two texts.
pub fn between(text: &str, before: &str, after: &str) -> String {
    let start = text.find(before).unwrap_or_else(|| panic!("no {before} in {text}")) + before.len();
    let end = text[start..].find(after).unwrap() + start;
    text[start..end].to_owned()
}
