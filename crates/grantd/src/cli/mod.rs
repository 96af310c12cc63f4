//! The command line: its tree, and the way from arguments to an exit code.

mod apps;
mod audit;
mod auth;
mod connect;
mod context;
mod end_users;
mod failure;
mod fields;
mod flags;
mod grants;
mod http;
mod identity_keys;
mod idp;
mod import;
mod input;
mod keys;
mod link;
mod logins;
mod man;
mod node;
mod operators;
mod organization;
mod overview;
mod progress;
mod providers;
mod qr;
mod request;
mod retention;
mod revocation;
mod scim;
mod secrets;
pub mod settings;
mod table;
mod tail;
mod term;
#[cfg(test)]
mod tests;
mod tokens;
mod trial;
mod verify;
mod webhook;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

pub use context::{Context, Format, Globals};
pub use failure::{Exit, Failure, chain};
pub use http::{Api, NoQuery, Token};
pub use input::confirm;
pub use progress::{Progress, Turning, Watched};
pub use table::escape;
pub use term::Term;
#[cfg(test)]
pub use term::testing;

use crate::backup::BackupArgs;
use crate::config::{Config, Flags};
use crate::dev::{DevArgs, LOG_BEFORE_READY};
use crate::doctor::DoctorArgs;
use crate::env::Env;
use crate::init::InitArgs;
use crate::operator::OperatorCommand;
use crate::restore::RestoreArgs;
use crate::rotate::RotateArgs;
use crate::serve::ServeArgs;
use crate::telemetry::{self, Logging};

/// Self-hosted credential vault: applications hold a grant id, grantd holds the credential.
#[derive(Parser)]
#[command(
    name = "grantd",
    version,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = "Examples:
  grantd dev                                  try it out on this machine
  grantd apps create --name shop              create an app
  grantd keys mint --name web                 mint a key for it
  grantd managed-secrets create --name stripe --value - \\
      --allowed-host api.stripe.com           store a secret
  grantd audit list --since 1h                see what happened

Exit codes: 0 ok, 1 error, 2 usage, 3 not signed in, 4 not found, 5 conflict,
6 rate limited, 7 forbidden, 8 cancelled."
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create data directory, root key, database and the first operator
    #[command(after_help = "Example:\n  grantd init --data-dir /var/lib/grantd")]
    Init(InitArgs),
    /// Run the server
    #[command(after_help = "Examples:
  grantd serve --data-dir /var/lib/grantd
  grantd serve --listen 0.0.0.0:8443 --public-url https://grantd.example.com \\
      --tls-cert-file c.pem --tls-key-file k.pem")]
    Serve(ServeArgs),
    /// Run a server to try things out, with a first app, key, grant and demo API
    #[command(after_help = "Examples:\n  grantd dev\n  grantd dev --ephemeral --output json")]
    Dev(DevArgs),
    /// Look at the configuration
    #[command(subcommand, after_help = "Example:\n  grantd config show")]
    Config(settings::ConfigCommand),
    /// Sign in to a server, and see who is
    #[command(
        subcommand,
        after_help = "Examples:\n  grantd auth login --server https://grantd.example.com\n  grantd auth whoami"
    )]
    Auth(auth::AuthCommand),
    /// Make an app the default for this directory and those below it
    #[command(after_help = "Example:\n  grantd link 0199c0de-0000-7000-8000-00000000beef")]
    Link(link::LinkArgs),
    /// Take the default app of this directory away
    #[command(after_help = "Example:\n  grantd unlink")]
    Unlink,
    /// Create and change apps
    #[command(subcommand, visible_alias = "app", after_help = "Example:\n  grantd apps create --name shop")]
    Apps(apps::AppsCommand),
    /// Mint, rotate and revoke the keys that applications use
    #[command(subcommand, visible_alias = "key", after_help = "Example:\n  grantd keys mint --name web")]
    Keys(keys::KeysCommand),
    /// Register apps with OAuth providers, and see which are known
    #[command(
        subcommand,
        visible_alias = "provider",
        after_help = "Examples:
  grantd providers list-catalog
  grantd providers create google --client-id 1234.apps.example.com \\
      --client-secret @secret.txt"
    )]
    Providers(providers::ProvidersCommand),
    /// Register identity providers, whose tokens say whom a call is of
    #[command(
        subcommand,
        visible_alias = "identity-providers",
        after_help = "Examples:
  grantd idp list
  grantd idp create --preset okta --audience api://default \\
      --issuer https://company.okta.com/oauth2/default"
    )]
    Idp(idp::IdpCommand),
    /// List, suspend and deprovision the users of an app
    #[command(
        subcommand,
        visible_alias = "end-user",
        after_help = "Example:\n  grantd end-users list --status suspended"
    )]
    EndUsers(end_users::EndUsersCommand),
    /// List the groups that users of an app are in
    #[command(subcommand, visible_alias = "group", after_help = "Example:\n  grantd groups list")]
    Groups(end_users::GroupsCommand),
    /// Store, rotate and delete secrets
    #[command(
        subcommand,
        visible_alias = "secrets",
        after_help = "Example:
  grantd managed-secrets create --name stripe --value - \\
      --allowed-host api.stripe.com"
    )]
    ManagedSecrets(secrets::SecretsCommand),
    /// Take secrets over from .env files, tables, OpenBao and Vault
    #[command(subcommand, after_help = "Example:\n  grantd import env .env --dry-run")]
    Import(import::ImportCommand),
    /// List, change and revoke grants
    #[command(subcommand, visible_alias = "grant", after_help = "Example:\n  grantd grants list --status active")]
    Grants(grants::GrantsCommand),
    /// Connect an account at a provider: prints a link for a browser, here or on a phone, and waits
    #[command(after_help = "Examples:
  grantd connect google
  grantd connect github --scopes repo,read:org --label ci --expires-in 90d
  grantd connect google --repair 0199c0de-0000-7000-8000-00000000beef
  grantd connect --no-browser --timeout 2m --output json

