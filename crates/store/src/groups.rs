//! Groups of users, and who is in them.

use std::collections::BTreeSet;

use grantd_domain::identity::Group;
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, GroupId, IdentityProviderId, UserId};

use crate::apps::prefix_bounds;
use crate::error::Result;
use crate::seam::{Row, Tx, id};

/// Who says that a user is in a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The user's tokens.
    Token,
    /// The provider's directory.
    Directory,
}

impl Source {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Directory => "directory",
        }
    }
}

/// The columns that [`read`] reads, of the table or alias `g`.
macro_rules! group_columns {
    () => {
        "g.id, g.app_id, g.idp_id, g.external_id, g.name, g.created_at_ms, g.updated_at_ms, g.version"
    };
}

fn read(mut row: Row) -> Result<Group> {
    Ok(Group {
        id: row.id("groups.id")?,
        app_id: row.id("groups.app_id")?,
        idp_id: row.id("groups.idp_id")?,
        external_id: row.text("groups.external_id")?,
        name: row.text("groups.name")?,
        created_at: row.time("groups.created_at_ms")?,
        updated_at: row.time("groups.updated_at_ms")?,
        version: row.int("groups.version")?,
    })
}

/// Stores a new group; `false`: its provider has a living one with that id, which somebody else made meanwhile.
pub fn insert(tx: &mut Tx<'_>, group: &Group) -> Result<bool> {
    let inserted = tx.execute(
        "INSERT INTO groups (app_id, id, idp_id, external_id, name, name_search, created_at_ms, updated_at_ms, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8) \
         ON CONFLICT (app_id, idp_id, external_id) WHERE deleted_at_ms IS NULL DO NOTHING",
        &[
            id(group.app_id),
            id(group.id),
            id(group.idp_id),
            (&group.external_id).into(),
            (&group.name).into(),
            group.name.to_lowercase().into(),
            group.created_at.into(),
            group.version.into(),
        ],
    )?;
    Ok(inserted == 1)
}

/// A living group of the app.
pub fn find(tx: &mut Tx<'_>, app: AppId, group: GroupId) -> Result<Option<Group>> {
    let sql = concat!(
        "SELECT ",
        group_columns!(),
        " FROM groups g WHERE g.app_id = $1 AND g.id = $2 AND g.deleted_at_ms IS NULL"
    );
    tx.query_opt("groups", sql, &[id(app), id(group)])?.map(read).transpose()
}

/// The living group that a provider names so.
pub fn find_external(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId, external_id: &str) -> Result<Option<Group>> {
    let sql = concat!(
        "SELECT ",
        group_columns!(),
        " FROM groups g WHERE g.app_id = $1 AND g.idp_id = $2 AND g.external_id = $3 AND g.deleted_at_ms IS NULL"
    );
    tx.query_opt("groups", sql, &[id(app), id(idp), external_id.into()])?.map(read).transpose()
}

/// Living groups of the app whose name begins with `search`, newest first, and how many there are.
pub fn list(tx: &mut Tx<'_>, app: AppId, search: Option<&str>, limit: i64, offset: i64) -> Result<(Vec<Group>, i64)> {
    let (low, high) = prefix_bounds(search);
    let total = tx.count(
        "SELECT COUNT(*) FROM groups WHERE app_id = $1 AND name_search >= $2 AND name_search < $3 AND deleted_at_ms IS NULL",
        &[id(app), low.clone(), high.clone()],
    )?;
    let sql = concat!(
        "SELECT ",
        group_columns!(),
        " FROM groups g WHERE g.app_id = $1 AND g.name_search >= $2 AND g.name_search < $3 AND g.deleted_at_ms IS NULL \
         ORDER BY g.id DESC LIMIT $4 OFFSET $5"
    );
    let rows = tx.query("groups", sql, &[id(app), low, high, limit.into(), offset.into()])?;
    Ok((rows.into_iter().map(read).collect::<Result<_>>()?, total))
}

