//! From the names that the server uses to those of the command line: whoever typed `--limit` reads of `--limit`.

use clap::{ArgMatches, Command};

use super::failure::{Exit, Failure};

/// Fields whose flag is not called like them.
const ALIASES: &[(&str, &[&str])] = &[
    ("algorithms", &["algorithm"]),
    ("app_ids", &["for-app"]),
    ("audiences", &["audience"]),
    ("repair_grant_id", &["repair"]),
    ("required_scopes", &["scopes"]),
    ("allowed_hosts", &["allowed-host", "host"]),
    ("cidr_allowlist", &["cidr"]),
    ("expires_in_seconds", &["expires-in"]),
    ("grace_seconds", &["grace"]),
    ("fields", &["field"]),
    ("indexed_context_keys", &["index"]),
    ("return_origins", &["return-origin"]),
    ("injection_format", &["format"]),
    ("injection_header", &["header"]),
    ("injections", &["injection"]),
];

/// The innermost command that was called.
pub fn called<'c>(root: &'c Command, matches: &ArgMatches) -> &'c Command {
    let (mut command, mut matches) = (root, matches);
    while let Some((name, inner)) = matches.subcommand() {
        match command.find_subcommand(name) {
            Some(found) => (command, matches) = (found, inner),
            None => break,
        }
    }
    command
}

/// `failure` in the words of `command`. A value that could not even be read is a usage error.
pub fn translate(mut failure: Failure, command: &Command) -> Failure {
    let Some(field) = failure.field.take() else { return failure };
    let (name, rest) = field.split_at(field.find(['.', '[']).unwrap_or(field.len()));
    if let Some(flag) = flag_of(name, command) {
        let inner = rest.strip_prefix('.').map(|inner| format!(" {inner}")).unwrap_or_default();
        let quoted = format!("`{field}`: ");
        if let Some(why) = failure.message.strip_prefix(&quoted) {
            failure.message = format!("--{flag}{inner}: {why}");
        }
        if failure.exit == Exit::Error && failure.error == "invalid_request" {
            failure.exit = Exit::Usage;
        }
    }
    failure.message = words(&failure.message, command);
    failure.hint = failure.hint.map(|hint| words(&hint, command));
    failure
}

/// The flag a field comes from.
fn flag_of(field: &str, command: &Command) -> Option<String> {
    let has = |flag: &str| command.get_arguments().any(|argument| argument.get_long() == Some(flag));
    let aliases = ALIASES.iter().find(|(name, _)| *name == field).map_or(&[][..], |(_, flags)| *flags);
    let alike = field.replace('_', "-");
    aliases.iter().copied().chain([alike.as_str()]).find(|flag| has(flag)).map(str::to_owned)
}

/// Names of further fields within a sentence.
fn words(text: &str, command: &Command) -> String {
    let translated = text.split(' ').map(|word| match word.contains('_').then(|| flag_of(word, command)).flatten() {
        Some(flag) => format!("--{flag}"),
        None => word.to_owned(),
    });
    translated.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn command(flags: &[&'static str]) -> Command {
        Command::new("x").args(flags.iter().map(|flag| Arg::new(*flag).long(*flag)))
    }

    fn told(field: &str, why: &str, code: &str, flags: &[&'static str]) -> (Exit, String) {
        let failure =
            Failure { field: Some(field.to_owned()), ..Failure::new(Exit::Error, code, format!("`{field}`: {why}")) };
        let failure = translate(failure, &command(flags));
        (failure.exit, failure.message)
    }

    #[test]
    fn fields_are_told_as_the_flags_of_the_command() {
        let invalid = |field, flags: &[&'static str]| told(field, "no", "invalid_request", flags);
        assert_eq!(invalid("limit", &["limit"]), (Exit::Usage, "--limit: no".to_owned()));
        assert_eq!(invalid("allowed_hosts", &["allowed-host"]).1, "--allowed-host: no");
        assert_eq!(invalid("allowed_hosts", &["host"]).1, "--host: no");
        assert_eq!(invalid("fields.secret_key", &["field"]).1, "--field secret_key: no");
        assert_eq!(invalid("injections[0].key", &["injection"]).1, "--injection: no");
        assert_eq!(invalid("elsewhere", &["limit"]), (Exit::Error, "`elsewhere`: no".to_owned()));
        let (exit, message) = told(
            "tenant_key",
            "is needed while tenant_mode is not off",
            "invalid_value",
            &["tenant-key", "tenant-mode"],
        );
        assert_eq!((exit, &*message), (Exit::Error, "--tenant-key: is needed while --tenant-mode is not off"));
    }
}
