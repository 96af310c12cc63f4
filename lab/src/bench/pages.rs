//! Pages of the portal, with as much behind them as there may be: how long the server takes for each.

use std::sync::Arc;

use grantd_domain::audit::Owner;
use grantd_domain::env::{Clock as _, new_token, new_uuid};
use grantd_store::audit::{self, EventFilter};
use grantd_store::web_sessions::{self, SignedInBy, WebSession};
use grantd_store::{installs, operators};
use grantd_wire::ids::{EventId, IdentityProviderId, UserId, WebSessionId, uuid_v7};
use grantd_wire::sign::sha256;
use grantd_wire::{TimeMs, limits};

use super::report::{Report, Target, Verdict};
use super::{Case, Options, Prepared, blocking, progress};
use crate::fill;
use crate::grantd::{Server, request};
use crate::host::Host;
use crate::load::Load;
use crate::plan::Plan;
use crate::{Error, Result};

/// Milliseconds that the server may take for 95 of 100 askings of a page.
const PAGE_MS_MAX: f64 = 50.0;

/// What the addresses of pages name.
struct Named {
    /// A browser that is signed in as the first admin.
    cookie: String,
    operator: String,
    idp: String,
    user: String,
    event: String,
    /// A cursor that about half of the events are before.
    middle: String,
}

/// Measures each page on every engine of this machine.
pub async fn pages(options: &Options) -> Result<Report> {
    let method = format!(
        "{} grants, {} events, one connection, {} rounds of {} s a page",
        options.grants, options.events, options.rounds, options.seconds
    );
    let mut report = options.report("pages", method);
    for (name, postgres) in options.engines() {
        let prepared = Prepared::make(options, name, postgres, &options.grantd, options.grants).await?;
        let began = Host.now();
        let rate = fill::events(&prepared.install, &prepared.access, &prepared.grants, options.events).await?;
        progress(format_args!("{name}: {} events made in {:.0} s", rate.events, rate.took.as_secs_f64()));
        let middle = TimeMs(i64::midpoint(began.0, Host.now().0));
        let users = fill::users(&prepared.install, prepared.access.app, options.grants).await?;
        let named = named(&prepared, users, middle).await?;
        let options = options.clone();
        let (cases, verdicts) = blocking(move || {
            let server = prepared.install.serve(&options.grantd, &[])?;
            let measured = measure(&options, name, &prepared, &named, &server);
            server.stop()?;
            Ok(measured)
        })
        .await?;
        report.cases.extend(cases);
        report.verdicts.extend(verdicts);
    }
    Ok(report)
}

/// Signs a browser in, behind the server's back, and looks up what pages are of.
async fn named(prepared: &Prepared, (idp, user): (IdentityProviderId, UserId), middle: TimeMs) -> Result<Named> {
    let failed = |e| Error::because("cannot sign a browser in", e);
    let store = fill::open(&prepared.install).await?;
    let cookie = new_token(&Host, "");
    let (hash, now) = (sha256(cookie.reveal().as_bytes()), Host.now());
    let id = WebSessionId::from_uuid(new_uuid(&Host));
    let sign_in = move |tx: &mut grantd_store::Tx<'_>| {
        let Some(organization) = installs::organization(tx)? else { return Ok(None) };
        let Some(operator_id) = operators::find_first(tx, organization)? else { return Ok(None) };
        let expires_at = now.plus_seconds(limits::WEB_SESSION_S);
        let ip = "127.0.0.1".to_owned();
        let session = WebSession {
            id,
            operator_id,
            auth_at: now,
            seen_at: now,
            expires_at,
            ip,
            user_agent: None,
            signed_in_by: SignedInBy::Link,
        };
        web_sessions::insert(tx, &hash, &session, limits::WEB_SESSIONS_MAX)?;
        Ok(Some(operator_id))
    };
    let operator = store.write(sign_in).await.map_err(failed)?;
    let operator = operator.ok_or_else(|| Error("the install has no admin".to_owned()))?;
    let owner = Owner::App(prepared.access.app);
    let newest = store.read(move |tx| audit::list(tx, &owner, &EventFilter { limit: 1, ..EventFilter::default() }));
    let newest = newest.await.map_err(failed)?.events.into_iter().next();
    let newest = newest.ok_or_else(|| Error("the app has no event".to_owned()))?;
    store.close().await;
    Ok(Named {
        cookie: cookie.reveal().to_owned(),
        operator: operator.to_string(),
        idp: idp.to_string(),
        user: user.to_string(),
        event: newest.id.to_string(),
        middle: EventId::from_uuid(uuid_v7(middle.0, [0; 10])).to_string(),
    })
}

