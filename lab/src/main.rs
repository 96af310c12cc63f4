//! `grantd-lab`: measures grantd from outside. `cargo xtask bench` builds what it needs and runs it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use grantd_lab::bench::{self, Options, Output};
use grantd_lab::grantd::{Engine, Install, block_on};
use grantd_lab::load::{Load, run};
use grantd_lab::plan::{Pick, Plan, Retrieve};
use grantd_lab::{Error, Result, fill, peers};
use grantd_wire::ids::GrantId;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load and measurements for grantd. A measuring tool: it is no part of the product.
#[derive(Parser)]
#[command(name = "grantd-lab", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make an install with an app, a key and grants, serve it, print how to load it, and hold until Ctrl-C
    Up(Up),
    /// Load a server with signed retrieves, and print what it did as JSON
    Load(LoadArgs),
    /// Serve the bare axum answer that retrieves are compared with
    Axum(Axum),
    /// Prove user tokens whose keys are at hand, and print what it costs as JSON; fails past the budget
    Tokens(Tokens),
    /// Measure, compare and judge; `cargo xtask bench` builds everything and calls this
    Bench(Bench),
}

#[derive(Args)]
struct Tokens {
    /// Tokens of each algorithm that are proved
    #[arg(long, default_value_t = 20_000)]
    rounds: usize,
}

#[derive(Args)]
struct Bench {
    /// The grantd binary that is measured
    #[arg(long, value_name = "FILE")]
    grantd: PathBuf,
    /// The one that was built to write no event
    #[arg(long, value_name = "FILE")]
    unaudited: Option<PathBuf>,
    /// A PostgreSQL server on which databases named grantd_lab_… may be made
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// OpenBao's program [default: `bao` on PATH]
    #[arg(long, value_name = "FILE")]
    bao: Option<PathBuf>,
    /// nginx's program [default: `nginx` on PATH]
    #[arg(long, value_name = "FILE")]
    nginx: Option<PathBuf>,
    /// Where the run puts its files; a directory in it is made and removed
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Fewer rounds and grants: to see that it works, not to report
    #[arg(long, conflicts_with_all = ["scale", "soak"])]
    quick: bool,
    /// Only the refresh storm: callers at once for one account whose token has ended
    #[arg(long, conflicts_with_all = ["scale", "soak"])]
    storm: bool,
    /// Callers of a refresh storm [default: 10000; quick: 500]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    callers: Option<u16>,
    /// A million grants and ten million events, or as many as the disk has room for
    #[arg(long, conflicts_with = "soak")]
    scale: bool,
    /// Only pages of the portal, with 100,000 grants and 1,000,000 events behind them; quick: 2,000 and 20,000
    #[arg(long, conflicts_with_all = ["scale", "soak", "storm"])]
    pages: bool,
    /// Load for so many minutes, and tell whether memory grows
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=1440))]
    soak: Option<u64>,
    /// Rounds of every case [default: 5; quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: Option<u16>,
    /// Seconds a round of a case [default: 2; quick: 0.5]
    #[arg(long)]
    seconds: Option<f64>,
    /// Grants [default: 20000; quick: 2000; scale: 1000000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    grants: Option<u32>,
    /// Events of a run on a full database [default: 10000000; pages: 1000000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    events: Option<u64>,
    /// Connections
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4_000))]
    connections: u16,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Args)]
struct Up {
    /// The grantd binary
    #[arg(long, value_name = "FILE")]
    grantd: PathBuf,
    /// A new directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// An empty PostgreSQL database, instead of SQLite
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Grants to make
    #[arg(long, default_value_t = 1_000)]
    grants: usize,
    /// Events to append before it serves
    #[arg(long, default_value_t = 0)]
    events: u64,
}

#[derive(Args)]
struct LoadArgs {
    /// The server
    #[arg(long)]
    address: SocketAddr,
    /// A file with the API key's text
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// A file with a grant id a line
    #[arg(long, value_name = "FILE")]
    grants_file: PathBuf,
    /// Connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Threads of the client
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Seconds that count
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds before them
    #[arg(long, default_value_t = 1.0)]
    warm: f64,
    /// Ask for every grant once, instead of for random ones
    #[arg(long)]
    each: bool,
    /// The server is the lab's `axum`
    #[arg(long)]
    fixed: bool,
}

