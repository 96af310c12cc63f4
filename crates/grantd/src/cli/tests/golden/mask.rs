//! What differs from run to run becomes something of the same length that does not: the layout stays.

use std::collections::BTreeMap;

/// Fields with numbers that depend on the machine.
const NUMBERS: &[&str] = &["duration_ms", "bytes", "gap_seconds"];
/// Characters of a text that only chance makes so long.
const RANDOM_CHARS_MIN: usize = 20;

/// `text` without what differs from run to run.
pub fn mask(text: &str) -> String {
    let mut ids = BTreeMap::new();
    let lines = text.split('\n').map(|line| numbers(&line_of(line, &mut ids)));
    seconds(&lines.collect::<Vec<_>>().join("\n"))
}

/// Words of letters, digits and what joins them; each is replaced or stays.
fn line_of(line: &str, ids: &mut BTreeMap<String, usize>) -> String {
    let mut masked = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| !is_of_word(c)).unwrap_or(rest.len()).max(first.len_utf8());
        let (found, after) = rest.split_at(end);
        masked.push_str(&word(found, ids));
        rest = after;
    }
    ports(&gap(&days(&ages(&masked))))
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.')
}

fn word(word: &str, ids: &mut BTreeMap<String, usize>) -> String {
    if let Some((before, rest)) = word.split_once(':').filter(|_| !word.starts_with(|c: char| c.is_ascii_digit())) {
        return format!("{}:{}", self::word(before, ids), self::word(rest, ids));
    }
    if let Some((stem, end)) = word.rsplit_once('.').filter(|(_, end)| matches!(*end, "" | "db" | "json" | "jsonl")) {
        return format!("{}.{end}", self::word(stem, ids));
    }
    if is_uuid(word) {
        let next = ids.len() + 1;
        let n = ids.entry(word.to_owned()).or_insert(next);
        return format!("01990000-0000-7000-8000-{n:012}");
    }
    if is_shaped(word, "0000-00-00") {
        return "2025-11-24".to_owned();
    }
    if is_shaped(word, "00:00:00") {
        return "10:00:00".to_owned();
    }
    if is_shaped(word, "0000-00-00T00:00:00.000Z") {
        return "2025-11-24T10:00:00.000Z".to_owned();
    }
    if is_shaped(word, "0000-00-00T00:00:00Z") {
        return "2025-11-24T10:00:00Z".to_owned();
    }
    if let Some(rest) = word.strip_prefix("grantd-golden-") {
        return format!("grantd-golden-{}", "0".repeat(rest.len()));
    }
    for prefix in ["grantd_pat_", "grantd_scim_", "grantd_hook_", "alter_rk_", "login_"] {
        if let Some(rest) = word.strip_prefix(prefix).filter(|_| word != "login_url") {
            return format!("{prefix}{}", "#".repeat(rest.len()));
        }
    }
    if is_random(word) { "#".repeat(word.len()) } else { word.to_owned() }
}

/// Each `0` of the shape is a digit, everything else itself.
fn is_shaped(word: &str, shape: &str) -> bool {
    let fits = |(c, shape): (u8, u8)| if shape == b'0' { c.is_ascii_digit() } else { c == shape };
    word.len() == shape.len() && word.bytes().zip(shape.bytes()).all(fits)
}

fn is_uuid(word: &str) -> bool {
    let parts: Vec<usize> = word.split('-').map(str::len).collect();
    // One that was never given to anything stays as it was typed.
    let is_typed = word.ends_with("00000000beef");
    parts == [8, 4, 4, 4, 12] && !is_typed && word.bytes().all(|c| c == b'-' || c.is_ascii_hexdigit())
}

/// Long, and no words: hashes, signatures, keys, cursors.
fn is_random(word: &str) -> bool {
    let has = |what: fn(&u8) -> bool| word.bytes().any(|c| what(&c));
    let is_hex = word.len() >= 2 * RANDOM_CHARS_MIN && word.bytes().all(|c| c.is_ascii_hexdigit());
    let is_mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    is_hex || (word.len() >= RANDOM_CHARS_MIN && is_mixed)
}

