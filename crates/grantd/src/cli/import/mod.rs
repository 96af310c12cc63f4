//! `grantd import`: secrets that are kept elsewhere become managed secrets.
//!
//! What would be made is known before anything is made. A secret that is there already, by its name or its slug, is left as it is, so
//! an import that broke off is simply run again. No value is ever shown.

mod csv;
mod dotenv;
mod kv;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use grantd_domain::grant::slug;
use grantd_domain::words::counted;
use grantd_domain::{new_secret, template};
use grantd_wire::api::{CreatedSecret, CredentialType, ListQuery, Page, Secret, SecretCreate, SecretTemplate};
use grantd_wire::limits::API_BODY_BYTES_MAX;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::http::Api;
use super::input::{Pair, confirm, parse_host, parse_pair, read_file, unreadable};
use super::progress::Progress;
use super::table::{column, minor};
use crate::config::nearest;

/// Bytes of a file.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Secrets of one import.
const SECRETS_MAX: usize = 1_000;
/// A page of what is there already.
const PAGE: i64 = 1_000;

#[derive(Subcommand)]
pub enum ImportCommand {
    /// From a .env file: every variable that a template or --allowed-host says a destination for
    #[command(after_help = "STRIPE_API_KEY, STRIPE_TOKEN and the like belong to the template stripe; --map
says so of any other name. What else is in the file is skipped. As in every
reader of X
Examples:
  grantd import env .env --dry-run
  grantd import env .env --map PAYMENTS=stripe --allowed-host api.example.com")]
    Env(EnvArgs),
    /// From a table with a secret a row
    #[command(after_help = "Columns: name and value; and, where wanted, template, credential_type, header,
format, allowed_hosts (separated by blanks), and field.NAME for further values.

Example:
  grantd import csv secrets.csv --dry-run")]
    Csv(CsvArgs),
    /// From a KV version 2 engine of OpenBao or Vault
    #[command(after_help = "The token is in BAO_TOKEN or VAULT_TOKEN, or in --kv-token-file; the address in
--address, BAO_ADDR or VAULT_ADDR. The value is the key named value, token,
api_key, key, secret or password, or the only one there is; the others become
fields. The custom metadata template and allowed_hosts count as columns do.

Example:
  grantd import kv --address http://127.0.0.1:8200 --mount secret --path apps")]
    Kv(KvArgs),
}

#[derive(Args)]
pub struct HowArgs {
    /// Say what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
    /// A template for a name: NAME=TEMPLATE
    #[arg(long, value_name = "NAME=TEMPLATE", value_parser = parse_pair)]
    map: Vec<Pair>,
    // Not a doc comment: rustdoc would take the brackets for links.
    #[arg(help = "Where those without a template and hosts of their own may go: [*.]HOST[:PORT][/PREFIX]",
        long = "allowed-host", value_name = "HOST", value_delimiter = ',', value_parser = parse_host)]
    allowed_hosts: Vec<String>,
    /// Only these names
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    only: Vec<String>,
}

#[derive(Args)]
pub struct EnvArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Args)]
pub struct CsvArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Args)]
pub struct KvArgs {
    /// URL of the other server [env: BAO_ADDR, VAULT_ADDR]
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// File with a token of the other server [env: BAO_TOKEN or VAULT_TOKEN holds the token itself]
    #[arg(long, value_name = "FILE")]
    kv_token_file: Option<PathBuf>,
    /// Where the engine is mounted
    #[arg(long, value_name = "MOUNT", default_value = "secret")]
    mount: String,
    /// Only what is below this path
    #[arg(long, value_name = "PATH", default_value = "")]
    path: String,
    #[command(flatten)]
    how: HowArgs,
}

/// Secret texts by name.
type Values = BTreeMap<String, Zeroizing<String>>;

/// A secret somewhere else. No `Debug`: it carries the value.
#[derive(Default)]
struct Found {
    /// Where it was found: a line, or a path.
    from: String,
    name: String,
    value: Zeroizing<String>,
    template: Option<String>,
    credential_type: Option<CredentialType>,
    header: Option<String>,
    format: Option<String>,
    fields: Values,
    allowed_hosts: Vec<String>,
    /// Why it cannot be taken.
    refused: Option<String>,
}

