//! Logins that were saved: for each server a personal access token, in one file that nobody but its owner may read.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use super::failure::{Failure, READABLE, WRITABLE};
use crate::boot::write_over;
use crate::env::Env;

/// The file, whether it is there or not.
pub struct Logins {
    path: PathBuf,
}

/// What it holds. No `Debug`: these are tokens.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// By the server's URL.
    #[serde(default)]
    servers: BTreeMap<String, Login>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: Zeroizing<String>,
}

impl Logins {
    /// Where the user's configuration is: `XDG_CONFIG_HOME`, else `~/.config`. `None`: neither is known.
    pub fn of(env: &Env) -> Option<Self> {
        // XDG Base Directory Specification: a path that is not absolute does not count.
        let configured = env.find_filled("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || env.find_filled("HOME").map(|home| Path::new(home).join(".config"));
        Some(Self { path: configured.or_else(home)?.join("grantd").join("auth.toml") })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The token for a server.
    pub fn find(&self, server: &Url) -> Result<Option<Zeroizing<String>>, Failure> {
        Ok(self.read()?.servers.remove(server.as_str()).map(|login| login.token))
    }

    /// Every server there is a token for.
    pub fn servers(&self) -> Result<Vec<String>, Failure> {
        Ok(self.read()?.servers.into_keys().collect())
    }

    /// Saves the token for a server, in the place of an earlier one.
    pub fn save(&self, server: &Url, token: &Zeroizing<String>) -> Result<(), Failure> {
        let mut content = self.read()?;
        content.servers.insert(server.as_str().to_owned(), Login { token: token.clone() });
        self.write(&content)
    }

    /// Forgets the token for a server; `false` when there was none.
    pub fn forget(&self, server: &Url) -> Result<bool, Failure> {
        let mut content = self.read()?;
        let was_there = content.servers.remove(server.as_str()).is_some();
        if was_there {
            self.write(&content)?;
        }
        Ok(was_there)
    }

    fn read(&self) -> Result<Content, Failure> {
        let shown = self.path.display();
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Content::default());
            }
            Err(error) => return Err(Failure::local(format!("cannot read {shown}: {error}")).hint(READABLE)),
        };
        self.check_mode()?;
        // The parser's own words would repeat what the line holds.
        toml::from_str(&text).map_err(|_| {
            Failure::local(format!("{shown} is not what `grantd auth login` writes"))
                .hint("Remove it, and sign in again with `grantd auth login`.")
        })
    }

    #[cfg(unix)]
    fn check_mode(&self) -> Result<(), Failure> {
        use std::os::unix::fs::PermissionsExt as _;
        let shown = self.path.display();
        let metadata = std::fs::metadata(&self.path)
            .map_err(|e| Failure::local(format!("cannot read {shown}: {e}")).hint(READABLE))?;
        let of_others = metadata.permissions().mode() & 0o077;
        if of_others == 0 {
            return Ok(());
        }
        Err(Failure::local(format!("{shown} can be read by others, and it holds tokens"))
            .hint(format!("Close it with `chmod 600 {shown}`; if others are on this machine, revoke its tokens.")))
    }

    #[cfg(not(unix))]
    fn check_mode(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn write(&self, content: &Content) -> Result<(), Failure> {
        let cannot = |error: std::io::Error| {
            Failure::local(format!("cannot write {}: {error}", self.path.display())).hint(WRITABLE)
        };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(self.path.parent().expect("it is in a directory")).map_err(cannot)?;
        let text = Zeroizing::new(toml::to_string(content).expect("a table of texts is TOML"));
        write_over(&self.path, text.as_bytes()).map_err(cannot)
    }
}
