//! The verb `openapi`: the document of the management API before a public validator, and the API itself before schemathesis, which
//! makes calls up from the document and holds every answer against it.

use serde_json::Value;

use crate::dev::Dev;
use crate::{Result, command, repository, tools};

/// The same calls every time.
const SEED: &str = "1";
/// Calls made up for each operation, beside those from the document's bounds and examples.
const EXAMPLES_MAX: &str = "15";
/// No answer of 500 or more, and none that the document does not know.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
/// They would take away the token, its operator, or the app that all calls are made with.
const LEFT_OUT: [&str; 4] = ["revokeToken", "updateOperator", "archiveApp", "deleteApp"];

pub fn run() -> Result {
    tools::for_openapi()?;
    let venv = tools::VENV_OPENAPI;
    let document = repository::root().join("docs/openapi.json");
    command::run(command::command(venv.python()).args(["-m", "openapi_spec_validator"]).arg(document))?;

    command::run(command::cargo().args(["build", "--locked", "--package", "grantd"]))?;
    let (_dev, ready) = Dev::start(command::command(repository::target().join("debug/grantd")))?;
    let told = |field: &str| ready[field].as_str().map(str::to_owned).ok_or("grantd dev did not say everything");
    let directory = repository::target().join("openapi");
    std::fs::create_dir_all(&directory)?;
    // An id that is made up names nothing, and nothing behind it would be reached.
    let parameters = format!("[parameters]\n\"path.app_id\" = {}\n", Value::from(told("app_id")?));
    std::fs::write(directory.join("schemathesis.toml"), parameters)?;
    let mut schemathesis = command::command(venv.program("schemathesis"));
    schemathesis.current_dir(&directory).args(["run", &format!("{}/api/v1/openapi.json", told("base_url")?)]);
    schemathesis.args(["--header", &format!("Authorization: Bearer {}", told("pat")?)]);
    schemathesis.args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--no-color"]);
    schemathesis.args(["--seed", SEED, "--max-examples", EXAMPLES_MAX, "--warnings", "off"]);
    schemathesis.args(LEFT_OUT.iter().flat_map(|operation| ["--exclude-operation-id", *operation]));
    // The token is in its arguments, so they are not repeated.
    match schemathesis.status()?.success() {
        true => Ok(()),
        false => Err("the API and its document differ: see above".into()),
    }
}