Ctrl-C ends the waiting, with exit code 8. The link works on until its time
is over.")]
    Connect(connect::ConnectArgs),
    /// Count what happened: calls and their outcomes, how long they took, renewals, and why calls were refused
    #[command(after_help = "Examples:
  grantd overview
  grantd overview --range 30d --all-apps")]
    Overview(overview::OverviewArgs),
    /// See what happened, and prove it
    #[command(subcommand, after_help = "Example:\n  grantd audit list --since 1h --outcome denied")]
    Audit(audit::AuditCommand),
    /// Show and rename the organization
    #[command(subcommand, after_help = "Example:\n  grantd organization show")]
    Organization(organization::OrganizationCommand),
    /// Say how an app looks on pages for end users
    #[command(subcommand, after_help = "Example:\n  grantd branding get")]
    Branding(organization::BrandingCommand),
    /// Say who administers, and with which role
    #[command(subcommand, after_help = "Example:\n  grantd operators list")]
    Operators(operators::OperatorsCommand),
    /// Make and revoke personal access tokens
    #[command(subcommand, visible_alias = "token", after_help = "Example:\n  grantd tokens create --name laptop")]
    Tokens(tokens::TokensCommand),
    /// List and rotate the keys that sign assertions of identity
    #[command(subcommand, after_help = "Example:\n  grantd identity-keys list")]
    IdentityKeys(identity_keys::IdentityKeysCommand),
    /// Let operators in to the portal, or in again, on the host of the database
    #[command(
        subcommand,
        after_help = "Examples:
  grantd operator login-link --data-dir /var/lib/grantd
  grantd operator reset --data-dir /var/lib/grantd"
    )]
    Operator(OperatorCommand),
    /// Copy the embedded database while it is being served, without the root key
    #[command(after_help = "Examples:
  grantd backup --data-dir /var/lib/grantd --out /backups
  grantd backup --data-dir /var/lib/grantd --out before-upgrade.db")]
    Backup(BackupArgs),
    /// Put a backup in place, without bringing back what was revoked since
    #[command(after_help = "Examples:
  grantd restore /backups/grantd-20261128T084027Z.db \\
      --data-dir /var/lib/grantd --replay shop.jsonl --replay billing.jsonl
  grantd restore --in-place --replay shop.jsonl")]
    Restore(RestoreArgs),
    /// Look configuration, keys, database, disk, clock, network and backups over, and say how to mend what is wrong
    #[command(after_help = "Examples:
  grantd doctor --data-dir /var/lib/grantd
  grantd doctor --config grantd.toml --output json

