//! Grants.

use grantd_domain::grant::{Behind, Credential, Grant, GrantStatus, Principal, Tenant};
use grantd_wire::ids::{AppId, AppProviderId, CredentialId, GrantId, GroupId, Id as _, SecretId, UserId};
use grantd_wire::{TimeMs, limits};

use crate::apps::since;
use crate::behind::{self, behind_columns};
use crate::error::{Error, Result};
use crate::seam::{Row, Tx, Value, after, id};

/// The columns that [`read_opt`] reads, of the table or alias `g`.
macro_rules! grant_columns {
    () => {
        "g.id, g.app_id, g.credential_id, g.principal_type, g.principal_id, g.label, g.status, g.reason, g.tenant_value, g.tenant_exempt_at_ms, g.expires_at_ms, \
         g.created_at_ms, g.revoked_at_ms, g.last_used_at_ms, g.version"
    };
}
pub(crate) use grant_columns;

/// Reads the columns of [`grant_columns`]; `None` when an outer join found nothing.
pub(crate) fn read_opt(row: &mut Row) -> Result<Option<Grant>> {
    let Some(grant_id) = row.opt_id("grants.id")? else { return Ok(None) };
    let app_id = row.id("grants.app_id")?;
    let credential_id = row.id("grants.credential_id")?;
    let kind = row.text("grants.principal_type")?;
    let principal = principal(&kind, row.opt_bytes("grants.principal_id")?);
    let principal = principal.ok_or_else(|| row.inconsistent("grants.principal_id"))?;
    let label = row.opt_text("grants.label")?;
    let status = row.text("grants.status")?;
    let reason = row.opt_text("grants.reason")?;
    let tenant_value = row.opt_text("grants.tenant_value")?;
    let tenant_exempt = row.opt_time("grants.tenant_exempt_at_ms")?;
    let tenant = match (tenant_value, tenant_exempt) {
        (Some(value), None) => Tenant::Bound(value),
        (None, Some(_)) => Tenant::Exempt,
        (None, None) => Tenant::Unbound,
        (Some(_), Some(_)) => return Err(row.inconsistent("grants.tenant_value")),
    };
    let expires_at = row.opt_time("grants.expires_at_ms")?;
    let created_at = row.time("grants.created_at_ms")?;
    let revoked_at = row.opt_time("grants.revoked_at_ms")?;
    let status = match (status.as_str(), revoked_at) {
        ("active", None) => GrantStatus::Active,
        ("revoked", Some(at)) => GrantStatus::Revoked { at, reason },
        _ => return Err(row.inconsistent("grants.status")),
    };
    Ok(Some(Grant {
        id: grant_id,
        app_id,
        credential_id,
        principal,
        label,
        status,
        tenant,
        expires_at,
        created_at,
        last_used_at: row.opt_time("grants.last_used_at_ms")?,
        version: row.int("grants.version")?,
    }))
}

fn principal(kind: &str, principal: Option<Vec<u8>>) -> Option<Principal> {
    let id = principal.map(<[u8; 16]>::try_from).transpose().ok()?;
    match (kind, id) {
        ("system", None) => Some(Principal::System),
        ("user", Some(id)) => Some(Principal::User(UserId::from_bytes(id))),
        ("group", Some(id)) => Some(Principal::Group(GroupId::from_bytes(id))),
        _ => None,
    }
}

fn principal_id(principal: Principal) -> Value {
    match principal {
        Principal::System => Value::Null,
        Principal::User(user) => id(user),
        Principal::Group(group) => id(group),
    }
}

fn read(row: &mut Row) -> Result<Grant> {
    let grant = read_opt(row)?;
    grant.ok_or_else(|| row.inconsistent("grants.id"))
}

fn tenant_columns(tenant: &Tenant, at: TimeMs) -> [Value; 2] {
    match tenant {
        Tenant::Bound(value) => [value.into(), Value::Null],
        Tenant::Exempt => [Value::Null, since(true, at)],
        Tenant::Unbound => [Value::Null, Value::Null],
    }
}

