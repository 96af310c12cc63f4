//! What happened in an app, or in all apps, counted by the hour.

use std::collections::BTreeMap;

use grantd_domain::audit::Owner;
use grantd_domain::hourly::{HOUR_MS, Times, What};
use grantd_store::hourly::{self, Counted};
use grantd_wire::api::{Counts, Latency, Overview, OverviewQuery, OverviewStep, Refusals};
use grantd_wire::{Code, Error, TimeMs};

use super::Request;
use crate::answer::{Answer, json, of_store};
use crate::vault::Vault;

const DAY_MS: i64 = 24 * HOUR_MS;

/// What is looked at.
#[derive(Clone, Copy)]
struct Range {
    name: &'static str,
    step_ms: i64,
    steps: i64,
}

const RANGES: [Range; 2] =
    [Range { name: "24h", step_ms: HOUR_MS, steps: 24 }, Range { name: "30d", step_ms: DAY_MS, steps: 30 }];

/// `GET …/overview` of an app, or of the organization.
pub async fn show(vault: &Vault, request: &Request, owner: Owner) -> Result<Answer, Error> {
    let query: OverviewQuery = request.query()?;
    let asked = query.range.as_deref().unwrap_or(RANGES[0].name);
    let range = RANGES.into_iter().find(|range| range.name == asked);
    let range = range.ok_or_else(|| Error::impossible("range", "must be 24h or 30d"))?;
    let now = request.source.now;
    let from = TimeMs((now.0.div_euclid(range.step_ms) + 1 - range.steps) * range.step_ms);
    let read = move |tx: &mut grantd_store::Tx<'_>| hourly::list(tx, &owner, from, now, range.step_ms);
    let counted = vault.store.read(read).await.map_err(of_store)?;
    Ok(json(200, &overview(range, (from, now), &counted)))
}

/// Counts, as they are put together.
#[derive(Default)]
struct Sum {
    counts: Counts,
    times: Times,
}

impl Sum {
    fn add(&mut self, what: What, times: i64) {
        let counts = &mut self.counts;
        match what {
            What::Allowed => counts.allowed += times,
            What::Refused(_) if what.is_failure() => counts.failed += times,
            What::Refused(_) => counts.denied += times,
            What::Refreshed => counts.refreshed += times,
            What::RefreshFailed => counts.refresh_failed += times,
            What::Took(bucket) => self.times.add(bucket, u64::try_from(times).unwrap_or(0)),
        }
    }

    fn done(self) -> Counts {
        let Self { counts, times } = self;
        let latency = match [500, 950, 990].map(|share| times.percentile_us(share)) {
            [Some(p50_us), Some(p95_us), Some(p99_us)] => Some(Latency { p50_us, p95_us, p99_us }),
            _ => None,
        };
        Counts { calls: counts.allowed + counts.denied + counts.failed, latency, ..counts }
    }
}

fn overview(range: Range, (from, to): (TimeMs, TimeMs), counted: &[Counted]) -> Overview {
    let mut total = Sum::default();
    let mut steps: BTreeMap<i64, Sum> =
        (0..range.steps).map(|step| (from.0 + step * range.step_ms, Sum::default())).collect();
    let mut refusals: BTreeMap<Option<&str>, i64> = BTreeMap::new();
    for Counted { from, what, times } in counted {
        total.add(*what, *times);
        steps.entry(from.0).or_default().add(*what, *times);
        if let What::Refused(code) = what {
            *refusals.entry(code.map(Code::as_str)).or_default() += times;
        }
    }
    let steps = steps.into_iter().map(|(at, sum)| OverviewStep { at: TimeMs(at), counts: sum.done() });
    let mut refusals: Vec<Refusals> =
        refusals.into_iter().map(|(code, calls)| Refusals { code: code.map(str::to_owned), calls }).collect();
    refusals.sort_by_key(|refusals| std::cmp::Reverse(refusals.calls));
    Overview { range: range.name.to_owned(), from, to, total: total.done(), steps: steps.collect(), refusals }
}
