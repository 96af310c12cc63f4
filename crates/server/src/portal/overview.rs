//! What happened in an app, or in all apps: figures and charts. Charts are drawn here, as coordinates; their words are the template's.

use grantd_domain::hourly::What;
use grantd_wire::api::{Counts, Overview, OverviewStep, Refusals};
use grantd_wire::{Code, Error, TimeMs};
use serde::Serialize;

use super::desk::{Desk, Shown};
use crate::answer::Answer;
use crate::routes::Api;

const TEMPLATE: &str = "portal/overview.html";
/// Units across a chart; its sheet of style stretches them to the page.
const WIDTH: f64 = 720.0;
/// Units up a large chart, and up a small one.
const HEIGHT: f64 = 176.0;
const HEIGHT_SMALL: f64 = 112.0;
/// What is there at all is seen.
const HEIGHT_MIN: f64 = 1.0;
/// Lines that a chart is divided by.
const GRID: u32 = 4;
/// Codes that are shown of those that calls were refused with.
const CODES_SHOWN: usize = 8;

#[derive(Serialize)]
struct Page {
    overview: Overview,
    /// The codes that are shown, with the width of their bars in hundredths of the greatest.
    refusals: Vec<Refused>,
    calls: Chart,
    renewals: Chart,
    latency: Chart,
    /// Moments that stand below the charts, from its one end to the other.
    ticks: Vec<TimeMs>,
    is_empty: bool,
}

#[derive(Serialize)]
struct Refused {
    code: Option<String>,
    calls: i64,
    width: i64,
}

