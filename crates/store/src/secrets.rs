//! Managed secrets: how they are sent and where they may go. Values are credentials.

use grantd_domain::destination::Rule;
use grantd_domain::grant::{ManagedSecret, slug_variant};
use grantd_wire::TimeMs;
use grantd_wire::api::CredentialType;
use grantd_wire::ids::{AppId, SecretId};

use crate::apps::{json, prefix_bounds, since};
use crate::error::{Error, Result};
use crate::seam::{Row, Tx, id, text_id};

/// Slugs tried before a name is refused as taken.
const SLUG_TRIES: u32 = 1_000;

fn credential_type_text(kind: CredentialType) -> &'static str {
    match kind {
        CredentialType::BearerToken => "bearer_token",
        CredentialType::HeaderKey => "header_key",
        CredentialType::BasicAuth => "basic_auth",
        CredentialType::AwsSigV4 => "aws_sig_v4",
    }
}

fn parse_credential_type(text: &str) -> Option<CredentialType> {
    use CredentialType::{AwsSigV4, BasicAuth, BearerToken, HeaderKey};
    [BearerToken, HeaderKey, BasicAuth, AwsSigV4].into_iter().find(|t| credential_type_text(*t) == text)
}

/// The columns that [`read`] reads, of the table or alias `s`.
macro_rules! secret_columns {
    () => {
        "s.id, s.app_id, s.slug, s.name, s.credential_type, s.header, s.format, s.injections, s.field_names, s.hosts, \
         s.any_host_at_ms, s.created_at_ms, s.version"
    };
}
pub(crate) use secret_columns;

/// Reads the columns of [`secret_columns`].
pub(crate) fn read(row: &mut Row) -> Result<ManagedSecret> {
    Ok(ManagedSecret {
        id: row.id("managed_secrets.id")?,
        app_id: row.id("managed_secrets.app_id")?,
        slug: row.text("managed_secrets.slug")?,
        name: row.text("managed_secrets.name")?,
        credential_type: row.parsed("managed_secrets.credential_type", parse_credential_type)?,
        header: row.text("managed_secrets.header")?,
        format: row.text("managed_secrets.format")?,
        injections: row.json("managed_secrets.injections")?,
        field_names: row.json("managed_secrets.field_names")?,
        hosts: row.parsed("managed_secrets.hosts", |text| {
            let texts: Vec<String> = serde_json::from_str(text).ok()?;
            texts.iter().map(|t| Rule::parse(t).ok()).collect()
        })?,
        any_host: row.opt_time("managed_secrets.any_host_at_ms")?.is_some(),
        created_at: row.time("managed_secrets.created_at_ms")?,
        version: row.int("managed_secrets.version")?,
    })
}

/// Stores a new secret under the first free slug.
pub fn insert(tx: &mut Tx<'_>, secret: &mut ManagedSecret) -> Result<()> {
    let wanted = secret.slug.clone();
    let mut tries = 1..=SLUG_TRIES;
    secret.slug = loop {
        let slug = slug_variant(&wanted, tries.next().ok_or(grantd_wire::Code::NameTaken)?);
        let sql = "SELECT COUNT(*) FROM managed_secrets WHERE app_id = $1 AND slug = $2";
        if tx.count(sql, &[id(secret.app_id), (&slug).into()])? == 0 {
            break slug;
        }
    };
    let hosts: Vec<String> = secret.hosts.iter().map(ToString::to_string).collect();
    tx.execute(
        "INSERT INTO managed_secrets (app_id, id, slug, name, name_search, credential_type, header, format, injections, field_names, \
         hosts, any_host_at_ms, created_at_ms, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        &[
            id(secret.app_id),
            id(secret.id),
            (&secret.slug).into(),
            (&secret.name).into(),
            secret.name.to_lowercase().into(),
            credential_type_text(secret.credential_type).into(),
            (&secret.header).into(),
            (&secret.format).into(),
            json(&secret.injections),
            json(&secret.field_names),
            json(&hosts),
            since(secret.any_host, secret.created_at),
            secret.created_at.into(),
            secret.version.into(),
        ],
    )?;
    Ok(())
}

/// A secret of the app that is not deleted, by id or slug. An id goes before a slug that looks like it.
pub fn find(tx: &mut Tx<'_>, app: AppId, id_or_slug: &str) -> Result<Option<ManagedSecret>> {
    let sql = "SELECT id, app_id, slug, name, credential_type, header, format, injections, field_names, hosts, any_host_at_ms, \
        created_at_ms, version FROM managed_secrets WHERE app_id = $1 AND (id = $3 OR slug = $2) AND deleted_at_ms IS NULL \
        ORDER BY CASE WHEN id = $3 THEN 0 ELSE 1 END LIMIT 1";
    tx.query_opt("managed_secrets", sql, &[id(app), id_or_slug.into(), text_id(id_or_slug)])?
        .map(|mut row| read(&mut row))
        .transpose()
}

