//! The sentences of the pages: a key each, in one file for each language.
//!
//! A sentence is plain text with `{name}` where a value goes. Values are escaped and stand isolated in `<bdi>`, so that a name in
//! another direction does not turn the sentence around.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use grantd_wire::TimeMs;
use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, HtmlEscape, Value};

use super::lang::Lang;

/// Of each language, in the order of [`Lang::ALL`].
static TEXTS: LazyLock<[Texts; Lang::ALL.len()]> = LazyLock::new(|| {
    Lang::ALL.map(|lang| match lang {
        Lang::En => Texts::parse(&[include_str!("../../lang/en.toml"), include_str!("../../lang/portal.en.toml")]),
        Lang::De => Texts::parse(&[include_str!("../../lang/de.toml"), include_str!("../../lang/portal.de.toml")]),
    })
});

/// A sentence, cut where values go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Slot(String),
}

/// The sentences of one language.
pub(super) struct Texts {
    pub(super) sentences: BTreeMap<String, Vec<Part>>,
}

impl Texts {
    /// The sentences of a language.
    pub(super) fn of(lang: Lang) -> &'static Self {
        let at = Lang::ALL.into_iter().position(|known| known == lang);
        &TEXTS[at.unwrap_or_default()]
    }

    /// Reads the files of a language. Ours are part of the program, so what is wrong with one is a bug.
    fn parse(files: &[&str]) -> Self {
        let mut sentences = BTreeMap::new();
        for file in files {
            flatten(&mut sentences, "", file.parse().expect("language files are TOML"));
        }
        Self { sentences }
    }

    /// The sentence with its values, as HTML.
    pub(super) fn html(&self, key: &str, values: &Kwargs) -> Result<Value, Error> {
        let fill = |out: &mut String, value: Value| {
            // What is HTML already is of ours: a time.
            let _ = match value.is_safe() {
                true => write!(out, "{value}"),
                false => write!(out, "<bdi>{}</bdi>", HtmlEscape(&value.to_string())),
            };
        };
        let html = self.fill(key, values, |out, text| write!(out, "{}", HtmlEscape(text)).unwrap_or_default(), fill)?;
        Ok(Value::from_safe_string(html))
    }

    /// The sentence with its values, as text: for titles and attributes, where there are no elements.
    pub(super) fn plain(&self, key: &str, values: &Kwargs) -> Result<String, Error> {
        self.fill(key, values, String::push_str, |out, value| out.push_str(&value.to_string()))
    }

    fn fill(
        &self,
        key: &str,
        values: &Kwargs,
        text: impl Fn(&mut String, &str),
        slot: impl Fn(&mut String, Value),
    ) -> Result<String, Error> {
        let parts = self
            .sentences
            .get(key)
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("there is no sentence {key}")))?;
        let mut out = String::new();
        for part in parts {
            match part {
                Part::Text(part) => text(&mut out, part),
                Part::Slot(name) => slot(&mut out, known(key, name, values)?),
            }
        }
        Ok(out)
    }

    /// The sentence of a key for this many, which it may name as `{count}`.
    pub(super) fn counted(&self, key: &str, count: i64, values: &Kwargs) -> Result<Value, Error> {
        // Every language so far has these two; one with more gets them here.
        let form = if count == 1 { "one" } else { "other" };
        let mut all: Vec<(&str, Value)> = vec![("count", Value::from(self.number(count)?))];
        for name in values.args() {
            all.push((name, values.get(name)?));
        }
        self.html(&format!("{key}.{form}"), &Kwargs::from_iter(all))
    }

    /// A number as people write it in the language: `10,248`.
    pub(super) fn number(&self, number: i64) -> Result<String, Error> {
        let group = self.mark("number.group")?;
        let digits = number.unsigned_abs().to_string();
        let mut shown = if number < 0 { "-".to_owned() } else { String::new() };
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                shown.push_str(&group);
            }
            shown.push(digit);
        }
        Ok(shown)
    }

    /// Microseconds as people read them: `0.4 ms`, `12 ms`, `1.2 s`.
    pub(super) fn milliseconds(&self, us: i64) -> Result<String, Error> {
        match us {
            ..10_000 => Ok(format!("{} ms", self.tenths((us + 50) / 100)?)),
            10_000..1_000_000 => Ok(format!("{} ms", self.number((us + 500) / 1_000)?)),
            _ => Ok(format!("{} s", self.tenths((us + 50_000) / 100_000)?)),
        }
    }

    /// How much of the whole that is: `1.9%`; `–` of nothing.
    pub(super) fn share(&self, part: i64, whole: i64) -> Result<String, Error> {
        if whole == 0 {
            return Ok("–".to_owned());
        }
        let (thousandths, point) = ((part * 1000 + whole / 2) / whole, self.mark("number.point")?);
        let shown = match thousandths {
            0 if part > 0 => format!("< 0{point}1"),
            0 => "0".to_owned(),
            _ => format!("{}{point}{}", thousandths / 10, thousandths % 10),
        };
        self.plain("number.percent", &Kwargs::from_iter([("number", Value::from(shown))]))
    }

    /// Tenths as a number with one digit behind its point, if there is one.
    fn tenths(&self, tenths: i64) -> Result<String, Error> {
        let whole = self.number(tenths / 10)?;
        if tenths % 10 == 0 { Ok(whole) } else { Ok(format!("{whole}{}{}", self.mark("number.point")?, tenths % 10)) }
    }

    /// A sentence without values.
    fn mark(&self, key: &str) -> Result<String, Error> {
        self.plain(key, &Kwargs::from_iter(Vec::<(&str, Value)>::new()))
    }

    /// How long ago a moment was; one that is more than a month old, or still to come, is written out.
    pub(super) fn ago(&self, at: &str, now: &str) -> Result<Value, Error> {
        let unreadable = || Error::new(ErrorKind::InvalidOperation, format!("{at} is no moment"));
        let moment = TimeMs::parse(at).ok_or_else(unreadable)?;
        let minutes = TimeMs::parse(now).ok_or_else(unreadable)?.since(moment).div_euclid(60_000);
        let none = Kwargs::from_iter(Vec::<(&str, Value)>::new());
        let text = match minutes {
            0 => self.html("portal.now", &none)?,
            1..60 => self.counted("portal.minutes_ago", minutes, &none)?,
            60..1_440 => self.counted("portal.hours_ago", minutes / 60, &none)?,
            1_440..43_200 => self.counted("portal.days_ago", minutes / 1_440, &none)?,
            _ => return self.time(at),
        };
        let at = HtmlEscape(at);
        Ok(Value::from_safe_string(format!("<time datetime=\"{at}\" title=\"{at}\">{text}</time>")))
    }

    /// The day of a moment, in UTC, for the axis of a chart.
    pub(super) fn day(&self, at: &str) -> Result<Value, Error> {
        let ((_, month, day), _) = parts_of(at)?;
        let month = self.mark(&format!("portal.month_short.{month}"))?;
        let values = [("day", Value::from(day)), ("month", Value::from(month))];
        self.plain("portal.day_short", &Kwargs::from_iter(values)).map(Value::from)
    }

    /// A moment as people write it, in UTC. The script of pages for end users puts it into their own zone; operators compare it with
    /// logs, and with what others see, so theirs stays in UTC and says so.
    pub(super) fn time(&self, at: &str) -> Result<Value, Error> {
        let ((year, month, day), time) = parts_of(at)?;
        let month = self.mark(&format!("month.{month}"))?;
        let values = [
            ("day", Value::from(day)),
            ("month", Value::from(month)),
            ("year", Value::from(year)),
            ("time", Value::from(time)),
        ];
        let text = self.plain("time.utc", &Kwargs::from_iter(values))?;
        let html = format!("<time datetime=\"{}\" data-local>{}</time>", HtmlEscape(at), HtmlEscape(&text));
        Ok(Value::from_safe_string(html))
    }
}

