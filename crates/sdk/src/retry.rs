//! When a call to the vault is made again.
//!
//! Invariant: nothing is made again that may have happened. A provider is called once, whatever comes of it; a repeated call to
//! the vault is signed anew, with a nonce and a time of its own.

use std::time::Duration;

use crate::error::Error;

/// Further attempts, unless said otherwise.
pub const RETRIES_MAX: u32 = 2;
/// What one call may spend waiting between attempts, unless said otherwise.
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);
/// The first pause after a refused connection. Each further one is four times as long.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// How often, and how long, a client tries again by itself.
///
/// It does so when the vault took nothing of the call (the connection was refused), and when the vault refused the call and said
/// how long to wait (429 `rate_limit_exceeded`, or 503, with `Retry-After`). A 503 is tried again only where repeating harms
/// nothing: releasing, listing, revoking, not making grants. A pause that would not fit into `wait_max` is not begun: the error
/// comes at once, with the vault's advice in [`Error::retry_after`]. Everything else is never repeated: timeouts, broken
/// connections, other statuses, and anything about the provider.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retries {
    /// Further attempts after the first.
    pub retries_max: u32,
    /// All pauses of one call together.
    pub wait_max: Duration,
}

impl Retries {
    /// One attempt, as the other clients make it.
    pub const NEVER: Self = Self { retries_max: 0, wait_max: Duration::ZERO };
}

impl Default for Retries {
    fn default() -> Self {
        Self { retries_max: RETRIES_MAX, wait_max: RETRY_WAIT_MAX }
    }
}

/// What a second execution of a call would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeat {
    /// No harm: it reads, ends something that may have ended, or writes one more event.
    Harmless,
    /// It would make a second one, so the first must surely not have happened.
    MakesAnother,
}

/// How long to pause before the next attempt, or `None` to give up. `retries` were made and `waited` was spent; `random` spreads
/// the pauses of many clients.
pub fn decide(
    limits: Retries,
    repeat: Repeat,
    retries: u32,
    waited: Duration,
    error: &Error,
    random: u8,
) -> Option<Duration> {
    if retries >= limits.retries_max {
        return None;
    }
    let pause = match error {
        Error::Network { nothing_sent: true, source, .. } if is_refused(&**source) => {
            let longest = REFUSED_PAUSE.saturating_mul(4_u32.saturating_pow(retries));
            longest.mul_f64(0.5 + f64::from(random) / 510.0)
        }
        // Refused before anything was done, whatever the route.
        Error::RateLimit { retry_after, .. } => (*retry_after)?,
        _ if error.status() == Some(503) && repeat == Repeat::Harmless => error.retry_after()?,
        _ => return None,
    };
    (waited.saturating_add(pause) <= limits.wait_max).then_some(pause)
}

/// Nobody listens there just now, as while a vault is restarted. Other failures to connect do not pass in seconds.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io;

    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::error::from_answer;

    fn network(kind: io::ErrorKind, nothing_sent: bool) -> Error {
        Error::Network { peer: "p".to_owned(), nothing_sent, source: Box::new(io::Error::from(kind)) }
    }

    fn answer(status: u16, code: &str, retry_after: Option<&'static str>) -> Error {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = retry_after {
            headers.insert("retry-after", seconds.parse().unwrap());
        }
        let body = format!(r#"{{"error":"{code}","message":"m"}}"#);
        from_answer(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), "alter_key_")
    }

    fn first(repeat: Repeat, error: &Error) -> Option<Duration> {
        decide(Retries::default(), repeat, 0, Duration::ZERO, error, 255)
    }

    #[test]
    fn what_was_surely_not_done_is_tried_again() {
        let seconds = |s| Some(Duration::from_secs(s));
        for (error, harmless, another) in [
            (network(io::ErrorKind::ConnectionRefused, true), Some(REFUSED_PAUSE), Some(REFUSED_PAUSE)),
            (network(io::ErrorKind::ConnectionRefused, false), None, None),
            (network(io::ErrorKind::ConnectionReset, true), None, None),
            (answer(429, "rate_limit_exceeded", Some("2")), seconds(2), seconds(2)),
            (answer(429, "rate_limit_exceeded", None), None, None),
            (answer(429, "quota_exceeded", Some("1")), None, None),
            (answer(503, "busy", Some("1")), seconds(1), None),
            (answer(503, "busy", None), None, None),
            (answer(500, "internal", Some("1")), None, None),
            (answer(409, "token_refresh_in_progress", Some("1")), None, None),
            (answer(401, "nonce_replayed", Some("1")), None, None),
            (Error::Timeout { peer: "p".to_owned(), after: RETRY_WAIT_MAX }, None, None),
        ] {
            assert_eq!(first(Repeat::Harmless, &error), harmless, "{error:?}");
            assert_eq!(first(Repeat::MakesAnother, &error), another, "{error:?}");
        }
    }

    #[test]
    fn attempts_and_pauses_are_bounded() {
        let busy = |seconds| answer(503, "busy", Some(seconds));
        let decide = |retries, waited_s, error: &Error| {
            super::decide(Retries::default(), Repeat::Harmless, retries, Duration::from_secs(waited_s), error, 0)
        };
        assert_eq!(decide(0, 0, &busy("5")), Some(RETRY_WAIT_MAX));
        assert_eq!(decide(0, 0, &busy("6")), None);
        assert_eq!(decide(1, 3, &busy("2")), Some(Duration::from_secs(2)));
        assert_eq!(decide(1, 4, &busy("2")), None);
        assert_eq!(decide(RETRIES_MAX, 0, &busy("0")), None);
        let refused = network(io::ErrorKind::ConnectionRefused, true);
        assert_eq!(decide(0, 0, &refused), Some(REFUSED_PAUSE / 2));
        assert_eq!(decide(1, 0, &refused), Some(REFUSED_PAUSE * 2));
        let never = super::decide(Retries::NEVER, Repeat::Harmless, 0, Duration::ZERO, &refused, 0);
        assert_eq!(never, None);
    }
}