/// What becomes of a secret.
#[derive(Deserialize, Serialize)]
struct Imported {
    from: String,
    name: String,
    slug: Option<String>,
    template: Option<String>,
    credential_type: Option<CredentialType>,
    allowed_hosts: Vec<String>,
    /// `would_create`, `created`, `exists`, `skipped` or `failed`.
    outcome: String,
    why: Option<String>,
    grant_id: Option<String>,
}

pub async fn run(command: ImportCommand, context: &mut Context) -> Result<(), Failure> {
    let (found, how, skips) = match command {
        ImportCommand::Env(args) => (dotenv::read(&read(&args.file)?)?, args.how, true),
        ImportCommand::Csv(args) => (csv::read(&read(&args.file)?)?, args.how, false),
        ImportCommand::Kv(args) => (kv::read(&args, context).await?, args.how, false),
    };
    let found = chosen(found, &how)?;
    if found.len() > SECRETS_MAX {
        let message = format!("there are {} secrets, and an import takes at most {SECRETS_MAX}", found.len());
        return Err(Failure::usage(message).hint("Take them in parts, with --only or --path."));
    }
    let api = context.api()?;
    let app = context.app(&api).await?;
    let secrets = ["apps", app.as_str(), "managed-secrets"];
    let templates = all::<SecretTemplate>(&api, &["secret-templates"]).await?;
    let there = all::<Secret>(&api, &secrets).await?;
    let mut plan = plan(found, &how, &templates, &there, skips);
    let count = plan.iter().filter(|(_, imported)| imported.outcome == "would_create").count();
    if how.dry_run && count > 0 {
        // No list has the slugs of deleted secrets.
        context.term.note(
            "No slug is given again: where a deleted secret had it, the new one gets a number, such as stripe-2.",
        );
    }
    if !how.dry_run && count > 0 {
        confirm(&format!("Make {}?", counted(count, "secret", "secrets")), context.globals.yes, &mut context.term)?;
        make(&mut plan, count, &api, &secrets, context).await?;
    }
    report(plan.into_iter().map(|(_, imported)| imported).collect(), context)
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    read_file(path, FILE_BYTES_MAX).map_err(|why| unreadable(&why))
}

/// Every item of a list.
async fn all<T: serde::de::DeserializeOwned>(api: &Api, path: &[&str]) -> Result<Vec<T>, Failure> {
    let mut items = Vec::new();
    loop {
        let offset = i64::try_from(items.len()).unwrap_or(i64::MAX);
        let query = ListQuery { limit: Some(PAGE), offset: Some(offset), ..ListQuery::default() };
        let page: Page<T> = api.get(path, &query).await?;
        items.extend(page.items);
        if !page.has_more {
            return Ok(items);
        }
    }
}

/// What `--only` names, or everything. A name that is not there is a slip of the pen, and nothing would say so later.
fn chosen(mut found: Vec<Found>, how: &HowArgs) -> Result<Vec<Found>, Failure> {
    let mapped = how.map.iter().map(|pair| ("--map", &pair.name));
    for (flag, name) in how.only.iter().map(|name| ("--only", name)).chain(mapped) {
        if found.iter().any(|found| found.name == *name) {
            continue;
        }
        let failure = Failure::usage(format!("{flag}: there is no `{name}` there"));
        return Err(match nearest(name, found.iter().map(|found| &*found.name)) {
            Some(meant) => failure.hint(format!("Did you mean `{meant}`?")),
            None => failure.hint("The list without it, with --dry-run, has all names."),
        });
    }
    if !how.only.is_empty() {
        found.retain(|found| how.only.contains(&found.name));
    }
    Ok(found)
}

