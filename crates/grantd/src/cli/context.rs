//! What every command shares: global flags, the server, who speaks, which app, and how answers are written.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use grantd_wire::api::{App, Checkpoint, CheckpointPage, CursorPage, Event, ListQuery, Page};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;
use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use super::fields::Known;
use super::http::{Api, Token};
use super::input::{parse_reference, read_token};
use super::link;
use super::logins::Logins;
use super::node::Node;
use super::table::{self, Column, Look, WARNINGS, asked, column};
use super::term::Term;
use crate::config::is_loopback;
use crate::env::Env;

const SERVER_DEFAULT: &str = "http://127.0.0.1:8400";
const DATA_DIR_DEFAULT: &str = "./.grantd";
const TOKEN_PREFIX: &str = "grantd_pat_";
/// Apps that are named when one must be chosen.
const APPS_NAMED_MAX: usize = 10;
/// Objects that one warning names.
const WARNED_MAX: usize = 5;

/// Flags that every command takes.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// URL of the server [default: http://127.0.0.1:8400] [env: GRANTD_SERVER]
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// File with a personal access token [env: GRANTD_PAT holds the token itself]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Data directory of a local server; its operator.pat signs in [default: ./.grantd] [env: GRANTD_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The app [default: app_id in .grantd/config.toml up the tree, else the only app] [env: GRANTD_APP_ID]
    #[arg(long, global = true, value_name = "APP", value_parser = parse_reference)]
    pub app: Option<String>,
    /// How answers are written [default: table on a terminal, else json]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Only these fields, in this order
    #[arg(long, global = true, value_name = "A,B", value_delimiter = ',')]
    pub fields: Option<Vec<String>>,
    /// Do not ask before something that cannot be undone
    #[arg(long, global = true)]
    pub yes: bool,
}

/// How answers are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Jsonl,
}

/// Everything a command needs.
pub struct Context {
    pub globals: Globals,
    pub env: Env,
    pub term: Term,
    /// Where the search for `.grantd/config.toml` begins.
    pub directory: PathBuf,
}

impl Context {
    pub fn format(&self) -> Format {
        let default = if self.term.stdout_is_terminal { Format::Table } else { Format::Json };
        self.globals.output.unwrap_or(default)
    }

    /// The server that flags and environment name.
    pub fn server(&self) -> Result<Url, Failure> {
        let text = self.globals.server.as_deref().or_else(|| self.env.find_filled("GRANTD_SERVER"));
        let text = text.unwrap_or(SERVER_DEFAULT);
        let url = Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        let how = || format!("--server: `{text}` is not possible: write a URL such as https://grantd.example.com");
        url.ok_or_else(|| Failure::usage(how()))
    }

    /// The management API, signed in.
    pub fn api(&mut self) -> Result<Api, Failure> {
        let server = self.server()?;
        let token = self.token(&server)?;
        self.signed_in(server, &token)
    }

    /// The management API, signed in with `token`.
    pub fn signed_in(&mut self, server: Url, token: &Token) -> Result<Api, Failure> {
        if server.scheme() == "http" && !is_loopback(&server) {
            self.term.warn(&format!("the token travels unencrypted to {server}; use https"));
        }
        Api::new(server, token)
    }

    /// The token that speaks to `server`, from the first place that has one.
    pub fn token(&self, server: &Url) -> Result<Token, Failure> {
        let read = |place: &str, path: &Path| {
            let token = read_token(path).map_err(|why| not_signed_in(format!("{place}: {why}")));
            token.and_then(|token| checked_token(place, &token))
        };
        let from_file = |place: &str, path: &Path| {
            read(place, path).map(|token| Token::new(token, format!("{place} ({})", path.display())))
        };
        let from_data_dir = |directory: &Path| {
            let token = read("data directory", &directory.join("operator.pat"));
            token.map(|token| Token::of_data_dir(token, directory))
        };
        if let Some(path) = &self.globals.token_file {
            return from_file("--token-file", path);
        }
        if let Some(token) = self.env.find_filled("GRANTD_PAT") {
            return checked_token("GRANTD_PAT", token).map(|token| Token::new(token, "GRANTD_PAT"));
        }
        if let Some(path) = self.env.find_filled("GRANTD_PAT_FILE") {
            return from_file("GRANTD_PAT_FILE", Path::new(path));
        }
        if let Some(logins) = Logins::of(&self.env)
            && let Some(token) = logins.find(server)?
        {
            let place = format!("auth login ({})", logins.path().display());
            return checked_token(&place, &token).map(|token| Token::new(token, place));
        }
        let named = self.globals.data_dir.as_deref();
        let named = named.or_else(|| self.env.find_filled("GRANTD_DATA_DIR").map(Path::new));
        match named {
            Some(directory) => from_data_dir(directory),
            // Unasked, a local token goes to a local server only.
            None if is_loopback(server) && Path::new(DATA_DIR_DEFAULT).join("operator.pat").exists() => {
                from_data_dir(Path::new(DATA_DIR_DEFAULT))
            }
            None => Err(not_signed_in("not signed in: there is no personal access token".to_owned())),
        }
    }

