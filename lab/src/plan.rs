//! What a case sends, and what it must get for an answer.

use std::fmt::Write as _;
use std::sync::Arc;

use grantd_domain::env::{Clock as _, random};
use grantd_wire::ids::GrantId;
use grantd_wire::sign::{self, SigningKey, ToSign, hex, sha256};

use crate::client::Answer;
use crate::host::Host;
use crate::{Error, Result};

/// Characters of an unexpected answer that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// Which grant the next request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Any of the first so many, each as likely as the other.
    Random(usize),
    /// Every one, once; connections share them out. The case ends with the last one.
    Each,
}

/// What a whole case sends.
#[derive(Clone)]
pub enum Plan {
    /// Signed `POST /sdk/token`.
    Retrieve(Retrieve),
    /// Unsigned requests, one after the other and from the first again; connections begin at different ones.
    Plain {
        /// Whole requests.
        requests: Arc<[Vec<u8>]>,
        /// What every body must contain.
        needle: Arc<[u8]>,
    },
}

/// Signed retrieves of many grants.
#[derive(Clone)]
pub struct Retrieve {
    /// The API key's text, which a signature is made with.
    pub key: Arc<str>,
    /// What can be asked for.
    pub grants: Arc<[GrantId]>,
    /// What is asked for.
    pub pick: Pick,
    /// Whether the answer must be of the grant that was asked for. A server that answers one fixed body cannot know it.
    pub is_fixed: bool,
}

/// A fixed answer holds this, so that it is looked at as thoroughly as a real one.
pub const FIXED_GRANT: &str = "00000000-0000-7000-8000-000000000000";

/// The requests of one connection.
pub enum Asker {
    /// Signs.
    Retrieve(Box<Signed>),
    /// Repeats.
    Plain {
        /// The requests.
        requests: Arc<[Vec<u8>]>,
        /// The one that comes next.
        next: usize,
        /// How many connections share them.
        step: usize,
        /// What the body must contain.
        needle: Arc<[u8]>,
    },
}

/// The state of a connection that signs.
pub struct Signed {
    plan: Retrieve,
    signing: SigningKey,
    dice: Dice,
    /// 16 bytes: eight of this connection, and a counter.
    nonce: ([u8; 8], u64),
    next: usize,
    step: usize,
    second: (i64, String),
    needle: Vec<u8>,
    body: String,
}

impl Plan {
    /// The requests of connection `index` of `connections`.
    pub fn asker(&self, index: usize, connections: usize) -> Asker {
        match self {
            Self::Plain { requests, needle } => {
                let (requests, needle) = (Arc::clone(requests), Arc::clone(needle));
                Asker::Plain { requests, next: index, step: connections, needle }
            }
            Self::Retrieve(plan) => Asker::Retrieve(Box::new(Signed {
                signing: SigningKey::derive(&plan.key),
                plan: plan.clone(),
                dice: Dice(u64::from_le_bytes(random(&Host)) | 1),
                nonce: (random(&Host), 0),
                next: index,
                step: connections,
                second: (0, String::new()),
                needle: Vec::new(),
                body: String::new(),
            })),
        }
    }
}

impl Asker {
    /// Writes the next request over `out`; `false` when there is none left.
    pub fn write(&mut self, out: &mut Vec<u8>) -> bool {
        out.clear();
        match self {
            Self::Plain { requests, next, step, .. } => {
                let Some(request) = requests.get(*next % requests.len().max(1)) else { return false };
                out.extend_from_slice(request);
                *next += *step;
                true
            }
            Self::Retrieve(signed) => signed.write(out),
        }
    }

    /// Whether this is the answer to the request written last.
    pub fn check(&self, answer: &Answer<'_>) -> Result {
        let needle = match self {
            Self::Plain { needle, .. } => needle,
            Self::Retrieve(signed) => signed.needle.as_slice(),
        };
        if answer.status == 200 && memchr::memmem::find(answer.body, needle).is_some() {
            return Ok(());
        }
        // An answer to a retrieve holds a credential, if only one of the lab's own: it is not shown.
        let shown: String = match answer.status {
            200 => format!("{} bytes without {}", answer.body.len(), String::from_utf8_lossy(needle)),
            _ => String::from_utf8_lossy(answer.body).chars().take(SHOWN_CHARS_MAX).collect(),
        };
        Err(Error(format!("void: status {}, {shown}", answer.status)))
    }
}

