//! The standard run: every case, five rounds, in a few minutes.

use std::time::Duration;

use super::report::{Report, Spread, Target, Verdict};
use super::{CACHE_SETTING, Case, Options, Prepared, blocking, fdatasync_us, progress, settle, storm};
use crate::grantd::Server;
use crate::load::{Load, as_float, run};
use crate::machine::{self, Memory};
use crate::plan::{Pick, Plan, Retrieve};
use crate::{Result, disk, peers};

/// Secrets that OpenBao is given.
const OPENBAO_SECRETS: usize = 200;
/// Grants that are asked for before memory is compared, so that all else has its size.
const GRANTS_BEFORE: usize = 100;
/// Seconds a server is left alone before it is idle.
const IDLE_AFTER_SECONDS: f64 = 2.0;

/// What is running.
struct Running {
    sqlite: Prepared,
    server: Server,
    postgres: Option<(Prepared, Server)>,
    unaudited: Option<(Prepared, Server)>,
    axum: Server,
    openbao: Option<(Server, Plan)>,
    nginx: Option<Server>,
}

/// Memory of the SQLite server, measured before anything else ran.
struct MemoryFound {
    idle: Memory,
    /// Nothing, where all else grew and shrank by more than the grants did.
    beside_grant: Option<f64>,
    started_ms: f64,
}

/// Runs every case that this machine has the programs for.
pub async fn standard(options: &Options) -> Result<Report> {
    let method = format!(
        "{} connections, {} rounds of {} s after {} s of warm-up, cases interleaved, client and servers on the same cores; {} grants of {} bytes",
        options.connections,
        options.rounds,
        options.seconds,
        options.warm,
        options.grants,
        crate::fill::TOKEN_CHARS
    );
    let mut report = options.report("standard", method);
    let (running, memory, notes) = start(options, &mut report).await?;
    report.notes.extend(notes);
    let (given, mut report) = (options, report);
    let options = options.clone();
    let mut report = blocking(move || {
        let mut cases = cases(&options, &running);
        let mut durable = Vec::new();
        for round in 1..=options.rounds {
            durable.push(fdatasync_us(&options.directory)?);
            cases.iter_mut().for_each(Case::round);
            progress(format_args!("round {round} of {} done", options.rounds));
        }
        report.fdatasync_us = Spread::of(durable.iter().copied());
        report.cases = cases.into_iter().map(|case| case.result).collect();
        verdicts(&mut report, &durable);
        let under_load = machine::memory(running.server.pid())?;
        sizes(&mut report, &memory, under_load);
        stop(running)?;
        Ok(report)
    })
    .await?;
    report.notes.push(format!("G10: {}.", storm::method(given)));
    storm::judge(given, &mut report).await?;
    Ok(report)
}

/// Starts all servers. What is missing on this machine is noted, and its cases are left out.
async fn start(options: &Options, report: &mut Report) -> Result<(Running, MemoryFound, Vec<String>)> {
    let sqlite = Prepared::make(options, "sqlite", None, &options.grantd, options.grants).await?;
    disk_verdict(report, "SQLite", &sqlite).await?;
    let (sqlite, memory) = {
        let options = options.clone();
        blocking(move || {
            let memory = measure_memory(&options, &sqlite)?;
            Ok((sqlite, memory))
        })
        .await?
    };
    let mut postgres = None;
    match &options.postgres {
        None => report.notes.push("PostgreSQL is not installed: its cases are left out.".to_owned()),
        Some(url) => {
            let prepared = Prepared::make(options, "postgres", Some(url), &options.grantd, options.grants).await?;
            disk_verdict(report, "PostgreSQL", &prepared).await?;
            postgres = Some(prepared);
        }
    }
    let mut unaudited = None;
    match &options.unaudited {
        None => report.notes.push("There is no build without events: its case is left out.".to_owned()),
        Some(binary) => {
            unaudited =
                Some((Prepared::make(options, "unaudited", None, binary, options.grants).await?, binary.clone()));
        }
    }
    let missing = |name: &str| format!("{name} is not installed: its case is left out.");
    if options.openbao.is_none() {
        report.notes.push(missing("OpenBao (`bao`)"));
    }
    if options.nginx.is_none() {
        report.notes.push(missing("nginx"));
    }
    let options = options.clone();
    blocking(move || {
        let server = sqlite.install.serve(&options.grantd, &[])?;
        let serve = |prepared: Prepared, binary: &std::path::Path| {
            let server = prepared.install.serve(binary, &[])?;
            Ok((prepared, server))
        };
        let postgres = postgres.map(|prepared| serve(prepared, &options.grantd)).transpose()?;
        let unaudited = unaudited.map(|(prepared, binary)| serve(prepared, &binary)).transpose()?;
        let bytes = answer_bytes(&server, &sqlite)?;
        let axum = peers::start_axum(&options.directory, bytes)?;
        let openbao = options.openbao.as_deref();
        let openbao = openbao.map(|bao| peers::start_openbao(bao, &options.directory, OPENBAO_SECRETS));
        let nginx = options.nginx.as_deref();
        let nginx = nginx.map(|nginx| peers::start_nginx(nginx, &options.directory, bytes));
        // A peer that does not work here is none; what it was to be compared with is not measured.
        let mut notes = Vec::new();
        let openbao = unless_broken("OpenBao", openbao, &mut notes);
        let nginx = unless_broken("nginx", nginx, &mut notes);
        Ok((Running { sqlite, server, postgres, unaudited, axum, openbao, nginx }, memory, notes))
    })
    .await
}

