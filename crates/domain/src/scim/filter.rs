//! Filters (RFC 7644, 3.4.2.2): parsed against the table of attributes, and held against a document.
//!
//! Own code, since what exists parses without bounds, knows no attributes and is not the parser of a change's path, which is the
//! same grammar. Length, depth and the number of comparisons are bounded before anything is done with a filter.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::str::CharIndices;

use grantd_wire::TimeMs;
use serde_json::{Map, Value};

use super::path::{Named, Resource};
use super::schema::{Attribute, Kind};
use super::{FILTER_CHARS_MAX, FILTER_COMPARISONS_MAX, FILTER_DEPTH_MAX, Refused, Wrong};

/// How a value is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    Eq,
    Ne,
    Co,
    Sw,
    Ew,
    Gt,
    Ge,
    Lt,
    Le,
}

impl Operator {
    fn parse(text: &str) -> Option<Self> {
        const ALL: [(&str, Operator); 9] = [
            ("eq", Operator::Eq),
            ("ne", Operator::Ne),
            ("co", Operator::Co),
            ("sw", Operator::Sw),
            ("ew", Operator::Ew),
            ("gt", Operator::Gt),
            ("ge", Operator::Ge),
            ("lt", Operator::Lt),
            ("le", Operator::Le),
        ];
        ALL.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, operator)| operator)
    }
}

/// What is searched for.
#[derive(Clone, PartialEq, Debug)]
pub enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Present(Named),
    Compare(Named, Operator, Value),
    /// One value of the attribute has all of it: `emails[type eq "work" and value ew "@example.com"]`.
    Values(&'static Attribute, Box<Filter>),
}

impl Filter {
    /// Reads a filter for resources of this kind.
    pub fn parse(resource: Resource, text: &str) -> Result<Self, Refused> {
        let mut scanner = Scanner::new(text)?;
        let filter = scanner.any(Within::Resource(resource), 0)?;
        if scanner.is_at_end() { Ok(filter) } else { Err(scanner.unexpected()) }
    }

    /// Whether the document has what is searched for.
    pub fn holds(&self, document: &Map<String, Value>) -> bool {
        match self {
            Self::And(all) => all.iter().all(|filter| filter.holds(document)),
            Self::Or(any) => any.iter().any(|filter| filter.holds(document)),
            Self::Not(filter) => !filter.holds(document),
            Self::Present(named) => !values(document, *named).is_empty(),
            Self::Compare(named, operator, wanted) => {
                let found = values(document, *named);
                let leaf = leaf(*named);
                match operator {
                    // What is not there is unlike everything.
                    Operator::Ne => !found.iter().any(|value| compares(leaf, value, Operator::Eq, wanted)),
                    _ => found.iter().any(|value| compares(leaf, value, *operator, wanted)),
                }
            }
            Self::Values(attribute, filter) => {
                let found = document.get(attribute.name).and_then(Value::as_array);
                found.is_some_and(|found| found.iter().filter_map(Value::as_object).any(|value| filter.holds(value)))
            }
        }
    }

    /// What an attribute must be exactly for the filter to hold, if the filter says so: what an index is asked for.
    pub fn must_equal(&self, name: &str, part: Option<&str>) -> Option<&str> {
        let is_asked = |named: &Named| {
            // A complex attribute alone stands for its `value`.
            let own = named.part.map(|part| part.name);
            named.attribute.name == name && (own == part || (own.is_none() && part == Some("value")))
        };
        match self {
            Self::Compare(named, Operator::Eq, Value::String(text)) if is_asked(named) => Some(text),
            Self::And(all) => all.iter().find_map(|filter| filter.must_equal(name, part)),
            Self::Values(attribute, filter) if attribute.name == name => filter.must_equal(part?, None),
            _ => None,
        }
    }

    /// Every attribute that the filter looks at.
    pub fn names(&self) -> Vec<&'static str> {
        match self {
            Self::And(of) | Self::Or(of) => of.iter().flat_map(Self::names).collect(),
            Self::Not(filter) => filter.names(),
            Self::Present(named) | Self::Compare(named, ..) => vec![named.attribute.name],
            Self::Values(attribute, _) => vec![attribute.name],
        }
    }

    /// The comparisons `attribute eq text` that are all of the filter, joined by `and` or `or`: what an added value is made of,
    /// and what names members. `None`: it says something else, too.
    pub fn equalities(&self) -> Option<Vec<(&'static Attribute, &Value)>> {
        match self {
            Self::Compare(Named { attribute, part: None }, Operator::Eq, value) => Some(vec![(attribute, value)]),
            Self::And(of) | Self::Or(of) => {
                let each: Option<Vec<_>> = of.iter().map(Self::equalities).collect();
                each.map(|each| each.into_iter().flatten().collect())
            }
            _ => None,
        }
    }
}

/// The values that a name leads to.
fn values(document: &Map<String, Value>, named: Named) -> Vec<&Value> {
    let Some(found) = document.get(named.attribute.name) else { return Vec::new() };
    let each: Vec<&Value> = match found {
        Value::Array(values) => values.iter().collect(),
        one => vec![one],
    };
    match part_of(named) {
        None => each,
        Some(part) => each.into_iter().filter_map(|value| value.get(part.name)).collect(),
    }
}

