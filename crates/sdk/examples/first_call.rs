//! The first call: what `grantd dev` shows in Python, in Rust. Paste the `export` lines it prints, then
//! `cargo run -p grantd-sdk --example first_call`.
#![expect(clippy::disallowed_methods, reason = "a program may read its own environment")]

use std::env::var;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = grantd_sdk::App::from_env()?;
    let request = app.request("GET", &format!("{}/hello", var("DEMO_URL")?)).grant_id(var("GRANT_ID")?);
    let called = request.reason("first call from Rust").send().await;
    app.close().await; // before `?`: a call that failed is reported, too
    let answer = called?;
    println!("{} {}", answer.status, answer.text());
    Ok(())
}
