//! How far a transfer is: on a terminal only, and only of what takes longer than a second.

use std::io::{self, Read};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What ends before needs no bar.
const QUIET: Duration = Duration::from_secs(1);

/// A bar, or a spinner where the length is unknown.
pub struct Progress {
    bar: ProgressBar,
    /// Stderr is a terminal, and the bar is not shown yet.
    may_appear: bool,
}

impl Progress {
    /// Of a transfer that begins now.
    pub fn new(on_terminal: bool, length: Option<u64>) -> Self {
        let template = match length {
            Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left",
            None => "{spinner} {bytes} {bytes_per_sec}, {elapsed}",
        };
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden()).with_style(style);
        Self { bar, may_appear: on_terminal }
    }

    /// Of `all` things that are done one after another.
    pub fn of_things(on_terminal: bool, all: u64, what: &'static str) -> Self {
        let mut progress = Self::new(on_terminal, Some(all));
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, {eta} left")
            .expect("the template is well formed");
        progress.bar = progress.bar.with_style(style).with_message(what);
        progress
    }

    /// Of something that takes as long as it takes: a spinner, with what [`say`](Self::say) says.
    pub fn waiting(on_terminal: bool) -> Self {
        let mut progress = Self::new(on_terminal, None);
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is well formed");
        progress.bar = progress.bar.with_style(style);
        progress
    }

    /// Does something that writes to the terminal, with the bar out of the way.
    pub fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// What is waited for.
    pub fn say(&mut self, what: String) {
        self.bar.set_message(what);
        self.add(1);
    }

    /// Further bytes are through.
    pub fn add(&mut self, bytes: usize) {
        if self.may_appear && self.bar.elapsed() >= QUIET {
            self.may_appear = false;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(bytes as u64);
    }

    /// Takes the bar away, and says how many bytes there were.
    pub fn finish(self) -> u64 {
        self.bar.finish_and_clear();
        self.bar.position()
    }
}

/// Counts what is read.
pub struct Watched<'a, R> {
    pub reader: R,
    pub progress: &'a mut Progress,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.progress.add(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quick_shows_no_bar() {
        let mut progress = Progress::new(true, Some(6));
        let mut text = String::new();
        Watched { reader: &b"abcdef"[..], progress: &mut progress }.read_to_string(&mut text).unwrap();
        assert!(progress.bar.is_hidden(), "a second has not passed");
        assert_eq!((text.as_str(), progress.finish()), ("abcdef", 6));
    }
}
