//! Where the facts of a catalogue are from, and how much that is worth.

use serde::Deserialize;

/// Where a group of facts is from.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    pub level: Level,
    pub source: String,
    /// `YYYY-MM-DD`.
    pub checked: String,
}

/// How much a group of facts can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Read in the vendor's own documentation or code.
    Vendor,
    /// Read in an open-source client that uses it.
    Client,
    /// Read in somebody else's text.
    ThirdParty,
    /// Believed; the source is where it should be confirmed.
    Unconfirmed,
}

impl Evidence {
    /// Whether it names a page and a day.
    pub fn is_well_formed(&self) -> bool {
        is_https(&self.source) && is_date(&self.checked)
    }
}

impl Level {
    /// Stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vendor => "vendor",
            Self::Client => "client",
            Self::ThirdParty => "third_party",
            Self::Unconfirmed => "unconfirmed",
        }
    }

    /// Whether the fact was read where it is made.
    pub const fn is_verified(self) -> bool {
        matches!(self, Self::Vendor | Self::Client)
    }
}

/// Whether it is a link to a page of somebody's.
pub fn is_https(link: &str) -> bool {
    link.starts_with("https://") && url::Url::parse(link).is_ok_and(|url| url.domain().is_some_and(|d| d.contains('.')))
}

fn is_date(text: &str) -> bool {
    let digits = |range: std::ops::Range<usize>| text.get(range).is_some_and(|t| t.bytes().all(|c| c.is_ascii_digit()));
    text.len() == 10 && digits(0..4) && &text[4..5] == "-" && digits(5..7) && &text[7..8] == "-" && digits(8..10)
}
