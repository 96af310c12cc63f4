//! The verb `overhead`: what a call costs in the Rust client, and in the official Python one, against the same vault.

use serde_json::Value;

use crate::dev::Dev;
use crate::{Result, command, repository, tools};

/// Cargo profile of what is measured.
const PROFILE: &str = "release";
/// Calls of a run, after a tenth of them to warm up.
const CALLS: &str = "2000";
/// Calls at once, run after run.
const AT_ONCE: &[&str] = &["1", "16"];

pub fn run() -> Result {
    tools::for_conformance()?;
    let mut build = command::cargo();
    build.args(["build", "--locked", "--profile", PROFILE, "--package", "grantd", "--bin", "grantd"]);
    // In one go: cargo gives dependencies the features of what is chosen, and would compile them anew for the client alone.
    command::run(build.args(["--package", "grantd-sdk", "--example", "overhead"]))?;
    let built = repository::target().join(PROFILE);
    let (_dev, ready) = Dev::start(command::command(built.join("grantd")))?;
    println!("One call: a release, GET of a provider on loopback, a report. Microseconds.\n");
    println!("{:<28} {:>8} {:>8} {:>8} {:>10}", "client, calls at once", "p50", "p99", "CPU", "time/call");
    for at_once in AT_ONCE {
        let rust = command::command(built.join("examples/overhead"));
        let mut python = command::command(tools::VENV_NEWEST.python());
        python.arg(repository::root().join("conformance/overhead.py"));
        for (name, mut program) in [("grantd-sdk (Rust)", rust), ("alter-sdk (Python)", python)] {
            for (variable, field) in [
                ("ALTER_API_KEY", "api_key"),
                ("ALTER_BASE_URL", "base_url"),
                ("DEMO_URL", "demo_url"),
                ("GRANT_ID", "grant_id"),
            ] {
                program.env(variable, ready[field].as_str().ok_or("grantd dev did not say everything")?);
            }
            let measured: Value = serde_json::from_str(&command::output(program.args([CALLS, at_once]))?)?;
            let figure = |field: &str| measured[field].as_u64().unwrap_or_default();
            println!(
                "{:<28} {:>8} {:>8} {:>8} {:>10}",
                format!("{name}, {at_once}"),
                figure("p50_us"),
                figure("p99_us"),
                figure("cpu_us"),
                figure("elapsed_us")
            );
        }
    }
    Ok(())
}
