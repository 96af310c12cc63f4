//! What the demo provider remembers: who is signed in for its client, and the tokens of that. Hashes, never tokens.
//!
//! Never: a refresh token that is good twice; a code that is tried twice; more than its bounds.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_domain::env::{Env, new_token, random};
use grantd_domain::secret::Secret;
use grantd_wire::TimeMs;
use grantd_wire::sign::{hex, sha256};
use serde::{Deserialize, Serialize};

use super::Refused;

/// Seconds that an access token lives: short, so that people see one renewed.
pub const ACCESS_TOKEN_S: i64 = 180;
/// Seconds within which a code must be redeemed.
const CODE_S: i64 = 60;
/// Seconds within which somebody must answer the page.
const ANSWER_S: i64 = 600;
/// A refresh token that was not used for so many seconds is over.
const IDLE_S: i64 = 90 * 86_400;
/// Sign-ins that are kept; one more ends the one that was not used for longest.
const SIGN_INS_MAX: usize = 256;
/// Access tokens of one sign-in; one more ends the oldest.
const ACCESS_TOKENS_MAX: usize = 8;
/// Pages that wait for an answer, and codes that wait to be redeemed; one more ends the oldest.
const WAITING_MAX: usize = 64;

/// What begins an access token.
pub const ACCESS_PREFIX: &str = "demo_at_";
const REFRESH_PREFIX: &str = "demo_rt_";

/// Somebody made up.
pub struct Person {
    pub id: &'static str,
    pub name: &'static str,
    pub email: &'static str,
}

/// Everybody who has an account.
pub const PEOPLE: [Person; 3] = [
    Person { id: "demo-ada", name: "Ada Abel", email: "ada@demo.example" },
    Person { id: "demo-ben", name: "Ben Boyd", email: "ben@demo.example" },
    Person { id: "demo-cleo", name: "Cleo Costa", email: "cleo@demo.example" },
];

/// Somebody by their id.
pub fn person(id: &str) -> Option<&'static Person> {
    PEOPLE.iter().find(|person| person.id == id)
}

/// What outlives the process.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Part of its name, the issuer: accounts that were connected know it by no other.
    pub port: u16,
    registration: Option<Registration>,
    /// Of a secret that the client may have by now: whether it was told is not known until it is registered with it.
    offered_hash: Option<String>,
    sign_ins: Vec<SignIn>,
}

/// How grantd has the client.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Registration {
    id: String,
    secret_hash: String,
}

/// One person's yes, and its tokens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignIn {
    id: String,
    pub person: String,
    pub scopes: Vec<String>,
    pub signed_in_at: TimeMs,
    used_at: TimeMs,
    refresh_hash: Option<String>,
    access: Vec<Access>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Access {
    hash: String,
    scopes: Vec<String>,
    ends_at: TimeMs,
}

/// What lives as long as the process.
#[derive(Default)]
pub struct Memory {
    /// Where the client may have people sent back to.
    pub redirect_uri: Option<String>,
    waiting: VecDeque<Waiting>,
    codes: VecDeque<Code>,
}

/// An authorization request that was understood.
#[derive(Clone)]
pub struct Ask {
    pub redirect_uri: String,
    pub scopes: Vec<String>,
    pub state: Option<String>,
    pub nonce: Option<String>,
    /// Of PKCE, S256.
    pub challenge: String,
    /// Whom the client expects.
    pub hint: Option<&'static Person>,
}

/// A page that was shown.
struct Waiting {
    id: String,
    /// The cookie of the browser that it was shown to.
    browser: String,
    ask: Ask,
    ends_at: TimeMs,
}

struct Code {
    hash: String,
    ask: Ask,
    person: &'static Person,
    signed_in_at: TimeMs,
    ends_at: TimeMs,
    use_: Use,
}

enum Use {
    Unused,
    Failed,
    /// For the sign-in of this id.
    Redeemed(String),
}

/// What a token endpoint hands out.
pub struct Tokens {
    pub access: Secret,
    pub refresh: Option<Secret>,
    pub scopes: Vec<String>,
    pub person: &'static Person,
    pub signed_in_at: TimeMs,
    pub nonce: Option<String>,
}

fn hash(text: &str) -> String {
    hex(&sha256(text.as_bytes()))
}

/// Adds at the end, and lets go of the first ones where there are too many.
fn push<T>(list: &mut VecDeque<T>, item: T) {
    while list.len() >= WAITING_MAX {
        list.pop_front();
    }
    list.push_back(item);
}