fn unless_broken<T>(name: &str, peer: Option<Result<T>>, notes: &mut Vec<String>) -> Option<T> {
    match peer? {
        Ok(peer) => Some(peer),
        Err(error) => {
            notes.push(format!("{name} did not start, and its case is left out: {error}"));
            None
        }
    }
}

async fn disk_verdict(report: &mut Report, engine: &str, prepared: &Prepared) -> Result {
    let on_disk = disk::grants(&prepared.install).await?;
    let what = format!("disk bytes of a grant and its credential beside the sealed value, {engine}");
    report.verdicts.push(Verdict::single("G14", what, Some(on_disk.beside_payload()), "B", Target::AtMost(250.0)));
    Ok(())
}

/// A fresh server: when it first answers, and what it takes idle. Then one that remembers all grants: what every one adds.
fn measure_memory(options: &Options, sqlite: &Prepared) -> Result<MemoryFound> {
    let server = sqlite.install.serve(&options.grantd, &[])?;
    settle(IDLE_AFTER_SECONDS);
    let idle = machine::memory(server.pid())?;
    let started_ms = server.started_in.as_secs_f64() * 1e3;
    server.stop()?;
    let server = sqlite.install.serve(&options.grantd, &[(CACHE_SETTING, &sqlite.cache_for(2 * options.grants))])?;
    let load = options.load(options.connections);
    let anonymous = || Ok::<_, crate::Error>(as_float(machine::memory(server.pid())?.anonymous_kib) * 1024.0);
    let few = sqlite.plan(Pick::Random(GRANTS_BEFORE));
    run(server.address, &few, load)?;
    // What every request leaves behind for a while, its nonce for one, is no cached grant: a few grants tell how much that is.
    let before = anonymous()?;
    let control = run(server.address, &few, Load { warm_up: Duration::ZERO, ..load })?;
    let between = anonymous()?;
    let each = run(server.address, &sqlite.plan(Pick::Each), load)?;
    let after = anonymous()?;
    server.stop()?;
    let by_request = (between - before).max(0.0) / as_float(control.requests);
    let added = as_float(u64::try_from(sqlite.grants.len().saturating_sub(GRANTS_BEFORE)).unwrap_or(1).max(1));
    let sealed = as_float(u64::try_from(sqlite.sealed_bytes).unwrap_or(0));
    let grown = (after - between - by_request * as_float(each.requests)).max(0.0);
    let beside_grant = Some(grown / added - sealed).filter(|beside| *beside > 0.0);
    Ok(MemoryFound { idle, beside_grant, started_ms })
}

/// Bytes of one answer, for the bare server to answer as many.
fn answer_bytes(server: &Server, sqlite: &Prepared) -> Result<usize> {
    let mut asker = sqlite.plan(Pick::Random(1)).asker(0, 1);
    let mut request = Vec::new();
    asker.write(&mut request);
    crate::grantd::block_on(async {
        let mut connection = crate::client::Connection::open(server.address).await?;
        let answer = connection.exchange(&request).await?;
        asker.check(&answer)?;
        Ok(answer.body.len())
    })
}