/// Living grants on one credential that are of one principal. The two texts are found by two indexes.
macro_rules! siblings {
    ($grant:expr, $columns:literal, $rest:literal) => {
        match $grant.principal {
            Principal::System => concat!(
                $columns,
                " FROM grants WHERE app_id = $1 AND credential_id = $2 AND status = 'active' \
                 AND principal_type = 'system' AND CAST($3 AS BYTEA) IS NULL",
                $rest
            ),
            Principal::User(_) | Principal::Group(_) => concat!(
                $columns,
                " FROM grants WHERE app_id = $1 AND credential_id = $2 AND status = 'active' AND principal_id = $3",
                $rest
            ),
        }
    };
}

fn siblings_of(grant: &Grant) -> Vec<Value> {
    vec![id(grant.app_id), id(grant.credential_id), principal_id(grant.principal)]
}

/// Grants of a user that are not revoked, lapsed ones too.
macro_rules! unrevoked_of_user {
    ($columns:literal, $tail:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM grants WHERE app_id = $1 AND principal_id = $2 AND principal_type = 'user' AND status = 'active'",
            $tail
        )
    };
}

/// Stores a new grant, unless its principal has too many, or too many on the credential, or one with that label.
pub fn insert(tx: &mut Tx<'_>, grant: &Grant) -> Result<()> {
    debug_assert!(grant.status == GrantStatus::Active);
    check_label(tx, grant)?;
    let siblings = tx.count(siblings!(grant, "SELECT COUNT(*)", ""), &siblings_of(grant))?;
    if siblings >= limits::SIBLINGS_MAX {
        return Err(full("This credential", siblings));
    }
    if let Principal::User(user) = grant.principal {
        let of_user = tx.count(unrevoked_of_user!("COUNT(*)", ""), &[id(grant.app_id), id(user)])?;
        if of_user >= limits::USER_GRANTS_MAX {
            return Err(full("This user", of_user));
        }
    }
    let [tenant, exempt] = tenant_columns(&grant.tenant, grant.created_at);
    tx.execute(
        "INSERT INTO grants (app_id, id, credential_id, principal_type, label, label_search, status, tenant_value, \
         tenant_exempt_at_ms, expires_at_ms, created_at_ms, version, principal_id) \
         VALUES ($1, $2, $3, $11, $4, $5, 'active', $6, $7, $8, $9, $10, $12)",
        &[
            id(grant.app_id),
            id(grant.id),
            id(grant.credential_id),
            grant.label.as_ref().into(),
            grant.label.as_ref().map(|label| label.to_lowercase()).into(),
            tenant,
            exempt,
            grant.expires_at.into(),
            grant.created_at.into(),
            grant.version.into(),
            grant.principal.kind().into(),
            principal_id(grant.principal),
        ],
    )?;
    Ok(())
}

fn full(what: &str, count: i64) -> Error {
    let message = format!("{what} has {count} living grants, and no more are possible. Revoke one first.");
    grantd_wire::Error::new(grantd_wire::Code::TooMany).message(message).into()
}

/// A label is unique among siblings.
fn check_label(tx: &mut Tx<'_>, grant: &Grant) -> Result<()> {
    let Some(label) = &grant.label else { return Ok(()) };
    let mut params = siblings_of(grant);
    params.extend([label.into(), id(grant.id)]);
    let taken = tx.count(siblings!(grant, "SELECT COUNT(*)", " AND label = $4 AND id <> $5"), &params)?;
    if taken == 0 {
        return Ok(());
    }
    let error = grantd_wire::Error::new(grantd_wire::Code::SiblingLabelConflict);
    Err(error.with("label", label.clone()).into())
}

/// Writes label, end and tenant of a living grant at `version`. The caller raises the app's epoch.
pub fn update(tx: &mut Tx<'_>, grant: &Grant, version: i64, at: TimeMs) -> Result<()> {
    check_label(tx, grant)?;
    let [tenant, exempt] = tenant_columns(&grant.tenant, at);
    let changed = tx.change_one(
        "UPDATE grants SET label = $4, label_search = $5, expires_at_ms = $6, tenant_value = $7, tenant_exempt_at_ms = $8, \
         version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND version = $3 AND status = 'active'",
        &[
            id(grant.app_id),
            id(grant.id),
            version.into(),
            grant.label.as_ref().into(),
            grant.label.as_ref().map(|label| label.to_lowercase()).into(),
            grant.expires_at.into(),
            tenant,
            exempt,
        ],
    )?;
    if changed { Ok(()) } else { Err(Error::from(grantd_wire::Code::Conflict)) }
}

