//! An install with an app, a key and a load: what every story here begins with.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::client::{Answer, ApiKey, Connection};
use super::database::Database;
use super::install::{Install, Program, Server, expect};
use super::load::{Identity, Load};
use super::look::look;
use super::model::{Counts, Fate, Model};
use super::random::Random;
use super::{Result, epoch_seconds, fault, locked, now};

/// How long something may take that is bound to happen, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks at whether it happened.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

pub struct Scene {
    pub install: Install,
    pub api_key: String,
    pub signer: ApiKey,
    pub model: Arc<Mutex<Model>>,
    pub random: Random,
    /// A grant that is never revoked.
    pub grant: String,
    looks: u32,
    before: Option<PathBuf>,
}

impl Scene {
    /// Makes it, and leaves its server running.
    pub async fn make(
        program: Program,
        directory: PathBuf,
        database: Option<Database>,
        crash_at: Option<&str>,
        random: Random,
    ) -> Result<(Self, Server)> {
        let mut install = Install::make(program, directory, database, crash_at).await?;
        let server = install.server().await?;
        install.make_app(&server).await?;
        let answer = install.ask(&server, "POST", &install.path("/keys"), Some(&json!({"name": "load"}))).await?;
        let api_key = expect(&answer, 201)?["api_key"].as_str().unwrap_or_default().to_owned();
        let secret = json!({"name": "kept", "value": "kept-value", "allowed_hosts": ["api.example.com"]});
        let answer = install.ask(&server, "POST", &install.path("/managed-secrets"), Some(&secret)).await?;
        let grant = expect(&answer, 201)?["grant_id"].as_str().unwrap_or_default().to_owned();
        let signer = ApiKey::new(&api_key);
        let model = Arc::new(Mutex::new(Model::default()));
        let scene = Self { install, api_key, signer, model, random, grant, looks: 0, before: None };
        Ok((scene, server))
    }

    pub fn load(&mut self, server: &Server) -> Load {
        let identity = Identity {
            address: server.address,
            token: self.install.token.clone(),
            app_id: self.install.app_id.clone(),
            api_key: self.api_key.clone(),
        };
        Load::start(&identity, &self.model, &mut self.random)
    }

    /// Releases that were answered since the last look.
    pub fn releases(&self) -> usize {
        locked(&self.model).releases
    }

    /// What a worker of the load saw that must not be.
    pub fn check_load(&self) -> Result {
        match std::mem::take(&mut locked(&self.model).problems).first() {
            Some(problem) => fault(problem.clone()),
            None => Ok(()),
        }
    }

    /// Looks at everything; the past of the look before must still hold.
    pub async fn look(&mut self, server: &Server) -> Result<Counts> {
        let out = self.install.directory.join(format!("export-{}.jsonl", self.looks));
        let files = (out.as_path(), self.before.as_deref());
        let counts = look(&self.install, server, &self.model, &self.signer, &mut self.random, files).await?;
        self.looks += 1;
        self.before = Some(out);
        Ok(counts)
    }

    /// The bytes of a call for the credential that is kept, signed at this time.
    pub fn token_request(&mut self, signed_at_s: u64) -> (String, Vec<u8>) {
        let run = format!("single-{}", locked(&self.model).number());
        let body = json!({"grant_id": self.grant, "request": {"method": "GET", "url": "https://api.example.com/one"}});
        let raw = self.signer.request("/sdk/token", &body, self.random.bytes(), signed_at_s, &run);
        (run, raw)
    }

    /// One call for the credential that is kept. Its fate is noted where the answer says it, and open where it is unavailable.
    pub async fn token(&mut self, server: &Server) -> Result<Answer> {
        let (run, raw) = self.token_request(epoch_seconds());
        locked(&self.model).fates.insert(run.clone(), Fate::Open);
        let answer = Connection::open(server.address).await?.send(&raw).await?;
        if answer.status == 200 {
            self.note_released(run, &answer);
        }
        Ok(answer)
    }

    /// From now on this release must be in the past, once.
    pub fn note_released(&self, run: String, answer: &Answer) {
        let event_id = answer.header("x-grantd-event-id").map(str::to_owned);
        locked(&self.model).fates.insert(run, Fate::Once { kind: "token.released", event_id });
    }

    /// Asks until a call is answered like this; connections that are refused or cut are answers of another kind.
    pub async fn until_token(
        &mut self,
        server: &Server,
        what: &str,
        is_it: impl Fn(&Answer) -> bool,
    ) -> Result<Answer> {
        let mut last = String::from("nothing");
        let started = now();
        while started.elapsed() < PATIENCE {
            match self.token(server).await {
                Ok(answer) if is_it(&answer) => return Ok(answer),
                Ok(answer) => last = answer.shown(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        fault(format!("{what} did not come; the last answer was: {last}"))
    }
}

/// Waits until it is so, while the server lives.
pub async fn until_alive(what: &str, server: &mut Server, mut is_so: impl FnMut() -> bool) -> Result {
    let mut ended = None;
    until(what, || {
        ended = server.child.try_wait().ok().flatten();
        ended.is_some() || is_so()
    })
    .await?;
    match ended {
        Some(status) => fault(format!("{what}: the server ended with {status}")),
        None => Ok(()),
    }
}

/// Waits until it is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result {
    let started = now();
    while !is_so() {
        if started.elapsed() > PATIENCE {
            return fault(format!("{what} did not happen"));
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    Ok(())
}
