use super::*;
use serde_json::json;

const CHAIN: &str = "0199c0de-0000-7000-8000-0000000000c1";
const G1: &str = "0199c0de-0000-7000-8000-000000000001";
const G2: &str = "0199c0de-0000-7000-8000-000000000002";
const C1: &str = "0199c0de-0000-7000-8000-00000000000c";

fn line(seq: i64, kind: &str, more: &Value) -> String {
    let mut core = json!({"kind": kind, "id": format!("e{seq}"), "at": format!("2026-01-01T00:00:{seq:02}.000Z")});
    core.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let line = json!({"type": "event", "chain_id": CHAIN, "seq": seq, "hash": format!("h{seq}"), "core": core});
    format!("{line}\n")
}

fn heads(seq: i64) -> Heads {
    HashMap::from([(CHAIN.to_owned(), (seq, format!("h{seq}")))])
}

fn planned(lines: &[String]) -> Plan {
    plan(&read_export(lines.concat().as_bytes(), &heads(1), &Heads::new()).unwrap()).unwrap()
}

fn grant(id: &str) -> GrantId {
    GrantId::parse(id).unwrap()
}

#[test]
fn only_what_came_after_the_backup_counts_and_in_its_order() {
    let lines = [
        line(1, "grant.revoked", &json!({"grant_id": G1})),
        line(2, "token.released", &json!({"grant_id": G1})),
        line(3, "grant.revoked", &json!({"grant_id": G2})),
        line(4, "key.revoked", &json!({"key_id": G1})),
        line(5, "credential.destroyed", &json!({"credential_id": C1, "credential_version": 2})),
    ];
    let expected = vec![Step::RevokeGrant { grant: grant(G2) }, Step::RevokeKey { key: KeyId::parse(G1).unwrap() }];
    assert_eq!(planned(&lines), Plan { steps: expected, lost: Vec::new() });
}

#[test]
fn a_value_that_is_not_in_the_trail_closes_what_stands_on_it() {
    let rotated = json!({"credential_id": C1, "credential_version": 4, "provider_id": "stripe"});
    let bound = json!({"grant_id": G1, "changed": {"tenant": ["bound", "bound"], "label": [null, "x"]}});
    let plan = planned(&[
        line(1, "token.denied", &json!({})),
        line(2, "credential.rotated", &rotated),
        line(3, "grant.updated", &bound),
    ]);
    let credential = CredentialId::parse(C1).unwrap();
    assert_eq!(plan.steps, [Step::BreakCredential { credential, version: 4 }, Step::CloseGrant { grant: grant(G1) }]);
    let lost: Vec<_> = plan.lost.iter().map(|l| (l.kind, l.id.as_str())).collect();
    assert_eq!(lost, [("secret", "stripe"), ("grant", G1)]);
}

#[test]
fn changes_that_are_told_in_full_are_done_again() {
    let plan = planned(&[
        line(1, "token.denied", &json!({})),
        line(
            2,
            "secret.updated",
            &json!({"provider_id": "s", "changed": {"allowed_hosts": [[], ["a.example.com"]], "allow_any_host": [true, false]}}),
        ),
        line(
            3,
            "grant.updated",
            &json!({"grant_id": G1, "changed": {"expires_at": [null, "2026-02-01T00:00:00.000Z"], "tenant": ["bound", "exempt"]}}),
        ),
        line(4, "app.updated", &json!({"changed": {"retrieve": ["on", "off"]}})),
    ]);
    let hosts = Some(vec![Rule::parse("a.example.com").unwrap()]);
    let end = TimeMs::parse("2026-02-01T00:00:00Z");
    assert_eq!(
        plan.steps,
        [
            Step::SetHosts { slug: "s".to_owned(), hosts, any_host: false },
            Step::UpdateGrant { grant: grant(G1), label: None, expires_at: Some(end), exempt: true },
            Step::UpdateApp { fields: vec![("retrieve".to_owned(), json!("off"))] },
        ]
    );
    assert!(plan.lost.is_empty());
}

#[test]
fn what_was_made_and_revoked_since_is_missed_by_nobody() {
    let made = |seq, grant| line(seq, "grant.created", &json!({"grant_id": grant}));
    let plan = planned(&[
        line(1, "token.denied", &json!({})),
        made(2, G1),
        made(3, G2),
        line(4, "grant.revoked", &json!({"grant_id": G1})),
    ]);
    assert_eq!(plan.lost.iter().map(|l| l.id.as_str()).collect::<Vec<_>>(), [G2]);
}