Exit code 1 when something is wrong.")]
    Doctor(DoctorArgs),
    /// Wrap everything under another root key, while it is being served
    #[command(after_help = "Example:
  grantd rotate-root-key --data-dir /var/lib/grantd --to file:/etc/new.key")]
    RotateRootKey(RotateArgs),
    /// Make one real call through a grant, to try it out
    #[command(after_help = "The call is made with the key in ALTER_API_KEY, or --api-key-file; without one,
with a key that is minted for it and revoked after it.

Examples:
  grantd request GET https://api.stripe.com/v1/balance \\
      --grant 0199c0de-0000-7000-8000-00000000beef
  grantd request POST https://api.example.com/v1/things \\
      --grant 0199c0de-0000-7000-8000-00000000beef --json @thing.json")]
    Request(request::RequestArgs),
    /// Print a completion script
    #[command(after_help = "Example:
  grantd completion bash > ~/.local/share/bash-completion/completions/grantd")]
    Completion(CompletionArgs),
    /// Write manual pages
    #[command(after_help = "Example:\n  grantd man --out ~/.local/share/man/man1")]
    Man(man::ManArgs),
    /// Print the OpenAPI document of the management API, to generate a client from
    #[command(after_help = "Example:\n  grantd openapi > openapi.json")]
    Openapi,
}

#[derive(clap::Args)]
struct CompletionArgs {
    /// Whose script
    shell: CompletionShell,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

/// Runs one command line.
pub async fn run(arguments: impl IntoIterator<Item = OsString>, env: Env, term: Term) -> Exit {
    run_in(std::env::current_dir().unwrap_or_default(), arguments, env, term).await
}

/// Runs one command line in a directory.
async fn run_in(directory: PathBuf, arguments: impl IntoIterator<Item = OsString>, env: Env, mut term: Term) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut command = Cli::command();
    let parsed = command
        .try_get_matches_from_mut(&arguments)
        .and_then(|matches| Ok((Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command))?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return report_usage(&error, &arguments, &mut term),
    };
    let mut context = Context { globals: cli.globals, env, term, directory };
    match dispatch(cli.command, &mut context).await {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            let failure = flags::translate(failure, flags::called(&command, &matches));
            report(&failure, is_json(context.globals.output), &mut context.term);
            failure.exit
        }
    }
}

async fn dispatch(command: Command, context: &mut Context) -> Result<(), Failure> {
    match command {
        Command::Init(args) => {
            let config = load(&args.install.settings(), args.install.config.as_deref(), context)?;
            crate::init::run(config, args, context).await
        }
        Command::Serve(args) => {
            let config = load(&args.settings, args.config.as_deref(), context)?;
            crate::serve::run(config, args, context).await
        }
        Command::Dev(args) => {
            let config = settings::load_for_dev(&args.settings(), context)?;
            let log = if config.is_default("log") { LOG_BEFORE_READY } else { &config.log };
            let logging = start_logging(&config, log, context)?;
            crate::dev::run(config, args, &logging, context).await
        }
        Command::Config(command) => settings::run(command, context),
        Command::Auth(command) => auth::run(command, context).await,
        Command::Link(args) => link::link(args, context).await,
        Command::Unlink => link::unlink(context),
        Command::Apps(command) => apps::run(command, context).await,
        Command::Keys(command) => keys::run(command, context).await,
        Command::ManagedSecrets(command) => secrets::run(command, context).await,
        Command::Import(command) => import::run(command, context).await,
        Command::Grants(command) => grants::run(command, context).await,
        Command::Connect(args) => connect::run(args, context).await,
        Command::Overview(args) => overview::run(args, context).await,
        Command::Audit(command) => audit::run(command, context).await,
        Command::Organization(command) => organization::run(command, context).await,
        Command::Branding(command) => organization::run_branding(command, context).await,
        Command::Operators(command) => operators::run(command, context).await,
        Command::Providers(command) => providers::run(command, context).await,
        Command::Idp(command) => idp::run(command, context).await,
        Command::EndUsers(command) => end_users::run(command, context).await,
        Command::Groups(command) => end_users::run_groups(command, context).await,
        Command::IdentityKeys(command) => identity_keys::run(command, context).await,
        Command::Tokens(command) => tokens::run(command, context).await,
        Command::Operator(OperatorCommand::Reset(args)) => {
            let config = load(&args.settings(), args.config.as_deref(), context)?;
            crate::operator::reset(config, context).await
        }
        Command::Operator(OperatorCommand::LoginLink(args)) => {
            let config = load(&args.settings(), args.config.as_deref(), context)?;
            crate::operator::login_link(config, args, context).await
        }
        Command::Backup(args) => {
            let config = load(&args.settings(), args.config.as_deref(), context)?;
            crate::backup::run(config, args, context).await
        }
        Command::Restore(args) => {
            let config = load(&args.install.settings(), args.install.config.as_deref(), context)?;
            crate::restore::run(config, args, context).await
        }
        Command::Doctor(args) => crate::doctor::run(args, context).await,
        Command::RotateRootKey(args) => {
            let config = load(&args.install.settings(), args.install.config.as_deref(), context)?;
            crate::rotate::run(config, args, context).await
        }
        Command::Request(args) => trial::run(args, context).await,
        Command::Completion(args) => complete(args.shell, &mut context.term),
        Command::Man(args) => man::run(&args, Cli::command(), &mut context.term),
        Command::Openapi => context.term.print(&String::from_utf8_lossy(&grantd_server::openapi::text())),
    }
}

