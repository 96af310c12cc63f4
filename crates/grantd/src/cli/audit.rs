//! `grantd audit`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use grantd_domain::audit::Kind;
use grantd_wire::TimeMs;
use grantd_wire::api::{
    App, CheckpointPage, CheckpointsQuery, CursorPage, Erase, Erased, Event, EventsQuery, Organization,
};
use reqwest::Method;

use super::context::Context;
use super::failure::Failure;
use super::http::{Api, NoQuery};
use super::input::{Pair, When, confirm_name, limit_range, parse_id, parse_pair, parse_reference};
use super::progress::Progress;
use super::table::{column, minor};
use super::tail;
use super::verify::{self, VerifyArgs};
use crate::config::nearest;

#[derive(Subcommand)]
pub enum AuditCommand {
    /// List events, newest first
    #[command(after_help = "Examples:
  grantd audit list --context user_id=alice --since 7d
  grantd audit list --outcome denied --output jsonl --fields at,kind,code,host")]
    List(ListArgs),
    /// Show events as they happen, oldest first, until Ctrl-C
    #[command(after_help = "Examples:
  grantd audit tail
  grantd audit tail --outcome denied --since 10m --output jsonl")]
    Tail(TailArgs),
    /// Show one event
    #[command(after_help = "Examples:
  grantd audit show 0199c0de-0000-7000-8000-00000000beef
  grantd audit show --organization 0199c0de-0000-7000-8000-00000000beef")]
    Show(ShowArgs),
    /// Write all events that match, without a limit
    #[command(after_help = "Example:\n  grantd audit export --format jsonl --since 30d --out audit.jsonl")]
    Export(ExportArgs),
    /// Check an export offline: that nothing was changed, removed, reordered or cut off
    #[command(after_help = "Examples:
  grantd audit verify audit.jsonl
  grantd audit verify audit.jsonl --trust key.jwk --checkpoint last-month.jsonl")]
    Verify(VerifyArgs),
    /// List signed checkpoints, newest first: keep one elsewhere, and hold later exports against it
    #[command(after_help = "Examples:
  grantd audit checkpoints
  grantd audit checkpoints --limit 1 --output jsonl > checkpoint.json
  grantd audit verify audit.jsonl --checkpoint checkpoint.json")]
    Checkpoints(CheckpointsArgs),
    /// Erase the private part of events: path, reason, context, caller, address. Cannot be undone
    #[command(after_help = "Examples:
  grantd audit erase --context user_id=alice --reason 'Request 42'
  grantd audit erase --event 0199c0de-0000-7000-8000-00000000beef \\
      --reason 'Request 43' --confirm shop")]
    Erase(EraseArgs),
}

#[derive(Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true))]
pub struct EraseArgs {
    /// Id of one event
    #[arg(long, group = "which", value_parser = parse_id, conflicts_with_all = ["grant", "user", "agent", "key", "context"])]
    event: Option<String>,
    /// Id of a grant
    #[arg(long, group = "which", value_parser = parse_id)]
    grant: Option<String>,
    /// Id of a user
    #[arg(long, group = "which", value_parser = parse_id)]
    user: Option<String>,
    /// Id of an agent
    #[arg(long, group = "which", value_parser = parse_id)]
    agent: Option<String>,
    /// Id of a key
    #[arg(long, group = "which", value_parser = parse_id)]
    key: Option<String>,
    /// Context that the call carried, of an indexed key; every one given must match
    #[arg(long, group = "which", value_name = "NAME=VALUE", value_parser = parse_context)]
    context: Vec<Pair>,
    /// Why; kept in the trail, so name nobody who is to be forgotten
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    /// Events of the organization itself instead of an app's
    #[arg(long, conflicts_with = "app")]
    organization: bool,
    /// Name of the app or organization, so that it is the right one [default: asked for on a terminal]
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

#[derive(Args)]
pub struct FilterArgs {
    /// Id of a grant
    #[arg(long, value_parser = parse_id)]
    grant: Option<String>,
    /// Id of a user
    #[arg(long, value_parser = parse_id)]
    user: Option<String>,
    /// Id of an agent
    #[arg(long, value_parser = parse_id)]
    agent: Option<String>,
    /// Id of a key
    #[arg(long, value_parser = parse_id)]
    key: Option<String>,
    /// Slug of a secret
    #[arg(long, value_name = "SLUG")]
    provider: Option<String>,
    /// Id of a request, as answers and logs have it
    #[arg(long, value_parser = parse_id)]
    request: Option<String>,
    /// What happened, such as token.released
    #[arg(long, value_parser = parse_kind)]
    kind: Option<String>,
    /// How it ended
    #[arg(long)]
    outcome: Option<Outcome>,
    /// Context that the call carried; every one given must match
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_context)]
    context: Vec<Pair>,
    /// From this time on: 2026-11-24T10:00:00Z, a date, or a span back such as 7d
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    since: Option<When>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    until: Option<When>,
    /// Events of the organization itself instead of an app's
    #[arg(long, conflicts_with = "app")]
    organization: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Outcome {
    Allowed,
    Denied,
    Error,
    Unknown,
}

