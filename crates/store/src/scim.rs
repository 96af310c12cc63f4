//! Where directories tell of users, and the users they told of. Only the hash of a token is here.

use grantd_domain::scim::user::{Deactivation, SubjectFrom, User};
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, GroupId, IdentityProviderId, ScimUserId, UserId};

use crate::error::Result;
use crate::seam::{Row, Tx, id};

/// The place where the directory of an identity provider tells of its users.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    pub app_id: AppId,
    pub idp_id: IdentityProviderId,
    pub subject_from: SubjectFrom,
    pub deactivation: Deactivation,
    pub created_at: TimeMs,
    pub rotated_at: Option<TimeMs>,
}

/// A user that a directory told of.
#[derive(Clone, PartialEq, Debug)]
pub struct ScimUser {
    pub id: ScimUserId,
    pub app_id: AppId,
    pub idp_id: IdentityProviderId,
    /// The user's row, of which there is another after a deprovisioning that was taken back.
    pub user_id: UserId,
    pub user: User,
    /// The directory suspended the user, and nobody else.
    pub suspended_at: Option<TimeMs>,
    pub created_at: TimeMs,
    pub updated_at: TimeMs,
    pub version: i64,
}

macro_rules! endpoint_columns {
    () => {
        "e.app_id, e.idp_id, e.subject_from, e.deactivation, e.created_at_ms, e.rotated_at_ms"
    };
}

fn read_endpoint(mut row: Row) -> Result<Endpoint> {
    Ok(Endpoint {
        app_id: row.id("scim_endpoints.app_id")?,
        idp_id: row.id("scim_endpoints.idp_id")?,
        subject_from: row.parsed("scim_endpoints.subject_from", SubjectFrom::parse)?,
        deactivation: row.parsed("scim_endpoints.deactivation", Deactivation::parse)?,
        created_at: row.time("scim_endpoints.created_at_ms")?,
        rotated_at: row.opt_time("scim_endpoints.rotated_at_ms")?,
    })
}

/// Opens a place; `false`: there is one.
pub fn enable(tx: &mut Tx<'_>, endpoint: &Endpoint, token_hash: &[u8; 32]) -> Result<bool> {
    let inserted = tx.execute(
        "INSERT INTO scim_endpoints (app_id, idp_id, token_hash, subject_from, deactivation, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (app_id, idp_id) DO NOTHING",
        &[
            id(endpoint.app_id),
            id(endpoint.idp_id),
            token_hash.as_slice().into(),
            endpoint.subject_from.as_str().into(),
            endpoint.deactivation.as_str().into(),
            endpoint.created_at.into(),
        ],
    )?;
    Ok(inserted == 1)
}

/// Gives a place another token; the one before counts no more.
pub fn rotate(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId, token_hash: &[u8; 32], at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE scim_endpoints SET token_hash = $3, rotated_at_ms = $4 WHERE app_id = $1 AND idp_id = $2",
        &[id(app), id(idp), token_hash.as_slice().into(), at.into()],
    )
}

/// Closes a place; `false`: there was none. The users it told of stay, and what it told of them: a directory goes by the ids it was given.
pub fn disable(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId) -> Result<bool> {
    tx.change_one("DELETE FROM scim_endpoints WHERE app_id = $1 AND idp_id = $2", &[id(app), id(idp)])
}

/// The place of an identity provider.
pub fn find_endpoint(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId) -> Result<Option<Endpoint>> {
    let sql = concat!("SELECT ", endpoint_columns!(), " FROM scim_endpoints e WHERE e.app_id = $1 AND e.idp_id = $2");
    tx.query_opt("scim_endpoints", sql, &[id(app), id(idp)])?.map(read_endpoint).transpose()
}

/// The place that a token opens: of an identity provider that is not deleted, in an app that is active.
pub fn find_by_token(tx: &mut Tx<'_>, token_hash: &[u8; 32]) -> Result<Option<Endpoint>> {
    let sql = concat!(
        "SELECT ",
        endpoint_columns!(),
        " FROM scim_endpoints e JOIN apps a ON a.id = e.app_id \
         JOIN identity_providers i ON i.app_id = e.app_id AND i.id = e.idp_id \
         WHERE e.token_hash = $1 AND a.state = 'active' AND i.deleted_at_ms IS NULL"
    );
    tx.query_opt("scim_endpoints", sql, &[token_hash.as_slice().into()])?.map(read_endpoint).transpose()
}

