//! Passwords of operators: which are taken, and how often they may be tried.
//!
//! Invariant: nobody is asked for digits or signs. What counts is that a password is long and not put together from what is guessed
//! first (NIST SP 800-63B-4, 3.1.1.2).

use grantd_wire::{Error, TimeMs, limits};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

/// The one form of a password: keyboards write the same letter in different ways.
pub fn normal(typed: &str) -> Zeroizing<String> {
    Zeroizing::new(typed.nfkc().collect())
}

/// Refuses a password that is too short, too long or too easily guessed. `known`: what is known of whose it is, such as their address.
pub fn check(password: &str, known: &[&str]) -> Result<(), Error> {
    let refused = |why: &str| Err(Error::impossible("password", why));
    let chars: Zeroizing<Vec<char>> = Zeroizing::new(password.chars().collect());
    if chars.len() < limits::PASSWORD_CHARS_MIN {
        return refused(&format!("must have at least {} characters: several words do", limits::PASSWORD_CHARS_MIN));
    }
    if chars.len() > limits::PASSWORD_CHARS_MAX {
        return refused(&format!("must have at most {} characters", limits::PASSWORD_CHARS_MAX));
    }
    if chars.iter().any(|c| c.is_control()) {
        return refused("must not have control characters");
    }
    let words = known.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    let known: Vec<Vec<char>> = known.iter().copied().chain(words).map(plain).collect();
    if pieces(&plain(password), &known) < PIECES_MIN {
        return refused("is guessed early: it is made of common words, runs or repetitions. Put other words together");
    }
    Ok(())
}

/// Pieces a password must be made of, where a common word, a run and a repetition are one piece each, and any other character is one.
const PIECES_MIN: usize = 8;
/// A shorter run, word or repetition is nothing but its characters.
const RUN_CHARS_MIN: usize = 3;
const WORD_CHARS_MIN: usize = 4;

/// The text in lower case, with letters where others stand for them.
fn plain(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// The letter that a sign is often written for.
fn letter(c: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        c => c,
    }
}

/// How many pieces the text falls into, the longest first from its beginning.
fn pieces(text: &[char], known: &[Vec<char>]) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        at += run(rest).max(word(rest, known)).max(year(rest)).max(repetition(&text[..at], rest)).max(1);
        count += 1;
    }
    count
}

/// Characters at the beginning that follow each other: `aaaa`, `1234`, `dcba`, `qwer`; 0: too few.
fn run(text: &[char]) -> usize {
    const ROWS: [&str; 4] = ["qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiopü"];
    let steps = |place: &dyn Fn(char) -> Option<i64>| {
        let step = |pair: &[char]| Some(place(pair[1])? - place(pair[0])?);
        let first = text.get(..2).and_then(step).filter(|step| (-1..=1).contains(step));
        let same = text.windows(2).take_while(|pair| first.is_some() && step(pair) == first).count();
        if same + 1 < RUN_CHARS_MIN { 0 } else { same + 1 }
    };
    let in_row = |row: &str, c: char| row.chars().position(|known| known == c).and_then(|at| i64::try_from(at).ok());
    let by_code = steps(&|c| Some(i64::from(u32::from(c))));
    ROWS.iter().map(|row| steps(&|c| in_row(row, c))).fold(by_code, usize::max)
}

/// Length of the longest word at the beginning that is guessed first, or known of whose password it is.
fn word(text: &[char], known: &[Vec<char>]) -> usize {
    let begins = |word: &mut dyn Iterator<Item = char>| {
        let mut len = 0;
        for c in word {
            let fits = text.get(len).is_some_and(|typed| *typed == c || letter(*typed) == c);
            if !fits {
                return 0;
            }
            len += 1;
        }
        if len < WORD_CHARS_MIN { 0 } else { len }
    };
    let common = COMMON.iter().map(|word| begins(&mut word.chars())).max().unwrap_or(0);
    known.iter().map(|word| begins(&mut word.iter().copied())).fold(common, usize::max)
}

/// A year of the last and this century.
fn year(text: &[char]) -> usize {
    let is_year = text.len() >= 4
        && matches!((text[0], text[1]), ('1', '9') | ('2', '0'))
        && text[2..4].iter().all(char::is_ascii_digit);
    if is_year { 4 } else { 0 }
}

/// How much of the beginning stood there before.
fn repetition(before: &[char], text: &[char]) -> usize {
    let longest = (RUN_CHARS_MIN..=text.len()).rev();
    longest.into_iter().find(|len| before.windows(*len).any(|part| part == &text[..*len])).unwrap_or(0)
}

