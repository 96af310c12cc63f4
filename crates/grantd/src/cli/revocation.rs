//! `grantd grants revoke --all`: every grant on something, a page after the other.
//!
//! What was revoked stays so whatever happens to this command, and whoever runs it again goes on where it stopped.

use std::time::Duration;

use grantd_domain::words::counted;
use grantd_wire::api::{App, Grant, GrantsRevoke, ListQuery, Page, Provider, RevokeFailure, RevokedGrants, Secret};
use reqwest::Method;
use serde::Serialize;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::grants::RevokeAllArgs;
use super::http::{Api, NoQuery};
use super::input::confirm_name;
use super::progress::Progress;

/// How often the provider's answers are looked for. Tests do not wait.
const EVERY: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 2_000 });
/// How long they are waited for.
const WAIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 600 });

/// What was done.
#[derive(Default, Serialize)]
struct Report {
    total: i64,
    done: i64,
    failed: Vec<RevokeFailure>,
    credentials_destroyed: i64,
    /// Revoked grants, these and earlier ones, whose tokens are not ended at the provider yet.
    upstream_pending: i64,
    /// And those whose tokens somebody has to end there by hand.
    upstream_failed: i64,
}

/// What is revoked.
struct Meant {
    ask: GrantsRevoke,
    /// To be typed.
    name: String,
    /// Of whose accounts tokens are ended; none: of every provider.
    provider: Option<String>,
    has_tokens: bool,
}

pub async fn run(args: RevokeAllArgs, api: &Api, app: &str, context: &mut Context) -> Result<(), Failure> {
    let waits = args.upstream;
    let meant = meant(&args, api, app).await?;
    let question = match (&meant.ask.provider, &meant.ask.managed_secret) {
        (Some(_), _) => "Revoke every grant on accounts at this provider? Their users have to connect again.",
        (None, Some(_)) => "Revoke every grant on this secret? Its value is destroyed.",
        (None, None) => "Revoke every grant of this app? Every stored value of it is destroyed.",
    };
    confirm_name(question, &meant.name, args.confirm.as_deref(), &mut context.term)?;
    let mut report = Report::default();
    let revoking = revoke(&meant, api, app, &mut report, context.term.stderr_is_terminal);
    let ended = tokio::select! {
        ended = revoking => ended,
        _ = tokio::signal::ctrl_c() => Err(Failure::cancelled()),
    };
    if let Err(failure) = ended {
        return Err(stopped(failure, &report));
    }
    if meant.has_tokens {
        let looking = look(&meant, api, app, &mut report, waits, context.term.stderr_is_terminal);
        tokio::select! {
            looked = looking => looked?,
            _ = tokio::signal::ctrl_c() => {
                let failure = Failure { message: "No longer waiting for the provider.".to_owned(), ..Failure::cancelled() };
                let done = counted(report.done, "grant is", "grants are");
                let left = format!("{done} revoked, and their tokens are ended there all the same.");
                return Err(failure.hint(left));
            }
        }
    }
    tell(&report, waits, context)
}

async fn meant(args: &RevokeAllArgs, api: &Api, app: &str) -> Result<Meant, Failure> {
    let ask = GrantsRevoke {
        provider: args.provider.clone(),
        managed_secret: args.managed_secret.clone(),
        all: args.provider.is_none() && args.managed_secret.is_none(),
        reason: args.reason.clone(),
        cursor: None,
    };
    let app = ["apps", app];
    if let Some(name) = &args.provider {
        let provider: Provider = api.get(&[&app[..], &["providers", name]].concat(), &NoQuery {}).await?;
        let id = provider.provider_id;
        return Ok(Meant { ask, name: id.clone(), provider: Some(id), has_tokens: true });
    }
    if let Some(name) = &args.managed_secret {
        let secret: Secret = api.get(&[&app[..], &["managed-secrets", name]].concat(), &NoQuery {}).await?;
        return Ok(Meant { ask, name: secret.slug, provider: None, has_tokens: false });
    }
    let app: App = api.get(&app, &NoQuery {}).await?;
    Ok(Meant { ask, name: app.name, provider: None, has_tokens: true })
}