#[derive(Args)]
struct Axum {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// Bytes of an answer
    #[arg(long, default_value_t = 2_000)]
    bytes: usize,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Up(args) => up(&args),
        Verb::Load(args) => load(&args),
        Verb::Axum(args) => axum(&args),
        Verb::Tokens(args) => tokens(&args),
        Verb::Bench(args) => bench(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tokens(args: &Tokens) -> Result {
    let costs = grantd_lab::tokens::measure(args.rounds)?;
    println!("{}", json!(costs));
    let budget = grantd_lab::tokens::BUDGET_US;
    match costs.iter().find(|cost| cost.median_us > budget) {
        Some(cost) => {
            Err(Error(format!("{} takes {:.0} µs; at most {budget:.0} are right", cost.algorithm, cost.median_us)))
        }
        None => Ok(()),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new().map_err(|e| Error::because("cannot start a runtime", e))
}

fn up(args: &Up) -> Result {
    let engine = args.postgres.clone().map_or(Engine::Sqlite, Engine::Postgres);
    let install = Install::create(&args.grantd, &args.dir, engine)?;
    let server = install.serve(&args.grantd, &[])?;
    let access = install.make_access(&server)?;
    server.stop()?;
    let runtime = runtime()?;
    let filled = runtime.block_on(fill::grants(&install, access.app, args.grants))?;
    if args.events > 0 {
        runtime.block_on(fill::events(&install, &access, &filled.grants, args.events))?;
    }
    let write = |name: &str, text: &str| {
        let path = args.dir.join(name);
        std::fs::write(&path, text).map_err(|e| Error::because(format_args!("cannot write {}", path.display()), e))?;
        Ok(path)
    };
    let key_file = write("lab.key", &access.key)?;
    let ids: Vec<String> = filled.grants.iter().map(GrantId::to_string).collect();
    let grants_file = write("lab.grants", &ids.join("\n"))?;
    let server = install.serve(&args.grantd, &[])?;
    println!(
        "{}",
        json!({
            "address": server.address, "pid": server.pid(), "data_dir": args.dir, "app_id": access.app,
            "key_file": key_file, "grants_file": grants_file, "grants": ids.len(),
        })
    );
    eprintln!(
        "grantd-lab load --address {} --key-file {} --grants-file {}",
        server.address,
        key_file.display(),
        grants_file.display()
    );
    block_on(async { tokio::signal::ctrl_c().await.map_err(|e| Error::because("cannot wait for Ctrl-C", e)) })?;
    server.stop()
}

fn load(args: &LoadArgs) -> Result {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|e| Error::because(format_args!("cannot read {}", path.display()), e))
    };
    let key = read(&args.key_file)?;
    let ids = read(&args.grants_file)?;
    let parse = |line: &str| GrantId::parse(line).ok_or_else(|| Error(format!("`{line}` is no grant id")));
    let grants: Vec<GrantId> = ids.lines().map(parse).collect::<Result<_>>()?;
    let pick = if args.each { Pick::Each } else { Pick::Random(grants.len()) };
    let plan = Plan::Retrieve(Retrieve { key: key.trim().into(), grants: grants.into(), pick, is_fixed: args.fixed });
    let seconds = |value: f64, name: &str| {
        Duration::try_from_secs_f64(value).map_err(|e| Error::because(format_args!("--{name}"), e))
    };
    let load = Load {
        connections: args.connections,
        threads: args.threads,
        warm_up: seconds(args.warm, "warm")?,
        measured: seconds(args.seconds, "seconds")?,
    };
    let outcome = run(args.address, &plan, load)?;
    println!("{}", json!({ "requests": outcome.requests, "seconds": outcome.seconds, "figures": outcome.figures() }));
    Ok(())
}

fn axum(args: &Axum) -> Result {
    runtime()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen).await;
        let listener = listener.map_err(|e| Error::because(format_args!("cannot listen on {}", args.listen), e))?;
        peers::serve_axum(listener, args.bytes).await
    })
}

fn bench(args: &Bench) -> Result {
    let directory = args.dir.join(format!("grantd-bench-{}", std::process::id()));
    let failed = |what: &str, e| Error::because(format_args!("cannot {what} {}", directory.display()), e);
    std::fs::create_dir_all(&directory).map_err(|e| failed("make", e))?;
    // Peers are told whole paths.
    let directory = directory.canonicalize().map_err(|e| failed("find", e))?;
    let failed = |what: &str, e| Error::because(format_args!("cannot {what} {}", directory.display()), e);
    let (rounds, seconds, grants, callers) = match (args.quick, args.scale) {
        (true, _) => (1, 0.5, 2_000, 500),
        (_, true) => (5, 2.0, 1_000_000, 10_000),
        _ if args.pages => (3, 1.0, 100_000, 10_000),
        _ => (5, 2.0, 20_000, 10_000),
    };
    let events = match (args.pages, args.quick) {
        (true, true) => 20_000,
        (true, false) => 1_000_000,
        _ => 10_000_000,
    };
    let seconds = args.seconds.unwrap_or(seconds);
    if !(0.1..=600.0).contains(&seconds) {
        return Err(Error(format!("--seconds is {seconds}: it must be from 0.1 to 600")));
    }
    let options = Options {
        grantd: args.grantd.clone(),
        unaudited: args.unaudited.clone(),
        postgres: args.postgres.clone(),
        openbao: args.bao.clone().or_else(|| on_path("bao")),
        nginx: args.nginx.clone().or_else(|| on_path("nginx")),
        directory: directory.clone(),
        rounds: args.rounds.map_or(rounds, usize::from),
        seconds,
        warm: seconds / 2.0,
        connections: usize::from(args.connections),
        grants: args.grants.map_or(grants, |grants| usize::try_from(grants).unwrap_or(usize::MAX)),
        events: args.events.unwrap_or(events),
        callers: args.callers.map_or(callers, usize::from),
    };
    let runtime = runtime()?;
    let measured = runtime.block_on(async {
        let measured = async {
            match (args.scale, args.soak) {
                (true, _) => bench::scale(&options).await,
                (_, Some(minutes)) => bench::soak(&options, minutes).await,
                _ if args.pages => bench::pages(&options).await,
                _ if args.storm => bench::storm(&options).await,
                _ => bench::standard(&options).await,
            }
        };
        tokio::select! {
            measured = measured => measured,
            _ = tokio::signal::ctrl_c() => Err(Error("interrupted: there is no result".to_owned())),
        }
    });
    // After Ctrl-C a case may still be under way, on a thread of its own: it ends with this process.
    runtime.shutdown_background();
    // Whatever became of the run, it leaves nothing behind: a scale run is tens of gigabytes.
    let removed = std::fs::remove_dir_all(&directory).map_err(|e| failed("remove", e));
    let mut report = measured?;
    report.sort();
    println!("{}", report.print(args.output));
    removed?;
    if report.is_valid() { Ok(()) } else { Err(Error("a case is void: the run does not count".to_owned())) }
}

/// The first directory of PATH that holds a file of this name.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|candidate| candidate.is_file())
}
