//! `grantd dev`, for verbs that need a vault with something in it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::Result;

/// Until it is dropped.
pub struct Dev(Child);

impl Dev {
    /// Starts it in memory of its own, and reads the line that says how to call it.
    pub fn start(mut grantd: Command) -> Result<(Self, Value)> {
        grantd.args(["dev", "--ephemeral", "--listen", "127.0.0.1:0", "--log", "error", "--output", "json"]);
        let mut dev = Self(grantd.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
        let stdout = dev.0.stdout.take().ok_or("no output of grantd dev")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ready = serde_json::from_str(&line).map_err(|_| "grantd dev did not start: run it by hand to see why")?;
        Ok((dev, ready))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // As Ctrl-C would: it then takes its throwaway directory away.
        let told = Command::new("sh").args(["-c", "kill -s INT \"$0\"", &self.0.id().to_string()]).status();
        if !told.is_ok_and(|status| status.success()) {
            drop(self.0.kill());
        }
        drop(self.0.wait());
    }
}
