//! Templates and what they call.

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, HtmlEscape, UndefinedBehavior, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::assets;
use super::texts::{LANG, TEXTS};

/// Name and text of each template.
pub(super) const TEMPLATES: &[(&str, &str)] = &[
    ("layout.html", include_str!("../../templates/layout.html")),
    ("parts.html", include_str!("../../templates/parts.html")),
    ("open.html", include_str!("../../templates/open.html")),
    ("picker.html", include_str!("../../templates/picker.html")),
    ("consent.html", include_str!("../../templates/consent.html")),
    ("key_entry.html", include_str!("../../templates/key_entry.html")),
    ("key_known.html", include_str!("../../templates/key_known.html")),
    ("sign_in.html", include_str!("../../templates/sign_in.html")),
    ("signed_in.html", include_str!("../../templates/signed_in.html")),
    ("leaving.html", include_str!("../../templates/leaving.html")),
    ("partial.html", include_str!("../../templates/partial.html")),
    ("declined.html", include_str!("../../templates/declined.html")),
    ("failed.html", include_str!("../../templates/failed.html")),
    ("finished.html", include_str!("../../templates/finished.html")),
    ("expired.html", include_str!("../../templates/expired.html")),
    ("wrong_browser.html", include_str!("../../templates/wrong_browser.html")),
    ("closed.html", include_str!("../../templates/closed.html")),
    ("trouble.html", include_str!("../../templates/trouble.html")),
];

/// What needs no encoding in a segment or a value of a query.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the usual signs of templates do not clash"));
    environment.add_global("lang", LANG);
    environment.add_function("t", |key: &str, values: Kwargs| TEXTS.html(key, &values));
    environment.add_function("plain", |key: &str, values: Kwargs| TEXTS.plain(key, &values));
    environment.add_function("time", |at: &str| TEXTS.time(at));
    environment.add_function("asset", |name: &str| {
        assets::path(name).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("there is no asset {name}")))
    });
    environment.add_filter("segment", |text: &str| utf8_percent_encode(text, UNRESERVED).to_string());
    environment.add_filter("isolated", isolated);
    environment.add_filter("initial", initial);
    environment.add_filter("hue", hue);
    for (name, text) in TEMPLATES {
        environment.add_template(name, text).expect("templates of ours are well formed");
    }
    environment
});

/// The page of this template. Its inputs are typed and each of their forms is rendered by a test, so it cannot fail.
pub(super) fn render(template: &str, context: Value) -> String {
    let template = ENVIRONMENT.get_template(template).expect("pages name templates of ours");
    template.render(context).expect("pages of ours render")
}

/// A name of others as the whole of a label, which nothing around it can turn.
fn isolated(name: &str) -> Value {
    Value::from_safe_string(format!("<bdi>{}</bdi>", HtmlEscape(name)))
}

/// The letter that stands for a provider or an app.
fn initial(name: &str) -> String {
    name.chars().find(|c| c.is_alphanumeric()).map_or_else(|| "?".to_owned(), |c| c.to_uppercase().collect())
}

/// Which of the four mark colours; the same for the same name.
fn hue(name: &str) -> u8 {
    name.bytes().fold(0u8, |sum, b| sum.wrapping_mul(31).wrapping_add(b)) % 4 + 1
}
