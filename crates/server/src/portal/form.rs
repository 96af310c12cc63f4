//! What a form of the portal sends, and what was wrong with it.

use std::collections::BTreeMap;

use base64::Engine as _;
use bytes::Bytes;
use grantd_wire::{Code, Error};
use http::{HeaderMap, header};
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::flow::passkey::Said;
use crate::pages;
use crate::sentence::Sentence;

/// The fields of a form, or of a query.
#[derive(Default)]
pub struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// Reads what a browser sends of a form: with a file in it as `multipart/form-data`, else as `name=value&…`.
    pub async fn read(headers: &HeaderMap, body: Bytes) -> Result<Self, Error> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match multer::parse_boundary(kind) {
            Ok(boundary) => {
                let unreadable = || Sentence::Unreadable.of(Code::InvalidRequest);
                Self::of_parts(boundary, body).await.ok_or_else(unreadable)
            }
            Err(_) => Ok(Self::parse(&body)),
        }
    }

    /// Reads the parts of a form with a file, which becomes text in base64; none that was not chosen.
    async fn of_parts(boundary: String, body: Bytes) -> Option<Self> {
        let body = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(body)]);
        let (mut parts, mut fields) = (multer::Multipart::new(body, boundary), Vec::new());
        while let Some(part) = parts.next_field().await.ok()? {
            let (name, is_file) = (part.name()?.to_owned(), part.file_name().is_some());
            let content = part.bytes().await.ok()?;
            let text = match is_file {
                true => base64::prelude::BASE64_STANDARD.encode(&content),
                false => String::from_utf8(content.into()).ok()?,
            };
            fields.push((name, Zeroizing::new(text)));
        }
        Some(Self(fields))
    }

    /// Reads `name=value&…`.
    pub fn parse(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text);
        Self(pairs.map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned()))).collect())
    }

    /// What a browser sends of a passkey that has signed.
    pub fn said(&self) -> Said<'_> {
        Said {
            challenge: self.raw("challenge"),
            id: self.raw("id"),
            user: self.raw("user"),
            client_data: self.raw("client_data"),
            device_data: self.raw("device_data"),
            signature: self.raw("signature"),
        }
    }

    /// As it was sent.
    pub fn encoded(&self) -> Zeroizing<String> {
        let mut text = form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(self.0.iter().map(|(name, value)| (name, value.as_str())));
        Zeroizing::new(text.finish())
    }

    /// The field as it was sent; empty when it was not. For secrets.
    pub fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// The field without blanks around it; empty when it was not sent.
    pub fn text(&self, name: &str) -> String {
        self.raw(name).trim().to_owned()
    }

    /// The field, if there is anything in it.
    pub fn filled(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// What becomes of a secret that is stored: another one was typed, the box that takes it away was ticked, or `None`: it stays.
    pub fn changed_secret(&self, name: &str, remove: &str) -> Option<String> {
        self.filled(name).or_else(|| self.is_on(remove).then(String::new))
    }

    /// Every value of a field that may be sent more than once, such as a box for each of several things.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.to_string()).collect()
    }

    /// Whether the form had the field at all.
    pub fn is_sent(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Whether a box was ticked.
    pub fn is_on(&self, name: &str) -> bool {
        !self.raw(name).is_empty()
    }

    /// Words of a field, with blanks, line ends or commas between them.
    pub fn words(&self, name: &str) -> Vec<String> {
        let parts = self.raw(name).split(|c: char| c.is_whitespace() || c == ',');
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// Lines of a field that say `name=value`; `None`: one of them does not.
    pub fn pairs(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let lines = self.raw(name).lines().map(str::trim).filter(|line| !line.is_empty());
        let pair = |line: &str| line.split_once('=').map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()));
        lines.map(pair).collect()
    }

    /// Lines of a field, or what its commas separate.
    pub fn list(&self, name: &str) -> Vec<String> {
        let text = self.raw(name);
        text.split(['\n', ',']).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// Fields whose name begins so, without that beginning; empty ones are left out.
    pub fn under(&self, prefix: &str) -> BTreeMap<String, String> {
        let fields = self.0.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value)));
        fields.filter(|(_, value)| !value.is_empty()).map(|(n, v)| (n.to_owned(), v.to_string())).collect()
    }

    /// What a page that is drawn again shows in its fields. Only these: a secret is typed again.
    pub fn kept(&self, names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), self.raw(name).to_owned())).collect()
    }
}

/// The number in a field, if there is anything in it.
pub fn number(form: &Form, name: &str) -> Result<Option<i64>, Error> {
    let Some(text) = form.filled(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Sentence::WholeNumber.at(name, Code::InvalidRequest))
}

/// What is wrong with a lifetime, said of the field of a form that asks for it in days.
pub fn in_days(mut error: Error) -> Error {
    if error.details.get("field") != Some(&json!("expires_in_seconds")) {
        return error;
    }
    error.message = error.message.replace("expires_in_seconds", "expires_in_days");
    error.detail("field", "expires_in_days")
}

