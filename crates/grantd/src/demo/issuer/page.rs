//! The pages of the demo provider. They work without script, and carry none.
//!
//! Invariant: everything in them is ours, or made of letters, digits, `-` and `_`.

use std::fmt::Write as _;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::SCOPES;
use super::book::{Ask, PEOPLE};

/// What the pages look like.
pub const STYLE: &str = include_str!("style.css");

/// No `form-action`: browsers hold every redirect that follows the form against it, also those of the client, which nobody here knows.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The question: who you are, and whether the client may.
pub fn question(id: &str, ask: &Ask) -> String {
    let mut text = String::from(
        "<h1>Sign in to Demo</h1>\n<p><b>grantd</b> asks for access to an account. The people are made up, so there are no passwords.</p>\n\
         <form method=\"post\" action=\"/answer\">\n",
    );
    let _ =
        writeln!(text, "<input type=\"hidden\" name=\"page\" value=\"{id}\">\n<fieldset>\n<legend>Sign in as</legend>");
    let chosen = ask.hint.unwrap_or(&PEOPLE[0]).id;
    for person in &PEOPLE {
        let checked = if person.id == chosen { " checked" } else { "" };
        let _ = writeln!(
            text,
            "<label><input type=\"radio\" name=\"person\" value=\"{}\"{checked}><span><b>{}</b><small>{}</small></span></label>",
            person.id, person.name, person.email
        );
    }
    text.push_str("</fieldset>\n<h2>grantd will be able to</h2>\n<ul>\n");
    for (scope, words) in SCOPES {
        if ask.scopes.iter().any(|asked| asked == scope) {
            let _ = writeln!(text, "<li>{words}</li>");
        }
    }
    text.push_str(
        "</ul>\n<div class=\"answer\">\n<button class=\"yes\" name=\"answer\" value=\"allow\">Allow</button>\n\
         <button name=\"answer\" value=\"deny\">Deny</button>\n</div>\n</form>\n",
    );
    text
}

/// Something that cannot go on.
pub fn dead_end(heading: &str, why: &str) -> String {
    format!("<h1>{heading}</h1>\n<p>{why}</p>\n")
}

/// A whole page.
pub fn answer(status: StatusCode, main: &str) -> Response {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Demo provider</title>\n<link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>\n<main>\n\
         <p class=\"mark\">Demo provider</p>\n{main}</main>\n<footer>Part of <code>grantd dev</code>. It runs on this machine and ends with it.</footer>\n\
         </body>\n</html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, html).into_response()
}
