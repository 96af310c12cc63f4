//! Templates and what they call.

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, HtmlEscape, UndefinedBehavior, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::lang::Lang;
use super::texts::{Texts, hour};
use super::{assets, codes};

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
    ("connect_sign_in.html", include_str!("../../templates/connect_sign_in.html")),
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
    ("portal/account.html", include_str!("../../templates/portal/account.html")),
    ("portal/app_home.html", include_str!("../../templates/portal/app_home.html")),
    ("portal/app_new.html", include_str!("../../templates/portal/app_new.html")),
    ("portal/app_settings.html", include_str!("../../templates/portal/app_settings.html")),
    ("portal/member.html", include_str!("../../templates/portal/member.html")),
    ("portal/member_disable.html", include_str!("../../templates/portal/member_disable.html")),
    ("portal/member_link.html", include_str!("../../templates/portal/member_link.html")),
    ("portal/member_new.html", include_str!("../../templates/portal/member_new.html")),
    ("portal/members.html", include_str!("../../templates/portal/members.html")),
    ("portal/overview.html", include_str!("../../templates/portal/overview.html")),
    ("portal/settings.html", include_str!("../../templates/portal/settings.html")),
    ("portal/token_minted.html", include_str!("../../templates/portal/token_minted.html")),
    ("portal/token_new.html", include_str!("../../templates/portal/token_new.html")),
    ("portal/token_revoke.html", include_str!("../../templates/portal/token_revoke.html")),
    ("portal/token_rows.html", include_str!("../../templates/portal/token_rows.html")),
    ("portal/tokens.html", include_str!("../../templates/portal/tokens.html")),
    ("portal/apps.html", include_str!("../../templates/portal/apps.html")),
    ("portal/confirm.html", include_str!("../../templates/portal/confirm.html")),
    ("portal/head.html", include_str!("../../templates/portal/head.html")),
    ("portal/icons.html", include_str!("../../templates/portal/icons.html")),
    ("portal/layout.html", include_str!("../../templates/portal/layout.html")),
    ("portal/outside.html", include_str!("../../templates/portal/outside.html")),
    ("portal/parts.html", include_str!("../../templates/portal/parts.html")),
    ("portal/passkey_new.html", include_str!("../../templates/portal/passkey_new.html")),
    ("portal/sessions.html", include_str!("../../templates/portal/sessions.html")),
    ("portal/sign_in.html", include_str!("../../templates/portal/sign_in.html")),
    ("portal/audit.html", include_str!("../../templates/portal/audit.html")),
    ("portal/audit_export.html", include_str!("../../templates/portal/audit_export.html")),
    ("portal/audit_filters.html", include_str!("../../templates/portal/audit_filters.html")),
    ("portal/event.html", include_str!("../../templates/portal/event.html")),
    ("portal/grant.html", include_str!("../../templates/portal/grant.html")),
    ("portal/grant_revoke.html", include_str!("../../templates/portal/grant_revoke.html")),
    ("portal/grants.html", include_str!("../../templates/portal/grants.html")),
    ("portal/key_minted.html", include_str!("../../templates/portal/key_minted.html")),
    ("portal/key_new.html", include_str!("../../templates/portal/key_new.html")),
    ("portal/key_revoke.html", include_str!("../../templates/portal/key_revoke.html")),
    ("portal/keys.html", include_str!("../../templates/portal/keys.html")),
    ("portal/lines.html", include_str!("../../templates/portal/lines.html")),
    ("portal/provider.html", include_str!("../../templates/portal/provider.html")),
    ("portal/provider_delete.html", include_str!("../../templates/portal/provider_delete.html")),
    ("portal/provider_facts.html", include_str!("../../templates/portal/provider_facts.html")),
    ("portal/provider_fields.html", include_str!("../../templates/portal/provider_fields.html")),
    ("portal/provider_new.html", include_str!("../../templates/portal/provider_new.html")),
    ("portal/providers.html", include_str!("../../templates/portal/providers.html")),
    ("portal/connect_leave.html", include_str!("../../templates/portal/connect_leave.html")),
    ("portal/connect_link.html", include_str!("../../templates/portal/connect_link.html")),
    ("portal/connect_nothing.html", include_str!("../../templates/portal/connect_nothing.html")),
    ("portal/idp.html", include_str!("../../templates/portal/idp.html")),
    ("portal/idp_delete.html", include_str!("../../templates/portal/idp_delete.html")),
    ("portal/idp_fields.html", include_str!("../../templates/portal/idp_fields.html")),
    ("portal/idp_look.html", include_str!("../../templates/portal/idp_look.html")),
    ("portal/idp_new.html", include_str!("../../templates/portal/idp_new.html")),
    ("portal/idp_token.html", include_str!("../../templates/portal/idp_token.html")),
    ("portal/idps.html", include_str!("../../templates/portal/idps.html")),
    ("portal/user.html", include_str!("../../templates/portal/user.html")),
    ("portal/user_end.html", include_str!("../../templates/portal/user_end.html")),
    ("portal/users.html", include_str!("../../templates/portal/users.html")),
    ("portal/app_delete.html", include_str!("../../templates/portal/app_delete.html")),
    ("portal/app_settings.html", include_str!("../../templates/portal/app_settings.html")),
    ("portal/branding.html", include_str!("../../templates/portal/branding.html")),
    ("portal/secret_delete.html", include_str!("../../templates/portal/secret_delete.html")),
    ("portal/secret.html", include_str!("../../templates/portal/secret.html")),
    ("portal/secret_catalogue.html", include_str!("../../templates/portal/secret_catalogue.html")),
    ("portal/secret_new.html", include_str!("../../templates/portal/secret_new.html")),
    ("portal/secrets.html", include_str!("../../templates/portal/secrets.html")),
    ("portal/start.html", include_str!("../../templates/portal/start.html")),
    ("portal/sign_in_code.html", include_str!("../../templates/portal/sign_in_code.html")),
    ("portal/sso_back.html", include_str!("../../templates/portal/sso_back.html")),
    ("portal/sso_confirmed.html", include_str!("../../templates/portal/sso_confirmed.html")),
    ("portal/sso_leave.html", include_str!("../../templates/portal/sso_leave.html")),
    ("portal/sso_refused.html", include_str!("../../templates/portal/sso_refused.html")),
    ("portal/totp_codes.html", include_str!("../../templates/portal/totp_codes.html")),
    ("portal/totp_new.html", include_str!("../../templates/portal/totp_new.html")),
    ("portal/trouble.html", include_str!("../../templates/portal/trouble.html")),
    ("portal/trouble_outside.html", include_str!("../../templates/portal/trouble_outside.html")),
    ("portal/trouble_text.html", include_str!("../../templates/portal/trouble_text.html")),
];

