//! Log lines to stderr. Invariants: one event is one line, and no control character of a value reaches a terminal.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// Logging that was started; its level can be changed.
pub struct Logging(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl Logging {
    /// Logs what `log` says from now on; it was checked when it was read.
    pub fn set(&self, log: &str) {
        if let Ok(filter) = filter(log) {
            (self.0)(filter);
        }
    }
}

/// Starts logging; later calls change nothing.
pub fn init(format: LogFormat, log: &str) -> Result<Logging, ParseError> {
    let filter = filter(log)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Escaped).with_ansi(false);
    // A second subscriber is refused by tracing, which is what "later calls change nothing" means; so is a change of its level.
    let logging = match format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let _already_set = builder.try_init();
            Logging(Box::new(move |filter| drop(handle.reload(filter))))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let handle = builder.reload_handle();
            let _already_set = builder.try_init();
            Logging(Box::new(move |filter| drop(handle.reload(filter))))
        }
    };
    Ok(logging)
}

/// The filter of a level or of directives.
///
/// A bare level is for grantd's own crates: HTTP libraries at `debug` print headers, and with them credentials.
pub fn filter(log: &str) -> Result<EnvFilter, ParseError> {
    let directives = match log.to_ascii_lowercase().as_str() {
        level @ ("info" | "debug" | "trace") => format!("warn,grantd={level}"),
        _ => log.to_owned(),
    };
    EnvFilter::builder().parse(directives)
}

/// Each `write` is one whole line of the formatter.
struct Escaped;

impl MakeWriter<'_> for Escaped {
    type Writer = EscapedStderr;

    fn make_writer(&self) -> EscapedStderr {
        EscapedStderr
    }
}

struct EscapedStderr;

impl Write for EscapedStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        io::stderr().write_all(format!("{}\n", crate::cli::escape(line)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_does_not_open_the_http_libraries() {
        assert_eq!(filter("debug").unwrap().to_string(), "grantd=debug,warn");
        assert_eq!(filter("error").unwrap().to_string(), "error");
        assert_eq!(filter("h2=debug").unwrap().to_string(), "h2=debug");
        assert!(filter("grantd=loud").is_err());
    }
}
