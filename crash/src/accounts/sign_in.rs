//! Deaths while a user signs in: the app gets the token of one who did, or is told that it was interrupted, and nothing half made stays.

use serde_json::{Value, json};

use super::super::browser::Browser;
use super::super::install::{Server, expect};
use super::super::{Result, fault, now as moment};
use super::world::{LOOK_AGAIN_AFTER, Plan, World, count, is_leased, still};

/// One death, and what must come of it.
pub struct Death {
    pub step: &'static str,
    /// The code was sent.
    is_sent: bool,
    /// The user's row is there.
    is_known: bool,
    /// The token is there, for the app to fetch.
    is_kept: bool,
}

/// Every one.
pub const DEATHS: &[Death] = &[
    Death { step: "sign_in.taken", is_sent: false, is_known: false, is_kept: false },
    Death { step: "sign_in.exchanged", is_sent: true, is_known: false, is_kept: false },
    Death { step: "sign_in.proved", is_sent: true, is_known: false, is_kept: false },
    Death { step: "sign_in.user_known", is_sent: true, is_known: true, is_kept: false },
    Death { step: "sign_in.written", is_sent: true, is_known: true, is_kept: false },
    Death { step: "sign_in.kept", is_sent: true, is_known: true, is_kept: true },
];

/// How long a token waits for the app (`SIGN_IN_RESULT_MS`).
const RESULT_S: u64 = 60;

async fn session(world: &mut World, server: &Server) -> Result<Value> {
    expect(&world.app(server, "/sdk/auth/session", &json!({})).await?, 201)
}

async fn poll(world: &mut World, server: &Server, session: &Value) -> Result<Value> {
    let body = json!({"session_token": session["session_token"]});
    expect(&world.app(server, "/sdk/auth/poll", &body).await?, 200)
}

/// Opens the link and goes to the provider; the `state` that it sends back.
async fn leave(world: &World, server: &Server, session: &Value) -> Result<(Browser, String)> {
    let mut browser = Browser::open(server, session["auth_url"].as_str().unwrap_or_default()).await?;
    let Some((state, nonce)) = browser.leave(server, "").await? else { return fault("a sign-in cannot be started") };
    world.provider.signs_in(&nonce);
    Ok((browser, state))
}

pub async fn die(plan: Plan, death: &Death) -> Result<String> {
    let (mut world, server) = World::make(plan, Some(death.step)).await?;
    world.register_users(&server).await?;
    let session = session(&mut world, &server).await?;
    let (mut browser, state) = leave(&world, &server, &session).await?;
    let since = moment();
    let server = world.dies_of_answer(server, &mut browser, &state, death.step).await?;
    // Nobody sends the code again.
    if world.provider.sign_ins() != usize::from(death.is_sent) {
        return fault(format!("the code was sent {} times", world.provider.sign_ins()));
    }
    let users = world.install.list(&server, "users").await?.len();
    if users != usize::from(death.is_known) {
        return fault(format!("there are {users} users"));
    }
    let polled = poll(&mut world, &server, &session).await?;
    let mut came = "the token waits for the app".to_owned();
    match polled["status"].as_str() {
        Some("completed") if death.is_kept => {
            let token = polled["user_token"].as_str().unwrap_or_default();
            if !world.provider.id_tokens().iter().any(|issued| issued == token) {
                return fault("the app was handed another token than the user's");
            }
        }
        // It took longer to come back than a token waits.
        Some("expired") if death.is_kept && since.elapsed().as_secs() >= RESULT_S => {}
        Some("pending") if !death.is_kept => {}
        _ => return fault(format!("the sign-in is {}", polled["status"])),
    }
    // In a new one the user is signed in at once, however the old one stands.
    let new = self::session(&mut world, &server).await?;
    let (mut elsewhere, state) = leave(&world, &server, &new).await?;
    elsewhere.back(&server, "canary-code", &state).await?;
    let signed_in = poll(&mut world, &server, &new).await?;
    if signed_in["status"] != "completed" {
        return fault(format!("a new sign-in came to {signed_in}"));
    }
    if !death.is_kept {
        // The app is told once it is sure that nobody is at it any more.
        let ended = loop {
            let polled = poll(&mut world, &server, &session).await?;
            match polled["status"].as_str() {
                Some("pending") => still(since, "the end of the sign-in")?,
                Some("error") if is_leased(since) => return fault("it was given up while it was being taken"),
                _ => break polled,
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        };
        if ended["error_code"] != "interrupted" {
            return fault(format!("the sign-in came to {ended}"));
        }
        let seconds = since.elapsed().as_secs();
        came = format!("nothing kept; signs in anew at once, the app is told `interrupted` after {seconds} s");
    }
    let users = world.install.list(&server, "users").await?.len();
    let events = world.look(&server).await?;
    let done = count(&events, "sign_in.done");
    if (users, done, count(&events, "user.created")) != (1, 1 + usize::from(death.is_kept), 1) {
        return fault(format!("{users} users; events: sign_in.done {done}"));
    }
    world.end(server).await?;
    Ok(came)
}
