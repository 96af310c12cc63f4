//! The one binary: arguments, environment, real clock, keys; `serve`, `dev`, and the command line on `/api/v1`.

mod backup;
mod boot;
mod cli;
mod config;
mod demo;
mod dev;
mod doctor;
mod env;
mod host;
mod init;
mod manifest;
mod notify;
mod operator;
mod process;
mod restore;
mod root_key;
mod rotate;
#[cfg(test)]
mod scratch;
mod serve;
mod telemetry;
mod tls;
#[cfg(feature = "otlp")]
mod traces;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let env = env::Env::of_process();
    #[cfg(feature = "crash-steps")]
    let env = match crash_steps(&env) {
        Ok(env) => env,
        Err(code) => return code,
    };
    let term = cli::Term::of_process(&env);
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(cli::run(std::env::args_os(), env, term));
            #[cfg(feature = "otlp")]
            traces::shutdown();
            telemetry::flush();
            exit.into()
        }
        Err(error) => {
            eprintln!("error: cannot start threads: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A program that can die on purpose: lists its steps, or arms the one that the variable names. Every other build of grantd refuses
/// the variable, as it does all it does not know.
#[cfg(feature = "crash-steps")]
fn crash_steps(env: &env::Env) -> Result<env::Env, ExitCode> {
    const VARIABLE: &str = "GRANTD_CRASH_STEP";
    match env.find(VARIABLE) {
        None => {}
        Some("list") => {
            println!("{}", grantd_store::crash::STEPS.join("\n"));
            return Err(ExitCode::SUCCESS);
        }
        Some(step) => grantd_store::crash::arm(step).map_err(|what| {
            eprintln!("error: {VARIABLE}: {what}");
            ExitCode::from(2)
        })?,
    }
    Ok(env.names().filter(|name| *name != VARIABLE).map(|name| (name, env.find(name).unwrap_or_default())).collect())
}
