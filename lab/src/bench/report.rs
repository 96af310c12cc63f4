//! What a run found: figures, ratios, and which targets they meet.

use std::fmt::Write as _;

use serde::Serialize;

use crate::load::Figures;
use crate::machine::Machine;

/// The smallest, the middle and the largest of several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Middle; of an even number, the lower of the two.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self { min, median: values[(values.len() - 1) / 2], max })
    }
}

/// One round of a case.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// What the client saw.
    pub figures: Figures,
    /// Processor time of the server's process a request.
    pub server_cpu_us: f64,
}

/// All rounds of a case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// Short and stable.
    pub id: &'static str,
    /// What it is.
    pub title: String,
    /// One a round.
    pub samples: Vec<Sample>,
    /// Why it does not count.
    pub void: Option<String>,
}

impl CaseResult {
    /// A figure's spread over the rounds, unless the case is void.
    pub fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        if self.void.is_some() { None } else { Spread::of(self.samples.iter().map(figure)) }
    }
}

/// What is promised of a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "than")]
pub enum Target {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Nothing: it is only told.
    Told,
}

impl Target {
    fn met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(bound) => Some(value >= bound),
            Self::AtMost(bound) => Some(value <= bound),
            Self::Told => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
            Self::Told => "-".to_owned(),
        }
    }
}

/// A value beside its target.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The target's number, or `-`.
    pub id: &'static str,
    /// What it says.
    pub what: String,
    /// Without a value it was not measured.
    pub value: Option<Spread>,
    /// `B`, `MB`, `ms`, or nothing for a ratio.
    pub unit: &'static str,
    /// What is promised.
    pub target: Target,
    /// Whether the promise is kept.
    pub met: Option<bool>,
}

impl Verdict {
    /// Of a value with a spread.
    pub fn new(
        id: &'static str,
        what: impl Into<String>,
        value: Option<Spread>,
        unit: &'static str,
        target: Target,
    ) -> Self {
        let met = value.and_then(|value| target.met(value.median));
        Self { id, what: what.into(), value, unit, target, met }
    }

    /// Of one number.
    pub fn single(
        id: &'static str,
        what: impl Into<String>,
        value: Option<f64>,
        unit: &'static str,
        target: Target,
    ) -> Self {
        Self::new(id, what, value.and_then(|value| Spread::of([value])), unit, target)
    }

    fn said(&self) -> &'static str {
        match (self.value, self.met) {
            (None, _) => "not measured",
            (_, None) => "-",
            (_, Some(true)) => "met",
            (_, Some(false)) => "MISSED",
        }
    }
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `standard`, `storm`, `scale` or `soak`.
    pub kind: &'static str,
    /// When it began.
    pub date: String,
    /// Where.
    pub machine: Machine,
    /// One durable page on this disk.
    pub fdatasync_us: Option<Spread>,
    /// How it was run.
    pub method: String,
    /// Every case.
    pub cases: Vec<CaseResult>,
    /// Every ratio and size.
    pub verdicts: Vec<Verdict>,
    /// What else a reader must know.
    pub notes: Vec<String>,
}

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For docs/benchmarks.md.
    Markdown,
    /// For programs.
    Json,
}

impl Report {
    /// The case of this id.
    pub fn case(&self, id: &str) -> Option<&CaseResult> {
        self.cases.iter().find(|case| case.id == id)
    }

    /// Whether every case counts.
    pub fn is_valid(&self) -> bool {
        self.cases.iter().all(|case| case.void.is_none())
    }

    /// The ratio of a figure of two cases, round by round.
    pub fn ratio(&self, over: &str, under: &str, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let (over, under) = (self.case(over)?, self.case(under)?);
        if over.void.is_some() || under.void.is_some() {
            return None;
        }
        Spread::of(over.samples.iter().zip(&under.samples).map(|(over, under)| figure(over) / figure(under)))
    }