/// Writes which template a new secret was made from. Nothing that is released reads it.
pub fn set_template(tx: &mut Tx<'_>, app: AppId, secret: SecretId, template: &str) -> Result<()> {
    let changed = tx.change_one(
        "UPDATE managed_secrets SET template = $3 WHERE app_id = $1 AND id = $2",
        &[id(app), id(secret), template.into()],
    )?;
    if changed { Ok(()) } else { Err(Error::from(grantd_wire::Code::Conflict)) }
}

/// The template a secret was made from.
pub fn find_template(tx: &mut Tx<'_>, app: AppId, secret: SecretId) -> Result<Option<String>> {
    let sql = "SELECT template FROM managed_secrets WHERE app_id = $1 AND id = $2";
    let row = tx.query_opt("managed_secrets", sql, &[id(app), id(secret)])?;
    row.map_or(Ok(None), |mut row| row.opt_text("managed_secrets.template"))
}

/// Secrets of the app that were made from a template, oldest first, at most `limit`.
pub fn list_of_template(tx: &mut Tx<'_>, app: AppId, template: &str, limit: i64) -> Result<Vec<ManagedSecret>> {
    let sql = concat!(
        "SELECT ",
        secret_columns!(),
        " FROM managed_secrets s WHERE s.app_id = $1 AND s.template = $2 AND s.deleted_at_ms IS NULL ORDER BY s.id LIMIT $3"
    );
    let rows = tx.query("managed_secrets", sql, &[id(app), template.into(), limit.into()])?;
    rows.into_iter().map(|mut row| read(&mut row)).collect()
}

/// Secrets of the app whose name begins with `search`, oldest first, and how many there are.
pub fn list(
    tx: &mut Tx<'_>,
    app: AppId,
    search: Option<&str>,
    limit: i64,
    offset: i64,
) -> Result<(Vec<ManagedSecret>, i64)> {
    let (low, high) = prefix_bounds(search);
    let total = tx.count(
        "SELECT COUNT(*) FROM managed_secrets WHERE app_id = $1 AND name_search >= $2 AND name_search < $3 AND deleted_at_ms IS NULL",
        &[id(app), low.clone(), high.clone()],
    )?;
    let sql = "SELECT id, app_id, slug, name, credential_type, header, format, injections, field_names, hosts, any_host_at_ms, \
        created_at_ms, version FROM managed_secrets \
        WHERE app_id = $1 AND name_search >= $2 AND name_search < $3 AND deleted_at_ms IS NULL \
        ORDER BY id LIMIT $4 OFFSET $5";
    let rows = tx.query("managed_secrets", sql, &[id(app), low, high, limit.into(), offset.into()])?;
    Ok((rows.into_iter().map(|mut row| read(&mut row)).collect::<Result<_>>()?, total))
}

/// Writes the destination rules, if the secret is still at `version`. The caller raises the app's epoch.
pub fn set_hosts(tx: &mut Tx<'_>, secret: &ManagedSecret, hosts: &[Rule]) -> Result<()> {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let changed = tx.change_one(
        "UPDATE managed_secrets SET hosts = $4, any_host_at_ms = NULL, version = version + 1 WHERE app_id = $1 AND id = $2 AND version = $3",
        &[id(secret.app_id), id(secret.id), secret.version.into(), json(&hosts)],
    )?;
    if changed { Ok(()) } else { Err(Error::from(grantd_wire::Code::Conflict)) }
}

/// Writes the names of the stored fields, after a rotation that changed them.
pub fn set_field_names(tx: &mut Tx<'_>, secret: &ManagedSecret, names: &[String], at: TimeMs) -> Result<()> {
    debug_assert!(at >= secret.created_at);
    let changed = tx.change_one(
        "UPDATE managed_secrets SET field_names = $4, version = version + 1 WHERE app_id = $1 AND id = $2 AND version = $3",
        &[id(secret.app_id), id(secret.id), secret.version.into(), json(&names)],
    )?;
    if changed { Ok(()) } else { Err(Error::from(grantd_wire::Code::Conflict)) }
}

/// Deletes a secret; `false` when it was already. Its row stays, because revoked grants and events name it.
pub fn delete(tx: &mut Tx<'_>, app: AppId, secret: SecretId, at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE managed_secrets SET deleted_at_ms = $3, version = version + 1 WHERE app_id = $1 AND id = $2 AND deleted_at_ms IS NULL",
        &[id(app), id(secret), at.into()],
    )
}
