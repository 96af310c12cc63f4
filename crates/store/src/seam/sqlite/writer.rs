//! The one thread that writes: it commits whatever waits as one group.
//!
//! Invariant: nobody is answered before COMMIT returned. A closure that fails or panics is undone to its savepoint alone; when
//! the transaction itself is lost, every member of the group learns that nothing was applied.
//!
//! Appends are the hot path and run without savepoints: each looks first and writes then. Should one of them fail all the same,
//! the whole group is undone and run again with a savepoint each, so that only that one fails.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use grantd_wire::ids::{AppId, CredentialId, OrganizationId};
use rusqlite::Connection;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use super::checkpoint::Checkpointer;
use super::nonces::Nonces;
use super::{error, wait};
use crate::crash;
use crate::error::{Error, Result};
use crate::hot::{Append, Appended, Confirm, Epochs, find_epochs, find_version, use_nonce};
use crate::seam::{Chains, Tally, Tx};

/// Jobs in one commit.
const GROUP_MAX: usize = 512;
/// Groups below this size do not wait for company: there is none.
const COMPANY_MIN: usize = 4;
/// Longest wait for company before a commit.
const LINGER_MAX: Duration = Duration::from_micros(500);
/// What confirmations compare is remembered for this many credentials.
const VERSIONS_MAX: usize = 100_000;

/// Work for the writer.
pub(super) trait Job: Send {
    /// Runs inside its savepoint; `false` undoes what it did. May be called again when the group was undone.
    fn run(&mut self, tx: Tx<'_>) -> bool;
    /// It panicked inside `run`, and was undone.
    fn panicked(&mut self);
    /// The group's fate is known: answer the caller. `Err` means that nothing of the group was applied.
    fn answer(self: Box<Self>, fate: Result<()>);
}

pub(super) enum Message {
    Append(Box<AppendJob>),
    Job(Box<dyn Job>),
    /// Let nothing more in, and end after what waits.
    Stop,
}

/// A closure.
pub(super) struct Closure<F, T> {
    pub run: F,
    pub result: Option<Result<T>>,
    pub reply: oneshot::Sender<Result<T>>,
}

impl<F: FnMut(&mut Tx<'_>) -> Result<T> + Send, T: Send> Job for Closure<F, T> {
    fn run(&mut self, mut tx: Tx<'_>) -> bool {
        let result = (self.run)(&mut tx);
        self.result.insert(tx.settle(result)).is_ok()
    }

    fn panicked(&mut self) {
        self.result = Some(Err(Error::Panicked));
    }

    fn answer(self: Box<Self>, fate: Result<()>) {
        let result = fate.and(self.result.unwrap_or(Err(Error::Panicked)));
        // A caller that went away needs no answer.
        drop(self.reply.send(result));
    }
}

/// An append, with what became of it.
pub(super) struct AppendJob {
    pub append: Append,
    pub result: Result<Appended>,
    pub reply: oneshot::Sender<Result<Appended>>,
}

impl AppendJob {
    /// Looks at everything first, so that what does not hold leaves nothing behind.
    fn run(&self, tx: &mut Tx<'_>, confirmed: &mut Confirmed) -> Result<Appended> {
        if let Some(confirm) = &self.append.confirm
            && !confirmed.holds(tx, confirm)?
        {
            return Ok(Appended::Moved);
        }
        if let Some(nonce) = &self.append.nonce {
            match use_nonce(tx, nonce) {
                Err(Error::Replayed) => return Ok(Appended::Replayed),
                other => other?,
            }
        }
        crate::audit::append(tx, &self.append.event)?;
        Ok(Appended::Done)
    }
}

/// What is known of the rows that confirmations compare. This thread is the only one that writes them, so it holds until a closure
/// runs or another process writes.
#[derive(Default)]
struct Confirmed {
    epochs: HashMap<(OrganizationId, AppId), Option<Epochs>>,
    versions: HashMap<(AppId, CredentialId), Option<i64>>,
}

impl Confirmed {
    fn forget(&mut self) {
        self.epochs.clear();
        self.versions.clear();
    }