/// A complex attribute that can have several values stands for the `value` of each.
fn part_of(named: Named) -> Option<&'static Attribute> {
    named
        .part
        .or_else(|| if named.attribute.is_multi { super::schema::find(named.attribute.parts(), "value") } else { None })
}

/// The attribute whose values are compared.
fn leaf(named: Named) -> &'static Attribute {
    part_of(named).unwrap_or(named.attribute)
}

fn compares(attribute: &Attribute, value: &Value, operator: Operator, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Bool(value), Value::Bool(wanted)) => operator == Operator::Eq && value == wanted,
        (Value::String(value), Value::String(wanted))
            if attribute.is_case_exact || attribute.kind == Kind::DateTime =>
        {
            compares_text(value, operator, wanted)
        }
        (Value::String(value), Value::String(wanted)) => {
            compares_text(&value.to_lowercase(), operator, &wanted.to_lowercase())
        }
        _ => false,
    }
}

fn compares_text(value: &str, operator: Operator, wanted: &str) -> bool {
    match operator {
        Operator::Eq => value == wanted,
        Operator::Ne => value != wanted,
        Operator::Co => value.contains(wanted),
        Operator::Sw => value.starts_with(wanted),
        Operator::Ew => value.ends_with(wanted),
        Operator::Gt => value.cmp(wanted) == Ordering::Greater,
        Operator::Ge => value.cmp(wanted) != Ordering::Less,
        Operator::Lt => value.cmp(wanted) == Ordering::Less,
        Operator::Le => value.cmp(wanted) != Ordering::Greater,
    }
}

/// Whose attributes the names in a filter are.
#[derive(Clone, Copy)]
enum Within {
    Resource(Resource),
    /// Within brackets: the sub-attributes.
    Values(&'static Attribute),
}

/// Reads filters and paths.
pub(super) struct Scanner<'t> {
    text: &'t str,
    at: Peekable<CharIndices<'t>>,
    comparisons: usize,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Result<Self, Refused> {
        if text.chars().count() > FILTER_CHARS_MAX {
            let detail = format!("The filter is longer than {FILTER_CHARS_MAX} characters. Ask for less at once.");
            return Err(Refused::new(Wrong::InvalidFilter, detail));
        }
        Ok(Self { text, at: text.char_indices().peekable(), comparisons: 0 })
    }

    /// A filter on one value of this attribute, up to its closing bracket.
    pub(super) fn values_filter(&mut self, attribute: &'static Attribute) -> Result<Filter, Refused> {
        let filter = self.any(Within::Values(attribute), 0)?;
        if self.take(']') { Ok(filter) } else { Err(self.unexpected()) }
    }

    pub(super) fn is_at_end(&mut self) -> bool {
        self.skip_blanks();
        self.at.peek().is_none()
    }

    /// The next character, if it is this one.
    pub(super) fn take(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        self.at.next_if(|(_, found)| *found == wanted).is_some()
    }

