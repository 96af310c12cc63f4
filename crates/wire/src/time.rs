//! Moments: milliseconds since 1970 inside, RFC 3339 with `Z` outside.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TimeMs(pub i64);

impl TimeMs {
    /// This moment plus `ms` milliseconds (may be negative); saturates.
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This moment plus `seconds`; saturates.
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        self.plus_ms(seconds.saturating_mul(1000))
    }

    /// Milliseconds from `earlier` to this moment; negative if it is later.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Parses RFC 3339 with an offset (`2026-11-24T10:00:00Z`, `…+01:00`); fractions below a millisecond are dropped.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }
}

impl fmt::Display for TimeMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for TimeMs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeMs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time such as 2026-11-24T10:00:00Z"))
    }
}

/// As text with an offset.
#[cfg(feature = "schema")]
impl schemars::JsonSchema for TimeMs {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time"})
    }
}

/// Reads a span such as `90d`, `12h`, `30m` or `45s` into seconds.
pub fn parse_span_seconds(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    let number: i64 = number.parse().ok().filter(|n| *n > 0)?;
    number.checked_mul(unit_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339_with_z() {
        assert_eq!(TimeMs(1_700_000_000_120).to_string(), "2023-11-14T22:13:20.120Z");
        assert_eq!(TimeMs::parse("2023-11-14T23:13:20.12+01:00"), Some(TimeMs(1_700_000_000_120)));
        assert_eq!(TimeMs::parse("2023-11-14T22:13:20"), None, "an offset is required");
    }

    #[test]
    fn spans_read_as_seconds() {
        assert_eq!(parse_span_seconds("90d"), Some(7_776_000));
        for bad in ["", "d", "0d", "-1h", "1y", "1.5h", "é"] {
            assert_eq!(parse_span_seconds(bad), None, "{bad}");
        }
    }
}
