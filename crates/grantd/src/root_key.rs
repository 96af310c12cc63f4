//! The root key: 32 bytes from the environment or a file.
//!
//! Invariants: a key is created only on purpose, never over another and never beside a database; a key others can read or
//! replace is refused.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use grantd_domain::env::Entropy;
use grantd_store::crash;
use zeroize::Zeroizing;

use crate::boot;
use crate::config::KeySource;
use crate::env::Env;

/// The key itself; wiped when dropped.
pub type RootKey = Zeroizing<[u8; 32]>;

/// A file that is longer than this is not a key.
const FILE_BYTES_MAX: u64 = 256;

/// Whether the database the key belongs to exists already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Database {
    Absent,
    Present,
}

/// Why there is no root key. No text holds a byte of a key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    #[error("the root key variable {0} is not set: set it to the key this database was made with")]
    NoVariable(String),
    #[error(
        "there is no root key file {}: put the key of this database there, name another with root_key, or run \
         `grantd init` if there is no database yet", .0.display()
    )]
    NoFile(PathBuf),
    #[error("cannot read the root key file {}: give it to the user that runs grantd", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the root key file {} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    #[error("the root key file {} can be read or changed by others (mode {mode:03o}): run `chmod 600 {}`", path.display(), path.display())]
    OpenToOthers { path: PathBuf, mode: u32 },
    #[error(
        "the root key file {} is in a directory that anybody may write to ({}): move it, or run `chmod o-w {}`",
        path.display(), directory.display(), directory.display()
    )]
    WritableDirectory { path: PathBuf, directory: PathBuf },
    #[error("{place} is no root key: it must be 32 bytes as 64 hex digits, as base64, or raw; it is {what}")]
    Malformed { place: String, what: String },
    #[error(
        "there is a database already, and a new root key cannot open it: put its key at {0}, or restore the key \
         from where you keep it"
    )]
    BesideDatabase(KeySource),
    #[error("there is a root key file {} already: it is left as it is", .0.display())]
    Exists(PathBuf),
    #[error("set {0} to a new key, such as the output of `openssl rand -hex 32`")]
    CannotCreateVariable(String),
    #[error("cannot create the root key file {}", path.display())]
    Uncreatable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Loads the key that `source` names.
pub fn load(source: &KeySource, env: &Env) -> Result<RootKey, RootKeyError> {
    match source {
        KeySource::Env(name) => {
            let text = env.find_filled(name).ok_or_else(|| RootKeyError::NoVariable(name.clone()))?;
            decode(text.as_bytes()).map_err(|what| RootKeyError::Malformed { place: format!("variable {name}"), what })
        }
        KeySource::File(path) => load_file(path, refused_bits(path, env)),
    }
}

/// Rights of others: none of them, but for a file that systemd handed to this service alone. That one belongs to root, and the
/// right that lets the service read it shows where the group's is.
fn refused_bits(path: &Path, env: &Env) -> u32 {
    let is_handed = env.find_filled("CREDENTIALS_DIRECTORY").is_some_and(|d| path.parent() == Some(Path::new(d)));
    if is_handed { 0o037 } else { 0o077 }
}

/// Creates a key where `source` says. Only `init` and `dev` call this.
pub fn create(
    source: &KeySource,
    database: Database,
    env: &Env,
    entropy: &dyn Entropy,
) -> Result<RootKey, RootKeyError> {
    if database == Database::Present {
        return Err(RootKeyError::BesideDatabase(source.clone()));
    }
    let path = match source {
        KeySource::File(path) => path,
        // Whoever keeps keys outside made one already.
        KeySource::Env(name) if env.find_filled(name).is_none() => {
            return Err(RootKeyError::CannotCreateVariable(name.clone()));
        }
        KeySource::Env(_) => return load(source, env),
    };
    let mut key = Zeroizing::new([0; 32]);
    entropy.fill(&mut *key);
    write_file(path, &key)?;
    let read_back = load_file(path, 0o077)?;
    assert!(read_back == key, "the key file holds the key");
    Ok(key)
}

fn write_file(path: &Path, key: &RootKey) -> Result<(), RootKeyError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => RootKeyError::Exists(path.to_owned()),
        _ => RootKeyError::Uncreatable { path: path.to_owned(), source },
    };
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in key.iter() {
        text.push(char::from_digit(u32::from(byte >> 4), 16).expect("four bits are a digit"));
        text.push(char::from_digit(u32::from(byte & 15), 16).expect("four bits are a digit"));
    }
    text.push('\n');
    if path.exists() {
        return Err(RootKeyError::Exists(path.to_owned()));
    }
    // Half a key would stand in the way of the next attempt, so it gets its name when it is whole.
    let beside = boot::write_beside(path, text.as_bytes()).map_err(failed)?;
    crash::step("init.root_key_written");
    let moved = move_unless_there(&beside, path).and_then(|()| boot::sync_directory_of(path));
    if moved.is_err() {
        // The error that counts is the first one.
        let _ = std::fs::remove_file(&beside);
    }
    moved.map_err(failed)
}