impl Memory {
    /// Remembers that a page is shown to a browser; the page's id.
    pub fn show(&mut self, ask: Ask, browser: &str, env: &dyn Env) -> String {
        let now = env.now();
        self.waiting.retain(|waiting| waiting.ends_at > now);
        let id = new_token(env, "").reveal().to_owned();
        let ends_at = now.plus_seconds(ANSWER_S);
        push(&mut self.waiting, Waiting { id: id.clone(), browser: browser.to_owned(), ask, ends_at });
        id
    }

    /// What a page was shown for, once: to the browser that it was shown to.
    pub fn take(&mut self, id: &str, browser: &str, now: TimeMs) -> Option<Ask> {
        let is_it = |waiting: &Waiting| waiting.id == id && waiting.browser == browser && waiting.ends_at > now;
        let index = self.waiting.iter().position(is_it)?;
        self.waiting.remove(index).map(|waiting| waiting.ask)
    }

    /// A code for somebody who said yes.
    pub fn grant(&mut self, ask: Ask, person: &'static Person, env: &dyn Env) -> Secret {
        let now = env.now();
        self.codes.retain(|code| code.ends_at > now);
        let text = new_token(env, "demo_code_");
        let code = Code {
            hash: hash(text.reveal()),
            ask,
            person,
            signed_in_at: now,
            ends_at: now.plus_seconds(CODE_S),
            use_: Use::Unused,
        };
        push(&mut self.codes, code);
        text
    }
}

impl Kept {
    /// Nothing yet.
    pub fn new(port: u16) -> Self {
        Self { port, registration: None, offered_hash: None, sign_ins: Vec::new() }
    }

    /// Another client secret. The one before is good until the client is registered with this one.
    pub fn new_client_secret(&mut self, env: &dyn Env) -> Secret {
        let secret = new_token(env, "demo_cs_");
        self.offered_hash = Some(hash(secret.reveal()));
        secret
    }

    /// The client is registered in grantd as `id`, with the secret that is newest.
    pub fn register(&mut self, id: &str) {
        if let Some(secret_hash) = self.offered_hash.take() {
            self.registration = Some(Registration { id: id.to_owned(), secret_hash });
        }
    }

    pub fn is_registered(&self, id: &str) -> bool {
        self.registration.as_ref().is_some_and(|known| known.id == id)
    }

    pub fn is_client_secret(&self, text: &str) -> bool {
        let known = self.registration.as_ref().map(|known| &known.secret_hash);
        let hash = hash(text);
        known.into_iter().chain(&self.offered_hash).any(|known| *known == hash)
    }

