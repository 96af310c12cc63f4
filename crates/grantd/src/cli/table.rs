//! Text for people: tables, times, and values that cannot deceive a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Row, Table, presets};
use console::{Style, measure_text_width};
use grantd_wire::TimeMs;

use super::node::Node;

/// Narrower than this, identifiers are wrapped like everything else.
const ID_COLUMN_MIN_WIDTH: u16 = 60;
/// Blanks between columns.
const GAP: u16 = 2;

/// How a table is drawn.
#[derive(Clone, Copy)]
pub struct Look {
    /// `None`: as wide as it wants.
    pub width: Option<u16>,
    pub color: bool,
    pub now: TimeMs,
}

/// A column of a list.
#[derive(Clone)]
pub struct Column {
    title: Cow<'static, str>,
    path: Cow<'static, str>,
    /// Left out when the terminal is too narrow.
    minor: bool,
}

/// A column titled `title` of the field at `path`.
pub const fn column(title: &'static str, path: &'static str) -> Column {
    Column { title: Cow::Borrowed(title), path: Cow::Borrowed(path), minor: false }
}

/// A column that is left out when the terminal is too narrow.
pub const fn minor(title: &'static str, path: &'static str) -> Column {
    Column { title: Cow::Borrowed(title), path: Cow::Borrowed(path), minor: true }
}

/// The column of a field that was asked for by name.
pub fn asked(field: &str) -> Column {
    Column { title: field.to_uppercase().into(), path: field.to_owned().into(), minor: false }
}

/// Flags that are warnings wherever they are shown, and what they mean.
pub const WARNINGS: &[(&str, &str)] = &[
    ("allow_any_host", "the credential may be sent to any host"),
    ("allow_unsigned_identity", "caller and context of this key's calls may be unsigned"),
];

/// Whether a terminal would obey `c`, or show the text around it in another order, or not show it at all.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` with control characters and bidirectional marks as `\u{…}`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_deceptive(c) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// A list, one row per item; where the columns do not fit, one block of lines per item. A column of warnings is there only
/// when there is one.
pub fn list(items: &[Node], columns: &[Column], look: Look) -> String {
    let is_quiet = |column: &Column| {
        column.minor && WARNINGS.iter().any(|(name, _)| *name == column.path) && {
            !items.iter().any(|item| item.at(&column.path).is_some_and(Node::is_true))
        }
    };
    let columns: Vec<&Column> = columns.iter().filter(|column| !is_quiet(column)).collect();
    let mut table = empty_table(look);
    table.set_header(columns.iter().map(|column| bold(&escape(&column.title), look)));
    for item in items {
        let cells = columns.iter().map(|column| cell(&column.path, item.at(&column.path), look));
        table.add_row(Row::from(cells.collect::<Vec<Cell>>()));
    }
    if hide_minor(&mut table, &columns, look) {
        return finish(table, columns.iter().map(|column| &*column.path), look);
    }
    let blocks: Vec<String> = items.iter().map(|item| block(item, &columns, look)).collect();
    blocks.join("\n")
}

/// One item, one field per column that says something.
fn block(item: &Node, columns: &[&Column], look: Look) -> String {
    let said = columns.iter().filter_map(|column| {
        let node = item.at(&column.path).filter(|node| **node != Node::Null);
        (node.is_some() || !column.minor).then_some((&*column.path, node.unwrap_or(&Node::Null)))
    });
    fields(&said.collect::<Vec<_>>(), look)
}

/// Leaves out minor columns, the last ones first, until the rest fits; says whether it does. A warning stays.
fn hide_minor(table: &mut Table, columns: &[&Column], look: Look) -> bool {
    let Some(width) = look.width else { return true };
    let widths = table.column_max_content_widths();
    let mut total: usize = widths.iter().map(|w| usize::from(*w) + usize::from(GAP)).sum();
    // Nothing follows the last column.
    total = total.saturating_sub(usize::from(GAP));
    for (index, column) in columns.iter().enumerate().rev() {
        let is_warning = WARNINGS.iter().any(|(name, _)| *name == column.path);
        if total > usize::from(width) && column.minor && !is_warning {
            total -= usize::from(widths[index]) + usize::from(GAP);
            table.column_mut(index).expect("it has a header").set_constraint(ColumnConstraint::Hidden);
        }
    }
    total <= usize::from(width)
}

/// One object, one row per field.
pub fn object(node: &Node, look: Look) -> String {
    let Node::Object(all) = node else { return text_of(node) + "\n" };
    fields(&all.iter().map(|(name, node)| (&**name, node)).collect::<Vec<_>>(), look)
}

