//! What comes from outside, thrown at the code that reads it. `cargo xtask fuzz` builds and runs every target.
//!
//! One program for all targets, so that everything is linked once: `GRANTD_FUZZ_TARGET` names the one to run. libFuzzer ends the
//! run at the first panic and keeps the input; what a target asserts beside not panicking stands in its doc comment.
//!
//! Built in the plain way, without the fuzzer, it runs the files it is given and ends: that is how a failure is looked into. Its
//! tests run every input of `corpus/`.
#![cfg_attr(feature = "libfuzzer", no_main)]
#![expect(clippy::expect_used, reason = "a target that cannot go on has found something")]

mod forms;
mod identity;
mod server;

type Target = fn(&[u8]);

/// Every target, by its name: that of a directory in `corpus/`.
const TARGETS: &[(&str, Target)] = &[
    ("audit", forms::audit),
    ("context", forms::context),
    ("destination", forms::destination),
    ("head", server::head),
    ("identity", identity::identity),
    ("keys", forms::keys),
    ("management", server::management),
    ("passkey", forms::passkey),
    ("sdk", server::sdk),
    ("scim", forms::scim),
    ("sealed", forms::sealed),
    ("webhook", forms::webhook),
];

/// The target that the environment names.
#[cfg(not(test))]
#[expect(clippy::disallowed_methods, reason = "libFuzzer has the command line for itself")]
fn target() -> Target {
    let name = std::env::var("GRANTD_FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.map_or_else(
        || {
            let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
            panic!("GRANTD_FUZZ_TARGET is `{name}`: set it to one of {}", names.join(", "))
        },
        |(_, target)| *target,
    )
}

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static TARGET: std::sync::OnceLock<Target> = std::sync::OnceLock::new();
    TARGET.get_or_init(target)(data);
});

#[cfg(not(any(feature = "libfuzzer", test)))]
fn main() {
    let target = target();
    for file in std::env::args_os().skip(1) {
        target(&std::fs::read(&file).expect("the input can be read"));
        println!("{}: nothing found", file.display());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::TARGETS;

    #[test]
    fn every_kept_input_passes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let kept: BTreeSet<_> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(kept, TARGETS.iter().map(|(name, _)| (*name).into()).collect());
        for (name, target) in TARGETS {
            for input in fs::read_dir(corpus.join(name)).unwrap() {
                target(&fs::read(input.unwrap().path()).unwrap());
            }
        }
    }
}
