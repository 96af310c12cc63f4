//! `/Groups`.

use grantd_domain::identity::Group;
use grantd_domain::scim::filter::Filter;
use grantd_domain::scim::group::{Change, Group as Told, changes};
use grantd_domain::scim::path::GROUP;
use grantd_domain::scim::schema;
use grantd_domain::scim::{Refused, Wrong};
use grantd_store::scim::{self as rows, Endpoint};
use grantd_store::{Tx, groups};
use grantd_wire::ids::{GroupId, ScimUserId};
use grantd_wire::{Error, limits};
use serde_json::{Map, Value, json};

use super::users::clamped;
use super::{Call, Query, created, gone, missing, of_refused, page, scanned_too_many, scim};
use crate::answer::{Answer, of_store};
use crate::vault::Vault;

/// A group as it is shown, without members.
fn document(base: &str, group: &Group) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("schemas".to_owned(), json!([schema::GROUP]));
    document.insert("id".to_owned(), json!(group.id));
    document.insert("displayName".to_owned(), json!(group.name));
    // Where the directory gave none, the name stands for it.
    if group.external_id != group.name {
        document.insert("externalId".to_owned(), json!(group.external_id));
    }
    let meta = json!({
        "resourceType": "Group",
        "created": group.created_at,
        "lastModified": group.updated_at,
        "location": format!("{base}/Groups/{}", group.id),
    });
    document.insert("meta".to_owned(), meta);
    document
}

/// A group with its members, and how many it shows.
fn shown(tx: &mut Tx<'_>, base: &str, group: &Group) -> grantd_store::Result<(Map<String, Value>, usize)> {
    let mut document = document(base, group);
    let members = rows::list_members(tx, group.app_id, group.idp_id, group.id, limits::GROUP_MEMBERS_MAX)?;
    let count = members.len();
    let of = |row: rows::ScimUser| {
        let display = row.user.name().unwrap_or_else(|| row.user.user_name().to_owned());
        json!({"value": row.id, "$ref": format!("{base}/Users/{}", row.id), "display": display, "type": "User"})
    };
    if count > 0 {
        document.insert("members".to_owned(), members.into_iter().map(of).collect());
    }
    Ok((document, count))
}

/// A group of this directory.
fn load(tx: &mut Tx<'_>, endpoint: &Endpoint, id: Option<GroupId>) -> grantd_store::Result<Group> {
    let found = groups::find(tx, endpoint.app_id, id.ok_or_else(missing)?)?;
    Ok(found.filter(|group| group.idp_id == endpoint.idp_id).ok_or_else(missing)?)
}

impl Query {
    /// Whether members are asked for: they are many, and Entra ID asks for groups without them.
    fn wants_members(&self) -> bool {
        let names = |list: &str| {
            list.split(',').filter_map(|name| GROUP.name(name.trim())).any(|named| named.attribute.name == "members")
        };
        match (&self.attributes, &self.excluded_attributes) {
            (Some(wanted), _) => names(wanted),
            (None, Some(unwanted)) => !names(unwanted),
            (None, None) => true,
        }
    }
}

/// The group with what was asked for, and how many members it shows.
fn asked(tx: &mut Tx<'_>, base: &str, group: &Group, query: &Query) -> grantd_store::Result<(Value, usize)> {
    let (mut document, count) =
        if query.wants_members() { shown(tx, base, group)? } else { (document(base, group), 0) };
    query.project(GROUP, &mut document);
    Ok((Value::Object(document), count))
}

/// What is asked of a list of groups.
struct Search {
    filter: Filter,
    id: Option<String>,
    external_id: Option<String>,
    name: Option<String>,
    member: Option<String>,
}

impl Search {
    fn parse(text: &str) -> Result<Self, Refused> {
        let filter = Filter::parse(GROUP, text)?;
        let must = |name, part| filter.must_equal(name, part).map(str::to_owned);
        let (id, external_id, name) = (must("id", None), must("externalId", None), must("displayName", None));
        let member = must("members", Some("value"));
        if member.is_none() && filter.names().contains(&"members") {
            let detail = "Members are searched by id, joined to the rest with `and`: `members eq \"…\"`.";
            return Err(Refused::new(Wrong::InvalidFilter, detail));
        }
        Ok(Self { filter, id, external_id, name, member })
    }

    /// The groups that it may hold for, none left out.
    fn candidates(&self, tx: &mut Tx<'_>, endpoint: &Endpoint) -> grantd_store::Result<Vec<Group>> {
        let (app, idp) = (endpoint.app_id, endpoint.idp_id);
        let of_idp = |group: &Group| group.idp_id == idp;
        if let Some(id) = &self.id {
            let found = GroupId::parse(id).map(|id| groups::find(tx, app, id)).transpose()?.flatten();
            return Ok(found.into_iter().filter(of_idp).collect());
        }
        if let Some(member) = &self.member {
            let row = ScimUserId::parse(member).map(|id| rows::find(tx, app, idp, id)).transpose()?.flatten();
            let Some(row) = row else { return Ok(Vec::new()) };
            return Ok(groups::list_of_user(tx, app, row.user_id)?.into_iter().filter(of_idp).collect());
        }
        // A group without an id of the directory's shows none, so only its name is asked for.
        let by = (self.external_id.as_deref(), self.name.as_deref());
        let (found, there) = groups::list_of_provider(tx, app, idp, by, limits::SCIM_SCAN_MAX, 0)?;
        if there > limits::SCIM_SCAN_MAX { Err(scanned_too_many().into()) } else { Ok(found) }
    }