/// Revokes a living grant; `false` when it already was. The caller raises the app's epoch.
pub fn revoke(tx: &mut Tx<'_>, app: AppId, grant: GrantId, reason: Option<&str>, at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE grants SET status = 'revoked', revoked_at_ms = $3, reason = $4, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND status = 'active'",
        &[id(app), id(grant), at.into(), reason.into()],
    )
}

/// Forgets grants that were revoked, and used last, before this moment, at most `limit` of them; answers how many. A legal hold keeps
/// those of its app.
pub fn prune(tx: &mut Tx<'_>, before: TimeMs, limit: i64) -> Result<u64> {
    tx.execute(
        "DELETE FROM grants WHERE (app_id, id) IN (SELECT g.app_id, g.id FROM grants g \
         WHERE g.revoked_at_ms IS NOT NULL AND g.revoked_at_ms < $1 AND g.status = 'revoked' \
         AND (g.last_used_at_ms IS NULL OR g.last_used_at_ms < $1) \
         AND NOT EXISTS (SELECT 1 FROM holds WHERE holds.app_id = g.app_id) ORDER BY g.revoked_at_ms LIMIT $2)",
        &[before.into(), limit.into()],
    )
}

/// A grant with what stands behind it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub grant: Grant,
    pub credential: Credential,
    pub behind: Behind,
    /// What [`upstream`](crate::renewals::upstream) answers of the credential.
    pub upstream: Option<String>,
}

fn listed(mut row: Row) -> Result<Listed> {
    let grant = read(&mut row)?;
    let upstream = row.opt_text("credentials.revoke_upstream")?;
    let (credential, behind) = behind::read(&mut row)?;
    Ok(Listed { grant, credential, behind, upstream })
}

/// What a credential `c` is of: a managed secret or a provider.
macro_rules! of_what {
    () => {
        " LEFT JOIN managed_secrets s ON s.app_id = c.app_id AND s.id = c.secret_id \
         LEFT JOIN providers p ON p.app_id = c.app_id AND p.id = c.provider_row"
    };
}

/// Where grants and what stands behind them are.
macro_rules! held {
    ($columns:expr, $rest:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM grants g JOIN credentials c ON c.app_id = g.app_id AND c.id = g.credential_id",
            of_what!(),
            " WHERE g.app_id = $1 ",
            $rest
        )
    };
}

macro_rules! held_columns {
    () => {
        concat!(grant_columns!(), ", c.revoke_upstream, ", behind_columns!())
    };
}

/// A grant of the app.
pub fn find(tx: &mut Tx<'_>, app: AppId, grant: GrantId) -> Result<Option<Listed>> {
    let sql = held!(held_columns!(), "AND g.id = $2");
    tx.query_opt("grants", sql, &[id(app), id(grant)])?.map(listed).transpose()
}

/// Binds a grant to the first tenant it is used for; `false` when it is bound, or revoked. The caller raises the app's epoch.
pub fn bind_tenant(tx: &mut Tx<'_>, app: AppId, grant: GrantId, tenant: &str) -> Result<bool> {
    tx.change_one(
        "UPDATE grants SET tenant_value = $3, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND tenant_value IS NULL AND tenant_exempt_at_ms IS NULL AND status = 'active'",
        &[id(app), id(grant), tenant.into()],
    )
}

/// Grants on a credential that are neither revoked nor lapsed, oldest first.
pub fn list_living(tx: &mut Tx<'_>, app: AppId, credential: CredentialId, now: TimeMs) -> Result<Vec<Grant>> {
    let sql = concat!(
        "SELECT ",
        grant_columns!(),
        " FROM grants g WHERE g.app_id = $1 AND g.credential_id = $2 AND g.status = 'active' \
         AND (g.expires_at_ms IS NULL OR g.expires_at_ms > $3) ORDER BY g.id"
    );
    let rows = tx.query("grants", sql, &[id(app), id(credential), now.into()])?;
    rows.into_iter().map(|mut row| read(&mut row)).collect()
}

