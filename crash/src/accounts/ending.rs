//! Deaths while tokens are ended at their provider, after their last grant was revoked: they are ended in the end, and told of once.

use super::super::{Result, fault, now as moment};
use super::LEASE;
use super::world::{LOOK_AGAIN_AFTER, Plan, World, count, still};

/// One death, and what must come of it.
pub struct Death {
    pub step: &'static str,
    /// The attempt that died keeps others from trying.
    is_leased: bool,
    /// Times the provider is told, those after the death included.
    sent: usize,
}

/// Every one.
pub const DEATHS: &[Death] = &[
    Death { step: "ending.taken", is_leased: true, sent: 1 },
    // To end what has ended is no failure (RFC 7009 section 2.2).
    Death { step: "ending.sent", is_leased: true, sent: 2 },
    Death { step: "ending.settled", is_leased: false, sent: 1 },
];

pub async fn die(plan: Plan, death: &Death) -> Result<String> {
    let (mut world, server) = World::make(plan, Some(death.step)).await?;
    let grant = world.connect(&server).await?["grant_id"].as_str().unwrap_or_default().to_owned();
    let good = world.provider.good_refresh();
    let since = moment();
    let first = world.revoke(&server, &grant).await;
    server.died_at(death.step).await?;
    // It may have died before it answered: then asking again says how it stands.
    if first.as_ref().is_ok_and(|first| first != "pending" && first != "yes") {
        return fault(format!("the tokens are {first:?} when they are revoked"));
    }
    let died_at = moment();
    let server = world.install.server().await?;
    world.waits();
    let settled = loop {
        match world.revoke(&server, &grant).await?.as_str() {
            "yes" => break died_at.elapsed().as_secs(),
            "pending" if death.is_leased => still(since, "ending the tokens")?,
            other => return fault(format!("the tokens are `{other}`")),
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    };
    let ended = world.provider.ended();
    if ended.len() != death.sent || ended.iter().any(|(token, _)| Some(token) != good.as_ref()) {
        return fault(format!("the provider was told {} times, not {}", ended.len(), death.sent));
    }
    let too_early = |(_, at): &&(String, std::time::Instant)| *at > died_at && at.duration_since(since) < LEASE;
    if let Some((_, at)) = ended.iter().find(too_early) {
        return fault(format!("it was told {} s after another attempt began", at.duration_since(since).as_secs()));
    }
    let refused = world.token(&server, &grant).await?;
    if refused.error() != "grant_revoked" {
        return fault(format!("the revoked grant gives {}", refused.shown()));
    }
    let events = world.look(&server).await?;
    let told = [count(&events, "grant.revoked"), count(&events, "credential.revoked_upstream")];
    if told != [1, 1] {
        return fault(format!("events: grant.revoked and credential.revoked_upstream {told:?}"));
    }
    world.end(server).await?;
    Ok(format!("ended after {settled} s; the provider was told {} times", death.sent))
}
