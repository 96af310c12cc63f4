//! What this client costs a call: `cargo xtask overhead` runs it beside the Python client. Arguments: calls, and calls at once.
//! Prints one line of JSON. The environment is that of `first_call`.
#![expect(clippy::disallowed_methods, reason = "a program may read its own environment, and this one is about time")]

use std::env::{args, var};
use std::error::Error;
use std::time::{Duration, Instant};

use grantd_sdk::App;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<usize> = args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    let [calls, at_once] = numbers[..] else { return Err("give the number of calls, and how many at once".into()) };
    let (app, url, grant) = (App::from_env()?, format!("{}/hello", var("DEMO_URL")?), var("GRANT_ID")?);
    run(&app, &url, &grant, calls / 10, at_once).await?;
    app.close().await;

    let (started, cpu) = (Instant::now(), cpu_time()?);
    let mut took = run(&app, &url, &grant, calls, at_once).await?;
    app.close().await;
    let (elapsed, cpu) = (started.elapsed(), cpu_time()?.saturating_sub(cpu));
    took.sort_unstable();
    let calls = took.len();
    let per_call = |time: Duration| time.as_micros() / calls as u128;
    println!(
        r#"{{"calls":{calls},"at_once":{at_once},"p50_us":{},"p99_us":{},"cpu_us":{},"elapsed_us":{}}}"#,
        took[calls / 2].as_micros(),
        took[calls * 99 / 100].as_micros(),
        per_call(cpu),
        per_call(elapsed),
    );
    Ok(())
}

/// How long each call took.
async fn run(app: &App, url: &str, grant: &str, calls: usize, at_once: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut workers = Vec::new();
    for _ in 0..at_once {
        let (app, url, grant) = (app.clone(), url.to_owned(), grant.to_owned());
        workers.push(tokio::spawn(async move {
            let mut took = Vec::new();
            for _ in 0..calls / at_once {
                let started = Instant::now();
                app.request("GET", &url).grant_id(&grant).reason("overhead").send().await?;
                took.push(started.elapsed());
            }
            Ok::<_, grantd_sdk::Error>(took)
        }));
    }
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await??);
    }
    Ok(all)
}

/// Processor time of this process, in steps of 10 ms.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