/// Every page that is asked for often, and those that look through most.
fn addresses(prepared: &Prepared, named: &Named) -> Vec<(&'static str, String)> {
    let app = format!("/portal/apps/{}", prepared.access.app);
    let grant = prepared.grants[prepared.grants.len() / 2];
    let secret = "lab-0";
    vec![
        ("overview", "/portal/overview".to_owned()),
        ("overview_month", "/portal/overview?range=30d".to_owned()),
        ("apps", "/portal/apps".to_owned()),
        ("members", "/portal/members".to_owned()),
        ("member", format!("/portal/members/{}", named.operator)),
        ("tokens", "/portal/tokens".to_owned()),
        ("settings", "/portal/settings".to_owned()),
        ("sessions", "/portal/sessions".to_owned()),
        ("account", "/portal/account".to_owned()),
        ("organization_audit", "/portal/audit".to_owned()),
        ("app_home", app.clone()),
        ("app_overview", format!("{app}/overview")),
        ("app_overview_month", format!("{app}/overview?range=30d")),
        ("start", format!("{app}/start")),
        ("keys", format!("{app}/keys")),
        ("secrets", format!("{app}/secrets")),
        ("catalogue", format!("{app}/secrets/new")),
        ("secret", format!("{app}/secrets/{secret}")),
        ("grants", format!("{app}/grants")),
        ("grants_far", format!("{app}/grants?offset=10000")),
        ("grants_active", format!("{app}/grants?status=active")),
        ("grants_revoked", format!("{app}/grants?status=revoked")),
        ("grants_search", format!("{app}/grants?search=lab-1")),
        ("grants_search_active", format!("{app}/grants?search=lab-1&status=active")),
        ("grants_search_revoked", format!("{app}/grants?search=lab-1&status=revoked")),
        ("grants_provider", format!("{app}/grants?provider={secret}")),
        ("grant", format!("{app}/grants/{grant}")),
        ("grant_revoke", format!("{app}/grants/{grant}/revoke")),
        ("secret_delete", format!("{app}/secrets/{secret}/delete")),
        ("providers", format!("{app}/providers")),
        ("provider_new", format!("{app}/providers/new/google")),
        ("identity", format!("{app}/identity")),
        ("idp", format!("{app}/identity/{}", named.idp)),
        ("users", format!("{app}/users")),
        ("users_far", format!("{app}/users?offset=10000")),
        ("users_search", format!("{app}/users?search=person5")),
        ("user", format!("{app}/users/{}", named.user)),
        ("user_deprovision", format!("{app}/users/{}/deprovision", named.user)),
        ("idp_delete", format!("{app}/identity/{}/delete", named.idp)),
        ("audit", format!("{app}/audit")),
        ("audit_middle", format!("{app}/audit?cursor={}", named.middle)),
        ("audit_denied", format!("{app}/audit?outcome=denied")),
        ("audit_kind", format!("{app}/audit?kind=token.released")),
        ("audit_grant", format!("{app}/audit?grant={grant}")),
        ("audit_user", format!("{app}/audit?user={}", named.user)),
        ("audit_key", format!("{app}/audit?key={}", prepared.access.key_id)),
        ("audit_provider", format!("{app}/audit?provider={secret}")),
        ("audit_context", format!("{app}/audit?context=user_id=nobody")),
        ("audit_export", format!("{app}/audit/export")),
        ("event", format!("{app}/audit/{}", named.event)),
        ("app_settings", format!("{app}/settings")),
        ("branding", format!("{app}/branding")),
    ]
}

fn measure(
    options: &Options,
    name: &str,
    prepared: &Prepared,
    named: &Named,
    server: &Server,
) -> (Vec<super::CaseResult>, Vec<Verdict>) {
    let cookie = format!("grantd_portal={}", named.cookie);
    let load = Load { threads: 1, ..options.load(1) };
    let case = |(id, path): (&'static str, String)| {
        let requests = vec![request("GET", &path, &[("cookie", &cookie)], b"")];
        let plan = Plan::Plain { requests: requests.into(), needle: Arc::from(&b"class=\"side__brand\""[..]) };
        Case::new(id, format!("{name}: page {id}"), server, plan, load)
    };
    let mut cases: Vec<Case> = addresses(prepared, named).into_iter().map(case).collect();
    for _ in 0..options.rounds {
        cases.iter_mut().for_each(Case::round);
    }
    let verdict = |case: &Case| {
        let p95_ms = case.result.spread(|sample| sample.figures.p95_us / 1e3);
        Verdict::new("-", format!("p95 of {}", case.result.title), p95_ms, "ms", Target::AtMost(PAGE_MS_MAX))
    };
    let verdicts = cases.iter().map(verdict).collect();
    (cases.into_iter().map(|case| case.result).collect(), verdicts)
}
