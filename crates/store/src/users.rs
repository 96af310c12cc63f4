//! End users of apps. A subject has at most one row that is not deprovisioned.

use grantd_domain::identity::{User, UserStatus};
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, IdentityProviderId, UserId};

use crate::apps::{exact_prefix_bounds, json, prefix_bounds};
use crate::error::Result;
use crate::hot::Epochs;
use crate::idp_webhooks::subject_hash;
use crate::seam::{Row, Tx, Value, id};
use crate::{Store, hot};

/// The columns that [`read_opt`] reads, of the table or alias `u`.
macro_rules! user_columns {
    () => {
        "u.id, u.app_id, u.idp_id, u.subject, u.status, u.email, u.name, u.roles, u.told_at_ms, u.told_hash, u.last_seen_at_ms, \
         u.created_at_ms, u.updated_at_ms, u.deprovisioned_at_ms, u.version"
    };
}

fn read(row: &mut Row) -> Result<User> {
    let user = read_opt(row)?;
    user.ok_or_else(|| row.inconsistent("users.id"))
}

/// `None`: an outer join found nothing.
fn read_opt(row: &mut Row) -> Result<Option<User>> {
    let Some(user_id) = row.opt_id("users.id")? else { return Ok(None) };
    let app_id = row.id("users.app_id")?;
    let idp_id = row.id("users.idp_id")?;
    let subject = row.text("users.subject")?;
    let status = row.text("users.status")?;
    let email = row.opt_text("users.email")?;
    let name = row.opt_text("users.name")?;
    let roles = row.json("users.roles")?;
    let told_at = row.opt_time("users.told_at_ms")?;
    let told_hash = row.opt_array("users.told_hash")?;
    let last_seen_at = row.opt_time("users.last_seen_at_ms")?;
    let created_at = row.time("users.created_at_ms")?;
    let updated_at = row.time("users.updated_at_ms")?;
    let status = match (status.as_str(), row.opt_time("users.deprovisioned_at_ms")?) {
        ("active", None) => UserStatus::Active,
        ("suspended", None) => UserStatus::Suspended,
        ("deprovisioned", Some(at)) => UserStatus::Deprovisioned { at },
        _ => return Err(row.inconsistent("users.status")),
    };
    let version = row.int("users.version")?;
    Ok(Some(User {
        id: user_id,
        app_id,
        idp_id,
        subject,
        status,
        email,
        name,
        roles,
        told_at,
        told_hash,
        last_seen_at,
        created_at,
        updated_at,
        version,
    }))
}

/// Stores a new active user; `false`: the subject has a living row, which somebody else made meanwhile.
pub fn insert(tx: &mut Tx<'_>, user: &User) -> Result<bool> {
    debug_assert!(user.status == UserStatus::Active);
    let inserted = tx.execute(
        "INSERT INTO users (app_id, id, idp_id, subject, status, email, email_search, name, roles, told_at_ms, last_seen_at_ms, \
         created_at_ms, updated_at_ms, version, told_hash, name_search) \
         VALUES ($1, $2, $3, $4, 'active', $5, $6, $7, $8, $9, $10, $11, $11, $12, $13, $14) \
         ON CONFLICT (app_id, idp_id, subject) WHERE deprovisioned_at_ms IS NULL DO NOTHING",
        &[
            id(user.app_id),
            id(user.id),
            id(user.idp_id),
            (&user.subject).into(),
            user.email.as_ref().into(),
            lower(user.email.as_ref()),
            user.name.as_ref().into(),
            json(&user.roles),
            user.told_at.into(),
            user.last_seen_at.into(),
            user.created_at.into(),
            user.version.into(),
            user.told_hash.map(|hash| hash.to_vec()).into(),
            lower(user.name.as_ref()),
        ],
    )?;
    Ok(inserted == 1)
}

/// As it is searched, whatever the case.
fn lower(text: Option<&String>) -> Value {
    text.map(|text| text.to_lowercase()).into()
}

/// Writes what is known of a user who is not deprovisioned, at `version`; `false`: it is another by now. The caller raises the app's epoch
/// where the user lost something.
pub fn update(tx: &mut Tx<'_>, user: &User, version: i64) -> Result<bool> {
    tx.change_one(
        "UPDATE users SET email = $4, email_search = $5, name = $6, roles = $7, told_at_ms = $8, last_seen_at_ms = $9, \
         updated_at_ms = $10, told_hash = $11, name_search = $12, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND version = $3 AND deprovisioned_at_ms IS NULL",
        &[
            id(user.app_id),
            id(user.id),
            version.into(),
            user.email.as_ref().into(),
            lower(user.email.as_ref()),
            user.name.as_ref().into(),
            json(&user.roles),
            user.told_at.into(),
            user.last_seen_at.into(),
            user.updated_at.into(),
            user.told_hash.map(|hash| hash.to_vec()).into(),
            lower(user.name.as_ref()),
        ],
    )
}

