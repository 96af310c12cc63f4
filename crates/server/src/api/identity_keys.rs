//! Keys that sign assertions of identity.

use grantd_domain::assertion::{Published, standing};
use grantd_domain::audit::Kind;
use grantd_wire::api::{IdentityKey, IdentityKeysRotate, ListQuery};
use grantd_wire::{Code, Error, TimeMs};

use super::{Request, page};
use crate::answer::Answer;
use crate::flow::assertion::{self, Row};
use crate::parse;
use crate::vault::Vault;

pub async fn list(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    request.organization_wide("see keys of the whole server")?;
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let keys = view(&assertion::list(vault).await?, request.source.now);
    let total = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    let (skipped, taken) = (usize::try_from(offset).unwrap_or(usize::MAX), usize::try_from(limit).unwrap_or(0));
    Ok(page(keys.into_iter().skip(skipped).take(taken).collect(), total, limit, offset))
}

pub async fn rotate(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    let owner = request.organization_wide("rotate keys of the whole server")?;
    let ask: IdentityKeysRotate = match request.body.is_empty() {
        true => IdentityKeysRotate::default(),
        false => parse::json(&request.body)?,
    };
    let event = request.event(vault, owner, Kind::IdentityKeyMade).core("leaked", ask.leaked);
    let now = request.source.now;
    let mut rotate = assertion::rotate(vault, ask.leaked, now, &event).await?;
    request.once(vault, move |tx| Ok(view(&rotate(tx)?, now).pop().ok_or(Code::Internal)?)).await
}

fn view(rows: &[Row], now: TimeMs) -> Vec<IdentityKey> {
    let keys = assertion::published(rows);
    let item = |(key, signs_from): &Row| IdentityKey {
        id: key.id.to_string(),
        status: standing(&keys, Published { id: key.id, signs_from: *signs_from }, now).as_str().to_owned(),
        signs_from: *signs_from,
        public_jwk: key.public_jwk.clone(),
    };
    rows.iter().map(item).collect()
}