    /// The next name, with everything that names are made of.
    pub(super) fn name(&mut self) -> Option<&'t str> {
        self.skip_blanks();
        let start = self.position();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '$' | ':' | '.');
        while self.at.next_if(|(_, c)| is_part(*c)).is_some() {}
        let name = &self.text[start..self.position()];
        (!name.is_empty()).then_some(name)
    }

    fn position(&mut self) -> usize {
        self.at.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn skip_blanks(&mut self) {
        while self.at.next_if(|(_, c)| *c == ' ').is_some() {}
    }

    /// Says where it went wrong, and nothing of what is there: filters hold names of people.
    fn unexpected(&mut self) -> Refused {
        let at = self.position();
        let at = self.text[..at].chars().count() + 1;
        let detail = format!(
            "The filter cannot be read from character {at} on. A comparison is an attribute, one of eq ne co sw ew gt ge lt le \
             or pr, and a value in double quotes; comparisons are joined by and, or, not and brackets."
        );
        Refused::new(Wrong::InvalidFilter, detail)
    }

    fn any(&mut self, within: Within, depth: usize) -> Result<Filter, Refused> {
        if depth > FILTER_DEPTH_MAX {
            let detail = format!("The filter has more than {FILTER_DEPTH_MAX} brackets within each other. Use fewer.");
            return Err(Refused::new(Wrong::InvalidFilter, detail));
        }
        let mut any = vec![self.all(within, depth)?];
        while self.word("or") {
            any.push(self.all(within, depth)?);
        }
        Ok(single(any).unwrap_or_else(Filter::Or))
    }

    fn all(&mut self, within: Within, depth: usize) -> Result<Filter, Refused> {
        let mut all = vec![self.one(within, depth)?];
        while self.word("and") {
            all.push(self.one(within, depth)?);
        }
        Ok(single(all).unwrap_or_else(Filter::And))
    }

    fn one(&mut self, within: Within, depth: usize) -> Result<Filter, Refused> {
        if self.take('(') {
            return self.bracketed(within, depth);
        }
        let Some(name) = self.name() else { return Err(self.unexpected()) };
        if name.eq_ignore_ascii_case("not") && self.take('(') {
            return Ok(Filter::Not(Box::new(self.bracketed(within, depth)?)));
        }
        self.comparison(within, name, depth)
    }

    fn comparison(&mut self, within: Within, name: &str, depth: usize) -> Result<Filter, Refused> {
        self.comparisons += 1;
        if self.comparisons > FILTER_COMPARISONS_MAX {
            let detail =
                format!("The filter has more than {FILTER_COMPARISONS_MAX} comparisons. Ask for less at once.");
            return Err(Refused::new(Wrong::InvalidFilter, detail));
        }
        let named = match within {
            Within::Resource(resource) => resource.name(name),
            Within::Values(attribute) => {
                super::schema::find(attribute.parts(), name).map(|attribute| Named { attribute, part: None })
            }
        };
        let named = named.ok_or_else(|| {
            Refused::new(
                Wrong::InvalidFilter,
                "The filter names an attribute that grantd does not keep. /Schemas lists them.",
            )
        })?;
        if let (Within::Resource(_), true, None) = (within, named.attribute.is_multi, named.part)
            && self.take('[')
        {
            let values = Within::Values(named.attribute);
            let mut filter = self.any(values, depth + 1)?;
            if !self.take(']') {
                return Err(self.unexpected());
            }
            // Not in the RFC, where this is a path, but how Entra ID asks: `emails[type eq "work"].value eq "ann@example.com"`.
            if self.take('.') {
                let Some(part) = self.name() else { return Err(self.unexpected()) };
                filter = Filter::And(vec![filter, self.comparison(values, part, depth + 1)?]);
            }
            return Ok(Filter::Values(named.attribute, Box::new(filter)));
        }
        let Some(operator) = self.name() else { return Err(self.unexpected()) };
        if operator.eq_ignore_ascii_case("pr") {
            return Ok(Filter::Present(named));
        }
        let Some(operator) = Operator::parse(operator) else { return Err(self.unexpected()) };
        let value = self.value()?;
        fits(named, operator, value)
    }

    fn bracketed(&mut self, within: Within, depth: usize) -> Result<Filter, Refused> {
        let filter = self.any(within, depth + 1)?;
        if self.take(')') { Ok(filter) } else { Err(self.unexpected()) }
    }

    /// Whether this word comes next, as a word.
    fn word(&mut self, wanted: &str) -> bool {
        let before = self.at.clone();
        if self.name().is_some_and(|name| name.eq_ignore_ascii_case(wanted)) {
            return true;
        }
        self.at = before;
        false
    }

    /// A JSON value: a text, `true`, `false`, `null` or a number.
    fn value(&mut self) -> Result<Value, Refused> {
        self.skip_blanks();
        let start = self.position();
        if self.take('"') {
            let mut is_escaped = false;
            for (_, c) in self.at.by_ref() {
                match c {
                    '"' if !is_escaped => break,
                    '\\' => is_escaped = !is_escaped,
                    _ => is_escaped = false,
                }
            }
        } else {
            self.name();
        }
        let end = self.position();
        serde_json::from_str(&self.text[start..end]).map_err(|_| self.unexpected())
    }
}

/// The only one, or all of them.
fn single(mut filters: Vec<Filter>) -> Result<Filter, Vec<Filter>> {
    match filters.len() {
        1 => filters.pop().ok_or(filters),
        _ => Err(filters),
    }
}

/// The comparison, if the attribute can be compared so.
fn fits(named: Named, operator: Operator, value: Value) -> Result<Filter, Refused> {
    let leaf = leaf(named);
    let refuse =
        |why: &str| Err(Refused::new(Wrong::InvalidFilter, format!("The filter compares `{}` with {why}.", leaf.name)));
    let is_equality = matches!(operator, Operator::Eq | Operator::Ne);
    match (leaf.kind, &value) {
        // `ne null` is another way to say that it is there, `eq null` that it is not.
        (_, Value::Null) if operator == Operator::Ne => Ok(Filter::Present(named)),
        (_, Value::Null) if operator == Operator::Eq => Ok(Filter::Not(Box::new(Filter::Present(named)))),
        (Kind::Complex(_), _) => refuse("a value, but it has parts: name one of them"),
        (Kind::Boolean, Value::Bool(_)) if is_equality => Ok(Filter::Compare(named, operator, value)),
        // As in documents: Entra ID writes `active eq "True"`.
        (Kind::Boolean, Value::String(text))
            if is_equality && (text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")) =>
        {
            Ok(Filter::Compare(named, operator, Value::Bool(text.eq_ignore_ascii_case("true"))))
        }
        (Kind::Boolean, _) => refuse("something else than eq or ne and true or false"),
        (Kind::DateTime, Value::String(text)) => match TimeMs::parse(text) {
            // In the form of documents, which are compared as text.
            Some(at) => Ok(Filter::Compare(named, operator, Value::String(at.to_string()))),
            None => refuse("something that is not a time, as 2026-01-31T12:00:00Z"),
        },
        (_, Value::String(_)) => Ok(Filter::Compare(named, operator, value)),
        _ => refuse("something that is not text"),
    }
}