/// Living groups that a user is in, whoever says so, by their provider's id.
pub fn list_of_user(tx: &mut Tx<'_>, app: AppId, user: UserId) -> Result<Vec<Group>> {
    let sql = concat!(
        "SELECT ",
        group_columns!(),
        " FROM group_members m JOIN groups g ON g.app_id = m.app_id AND g.id = m.group_id \
         WHERE m.app_id = $1 AND m.user_id = $2 AND g.deleted_at_ms IS NULL ORDER BY g.external_id"
    );
    tx.query("groups", sql, &[id(app), id(user)])?.into_iter().map(read).collect()
}

/// How many users are in a group.
pub fn count_members(tx: &mut Tx<'_>, app: AppId, group: GroupId) -> Result<i64> {
    tx.count("SELECT COUNT(*) FROM group_members WHERE app_id = $1 AND group_id = $2", &[id(app), id(group)])
}

/// Groups by the ids their provider gives them that a user's tokens put the user in.
pub fn external_ids_by_token(tx: &mut Tx<'_>, app: AppId, user: UserId) -> Result<BTreeSet<String>> {
    let sql = "SELECT g.external_id FROM group_members m JOIN groups g ON g.app_id = m.app_id AND g.id = m.group_id \
        WHERE m.app_id = $1 AND m.user_id = $2 AND m.source = 'token' AND g.deleted_at_ms IS NULL";
    let rows = tx.query("groups", sql, &[id(app), id(user)])?;
    rows.into_iter().map(|mut row| row.text("groups.external_id")).collect()
}

/// Groups by the ids their provider gives them that its directory took a user out of, at `since` or later.
pub fn external_ids_left(tx: &mut Tx<'_>, app: AppId, user: UserId, since: TimeMs) -> Result<BTreeSet<String>> {
    let sql = "SELECT g.external_id FROM group_leavers l JOIN groups g ON g.app_id = l.app_id AND g.id = l.group_id \
        WHERE l.app_id = $1 AND l.user_id = $2 AND l.left_at_ms >= $3 AND g.deleted_at_ms IS NULL";
    let rows = tx.query("groups", sql, &[id(app), id(user), since.into()])?;
    rows.into_iter().map(|mut row| row.text("groups.external_id")).collect()
}

/// Puts a user into a group; `false`: the user was in it. Whom a directory puts in, no token takes out.
pub fn add(tx: &mut Tx<'_>, app: AppId, group: GroupId, user: UserId, source: Source, at: TimeMs) -> Result<bool> {
    let added = tx.execute(
        "INSERT INTO group_members (app_id, group_id, user_id, source, since_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (app_id, group_id, user_id) DO NOTHING",
        &[id(app), id(group), id(user), source.as_str().into(), at.into()],
    )?;
    if added == 0 && source == Source::Directory {
        tx.execute(
            "UPDATE group_members SET source = 'directory' \
             WHERE app_id = $1 AND group_id = $2 AND user_id = $3 AND source <> 'directory'",
            &[id(app), id(group), id(user)],
        )?;
    }
    Ok(added == 1)
}

/// Takes a user out of a group that `source` put the user in. The caller raises the app's epoch.
pub fn remove(tx: &mut Tx<'_>, app: AppId, group: GroupId, user: UserId, source: Source) -> Result<bool> {
    tx.change_one(
        "DELETE FROM group_members WHERE app_id = $1 AND group_id = $2 AND user_id = $3 AND source = $4",
        &[id(app), id(group), id(user), source.as_str().into()],
    )
}

/// Takes a user out of every group. The caller raises the app's epoch.
pub fn remove_everywhere(tx: &mut Tx<'_>, app: AppId, user: UserId) -> Result<u64> {
    tx.execute("DELETE FROM group_members WHERE app_id = $1 AND user_id = $2", &[id(app), id(user)])
}

