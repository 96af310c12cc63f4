//! What each command prints, kept in `crates/grantd/tests/golden`: as a table of 100 columns, as JSON, and on a terminal of 40.
//!
//! A story is told to a real server on SQLite. Each of its command lines runs three times: the first asks the server, and the others
//! are given the same answers again, so that what creates or deletes is shown in every form. Ids, keys, times and places are replaced
//! by others of their length. After a change that is meant: `GRANTD_GOLDEN=write cargo test -p grantd golden`, and read the difference.

mod mask;
mod scene;
mod story;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use super::super::Cli;
use mask::mask;
use scene::{FORMS, Form, Said, Scene};
use story::{NOT_TOLD, STORY, Step, step};

#[tokio::test]
async fn what_each_command_prints_is_as_it_was() {
    let mut scene = Scene::set().await;
    let mut pages: BTreeMap<String, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    for step in STORY {
        let page = pages.entry(leaf(&scene.words(step))).or_default();
        let told = tell(&mut scene, step, &mut wrong).await;
        if !page.is_empty() {
            page.push_str("\n\n");
        }
        page.push_str(&told);
    }
    assert_eq!(pages.keys().map(String::as_str).collect::<Vec<_>>(), told_leaves(), "every command is in the story");
    compare(&pages);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// No slug is given again, so that a number in it is no sign of another secret.
#[tokio::test]
async fn an_import_after_a_deletion_makes_one_and_only_one() {
    const IMPORT: Step = Step { files: &[("s.env", "STRIPE_TOKEN=example\n")], ..step("import env $DIR/s.env --yes") };
    let mut scene = Scene::set().await;
    let mut run = async |step: Step| {
        let said = scene.run(&step, &FORMS[0]).await;
        assert_eq!(said.exit, step.exit, "{}: {}{}", step.line, said.out, said.err);
        (serde_json::from_str::<serde_json::Value>(&said.out).unwrap_or_default(), said.err)
    };
    run(step("auth login --token-file $DATA/operator.pat")).await;
    run(Step { saves: &[("APP", "/id")], ..step("apps create --name shop") }).await;
    run(step("link $APP")).await;
    let said = |(page, _): &(serde_json::Value, String)| {
        let item = &page["items"][0];
        [&item["outcome"], &item["slug"], &item["why"]].map(|text| text.as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(said(&run(IMPORT).await), ["created", "stripe-token", ""]);
    run(step("managed-secrets delete stripe-token --confirm stripe-token")).await;
    let dry = run(Step { line: "import env $DIR/s.env --dry-run", ..IMPORT }).await;
    assert_eq!(said(&dry), ["would_create", "stripe-token", ""]);
    assert!(dry.1.contains("where a deleted secret had it"), "{}", dry.1);
    let why = "the slug stripe-token is or was that of another secret";
    assert_eq!(said(&run(IMPORT).await), ["created", "stripe-token-2", why]);
    for line in ["import env $DIR/s.env --yes", "import env $DIR/s.env --dry-run"] {
        assert_eq!(said(&run(Step { line, ..IMPORT }).await), ["exists", "stripe-token-2", ""], "{line}");
    }
    assert_eq!(run(step("managed-secrets list")).await.0["total"], 1);
}

/// One command line in its three forms.
async fn tell(scene: &mut Scene, step: &Step, wrong: &mut Vec<String>) -> String {
    let mut text = format!("$ grantd {}\n", step.line);
    for form in FORMS {
        let said = scene.run(step, form).await;
        if said.exit != step.exit {
            wrong.push(format!("{}: exit {:?}, not {:?}\n{}{}", step.line, said.exit, step.exit, said.out, said.err));
        }
        let said = Said { out: mask(&said.out), err: mask(&said.err), ..said };
        if let Some(line) = too_wide(step, form, &said.out) {
            wrong.push(format!("{}: wider than {}: {line}", step.line, form.width));
        }
        let _ = write!(text, "\n--- {}, exit {}\n{}", form.name, said.exit as u8, said.out);
        for line in said.err.lines() {
            let _ = writeln!(text, "stderr: {line}");
        }
    }
    text
}

/// A line of a table that is wider than its terminal, and more than a word.
fn too_wide<'a>(step: &Step, form: &Form, out: &'a str) -> Option<&'a str> {
    let is_free = step.wide || form.output != "table";
    let is_wide = |line: &str| line.chars().count() > usize::from(form.width) && line.trim().contains(' ');
    out.lines().find(|line| !is_free && is_wide(line))
}

/// The command that these words call: `managed-secrets grants create`.
fn leaf(words: &[String]) -> String {
    let root = Cli::command();
    let (mut command, mut names) = (&root, Vec::new());
    for word in words {
        let Some(found) = command.find_subcommand(word) else { break };
        names.push(found.get_name().to_owned());
        command = found;
    }
    assert!(command.get_subcommands().next().is_none(), "`{}` is no whole command", words.join(" "));
    names.join(" ")
}

/// Every command there is but those of [`NOT_TOLD`], sorted.
fn told_leaves() -> Vec<String> {
    fn walk(command: &clap::Command, before: &[&str], leaves: &mut Vec<String>) {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let names = [before, &[inner.get_name()]].concat();
            match inner.get_subcommands().next() {
                Some(_) => walk(inner, &names, leaves),
                None => leaves.push(names.join(" ")),
            }
        }
    }
    let mut leaves = Vec::new();
    walk(&Cli::command(), &[], &mut leaves);
    for (name, reason) in NOT_TOLD {
        let is_there = leaves.iter().any(|leaf| leaf == name);
        assert!(is_there && !reason.is_empty(), "there is no command `{name}`: its reason can go");
    }
    leaves.retain(|leaf| NOT_TOLD.iter().all(|(name, _)| name != leaf));
    leaves.sort();
    leaves
}

