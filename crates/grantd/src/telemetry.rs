//! Log lines to stderr. Invariants: one event is one line, and no control character of a value reaches a terminal; whoever reads
//! them, or does not, holds up no request.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Config, LogFormat};

/// Lines that wait for stderr; one more is dropped and counted.
const LINES_MAX: usize = 8_192;
/// Bytes of them.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long the first line of several waits for the others: one write and one wake-up for all of them.
const GATHER_WAIT: Duration = Duration::from_millis(2);
/// Bytes after which no more lines are added to a write.
const GATHER_BYTES: usize = 64 * 1024;
/// How long the end of the process waits for stderr to take what is left.
const FLUSH_WAIT: Duration = Duration::from_secs(2);
/// How often it tries meanwhile.
const FLUSH_STEP: Duration = Duration::from_millis(10);

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
pub fn init(config: &Config, log: &str) -> Result<Logging, String> {
    let (format, filter) = (config.log_format, filter(log).map_err(|e| e.to_string())?);
    #[cfg(feature = "otlp")]
    if let Some(endpoint) = &config.otlp_endpoint {
        return with_traces(format, filter, endpoint);
    }
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

/// The same, and spans go to a collector. Each has its own filter: what is traced is not logged.
#[cfg(feature = "otlp")]
fn with_traces(format: LogFormat, filter: EnvFilter, endpoint: &url::Url) -> Result<Logging, String> {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    use tracing_subscriber::{Layer as _, fmt, reload};

    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(Escaped).with_ansi(false);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let traces = crate::traces::layer(endpoint)?;
    let _already_set = tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces).try_init();
    Ok(Logging(Box::new(move |filter| drop(handle.reload(filter)))))
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

static LINES: OnceLock<Lines> = OnceLock::new();

/// Log lines that were given up because stderr did not take them.
pub fn dropped() -> u64 {
    LINES.get().map_or(0, |lines| lines.counts.dropped.load(Ordering::Relaxed))
}

/// Waits until stderr has taken what was logged, but not for long.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH_WAIT);
    }
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
        let is_harmless = line.bytes().all(|b| (0x20..=0x7e).contains(&b));
        let line = if is_harmless { format!("{line}\n") } else { format!("{}\n", crate::cli::escape(line)) };
        LINES.get_or_init(|| Lines::start(io::stderr)).push(line);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Message {
    Line(String),
    /// Everything before it was written.
    Flush(SyncSender<()>),
}

#[derive(Default)]
struct Counts {
    dropped: AtomicU64,
    waiting_bytes: AtomicUsize,
}

/// The way to the thread that writes lines. `None`: there are no threads left, and whoever logs writes himself.
struct Lines {
    queue: Option<SyncSender<Message>>,
    counts: Arc<Counts>,
}

impl Lines {
    fn start<W: Write>(open: impl FnOnce() -> W + Send + 'static) -> Self {
        let (queue, messages) = sync_channel(LINES_MAX);
        let counts = Arc::new(Counts::default());
        let writers = Arc::clone(&counts);
        let run = move || write_lines(open(), &messages, &writers);
        let thread = std::thread::Builder::new().name("grantd-log".to_owned()).spawn(run);
        Self { queue: thread.is_ok().then_some(queue), counts }
    }

