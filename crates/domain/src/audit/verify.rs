//! The offline verifier: needs nothing but an export.
//!
//! An export is JSON lines: a header, the checkpoints in order, the events chain by chain in order, a footer. Whoever holds the
//! signing key could rewrite all of it, so a key or a checkpoint kept elsewhere says more than the file itself; the report tells
//! which of them vouched.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{BufRead, ErrorKind, Read as _};

use aws_lc_rs::digest;
use grantd_wire::sign::{hex, unhex};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Checkpoint, ZERO_HASH, canonical, event_hash, footer_text, link_hash, private_hash, verify_signature};

/// Bytes of one line; a longer one is a problem, not a reason to run out of memory.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Problems listed; more are only counted.
const PROBLEMS_MAX: usize = 1_000;

/// What the file is checked against beside itself.
#[derive(Default)]
pub struct Trust {
    /// A JWK: only signatures under it count.
    pub key: Option<Value>,
    /// A checkpoint line of an earlier export: the file must hold it unchanged.
    pub checkpoint: Option<Value>,
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Counted from 1; 0 for the file as a whole.
    pub line: u64,
    pub what: String,
}

/// The verifier's findings.
#[derive(Debug, Serialize)]
pub struct Report {
    pub ok: bool,
    pub events: u64,
    pub chains: u64,
    pub checkpoints: u64,
    /// Events whose private part was erased.
    pub erased: u64,
    pub problems: Vec<Problem>,
    /// Who vouches: `pinned key`, `kept checkpoint`, both, or `the file itself`.
    pub trust: String,
    /// True for a filtered export: gaps were not judged.
    pub partial: bool,
    /// The checkpoint up to which retention removed the events, as signed; absent while nothing was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned_to: Option<i64>,
    /// The last event that retention removed of each chain: its number and hash.
    #[serde(skip)]
    pub cuts: HashMap<String, (i64, String)>,
    /// False: it does not begin like an export, and nothing after that was read.
    #[serde(skip)]
    pub is_export: bool,
}

/// Reads a whole export and says whether anything in it was changed, removed, reordered or cut off.
pub fn verify(mut reader: impl BufRead, trust: &Trust) -> Result<Report, std::io::Error> {
    let mut verifier = Verifier::new(trust);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(verifier.finish());
        }
        if read as u64 > LINE_BYTES_MAX {
            return Err(std::io::Error::new(
                ErrorKind::InvalidData,
                "a line is longer than 4 MiB: this is no export of grantd",
            ));
        }
        verifier.line(&line);
        if verifier.is_no_export() {
            return Ok(verifier.finish());
        }
    }
}

/// The last link of a chain so far.
struct Link {
    seq: i64,
    hash: [u8; 32],
}

struct Verifier<'a> {
    trust: &'a Trust,
    line: u64,
    digest: digest::Context,
    problems: Vec<Problem>,
    header_seen: bool,
    footer_seen: bool,
    partial: bool,
    app_id: String,
    keys: Vec<Value>,
    last_checkpoint: Option<(i64, String)>,
    checkpoint_hashes: HashSet<[u8; 32]>,
    kept_checkpoint_found: bool,
    /// Heads that checkpoints promise: hash by chain and sequence.
    promised: HashMap<(String, i64), String>,
    /// The same heads in the order of their checkpoints: number, chain, sequence. Retention takes them from the front.
    heads: VecDeque<(i64, String, i64)>,
    /// Where retention cut a chain: its first event must follow this link.
    cuts: HashMap<String, Link>,
    pruned_to: Option<i64>,
    chains: HashMap<String, Link>,
    events: u64,
    checkpoints: u64,
    erased: u64,
}