/// Whose grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum On {
    /// Accounts at a provider.
    Provider(AppProviderId),
    /// A managed secret.
    Secret(SecretId),
    /// Whatever the app has.
    App,
}

impl On {
    fn params(self) -> [Value; 2] {
        match self {
            Self::Provider(provider) => [id(provider), Value::Null],
            Self::Secret(secret) => [Value::Null, id(secret)],
            Self::App => [Value::Null, Value::Null],
        }
    }
}

/// Grants that are not revoked, lapsed ones too, oldest first.
macro_rules! unrevoked {
    ($columns:literal, $tail:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM grants g JOIN credentials c ON c.app_id = g.app_id AND c.id = g.credential_id \
             WHERE g.app_id = $1 AND g.status = 'active' AND (CAST($2 AS BYTEA) IS NULL OR c.provider_row = $2) \
             AND (CAST($3 AS BYTEA) IS NULL OR c.secret_id = $3)",
            $tail
        )
    };
}

/// How many grants are not revoked.
pub fn count_unrevoked(tx: &mut Tx<'_>, app: AppId, on: On) -> Result<i64> {
    let [provider, secret] = on.params();
    tx.count(unrevoked!("COUNT(*)", ""), &[id(app), provider, secret])
}

/// At most `limit` grants that are not revoked, after `last`.
pub fn page_unrevoked(tx: &mut Tx<'_>, app: AppId, on: On, last: Option<GrantId>, limit: i64) -> Result<Vec<GrantId>> {
    let [provider, secret] = on.params();
    let sql = unrevoked!("g.id", " AND g.id > $4 ORDER BY g.id LIMIT $5");
    let rows = tx.query("grants", sql, &[id(app), provider, secret, after(last), limit.into()])?;
    rows.into_iter().map(|mut row| row.id("grants.id")).collect()
}

/// What a grant itself says. The casts give PostgreSQL the types of what may be null; SQLite, which has no BYTEA, only looks whether it is.
macro_rules! of_grants {
    () => {
        " AND (CAST($2 AS TEXT) IS NULL OR g.status = $2) \
         AND (CAST($3 AS BIGINT) IS NULL OR $3 = CASE WHEN g.expires_at_ms <= $4 THEN 1 ELSE 0 END) \
         AND (CAST($7 AS TEXT) IS NULL OR g.label = $7) \
         AND (CAST($10 AS BYTEA) IS NULL OR g.id = $10) \
         AND (CAST($13 AS TEXT) IS NULL OR g.principal_type = $13)"
    };
}

/// Everything that can be asked of a grant and what stands behind it.
macro_rules! filtered {
    () => {
        concat!(
            of_grants!(),
            " AND (CAST($5 AS TEXT) IS NULL OR s.slug = $5 OR p.provider_id = $5) \
             AND (CAST($6 AS BYTEA) IS NULL OR c.secret_id = $6) \
             AND (CAST($8 AS TEXT) IS NULL OR (s.slug >= $8 AND s.slug < $9) OR (s.name_search >= $8 AND s.name_search < $9) \
                  OR (p.provider_id >= $8 AND p.provider_id < $9) OR (g.label_search >= $8 AND g.label_search < $9)) \
             AND (CAST($11 AS TEXT) IS NULL OR c.account_identifier = $11) \
             AND (CAST($12 AS TEXT) IS NULL OR (g.status = 'revoked' AND c.revoke_upstream = $12))"
        )
    };
}

/// Grants of `$from` with what stands behind them. On SQLite, CROSS JOIN also says in which order tables are read.
macro_rules! behind {
    ($from:expr) => {
        concat!(
            "SELECT g.id FROM ",
            $from,
            " CROSS JOIN credentials c",
            of_what!(),
            " WHERE g.app_id = $1 AND c.app_id = g.app_id AND c.id = g.credential_id"
        )
    };
}