/// Names and, beside them, values. Lines end between words: what would have to be broken, such as an id on a narrow terminal, stands
/// whole on a line below its name, so that it can be copied.
fn fields(all: &[(&str, &Node)], look: Look) -> String {
    let styled = |style: Style, text: &str| style.force_styling(look.color).apply_to(text).to_string();
    let labels: Vec<String> = all.iter().map(|(name, _)| escape(name)).collect();
    let beside = labels.iter().map(|label| measure_text_width(label)).max().unwrap_or(0) + usize::from(GAP);
    let room = look.width.map_or(usize::MAX, usize::from);
    let mut out = String::new();
    for ((name, node), label) in all.iter().zip(&labels) {
        let value = text_at(name, node, look, Detail::Full);
        let longest = value.split(' ').map(measure_text_width).max().unwrap_or(0);
        let fits = beside + longest <= room;
        let indent = if fits { beside } else { usize::from(GAP) };
        out.push_str(&styled(Style::new().bold(), label));
        if fits {
            out.push_str(&" ".repeat(beside - measure_text_width(label)));
        } else {
            out.push('\n');
        }
        let style = if warning_of(name, node).is_some() { Style::new().yellow().bold() } else { Style::new() };
        for (index, line) in wrapped(&value, room.saturating_sub(indent)).iter().enumerate() {
            if index > 0 || !fits {
                out.push_str(&" ".repeat(indent));
            }
            out.push_str(&styled(style.clone(), line));
            out.push('\n');
        }
    }
    out
}

/// Lines of at most `room` columns, if the words allow it; there is always one.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for (index, word) in text.split(' ').enumerate() {
        let line = lines.last_mut().expect("there is one");
        if index > 0 && measure_text_width(line) + 1 + measure_text_width(word) > room {
            lines.push(word.to_owned());
        } else {
            if index > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn empty_table(look: Look) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if look.color {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    match look.width {
        // The blanks behind the last column are cut off.
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.saturating_add(GAP)),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table
}

fn finish<'a>(mut table: Table, paths: impl Iterator<Item = &'a str>, look: Look) -> String {
    let wide = look.width.is_none_or(|width| width >= ID_COLUMN_MIN_WIDTH);
    let constraints: Vec<bool> = paths.map(|path| wide && path.ends_with("id")).collect();
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, GAP));
        if constraints.get(index) == Some(&true) && !column.is_hidden() {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt() + "\n"
}

fn bold(text: &str, look: Look) -> Cell {
    let cell = Cell::new(text);
    if look.color { cell.add_attribute(Attribute::Bold) } else { cell }
}

#[derive(Clone, Copy)]
enum Detail {
    Short,
    Full,
}

fn cell(path: &str, node: Option<&Node>, look: Look) -> Cell {
    let node = node.unwrap_or(&Node::Null);
    let cell = Cell::new(text_at(path, node, look, Detail::Short));
    match warning_of(path, node) {
        Some(_) if look.color => cell.fg(Color::Yellow).add_attribute(Attribute::Bold),
        _ => cell,
    }
}

/// What it means that the flag at `path` is on, if that is a warning.
fn warning_of(path: &str, node: &Node) -> Option<&'static str> {
    WARNINGS.iter().find(|(name, _)| *name == path && node.is_true()).map(|(_, what)| *what)
}

/// What people read for the value at `path`.
fn text_at(path: &str, node: &Node, look: Look, detail: Detail) -> String {
    let moment = match node {
        Node::Text(text) if path == "at" || path.ends_with("_at") => TimeMs::parse(text),
        _ => None,
    };
    match (warning_of(path, node), moment, detail) {
        (Some(what), _, Detail::Full) => format!("yes: WARNING, {what}"),
        (Some(_), _, Detail::Short) => "WARNING".to_owned(),
        (None, Some(at), Detail::Short) => relative(at, look.now),
        (None, Some(at), Detail::Full) => format!("{} ({})", absolute(at), relative(at, look.now)),
        (None, None, _) => text_of(node),
    }
}

fn text_of(node: &Node) -> String {
    match node {
        Node::Null => "-".to_owned(),
        Node::Bool(true) => "yes".to_owned(),
        Node::Bool(false) => "no".to_owned(),
        Node::Number(n) => n.to_string(),
        Node::Text(text) => escape(text),
        Node::List(items) if items.is_empty() => "-".to_owned(),
        Node::List(items) => items.iter().map(text_of).collect::<Vec<_>>().join(", "),
        Node::Object(_) => escape(&node.json()),
    }
}

/// `2026-11-24 10:00:00 UTC`.
fn absolute(at: TimeMs) -> String {
    let text = at.to_string();
    match text.split_once('T') {
        Some((date, time)) => format!("{date} {} UTC", time.get(..8).unwrap_or(time)),
        None => text,
    }
}