impl<'a> Verifier<'a> {
    fn new(trust: &'a Trust) -> Self {
        Self {
            trust,
            line: 0,
            digest: digest::Context::new(&digest::SHA256),
            problems: Vec::new(),
            header_seen: false,
            footer_seen: false,
            partial: false,
            app_id: String::new(),
            keys: Vec::new(),
            last_checkpoint: None,
            checkpoint_hashes: HashSet::new(),
            kept_checkpoint_found: false,
            promised: HashMap::new(),
            heads: VecDeque::new(),
            cuts: HashMap::new(),
            pruned_to: None,
            chains: HashMap::new(),
            events: 0,
            checkpoints: 0,
            erased: 0,
        }
    }

    fn problem(&mut self, what: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { line: self.line, what: what.into() });
        }
    }

    /// The first line says what a file is; of one that does not begin like an export, nothing further is worth saying.
    fn is_no_export(&self) -> bool {
        self.line > 0 && !self.header_seen
    }

    fn line(&mut self, bytes: &[u8]) {
        self.line += 1;
        if self.line == 1 && !is_header(bytes) {
            return;
        }
        if self.footer_seen {
            self.problem("there are lines after the footer");
            return;
        }
        let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(bytes) else {
            self.problem("this line is not a JSON object");
            self.digest.update(bytes);
            return;
        };
        match object.get("type").and_then(Value::as_str) {
            Some("header") if !self.header_seen => self.header(&object),
            Some("checkpoint") if self.events == 0 => self.checkpoint(&object),
            Some("event") => self.event(&object),
            Some("footer") => return self.footer(object),
            _ => self.problem("this line is of an unknown type, or out of place"),
        }
        self.digest.update(bytes);
    }

    fn header(&mut self, header: &Map<String, Value>) {
        self.header_seen = true;
        if self.line != 1 || header.get("format") != Some(&Value::from(1)) {
            self.problem("the header is not the first line, or of another format than 1");
        }
        self.partial = header.get("filter").is_some_and(|f| f.as_object().is_some_and(|f| !f.is_empty()));
        text(header, "app_id").clone_into(&mut self.app_id);
        self.keys = header.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(pinned) = &self.trust.key {
            if !self.keys.iter().any(|k| k["x"] == pinned["x"]) {
                self.problem("the file does not name the trusted key");
            }
            self.keys = vec![pinned.clone()];
        }
    }

    fn signed(&self, text: &str, signature: &str) -> bool {
        self.keys.iter().any(|key| verify_signature(key, text, signature))
    }

    fn checkpoint(&mut self, line: &Map<String, Value>) {
        self.checkpoints += 1;
        let body = line.get("body").cloned().unwrap_or_default();
        let canonical = canonical(&body);
        let Ok(checkpoint) = serde_json::from_value::<Checkpoint>(body.clone()) else {
            return self.problem("this is not a checkpoint of format 1");
        };
        if !self.signed(&format!("grantd.checkpoint.1{canonical}"), text(line, "signature")) {
            self.problem(format!("the signature of checkpoint {} does not verify", checkpoint.n));
        }
        if checkpoint.app_id != self.app_id {
            self.problem(format!("checkpoint {} belongs to another app", checkpoint.n));
        }
        let hash = Checkpoint::hash_of(&canonical);
        match &self.last_checkpoint {
            Some((n, last)) if checkpoint.n != n + 1 || checkpoint.previous.as_deref() != Some(last) => {
                self.problem(format!("checkpoint {} does not follow checkpoint {n}", checkpoint.n));
            }
            None if checkpoint.n != 1 => {
                self.problem(format!("the checkpoints before {} are missing", checkpoint.n));
            }
            _ => {}
        }
        self.kept_checkpoint_found |= self.trust.checkpoint.as_ref().is_some_and(|kept| kept["body"] == body);
        self.pruned(checkpoint.n, checkpoint.pruned_to);
        for head in checkpoint.heads {
            self.heads.push_back((checkpoint.n, head.chain_id.clone(), head.seq));
            self.promised.insert((head.chain_id, head.seq), head.hash);
        }
        self.checkpoint_hashes.insert(hash);
        self.last_checkpoint = Some((checkpoint.n, hex(&hash)));
    }

    /// Retention removed what the checkpoints up to `to` cover: a chain begins after the last of their heads.
    fn pruned(&mut self, n: i64, to: Option<i64>) {
        if to < self.pruned_to || to.is_some_and(|to| to < 1 || to >= n) {
            return self
                .problem(format!("checkpoint {n} says that events were pruned up to a checkpoint that cannot be"));
        }
        self.pruned_to = to;
        while self.heads.front().is_some_and(|(at, ..)| Some(*at) <= to) {
            let Some((_, chain, seq)) = self.heads.pop_front() else { return };
            let hash = self.promised.remove(&(chain.clone(), seq)).and_then(|hash| unhex::<32>(&hash));
            let Some(hash) = hash else {
                self.problem(format!("the head of chain {chain} at event {seq} is malformed, or stands twice"));
                continue;
            };
            if self.cuts.insert(chain.clone(), Link { seq, hash }).is_some_and(|before| before.seq >= seq) {
                self.problem(format!("a checkpoint before {n} moves chain {chain} back to event {seq}"));
            }
        }
    }

    fn event(&mut self, line: &Map<String, Value>) {
        self.events += 1;
        let (chain_id, seq) = (text(line, "chain_id").to_owned(), line.get("seq").and_then(Value::as_i64).unwrap_or(0));
        let Some(mut core) = line.get("core").and_then(Value::as_object).cloned() else {
            return self.problem("the event has no core");
        };
        core.insert("chain_id".to_owned(), Value::from(chain_id.clone()));
        core.insert("seq".to_owned(), Value::from(seq));
        let hash_field = |name: &str| unhex::<32>(text(line, name));
        let (Some(stored_private), Some(stored_hash)) = (hash_field("private_hash"), hash_field("hash")) else {
            return self.problem("the event's hashes are malformed");
        };
        if let Some(salt) = line.get("salt").and_then(Value::as_str) {
            let empty = Value::Object(Map::new());
            let private = line.get("private").filter(|p| !p.is_null()).unwrap_or(&empty);
            if unhex::<16>(salt).map(|salt| private_hash(&salt, &canonical(private))) != Some(stored_private) {
                self.problem("the private part was changed");
            }
        } else if line.get("private").is_some_and(|p| !p.is_null()) {
            self.problem("the private part has no salt");
        } else {
            self.erased += 1;
        }
        let hash = event_hash(&canonical(&core), &stored_private);
        if Some(hash) != hash_field("event_hash") {
            self.problem("the event was changed");
        }
        if self.partial {
            return;
        }
        self.link(chain_id, seq, &hash, stored_hash);
    }

    fn link(&mut self, chain_id: String, seq: i64, event_hash: &[u8; 32], stored: [u8; 32]) {
        let last = self.chains.get(&chain_id).or_else(|| self.cuts.get(&chain_id));
        let follows = match last {
            Some(chain) => chain.seq + 1 == seq && link_hash(&chain.hash, event_hash) == stored,
            None => {
                seq == 1
                    && (link_hash(&ZERO_HASH, event_hash) == stored
                        || self.checkpoint_hashes.iter().any(|c| link_hash(c, event_hash) == stored))
            }
        };
        if !follows {
            let last = last.map_or(0, |c| c.seq);
            self.problem(format!("event {seq} of chain {chain_id} does not follow event {last}: something was edited, removed or reordered"));
        }
        if self.promised.remove(&(chain_id.clone(), seq)).is_some_and(|promised| promised != hex(&stored)) {
            self.problem(format!("event {seq} of chain {chain_id} is not the one a checkpoint was signed over"));
        }
        self.chains.insert(chain_id, Link { seq, hash: stored });
    }

    fn footer(&mut self, mut footer: Map<String, Value>) {
        self.footer_seen = true;
        let signature = footer.remove("signature").unwrap_or_default();
        footer.remove("kid");
        if !self.signed(&footer_text(&canonical(&footer)), signature.as_str().unwrap_or_default()) {
            self.problem("the footer's signature does not verify");
        }
        let digest = std::mem::replace(&mut self.digest, digest::Context::new(&digest::SHA256)).finish();
        if text(&footer, "sha256") != hex(digest.as_ref()) {
            self.problem("a line was changed: the footer's sum does not match");
        }
        if footer.get("events").and_then(Value::as_u64) != Some(self.events) {
            self.problem("the number of events is not the footer's: lines were removed or added");
        }
        let heads: Vec<(String, i64, String)> = footer
            .get("heads")
            .and_then(Value::as_array)
            .map(|heads| {
                heads
                    .iter()
                    .filter_map(Value::as_object)
                    .map(|h| {
                        (
                            text(h, "chain_id").to_owned(),
                            h.get("seq").and_then(Value::as_i64).unwrap_or(0),
                            text(h, "hash").to_owned(),
                        )
                    })
                    .collect()
            })
            .unwrap_or_default();
        if self.partial {
            return;
        }
        for (chain_id, seq, hash) in heads {
            let at = self.chains.get(&chain_id);
            if at.is_none_or(|chain| chain.seq != seq || hex(&chain.hash) != hash) {
                self.problem(format!("chain {chain_id} does not end at event {seq}: its tail was cut off or changed"));
            }
        }
    }

    fn finish(mut self) -> Report {
        if !self.header_seen {
            self.line = self.line.min(1);
            self.problem("this is not the header of an export: the file is no export of grantd in JSON lines, or its beginning is missing");
            return self.report();
        }
        self.line = 0;
        if !self.footer_seen {
            self.problem("there is no footer: the file was cut off");
        }
        if !self.partial {
            let missing: Vec<_> = self.promised.keys().cloned().collect();
            for (chain_id, seq) in missing {
                self.problem(format!(
                    "event {seq} of chain {chain_id}, which a checkpoint was signed over, is missing"
                ));
            }
        }
        if let Some(kept) = &self.trust.checkpoint
            && !self.kept_checkpoint_found
        {
            let what = self.where_the_kept_checkpoint_is(&kept["body"]);
            self.problem(what);
        }
        self.report()
    }

    /// What it means that the file does not hold the checkpoint with this body.
    fn where_the_kept_checkpoint_is(&self, kept: &Value) -> String {
        let n = kept["n"].as_i64().unwrap_or(0);
        let last = self.last_checkpoint.as_ref().map_or(0, |(n, _)| *n);
        if kept["app_id"].as_str() != Some(&self.app_id) {
            return "the checkpoint that was kept elsewhere is of another app".to_owned();
        }
        if n > last {
            return format!(
                "the file ends before checkpoint {n}, which was kept elsewhere: it is older than that, or its tail was cut off"
            );
        }
        "the checkpoint that was kept elsewhere is not in the file: history was rewritten".to_owned()
    }

    fn report(self) -> Report {
        let trust = match (&self.trust.key, &self.trust.checkpoint) {
            (Some(_), Some(_)) => "pinned key and kept checkpoint",
            (Some(_), None) => "pinned key",
            (None, Some(_)) => "kept checkpoint",
            (None, None) => {
                "the file itself: a holder of the signing key could have rewritten it; pin the key with --trust"
            }
        };
        Report {
            ok: self.problems.is_empty(),
            events: self.events,
            chains: self.chains.len() as u64,
            checkpoints: self.checkpoints,
            erased: self.erased,
            problems: self.problems,
            trust: trust.to_owned(),
            partial: self.partial,
            pruned_to: self.pruned_to,
            cuts: self.cuts.into_iter().map(|(chain, link)| (chain, (link.seq, hex(&link.hash)))).collect(),
            is_export: self.header_seen,
        }
    }
}

fn is_header(line: &[u8]) -> bool {
    serde_json::from_slice::<Value>(line).is_ok_and(|line| line["type"] == "header")
}

fn text<'v>(object: &'v Map<String, Value>, name: &str) -> &'v str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}