/// Grants on the credentials of which `$which` is true.
macro_rules! of_credentials {
    ($which:expr) => {
        concat!(
            "SELECT g.id FROM credentials c CROSS JOIN grants g WHERE c.app_id = $1 AND g.app_id = c.app_id AND g.credential_id = c.id AND ",
            $which
        )
    };
}

macro_rules! of_secrets {
    ($which:literal) => {
        concat!("c.secret_id IN (SELECT s.id FROM managed_secrets s WHERE s.app_id = $1 AND ", $which, ")")
    };
}

macro_rules! of_providers {
    ($which:literal) => {
        concat!(
            "c.provider_row IS NOT NULL AND c.provider_row IN (SELECT p.id FROM providers p WHERE p.app_id = $1 AND ",
            $which,
            ")"
        )
    };
}

/// What a search finds by a secret, by a provider, and by a label.
macro_rules! found_by_secret {
    () => {
        of_credentials!(of_secrets!("((s.slug >= $8 AND s.slug < $9) OR (s.name_search >= $8 AND s.name_search < $9))"))
    };
}
macro_rules! found_by_provider {
    () => {
        of_credentials!(of_providers!("p.provider_id >= $8 AND p.provider_id < $9"))
    };
}
macro_rules! found_by_label {
    () => {
        "SELECT g.id FROM grants g WHERE g.app_id = $1 AND g.label_search >= $8 AND g.label_search < $9"
    };
}

/// The text that counts these grants, and the one that lists them: ids are sorted first, and only those of the page are read.
macro_rules! sorted {
    ($ids:expr) => {
        (
            concat!("SELECT COUNT(*) FROM (", $ids, " LIMIT $14 OFFSET $15) counted"),
            concat!(
                "SELECT ",
                held_columns!(),
                " FROM (",
                $ids,
                " ORDER BY g.id DESC LIMIT $14 OFFSET $15) page CROSS JOIN grants g CROSS JOIN credentials c",
                of_what!(),
                " WHERE g.app_id = $1 AND g.id = page.id AND c.app_id = g.app_id AND c.id = g.credential_id ORDER BY g.id DESC"
            ),
        )
    };
}

/// The same for those of `$candidates` that the rest of the filter lets through.
macro_rules! counted_and_listed {
    ($candidates:expr) => {
        sorted!(concat!(behind!(concat!("(", $candidates, ") m CROSS JOIN grants g")), " AND g.id = m.id", filtered!()))
    };
}

/// What grants to list.
#[derive(Clone, Debug, Default)]
pub struct GrantFilter {
    /// `active`, `expired` or `revoked`.
    pub status: Option<String>,
    /// A secret's slug, or a provider's id.
    pub provider: Option<String>,
    /// Exactly this secret.
    pub secret: Option<SecretId>,
    /// Those of this user, and of groups the user is in.
    pub user: Option<UserId>,
    /// The app's own only.
    pub is_system: bool,
    /// Exactly this grant.
    pub grant: Option<GrantId>,
    /// Exactly this label.
    pub label: Option<String>,
    /// Exactly this account, as its provider names it.
    pub account: Option<String>,
    /// Revoked ones whose tokens at the provider stand so: `pending`, `done`, `unsupported` or `failed`.
    pub upstream: Option<&'static str>,
    /// Labels, slugs, provider ids or secret names that begin so, whatever the case.
    pub search: Option<String>,
    /// How many.
    pub limit: i64,
    /// How many to leave out first.
    pub offset: i64,
}

