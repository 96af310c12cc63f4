//! The certificate that is served: read at the start, and again when its files change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grantd_server::http::{TlsSlot, tls_config};
use grantd_server::meters::Meters;
use grantd_wire::sign::sha256;
use tokio::signal::unix::Signal;
use zeroize::Zeroizing;

use crate::cli::{Exit, Failure, chain};
use crate::config::TlsFiles;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What stands for the content of files that cannot be read.
const UNREADABLE: [u8; 32] = [0; 32];

/// Certificate and key of files, and what of them is served.
pub struct Certificate {
    files: TlsFiles,
    /// Of the files as they were when they were looked at last.
    seen: [u8; 32],
    slot: TlsSlot,
    meters: Arc<Meters>,
}

/// What a look at the files led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    Unchanged,
    Replaced,
    Refused,
}

/// Looks at the files every now and then, and at once on SIGHUP, without end. Without a certificate SIGHUP does nothing, so that a
/// reload never ends the server.
pub async fn watch(mut certificate: Option<Certificate>, mut hangup: Signal) {
    loop {
        tokio::select! {
            _ = hangup.recv() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        certificate.as_mut().map(Certificate::look);
    }
}

type Pair = (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>);

impl Certificate {
    /// Reads the files; what cannot be served ends the start.
    pub fn load(files: &TlsFiles) -> Result<Self, Failure> {
        let pair = read(files)?;
        let config = tls_config(&pair.0, &pair.1).map_err(|e| Failure::from_error(Exit::Error, &e))?;
        let meters = Arc::new(Meters::default());
        meters.serves_certificate(&pair.0);
        Ok(Self { files: files.clone(), seen: digest(&pair), slot: TlsSlot::new(config), meters })
    }

    /// Counts in these meters from now on.
    pub fn counted_in(self, meters: &Arc<Meters>) -> Self {
        meters.serves_certificate_like(&self.meters);
        Self { meters: Arc::clone(meters), ..self }
    }

    /// Where the listener finds what to serve.
    pub fn slot(&self) -> TlsSlot {
        self.slot.clone()
    }

    /// Takes a new pair into use. One that cannot be used is told once, and the old one stays.
    fn look(&mut self) -> Look {
        let (seen, result) = match read(&self.files) {
            Ok(pair) => {
                let config = tls_config(&pair.0, &pair.1).map_err(|e| chain(&e));
                (digest(&pair), config.map(|config| (config, pair.0)))
            }
            Err(e) => (UNREADABLE, Err(e.message)),
        };
        if seen == self.seen {
            return Look::Unchanged;
        }
        self.seen = seen;
        match result {
            Ok((config, certificate)) => {
                self.slot.replace(config);
                self.meters.serves_certificate(&certificate);
                self.meters.reloaded(true);
                tracing::info!("A new certificate is served from now on");
                Look::Replaced
            }
            Err(why) => {
                self.meters.reloaded(false);
                tracing::error!(why, "The new certificate files cannot be used; the old certificate is served on");
                Look::Refused
            }
        }
    }
}

fn read(files: &TlsFiles) -> Result<Pair, Failure> {
    let read = |path: &Path| {
        std::fs::read(path).map(Zeroizing::new).map_err(|e| {
            Failure::local(format!("cannot read {}: {e}", path.display()))
                .hint("tls_cert_file and tls_key_file name PEM files that the user that runs grantd may read.")
        })
    };
    Ok((read(&files.cert)?, read(&files.key)?))
}

fn digest((cert, key): &Pair) -> [u8; 32] {
    sha256(&[sha256(cert), sha256(key)].concat())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Self-signed for `localhost`, 2020 to 2120. Its key is public: for these tests only.
    const CERT: &str = include_str!("tls/test-cert.pem");
    const KEY: &str = include_str!("tls/test-key.pem");

    #[test]
    fn new_files_are_taken_up_and_broken_ones_are_told_once() {
        let directory = std::env::temp_dir().join(format!("grantd-tls-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = |name: &str, text: &str| {
            let path: PathBuf = directory.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = TlsFiles { cert: file("cert.pem", CERT), key: file("key.pem", KEY) };
        let mut certificate = Certificate::load(&files).unwrap_or_else(|e| panic!("{}", e.message));
        assert_eq!(certificate.look(), Look::Unchanged);
        file("cert.pem", "nonsense");
        assert_eq!(certificate.look(), Look::Refused);
        assert_eq!(certificate.look(), Look::Unchanged, "told once");
        std::fs::remove_file(&files.key).unwrap();
        assert_eq!(certificate.look(), Look::Refused);
        assert_eq!(certificate.look(), Look::Unchanged);
        file("key.pem", KEY);
        file("cert.pem", &format!("{CERT}\n"));
        assert_eq!(certificate.look(), Look::Replaced);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn files_that_cannot_be_served_end_the_start() {
        let files = TlsFiles { cert: "/nowhere/cert.pem".into(), key: "/nowhere/key.pem".into() };
        let error = Certificate::load(&files).err().unwrap();
        assert!(error.message.contains("/nowhere/cert.pem"), "{}", error.message);
    }
}
