//! Deaths during a renewal: the old pair works or the new one does, or the account says that its user must connect it again, which it
//! does only where a refresh token may have been spent for an answer that nobody kept.

use std::time::{Duration, Instant};

use super::super::install::Server;
use super::super::provider::{Play, Provider, SHORT_S};
use super::super::{Result, fault, now as moment};
use super::LEASE;
use super::world::{LOOK_AGAIN_AFTER, PATIENCE, Plan, World, after, count, is_leased, still};

/// One death, and what must come of it.
pub struct Death {
    /// None: it is killed while the provider keeps it waiting.
    pub step: Option<&'static str>,
    play: Play,
    /// The attempt that died keeps others from trying.
    is_leased: bool,
    ends: Ends,
    /// Times a refresh token is sent, those after the death included.
    sent: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ends {
    /// The grant goes on, with the newest pair there is.
    Renewed,
    /// The user must connect again, for this reason.
    Broken(&'static str),
}

const fn death(step: &'static str, play: Play, is_leased: bool, ends: Ends, sent: usize) -> Death {
    Death { step: Some(step), play, is_leased, ends, sent }
}

const LOST: Ends = Ends::Broken("rotation_unknown");
const SPENT: Play = Play::Silent { spends: true };
const UNSPENT: Play = Play::Silent { spends: false };

/// Every one.
pub const DEATHS: &[Death] = &[
    death("refresh.claimed", Play::Good, true, Ends::Renewed, 1),
    death("refresh.opened", Play::Good, true, Ends::Renewed, 1),
    death("refresh.confirmed", Play::Good, true, Ends::Renewed, 1),
    Death { step: None, play: UNSPENT, is_leased: true, ends: Ends::Renewed, sent: 2 },
    Death { step: None, play: SPENT, is_leased: true, ends: LOST, sent: 2 },
    death("refresh.answered", Play::Good, true, LOST, 2),
    death("refresh.sealed", Play::Good, true, LOST, 2),
    death("refresh.replaced", Play::Good, true, LOST, 2),
    death("refresh.stored", Play::Good, false, Ends::Renewed, 1),
    death("refresh.answered", Play::Unavailable, true, Ends::Renewed, 2),
    death("refresh.kept", Play::Unavailable, false, Ends::Renewed, 2),
    // What the provider said died with the process; asked again, it says the same.
    death("refresh.answered", Play::Withdrawn, true, LOST, 2),
    death("refresh.broken", Play::Withdrawn, false, Ends::Broken("reconnect"), 1),
];

impl Death {
    pub fn name(&self) -> String {
        let step = self.step.unwrap_or("on the way");
        let play = match self.play {
            Play::Good => "",
            Play::Unavailable => " (503)",
            Play::Withdrawn => " (invalid_grant)",
            Play::Silent { spends: true } => " (spent)",
            Play::Silent { spends: false } => " (not spent)",
        };
        format!("{step}{play}")
    }
}

pub async fn die(plan: Plan, death: &Death) -> Result<String> {
    // On PostgreSQL another process is there all the time, and takes over.
    let has_replica = plan.args.postgres.is_some() && death.step.is_some();
    let (mut world, server) = World::make(plan, death.step).await?;
    let replica = if has_replica { Some(world.install.beside()?.server().await?) } else { None };
    let past = until_death(&mut world, server, has_replica, death).await?;
    let server = match replica {
        Some(replica) => replica,
        None => world.install.server().await?,
    };
    world.waits();
    let held = recover(&mut world, &server, death, &past).await?;
    let recovered_s = past.died.elapsed().as_secs();
    judge(&mut world, &server, death, &past).await?;
    end(world, server, death, &past).await?;
    let came = match death.ends {
        Ends::Renewed => "works",
        Ends::Broken(reason) => reason,
    };
    let by = if has_replica { "by another process" } else { "restarted" };
    Ok(format!("{came:<17} after {recovered_s:>2} s, {by}; {held} calls held up; {} refresh tokens sent", death.sent))
}

/// What led to a death.
struct Past {
    grant: String,
    /// A moment before the attempt, and how many refresh tokens had been sent by then.
    since: Instant,
    sent: usize,
    died: Instant,
}

/// Connects and asks until the process dies, at its step or by our hand.
async fn until_death(world: &mut World, mut server: Server, has_replica: bool, death: &Death) -> Result<Past> {
    let began = moment();
    loop {
        let (since, sent) = (moment(), world.provider.renewals().len());
        world.provider.plays(Play::Good);
        let grant = world.connect(&server).await?["grant_id"].as_str().unwrap_or_default().to_owned();
        world.provider.plays(death.play);
        match attempt(world, server, death, &grant).await? {
            None => return Ok(Past { grant, since, sent, died: moment() }),
            // The other process came first: once more.
            Some(alive) if has_replica && began.elapsed() < PATIENCE => server = alive,
            Some(_) => return fault("the attempt ended without passing the step"),
        }
    }
}

/// One attempt; the server, if it lives on.
async fn attempt(world: &mut World, server: Server, death: &Death, grant: &str) -> Result<Option<Server>> {
    let (began, stale) = (moment(), world.provider.newest_access());
    while began.elapsed() < PATIENCE {
        let provider = world.provider.clone();
        let asked = tokio::select! {
            asked = world.token(&server, grant) => asked,
            () = until_silent(&provider), if death.step.is_none() => {
                server.kill().await?;
                return Ok(None);
            }
        };
        match (asked, death.step) {
            (Err(_), Some(step)) => return server.died_at(step).await.map(|()| None),
            (Err(error), None) => return Err(error),
            (Ok(answer), _) if answer.status == 403 => return Ok(Some(server)),
            (Ok(answer), _) if answer.status == 200 && answer.text("access_token") != stale => return Ok(Some(server)),
            (Ok(_), _) => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
        }
    }
    fault("no renewal was tried")
}

async fn until_silent(provider: &Provider) {
    while !provider.is_silent() {
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// Asks until the grant works or is over. How many calls were held up by the attempt that died.
async fn recover(world: &mut World, server: &Server, death: &Death, past: &Past) -> Result<u32> {
    // By then the token that was to be renewed has ended, and is no answer any more.
    tokio::time::sleep(Duration::from_secs(SHORT_S).saturating_sub(past.died.elapsed())).await;
    let mut held = 0;
    loop {
        let answer = world.token(server, &past.grant).await?;
        let is_early = death.is_leased && is_leased(past.since);
        match (answer.status, answer.error().as_str(), death.ends) {
            (200, ..) if answer.text("access_token") != world.provider.newest_access() => {
                return fault("a token was released that is not the newest");
            }
            (200, _, Ends::Renewed) | (403, "credential_revoked", Ends::Broken(_)) if !is_early => return Ok(held),
            (_, "token_refresh_in_progress", _) if death.is_leased => held += 1,
            // The pause after an attempt that failed.
            (_, "token_endpoint_failed", _) if death.play == Play::Unavailable && !is_early => {}
            _ => {
                let seconds = past.since.elapsed().as_secs_f64();
                return fault(format!("{seconds:.1} s after the attempt began: {}", answer.shown()));
            }
        }
        still(past.since, "the recovery")?;
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// What was sent, what is told, and what is shown agree.
async fn judge(world: &mut World, server: &Server, death: &Death, past: &Past) -> Result {
    let sent = world.provider.renewals().split_off(past.sent);
    if sent.len() != death.sent {
        return fault(format!("{} refresh tokens were sent, not {}", sent.len(), death.sent));
    }
    let after_death = || sent.iter().filter(|at| **at > past.died);
    if death.is_leased && after_death().any(|at| at.duration_since(past.since) < LEASE) {
        return fault("a refresh token was sent while another attempt had the lease");
    }
    let is_broken = matches!(death.ends, Ends::Broken(_));
    if world.needs_reconnect(server, &past.grant).await? != is_broken {
        return fault("the grant does not show how it stands");
    }
    let events = world.look(server).await?;
    let events = after(&events, "connect.done");
    let expected = [
        ("credential.refreshed", usize::from(!is_broken)),
        ("credential.broken", usize::from(is_broken)),
        ("credential.refresh_failed", usize::from(death.step == Some("refresh.kept"))),
    ];
    for (kind, expected) in expected {
        let found = count(events, kind);
        if found != expected {
            return fault(format!("{found} events of {kind}, not {expected}"));
        }
    }
    let reason = events.iter().find(|event| event["kind"] == "credential.broken").map(|event| &event["reason"]);
    match death.ends {
        Ends::Broken(expected) if reason.is_none_or(|reason| reason != expected) => {
            fault(format!("broken for {reason:?}, not for {expected}"))
        }
        Ends::Broken(_) | Ends::Renewed => Ok(()),
    }
}

/// A grant that works holds the newest pair, whole: its refresh token is what is ended when it is revoked. One that is over works again
/// once its user has connected the account again, and is the same.
async fn end(mut world: World, server: Server, death: &Death, past: &Past) -> Result {
    if matches!(death.ends, Ends::Broken(_)) {
        let again = world.connect(&server).await?;
        if again["grant_id"] != past.grant.as_str() || again["operation"] != "reauth" {
            return fault("connecting again made another grant");
        }
        let answer = world.token(&server, &past.grant).await?;
        if answer.status != 200 || answer.text("access_token") != world.provider.newest_access() {
            return fault(format!("connected again, it gives {}", answer.shown()));
        }
    } else {
        let good = world.provider.good_refresh();
        world.revoke(&server, &past.grant).await?;
        let began = moment();
        while world.provider.ended().is_empty() && began.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        if world.provider.ended().first().map(|(token, _)| token) != good.as_ref() {
            return fault("the refresh token that was kept is not the newest");
        }
    }
    world.look(&server).await?;
    world.end(server).await
}
