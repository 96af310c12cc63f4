//! The scale run: a million grants and millions of events, on both engines.

use std::sync::Arc;

use super::report::{Report, Spread, Target, Verdict};
use super::{CACHE_SETTING, Case, Options, Prepared, Sample, blocking, progress};
use crate::fill::{self, EventsRate};
use crate::grantd::Server;
use crate::load::{Load, as_float, run};
use crate::machine::free_bytes;
use crate::plan::{Pick, Plan};
use crate::{Error, Result, disk};

/// Disk of a grant with everything a database keeps beside it, its log included; rounded up.
const GRANT_BYTES: u64 = 4_000;
/// Disk of an event, rounded up.
const EVENT_BYTES: u64 = 2_000;
/// Disk that a run leaves free.
const FREE_BYTES_MIN: u64 = 8 << 30;
/// Events that a rate is measured over.
const RATE_EVENTS: u64 = 100_000;
/// Grants of the small set.
const FEW_GRANTS: usize = 1_000;
/// Different grants that events are asked for by.
const QUERIES: usize = 2_000;
/// Connections that ask for events.
const QUERY_CONNECTIONS: usize = 2;
/// Events of one page.
const QUERY_LIMIT: usize = 50;

/// Runs it for every engine of this machine, one after the other.
pub async fn scale(options: &Options) -> Result<Report> {
    let events = affordable(options.grants, options.events, free_bytes(&options.directory)?)?;
    let method = format!(
        "{} grants of {} bytes, {events} events; {} connections, {} rounds of {} s",
        options.grants,
        fill::TOKEN_CHARS,
        options.connections,
        options.rounds,
        options.seconds
    );
    let mut report = options.report("scale", method);
    if events < options.events {
        report.notes.push(format!(
            "{} events were asked for; the disk has room for {events} (every million takes about {} GB here, and {} GiB stay free).",
            options.events,
            EVENT_BYTES * 1_000_000 / 1_000_000_000,
            FREE_BYTES_MIN >> 30
        ));
    }
    for (name, postgres) in options.engines() {
        engine(options, &mut report, name, postgres, events).await?;
    }
    Ok(report)
}

/// How many events the disk has room for, beside the grants.
fn affordable(grants: usize, wanted: u64, free: u64) -> Result<u64> {
    let grants_bytes = u64::try_from(grants).unwrap_or(u64::MAX).saturating_mul(GRANT_BYTES);
    let room = free.saturating_sub(FREE_BYTES_MIN).saturating_sub(grants_bytes) / EVENT_BYTES;
    if room < 2 * RATE_EVENTS {
        return Err(Error(format!(
            "{grants} grants and {wanted} events need {} GiB; {} GiB are free and {} GiB must stay so: choose another --dir, or fewer",
            (grants_bytes + wanted * EVENT_BYTES) >> 30,
            free >> 30,
            FREE_BYTES_MIN >> 30
        )));
    }
    Ok(wanted.min(room))
}

async fn engine(
    options: &Options,
    report: &mut Report,
    name: &'static str,
    postgres: Option<&str>,
    events: u64,
) -> Result {
    let prepared = Prepared::make(options, name, postgres, &options.grantd, options.grants).await?;
    let on_disk = disk::grants(&prepared.install).await?;
    let what = format!("{name}: disk bytes of a grant and its credential beside the sealed value");
    report.verdicts.push(Verdict::single("G14", what, Some(on_disk.beside_payload()), "B", Target::AtMost(250.0)));
    let append = |count| fill::events(&prepared.install, &prepared.access, &prepared.grants, count);
    let first = append(RATE_EVENTS.min(events / 2)).await?;
    progress(format_args!("{name}: first events at {:.0} a second", per_second(first)));
    let between = append(events.saturating_sub(2 * first.events)).await?;
    progress(format_args!("{name}: {} events at {:.0} a second", between.events, per_second(between)));
    let last = append(first.events).await?;
    let what = format!("{name}: events appended and indexed a second after {events} / after none");
    let ratio = per_second(last) / per_second(first);
    report.verdicts.push(Verdict::single("G12", what, Some(ratio), "", Target::AtLeast(0.9)));
    let options = options.clone();
    let (cases, verdicts) = blocking(move || served(&options, name, &prepared)).await?;
    report.cases.extend(cases);
    report.verdicts.extend(verdicts);
    Ok(())
}

fn per_second(rate: EventsRate) -> f64 {
    as_float(rate.events) / rate.took.as_secs_f64()
}

