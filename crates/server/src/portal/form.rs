//! What a form of the portal sends, and what was wrong with it.

use std::collections::BTreeMap;

use grantd_wire::Error;
use serde::Serialize;
use zeroize::Zeroizing;

/// The fields of a form, or of a query.
#[derive(Default)]
pub struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// Reads `name=value&…`.
    pub fn parse(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text);
        Self(pairs.map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned()))).collect())
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

/// Why what a form asked for was not done. The page is drawn again, with this at the field, or at its top.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// The field it is about.
    pub field: Option<String>,
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
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
        // At the field its name need not be said.
        let message = match &field {
            Some(field) => capital(error.message.strip_prefix(&format!("`{field}`: ")).unwrap_or(&error.message)),
            None => error.message,
        };
        Self { field, code: error.code.as_str(), message, hint: error.hint }
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
        assert_eq!(form.kept(&["name"]), BTreeMap::from([("name".to_owned(), " a b ".to_owned())]));
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