/// A chart, as far as it is numbers.
#[derive(Default, Serialize)]
struct Chart {
    height: f64,
    /// What stands at its lines, the top one first.
    labels: Vec<i64>,
    grid: Vec<f64>,
    /// A step each, if it is of bars.
    bars: Vec<Bar>,
    /// Runs of points, if it is of lines: where there is no figure a line is interrupted.
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Bar {
    x: f64,
    width: f64,
    /// From the bottom up.
    parts: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    class: &'static str,
    y: f64,
    height: f64,
}

#[derive(Serialize)]
struct Line {
    class: &'static str,
    points: String,
}

/// `GET /portal/overview`.
pub async fn of_organization(desk: &Desk<'_>) -> Result<Answer, Error> {
    let overview: Overview = desk.load(Api::Overview, &[], &[("range", range(desk))]).await?;
    Ok(desk.page(&Shown::new(TEMPLATE, "overview", &page(overview))))
}

/// `GET /portal/apps/{}/overview`.
pub async fn of_app(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let overview: Overview = desk.load(Api::AppOverview, &[&app.id], &[("range", range(desk))]).await?;
    Ok(desk.page(&Shown::of(TEMPLATE, "app_overview", &app, &page(overview))))
}

fn range<'d>(desk: &'d Desk<'_>) -> &'d str {
    match desk.query.raw("range") {
        "30d" => "30d",
        _ => "24h",
    }
}

fn page(overview: Overview) -> Page {
    let steps = &overview.steps;
    let is_failure = |refusals: &&Refusals| What::Refused(refusals.code.as_deref().and_then(Code::parse)).is_failure();
    let most = overview.refusals.first().map_or(1, |first| first.calls.max(1));
    let refusals = overview.refusals.iter().filter(|refusals| !is_failure(refusals)).take(CODES_SHOWN);
    let refusals = refusals.map(|Refusals { code, calls }| Refused {
        code: code.clone(),
        calls: *calls,
        width: (calls * 100 / most).max(1),
    });
    // A moment for each sixth of the steps, and where the last one ends.
    let every = (steps.len() / 6).max(1);
    let step_ms = steps.get(1).map_or(0, |second| second.at.since(steps[0].at));
    let end = steps.last().map(|last| last.at.plus_ms(step_ms));
    Page {
        refusals: refusals.collect(),
        calls: bars(HEIGHT, steps, |of| [("f6", of.allowed), ("f3", of.denied), ("f5", of.failed)].to_vec()),
        renewals: bars(HEIGHT_SMALL, steps, |of| [("f6", of.refreshed), ("f3", of.refresh_failed)].to_vec()),
        latency: lines(HEIGHT_SMALL, steps),
        ticks: steps.iter().step_by(every).map(|step| step.at).chain(end).collect(),
        is_empty: overview.total.calls == 0 && overview.total.refreshed == 0 && overview.total.refresh_failed == 0,
        overview,
    }
}

/// Round figures, in tenths of a power of ten.
const ROUND: [i64; 10] = [10, 12, 15, 20, 25, 30, 40, 50, 60, 80];

/// What the lines of a chart stand for so that `most` fits below the top one, and not far below: a round figure each.
fn scale(most: i64) -> Vec<i64> {
    let lines = i64::from(GRID);
    let mut unit = 1;
    let each = loop {
        let whole = ROUND.into_iter().map(|tenths| tenths * unit).filter(|tenths| tenths % 10 == 0);
        match whole.map(|tenths| tenths / 10).find(|each| each * lines >= most) {
            Some(each) => break each,
            None => unit *= 10,
        }
    };
    (0..=lines).rev().map(|line| line * each).collect()
}

/// As long as nothing is drawn that nobody could tell from it.
fn rounded(units: f64) -> f64 {
    (units * 10.0).round() / 10.0
}

#[expect(clippy::cast_precision_loss, reason = "a chart shows no more than a thousand different heights")]
fn ratio(part: i64, whole: i64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn empty(height: f64, most: i64) -> (Chart, i64) {
    let labels = scale(most);
    let top = labels[0];
    let grid = (0..=GRID).map(|line| rounded(height * f64::from(line) / f64::from(GRID))).collect();
    (Chart { height, labels, grid, ..Chart::default() }, top)
}

fn bars(height: f64, steps: &[OverviewStep], parts: impl Fn(&Counts) -> Vec<(&'static str, i64)>) -> Chart {
    let parts: Vec<_> = steps.iter().map(|step| parts(&step.counts)).collect();
    let most = parts.iter().map(|parts| parts.iter().map(|(_, count)| count).sum()).max().unwrap_or(0);
    let (mut chart, top) = empty(height, most);
    let slot = WIDTH * ratio(1, i64::try_from(steps.len()).unwrap_or(1));
    let mut left = 0.0;
    for parts in parts {
        let mut y = height;
        let part = |(class, count): (&'static str, i64)| {
            if count == 0 {
                return None;
            }
            let part_height = (height * ratio(count, top)).max(HEIGHT_MIN);
            y -= part_height;
            Some(Part { class, y: rounded(y), height: rounded(part_height) })
        };
        let parts = parts.into_iter().filter_map(part).collect();
        chart.bars.push(Bar { x: rounded(left + slot * 0.14), width: rounded(slot * 0.72), parts });
        left += slot;
    }
    chart
}

fn lines(height: f64, steps: &[OverviewStep]) -> Chart {
    let us = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
    let latencies: Vec<_> = steps.iter().map(|step| step.counts.latency).collect();
    let most = latencies.iter().flatten().map(|latency| us(latency.p99_us)).max().unwrap_or(0);
    // No line of the chart stands for less than a tenth of a millisecond.
    let (mut chart, top) = empty(height, most.max(400));
    let slot = WIDTH * ratio(1, i64::try_from(steps.len()).unwrap_or(1));
    for (class, of) in [("l1", 0), ("l2", 1), ("l3", 2)] {
        let (mut run, mut middle) = (Vec::new(), slot / 2.0);
        for latency in &latencies {
            match latency {
                Some(latency) => {
                    let value = us([latency.p50_us, latency.p95_us, latency.p99_us][of]);
                    run.push((rounded(middle), rounded(height - height * ratio(value, top))));
                }
                None => end(&mut chart, class, &mut run, slot),
            }
            middle += slot;
        }
        end(&mut chart, class, &mut run, slot);
    }
    chart
}

/// Draws what is collected of a line. A single point becomes as wide as a bar.
fn end(chart: &mut Chart, class: &'static str, run: &mut Vec<(f64, f64)>, slot: f64) {
    if let [(x, y)] = run[..] {
        *run = vec![(rounded(x - slot * 0.36), y), (rounded(x + slot * 0.36), y)];
    }
    let points: Vec<String> = run.drain(..).map(|(x, y)| format!("{x},{y}")).collect();
    if !points.is_empty() {
        chart.lines.push(Line { class, points: points.join(" ") });
    }
}

#[cfg(test)]
mod tests {
    use grantd_wire::api::Latency;

    use super::*;

    #[test]
    fn a_scale_holds_what_is_there_in_round_figures() {
        let cases = [
            (0, 4),
            (4, 4),
            (5, 8),
            (8, 8),
            (9, 12),
            (20, 20),
            (21, 24),
            (41, 48),
            (5_917, 6_000),
            (1_000_001, 1_200_000),
        ];
        for (most, top) in cases {
            assert_eq!(scale(most)[0], top, "{most}");
        }
        assert_eq!(scale(20), [20, 15, 10, 5, 0]);
        // The greatest stands high in its chart, as soon as lines need not be whole ones.
        assert!((40..100_000).all(|most| scale(most)[0] * 10 <= most * 14));
        assert!(scale(i64::MAX / 100)[0] >= i64::MAX / 100);
    }

    fn step(allowed: i64, denied: i64, p50_us: Option<u64>) -> OverviewStep {
        let latency = p50_us.map(|p50_us| Latency { p50_us, p95_us: 2 * p50_us, p99_us: 4 * p50_us });
        OverviewStep { at: TimeMs(0), counts: Counts { allowed, denied, latency, ..Counts::default() } }
    }

    #[test]
    fn bars_stand_on_each_other_and_few_are_still_seen() {
        let steps = [step(1_000, 1, None), step(0, 0, None)];
        let chart = bars(100.0, &steps, |of| [("a", of.allowed), ("b", of.denied)].to_vec());
        assert_eq!((chart.bars.len(), chart.bars[1].parts.len()), (2, 0));
        let [allowed, denied] = &chart.bars[0].parts[..] else { panic!("two parts") };
        assert!((allowed.y + allowed.height - 100.0).abs() < 0.2 && (denied.y + denied.height - allowed.y).abs() < 0.2);
        assert!(denied.height >= HEIGHT_MIN && chart.bars[0].x + chart.bars[0].width <= 360.0);
    }

    #[test]
    fn a_line_is_interrupted_where_nothing_was_timed() {
        let steps = [step(1, 0, Some(1_000)), step(1, 0, Some(2_000)), step(0, 0, None), step(1, 0, Some(500))];
        let chart = lines(100.0, &steps);
        assert_eq!(chart.labels[0], 8_000);
        assert_eq!(chart.lines.iter().filter(|line| line.class == "l1").count(), 2);
        assert!(lines(100.0, &[step(0, 0, None)]).lines.is_empty());
    }
}