/// What people take first, in lower case.
const COMMON: &[&str] = &[
    "access",
    "admin",
    "administrator",
    "alexander",
    "amanda",
    "andrea",
    "andrew",
    "angel",
    "anthony",
    "april",
    "asdf",
    "august",
    "autumn",
    "baseball",
    "basketball",
    "batman",
    "battery",
    "buster",
    "changeme",
    "changeit",
    "charlie",
    "cheese",
    "chelsea",
    "chocolate",
    "coffee",
    "company",
    "computer",
    "correct",
    "daniel",
    "database",
    "december",
    "default",
    "diamond",
    "donald",
    "dragon",
    "easter",
    "enter",
    "family",
    "february",
    "flower",
    "football",
    "forever",
    "freedom",
    "friday",
    "george",
    "ginger",
    "google",
    "grantd",
    "guest",
    "hallo",
    "hannah",
    "harley",
    "hello",
    "hockey",
    "hunter",
    "internet",
    "iloveyou",
    "january",
    "jennifer",
    "jessica",
    "jordan",
    "joshua",
    "july",
    "june",
    "justin",
    "killer",
    "letmein",
    "liverpool",
    "london",
    "login",
    "lovely",
    "loveyou",
    "maggie",
    "manager",
    "march",
    "martin",
    "master",
    "matrix",
    "matthew",
    "merlin",
    "michael",
    "michelle",
    "monday",
    "monkey",
    "mustang",
    "nicole",
    "november",
    "october",
    "office",
    "operator",
    "orange",
    "parola",
    "passphrase",
    "passw",
    "passwd",
    "passwort",
    "password",
    "pepper",
    "phoenix",
    "please",
    "pokemon",
    "princess",
    "private",
    "purple",
    "qazwsx",
    "qwerty",
    "qwertz",
    "ranger",
    "robert",
    "root",
    "samsung",
    "saturday",
    "secret",
    "secure",
    "security",
    "september",
    "server",
    "shadow",
    "silver",
    "snoopy",
    "soccer",
    "spring",
    "staple",
    "starwars",
    "summer",
    "sunday",
    "sunshine",
    "superman",
    "support",
    "system",
    "temp",
    "test",
    "thomas",
    "thursday",
    "tigger",
    "trustno",
    "tuesday",
    "user",
    "vault",
    "wednesday",
    "welcome",
    "whatever",
    "william",
    "winter",
    "yellow",
    "zaq1",
    "1q2w3e4r",
    "1qaz",
    "2wsx",
    "3edc",
    "q1w2e3r4",
];

/// When one more attempt may be made after `attempts` in a row that were wrong, of which the last was at `last`.
pub fn next_attempt_at(attempts: i64, last: TimeMs) -> TimeMs {
    let waits = attempts - limits::SIGN_IN_ATTEMPTS_FREE;
    if waits < 0 {
        return last;
    }
    // More doublings than the longest wait has.
    let seconds = limits::SIGN_IN_WAIT_S << waits.min(16);
    last.plus_seconds(seconds.min(limits::SIGN_IN_WAIT_MAX_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ones_that_nobody_guesses_first_are_taken() {
        for good in [
            "violet kettle moth",
            "we walked to the harbour twice",
            "Zt8#kQ2!vLx9@mWd",
            "überschwänglich-9-möwen",
            "пятьсот зелёных слонов",
            "a gorilla eats 2 pears",
        ] {
            assert!(check(good, &["ann@example.com"]).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_guessed_early_is_refused_however_long() {
        for bad in [
            "aaaaaaaaaaaaaaaaaaaa",
            "passwordpassword",
            "P@ssw0rdP@ssw0rd123",
            "Password123456789",
            "qwertyuiopasdfghjkl",
            "123456789012345678",
            "1q2w3e4r1q2w3e4r",
            "1qaz2wsx3edc1qaz",
            "Summer2026Winter2026",
            "welcome-welcome-welcome",
            "abcabcabcabcabcabc",
            "xyq!xyq!xyq!xyq!xyq!",
            "ann.sawyer@example.com",
            "annsawyerannsawyer1",
            "correctbatterystaple",
        ] {
            let refused = check(bad, &["ann.sawyer@example.com", "annsawyer"]).unwrap_err();
            assert!(refused.message.contains("guessed early"), "{bad}: {}", refused.message);
        }
    }

    #[test]
    fn length_is_counted_in_characters() {
        let of = |chars: usize| "äüxq7wKz9#Pm4vLt2&".chars().cycle().take(chars).collect::<String>();
        let why = |text: &str| check(text, &[]).err().map(|e| e.message);
        assert!(why(&of(limits::PASSWORD_CHARS_MIN - 1)).unwrap().contains("at least 15"));
        assert_eq!(why(&of(limits::PASSWORD_CHARS_MIN)), None);
        assert_eq!(why(&of(limits::PASSWORD_CHARS_MAX)), None);
        assert!(why(&of(limits::PASSWORD_CHARS_MAX + 1)).unwrap().contains("at most 128"));
        assert!(why("violet kettle\nmoth").unwrap().contains("control"));
    }

    #[test]
    fn a_letter_is_the_same_however_it_was_typed() {
        assert_eq!(*normal("Mo\u{308}wen"), *normal("M\u{f6}wen"));
        assert_eq!(*normal("ﬁne"), "fine");
    }

    #[test]
    fn attempts_wait_longer_and_longer_and_never_for_good() {
        let last = TimeMs(1_000_000);
        let wait = |attempts| next_attempt_at(attempts, last).since(last) / 1000;
        assert_eq!((wait(0), wait(4)), (0, 0));
        assert_eq!([5, 6, 7, 8, 9, 10, 11, 12].map(wait), [30, 60, 120, 240, 480, 960, 1_920, 3_600]);
        assert_eq!((wait(1_000), wait(i64::MAX)), (3_600, 3_600));
    }
}
