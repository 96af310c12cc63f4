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
        query_of(&self.link(server, path, provider).await)
    }

    /// Consents here and is sent to the provider; that link.
    pub async fn link(&mut self, server: &Server, path: &str, provider: &str) -> String {
        let left = self.form(server, path, "start", &[("provider", provider)]).await;
        assert_eq!(left.status, 200, "{}", left.text);
        link_of(&left.text)
    }

    /// Is sent to the identity provider, before anything is connected; the query of that link.
    pub async fn sign_in(&mut self, server: &Server, path: &str) -> BTreeMap<String, String> {
        let left = self.form(server, path, "sign-in", &[]).await;
        assert_eq!(left.status, 200, "{}", left.text);
        query_of(&link_of(&left.text))
    }

    /// Says no on the page at `path`; the answer.
    pub async fn decline(&mut self, server: &Server, path: &str, provider: &str) -> Answer {
        self.form(server, path, "decline", &[("provider", provider)]).await
    }

    /// Sends a form of the page at `path`; the answer.
    pub async fn form(&mut self, server: &Server, path: &str, action: &str, fields: &[(&str, &str)]) -> Answer {
        let page = self.get(server, path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let csrf = between(&page.text, r#"name="csrf" value=""#, "\"");
        let fields: Vec<(&str, &str)> = fields.iter().copied().chain([("csrf", csrf.as_str())]).collect();
        self.post(server, &format!("{path}/{action}"), &fields).await
    }

    /// The provider sends the browser back with this.
    pub async fn back(&mut self, server: &Server, params: &[(&str, &str)]) -> Answer {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let mut answer = self.get(server, &format!("/oauth/callback?{query}")).await;
        for _ in 0..REDIRECTS_MAX {
            let Some(location) = answer.headers.get("location") else { break };
            let location = location.to_str().unwrap().to_owned();
            answer = self.get(server, &location).await;
        }
        answer
    }
}

/// To the page of a sign-in, and on to that of the session it is for.
const REDIRECTS_MAX: usize = 2;

/// Where a page takes the browser by itself.
fn link_of(page: &str) -> String {
    between(page, "url=", "\"").replace("&#x2f;", "/").replace("&amp;", "&")
}

fn query_of(link: &str) -> BTreeMap<String, String> {
    let (_, query) = link.split_once('?').unwrap_or_else(|| panic!("{link} has no query"));
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// What stands between two texts.
pub fn between(text: &str, before: &str, after: &str) -> String {
    let start = text.find(before).unwrap_or_else(|| panic!("no {before} in {text}")) + before.len();
    let end = text[start..].find(after).unwrap() + start;
    text[start..end].to_owned()
}