/// Suspends or resumes a user who is not deprovisioned; `false`: nothing changed. The caller raises the app's epoch.
pub fn set_suspended(tx: &mut Tx<'_>, app: AppId, user: UserId, to: UserStatus, at: TimeMs) -> Result<bool> {
    debug_assert!(matches!(to, UserStatus::Active | UserStatus::Suspended));
    tx.change_one(
        "UPDATE users SET status = $3, updated_at_ms = $4, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND status <> $3 AND deprovisioned_at_ms IS NULL",
        &[id(app), id(user), to.as_str().into(), at.into()],
    )
}

/// Deprovisions a user, for good; `false`: it was done before. The caller ends what the user had, and raises the app's epoch.
pub fn deprovision(tx: &mut Tx<'_>, app: AppId, user: UserId, at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE users SET status = 'deprovisioned', deprovisioned_at_ms = $3, updated_at_ms = $3, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND deprovisioned_at_ms IS NULL",
        &[id(app), id(user), at.into()],
    )
}

/// Binds a user who is not deprovisioned to another subject; `false`: another user has it. The caller raises the app's epoch.
pub fn rebind(tx: &mut Tx<'_>, user: &User, subject: &str, at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE users SET subject = $3, updated_at_ms = $4, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND deprovisioned_at_ms IS NULL AND NOT EXISTS (SELECT 1 FROM users o \
         WHERE o.app_id = $1 AND o.idp_id = $5 AND o.subject = $3 AND o.id <> $2 AND o.deprovisioned_at_ms IS NULL)",
        &[id(user.app_id), id(user.id), subject.into(), at.into(), id(user.idp_id)],
    )
}

/// A user of the app.
pub fn find(tx: &mut Tx<'_>, app: AppId, user: UserId) -> Result<Option<User>> {
    let sql = concat!("SELECT ", user_columns!(), " FROM users u WHERE u.app_id = $1 AND u.id = $2");
    tx.query_opt("users", sql, &[id(app), id(user)])?.map(|mut row| read(&mut row)).transpose()
}

/// The newest row of a subject, deprovisioned or not.
pub fn find_subject(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId, subject: &str) -> Result<Option<User>> {
    let sql = concat!(
        "SELECT ",
        user_columns!(),
        " FROM users u WHERE u.app_id = $1 AND u.idp_id = $2 AND u.subject = $3 \
         ORDER BY CASE WHEN u.deprovisioned_at_ms IS NULL THEN 0 ELSE 1 END, u.id DESC LIMIT 1"
    );
    let row = tx.query_opt("users", sql, &[id(app), id(idp), subject.into()])?;
    row.map(|mut row| read(&mut row)).transpose()
}

/// What users to list.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    /// `active`, `suspended` or `deprovisioned`.
    pub status: Option<String>,
    pub idp: Option<IdentityProviderId>,
    /// Users whose e-mail address or name begins so, whatever the case, or whose subject does.
    pub search: Option<String>,
    /// How many.
    pub limit: i64,
    /// How many to leave out first.
    pub offset: i64,
}

/// Of the parameters `$1` to `$3`, and as many more as what is asked for beside them takes.
macro_rules! filtered {
    ($columns:expr, $more:expr, $tail:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM users u WHERE u.app_id = $1 AND (CAST($2 AS TEXT) IS NULL OR u.status = $2) \
             AND (CAST($3 AS BYTEA) IS NULL OR u.idp_id = $3)",
            $more,
            $tail
        )
    };
}

/// Each of the three by its index. The cross join keeps one engine from walking all users of the app for the third.
macro_rules! begins_so {
    () => {
        " AND u.id IN (SELECT e.id FROM users e WHERE e.app_id = $1 AND e.email_search >= $4 AND e.email_search < $5 \
         UNION SELECT n.id FROM users n WHERE n.app_id = $1 AND n.name_search >= $4 AND n.name_search < $5 \
         UNION SELECT s.id FROM identity_providers i CROSS JOIN users s WHERE i.app_id = $1 AND s.app_id = $1 \
         AND s.idp_id = i.id AND s.subject >= $6 AND s.subject < $7)"
    };
}