/// What needs no encoding in a segment or a value of a query.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Of each language, in the order of [`Lang::ALL`].
static ENVIRONMENTS: LazyLock<[Environment<'static>; Lang::ALL.len()]> = LazyLock::new(|| Lang::ALL.map(environment));

fn environment(lang: Lang) -> Environment<'static> {
    let texts = Texts::of(lang);
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the usual signs of templates do not clash"));
    environment.add_global("lang", lang.code());
    environment.add_function("t", |key: &str, values: Kwargs| texts.html(key, &values));
    environment.add_function("plain", |key: &str, values: Kwargs| texts.plain(key, &values));
    environment.add_function("time", |at: &str| texts.time(at));
    environment.add_function("hour", hour);
    environment.add_function("day", |at: &str| texts.day(at));
    environment.add_function("ago", |at: &str, now: &str| texts.ago(at, now));
    environment.add_function("tn", |key: &str, count: i64, values: Kwargs| texts.counted(key, count, &values));
    environment.add_function("words", move |code: &str, message: &str, hint: Option<String>| {
        codes::words(lang, code, message, hint.as_deref())
    });
    environment.add_function("asset", |name: &str| {
        assets::path(name).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("there is no asset {name}")))
    });
    environment.add_filter("segment", |text: &str| utf8_percent_encode(text, UNRESERVED).to_string());
    environment.add_filter("isolated", isolated);
    environment.add_filter("breakable", breakable);
    environment.add_filter("cut", cut);
    environment.add_filter("english", english);
    environment.add_filter("initial", initial);
    environment.add_filter("number", |number: i64| texts.number(number));
    environment.add_filter("ms", |us: i64| texts.milliseconds(us));
    environment.add_filter("share", |part: i64, whole: i64| texts.share(part, whole));
    environment.add_filter("short", short);
    environment.add_filter("hue", hue);
    for (name, text) in TEMPLATES {
        environment.add_template(name, text).expect("templates of ours are well formed");
    }
    environment
}

