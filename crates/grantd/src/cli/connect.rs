//! `grantd connect`: an account connected from the terminal, with the consent in a browser, here or on a phone.

use std::time::Duration;

use grantd_wire::api::{BegunConnectSession, ConnectSession, ConnectSessionCreate, Page};
use grantd_wire::sdk::ConnectedGrant;
use grantd_wire::{TimeMs, limits};
use reqwest::Method;
use tokio::time::Instant;
use url::Url;

use super::context::{Context, Format};
use super::failure::{Exit, Failure};
use super::http::{Api, NoQuery};
use super::input::{parse_reference, parse_span};
use super::progress::Progress;
use super::qr;
use super::table::{Column, column, minor};
use super::term::Term;

/// How often is looked. Tests do not wait.
const EVERY: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 2_000 });

/// How long is waited unless said otherwise: for the server to say that the link's time is over, by its own clock.
const PATIENCE: Duration = Duration::from_secs(limits::CONNECT_SESSION_S.unsigned_abs() + 60);

const COLUMNS: &[Column] = &[
    column("GRANT", "grant_id"),
    column("PROVIDER", "provider_id"),
    column("ACCOUNT", "account_display_name"),
    column("WHAT", "operation"),
    minor("ACCOUNT ID", "account_identifier"),
    minor("SCOPES", "scopes"),
];

#[derive(clap::Args)]
pub struct ConnectArgs {
    /// Providers to choose from [default: every one that the app is registered with]
    #[arg(value_name = "PROVIDER", value_parser = parse_reference)]
    providers: Vec<String>,
    /// Scopes without which nothing is connected; of the one provider
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    scopes: Vec<String>,
    /// Label of the grant: one of its own on the account, beside the others
    #[arg(long)]
    label: Option<String>,
    /// When the grant ends from now, such as 90d
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    expires_in: Option<i64>,
    /// Choose the account anew, where the provider lets its users
    #[arg(long)]
    switch_account: bool,
    /// Connect the account of this grant again, and no other; of the one provider
    #[arg(long, value_name = "GRANT", value_parser = parse_reference, conflicts_with_all = ["label", "switch_account"])]
    repair: Option<String>,
    /// Straight on to the one provider, without a page of grantd before
    #[arg(long)]
    direct: bool,
    /// How long to wait, such as 2m [default: as long as the link works]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    timeout: Option<i64>,
    /// Print the link, and open no browser
    #[arg(long)]
    no_browser: bool,
}

pub async fn run(args: ConnectArgs, context: &mut Context) -> Result<(), Failure> {
    let ask = ask(&args)?;
    let api = context.api()?;
    let app = context.app(&api).await?;
    let sessions = ["apps", app.as_str(), "connect-sessions"];
    let begun: BegunConnectSession = api.send(Method::POST, &sessions, &ask).await?;
    let link = Url::parse(&begun.connect_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let link = link.ok_or_else(|| {
        Failure::local("the server's link is none: its public_url is not possible")
            .hint("Set public_url there; `grantd config show` on its host says what it is.")
    })?;
    let patience = args.timeout.map_or(PATIENCE, |seconds| Duration::from_secs(seconds.unsigned_abs()));
    let until = Instant::now() + patience;
    offer(&link, !args.no_browser, &mut context.term);
    let path = [&sessions[..], &[&begun.session.id]].concat();
    let waiting = wait(&api, &path, until, &mut context.term);
    let waited = tokio::select! {
        waited = waiting => waited,
        _ = tokio::signal::ctrl_c() => {
            let cancelled = Failure { message: "No longer waiting.".to_owned(), ..Failure::cancelled() };
            return Err(cancelled.hint(lives_on(begun.session.expires_at)));
        }
    };
    tell(waited?, args.timeout.is_some(), context)
}

fn ask(args: &ConnectArgs) -> Result<ConnectSessionCreate, Failure> {
    let one = |flag: &str| match args.providers.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(Failure::usage(format!("{flag} is for one provider: name it, and no other"))),
    };
    let required_scopes = match args.scopes.is_empty() {
        true => None,
        false => Some([(one("--scopes")?.to_lowercase(), args.scopes.clone())].into()),
    };
    if args.repair.is_some() {
        one("--repair")?;
    }
    if args.direct {
        one("--direct")?;
    }
    Ok(ConnectSessionCreate {
        allowed_providers: Some(args.providers.clone()).filter(|providers| !providers.is_empty()),
        required_scopes,
        label: args.label.clone(),
        expires_in_seconds: args.expires_in,
        repair_grant_id: args.repair.clone(),
        switch_account: args.switch_account,
        direct: args.direct,
        return_url: None,
        allowed_origin: None,
    })
}

