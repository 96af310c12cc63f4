//! Connect sessions that operators begin, as apps do through `/sdk`. The link is in the answer that begins one, and never again: a
//! session goes by its id.

use grantd_domain::audit::Kind;
use grantd_domain::connect::Asker;
use grantd_domain::grant::{App, check_text};
use grantd_store::{Tx, append_event, connect};
use grantd_wire::api::{BegunConnectSession, ConnectSession, ConnectSessionCreate};
use grantd_wire::ids::ConnectSessionId;
use grantd_wire::sdk::{ConnectPoll, ConnectSessionRequest, Lifetime, RequestedGrant};
use grantd_wire::{Code, Error, TimeMs, limits};
use serde_json::json;

use super::version::shown;
use super::{Request, active, grants};
use crate::answer::Answer;
use crate::flow::connect::{Session, Step, find_of_app, stands};
use crate::flow::session;
use crate::parse;
use crate::vault::Vault;

fn view(session: &Session, steps: &[Step], now: TimeMs) -> ConnectSession {
    let mut view = ConnectSession {
        id: session.id.to_string(),
        app_id: session.app_id.to_string(),
        status: String::new(),
        opened: session.browser_hash.is_some(),
        providers: session.request.providers.iter().map(|wanted| wanted.provider_id.clone()).collect(),
        direct: session.request.is_direct,
        declined_providers: Vec::new(),
        grants: Vec::new(),
        failed_grants: Vec::new(),
        error: None,
        created_at: session.created_at,
        expires_at: session.expires_at,
    };
    let status = match stands(session, steps, now) {
        ConnectPoll::Pending { declined_providers } => {
            view.declined_providers = declined_providers;
            "pending"
        }
        ConnectPoll::Completed { grants, failed_grants } => {
            (view.grants, view.failed_grants) = (grants, failed_grants);
            "completed"
        }
        ConnectPoll::Error { error } => {
            view.error = Some(error);
            "error"
        }
        ConnectPoll::Expired => "expired",
    };
    status.clone_into(&mut view.status);
    view
}

pub async fn create(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask = asked(parse::json(&request.body)?, request.source.now)?;
    active(app)?;
    let (by, now) = (Asker::OperatorId(request.operator.id), request.source.now);
    let begun = session::begin(vault, app.id, ask, None, by, now).await?;
    let event = request
        .drafts(vault, app, &[Kind::ConnectCreated])
        .of(Kind::ConnectCreated)
        .core_id("session_id", begun.session.id)
        .core("providers", json!(begun.provider_ids()))
        .prepare();
    let connect_url = begun.connect_url(vault);
    let insert = move |tx: &mut Tx<'_>| {
        connect::insert(tx, &begun.token_hash, &begun.session)?;
        append_event(tx, &event)?;
        Ok(BegunConnectSession { session: view(&begun.session, &[], now), connect_url: connect_url.clone() })
    };
    request.once(vault, insert).await
}

/// In the words of the protocol, which says the same.
fn asked(ask: ConnectSessionCreate, now: TimeMs) -> Result<ConnectSessionRequest, Error> {
    if let Some(label) = &ask.label {
        check_text("label", label, limits::LABEL_CHARS_MAX)?;
    }
    grants::ends(ask.expires_in_seconds, now)?;
    let lifetime = |seconds| Lifetime { max_ttl_seconds: Some(seconds), ..Lifetime::default() };
    Ok(ConnectSessionRequest {
        allowed_providers: ask.allowed_providers,
        return_url: ask.return_url,
        allowed_origin: ask.allowed_origin,
        direct: ask.direct,
        switch_account: ask.switch_account,
        grant_policy: ask.expires_in_seconds.map(lifetime),
        required_scopes: ask.required_scopes,
        requested_grant: ask.label.map(|label| RequestedGrant { label, restrictions: None }),
        repair_grant_id: ask.repair_grant_id,
        ..ConnectSessionRequest::default()
    })
}

pub async fn show(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let id = ConnectSessionId::parse(&request.object()).ok_or(Code::NotFound)?;
    let (session, steps) = find_of_app(vault, app.id, id).await?.ok_or(Code::NotFound)?;
    Ok(shown(200, &view(&session, &steps, request.source.now)))
}