/// `(12 s ago)` on a slow machine is `(now)` on others.
fn ages(line: &str) -> String {
    let Some((before, rest)) = line.split_once('(') else { return line.to_owned() };
    let Some((age, after)) = rest.split_once(')') else { return line.to_owned() };
    let words: Vec<&str> = age.split(' ').collect();
    match words[..] {
        [n, "s", "ago"] | ["in", n, "s"] if n.parse::<u32>().is_ok() => format!("{before}(now){after}"),
        _ => line.to_owned(),
    }
}

/// Of what the host's clock made before the story, a slower machine says other two digits; a narrow table folds behind them.
fn seconds(text: &str) -> String {
    let mut masked = String::new();
    let mut parts = text.split("s ago").peekable();
    while let Some(part) = parts.next() {
        let age = part.trim_end();
        let digits = age.bytes().rev().take_while(u8::is_ascii_digit).count();
        if parts.peek().is_some() && digits == 2 && age.len() < part.len() {
            masked = masked + &age[..age.len() - 2] + "40" + &part[age.len()..];
        } else {
            masked.push_str(part);
        }
        masked.push_str(if parts.peek().is_some() { "s ago" } else { "" });
    }
    masked
}

/// A lifetime of 30 or 90 days is 29 or 89 and some hours once a moment has passed, which it has on a slow machine.
fn days(line: &str) -> String {
    line.replace("in 29 d", "in 30 d").replace("in 89 d", "in 90 d")
}

/// How long a restore comes after its backup.
fn gap(line: &str) -> String {
    match line.strip_prefix("Restored; ").and_then(|rest| rest.split_once(" s lie ")) {
        Some((_, rest)) => format!("Restored; 1 s lie {rest}"),
        None => line.to_owned(),
    }
}

/// Ports that the system chose, all of five digits.
fn ports(line: &str) -> String {
    let mut parts = line.split("127.0.0.1:");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let port = if digits == 5 { "12345" } else { &part[..digits] };
        masked = masked + "127.0.0.1:" + port + &part[digits..];
    }
    masked
}

/// A number behind the name of a field that depends on the machine.
fn numbers(line: &str) -> String {
    let named = line.trim_start().trim_start_matches('"');
    let is_one = NUMBERS.iter().any(|name| named.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '"'])));
    let end = line.trim_end_matches(',');
    let digits = end.bytes().rev().take_while(u8::is_ascii_digit).count();
    if is_one && digits > 0 {
        format!("{}1{}", &end[..end.len() - digits], &line[end.len()..])
    } else {
        line.to_owned()
    }
}

#[test]
fn secrets_and_chance_are_replaced_and_nothing_else() {
    let id = "0199c0de-1111-7000-8000-00000000abcd";
    assert_eq!(mask(&format!("a {id} \"{id}\"")), mask(&format!("a {id} \"{id}\"").replace("abcd", "ef01")));
    assert_eq!(mask("key alter_rk_aB3-x_9z."), "key alter_rk_########.");
    assert_eq!(mask("2026-01-02 03:04:05 UTC (12 s ago)"), "2025-11-24 10:00:00 UTC (now)");
    assert_eq!(mask("operator@localhost  39 s ago  -"), "operator@localhost  40 s ago  -");
    assert_eq!(
        mask("created_at  2026-01-02 03:04:05 UTC (41\n  s ago)"),
        "created_at  2025-11-24 10:00:00 UTC (40\n  s ago)"
    );
    assert_eq!(mask("\"at\":\"2026-01-02T03:04:05.678Z\""), "\"at\":\"2025-11-24T10:00:00.000Z\"");
    assert_eq!(mask("http://127.0.0.1:40321/x"), "http://127.0.0.1:12345/x");
    assert_eq!(mask("  \"bytes\": 4096,\nbytes  12\nbytes_in  12"), "  \"bytes\": 1,\nbytes  1\nbytes_in  12");
    assert_eq!(mask(&format!("sha256  {}", "a0".repeat(32))), format!("sha256  {}", "#".repeat(64)));
    for kept in [
        "managed-secrets set-allowed-hosts",
        "predecessor_grace_until  -",
        "https://a.example/b?c=d",
        "(in 90 d)",
        "7 s ago",
        "x (23\n  h ago)",
    ] {
        assert_eq!(mask(kept), kept);
    }
}