/// What would become of each. `skips`: what has no destination is no secret, but one of the other things that are kept there.
fn plan(
    found: Vec<Found>,
    how: &HowArgs,
    templates: &[SecretTemplate],
    there: &[Secret],
    skips: bool,
) -> Vec<(Found, Imported)> {
    let mapped: HashMap<&str, &str> = how.map.iter().map(|pair| (&*pair.name, &*pair.value)).collect();
    let mut taken = HashMap::new();
    let planned = found.into_iter().map(|mut found| {
        if let Some(template) = mapped.get(&*found.name) {
            found.template = Some((*template).to_owned());
        }
        if found.template.is_none() && found.allowed_hosts.is_empty() {
            found.template = skips.then(|| dotenv::template_of(&found.name, templates)).flatten();
        }
        if found.template.is_none() && found.allowed_hosts.is_empty() {
            found.allowed_hosts.clone_from(&how.allowed_hosts);
        }
        let (fate, why) = match fate(&found, templates, there, &mut taken, skips && how.only.is_empty()) {
            Ok(planned) => (planned, None),
            Err((outcome, why)) => (Planned { outcome, ..Planned::default() }, Some(why)),
        };
        let imported = Imported {
            from: found.from.clone(),
            name: found.name.clone(),
            slug: fate.slug.or_else(|| slug(&found.name)),
            template: found.template.clone(),
            credential_type: fate.credential_type.or(found.credential_type),
            allowed_hosts: if fate.allowed_hosts.is_empty() { found.allowed_hosts.clone() } else { fate.allowed_hosts },
            outcome: fate.outcome.to_owned(),
            why,
            grant_id: None,
        };
        (found, imported)
    });
    planned.collect()
}

/// What would be stored.
#[derive(Default)]
struct Planned {
    outcome: &'static str,
    slug: Option<String>,
    credential_type: Option<CredentialType>,
    /// With what belongs to the account filled in.
    allowed_hosts: Vec<String>,
}

/// What would become of it, by the rules of the server; or what it is instead, and why.
fn fate(
    found: &Found,
    templates: &[SecretTemplate],
    there: &[Secret],
    taken: &mut HashMap<String, String>,
    skips: bool,
) -> Result<Planned, (&'static str, String)> {
    let failed = |why: String| ("failed", why);
    let has_no_destination = found.template.is_none() && found.allowed_hosts.is_empty();
    // What is no secret need not be readable as one.
    if let Some(why) = found.refused.as_ref().filter(|_| !(skips && has_no_destination)) {
        return Err(failed(why.clone()));
    }
    if has_no_destination {
        let why = "nothing says where it may go: give a template (--map) or --allowed-host";
        return Err((if skips { "skipped" } else { "failed" }, why.to_owned()));
    }
    if found.value.is_empty() {
        return Err(failed("it has no value".to_owned()));
    }
    let of_server = templates.iter().find(|template| Some(&template.id) == found.template.as_ref());
    let mut body = body(found);
    if serde_json::to_vec(&body).is_ok_and(|body| body.len() > API_BODY_BYTES_MAX) {
        return Err(failed(format!("it is larger than the {API_BODY_BYTES_MAX} bytes that the server takes")));
    }
    let planned = match (&found.template, of_server) {
        (Some(id), None) if id != template::CUSTOM => {
            return Err(failed(format!("there is no template `{id}`: `grantd managed-secrets templates` lists them")));
        }
        // The server is newer and knows more: it will judge.
        (Some(id), Some(known)) if template::find(id).is_none() => Planned {
            outcome: "would_create",
            slug: slug(&found.name),
            credential_type: Some(known.credential_type),
            allowed_hosts: known.allowed_hosts.clone(),
        },
        _ => {
            let new = new_secret::plan(&mut body).map_err(|refused| failed(refused.message))?;
            Planned {
                outcome: "would_create",
                slug: Some(new.slug),
                credential_type: Some(new.credential_type),
                allowed_hosts: new.hosts.texts(),
            }
        }
    };
    let slug = planned.slug.clone().unwrap_or_default();
    // Its slug alone does not tell: an import behind a deletion makes one with a number.
    let is_it = |living: &&Secret| living.name == found.name || living.slug == slug;
    if let Some(living) = there.iter().find(is_it) {
        return Ok(Planned { outcome: "exists", slug: Some(living.slug.clone()), ..planned });
    }
    match taken.get(&slug) {
        Some(other) => Err(failed(format!("its slug, {slug}, is that of {other}"))),
        None => {
            taken.insert(slug, found.from.clone());
            Ok(planned)
        }
    }
}

