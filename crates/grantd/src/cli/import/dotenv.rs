//! `.env` files.

use grantd_wire::api::SecretTemplate;
use zeroize::Zeroizing;

use super::{Failure, Found};

/// What follows a vendor's name in a variable's.
const ENDINGS: [&str; 13] = [
    "_API_KEY",
    "_API_TOKEN",
    "_API_SECRET",
    "_ACCESS_TOKEN",
    "_AUTH_TOKEN",
    "_BOT_TOKEN",
    "_SECRET_KEY",
    "_BEARER_TOKEN",
    "_APIKEY",
    "_KEY",
    "_TOKEN",
    "_SECRET",
    "_PAT",
];

/// In place of a `$` that may stand for a variable, and of one that is escaped, where the file is read for what it says itself.
const DOLLAR: char = '\u{e000}';
const ESCAPED_DOLLAR: char = '\u{e001}';

/// Every variable; of one that is there twice the last one counts, as for whoever reads such a file.
pub fn read(text: &Zeroizing<String>) -> Result<Vec<Found>, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let as_written = Zeroizing::new(
        Zeroizing::new(text.replace("\\$", &ESCAPED_DOLLAR.to_string())).replace('$', &DOLLAR.to_string()),
    );
    let as_written = dotenvy::from_read_iter(as_written.as_bytes());
    let mut found: Vec<Found> = Vec::new();
    for (n, (variable, written)) in dotenvy::from_read_iter(text.as_bytes()).zip(as_written).enumerate() {
        // Its own words would repeat the line.
        let (name, value) = variable.map_err(|_| {
            let last = found.last().map_or("the beginning", |found: &Found| &*found.name);
            Failure::usage(format!("the file cannot be read after {last}"))
                .hint("Write NAME=value, with quotes around what has blanks.")
        })?;
        let value = Zeroizing::new(value);
        let stands_there = written.is_ok_and(|(_, written)| is_written(&value, &Zeroizing::new(written)));
        found.retain(|earlier| earlier.name != name);
        found.push(Found {
            from: format!("variable {}", n + 1),
            name,
            value,
            refused: (!stands_there).then(|| {
                "a $ outside single quotes stands for a variable: put the value in single quotes, or write it out"
                    .to_owned()
            }),
            ..Found::default()
        });
    }
    Ok(found)
}

/// Whether no variable was put into it. In single quotes an escape is two characters, elsewhere it is one.
fn is_written(value: &str, written: &str) -> bool {
    let written = Zeroizing::new(written.replace(DOLLAR, "$"));
    ["$", "\\$"].iter().any(|escaped| *Zeroizing::new(written.replace(ESCAPED_DOLLAR, escaped)) == value)
}

/// The template that a variable's name speaks of. Several endings may fit: `SLACK_BOT_TOKEN` is the token of `slack-bot`.
pub fn template_of(name: &str, templates: &[SecretTemplate]) -> Option<String> {
    let name = name.to_ascii_uppercase();
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    ENDINGS.iter().filter_map(|ending| name.strip_suffix(ending)).find_map(|vendor| {
        let found = templates.iter().find(|template| plain(&template.id) == plain(vendor));
        found.map(|template| template.id.clone())
    })
}