/// Year, month and day, and hour and minute of a moment.
fn parts_of(at: &str) -> Result<((String, String, String), String), Error> {
    let unreadable = || Error::new(ErrorKind::InvalidOperation, format!("{at} is no moment"));
    let moment = TimeMs::parse(at).ok_or_else(unreadable)?.to_string();
    let (date, time) = moment.split_once('T').ok_or_else(unreadable)?;
    let mut date = date.split('-').map(str::to_owned);
    let (Some(year), Some(month), Some(day)) = (date.next(), date.next(), date.next()) else {
        return Err(unreadable());
    };
    let day = day.trim_start_matches('0').to_owned();
    Ok(((year, month, day), time.get(..5).ok_or_else(unreadable)?.to_owned()))
}

/// The hour of a moment, in UTC, for the axis of a chart.
pub(super) fn hour(at: &str) -> Result<String, Error> {
    parts_of(at).map(|(_, time)| time)
}

/// The value of a slot. Values that a sentence has no slot for are fine: its siblings may.
fn known(key: &str, name: &str, values: &Kwargs) -> Result<Value, Error> {
    let value: Value = values.get(name)?;
    match value.is_undefined() || value.is_none() {
        true => Err(Error::new(ErrorKind::UndefinedError, format!("{key} has no value for {name}"))),
        false => Ok(value),
    }
}

fn flatten(sentences: &mut BTreeMap<String, Vec<Part>>, prefix: &str, table: toml::Table) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(table) => flatten(sentences, &key, table),
            toml::Value::String(text) => drop(sentences.insert(key, cut(&text))),
            other => panic!("the sentence {key} is no text: {other}"),
        }
    }
}

/// Cuts a sentence where values go.
fn cut(sentence: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = sentence;
    while let Some((text, from_slot)) = rest.split_once('{') {
        let (name, after) = from_slot.split_once('}').expect("a slot of a sentence ends");
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        parts.push(Part::Slot(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    parts
}
