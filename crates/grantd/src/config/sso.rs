//! Single sign-on of operators. It is set where the server is run, and not in its database: whoever has got hold of an admin's session
//! cannot say by whose word others come in.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use grantd_domain::destination::Target;
use grantd_domain::grant::check_text;
use grantd_domain::identity::check_url;
use grantd_domain::operator;
use grantd_domain::secret::Secret;
use grantd_wire::limits;
use zeroize::Zeroizing;

use super::{ConfigError, together};

/// What is said of it.
#[derive(Debug)]
pub struct Sso {
    /// Exactly as it calls itself.
    pub issuer: String,
    pub client_id: String,
    /// `None`: a public client.
    pub client_secret_file: Option<PathBuf>,
    pub name: String,
    pub domains: Vec<String>,
    /// Operators sign in in no other way, but by links made on the host.
    pub is_required: bool,
}

impl Sso {
    /// What goes together, or nothing.
    pub fn of(
        issuer: Option<String>,
        client_id: Option<String>,
        client_secret_file: Option<PathBuf>,
        name: Option<String>,
        domains: Vec<String>,
        is_required: bool,
    ) -> Result<Option<Self>, ConfigError> {
        if domains.len() > limits::SSO_DOMAINS_MAX {
            let most = limits::SSO_DOMAINS_MAX;
            return Err(together(&format!("sso.email_domains names {}: at most {most} are possible", domains.len())));
        }
        let Some(issuer) = issuer else {
            let others = [
                ("sso.client_id", client_id.is_some()),
                ("sso.client_secret_file", client_secret_file.is_some()),
                ("sso.name", name.is_some()),
                ("sso.email_domains", !domains.is_empty()),
                ("sso.required", is_required),
            ];
            return match others.into_iter().find(|(_, is_set)| *is_set) {
                Some((set, _)) => Err(together(&format!("{set} is set without sso.issuer: set both or none"))),
                None => Ok(None),
            };
        };
        let client_id = client_id
            .ok_or_else(|| together("sso.issuer is set without sso.client_id: set it to what the issuer gave"))?;
        let name = name.unwrap_or_else(|| host(&issuer).to_owned());
        Ok(Some(Self { issuer, client_id, client_secret_file, name, domains, is_required }))
    }
}

/// Host and port of an issuer.
fn host(issuer: &str) -> &str {
    let rest = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// An issuer is compared as it is written, so nothing of it is changed. Whether `http` may be called, `outbound.allow` says when it is.
pub fn parse_issuer(text: &str) -> Result<String, String> {
    check_url(text, |_| true).map_err(|why| format!("it {why}"))?;
    Target::parse(text).map_err(|why| why.to_string())?;
    match text.contains('?') {
        true => Err("write it exactly as the issuer calls itself, without a query".to_owned()),
        false => Ok(text.to_owned()),
    }
}

pub fn parse_client_id(text: &str) -> Result<String, String> {
    check_text("client_id", text, limits::CLIENT_CHARS_MAX).map_err(|error| error.message)?;
    Ok(text.to_owned())
}

pub fn parse_name(text: &str) -> Result<String, String> {
    check_text("name", text, limits::NAME_CHARS_MAX).map_err(|error| error.message)?;
    Ok(text.to_owned())
}

/// A domain in the form that addresses are stored in.
pub fn parse_domain(text: &str) -> Result<String, String> {
    let address = operator::email(&format!("x@{text}")).map_err(|_| "write a domain such as example.com".to_owned())?;
    Ok(address.split_once('@').map_or_else(String::new, |(_, domain)| domain.to_owned()))
}

/// The client secret of a file; else words that follow its name.
pub fn read_secret(path: &Path) -> Result<Secret, String> {
    let bytes_max = limits::CLIENT_CHARS_MAX as u64 * 4 + 2;
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(|e| format!("cannot be read: {e}"))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    match check_text("client_secret", secret, limits::CLIENT_CHARS_MAX) {
        Ok(()) => Ok(Secret::new(secret.to_owned())),
        Err(_) => Err(format!("must hold 1 to {} characters in one line", limits::CLIENT_CHARS_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_what_its_file_holds_in_one_line() {
        let path = std::env::temp_dir().join(format!("grantd-sso-secret-{}", std::process::id()));
        let longest = "s".repeat(limits::CLIENT_CHARS_MAX);
        for (text, secret) in [
            ("s3cret\n", Some("s3cret")),
            ("s3cret\r\n", Some("s3cret")),
            ("s3cret", Some("s3cret")),
            (&longest, Some(&*longest)),
            (&format!("{longest}s"), None),
            ("", None),
            ("\n", None),
            ("one\ntwo\n", None),
        ] {
            std::fs::write(&path, text).unwrap();
            let found = read_secret(&path);
            assert_eq!(found.as_ref().ok().map(Secret::reveal), secret, "{text:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(read_secret(&path).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn values_are_taken_in_one_form() {
        for bad in [
            "",
            "id.example.com",
            "https://u:p@id.example.com",
            "https://id.example.com/#x",
            "https://id.example.com/?x=1",
            "ftp://x",
        ] {
            assert!(parse_issuer(bad).is_err(), "{bad}");
        }
        for good in ["https://id.example.com", "https://id.example.com/realms/a/", "http://127.0.0.1:9000"] {
            assert_eq!(parse_issuer(good).unwrap(), good);
        }
        assert_eq!(host("https://id.example.com:8443/realms/a"), "id.example.com:8443");
        assert_eq!(parse_domain("Example.COM").unwrap(), "example.com");
        for bad in ["", "@example.com", "a@b", "*.example.com", "exa mple.com", "example..com"] {
            assert!(parse_domain(bad).is_err(), "{bad}");
        }
        assert!(parse_name(&"n".repeat(limits::NAME_CHARS_MAX)).is_ok());
        assert!(parse_name(&"n".repeat(limits::NAME_CHARS_MAX + 1)).is_err());
    }
}
