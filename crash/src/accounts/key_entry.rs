//! Deaths while a user's own key is taken: it is kept whole, with its grant, or it is nowhere, and the user can give it again.

use serde_json::{Value, json};

use super::super::browser::Browser;
use super::super::install::{Server, expect};
use super::super::{Result, fault, now as moment};
use super::world::{LOOK_AGAIN_AFTER, Plan, World, count, still};

/// One death, and what must come of it.
pub struct Death {
    pub step: &'static str,
    /// The vendor was asked whether the key is good.
    is_tried: bool,
    is_kept: bool,
}

/// Every one.
pub const DEATHS: &[Death] = &[
    Death { step: "key_entry.taken", is_tried: false, is_kept: false },
    Death { step: "key_entry.checked", is_tried: true, is_kept: false },
    Death { step: "key_entry.sealed", is_tried: true, is_kept: false },
    Death { step: "key_entry.credential_written", is_tried: true, is_kept: false },
    Death { step: "key_entry.kept", is_tried: true, is_kept: true },
];

/// What the user types.
const KEY: &str = "canary-key-of-a-user";

/// A secret whose vendor is the provider: where it is, its one field says.
async fn store(world: &World, server: &Server) -> Result<String> {
    let body = json!({
        "name": "Search", "template": "meilisearch", "value": "canary-of-the-app",
        "fields": {"host": world.provider.issuer()},
    });
    let answer = world.install.ask(server, "POST", &world.install.path("/managed-secrets"), Some(&body)).await?;
    Ok(expect(&answer, 201)?["slug"].as_str().unwrap_or_default().to_owned())
}

async fn session(world: &mut World, server: &Server, secret: &str, token: &str) -> Result<Value> {
    let body = json!({"provider": secret, "user_token": token});
    expect(&world.app(server, "/sdk/managed-secrets/connect/session", &body).await?, 201)
}

async fn open(server: &Server, session: &Value) -> Result<Browser> {
    Browser::open(server, session["connect_url"].as_str().unwrap_or_default()).await
}

pub async fn die(plan: Plan, death: &Death) -> Result<String> {
    let (mut world, server) = World::make(plan, Some(death.step)).await?;
    world.register_users(&server).await?;
    let secret = store(&world, &server).await?;
    let token = world.provider.id_token(None);
    let first = session(&mut world, &server, &secret, &token).await?;
    let mut browser = open(&server, &first).await?;
    let since = moment();
    if let Ok(answer) = browser.form(&server, "key", &[("key", KEY)]).await {
        return fault(format!("it lived to answer {:?}", answer.map(|answer| answer.shown())));
    }
    server.died_at(death.step).await?;
    let server = world.install.server().await?;
    world.waits();

    if world.provider.tries() != usize::from(death.is_tried) {
        return fault(format!("the vendor was asked {} times", world.provider.tries()));
    }
    let polled = world.poll(&server, &first).await?;
    let expected = if death.is_kept { "completed" } else { "pending" };
    if polled["status"] != expected {
        return fault(format!("the session is {}", polled["status"]));
    }
    let mut came = "kept whole".to_owned();
    let grant = if death.is_kept {
        polled["grants"][0]["grant_id"].clone()
    } else {
        // In a new session the key is taken at once.
        let new = session(&mut world, &server, &secret, &token).await?;
        let mut elsewhere = open(&server, &new).await?;
        elsewhere.form(&server, "key", &[("key", KEY)]).await?;
        let polled = world.poll(&server, &new).await?;
        if polled["status"] != "completed" {
            return fault(format!("a new session came to {polled}"));
        }
        let grant = polled["grants"][0]["grant_id"].clone();
        // The old one asks for that key now, once it is sure that nobody is at it any more.
        let old = loop {
            browser.form(&server, "approve", &[]).await?;
            let polled = world.poll(&server, &first).await?;
            match polled["status"].as_str() {
                Some("pending") => still(since, "going on in the session")?,
                _ => break polled,
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        };
        if old["grants"][0]["grant_id"] != grant {
            return fault(format!("the old session came to {old}"));
        }
        let seconds = since.elapsed().as_secs();
        came = format!("nothing kept; taken in a new session at once, the old one goes on after {seconds} s");
        grant
    };
    let request = json!({"method": "GET", "url": format!("{}/indexes", world.provider.issuer())});
    let ask = json!({"grant_id": grant, "user_token": token, "request": request, "reason": null});
    let released = expect(&world.app(&server, "/sdk/token", &ask).await?, 200)?;
    if released["access_token"] != KEY {
        return fault("the grant does not release the key that was given");
    }
    let events = world.look(&server).await?;
    let made =
        events.iter().filter(|event| event["kind"] == "grant.created" && event["principal_type"] == "user").count();
    let done = count(&events, "connect.done");
    if (made, done) != (1, 1 + usize::from(!death.is_kept)) {
        return fault(format!("events: grant.created {made}, connect.done {done}"));
    }
    world.end(server).await?;
    Ok(came)
}
