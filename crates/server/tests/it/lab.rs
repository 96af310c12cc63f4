//! Every provider of the catalogue, played by the lab as its entry says, from the link to consent to the end of its tokens: registered by the
//! API, connected in a browser, asked for by the official client's calls, renewed, refused, lost, and revoked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use grantd_domain::destination::OutboundAllow;
use grantd_domain::provider::{self, Behaviour, Provider, RefreshKind};
use grantd_server::jobs::oauth as jobs;
use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::lab::{Act, CLIENT_ID, CLIENT_SECRET, GIVEN, Lab, Life, account_of, pinned_host};
use crate::harness::world::text;
use crate::harness::{Answer, Server, World};

in_memory! {
    the_first_part_of_the_catalogue_is_played,
    the_second_part_of_the_catalogue_is_played,
    the_third_part_of_the_catalogue_is_played,
    the_last_part_of_the_catalogue_is_played,
    an_endpoint_that_fails_for_now_keeps_every_account,
}

/// Parts of the catalogue, which are played side by side.
const PARTS: usize = 4;
/// One provider takes less than a second; what waits longer than this waits for what will not come.
const PLAY_TIME_MAX: Duration = Duration::from_mins(1);
const DAY_MS: i64 = 24 * 3_600_000;
/// Longer than any pause after one attempt that failed.
const PAUSE_MS: i64 = 6 * 60_000;
/// Longer than the pause after the first, and shorter than any grace.
const SHORT_PAUSE_MS: i64 = 2_000;

/// A provider in play, in one of its environments.
struct Play {
    server: Server,
    world: World,
    lab: Lab,
    id: &'static str,
    /// As the app is registered with it.
    facts: Provider,
    /// As its entry names them.
    behaviours: BTreeSet<Behaviour>,
    redirect_uri: String,
    url: String,
}

async fn the_first_part_of_the_catalogue_is_played(server: Server) {
    part(server, 0).await;
}

async fn the_second_part_of_the_catalogue_is_played(server: Server) {
    part(server, 1).await;
}

async fn the_third_part_of_the_catalogue_is_played(server: Server) {
    part(server, 2).await;
}

async fn the_last_part_of_the_catalogue_is_played(server: Server) {
    part(server, PARTS - 1).await;
}