/// Shows the link, for eyes, cameras and the browser of this machine.
fn offer(link: &Url, may_open: bool, term: &mut Term) {
    term.note("Open this link to connect. It is for one browser, and works for ten minutes:");
    term.note(&format!("  {link}"));
    if !term.stderr_is_terminal {
        return;
    }
    let width = term.err_width.map_or(0, usize::from);
    if let Some(code) = qr::draw(link.as_str(), width, term.color_is_wanted) {
        // Made here, and of nothing that could be anything else.
        let _ = write!(term.err, "\n{code}\n");
    }
    // No test opens a browser.
    if may_open && !cfg!(test) && grantd_sdk::open_browser(link.as_str()) {
        term.note("A browser was opened on this machine. Use it, or the link on another.");
    }
}

/// Waits until the user is done, or until then.
async fn wait(api: &Api, path: &[&str], until: Instant, term: &mut Term) -> Result<ConnectSession, Failure> {
    let mut spinner = Progress::waiting(term.stderr_is_terminal);
    let (mut told, mut is_away) = (0, false);
    loop {
        match api.get::<ConnectSession>(path, &NoQuery {}).await {
            Ok(session) => {
                if std::mem::take(&mut is_away) {
                    spinner.beside(|| term.note("the server is back"));
                }
                for declined in session.declined_providers.iter().skip(told) {
                    spinner.beside(|| term.note(&format!("{} was declined", declined.provider_id)));
                }
                told = told.max(session.declined_providers.len());
                if session.status != "pending" || Instant::now() >= until {
                    spinner.finish();
                    return Ok(session);
                }
                let what = if session.opened { "the user is at it" } else { "waiting for the link to be opened" };
                spinner.say(what.to_owned());
            }
            // It restarts, or is busy: the user goes on meanwhile, and so does this.
            Err(failure) if failure.exit == Exit::Error && Instant::now() < until => {
                if !std::mem::replace(&mut is_away, true) {
                    spinner.beside(|| term.note(&format!("{}; waiting for it", failure.message)));
                }
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn tell(session: ConnectSession, has_timeout: bool, context: &mut Context) -> Result<(), Failure> {
    let failed = |code: &str, message: String| Failure::new(Exit::Error, code, message);
    match (&*session.status, session.error) {
        ("completed", _) => {}
        ("error", Some(error)) => {
            let hint = match &*error.error_code {
                "connect_denied" => "Run the command again for another link.",
                _ => "`grantd providers show` says how the app is registered there.",
            };
            return Err(failed(&error.error_code, error.error_message).hint(hint));
        }
        ("pending", _) if has_timeout => {
            let message = "nothing was connected within --timeout".to_owned();
            return Err(failed("timed_out", message).hint(lives_on(session.expires_at)));
        }
        _ => {
            let message = "the link's time is over, and nothing was connected".to_owned();
            return Err(failed("session_expired", message).hint("Run the command again for another link."));
        }
    }
    for failed in &session.failed_grants {
        context.term.warn(&format!("{} is not connected: {}", failed.provider_id, failed.message));
    }
    if context.format() != Format::Table || context.globals.fields.is_some() {
        return context.show(&ConnectSession { error: None, ..session });
    }
    let total = i64::try_from(session.grants.len()).unwrap_or(i64::MAX);
    let page: Page<ConnectedGrant> = Page { items: session.grants, total, limit: total, offset: 0, has_more: false };
    context.show_page(&page, COLUMNS)
}

fn lives_on(until: TimeMs) -> String {
    format!("The link works until {until} all the same; `grantd grants list` shows what comes of it.")
}
