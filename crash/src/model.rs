//! What was asked of the server and what it answered: from this follows what must be found after a crash, and what must not.

use std::collections::BTreeMap;

/// One call of an application, as it went out.
pub struct Call {
    pub raw: Vec<u8>,
    pub run: String,
    pub asks: Asks,
    /// The grant it asks for, where it asks for one.
    pub grant: String,
    /// `None`: no answer came.
    pub answer: Option<Answered>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asks {
    /// A credential.
    Token,
    /// A credential of a grant that there is not.
    TokenOfNobody,
    /// A change that uses a nonce.
    Change,
}

pub struct Answered {
    pub status: u16,
    /// The event that a release names.
    pub event_id: Option<String>,
}

/// What the whole past of an install must hold about the run of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Exactly one event of this kind; with this id, where the answer said so.
    Once { kind: &'static str, event_id: Option<String> },
    /// No event, now and later.
    Never,
    /// The answer did not say: the next look settles it, as one of the others.
    Open,
}

/// Whether a change was made: asked for, answered, or found out after a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    No,
    Asked,
    Done,
}

pub struct Secret {
    pub name: String,
    pub value: Vec<String>,
    /// The newest value that was confirmed; a later one has been asked for and may hold.
    pub confirmed: usize,
    /// Values that were asked for while the server was busy, so that they may be none.
    pub unavailable: usize,
    pub created: Change,
    pub slug: String,
    pub grants: Vec<Grant>,
}

pub struct Grant {
    /// Empty until it is known.
    pub id: String,
    pub label: String,
    pub created: Change,
    pub revoked: Change,
}

pub struct Key {
    pub name: String,
    pub id: String,
    /// Empty where the answer that carried it was lost.
    pub text: String,
    pub created: Change,
    pub revoked: Change,
}

/// Everything that is known of one install.
#[derive(Default)]
pub struct Model {
    pub secrets: Vec<Secret>,
    pub keys: Vec<Key>,
    /// Calls since the last look.
    pub calls: Vec<Call>,
    /// Calls since the last look that were answered with a credential.
    pub releases: usize,
    pub fates: BTreeMap<String, Fate>,
    /// What a worker saw that must not be.
    pub problems: Vec<String>,
    /// Names of everything that is made are numbered.
    pub numbers: u64,
}

impl Model {
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn problem(&mut self, what: impl Into<String>) {
        self.problems.push(what.into());
    }
}

/// What a counter of a run says.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub answered: u64,
    pub cut_off: u64,
    pub changes: u64,
    pub replays_refused: u64,
    pub events: u64,
}