    fn holds(&mut self, tx: &mut Tx<'_>, c: &Confirm) -> Result<bool> {
        use std::collections::hash_map::Entry;
        let epochs = match self.epochs.entry((c.organization_id, c.app_id)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => *new.insert(find_epochs(tx, c.organization_id, c.app_id)?),
        };
        if self.versions.len() >= VERSIONS_MAX {
            self.versions.clear();
        }
        let version = match self.versions.entry((c.app_id, c.credential_id)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => *new.insert(find_version(tx, c.app_id, c.credential_id)?),
        };
        Ok(epochs == Some(c.epochs) && version == Some(c.credential_version))
    }
}

/// Why a group was not committed.
enum Undone {
    /// An append failed where none should: run the group again, with savepoints.
    Append,
    Lost(Error),
}

impl From<Error> for Undone {
    fn from(error: Error) -> Self {
        Self::Lost(error)
    }
}

/// A group whose fate is known.
pub(super) struct Decided {
    group: Vec<Message>,
    fate: Result<()>,
}

/// Answers groups, in the runtime of those who wait: the writer wakes one task for a group, and not one for each of its members.
pub(super) async fn answer(mut decided: UnboundedReceiver<Decided>) {
    while let Some(Decided { group, fate }) = decided.recv().await {
        for message in group {
            crash::step("sqlite.answering");
            match message {
                Message::Append(job) => drop(job.reply.send(fate.clone().and(job.result))),
                Message::Job(job) => job.answer(fate.clone()),
                Message::Stop => {}
            }
        }
    }
}

pub(super) struct Writer {
    conn: Connection,
    chains: Chains,
    nonces: Nonces,
    confirmed: Confirmed,
    tally: Arc<Tally>,
    checkpointer: Option<Checkpointer>,
    answers: UnboundedSender<Decided>,
    /// Changes when another connection has written to the file.
    version: Option<i64>,
    /// Members of the last group: how much company to expect.
    company: usize,
    commit_time: Duration,
}

impl Writer {
    pub(super) fn new(
        conn: Connection,
        chains: Chains,
        tally: Arc<Tally>,
        checkpointer: Option<Checkpointer>,
        answers: UnboundedSender<Decided>,
    ) -> Self {
        Self {
            conn,
            chains,
            nonces: Nonces::default(),
            confirmed: Confirmed::default(),
            tally,
            checkpointer,
            answers,
            version: None,
            company: 0,
            commit_time: Duration::ZERO,
        }
    }

    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        let mut group = Vec::new();
        let mut is_stopping = false;
        while let Ok(first) = queue.recv() {
            is_stopping |= take(&mut group, first);
            is_stopping |= fill(&mut group, queue);
            if self.is_worth_waiting(group.len()) && !is_stopping {
                // Asleep, not receiving: a thread that receives is woken for each message.
                wait((2 * self.commit_time).min(LINGER_MAX));
                is_stopping |= fill(&mut group, queue);
            }
            self.company = group.len();
            self.run_group(&mut group);
            if is_stopping {
                // Everything that was let in before the stop is in the queue before it.
                return;
            }
        }
    }

    /// When the last group was larger, most of its callers are on their way back.
    fn is_worth_waiting(&self, members: usize) -> bool {
        self.company >= COMPANY_MIN && members < self.company / 2
    }

    fn run_group(&mut self, group: &mut Vec<Message>) {
        if group.is_empty() {
            return;
        }
        let fate = match self.commit(group, false) {
            Err(Undone::Append) => self.commit(group, true),
            other => other,
        };
        crash::step("sqlite.committed");
        let fate = fate.map_err(|undone| match undone {
            Undone::Lost(e) => e,
            Undone::Append => Error::Panicked,
        });
        match &fate {
            Ok(()) => self.tally.committed(group.len()),
            Err(e) => tracing::error!(error = %e, jobs = group.len(), "A group of writes was not applied"),
        }
        let fate = fate.map_err(|e| Error::Unavailable { what: e.to_string() });
        // It fails when the runtime is gone, and everybody who waits with it.
        drop(self.answers.send(Decided { group: std::mem::take(group), fate }));
        if let Some(checkpointer) = &self.checkpointer {
            checkpointer.after_commit(&self.conn);
        }
    }

    fn commit(&mut self, group: &mut [Message], with_savepoints: bool) -> std::result::Result<(), Undone> {
        self.statement("BEGIN IMMEDIATE")?;
        crash::step("sqlite.begun");
        let result = self.run_members(group, with_savepoints).and_then(|()| {
            self.nonces.write(&self.conn)?;
            crash::step("sqlite.before_commit");
            let started = crate::seam::now();
            self.statement("COMMIT")?;
            // Of the last few commits.
            let took = started.elapsed();
            self.commit_time = (self.commit_time * 3 + took) / 4;
            self.tally.stats.commit_time.observe_time(took);
            Ok(())
        });
        if result.is_err() {
            // The log decides what was applied, should the disk have failed us half-way: read the heads again.
            self.chains.rolled_back();
            self.chains.forget();
            self.nonces.forget();
            self.confirmed.forget();
            if !self.conn.is_autocommit() {
                // If even this fails the next BEGIN fails too, and says so.
                drop(self.conn.execute_batch("ROLLBACK"));
            }
        } else {
            self.chains.committed();
            self.nonces.committed();
        }
        result
    }