/// Compares with the files, or writes them where that is asked for.
fn compare(pages: &BTreeMap<String, String>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let file = |leaf: &str| directory.join(leaf.replace(' ', "-")).with_extension("txt");
    if crate::env::Env::of_process().find("GRANTD_GOLDEN") == Some("write") {
        for (leaf, page) in pages {
            std::fs::write(file(leaf), page).unwrap();
        }
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut expected: Vec<PathBuf> = pages.keys().map(|leaf| file(leaf)).collect();
    expected.sort();
    assert_eq!(
        files, expected,
        "a file for each command and no others; GRANTD_GOLDEN=write makes those that are missing"
    );
    let changed: Vec<String> = pages
        .iter()
        .filter_map(|(leaf, page)| {
            let kept = std::fs::read_to_string(file(leaf)).unwrap();
            (kept != *page).then(|| difference(&file(leaf), &kept, page))
        })
        .collect();
    let how = "If this is meant: GRANTD_GOLDEN=write cargo test -p grantd golden, and read the difference.";
    assert!(changed.is_empty(), "{}\n{how}", changed.join("\n"));
}

/// The first line that differs, with those before it.
fn difference(file: &Path, kept: &str, now: &str) -> String {
    let same = kept.lines().zip(now.lines()).take_while(|(kept, now)| kept == now).count();
    let before: Vec<&str> = now.lines().take(same).skip(same.saturating_sub(8)).collect();
    let (was, is) = (kept.lines().nth(same).unwrap_or("(its end)"), now.lines().nth(same).unwrap_or("(its end)"));
    format!("{}:{}\n{}\n- {was}\n+ {is}\n", file.display(), same + 1, before.join("\n"))
}

/// Codes of refusals that are this command line's own.
const LOCAL: &[&str] = &[
    "usage",
    "failed",
    "not_found",
    "not_signed_in",
    "unreachable",
    "broken_off",
    "redirected",
    "unexpected_answer",
    "timeout",
    "invalid_config",
    "kv_failed",
    "kv_forbidden",
];
/// How a message names the next step where there is no hint.
const STEPS: &[&str] = &["repeat it with ", "`grantd ", "write ", "there are: ", "did you mean ", "use "];

#[test]
fn every_local_refusal_says_what_to_do_next() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (mut seen, mut helpless) = (0, Vec::new());
    for file in std::fs::read_dir(directory).unwrap() {
        let page = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in page.lines().filter_map(|line| line.strip_prefix("stderr: {")) {
            let refusal: serde_json::Value = serde_json::from_str(&format!("{{{line}")).unwrap();
            if !LOCAL.contains(&refusal["error"].as_str().unwrap()) {
                continue;
            }
            seen += 1;
            let names_a_step = STEPS.iter().any(|step| refusal["message"].as_str().unwrap().contains(step));
            if refusal["hint"].is_null() && !names_a_step {
                helpless.push(line.to_owned());
            }
        }
    }
    assert!(seen > 20, "only {seen}: are the files where they were?");
    assert!(helpless.is_empty(), "these say no and nothing else:\n{}", helpless.join("\n"));
}
