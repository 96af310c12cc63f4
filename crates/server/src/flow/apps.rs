//! The state of an app: the change, its event and the app's epoch in one write.

use grantd_domain::audit::Kind;
use grantd_domain::grant::{App, AppState};
use grantd_store::{Result, Tx, append_event, apps, data_keys};
use grantd_wire::Code;
use grantd_wire::ids::DataKeyId;

use crate::flow::Drafts;

/// What moves of an app tell of.
pub const KINDS: &[Kind] = &[Kind::AppArchived, Kind::AppUnarchived, Kind::AppDeleted];

/// Brings the app into another state. With its deletion its data keys are destroyed, and named, so that nobody keeps them.
pub fn set_state(tx: &mut Tx<'_>, app: &App, to: AppState, drafts: &Drafts) -> Result<Vec<DataKeyId>> {
    if !apps::set_state(tx, app.id, app.state, to)? {
        return Err(Code::Conflict.into());
    }
    let (kind, destroyed) = match to {
        AppState::Active => (Kind::AppUnarchived, Vec::new()),
        AppState::Archived => (Kind::AppArchived, Vec::new()),
        AppState::Deleted => (Kind::AppDeleted, data_keys::destroy(tx, app.id)?),
    };
    let event = drafts.of(kind).changed("state", apps::state_text(app.state), apps::state_text(to));
    append_event(tx, &event.prepare())?;
    Ok(destroyed)
}