fn served(
    options: &Options,
    name: &'static str,
    prepared: &Prepared,
) -> Result<(Vec<super::CaseResult>, Vec<Verdict>)> {
    let server = prepared.install.serve(&options.grantd, &[])?;
    let started_ms = server.started_in.as_secs_f64() * 1e3;
    let what = format!("{name}: start to first answer with {} grants", options.grants);
    let mut verdicts = vec![Verdict::single("G15", what, Some(started_ms), "ms", Target::AtMost(1_000.0))];
    let query = query(options, prepared, &server);
    server.stop()?;
    let p99_ms = query.result.spread(|sample| sample.figures.p99_us / 1e3);
    let what = format!("{name}: p99 of a page of {QUERY_LIMIT} events of one grant");
    verdicts.push(Verdict::new("G12", what, p99_ms, "ms", Target::AtMost(20.0)));
    let mut cases = vec![query.result];
    let ids = match name {
        "sqlite" => [["sqlite_many", "sqlite_few"], ["sqlite_tenth", "sqlite_tenth_few"]],
        _ => [["postgres_many", "postgres_few"], ["postgres_tenth", "postgres_tenth_few"]],
    };
    for (ids, share, target) in [(ids[0], 1, 0.85), (ids[1], 10, 0.65)] {
        let cached = if share == 1 { "all cached".to_owned() } else { format!("1 in {share} cached") };
        let [many, few] = compare(options, prepared, name, ids, share, &cached)?;
        let rates = many.result.samples.iter().zip(&few.result.samples);
        let is_whole = many.result.void.is_none() && few.result.void.is_none();
        let ratio = |(many, few): (&Sample, &Sample)| many.figures.per_second / few.figures.per_second;
        let ratio = if is_whole { Spread::of(rates.map(ratio)) } else { None };
        let what = format!("{name}: retrieve at random over {} grants / over {FEW_GRANTS}, {cached}", options.grants);
        verdicts.push(Verdict::new("G11", what, ratio, "", Target::AtLeast(target)));
        cases.extend([many.result, few.result]);
    }
    Ok((cases, verdicts))
}

/// Pages of events, found by grant.
fn query(options: &Options, prepared: &Prepared, server: &Server) -> Case {
    let step = (prepared.grants.len() / QUERIES).max(1);
    let path = |grant| format!("/api/v1/apps/{}/audit/events?grant={grant}&limit={QUERY_LIMIT}", prepared.access.app);
    let requests = prepared.grants.iter().step_by(step).map(|grant| prepared.install.get_request(&path(grant)));
    let plan =
        Plan::Plain { requests: requests.collect::<Vec<_>>().into(), needle: Arc::from(&b"\"grant_id\":\""[..]) };
    let id = if matches!(prepared.install.engine(), crate::grantd::Engine::Sqlite) {
        "sqlite_query"
    } else {
        "postgres_query"
    };
    let load = Load { threads: 1, ..options.load(QUERY_CONNECTIONS) };
    let title = format!("page of {QUERY_LIMIT} events of one grant, {QUERY_CONNECTIONS} connections");
    let mut case = Case::new(id, title, server, plan, load);
    for _ in 0..options.rounds {
        case.round();
    }
    case
}

/// A server whose cache holds one in `share` of the grants, asked for any of them and for a few.
fn compare(
    options: &Options,
    prepared: &Prepared,
    name: &str,
    [many, few]: [&'static str; 2],
    share: usize,
    cached: &str,
) -> Result<[Case; 2]> {
    // Where all are to be cached, none may be missing because of an estimate.
    let cached_grants = if share == 1 { 2 * options.grants } else { options.grants / share };
    let cache = prepared.cache_for(cached_grants);
    let server = prepared.install.serve(&options.grantd, &[(CACHE_SETTING, &cache)])?;
    let load = options.load(options.connections);
    run(server.address, &prepared.plan(Pick::Each), load)?;
    progress(format_args!("{name}: every grant was asked for once, {cached}"));
    let title = |grants| format!("{name}: retrieve over {grants} grants, {cached}");
    let mut cases = [
        Case::new(many, title(options.grants), &server, prepared.plan(Pick::Random(options.grants)), load),
        Case::new(few, title(FEW_GRANTS), &server, prepared.plan(Pick::Random(FEW_GRANTS)), load),
    ];
    for _ in 0..options.rounds {
        cases.iter_mut().for_each(Case::round);
    }
    server.stop()?;
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_events_are_made_as_the_disk_has_room_for() {
        let grants = 1_000;
        let beside = FREE_BYTES_MIN + GRANT_BYTES * 1_000;
        assert_eq!(affordable(grants, 10_000_000, beside + EVENT_BYTES * 20_000_000).unwrap(), 10_000_000);
        assert_eq!(affordable(grants, 10_000_000, beside + EVENT_BYTES * 300_000).unwrap(), 300_000);
        assert_eq!(affordable(grants, 10_000_000, beside + EVENT_BYTES * 2 * RATE_EVENTS).unwrap(), 2 * RATE_EVENTS);
        assert!(affordable(grants, 10_000_000, beside + EVENT_BYTES * 2 * RATE_EVENTS - 1).is_err());
        assert!(affordable(grants, 10_000_000, 0).is_err());
    }
}
