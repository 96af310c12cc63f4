//! A browser, as far as connecting an account needs one: its cookie, the forms of the pages, and the provider's way back.

use super::client::{Answer, Connection, page};
use super::install::Server;
use super::{Result, fault};

/// One browser in one session.
#[derive(Clone, Default)]
pub struct Browser {
    cookie: Option<String>,
    path: String,
}

impl Browser {
    async fn send(&mut self, server: &Server, method: &str, path: &str, form: &[(&str, &str)]) -> Result<Answer> {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = page(method, path, self.cookie.as_deref(), &form);
        let answer = Connection::open(server.address).await?.send(&request).await?;
        if let Some(cookie) = answer.header("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        Ok(answer)
    }

    /// Opens the session with this link.
    pub async fn open(server: &Server, link: &str) -> Result<Self> {
        let mut browser = Self::default();
        let opened = browser.send(server, "POST", "/connect/open", &[("session", link)]).await?;
        match opened.header("location") {
            Some(path) => path.clone_into(&mut browser.path),
            None => return fault(format!("a session could not be opened: {}", opened.shown())),
        }
        Ok(browser)
    }

    /// Sends a form of the session's page. None: there is none.
    pub async fn form(&mut self, server: &Server, action: &str, fields: &[(&str, &str)]) -> Result<Option<Answer>> {
        let path = self.path.clone();
        let shown = self.send(server, "GET", &path, &[]).await?.page();
        let Some(csrf) = between(&shown, "name=\"csrf\" value=\"", "\"") else { return Ok(None) };
        let fields = [fields, &[("csrf", csrf)]].concat();
        self.send(server, "POST", &format!("{path}/{action}"), &fields).await.map(Some)
    }

    /// Consents, and is sent to the provider: the `state` of that link. None: not now, says the server.
    pub async fn start(&mut self, server: &Server, provider: &str) -> Result<Option<String>> {
        Ok(self.leave(server, provider).await?.map(|(state, _)| state))
    }

    /// Is sent to a provider: `state` and `nonce` of that link. None: not now, says the server.
    pub async fn leave(&mut self, server: &Server, provider: &str) -> Result<Option<(String, String)>> {
        let Some(left) = self.form(server, "start", &[("provider", provider)]).await? else { return Ok(None) };
        if left.status == 303 {
            return Ok(None);
        }
        let shown = left.page();
        let link = between(&shown, "url=", "\"").unwrap_or_default().replace("&amp;", "&");
        let query = link.split_once('?').map_or("", |(_, query)| query);
        let find = |wanted| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
        };
        match find("state") {
            Some(state) => Ok(Some((state, find("nonce").unwrap_or_default()))),
            None => fault(format!("no way to the provider: {}", left.shown())),
        }
    }

    /// The provider sends it back with a code.
    pub async fn back(&mut self, server: &Server, code: &str, state: &str) -> Result<Answer> {
        let pairs = [("code", code), ("state", state)];
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.send(server, "GET", &format!("/oauth/callback?{query}"), &[]).await
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}
