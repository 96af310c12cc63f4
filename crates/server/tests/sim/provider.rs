//! A model of a provider: what it issues, spends and revokes.

use grantd_domain::provider::Ends;
use grantd_wire::TimeMs;

use crate::chance::Chance;

/// What becomes of a refresh token when it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rotation {
    /// It ends.
    Strict,
    /// It ends when what came of it is used.
    Grace,
    /// It stays.
    Never,
}

/// What becomes of one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is answered after this long.
    Answered { after_ms: i64 },
    /// What was asked for happens, and the answer is lost.
    AnswerLost,
    /// What was asked for happens, and something in front of it says 502.
    BadGateway,
    /// The connection breaks before anything happens.
    Cut,
    /// Nothing can be sent.
    Unreached,
    /// It says 503, and nothing happens.
    Busy,
    /// It says something that is not OAuth, and nothing happens.
    Garbage,
    /// It does not accept the client.
    WrongClient,
}

/// How a provider behaves.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    pub rotation: Rotation,
    /// A spent refresh token that comes again ends all that came of the consent.
    pub reuse_ends_family: bool,
    /// A new consent ends those before.
    pub one_consent: bool,
    pub ends: Ends,
    pub life_ms: i64,
    /// Of a thousand calls, those that go wrong.
    pub trouble_permille: usize,
    /// Of a thousand calls that do not, those that take longer than anybody waits.
    pub late_permille: usize,
    pub is_slow: bool,
}

impl Temper {
    pub fn draw(chance: &Chance) -> Self {
        let rotation = chance.one_of(&[Rotation::Strict, Rotation::Strict, Rotation::Grace, Rotation::Never]);
        Self {
            rotation,
            reuse_ends_family: rotation == Rotation::Strict && chance.is(500),
            one_consent: chance.is(300),
            ends: chance.one_of(&[Ends::Token, Ends::Grant]),
            life_ms: chance.one_of(&[4_000, 60_000, 600_000, 3_600_000]),
            trouble_permille: chance.one_of(&[0, 0, 150, 500]),
            late_permille: chance.one_of(&[0, 0, 100]),
            is_slow: chance.is(300),
        }
    }

    pub fn fate(&self, chance: &Chance) -> Fate {
        if chance.is(self.trouble_permille) {
            return chance.one_of(&[
                Fate::AnswerLost,
                Fate::AnswerLost,
                Fate::BadGateway,
                Fate::Cut,
                Fate::Unreached,
                Fate::Busy,
                Fate::Garbage,
                Fate::WrongClient,
            ]);
        }
        let after_ms = match chance.is(self.late_permille) {
            true => chance.within(10_001, 30_000),
            false if self.is_slow => chance.within(1_000, 9_500),
            false => chance.within(20, 400),
        };
        Fate::Answered { after_ms }
    }

    /// Nothing goes wrong from now on.
    pub const fn heal(&mut self) {
        (self.trouble_permille, self.late_permille, self.is_slow) = (0, 0, false);
    }
}

/// What was issued together. Numbers count up, over all that a provider issues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The consent it came of.
    pub family: usize,
    pub refresh: usize,
    pub access: usize,
}

impl Pair {
    pub fn seal(self) -> Vec<u8> {
        format!("{} {} {}", self.family, self.refresh, self.access).into_bytes()
    }

    pub fn open(sealed: &[u8]) -> Self {
        let mut numbers = std::str::from_utf8(sealed).unwrap().split(' ').map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Self { family: next(), refresh: next(), access: next() }
    }
}

struct Refresh {
    family: usize,
    parent: Option<usize>,
    /// The exchange that used it last.
    used_by: Option<usize>,
    /// It is refused.
    is_over: bool,
}

/// The provider's own books.
pub struct Provider {
    pub temper: Temper,
    refresh: Vec<Refresh>,
    /// When each access token ends.
    access: Vec<TimeMs>,
    /// Of each consent, whether it has ended.
    families: Vec<bool>,
}

impl Provider {
    pub const fn new(temper: Temper) -> Self {
        Self { temper, refresh: Vec::new(), access: Vec::new(), families: Vec::new() }
    }

    /// A user consents.
    pub fn consent(&mut self, now: TimeMs) -> Pair {
        if self.temper.one_consent {
            self.families.fill(true);
        }
        self.families.push(false);
        let family = self.families.len() - 1;
        let refresh = self.issue(family, None);
        Pair { family, refresh, access: self.issue_access(now) }
    }

    fn issue(&mut self, family: usize, parent: Option<usize>) -> usize {
        self.refresh.push(Refresh { family, parent, used_by: None, is_over: false });
        self.refresh.len() - 1
    }

    fn issue_access(&mut self, now: TimeMs) -> usize {
        self.access.push(now.plus_ms(self.temper.life_ms));
        self.access.len() - 1
    }

    /// A refresh token is presented; `None`: `invalid_grant`.
    pub fn exchange(&mut self, refresh: usize, by: usize, now: TimeMs) -> Option<Pair> {
        let family = self.refresh[refresh].family;
        if self.families[family] {
            return None;
        }
        if self.refresh[refresh].is_over {
            self.families[family] = self.temper.reuse_ends_family;
            return None;
        }
        let next = match self.temper.rotation {
            Rotation::Never => refresh,
            Rotation::Strict => {
                self.refresh[refresh].is_over = true;
                self.issue(family, Some(refresh))
            }
            Rotation::Grace => {
                if let Some(parent) = self.refresh[refresh].parent {
                    self.refresh[parent].is_over = true;
                }
                self.issue(family, Some(refresh))
            }
        };
        self.refresh[refresh].used_by = Some(by);
        Some(Pair { family, refresh: next, access: self.issue_access(now) })
    }

    /// The exchange that spent a refresh token, if it is refused because of that.
    pub fn spent_by(&self, refresh: usize) -> Option<usize> {
        self.refresh[refresh].used_by.filter(|_| self.refresh[refresh].is_over)
    }

    /// Whether a pair can be renewed.
    pub fn is_good(&self, pair: Pair) -> bool {
        !self.families[pair.family] && !self.refresh[pair.refresh].is_over
    }

    pub fn has_ended(&self, family: usize) -> bool {
        self.families[family]
    }

    pub fn access_ends(&self, access: usize) -> TimeMs {
        self.access[access]
    }

    /// The user, or somebody else who may, ends a consent.
    pub fn revoke(&mut self, family: usize) {
        self.families[family] = true;
    }

    /// We end a pair.
    pub fn revoke_pair(&mut self, pair: Pair) {
        match self.temper.ends {
            Ends::Token => self.families[pair.family] = true,
            Ends::Grant => self.families.fill(true),
        }
    }
}