    /// The app that flags, environment or directory name, else the only one.
    pub async fn app(&self, api: &Api) -> Result<String, Failure> {
        match self.named_app()? {
            Some(app) => Ok(app),
            None => only_app(api).await,
        }
    }

    /// The app that flags, environment or directory name.
    pub fn named_app(&self) -> Result<Option<String>, Failure> {
        if let Some(app) = &self.globals.app {
            return Ok(Some(app.clone()));
        }
        if let Some(app) = self.env.find_filled("GRANTD_APP_ID") {
            return named("GRANTD_APP_ID", app).map(Some);
        }
        for directory in self.directory.ancestors() {
            let path = link::file_of(directory);
            let Some(table) = link::read(&path)? else { continue };
            let place = path.display().to_string();
            match table.get("app_id") {
                Some(toml::Value::String(app)) => return named(&place, app).map(Some),
                Some(_) => {
                    return Err(Failure::usage(format!("{place}: app_id is no text"))
                        .hint("Write the app's id in quotes: app_id = \"01…\". `grantd apps list` shows it."));
                }
                None => {}
            }
        }
        Ok(None)
    }

    /// Writes one object, all of whose fields are there.
    pub fn show(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        self.show_known(object, &Known::AsShown)
    }

    /// Writes one object; for people, the fields of the objects at `names` in it are lines of their own.
    pub fn show_unfolded(&mut self, object: &impl Serialize, names: &[&str]) -> Result<(), Failure> {
        if self.format() != Format::Table || self.globals.fields.is_some() {
            return self.show(object);
        }
        self.show(&Node::of(object).unfolded(names))
    }

    /// Writes an audit event, whose absent fields are left out.
    pub fn show_event(&mut self, event: &Event) -> Result<(), Failure> {
        self.show_known(event, &Known::Event)
    }

    /// Refuses `--fields` that no event can have, before there is one.
    pub fn check_event_fields(&self) -> Result<(), Failure> {
        Known::Event.check(self.globals.fields.as_deref().unwrap_or_default(), &[])
    }

    fn show_known(&mut self, object: &impl Serialize, known: &Known) -> Result<(), Failure> {
        let node = Node::of(object);
        self.warn_of(std::slice::from_ref(&node));
        let chosen = match &self.globals.fields {
            Some(fields) => {
                known.check(fields, std::slice::from_ref(&node))?;
                node.select(fields)
            }
            None => node,
        };
        let text = match self.format() {
            Format::Table => table::object(&chosen, self.look()),
            Format::Json if self.term.stdout_is_terminal => chosen.pretty_json() + "\n",
            Format::Json | Format::Jsonl => chosen.json() + "\n",
        };
        self.term.print(&text)
    }

    /// Writes a page counted by offset.
    pub fn show_page<T: Serialize + DeserializeOwned>(
        &mut self,
        page: &Page<T>,
        columns: &[Column],
    ) -> Result<(), Failure> {
        self.show_list(&Node::of(page), columns, &Known::of::<T>())?;
        if self.format() == Format::Table && page.has_more {
            let next = page.offset + i64::try_from(page.items.len()).unwrap_or(0);
            self.term.note(&format!("{} of {} shown; more: --offset {next}", page.items.len(), page.total));
        }
        Ok(())
    }

    /// Writes a page that continues at a cursor.
    pub fn show_events(&mut self, page: &CursorPage<Event>, columns: &[Column]) -> Result<(), Failure> {
        self.show_list(&Node::of(page), columns, &Known::Event)?;
        if page.partial_scan {
            self.term.warn(
                "this context key is not indexed, so only the newest events were searched; \
                 `grantd apps update --index KEY` changes that for later events",
            );
        }
        self.note_older("events", page.next_cursor.as_deref());
        Ok(())
    }

    /// Writes a page of checkpoints.
    pub fn show_checkpoints(&mut self, page: &CheckpointPage, columns: &[Column]) -> Result<(), Failure> {
        self.show_list(&Node::of(page), columns, &Known::of::<Checkpoint>())?;
        self.note_older("checkpoints", page.next_cursor.as_deref());
        Ok(())
    }

    fn note_older(&mut self, what: &str, cursor: Option<&str>) {
        if let (Some(cursor), Format::Table) = (cursor, self.format()) {
            self.term.note(&format!("older {what}: --cursor {cursor}"));
        }
    }

    fn show_list(&mut self, page: &Node, columns: &[Column], known: &Known) -> Result<(), Failure> {
        let Some(Node::List(items)) = page.at("items") else { unreachable!("a page has items") };
        self.warn_of(items);
        let fields = self.globals.fields.clone();
        if let Some(fields) = &fields {
            known.check(fields, items)?;
        }
        let chosen: Vec<Node> = match &fields {
            Some(fields) => items.iter().map(|item| item.select(fields)).collect(),
            None => items.clone(),
        };
        let text = match self.format() {
            Format::Table if items.is_empty() => {
                self.term.note("nothing there");
                return Ok(());
            }
            Format::Table => {
                let asked: Option<Vec<Column>> = fields.map(|fields| fields.iter().map(|f| asked(f)).collect());
                table::list(items, asked.as_deref().unwrap_or(columns), self.look())
            }
            Format::Json => {
                let page = with_items(page, chosen);
                let json = if self.term.stdout_is_terminal { page.pretty_json() } else { page.json() };
                json + "\n"
            }
            Format::Jsonl => chosen.iter().map(|item| item.json() + "\n").collect(),
        };
        self.term.print(&text)
    }