    fn push(&self, line: String) {
        let Some(queue) = &self.queue else {
            // There is nobody left to tell that stderr is gone.
            let _ = io::stderr().write_all(line.as_bytes());
            return;
        };
        let bytes = line.len();
        let waiting = self.counts.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting + bytes > BYTES_MAX || queue.try_send(Message::Line(line)).is_err() {
            self.counts.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, wait: Duration) {
        let Some(queue) = &self.queue else { return };
        let (written, is_written) = sync_channel(1);
        let mut message = Message::Flush(written);
        let mut waited = Duration::ZERO;
        while let Err(TrySendError::Full(back)) = queue.try_send(message) {
            if waited >= wait {
                return;
            }
            std::thread::park_timeout(FLUSH_STEP);
            waited += FLUSH_STEP;
            message = back;
        }
        // It fails when stderr takes nothing in time, and there is nobody left to tell.
        let _ = is_written.recv_timeout(wait.saturating_sub(waited));
    }
}

fn write_lines(mut out: impl Write, messages: &Receiver<Message>, counts: &Counts) {
    let (mut told, mut text) = (0, String::new());
    while let Ok(first) = messages.recv() {
        if matches!(first, Message::Line(_)) {
            // Asleep, not receiving: a thread that receives is woken for each line.
            std::thread::park_timeout(GATHER_WAIT);
        }
        let (mut next, mut flush) = (Some(first), None);
        while let Some(message) = next {
            match message {
                Message::Line(line) => text.push_str(&line),
                Message::Flush(written) => flush = Some(written),
            }
            let goes_on = flush.is_none() && text.len() < GATHER_BYTES;
            next = if goes_on { messages.try_recv().ok() } else { None };
        }
        // A log that cannot be written must not end what it tells of.
        let _ = out.write_all(text.as_bytes());
        counts.waiting_bytes.fetch_sub(text.len(), Ordering::Relaxed);
        text.clear();
        if let Some(written) = flush {
            let _ = out.flush();
            // Whoever asked may have gone.
            let _ = written.try_send(());
        }
        let dropped = counts.dropped.load(Ordering::Relaxed);
        if dropped > told {
            // It goes through the queue like every line, so that it looks like one; there is room again for one at least.
            tracing::warn!(lines = dropped - told, "Log lines were dropped: what reads the log was too slow");
            told = dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    #[test]
    fn a_bare_level_does_not_open_the_http_libraries() {
        assert_eq!(filter("debug").unwrap().to_string(), "grantd=debug,warn");
        assert_eq!(filter("error").unwrap().to_string(), "error");
        assert_eq!(filter("h2=debug").unwrap().to_string(), "h2=debug");
        assert!(filter("grantd=loud").is_err());
    }

    type Taken = Arc<Mutex<Vec<u8>>>;

    /// Takes nothing until it is let, and tells when it is first asked to.
    struct Stalled {
        begun: Option<Sender<()>>,
        go_on: Receiver<()>,
        taken: Taken,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(begun) = self.begun.take() {
                begun.send(()).unwrap();
                self.go_on.recv().unwrap();
            }
            self.taken.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stalled() -> (Lines, Receiver<()>, Sender<()>, Taken) {
        let ((begun, has_begun), (let_go_on, go_on)) = (channel(), channel());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let stalled = Stalled { begun: Some(begun), go_on, taken: Arc::clone(&taken) };
        (Lines::start(move || stalled), has_begun, let_go_on, taken)
    }

    fn taken(bytes: &Mutex<Vec<u8>>) -> String {
        String::from_utf8(bytes.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up_and_what_is_dropped_is_counted() {
        let (lines, has_begun, go_on, bytes) = stalled();
        lines.push("first\n".to_owned());
        has_begun.recv().unwrap();
        for n in 0..LINES_MAX {
            lines.push(format!("{n}\n"));
        }
        assert_eq!(lines.counts.dropped.load(Ordering::Relaxed), 0, "at the bound");
        lines.push("one too many\n".to_owned());
        assert_eq!(lines.counts.dropped.load(Ordering::Relaxed), 1);
        lines.flush(Duration::ZERO);
        assert_eq!(taken(&bytes), "", "and the end of the process does not wait for it");

        go_on.send(()).unwrap();
        lines.flush(Duration::from_mins(1));
        let text = taken(&bytes);
        assert_eq!(text.lines().count(), LINES_MAX + 1);
        assert!(text.starts_with("first\n0\n1\n") && !text.contains("too many"));
        assert_eq!(lines.counts.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bytes_that_wait_are_bounded_too() {
        let (lines, has_begun, go_on, bytes) = stalled();
        lines.push("a".to_owned());
        has_begun.recv().unwrap();
        lines.push("b".repeat(BYTES_MAX - 1));
        assert_eq!(lines.counts.dropped.load(Ordering::Relaxed), 0, "at the bound");
        lines.push("c".to_owned());
        assert_eq!(lines.counts.dropped.load(Ordering::Relaxed), 1);
        go_on.send(()).unwrap();
        lines.flush(Duration::from_mins(1));
        assert_eq!(taken(&bytes).len(), BYTES_MAX);
    }
}