/// `3 min ago`, `in 90 d`; beyond a hundred days, the date.
pub fn relative(at: TimeMs, now: TimeMs) -> String {
    let ms = now.since(at);
    let seconds = ms.unsigned_abs() / 1000;
    let span = match seconds {
        0..10 => return "now".to_owned(),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        86_400..8_640_000 => format!("{} d", seconds / 86_400),
        _ => return at.to_string().chars().take(10).collect(),
    };
    if ms > 0 { format!("{span} ago") } else { format!("in {span}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look { width: None, color: false, now: TimeMs(1_700_000_000_000) };

    fn node(json: &str) -> Node {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn control_characters_and_bidirectional_marks_are_shown_not_obeyed() {
        assert_eq!(escape("a\u{1b}[31mb\tc\r\n"), r"a\u{1b}[31mb\u{9}c\u{d}\u{a}");
        assert_eq!(escape("\u{202e}cod.exe\u{2066}\u{200f}\u{9b}"), r"\u{202e}cod.exe\u{2066}\u{200f}\u{9b}");
        assert_eq!(escape("Grüße 東京 🦀"), "Grüße 東京 🦀");
        let items = [node(r#"{"id":"1","name":"x\u001b]0;owned\u0007\ny"}"#)];
        let text = list(&items, &[column("ID", "id"), column("NAME", "name")], LOOK);
        assert_eq!(text, "ID  NAME\n1   x\\u{1b}]0;owned\\u{7}\\u{a}y\n");
        let text = object(&items[0], LOOK);
        assert!(!text.contains('\u{1b}') && text.lines().count() == 2, "{text}");
    }

    #[test]
    fn field_names_and_nested_values_are_escaped_too() {
        let text = object(&node(r#"{"a\u001b":{"b":"\u202e"},"list":["\u0007"]}"#), LOOK);
        assert!(text.chars().all(|c| c == '\n' || !is_deceptive(c)), "{text:?}");
    }

    #[test]
    fn a_table_fits_its_terminal() {
        let long = "word ".repeat(60);
        let items = [node(&format!(r#"{{"id":"0199c0de-0000-7000-8000-00000000beef","name":"{long}"}}"#))];
        let columns = [column("ID", "id"), column("NAME", "name")];
        for width in [30, 40, 80, 120] {
            let text = list(&items, &columns, Look { width: Some(width), ..LOOK });
            let id = "0199c0de-0000-7000-8000-00000000beef";
            let fits = |line: &str| line.chars().count() <= usize::from(width) || line.trim() == id;
            assert!(text.lines().all(fits), "{width}:\n{text}");
            assert!(text.contains(id), "ids can be copied:\n{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_warnings_stay() {
        let columns =
            [column("ID", "id"), minor("NOTE", "note"), minor("MORE", "more"), minor("ANY HOST", "allow_any_host")];
        let mut item = r#"{"id":"one","note":"twelve chars","more":"twelve chars","allow_any_host":false}"#.to_owned();
        let header = |item: &str, width| {
            let text = list(&[node(item)], &columns, Look { width: Some(width), ..LOOK });
            text.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(header(&item, 80), "ID NOTE MORE");
        assert_eq!(header(&item, 30), "ID NOTE");
        item = item.replace("false", "true");
        assert_eq!(header(&item, 18), "ID ANY HOST");
        assert_eq!(header(&item, 80), "ID NOTE MORE ANY HOST");
    }

    #[test]
    fn columns_that_do_not_fit_become_blocks_and_no_word_is_broken() {
        let columns =
            [column("TIME", "at"), column("OUTCOME", "outcome"), minor("CODE", "code"), column("EVENT", "id")];
        let item = |id: &str| {
            node(&format!(r#"{{"at":"2023-11-14T22:13:20.000Z","outcome":"allowed","id":"{id}-8000-00000000beef"}}"#))
        };
        let items = [item("0199c0de-0000-7000"), item("0199c0de-0000-7001")];
        let text = list(&items, &columns, Look { width: Some(50), ..LOOK });
        let block = |id: &str| {
            format!("at       2023-11-14 22:13:20 UTC (now)\noutcome  allowed\nid       {id}-8000-00000000beef\n")
        };
        assert_eq!(text, [block("0199c0de-0000-7000"), block("0199c0de-0000-7001")].join("\n"));
        let wide = list(&items, &columns, Look { width: Some(60), ..LOOK });
        assert!(wide.starts_with("TIME  OUTCOME  CODE  EVENT\n"), "{wide}");
    }

    #[test]
    fn warnings_are_loud_and_color_is_only_where_it_is_wanted() {
        let secret = node(r#"{"slug":"s","allow_any_host":true,"allow_unsigned_identity":false}"#);
        let text = object(&secret, LOOK);
        assert!(text.contains("WARNING, the credential may be sent to any host") && !text.contains('\u{1b}'), "{text}");
        assert_eq!(text.matches("WARNING").count(), 1);
        assert!(object(&secret, Look { color: true, ..LOOK }).contains('\u{1b}'));
    }

    #[test]
    fn times_are_for_people() {
        let now = TimeMs(1_700_000_000_000);
        for (seconds, text) in [
            (-5, "now"),
            (-59, "59 s ago"),
            (-61, "1 min ago"),
            (-7_200, "2 h ago"),
            (90 * 86_400, "in 90 d"),
            (-200 * 86_400, "2023-04-28"),
        ] {
            assert_eq!(relative(now.plus_seconds(seconds), now), text);
        }
        let text = object(&node(r#"{"created_at":"2023-11-14T22:13:20.000Z","expires_at":null}"#), LOOK);
        assert_eq!(text, "created_at  2023-11-14 22:13:20 UTC (now)\nexpires_at  -\n");
    }
}