const SEARCH_COUNT: &str = filtered!("COUNT(*)", begins_so!(), "");
const SEARCH: &str = filtered!(user_columns!(), begins_so!(), " ORDER BY u.id DESC LIMIT $8 OFFSET $9");

/// Users of the app, newest first, and how many there are.
pub fn list(tx: &mut Tx<'_>, app: AppId, filter: &UserFilter) -> Result<(Vec<User>, i64)> {
    let mut params = vec![id(app), filter.status.as_ref().into(), filter.idp.map(id).into()];
    let (count, select) = match filter.search.as_deref().filter(|search| !search.is_empty()) {
        Some(search) => {
            let ((low, high), (exact_low, exact_high)) = (prefix_bounds(Some(search)), exact_prefix_bounds(search));
            params.extend([low, high, exact_low, exact_high]);
            (SEARCH_COUNT, SEARCH)
        }
        None => {
            let all = filtered!(user_columns!(), "", " ORDER BY u.id DESC LIMIT $4 OFFSET $5");
            (filtered!("COUNT(*)", "", ""), all)
        }
    };
    let total = tx.count(count, &params)?;
    params.extend([filter.limit.into(), filter.offset.into()]);
    let rows = tx.query("users", select, &params)?;
    Ok((rows.into_iter().map(|mut row| read(&mut row)).collect::<Result<_>>()?, total))
}

/// Users of an identity provider that are not deprovisioned.
pub fn count_living(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId) -> Result<i64> {
    tx.count(
        "SELECT COUNT(*) FROM users WHERE app_id = $1 AND idp_id = $2 AND deprovisioned_at_ms IS NULL",
        &[id(app), id(idp)],
    )
}

impl Store {
    /// The row of a subject that is not deprovisioned, else the newest one; when the subject was deprovisioned last, or deleted at the
    /// identity provider before it was seen; and the epochs of that moment. `None`: the app is gone.
    pub async fn find_subject(
        &self,
        app: AppId,
        idp: IdentityProviderId,
        subject: &str,
    ) -> Result<Option<(Epochs, Option<User>, Option<TimeMs>)>> {
        let sql = concat!(
            "SELECT o.epoch, a.epoch, (SELECT MAX(g.deprovisioned_at_ms) FROM users g \
             WHERE g.app_id = a.id AND g.idp_id = $2 AND g.subject = $3), \
             (SELECT d.gone_at_ms FROM gone_subjects d WHERE d.app_id = a.id AND d.idp_id = $2 AND d.subject_hash = $4), ",
            user_columns!(),
            " FROM apps a JOIN organizations o ON o.id = a.organization_id \
             LEFT JOIN users u ON u.app_id = a.id AND u.idp_id = $2 AND u.subject = $3 \
             WHERE a.id = $1 ORDER BY CASE WHEN u.deprovisioned_at_ms IS NULL THEN 0 ELSE 1 END, u.id DESC LIMIT 1"
        );
        let params = vec![id(app), id(idp), subject.into(), subject_hash(subject)];
        let (era, row) = self.fetch_row("users", sql, params).await?;
        let Some(mut row) = row else { return Ok(None) };
        let epochs = hot::epochs(era, &mut row)?;
        let deprovisioned_at = row.opt_time("users.deprovisioned_at_ms")?;
        let deleted_at = row.opt_time("gone_subjects.gone_at_ms")?;
        Ok(Some((epochs, read_opt(&mut row)?, deprovisioned_at.max(deleted_at))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine that has no statistics of its own never walks through the users of an app to find some of them.
    #[tokio::test]
    async fn users_are_found_by_an_index() {
        let store = Store::open(&crate::Location::Memory, "test", 1).await.unwrap();
        store.migrate(TimeMs(0)).await.unwrap();
        for sql in [SEARCH, SEARCH_COUNT] {
            let plan = store.plan(sql, if sql == SEARCH { 9 } else { 7 }).await;
            for found in [
                "users_email (app_id=? AND email_search>? AND email_search<?)",
                "users_name (app_id=? AND name_search>? AND name_search<?)",
                "users_rows (app_id=? AND idp_id=? AND subject>? AND subject<?)",
                "SEARCH u USING INDEX sqlite_autoindex_users_1 (app_id=? AND id=?)",
            ] {
                assert!(plan.contains(found), "{found}: {plan}");
            }
            assert!(!plan.contains("SCAN"), "{plan}");
        }
    }
}
