//! The ends of the audit chains that one writer extends.
//!
//! Changes are staged until their transaction commits; what fails leaves no trace here either.

use std::collections::HashMap;
use std::sync::Arc;

use grantd_domain::audit::{Head, Linked, Owner, Prepared};

use super::Tally;

/// Heads of one writer's chains.
pub struct Chains {
    writer: String,
    /// Whether this writer goes on with chains it finds in the database. Only where it is the only writer.
    resumes: bool,
    tally: Arc<Tally>,
    committed: HashMap<Owner, Head>,
    staged: HashMap<Owner, Head>,
    /// What each staged change replaced, so that a savepoint can be undone.
    replaced: Vec<(Owner, Option<Head>)>,
    /// Events linked in this transaction.
    events: u64,
}

/// A place to go back to within a transaction.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    replaced: usize,
    events: u64,
}

impl Chains {
    pub(crate) fn new(writer: String, resumes: bool, tally: Arc<Tally>) -> Self {
        Self {
            writer,
            resumes,
            tally,
            committed: HashMap::new(),
            staged: HashMap::new(),
            replaced: Vec::new(),
            events: 0,
        }
    }

    /// For transactions that only read.
    pub(crate) fn none() -> Self {
        Self::new(String::new(), false, Arc::default())
    }

    pub(crate) fn writer(&self) -> &str {
        &self.writer
    }

    pub(crate) fn resumes(&self) -> bool {
        self.resumes
    }

    pub(crate) fn head(&self, owner: &Owner) -> Option<&Head> {
        self.staged.get(owner).or_else(|| self.committed.get(owner))
    }

    /// Begins a chain, or takes one up that was found.
    pub(crate) fn begin(&mut self, owner: Owner, head: Head) {
        let before = self.staged.insert(owner, head);
        self.replaced.push((owner, before));
    }

    /// Links the event to its owner's chain, which has begun.
    pub(crate) fn link(&mut self, event: &Prepared) -> Linked {
        let mut head = self.head(&event.owner).expect("the chain has begun").clone();
        let linked = head.link(event);
        self.begin(event.owner, head);
        self.events += 1;
        linked
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { replaced: self.replaced.len(), events: self.events }
    }

    pub(crate) fn back_to(&mut self, mark: Mark) {
        for (owner, before) in self.replaced.drain(mark.replaced..).rev() {
            match before {
                Some(head) => self.staged.insert(owner, head),
                None => self.staged.remove(&owner),
            };
        }
        self.events = mark.events;
    }

    pub(crate) fn committed(&mut self) {
        self.committed.extend(self.staged.drain());
        self.end();
    }

    /// The transaction was certainly undone.
    pub(crate) fn rolled_back(&mut self) {
        self.staged.clear();
        self.events = 0;
        self.end();
    }

    /// Nobody knows whether the transaction was committed: look again (where we resume), or begin new chains.
    pub(crate) fn fate_unknown(&mut self) {
        for (owner, _) in self.staged.drain() {
            self.committed.remove(&owner);
        }
        self.end();
    }

    /// Somebody else may have written: look at every chain again.
    pub(crate) fn forget(&mut self) {
        debug_assert!(self.resumes && self.staged.is_empty());
        self.committed.clear();
    }

    fn end(&mut self) {
        self.replaced.clear();
        self.tally.appended(std::mem::take(&mut self.events));
    }
}

#[cfg(test)]
mod tests {
    use grantd_domain::audit::{Actor, Event, Kind, Outcome, ZERO_HASH};
    use grantd_domain::env::Entropy;
    use grantd_wire::TimeMs;
    use grantd_wire::ids::{AppId, ChainId, uuid_v7};

    use super::*;

    struct Fixed;
    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(3);
        }
    }

    fn owner(n: u8) -> Owner {
        Owner::App(AppId::from_uuid(uuid_v7(1, [n; 10])))
    }

    fn event(owner: Owner) -> Prepared {
        Event::new(&Fixed, TimeMs(1), owner, Kind::TokenReleased, Outcome::Allowed, Actor::Job).prepare()
    }

    fn started(chains: &mut Chains, n: u8) {
        chains.begin(owner(n), Head::start(ChainId::from_uuid(uuid_v7(1, [n; 10])), ZERO_HASH));
    }

    #[test]
    fn a_savepoint_undone_leaves_what_was_before_it() {
        let tally = Arc::new(Tally::default());
        let mut chains = Chains::new("w".to_owned(), true, Arc::clone(&tally));
        started(&mut chains, 1);
        chains.link(&event(owner(1)));
        let before = chains.head(&owner(1)).cloned();
        let mark = chains.mark();
        chains.link(&event(owner(1)));
        started(&mut chains, 2);
        chains.link(&event(owner(2)));
        chains.back_to(mark);
        assert_eq!(chains.head(&owner(1)).cloned(), before);
        assert_eq!(chains.head(&owner(2)), None);
        chains.committed();
        assert_eq!(chains.head(&owner(1)).cloned(), before);
        assert_eq!(tally.events(), 1);
    }

    #[test]
    fn an_unknown_fate_forgets_only_what_was_touched() {
        let mut chains = Chains::new("w".to_owned(), false, Arc::default());
        for n in [1, 2] {
            started(&mut chains, n);
        }
        chains.committed();
        chains.link(&event(owner(1)));
        chains.fate_unknown();
        assert_eq!(chains.head(&owner(1)), None);
        assert_eq!(chains.head(&owner(2)).map(|h| h.seq), Some(0));
        chains.link(&event(owner(2)));
        chains.rolled_back();
        assert_eq!(chains.head(&owner(2)).map(|h| h.seq), Some(0));
    }
}
