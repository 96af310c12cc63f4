//! Writes an export: header, checkpoints, events chain by chain, signed footer. [`super::verify`] reads it.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use grantd_wire::sign::hex;
use serde_json::{Value, json};

use super::{CheckpointKey, HeadAt, canonical};

/// A stored event as the export shows it.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    pub chain_id: String,
    pub seq: i64,
    /// Canonical core, `chain_id` and `seq` included.
    pub core: String,
    /// `None` when there was none, or it was erased.
    pub private: Option<String>,
    /// `None` when the private part was erased.
    pub salt: Option<[u8; 16]>,
    pub private_hash: [u8; 32],
    pub event_hash: [u8; 32],
    pub hash: [u8; 32],
}

/// Keeps what the footer must say.
pub struct Exporter {
    digest: digest::Context,
    events: u64,
    heads: BTreeMap<String, HeadAt>,
}

impl Exporter {
    /// Starts an export and writes its header. An empty `filter` means: everything.
    pub fn start(app_id: &str, filter: &Value, keys: &[Value]) -> (Self, String) {
        let mut exporter = Self { digest: digest::Context::new(&digest::SHA256), events: 0, heads: BTreeMap::new() };
        let line =
            exporter.line(&json!({"type": "header", "format": 1, "app_id": app_id, "filter": filter, "keys": keys}));
        (exporter, line)
    }

    fn line(&mut self, value: &Value) -> String {
        let line = format!("{value}\n");
        self.digest.update(line.as_bytes());
        line
    }

    /// A stored checkpoint.
    pub fn checkpoint(&mut self, body: &Value, key_id: &str, signature: &str) -> String {
        self.line(&json!({"type": "checkpoint", "body": body, "kid": key_id, "signature": signature}))
    }

    /// A stored event.
    pub fn event(&mut self, event: &StoredEvent) -> Result<String, serde_json::Error> {
        self.events += 1;
        let mut core: Value = serde_json::from_str(&event.core)?;
        if let Some(core) = core.as_object_mut() {
            core.remove("chain_id");
            core.remove("seq");
        }
        let private: Option<Value> = event.private.as_deref().map(serde_json::from_str).transpose()?;
        let head = HeadAt { chain_id: event.chain_id.clone(), seq: event.seq, hash: hex(&event.hash) };
        self.heads.insert(event.chain_id.clone(), head);
        Ok(self.line(&json!({
            "type": "event",
            "chain_id": event.chain_id,
            "seq": event.seq,
            "core": core,
            "private": private,
            "salt": event.salt.map(|s| hex(&s)),
            "private_hash": hex(&event.private_hash),
            "event_hash": hex(&event.event_hash),
            "hash": hex(&event.hash),
        })))
    }

    /// The footer; nothing may follow it.
    pub fn finish(self, key: &CheckpointKey) -> String {
        let heads: Vec<_> = self.heads.into_values().collect();
        let sum = hex(self.digest.finish().as_ref());
        let mut footer = json!({"type": "footer", "events": self.events, "heads": heads, "sha256": sum});
        let signed = key.sign_footer(&canonical(&footer));
        footer["kid"] = json!(signed.key_id);
        footer["signature"] = json!(signed.signature);
        format!("{footer}\n")
    }
}

#[cfg(test)]
mod tests {
    use grantd_wire::TimeMs;
    use grantd_wire::ids::{AppId, ChainId, SigningKeyId, uuid_v7};
    use proptest::prelude::*;

    use super::super::*;
    use super::*;

