//! `/Users`.

use grantd_domain::scim::filter::Filter;
use grantd_domain::scim::path::USER;
use grantd_domain::scim::schema;
use grantd_domain::scim::user::User;
use grantd_domain::scim::{Refused, Wrong};
use grantd_store::scim::{self as rows, Exactly, ScimUser};
use grantd_store::{Tx, grants, groups};
use grantd_wire::ids::ScimUserId;
use grantd_wire::{Error, limits};
use serde_json::{Map, Value, json};

use super::{Call, Query, created, gone, missing, of_refused, page, scanned_too_many, scim};
use crate::answer::{Answer, of_store};
use crate::flow::directory::{meant, refused};
use crate::vault::Vault;

/// Grants that may come to a user between the moment they are counted and the write.
const GRANTS_SPARE: usize = 16;

/// A user as it is shown, without groups.
pub(super) fn document(base: &str, row: &ScimUser) -> Map<String, Value> {
    let mut document = row.user.document().clone();
    document.insert("schemas".to_owned(), json!([schema::USER]));
    document.insert("id".to_owned(), json!(row.id));
    let meta = json!({
        "resourceType": "User",
        "created": row.created_at,
        "lastModified": row.updated_at,
        "location": format!("{base}/Users/{}", row.id),
    });
    document.insert("meta".to_owned(), meta);
    document
}

/// A user as it is shown.
fn shown(tx: &mut Tx<'_>, base: &str, row: &ScimUser) -> grantd_store::Result<Map<String, Value>> {
    let mut document = document(base, row);
    let groups = groups::list_of_user(tx, row.app_id, row.user_id)?;
    if !groups.is_empty() {
        let of = |group: grantd_domain::identity::Group| json!({"value": group.id, "$ref": format!("{base}/Groups/{}", group.id), "display": group.name});
        document.insert("groups".to_owned(), groups.into_iter().map(of).collect());
    }
    Ok(document)
}

fn load(tx: &mut Tx<'_>, call: &(rows::Endpoint, Option<ScimUserId>)) -> grantd_store::Result<ScimUser> {
    let (endpoint, id) = call;
    let id = id.ok_or_else(missing)?;
    Ok(rows::find(tx, endpoint.app_id, endpoint.idp_id, id)?.ok_or_else(missing)?)
}

fn project(mut document: Map<String, Value>, query: &Query) -> Value {
    query.project(USER, &mut document);
    Value::Object(document)
}

pub async fn list(vault: &Vault, call: &Call) -> Result<Answer, Error> {
    let query = call.query()?;
    let window = query.window();
    let filter = query.filter.as_deref().map(|text| Filter::parse(USER, text)).transpose().map_err(of_refused)?;
    if filter.as_ref().is_some_and(|filter| filter.names().contains(&"groups")) {
        let detail = "Users cannot be searched by group. Ask for the group, which has its members.";
        return Err(of_refused(Refused::new(Wrong::InvalidFilter, detail)));
    }
    let mut exactly = Exactly::default();
    if let Some(filter) = &filter {
        let must = |name| filter.must_equal(name, None).map(str::to_owned);
        (exactly.user_name, exactly.external_id) = (must("userName"), must("externalId"));
        if let Some(id) = must("id") {
            let Some(id) = ScimUserId::parse(&id) else { return Ok(page(&[], 0, window)) };
            exactly.id = Some(id);
        }
    }
    let (endpoint, base) = (call.endpoint.clone(), call.base.clone());
    let (documents, total) = vault
        .store
        .read(move |tx| {
            let (app, idp) = (endpoint.app_id, endpoint.idp_id);
            let (found, total) = match &filter {
                None => rows::list(tx, app, idp, &exactly, window.limit, window.offset)?,
                Some(filter) => {
                    let (all, there) = rows::list(tx, app, idp, &exactly, limits::SCIM_SCAN_MAX, 0)?;
                    if there > limits::SCIM_SCAN_MAX {
                        return Err(scanned_too_many().into());
                    }
                    let holds = |row: &ScimUser| filter.holds(&document(&base, row));
                    let found: Vec<ScimUser> = all.into_iter().filter(holds).collect();
                    let total = i64::try_from(found.len()).unwrap_or(i64::MAX);
                    let (from, take) = (clamped(window.offset), clamped(window.limit));
                    (found.into_iter().skip(from).take(take).collect(), total)
                }
            };
            let documents: grantd_store::Result<Vec<_>> = found.iter().map(|row| shown(tx, &base, row)).collect();
            Ok((documents?, total))
        })
        .await
        .map_err(of_store)?;
    let documents: Vec<Value> = documents.into_iter().map(|document| project(document, &query)).collect();
    Ok(page(&documents, total, window))
}

