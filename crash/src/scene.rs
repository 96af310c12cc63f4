//! An install with an app, a key and a load: what every story here begins with.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::client::ApiKey;
use super::database::Database;
use super::install::{Install, Program, Server, expect};
use super::load::{Identity, Load};
use super::look::look;
use super::model::{Counts, Model};
use super::random::Random;
use super::{Result, fault, locked};

pub struct Scene {
    pub install: Install,
    pub api_key: String,
    pub signer: ApiKey,
    pub model: Arc<Mutex<Model>>,
    pub random: Random,
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
        let signer = ApiKey::new(&api_key);
        let model = Arc::new(Mutex::new(Model::default()));
        let scene = Self { install, api_key, signer, model, random, looks: 0, before: None };
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
        let model = locked(&self.model);
        model.calls.iter().filter(|call| call.answer.as_ref().is_some_and(|answer| answer.status == 200)).count()
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
}