#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Events of a page, at most 1000 [default: 100]
    #[arg(long, value_name = "N", value_parser = limit_range())]
    limit: Option<i64>,
    /// Where the page before ended: its next_cursor
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Args)]
pub struct CheckpointsArgs {
    /// Those of the organization itself instead of an app's
    #[arg(long, conflicts_with = "app")]
    organization: bool,
    /// Checkpoints of a page, at most 1000 [default: 100]
    #[arg(long, value_name = "N", value_parser = limit_range())]
    limit: Option<i64>,
    /// Where the page before ended: its next_cursor
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Args)]
pub struct TailArgs {
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Args)]
pub struct ShowArgs {
    #[command(flatten)]
    event: EventRef,
    /// An event of the organization itself instead of an app's
    #[arg(long, conflicts_with = "app")]
    organization: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct EventRef {
    /// Id of the event
    #[arg(value_name = "EVENT", value_parser = parse_reference)]
    position: Option<String>,
    /// The same as a flag
    #[arg(long = "event", value_name = "EVENT", value_parser = parse_reference)]
    flag: Option<String>,
}

#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// jsonl can be verified; csv is for spreadsheets
    #[arg(long, default_value = "jsonl")]
    format: ExportFormat,
    /// File to write; it appears when it is complete [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ExportFormat {
    Jsonl,
    Csv,
}

fn parse_kind(text: &str) -> Result<String, String> {
    let kinds = || Kind::ALL.iter().map(|kind| kind.as_str());
    if kinds().any(|kind| kind == text) {
        return Ok(text.to_owned());
    }
    Err(match nearest(text, kinds()) {
        Some(meant) => format!("there is no such kind; did you mean `{meant}`?"),
        None => format!("there is no such kind; there are: {}", kinds().collect::<Vec<_>>().join(" ")),
    })
}

fn parse_context(text: &str) -> Result<Pair, String> {
    parse_pair(text)
        .and_then(|pair| if text.contains('\n') { Err("write it in one line".to_owned()) } else { Ok(pair) })
}

/// Several pairs travel in one parameter, one a line.
fn joined(pairs: &[Pair]) -> Option<String> {
    let pairs: Vec<String> = pairs.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
    (!pairs.is_empty()).then(|| pairs.join("\n"))
}

impl FilterArgs {
    fn query(&self, now: TimeMs) -> EventsQuery {
        let outcome = self.outcome.map(|outcome| match outcome {
            Outcome::Allowed => "allowed",
            Outcome::Denied => "denied",
            Outcome::Error => "error",
            Outcome::Unknown => "unknown",
        });
        EventsQuery {
            grant: self.grant.clone(),
            user: self.user.clone(),
            agent: self.agent.clone(),
            key: self.key.clone(),
            provider: self.provider.clone(),
            request: self.request.clone(),
            kind: self.kind.clone(),
            outcome: outcome.map(str::to_owned),
            context: joined(&self.context),
            since: self.since.map(|when| when.resolve(now)),
            until: self.until.map(|when| when.resolve(now)),
            ..EventsQuery::default()
        }
    }
}

/// Segments of the path up to `audit`.
async fn owner(organization: bool, api: &Api, context: &Context) -> Result<Vec<String>, Failure> {
    if organization {
        return Ok(vec!["audit".to_owned()]);
    }
    Ok(vec!["apps".to_owned(), context.app(api).await?, "audit".to_owned()])
}