/// In its usual installation and in every other.
fn environments(entry: &'static Provider) -> impl Iterator<Item = Option<&'static str>> {
    std::iter::once(None).chain(entry.environments.keys().map(|id| Some(id.as_str())))
}

async fn part(server: Server, part: usize) {
    let (reaching, lab) = reaching(&server).await;
    let mut failed = Vec::new();
    for entry in provider::all().iter().skip(part).step_by(PARTS) {
        for environment in environments(entry) {
            let name = format!("{} {}", entry.id, environment.unwrap_or("usual"));
            let world = reaching.world_named(&name).await;
            let play = Play::registered(&reaching, &world, &lab, entry, environment).await;
            let named = play.behaviours.clone();
            // A task of its own, so that one that fails does not hide the others.
            let ended =
                tokio::spawn(tokio::time::timeout(PLAY_TIME_MAX, async move { Box::pin(play.run()).await })).await;
            let (seen, wrong) = (lab.seen(), lab.wrong());
            lab.ends();
            let unseen: Vec<_> = named.symmetric_difference(&seen).collect();
            if !matches!(ended, Ok(Ok(()))) || !wrong.is_empty() || !unseen.is_empty() {
                let how = ended.map_or("panicked", |ended| if ended.is_ok() { "ended" } else { "hung" });
                failed.push(format!(
                    "{name} {how}: calls {wrong:?}; seen and not named, or named and not seen: {unseen:?}"
                ));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

async fn reaching(server: &Server) -> (Server, Lab) {
    let lab = Lab::start(Arc::clone(&server.env)).await;
    let allow = OutboundAllow::parse(&["127.0.0.0/8"]).unwrap();
    let reaching = server.another_through("reaching", lab.outbound(), |settings| settings.outbound = allow).await;
    (reaching, lab)
}

impl Play {
    async fn registered(
        server: &Server,
        world: &World,
        lab: &Lab,
        entry: &'static Provider,
        environment: Option<&str>,
    ) -> Self {
        let here = environment.map_or_else(|| entry.clone(), |id| entry.in_environment(id).unwrap());
        // In another environment, what need not be said is not.
        let said = here.fields.iter().filter(|field| field.required || environment.is_none());
        let fields = said.map(|field| (field.name.clone(), GIVEN.to_owned())).collect();
        let facts = here.with_fields(&fields).unwrap();
        let mut behaviours: BTreeSet<Behaviour> = here.behaviours().into_iter().collect();
        if fields.is_empty() {
            behaviours.remove(&Behaviour::FieldInUrl);
        }
        // One more than the default, so that it is seen what stands between them.
        let scopes: Vec<&str> = match here.scopes.default.is_empty() {
            true => Vec::new(),
            false => here.scopes.default.iter().map(String::as_str).chain(["lab.more"]).collect(),
        };
        let body = json!({
            "provider": entry.id, "environment": environment, "fields": fields, "scopes": scopes,
            "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
        });
        let made = server.api("POST", &world.path("providers"), body).await.ok(201);
        assert_eq!(made["fields"], json!(fields));
        let ours = text(&made, "redirect_uri");
        let redirect_uri = if here.authorize.redirect_uri.is_some() { GIVEN.to_owned() } else { ours };
        let host = pinned_host(&facts).unwrap_or_else(|| facts.hosts.allow[0].clone());
        let (server, world, lab) = (server.clone(), world.clone(), lab.clone());
        let url = format!("https://{host}/things");
        Self { server, world, lab, id: &entry.id, facts, behaviours, redirect_uri, url }
    }

    fn is(&self, behaviour: Behaviour) -> bool {
        self.behaviours.contains(&behaviour)
    }

    async fn run(&self) {
        if self.is(Behaviour::NeverExpires) {
            self.a_token_without_an_end().await;
        }
        if self.is(Behaviour::RefreshMinimumAge) {
            self.a_young_token_is_left_alone().await;
        }
        match self.facts.refresh.kind {
            RefreshKind::None => {
                if !self.is(Behaviour::NeverExpires) {
                    self.a_token_that_nobody_renews().await;
                }
            }
            _ => {
                self.a_token_is_renewed().await;
                self.an_answer_is_lost().await;
            }
        }
        self.tokens_are_ended().await;
    }

    /// What the answer to a code says, where it can be renewed.
    fn life(&self) -> Life {
        // The token that comes of a second exchange says how long it lives, as those do that nobody knows it of.
        let is_unsaid = self.is(Behaviour::MissingExpiresIn)
            || self.is(Behaviour::KnownLifetime) && !self.is(Behaviour::SecondExchange);
        if is_unsaid { Life::Unsaid } else { Life::Said(self.said_s()) }
    }

    fn said_s(&self) -> i64 {
        i64::from(self.facts.refresh.min_age_s.unwrap_or(1_800)) * 2
    }

    /// What is known of it then, in seconds.
    fn expected_s(&self, life: Life) -> Option<i64> {
        match life {
            Life::Said(seconds) => Some(seconds),
            Life::Unsaid => self.facts.token.lifetime_s.map(i64::from),
            Life::Endless => None,
        }
    }

    /// Connects the account from beginning to end; the grant.
    async fn connects(&self, life: Life) -> String {
        let Self { server, world, lab, .. } = self;
        lab.plays(&self.facts, &self.redirect_uri, life);
        let body =
            json!({"allowed_providers": [self.id], "return_url": null, "allowed_origin": null, "metadata": null});
        let session = server.send(server.sign(&world.key).post("/sdk/oauth/connect/session", &body)).await.ok(201);
        let mut browser = Browser::default();
        let page = browser.open(server, &session).await;
        let link = browser.link(server, &page, self.id).await;
        let params = lab.consent(&link);
        let back: Vec<(&str, &str)> = params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let back = browser.back(server, &back).await;
        let body = json!({"session_token": session["session_token"]});
        let polled = server.send(server.sign(&world.key).post("/sdk/oauth/connect/session/poll", &body)).await.ok(200);
        assert_eq!(polled["status"], "completed", "{}: {polled} {:?} {}", self.id, lab.wrong(), back.text);
        let grant = &polled["grants"][0];
        assert_eq!(text(grant, "account_identifier"), account_of(&self.facts), "{}", self.id);
        let host = pinned_host(&self.facts).map(|host| format!("https://{host}"));
        assert_eq!(grant["api_base_url"], json!(host), "{}", self.id);
        for behaviour in [
            Behaviour::AccountInTokenAnswer,
            Behaviour::AccountInIdToken,
            Behaviour::AccountInCallback,
            Behaviour::AccountOfParts,
            Behaviour::InstanceUrl,
        ] {
            self.saw_if_it_is(behaviour);
        }
        text(grant, "grant_id")
    }

    /// The test's own side of a behaviour held.
    fn saw_if_it_is(&self, behaviour: Behaviour) {
        if self.is(behaviour) {
            self.lab.saw(behaviour);
        }
    }

    async fn ask(&self, grant: &str) -> Answer {
        let body = json!({"grant_id": grant, "request": {"method": "GET", "url": self.url}, "reason": null});
        self.server.send(self.server.sign(&self.world.key).post("/sdk/token", &body)).await
    }

    /// A token that is good at the provider, and what is said of its end.
    async fn gets(&self, grant: &str, expected_s: Option<i64>) -> Value {
        let token = self.ask(grant).await.ok(200);
        assert_eq!(text(&token, "access_token"), self.lab.access(), "{}", self.id);
        assert_eq!(token["expires_in"], json!(expected_s), "{}", self.id);
        let injection = &self.facts.injection;
        assert_eq!(text(&token, "injection_header"), injection.header);
        assert_eq!(text(&token, "injection_format"), injection.format);
        self.saw_if_it_is(Behaviour::OwnHeader);
        for (name, value) in &injection.further {
            let sent =
                token["additional_injections"].as_array().unwrap().iter().find(|sent| sent["key"] == json!(name));
            let source = text(sent.unwrap(), "value_source");
            let field = source.strip_prefix("additional_credentials.").unwrap();
            assert_eq!(text(&token["additional_credentials"], field), value.replace("{client_id}", CLIENT_ID));
            self.lab.saw(Behaviour::ApiHeaders);
        }
        token
    }

    async fn a_token_without_an_end(&self) {
        let grant = self.connects(Life::Endless).await;
        self.gets(&grant, None).await;
        self.server.advance_ms(400 * DAY_MS);
        let token = self.gets(&grant, None).await;
        self.lab.saw(Behaviour::NeverExpires);
        self.refused(&grant, &token).await;
        assert_eq!(self.lab.renewals(), 0, "{}: there is nothing to renew it with", self.id);
        self.saw_if_it_is(Behaviour::NoRefresh);
    }

    async fn a_young_token_is_left_alone(&self) {
        let age_s = i64::from(self.facts.refresh.min_age_s.unwrap());
        let grant = self.connects(Life::Said(age_s / 2)).await;
        self.server.advance_ms((age_s / 2 - 60) * 1000);
        self.gets(&grant, Some(60)).await;
        jobs::renew_due(&self.server.vault).await.unwrap();
        assert_eq!(self.lab.renewals(), 0, "{}: it is too young", self.id);
        self.lab.saw(Behaviour::RefreshMinimumAge);
    }

    async fn a_token_that_nobody_renews(&self) {
        let grant = self.connects(self.life()).await;
        let token = self.gets(&grant, self.expected_s(self.life())).await;
        self.saw_if_it_is(Behaviour::MissingExpiresIn);
        self.refused(&grant, &token).await;
        self.gets(&grant, self.expected_s(self.life())).await;
        assert_eq!(self.lab.renewals(), 0, "{}: there is nothing to renew it with", self.id);
        self.lab.saw(Behaviour::NoRefresh);
    }

    /// The client says that the provider refused the token.
    async fn refused(&self, grant: &str, token: &Value) {
        let report = json!({"grant_id": grant, "provider_id": self.id, "token_generation": token["token_generation"],
            "method": "GET", "url": self.url, "response_status": 401, "latency_ms": 1, "reason": null, "context": null});
        let raw = self.server.sign(&self.world.key).post("/sdk/oauth/audit/api-call", &report);
        self.server.send(raw).await.ok(200);
    }

    async fn told(&self, kind: &str) -> usize {
        self.server.told(&self.world, kind).await.len()
    }

    /// Asks until there is one more event of this kind than there were: one question may join an attempt that has just ended. How long it
    /// may take is bounded for the whole play.
    async fn asks_until(&self, grant: &str, kind: &str, before: usize) {
        while self.told(kind).await == before {
            self.ask(grant).await;
        }
    }

    /// Makes it have to be renewed: its time comes, or the provider refuses it.
    async fn has_ended(&self, grant: &str, life_s: Option<i64>) {
        match life_s {
            Some(seconds) => self.server.advance_ms(seconds * 1000),
            None => {
                let token = self.ask(grant).await.ok(200);
                self.refused(grant, &token).await;
            }
        }
    }

    /// What a renewed token says of its life.
    fn renewed_s(&self) -> Option<i64> {
        match self.facts.refresh.kind {
            RefreshKind::Exchange => Some(5_184_000),
            _ if self.is(Behaviour::MissingExpiresIn) => None,
            _ => Some(7_200),
        }
    }

    async fn a_token_is_renewed(&self) {
        let life = self.life();
        let grant = self.connects(life).await;
        let first = self.gets(&grant, self.expected_s(life)).await;
        if life == Life::Unsaid {
            self.saw_if_it_is(Behaviour::KnownLifetime);
            self.saw_if_it_is(Behaviour::MissingExpiresIn);
        } else if self.is(Behaviour::KnownLifetime) {
            self.a_first_token_lives_as_long_as_is_known().await;
        }
        // It fails for now: the pair stays, and the next attempt is good.
        self.lab.act(Act::Fail);
        let (failed, renewed) = (self.told("credential.refresh_failed").await, self.told("credential.refreshed").await);
        self.has_ended(&grant, self.expected_s(life)).await;
        if self.expected_s(life).is_some() {
            self.ask(&grant).await.refused(Code::TokenEndpointFailed);
        }
        self.asks_until(&grant, "credential.refresh_failed", failed).await;
        self.server.advance_ms(PAUSE_MS);
        // One that has not ended is handed out while a new one is asked for.
        self.ask(&grant).await.ok(200);
        self.asks_until(&grant, "credential.refreshed", renewed).await;
        let second = self.gets(&grant, self.renewed_s()).await;
        assert_ne!(first["access_token"], second["access_token"]);
        self.saw_if_it_is(Behaviour::ExpiresAt);
    }

    /// Where it is exchanged at once, what the first answer leaves out is known and does not matter: only the second counts.
    async fn a_first_token_lives_as_long_as_is_known(&self) {
        assert!(self.is(Behaviour::SecondExchange), "{}", self.id);
        let grant = self.connects(Life::Unsaid).await;
        self.gets(&grant, self.facts.token.lifetime_s.map(i64::from)).await;
        self.lab.saw(Behaviour::KnownLifetime);
        self.connects(self.life()).await;
    }

    async fn an_answer_is_lost(&self) {
        let life = self.life();
        let grant = self.connects(life).await;
        let (failed, renewed, broken) = (
            self.told("credential.refresh_failed").await,
            self.told("credential.refreshed").await,
            self.told("credential.broken").await,
        );
        self.lab.act(Act::Lose);
        self.has_ended(&grant, self.expected_s(life)).await;
        if self.expected_s(life).is_some() {
            self.ask(&grant).await.refused(Code::TokenEndpointFailed);
        }
        self.asks_until(&grant, "credential.refresh_failed", failed).await;
        self.server.advance_ms(SHORT_PAUSE_MS);
        let is_strict = self.is(Behaviour::RotatesStrict) || self.is(Behaviour::MayRotate);
        if is_strict {
            self.asks_until(&grant, "credential.broken", broken).await;
            self.ask(&grant).await.refused(Code::CredentialRevoked);
            let told = self.server.told(&self.world, "credential.broken").await;
            assert_eq!(told.last().unwrap()["reason"], "rotation_unknown", "{}", self.id);
            self.saw_if_it_is(Behaviour::RotatesStrict);
            self.saw_if_it_is(Behaviour::MayRotate);
        } else {
            self.asks_until(&grant, "credential.refreshed", renewed).await;
            self.gets(&grant, self.renewed_s()).await;
        }
    }

    async fn tokens_are_ended(&self) {
        let life = if self.is(Behaviour::NeverExpires) { Life::Endless } else { self.life() };
        let grant = self.connects(life).await;
        if self.is(Behaviour::RevocationEndsGrant) {
            // The account is connected anew before its old tokens were ended: that would end the new ones, too.
            self.server.revoke(&self.world, &grant).await.ok(200);
            let again = self.connects(life).await;
            jobs::end_revoked(&self.server.vault).await.unwrap();
            assert_eq!(self.lab.revocations(), 0, "{}", self.id);
            self.gets(&again, self.expected_s(life)).await;
            self.lab.saw(Behaviour::RevocationEndsGrant);
            return Box::pin(self.ends(&again)).await;
        }
        self.ends(&grant).await;
    }

    async fn ends(&self, grant: &str) {
        let revoked = self.server.revoke(&self.world, grant).await.ok(200);
        let is_supported = self.facts.revoke.is_some();
        jobs::end_revoked(&self.server.vault).await.unwrap();
        let stands = self.server.revoke(&self.world, grant).await.ok(200);
        let expected = if is_supported { "yes" } else { "unsupported" };
        assert_eq!(stands["revoked_upstream"], expected, "{}: {revoked}", self.id);
        assert_eq!(self.lab.revocations(), usize::from(is_supported), "{}", self.id);
        self.saw_if_it_is(Behaviour::NoRevocation);
        self.ask(grant).await.refused(Code::GrantRevoked);
    }
}

/// What a token endpoint may do instead of answering, each without having renewed anything.
const FAILURES: [Act; 11] = [
    Act::Fail,
    Act::Say(500, "text/plain", ""),
    Act::Say(503, "text/html", "<html><body>Down for maintenance</body></html>"),
    Act::Say(429, "application/json", r#"{"error":"rate_limited","retry_after":30}"#),
    Act::Say(408, "application/json", r#"{"error":"invalid_grant"}"#),
    Act::Say(302, "text/html", ""),
    Act::Say(200, "text/html", "<!doctype html><title>Sign in</title>"),
    Act::Say(200, "application/json", "{\"access_token\":\u{1}garbage"),
    Act::Say(200, "application/json", r#"{"token_type":"Bearer","expires_in":3600}"#),
    Act::Say(200, "application/json", ""),
    Act::CutOff,
];

async fn an_endpoint_that_fails_for_now_keeps_every_account(server: Server) {
    let (reaching, lab) = reaching(&server).await;
    // One that spends its refresh tokens, one whose failures are 200, one that exchanges the access token itself.
    for (id, kind) in
        [("airtable", RefreshKind::Rotates), ("slack", RefreshKind::Rotates), ("instagram", RefreshKind::Exchange)]
    {
        let entry = provider::find(id).unwrap();
        assert_eq!(entry.refresh.kind, kind, "{id}");
        let world = reaching.world_named(id).await;
        let play = Play::registered(&reaching, &world, &lab, entry, None).await;
        let grant = play.connects(Life::Said(play.said_s())).await;
        let mut life_s = play.said_s();
        let hangs = (id == "airtable").then_some(Act::Hang);
        for act in FAILURES.into_iter().chain(hangs) {
            let (failed, renewed) =
                (play.told("credential.refresh_failed").await, play.told("credential.refreshed").await);
            lab.act(act);
            play.server.advance_ms(life_s * 1000);
            let refused = play.ask(&grant).await;
            // Who waited for an endpoint that hangs may be told so before its call was given up.
            let codes = [Code::TokenEndpointFailed.as_str(), Code::TokenRefreshInProgress.as_str()];
            let known = if act == Act::Hang { &codes[..] } else { &codes[..1] };
            assert!(known.contains(&refused.code().as_str()), "{id}: {act:?}: {}", refused.text);
            play.asks_until(&grant, "credential.refresh_failed", failed).await;
            play.server.advance_ms(PAUSE_MS);
            play.asks_until(&grant, "credential.refreshed", renewed).await;
            play.gets(&grant, play.renewed_s()).await;
            life_s = play.renewed_s().unwrap();
        }
        assert_eq!((play.told("credential.broken").await, lab.wrong()), (0, Vec::new()), "{id}");
        lab.ends();
    }
}
