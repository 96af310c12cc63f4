//! The soak run: load for minutes, and whether memory stays where it is.

use std::time::Duration;

use super::report::{Report, Spread, Target, Verdict};
use super::{Case, Options, Prepared, blocking, progress};
use crate::load::{Load, as_float};
use crate::machine::{self, free_bytes};
use crate::plan::Pick;
use crate::{Error, Result};

/// Connections: enough to keep the writer busy, and not so many that the disk fills for nothing.
const CONNECTIONS: usize = 8;
/// Memory is looked at this often.
const SLICE: Duration = Duration::from_secs(5);
/// Disk that a minute may fill, and what must be left.
const MINUTE_BYTES_MAX: u64 = 3 << 30;
/// The first part of a run fills caches and windows (stored nonces are remembered for 450 s) and is not judged.
const FILLING: Duration = Duration::from_mins(8);
/// What is left of the shortest run: enough points for a line.
const JUDGED_MINUTES_MIN: u64 = 2;
/// Growth over ten minutes that is still called flat.
const GROWTH_MIB_MAX: f64 = 5.0;

/// Loads a server on SQLite for `minutes`.
pub async fn soak(options: &Options, minutes: u64) -> Result<Report> {
    let minutes_min = FILLING.as_secs() / 60 + JUDGED_MINUTES_MIN;
    if minutes < minutes_min {
        return Err(Error(format!(
            "a soak is judged when everything has filled: choose at least {minutes_min} minutes"
        )));
    }
    let need = (minutes + 1).saturating_mul(MINUTE_BYTES_MAX);
    let free = free_bytes(&options.directory)?;
    if free < need {
        return Err(Error(format!(
            "{minutes} minutes may write {} GiB, and {} GiB are free in {}: choose fewer minutes or another --dir",
            need >> 30,
            free >> 30,
            options.directory.display()
        )));
    }
    let method = format!("{minutes} minutes, {CONNECTIONS} connections, {} grants, SQLite", options.grants);
    let mut report = options.report("soak", method);
    let prepared = Prepared::make(options, "soak", None, &options.grantd, options.grants).await?;
    let options = options.clone();
    blocking(move || {
        let server = prepared.install.serve(&options.grantd, &[])?;
        let load = Load { connections: CONNECTIONS, threads: 1, warm_up: Duration::ZERO, measured: SLICE };
        let plan = prepared.plan(Pick::Random(options.grants));
        let mut case = Case::new("soak", "retrieve, durable event, SQLite", &server, plan, load);
        let mut points = Vec::new();
        let whole = Duration::from_mins(minutes).as_secs_f64();
        while server.began.elapsed().as_secs_f64() < whole && case.result.void.is_none() {
            case.round();
            let memory = machine::memory(server.pid())?;
            let at = server.began.elapsed().as_secs_f64();
            points.push((at, as_float(memory.anonymous_kib) / 1024.0));
            progress(format_args!("{at:.0} s: {} MiB resident", memory.resident_kib / 1024));
        }
        let judged: Vec<(f64, f64)> = points.into_iter().filter(|(at, _)| *at >= FILLING.as_secs_f64()).collect();
        let growth = slope(&judged).map(|per_second| per_second * 600.0);
        let levels = Spread::of(judged.iter().map(|(_, mib)| *mib));
        let peak = as_float(machine::memory(server.pid())?.peak_kib) / 1024.0;
        report.cases = vec![case.result];
        report.verdicts = vec![
            Verdict::single(
                "-",
                "growth of memory over ten minutes, by the slope after the first eight",
                growth,
                "MiB",
                Target::AtMost(GROWTH_MIB_MAX),
            ),
            Verdict::new("-", "memory in that time", levels, "MiB", Target::Told),
            Verdict::single("-", "peak resident memory", Some(peak), "MiB", Target::Told),
        ];
        server.stop()?;
        Ok(report)
    })
    .await
}

/// The slope of the line that fits best.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let n = as_float(u64::try_from(points.len()).ok()?);
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n;
    let (x, y) = (mean(&mut points.iter().map(|p| p.0)), mean(&mut points.iter().map(|p| p.1)));
    let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    let common: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    (spread > 0.0).then(|| common / spread)
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn the_slope_is_that_of_a_line_whatever_its_noise() {
        let line: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), 3.0 + 0.5 * f64::from(i))).collect();
        assert!((slope(&line).unwrap() - 0.5).abs() < 1e-9);
        let noise = |i: i32| if i % 2 == 0 { 1.0 } else { -1.0 };
        let noisy: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), 7.0 + noise(i))).collect();
        assert!(slope(&noisy).unwrap().abs() < 0.01);
        assert_eq!(slope(&[(1.0, 1.0)]), None);
        assert_eq!(slope(&[]), None);
    }
}
