//! What the vault says of rates on every answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;

/// The rate of the key, as of the last answer that told it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RateLimitState {
    /// Calls a window.
    pub limit: u64,
    /// Calls left in it.
    pub remaining: u64,
    /// When it begins anew.
    pub reset: SystemTime,
}

impl RateLimitState {
    /// Reads the three `X-RateLimit-` headers, or else the pair `RateLimit-Policy` and `RateLimit`.
    pub fn of(headers: &HeaderMap, now: SystemTime) -> Option<Self> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let triple = || {
            let number = |name: &str| digits(text(name)?);
            let reset_s = number("x-ratelimit-reset")?;
            Some(Self {
                limit: number("x-ratelimit-limit")?,
                remaining: number("x-ratelimit-remaining")?,
                reset: UNIX_EPOCH.checked_add(Duration::from_secs(reset_s))?,
            })
        };
        let pair = || {
            let (policy, quota) = item(text("ratelimit-policy")?, "q")?;
            let (state, remaining) = item(text("ratelimit")?, "r")?;
            let (_, after_s) = item(text("ratelimit")?, "t")?;
            let reset = now.checked_add(Duration::from_secs(after_s))?;
            (policy == state).then_some(Self { limit: quota, remaining, reset })
        };
        triple().or_else(pair)
    }
}

/// The name of the first `"name";a=1;b=2` and its parameter.
fn item<'a>(text: &'a str, parameter: &str) -> Option<(&'a str, u64)> {
    let mut parts = text.split(',').next()?.split(';').map(str::trim);
    let name = parts.next()?.strip_prefix('"')?.strip_suffix('"')?;
    let value = parts.find_map(|part| part.strip_prefix(parameter)?.strip_prefix('='))?;
    Some((name, digits(value)?))
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Option<(u64, u64, u64)> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        let state = RateLimitState::of(&headers, UNIX_EPOCH + Duration::from_secs(1_000))?;
        Some((state.limit, state.remaining, state.reset.duration_since(UNIX_EPOCH).unwrap().as_secs()))
    }

    #[test]
    fn ext_51_the_triple_goes_before_the_pair() {
        let triple =
            [("x-ratelimit-limit", "60"), ("x-ratelimit-remaining", "59"), ("x-ratelimit-reset", "1700000000")];
        let pair = [("ratelimit-policy", r#""key";q=60;w=60"#), ("ratelimit", r#""key";r=58;t=30"#)];
        assert_eq!(read(&triple), Some((60, 59, 1_700_000_000)));
        assert_eq!(read(&pair), Some((60, 58, 1_030)));
        assert_eq!(read(&[&triple[..], &pair].concat()), Some((60, 59, 1_700_000_000)));
        assert_eq!(read(&[&triple[..2], &pair].concat()), Some((60, 58, 1_030)));
    }

    #[test]
    fn half_a_statement_is_none() {
        for headers in [
            &[][..],
            &[("x-ratelimit-limit", "60"), ("x-ratelimit-remaining", "59"), ("x-ratelimit-reset", "soon")],
            &[("x-ratelimit-limit", "+60"), ("x-ratelimit-remaining", "59"), ("x-ratelimit-reset", "1")],
            &[("ratelimit-policy", r#""a";q=60"#), ("ratelimit", r#""b";r=58;t=30"#)],
            &[("ratelimit-policy", r#""a";q=60"#), ("ratelimit", r#""a";r=58"#)],
        ] {
            assert_eq!(read(headers), None, "{headers:?}");
        }
    }
}