/// Grants of the app, newest first, and how many there are. They are counted up to [`TOTAL_MAX`](limits::TOTAL_MAX): that many are that many or more.
pub fn list(tx: &mut Tx<'_>, app: AppId, filter: &GrantFilter, now: TimeMs) -> Result<(Vec<Listed>, i64)> {
    let (low, high) = match &filter.search {
        Some(_) => crate::apps::prefix_bounds(filter.search.as_deref()),
        None => (Value::Null, Value::Null),
    };
    let (stored, lapsed) = match filter.status.as_deref() {
        None => (Value::Null, Value::Null),
        Some("active") => ("active".into(), 0.into()),
        Some("expired") => ("active".into(), 1.into()),
        Some(other) => (other.into(), Value::Null),
    };
    let params = |limit: i64, offset: i64| {
        let mut params = vec![
            id(app),
            stored.clone(),
            lapsed.clone(),
            now.into(),
            filter.provider.as_ref().into(),
            filter.secret.map(id).into(),
            filter.label.as_ref().into(),
            low.clone(),
            high.clone(),
            filter.grant.map(id).into(),
            filter.account.as_ref().into(),
            filter.upstream.into(),
            filter.is_system.then_some("system").into(),
            limit.into(),
            offset.into(),
        ];
        params.extend(filter.user.map(id));
        params
    };
    let way = Way::of(filter);
    let total = tx.count(way.sql().0, &params(limits::TOTAL_MAX, 0))?;
    // Where very many fit, the newest are sooner met than sorted.
    let way = match way {
        Way::Secret | Way::Provider | Way::Search | Way::SearchAlone if total == limits::TOTAL_MAX => Way::Behind,
        way => way,
    };
    let rows =
        if total == 0 { Vec::new() } else { tx.query("grants", way.sql().1, &params(filter.limit, filter.offset))? };
    Ok((rows.into_iter().map(listed).collect::<Result<_>>()?, total))
}

/// How a list comes to its grants: by what is asked for that fits the fewest.
#[derive(Clone, Copy)]
enum Way {
    /// The one that is named.
    Grant,
    /// Those of a user and of the user's groups.
    User,
    /// Those on one managed secret.
    Secret,
    /// Those on a managed secret of this slug, and on accounts of this provider.
    Provider,
    /// As [`Provider`](Self::Provider), of one account.
    Account,
    /// Those that a search finds.
    Search,
    /// As [`Search`](Self::Search), when nothing else is asked of what stands behind grants: each kind of finding need be counted no
    /// further than all.
    SearchAlone,
    /// All of the app, newest first, with what stands behind each.
    Behind,
    /// All of the app, newest first.
    App,
}

impl Way {
    fn of(filter: &GrantFilter) -> Self {
        match filter {
            GrantFilter { user: Some(_), .. } => Self::User,
            GrantFilter { grant: Some(_), .. } => Self::Grant,
            GrantFilter { secret: Some(_), .. } => Self::Secret,
            GrantFilter { provider: Some(_), account: Some(_), .. } => Self::Account,
            GrantFilter { provider: Some(_), .. } => Self::Provider,
            GrantFilter { search: Some(_), account: None, upstream: None, .. } => Self::SearchAlone,
            GrantFilter { search: Some(_), .. } => Self::Search,
            GrantFilter { account: Some(_), .. } | GrantFilter { upstream: Some(_), .. } => Self::Behind,
            _ => Self::App,
        }
    }