macro_rules! user_columns {
    () => {
        "s.id, s.app_id, s.idp_id, s.user_id, s.document, s.suspended_at_ms, s.created_at_ms, s.updated_at_ms, s.version"
    };
}

fn read_user(mut row: Row) -> Result<ScimUser> {
    Ok(ScimUser {
        id: row.id("scim_users.id")?,
        app_id: row.id("scim_users.app_id")?,
        idp_id: row.id("scim_users.idp_id")?,
        user_id: row.id("scim_users.user_id")?,
        user: row.parsed("scim_users.document", User::stored)?,
        suspended_at: row.opt_time("scim_users.suspended_at_ms")?,
        created_at: row.time("scim_users.created_at_ms")?,
        updated_at: row.time("scim_users.updated_at_ms")?,
        version: row.int("scim_users.version")?,
    })
}

/// Stores a new one. `Duplicate`: its name is taken, or its user told of before.
pub fn insert(tx: &mut Tx<'_>, user: &ScimUser) -> Result<()> {
    tx.execute(
        "INSERT INTO scim_users (app_id, id, idp_id, user_id, user_name_search, external_id, document, suspended_at_ms, \
         created_at_ms, updated_at_ms, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, 1)",
        &[
            id(user.app_id),
            id(user.id),
            id(user.idp_id),
            id(user.user_id),
            user.user.user_name().to_lowercase().into(),
            user.user.external_id().map(str::to_owned).into(),
            user.user.text().into(),
            user.suspended_at.into(),
            user.created_at.into(),
        ],
    )?;
    Ok(())
}

/// Writes one that is at its version; `false`: it is another by now.
pub fn update(tx: &mut Tx<'_>, user: &ScimUser, at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE scim_users SET user_id = $4, user_name_search = $5, external_id = $6, document = $7, suspended_at_ms = $8, \
         updated_at_ms = $9, version = version + 1 WHERE app_id = $1 AND id = $2 AND version = $3",
        &[
            id(user.app_id),
            id(user.id),
            user.version.into(),
            id(user.user_id),
            user.user.user_name().to_lowercase().into(),
            user.user.external_id().map(str::to_owned).into(),
            user.user.text().into(),
            user.suspended_at.into(),
            at.into(),
        ],
    )
}

/// Forgets what a directory told of a user.
pub fn delete(tx: &mut Tx<'_>, app: AppId, user: ScimUserId) -> Result<bool> {
    tx.change_one("DELETE FROM scim_users WHERE app_id = $1 AND id = $2", &[id(app), id(user)])
}

/// A user that the directory of this identity provider told of.
pub fn find(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId, user: ScimUserId) -> Result<Option<ScimUser>> {
    let sql =
        concat!("SELECT ", user_columns!(), " FROM scim_users s WHERE s.app_id = $1 AND s.idp_id = $2 AND s.id = $3");
    tx.query_opt("scim_users", sql, &[id(app), id(idp), id(user)])?.map(read_user).transpose()
}

// In no order: one by id would have an engine without statistics walk through all that a directory told.
const OF_EXTERNAL_ID: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM scim_users s WHERE s.app_id = $1 AND s.idp_id = $2 AND s.external_id = $3 LIMIT 100"
);
const OF_USER_NAME: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM scim_users s WHERE s.app_id = $1 AND s.idp_id = $2 AND s.user_name_search = $3 LIMIT 100"
);

/// What the directory says of whom tokens call so; of several, one that is active. `None`: nothing, or it is not asked any more.
pub fn find_subject(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId, subject: &str) -> Result<Option<ScimUser>> {
    let Some(Endpoint { subject_from, .. }) = find_endpoint(tx, app, idp)? else { return Ok(None) };
    let (sql, wanted) = match subject_from {
        SubjectFrom::ExternalId => (OF_EXTERNAL_ID, subject.to_owned()),
        SubjectFrom::UserName => (OF_USER_NAME, subject.to_lowercase()),
    };
    let rows = tx.query("scim_users", sql, &[id(app), id(idp), wanted.into()])?;
    let mut found = rows.into_iter().map(read_user).collect::<Result<Vec<_>>>()?;
    found.retain(|row| row.user.subject(subject_from).is_ok_and(|its| its == subject));
    found.sort_by_key(|row| !row.user.is_active());
    Ok(found.into_iter().next())
}

