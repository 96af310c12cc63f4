//! What is counted for each hour of an app, and what follows from such counts.
//!
//! Calls and renewals are counted from the events of the trail, each once. How long calls took is counted beside them, in buckets
//! whose bounds rise by a quarter of a power of two: a percentile is known to a fifth of itself, whatever its size.

use std::collections::HashMap;
use std::sync::LazyLock;

use grantd_wire::{Code, TimeMs};

use crate::audit::{Kind, Terms, term};

/// An hour.
pub const HOUR_MS: i64 = 3_600_000;

/// The beginning of the hour that a moment is in.
pub fn hour_of(at: TimeMs) -> TimeMs {
    TimeMs(at.0.div_euclid(HOUR_MS) * HOUR_MS)
}

/// Something that is counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum What {
    /// A credential was handed out.
    Allowed,
    /// It was not: with this code, if it is one of ours.
    Refused(Option<Code>),
    /// A provider issued a new token.
    Refreshed,
    /// It did not.
    RefreshFailed,
    /// A call that was allowed took as long as this bucket says.
    Took(Bucket),
}

const REFUSED: &str = "refused.";
const TOOK: &str = "took.";

impl What {
    /// The stable text.
    pub fn text(self) -> String {
        match self {
            Self::Allowed => "allowed".to_owned(),
            Self::Refused(code) => format!("{REFUSED}{}", code.map_or("", Code::as_str)),
            Self::Refreshed => "refreshed".to_owned(),
            Self::RefreshFailed => "refresh_failed".to_owned(),
            Self::Took(Bucket(place)) => format!("{TOOK}{place}"),
        }
    }

    /// What is written so.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "allowed" => Some(Self::Allowed),
            "refreshed" => Some(Self::Refreshed),
            "refresh_failed" => Some(Self::RefreshFailed),
            _ => match (text.strip_prefix(REFUSED), text.strip_prefix(TOOK)) {
                // A code that a later version has is one that this one does not know.
                (Some(code), _) => Some(Self::Refused(Code::parse(code))),
                (_, Some(place)) => place.parse().ok().and_then(Bucket::at).map(Self::Took),
                _ => None,
            },
        }
    }

    /// What an event with these terms is counted as, if it is.
    pub fn of(terms: &Terms) -> Option<Self> {
        static KINDS: LazyLock<[(i64, Option<What>); 5]> = LazyLock::new(|| {
            [
                (Kind::TokenReleased, Some(What::Allowed)),
                (Kind::TokenDenied, None),
                (Kind::CredentialRefreshed, Some(What::Refreshed)),
                (Kind::CredentialRefreshFailed, Some(What::RefreshFailed)),
                (Kind::CredentialBroken, Some(What::RefreshFailed)),
            ]
            .map(|(kind, what)| (term("kind", kind.as_str()), what))
        });
        static CODES: LazyLock<HashMap<i64, Code>> =
            LazyLock::new(|| Code::ALL.iter().map(|code| (term("code", code.as_str()), *code)).collect());
        let (_, what) = KINDS.iter().find(|(kind, _)| terms.contains(*kind))?;
        Some(what.unwrap_or_else(|| Self::Refused(terms.all().iter().find_map(|term| CODES.get(term).copied()))))
    }

    /// Whether a refused call failed, and was not denied: nobody decided against it.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Refused(Some(code)) if code.status() >= 500)
    }
}

/// How long something took, about: one of [`BUCKETS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bucket(u8);

/// Buckets in one doubling.
const PER_OCTAVE: u32 = 4;
/// The first bucket ends at 80 µs: below 64 µs nothing is told apart.
const FIRST_OCTAVE: u32 = 6;
/// Buckets there are; the last one ends at 67 s, and takes everything above.
pub const BUCKETS: u8 = 80;

impl Bucket {
    /// The bucket of a time in microseconds.
    pub fn of_us(us: u64) -> Self {
        let us = us.max(1 << FIRST_OCTAVE);
        let octave = us.ilog2();
        let quarter = (us >> (octave - 2)) & u64::from(PER_OCTAVE - 1);
        let place = u64::from((octave - FIRST_OCTAVE) * PER_OCTAVE) + quarter;
        Self(u8::try_from(place).unwrap_or(BUCKETS).min(BUCKETS - 1))
    }

    fn at(place: u8) -> Option<Self> {
        (place < BUCKETS).then_some(Self(place))
    }