fn path<'a>(owner: &'a [String], rest: &[&'a str]) -> Vec<&'a str> {
    owner.iter().map(String::as_str).chain(rest.iter().copied()).collect()
}

pub async fn run(command: AuditCommand, context: &mut Context) -> Result<(), Failure> {
    if let AuditCommand::Verify(args) = &command {
        return verify::run(args, context);
    }
    let api = context.api()?;
    match command {
        AuditCommand::Verify(_) => unreachable!("it needs no server"),
        AuditCommand::List(args) => {
            let owner = owner(args.filter.organization, &api, context).await?;
            let query = EventsQuery { limit: args.limit, cursor: args.cursor, ..args.filter.query(context.term.now()) };
            let page: CursorPage<Event> = api.get(&path(&owner, &["events"]), &query).await?;
            let columns = [
                column("TIME", "at"),
                column("KIND", "kind"),
                column("OUTCOME", "outcome"),
                minor("CODE", "code"),
                minor("PROVIDER", "provider_id"),
                minor("HOST", "host"),
                minor("METHOD", "method"),
                minor("CALLER", "caller"),
                column("EVENT", "id"),
            ];
            context.show_events(&page, &columns)
        }
        AuditCommand::Show(args) => {
            let owner = owner(args.organization, &api, context).await?;
            let id = args.event.position.or(args.event.flag).expect("clap requires one");
            let event: Event = api.get(&path(&owner, &["events", &id]), &NoQuery {}).await?;
            context.show_event(&event)
        }
        AuditCommand::Tail(args) => {
            if args.filter.until.is_some() {
                return Err(
                    Failure::usage("--until: a tail goes on").hint("`grantd audit list --until` shows what was.")
                );
            }
            let owner = owner(args.filter.organization, &api, context).await?;
            let query = args.filter.query(context.term.now());
            tail::run(&api, &path(&owner, &["events"]), query, context).await
        }
        AuditCommand::Checkpoints(args) => {
            let owner = owner(args.organization, &api, context).await?;
            let query = CheckpointsQuery { limit: args.limit, cursor: args.cursor };
            let page: CheckpointPage = api.get(&path(&owner, &["checkpoints"]), &query).await?;
            let columns = [
                column("N", "body.n"),
                column("SIGNED", "body.at"),
                minor("PRUNED TO", "body.pruned_to"),
                minor("KEY", "kid"),
            ];
            context.show_checkpoints(&page, &columns)
        }
        AuditCommand::Export(args) => export(args, &api, context).await,
        AuditCommand::Erase(args) => erase(args, &api, context).await,
    }
}

async fn erase(args: EraseArgs, api: &Api, context: &mut Context) -> Result<(), Failure> {
    let owner = owner(args.organization, api, context).await?;
    let name = match owner.as_slice() {
        [_, app, _] => api.get::<App>(&["apps", app], &NoQuery {}).await?.name,
        _ => api.get::<Organization>(&["organization"], &NoQuery {}).await?.name,
    };
    confirm_name("Erase what these events say of people?", &name, args.confirm.as_deref(), &mut context.term)?;
    let ask = Erase {
        event: args.event,
        grant: args.grant,
        user: args.user,
        agent: args.agent,
        key: args.key,
        context: joined(&args.context),
        reason: args.reason,
    };
    let mut sum = Erased { erased: 0, has_more: true };
    let mut spinner = Progress::waiting(context.term.stderr_is_terminal);
    while sum.has_more {
        let more: Erased = api.send(Method::POST, &path(&owner, &["erase"]), &ask).await?;
        sum = Erased { erased: sum.erased + more.erased, has_more: more.has_more };
        spinner.say(format!("{} erased", sum.erased));
    }
    spinner.finish();
    context.show(&sum)
}

async fn export(args: ExportArgs, api: &Api, context: &mut Context) -> Result<(), Failure> {
    let owner = owner(args.filter.organization, api, context).await?;
    let format = match args.format {
        ExportFormat::Jsonl => "jsonl",
        ExportFormat::Csv => "csv",
    };
    let query = EventsQuery { format: Some(format.to_owned()), ..args.filter.query(context.term.now()) };
    let mut response = api.stream(&path(&owner, &["export"]), &query).await?;
    let mut unfinished =
        args.out.as_deref().filter(|out| *out != Path::new("-")).map(Unfinished::create).transpose()?;
    let mut progress = Progress::new(context.term.stderr_is_terminal, response.content_length());
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let chunk = tokio::select! {
            chunk = response.chunk() => chunk.map_err(|error| api.broken(&error))?,
            _ = &mut interrupt => return Err(Failure::cancelled()),
        };
        let Some(chunk) = chunk else { break };
        match &mut unfinished {
            Some(file) => file.write(&chunk)?,
            None => context.term.write(&chunk)?,
        }
        progress.add(chunk.len());
    }
    let bytes = progress.finish();
    match unfinished {
        Some(file) => {
            let out = file.finish()?;
            context.term.note(&format!("{}: {bytes} bytes", out.display()));
            Ok(())
        }
        None => context.term.print(""),
    }
}

/// A file under a temporary name; it is gone again unless it is finished.
struct Unfinished {
    out: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Unfinished {
    fn create(out: &Path) -> Result<Self, Failure> {
        let name = out.file_name().ok_or_else(|| {
            Failure::usage(format!("--out: {} is no file", out.display())).hint("Name one, such as audit.jsonl.")
        })?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let temporary = out.with_file_name(hidden);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // Events name people and what they did.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&temporary).map_err(|error| cannot_write(out, &error))?;
        Ok(Self { out: out.to_owned(), temporary, file: Some(BufWriter::new(file)) })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let file = self.file.as_mut().expect("not finished");
        file.write_all(bytes).map_err(|error| cannot_write(&self.out, &error))
    }

    fn finish(mut self) -> Result<PathBuf, Failure> {
        let file = self.file.take().expect("not finished");
        let file = file.into_inner().map_err(|error| cannot_write(&self.out, error.error()))?;
        file.sync_all().map_err(|error| cannot_write(&self.out, &error))?;
        std::fs::rename(&self.temporary, &self.out).map_err(|error| cannot_write(&self.out, &error))?;
        Ok(self.out.clone())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "Make its directory first, or name another file with --out.",
        io::ErrorKind::StorageFull => "Make room, or name a file elsewhere with --out.",
        _ => "Name another file with --out.",
    };
    Failure::local(format!("cannot write {}: {error}", path.display())).hint(hint)
}
