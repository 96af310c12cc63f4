//! How long an audit trail is kept.

use std::fmt;

use crate::limits::{RETENTION_DAYS_DEFAULT, RETENTION_DAYS_MAX};

/// How long events are kept, at least.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retention {
    /// From 1 to [`RETENTION_DAYS_MAX`].
    Days(u32),
    /// Nothing is ever removed.
    Forever,
}

impl Default for Retention {
    fn default() -> Self {
        Self::Days(RETENTION_DAYS_DEFAULT)
    }
}

impl Retention {
    /// Reads `90d` or `forever`. The error is words that follow a colon.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        // Digits alone: a number's parser would take a sign, too.
        let digits = text.strip_suffix('d').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        digits
            .and_then(|digits| digits.parse().ok())
            .and_then(Self::of_days)
            .ok_or_else(|| format!("write days such as 90d, from 1d to {RETENTION_DAYS_MAX}d, or forever"))
    }

    /// That many days, where they are within the bounds.
    pub fn of_days(days: u32) -> Option<Self> {
        (1..=RETENTION_DAYS_MAX).contains(&days).then_some(Self::Days(days))
    }

    /// The days; `None` for ever.
    pub fn days(self) -> Option<u32> {
        match self {
            Self::Days(days) => Some(days),
            Self::Forever => None,
        }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Days(days) => write!(f, "{days}d"),
            Self::Forever => f.write_str("forever"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_within_the_bounds_is_read_and_written_alike() {
        for text in ["1d", "365d", "36500d", "forever"] {
            assert_eq!(Retention::parse(text).map(|r| r.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(Retention::default().to_string(), "365d");
    }

    #[test]
    fn other_texts_and_what_is_past_the_bounds_are_refused() {
        for text in
            ["0d", "36501d", "99999999999d", "", "d", "30", "+3d", "-1d", "1.5d", "1 d", "12h", "Forever", "unlimited"]
        {
            let why = Retention::parse(text).unwrap_err();
            assert!(why.contains("from 1d to 36500d, or forever"), "{text}: {why}");
        }
    }
}