    /// Puts the targets into the order of their numbers; what has none comes last.
    pub fn sort(&mut self) {
        self.verdicts.sort_by_key(|verdict| verdict.id.trim_start_matches('G').parse().unwrap_or(u32::MAX));
    }

    /// As text.
    pub fn print(&self, output: Output) -> String {
        match output {
            Output::Json => serde_json::to_string_pretty(self).expect("a report has a JSON form"),
            Output::Markdown => self.markdown(),
            Output::Table => self.table(),
        }
    }

    fn head(&self) -> Vec<String> {
        let Machine { processor, cores, memory_mib, kernel, .. } = &self.machine;
        let mut lines = vec![
            format!("{}, {cores} cores of {processor}, {memory_mib} MiB, {kernel}", self.date),
            self.method.clone(),
        ];
        if let Some(Spread { min, median, max }) = self.fdatasync_us {
            let rate = 1e6 / median;
            lines.push(format!(
                "fdatasync of one 4 KiB page: {median:.0} us (rounds {min:.0} to {max:.0}), {rate:.0} a second"
            ));
        }
        lines
    }

    fn rows(&self) -> (Vec<[String; 6]>, Vec<[String; 5]>) {
        let case = |case: &CaseResult| {
            let range = |spread: Option<Spread>| match (&case.void, spread) {
                (Some(why), _) => why.clone(),
                (None, None) => "not measured".to_owned(),
                (None, Some(Spread { min, median, max })) => format!("{median:.0} ({min:.0} to {max:.0})"),
            };
            let median =
                |spread: Option<Spread>| spread.map_or_else(String::new, |spread| format!("{:.0}", spread.median));
            [
                case.title.clone(),
                range(case.spread(|sample| sample.figures.per_second)),
                median(case.spread(|sample| sample.figures.p50_us)),
                median(case.spread(|sample| sample.figures.p99_us)),
                median(case.spread(|sample| sample.figures.p999_us)),
                // A server whose work is done by other processes than its first says nothing.
                case.spread(|sample| sample.server_cpu_us)
                    .filter(|cpu| cpu.median > 0.0)
                    .map_or_else(|| "-".to_owned(), |cpu| format!("{:.1}", cpu.median)),
            ]
        };
        let verdict = |verdict: &Verdict| {
            let unit = if verdict.unit.is_empty() { String::new() } else { format!(" {}", verdict.unit) };
            let digits = |value: f64| match value.abs() {
                large if large >= 100.0 => format!("{value:.0}"),
                middle if middle >= 10.0 => format!("{value:.1}"),
                _ => format!("{value:.2}"),
            };
            let value = verdict.value.map_or_else(String::new, |Spread { min, median, max }| {
                let range = if min < max { format!(" ({} to {})", digits(min), digits(max)) } else { String::new() };
                format!("{}{unit}{range}", digits(median))
            });
            let target = verdict.target.text();
            let target = if target == "-" { target } else { format!("{target}{unit}") };
            [verdict.id.to_owned(), verdict.what.clone(), value, target, verdict.said().to_owned()]
        };
        (self.cases.iter().map(case).collect(), self.verdicts.iter().map(verdict).collect())
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        for line in self.head() {
            let _ = writeln!(text, "{line}  ");
        }
        let (cases, verdicts) = self.rows();
        if !cases.is_empty() {
            let _ =
                writeln!(text, "\n| case | requests/s, median (range) | p50 us | p99 us | p99.9 us | server CPU us |");
            let _ = writeln!(text, "| --- | --- | --- | --- | --- | --- |");
            for row in &cases {
                let _ = writeln!(text, "| {} |", row.join(" | "));
            }
        }
        let _ = writeln!(text, "\n| # | what | value, median (range) | target | |");
        let _ = writeln!(text, "| --- | --- | --- | --- | --- |");
        for row in &verdicts {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        if !self.notes.is_empty() {
            let _ = writeln!(text);
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    fn table(&self) -> String {
        let mut text = self.head().join("\n");
        let (cases, verdicts) = self.rows();
        let titles = ["case", "requests/s, median (range)", "p50 us", "p99 us", "p99.9 us", "server CPU us"];
        if !cases.is_empty() {
            text.push_str("\n\n");
            columns(&mut text, &titles.map(str::to_owned), &cases);
        }
        text.push('\n');
        let titles = ["#", "what", "value, median (range)", "target", ""];
        columns(&mut text, &titles.map(str::to_owned), &verdicts);
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }
}

fn columns<const N: usize>(text: &mut String, titles: &[String; N], rows: &[[String; N]]) {
    let mut widths = [0; N];
    for row in std::iter::once(titles).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in std::iter::once(titles).chain(rows) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(id: &'static str, rates: &[f64], void: Option<&str>) -> CaseResult {
        let figures =
            |per_second| Figures { per_second, p50_us: 1.0, p95_us: 1.5, p99_us: 2.0, p999_us: 3.0, max_us: 4.0 };
        let samples = rates.iter().map(|rate| Sample { figures: figures(*rate), server_cpu_us: 5.0 }).collect();
        CaseResult { id, title: id.to_owned(), samples, void: void.map(str::to_owned) }
    }

    fn report(cases: Vec<CaseResult>) -> Report {
        let machine = Machine::of(&std::env::temp_dir());
        let (date, method) = ("2026-01-02".to_owned(), "five rounds".to_owned());
        let verdicts = vec![
            Verdict::single("G1", "kept", Some(0.5), "", Target::AtLeast(0.4)),
            Verdict::single("G3", "broken", Some(1.31), "", Target::AtMost(1.3)),
            Verdict::single("G2", "absent", None, "", Target::AtLeast(10.0)),
        ];
        Report { kind: "standard", date, machine, fdatasync_us: None, method, cases, verdicts, notes: Vec::new() }
    }

    #[test]
    fn a_spread_is_of_sorted_values() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median.to_bits(), 1.0_f64.to_bits());
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_of_the_same_round_and_never_of_a_void_case() {
        let rate = |sample: &Sample| sample.figures.per_second;
        let report = report(vec![
            case("a", &[10.0, 40.0, 90.0], None),
            case("b", &[20.0, 20.0, 20.0], None),
            case("c", &[1.0], Some("void: status 500")),
        ]);
        assert_eq!(report.ratio("a", "b", rate).unwrap(), Spread { min: 0.5, median: 2.0, max: 4.5 });
        assert_eq!(report.ratio("a", "c", rate), None);
        assert_eq!(report.ratio("a", "d", rate), None);
        assert!(!report.is_valid());
    }

    #[test]
    fn a_target_is_met_at_its_bound_and_missed_past_it() {
        let said = |value, target| Verdict::single("G", "x", value, "", target).said();
        assert_eq!(said(Some(0.4), Target::AtLeast(0.4)), "met");
        assert_eq!(said(Some(0.399), Target::AtLeast(0.4)), "MISSED");
        assert_eq!(said(Some(1.3), Target::AtMost(1.3)), "met");
        assert_eq!(said(Some(1.301), Target::AtMost(1.3)), "MISSED");
        assert_eq!(said(None, Target::AtMost(1.3)), "not measured");
        assert_eq!(said(Some(1.0), Target::Told), "-");
    }

    #[test]
    fn every_form_says_what_is_missed_and_void() {
        let report = report(vec![case("a", &[10.0], None), case("c", &[1.0], Some("void: status 500"))]);
        for output in [Output::Table, Output::Markdown] {
            let text = report.print(output);
            for part in ["MISSED", "not measured", "void: status 500", ">= 0.4", "2026-01-02"] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
        let json: serde_json::Value = serde_json::from_str(&report.print(Output::Json)).unwrap();
        assert_eq!(json["verdicts"][1]["met"], false);
        assert_eq!(json["cases"][1]["void"], "void: status 500");
    }
}