impl Signed {
    fn write(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(grant) = self.pick() else { return false };
        let asked = grant.to_string();
        let answered = if self.plan.is_fixed { FIXED_GRANT } else { &asked };
        self.needle.clear();
        self.needle.extend_from_slice(b"\"grant_id\":\"");
        self.needle.extend_from_slice(answered.as_bytes());
        self.body.clear();
        let written = write!(
            self.body,
            r#"{{"grant_id":"{asked}","reason":"load","request":{{"method":"GET","url":"https://api.example.com/v1/items"}}}}"#
        );
        debug_assert!(written.is_ok());
        let now = Host.now().0 / 1000;
        if self.second.0 != now {
            self.second = (now, now.to_string());
        }
        let mut nonce = [0; 16];
        self.nonce.1 += 1;
        nonce[..8].copy_from_slice(&self.nonce.0);
        nonce[8..].copy_from_slice(&self.nonce.1.to_be_bytes());
        let (nonce, body_hash) = (hex(&nonce), hex(&sha256(self.body.as_bytes())));
        let to_sign = ToSign {
            method: "POST",
            target: "/sdk/token",
            timestamp: &self.second.1,
            nonce: &nonce,
            content_sha256: &body_hash,
            ..ToSign::default()
        };
        let signature = self.signing.sign(&to_sign.text());
        out.extend_from_slice(b"POST /sdk/token HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
        let length = self.body.len().to_string();
        for (name, value) in [
            (sign::HEADER_KEY, &*self.plan.key),
            (sign::HEADER_TIMESTAMP, &self.second.1),
            (sign::HEADER_NONCE, &nonce),
            (sign::HEADER_CONTENT_SHA256, &body_hash),
            (sign::HEADER_SIGNATURE, &signature),
            ("content-length", &length),
        ] {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.body.as_bytes());
        true
    }

    fn pick(&mut self) -> Option<GrantId> {
        let grants = &self.plan.grants;
        match self.plan.pick {
            Pick::Random(first) => {
                let bound = u64::try_from(first.min(grants.len())).unwrap_or(u64::MAX);
                grants.get(usize::try_from(self.dice.roll() % bound.max(1)).unwrap_or(0)).copied()
            }
            Pick::Each => {
                let grant = grants.get(self.next).copied();
                self.next += self.step;
                grant
            }
        }
    }
}

/// Xorshift: spreads requests, and is no secret.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use grantd_wire::sign::unhex;

    use super::*;

    fn plan(pick: Pick, grants: usize) -> Plan {
        let grants: Vec<GrantId> =
            (0..grants).map(|_| GrantId::from_uuid(grantd_domain::env::new_uuid(&Host))).collect();
        Plan::Retrieve(Retrieve { key: "alter_rk_test".into(), grants: grants.into(), pick, is_fixed: false })
    }

    fn parts(request: &[u8]) -> (std::collections::BTreeMap<String, String>, String) {
        let text = std::str::from_utf8(request).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        (headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), body.to_owned())
    }

    #[test]
    fn requests_are_signed_and_no_nonce_comes_twice() {
        let mut out = Vec::new();
        let mut nonces = std::collections::BTreeSet::new();
        for mut asker in [0, 1].map(|i| plan(Pick::Random(3), 3).asker(i, 2)) {
            for _ in 0..50 {
                assert!(asker.write(&mut out));
                let (headers, body) = parts(&out);
                let signed = ToSign {
                    method: "POST",
                    target: "/sdk/token",
                    timestamp: &headers[sign::HEADER_TIMESTAMP],
                    nonce: &headers[sign::HEADER_NONCE],
                    content_sha256: &hex(&sha256(body.as_bytes())),
                    ..ToSign::default()
                };
                let signature = unhex(&headers[sign::HEADER_SIGNATURE]).unwrap();
                assert!(SigningKey::derive("alter_rk_test").verify(&signed.text(), &signature));
                assert_eq!(headers["content-length"], body.len().to_string());
                assert!(nonces.insert(headers[sign::HEADER_NONCE].clone()));
            }
        }
    }

    #[test]
    fn connections_share_the_grants_out_and_end_with_the_last() {
        let plan = plan(Pick::Each, 10);
        let Plan::Retrieve(Retrieve { grants, .. }) = &plan else { unreachable!() };
        let mut seen = Vec::new();
        let mut out = Vec::new();
        for mut asker in [0, 1, 2].map(|i| plan.asker(i, 3)) {
            while asker.write(&mut out) {
                let (_, body) = parts(&out);
                let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                seen.push(GrantId::parse(body["grant_id"].as_str().unwrap()).unwrap());
            }
        }
        seen.sort();
        let mut all = grants.to_vec();
        all.sort();
        assert_eq!(seen, all);
    }

    #[test]
    fn only_the_answer_that_was_asked_for_counts() {
        let plan = plan(Pick::Random(1), 1);
        let Plan::Retrieve(Retrieve { grants, .. }) = &plan else { unreachable!() };
        let mut asker = plan.asker(0, 1);
        assert!(asker.write(&mut Vec::new()));
        let good = format!(r#"{{"access_token":"secret","grant_id":"{}"}}"#, grants[0]);
        assert!(asker.check(&Answer { status: 200, body: good.as_bytes() }).is_ok());
        assert!(asker.check(&Answer { status: 201, body: good.as_bytes() }).is_err());
        let other = good.replace(&grants[0].to_string(), FIXED_GRANT);
        let error = asker.check(&Answer { status: 200, body: other.as_bytes() }).unwrap_err().to_string();
        assert!(error.starts_with("void: status 200") && !error.contains("secret"), "{error}");
    }
}
