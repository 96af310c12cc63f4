//! Exports of the audit trail: a checkpoint first, then everything up to it, page by page, in bounded memory.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use grantd_domain::audit::{Checkpoint, Event, Exporter, Owner, StoredEvent};
use grantd_store::audit::{self, EventFilter, StoredCheckpoint, Stretch};
use grantd_store::{Error as StoreError, Tx, append_event, crash, recovery};
use grantd_wire::ids::EventId;
use grantd_wire::limits;
use serde_json::Value;

use crate::vault::Vault;

/// Signs a checkpoint of the owner's chains, if any moved; answers whether it did.
pub async fn checkpoint(vault: &Arc<Vault>, owner: Owner) -> Result<bool, StoreError> {
    let now = vault.env.now();
    let signer = Arc::clone(vault);
    let made = vault
        .store
        .write(move |tx| {
            let Some(checkpoint) = audit::next_checkpoint(tx, &owner, now)? else { return Ok(false) };
            sign(tx, &signer, owner, &checkpoint)?;
            Ok(true)
        })
        .await;
    crash::step("checkpoint.stored");
    match made {
        // Another replica signed at the same moment.
        Err(StoreError::Duplicate) => Ok(false),
        other => other,
    }
}

/// Signs and stores a checkpoint; `Duplicate` when another process was first.
pub fn sign(tx: &mut Tx<'_>, signer: &Vault, owner: Owner, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    let text = checkpoint.text();
    let signed = signer.checkpoint_key.sign_checkpoint(&text);
    crash::step("checkpoint.signed");
    audit::insert_checkpoint(tx, &owner, checkpoint, &text, &signed)
}

/// Where a whole export stands.
enum Step {
    Header,
    Checkpoints {
        after: i64,
    },
    /// A stretch, and the last of its events that was written, if there is one.
    Chain {
        index: usize,
        after: Option<i64>,
    },
    Filtered {
        before: Option<EventId>,
        is_last: bool,
    },
    Done,
}

struct Export {
    vault: Arc<Vault>,
    owner: Owner,
    filter: EventFilter,
    shown_filter: Value,
    /// The last checkpoint that is shown: one that is signed meanwhile names events which are not in this export.
    last_checkpoint: i64,
    stretches: Vec<Stretch>,
    exporter: Option<Exporter>,
    step: Step,
}

/// JSON lines: header, checkpoints, events, footer. An error ends the stream before the footer, so that the file does not verify.
pub async fn jsonl(
    vault: Arc<Vault>,
    owner: Owner,
    filter: EventFilter,
    shown_filter: Value,
    exported: Event,
) -> Result<impl Stream<Item = Result<Bytes, StoreError>> + Send, StoreError> {
    let event = exported.prepare();
    vault.store.write(move |tx| append_event(tx, &event)).await?;
    checkpoint(&vault, owner).await?;
    if !filter.terms.is_empty() {
        vault.store.catch_up(owner).await?;
    }
    // In one snapshot: the heads are those of the checkpoint, and the chains begin where it says that they were cut.
    let read = move |tx: &mut Tx<'_>| {
        let last = recovery::last_checkpoint(tx, &owner)?.map_or(0, |checkpoint| checkpoint.n);
        Ok((last, audit::stretches(tx, &owner)?))
    };
    let (last_checkpoint, stretches) = vault.store.read(read).await?;
    let export =
        Export { vault, owner, filter, shown_filter, last_checkpoint, stretches, exporter: None, step: Step::Header };
    Ok(stream::try_unfold(export, |mut export| async move {
        loop {
            if matches!(export.step, Step::Done) {
                return Ok(None);
            }
            let lines = export.next().await?;
            if !lines.is_empty() {
                return Ok(Some((Bytes::from(lines), export)));
            }
        }
    }))
}

impl Export {
    fn is_partial(&self) -> bool {
        self.shown_filter.as_object().is_some_and(|f| !f.is_empty())
    }

    async fn next(&mut self) -> Result<String, StoreError> {
        match self.step {
            Step::Header => {
                let (exporter, line) = Exporter::start(&self.owner.key(), &self.shown_filter, &self.vault.public_keys);
                self.exporter = Some(exporter);
                self.step = Step::Checkpoints { after: 0 };
                Ok(line)
            }
            Step::Checkpoints { after } => self.checkpoints(after).await,
            Step::Chain { index, after } => self.chain(index, after).await,
            Step::Filtered { is_last: true, .. } => Ok(self.finish()),
            Step::Filtered { before, .. } => self.filtered(before).await,
            Step::Done => Ok(String::new()),
        }
    }

    fn exporter(&mut self) -> &mut Exporter {
        self.exporter.as_mut().expect("the header came first")
    }

    async fn checkpoints(&mut self, after: i64) -> Result<String, StoreError> {
        let owner = self.owner;
        let mut page = self.vault.store.read(move |tx| audit::checkpoints(tx, &owner, after)).await?;
        page.retain(|checkpoint| checkpoint.n <= self.last_checkpoint);
        let Some(last) = page.last() else {
            self.step = match self.is_partial() {
                true => Step::Filtered { before: None, is_last: false },
                false => Step::Chain { index: 0, after: None },
            };
            return Ok(String::new());
        };
        self.step = Step::Checkpoints { after: last.n };
        let mut lines = String::new();
        for StoredCheckpoint { body, key_id, signature, .. } in &page {
            let body: Value = serde_json::from_str(body).map_err(|_| damaged("checkpoints", "body", key_id))?;
            lines.push_str(&self.exporter().checkpoint(&body, key_id, signature));
        }
        Ok(lines)
    }

    async fn chain(&mut self, index: usize, after: Option<i64>) -> Result<String, StoreError> {
        let Some(Stretch { chain_id, after: cut, to }) = self.stretches.get(index).cloned() else {
            return Ok(self.finish());
        };
        let (owner, after) = (self.owner, after.unwrap_or(cut));
        let page = self.vault.store.read(move |tx| audit::export_chain(tx, &owner, &chain_id, after, to)).await?;
        self.step = match page.last() {
            Some(last) if last.seq < to => Step::Chain { index, after: Some(last.seq) },
            _ => Step::Chain { index: index + 1, after: None },
        };
        self.lines(&page)
    }

    async fn filtered(&mut self, before: Option<EventId>) -> Result<String, StoreError> {
        let owner = self.owner;
        let filter = EventFilter { before, limit: limits::PAGE_MAX, ..self.filter.clone() };
        let page = self.vault.store.read(move |tx| audit::export_filtered(tx, &owner, &filter)).await?;
        self.step = Step::Filtered { before: page.next, is_last: page.next.is_none() };
        self.lines(&page.events)
    }

    fn lines(&mut self, events: &[StoredEvent]) -> Result<String, StoreError> {
        let mut lines = String::new();
        for event in events {
            let line = self.exporter().event(event).map_err(|_| damaged("events", "core", &event.chain_id))?;
            lines.push_str(&line);
        }
        Ok(lines)
    }

    fn finish(&mut self) -> String {
        self.step = Step::Done;
        let exporter = self.exporter.take().expect("the header came first");
        exporter.finish(&self.vault.checkpoint_key)
    }
}

fn damaged(table: &'static str, column: &'static str, row: &str) -> StoreError {
    StoreError::Inconsistent { table, column, row: row.to_owned() }
}