    /// Whether it holds. Of the members only the one that is asked for is looked at.
    fn holds(&self, tx: &mut Tx<'_>, base: &str, group: &Group) -> grantd_store::Result<bool> {
        let mut document = document(base, group);
        if let Some(member) = &self.member {
            let row = ScimUserId::parse(member).map(|id| rows::find(tx, group.app_id, group.idp_id, id)).transpose()?;
            if let Some(row) = row.flatten()
                && groups::list_of_user(tx, group.app_id, row.user_id)?.iter().any(|of| of.id == group.id)
            {
                document.insert("members".to_owned(), json!([{"value": member}]));
            }
        }
        Ok(self.filter.holds(&document))
    }
}

pub async fn list(vault: &Vault, call: &Call) -> Result<Answer, Error> {
    let query = call.query()?;
    let window = query.window();
    let search = query.filter.as_deref().map(Search::parse).transpose().map_err(of_refused)?;
    let (endpoint, base) = (call.endpoint.clone(), call.base.clone());
    let (documents, total) = vault
        .store
        .read(move |tx| {
            let (found, total) = match &search {
                None => {
                    let (app, idp) = (endpoint.app_id, endpoint.idp_id);
                    groups::list_of_provider(tx, app, idp, (None, None), window.limit, window.offset)?
                }
                Some(search) => {
                    let mut found = Vec::new();
                    for group in search.candidates(tx, &endpoint)? {
                        if search.holds(tx, &base, &group)? {
                            found.push(group);
                        }
                    }
                    let total = i64::try_from(found.len()).unwrap_or(i64::MAX);
                    let (from, take) = (clamped(window.offset), clamped(window.limit));
                    (found.into_iter().skip(from).take(take).collect(), total)
                }
            };
            let (mut documents, mut members) = (Vec::new(), 0);
            for group in &found {
                let (document, count) = asked(tx, &base, group, &query)?;
                documents.push(document);
                members += count;
                // A short page is one the directory asks on from.
                if members >= limits::SCIM_PAGE_MEMBERS_MAX {
                    break;
                }
            }
            Ok((documents, total))
        })
        .await
        .map_err(of_store)?;
    Ok(page(&documents, total, window))
}

pub async fn show(vault: &Vault, call: &Call, id: &str) -> Result<Answer, Error> {
    let query = call.query()?;
    let (endpoint, base, id) = (call.endpoint.clone(), call.base.clone(), GroupId::parse(id));
    let read = move |tx: &mut Tx<'_>| {
        let group = load(tx, &endpoint, id)?;
        asked(tx, &base, &group, &query)
    };
    let (document, _) = vault.store.read(read).await.map_err(of_store)?;
    Ok(scim(200, &document))
}

pub async fn create(vault: &Vault, call: &Call) -> Result<Answer, Error> {
    let told = Told::parse(&call.document()?).map_err(of_refused)?;
    let (telling, base) = (call.telling(vault, 0), call.base.clone());
    let write = move |tx: &mut Tx<'_>| {
        let group = telling.create_group(tx, told.clone())?;
        shown(tx, &base, &group)
    };
    let (document, _) = vault.store.write(write).await.map_err(of_store)?;
    Ok(created(&document))
}

pub async fn replace(vault: &Vault, call: &Call, id: &str) -> Result<Answer, Error> {
    let told = Told::parse(&call.document()?).map_err(of_refused)?;
    let changes = vec![Change::Name(told.name), Change::ExternalId(told.external_id), Change::Replace(told.members)];
    change(vault, call, id, changes).await
}

pub async fn patch(vault: &Vault, call: &Call, id: &str) -> Result<Answer, Error> {
    let changes = changes(&call.document()?).map_err(of_refused)?;
    change(vault, call, id, changes).await
}

async fn change(vault: &Vault, call: &Call, id: &str, changes: Vec<Change>) -> Result<Answer, Error> {
    let query = call.query()?;
    let (telling, base, id) = (call.telling(vault, 0), call.base.clone(), GroupId::parse(id));
    let write = move |tx: &mut Tx<'_>| {
        let group = load(tx, &telling.endpoint, id)?;
        let group = telling.change_group(tx, group, &changes)?;
        asked(tx, &base, &group, &query)
    };
    let (document, _) = vault.store.write(write).await.map_err(of_store)?;
    Ok(scim(200, &document))
}

pub async fn delete(vault: &Vault, call: &Call, id: &str) -> Result<Answer, Error> {
    let (telling, id) = (call.telling(vault, 0), GroupId::parse(id));
    let forget = move |tx: &mut Tx<'_>| {
        let group = load(tx, &telling.endpoint, id)?;
        telling.delete_group(tx, group.id)
    };
    vault.store.write(forget).await.map_err(of_store)?;
    Ok(gone())
}