    fn run_members(&mut self, group: &mut [Message], with_savepoints: bool) -> std::result::Result<(), Undone> {
        let version = self.conn.prepare_cached("PRAGMA data_version").and_then(|mut s| s.query_row([], |r| r.get(0)));
        let version = version.map_err(|e| error(&e))?;
        if self.version != Some(version) {
            // Another process (a command beside the server) changed what we know.
            self.chains.forget();
            self.nonces.forget();
            self.confirmed.forget();
            self.version = Some(version);
        }
        for message in group {
            match message {
                Message::Append(job) if with_savepoints => self.append_alone(job)?,
                Message::Append(job) => self.append(job)?,
                Message::Job(job) => self.run_job(job.as_mut())?,
                Message::Stop => {}
            }
        }
        Ok(())
    }

    fn append(&mut self, job: &mut AppendJob) -> std::result::Result<(), Undone> {
        let (confirmed, mut tx) = (&mut self.confirmed, Tx::of_writer(&self.conn, &mut self.chains, &mut self.nonces));
        let run = || job.run(&mut tx, confirmed);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(appended)) => {
                job.result = Ok(appended);
                crash::step("sqlite.append_ran");
                Ok(())
            }
            // The transaction may be gone with it; then the next try says so.
            Ok(Err(_)) | Err(_) => Err(Undone::Append),
        }
    }

    fn append_alone(&mut self, job: &mut AppendJob) -> Result<()> {
        let mut confirmed = Confirmed::default();
        let mut result = Err(Error::Panicked);
        let kept = self.in_savepoint(|mut tx| {
            result = job.run(&mut tx, &mut confirmed);
            result.is_ok()
        })?;
        job.result = if kept.is_none() { Err(Error::Panicked) } else { result };
        Ok(())
    }

    /// Runs one closure in its savepoint. `Err` means that the whole transaction is lost.
    fn run_job(&mut self, job: &mut dyn Job) -> Result<()> {
        self.confirmed.forget();
        let kept = self.in_savepoint(|tx| job.run(tx))?;
        if kept.is_none() {
            job.panicked();
        }
        Ok(())
    }

    /// Answers what `run` did; `None`: it panicked.
    fn in_savepoint(&mut self, run: impl FnOnce(Tx<'_>) -> bool) -> Result<Option<bool>> {
        let mark = (self.chains.mark(), self.nonces.mark());
        self.statement("SAVEPOINT job")?;
        let tx = Tx::of_writer(&self.conn, &mut self.chains, &mut self.nonces);
        let kept = catch_unwind(AssertUnwindSafe(|| run(tx))).ok();
        self.end_savepoint(kept, mark)?;
        Ok(kept)
    }

    fn end_savepoint(&mut self, kept: Option<bool>, mark: (crate::seam::chains::Mark, usize)) -> Result<()> {
        crash::step("sqlite.job_ran");
        if self.conn.is_autocommit() {
            let what = "the database gave up the transaction (disk full or I/O error)".to_owned();
            return Err(Error::Unavailable { what });
        }
        if kept != Some(true) {
            self.chains.back_to(mark.0);
            self.nonces.back_to(mark.1);
            self.statement("ROLLBACK TO job")?;
        }
        self.statement("RELEASE job")
    }

    fn statement(&self, sql: &str) -> Result<()> {
        let run = || self.conn.prepare_cached(sql)?.execute([]);
        run().map(drop).map_err(|e| error(&e))
    }
}

/// Whether it was the stop.
fn take(group: &mut Vec<Message>, message: Message) -> bool {
    let is_stop = matches!(message, Message::Stop);
    if !is_stop {
        group.push(message);
    }
    is_stop
}

/// Takes what waits, up to a group; answers whether the stop was among it.
fn fill(group: &mut Vec<Message>, queue: &Receiver<Message>) -> bool {
    while group.len() < GROUP_MAX {
        match queue.try_recv() {
            Ok(message) => {
                if take(group, message) {
                    return true;
                }
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return false,
        }
    }
    false
}
