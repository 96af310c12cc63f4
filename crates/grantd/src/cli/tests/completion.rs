//! Scripts of `completion`, in the shells that read them.

use std::process::Command;

use super::*;
use crate::scratch::Scratch;

/// What a shell prints, if this machine has it.
fn said(shell: &str, arguments: &[&str]) -> Option<String> {
    let done = match Command::new(shell).args(arguments).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        done => done.unwrap(),
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(done.stdout), text(done.stderr));
    assert!(done.status.success() && err.is_empty(), "{shell} {arguments:?}: {out}{err}");
    Some(out)
}

#[tokio::test]
async fn completion_scripts_load_and_complete() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = grantd(&["completion", shell], "", &[]).await.out;
        std::fs::write(scratch.0.join(shell), script).unwrap();
    }
    let path = |shell: &str| scratch.path(shell);

    let bash = path("bash");
    assert!(said("bash", &["--norc", "-n", &bash]).is_some(), "there is no bash here");
    let complete = "source \"$0\" && complete -p grantd || exit
        typed() {
            COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _grantd grantd \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
            echo \"${COMPREPLY[*]}\"
        }
        typed grantd managed-sec
        typed grantd managed-secrets cre
        typed grantd apps list --li
        typed grantd completion b";
    let out = said("bash", &["--norc", "-c", complete, &bash]).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].contains("-F _grantd"), "{out}");
    assert_eq!(lines[1..], ["managed-secrets", "create", "--limit", "bash"], "{out}");

    let zsh = path("zsh");
    if said("zsh", &["-f", "-n", &zsh]).is_some() {
        let load = "autoload -U compinit; compinit -u -D; source \"$0\"; print $_comps[grantd]";
        assert_eq!(said("zsh", &["-f", "-c", load, &zsh]).unwrap().trim(), "_grantd");
    }
    let fish = path("fish");
    if said("fish", &["--no-config", "--no-execute", &fish]).is_some() {
        let complete = format!("source {fish}; complete -C 'grantd managed-secrets cre'");
        let out = said("fish", &["--no-config", "-c", &complete]).unwrap();
        assert!(out.lines().any(|line| line.starts_with("create")), "{out}");
    }
}
