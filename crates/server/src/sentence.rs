//! Refusals that only pages tell, to people: each has a sentence of its own in every language, `portal.refusal.KEY`, and not only what
//! its code means.

use grantd_domain::passkey::Wrong;
use grantd_wire::{Code, Error};

/// What names the sentence in an error's details. No program is ever answered with such an error.
pub const DETAIL: &str = "sentence";

macro_rules! sentences {
    ($($name:ident = $key:literal,)*) => {
        /// Such a sentence.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Sentence { $($name,)* }

        impl Sentence {
            /// All there are.
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Under `portal.refusal`.
            pub const fn key(self) -> &'static str { match self { $(Self::$name => $key,)* } }
        }
    };
}

sentences! {
    WrongPassword = "wrong_password",
    WrongPasskey = "wrong_passkey",
    WrongCode = "wrong_code",
    WrongProof = "wrong_proof",
    TookTooLong = "took_too_long",
    NothingFilledIn = "nothing_filled_in",
    WaitedTooLong = "waited_too_long",
    // {seconds}
    TooManyAttempts = "too_many_attempts",
    Unreadable = "unreadable",
    // {kib}
    PictureTooLarge = "picture_too_large",
    // {url}, {portal}
    OtherAddress = "other_address",
    TypeSlug = "type_slug",
    TypeAppName = "type_app_name",
    WholeNumber = "whole_number",
    WhoseGrant = "whose_grant",
    GrantOfApp = "grant_of_app",
    // {example}
    NoLines = "no_lines",
    PasswordUsed = "password_used",
    ChangedMeanwhile = "changed_meanwhile",
    AppIsSetUp = "app_is_set_up",
    CodeNotShown = "code_not_shown",
    // {most}
    TooManyPasskeys = "too_many_passkeys",
    PasskeyStale = "passkey_stale",
    PasskeyIsThere = "passkey_is_there",
    PasskeyMalformed = "passkey_malformed",
    PasskeyChallenge = "passkey_challenge",
    PasskeyOrigin = "passkey_origin",
    PasskeyUnverified = "passkey_unverified",
    PasskeyKey = "passkey_key",
    PasskeyAttestation = "passkey_attestation",
    PasskeySignature = "passkey_signature",
}

impl Sentence {
    /// The refusal that is told by it. What it names in braces is given as details.
    pub fn of(self, code: Code) -> Error {
        Error::new(code).detail(DETAIL, self.key())
    }

    /// The same, said at a field of the form.
    pub fn at(self, field: &str, code: Code) -> Error {
        self.of(code).detail("field", field)
    }

    /// Why a passkey was not added.
    pub const fn of_passkey(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Malformed => Self::PasskeyMalformed,
            Wrong::Challenge => Self::PasskeyChallenge,
            Wrong::Origin => Self::PasskeyOrigin,
            Wrong::Unverified => Self::PasskeyUnverified,
            Wrong::Key => Self::PasskeyKey,
            Wrong::Attestation => Self::PasskeyAttestation,
            Wrong::Signature | Wrong::Counter => Self::PasskeySignature,
        }
    }
}
