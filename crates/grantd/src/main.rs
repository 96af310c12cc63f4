//! The one binary: arguments, environment, real clock, keys; `serve`, `dev`, and the command line on `/api/v1`.

mod boot;
mod cli;
mod config;
mod demo;
mod dev;
mod env;
mod host;
mod init;
mod operator;
mod root_key;
mod serve;
mod telemetry;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let env = env::Env::of_process();
    let term = cli::Term::of_process(&env);
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::run(std::env::args_os(), env, term)).into(),
        Err(error) => {
            eprintln!("error: cannot start threads: {error}");
            ExitCode::FAILURE
        }
    }
}