    /// What counts, and what lists.
    fn sql(self) -> (&'static str, &'static str) {
        match self {
            Self::Grant => counted_and_listed!("SELECT g.id FROM grants g WHERE g.app_id = $1 AND g.id = $10"),
            Self::User => counted_and_listed!(
                "SELECT g.id FROM grants g WHERE g.app_id = $1 AND g.principal_id IN (\
                 SELECT u.id FROM users u WHERE u.app_id = $1 AND u.id = $16 UNION ALL \
                 SELECT m.group_id FROM group_members m WHERE m.app_id = $1 AND m.user_id = $16)"
            ),
            Self::Secret => counted_and_listed!(of_credentials!("c.secret_id = $6")),
            Self::Provider => counted_and_listed!(concat!(
                of_credentials!(of_secrets!("s.slug = $5")),
                " UNION ALL ",
                of_credentials!(of_providers!("p.provider_id = $5"))
            )),
            Self::Account => counted_and_listed!(of_credentials!(concat!(
                of_providers!("p.provider_id = $5"),
                " AND c.account_identifier = $11"
            ))),
            Self::Search => counted_and_listed!(concat!(
                found_by_secret!(),
                " UNION ",
                found_by_provider!(),
                " UNION ",
                found_by_label!()
            )),
            Self::SearchAlone => (
                concat!(
                    "SELECT COUNT(*) FROM (SELECT id FROM (",
                    found_by_secret!(),
                    of_grants!(),
                    " LIMIT $14) a UNION SELECT id FROM (",
                    found_by_provider!(),
                    of_grants!(),
                    " LIMIT $14) b UNION SELECT id FROM (",
                    found_by_label!(),
                    of_grants!(),
                    " LIMIT $14) c LIMIT $14 OFFSET $15) counted",
                    // Nothing else was asked for. PostgreSQL wants to be told of every parameter.
                    " WHERE CAST($5 AS TEXT) IS NULL AND CAST($6 AS BYTEA) IS NULL \
                     AND CAST($11 AS TEXT) IS NULL AND CAST($12 AS TEXT) IS NULL"
                ),
                Self::Search.sql().1,
            ),
            Self::Behind => sorted!(concat!(behind!("grants g"), filtered!())),
            Self::App => sorted!(concat!(
                "SELECT g.id FROM grants g WHERE g.app_id = $1",
                of_grants!(),
                // Nothing else was asked for. PostgreSQL wants to be told of every parameter.
                " AND CAST($5 AS TEXT) IS NULL AND CAST($6 AS BYTEA) IS NULL AND CAST($8 AS TEXT) IS NULL AND CAST($9 AS TEXT) IS NULL \
                 AND CAST($11 AS TEXT) IS NULL AND CAST($12 AS TEXT) IS NULL"
            )),
        }
    }
}

/// Grants of a user that are not revoked, lapsed ones too; not those of the user's groups. [`insert`] sees to it that there are no more
/// than [`limits::USER_GRANTS_MAX`].
pub fn list_unrevoked_of_user(tx: &mut Tx<'_>, app: AppId, user: UserId) -> Result<Vec<GrantId>> {
    let rows = tx.query("grants", unrevoked_of_user!("id", " ORDER BY id"), &[id(app), id(user)])?;
    rows.into_iter().map(|mut row| row.id("grants.id")).collect()
}

#[cfg(test)]
mod tests {
    use super::{TimeMs, Way};
    use crate::{Location, Store};

    /// How the embedded engine comes to what a list counts and shows.
    async fn plans(store: &Store, way: Way) -> [String; 2] {
        let (counts, lists) = way.sql();
        let params = if matches!(way, Way::User) { 16 } else { 15 };
        [store.plan(counts, params).await, store.plan(lists, params).await]
    }

    #[tokio::test]
    async fn every_way_to_grants_is_by_an_index() {
        let store = Store::open(&Location::Memory, "test", 1).await.unwrap();
        store.migrate(TimeMs(0)).await.unwrap();
        for (way, indexes) in [
            (Way::Grant, &["g USING PRIMARY KEY (app_id=? AND id=?)"][..]),
            (Way::User, &["INDEX grants_principal"]),
            (Way::Secret, &["INDEX credentials_secret (app_id=? AND secret_id=?)", "INDEX grants_credential"]),
            (Way::Provider, &["INDEX credentials_secret (app_id=? AND secret_id=?)", "INDEX credentials_provider"]),
            (Way::Account, &["INDEX credentials_provider (app_id=? AND provider_row=? AND account_identifier=?)"]),
            (Way::Search, &["INDEX credentials_secret (app_id=? AND secret_id=?)", "INDEX grants_label"]),
            (Way::SearchAlone, &["INDEX credentials_secret (app_id=? AND secret_id=?)", "INDEX grants_label"]),
            (Way::Behind, &["g USING PRIMARY KEY (app_id=?)"]),
            (Way::App, &["g USING PRIMARY KEY (app_id=?)"]),
        ] {
            for plan in plans(&store, way).await {
                for index in indexes {
                    assert!(plan.contains(index), "{index} is not in\n{plan}");
                }
            }
        }
        for newest_first in [Way::Behind, Way::App] {
            let [_, lists] = plans(&store, newest_first).await;
            let (page, _) = lists.split_once("SCAN page").unwrap();
            assert!(!page.contains("TEMP B-TREE"), "what is in order is not sorted\n{lists}");
        }
    }
}
