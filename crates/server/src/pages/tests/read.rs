//! A page as a browser reads it: tokens of the HTML standard, and whether its elements nest.

use std::collections::BTreeMap;

use html5gum::{Token, Tokenizer};

type Attributes = BTreeMap<String, String>;

/// Elements that have no end.
const VOID: &[&str] = &["meta", "link", "input", "img", "br"];

#[derive(Debug)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: Attributes,
}

#[derive(Debug)]
pub(super) struct Form {
    pub(super) attributes: Attributes,
    /// Fields by name, with their value.
    pub(super) fields: Attributes,
}

#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) elements: Vec<Element>,
    pub(super) forms: Vec<Form>,
    pub(super) title: String,
    /// What a person reads, or is read.
    pub(super) text: String,
    pub(super) in_script: String,
    pub(super) errors: Vec<String>,
}

impl Document {
    pub(super) fn read(html: &str) -> Self {
        let mut document = Self::default();
        let mut open: Vec<String> = Vec::new();
        for Ok(token) in Tokenizer::new(html) {
            match token {
                Token::StartTag(tag) => {
                    let name = text(&tag.name);
                    let attributes: Attributes =
                        tag.attributes.iter().map(|(name, value)| (text(name), text(value))).collect();
                    document.field(&name, &attributes, open.iter().any(|o| o == "form"));
                    if !VOID.contains(&name.as_str()) && !tag.self_closing {
                        open.push(name.clone());
                    }
                    document.elements.push(Element { name, attributes });
                }
                Token::EndTag(tag) => {
                    let (name, top) = (text(&tag.name), open.pop());
                    if top.as_ref() != Some(&name) {
                        document.errors.push(format!("</{name}> ends {top:?}"));
                    }
                }
                Token::String(found) => match open.last().map(String::as_str) {
                    Some("title") => document.title.push_str(&text(&found)),
                    Some("script") => document.in_script.push_str(&text(&found)),
                    _ => document.text.push_str(&text(&found)),
                },
                Token::Error(error) => document.errors.push(format!("{error:?}")),
                Token::Comment(comment) => document.errors.push(format!("a comment: {}", text(&comment))),
                Token::Doctype(_) => {}
            }
        }
        if !open.is_empty() {
            document.errors.push(format!("left open: {open:?}"));
        }
        document
    }

    fn field(&mut self, name: &str, attributes: &Attributes, in_form: bool) {
        if name == "form" {
            if in_form {
                self.errors.push("a form in a form".to_owned());
            }
            self.forms.push(Form { attributes: attributes.clone(), fields: Attributes::new() });
        }
        if name == "input" {
            let value = attributes.get("value").cloned().unwrap_or_default();
            match self.forms.last_mut().filter(|_| in_form) {
                Some(form) => drop(form.fields.insert(attributes["name"].clone(), value)),
                None => self.errors.push("a field outside of a form".to_owned()),
            }
        }
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Attributes> {
        self.elements.iter().filter(move |e| e.name == name).map(|e| &e.attributes)
    }

    pub(super) fn one<'a>(&'a self, name: &'a str) -> &'a Attributes {
        self.all(name).next().expect("the page has this element")
    }

    /// Its elements with the names of their attributes: all that is not text.
    pub(super) fn shape(&self) -> Vec<String> {
        let line = |e: &Element| format!("{} {:?}", e.name, e.attributes.keys().collect::<Vec<_>>());
        self.elements.iter().map(line).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("pages are UTF-8")
}