pub(super) fn clamped(n: i64) -> usize {
    usize::try_from(n).unwrap_or(0)
}

pub async fn show(vault: &Vault, call: &Call, id: &str) -> Result<Answer, Error> {
    let query = call.query()?;
    let (which, base) = ((call.endpoint.clone(), ScimUserId::parse(id)), call.base.clone());
    let document = vault
        .store
        .read(move |tx| {
            let row = load(tx, &which)?;
            shown(tx, &base, &row)
        })
        .await
        .map_err(of_store)?;
    Ok(scim(200, &project(document, &query)))
}

pub async fn create(vault: &Vault, call: &Call) -> Result<Answer, Error> {
    let told = User::parse(&call.document()?).map_err(of_refused)?;
    // One who was seen before may have grants, and the document may say that all is over.
    let telling = call.telling(vault, GRANTS_SPARE + clamped(limits::PAGE_MAX));
    let base = call.base.clone();
    let document = vault
        .store
        .write(move |tx| {
            let row = telling.create(tx, told.clone())?;
            shown(tx, &base, &row)
        })
        .await
        .map_err(of_store)?;
    Ok(created(&document))
}

pub async fn replace(vault: &Vault, call: &Call, id: &str) -> Result<Answer, Error> {
    let body = call.document()?;
    change(vault, call, id, move |user| user.replaced(&body)).await
}

pub async fn patch(vault: &Vault, call: &Call, id: &str) -> Result<Answer, Error> {
    let body = call.document()?;
    change(vault, call, id, move |user| user.changed(&body)).await
}

async fn change(
    vault: &Vault,
    call: &Call,
    id: &str,
    told: impl Fn(&User) -> Result<User, Refused> + Send + 'static,
) -> Result<Answer, Error> {
    let query = call.query()?;
    let which = (call.endpoint.clone(), ScimUserId::parse(id));
    let telling = call.telling(vault, grants_of(vault, &which).await?);
    let base = call.base.clone();
    let document = vault
        .store
        .write(move |tx| {
            let row = load(tx, &which)?;
            let told = told(&row.user).map_err(refused)?;
            let row = telling.change(tx, row, told)?;
            shown(tx, &base, &row)
        })
        .await
        .map_err(of_store)?;
    Ok(scim(200, &project(document, &query)))
}

/// How many grants may end with a user.
async fn grants_of(vault: &Vault, which: &(rows::Endpoint, Option<ScimUserId>)) -> Result<usize, Error> {
    let which = which.clone();
    let found = vault
        .store
        .read(move |tx| {
            let row = load(tx, &which)?;
            let user = meant(tx, &which.0, &row)?;
            grants::list_unrevoked_of_user(tx, row.app_id, user)
        })
        .await;
    Ok(found.map_err(of_store)?.len() + GRANTS_SPARE)
}

pub async fn delete(vault: &Vault, call: &Call, id: &str) -> Result<Answer, Error> {
    let which = (call.endpoint.clone(), ScimUserId::parse(id));
    let telling = call.telling(vault, grants_of(vault, &which).await?);
    let forget = move |tx: &mut Tx<'_>| {
        let row = load(tx, &which)?;
        telling.delete(tx, &row)
    };
    vault.store.write(forget).await.map_err(of_store)?;
    grantd_store::crash::step("change.durable");
    Ok(gone())
}
