//! The document of the management API before a public validator, and the API itself before schemathesis, which makes calls up from
//! the document and holds every answer against it.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::dev::Dev;
use crate::{Result, command, repository, tools};

pub fn run(grantd: &Path) -> Result {
    tools::for_openapi()?;
    let venv = tools::VENV_OPENAPI;
    let document = repository::root().join("docs/openapi.json");
    command::run(command::command(venv.python()).args(["-m", "openapi_spec_validator"]).arg(document))?;

    let (_dev, ready) = Dev::start(command::command(grantd))?;
    let directory = repository::target().join("openapi");
    std::fs::create_dir_all(&directory)?;
    let mut calls = command::command(venv.python());
    calls.arg("conformance/openapi.py").arg(directory).stdin(Stdio::piped());
    let mut calls = calls.spawn()?;
    // The token is in it, so it is no argument.
    calls.stdin.take().ok_or("no input")?.write_all(ready.to_string().as_bytes())?;
    match calls.wait()?.success() {
        true => Ok(()),
        false => Err("conformance/openapi.py failed: see above".into()),
    }
}