async fn revoke(meant: &Meant, api: &Api, app: &str, report: &mut Report, on_terminal: bool) -> Result<(), Failure> {
    let path = ["apps", app, "grants", "revoke"];
    let mut ask = meant.ask.clone();
    let mut progress: Option<Progress> = None;
    loop {
        let page: RevokedGrants = api.send(Method::POST, &path, &ask).await?;
        report.total += page.total.unwrap_or(0);
        report.done += page.done;
        report.credentials_destroyed += page.credentials_destroyed;
        let length = u64::try_from(report.total).unwrap_or(0);
        let progress = progress.get_or_insert_with(|| Progress::of_things(on_terminal, length, "grants"));
        progress.add(usize::try_from(page.done).unwrap_or(0) + page.failed.len());
        report.failed.extend(page.failed);
        match page.next_cursor {
            Some(cursor) if page.has_more => ask.cursor = Some(cursor),
            _ => break,
        }
    }
    if let Some(progress) = progress {
        progress.finish();
    }
    // More may have come meanwhile than were counted.
    let met = report.done + i64::try_from(report.failed.len()).unwrap_or(0);
    report.total = report.total.max(met);
    Ok(())
}

/// How far the provider is; `waits`: until nothing is pending there, or for as long as one waits.
async fn look(
    meant: &Meant,
    api: &Api,
    app: &str,
    report: &mut Report,
    waits: bool,
    on_terminal: bool,
) -> Result<(), Failure> {
    let until = tokio::time::Instant::now() + WAIT;
    let mut spinner: Option<Progress> = None;
    loop {
        report.upstream_pending = count(meant, api, app, "pending").await?;
        if report.upstream_pending == 0 || !waits || tokio::time::Instant::now() >= until {
            break;
        }
        let spinner = spinner.get_or_insert_with(|| Progress::waiting(on_terminal));
        spinner.say(format!("{} to be ended at the provider", report.upstream_pending));
        tokio::time::sleep(EVERY).await;
    }
    if let Some(spinner) = spinner {
        spinner.finish();
    }
    report.upstream_failed = count(meant, api, app, "failed").await?;
    Ok(())
}

async fn count(meant: &Meant, api: &Api, app: &str, upstream: &str) -> Result<i64, Failure> {
    let query = ListQuery {
        provider: meant.provider.clone(),
        upstream: Some(upstream.to_owned()),
        limit: Some(1),
        ..ListQuery::default()
    };
    let page: Page<Grant> = api.get(&["apps", app, "grants"], &query).await?;
    Ok(page.total)
}

fn stopped(failure: Failure, report: &Report) -> Failure {
    let next = format!(
        "{} of {} revoked, and stay so. Run the same command again for the rest.",
        report.done,
        counted(report.total, "grant is", "grants are")
    );
    match failure.exit {
        Exit::Cancelled => Failure { message: "Cancelled.".to_owned(), ..failure }.hint(next),
        _ if report.done == 0 => failure,
        _ => failure.hint(next),
    }
}

fn tell(report: &Report, waits: bool, context: &mut Context) -> Result<(), Failure> {
    context.show(report)?;
    if report.upstream_pending > 0 {
        let pending = counted(report.upstream_pending, "grant", "grants");
        context.term.note(&format!(
            "tokens of {pending} are still to be ended at their provider, which goes on by itself: \
             `grantd grants list --upstream pending` shows which"
        ));
    }
    if report.upstream_failed > 0 {
        let failed = counted(report.upstream_failed, "grant", "grants");
        context.term.warn(&format!(
            "tokens of {failed} could not be ended at their provider; end them there by hand: \
             `grantd grants list --upstream failed` shows which"
        ));
    }
    if !report.failed.is_empty() {
        let all = counted(report.total, "grant", "grants");
        let message = format!("{} of {all} could not be revoked", report.failed.len());
        return Err(Failure::local(message).hint("The answer names them; the server's log says why."));
    }
    match waits && (report.upstream_pending > 0 || report.upstream_failed > 0) {
        // Said above.
        true => Err(Failure::silent(Exit::Error)),
        false => Ok(()),
    }
}
