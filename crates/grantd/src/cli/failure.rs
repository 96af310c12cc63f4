//! How a command fails: one line that says what to do next, and an exit code that scripts rely on.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::table::escape;

/// Exit codes. They never change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Error = 1,
    Usage = 2,
    NotSignedIn = 3,
    NotFound = 4,
    Conflict = 5,
    RateLimited = 6,
    Forbidden = 7,
    Cancelled = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The exit code of an answer that is no success.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Self::NotSignedIn,
            403 => Self::Forbidden,
            404 | 410 => Self::NotFound,
            409 => Self::Conflict,
            429 => Self::RateLimited,
            _ => Self::Error,
        }
    }
}

/// The server was not reached, or did not answer.
pub const UNREACHABLE: &str = "unreachable";
/// Its answer did not come in whole.
pub const BROKEN_OFF: &str = "broken_off";

/// What to do where nothing can be written.
pub const WRITABLE: &str = "Check who may write there, and that there is room.";
/// What to do where nothing can be read.
pub const READABLE: &str = "Check who may read it.";

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    #[serde(skip)]
    pub exit: Exit,
    /// A stable code: the server's, or one of this command line's.
    pub error: String,
    pub message: String,
    pub hint: Option<String>,
    /// The field of a request that the server names; turned into the flag it came from.
    #[serde(skip)]
    pub field: Option<String>,
    /// Of the server's answer, if that is what says no.
    #[serde(skip)]
    pub status: Option<u16>,
    /// How long the server asks to wait.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// Already said, or nobody listens: only the exit code is left.
    #[serde(skip)]
    pub silent: bool,
}

impl Failure {
    pub fn new(exit: Exit, error: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            error: error.to_owned(),
            message: message.into(),
            hint: None,
            field: None,
            status: None,
            retry_after: None,
            silent: false,
        }
    }

    /// A value or a combination of flags that cannot be.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Something on this machine went wrong.
    pub fn local(message: impl Into<String>) -> Self {
        Self::new(Exit::Error, "failed", message)
    }

    pub fn cancelled() -> Self {
        Self::new(Exit::Cancelled, "cancelled", "Cancelled: nothing was changed.")
    }

    /// Ends with `exit` without a word.
    pub fn silent(exit: Exit) -> Self {
        Self { silent: true, ..Self::new(exit, "", "") }
    }

    /// From an error and its causes, in one line.
    pub fn from_error(exit: Exit, error: &dyn std::error::Error) -> Self {
        Self::new(exit, "failed", chain(error))
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the server may have done what was asked, and nobody knows.
    pub fn is_lost(&self) -> bool {
        [UNREACHABLE, BROKEN_OFF].contains(&self.error.as_str())
    }

    /// The line for a person.
    pub fn line(&self) -> String {
        let hint = self.hint.as_deref().map(|hint| format!(" {hint}")).unwrap_or_default();
        let stop = if self.hint.is_some() && !self.message.ends_with(['.', '!', '?']) { "." } else { "" };
        format!("error: {}{stop}{}", escape(&self.message), escape(&hint))
    }

    /// The line for a program.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a failure is JSON")
    }
}

/// An error and its causes: `cannot read x: permission denied`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_the_server_says() {
        let failure = Failure::new(Exit::Error, "x", "no\nsuch \u{1b}[2J thing").hint("Try\u{202e} again.");
        assert_eq!(failure.line(), r"error: no\u{a}such \u{1b}[2J thing. Try\u{202e} again.");
        assert_eq!(failure.json().lines().count(), 1);
    }

    #[test]
    fn statuses_have_their_exit_codes() {
        for (status, exit) in [(400, 1), (401, 3), (403, 7), (404, 4), (409, 5), (410, 4), (422, 1), (429, 6), (503, 1)]
        {
            assert_eq!(Exit::of_status(status) as u8, exit, "{status}");
        }
    }
}