/// Gives what the directory says to another row of its user. What it did to the one before is not its to take back from this one.
pub fn bind(tx: &mut Tx<'_>, app: AppId, row: ScimUserId, user: UserId) -> Result<bool> {
    tx.change_one(
        "UPDATE scim_users SET user_id = $3, suspended_at_ms = NULL, version = version + 1 WHERE app_id = $1 AND id = $2",
        &[id(app), id(row), id(user)],
    )
}

/// Whether another one has this name.
pub fn is_name_taken(tx: &mut Tx<'_>, user: &ScimUser) -> Result<bool> {
    let found = tx.count(
        "SELECT COUNT(*) FROM scim_users WHERE app_id = $1 AND idp_id = $2 AND user_name_search = $3 AND id <> $4",
        &[id(user.app_id), id(user.idp_id), user.user.user_name().to_lowercase().into(), id(user.id)],
    )?;
    Ok(found > 0)
}

/// Whether a directory told of this user.
pub fn is_told_of(tx: &mut Tx<'_>, app: AppId, user: UserId) -> Result<bool> {
    Ok(tx.count("SELECT COUNT(*) FROM scim_users WHERE app_id = $1 AND user_id = $2", &[id(app), id(user)])? > 0)
}

/// Somebody else decides of a user now: what the directory did is no longer its to take back.
pub fn unmark(tx: &mut Tx<'_>, app: AppId, user: UserId) -> Result<bool> {
    tx.change_one(
        "UPDATE scim_users SET suspended_at_ms = NULL, version = version + 1 \
         WHERE app_id = $1 AND user_id = $2 AND suspended_at_ms IS NOT NULL",
        &[id(app), id(user)],
    )
}

/// What an index can be asked for, each where it is given.
#[derive(Clone, Default, Debug)]
pub struct Exactly {
    pub id: Option<ScimUserId>,
    pub user_name: Option<String>,
    pub external_id: Option<String>,
}

macro_rules! exactly {
    ($columns:expr, $rest:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM scim_users s WHERE s.app_id = $1 AND s.idp_id = $2 AND (CAST($3 AS BYTEA) IS NULL OR s.id = $3) \
             AND (CAST($4 AS TEXT) IS NULL OR s.user_name_search = $4) \
             AND (CAST($5 AS TEXT) IS NULL OR s.external_id = $5)",
            $rest
        )
    };
}

/// Users that a directory told of, oldest first, and how many there are.
pub fn list(
    tx: &mut Tx<'_>,
    app: AppId,
    idp: IdentityProviderId,
    exactly: &Exactly,
    limit: i64,
    offset: i64,
) -> Result<(Vec<ScimUser>, i64)> {
    let params = [
        id(app),
        id(idp),
        exactly.id.map(id).into(),
        exactly.user_name.as_ref().map(|name| name.to_lowercase()).into(),
        exactly.external_id.as_ref().into(),
        limit.into(),
        offset.into(),
    ];
    let total = tx.count(exactly!("COUNT(*)", ""), &params[..5])?;
    let rows = tx.query("scim_users", exactly!(user_columns!(), " ORDER BY s.id LIMIT $6 OFFSET $7"), &params)?;
    Ok((rows.into_iter().map(read_user).collect::<Result<_>>()?, total))
}

/// Members of a group that the directory told of, at most `limit`.
pub fn list_members(
    tx: &mut Tx<'_>,
    app: AppId,
    idp: IdentityProviderId,
    group: GroupId,
    limit: i64,
) -> Result<Vec<ScimUser>> {
    let sql = concat!(
        "SELECT ",
        user_columns!(),
        " FROM group_members m JOIN scim_users s ON s.app_id = m.app_id AND s.user_id = m.user_id \
         WHERE m.app_id = $1 AND m.group_id = $3 AND s.idp_id = $2 ORDER BY s.id LIMIT $4"
    );
    let rows = tx.query("scim_users", sql, &[id(app), id(idp), id(group), limit.into()])?;
    rows.into_iter().map(read_user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    /// The engine that has no statistics of its own never walks through what a directory told to find one of its users.
    #[tokio::test]
    async fn whom_tokens_call_so_is_found_by_an_index() {
        let store = Store::open(&crate::Location::Memory, "test", 1).await.unwrap();
        store.migrate(TimeMs(0)).await.unwrap();
        for (sql, index) in [(OF_EXTERNAL_ID, "scim_users_external"), (OF_USER_NAME, "scim_users_name")] {
            let plan = store.plan(sql, 3).await;
            assert!(plan.contains(&format!("INDEX {index} (app_id=? AND idp_id=? AND")), "{plan}");
            assert!(!plan.contains("SCAN"), "{plan}");
        }
    }
}
