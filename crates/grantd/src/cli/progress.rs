//! How far a transfer is: on a terminal only, and only of what takes longer than a second.

use std::io::{self, Read};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What ends before needs no bar.
const QUIET: Duration = Duration::from_secs(1);
/// How often a spinner turns by itself.
const TURN: Duration = Duration::from_millis(100);

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
        self.appear(self.bar.elapsed(), ProgressDrawTarget::stderr);
        self.bar.inc(bytes as u64);
    }

    /// Shows the bar there, once its time has come.
    fn appear(&mut self, elapsed: Duration, place: impl FnOnce() -> ProgressDrawTarget) {
        if self.may_appear && elapsed >= QUIET {
            self.may_appear = false;
            self.bar.set_draw_target(place());
        }
    }

    /// Takes the bar away, and says how many bytes there were.
    pub fn finish(self) -> u64 {
        self.bar.finish_and_clear();
        self.bar.position()
    }
}

/// A spinner beside work that says nothing of its course. It turns until this goes.
pub struct Turning {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Turning {
    pub fn new(on_terminal: bool, what: &str) -> Self {
        let mut spinner = Progress::waiting(on_terminal);
        spinner.bar.set_message(what.to_owned());
        let (stop, stopped) = mpsc::channel();
        // A thread of its own: the work may keep that of the caller busy.
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
                spinner.add(1);
            }
            spinner.finish();
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Turning {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The line is free again for whoever writes next.
        drop(self.thread.take().map(JoinHandle::join));
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

    /// A terminal that takes everything.
    #[derive(Debug)]
    struct Screen;

    impl indicatif::TermLike for Screen {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, _: &str) -> io::Result<()> {
            Ok(())
        }

        fn write_str(&self, _: &str) -> io::Result<()> {
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_bar_appears_after_its_second_and_on_a_terminal_only() {
        let screen = || ProgressDrawTarget::term_like(Box::new(Screen));
        let made: [fn(bool) -> Progress; 3] =
            [|on| Progress::new(on, Some(6)), |on| Progress::of_things(on, 6, "keys"), Progress::waiting];
        for make in made {
            let mut progress = make(true);
            progress.appear(QUIET.checked_sub(Duration::from_millis(1)).unwrap(), screen);
            assert!(progress.bar.is_hidden(), "it comes too early");
            progress.appear(QUIET, screen);
            assert!(!progress.bar.is_hidden(), "it does not come");
            progress.appear(QUIET, || panic!("it is there already"));
            let mut progress = make(false);
            progress.appear(QUIET * 3_600, screen);
            assert!(progress.bar.is_hidden(), "nobody would see it");
        }
    }

    #[test]
    fn what_is_quick_shows_no_bar() {
        let mut progress = Progress::new(true, Some(6));
        let mut text = String::new();
        Watched { reader: &b"abcdef"[..], progress: &mut progress }.read_to_string(&mut text).unwrap();
        assert!(progress.bar.is_hidden(), "a second has not passed");
        assert_eq!((text.as_str(), progress.finish()), ("abcdef", 6));
    }
}
