//! Operators: the form of the e-mail address they are known by.

use grantd_wire::{Error, limits};

/// An e-mail address in the one form that is stored: lower case. What is not plainly one is refused; that it can be reached is not
/// looked at.
pub fn email(text: &str) -> Result<String, Error> {
    let refused = |what: &str| Err(Error::impossible("email", what));
    if text.len() > limits::EMAIL_CHARS_MAX {
        return refused(&format!("must be at most {} characters", limits::EMAIL_CHARS_MAX));
    }
    let is_plain = |c: char| {
        c.is_ascii_graphic() && !matches!(c, '"' | '(' | ')' | ',' | ':' | ';' | '<' | '>' | '[' | ']' | '\\')
    };
    match text.split_once('@') {
        Some((name, host)) if !name.is_empty() && is_host(host) && text.chars().all(is_plain) => {
            Ok(text.to_ascii_lowercase())
        }
        _ => refused("must be an e-mail address, such as ann@example.com"),
    }
}

fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        for (text, stored) in [
            ("Ann@Example.COM", "ann@example.com"),
            ("a.b+c@mail.example.com", "a.b+c@mail.example.com"),
            ("admin@localhost", "admin@localhost"),
        ] {
            assert_eq!(email(text).unwrap(), stored);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            "",
            "@",
            "ann",
            "ann@",
            "@example.com",
            "ann@@example.com",
            "ann@example..com",
            "ann@-example.com",
            "an n@example.com",
            "ann@example.com\n",
            "ann@exämple.com",
            "<ann@example.com>",
            "ann@example.com,bob@example.com",
            "ann@[127.0.0.1]",
        ] {
            assert!(email(bad).is_err(), "{bad:?}");
        }
        let fits = format!("{}@example.com", "a".repeat(limits::EMAIL_CHARS_MAX - "@example.com".len()));
        assert!(email(&fits).is_ok());
        assert!(email(&format!("a{fits}")).is_err());
    }
}