/// Gives the file its name, in one step and never over another.
fn move_unless_there(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // A file system that cannot, such as NFS.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            moved => return Ok(moved?),
        }
    }
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

fn load_file(path: &Path, refused_bits: u32) -> Result<RootKey, RootKeyError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => RootKeyError::NoFile(path.to_owned()),
        _ => RootKeyError::Unreadable { path: path.to_owned(), source },
    };
    check_kind(path, &std::fs::metadata(path).map_err(unreadable)?)?;
    let file = File::open(path).map_err(unreadable)?;
    // Of the opened file, which nobody can exchange any more.
    let metadata = file.metadata().map_err(unreadable)?;
    check_kind(path, &metadata)?;
    check_permissions(path, &metadata, refused_bits).map_err(|e| e.unwrap_or_else(unreadable))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(FILE_BYTES_MAX).unwrap_or(256) + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    decode(&bytes).map_err(|what| RootKeyError::Malformed { place: format!("{}", path.display()), what })
}

/// Before opening, too: opening a pipe would wait for a writer.
fn check_kind(path: &Path, metadata: &std::fs::Metadata) -> Result<(), RootKeyError> {
    if metadata.is_file() { Ok(()) } else { Err(RootKeyError::NotAFile(path.to_owned())) }
}

#[cfg(unix)]
fn check_permissions(
    path: &Path,
    metadata: &std::fs::Metadata,
    refused_bits: u32,
) -> Result<(), Result<RootKeyError, io::Error>> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = metadata.mode() & 0o777;
    if mode & refused_bits != 0 {
        return Err(Ok(RootKeyError::OpenToOthers { path: path.to_owned(), mode }));
    }
    // The name that is given and, behind links, the file itself: whoever may write there may exchange the key.
    let behind = std::fs::canonicalize(path).map_err(Err)?;
    for directory in [directory_of(path), directory_of(&behind)] {
        if std::fs::metadata(directory).map_err(Err)?.mode() & 0o002 != 0 {
            let directory = directory.to_owned();
            return Err(Ok(RootKeyError::WritableDirectory { path: path.to_owned(), directory }));
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_permissions(
    _path: &Path,
    _metadata: &std::fs::Metadata,
    _refused_bits: u32,
) -> Result<(), Result<RootKeyError, io::Error>> {
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Reads hex, base64 or raw bytes; else says what was found, without saying any of it.
fn decode(bytes: &[u8]) -> Result<RootKey, String> {
    // Random bytes are never 32 printable characters; a passphrase, or half a key in hex, is.
    let is_text = bytes.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    if bytes.len() == 32 && !is_text {
        return checked(bytes);
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if is_text => text.trim(),
        _ => return Err(format!("{} raw bytes", bytes.len())),
    };
    let hex = Zeroizing::new(decode_hex(text).unwrap_or_default());
    if hex.len() == 32 {
        return checked(&hex);
    }
    let engines = [BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD];
    let found = engines.iter().find_map(|engine| {
        let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
        engine.decode_vec(text, &mut decoded).ok().filter(|()| decoded.len() == 32)?;
        Some(checked(&decoded))
    });
    found.unwrap_or_else(|| Err(format!("text of {} characters", text.chars().count())))
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

fn checked(bytes: &[u8]) -> Result<RootKey, String> {
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(bytes);
    if key.iter().all(|b| *b == key[0]) {
        return Err("the same byte 32 times".to_owned());
    }
    Ok(key)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::host::Host;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("grantd-key-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        set_mode(&path, 0o700);
        path
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn file(directory: &Path, bytes: &[u8]) -> KeySource {
        let path = directory.join("root.key");
        std::fs::write(&path, bytes).unwrap();
        set_mode(&path, 0o600);
        KeySource::File(path)
    }

    fn path_of(source: &KeySource) -> &Path {
        match source {
            KeySource::File(path) => path,
            KeySource::Env(_) => unreachable!("a file"),
        }
    }

    fn refusal(source: &KeySource) -> String {
        load(source, &Env::default()).unwrap_err().to_string()
    }

    #[test]
    fn hex_base64_and_raw_are_the_same_key() {
        let raw = decode_hex(HEX).unwrap();
        let directory = scratch("forms");
        let base64 = BASE64_STANDARD.encode(&raw);
        let url_safe = BASE64_URL_SAFE_NO_PAD.encode(&raw);
        let upper = HEX.to_uppercase();
        let with_line_end = format!("{HEX}\r\n");
        for text in [HEX, &upper, &with_line_end, &base64, &url_safe] {
            let key = load(&file(&directory, text.as_bytes()), &Env::default()).unwrap();
            assert_eq!(key[..], raw[..], "{text}");
            let env: Env = [("K", text)].into_iter().collect();
            assert_eq!(load(&KeySource::Env("K".to_owned()), &env).unwrap(), key);
        }
        assert_eq!(load(&file(&directory, &raw), &Env::default()).unwrap()[..], raw[..]);
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        let directory = scratch("malformed");
        for bytes in [
            &b""[..],
            b"a passphrase of thirty-two chars",
            b"000102030405060708090a0b0c0d0e0f",
            &HEX.as_bytes()[..62],
            &[7; 31],
            &[7; 32],
            &[200; 300],
            "00".repeat(32).as_bytes(),
        ] {
            let text = refusal(&file(&directory, bytes));
            assert!(text.contains("it must be 32 bytes as 64 hex digits"), "{text}");
            assert!(!text.contains("passphrase of") && !text.contains("0001"), "{text}");
        }
        let unset = load(&KeySource::Env("NO_KEY".to_owned()), &Env::default()).unwrap_err().to_string();
        assert!(unset.contains("NO_KEY is not set"), "{unset}");
    }

    #[test]
    fn a_key_that_others_can_read_or_replace_is_refused() {
        let directory = scratch("modes");
        let source = file(&directory, HEX.as_bytes());
        for mode in [0o640, 0o604, 0o660, 0o620, 0o644] {
            set_mode(path_of(&source), mode);
            let text = refusal(&source);
            assert!(text.contains("chmod 600") && text.contains(&format!("{mode:o}")), "{text}");
        }
        set_mode(path_of(&source), 0o400);
        assert!(load(&source, &Env::default()).is_ok());
        for mode in [0o777, 0o1777] {
            set_mode(&directory, mode);
            assert!(refusal(&source).contains("anybody may write"), "{mode:o}");
        }
        // Neither does a link in a safe place help.
        let safe = scratch("link");
        std::os::unix::fs::symlink(path_of(&source), safe.join("root.key")).unwrap();
        assert!(refusal(&KeySource::File(safe.join("root.key"))).contains("anybody may write"));
        set_mode(&directory, 0o700);
        assert!(refusal(&KeySource::File(directory.clone())).contains("not a regular file"));
        assert!(refusal(&KeySource::File(directory.join("none"))).contains("there is no root key file"));
    }

    #[test]
    fn a_key_that_systemd_hands_over_may_show_the_right_to_read_it_as_the_groups() {
        let directory = scratch("credentials");
        let source = file(&directory, HEX.as_bytes());
        let handed = Env::from_iter([("CREDENTIALS_DIRECTORY", directory.display().to_string())]);
        set_mode(path_of(&source), 0o440);
        assert!(load(&source, &handed).is_ok());
        assert!(load(&source, &Env::default()).is_err());
        let elsewhere = Env::from_iter([("CREDENTIALS_DIRECTORY", "/run/credentials/other.service")]);
        assert!(load(&source, &elsewhere).is_err());
        for mode in [0o460, 0o444, 0o450] {
            set_mode(path_of(&source), mode);
            assert!(load(&source, &handed).is_err(), "{mode:o}");
        }
    }

    #[test]
    fn a_key_is_created_once_privately_and_never_beside_a_database() {
        let directory = scratch("create");
        let source = KeySource::File(directory.join("root.key"));
        let env = Env::default();
        let beside = create(&source, Database::Present, &env, &Host).unwrap_err();
        assert!(matches!(beside, RootKeyError::BesideDatabase(_)), "{beside}");
        assert!(!path_of(&source).exists());

        let key = create(&source, Database::Absent, &env, &Host).unwrap();
        assert_eq!(std::fs::metadata(path_of(&source)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load(&source, &env).unwrap(), key);
        let again = create(&source, Database::Absent, &env, &Host).unwrap_err();
        assert!(matches!(again, RootKeyError::Exists(_)), "{again}");
        assert_eq!(load(&source, &env).unwrap(), key, "left as it is");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing beside it");

        std::fs::remove_file(path_of(&source)).unwrap();
        let half = directory.join("root.key.new");
        std::fs::write(&half, "half of a k").unwrap();
        let after_a_crash = create(&source, Database::Absent, &env, &Host).unwrap();
        assert_eq!(load(&source, &env).unwrap(), after_a_crash);
        assert!(!half.exists());

        let variable = KeySource::Env("K".to_owned());
        assert!(create(&variable, Database::Absent, &env, &Host).unwrap_err().to_string().contains("openssl rand"));
        let env: Env = [("K", HEX)].into_iter().collect();
        assert!(create(&variable, Database::Absent, &env, &Host).is_ok(), "it was made outside");
    }
}