    /// Tokens for a code. It is good for one attempt; a second one ends what the first one got.
    pub fn redeem(
        &mut self,
        memory: &mut Memory,
        code: &str,
        redirect_uri: Option<&str>,
        verifier: &str,
        env: &dyn Env,
    ) -> Result<Tokens, Refused> {
        let (now, code) = (env.now(), hash(code));
        let code = memory.codes.iter_mut().find(|known| known.hash == code && known.ends_at > now);
        let code = code.ok_or(Refused::InvalidGrant("The code is unknown or too old."))?;
        match &code.use_ {
            Use::Unused => {}
            Use::Failed => return Err(Refused::InvalidGrant("The code was used before.")),
            Use::Redeemed(id) => {
                self.sign_ins.retain(|sign_in| sign_in.id != *id);
                return Err(Refused::InvalidGrant("The code was used before: what it brought is revoked."));
            }
        }
        code.use_ = Use::Failed;
        if redirect_uri != Some(&*code.ask.redirect_uri) {
            return Err(Refused::InvalidGrant("The redirect_uri is not the one that the code was asked for with."));
        }
        if BASE64_URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes())) != code.ask.challenge {
            return Err(Refused::InvalidGrant("The code_verifier does not belong to the code_challenge."));
        }
        let id = BASE64_URL_SAFE_NO_PAD.encode(random::<16>(env));
        code.use_ = Use::Redeemed(id.clone());
        let mut sign_in = SignIn {
            id,
            person: code.person.id.to_owned(),
            scopes: code.ask.scopes.clone(),
            signed_in_at: code.signed_in_at,
            used_at: now,
            refresh_hash: None,
            access: Vec::new(),
        };
        let is_lasting = sign_in.scopes.iter().any(|scope| scope == "offline_access");
        let mut tokens = sign_in.tokens(sign_in.scopes.clone(), is_lasting, env).ok_or(Refused::Unavailable)?;
        tokens.nonce.clone_from(&code.ask.nonce);
        self.sign_ins.retain(|known| !known.is_over(now));
        while self.sign_ins.len() >= SIGN_INS_MAX {
            let idle = self.sign_ins.iter().enumerate().min_by_key(|(_, known)| known.used_at).map(|(index, _)| index);
            self.sign_ins.remove(idle.unwrap_or_default());
        }
        self.sign_ins.push(sign_in);
        Ok(tokens)
    }

    /// Tokens for a refresh token, which ends with that. One that has ended before is in the wrong hands, so all of its sign-in
    /// ends. `scopes`: fewer than were granted.
    pub fn renew(&mut self, token: &str, scopes: Option<Vec<String>>, env: &dyn Env) -> Result<Tokens, Refused> {
        let now = env.now();
        let unknown = Refused::InvalidGrant("The refresh token is unknown, revoked, or too old.");
        let id = sign_in_of(token, REFRESH_PREFIX).ok_or(unknown)?;
        let index = self.sign_ins.iter().position(|known| known.id == id && !known.is_over(now)).ok_or(unknown)?;
        let sign_in = &mut self.sign_ins[index];
        if sign_in.refresh_hash.as_ref() != Some(&hash(token)) {
            self.sign_ins.remove(index);
            return Err(Refused::InvalidGrant("The refresh token was used before: everything it brought is revoked."));
        }
        let scopes = scopes.unwrap_or_else(|| sign_in.scopes.clone());
        if scopes.is_empty() || !scopes.iter().all(|scope| sign_in.scopes.contains(scope)) {
            return Err(Refused::InvalidScope);
        }
        sign_in.used_at = now;
        sign_in.tokens(scopes, true, env).ok_or(Refused::Unavailable)
    }

    /// Ends the sign-in that a token is of, whichever of its tokens that is.
    pub fn end(&mut self, token: &str) {
        let hash = hash(token);
        let is_of =
            |known: &SignIn| known.refresh_hash.as_ref() == Some(&hash) || known.access.iter().any(|a| a.hash == hash);
        self.sign_ins.retain(|known| !is_of(known));
    }

    /// Whose access token it is and what it is for, while it is good.
    pub fn whose(&self, token: &str, now: TimeMs) -> Option<(&'static Person, &[String])> {
        let id = sign_in_of(token, ACCESS_PREFIX)?;
        let sign_in = self.sign_ins.iter().find(|known| known.id == id)?;
        let hash = hash(token);
        let access = sign_in.access.iter().find(|access| access.hash == hash && access.ends_at > now)?;
        Some((person(&sign_in.person)?, &access.scopes))
    }
}

impl SignIn {
    fn is_over(&self, now: TimeMs) -> bool {
        self.used_at.plus_seconds(IDLE_S) <= now
    }

    /// New tokens; the refresh token before ends. `None`: its person is none of ours.
    fn tokens(&mut self, scopes: Vec<String>, is_lasting: bool, env: &dyn Env) -> Option<Tokens> {
        let person = person(&self.person)?;
        let now = env.now();
        let new = |prefix: &str| new_token(env, &format!("{prefix}{}.", self.id));
        let (access, refresh) = (new(ACCESS_PREFIX), is_lasting.then(|| new(REFRESH_PREFIX)));
        self.refresh_hash = refresh.as_ref().map(|token| hash(token.reveal()));
        self.access.retain(|access| access.ends_at > now);
        while self.access.len() >= ACCESS_TOKENS_MAX {
            self.access.remove(0);
        }
        let ends_at = now.plus_seconds(ACCESS_TOKEN_S);
        self.access.push(Access { hash: hash(access.reveal()), scopes: scopes.clone(), ends_at });
        Some(Tokens { access, refresh, scopes, person, signed_in_at: self.signed_in_at, nonce: None })
    }
}