/// Why what a form asked for was not done. The page is drawn again, with this at the field, or at its top.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// The field it is about.
    pub field: Option<String>,
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// The message is a sentence of the page's own language, so what the code means need not go before it.
    pub is_own: bool,
}

impl Refused {
    /// What the person at the form can mend; `Err`: everything else.
    pub fn of(error: Error) -> Result<Self, Error> {
        if !matches!(error.code.status(), 400 | 409 | 422) {
            return Err(error);
        }
        Ok(Self::plain(error))
    }

    /// Whatever it was.
    pub fn plain(error: Error) -> Self {
        let field = error.details.get("field").and_then(|field| field.as_str()).map(str::to_owned);
        if let Some(message) = pages::refusal(&error) {
            return Self { field, code: error.code.as_str(), message, hint: None, is_own: true };
        }
        // At the field its name need not be said.
        let message = match &field {
            Some(field) => capital(error.message.strip_prefix(&format!("`{field}`: ")).unwrap_or(&error.message)),
            None => error.message,
        };
        Self { field, code: error.code.as_str(), message, hint: error.hint, is_own: false }
    }
}

/// The text as a sentence of its own.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let sentence: String = chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect());
    if sentence.ends_with('.') { sentence } else { format!("{sentence}.") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grantd_wire::Code;

    #[test]
    fn a_form_is_read_as_browsers_send_it() {
        let form = Form::parse(b"name=+a%20b+&on=&hosts=a.example%0D%0Ab.example,+c.example&field_x=1&field_y=");
        assert_eq!(form.text("name"), "a b");
        assert_eq!(form.raw("name"), " a b ");
        assert_eq!(form.list("hosts"), ["a.example", "b.example", "c.example"]);
        assert_eq!(form.under("field_"), BTreeMap::from([("x".to_owned(), "1".to_owned())]));
        assert_eq!((form.filled("on"), form.filled("name").as_deref()), (None, Some("a b")));
        assert_eq!(Form::parse(form.encoded().as_bytes()).encoded(), form.encoded());
        assert!(form.is_on("name") && !form.is_on("on") && !form.is_on("none"));
        let several = Form::parse(b"box=a&box=b&words=a+b%0D%0Ac,d,&pairs=+a+=1=2%0D%0A%0D%0Ab=&bad=a");
        assert_eq!(several.all("box"), ["a", "b"]);
        assert_eq!(several.words("words"), ["a", "b", "c", "d"]);
        let pairs = [("a", "1=2"), ("b", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!((several.pairs("pairs"), several.pairs("bad")), (Some(BTreeMap::from(pairs)), None));
        assert_eq!(several.pairs("none"), Some(BTreeMap::new()));
        assert_eq!(form.kept(&["name"]), BTreeMap::from([("name".to_owned(), " a b ".to_owned())]));
    }

    #[tokio::test]
    async fn a_form_with_a_file_is_read_as_browsers_send_it() {
        let read = async |kind: &'static str, body: &'static str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, http::HeaderValue::from_static(kind))]);
            Form::read(&headers, Bytes::from_static(body.as_bytes())).await
        };
        let kind = "multipart/form-data; boundary=x";
        let body = "--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\na b\r\n\
            --x\r\nContent-Disposition: form-data; name=\"logo\"; filename=\"a.png\"\r\n\
            Content-Type: image/png\r\n\r\nPNG\r\n\
            --x\r\nContent-Disposition: form-data; name=\"none\"; filename=\"\"\r\n\
            Content-Type: application/octet-stream\r\n\r\n\r\n--x--\r\n";
        let form = read(kind, body).await.unwrap();
        assert_eq!((form.raw("name"), form.raw("logo"), form.raw("none")), ("a b", "UE5H", ""));
        assert!(form.is_sent("none") && !form.is_sent("other"));
        for broken in [&body[..40], "", "--x\r\n\r\nno name\r\n--x--", "name=a"] {
            assert_eq!(read(kind, broken).await.err().unwrap().code, Code::InvalidRequest, "{broken}");
        }
        assert_eq!(read("application/x-www-form-urlencoded", "name=a").await.unwrap().raw("name"), "a");
    }

    #[test]
    fn what_can_be_mended_is_said_at_its_field() {
        let refused = Refused::of(Error::invalid("name", "must be 1-255 characters")).unwrap();
        assert_eq!(refused.field.as_deref(), Some("name"));
        assert_eq!(refused.message, "Must be 1-255 characters.");
        assert_eq!(Refused::of(Error::new(Code::NameTaken)).unwrap().field, None);
        for code in [Code::RoleRequired, Code::NotFound, Code::Busy, Code::Internal, Code::SessionRequired] {
            assert!(Refused::of(Error::new(code)).is_err());
        }
    }
}