    /// Where it begins, in microseconds.
    fn begins_us(self) -> u64 {
        let (octave, quarter) = (FIRST_OCTAVE + u32::from(self.0) / PER_OCTAVE, u64::from(self.0) % 4);
        if self.0 == 0 { 0 } else { (4 + quarter) << (octave - 2) }
    }

    /// Where it ends.
    fn ends_us(self) -> u64 {
        let (octave, quarter) = (FIRST_OCTAVE + u32::from(self.0) / PER_OCTAVE, u64::from(self.0) % 4);
        (5 + quarter) << (octave - 2)
    }
}

/// How many calls took how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times([u64; BUCKETS as usize]);

impl Default for Times {
    fn default() -> Self {
        Self([0; BUCKETS as usize])
    }
}

impl Times {
    /// Counts calls.
    pub fn add(&mut self, bucket: Bucket, calls: u64) {
        self.0[usize::from(bucket.0)] += calls;
    }

    /// Calls that were counted.
    pub fn calls(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time in microseconds that this share of the calls, in thousandths, did not exceed; `None` without a call. Within a bucket
    /// calls are taken to lie evenly.
    pub fn percentile_us(&self, thousandths: u64) -> Option<u64> {
        let calls = self.calls();
        let rank = (calls * thousandths).div_ceil(1000).max(1);
        let mut before = 0;
        for (count, place) in self.0.iter().zip(0..) {
            if before + count >= rank && *count > 0 {
                let bucket = Bucket(place);
                let width = bucket.ends_us() - bucket.begins_us();
                return Some(bucket.begins_us() + width * (rank - before) / count);
            }
            before += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_read_back() {
        let took = (0..BUCKETS).map(|place| What::Took(Bucket(place)));
        let refused = Code::ALL.iter().map(|code| What::Refused(Some(*code)));
        let others = [What::Allowed, What::Refused(None), What::Refreshed, What::RefreshFailed];
        for what in took.chain(refused).chain(others) {
            assert_eq!(What::parse(&what.text()), Some(what));
        }
        assert_eq!(What::parse("refused.of_a_later_version"), Some(What::Refused(None)));
        for bad in ["", "took.", "took.80", "took.-1", "took.x", "Allowed"] {
            assert_eq!(What::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for place in 1..BUCKETS {
            assert_eq!(Bucket(place - 1).ends_us(), Bucket(place).begins_us(), "{place}");
        }
        let cases =
            [(0, 0), (63, 0), (64, 0), (79, 0), (80, 1), (127, 3), (128, 4), (1_000, 15), (u64::MAX, BUCKETS - 1)];
        for (us, place) in cases {
            assert_eq!(Bucket::of_us(us), Bucket(place), "{us}");
        }
        assert_eq!(
            Bucket::of_us(Bucket(BUCKETS - 1).ends_us()),
            Bucket(BUCKETS - 1),
            "what takes longer is the last one's"
        );
    }

    #[test]
    fn a_percentile_is_of_the_calls_there_are() {
        let mut times = Times::default();
        assert_eq!(times.percentile_us(500), None);
        times.add(Bucket::of_us(1_000), 1);
        assert_eq!(times.percentile_us(1), times.percentile_us(999));
        let mut times = Times::default();
        times.add(Bucket::of_us(1_000), 98);
        times.add(Bucket::of_us(50_000), 2);
        assert!(times.percentile_us(950).unwrap() <= 1_024);
        assert!(times.percentile_us(990).unwrap() >= 40_960);
        assert_eq!(times.calls(), 100);
    }

    #[test]
    fn a_moment_before_all_time_has_an_hour_too() {
        assert_eq!(hour_of(TimeMs(HOUR_MS + 1)), TimeMs(HOUR_MS));
        assert_eq!(hour_of(TimeMs(-1)), TimeMs(-HOUR_MS));
    }

    proptest! {
        #[test]
        fn a_percentile_is_right_to_a_quarter(mut times in prop::collection::vec(80u64..60_000_000, 1..200), share in 1u64..=1000) {
            let mut counted = Times::default();
            for us in &times {
                counted.add(Bucket::of_us(*us), 1);
            }
            times.sort_unstable();
            let rank = usize::try_from((u64::try_from(times.len()).unwrap() * share).div_ceil(1000)).unwrap();
            let (right, found) = (times[rank - 1], counted.percentile_us(share).unwrap());
            prop_assert!(found.abs_diff(right) <= right / 4 + 1, "{found} for {right}");
        }
    }
}
