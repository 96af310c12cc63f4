//! Codes of authenticator apps (RFC 6238): six digits for each half minute, of a secret that both sides have.
//!
//! Invariants: a code counts for its own half minute and the ones beside it; one that counted never does again.

use aws_lc_rs::hmac;
use grantd_wire::TimeMs;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::env::{Entropy, random};

/// How long one code is shown.
pub const STEP_S: i64 = 30;
/// Clocks that are so many steps apart are borne with.
const STEPS_APART: i64 = 1;
/// Bytes of a secret, as RFC 4226 recommends for SHA-1, which is what every app knows.
pub const SECRET_BYTES: usize = 20;
const DIGITS: usize = 6;

/// What an authenticator app and grantd share.
pub type TotpSecret = Zeroizing<[u8; SECRET_BYTES]>;

/// A new secret.
pub fn new_secret(entropy: &(impl Entropy + ?Sized)) -> TotpSecret {
    Zeroizing::new(random(entropy))
}

/// The step whose code this is, if it is later than the last that counted.
pub fn step_of(secret: &[u8], typed: &str, now: TimeMs, last: i64) -> Option<i64> {
    let typed: Vec<u8> = typed.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let at = now.0.div_euclid(STEP_S * 1000);
    let mut found = None;
    // All are looked at, so that how long it takes tells nothing.
    for step in at - STEPS_APART..=at + STEPS_APART {
        let is_it = aws_lc_rs::constant_time::verify_slices_are_equal(code(secret, step).as_bytes(), &typed).is_ok();
        if is_it && step > last {
            found = Some(step);
        }
    }
    found
}

/// The code of a step.
pub fn code(secret: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let hash = tag.as_ref();
    let at = usize::from(hash[hash.len() - 1] & 0x0f);
    let four = [hash[at] & 0x7f, hash[at + 1], hash[at + 2], hash[at + 3]];
    let number = u32::from_be_bytes(four) % 10_u32.pow(6);
    format!("{number:0DIGITS$}")
}

/// The secret as people type it.
pub fn secret_text(secret: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(base32(secret))
}

/// The address that an app reads from a picture.
pub fn address(secret: &[u8], issuer: &str, account: &str) -> Zeroizing<String> {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let (issuer, account) = (encoded(issuer), encoded(account));
    Zeroizing::new(format!("otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}", base32(secret)))
}

/// Characters of a recovery code, in groups: 80 bits.
const RECOVERY_BYTES: usize = 10;

/// A code that signs in once instead of one of the app: `abcd-efgh-ijkl-mnop`.
pub fn new_recovery_code(entropy: &(impl Entropy + ?Sized)) -> Zeroizing<String> {
    let bytes = Zeroizing::new(random::<RECOVERY_BYTES>(entropy));
    let text = Zeroizing::new(base32(&*bytes).to_ascii_lowercase());
    let groups: Vec<&str> = (0..text.len()).step_by(4).map(|at| &text[at..at + 4]).collect();
    Zeroizing::new(groups.join("-"))
}

/// The one form of a recovery code, if it could be one.
pub fn recovery_code(typed: &str) -> Option<Zeroizing<String>> {
    let chars = typed.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_lowercase());
    let code = Zeroizing::new(chars.collect::<String>());
    let fits = code.len() == RECOVERY_BYTES * 8 / 5 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    fits.then_some(code)
}

/// RFC 4648, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let mut five = [0; 8];
        five[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(five);
        for i in 0..(chunk.len() * 8).div_ceil(5) {
            let index = usize::try_from((bits >> (35 - 5 * i)) & 31).unwrap_or_default();
            text.push(char::from(ALPHABET[index]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8; 20] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Its table, of which apps show the last six digits.
        for (seconds, shown) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(SECRET, seconds / STEP_S), shown, "{seconds}");
        }
    }

    #[test]
    fn a_code_counts_once_and_for_a_minute_and_a_half() {
        let now = TimeMs(1_234_567_890_000);
        let at = 1_234_567_890 / STEP_S;
        for step in [at - 1, at, at + 1] {
            assert_eq!(step_of(SECRET, &code(SECRET, step), now, 0), Some(step));
            assert_eq!(step_of(SECRET, &code(SECRET, step), now, step), None, "it counted");
            assert_eq!(step_of(SECRET, &code(SECRET, step), now, step + 5), None, "a later one did");
        }
        for step in [at - 2, at + 2] {
            assert_eq!(step_of(SECRET, &code(SECRET, step), now, 0), None);
        }
        assert_eq!(step_of(SECRET, " 005 924\n", now, 0), Some(at));
        for wrong in ["", "5924", "005925", "0059240", "００５９２４"] {
            assert_eq!(step_of(SECRET, wrong, now, 0), None, "{wrong}");
        }
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn an_app_reads_who_it_is_for() {
        let address = address(SECRET, "grantd vault.example.com", "ann@example.com");
        assert_eq!(
            *address,
            "otpauth://totp/grantd%20vault%2Eexample%2Ecom:ann%40example%2Ecom\
             ?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=grantd%20vault%2Eexample%2Ecom"
        );
    }

    #[test]
    fn a_recovery_code_is_read_however_it_is_typed() {
        struct Seven;
        impl Entropy for Seven {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(0x77);
            }
        }
        let made = new_recovery_code(&Seven);
        assert_eq!((made.len(), made.split('-').count()), (19, 4));
        let code = recovery_code(&made).unwrap();
        assert_eq!(recovery_code(&format!(" {} ", made.to_uppercase().replace('-', " "))).unwrap(), code);
        assert!(recovery_code("123456").is_none() && recovery_code(&made[1..]).is_none());
        assert!(recovery_code("abcd-efgh-ijkl-mnöp").is_none());
    }
}
