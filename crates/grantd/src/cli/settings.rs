//! `grantd config`: what the server would run with.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::node::Node;
use super::table::column;
use crate::config::{Config, ConfigError, Flags, Inputs};

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Print every setting, its value and where that came from; passwords are hidden
    #[command(after_help = "Examples:\n  grantd config show\n  grantd config show --config grantd.toml --output json")]
    Show(ShowArgs),
}

#[derive(Args)]
pub struct ShowArgs {
    /// Configuration file [default: ./grantd.toml if it exists] [env: GRANTD_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Flags,
}

pub fn run(command: ConfigCommand, context: &mut Context) -> Result<(), Failure> {
    let ConfigCommand::Show(args) = command;
    let config = load(&args.settings, args.config.as_deref(), context)?;
    for warning in &config.warnings {
        context.term.warn(warning);
    }
    let entries: Vec<(String, Node, String)> =
        config.shown.iter().map(|s| (s.name.to_owned(), Node::of(&s.value), s.source.to_string())).collect();
    let text = |text: String| Node::Text(text);
    let field = |name: &str, node: Node| (name.to_owned(), node);
    context.show_map(
        entries.into_iter().map(|(name, value, source)| {
            (name, Node::Object(vec![field("value", value), field("source", text(source))]))
        }),
        &[column("VALUE", "value"), column("SOURCE", "source")],
    )
}

/// The configuration that flags, environment and file make.
pub fn load(flags: &Flags, file: Option<&Path>, context: &Context) -> Result<Config, Failure> {
    of_inputs(flags, file, false, context)
}

/// That of `dev`, which listens on loopback only.
pub fn load_for_dev(flags: &Flags, context: &Context) -> Result<Config, Failure> {
    of_inputs(flags, None, true, context)
}

fn of_inputs(flags: &Flags, file: Option<&Path>, loopback_only: bool, context: &Context) -> Result<Config, Failure> {
    let data_dir = context.globals.data_dir.as_ref().map(|dir| dir.display().to_string());
    let flags = flags.clone().with("data_dir", data_dir);
    let stderr_is_terminal = context.term.stderr_is_terminal;
    let inputs = Inputs { flags: &flags, env: &context.env, file, stderr_is_terminal, loopback_only };
    Config::load(&inputs).map_err(|error| match error {
        ConfigError::BeyondLoopback { .. } => Failure::usage(error.to_string()),
        _ => Failure {
            error: "invalid_config".to_owned(),
            hint: Some("See `grantd serve --help` for every setting.".to_owned()),
            ..Failure::from_error(Exit::Error, &error)
        },
    })
}
