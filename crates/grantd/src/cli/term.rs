//! The process's streams, and what is known about them. Tests put buffers in their place.

use std::io::{self, BufWriter, IsTerminal as _, Read, Write};

use grantd_domain::env::Clock;
use grantd_wire::TimeMs;
use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use super::table::escape;
use crate::env::Env;
use crate::host::Host;

/// Where a command reads and writes.
pub struct Term {
    pub input: Box<dyn Read + Send>,
    pub out: Box<dyn Write + Send>,
    pub err: Box<dyn Write + Send>,
    pub stdin_is_terminal: bool,
    pub stdout_is_terminal: bool,
    pub stderr_is_terminal: bool,
    /// Columns of the terminal that stdout is.
    pub width: Option<u16>,
    /// Columns of the terminal that stderr is.
    pub err_width: Option<u16>,
    /// `NO_COLOR` is not set.
    pub color_is_wanted: bool,
    /// Stdin can be read once.
    pub input_was_read: bool,
    clock: Box<dyn Clock>,
}

impl Term {
    /// This process.
    pub fn of_process(env: &Env) -> Self {
        Self {
            input: Box::new(io::stdin()),
            out: Box::new(BufWriter::new(io::stdout())),
            err: Box::new(io::stderr()),
            stdin_is_terminal: io::stdin().is_terminal(),
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            width: console::Term::stdout().size_checked().map(|(_rows, columns)| columns),
            err_width: console::Term::stderr().size_checked().map(|(_rows, columns)| columns),
            color_is_wanted: color_is_wanted(env),
            input_was_read: false,
            clock: Box::new(Host),
        }
    }

    pub fn now(&self) -> TimeMs {
        self.clock.now()
    }

    /// Writes to stdout and flushes. A reader that went away is no error, and nothing more is said.
    pub fn print(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text.as_bytes())?;
        self.out.flush().map_err(|error| output_failed(&error))
    }

    /// Writes to stdout.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|error| output_failed(&error))
    }

    /// One line on stderr: what nobody needs to parse.
    pub fn note(&mut self, text: &str) {
        // Nobody can be told that stderr is gone.
        let _ = writeln!(self.err, "{}", escape(text));
    }

    /// A warning on stderr.
    pub fn warn(&mut self, text: &str) {
        self.note(&format!("warning: {text}"));
    }

    /// A question on stderr, whose answer follows on the same line.
    pub fn ask(&mut self, text: &str) {
        let _ = write!(self.err, "{}", escape(text));
        let _ = self.err.flush();
    }

    /// Reads a line from the terminal without showing it.
    pub fn read_hidden(&mut self, what: &str) -> Result<Zeroizing<String>, Failure> {
        self.ask(&format!("{what}: "));
        let line = console::Term::stderr().read_secure_line().map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => Failure::cancelled(),
            _ => Failure::from_error(Exit::Error, &error),
        })?;
        if line.is_empty() { Err(Failure::cancelled()) } else { Ok(Zeroizing::new(line)) }
    }
}

/// Whether colours may be used: see <https://no-color.org>, which says that an empty text counts for nothing.
fn color_is_wanted(env: &Env) -> bool {
    env.find_filled("NO_COLOR").is_none() && env.find("TERM") != Some("dumb")
}

fn output_failed(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(Exit::Ok),
        _ => Failure::local(format!("cannot write the output: {error}")).hint("Is there room where it goes?"),
    }
}

#[cfg(test)]
pub mod testing {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    pub struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> TimeMs {
            TimeMs(1_764_000_000_000)
        }
    }

    /// Pipes, not a terminal.
    pub fn term(stdin: &str) -> (Term, Sink, Sink) {
        let (out, err) = (Sink::default(), Sink::default());
        let term = Term {
            input: Box::new(io::Cursor::new(stdin.to_owned().into_bytes())),
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            stdin_is_terminal: false,
            stdout_is_terminal: false,
            stderr_is_terminal: false,
            width: None,
            err_width: None,
            color_is_wanted: false,
            input_was_read: false,
            clock: Box::new(Fixed),
        };
        (term, out, err)
    }

    /// A person: what is asked is shown, and answered with `typed`.
    pub fn person(typed: &str) -> (Term, Sink, Sink) {
        let (term, out, err) = term(typed);
        (Term { stdin_is_terminal: true, stderr_is_terminal: true, ..term }, out, err)
    }

    /// Stdout is a terminal of so many columns, without colors.
    pub fn terminal(stdin: &str, width: u16, clock: Box<dyn Clock>) -> (Term, Sink, Sink) {
        let (term, out, err) = term(stdin);
        (Term { stdout_is_terminal: true, width: Some(width), clock, ..term }, out, err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_left_out_where_the_environment_says_so() {
        for (variables, wanted) in [
            (&[][..], true),
            (&[("NO_COLOR", "1")], false),
            (&[("NO_COLOR", "false")], false),
            (&[("NO_COLOR", "")], true),
            (&[("TERM", "xterm-256color")], true),
            (&[("TERM", "dumb")], false),
        ] {
            let env: Env = variables.iter().copied().collect();
            assert_eq!(Term::of_process(&env).color_is_wanted, wanted, "{variables:?}");
        }
    }
}