/// The id of the sign-in that a token says to be of.
fn sign_in_of<'a>(token: &'a str, prefix: &str) -> Option<&'a str> {
    token.strip_prefix(prefix)?.split_once('.').map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use grantd_domain::env::{Clock, Entropy};

    use super::*;
    use crate::host::Host;

    /// A clock that is set.
    struct At(AtomicI64);

    impl At {
        fn pass(&self, seconds: i64) {
            self.0.fetch_add(seconds * 1000, Ordering::Relaxed);
        }
    }

    impl Clock for At {
        fn now(&self) -> TimeMs {
            TimeMs(self.0.load(Ordering::Relaxed))
        }
    }

    impl Entropy for At {
        fn fill(&self, bytes: &mut [u8]) {
            Host.fill(bytes);
        }
    }

    const BACK: &str = "http://127.0.0.1:8400/oauth/callback";
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn ask(scopes: &[&str]) -> Ask {
        Ask {
            redirect_uri: BACK.to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            state: None,
            nonce: Some("n".to_owned()),
            // Of RFC 7636, appendix B.
            challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned(),
            hint: None,
        }
    }

    fn start() -> (Kept, Memory, At) {
        (Kept::new(1), Memory::default(), At(AtomicI64::new(1_800_000_000_000)))
    }

    const LASTING: [&str; 2] = ["openid", "offline_access"];

    fn signed_in(kept: &mut Kept, memory: &mut Memory, at: &At) -> Tokens {
        let code = memory.grant(ask(&LASTING), &PEOPLE[0], at);
        kept.redeem(memory, code.reveal(), Some(BACK), VERIFIER, at).unwrap()
    }

    fn refresh(tokens: &Tokens) -> &str {
        tokens.refresh.as_ref().unwrap().reveal()
    }

    #[test]
    fn a_code_is_good_for_one_attempt_and_a_second_ends_what_the_first_got() {
        let (mut kept, mut memory, at) = start();
        for (redirect_uri, verifier) in [(Some("http://127.0.0.1:1/"), VERIFIER), (None, VERIFIER), (Some(BACK), "x")] {
            let code = memory.grant(ask(&LASTING), &PEOPLE[0], &at);
            assert!(kept.redeem(&mut memory, code.reveal(), redirect_uri, verifier, &at).is_err());
            assert!(kept.redeem(&mut memory, code.reveal(), Some(BACK), VERIFIER, &at).is_err(), "one attempt");
        }
        let code = memory.grant(ask(&LASTING), &PEOPLE[1], &at);
        let tokens = kept.redeem(&mut memory, code.reveal(), Some(BACK), VERIFIER, &at).unwrap();
        assert_eq!((tokens.person.id, tokens.nonce.as_deref()), ("demo-ben", Some("n")));
        assert!(kept.whose(tokens.access.reveal(), at.now()).is_some());
        assert!(kept.redeem(&mut memory, code.reveal(), Some(BACK), VERIFIER, &at).is_err());
        assert!(kept.whose(tokens.access.reveal(), at.now()).is_none());
        assert!(kept.renew(refresh(&tokens), None, &at).is_err());
    }

    #[test]
    fn codes_pages_and_tokens_end_with_their_time() {
        let (mut kept, mut memory, at) = start();
        let code = memory.grant(ask(&LASTING), &PEOPLE[0], &at);
        at.pass(CODE_S - 1);
        let tokens = kept.redeem(&mut memory, code.reveal(), Some(BACK), VERIFIER, &at).unwrap();
        let late = memory.grant(ask(&LASTING), &PEOPLE[0], &at);
        at.pass(CODE_S);
        assert!(kept.redeem(&mut memory, late.reveal(), Some(BACK), VERIFIER, &at).is_err());

        at.pass(ACCESS_TOKEN_S - CODE_S - 1);
        assert!(kept.whose(tokens.access.reveal(), at.now()).is_some());
        at.pass(1);
        assert!(kept.whose(tokens.access.reveal(), at.now()).is_none());

        let page = memory.show(ask(&LASTING), "b", &at);
        let other = memory.show(ask(&LASTING), "b", &at);
        at.pass(ANSWER_S - 1);
        assert!(memory.take(&page, "another browser", at.now()).is_none());
        assert!(memory.take(&page, "b", at.now()).is_some());
        assert!(memory.take(&page, "b", at.now()).is_none(), "once");
        at.pass(1);
        assert!(memory.take(&other, "b", at.now()).is_none());

        at.pass(IDLE_S - ANSWER_S - ACCESS_TOKEN_S - 1);
        let renewed = kept.renew(refresh(&tokens), None, &at).unwrap();
        at.pass(IDLE_S);
        assert!(kept.renew(refresh(&renewed), None, &at).is_err());
    }

    #[test]
    fn refresh_tokens_rotate_and_one_that_comes_again_ends_the_sign_in() {
        let (mut kept, mut memory, at) = start();
        let first = signed_in(&mut kept, &mut memory, &at);
        let second = kept.renew(refresh(&first), None, &at).unwrap();
        assert!(kept.whose(first.access.reveal(), at.now()).is_some(), "it lives as long as it was said");
        assert!(kept.renew(refresh(&first), None, &at).is_err());
        assert!(kept.whose(second.access.reveal(), at.now()).is_none());
        assert!(kept.renew(refresh(&second), None, &at).is_err());

        let fewer = signed_in(&mut kept, &mut memory, &at);
        let more = Some(vec!["openid".to_owned(), "email".to_owned()]);
        assert!(matches!(kept.renew(refresh(&fewer), more, &at), Err(Refused::InvalidScope)));
        let narrowed = kept.renew(refresh(&fewer), Some(vec!["openid".to_owned()]), &at).unwrap();
        assert_eq!(kept.whose(narrowed.access.reveal(), at.now()).unwrap().1, ["openid"]);
        assert_eq!(kept.renew(refresh(&narrowed), None, &at).unwrap().scopes, LASTING, "what was granted stays");
    }

    #[test]
    fn either_token_ends_the_sign_in_and_no_other() {
        let (mut kept, mut memory, at) = start();
        let (one, two) = (signed_in(&mut kept, &mut memory, &at), signed_in(&mut kept, &mut memory, &at));
        kept.end("demo_rt_nobody");
        kept.end(refresh(&one));
        assert!(kept.whose(one.access.reveal(), at.now()).is_none());
        assert!(kept.whose(two.access.reveal(), at.now()).is_some());
        kept.end(two.access.reveal());
        assert!(kept.renew(refresh(&two), None, &at).is_err());
        assert!(kept.sign_ins.is_empty());
    }

    #[test]
    fn without_offline_access_there_is_no_refresh_token() {
        let (mut kept, mut memory, at) = start();
        let code = memory.grant(ask(&["openid"]), &PEOPLE[0], &at);
        assert!(kept.redeem(&mut memory, code.reveal(), Some(BACK), VERIFIER, &at).unwrap().refresh.is_none());
    }

    #[test]
    fn it_holds_no_more_than_its_bounds() {
        let (mut kept, mut memory, at) = start();
        let first = signed_in(&mut kept, &mut memory, &at);
        at.pass(1);
        let second = signed_in(&mut kept, &mut memory, &at);
        for _ in 2..SIGN_INS_MAX {
            signed_in(&mut kept, &mut memory, &at);
        }
        assert!(kept.whose(first.access.reveal(), at.now()).is_some(), "the bound itself");
        signed_in(&mut kept, &mut memory, &at);
        assert_eq!(kept.sign_ins.len(), SIGN_INS_MAX);
        assert!(kept.whose(first.access.reveal(), at.now()).is_none(), "the one that was idle for longest");

        let mut tokens = kept.renew(refresh(&second), None, &at).unwrap();
        for _ in 0..ACCESS_TOKENS_MAX - 2 {
            tokens = kept.renew(refresh(&tokens), None, &at).unwrap();
        }
        assert!(kept.whose(second.access.reveal(), at.now()).is_some());
        kept.renew(refresh(&tokens), None, &at).unwrap();
        assert!(kept.whose(second.access.reveal(), at.now()).is_none());

        let page = memory.show(ask(&LASTING), "b", &at);
        for _ in 1..WAITING_MAX {
            memory.show(ask(&LASTING), "b", &at);
        }
        assert!(memory.take(&page, "b", at.now()).is_some());
        let page = memory.show(ask(&LASTING), "b", &at);
        for _ in 0..WAITING_MAX {
            memory.show(ask(&LASTING), "b", &at);
        }
        assert!(memory.take(&page, "b", at.now()).is_none());
        assert!(memory.codes.len() <= WAITING_MAX && memory.waiting.len() <= WAITING_MAX);
    }

    #[test]
    fn what_is_kept_holds_no_token() {
        let (mut kept, mut memory, at) = start();
        let secret = kept.new_client_secret(&at);
        assert!(kept.is_client_secret(secret.reveal()) && !kept.is_client_secret(""));
        let tokens = signed_in(&mut kept, &mut memory, &at);
        let text = serde_json::to_string(&kept).unwrap();
        for secret in [secret.reveal(), tokens.access.reveal(), refresh(&tokens)] {
            assert!(!text.contains(&secret[secret.len() - 43..]), "{text}");
        }
        assert!(serde_json::from_str::<Kept>(&text).unwrap() == kept);
    }

    #[test]
    fn a_client_secret_is_good_until_the_client_has_the_next_one() {
        let (mut kept, _, at) = start();
        let first = kept.new_client_secret(&at);
        kept.register("one");
        assert!(kept.is_registered("one") && !kept.is_registered("two"));
        let second = kept.new_client_secret(&at);
        assert!(kept.is_client_secret(first.reveal()) && kept.is_client_secret(second.reveal()));
        kept.register("two");
        assert!(kept.is_registered("two"));
        assert!(!kept.is_client_secret(first.reveal()) && kept.is_client_secret(second.reveal()));
    }
}
