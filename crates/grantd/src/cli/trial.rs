//! The way from `grantd request` to a key: the app's own, or one minted for this call and revoked after it.

use std::path::PathBuf;

use grantd_wire::api::{Grant, Key, KeyMint, MintedKey};
use reqwest::Method;
use serde_json::json;
use zeroize::Zeroizing;

use super::context::{Context, Format};
use super::failure::{Exit, Failure};
use super::http::{Api, NoQuery};
use super::request::{self, RequestArgs, RequestOutput};

/// If revoking fails, the key ends by itself.
const KEY_LIFE_S: i64 = 5 * 60;

/// Makes the call and writes the answer; fails, without a further word, when the provider answers 400 or above.
pub async fn run(args: RequestArgs, context: &mut Context) -> Result<(), Failure> {
    let output = call(args, context).await?;
    if context.format() == Format::Table && context.globals.fields.is_none() {
        context.term.print(&output.render())?;
    } else {
        context.show(&output)?;
    }
    match output.exit_code() {
        Exit::Ok => Ok(()),
        exit => Err(Failure::silent(exit)),
    }
}

async fn call(args: RequestArgs, context: &mut Context) -> Result<RequestOutput, Failure> {
    let server = context.server()?;
    let server = server.as_str().trim_end_matches('/').to_owned();
    let has_key = args.api_key_file.is_some() || context.env.find_filled("ALTER_API_KEY").is_some();
    if has_key {
        // What names a server for this command line counts before what names one for applications.
        let named = context.globals.server.is_some() || context.env.find_filled("GRANTD_SERVER").is_some();
        let env = &context.env;
        let find = |name: &str| match name {
            "ALTER_BASE_URL" if named => None,
            _ => env.find_filled(name).map(str::to_owned),
        };
        return request::run(args, &server, &find).await;
    }
    if args.proxy {
        // Refused before a key is made for it.
        return request::run(args, &server, &|_| None).await;
    }
    let api = context.api()?;
    let app = context.app(&api).await?;
    // A grant that is not there shall not leave a key behind.
    let _: Grant = api.get(&["apps", &app, "grants", &args.grant], &NoQuery {}).await?;
    let key = mint(&api, &app, &args).await?;
    let text = Zeroizing::new(key.api_key);
    let find = |name: &str| (name == "ALTER_API_KEY").then(|| text.to_string());
    let output = request::run(RequestArgs { api_key_file: None::<PathBuf>, ..args }, &server, &find).await;
    let revoked: Result<Key, Failure> =
        api.send(Method::POST, &["apps", &app, "keys", &key.key.id, "revoke"], &json!({})).await;
    if let Err(failure) = revoked {
        let id = &key.key.id;
        context
            .term
            .warn(&format!("key {id} of this call could not be revoked; it ends by itself: {}", failure.message));
    }
    output
}

/// A key for this one grant.
async fn mint(api: &Api, app: &str, args: &RequestArgs) -> Result<MintedKey, Failure> {
    let retrieve = format!("tokens:retrieve:{}", args.grant);
    let body = KeyMint {
        name: "grantd request".to_owned(),
        scopes: Some(vec![retrieve, "audit:emit".to_owned()]),
        expires_in_seconds: Some(KEY_LIFE_S),
        ..KeyMint::default()
    };
    api.send_once(&["apps", app, "keys"], &body).await
}
