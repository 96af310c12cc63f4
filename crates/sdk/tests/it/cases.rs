//! `CASES.md` is complete and true.

use std::collections::{BTreeMap, BTreeSet};

const CASES: &str = include_str!("../CASES.md");
/// What the vault has.
const OF_THE_VAULT: &str = include_str!("../../../../conformance/CASES.md");
const SOURCES: &[&str] = &[
    include_str!("conformance.rs"),
    include_str!("connect.rs"),
    include_str!("key_entry.rs"),
    include_str!("main.rs"),
    include_str!("sign_in.rs"),
    include_str!("../../src/signing.rs"),
    include_str!("../../../grantd/tests/sdk/connect.rs"),
    include_str!("../../../grantd/tests/sdk/main.rs"),
    include_str!("../../../grantd/tests/sdk/sign_in.rs"),
];

/// Class and reason by case, of the table of the 103.
fn cases(page: &'static str) -> BTreeMap<u32, (&'static str, &'static str)> {
    let mut cases = BTreeMap::new();
    for line in page.lines().take_while(|line| !line.starts_with("## ")) {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let Some(number) = cells.next().and_then(|cell| cell.parse().ok()) else { continue };
        let row = (cells.next().unwrap(), cells.next().unwrap());
        assert!(cases.insert(number, row).is_none(), "case {number} is listed twice");
    }
    cases
}

/// The numbers in the names of tests: `fn core_03_core_04_plain_http` shows two.
fn shown() -> BTreeSet<u32> {
    let names = SOURCES.iter().flat_map(|source| source.split("fn core_").skip(1));
    let parts = names.flat_map(|rest| {
        let name = rest.split('(').next().unwrap_or_default();
        name.split("core_").filter_map(|part| part.split('_').next()?.parse().ok()).collect::<Vec<_>>()
    });
    parts.collect()
}

#[test]
fn every_case_is_classified_and_has_a_test_or_a_reason() {
    let (cases, of_the_vault, shown) = (cases(CASES), cases(OF_THE_VAULT), shown());
    assert!(of_the_vault.keys().eq(cases.keys()), "the vault's list has other cases");
    assert_eq!(cases.keys().copied().collect::<Vec<_>>(), (1..=103).collect::<Vec<_>>());
    for (number, (class, why)) in cases {
        match class {
            "test" => assert!(shown.contains(&number), "case {number} has no test"),
            "python" | "none" | "later" => {
                assert!(!why.is_empty(), "case {number} has no reason");
                assert!(!shown.contains(&number), "case {number} has a test already");
                let is_late = class == "later" && of_the_vault[&number].0 == "server";
                assert!(!is_late, "case {number} is not to wait any longer: the vault has its part");
            }
            _ => panic!("case {number} is of no class there is: {class}"),
        }
    }
}