    struct Fixed;
    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(9);
        }
    }

    fn key(n: u8) -> CheckpointKey {
        CheckpointKey::from_seed(SigningKeyId::from_uuid(uuid_v7(1, [n; 10])), &[n; 32]).unwrap()
    }

    fn export(n: i64, filter: &Value) -> Vec<String> {
        pruned_export(n, filter, &[], 0)
    }

    /// Two chains of `n` events each, a checkpoint after half of them and one at the end. After that a checkpoint for each of
    /// `pruned_to` that says so, and without the first `gone` events of each chain.
    fn pruned_export(n: i64, filter: &Value, pruned_to: &[Option<i64>], gone: i64) -> Vec<String> {
        let app = AppId::from_uuid(uuid_v7(1, [1; 10]));
        let mut heads: Vec<Head> =
            (1..=2).map(|c| Head::start(ChainId::from_uuid(uuid_v7(1, [c; 10])), ZERO_HASH)).collect();
        let (mut events, mut checkpoints) = (Vec::new(), Vec::<String>::new());
        let mut checkpoint = |heads: &[Head], pruned_to| {
            let previous = checkpoints.last().map(|c| hex(&Checkpoint::hash_of(c)));
            let n = i64::try_from(checkpoints.len()).unwrap() + 1;
            let heads = heads.iter().map(HeadAt::of).collect();
            checkpoints
                .push(Checkpoint { app_id: app.to_string(), n, previous, at: TimeMs(n), heads, pruned_to }.text());
        };
        for i in 0..n {
            for head in &mut heads {
                let event =
                    Event::new(&Fixed, TimeMs(i), Owner::App(app), Kind::TokenReleased, Outcome::Allowed, Actor::Job)
                        .private("reason", Some(format!("reason {i}")))
                        .prepare();
                let linked = head.link(&event);
                events.push(StoredEvent {
                    chain_id: linked.chain_id.to_string(),
                    seq: linked.seq,
                    core: linked.core,
                    private: event.private,
                    salt: Some(event.salt),
                    private_hash: event.private_hash,
                    event_hash: linked.event_hash,
                    hash: linked.hash,
                });
            }
            if i == n / 2 {
                checkpoint(&heads, None);
            }
        }
        checkpoint(&heads, None);
        for to in pruned_to {
            checkpoint(&[], *to);
        }
        events.retain(|event: &StoredEvent| event.seq > gone);
        let (mut exporter, header) = Exporter::start(&app.to_string(), filter, &[key(3).jwk()]);
        let mut lines = vec![header];
        for body in &checkpoints {
            let signed = key(3).sign_checkpoint(body);
            lines.push(exporter.checkpoint(
                &serde_json::from_str(body).unwrap(),
                &signed.key_id.to_string(),
                &signed.signature,
            ));
        }
        events.sort_by(|a, b| (&a.chain_id, a.seq).cmp(&(&b.chain_id, b.seq)));
        for event in &events {
            lines.push(exporter.event(event).unwrap());
        }
        lines.push(exporter.finish(&key(3)));
        lines
    }

    fn whole(n: i64) -> Vec<String> {
        export(n, &json!({}))
    }

    /// Six events of each chain; the first checkpoint covers four.
    fn pruned(pruned_to: &[Option<i64>], gone: i64) -> Vec<String> {
        pruned_export(6, &json!({}), pruned_to, gone)
    }

    fn check(lines: &[String], trust: &Trust) -> Report {
        verify(lines.concat().as_bytes(), trust).unwrap()
    }

    /// What a holder of the signing key would do after an edit: sum and sign anew.
    fn sign_again(lines: &mut [String]) {
        let (footer, rest) = lines.split_last_mut().unwrap();
        let mut value: Value = serde_json::from_str(footer).unwrap();
        let object = value.as_object_mut().unwrap();
        object.remove("kid");
        object.remove("signature");
        value["sha256"] = json!(hex(&grantd_wire::sign::sha256(rest.concat().as_bytes())));
        value["events"] = json!(rest.iter().filter(|l| l.contains("\"type\":\"event\"")).count());
        let signed = key(3).sign_footer(&canonical(&value));
        value["signature"] = json!(signed.signature);
        *footer = format!("{value}\n");
    }

    #[test]
    fn an_untouched_export_verifies() {
        let lines = whole(6);
        let report = check(&lines, &Trust::default());
        assert!(report.ok, "{:?}", report.problems);
        assert_eq!((report.events, report.chains, report.checkpoints), (12, 2, 2));
        let kept = serde_json::from_str(&lines[1]).unwrap();
        assert!(check(&lines, &Trust { key: Some(key(3).jwk()), checkpoint: Some(kept) }).ok);
    }

    #[test]
    fn what_a_signed_checkpoint_says_was_pruned_may_be_gone_and_nothing_else() {
        let table: &[(&[Option<i64>], i64, bool)] = &[
            (&[], 0, true),
            (&[Some(1)], 4, true),
            (&[Some(1), Some(1)], 4, true),
            (&[Some(1), Some(2)], 6, true),
            (&[Some(2)], 6, true),
            // Cut off without a word, by more than was said, and by less: then the first event follows nothing that is signed.
            (&[], 4, false),
            (&[None], 4, false),
            (&[Some(1)], 5, false),
            (&[Some(1)], 6, false),
            (&[Some(1)], 3, false),
            (&[Some(1)], 0, false),
            (&[Some(2)], 4, false),
            // Places that cannot be, and one that goes back.
            (&[Some(0)], 0, false),
            (&[Some(3)], 6, false),
            (&[Some(2), Some(1)], 6, false),
            (&[Some(1), None], 4, false),
        ];
        for (pruned_to, gone, is_ok) in table {
            let report = check(&pruned(pruned_to, *gone), &Trust { key: Some(key(3).jwk()), checkpoint: None });
            assert_eq!(report.ok, *is_ok, "{pruned_to:?} {gone}: {:?}", report.problems);
            if report.ok {
                assert_eq!(report.pruned_to, pruned_to.last().copied().flatten());
                let cuts: Vec<i64> = report.cuts.values().map(|(seq, _)| *seq).collect();
                assert_eq!(cuts, if *gone == 0 { vec![] } else { vec![*gone; 2] });
            }
        }
    }

    #[test]
    fn checkpoints_stay_when_events_are_pruned() {
        let mut lines = pruned(&[Some(2)], 6);
        lines.remove(1);
        sign_again(&mut lines);
        assert!(!check(&lines, &Trust::default()).ok);
    }

    #[test]
    fn an_erased_private_part_leaves_the_chain_whole() {
        let mut lines = whole(3);
        let mut event: Value = serde_json::from_str(&lines[4]).unwrap();
        event["private"] = Value::Null;
        event["salt"] = Value::Null;
        lines[4] = format!("{event}\n");
        assert_eq!(check(&whole(3), &Trust::default()).erased, 0);
        sign_again(&mut lines);
        let report = check(&lines, &Trust::default());
        assert!(report.ok, "{:?}", report.problems);
        assert_eq!(report.erased, 1);
    }

    #[test]
    fn another_key_and_a_rewritten_history_are_not_trusted() {
        let lines = whole(3);
        assert!(!check(&lines, &Trust { key: Some(key(4).jwk()), checkpoint: None }).ok);
        let kept = serde_json::from_str(&whole(4)[2]).unwrap();
        assert!(!check(&lines, &Trust { key: None, checkpoint: Some(kept) }).ok);
    }

    #[test]
    fn a_file_that_ends_before_the_kept_checkpoint_is_not_called_rewritten() {
        let lines = whole(3);
        let what = |kept: &Value| {
            let trust = Trust { key: None, checkpoint: Some(kept.clone()) };
            check(&lines, &trust).problems.into_iter().map(|p| p.what).collect::<Vec<_>>().join("\n")
        };
        let mut kept: Value = serde_json::from_str(&lines[2]).unwrap();
        kept["body"]["n"] = json!(9);
        assert!(what(&kept).contains("ends before checkpoint 9"), "{}", what(&kept));
        kept["body"]["n"] = json!(1);
        assert!(what(&kept).contains("history was rewritten"), "{}", what(&kept));
        kept["body"]["app_id"] = json!("another");
        assert!(what(&kept).contains("of another app"), "{}", what(&kept));
    }

    #[test]
    fn what_is_no_export_is_said_to_be_none_and_nothing_else() {
        for text in ["", "not json\n{}\n", "{}\n{}\n", "id,at,kind\r\n1,2,3\r\n"] {
            let report = verify(text.as_bytes(), &Trust::default()).unwrap();
            assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
            assert!(
                !report.ok && !report.is_export && report.problems[0].what.contains("no export of grantd"),
                "{:?}",
                report.problems
            );
        }
    }

    #[test]
    fn a_cut_tail_is_found_even_when_the_footer_is_signed_again() {
        let mut lines = whole(6);
        lines.remove(lines.len() - 2);
        sign_again(&mut lines);
        assert!(!check(&lines, &Trust::default()).ok);
        let lines = whole(6);
        assert!(!check(&lines[..lines.len() - 1], &Trust::default()).ok);
    }

    #[test]
    fn swapped_private_parts_and_swapped_rows_are_found() {
        for (field, signed_again) in
            [("private", true), ("core", true), ("hash", true), ("seq", true), ("private", false)]
        {
            let mut lines = whole(6);
            let (mut a, mut b): (Value, Value) =
                (serde_json::from_str(&lines[4]).unwrap(), serde_json::from_str(&lines[6]).unwrap());
            std::mem::swap(&mut a[field], &mut b[field]);
            lines[4] = format!("{a}\n");
            lines[6] = format!("{b}\n");
            if signed_again {
                sign_again(&mut lines);
            }
            assert!(!check(&lines, &Trust::default()).ok, "{field}");
        }
    }

    #[test]
    fn a_filtered_export_judges_no_gaps_but_still_every_event() {
        let mut lines = export(4, &json!({"kind": "token.released"}));
        lines.remove(5);
        sign_again(&mut lines);
        let report = check(&lines, &Trust::default());
        assert!(report.ok && report.partial, "{:?}", report.problems);
        lines[4] = lines[4].replace("token.released", "token.denied");
        sign_again(&mut lines);
        assert!(!check(&lines, &Trust::default()).ok);
    }

    /// Removes, doubles, or edits one byte of line `i`.
    fn tamper(lines: &mut Vec<String>, i: usize, how: u8, at: prop::sample::Index) {
        match how {
            0 => {
                lines.remove(i);
            }
            1 => lines.insert(i, lines[i].clone()),
            _ => {
                let mut bytes = lines[i].clone().into_bytes();
                let j = at.index(bytes.len() - 1);
                bytes[j] = if bytes[j] == b'1' { b'2' } else { b'1' };
                lines[i] = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn any_line_removed_doubled_moved_or_edited_is_found(which in any::<prop::sample::Index>(), how in 0..4u8, at in any::<prop::sample::Index>()) {
            let mut lines = whole(5);
            let i = which.index(lines.len() - 1);
            match how {
                3 => lines.swap(i, i + 1),
                how => tamper(&mut lines, i, how, at),
            }
            prop_assert!(!check(&lines, &Trust::default()).ok, "line {i} how {how}");
        }

        #[test]
        fn a_holder_of_the_key_cannot_change_an_event_that_was_not_pruned(which in any::<prop::sample::Index>(), how in 0..3u8, at in any::<prop::sample::Index>()) {
            let mut lines = pruned(&[Some(1)], 4);
            let events = 4..lines.len() - 1;
            let i = events.start + which.index(events.len());
            tamper(&mut lines, i, how, at);
            sign_again(&mut lines);
            prop_assert!(!check(&lines, &Trust::default()).ok, "line {i} how {how}");
        }

        #[test]
        fn a_holder_of_the_key_cannot_change_an_event_that_a_checkpoint_covers(which in any::<prop::sample::Index>(), how in 0..3u8, at in any::<prop::sample::Index>()) {
            let mut lines = whole(5);
            let events = 3..lines.len() - 1;
            let i = events.start + which.index(events.len());
            tamper(&mut lines, i, how, at);
            sign_again(&mut lines);
            prop_assert!(!check(&lines, &Trust::default()).ok, "line {i} how {how}");
        }
    }
}
