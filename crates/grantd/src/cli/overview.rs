//! `grantd overview`: what happened, counted by the hour or by the day.

use clap::{Args, ValueEnum};
use grantd_wire::TimeMs;
use grantd_wire::api::{Counts, Overview, OverviewQuery, OverviewStep};
use serde_json::json;

use super::context::{Context, Format};
use super::failure::Failure;
use super::node::Node;
use super::table::{Column, column, minor};

#[derive(Args)]
pub struct OverviewArgs {
    /// How far back: 24 hours, or 30 days of UTC
    #[arg(long, default_value = "24h")]
    range: Range,
    /// All apps together, and not the one of --app, GRANTD_APP_ID or this directory
    #[arg(long)]
    all_apps: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Range {
    #[value(name = "24h")]
    Hours,
    #[value(name = "30d")]
    Days,
}

const REFUSALS: [Column; 2] = [column("REFUSED WITH", "code"), column("CALLS", "calls")];
const STEPS: [Column; 10] = [
    column("FROM (UTC)", "from"),
    column("CALLS", "calls"),
    column("ALLOWED", "allowed"),
    column("DENIED", "denied"),
    column("FAILED", "failed"),
    minor("P50", "p50"),
    minor("P95", "p95"),
    minor("P99", "p99"),
    minor("RENEWED", "refreshed"),
    minor("NOT RENEWED", "refresh_failed"),
];

pub async fn run(args: OverviewArgs, context: &mut Context) -> Result<(), Failure> {
    let OverviewArgs { range, all_apps } = args;
    let api = context.api()?;
    let name = match range {
        Range::Hours => "24h",
        Range::Days => "30d",
    };
    let query = OverviewQuery { range: Some(name.to_owned()) };
    let overview: Overview = match all_apps {
        true => api.get(&["overview"], &query).await?,
        false => api.get(&["apps", &context.app(&api).await?, "overview"], &query).await?,
    };
    if context.format() != Format::Table || context.globals.fields.is_some() {
        return context.show(&overview);
    }
    context.show(&sum(&overview))?;
    let refusals: Vec<Node> = overview.refusals.iter().map(Node::of).collect();
    let steps: Vec<Node> = overview.steps.iter().filter(|step| !is_empty(step)).map(|s| row(s, range)).collect();
    context.show_rows(&refusals, &REFUSALS)?;
    context.show_rows(&steps, &STEPS)
}

fn is_empty(step: &OverviewStep) -> bool {
    let Counts { calls, refreshed, refresh_failed, .. } = step.counts;
    calls + refreshed + refresh_failed == 0
}

/// What is to be said of the whole range, a line each.
fn sum(overview: &Overview) -> Node {
    let Counts { calls, allowed, denied, failed, refreshed, refresh_failed, latency } = overview.total;
    let took = latency.map_or_else(
        || "-".to_owned(),
        |took| format!("p50 {}, p95 {}, p99 {}", time(took.p50_us), time(took.p95_us), time(took.p99_us)),
    );
    let line = |name: &str, value: serde_json::Value| (name.to_owned(), Node::of(&value));
    Node::Object(vec![
        line("range", json!(overview.range)),
        line("from_at", json!(overview.from)),
        line("calls", json!(calls)),
        line("allowed", json!(allowed)),
        line("denied", json!(denied)),
        line("failed", json!(failed)),
        line("took", json!(took)),
        line("renewed", json!(refreshed)),
        line("not renewed", json!(refresh_failed)),
    ])
}

fn row(step: &OverviewStep, range: Range) -> Node {
    let counts = &step.counts;
    let took = |of: fn(&grantd_wire::api::Latency) -> u64| counts.latency.as_ref().map(|took| time(of(took)));
    let line = |name: &str, value: serde_json::Value| (name.to_owned(), Node::of(&value));
    Node::Object(vec![
        line("from", json!(moment(step.at, range))),
        line("calls", json!(counts.calls)),
        line("allowed", json!(counts.allowed)),
        line("denied", json!(counts.denied)),
        line("failed", json!(counts.failed)),
        line("p50", json!(took(|took| took.p50_us))),
        line("p95", json!(took(|took| took.p95_us))),
        line("p99", json!(took(|took| took.p99_us))),
        line("refreshed", json!(counts.refreshed)),
        line("refresh_failed", json!(counts.refresh_failed)),
    ])
}

/// When a step begins: its hour, or its day.
fn moment(at: TimeMs, range: Range) -> String {
    let text = at.to_string();
    let chars = if range == Range::Days { "2026-11-30".len() } else { "2026-11-30T14:00".len() };
    text.get(..chars).unwrap_or(&text).replace('T', " ")
}

/// Microseconds as people read them: `0.4 ms`, `12 ms`, `1.2 s`.
fn time(us: u64) -> String {
    let tenths = |tenths: u64| match tenths % 10 {
        0 => (tenths / 10).to_string(),
        rest => format!("{}.{rest}", tenths / 10),
    };
    match us {
        ..10_000 => format!("{} ms", tenths((us + 50) / 100)),
        10_000..1_000_000 => format!("{} ms", (us + 500) / 1_000),
        _ => format!("{} s", tenths((us + 50_000) / 100_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_moments_are_written_for_people() {
        for (us, text) in [
            (0, "0 ms"),
            (400, "0.4 ms"),
            (5_049, "5 ms"),
            (9_999, "10 ms"),
            (10_499, "10 ms"),
            (12_500, "13 ms"),
            (1_240_000, "1.2 s"),
        ] {
            assert_eq!(time(us), text, "{us}");
        }
        let at = TimeMs::parse("2026-03-05T14:00:00.000Z").unwrap();
        assert_eq!((&*moment(at, Range::Hours), &*moment(at, Range::Days)), ("2026-03-05 14:00", "2026-03-05"));
    }
}
