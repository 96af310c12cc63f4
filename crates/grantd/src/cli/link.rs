//! `grantd link`: a directory's app.

use std::path::{Path, PathBuf};

use clap::Args;
use grantd_wire::api::App;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure, WRITABLE};
use super::http::NoQuery;
use super::input::parse_reference;

/// In a directory, or in one above it.
const PLACE: [&str; 2] = [".grantd", "config.toml"];

#[derive(Args)]
pub struct LinkArgs {
    /// Id of the app [default: the only one]
    #[arg(value_name = "APP", value_parser = parse_reference)]
    position: Option<String>,
}

/// The file that links a directory.
pub fn file_of(directory: &Path) -> PathBuf {
    PLACE.iter().fold(directory.to_owned(), |path, part| path.join(part))
}

pub async fn link(args: LinkArgs, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    let asked = args.position.or_else(|| context.globals.app.clone());
    let id = match asked {
        Some(id) => id,
        None => super::context::only_app(&api).await?,
    };
    let app: App = api.get(&["apps", &id], &NoQuery {}).await?;
    let path = file_of(&context.directory);
    let mut table = read(&path)?.unwrap_or_default();
    table.insert("app_id".to_owned(), toml::Value::String(app.id.clone()));
    write(&path, &table)?;
    context.show(&json!({ "app_id": app.id, "name": app.name, "file": path.display().to_string() }))
}

/// Takes the link of this directory away; one of a directory above stays.
pub fn unlink(context: &mut Context) -> Result<(), Failure> {
    let path = file_of(&context.directory);
    let mut table = read(&path)?.unwrap_or_default();
    let Some(app) = table.remove("app_id") else {
        let message = format!("this directory is not linked: {} names no app", path.display());
        return Err(Failure::new(Exit::NotFound, "not_found", message)
            .hint("There is nothing to undo; `grantd link` links it to an app."));
    };
    if table.is_empty() {
        std::fs::remove_file(&path)
            .map_err(|e| Failure::local(format!("cannot remove {}: {e}", path.display())).hint(WRITABLE))?;
    } else {
        write(&path, &table)?;
    }
    context.show(&json!({ "app_id": app.as_str(), "file": path.display().to_string() }))
}

/// `None`: there is no such file that can be read.
pub fn read(path: &Path) -> Result<Option<toml::Table>, Failure> {
    let shown = path.display();
    // What may not be looked at up the tree is not meant.
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
    let table = toml::from_str(&text);
    table.map(Some).map_err(|_| Failure::usage(format!("{shown} is not TOML")).hint("Mend it, or pass --app."))
}

fn write(path: &Path, table: &toml::Table) -> Result<(), Failure> {
    let cannot =
        |error: std::io::Error| Failure::local(format!("cannot write {}: {error}", path.display())).hint(WRITABLE);
    std::fs::create_dir_all(path.parent().expect("it is in a directory")).map_err(cannot)?;
    std::fs::write(path, table.to_string()).map_err(cannot)
}