#[test]
fn what_was_done_to_the_trail_itself_is_named_once() {
    let made = |seq, kind| line(seq, kind, &json!({"app_id": G1, "changed": {"retention": ["365d (default)", "90d"]}}));
    let kinds = ["retention.updated", "hold.set", "audit.erased", "audit.erased", "audit.pruned", "hold.released"];
    let mut lines = vec![line(1, "token.denied", &json!({}))];
    lines.extend((2..).zip(kinds).map(|(seq, kind)| made(seq, kind)));
    let plan = planned(&lines);
    let whats: Vec<_> = plan.lost.iter().map(|lost| (lost.kind, lost.id.as_str(), lost.what)).collect();
    assert_eq!(whats.len(), 3, "{whats:?}");
    assert!(plan.steps.is_empty() && whats.iter().all(|what| (what.0, what.1) == ("app", G1)));
    assert!(whats[0].2.contains("retention") && whats[1].2.contains("hold") && whats[2].2.contains("erase"));
}

#[test]
fn an_export_of_another_history_or_an_older_one_is_refused() {
    let text = [line(1, "token.denied", &json!({})), line(2, "token.denied", &json!({}))].concat();
    let other = HashMap::from([(CHAIN.to_owned(), (1, "other".to_owned()))]);
    assert!(matches!(read_export(text.as_bytes(), &other, &Heads::new()), Err(ReadError::OtherHistory { seq: 1, .. })));
    assert!(matches!(read_export(text.as_bytes(), &heads(3), &Heads::new()), Err(ReadError::Older)));
    let unknown = HashMap::from([("another".to_owned(), (1, "h1".to_owned()))]);
    assert!(matches!(read_export(text.as_bytes(), &unknown, &Heads::new()), Err(ReadError::Older)));
    assert!(read_export(text.as_bytes(), &heads(2), &Heads::new()).unwrap().is_empty());
}

#[test]
fn an_export_whose_past_was_pruned_must_reach_back_to_the_database() {
    let cuts = |seq| HashMap::from([(CHAIN.to_owned(), (seq, format!("h{seq}")))]);
    let text = [line(3, "grant.revoked", &json!({"grant_id": G1})), line(4, "token.denied", &json!({}))].concat();
    let read = |text: &str, heads: &Heads, cuts: &Heads| read_export(text.as_bytes(), heads, cuts);
    for head in [2, 3, 4] {
        let happened = read(&text, &heads(head), &cuts(2)).unwrap();
        assert_eq!(happened.len(), usize::from(head == 2), "{head}");
    }
    // The whole chain is gone, and the database holds all of it.
    assert!(read("", &heads(2), &cuts(2)).unwrap().is_empty());
    // What the database does not hold was removed, of a chain it knows or of one it never saw.
    for heads in [heads(1), Heads::new()] {
        assert!(matches!(read(&text, &heads, &cuts(2)), Err(ReadError::Pruned { .. })), "{heads:?}");
    }
    let other = HashMap::from([(CHAIN.to_owned(), (2, "other".to_owned()))]);
    assert!(matches!(read(&text, &other, &cuts(2)), Err(ReadError::OtherHistory { seq: 2, .. })));
}

#[test]
fn what_is_not_understood_is_refused() {
    let of = |text: String| read_export(text.as_bytes(), &Heads::new(), &Heads::new()).and_then(|events| plan(&events));
    assert!(matches!(of(line(2, "grant.melted", &json!({}))), Err(ReadError::UnknownKind { line: 1, .. })));
    for (kind, more) in [
        ("grant.revoked", json!({"grant_id": "x"})),
        ("key.revoked", json!({})),
        ("key.rotated", json!({"key_id": G1})),
        ("key.rotated", json!({"changed": {"grace_until": [null, "2026-02-01T00:00:00.000Z"]}})),
        ("credential.rotated", json!({"credential_id": C1})),
        ("secret.updated", json!({"provider_id": "s", "changed": {"allowed_hosts": [[], ["*"]]}})),
        ("grant.updated", json!({"grant_id": G1, "changed": {"expires_at": [null, "soon"]}})),
        ("grant.revoked", json!({"grant_id": G1, "at": "x"})),
    ] {
        assert!(matches!(of(line(2, kind, &more)), Err(ReadError::Malformed { line: 1, .. })), "{kind}");
    }
    assert!(matches!(of("{".to_owned()), Err(ReadError::Malformed { line: 1, .. })));
}