/// The configuration of a command that serves or initialises; logging starts with it.
fn load(flags: &Flags, file: Option<&std::path::Path>, context: &mut Context) -> Result<Config, Failure> {
    let config = settings::load(flags, file, context)?;
    start_logging(&config, &config.log, context)?;
    Ok(config)
}

fn start_logging(config: &Config, log: &str, context: &mut Context) -> Result<Logging, Failure> {
    let logging = telemetry::init(config, log).map_err(Failure::usage)?;
    for warning in &config.warnings {
        context.term.warn(warning);
    }
    Ok(logging)
}

fn complete(shell: CompletionShell, term: &mut Term) -> Result<(), Failure> {
    let shell = match shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Zsh => Shell::Zsh,
        CompletionShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "grantd", &mut script);
    term.print(&String::from_utf8_lossy(&script))
}

fn is_json(output: Option<Format>) -> bool {
    matches!(output, Some(Format::Json | Format::Jsonl))
}

fn report(failure: &Failure, json: bool, term: &mut Term) {
    if failure.silent {
        return;
    }
    // Already one line, and escaped.
    let line = if json { failure.json() } else { failure.line() };
    let _ = writeln!(term.err, "{line}");
}

/// Help and version are answers; everything else is a usage error, in clap's words.
fn report_usage(error: &clap::Error, arguments: &[OsString], term: &mut Term) -> Exit {
    let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let styled = |is_terminal: bool, term: &Term| {
        let text = error.render();
        if is_terminal && term.color_is_wanted { text.ansi().to_string() } else { text.to_string() }
    };
    if is_answer {
        let text = styled(term.stdout_is_terminal, term);
        return term.print(&text).map_or_else(|failure| failure.exit, |()| Exit::Ok);
    }
    if asks_for_json(arguments) {
        let text = error.render().to_string();
        let hint = "Run the command with --help to see what it takes.";
        report(&Failure::usage(one_line(&text)).hint(hint), true, term);
    } else {
        let text = styled(term.stderr_is_terminal, term);
        let _ = write!(term.err, "{text}");
    }
    Exit::Usage
}

/// clap's lines up to its usage, as one: a list follows its colon, everything else a semicolon.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let mut message = String::new();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")) {
        if !message.is_empty() {
            message.push_str(if message.ends_with(':') { " " } else { "; " });
        }
        message.push_str(line.trim_start_matches("error: "));
    }
    message
}

/// The arguments could not be read, so only their plain text tells.
fn asks_for_json(arguments: &[OsString]) -> bool {
    let pairs = arguments.iter().zip(arguments.iter().skip(1).map(Some).chain([None]));
    pairs.filter_map(|(argument, next)| Some((argument.to_str()?, next.and_then(|n| n.to_str())))).any(
        |pair| match pair {
            ("--output", Some(format)) => format.starts_with("json"),
            (argument, _) => argument.starts_with("--output=json"),
        },
    )
}