fn cases(options: &Options, running: &Running) -> Vec<Case> {
    let all = Pick::Random(options.grants);
    let (many, one) = (options.load(options.connections), options.load(1));
    let Plan::Retrieve(retrieve) = running.sqlite.plan(all) else { return Vec::new() };
    let bare = Plan::Retrieve(Retrieve { is_fixed: true, ..retrieve });
    let mut cases = vec![
        Case::new("axum", "raw axum POST, signed by the same client", &running.axum, bare.clone(), many),
        Case::new("sqlite", "retrieve, durable event, SQLite", &running.server, running.sqlite.plan(all), many),
    ];
    if let Some((prepared, server)) = &running.postgres {
        cases.push(Case::new("postgres", "retrieve, durable event, PostgreSQL", server, prepared.plan(all), many));
    }
    if let Some((prepared, server)) = &running.unaudited {
        cases.push(Case::new("unaudited", "retrieve without an event (bench build)", server, prepared.plan(all), many));
    }
    if let Some((server, plan)) = &running.openbao {
        cases.push(Case::new("openbao", "OpenBao KV v2 read, unsynced file audit", server, plan.clone(), many));
    }
    if let Some(server) = &running.nginx {
        cases.push(Case::new("nginx", "nginx, fixed answer to the same request", server, bare.clone(), many));
    }
    let alone: [(&'static str, &str, &Server, Plan, Load); 2] = [
        ("axum_alone", "raw axum POST, 1 connection", &running.axum, bare, one),
        ("sqlite_alone", "retrieve, SQLite, 1 connection", &running.server, running.sqlite.plan(all), one),
    ];
    cases.extend(alone.map(|(id, title, server, plan, load)| Case::new(id, title, server, plan, load)));
    if let Some((prepared, server)) = &running.postgres {
        cases.push(Case::new("postgres_alone", "retrieve, PostgreSQL, 1 connection", server, prepared.plan(all), one));
    }
    cases
}

fn verdicts(report: &mut Report, durable_us: &[f64]) {
    let rate = |sample: &super::Sample| sample.figures.per_second;
    let p99 = |sample: &super::Sample| sample.figures.p99_us;
    let of_disk = |report: &Report, id: &str| {
        let case = report.case(id).filter(|case| case.void.is_none())?;
        Spread::of(case.samples.iter().zip(durable_us).map(|(sample, disk)| sample.figures.p50_us / disk))
    };
    let ratios = [
        ("G1", "retrieve, SQLite / raw axum", report.ratio("sqlite", "axum", rate), Target::AtLeast(0.4)),
        ("G2", "retrieve, SQLite / OpenBao", report.ratio("sqlite", "openbao", rate), Target::AtLeast(10.0)),
        ("G3", "p99 of retrieve, SQLite / p99 of raw axum", report.ratio("sqlite", "axum", p99), Target::AtMost(1.3)),
        ("G4", "retrieve, SQLite / without an event", report.ratio("sqlite", "unaudited", rate), Target::AtLeast(0.7)),
        (
            "G9",
            "p50 of one retrieve alone, SQLite, in fdatasyncs",
            of_disk(report, "sqlite_alone"),
            Target::AtMost(2.8),
        ),
        ("-", "p50 of one retrieve alone, PostgreSQL, in fdatasyncs", of_disk(report, "postgres_alone"), Target::Told),
        ("G16", "retrieve, PostgreSQL / SQLite", report.ratio("postgres", "sqlite", rate), Target::AtLeast(0.9)),
    ];
    let ratios = ratios.map(|(id, what, value, target)| Verdict::new(id, what, value, "", target));
    report.verdicts.splice(0..0, ratios);
}

fn sizes(report: &mut Report, memory: &MemoryFound, under_load: Memory) {
    let megabytes = |kib: u64| Some(as_float(kib) * 1024.0 / 1e6);
    let found = [
        Verdict::single(
            "G13",
            "memory a cached grant beside its sealed value",
            memory.beside_grant,
            "B",
            Target::AtMost(120.0),
        ),
        Verdict::single("G15", "start to first answer", Some(memory.started_ms), "ms", Target::AtMost(1_000.0)),
        Verdict::single(
            "G15",
            "resident memory, idle",
            megabytes(memory.idle.resident_kib),
            "MB",
            Target::AtMost(40.0),
        ),
        Verdict::single(
            "G15",
            "peak resident memory under load",
            megabytes(under_load.peak_kib),
            "MB",
            Target::AtMost(300.0),
        ),
    ];
    report.verdicts.extend(found);
    if memory.beside_grant.is_none() {
        report.notes.push(
            "G13 is not measured: memory moved by more than so few grants take. Give it more of them.".to_owned(),
        );
    }
}

fn stop(running: Running) -> Result {
    let Running { server, postgres, unaudited, axum, openbao, nginx, .. } = running;
    let peers = [postgres.map(|(_, server)| server), unaudited.map(|(_, server)| server)];
    let others = [Some(axum), openbao.map(|(server, _)| server), nginx];
    std::iter::once(server).chain(peers.into_iter().chain(others).flatten()).try_for_each(Server::stop)
}
