//! Deaths while a provider's answer is made an account: all of it is there, or nothing of it, and the user can try again.

use super::super::install::expect;
use super::super::{Result, fault, now as moment};
use super::world::{LOOK_AGAIN_AFTER, Plan, World, count, is_leased, still};

/// One death, and what must come of it.
pub struct Death {
    pub step: &'static str,
    /// The account is there.
    is_kept: bool,
    /// The code was sent.
    is_sent: bool,
}

/// Every one.
pub const DEATHS: &[Death] = &[
    Death { step: "callback.taken", is_kept: false, is_sent: false },
    Death { step: "callback.exchanged", is_kept: false, is_sent: true },
    Death { step: "callback.identified", is_kept: false, is_sent: true },
    Death { step: "callback.credential_written", is_kept: false, is_sent: true },
    Death { step: "callback.kept", is_kept: true, is_sent: true },
];

pub async fn die(plan: Plan, death: &Death) -> Result<String> {
    let (mut world, server) = World::make(plan, Some(death.step)).await?;
    let session = world.session(&server).await?;
    let (mut browser, state) = world.open(&server, &session).await?;
    let since = moment();
    let server = world.dies_of_answer(server, &mut browser, &state, death.step).await?;
    // Nobody sends the code again.
    if world.provider.codes() != usize::from(death.is_sent) {
        return fault(format!("the code was sent {} times", world.provider.codes()));
    }
    let polled = world.poll(&server, &session).await?;
    let (status, grants) = (polled["status"].as_str(), world.grants(&server).await?);
    let expected = if death.is_kept { (Some("completed"), 1) } else { (Some("pending"), 0) };
    if (status, grants) != expected {
        return fault(format!("the session is {status:?}, and there are {grants} grants"));
    }
    // In a new session the account connects at once, however the old one stands.
    let new = world.connect(&server).await?;
    let operation = if death.is_kept { "reauth" } else { "creation" };
    if new["operation"] != operation {
        return fault(format!("a new session came to {}", new["operation"]));
    }
    let grant = new["grant_id"].as_str().unwrap_or_default().to_owned();
    let mut came = "kept whole".to_owned();
    if !death.is_kept {
        // In the old one, once it is sure that nobody is at it any more.
        let state = loop {
            match world.start(&server, &mut browser).await? {
                Some(_) if is_leased(since) => return fault("the session went on while its answer was being taken"),
                Some(state) => break state,
                None => still(since, "going on in the session")?,
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        };
        let seconds = since.elapsed().as_secs();
        let old = world.finish(&server, &session, &mut browser, &state).await?;
        if old["grant_id"] != grant.as_str() || old["operation"] != "reauth" {
            return fault(format!("the old session came to {}", old["operation"]));
        }
        came = format!("nothing kept; connects in a new session at once, in the old one after {seconds} s");
    }
    let answer = world.token(&server, &grant).await?;
    expect(&answer, 200)?;
    let events = world.look(&server).await?;
    let (done, created, grants) =
        (count(&events, "connect.done"), count(&events, "grant.created"), world.grants(&server).await?);
    if (done, created, grants) != (2, 1, 1) {
        return fault(format!("{grants} grants; events: connect.done {done}, grant.created {created}"));
    }
    world.end(server).await?;
    Ok(came)
}
