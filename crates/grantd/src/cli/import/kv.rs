//! KV version 2 engines of OpenBao and Vault, over their HTTP API.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use grantd_domain::words::counted;
use grantd_wire::api::CredentialType;
use reqwest::header::HeaderValue;
use reqwest::{Client, StatusCode, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::super::context::Context;
use super::super::failure::{Exit, chain};
use super::super::input::{parse_host, read_token, unreadable};
use super::super::progress::Progress;
use super::{Failure, Found, KvArgs, SECRETS_MAX, split};
use crate::config::is_loopback;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Version {
    /// Null: the newest version is deleted.
    data: Option<HashMap<String, Value>>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    custom_metadata: Option<BTreeMap<String, String>>,
}

struct Engine {
    client: Client,
    token: HeaderValue,
    namespace: Option<String>,
    address: Url,
    mount: Vec<String>,
}

/// Everything below the path, in the order of the paths.
pub async fn read(args: &KvArgs, context: &mut Context) -> Result<Vec<Found>, Failure> {
    let engine = Engine::new(args, context)?;
    let (mut found, mut directories) = (Vec::new(), vec![args.path.trim_matches('/').to_owned()]);
    let mut spinner = Progress::waiting(context.term.stderr_is_terminal);
    while let Some(directory) = directories.pop() {
        let listed: Option<Answer<Keys>> = engine.get("metadata", &directory, true).await?;
        let mut keys = listed.map(|answer| answer.data.keys).unwrap_or_default();
        keys.sort();
        for key in keys {
            let path = if directory.is_empty() { key.clone() } else { format!("{directory}/{key}") };
            match path.strip_suffix('/') {
                Some(inner) => directories.push(inner.to_owned()),
                None => found.extend(engine.secret(&path).await?),
            }
            spinner.say(format!("{} read", counted(found.len(), "secret", "secrets")));
            if found.len() + directories.len() > SECRETS_MAX {
                let message = format!("there are more than {SECRETS_MAX} secrets there, and an import takes no more");
                return Err(Failure::usage(message).hint("Take them in parts, with --path."));
            }
        }
    }
    spinner.finish();
    if found.is_empty() {
        let message = format!("there is no secret below {}/{}", args.mount.trim_matches('/'), args.path);
        return Err(Failure::new(Exit::NotFound, "not_found", message).hint("Check --mount and --path."));
    }
    found.sort_by(|a, b| a.from.cmp(&b.from));
    Ok(found)
}

impl Engine {
    fn new(args: &KvArgs, context: &mut Context) -> Result<Self, Failure> {
        let of_env = |names: [&str; 2]| names.iter().find_map(|name| context.env.find_filled(name)).map(str::to_owned);
        let address = args.address.clone().or_else(|| of_env(["BAO_ADDR", "VAULT_ADDR"]));
        let address = address.ok_or_else(|| {
            Failure::usage("--address: where is the other server?").hint("Or set BAO_ADDR or VAULT_ADDR.")
        })?;
        let url = Url::parse(&address)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.username().is_empty());
        let address =
            url.ok_or_else(|| Failure::usage("--address: write a URL such as https://vault.example.com:8200"))?;
        let token = match &args.kv_token_file {
            Some(path) => read_token(path).map_err(|why| unreadable(&format!("--kv-token-file: {why}")))?,
            None => Zeroizing::new(of_env(["BAO_TOKEN", "VAULT_TOKEN"]).ok_or_else(|| {
                Failure::usage("there is no token of the other server")
                    .hint("Set BAO_TOKEN or VAULT_TOKEN, or pass --kv-token-file.")
            })?),
        };
        let mut token = HeaderValue::from_str(token.trim()).map_err(|_| {
            Failure::usage("the other server's token has characters that no token has").hint("Copy it again.")
        })?;
        token.set_sensitive(true);
        let namespace = of_env(["BAO_NAMESPACE", "VAULT_NAMESPACE"]);
        let mut builder = Client::builder().redirect(redirect::Policy::none()).timeout(TIMEOUT);
        if is_loopback(&address) {
            builder = builder.no_proxy();
        } else if address.scheme() == "http" {
            context.term.warn(&format!("secrets travel unencrypted from {address}; use https"));
        }
        let client = builder.build().map_err(|e| Failure::from_error(Exit::Error, &e))?;
        let mount = args.mount.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Ok(Self { client, token, namespace, address, mount })
    }

    /// `None`: nothing is there.
    async fn get<T: DeserializeOwned>(&self, kind: &str, path: &str, is_list: bool) -> Result<Option<T>, Failure> {
        let mut url = self.address.clone();
        let parts = ["v1"].into_iter().chain(self.mount.iter().map(String::as_str)).chain([kind]);
        url.path_segments_mut()
            .expect("http URLs have paths")
            .pop_if_empty()
            .extend(parts.chain(path.split('/').filter(|part| !part.is_empty())));
        if is_list {
            url.set_query(Some("list=true"));
        }
        let mut request = self.client.get(url).header("x-vault-token", self.token.clone());
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        let shown = self.address.as_str().trim_end_matches('/');
        let unreachable = |error: reqwest::Error| {
            let cause = std::error::Error::source(&error).map_or_else(|| "it does not answer".to_owned(), chain);
            Failure::new(Exit::Error, "unreachable", format!("cannot read from {shown}: {cause}"))
                .hint("Check --address.")
        };
        let mut answer = request.send().await.map_err(unreachable)?;
        let place = format!("{}/{path}", self.mount.join("/"));
        match answer.status() {
            StatusCode::OK => {}
            // A secret whose newest version is deleted is answered with what is left of it.
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::FORBIDDEN => {
                let message = format!("{shown} does not let this token read {place}");
                return Err(Failure::new(Exit::Forbidden, "kv_forbidden", message)
                    .hint("It needs read on data/ and list on metadata/."));
            }
            status => {
                let message = format!("{shown} answers with status {} for {place}", status.as_u16());
                return Err(Failure::new(Exit::Error, "kv_failed", message)
                    .hint("Is it a KV engine of version 2, and is it unsealed?"));
            }
        }
        let mut bytes = Zeroizing::new(Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                let message = format!("the answer for {place} has more than {ANSWER_BYTES_MAX} bytes");
                return Err(Failure::usage(message).hint("Take what is below it in parts, with --path."));
            }
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|_| {
            Failure::local(format!("{shown} answers for {place} not as a KV engine of version 2 does"))
                .hint("Check --address and --mount.")
        })
    }

    async fn secret(&self, path: &str) -> Result<Option<Found>, Failure> {
        let Some(Answer { data: version }) = self.get::<Answer<Version>>("data", path, false).await? else {
            return Ok(None);
        };
        let Some(data) = version.data else { return Ok(None) };
        let mut found = Found { from: path.to_owned(), name: path.replace('/', " "), ..Found::default() };
        let mut values = BTreeMap::new();
        for (name, value) in data {
            match value {
                Value::String(text) => drop(values.insert(name, Zeroizing::new(text))),
                // Others have been rounded, or lost their zeros, when they get here.
                Value::Number(number) if number.is_i64() || number.is_u64() => {
                    drop(values.insert(name, Zeroizing::new(number.to_string())));
                }
                Value::Number(_) => {
                    found.refused = Some(format!("its key {name} is no whole number of 64 bits: keep it as text"));
                }
                _ => found.refused = Some(format!("its key {name} holds no text")),
            }
        }
        if values.contains_key("username") && values.contains_key("password") {
            found.credential_type = Some(CredentialType::BasicAuth);
        }
        match split(values) {
            Some((value, fields)) => (found.value, found.fields) = (value, fields),
            None => {
                let why = || "which of its keys is the value? Call one of them value".to_owned();
                found.refused.get_or_insert_with(why);
            }
        }
        let metadata = version.metadata.custom_metadata.unwrap_or_default();
        found.template = metadata.get("template").cloned();
        let hosts = metadata.get("allowed_hosts").map_or("", String::as_str);
        match hosts.split_whitespace().map(parse_host).collect() {
            Ok(hosts) => found.allowed_hosts = hosts,
            Err(why) => found.refused = Some(format!("its custom metadata allowed_hosts: {why}")),
        }
        Ok(Some(found))
    }
}