/// What the server is asked to store.
fn body(found: &Found) -> SecretCreate {
    SecretCreate {
        name: found.name.clone(),
        template: found.template.clone(),
        credential_type: found.credential_type,
        value: found.value.to_string(),
        fields: found.fields.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
        injection_header: found.header.clone(),
        injection_format: found.format.clone(),
        injections: Vec::new(),
        allowed_hosts: found.allowed_hosts.clone(),
        allow_any_host: false,
    }
}

/// Makes what is planned. What the server refuses is told, and the others are made; when it refuses the caller, nothing more is tried.
async fn make(
    plan: &mut [(Found, Imported)],
    count: usize,
    api: &Api,
    secrets: &[&str],
    context: &mut Context,
) -> Result<(), Failure> {
    let mut progress = Progress::of_things(context.term.stderr_is_terminal, count as u64, "secrets");
    for (found, imported) in plan.iter_mut().filter(|(_, imported)| imported.outcome == "would_create") {
        match api.send_once::<CreatedSecret>(secrets, &body(found)).await {
            Ok(created) => {
                "created".clone_into(&mut imported.outcome);
                let planned = imported.slug.replace(created.secret.slug);
                let given = planned.filter(|planned| Some(planned) != imported.slug.as_ref());
                imported.why = given.map(|slug| format!("the slug {slug} is or was that of another secret"));
                imported.allowed_hosts = created.secret.allowed_hosts;
                imported.grant_id = Some(created.grant_id);
            }
            Err(failure) if is_of_the_secret(&failure) => {
                "failed".clone_into(&mut imported.outcome);
                imported.why = Some(failure.message);
            }
            Err(failure) => {
                let hint = "What was made before stays; run the same command again for the rest.";
                return Err(Failure { hint: Some(hint.to_owned()), ..failure });
            }
        }
        progress.add(1);
    }
    progress.finish();
    Ok(())
}

/// Whether another secret may fare better.
fn is_of_the_secret(failure: &Failure) -> bool {
    failure.exit == Exit::Conflict || matches!(&*failure.error, "invalid_request" | "invalid_value" | "body_too_large")
}

fn report(items: Vec<Imported>, context: &mut Context) -> Result<(), Failure> {
    let failed = items.iter().filter(|item| item.outcome == "failed").count();
    let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let columns = [
        column("NAME", "name"),
        column("OUTCOME", "outcome"),
        minor("SLUG", "slug"),
        minor("TEMPLATE", "template"),
        minor("HOSTS", "allowed_hosts"),
        minor("GRANT", "grant_id"),
        column("WHY", "why"),
    ];
    context.show_page(&Page { items, total, limit: total, offset: 0, has_more: false }, &columns)?;
    match failed {
        0 => Ok(()),
        n => Err(Failure::local(format!("{n} of {total} could not be taken")).hint("The list says why.")),
    }
}

/// The value among named ones, and what is left.
fn split(mut values: Values) -> Option<(Zeroizing<String>, Values)> {
    const NAMES: [&str; 6] = ["value", "token", "api_key", "key", "secret", "password"];
    let named = NAMES.iter().find_map(|name| values.remove(*name));
    let only = (named.is_none() && values.len() == 1).then(|| values.pop_first().map(|(_, value)| value)).flatten();
    named.or(only).map(|value| (value, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(names: &[&str]) -> Values {
        names.iter().map(|name| ((*name).to_owned(), Zeroizing::new(format!("v-{name}")))).collect()
    }

    #[test]
    fn the_value_is_the_named_one_or_the_only_one() {
        let split = |names: &[&str]| {
            split(values(names))
                .map(|(value, rest)| (value.to_string(), rest.into_keys().collect::<Vec<_>>().join(",")))
        };
        let of = |value: &str, rest: &str| Some((value.to_owned(), rest.to_owned()));
        assert_eq!(split(&["anything"]), of("v-anything", ""));
        assert_eq!(split(&["username", "password"]), of("v-password", "username"));
        assert_eq!(split(&["value", "token"]), of("v-value", "token"));
        assert_eq!(split(&["a", "b"]), None);
        assert_eq!(split(&[]), None);
    }
}
