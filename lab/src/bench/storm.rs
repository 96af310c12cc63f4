//! G10: callers by the thousand for one account whose token has ended, on one process and on several.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::report::{Report, Spread, Target, Verdict};
use super::{Options, blocking, progress};
use crate::grantd::{Access, Engine, Install, Server};
use crate::load::as_float;
use crate::plan::{Pick, Plan, Retrieve};
use crate::storm::{self, Accounts, Crowd, Endpoint};
use crate::{Error, Result, disk};

/// Processes that share a PostgreSQL database.
const PROCESSES: [usize; 3] = [1, 2, 3];
/// What the last caller may take beside the token endpoint.
const AFTER_MS_MAX: f64 = 50.0;

/// What the rounds of one set-up showed.
#[derive(Default)]
struct Rounds {
    exchanges: Vec<f64>,
    after_ms: Vec<f64>,
    ratios: Vec<f64>,
}

/// The storm alone.
pub async fn storm(options: &Options) -> Result<Report> {
    let mut report = options.report("storm", method(options));
    judge(options, &mut report).await?;
    Ok(report)
}

/// How it is run.
pub fn method(options: &Options) -> String {
    format!(
        "{} callers at once, one call each, for one account whose token has ended; its token endpoint answers after {} ms; {} rounds",
        options.callers,
        storm::ENDPOINT_TIME.as_millis(),
        options.rounds
    )
}

/// Adds what a storm shows to a report.
pub async fn judge(options: &Options, report: &mut Report) -> Result {
    for (engine, postgres) in options.engines() {
        let processes = if postgres.is_some() { &PROCESSES[..] } else { &PROCESSES[..1] };
        for count in processes {
            let name = format!("storm_{engine}_{count}");
            let rounds = measure(options, &name, postgres, *count).await?;
            let of = format!("{engine}, {count} {}", if *count == 1 { "process" } else { "processes" });
            report.verdicts.extend([
                Verdict::new(
                    "G10",
                    format!("exchanges of one ended token, {of}"),
                    Spread::of(rounds.exchanges),
                    "",
                    Target::AtMost(1.0),
                ),
                Verdict::new(
                    "G10",
                    format!("last of {} callers after the token endpoint answered, {of}", options.callers),
                    Spread::of(rounds.after_ms),
                    "ms",
                    Target::AtMost(AFTER_MS_MAX),
                ),
                Verdict::new(
                    "-",
                    format!("the same beside the time of as many calls of a token that has not ended, {of}"),
                    Spread::of(rounds.ratios),
                    "",
                    Target::Told,
                ),
            ]);
        }
    }
    Ok(())
}

async fn measure(options: &Options, name: &str, postgres: Option<&str>, processes: usize) -> Result<Rounds> {
    let engine = match postgres {
        None => Engine::Sqlite,
        Some(url) => Engine::Postgres(disk::create_database(url, &format!("grantd_lab_{name}")).await?),
    };
    let (binary, directory) = (options.grantd.clone(), options.directory.join(name));
    let (install, access) = blocking(move || made(&binary, &directory, engine)).await?;
    let endpoint = Endpoint::start().await?;
    let accounts = Accounts::open(&install, access.app, endpoint.address).await?;
    let allow = endpoint.address.to_string();
    let binary = options.grantd.clone();
    let servers: Vec<Server> = blocking(move || {
        let replicas = processes.to_string();
        let settings = [("GRANTD_OUTBOUND_ALLOW", allow.as_str()), ("GRANTD_REPLICAS", replicas.as_str())];
        let first = std::iter::once_with(|| install.serve(&binary, &settings));
        first.chain((1..processes).map(|number| install.serve_beside(&binary, &settings, number))).collect()
    })
    .await?;
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let mut rounds = Rounds::default();
    for _ in 0..options.rounds {
        round(options, &addresses, &access, &accounts, &endpoint, &mut rounds).await?;
        progress(format_args!("{name}: {} of {} storms done", rounds.exchanges.len(), options.rounds));
    }
    accounts.close().await;
    blocking(move || servers.into_iter().try_for_each(Server::stop)).await?;
    Ok(rounds)
}

fn made(binary: &Path, directory: &Path, engine: Engine) -> Result<(Install, Access)> {
    let install = Install::create(binary, directory, engine)?;
    let server = install.serve(binary, &[])?;
    let access = install.make_access(&server)?;
    server.stop()?;
    Ok((install, access))
}

/// A storm, and then as many calls of the token that came of it.
async fn round(
    options: &Options,
    servers: &[SocketAddr],
    access: &Access,
    accounts: &Accounts,
    endpoint: &Endpoint,
    rounds: &mut Rounds,
) -> Result {
    let account = accounts.next();
    let (key, grants) = (Arc::clone(&access.key), [account.1.id].into());
    let plan = Plan::Retrieve(Retrieve { key, grants, pick: Pick::Random(1), is_fixed: false });
    let crowd = Crowd::gather(servers, &plan, options.callers).await?;
    accounts.write(account).await?;
    let stormed = crowd.call().await?;
    let answers = endpoint.answers();
    let first = answers.first().ok_or_else(|| Error("void: nobody renewed the token".to_owned()))?;
    let after = stormed.ended.saturating_duration_since(*first);
    let calm = Crowd::gather(servers, &plan, options.callers).await?.call().await?;
    if !endpoint.answers().is_empty() {
        return Err(Error("void: a token that had not ended was renewed".to_owned()));
    }
    let calm = calm.ended.saturating_duration_since(calm.began).max(Duration::from_micros(1));
    rounds.exchanges.push(as_float(u64::try_from(answers.len()).unwrap_or(u64::MAX)));
    rounds.after_ms.push(after.as_secs_f64() * 1e3);
    rounds.ratios.push(after.as_secs_f64() / calm.as_secs_f64());
    Ok(())
}