    /// Writes rows below what was written, for people; nothing where there are none.
    pub fn show_rows(&mut self, rows: &[Node], columns: &[Column]) -> Result<(), Failure> {
        match rows.is_empty() {
            true => Ok(()),
            false => self.term.print(&format!("\n{}", table::list(rows, columns, self.look()))),
        }
    }

    /// Writes named objects: one object of them, or one row each.
    pub fn show_map(
        &mut self,
        entries: impl Iterator<Item = (String, Node)>,
        columns: &[Column],
    ) -> Result<(), Failure> {
        if self.format() != Format::Table || self.globals.fields.is_some() {
            return self.show(&Node::Object(entries.collect()));
        }
        let rows: Vec<Node> = entries
            .map(|(name, node)| match node {
                Node::Object(fields) => {
                    Node::Object(std::iter::once(("name".to_owned(), Node::Text(name))).chain(fields).collect())
                }
                other => Node::Object(vec![("name".to_owned(), Node::Text(name)), ("value".to_owned(), other)]),
            })
            .collect();
        let columns: Vec<Column> = [&[column("NAME", "name")], columns].concat();
        let text = table::list(&rows, &columns, self.look());
        self.term.print(&text)
    }

    fn warn_of(&mut self, items: &[Node]) {
        for (flag, what) in WARNINGS {
            let names: Vec<String> =
                items.iter().filter(|i| i.at(flag).is_some_and(Node::is_true)).map(name_of).collect();
            let more = match names.len().saturating_sub(WARNED_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            if !names.is_empty() {
                let names = names.iter().take(WARNED_MAX).cloned().collect::<Vec<_>>().join(", ");
                self.term.warn(&format!("{flag} is on, {what}: {names}{more}"));
            }
        }
    }

    fn look(&self) -> Look {
        Look {
            width: self.term.width.filter(|_| self.term.stdout_is_terminal),
            color: self.term.stdout_is_terminal && self.term.color_is_wanted,
            now: self.term.now(),
        }
    }
}

/// What a person calls an object.
fn name_of(item: &Node) -> String {
    let text = |name: &&str| match item.at(name) {
        Some(Node::Text(text)) => Some(text.clone()),
        _ => None,
    };
    ["slug", "name", "grant_id", "id"].iter().find_map(text).unwrap_or_default()
}

fn with_items(page: &Node, items: Vec<Node>) -> Node {
    let Node::Object(fields) = page else { unreachable!("a page is an object") };
    let mut items = Some(items);
    let replaced = fields.iter().map(|(name, node)| match name.as_str() {
        "items" => (name.clone(), Node::List(items.take().unwrap_or_default())),
        _ => (name.clone(), node.clone()),
    });
    Node::Object(replaced.collect())
}

fn named(place: &str, app: &str) -> Result<String, Failure> {
    parse_reference(app).map_err(|_| {
        Failure::usage(format!("{place}: `{app}` is not the id of an app")).hint("`grantd apps list` shows them.")
    })
}

/// `token` as one, if it has the form of one.
pub fn checked_token(place: &str, token: &str) -> Result<Zeroizing<String>, Failure> {
    let trimmed = token.trim();
    if trimmed.starts_with("alter_") {
        return Err(not_signed_in(format!("{place} holds an app's API key, not a personal access token")));
    }
    if !trimmed.starts_with(TOKEN_PREFIX) || !trimmed.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(not_signed_in(format!("{place} holds no personal access token: those begin with {TOKEN_PREFIX}")));
    }
    Ok(Zeroizing::new(trimmed.to_owned()))
}

fn not_signed_in(message: String) -> Failure {
    let hint = "Sign in with `grantd auth login`, or set GRANTD_PAT, or pass --token-file FILE, or --data-dir DIR of a local server.";
    Failure::new(Exit::NotSignedIn, "not_signed_in", message).hint(hint)
}

/// The app, if there is no other.
pub async fn only_app(api: &Api) -> Result<String, Failure> {
    let page: Page<App> = api.get(&["apps"], &ListQuery::default()).await?;
    let mut apps = page.items.iter().filter(|app| app.state == "active");
    match (apps.next(), apps.next()) {
        (Some(app), None) => Ok(app.id.clone()),
        (None, _) => {
            Err(Failure::usage("there is no app yet").hint("Create one with `grantd apps create --name NAME`."))
        }
        (Some(_), Some(_)) => {
            let names = page.items.iter().take(APPS_NAMED_MAX).map(|app| format!("{} ({})", app.id, app.name));
            let names = names.collect::<Vec<_>>().join(", ");
            Err(Failure::usage(format!("there are several apps: {names}"))
                .hint("Choose one with --app or GRANTD_APP_ID, or for this directory with `grantd link`."))
        }
    }
}