/// The page of this template. Its inputs are typed and each of their forms is rendered by a test, so it cannot fail.
pub(super) fn render(template: &str, context: Value) -> String {
    let lang = Lang::current();
    let at = Lang::ALL.into_iter().position(|known| known == lang).unwrap_or_default();
    let template = ENVIRONMENTS[at].get_template(template).expect("pages name templates of ours");
    template.render(context).expect("pages of ours render")
}

/// A name of others as the whole of a label, which nothing around it can turn.
fn isolated(name: &str) -> Value {
    Value::from_safe_string(format!("<bdi>{}</bdi>", HtmlEscape(name)))
}

/// Characters of what others named, in a list; the page of the thing itself has all of them.
const LIST_CHARS_SHOWN: usize = 64;

/// The text as lists show it.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LIST_CHARS_SHOWN) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// An e-mail address that rather breaks behind its signs than within a word.
fn breakable(address: &str) -> Value {
    let parts = address.split_inclusive(['@', '.']).map(|part| HtmlEscape(part).to_string());
    Value::from_safe_string(parts.collect::<Vec<_>>().join("<wbr>"))
}

/// What is there in English alone, such as a text of the catalogue, whatever the language of the page.
fn english(text: Option<String>) -> Value {
    match text.filter(|text| !text.is_empty()) {
        Some(text) => Value::from_safe_string(format!("<span lang=\"en\">{}</span>", HtmlEscape(&text))),
        None => Value::from(""),
    }
}

/// The letter that stands for a provider or an app.
fn initial(name: &str) -> String {
    name.chars().find(|c| c.is_alphanumeric()).map_or_else(|| "?".to_owned(), |c| c.to_uppercase().collect())
}

/// Which of the four mark colours; the same for the same name.
fn hue(name: &str) -> u8 {
    name.bytes().fold(0u8, |sum, b| sum.wrapping_mul(31).wrapping_add(b)) % 4 + 1
}

/// An id with its middle left out.
fn short(id: &str) -> String {
    let chars: Vec<char> = id.chars().collect();
    if chars.len() <= 16 {
        return id.to_owned();
    }
    chars[..8].iter().chain(&['…']).chain(&chars[chars.len() - 4..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ids_are_shown_for_people() {
        for (lang, n, text) in [
            (Lang::En, 0, "0"),
            (Lang::En, 999, "999"),
            (Lang::En, 1_000, "1,000"),
            (Lang::En, 1_234_567, "1,234,567"),
            (Lang::En, -1_000, "-1,000"),
            (Lang::De, 999, "999"),
            (Lang::De, 10_248, "10.248"),
            (Lang::De, -1_234_567, "-1.234.567"),
        ] {
            assert_eq!(Texts::of(lang).number(n).unwrap(), text);
        }
        let english = Texts::of(Lang::En);
        let times = [
            (0, "0 ms"),
            (400, "0.4 ms"),
            (5_049, "5 ms"),
            (12_499, "12 ms"),
            (999_400, "999 ms"),
            (1_240_000, "1.2 s"),
        ];
        assert!(times.iter().all(|(us, text)| english.milliseconds(*us).unwrap() == *text));
        let shares = [(0, 0, "–"), (0, 9, "0%"), (1, 10_000, "< 0.1%"), (19, 1_000, "1.9%"), (9, 9, "100.0%")];
        assert!(shares.iter().all(|(part, whole, text)| english.share(*part, *whole).unwrap() == *text));
        let german = Texts::of(Lang::De);
        assert_eq!(german.milliseconds(1_240_000).unwrap(), "1,2 s");
        assert_eq!(german.share(19, 1_000).unwrap(), "1,9\u{a0}%");
        assert_eq!(short("0199c0de-0000-7000-8000-00000000beef"), "0199c0de…beef");
        assert_eq!(short("short"), "short");
        let most = "é".repeat(LIST_CHARS_SHOWN);
        assert_eq!((cut(&most), cut(&format!("{most}x"))), (most.clone(), format!("{most}…")));
        assert_eq!(breakable("a<b.c@d.example").to_string(), "a&lt;b.<wbr>c@<wbr>d.<wbr>example");
    }
}