/// Living groups of an identity provider that have this id or name, where one is given, oldest first, and how many there are.
pub fn list_of_provider(
    tx: &mut Tx<'_>,
    app: AppId,
    idp: IdentityProviderId,
    (external_id, name): (Option<&str>, Option<&str>),
    limit: i64,
    offset: i64,
) -> Result<(Vec<Group>, i64)> {
    macro_rules! of_provider {
        ($columns:expr, $rest:literal) => {
            concat!(
                "SELECT ",
                $columns,
                " FROM groups g WHERE g.app_id = $1 AND g.idp_id = $2 AND g.deleted_at_ms IS NULL \
                 AND (CAST($3 AS TEXT) IS NULL OR g.external_id = $3) AND (CAST($4 AS TEXT) IS NULL OR g.name_search = $4)",
                $rest
            )
        };
    }
    let params = [
        id(app),
        id(idp),
        external_id.map(str::to_owned).into(),
        name.map(str::to_lowercase).into(),
        limit.into(),
        offset.into(),
    ];
    let total = tx.count(of_provider!("COUNT(*)", ""), &params[..4])?;
    let rows = tx.query("groups", of_provider!(group_columns!(), " ORDER BY g.id LIMIT $5 OFFSET $6"), &params)?;
    Ok((rows.into_iter().map(read).collect::<Result<_>>()?, total))
}

/// Writes the name and the provider's id of a living group; `false`: it is gone, or another has that id.
pub fn rename(tx: &mut Tx<'_>, group: &Group, at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE groups SET external_id = $3, name = $4, name_search = $5, updated_at_ms = $6, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND deleted_at_ms IS NULL AND NOT EXISTS (SELECT 1 FROM groups o \
         WHERE o.app_id = $1 AND o.idp_id = $7 AND o.external_id = $3 AND o.id <> $2 AND o.deleted_at_ms IS NULL)",
        &[
            id(group.app_id),
            id(group.id),
            (&group.external_id).into(),
            (&group.name).into(),
            group.name.to_lowercase().into(),
            at.into(),
            id(group.idp_id),
        ],
    )
}

/// Deletes a group, with everybody in it; `false`: it was gone. The caller raises the app's epoch.
pub fn delete(tx: &mut Tx<'_>, app: AppId, group: GroupId, at: TimeMs) -> Result<bool> {
    clear(tx, app, group)?;
    tx.change_one(
        "UPDATE groups SET deleted_at_ms = $3, updated_at_ms = $3, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND deleted_at_ms IS NULL",
        &[id(app), id(group), at.into()],
    )
}

/// Takes everybody out of a group; answers how many there were. The caller raises the app's epoch.
pub fn clear(tx: &mut Tx<'_>, app: AppId, group: GroupId) -> Result<u64> {
    tx.execute("DELETE FROM group_members WHERE app_id = $1 AND group_id = $2", &[id(app), id(group)])
}

/// Takes a user out of a group, whoever put the user in; `false`: the user was not in it. Tokens that were issued until `at` do not put
/// the user in again; what a later one says is looked at, also where it says what the last one did. The caller raises the app's epoch.
pub fn expel(tx: &mut Tx<'_>, app: AppId, group: GroupId, user: UserId, at: TimeMs) -> Result<bool> {
    tx.execute(
        "INSERT INTO group_leavers (app_id, user_id, group_id, left_at_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (app_id, user_id, group_id) DO UPDATE SET left_at_ms = $4",
        &[id(app), id(user), id(group), at.into()],
    )?;
    tx.execute(
        "UPDATE users SET told_hash = NULL, version = version + 1 WHERE app_id = $1 AND id = $2 AND told_hash IS NOT NULL",
        &[id(app), id(user)],
    )?;
    tx.change_one(
        "DELETE FROM group_members WHERE app_id = $1 AND group_id = $2 AND user_id = $3",
        &[id(app), id(group), id(user)],
    )
}

/// Forgets who left a group before `since`: tokens from then have expired.
pub fn forget_leavers(tx: &mut Tx<'_>, app: AppId, since: TimeMs) -> Result<()> {
    tx.execute("DELETE FROM group_leavers WHERE app_id = $1 AND left_at_ms < $2", &[id(app), since.into()]).map(drop)
}

/// Users in a group, at most `limit`.
pub fn list_members(tx: &mut Tx<'_>, app: AppId, group: GroupId, limit: i64) -> Result<Vec<UserId>> {
    let sql = "SELECT user_id FROM group_members WHERE app_id = $1 AND group_id = $2 ORDER BY user_id LIMIT $3";
    let rows = tx.query("group_members", sql, &[id(app), id(group), limit.into()])?;
    rows.into_iter().map(|mut row| row.id("group_members.user_id")).collect()
}
